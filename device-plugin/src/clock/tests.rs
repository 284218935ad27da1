//! A machine whose clock somebody sets, and processes that come and go on it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use plasma_device_plugin_core::ContainerSeen;
use tempfile::TempDir;

use super::*;

const HOUR: i64 = 3_600_000;

/// A machine. It started at ten million.
struct Machine {
    folder: TempDir,
    since_boot: Arc<AtomicU64>,
    off: Arc<AtomicI64>,
}

impl Machine {
    fn new() -> Self {
        let (since_boot, off) = (Arc::new(AtomicU64::new(1_000)), Arc::default());
        Self { folder: tempfile::tempdir().unwrap(), since_boot, off }
    }

    fn clock(&self, boot: &str) -> Clock {
        let (since_boot, off) = (self.since_boot.clone(), self.off.clone());
        Clock::new(self.folder.path(), Some(boot.to_owned()), move || {
            let boot_ms = since_boot.load(Ordering::Relaxed);
            let wall_ms = (10_000_000 + boot_ms).checked_add_signed(off.load(Ordering::Relaxed)).unwrap();
            Reading { boot_ms, wall_ms }
        })
    }

    fn pass(&self, ms: u64) {
        self.since_boot.fetch_add(ms, Ordering::Relaxed);
    }

    fn set(&self, off: i64) {
        self.off.store(off, Ordering::Relaxed);
    }
}

#[test]
fn another_process_goes_on_by_the_same_clock_though_the_nodes_was_set_meanwhile() {
    let machine = Machine::new();
    let first = machine.clock("boot");
    first.keep().unwrap();
    machine.set(HOUR);
    machine.pass(500);
    assert_eq!(first.take_news(), ["the node's clock was set forward by 3600.0 s"]);
    assert_eq!((first.take_news().len(), first.now_ms()), (0, 10_001_500));
    first.keep().unwrap();
    drop(first);
    machine.pass(60_000);
    let second = machine.clock("boot");
    assert_eq!(second.now_ms(), 10_061_500, "the file says how far ahead the node's is");
    assert!(second.take_news().is_empty());
    let container = ContainerSeen { started_ms: Some(10_031_000 + 3_600_000), ..ContainerSeen::default() };
    let pod = PodSeen { containers: vec![container], ..PodSeen::default() };
    assert_eq!(second.pod(pod).containers[0].started_ms, Some(10_031_000));
    // Nobody was there when it was put right.
    drop(second);
    machine.set(0);
    let third = machine.clock("boot");
    assert_eq!(third.now_ms(), 10_061_500);
    assert_eq!(third.take_news(), ["the node's clock was set back by 3600.0 s"]);
}

#[test]
fn another_boot_begins_by_the_nodes_clock_and_not_before_what_is_recorded() {
    let machine = Machine::new();
    let first = machine.clock("boot");
    machine.set(2 * HOUR);
    assert_eq!(first.now_ms(), 10_001_000);
    first.keep().unwrap();
    let after = machine.clock("another boot");
    assert_eq!(after.now_ms(), 17_201_000);
    after.go_on_from(17_000_000);
    assert_eq!(after.now_ms(), 17_201_000);
    after.go_on_from(20_000_000);
    machine.pass(700);
    assert_eq!(after.now_ms(), 20_000_700);
    after.keep().unwrap();
    assert_eq!(machine.clock("another boot").now_ms(), 20_000_700);
}

#[test]
fn a_process_that_waited_for_the_journal_takes_up_what_the_one_before_left() {
    let machine = Machine::new();
    let (first, waits) = (machine.clock("boot"), machine.clock("boot"));
    first.go_on_from(11_000_000);
    first.keep().unwrap();
    assert_eq!(waits.now_ms(), 10_001_000);
    waits.go_on_from(0);
    assert_eq!(waits.now_ms(), 11_000_000);
}

#[test]
fn a_file_that_is_not_understood_is_as_none() {
    let machine = Machine::new();
    fs::write(machine.folder.path().join(FILE), "{").unwrap();
    let clock = machine.clock("boot");
    assert_eq!(clock.now_ms(), 10_001_000);
    clock.keep().unwrap();
    let missing = Clock::new(&machine.folder.path().join("none"), Some("boot".to_owned()), read);
    missing.keep().unwrap_err();
    assert!(missing.now_ms() > 1_700_000_000_000, "the machine's own clocks");
}

#[test]
fn nobody_who_asks_for_the_time_waits_for_the_disk() {
    let machine = Machine::new();
    let fifo = machine.folder.path().join("clock.json.new");
    // Whoever opens it to write waits for a reader, as for a disk that hangs.
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let clock = machine.clock("boot");
    let (keeps, (told, tells)) = (clock.clone(), std::sync::mpsc::channel());
    let writer = std::thread::spawn(move || keeps.keep());
    std::thread::sleep(std::time::Duration::from_millis(200));
    std::thread::spawn(move || told.send(clock.now_ms()));
    assert_eq!(tells.recv_timeout(std::time::Duration::from_secs(5)), Ok(10_001_000));
    drop(fs::File::open(&fifo).unwrap());
    let _ = writer.join().unwrap();
}

#[test]
fn a_file_of_another_version_is_said_and_put_aside() {
    let machine = Machine::new();
    let file = machine.folder.path().join(FILE);
    for strange in
        [r#"{"version":2,"boot":"boot","clock":{"anchorMs":1,"stretches":[{"fromMs":0,"aheadMs":0}]}}"#, "?"]
    {
        fs::write(&file, strange).unwrap();
        let clock = machine.clock("boot");
        assert_eq!(clock.now_ms(), 10_001_000, "the node's");
        clock.keep().unwrap();
        assert_eq!(fs::read_to_string(file.with_extension("json.strange")).unwrap(), strange);
        assert!(fs::read_to_string(&file).unwrap().contains(r#""version":1"#));
        fs::remove_file(&file).unwrap();
    }
}

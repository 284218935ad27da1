//! Crashes, damage, later versions, full disks, and files that grow.

use std::sync::atomic::{AtomicU64, Ordering};

use plasma_device_plugin_core::{BoardLook, MeterLook, MeterRules, Part};

use super::*;

const NOW: u64 = 1_000_000;

/// Another one each time.
fn now_ms() -> u64 {
    static TIMES: AtomicU64 = AtomicU64::new(NOW);
    TIMES.fetch_add(1, Ordering::Relaxed)
}

/// A ledger that has given out so many records, and the last of them.
fn ledger(records: u64) -> (Ledger, Vec<Record>) {
    let rules = MeterRules { idle_period_ms: 1, ..MeterRules::for_looks_every(2_000) };
    let (mut ledger, mut out) = (Ledger::default(), Vec::new());
    for step in 0..=records + 20 {
        let board = BoardLook {
            gpu_uuid: "GPU-0".to_owned(),
            product: "H100".to_owned(),
            counter_mj: Some(step),
            usable: true,
            sick_parts: Vec::new(),
            parts: vec![Part::whole("GPU-0")],
        };
        let at_ms = 1_000_000 + step * 2_000;
        ledger.look(&MeterLook { at_ms, boards: vec![board], ..MeterLook::default() }, &rules);
        if ledger.last_sequence() < records {
            out.extend(ledger.advance(&[], Some(at_ms), at_ms, &rules).records);
        }
    }
    assert_eq!(out.len() as u64, records);
    (ledger, out)
}

fn open(folder: &Path) -> (Journal, Ledger) {
    Journal::open(folder, "node", now_ms()).unwrap()
}

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[test]
fn what_was_committed_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(5);
    let (mut journal, empty) = open(folder.path());
    assert_eq!(empty, Ledger::default());
    journal.commit(&records[..3], &Ledger::default()).unwrap();
    journal.commit(&records[3..], &now).unwrap();
    journal.acknowledge(2);
    let (name, since_ms) = (journal.name().to_owned(), journal.since_ms());
    assert!(matches!(Journal::open(folder.path(), "node", now_ms()), Err(OpenError::Held)));
    assert_eq!(super::since_ms(folder.path()), Some(since_ms), "who waits for it knows since when it is");
    drop(journal);

    // The acknowledgement was not written yet: it will be given again.
    let (mut journal, again) = open(folder.path());
    assert_eq!((journal.name(), journal.since_ms()), (&*name, since_ms));
    assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&now).unwrap());
    assert_eq!((journal.acknowledged(), journal.unacknowledged()), (0, 5));
    assert_eq!(journal.read_after(1, 10).unwrap(), records[1..]);
    journal.acknowledge(4);
    journal.acknowledge(900);
    assert_eq!(journal.acknowledged(), 5, "nothing is acknowledged that wasn't recorded");
    journal.commit(&[], &now).unwrap();
    drop(journal);
    assert_eq!(open(folder.path()).0.unacknowledged(), 0);
}

#[test]
fn at_whatever_byte_a_crash_cuts_the_file_each_commit_is_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(4);
    let (mut journal, _) = open(folder.path());
    journal.commit(&records[..2], &Ledger::default()).unwrap();
    let first = fs::metadata(file(folder.path())).unwrap().len();
    journal.commit(&records[2..], &now).unwrap();
    drop(journal);
    let whole = fs::read(file(folder.path())).unwrap();
    for cut in (first as usize..=whole.len()).step_by(7).chain([whole.len() - 1, whole.len()]) {
        fs::write(file(folder.path()), &whole[..cut]).unwrap();
        let (mut journal, _) = open(folder.path());
        let there = if cut == whole.len() { 4 } else { 2 };
        assert_eq!(journal.unacknowledged(), there, "cut at {cut}");
        // What comes next follows a whole line.
        journal.commit(&records[there as usize..], &now).unwrap();
        drop(journal);
        assert_eq!(open(folder.path()).0.read_after(0, 10).unwrap(), records);
    }
}

#[test]
fn damage_in_the_middle_is_put_aside_and_a_new_journal_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(4);
    let (mut journal, _) = open(folder.path());
    records.iter().for_each(|one| journal.commit(std::slice::from_ref(one), &now).unwrap());
    let name = journal.name().to_owned();
    drop(journal);
    let mut damaged = fs::read(file(folder.path())).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(file(folder.path()), &damaged).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let (journal, ledger) = open(folder.path());
    assert_ne!(journal.name(), name);
    assert_eq!((journal.unacknowledged(), ledger), (0, Ledger::default()));
    let names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let aside = names.into_iter().find(|path| path.to_string_lossy().contains(".corrupt-")).unwrap();
    assert_eq!(fs::read(aside).unwrap(), damaged, "nothing of it is lost to who looks");
}

/// The names of the file's predecessors that were put aside.
fn put_asides(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".corrupt-")).count()
}

#[test]
fn what_was_on_the_disk_and_is_damaged_is_never_cut_off() {
    let (now, records) = ledger(4);
    // The last line, and the last two: each has its end, so it was told, or may have been.
    for damaged in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path());
        records.iter().for_each(|one| journal.commit(std::slice::from_ref(one), &now).unwrap());
        let (name, commits) = (journal.name().to_owned(), journal.commits.clone());
        drop(journal);
        let mut bytes = fs::read(file(folder.path())).unwrap();
        for place in commits.iter().rev().take(damaged) {
            bytes[usize::try_from(place.offset).unwrap() + 30] ^= 1;
        }
        fs::write(file(folder.path()), &bytes).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let (journal, _) = open(folder.path());
        assert_ne!(journal.name(), name, "its numbers would be given a second time");
        assert_eq!((journal.last(), put_asides(folder.path())), (0, 1));
    }
}

#[test]
fn one_that_is_put_aside_is_followed_by_another_though_somebody_still_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(4);
    let (mut journal, _) = open(folder.path());
    journal.commit(&records, &now).unwrap();
    journal.put_aside("it is too short").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let (another, _) = open(folder.path());
    assert_ne!(another.name(), journal.name());
    assert_eq!(journal.read_after(0, 10).unwrap(), records);
}

#[test]
fn a_later_version_is_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let header =
        Header { version: VERSION + 1, journal: "j".to_owned(), node: "node".to_owned(), since_ms: 1 };
    let written = line::write(&Line::Header(header)).unwrap();
    fs::write(file(folder.path()), &written).unwrap();
    let Err(fault) = Journal::open(folder.path(), "node", now_ms()) else { panic!("it isn't understood") };
    let fault = fault.to_string();
    assert!(fault.contains("is of version 2") && fault.contains("move the file away"), "{fault}");
    assert_eq!(fs::read(file(folder.path())).unwrap(), written);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_by_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("meter"), "a file").unwrap();
    let Err(fault) = Journal::open(&folder.path().join("meter"), "node", now_ms()) else {
        panic!("it can't be made")
    };
    assert!(fault.to_string().contains("meter/journal.jsonl: "), "{fault}");
}

#[test]
fn a_full_disk_takes_nothing_or_all_and_later_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(4);
    let (mut journal, _) = open(folder.path());
    journal.commit(&records[..2], &now).unwrap();
    // Every write to it fails for want of room.
    let whole =
        std::mem::replace(&mut journal.file, OpenOptions::new().append(true).open("/dev/full").unwrap());
    let fault = journal.commit(&records[2..], &now).unwrap_err();
    assert_eq!(fault.kind(), io::ErrorKind::StorageFull);
    assert!(fault.to_string().contains("journal.jsonl"), "{fault}");
    assert_eq!(journal.unacknowledged(), 2, "nothing is sent that isn't durable");
    journal.file = whole;
    journal.commit(&records[2..], &now).unwrap();
    drop(journal);
    assert_eq!(open(folder.path()).0.read_after(0, 10).unwrap(), records);
}

#[test]
fn a_file_that_grew_is_written_anew_without_what_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(40);
    let (mut journal, _) = open(folder.path());
    journal.commit(&records[..10], &now).unwrap();
    journal.commit(&records[10..30], &now).unwrap();
    journal.acknowledge(15);
    let mut commits = 0;
    while journal.length_when_written_anew < 1_000 {
        journal.commit(&[], &now).unwrap();
        commits += 1;
        assert!(commits < 100_000, "it is never written anew");
    }
    assert!(journal.length < GROWS_BY / 10, "{}", journal.length);
    assert_eq!(journal.read_after(0, 100).unwrap(), records[15..30]);
    journal.commit(&records[30..], &now).unwrap();
    assert_eq!(journal.read_after(20, 100).unwrap(), records[20..]);
    drop(journal);
    let (journal, _) = open(folder.path());
    assert_eq!((journal.acknowledged(), journal.unacknowledged()), (15, 25));
    assert_eq!(journal.read_after(15, 100).unwrap(), records[15..]);
    assert_eq!(journal.read_after(15, 3).unwrap().len(), 15, "whole commits");
}

#[test]
fn without_anybody_to_send_to_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let (now, records) = ledger(9);
    let (mut journal, _) = open(folder.path());
    journal.commit(&records, &now).unwrap();
    journal.keep_at_most(4);
    assert_eq!((journal.acknowledged(), journal.unacknowledged()), (5, 4));
    assert_eq!(journal.read_after(5, 10).unwrap(), records[5..]);
}

#[test]
fn a_journal_that_forgot_is_since_what_it_forgot() {
    let folder = tempfile::tempdir().unwrap();
    let (now, mut records) = ledger(40);
    let begun_ms = NOW + 60_000;
    for (record, at_ms) in records.iter_mut().zip(begun_ms..) {
        record.end_ms = at_ms;
    }
    let (mut journal, _) = open(folder.path());
    let since_ms = journal.since_ms();
    records.iter().for_each(|one| journal.commit(std::slice::from_ref(one), &now).unwrap());
    journal.keep_at_most(40);
    assert_eq!((journal.since_ms(), journal.unacknowledged()), (since_ms, 40), "nothing is forgotten");
    journal.keep_at_most(30);
    assert_eq!(journal.unacknowledged(), 27, "a tenth more, so that it isn't written anew each time");
    let forgotten = records[12].end_ms;
    assert_eq!(journal.since_ms(), forgotten + 1, "a pod from before isn't in it whole");
    journal.commit(&[], &now).unwrap();
    drop(journal);
    let (journal, _) = open(folder.path());
    assert_eq!((journal.since_ms(), journal.unacknowledged()), (forgotten + 1, 27));
    assert_eq!(super::since_ms(folder.path()), Some(forgotten + 1));
}

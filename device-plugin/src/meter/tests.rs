//! What stops the meter, and how it goes on.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use clap::Parser as _;
use plasma_device_plugin_core::{HealthRules, Inventory};
use plasma_runtime::prometheus::Registry;

use super::*;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    meter: MeterArgs,
}

/// A meter of a node without GPUs, and how it is.
fn meter(folder: &Path) -> (Meter, watch::Receiver<MeterState>, Registry) {
    let (registry, clock) = (Registry::new(), Clock::open(folder));
    let folder = format!("--meter-dir={}", folder.display());
    let (state, state_is) = watch::channel(MeterState { reports: true, ..MeterState::default() });
    let meter = Meter {
        args: Flags::parse_from(["meter", &folder]).meter,
        node: "node".to_owned(),
        observed: watch::channel(Observed::for_tests(Inventory::new(HealthRules::default()))).1,
        pods: Pods::for_tests(),
        clock,
        state,
        outbox: watch::channel(Outbox::default()).0,
        figures: Figures::register(&registry).unwrap(),
    };
    (meter, state_is, registry)
}

fn value(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name).unwrap();
    let metric = &family.get_metric()[0];
    metric.get_gauge().get_value() + metric.get_counter().get_value()
}

#[test]
fn a_meter_that_panics_says_so_and_begins_again_with_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (meter, state, registry) = meter(folder.path());
    let (runs, sent_from) = (AtomicUsize::new(0), Mutex::new(None));
    let run = |meter: &Meter| {
        if runs.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        let (journal, _) = Journal::open(folder.path(), "node", 1).unwrap();
        meter.figures.set_on(true);
        let journal = Arc::new(Mutex::new(journal));
        // Somebody sends from it all the time.
        *sent_from.lock().unwrap() = Some(journal.clone());
        meter.outbox.send_replace(Outbox { journal: Some(journal), ..Outbox::default() });
        panic!("a number {}", "too much");
    };
    meter.keep_running(run, Duration::ZERO);
    let fault = state.borrow().fault.clone().unwrap();
    assert!(fault.contains("panicked (a number too much)"), "{fault}");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_eq!(value(&registry, "plasma_meter_on"), 0.0);
    assert_eq!(value(&registry, "plasma_meter_journal_faults_total"), 1.0);
    assert!(meter.outbox.borrow().journal.is_none(), "nothing more is sent of what it had");
    Journal::open(folder.path(), "node", 1).unwrap();
    assert!(sent_from.lock().unwrap().is_some());
}

#[test]
fn while_another_process_records_this_one_waits_and_tells_what_that_one_tells() {
    let folder = tempfile::tempdir().unwrap();
    let (meter, mut state, registry) = meter(folder.path());
    let (journal, _) = Journal::open(folder.path(), "node", 1).unwrap();
    let since_ms = Some(journal.since_ms());
    let on = |state: &MeterState| value(&registry, "plasma_meter_on") > 0.0 || state.fault.is_some();
    thread::scope(|scope| {
        scope.spawn(|| meter.run());
        while state.borrow().since_ms.is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        let now = state.borrow_and_update().clone();
        assert_eq!(now, MeterState { reports: true, since_ms, ..MeterState::default() });
        assert!(!on(&now));
        drop(journal);
        while !on(&state.borrow()) {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(*state.borrow(), MeterState { reports: true, since_ms, ..MeterState::default() });
        drop(state);
    });
}

//! The meter: feeds the ledger with looks and holders, writes what comes out down, and has it sent.
//!
//! It runs on a thread of its own, since a disk may take its time; nothing that the kubelet waits for is on it. What fails
//! here stops the meter and nothing else: the GpuNode, the metrics and the log say so, and it tries again.

mod acknowledged;
mod args;
mod driver_load;
mod figures;
mod journal;
mod send;
mod wire;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{
    BoardLook, GpuState, Ledger, MeterLook, MeterRules, MigInstance, Tenure, offers, parts, product_label,
};
use plasma_runtime::{CancellationToken, prometheus};
use tokio::sync::watch;

use crate::{
    clock::Clock,
    inventory::Observed,
    pods::{Pods, Remembered},
    vital::{self, Vital},
};
pub(crate) use acknowledged::Acknowledged;
pub(crate) use args::MeterArgs;
use figures::Figures;
use journal::{Journal, OpenError};

/// How often looks and holders are taken in.
const STEP: Duration = Duration::from_millis(500);
/// The ledger is written down this often, though nothing came out of it.
const WRITE_DOWN: Duration = Duration::from_secs(10);
/// A journal that can't be used is tried again after this long; one that another process holds, sooner.
const OPEN_AGAIN: Duration = Duration::from_secs(10);
const TAKE_OVER: Duration = Duration::from_millis(500);
/// Without anybody to send them to, no more records than these are kept.
const MOST_UNSENT: u64 = 100_000;

/// How the meter is, for the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MeterState {
    /// Whether there is somebody to report to, so that pods are billed from this.
    pub(crate) reports: bool,
    /// When the journal began, in milliseconds since 1970; `None` while there is none that can be used, or, without a
    /// fault, while that isn't known yet.
    pub(crate) since_ms: Option<u64>,
    /// What is wrong with it.
    pub(crate) fault: Option<String>,
    /// What it waits for before it records more.
    pub(crate) waits_for: Option<String>,
}

/// What the sender may send.
#[derive(Clone, Default)]
pub(crate) struct Outbox {
    /// `None` while there is no journal.
    pub(crate) journal: Option<Arc<Mutex<Journal>>>,
    /// What settlement says to it.
    pub(crate) acknowledged: Arc<Acknowledged>,
    /// All that ended before this is in it.
    pub(crate) until_ms: Option<u64>,
    /// Another number means that there is something new.
    pub(crate) last: u64,
}

/// Starts the meter.
///
/// # Errors
/// When a metric's name is taken, or the system has no thread to give.
pub(crate) fn start(
    args: MeterArgs,
    node: String,
    inputs: (watch::Receiver<Observed>, Pods, Clock),
    (registry, shutdown, vital): (&prometheus::Registry, CancellationToken, &Vital),
) -> Result<watch::Receiver<MeterState>, Box<dyn std::error::Error>> {
    let reports = args.meter_address.is_some();
    let (state, state_is) = watch::channel(MeterState { reports, ..MeterState::default() });
    let (outbox, outbox_is) = watch::channel(Outbox::default());
    let figures = Figures::register(registry)?;
    let (observed, pods, clock) = inputs;
    if args.meter_address.is_some() {
        let sender = send::Sender::new(args.clone(), node.clone(), (outbox_is, clock.clone()));
        let send = async move {
            shutdown.run_until_cancelled(sender.send_forever()).await;
        };
        vital.spawn("the meter's sender", send);
    }
    let meter = Meter { args, node, observed, pods, clock, state, outbox, figures };
    let run = move || meter.keep_running(Meter::run, OPEN_AGAIN);
    vital.thread("meter", run)?;
    Ok(state_is)
}

struct Meter {
    args: MeterArgs,
    node: String,
    observed: watch::Receiver<Observed>,
    pods: Pods,
    clock: Clock,
    state: watch::Sender<MeterState>,
    outbox: watch::Sender<Outbox>,
    figures: Figures,
}

/// What the meter knows while it has a journal.
struct Metering {
    journal: Arc<Mutex<Journal>>,
    acknowledged: Arc<Acknowledged>,
    ledger: Ledger,
    rules: MeterRules,
    /// The number of the last look that was taken in.
    looked: u64,
    written: Instant,
    /// What was followed, and who held what, when it was written down last.
    outline: (Vec<String>, Vec<Tenure>),
}

impl Meter {
    /// Runs, and where that panics, says so and begins again with what is on the disk: a fault in here must neither stop
    /// the GPUs from being served nor go unnoticed.
    fn keep_running(&self, run: impl Fn(&Self), pause: Duration) {
        while let Err(why) = vital::caught(|| run(self)) {
            self.figures.fault();
            // Whoever still sends from the journal mustn't hold it against its next process, which is this one.
            if let Some(journal) = self.outbox.send_replace(Outbox::default()).journal {
                lock(&journal).let_go();
            }
            self.say(format!("{why}; it begins again"));
            thread::sleep(pause);
        }
    }

    /// Until nobody asks how it is any more, which is the end of the program.
    fn run(&self) {
        let mut stands_by = false;
        while !self.state.is_closed() {
            let pause = match Journal::open(&self.args.meter_dir, &self.node, self.clock.now_ms()) {
                Ok((journal, ledger)) => {
                    self.meter(journal, ledger);
                    Duration::ZERO
                }
                Err(OpenError::Held) => {
                    self.stand_by(&mut stands_by);
                    TAKE_OVER
                }
                Err(fault) => {
                    self.figures.fault();
                    self.say(fault.to_string());
                    OPEN_AGAIN
                }
            };
            thread::sleep(pause);
        }
    }

    /// Another process of this node has the journal, as during an upgrade: that one records, and this one takes over
    /// when it ends. Meanwhile both tell the cluster the same.
    fn stand_by(&self, stands_by: &mut bool) {
        if !std::mem::replace(stands_by, true) {
            tracing::info!(
                "another process of this node has the meter's journal and records: this one takes over when that one ends"
            );
        }
        self.figures.set_on(false);
        let since_ms = journal::since_ms(&self.args.meter_dir);
        self.state.send_if_modified(|state| {
            let now = MeterState { since_ms, fault: None, ..state.clone() };
            std::mem::replace(state, now.clone()) != now
        });
    }

    /// Says that the meter is off, and why.
    fn say(&self, fault: String) {
        self.figures.set_on(false);
        self.state.send_if_modified(|state| {
            let is_new = state.fault.as_ref() != Some(&fault);
            if is_new {
                tracing::error!("the meter is off, and no pod's time or energy is recorded: {fault}");
                (state.since_ms, state.fault) = (None, Some(fault));
            }
            is_new
        });
    }

    /// Meters until the program ends, or the journal can't be trusted any more and is put aside.
    fn meter(&self, journal: Journal, ledger: Ledger) {
        tracing::info!(
            "metering since {} ms; {} records are to be acknowledged",
            journal.since_ms(),
            journal.unacknowledged()
        );
        let acknowledged = Arc::new(Acknowledged::new(journal.acknowledged(), journal.last()));
        self.clock.go_on_from(ledger.latest_ms());
        let (held, last_ms) = ledger.open();
        self.pods.remember(Remembered { held, last_ms, ended: ledger.ended() });
        let outline = ledger.outline();
        let rules = MeterRules::for_looks_every(self.args.look_ms);
        let journal = Arc::new(Mutex::new(journal));
        let (looked, written) = (0, Instant::now());
        let mut metering = Metering { journal, acknowledged, ledger, rules, looked, written, outline };
        while !self.state.is_closed() {
            let fault = match metering.acknowledged.beyond() {
                None => self.step(&mut metering).err(),
                Some(sequence) => match self.disown(&metering.journal, sequence) {
                    Ok(()) => return,
                    Err(fault) => Some(fault),
                },
            };
            let since_ms = lock(&metering.journal).since_ms();
            self.figures.set_on(fault.is_none());
            let waits_for = self.pods.told.borrow().unclear.clone();
            self.state.send_if_modified(|state| {
                let now = MeterState { since_ms: Some(since_ms), fault, waits_for, ..state.clone() };
                let is_new = *state != now;
                if is_new && let Some(fault) = &now.fault {
                    tracing::error!(
                        "the meter's records can't be written: {fault}; they are kept and tried again"
                    );
                }
                *state = now;
                is_new
            });
            thread::sleep(STEP);
        }
    }

    /// Settlement has more of this journal than there is: the disk lost what was on it. New records under numbers that it
    /// knows would be passed over, so another journal begins.
    fn disown(&self, journal: &Mutex<Journal>, sequence: u64) -> Result<(), String> {
        self.figures.fault();
        self.outbox.send_replace(Outbox::default());
        let journal = lock(journal);
        let why = format!("settlement has its records up to {sequence}, and it ends with {}", journal.last());
        journal.put_aside(&why).map_err(|fault| format!("it can't be put aside: {fault}"))
    }

    /// Takes in what is new, and writes down what came of it. Nothing is final that couldn't be written: the ledger that
    /// was is kept, and its looks, and the same comes out of it later.
    fn step(&self, metering: &mut Metering) -> Result<(), String> {
        if let Some(look) = self.new_look(&mut metering.looked) {
            metering.ledger.look(&look, &metering.rules);
        }
        self.clock.take_news().iter().for_each(|news| metering.ledger.note(news));
        // Before anything is recorded by it.
        self.clock.keep().map_err(|fault| {
            self.figures.fault();
            fault.to_string()
        })?;
        let told = self.pods.told.borrow().clone();
        let mut next = metering.ledger.clone();
        let out = next.advance(&told.tenures, told.complete_ms, self.clock.now_ms(), &metering.rules);
        let mut journal = lock(&metering.journal);
        journal.acknowledge(metering.acknowledged.get());
        if self.args.meter_address.is_none() {
            journal.keep_at_most(MOST_UNSENT);
        }
        let outline = next.outline();
        if !out.records.is_empty() || outline != metering.outline || metering.written.elapsed() >= WRITE_DOWN
        {
            journal.commit(&out.records, &next).map_err(|fault| {
                self.figures.fault();
                fault.to_string()
            })?;
            (metering.outline, metering.written) = (outline, Instant::now());
            self.figures.recorded(&out.records);
            self.publish(metering, out.until_ms, next.last_sequence());
        }
        metering.ledger = next;
        self.figures.unacknowledged(journal.unacknowledged(), self.args.meter_address.is_some());
        Ok(())
    }

    /// Tells the sender what is on the disk.
    fn publish(&self, metering: &Metering, until_ms: Option<u64>, last: u64) {
        self.outbox.send_if_modified(|outbox| {
            let is_new = (outbox.until_ms, outbox.last) != (until_ms, last) || outbox.journal.is_none();
            let (journal, acknowledged) = (Some(metering.journal.clone()), metering.acknowledged.clone());
            *outbox = Outbox { journal, acknowledged, until_ms, last };
            is_new
        });
    }

    fn new_look(&self, looked: &mut u64) -> Option<MeterLook> {
        let observed = self.observed.borrow();
        let look = observed.looked.filter(|look| look.number != *looked)?;
        *looked = look.number;
        let counter_mj =
            |uuid: &str| observed.figures.iter().find(|figures| figures.uuid == uuid)?.energy_millijoules;
        let inventory = observed.seen();
        let offered = offers(inventory, &observed.policy);
        let boards = inventory.gpus().into_iter().map(|(gpu, state)| BoardLook {
            gpu_uuid: gpu.uuid.clone(),
            product: product_label(&gpu.name),
            counter_mj: counter_mj(&gpu.uuid),
            usable: state.is_offered(),
            sick_parts: sick(inventory.instances(&gpu.uuid)),
            parts: parts(gpu, &offered),
        });
        let driver = if observed.simulated { None } else { driver_load::name() };
        Some(MeterLook {
            at_ms: look.at_ms,
            driver,
            session: look.session,
            simulated: observed.simulated,
            boards: boards.collect(),
        })
    }
}

/// The UUIDs of those that can't be used.
fn sick(instances: Vec<(&MigInstance, &GpuState)>) -> Vec<String> {
    let sick = instances.into_iter().filter(|(_, state)| !state.is_offered());
    sick.map(|(instance, _)| instance.uuid.clone()).collect()
}

/// The journal. Nobody panics while holding it; if somebody did, what is on the disk is whole all the same.
pub(crate) fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! Keeps GPUs from being offered of which somebody has a part already: the dirty ones, which somebody uses although no pod holds
//! them, and those that a pod holds in another way than they are offered.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use plasma_device_plugin_core::{Dirt, DirtRules, Holdings, Inventory, held_otherwise};
use tokio::sync::{mpsc, watch};

use crate::{
    inventory::{Judged, Observed, Publisher, newer},
    vital::Vital,
};

/// At the start the kubelet is told of GPUs when it is known who holds them, or after this long: a GPU that the plugin before
/// kept back must not be offered meanwhile.
const HOLDERS_WITHIN: Duration = Duration::from_secs(2);
/// How often that is looked at.
const FIRST: Duration = Duration::from_millis(200);

/// Which devices the kubelet was granted, and when.
pub(crate) type Grants = mpsc::UnboundedReceiver<(String, Instant)>;

/// What is done about a dirty GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// It isn't offered until it is clean.
    #[default]
    Withhold,
    /// It is offered all the same.
    Offer,
}

/// What counts as dirty, and what is done about it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DirtArgs {
    /// What is done about a GPU that somebody uses although no pod holds it.
    #[arg(long, env = "DIRTY_GPUS", value_enum, default_value_t)]
    pub(crate) dirty_gpus: Policy,

    /// Up to so many MiB of used memory are the driver's own. A program for CUDA alone takes some hundred.
    #[arg(long, env = "LEFTOVER_MEMORY_MIB", default_value_t = 128)]
    pub(crate) leftover_memory_mib: u64,

    /// So many seconds a GPU may be used until it is known which pod holds it.
    #[arg(long, env = "DIRTY_AFTER_SECONDS", default_value_t = 10)]
    pub(crate) dirty_after_seconds: u64,
}

/// Starts judging, where that is asked for.
pub(crate) fn start(
    args: DirtArgs,
    observed: watch::Receiver<Observed>,
    (holdings, grants): (watch::Receiver<Holdings>, Grants),
    publish: Publisher,
    vital: &Vital,
) {
    let rules = DirtRules {
        tolerated_bytes: args.leftover_memory_mib << 20,
        grace: Duration::from_secs(args.dirty_after_seconds),
    };
    let rules = (args.dirty_gpus == Policy::Withhold).then_some(rules);
    vital.spawn("the watch over dirty GPUs", judge(rules, observed, (holdings, grants), publish));
}

/// Judges at each look, and when other pods hold GPUs than before.
async fn judge(
    rules: Option<DirtRules>,
    mut observed: watch::Receiver<Observed>,
    (mut holdings, mut grants): (watch::Receiver<Holdings>, Grants),
    publish: Publisher,
) {
    let begun = Instant::now();
    let mut dirt = Dirt::default();
    let mut told: Option<Judged> = None;
    loop {
        let seen = observed.borrow_and_update().clone();
        let held = holdings.borrow_and_update().clone();
        while let Ok((device, at)) = grants.try_recv() {
            dirt.granted(&device, at.saturating_duration_since(begun));
        }
        let waits_for_holders = held == Holdings::Unknown && begun.elapsed() < HOLDERS_WITHIN;
        if let Some((looked, occupancies)) = seen.occupancies() {
            let looked = looked.saturating_duration_since(begun);
            if let Some(rules) = rules {
                dirt.driver(seen.seen().driver_version.as_deref());
                dirt.observe(rules, (looked, begun.elapsed()), (&devices(seen.seen()), occupancies), &held);
            }
            // While nobody knows who holds what, it is as it was.
            let before = || told.as_ref().map(|told| told.otherwise.clone()).unwrap_or_default();
            let otherwise = held_otherwise(&seen.offers(), &held).unwrap_or_else(before);
            let now = Judged { dirty: dirt.all(), unsure: dirt.unsure(), otherwise };
            if dirt.wants_look() {
                publish.look_soon();
            }
            if told.as_ref() != Some(&now) && !(told.is_none() && waits_for_holders) {
                publish.judged(now.clone());
                log(told.as_ref(), &now);
                told = Some(now);
            }
        }
        let period = if told.is_none() { FIRST } else { seen.period() };
        tokio::select! {
            () = newer(&mut observed, period) => {}
            // Who told of the pods may have ended: then nobody knows, and NVML's looks go on.
            Ok(()) = holdings.changed() => {}
        }
    }
}

/// All devices of the node, whether or not they answer.
fn devices(inventory: &Inventory) -> BTreeSet<String> {
    inventory.gpus().into_iter().flat_map(|(gpu, _)| gpu.uuids()).map(str::to_owned).collect()
}

fn log(before: Option<&Judged>, now: &Judged) {
    let none = Judged::default();
    let before = before.unwrap_or(&none);
    let kinds = [(&before.dirty, &now.dirty, "dirty"), (&before.otherwise, &now.otherwise, "held otherwise")];
    for (before, now, what) in kinds {
        for (gpu, why) in now.iter().filter(|(gpu, _)| !before.contains_key(*gpu)) {
            tracing::warn!("GPU {gpu} is not given to pods: {why}");
        }
        for gpu in before.keys().filter(|gpu| !now.contains_key(*gpu)) {
            tracing::info!("GPU {gpu} is no longer {what}");
        }
    }
}

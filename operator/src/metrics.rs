//! The operator's metrics: what it did, counted where it happens, and how many jobs are where, counted when asked.

use std::collections::BTreeMap;

use kube::{core::DeserializeGuard, runtime::reflector::Store};
use plasma_api::{ComputeJob, compute_job::Phase};
use plasma_runtime::prometheus::{
    Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Counted where it happens.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) reconciles: IntCounter,
    pub(crate) failures: IntCounterVec,
    pub(crate) pod_groups: IntGauge,
}

impl Metrics {
    /// Makes and registers them. A metric that can't be registered is logged and still counts.
    #[allow(clippy::expect_used)] // The names below are constants; the first start would show a wrong one.
    pub(crate) fn register(registry: &Registry) -> Self {
        let failures =
            Opts::new("plasma_operator_reconcile_failures_total", "Reconciles that failed, by what failed");
        let metrics = Self {
            reconciles: IntCounter::new("plasma_operator_reconciles_total", "Looks at a ComputeJob")
                .expect("a valid name"),
            failures: IntCounterVec::new(failures, &["class"]).expect("a valid name"),
            pod_groups: IntGauge::new(
                "plasma_operator_pod_groups",
                "Whether the last attempt that started, or was made whole, has a PodGroup of scheduling.k8s.io",
            )
            .expect("a valid name"),
        };
        let collectors: [Box<dyn Collector>; 3] = [
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.pod_groups.clone()),
        ];
        plasma_runtime::register(registry, collectors);
        metrics
    }
}

/// How many ComputeJobs are in each phase, read from the watch's store at the time of asking.
pub(crate) struct Jobs {
    known: Store<DeserializeGuard<ComputeJob>>,
    count: IntGaugeVec,
}

impl Jobs {
    /// Registers the count.
    pub(crate) fn register(registry: &Registry, known: Store<DeserializeGuard<ComputeJob>>) {
        match Self::new(known) {
            Ok(jobs) => plasma_runtime::register(registry, [Box::new(jobs) as Box<dyn Collector>]),
            Err(fault) => tracing::error!("a metric can't be made: {fault}"),
        }
    }

    fn new(known: Store<DeserializeGuard<ComputeJob>>) -> Result<Self, Error> {
        let opts =
            Opts::new("plasma_operator_jobs", "ComputeJobs, by phase; Malformed where one isn't understood");
        Ok(Self { known, count: IntGaugeVec::new(opts, &["phase"])? })
    }
}

impl Collector for Jobs {
    fn desc(&self) -> Vec<&Desc> {
        self.count.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (phase, count) in by_phase(self.known.state().iter().map(|job| &**job)) {
            self.count.with_label_values(&[phase]).set(count);
        }
        self.count.collect()
    }
}

fn by_phase<'a>(jobs: impl Iterator<Item = &'a DeserializeGuard<ComputeJob>>) -> BTreeMap<&'static str, i64> {
    // Each is there though it may be zero: a count that vanishes looks like a failed scrape.
    let phases = ["Refused", "Waiting", "Running", "Succeeded", "Failed", "Malformed"];
    let mut counts: BTreeMap<&'static str, i64> = phases.into_iter().map(|phase| (phase, 0)).collect();
    for job in jobs {
        let phase = job.0.as_ref().map(|job| job.status.as_ref().and_then(|status| status.phase));
        let name = match phase {
            Err(_) => "Malformed",
            Ok(Some(Phase::Refused)) => "Refused",
            Ok(Some(Phase::Running)) => "Running",
            Ok(Some(Phase::Succeeded)) => "Succeeded",
            Ok(Some(Phase::Failed)) => "Failed",
            Ok(Some(Phase::Waiting) | None) => "Waiting",
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(status: &Value) -> DeserializeGuard<ComputeJob> {
        serde_json::from_value(json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeJob", "metadata": { "name": "j" },
            "spec": { "queue": "q", "maxRuntimeSeconds": 60, "roles": [] }, "status": status,
        }))
        .expect("an object")
    }

    #[test]
    fn every_phase_has_its_count() {
        let (waits, runs, odd) =
            (job(&json!({})), job(&json!({ "phase": "Running" })), job(&json!({ "phase": 3 })));
        let counts = by_phase([&waits, &waits, &runs, &odd].into_iter());
        assert_eq!((counts["Waiting"], counts["Running"], counts["Malformed"]), (2, 1, 1));
        assert_eq!((counts.len(), counts["Failed"]), (6, 0));
    }
}

//! The scheduler's metrics.

use plasma_runtime::prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Counted where it happens.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) cycle_seconds: Histogram,
    pub(crate) binds: IntCounterVec,
    pub(crate) rollbacks: IntCounter,
    pub(crate) evictions: IntCounter,
    pub(crate) waiting_gangs: IntGauge,
    pub(crate) refused_gangs: IntGauge,
}

impl Metrics {
    /// Makes and registers them. A metric that can't be registered is logged and still counts.
    #[allow(clippy::expect_used)] // The names below are constants; the first start would show a wrong one.
    pub(crate) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            cycle_seconds: Histogram::with_opts(HistogramOpts::new(
                "plasma_scheduler_cycle_seconds",
                "Planning: what is begun by then is carried out beside it",
            ))
            .expect("a valid name"),
            binds: IntCounterVec::new(
                Opts::new("plasma_scheduler_binds_total", "Bindings by how they ended"),
                &["result"],
            )
            .expect("a valid name"),
            rollbacks: IntCounter::new("plasma_scheduler_rollbacks_total", "Plans of gangs that were undone")
                .expect("a valid name"),
            evictions: IntCounter::new(
                "plasma_scheduler_evictions_total",
                "Pods evicted to make room for groups of higher priority",
            )
            .expect("a valid name"),
            waiting_gangs: IntGauge::new(
                "plasma_scheduler_waiting_gangs",
                "Gangs for which there is no room",
            )
            .expect("a valid name"),
            refused_gangs: IntGauge::new(
                "plasma_scheduler_refused_gangs",
                "Gangs with a field that is not taken on",
            )
            .expect("a valid name"),
        };
        let collectors: [Box<dyn Collector>; 6] = [
            Box::new(metrics.cycle_seconds.clone()),
            Box::new(metrics.binds.clone()),
            Box::new(metrics.rollbacks.clone()),
            Box::new(metrics.evictions.clone()),
            Box::new(metrics.waiting_gangs.clone()),
            Box::new(metrics.refused_gangs.clone()),
        ];
        plasma_runtime::register(registry, collectors);
        metrics
    }
}

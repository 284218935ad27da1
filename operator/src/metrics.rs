//! The operator's metrics.

use plasma_runtime::prometheus::{IntCounter, IntCounterVec, Opts, Registry, core::Collector};

/// Counted where it happens.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) reconciles: IntCounter,
    pub(crate) failures: IntCounterVec,
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
        };
        let collectors: [Box<dyn Collector>; 2] =
            [Box::new(metrics.reconciles.clone()), Box::new(metrics.failures.clone())];
        for collector in collectors {
            if let Err(fault) = registry.register(collector) {
                tracing::error!("a metric can't be registered: {fault}");
            }
        }
        metrics
    }
}

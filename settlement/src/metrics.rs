//! Settlement's metrics.

use plasma_runtime::prometheus::{IntCounter, IntGauge, Registry, core::Collector};

/// Counted where it happens.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) chain_reachable: IntGauge,
    pub(crate) waiting_pods: IntGauge,
    pub(crate) open_batches: IntGauge,
    pub(crate) receipts: IntCounter,
    pub(crate) final_batches: IntCounter,
    pub(crate) failures: IntCounter,
}

impl Metrics {
    /// Makes and registers them. A metric that can't be registered is logged and still counts.
    #[allow(clippy::expect_used)] // The names below are constants; the first start would show a wrong one.
    pub(crate) fn register(registry: &Registry) -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("a valid name");
        let counter = |name, help| IntCounter::new(name, help).expect("a valid name");
        let metrics = Self {
            chain_reachable: gauge("plasma_settlement_chain_reachable", "1 if the chain answered last time"),
            waiting_pods: gauge("plasma_settlement_waiting_pods", "Finished pods without a durable receipt"),
            open_batches: gauge("plasma_settlement_open_batches", "Batches whose payment isn't final"),
            receipts: counter("plasma_settlement_receipts_total", "Receipts made durable"),
            final_batches: counter("plasma_settlement_final_batches_total", "Batches paid for good"),
            failures: counter("plasma_settlement_failures_total", "Rounds that ended with a failure"),
        };
        let collectors: [Box<dyn Collector>; 6] = [
            Box::new(metrics.chain_reachable.clone()),
            Box::new(metrics.waiting_pods.clone()),
            Box::new(metrics.open_batches.clone()),
            Box::new(metrics.receipts.clone()),
            Box::new(metrics.final_batches.clone()),
            Box::new(metrics.failures.clone()),
        ];
        for collector in collectors {
            if let Err(fault) = registry.register(collector) {
                tracing::error!("a metric can't be registered: {fault}");
            }
        }
        metrics
    }
}

//! Registering metrics.

use prometheus::{Registry, core::Collector};

/// Registers them all. One that can't be is logged, and goes on counting unseen: no program ends over a metric.
pub fn register(registry: &Registry, collectors: impl IntoIterator<Item = Box<dyn Collector>>) {
    for collector in collectors {
        if let Err(fault) = registry.register(collector) {
            tracing::error!("a metric can't be registered: {fault}");
        }
    }
}

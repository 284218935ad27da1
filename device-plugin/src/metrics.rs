//! Prometheus metrics: the GPUs', read from the last look at the time of asking, the kubelet's side, and our own looks.

mod dcgm;
mod gpus;
mod instances;
mod kubelet;
mod labels;
mod looks;
mod own;
mod shares;
mod table;

use plasma_device_plugin_core::Holdings;
use plasma_runtime::prometheus::{Error, Registry};
use tokio::sync::watch;

use crate::inventory::Observed;

pub(crate) use kubelet::KubeletMetrics;
pub(crate) use looks::LookMetrics;

/// Where the GPUs' metrics come from.
pub(crate) struct Sources {
    pub(crate) observed: watch::Receiver<Observed>,
    /// Who holds which GPU.
    pub(crate) holdings: watch::Receiver<Holdings>,
    pub(crate) looks: LookMetrics,
    /// This node's name.
    pub(crate) node: String,
    /// Whether another plugin offers the GPUs to the kubelet.
    pub(crate) observes: bool,
    /// Whether the same values are told under dcgm-exporter's names too.
    pub(crate) dcgm_names: bool,
}

/// Registers everything.
///
/// # Errors
/// When a name is taken.
pub(crate) fn start(registry: &Registry, sources: Sources) -> Result<KubeletMetrics, Error> {
    let observes = sources.observes;
    registry.register(Box::new(gpus::GpuMetrics::new(sources)?))?;
    KubeletMetrics::register(registry, observes)
}

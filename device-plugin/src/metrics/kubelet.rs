//! What happens between the kubelet and us.

use plasma_runtime::prometheus::{Error, IntCounterVec, IntGauge, Opts, Registry};

/// What happens between the kubelet and us.
#[derive(Clone)]
pub(crate) struct KubeletMetrics {
    registered: IntGauge,
    registrations: IntCounterVec,
    allocations: IntCounterVec,
}

impl KubeletMetrics {
    /// Where another plugin offers the GPUs, nothing is said of a registration: there is to be none.
    pub(crate) fn register(registry: &Registry, observes: bool) -> Result<Self, Error> {
        let metrics = Self {
            registered: IntGauge::new(
                "plasma_device_plugin_registered",
                "1 if the kubelet took the registration of every resource",
            )?,
            registrations: IntCounterVec::new(
                Opts::new("plasma_device_plugin_registrations_total", "Registrations that the kubelet took"),
                &["way"],
            )?,
            allocations: IntCounterVec::new(
                Opts::new("plasma_device_plugin_allocations_total", "The kubelet's requests to allocate"),
                &["outcome"],
            )?,
        };
        if !observes {
            registry.register(Box::new(metrics.registered.clone()))?;
        }
        registry.register(Box::new(metrics.registrations.clone()))?;
        registry.register(Box::new(metrics.allocations.clone()))?;
        Ok(metrics)
    }

    /// The kubelet took a registration, this way.
    pub(crate) fn registration(&self, way: &str) {
        self.registrations.with_label_values(&[way]).inc();
    }

    /// Whether all registrations hold.
    pub(crate) fn registered(&self, all: bool) {
        self.registered.set(all.into());
    }

    pub(crate) fn allocated(&self, granted: bool) {
        let outcome = if granted { "granted" } else { "refused" };
        self.allocations.with_label_values(&[outcome]).inc();
    }
}

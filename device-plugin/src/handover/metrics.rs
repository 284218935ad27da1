//! What is counted of the CDI spec.

use plasma_runtime::prometheus::{Error, IntCounterVec, IntGauge, Opts, Registry};

use super::prepare::Prepared;
use crate::cdi_file::Written;

/// What is counted of the CDI spec.
#[derive(Clone)]
pub(super) struct Metrics {
    ready: IntGauge,
    pending: IntGauge,
    writes: IntCounterVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let ready = IntGauge::new("plasma_device_plugin_cdi_ready", "1 if the CDI spec is as it should be")?;
        let pending = IntGauge::new(
            "plasma_device_plugin_cdi_pending",
            "GPUs, and parts of GPUs, that the CDI spec doesn't have as they are now",
        )?;
        let writes =
            Opts::new("plasma_device_plugin_cdi_writes_total", "Times that the CDI spec had to be written");
        let writes = IntCounterVec::new(writes, &["outcome"])?;
        registry.register(Box::new(ready.clone()))?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        Ok(Self { ready, pending, writes })
    }

    pub(super) fn prepared(&self, prepared: &Result<Prepared, String>) {
        self.ready.set(prepared.is_ok().into());
        match prepared {
            Ok(Prepared { written: Written::Unchanged, .. }) => {}
            Ok(Prepared { written: Written::Anew, .. }) => self.writes.with_label_values(&["written"]).inc(),
            Err(_) => self.writes.with_label_values(&["failed"]).inc(),
        }
    }

    /// Nobody knows how the spec is: the disk doesn't answer.
    pub(super) fn hangs(&self) {
        self.ready.set(0);
    }

    pub(super) fn pending(&self, devices: usize) {
        self.pending.set(i64::try_from(devices).unwrap_or(i64::MAX));
    }
}

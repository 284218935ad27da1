//! Prometheus metrics, read from the last look at the time of asking.

use plasma_device_plugin_core::GpuState;
use plasma_runtime::prometheus::{
    GaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::sync::watch;

use crate::inventory::Observed;

const LABELS: &[&str] = &["gpu", "uuid", "product", "simulated"];

/// Registers the collector.
pub(crate) fn start(registry: &Registry, observed: watch::Receiver<Observed>) {
    let fault = Gauges::new().and_then(|gauges| registry.register(Box::new(Metrics { gauges, observed })));
    if let Err(fault) = fault {
        tracing::error!("GPU metrics can't be registered: {fault}");
    }
}

struct Metrics {
    gauges: Gauges,
    observed: watch::Receiver<Observed>,
}

struct Gauges {
    healthy: GaugeVec,
    memory_total: GaugeVec,
    memory_used: GaugeVec,
    utilization: GaugeVec,
    temperature: GaugeVec,
    power: GaugeVec,
}

impl Gauges {
    fn new() -> Result<Self, plasma_runtime::prometheus::Error> {
        let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), LABELS);
        Ok(Self {
            healthy: gauge("plasma_gpu_healthy", "1 if the GPU can be given to pods")?,
            memory_total: gauge("plasma_gpu_memory_total_bytes", "Memory of the GPU")?,
            memory_used: gauge("plasma_gpu_memory_used_bytes", "Used memory of the GPU")?,
            utilization: gauge("plasma_gpu_utilization_ratio", "Share of the time in which a kernel ran")?,
            temperature: gauge("plasma_gpu_temperature_celsius", "Temperature of the GPU")?,
            power: gauge("plasma_gpu_power_watts", "Power drawn by the GPU")?,
        })
    }

    fn all(&self) -> [&GaugeVec; 6] {
        let Self { healthy, memory_total, memory_used, utilization, temperature, power } = self;
        [healthy, memory_total, memory_used, utilization, temperature, power]
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let gauges = &self.gauges;
        // A GPU that left must not keep its last values.
        gauges.all().into_iter().for_each(GaugeVec::reset);
        let observed = self.observed.borrow().clone();
        let simulated = observed.simulated.to_string();
        for (gpu, state) in observed.believed().gpus() {
            let index = gpu.index.to_string();
            let labels = [&index, &gpu.uuid, &gpu.name, &simulated].map(String::as_str);
            gauges.healthy.with_label_values(&labels).set(f64::from(u8::from(*state == GpuState::Healthy)));
            gauges.memory_total.with_label_values(&labels).set(gpu.memory_bytes as f64);
            let Some(figures) = observed.figures.iter().find(|figures| figures.uuid == gpu.uuid) else {
                continue;
            };
            let set = |gauge: &GaugeVec, value: Option<f64>| {
                if let Some(value) = value {
                    gauge.with_label_values(&labels).set(value);
                }
            };
            set(&gauges.memory_used, figures.memory_used_bytes.map(|bytes| bytes as f64));
            set(&gauges.utilization, figures.utilization_percent.map(|percent| f64::from(percent) / 100.0));
            set(&gauges.temperature, figures.temperature_celsius.map(f64::from));
            set(&gauges.power, figures.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0));
        }
        gauges.all().into_iter().flat_map(Collector::collect).collect()
    }
}

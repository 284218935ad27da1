//! Prometheus metrics: the GPUs', read from the last look at the time of asking, and the kubelet's side.

use plasma_device_plugin_core::{Gpu, GpuState};
use plasma_runtime::prometheus::{
    CounterVec, Error, Gauge, GaugeVec, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::sync::watch;

use crate::{inventory::Observed, nvml::Figures};

const LABELS: &[&str] = &["gpu", "uuid", "product", "simulated"];

/// Registers everything.
///
/// # Errors
/// When a name is taken.
pub(crate) fn start(
    registry: &Registry,
    observed: watch::Receiver<Observed>,
) -> Result<KubeletMetrics, Error> {
    registry.register(Box::new(GpuMetrics::new(observed)?))?;
    KubeletMetrics::register(registry)
}

/// What happens between the kubelet and us.
#[derive(Clone)]
pub(crate) struct KubeletMetrics {
    registered: IntGauge,
    registrations: IntCounterVec,
    allocations: IntCounterVec,
}

impl KubeletMetrics {
    fn register(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            registered: IntGauge::new(
                "plasma_device_plugin_registered",
                "1 if the kubelet took our registration",
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
        registry.register(Box::new(metrics.registered.clone()))?;
        registry.register(Box::new(metrics.registrations.clone()))?;
        registry.register(Box::new(metrics.allocations.clone()))?;
        Ok(metrics)
    }

    /// The kubelet took a registration, this way.
    pub(crate) fn registered(&self, way: &str) {
        self.registered.set(1);
        self.registrations.with_label_values(&[way]).inc();
    }

    /// No registration holds.
    pub(crate) fn unregistered(&self) {
        self.registered.set(0);
    }

    pub(crate) fn allocated(&self, granted: bool) {
        let outcome = if granted { "granted" } else { "refused" };
        self.allocations.with_label_values(&[outcome]).inc();
    }
}

/// One metric of a GPU: its name, what it says, whether it only ever grows, and where it comes from.
struct Metric {
    name: &'static str,
    help: &'static str,
    counter: bool,
    value: fn(&Gpu, &GpuState, &Figures) -> Option<f64>,
}

const METRICS: &[Metric] = &[
    Metric {
        name: "plasma_gpu_healthy",
        help: "1 if the GPU can be given to pods",
        counter: false,
        value: |_, state, _| Some(f64::from(u8::from(state.is_offered()))),
    },
    Metric {
        name: "plasma_gpu_memory_total_bytes",
        help: "Memory of the GPU",
        counter: false,
        value: |gpu, _, _| Some(gpu.memory_bytes as f64),
    },
    Metric {
        name: "plasma_gpu_memory_used_bytes",
        help: "Used memory of the GPU",
        counter: false,
        value: |_, _, figures| figures.memory_used_bytes.map(|bytes| bytes as f64),
    },
    Metric {
        name: "plasma_gpu_utilization_ratio",
        help: "Share of the time in which a kernel ran on the GPU",
        counter: false,
        value: |_, _, figures| figures.utilization_percent.map(|percent| f64::from(percent) / 100.0),
    },
    Metric {
        name: "plasma_gpu_temperature_celsius",
        help: "Temperature of the GPU",
        counter: false,
        value: |_, _, figures| figures.temperature_celsius.map(f64::from),
    },
    Metric {
        name: "plasma_gpu_power_watts",
        help: "Power drawn by the GPU",
        counter: false,
        value: |_, _, figures| figures.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0),
    },
    Metric {
        name: "plasma_gpu_energy_joules_total",
        help: "Energy drawn by the GPU since its driver was loaded",
        counter: true,
        value: |_, _, figures| figures.energy_millijoules.map(|millijoules| millijoules as f64 / 1000.0),
    },
];

/// Computes all metrics of all GPUs anew each time: a GPU that left must not keep its last values.
struct GpuMetrics {
    observed: watch::Receiver<Observed>,
    descriptions: Vec<Desc>,
}

/// The metric for whether NVML answers at all.
fn nvml_up() -> Result<Gauge, Error> {
    Gauge::new("plasma_nvml_up", "1 if NVML answered lately")
}

impl GpuMetrics {
    fn new(observed: watch::Receiver<Observed>) -> Result<Self, Error> {
        let mut descriptions: Vec<Desc> = nvml_up()?.desc().into_iter().cloned().collect();
        for metric in METRICS {
            let labels = LABELS.iter().map(|label| (*label).to_owned()).collect();
            let (name, help) = (metric.name.to_owned(), metric.help.to_owned());
            descriptions.push(Desc::new(name, help, labels, Default::default())?);
        }
        Ok(Self { observed, descriptions })
    }

    fn families(&self) -> Result<Vec<MetricFamily>, Error> {
        let observed = self.observed.borrow().clone();
        let inventory = observed.believed();
        let up = nvml_up()?;
        up.set((observed.is_known() && inventory.fault().is_none()).into());
        let mut families = up.collect();
        let simulated = observed.simulated.to_string();
        let (silent, gpus) = (Figures::default(), inventory.gpus());
        for metric in METRICS {
            let (gauge, counter) = vectors(metric)?;
            for (gpu, state) in &gpus {
                let figures = observed.figures.iter().find(|figures| figures.uuid == gpu.uuid);
                let Some(value) = (metric.value)(gpu, state, figures.unwrap_or(&silent)) else { continue };
                let index = gpu.index.to_string();
                let labels = [&index, &gpu.uuid, &gpu.name, &simulated].map(String::as_str);
                if metric.counter {
                    counter.with_label_values(&labels).inc_by(value);
                } else {
                    gauge.with_label_values(&labels).set(value);
                }
            }
            families.extend(if metric.counter { counter.collect() } else { gauge.collect() });
        }
        Ok(families)
    }
}

fn vectors(metric: &Metric) -> Result<(GaugeVec, CounterVec), Error> {
    let opts = Opts::new(metric.name, metric.help);
    Ok((GaugeVec::new(opts.clone(), LABELS)?, CounterVec::new(opts, LABELS)?))
}

impl Collector for GpuMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().unwrap_or_else(|fault| {
            tracing::error!("the GPUs' metrics can't be made: {fault}");
            Vec::new()
        })
    }
}

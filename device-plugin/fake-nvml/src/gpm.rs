//! GPM: activity between two samples of a GPU, or of one GPU instance.

use std::{
    collections::BTreeMap,
    ffi::{c_uint, c_void},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings::{
    NVML_GPM_METRICS_GET_VERSION, NVML_GPM_SUPPORT_VERSION, nvmlDevice_t, nvmlGpmMetricsGet_t,
    nvmlGpmSample_t, nvmlGpmSupport_t, nvmlReturn_t,
};

use crate::{
    code,
    memory::write_value,
    session::{ask, ask_gpu, note},
};

/// NVML promises nothing about samples that lie nearer to each other.
const APART: Duration = Duration::from_millis(100);

/// What a sample holds once it was taken: when, and the metrics that the file had then.
struct Taken {
    at: Instant,
    metrics: BTreeMap<u32, f64>,
}

/// All samples; a handle is the place plus one. `None` is a freed place, `Some(None)` a sample that was never taken.
static SAMPLES: Mutex<Vec<Option<Option<Taken>>>> = Mutex::new(Vec::new());

fn samples() -> MutexGuard<'static, Vec<Option<Option<Taken>>>> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(sample: nvmlGpmSample_t) -> usize {
    // A null handle is a place that never is.
    sample.addr().wrapping_sub(1)
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmQueryDeviceSupport(
    device: nvmlDevice_t,
    support: *mut nvmlGpmSupport_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlGpmQueryDeviceSupport", device, |gpu, _| {
        // SAFETY: the caller promises that what isn't null can be read.
        let version = unsafe { support.as_ref() }.map(|support| support.version);
        if version != Some(NVML_GPM_SUPPORT_VERSION) {
            return code::INVALID_ARGUMENT;
        }
        let has = c_uint::from(!gpu.telemetry.gpm.is_empty());
        let told = nvmlGpmSupport_t { version: NVML_GPM_SUPPORT_VERSION, isSupportedDevice: has };
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(told, support) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleAlloc(sample: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    ask("nvmlGpmSampleAlloc", |_| {
        let mut samples = samples();
        let free = samples.iter().position(Option::is_none).unwrap_or(samples.len());
        if free == samples.len() {
            samples.push(None);
        }
        samples[free] = Some(None);
        // SAFETY: the caller keeps the contract.
        unsafe { write_value(std::ptr::without_provenance_mut::<c_void>(free + 1).cast(), sample) }
    })
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    note("nvmlGpmSampleFree");
    match samples().get_mut(place(sample)).and_then(Option::take) {
        Some(_) => code::SUCCESS,
        None => code::INVALID_ARGUMENT,
    }
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleGet(device: nvmlDevice_t, sample: nvmlGpmSample_t) -> nvmlReturn_t {
    ask_gpu("nvmlGpmSampleGet", device, |gpu, _| take(sample, Some(&gpu.telemetry.gpm)))
}

/// As NVML's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMigSampleGet(
    device: nvmlDevice_t,
    gpu_instance: c_uint,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    ask_gpu("nvmlGpmMigSampleGet", device, |gpu, _| {
        take(sample, gpu.telemetry.gpm_instances.get(&gpu_instance))
    })
}

fn take(sample: nvmlGpmSample_t, metrics: Option<&BTreeMap<u32, f64>>) -> nvmlReturn_t {
    let Some(metrics) = metrics.filter(|metrics| !metrics.is_empty()) else { return code::NOT_SUPPORTED };
    match samples().get_mut(place(sample)).and_then(Option::as_mut) {
        Some(taken) => {
            *taken = Some(Taken { at: Instant::now(), metrics: metrics.clone() });
            code::SUCCESS
        }
        None => code::INVALID_ARGUMENT,
    }
}

/// As NVML's; samples that lie too near to each other are refused, so that whoever takes such is found out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    ask("nvmlGpmMetricsGet", |_| {
        // SAFETY: the caller promises that what isn't null can be read and written.
        let Some(request) = (unsafe { request.as_mut() }) else { return code::INVALID_ARGUMENT };
        let count = request.numMetrics as usize;
        if request.version != NVML_GPM_METRICS_GET_VERSION || count > request.metrics.len() {
            return code::INVALID_ARGUMENT;
        }
        let samples = samples();
        let taken = |sample| samples.get(place(sample)).and_then(Option::as_ref)?.as_ref();
        let (Some(first), Some(last)) = (taken(request.sample1), taken(request.sample2)) else {
            return code::INVALID_ARGUMENT;
        };
        if last.at.saturating_duration_since(first.at) < APART {
            return code::INVALID_ARGUMENT;
        }
        for metric in request.metrics.iter_mut().take(count) {
            (metric.nvmlReturn, metric.value) = match last.metrics.get(&metric.metricId) {
                Some(value) => (code::SUCCESS, *value),
                None => (code::NOT_SUPPORTED, 0.0),
            };
        }
        code::SUCCESS
    })
}

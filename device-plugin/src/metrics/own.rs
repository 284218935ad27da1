//! Our own metrics of a GPU: base units, and names as Prometheus has them.

use super::table::{Each, Kind, Row, Subject, Value, counter, float, gauge};
use crate::nvml::{Activity, THROTTLES};

/// Bits of `nvmlDeviceGetCurrentClocksThrottleReasons`, from the lowest.
const CLOCK_EVENTS: [&str; 9] = [
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
];

const KIB: f64 = 1024.0;
const MEGA: f64 = 1e6;

/// All of them.
pub(super) const METRICS: &[&[Row]] = &[STATE, MEMORY, USE, POWER, LINKS, ERRORS, ACTIVITY];

const STATE: &[Row] = &[
    gauge("plasma_gpu_healthy", "1 if the GPU can be given to pods", |it| {
        Some(f64::from(u8::from(it.state.is_offered())))
    }),
    Row {
        name: "plasma_gpu_xids_total",
        help: "XIDs that the driver reported since this program started, by number",
        kind: Kind::Counter,
        value: Value::Several("xid", |it, each| {
            it.xids.counts.iter().for_each(|(xid, count)| each(&xid.to_string(), *count as f64));
        }),
    },
    gauge("plasma_gpu_last_xid", "The last XID that the driver reported since this program started", |it| {
        it.xids.last.map(|(xid, _)| xid as f64)
    }),
    gauge("plasma_gpu_last_xid_timestamp_seconds", "When the last XID came, in seconds since 1970", |it| {
        it.xids.last.map(|(_, at)| at)
    }),
];

const MEMORY: &[Row] = &[
    gauge("plasma_gpu_memory_total_bytes", "Memory of the GPU", |it| Some(it.gpu.memory_bytes as f64)),
    gauge("plasma_gpu_memory_used_bytes", "Memory that programs use", |it| {
        float(it.figures.memory_used_bytes)
    }),
    gauge("plasma_gpu_memory_free_bytes", "Memory that nobody uses", |it| {
        float(it.figures.memory_free_bytes)
    }),
    gauge("plasma_gpu_memory_reserved_bytes", "Memory that the driver keeps for itself", |it| {
        float(it.figures.memory_reserved_bytes)
    }),
];

const USE: &[Row] = &[
    gauge("plasma_gpu_utilization_ratio", "Share of the time in which a kernel ran", |it| {
        ratio(it.figures.utilization_percent)
    }),
    gauge(
        "plasma_gpu_memory_utilization_ratio",
        "Share of the time in which memory was read or written",
        |it| ratio(it.figures.memory_utilization_percent),
    ),
    gauge(
        "plasma_gpu_encoder_utilization_ratio",
        "Share of the time in which the video encoder worked",
        |it| ratio(it.figures.encoder_percent),
    ),
    gauge(
        "plasma_gpu_decoder_utilization_ratio",
        "Share of the time in which the video decoder worked",
        |it| ratio(it.figures.decoder_percent),
    ),
    gauge("plasma_gpu_sm_clock_hertz", "Clock of the multiprocessors", |it| {
        it.figures.sm_clock_megahertz.map(|clock| f64::from(clock) * MEGA)
    }),
    gauge("plasma_gpu_memory_clock_hertz", "Clock of the memory", |it| {
        it.figures.memory_clock_megahertz.map(|clock| f64::from(clock) * MEGA)
    }),
    Row {
        name: "plasma_gpu_clock_event",
        help: "1 if the clocks are as they are for this reason",
        kind: Kind::Gauge,
        value: Value::Several("reason", clock_events),
    },
    Row {
        name: "plasma_gpu_throttled_seconds_total",
        help: "Time in which clocks were held down for this reason, since the driver was loaded",
        kind: Kind::Counter,
        value: Value::Several("reason", throttled),
    },
];

const POWER: &[Row] = &[
    gauge("plasma_gpu_temperature_celsius", "Temperature of the GPU", |it| {
        it.figures.temperature_celsius.map(f64::from)
    }),
    gauge("plasma_gpu_memory_temperature_celsius", "Temperature of the memory", |it| {
        float(it.figures.memory_temperature_celsius)
    }),
    gauge("plasma_gpu_power_watts", "Power drawn by the GPU", |it| {
        it.figures.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0)
    }),
    counter("plasma_gpu_energy_joules_total", "Energy drawn by the GPU since its driver was loaded", |it| {
        float(it.figures.energy_millijoules).map(|millijoules| millijoules / 1000.0)
    }),
];

const LINKS: &[Row] = &[
    counter("plasma_gpu_pcie_replays_total", "Transfers over PCIe that were repeated", |it| {
        float(it.figures.pcie_replays)
    }),
    counter("plasma_gpu_nvlink_sent_bytes_total", "Data sent over all NVLinks", |it| {
        float(it.figures.nvlink_sent_kib).map(|kib| kib * KIB)
    }),
    counter("plasma_gpu_nvlink_received_bytes_total", "Data received over all NVLinks", |it| {
        float(it.figures.nvlink_received_kib).map(|kib| kib * KIB)
    }),
];

const ERRORS: &[Row] = &[
    counter(
        "plasma_gpu_memory_errors_correctable_total",
        "Memory errors that were corrected, over the GPU's life",
        |it| float(it.figures.memory_errors.correctable_total),
    ),
    counter(
        "plasma_gpu_memory_errors_uncorrectable_total",
        "Memory errors that could not be corrected, over the GPU's life",
        |it| float(it.figures.memory_errors.uncorrectable_total),
    ),
    counter(
        "plasma_gpu_memory_errors_correctable_since_load_total",
        "Memory errors that were corrected since the driver was loaded",
        |it| float(it.figures.memory_errors.correctable_volatile),
    ),
    counter(
        "plasma_gpu_memory_errors_uncorrectable_since_load_total",
        "Memory errors that could not be corrected since the driver was loaded",
        |it| float(it.figures.memory_errors.uncorrectable_volatile),
    ),
    counter(
        "plasma_gpu_remapped_rows_correctable_total",
        "Memory rows replaced after corrected errors",
        |it| float(it.figures.memory_errors.rows_correctable),
    ),
    counter(
        "plasma_gpu_remapped_rows_uncorrectable_total",
        "Memory rows replaced after errors that could not be corrected",
        |it| float(it.figures.memory_errors.rows_uncorrectable),
    ),
    gauge(
        "plasma_gpu_row_remapping_pending",
        "1 if a memory row is to be replaced at the next reset",
        |it| float(it.figures.memory_errors.remapping_pending),
    ),
    gauge("plasma_gpu_row_remapping_failed", "1 if a memory row could not be replaced", |it| {
        float(it.figures.memory_errors.remapping_failed)
    }),
];

const ACTIVITY: &[Row] = &[
    gauge("plasma_gpu_graphics_active_ratio", "Share of the time in which any engine was busy", |it| {
        active(it, |active| active.graphics)
    }),
    gauge("plasma_gpu_sm_active_ratio", "Share of the time in which a multiprocessor had a warp", |it| {
        active(it, |active| active.sm)
    }),
    gauge(
        "plasma_gpu_sm_occupancy_ratio",
        "Warps on the multiprocessors, of those that they can have",
        |it| active(it, |active| active.occupancy),
    ),
    gauge("plasma_gpu_tensor_active_ratio", "Share of the time in which the tensor pipe was busy", |it| {
        active(it, |active| active.tensor)
    }),
    gauge("plasma_gpu_fp64_active_ratio", "Share of the time in which the FP64 pipe was busy", |it| {
        active(it, |active| active.fp64)
    }),
    gauge("plasma_gpu_fp32_active_ratio", "Share of the time in which the FP32 pipe was busy", |it| {
        active(it, |active| active.fp32)
    }),
    gauge("plasma_gpu_fp16_active_ratio", "Share of the time in which the FP16 pipe was busy", |it| {
        active(it, |active| active.fp16)
    }),
    gauge("plasma_gpu_integer_active_ratio", "Share of the time in which the integer pipe was busy", |it| {
        active(it, |active| active.integer)
    }),
    gauge("plasma_gpu_dram_active_ratio", "Share of the memory's bandwidth that was used", |it| {
        active(it, |active| active.dram)
    }),
    gauge("plasma_gpu_pcie_sent_bytes_per_second", "Data sent over PCIe", |it| {
        active(it, |active| active.pcie_sent)
    }),
    gauge("plasma_gpu_pcie_received_bytes_per_second", "Data received over PCIe", |it| {
        active(it, |active| active.pcie_received)
    }),
    gauge("plasma_gpu_nvlink_sent_bytes_per_second", "Data sent over all NVLinks", |it| {
        active(it, |active| active.nvlink_sent)
    }),
    gauge("plasma_gpu_nvlink_received_bytes_per_second", "Data received over all NVLinks", |it| {
        active(it, |active| active.nvlink_received)
    }),
];

/// Of the instances of divided GPUs, by names of their own: a sum over GPUs must not count them again.
pub(super) const OF_INSTANCE: &[Row] = &[
    gauge(
        "plasma_gpu_instance_graphics_active_ratio",
        "Share of the time in which any engine was busy",
        |it| active(it, |active| active.graphics),
    ),
    gauge(
        "plasma_gpu_instance_sm_active_ratio",
        "Share of the time in which one of its multiprocessors had a warp",
        |it| active(it, |active| active.sm),
    ),
    gauge(
        "plasma_gpu_instance_sm_occupancy_ratio",
        "Warps on its multiprocessors, of those possible",
        |it| active(it, |active| active.occupancy),
    ),
    gauge("plasma_gpu_instance_tensor_active_ratio", "Share of the time of its tensor pipe", |it| {
        active(it, |active| active.tensor)
    }),
    gauge("plasma_gpu_instance_fp64_active_ratio", "Share of the time of its FP64 pipe", |it| {
        active(it, |active| active.fp64)
    }),
    gauge("plasma_gpu_instance_fp32_active_ratio", "Share of the time of its FP32 pipe", |it| {
        active(it, |active| active.fp32)
    }),
    gauge("plasma_gpu_instance_fp16_active_ratio", "Share of the time of its FP16 pipe", |it| {
        active(it, |active| active.fp16)
    }),
    gauge("plasma_gpu_instance_integer_active_ratio", "Share of the time of its integer pipe", |it| {
        active(it, |active| active.integer)
    }),
    gauge("plasma_gpu_instance_dram_active_ratio", "Share of its memory's bandwidth that was used", |it| {
        active(it, |active| active.dram)
    }),
];

fn ratio(percent: Option<u32>) -> Option<f64> {
    percent.map(|percent| f64::from(percent) / 100.0)
}

fn active(it: &Subject<'_>, which: fn(&Activity) -> Option<f64>) -> Option<f64> {
    it.figures.activity.as_ref().and_then(which)
}

fn clock_events(it: &Subject<'_>, each: Each<'_>) {
    let Some(reasons) = it.figures.clock_event_reasons else { return };
    for (bit, reason) in CLOCK_EVENTS.iter().enumerate() {
        each(reason, f64::from(u8::from(reasons & 1 << bit != 0)));
    }
}

fn throttled(it: &Subject<'_>, each: Each<'_>) {
    for (reason, nanoseconds) in THROTTLES.iter().zip(it.figures.throttled_nanoseconds) {
        if let Some(nanoseconds) = float(nanoseconds) {
            each(reason, nanoseconds / 1e9);
        }
    }
}

//! The same values under dcgm-exporter's names and in its units, so that dashboards made for it work.

use super::table::{Row, Subject, counter, float, gauge};
use crate::nvml::{Activity, THROTTLES};

const MIB: u64 = 1 << 20;

/// Of whole GPUs: dcgm-exporter's default set, and of what it offers beside that, what NVML tells.
pub(super) const METRICS: &[&[Row]] = &[DEVICE, VIOLATIONS, ERRORS];

const DEVICE: &[Row] = &[
    gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", |it| {
        it.figures.sm_clock_megahertz.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", |it| {
        it.figures.memory_clock_megahertz.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", |it| {
        float(it.figures.memory_temperature_celsius)
    }),
    gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", |it| {
        it.figures.temperature_celsius.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", |it| {
        it.figures.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0)
    }),
    counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).", |it| {
        float(it.figures.energy_millijoules)
    }),
    counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", |it| {
        float(it.figures.pcie_replays)
    }),
    gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", |it| {
        it.figures.utilization_percent.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", |it| {
        it.figures.memory_utilization_percent.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", |it| {
        it.figures.encoder_percent.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", |it| {
        it.figures.decoder_percent.map(f64::from)
    }),
    gauge("DCGM_FI_DEV_XID_ERRORS", "Last XID since this program started, 0 where there was none.", |it| {
        Some(it.xids.last.map_or(0.0, |(xid, _)| xid as f64))
    }),
    gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", |it| {
        mebibytes(it.figures.memory_free_bytes)
    }),
    gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", |it| {
        mebibytes(it.figures.memory_used_bytes)
    }),
    gauge("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", |it| {
        mebibytes(it.figures.memory_reserved_bytes)
    }),
    gauge("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "Data over all NVLinks between two looks (in MB/s).", |it| {
        it.figures.nvlink_kib_per_second.map(|rate| (rate / 1000.0).trunc())
    }),
    gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "Current clock event reasons (bitmask).", |it| {
        float(it.figures.clock_event_reasons)
    }),
    gauge("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "Current clock event reasons, by the older name.", |it| {
        float(it.figures.clock_event_reasons)
    }),
];

const VIOLATIONS: &[Row] = &[
    violation("DCGM_FI_DEV_POWER_VIOLATION", |it| held_down(it, "power")),
    violation("DCGM_FI_DEV_THERMAL_VIOLATION", |it| held_down(it, "thermal")),
    violation("DCGM_FI_DEV_SYNC_BOOST_VIOLATION", |it| held_down(it, "sync_boost")),
    violation("DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", |it| held_down(it, "board_limit")),
    violation("DCGM_FI_DEV_LOW_UTIL_VIOLATION", |it| held_down(it, "low_utilization")),
    violation("DCGM_FI_DEV_RELIABILITY_VIOLATION", |it| held_down(it, "reliability")),
];

const ERRORS: &[Row] = &[
    counter("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "Total number of single-bit volatile ECC errors.", |it| {
        float(it.figures.memory_errors.correctable_volatile)
    }),
    counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "Total number of double-bit volatile ECC errors.", |it| {
        float(it.figures.memory_errors.uncorrectable_volatile)
    }),
    counter("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "Total number of single-bit persistent ECC errors.", |it| {
        float(it.figures.memory_errors.correctable_total)
    }),
    counter("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "Total number of double-bit persistent ECC errors.", |it| {
        float(it.figures.memory_errors.uncorrectable_total)
    }),
    counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Remapped rows for uncorrectable errors", |it| {
        float(it.figures.memory_errors.rows_uncorrectable)
    }),
    counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "Remapped rows for correctable errors", |it| {
        float(it.figures.memory_errors.rows_correctable)
    }),
    gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed", |it| {
        float(it.figures.memory_errors.remapping_failed)
    }),
    gauge("DCGM_FI_DEV_ROW_REMAP_PENDING", "Whether remapping of rows is pending", |it| {
        float(it.figures.memory_errors.remapping_pending)
    }),
];

/// Of whole GPUs, and of the instances of divided ones.
pub(super) const PROFILING: &[Row] = &[
    profiled("DCGM_FI_PROF_GR_ENGINE_ACTIVE", |it| active(it, |active| active.graphics)),
    profiled("DCGM_FI_PROF_SM_ACTIVE", |it| active(it, |active| active.sm)),
    profiled("DCGM_FI_PROF_SM_OCCUPANCY", |it| active(it, |active| active.occupancy)),
    profiled("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", |it| active(it, |active| active.tensor)),
    profiled("DCGM_FI_PROF_DRAM_ACTIVE", |it| active(it, |active| active.dram)),
    profiled("DCGM_FI_PROF_PIPE_FP64_ACTIVE", |it| active(it, |active| active.fp64)),
    profiled("DCGM_FI_PROF_PIPE_FP32_ACTIVE", |it| active(it, |active| active.fp32)),
    profiled("DCGM_FI_PROF_PIPE_FP16_ACTIVE", |it| active(it, |active| active.fp16)),
    profiled("DCGM_FI_PROF_PIPE_INT_ACTIVE", |it| active(it, |active| active.integer)),
    profiled("DCGM_FI_PROF_PCIE_TX_BYTES", |it| active(it, |active| active.pcie_sent)),
    profiled("DCGM_FI_PROF_PCIE_RX_BYTES", |it| active(it, |active| active.pcie_received)),
    profiled("DCGM_FI_PROF_NVLINK_TX_BYTES", |it| active(it, |active| active.nvlink_sent)),
    profiled("DCGM_FI_PROF_NVLINK_RX_BYTES", |it| active(it, |active| active.nvlink_received)),
];

const fn violation(name: &'static str, value: fn(&Subject<'_>) -> Option<f64>) -> Row {
    counter(name, "Throttling duration for this reason (in ns).", value)
}

const fn profiled(name: &'static str, value: fn(&Subject<'_>) -> Option<f64>) -> Row {
    gauge(name, "Mean between two looks: a share between 0 and 1, or bytes a second.", value)
}

fn held_down(it: &Subject<'_>, reason: &str) -> Option<f64> {
    let place = THROTTLES.iter().position(|throttle| *throttle == reason)?;
    float(it.figures.throttled_nanoseconds[place])
}

fn active(it: &Subject<'_>, which: fn(&Activity) -> Option<f64>) -> Option<f64> {
    it.figures.activity.as_ref().and_then(which)
}

/// Whole ones, as it has them.
fn mebibytes(bytes: Option<u64>) -> Option<f64> {
    float(bytes.map(|bytes| bytes / MIB))
}

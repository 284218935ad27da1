//! GPM: how busy the parts of a GPU were between two looks. Hopper and later.
//!
//! A sample is taken at each look and kept until the next one, so nothing ever waits for the time between two.

use std::time::{Duration, Instant};

use nvml_wrapper::{
    Nvml,
    enums::gpm::GpmMetricId,
    error::NvmlError,
    gpm::{GpmSample, gpm_metrics_get},
};

/// NVML wants 100 ms between two samples; nearer to each other than this, the last answer still holds.
pub(super) const APART: Duration = Duration::from_millis(150);
/// GPM counts traffic in MiB/s.
const MIB: f64 = 1_048_576.0;

/// What is asked for, in the order of [`Activity`]'s fields.
const METRICS: [GpmMetricId; 13] = [
    GpmMetricId::GraphicsUtil,
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::Fp64Util,
    GpmMetricId::Fp32Util,
    GpmMetricId::Fp16Util,
    GpmMetricId::IntegerUtil,
    GpmMetricId::DramBwUtil,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
    GpmMetricId::NvlinkTotalTxPerSec,
    GpmMetricId::NvlinkTotalRxPerSec,
];

/// Means over the time between two looks: shares between 0 and 1, traffic in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Activity {
    /// Any engine of graphics or compute was busy.
    pub(crate) graphics: Option<f64>,
    /// A multiprocessor had a warp, averaged over them all.
    pub(crate) sm: Option<f64>,
    /// Warps that multiprocessors had, of those that they can have.
    pub(crate) occupancy: Option<f64>,
    /// The tensor pipe was busy.
    pub(crate) tensor: Option<f64>,
    pub(crate) fp64: Option<f64>,
    pub(crate) fp32: Option<f64>,
    pub(crate) fp16: Option<f64>,
    pub(crate) integer: Option<f64>,
    /// Bandwidth of the memory that was used.
    pub(crate) dram: Option<f64>,
    pub(crate) pcie_sent: Option<f64>,
    pub(crate) pcie_received: Option<f64>,
    pub(crate) nvlink_sent: Option<f64>,
    pub(crate) nvlink_received: Option<f64>,
}

/// The samples of one GPU, or of one GPU instance.
#[derive(Default)]
pub(super) struct Gpm<'lib> {
    before: Option<(Instant, GpmSample<'lib>)>,
    last: Option<Activity>,
}

impl<'lib> Gpm<'lib> {
    /// Takes a sample, and says what was between it and the one before; nothing at the first look.
    ///
    /// # Errors
    /// When there is no sample to be had. The next one then begins anew.
    pub(super) fn look(
        &mut self,
        nvml: &'lib Nvml,
        sample: impl FnOnce() -> Result<GpmSample<'lib>, NvmlError>,
    ) -> Result<Option<Activity>, NvmlError> {
        let now = Instant::now();
        if self.before.as_ref().is_some_and(|(at, _)| now.duration_since(*at) < APART) {
            return Ok(self.last);
        }
        can_free(nvml)?;
        self.last = None;
        let before = self.before.take();
        let taken = sample()?;
        if let Some((_, before)) = &before {
            self.last = Some(activity(nvml, before, &taken)?);
        }
        self.before = Some((now, taken));
        Ok(self.last)
    }
}

/// Whether samples can be freed: the wrapper does that by itself, and panics where it can't.
///
/// # Errors
/// When the library has no function for it.
pub(super) fn can_free(nvml: &Nvml) -> Result<(), NvmlError> {
    let free = nvml.lib().nvmlGpmSampleFree.as_ref();
    free.map(|_| ()).map_err(|fault| NvmlError::FailedToLoadSymbol(fault.to_string()))
}

/// What was between two samples.
///
/// # Errors
/// When the library doesn't compare them. A metric that the GPU doesn't have is only left out.
pub(super) fn activity<'lib>(
    nvml: &'lib Nvml,
    from: &GpmSample<'lib>,
    to: &GpmSample<'lib>,
) -> Result<Activity, NvmlError> {
    let told = gpm_metrics_get(nvml, from, to, &METRICS)?;
    let mut told = told
        .into_iter()
        .map(|metric| metric.ok().map(|metric| metric.value).filter(|value| value.is_finite()));
    let mut next = |unit: f64| told.next().flatten().map(|value| value * unit);
    let percent = 0.01;
    Ok(Activity {
        graphics: next(percent),
        sm: next(percent),
        occupancy: next(percent),
        tensor: next(percent),
        fp64: next(percent),
        fp32: next(percent),
        fp16: next(percent),
        integer: next(percent),
        dram: next(percent),
        pcie_sent: next(MIB),
        pcie_received: next(MIB),
        nvlink_sent: next(MIB),
        nvlink_received: next(MIB),
    })
}

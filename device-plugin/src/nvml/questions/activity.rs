//! Two samples, and what was between them: the only questions that take their time, so that there is something between.

use std::thread;

use nvml_wrapper::Device;

use super::{super::gpm, Asker};

/// Asks a GPU, and its GPU instances, how busy they are.
pub(super) fn about_activity(ask: &mut Asker<'_>, device: &Device<'_>, instances: &[u32]) {
    if ask.about("nvmlGpmQueryDeviceSupport", || device.gpm_support()) != Some(true) {
        return;
    }
    if ask.found("nvmlGpmSampleFree", || gpm::can_free(device.nvml())).is_none() {
        return;
    }
    let of_gpu = "nvmlGpmSampleAlloc, nvmlGpmSampleGet";
    let before = ask.found(of_gpu, || device.gpm_sample());
    let of_instance = "nvmlGpmMigSampleGet";
    let instances: Vec<_> = instances
        .iter()
        .map(|number| (*number, ask.found(of_instance, || device.gpm_mig_sample(*number))))
        .collect();
    // The next question would have to wait as well, so nothing is lost by waiting once for all.
    thread::sleep(gpm::APART);
    if let Some(before) = before {
        ask.about("nvmlGpmMetricsGet", || gpm::activity(device.nvml(), &before, &device.gpm_sample()?));
    }
    for (number, before) in instances {
        let Some(before) = before else { continue };
        ask.about("nvmlGpmMetricsGet (of an instance)", || {
            gpm::activity(device.nvml(), &before, &device.gpm_mig_sample(number)?)
        });
    }
}

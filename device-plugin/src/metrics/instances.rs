//! The metrics of a divided GPU's instances: each has its own, and its own holder.

use plasma_device_plugin_core::{Gpu, Holder, Holdings, MigInstance};
use plasma_runtime::prometheus::proto::LabelPair;

use super::labels::{self, label};
use crate::nvml::Figures;

/// One GPU instance of one GPU.
pub(super) struct Part {
    /// What it tells: its activity alone.
    pub(super) figures: Figures,
    /// Who has it, where that is a single pod.
    pub(super) holders: Vec<Holder>,
    labels: [String; 2],
}

impl Part {
    /// Our labels of it, after those of its GPU.
    pub(super) fn own(&self, of_gpu: Vec<LabelPair>) -> Vec<LabelPair> {
        self.labelled(["mig_profile", "gpu_instance"], of_gpu)
    }

    /// dcgm-exporter's.
    pub(super) fn dcgm(&self, of_gpu: Vec<LabelPair>) -> Vec<LabelPair> {
        self.labelled(["GPU_I_PROFILE", "GPU_I_ID"], of_gpu)
    }

    fn labelled(&self, names: [&str; 2], mut labels: Vec<LabelPair>) -> Vec<LabelPair> {
        labels.extend(names.into_iter().zip(&self.labels).map(|(name, value)| label(name, value)));
        labels
    }
}

/// The instances of a GPU that told something.
pub(super) fn parts(gpu: &Gpu, figures: &Figures, holdings: &Holdings) -> Vec<Part> {
    let told = figures.instances.iter().filter_map(|(number, activity)| {
        let within: Vec<&MigInstance> =
            gpu.instances().iter().filter(|part| part.instance.gpu == *number).collect();
        // A profile is of a compute instance: where there are several in it, the first one's is as good as any.
        let profile = within.first()?.profile.name().to_owned();
        let holders = match &within[..] {
            [alone] => holdings.of(&alone.uuid).to_vec(),
            _ => Vec::new(),
        };
        let figures = Figures { activity: Some(*activity), ..Figures::default() };
        Some(Part { figures, holders, labels: [profile, number.to_string()] })
    });
    told.collect()
}

/// Who has a part of the GPU: which one, and who.
pub(super) fn holders(gpu: &Gpu, holdings: &Holdings) -> Vec<(Vec<LabelPair>, Holder)> {
    let of_part = gpu.instances().iter().flat_map(|part| {
        let labels = [
            label("mig_profile", part.profile.name()),
            label("gpu_instance", &part.instance.gpu.to_string()),
            label("mig_uuid", &part.uuid),
        ];
        let everybody = labels::everybody(holdings, &part.uuid);
        everybody.into_iter().map(move |holder| (labels.to_vec(), holder))
    });
    of_part.collect()
}

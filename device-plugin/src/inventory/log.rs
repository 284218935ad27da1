//! What is logged of the GPUs: what changed, each once.

use plasma_device_plugin_core::{Gpu, GpuState, Inventory, MigInstance, Offers};

/// Says which GPUs came, went, fell ill or recovered.
pub(super) fn log_changes(before: &Inventory, after: &Inventory) {
    for (gpu, state) in after.gpus() {
        let (uuid, name) = (&gpu.uuid, &gpu.name);
        match (before.find(uuid).map(|(_, state)| state), state) {
            (Some(was), now) if was == now => {}
            (None, GpuState::Healthy) => tracing::info!("GPU {uuid} ({name}) is found"),
            (_, GpuState::Healthy) => tracing::info!("GPU {uuid} is healthy again"),
            (_, GpuState::Suspect(why)) => tracing::warn!("GPU {uuid} may be failing: {why}"),
            (_, GpuState::Unhealthy(why)) => tracing::warn!("GPU {uuid} is unhealthy: {why}"),
            (_, GpuState::Recovering(why)) => tracing::info!("GPU {uuid} is recovering from: {why}"),
            (_, GpuState::Unknown(why)) => tracing::warn!("how GPU {uuid} is isn't known: {why}"),
        }
    }
    after.gpus().into_iter().for_each(|(gpu, _)| log_parts(before, after, gpu));
    for (gpu, _) in before.gpus().into_iter().filter(|(gpu, _)| after.find(&gpu.uuid).is_none()) {
        tracing::warn!("GPU {} is gone: NVML counts fewer GPUs", gpu.uuid);
    }
    if before.message() != after.message()
        && let Some(message) = after.message()
    {
        tracing::warn!("{message}");
    }
}

/// Says how a GPU is divided, where that is another way than before, and which of its parts changed by themselves.
fn log_parts(before: &Inventory, after: &Inventory, gpu: &Gpu) {
    let uuid = &gpu.uuid;
    let was = before.find(uuid).map(|(was, _)| was);
    let (was_divided, was_parts) = was.map_or((false, &[][..]), |was| (was.is_divided(), was.instances()));
    let ids = |parts: &[MigInstance]| parts.iter().map(|part| part.uuid.clone()).collect::<Vec<_>>();
    if (was_divided, ids(was_parts)) != (gpu.is_divided(), ids(gpu.instances())) {
        let parts: Vec<&str> = gpu.instances().iter().map(|part| part.profile.name()).collect();
        match gpu.is_divided() {
            true => tracing::info!("GPU {uuid} is divided into [{}]", parts.join(", ")),
            false => tracing::info!("GPU {uuid} is whole again"),
        }
    }
    let pending =
        |gpu: &Gpu| gpu.mig.as_ref().filter(|mig| mig.pending != mig.enabled).map(|mig| mig.pending);
    if let Some(enabled) = pending(gpu).filter(|_| was.and_then(pending) != pending(gpu)) {
        let mode = if enabled { "in MIG mode" } else { "no longer in MIG mode" };
        tracing::warn!("GPU {uuid} will be {mode} once it is reset");
    }
    let of_gpu = after.find(uuid).map(|(_, state)| state);
    for (part, state) in after.instances(uuid) {
        let parts_before = before.instances(uuid);
        let was = parts_before.iter().find(|(was, _)| was.uuid == part.uuid).map(|(_, state)| *state);
        if was == Some(state) || Some(state) == of_gpu {
            continue;
        }
        let (part, why) = (&part.uuid, state.why().unwrap_or_default());
        tracing::warn!(
            "{part} of GPU {uuid} can{} be given to pods: {why}",
            if state.is_offered() { "" } else { "'t" }
        );
    }
}

/// Says what can't be offered as it is asked for.
pub(super) fn log_offers(before: &Offers, after: &Offers) {
    for complaint in after.complaints.iter().filter(|complaint| !before.complaints.contains(complaint)) {
        tracing::warn!("{complaint}");
    }
}

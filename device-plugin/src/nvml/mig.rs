//! How a GPU is divided (MIG): its instances, and the device nodes that open them.

use std::{fs, path::Path};

use nvml_wrapper::{Device, error::NvmlError};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use plasma_device_plugin_core::{Instance, Mig, MigInstance, Profile, Share, capability_minor};

/// Where the kernel's driver says which device node opens which part of a GPU.
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// Where those device nodes are, by their number.
const NODES: &str = "/dev/nvidia-caps/nvidia-cap";

/// How the GPU is divided; none where it can't be.
///
/// # Errors
/// When it is divided, and an instance doesn't say what it is: a layout that is known by half isn't known.
pub(super) fn mig(gpu: &Device<'_>, substitute: bool) -> Result<Option<Mig>, NvmlError> {
    // Whoever doesn't answer this can't be divided: consumer GPUs, and drivers from before it.
    let mode = match gpu.mig_mode() {
        Ok(mode) => mode,
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => {
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    let mut mig = Mig { enabled: mode.current == 1, pending: mode.pending == 1, instances: Vec::new() };
    if mig.enabled {
        let minor = if substitute { None } else { Some(gpu.minor_number()?) };
        let board_bytes = gpu.memory_info()?.total;
        for part in parts(gpu)? {
            mig.instances.push(instance(&part, minor, board_bytes)?);
        }
        mig.instances.sort_by_key(|part| part.instance);
    }
    Ok(Some(mig))
}

/// The handles of a divided GPU's instances.
pub(super) fn parts<'nvml>(gpu: &Device<'nvml>) -> Result<Vec<Device<'nvml>>, NvmlError> {
    let mut parts = Vec::new();
    for place in 0..gpu.mig_device_count()? {
        match gpu.mig_device_by_index(place) {
            Ok(part) => parts.push(part),
            // Nothing is at that place.
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(parts)
}

/// Which part of its GPU an instance is.
pub(super) fn place(part: &Device<'_>) -> Result<Instance, NvmlError> {
    let lib = part.nvml().lib();
    Ok(Instance {
        gpu: number(part, lib.nvmlDeviceGetGpuInstanceId.as_ref())?,
        compute: number(part, lib.nvmlDeviceGetComputeInstanceId.as_ref())?,
    })
}

/// `minor` is the GPU's device node; a simulated one has none.
fn instance(part: &Device<'_>, minor: Option<u32>, board_bytes: u64) -> Result<MigInstance, NvmlError> {
    let instance = place(part)?;
    let has = part.attributes()?;
    let has = Share {
        memory_mib: has.memory_size_mb,
        multiprocessors: has.multiprocessor_count,
        gpu_slices: has.gpu_instance_slice_count,
        compute_slices: has.compute_instance_slice_count,
        copy_engines: has.shared_copy_engine_count,
        decoders: has.shared_decoder_count,
        encoders: has.shared_encoder_count,
        jpeg_engines: has.shared_jpeg_count,
        optical_flow: has.shared_ofa_count,
    };
    let named = part.name().ok().and_then(|name| Profile::named(&name));
    let profile = named.unwrap_or_else(|| Profile::measured(has, board_bytes));
    let nodes = minor.map_or(Ok(Vec::new()), |minor| device_nodes(Path::new(CAPABILITIES), minor, instance));
    let missing = |node: &&String| !Path::new(node.as_str()).exists();
    let (device_nodes, fault) = match nodes {
        Ok(nodes) => {
            let fault = nodes.iter().find(missing).map(|node| format!("its device node {node} isn't there"));
            (nodes, fault)
        }
        Err(fault) => (Vec::new(), Some(fault)),
    };
    Ok(MigInstance { uuid: part.uuid()?, instance, profile, has, device_nodes, fault })
}

/// The library is asked itself: the wrapper has no word for an instance's numbers.
fn number<E: ToString>(
    part: &Device<'_>,
    ask: Result<&unsafe extern "C" fn(nvmlDevice_t, *mut u32) -> nvmlReturn_t, E>,
) -> Result<u32, NvmlError> {
    let ask = ask.map_err(|fault| NvmlError::FailedToLoadSymbol(fault.to_string()))?;
    let mut number = 0;
    // SAFETY: the handle lives as long as its borrow, and the library writes one number.
    let told = unsafe { ask(part.handle(), &mut number) };
    nvml_wrapper::error::nvml_try(told).map(|()| number)
}

/// The device nodes that open an instance: the GPU instance's and the compute instance's.
fn device_nodes(capabilities: &Path, minor: u32, instance: Instance) -> Result<Vec<String>, String> {
    let of_gpu_instance = capabilities.join(format!("gpu{minor}/mig/gi{}", instance.gpu));
    let of_compute_instance = of_gpu_instance.join(format!("ci{}", instance.compute));
    let node = |folder: &Path| {
        let file = folder.join("access");
        let text = fs::read_to_string(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
        let minor = capability_minor(&text);
        let minor = minor.ok_or_else(|| format!("{} names no device node", file.display()))?;
        Ok(format!("{NODES}{minor}"))
    };
    [of_gpu_instance, of_compute_instance].iter().map(|folder| node(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_nodes_of_an_instance_are_those_that_the_driver_names() {
        let folder = tempfile::tempdir().unwrap();
        let of_compute_instance = folder.path().join("gpu2/mig/gi7/ci0");
        fs::create_dir_all(&of_compute_instance).unwrap();
        let instance = Instance { gpu: 7, compute: 0 };
        let nodes = || device_nodes(folder.path(), 2, instance);
        assert!(nodes().unwrap_err().contains("gi7/access"), "who has no node can't be opened");
        fs::write(folder.path().join("gpu2/mig/gi7/access"), "DeviceFileMinor: 66\nDeviceFileMode: 292\n")
            .unwrap();
        fs::write(of_compute_instance.join("access"), "DeviceFileMode: 292\n").unwrap();
        assert!(nodes().unwrap_err().ends_with("ci0/access names no device node"));
        fs::write(of_compute_instance.join("access"), "DeviceFileMinor: 67\n").unwrap();
        assert_eq!(nodes().unwrap(), ["/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67"]);
    }
}

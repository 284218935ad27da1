//! Who uses a GPU: its processes and its memory.

use nvml_wrapper::Device;
use plasma_device_plugin_core::Occupancy;

/// The processes of all kinds, and the memory without what the driver reserves. What NVML refuses isn't known.
///
/// Drivers before 510 answer neither. Their first version of the memory question counts what is reserved as used, some hundred
/// MiB that nobody tells apart from what a program left: by it every clean GPU were dirty, so it isn't asked here.
pub(crate) fn occupancy(device: &Device<'_>) -> Occupancy {
    let (compute, graphics) = (device.running_compute_processes(), device.running_graphics_processes());
    let processes = match (compute, graphics) {
        (Err(_), Err(_)) => None,
        (compute, graphics) => {
            let both = compute.unwrap_or_default().into_iter().chain(graphics.unwrap_or_default());
            let mut pids: Vec<u32> = both.map(|process| process.pid).collect();
            pids.sort_unstable();
            // A program may do both.
            pids.dedup();
            Some(pids)
        }
    };
    Occupancy { processes, memory_bytes: device.memory_info().ok().map(|memory| memory.used) }
}

//! What the device plugin decides: which GPUs are offered, which are preferred, and what a container gets.
//!
//! Pure: NVML, the kubelet and the API server are the shell's.

mod allocation;
mod inventory;

pub use allocation::{AllocateError, DeviceNode, allocate, prefer};
pub use inventory::{Advertised, Gpu, GpuState, Inventory, Scan, product_label};

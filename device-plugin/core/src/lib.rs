//! What the device plugin decides: which GPUs are offered, which are preferred, and what a container gets.
//!
//! Pure: NVML, the kubelet and the API server are the shell's. A look at NVML comes in as a [`Scan`]; the
//! [`Inventory`] turns looks into what is believed; [`prefer`] and [`allocate`] answer the kubelet from it.

mod allocation;
mod authority;
mod choice;
mod gpu;
mod health;
mod holding;
mod inventory;
mod topology;
mod xid;

pub use allocation::{AllocateError, allocate};
pub use authority::{Authority, Refused};
pub use choice::prefer;
pub use gpu::{Advertised, Gpu, GpuState, Look, Recovery, Scan, Seen, product_label};
pub use health::{HealthRules, Instance, Signs, Silence, Xid};
pub use holding::{ContainerSeen, End, Holder, Holdings, Listed, PodSeen, Tenants, Tenure};
pub use inventory::Inventory;
pub use topology::{Distance, Link, Topology};
pub use xid::{Verdict, Xids};

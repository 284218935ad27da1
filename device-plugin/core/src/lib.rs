//! What the device plugin decides: which GPUs are offered, which are preferred, and what a container gets.
//!
//! Pure: NVML, the kubelet and the API server are the shell's. A look at NVML comes in as a [`Scan`]; the
//! [`Inventory`] turns looks into what is believed, and [`offers`] what is believed into what the kubelet is offered;
//! [`prefer`] and [`allocate`] answer it from that.

mod allocation;
mod authority;
mod cdi;
mod choice;
mod dirt;
mod driver_files;
mod gpu;
mod handover;
mod health;
mod holding;
mod inventory;
mod limit;
mod loader_cache;
mod meter;
mod mig;
mod offer;
mod topology;
mod xid;

pub use allocation::{AllocateError, allocate, hand_outs};
pub use authority::{Authority, Refused};
pub use cdi::{CDI_KIND, Device, DeviceNode, Edits, HandOut, Mount, Spec, is_device_name, qualified, spec};
pub use choice::{Placement, Wish, first_of, prefer};
pub use dirt::{Dirt, DirtRules, Occupancy};
pub use driver_files::{
    DATA, Driver, DriverFile, FileKind, LIBRARIES, LIBRARY_PLACES, Library, PROGRAM_PLACES, PROGRAMS,
    SOCKETS, is_handed_over, names,
};
pub use gpu::{Gpu, GpuState, Look, Mode, Recovery, Scan, Seen, product_label};
pub use handover::{HandOver, Needs};
pub use health::{HealthRules, Instance, Signs, Silence, Xid};
pub use holding::{
    ContainerSeen, End, Holder, Holdings, Known, Listed, PodSeen, Tenants, Tenure, held_otherwise,
};
pub use inventory::Inventory;
pub use limit::{
    MemoryShare, Obstacles, is_of_container, is_of_pod, leads_to_pods, memory_shares, shares_instances,
};
pub use loader_cache::paths_of;
pub use meter::{
    BoardLook, Energy, Ledger, MeterClock, MeterLook, MeterRules, Out, Part, Quality, Reading, Record, parts,
};
pub use mig::{Mig, MigInstance, Profile, Share, capability_minor, instance_product};
pub use offer::{MigStrategy, Offered, Offers, Policy, SHARED, Sharing, offers};
pub use topology::{Distance, Link, Topology};
pub use xid::{Verdict, Xids};

//! Protocols over gRPC: `.proto` files beside this crate, and the code generated from them.
//!
//! The generated files are committed, so that a build needs no protobuf compiler; a test holds them to their sources.

/// The kubelet's device-plugin protocol, v1beta1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod deviceplugin {
    include!("generated/v1beta1.rs");

    /// The protocol's version, as it is registered.
    pub const VERSION: &str = "v1beta1";
    /// A device that can be allocated.
    pub const HEALTHY: &str = "Healthy";
    /// A device that can't.
    pub const UNHEALTHY: &str = "Unhealthy";
}

/// The kubelet's plugin registration protocol, v1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pluginregistration {
    include!("generated/pluginregistration.rs");

    /// The kind of plugin that a device plugin is.
    pub const DEVICE_PLUGIN: &str = "DevicePlugin";
}

/// Ours: what the meter of each node reports to settlement, v1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod meter {
    include!("generated/plasma.meter.v1.rs");
}

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

/// The kubelet's protocol of devices given to pods, v1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod podresources {
    include!("generated/v1.rs");
}

/// The kubelet's protocol of the pods on its node, v1alpha1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pods {
    include!("generated/v1alpha1.rs");
}

/// Of a core/v1 Pod, what the meter reads.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pod {
    include!("generated/corev1.rs");

    impl Pod {
        /// Reads one.
        ///
        /// # Errors
        /// Where it isn't a pod.
        pub fn read(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
            prost::Message::decode(bytes)
        }

        /// Writes it.
        pub fn to_bytes(&self) -> Vec<u8> {
            prost::Message::encode_to_vec(self)
        }
    }
}

/// Ours: what the meter of each node reports to settlement, v1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod meter {
    include!("generated/plasma.meter.v1.rs");

    /// The audience of the token that a node shows to settlement: it is good for nothing else.
    pub const AUDIENCE: &str = "plasma-meter";
}

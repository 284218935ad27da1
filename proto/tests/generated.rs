//! The committed code is what its `.proto` files generate. `UPDATE=1 cargo test -p plasma-proto` writes it anew.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // A test that can't go on says so and ends.

use std::{env, fs, path::Path};

/// Each protocol, and the file that its package becomes.
const PROTOCOLS: [(&str, &str); 6] = [
    ("kubelet/v1beta1/deviceplugin.proto", "v1beta1.rs"),
    ("kubelet/pluginregistration/pluginregistration.proto", "pluginregistration.rs"),
    ("kubelet/podresources/podresources.proto", "v1.rs"),
    ("kubelet/pods/pods.proto", "v1alpha1.rs"),
    ("kubelet/pods/pod.proto", "corev1.rs"),
    ("plasma/meter/v1/meter.proto", "plasma.meter.v1.rs"),
];

#[test]
fn generated_code_is_not_stale() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (proto, generated) in PROTOCOLS {
        let proto = root.join(proto);
        let descriptors = protox::compile([&proto], [proto.parent().unwrap()]).expect("the proto compiles");
        let fresh = tempfile::tempdir().expect("a folder");
        tonic_prost_build::configure()
            .out_dir(fresh.path())
            .compile_fds(descriptors)
            .expect("code is generated");
        let fresh = fs::read_to_string(fresh.path().join(generated)).expect("generated code");

        let committed = root.join("src/generated").join(generated);
        if env::var_os("UPDATE").is_some() {
            fs::create_dir_all(committed.parent().unwrap()).expect("a folder");
            fs::write(&committed, &fresh).expect("written");
        }
        let committed = fs::read_to_string(&committed).unwrap_or_default();
        assert!(committed == fresh, "src/generated/{generated} is stale: run cargo xtask codegen");
    }
}

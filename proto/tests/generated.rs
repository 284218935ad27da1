//! The committed code is what its `.proto` files generate. `UPDATE=1 cargo test -p plasma-proto` writes it anew.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // A test that can't go on says so and ends.

use std::{env, fs, path::Path};

#[test]
fn generated_code_is_not_stale() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root.join("kubelet/v1beta1/deviceplugin.proto");
    let descriptors = protox::compile([&proto], [proto.parent().unwrap()]).expect("the proto compiles");
    let fresh = tempfile::tempdir().expect("a folder");
    tonic_prost_build::configure().out_dir(fresh.path()).compile_fds(descriptors).expect("code is generated");
    let fresh = fs::read_to_string(fresh.path().join("v1beta1.rs")).expect("generated code");

    let committed = root.join("src/generated/v1beta1.rs");
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(committed.parent().unwrap()).expect("a folder");
        fs::write(&committed, &fresh).expect("written");
    }
    let committed = fs::read_to_string(&committed).unwrap_or_default();
    assert!(committed == fresh, "src/generated/v1beta1.rs is stale: run cargo xtask codegen");
}

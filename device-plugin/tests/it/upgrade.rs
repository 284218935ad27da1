//! The driver is upgraded below a plugin that runs.

use std::{fs, os::unix::fs::symlink};

use crate::plugin::Node;

const NAME: &str = "libnvidia-ml.so.1";

#[tokio::test]
async fn after_an_upgrade_the_new_drivers_nvml_is_loaded() {
    let node = Node::new(1);
    let root = node.folder().join("host");
    let libraries = root.join("usr/lib64");
    fs::create_dir_all(&libraries).unwrap();
    let install = |version: &str| {
        let file = format!("libnvidia-ml.so.{version}");
        fs::copy(&node.library, libraries.join(&file)).unwrap();
        let _ = fs::remove_file(libraries.join(NAME));
        symlink(&file, libraries.join(NAME)).unwrap();
        libraries.join(file)
    };
    let seen_at = root.to_str().unwrap();
    let plugin = node.plugin_as(&["--scan-seconds", "1", "--driver-root-ctr-path", seen_at]);
    plugin.must_say("it isn't below the driver's root / (seen at ").await;
    let old = install("580.1");
    plugin.must_say(&format!("NVML is loaded from {}", old.display())).await;
    // The module is another one: the old library no longer answers.
    fs::remove_file(old).unwrap();
    let new = install("590.1");
    let silent = |say| {
        move |state: &mut plasma_fake_nvml::State| {
            state.errors.clear();
            if say {
                state.errors.insert("nvmlDeviceGetCount_v2".to_owned(), 18);
            }
        }
    };
    node.change(silent(true));
    plugin.must_say("NVML doesn't count its GPUs").await;
    node.change(silent(false));
    plugin.must_say(&format!("NVML is loaded from {}", new.display())).await;
    plugin.becomes("/metrics", "plasma_nvml_up 1").await;
}

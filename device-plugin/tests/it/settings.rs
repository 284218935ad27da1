//! Settings that are not understood stop the plugin at once, with words that name them.

use std::fs;

use crate::plugin::Node;

/// Starts it with these arguments; it must end, and have said all of this.
async fn is_refused(node: &Node, arguments: &[&str], says: &[&str]) {
    let mut plugin = node.plugin_with(arguments);
    assert!(!plugin.ended().await.success(), "{arguments:?} are taken");
    for part in says {
        plugin.must_say(part).await;
    }
}

#[tokio::test]
async fn health_rules_that_are_not_understood() {
    let node = Node::new(1);
    let file = node.folder().join("health.yaml");
    for (text, named) in [("xids: { 79: fine }", "fine"), ("xids: {}\nrows: {}", "rows")] {
        fs::write(&file, text).unwrap();
        is_refused(&node, &["--health-config", file.to_str().unwrap()], &["--health-config", named]).await;
    }
}

#[tokio::test]
async fn sharing_that_is_not_understood_or_of_what_is_never_offered() {
    let node = Node::new(1);
    let file = node.folder().join("config.yaml");
    for (text, named) in [
        (
            "{version: v1, sharing: {timeSlicing: {resources: [{name: nvidia.com/gpuu, replicas: 2}]}}}",
            "\"nvidia.com/gpuu\" is never offered, so it can't be shared: there is nvidia.com/gpu alone; name what is offered, \
             or leave it out",
        ),
        ("{version: v1, sharing: {timeSlicing: {resuorces: []}}}", "resuorces"),
        ("version: v1\nsharing: { mps: {} }", "mps"),
        ("version: v2", "\"v2\""),
    ] {
        fs::write(&file, text).unwrap();
        is_refused(&node, &["--config-file", file.to_str().unwrap()], &["--config-file", named]).await;
    }
}

#[tokio::test]
async fn unknown_flags_and_values() {
    let node = Node::new(1);
    is_refused(&node, &["--scan-minutes", "1"], &["unexpected argument '--scan-minutes'"]).await;
    is_refused(&node, &["--scan-seconds", "0"], &["--scan-seconds", "1..=300"]).await;
}

#[tokio::test]
async fn a_folder_whose_path_leaves_no_room_for_a_sockets_name() {
    let mut node = Node::new(1);
    node.registry = node.folder().join("x".repeat(100));
    is_refused(&node, &[], &["--plugins-registry-dir", "may have 58", "no longer than 107"]).await;
}

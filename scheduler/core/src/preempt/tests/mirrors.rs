//! Mirror pods, which show the static pods of kubelets: deleting one frees nothing.

use super::*;

fn static_pod(world: &mut World, name: &str, node: &str) {
    world.ranked_pod(name, 0, (1, Some(node)), |pod| {
        pod["spec"]["schedulerName"] = json!("default-scheduler");
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "a1b2", "other": "x" });
    });
}

#[test]
fn a_mirror_pod_is_nobodys_victim_however_cheap() {
    let mut world = world(&[("a", 1), ("b", 1)]);
    static_pod(&mut world, "static", "a");
    world.ranked_pod("mid", MINE - 1, (1, Some("b")), |pod| {
        pod["metadata"]["annotations"] = json!({ "other": "x" });
    });
    world.ranked_pod("mine", MINE, (1, None), |_| ());
    assert_eq!(victims(&decision(&mut world)), ["mid"], "who has other annotations goes as anybody");
}

#[test]
fn where_only_mirror_pods_are_in_the_way_nobody_goes() {
    let mut world = world(&[("a", 2)]);
    static_pod(&mut world, "static", "a");
    world.ranked_pod("low", 1, (1, Some("a")), |_| ());
    world.ranked_gang("mine", MINE, &[(1, None), (1, None)]);
    assert!(held(&decision(&mut world)).starts_with("no room"));
}

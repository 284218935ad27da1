//! A group for which a node is kept is looked at again when what it looks at changes on other nodes.

use super::*;

fn in_zone(world: &mut World, node: &str, zone: &str) {
    world.change_node(node, |node| node["metadata"]["labels"]["zone"] = json!(zone));
}

#[test]
fn who_is_spread_and_waits_for_a_node_is_looked_at_again_when_others_change_their_zone() {
    let mut world = world(&[("a", 2), ("b", 0), ("c", 1)]);
    for (node, zone) in [("a", "0"), ("b", "1"), ("c", "1")] {
        in_zone(&mut world, node, zone);
    }
    let is_x = |pod: &mut Value| pod["metadata"]["labels"] = json!({ "app": "x" });
    world.ranked_pod("low", 0, (2, Some("a")), |_| ());
    world.ranked_pod("other", 0, (1, Some("c")), is_x);
    world.ranked_pod("spread", MINE, (2, None), |pod| {
        is_x(pod);
        pod["spec"]["topologySpreadConstraints"] = json!([{ "maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "x" } } }]);
    });
    assert_eq!(victims(&decision(&mut world)), ["low"]);
    world.cluster.set_busy("ns/pod:spread", false);
    assert!(held(&decision(&mut world)).starts_with("waits for 1 pods to end"));
    in_zone(&mut world, "c", "0");
    assert_eq!(victims(&decision(&mut world)), ["other"], "beside it, it would be one too many in its zone");
}

#[test]
fn who_waits_for_a_node_is_looked_at_again_when_one_elsewhere_does_not_want_him_near() {
    let mut world = world(&[("a", 2), ("b", 1)]);
    ["a", "b"].iter().for_each(|node| in_zone(&mut world, node, "0"));
    world.ranked_pod("low", 0, (2, Some("a")), |_| ());
    world.ranked_pod("high", MINE, (2, None), |pod| pod["metadata"]["labels"] = json!({ "app": "x" }));
    assert_eq!(victims(&decision(&mut world)), ["low"]);
    world.cluster.set_busy("ns/pod:high", false);
    assert!(held(&decision(&mut world)).starts_with("waits for 1 pods to end"));
    let term = json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "x" } } });
    world.ranked_pod("apart", 0, (0, Some("b")), |pod| {
        pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!([term]);
    });
    assert_eq!(victims(&decision(&mut world)), ["apart"], "it keeps the other out of the zone");
}

#[test]
fn being_told_why_it_waits_is_no_search_for_whom_to_evict() {
    let mut world = world(&[("a", 2)]);
    world.ranked_pod("low", 0, (0, Some("a")), |_| ());
    world.ranked_pod("equal", MINE, (2, Some("a")), |_| ());
    world.ranked_pod("large", MINE, (3, None), |_| ());
    held(&decision(&mut world));
    // While nobody is below it, a search would be of no use; and room for three comes meanwhile, were one ending pod gone.
    world.cluster.remove_pod("low");
    world.node("a", &gpus(3));
    ends(&mut world, "equal", MINE, (2, Some("a")), None);
    world.cluster.explain(1);
    world.ranked_pod("low", 0, (0, Some("a")), |_| ());
    assert!(matches!(decision(&mut world), Decision::Preempt { .. }), "it takes what the ending pod leaves");
}

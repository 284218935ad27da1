//! A pod that becomes another group's leaves behind what was kept for it in the first.

use super::*;

#[test]
fn a_node_kept_for_a_pod_is_given_back_when_the_pod_joins_a_gang() {
    let mut world = world(&[("a", 1)]);
    let nominated = |pod: &mut Value| pod["status"]["nominatedNodeName"] = json!("a");
    world.ranked_pod("mine", 5, (1, None), nominated);
    assert_eq!(free(&mut world, "a"), 0);
    world.ranked_pod("mine", 5, (1, None), |pod| {
        nominated(pod);
        pod["metadata"]["labels"] = json!({ "compute.plasma.dev/gang": "g" });
    });
    assert_eq!(free(&mut world, "a"), 1);
    let ended = world.cluster.end_reservations(0, 60);
    assert_eq!(ended.iter().map(|ended| ended.pod.as_str()).collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn a_node_kept_for_a_pod_stays_so_while_it_changes_otherwise() {
    let mut world = world(&[("a", 1)]);
    for labels in [json!({}), json!({ "some": "label" })] {
        world.ranked_pod("mine", 5, (1, None), |pod| {
            pod["status"]["nominatedNodeName"] = json!("a");
            pod["metadata"]["labels"] = labels;
        });
        assert_eq!(free(&mut world, "a"), 0);
    }
    assert_eq!(world.cluster.end_reservations(0, 60), []);
}

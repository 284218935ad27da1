//! Pods of PodGroups, ours and others', go as these say.

use super::*;

/// Two pods of another scheduler in a PodGroup (or none), on a node each; one that needs the first node waits.
fn foreign(group: Option<&str>) -> World {
    let mut world = world(&[("a", 1), ("b", 1)]);
    for (at, node) in ["a", "b"].into_iter().enumerate() {
        world.ranked_pod(&format!("t-{at}"), 0, (1, Some(node)), |pod| {
            pod["spec"]["schedulerName"] = json!("default-scheduler");
            pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
            if let Some(group) = group {
                pod["spec"]["schedulingGroup"] = json!({ "podGroupName": group });
            }
        });
    }
    world.ranked_pod("high", 9, (1, None), |pod| {
        pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "a" });
    });
    world
}

#[test]
fn pods_of_other_schedulers_go_by_themselves_and_those_of_an_unknown_podgroup_together() {
    for (group, expected) in [(None, vec!["t-0"]), (Some("pg"), vec!["t-0", "t-1"])] {
        assert_eq!(victims(&decision(&mut foreign(group))), expected);
    }
}

#[test]
fn a_podgroup_says_whether_its_pods_go_together_and_by_which_priority_they_stay() {
    let group = |mode: Value, priority: i32| json!({ "schedulingPolicy": { "gang": { "minCount": 2 } }, "disruptionMode": mode, "priority": priority });
    let mut world = foreign(Some("pg"));
    world.pod_group("pg", &group(json!({ "single": {} }), 0));
    assert_eq!(victims(&decision(&mut world)), ["t-0"]);
    let mut world = foreign(Some("pg"));
    world.pod_group("pg", &group(json!({ "all": {} }), 0));
    assert_eq!(victims(&decision(&mut world)), ["t-0", "t-1"]);
    let mut world = foreign(Some("pg"));
    world.pod_group("pg", &group(json!({ "single": {} }), 9));
    held(&decision(&mut world));
}

#[test]
fn pods_of_our_own_podgroups_go_as_its_mode_says_but_not_while_a_plan_for_it_is_carried_out() {
    for (mode, expected) in [("single", vec!["t-0"]), ("all", vec!["t-0", "t-1"])] {
        let mut world = world(&[("a", 1), ("b", 1)]);
        let policy = json!({ "gang": { "minCount": 1 } });
        world.pod_group("pg", &json!({ "schedulingPolicy": policy, "disruptionMode": { (mode): {} } }));
        world.upstream_gang("pg");
        for (at, node) in ["a", "b"].into_iter().enumerate() {
            world.ranked_pod(&format!("t-{at}"), 0, (1, Some(node)), |pod| {
                pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "pg" });
            });
        }
        world.cluster.set_busy("ns/podgroup:pg", true);
        let wants = |pod: &mut Value| {
            pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "a" });
        };
        world.ranked_pod("high", 9, (1, None), wants);
        held(&decision(&mut world));
        world.cluster.set_busy("ns/podgroup:pg", false);
        world.ranked_pod("high", 9, (1, None), wants);
        assert_eq!(victims(&decision(&mut world)), expected);
    }
}

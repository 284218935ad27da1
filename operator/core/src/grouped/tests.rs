//! What a PodGroup is made of, and what isn't grouped.

use plasma_api::ComputeJobSpec;
use proptest::prelude::*;
use serde_json::{Value, from_value, json, to_value};

use super::{GroupVersion::V1beta1, *};
use crate::{
    desire::desire,
    fixtures::{job, parent},
};

/// A job with a role for each of these priority classes.
fn with_classes(classes: &[Option<&str>]) -> ComputeJobSpec {
    let mut spec = job().spec;
    let role = spec.roles.remove(0);
    for (number, class) in classes.iter().enumerate() {
        let mut role = role.clone();
        role.name = format!("r{number}");
        role.template.spec.as_mut().unwrap().priority_class_name = class.map(str::to_owned);
        spec.roles.push(role);
    }
    spec
}

fn children(classes: &[Option<&str>]) -> Children {
    desire(&parent(true), &with_classes(classes), 1)
}

fn pod_group_of(children: &Children) -> PodGroup {
    children.group.clone().expect("a PodGroup").pod_group
}

fn group_names(children: &Children) -> Vec<Option<String>> {
    let of = |job: &Job| job.spec.clone()?.template.spec?.scheduling_group?.pod_group_name;
    children.jobs.iter().map(of).collect()
}

#[test]
fn a_gang_is_one_pod_group_that_is_disrupted_as_a_whole() {
    let grouped = children(&[Some("high"), Some("high")]).grouped(V1beta1).expect("a group");
    let group = &pod_group_of(&grouped);
    let expected = json!({
        "schedulingPolicy": { "gang": { "minCount": grouped.gang.spec.min_member } },
        "disruptionMode": { "all": {} },
        "priorityClassName": "high",
    });
    assert_eq!(to_value(&group.spec).unwrap(), expected);
    assert_eq!(grouped.gang.spec.min_member, 4, "two roles of two");
    assert_eq!(group.metadata, grouped.gang.metadata, "its name, its labels and its owner");
    assert_eq!(group_names(&grouped), vec![Some("ddp-1".to_owned()); 2]);
}

#[test]
fn without_a_class_a_group_has_the_priority_that_its_pods_get() {
    for classes in [[None, None], [Some(""), None]] {
        let grouped = children(&classes).grouped(V1beta1).expect("a group");
        assert_eq!(pod_group_of(&grouped).spec.priority_class_name, None, "{classes:?}");
    }
}

#[test]
fn roles_of_several_priorities_are_no_group() {
    for classes in [[Some("high"), Some("low")], [Some("high"), None], [None, Some("high")]] {
        assert_eq!(children(&classes).grouped(V1beta1), Err(Ungrouped::SeveralPriorities), "{classes:?}");
    }
}

#[test]
fn what_a_template_says_of_a_group_is_replaced() {
    let mut spec = with_classes(&[None]);
    let pod = spec.roles[0].template.spec.as_mut().unwrap();
    pod.scheduling_group = Some(PodSchedulingGroup { pod_group_name: Some("another".to_owned()) });
    let grouped = desire(&parent(true), &spec, 0).grouped(V1beta1).expect("a group");
    assert_eq!(group_names(&grouped), [Some("ddp-0".to_owned())]);
}

#[test]
fn an_answer_without_the_group_does_not_keep_it() {
    let plain = children(&[None, None]);
    let grouped = plain.grouped(V1beta1).expect("a group");
    assert!(grouped.keep_group(&grouped.jobs));
    assert!(!grouped.keep_group(&plain.jobs), "dropped, as an API server does whose gate is off");
    assert!(!grouped.keep_group(&[grouped.jobs[0].clone(), plain.jobs[1].clone()]), "dropped of one");
    assert!(!grouped.keep_group(&[Job::default()]));
    let other = desire(&parent(true), &job().spec, 7).grouped(V1beta1).expect("a group");
    assert!(!grouped.keep_group(&other.jobs), "another group");
    assert!(plain.keep_group(&plain.jobs), "there is none to keep");
}

#[test]
fn pod_groups_are_served_where_discovery_lists_them() {
    let discovered = |resources: Value| -> APIResourceList {
        from_value(json!({ "groupVersion": "scheduling.k8s.io/v1", "resources": resources })).unwrap()
    };
    let resource = |name: &str, kind: &str| json!({ "name": name, "kind": kind, "singularName": "", "namespaced": true, "verbs": [] });
    let class = resource("priorityclasses", "PriorityClass");
    // v1 of Kubernetes 1.37.
    assert!(!has_pod_groups(&discovered(json!([class]))));
    assert!(!has_pod_groups(&discovered(json!([resource("podgroups/status", "PodGroup")]))));
    assert!(!has_pod_groups(&discovered(json!([resource("podgroups", "Other")]))));
    assert!(has_pod_groups(&discovered(json!([class, resource("podgroups", "PodGroup")]))));
}

proptest! {
    /// A group changes nothing but what says so: taken off again, the children are what they were.
    #[test]
    fn a_group_changes_nothing_else(classes in proptest::collection::vec(prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))], 1..5)) {
        let plain = children(&classes);
        let grouped = plain.grouped(GroupVersion::V1);
        prop_assert_eq!(grouped.is_ok(), classes.windows(2).all(|pair| pair[0] == pair[1]));
        let Ok(mut grouped) = grouped else { return Ok(()) };
        prop_assert!(grouped.group.take().is_some_and(|group| group.version == GroupVersion::V1));
        prop_assert!(group_names(&grouped).iter().all(|name| name.as_deref() == Some("ddp-1")));
        for pod in grouped.jobs.iter_mut().filter_map(pod_of) {
            pod.scheduling_group = None;
        }
        prop_assert_eq!(grouped, plain);
    }
}

#[test]
fn what_was_said_of_an_attempt_in_a_group_is_taken_back_where_none_are_served_any_more() {
    let (mut status, now) = (ComputeJobStatus::default(), Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    tell_group(&mut status, (None, Some(&Ungrouped::SeveralPriorities)), &now);
    let said = condition::find(&status.conditions, "Grouped").unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "SeveralPriorities"));
    tell_group(&mut status, (None, None), &now);
    assert!(status.conditions.is_empty());
}

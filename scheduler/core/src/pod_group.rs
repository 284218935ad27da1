//! What an upstream PodGroup says that planning needs: how many of its pods must start together, and how they may be
//! evicted.

use crate::{
    document::{PodGroupDocument, PodGroupSpec},
    unsupported::Unsupported,
};

/// An upstream PodGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodGroup {
    pub(crate) uid: String,
    /// How many pods must start together; none where each may start by itself.
    pub(crate) min_count: Option<usize>,
    /// Its pods can only be disrupted together.
    pub(crate) goes_whole: bool,
    /// The priority of the group, which its pods must have too.
    pub(crate) priority: i32,
    /// Whether its pods may make room for themselves, where it says so.
    pub(crate) may_preempt: Option<bool>,
    /// It is being deleted.
    pub(crate) is_terminating: bool,
    /// Why its pods can't be scheduled here.
    pub(crate) problem: Option<Unsupported>,
}

impl PodGroup {
    /// Reads a PodGroup. What is wrong with it is said in it.
    pub(crate) fn read(document: &PodGroupDocument) -> Self {
        let (spec, problem) = match document.spec() {
            Ok((spec, unknown)) => {
                let unknown = unknown.first().map(|field| Unsupported::unknown(field));
                let problem = unknown.or_else(|| not_taken_on(&spec));
                (spec, problem)
            }
            Err(fault) => (PodGroupSpec::default(), Some(Unsupported::nonsense("spec", fault.to_string()))),
        };
        let min_count = spec.scheduling_policy.gang.as_ref().map(|gang| gang.min_count);
        let is_single = match &spec.disruption_mode {
            None => problem.is_none(),
            Some(mode) => mode.single.is_some() && mode.all.is_none(),
        };
        Self {
            uid: document.metadata.uid.clone(),
            min_count: min_count.map(|count| usize::try_from(count).unwrap_or(0).max(1)),
            goes_whole: !is_single,
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.map(|policy| policy != "Never"),
            is_terminating: document.metadata.is_terminating(),
            problem: problem.map(|problem| of_the_group(&document.metadata.name, problem)),
        }
    }

    /// Whether its pods are placed one by one.
    pub(crate) fn is_basic(&self) -> bool {
        self.problem.is_none() && self.min_count.is_none()
    }
}

/// A field that is known and that this scheduler leaves to others.
fn not_taken_on(spec: &PodGroupSpec) -> Option<Unsupported> {
    let policy = &spec.scheduling_policy;
    let constraints = spec.scheduling_constraints.as_ref();
    let field = if policy.gang.is_some() == policy.basic.is_some() {
        return Some(Unsupported::nonsense("spec.schedulingPolicy", "it is neither basic nor gang, or both"));
    } else if constraints.is_some_and(|constraints| is_given(constraints.topology.as_ref())) {
        "spec.schedulingConstraints.topology"
    } else if is_given(spec.resource_claims.as_ref()) {
        "spec.resourceClaims"
    } else if spec.parent_composite_pod_group_name.as_ref().is_some_and(|name| !name.is_empty()) {
        "spec.parentCompositePodGroupName"
    } else {
        return None;
    };
    Some(Unsupported::not_taken_on(field))
}

fn is_given<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// Pods are told of it too: it says whose field it is.
fn of_the_group(name: &str, problem: Unsupported) -> Unsupported {
    Unsupported { field: format!("PodGroup {name}: {}", problem.field), why: problem.why }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> PodGroup {
        let document = json!({ "metadata": { "name": "g", "namespace": "ns", "uid": "u" }, "spec": spec });
        PodGroup::read(&serde_json::from_value(document).unwrap())
    }

    fn refused(spec: &Value) -> String {
        read(spec).problem.map(|problem| problem.field).unwrap_or_default()
    }

    #[test]
    fn a_group_as_an_api_server_stores_it_is_understood() {
        let group = read(&json!({
            "schedulingPolicy": { "gang": { "minCount": 3 } }, "disruptionMode": { "single": {} },
            "priority": 7, "priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority",
            "workloadRef": { "name": "w", "podGroupTemplateName": "t" }, "schedulingConstraints": null,
        }));
        assert_eq!(group.problem, None);
        assert_eq!((group.min_count, group.priority, group.may_preempt), (Some(3), 7, Some(true)));
        assert!(!group.goes_whole && !group.is_basic());
        assert!(read(&json!({ "schedulingPolicy": { "basic": {} } })).is_basic());
    }

    #[test]
    fn what_is_not_known_or_not_taken_on_is_refused_by_its_field() {
        let with = |field: &str, value: Value| {
            let mut spec = json!({ "schedulingPolicy": { "basic": {} } });
            spec[field] = value;
            refused(&spec)
        };
        let topology = json!({ "topology": [{ "key": "rack" }] });
        assert_eq!(
            with("schedulingConstraints", topology),
            "PodGroup g: spec.schedulingConstraints.topology"
        );
        assert_eq!(with("resourceClaims", json!([{ "name": "c" }])), "PodGroup g: spec.resourceClaims");
        let parent = "PodGroup g: spec.parentCompositePodGroupName";
        assert_eq!(with("parentCompositePodGroupName", json!("p")), parent);
        assert_eq!(with("maxSkew", json!(1)), "PodGroup g: spec.maxSkew");
        let elastic = json!({ "gang": { "minCount": 1, "maxCount": 2 } });
        assert_eq!(with("schedulingPolicy", elastic), "PodGroup g: spec.schedulingPolicy.gang.maxCount");
        let basic = json!({ "basic": { "desiredCount": 2 } });
        assert_eq!(with("schedulingPolicy", basic), "PodGroup g: spec.schedulingPolicy.basic.desiredCount");
        assert_eq!(with("schedulingPolicy", json!({ "gang": "all" })), "PodGroup g: spec");
        assert_eq!(with("schedulingPolicy", json!({})), "PodGroup g: spec.schedulingPolicy");
        assert_eq!(refused(&json!(null)), "PodGroup g: spec");
    }

    #[test]
    fn pods_go_one_by_one_only_where_the_group_says_so_and_is_understood() {
        let goes_whole = |mode: Value| {
            read(&json!({ "schedulingPolicy": { "basic": {} }, "disruptionMode": mode })).goes_whole
        };
        assert!(!goes_whole(json!(null)) && !goes_whole(json!({ "single": {} })));
        assert!(goes_whole(json!({ "all": {} })) && goes_whole(json!({ "byRack": {} })));
        assert!(read(&json!("nonsense")).goes_whole);
    }
}

//! Which pods are whose: what a plan says of others' pods doesn't count, and a pod that no plan speaks of any more was left
//! behind on its way.

use std::collections::HashSet;

use super::{Cluster, Group};
use crate::{plan::Placement, pod::Pod};

impl Cluster {
    /// Whether a pod is one of the group's, by what it says itself. None where the pod isn't known (yet).
    pub fn belongs(&self, key: &str, uid: &str) -> Option<bool> {
        let known = self.known_by_uid(uid)?;
        let is_named = known.group.as_deref() == Some(key)
            || (known.group.is_some() && self.names_group(&known.pod).as_deref() == Some(key));
        let is_member = |group: &Group| self.is_member(group, &known.pod);
        Some(is_named && self.find_group(key).is_none_or(is_member))
    }

    /// The pods on their way to nodes of which no journalled plan of their own group says so, each with its namespace:
    /// somebody is just sending them, or they were left behind.
    pub fn strays(&self) -> impl Iterator<Item = (String, Placement)> {
        let planned = self.groups.iter().filter_map(|(key, group)| Some((key, group.gang.as_ref()?)));
        let planned = planned.flat_map(|(key, gang)| gang.journal.iter().map(move |(uid, _)| (key, &**uid)));
        let planned: HashSet<&str> =
            planned.filter(|(key, uid)| self.belongs(key, uid) == Some(true)).map(|(_, uid)| uid).collect();
        self.pods.iter().flatten().filter_map(move |known| {
            let (pod, node) = (&known.pod, &self.nodes[known.assumed?.index()]);
            let place = || Placement {
                pod: pod.name.to_string(),
                uid: pod.uid.to_string(),
                node: node.name.to_string(),
                volumes: Vec::new(),
            };
            (!planned.contains(&*pod.uid)).then(|| (pod.namespace().to_string(), place()))
        })
    }

    /// The key of the gang or the upstream PodGroup that the pod names.
    fn names_group(&self, pod: &Pod) -> Option<String> {
        match pod.labels.get(&self.names.gang_label) {
            Some(gang) => Some(format!("{}/{gang}", pod.namespace())),
            None => self.placing_pod_group(pod),
        }
    }
}

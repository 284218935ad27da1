//! Where pods that are to be in one topology would have room together: there they begin, and where they must be and there is
//! no such place, nothing needs to be tried.

use std::collections::{BTreeMap, BTreeSet};

use super::Around;
use crate::{
    cluster::Cluster, labels::Text, node::NodeId, outlook::room, plan::Alike, pod::Pod, question::Question,
};

/// The topology by which beginnings differ: where the first pod is makes a difference to those that want it near.
#[derive(Clone)]
pub(super) struct Topology {
    /// The label. Of several it is the one with the most values: beginning by that is beginning by the others, too.
    pub(super) key: Text,
    /// The values where there would be room for those that want to be together, if that is anywhere.
    pub(super) roomy: Option<BTreeSet<Text>>,
}

/// There is no room anywhere for pods that must be together.
pub(super) struct NoRoom;

impl Topology {
    /// Of pods that are alike in all that decides where they may go. Nothing where none of them wants company.
    pub(super) fn of(
        cluster: &mut Cluster,
        parts: &[Alike],
        around: &Around,
    ) -> Result<Option<Self>, NoRoom> {
        let Some(key) = finest(cluster, parts) else { return Ok(None) };
        let mut roomy: Option<BTreeSet<Text>> = None;
        for (at, part) in parts.iter().enumerate() {
            if !part.kind.company.iter().any(|term| term.topology_key == key) {
                continue;
            }
            let near = wanted_of(cluster, parts, part);
            let mut together: Vec<&Alike> = near.iter().map(|near| &parts[*near]).collect();
            if !near.contains(&at) {
                together.push(part);
            }
            let is_alone = is_alone(cluster, part, around);
            if is_alone && near.is_empty() {
                // Nobody is there whom it wants near, and nobody comes.
                return Err(NoRoom);
            }
            let here = with_room(cluster, &together, &key);
            if here.is_empty() && is_alone && must_be_together(at, parts, &near) {
                return Err(NoRoom);
            }
            roomy = Some(match roomy {
                Some(roomy) => roomy.intersection(&here).cloned().collect(),
                None => here,
            });
        }
        Ok(Some(Self { key, roomy: roomy.filter(|roomy| !roomy.is_empty()) }))
    }

    /// The value of the label on a node.
    pub(super) fn value<'a>(&self, cluster: &'a Cluster, node: NodeId) -> Option<&'a Text> {
        cluster.nodes[node.index()].labels.get(&self.key)
    }

    /// Whether a node is where there would be room.
    pub(super) fn is_roomy(&self, cluster: &Cluster, node: NodeId) -> bool {
        let value = self.value(cluster, node);
        self.roomy.as_ref().is_none_or(|roomy| value.is_some_and(|value| roomy.contains(value)))
    }
}

/// Where one of the pods that come at this place in an order begins best: where there would be room for them, and for those
/// that want them near and aren't placed yet. Nothing where nobody of these looks for company, or it is there already, or
/// there is no such place.
pub(super) fn begins_best(
    cluster: &mut Cluster,
    order: &[Alike],
    at: usize,
    around: &Around,
) -> Option<Topology> {
    let wants_it = |other: &usize| *other == at || wanted_of(cluster, order, &order[*other]).contains(&at);
    let seeks = (at..order.len()).filter(|other| !order[*other].kind.company.is_empty()).find(wants_it)?;
    let seeker = &order[seeks];
    if !is_alone(cluster, seeker, around) {
        return None;
    }
    let near = wanted_of(cluster, order, seeker).into_iter().filter(|near| *near >= at && *near != seeks);
    let together: Vec<&Alike> = near.map(|near| &order[near]).chain([seeker]).collect();
    let key = finest(cluster, std::slice::from_ref(seeker))?;
    let here = with_room(cluster, &together, &key);
    (!here.is_empty()).then_some(Topology { key, roomy: Some(here) })
}

/// Of the labels in whose topologies somebody wants company, the one that has the most values.
fn finest(cluster: &Cluster, parts: &[Alike]) -> Option<Text> {
    let terms = parts.iter().flat_map(|part| &part.kind.company);
    let keys: BTreeSet<&Text> = terms.map(|term| &term.topology_key).collect();
    if keys.len() < 2 {
        return keys.first().map(|key| (*key).clone());
    }
    let values = |key: &Text| {
        cluster.looked(cluster.nodes.len());
        cluster.existing().filter_map(|(_, node)| node.labels.get(key)).collect::<BTreeSet<_>>().len()
    };
    keys.into_iter().max_by_key(|key| values(key)).cloned()
}

fn one_of<'a>(cluster: &'a Cluster, part: &Alike) -> Option<&'a Pod> {
    Some(&cluster.known(*part.pods.first()?)?.pod)
}

/// Whether nobody is around whom these want near.
fn is_alone(cluster: &Cluster, part: &Alike, around: &Around) -> bool {
    let surroundings = one_of(cluster, part).and_then(|pod| around.of(pod));
    surroundings.is_some_and(|around| around.company.is_alone())
}

/// Those of the pods that one of these wants near, all of them.
fn wanted_of(cluster: &Cluster, parts: &[Alike], part: &Alike) -> Vec<usize> {
    let is_wanted = |other: &Alike| {
        one_of(cluster, other).is_some_and(|pod| {
            let namespace = cluster.namespace_labels(pod.namespace());
            part.kind.wants(&pod.labels, pod.namespace(), namespace)
        })
    };
    (0..parts.len()).filter(|at| is_wanted(&parts[*at])).collect()
}

/// Whether all of these, and those that they want near, can only be in one topology, where nobody else is there whom they
/// want: they want each other alone, or a single pod.
fn must_be_together(at: usize, parts: &[Alike], near: &[usize]) -> bool {
    near == [at] || near.iter().map(|near| parts[*near].pods.len()).sum::<usize>() == 1
}

/// Where all of these would have room together, by the value of the label: as far as counting tells.
fn with_room(cluster: &mut Cluster, together: &[&Alike], key: &Text) -> BTreeSet<Text> {
    let mut nodes: BTreeMap<Text, BTreeSet<NodeId>> = BTreeMap::new();
    for part in together {
        cluster.refresh(&part.kind);
        // Each is looked at for every value, too.
        cluster.looked(3 * cluster.nodes.len());
        for id in cluster.walk(&part.kind) {
            if let Some(label) = cluster.nodes[id.index()].labels.get(key) {
                nodes.entry(label.clone()).or_default().insert(id);
            }
        }
    }
    let parts: Vec<Alike> = together.iter().map(|part| (*part).clone()).collect();
    let have_room = |nodes: &BTreeSet<NodeId>| {
        parts.iter().all(|part| has_places(cluster, part, nodes))
            && Question::among(cluster, &parts, nodes.iter().copied()).adds_up()
    };
    nodes.retain(|_, nodes| have_room(nodes));
    nodes.into_keys().collect()
}

/// Whether there are places for all of them on these nodes, and topologies enough where they don't want each other near.
fn has_places(cluster: &Cluster, part: &Alike, nodes: &BTreeSet<NodeId>) -> bool {
    let of = |id: &NodeId| &cluster.nodes[id.index()];
    let places: i128 = nodes.iter().map(|id| i128::from(room(&part.kind, of(id)))).sum();
    let shuns_its_like = one_of(cluster, part).map(|pod| {
        let namespace = cluster.namespace_labels(pod.namespace());
        part.kind.shuns.iter().filter(move |term| term.matches(&pod.labels, pod.namespace(), namespace))
    });
    let are_enough = |key: &Text| {
        let open = nodes.iter().map(of).filter(|node| room(&part.kind, node) > 0);
        open.filter_map(|node| node.labels.get(key)).collect::<BTreeSet<_>>().len() >= part.pods.len()
    };
    places >= part.count() && shuns_its_like.into_iter().flatten().all(|term| are_enough(&term.topology_key))
}

#[cfg(test)]
mod tests;

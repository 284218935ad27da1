//! Nodes come, change and go.

use std::collections::HashSet;

use super::{Cluster, Fault};
use crate::{
    document::NodeDocument,
    labels::Text,
    node::{Node, NodeId, PodId},
};

impl Cluster {
    /// A node is there, or has changed. Answers what of it makes no sense.
    pub fn set_node(&mut self, document: &NodeDocument) -> Vec<Fault> {
        let name = self.shared.texts.share(&document.metadata.name);
        let id = self.node_id(&name);
        let (faults, has_changed) = self.nodes[id.index()].update(document, &mut self.shared);
        // A heartbeat is no news.
        if has_changed {
            self.node_changed(id, true);
        }
        let fault = |why| Fault { object: format!("node {name}"), why };
        faults.into_iter().map(fault).collect()
    }

    /// A node is gone. Pods that are on it stay known until they are gone, too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(id) = self.node_ids.get(name).copied() else { return };
        self.nodes[id.index()].exists = false;
        self.node_changed(id, false);
    }

    fn node_changed(&mut self, id: NodeId, may_have_grown: bool) {
        self.changes.node(id, may_have_grown);
        self.changes.chance(None);
        self.changes.around();
        // Pods on it may come to be near those for whom nodes are kept, and not want them there.
        let shuns = |pod: &PodId| self.known(*pod).is_some_and(|known| !known.pod.kind.shuns.is_empty());
        let node = &self.nodes[id.index()];
        if node.keeps() || node.pods.iter().any(shuns) {
            self.rouse_reserved();
        }
    }

    /// Keeps the nodes of a complete list, and takes the others for gone.
    pub fn retain_nodes(&mut self, is_listed: impl Fn(&str) -> bool) {
        let gone: Vec<Text> = self
            .nodes
            .iter()
            .filter(|node| node.exists && !is_listed(&node.name))
            .map(|node| node.name.clone())
            .collect();
        gone.iter().for_each(|name| self.remove_node(name));
    }

    /// The place of a node; another one where it isn't known. Names that come back soon get their old place.
    pub(super) fn node_id(&mut self, name: &Text) -> NodeId {
        if let Some(id) = self.node_ids.get(name) {
            return *id;
        }
        let id = self.vacant_nodes.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
        });
        self.nodes[id.index()] = Node::named(name.clone());
        self.node_ids.insert(name.clone(), id);
        id
    }

    /// Gives up the places of nodes that are gone, and with which no pod has to do any more: others get them.
    pub(super) fn forget_nodes(&mut self) {
        let places = self.pods.iter().flatten().flat_map(|known| [known.on, known.assumed, known.reserved]);
        let places: HashSet<NodeId> = places.flatten().collect();
        let Self { nodes, node_ids, vacant_nodes, .. } = self;
        node_ids.retain(|_, id| {
            let stays = nodes[id.index()].exists || places.contains(id);
            if !stays {
                nodes[id.index()] = Node::default();
                vacant_nodes.push(*id);
            }
            stays
        });
        // Lowest first, whatever order they were found in.
        vacant_nodes.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Whether there is such a node.
    pub fn has_node(&self, name: &str) -> bool {
        self.node_ids.get(name).is_some_and(|id| self.nodes[id.index()].exists)
    }

    /// The nodes that exist.
    pub(crate) fn existing(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let numbered = self.nodes.iter().zip(0..).map(|(node, number)| (NodeId(number), node));
        numbered.filter(|(_, node)| node.exists)
    }
}

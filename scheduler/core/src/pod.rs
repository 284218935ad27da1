//! A pod as planning sees it: who it is, where it is, and its kind, which pods that want the same share.

use std::{fmt, sync::Arc};

use serde::Deserialize;

use crate::{
    amounts::{Amounts, ResourceId},
    labels::{Labels, Selector, Text},
    notice::Notice,
    storage::Source,
    unsupported::Unsupported,
};

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: Text,
    pub(crate) uid: Text,
    pub(crate) labels: Labels,
    /// What it wants, as pods alike want it.
    pub(crate) kind: Arc<Kind>,
    /// What it holds on its node, which is more than it asks for while it is resized. None where that can't be told.
    pub(crate) holds: Option<Amounts>,
    /// The node that the API server knows it on.
    pub(crate) node: Option<Text>,
    /// The node for which somebody made room for it.
    pub(crate) nominated: Option<Text>,
    /// Who schedules it.
    pub(crate) scheduler: Text,
    pub(crate) priority: i32,
    /// Whether it may make room for itself.
    pub(crate) may_preempt: bool,
    /// When it was created, in seconds.
    pub(crate) created: i64,
    /// When its node's kubelet took it on, in seconds; before that, when it was created.
    pub(crate) started: i64,
    pub(crate) stage: Stage,
    /// It shows a static pod of its node's kubelet, which runs on and is shown anew when this is deleted.
    pub(crate) is_mirror: bool,
    /// The claims that it uses.
    pub(crate) claims: Box<[PodClaim]>,
    /// The first of its scheduling gates.
    pub(crate) gate: Option<Text>,
    /// Why it can't be scheduled here.
    pub(crate) problem: Option<Box<Unsupported>>,
    /// What it says of having no node. None where it has one.
    pub(crate) notice: Option<Box<Notice>>,
    /// The upstream PodGroup that it belongs to.
    pub(crate) pod_group: Option<Text>,
}

/// How far a pod's life has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stage {
    /// It is being deleted.
    pub(crate) is_terminating: bool,
    /// By when it is to be gone then, its grace period included, in seconds. None where that can't be told.
    pub(crate) ends: Option<i64>,
    /// It has ended, one way or the other.
    pub(crate) is_finished: bool,
    /// It has ended, and not well: where it belongs to a group, another takes its place.
    pub(crate) has_failed: bool,
    /// Its containers have been started once.
    pub(crate) has_started: bool,
    /// Nothing of it runs any more: it holds nothing.
    pub(crate) is_over: bool,
}

impl Pod {
    /// Whether planning makes no difference between it and what was known of it before. What its status says of our own
    /// doing isn't read again where the pod is ours.
    pub(crate) fn is_planned_as(&self, new: &Self, is_ours: bool) -> bool {
        let Self { name, uid, labels, kind, holds, node, nominated, scheduler, priority, .. } = self;
        let is_same = *uid == new.uid
            && *name == new.name
            && *labels == new.labels
            && Arc::ptr_eq(kind, &new.kind)
            && *holds == new.holds
            && *node == new.node
            && (is_ours || *nominated == new.nominated)
            && *scheduler == new.scheduler
            && *priority == new.priority;
        let Self { may_preempt, created, stage, claims, gate, problem, pod_group, .. } = self;
        is_same
            && *may_preempt == new.may_preempt
            && *created == new.created
            && Stage { has_started: new.stage.has_started, ..*stage } == new.stage
            && *claims == new.claims
            && *gate == new.gate
            && *problem == new.problem
            && *pod_group == new.pod_group
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &Text {
        &self.kind.namespace
    }
}

/// What pods want that are placed alike. Whatever takes one of them takes any other, but for what their labels say to
/// pods that want or shun company.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) namespace: Text,
    /// What it asks for, over its whole life at once; `pods` among it.
    pub(crate) requests: Amounts,
    /// A resource among these whose devices others may have at the same time.
    pub(crate) shared: Option<ResourceId>,
    /// Labels that a node must have.
    pub(crate) node_selector: Vec<(Text, Text)>,
    /// Required node affinity: one of the terms must hold.
    pub(crate) affinity: Option<Affinity>,
    /// Taints that it tolerates.
    pub(crate) tolerations: Vec<Toleration>,
    /// Ports of the node that it takes.
    pub(crate) ports: Vec<HostPort>,
    /// Features that the node must have declared.
    pub(crate) features: Vec<Text>,
    /// Pods that must be in the same topology.
    pub(crate) company: Vec<PodTerm>,
    /// Pods that must not be.
    pub(crate) shuns: Vec<PodTerm>,
    /// How evenly pods like it must be spread.
    pub(crate) spread: Vec<SpreadConstraint>,
    /// What it wants of volumes, where it wants some that not every node has. Which claims, is said in the pod.
    pub(crate) volumes: Option<Box<KindVolumes>>,
}

impl Kind {
    /// What of it matters once its pod has a node: not any more which nodes it wanted. So a DaemonSet's pods, each of which
    /// wants a node of its own, are of one kind.
    pub(crate) fn on_its_node(self) -> Self {
        let nothing = Self::default();
        let Self { node_selector, affinity, tolerations, features, .. } = nothing;
        Self { node_selector, affinity, tolerations, features, ..self }
    }
}

/// What pods alike want of volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct KindVolumes {
    /// Whether they have claims.
    pub(crate) has_claims: bool,
    /// Disks that they name themselves, and that not every pod can have at the same time.
    pub(crate) disks: Vec<Disk>,
    /// Volumes that they name themselves and that a driver attaches. `Err` where its name makes no sense.
    pub(crate) inline: Vec<Result<Source, String>>,
}

/// A disk that a pod names itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Disk {
    Aws {
        id: Text,
    },
    Gce {
        name: Text,
        read_only: bool,
    },
    Iscsi {
        iqn: Text,
        read_only: bool,
    },
    /// The image with its pool.
    Rbd {
        monitors: Vec<Text>,
        image: Text,
        read_only: bool,
    },
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aws { id } => write!(f, "awsElasticBlockStore {id}"),
            Self::Gce { name, .. } => write!(f, "gcePersistentDisk {name}"),
            Self::Iscsi { iqn, .. } => write!(f, "iscsi {iqn}"),
            Self::Rbd { image, .. } => write!(f, "rbd {image}"),
        }
    }
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodClaim {
    /// `namespace/name`.
    pub(crate) key: Text,
    /// Whether it is made for the pod, and goes with it.
    pub(crate) is_ephemeral: bool,
}

impl Kind {
    /// Whether a pod with these labels, in this namespace with those labels, is all that it wants near; it does want somebody.
    pub(crate) fn wants(&self, labels: &Labels, namespace: &Text, namespace_labels: Option<&Labels>) -> bool {
        let mut terms = self.company.iter();
        !self.company.is_empty() && terms.all(|term| term.matches(labels, namespace, namespace_labels))
    }

    /// Whether where it may go depends on where other pods are.
    pub(crate) fn looks_around(&self) -> bool {
        !self.company.is_empty() || !self.shuns.is_empty() || !self.spread.is_empty()
    }

    /// Whether it depends on pods of other namespaces, where these don't shun it.
    pub(crate) fn looks_abroad(&self) -> bool {
        let is_abroad = |name: &Text| *name != self.namespace;
        let mut terms = self.company.iter().chain(&self.shuns);
        terms.any(|term| term.namespace_selector.is_some() || term.namespaces.iter().any(is_abroad))
    }
}

/// A port of the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) port: i64,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: Text,
    /// The address; `0.0.0.0` is every one.
    pub(crate) address: Text,
}

impl HostPort {
    /// Whether both can't be had on one node.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let is_any = |port: &Self| &*port.address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (is_any(self) || is_any(other) || self.address == other.address)
    }
}

/// Pods that are wanted or shunned within a topology.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodTerm {
    /// Their labels. None matches no pod.
    pub(crate) selector: Option<Selector>,
    /// Their namespaces by name.
    pub(crate) namespaces: Vec<Text>,
    /// Their namespaces by label. None matches no namespace.
    pub(crate) namespace_selector: Option<Selector>,
    /// The node label whose value is the topology.
    pub(crate) topology_key: Text,
}

impl PodTerm {
    /// Whether a pod with these labels, in this namespace with those labels, is meant. A namespace that isn't known is meant
    /// by its name, or where all are.
    pub(crate) fn matches(
        &self,
        labels: &Labels,
        namespace: &Text,
        namespace_labels: Option<&Labels>,
    ) -> bool {
        let is_selected = |selector: &Selector| match namespace_labels {
            Some(labels) => selector.matches(labels),
            None => selector.is_empty(),
        };
        let is_its_namespace = || {
            self.namespaces.contains(namespace) || self.namespace_selector.as_ref().is_some_and(is_selected)
        };
        self.selector.as_ref().is_some_and(|selector| selector.matches(labels)) && is_its_namespace()
    }
}

/// How evenly pods must be spread over the values of a node label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SpreadConstraint {
    /// By how many the fullest may exceed the emptiest.
    pub(crate) max_skew: i64,
    /// With fewer topologies than that, the emptiest counts as empty.
    pub(crate) min_domains: i64,
    pub(crate) topology_key: Text,
    /// Which pods of the namespace are counted. None counts none.
    pub(crate) selector: Option<Selector>,
    /// Whether only nodes count that the pod's selector and affinity allow.
    pub(crate) honours_affinity: bool,
    /// Whether only nodes count whose taints it tolerates.
    pub(crate) honours_taints: bool,
}

/// Required node affinity: a node must satisfy one of the terms; no terms, no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Affinity {
    /// The alternatives.
    #[serde(default)]
    pub(crate) node_selector_terms: Vec<NodeTerm>,
}

/// One alternative: all of its requirements must hold. An empty one holds for no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeTerm {
    /// About the node's labels.
    #[serde(default)]
    pub(crate) match_expressions: Vec<NodeRequirement>,
    /// About the node's fields; `metadata.name` is the only one.
    #[serde(default)]
    pub(crate) match_fields: Vec<NodeRequirement>,
}

/// What one label or field of a node must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct NodeRequirement {
    pub(crate) key: String,
    pub(crate) operator: Operator,
    #[serde(default)]
    pub(crate) values: Vec<String>,
}

/// How a label or field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// A taint that a pod tolerates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Toleration {
    /// The taint's key; none with `Exists` tolerates every key.
    pub(crate) key: String,
    /// `Equal` (the default), `Exists`, `Gt` or `Lt`.
    pub(crate) operator: String,
    /// The taint's value.
    pub(crate) value: String,
    /// The taint's effect; none tolerates every effect.
    pub(crate) effect: String,
    /// Only `NoExecute` counts it, after placement.
    toleration_seconds: Option<i64>,
}

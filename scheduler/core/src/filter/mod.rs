//! Whether a pod may go to a node, and if not, why: the rules of kube-scheduler's filters of the same names, and two of
//! ours: the GPUs that a node shares are shared by the pods of one namespace, and beside a pod that can't be read nothing
//! more is placed.

mod affinity;
mod company;
mod spread;
mod taints;
mod volumes;

use std::fmt;

use crate::{
    labels::Text,
    node::Node,
    pod::{HostPort, Kind},
    read::Shared,
};

pub(crate) use company::Company;
pub(crate) use spread::Spreading;
pub use volumes::VolumeFilter;
pub(crate) use volumes::{VolumeNeeds, reaches};

/// Why a node can't take a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It is cordoned.
    Unschedulable,
    /// A taint that the pod doesn't tolerate: `key=value:effect`.
    UntoleratedTaint(String),
    /// A label that `nodeSelector` asks for: `key=value`.
    NodeSelector(String),
    /// No term of the required node affinity holds.
    NodeAffinity,
    /// A feature that its kubelet hasn't declared.
    MissingFeature(String),
    /// A port that another pod has: `80/TCP`.
    HostPort(String),
    /// Too little of a resource is free.
    Insufficient(String),
    /// Pods of another namespace have shares of its GPUs: the resource that is shared.
    SharedByAnother(String),
    /// What a pod on it holds can't be read: `namespace/name`.
    UnreadablePod(String),
    /// No pod is near that must be: the topology's label.
    PodAffinity(String),
    /// A pod is near that must not be: the topology's label.
    PodAntiAffinity(String),
    /// A pod is near that wants no such pod near: the topology's label.
    OthersAntiAffinity(String),
    /// Too many pods alike would be in one topology: its label.
    TopologySpread(String),
    /// It lacks the topology's label by which pods are to be spread.
    NoTopology(String),
    /// A pod on it has a disk that can't be had twice.
    DiskInUse(String),
    /// A claim that one pod alone may use has one.
    ClaimInUse(String),
    /// A claim can't be used, wherever the pod goes: which, and why. By kube-scheduler, several filters say that.
    ClaimNotUsable(VolumeFilter, String),
    /// A driver can't attach so many volumes more there.
    TooManyVolumes(String),
    /// It lacks a driver.
    DriverMissing(String),
    /// A claim's volume isn't there.
    VolumeMissing(String),
    /// It doesn't reach a volume.
    VolumeAffinity(String),
    /// There is no volume for a claim that it reaches, and none can be made there.
    NoVolume(String),
    /// A volume for a claim could be made there, were there not too little room.
    StorageFull(String),
    /// A volume's labels say that it is elsewhere.
    VolumeElsewhere(String),
}

impl Refusal {
    /// As it appears in a Gang's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unschedulable => "NodeUnschedulable",
            Self::UntoleratedTaint(_) => "UntoleratedTaint",
            Self::NodeSelector(_) => "NodeSelectorMismatch",
            Self::NodeAffinity => "NodeAffinityMismatch",
            Self::MissingFeature(_) => "NodeFeatureMissing",
            Self::HostPort(_) => "HostPortInUse",
            Self::Insufficient(_) => "InsufficientResource",
            Self::SharedByAnother(_) => "SharedByAnotherNamespace",
            Self::UnreadablePod(_) => "UnreadablePod",
            Self::PodAffinity(_) => "PodAffinityMismatch",
            Self::PodAntiAffinity(_) => "PodAntiAffinityMismatch",
            Self::OthersAntiAffinity(_) => "ExistingPodsAntiAffinityMismatch",
            Self::TopologySpread(_) => "TopologySpreadSkew",
            Self::NoTopology(_) => "TopologyLabelMissing",
            Self::DiskInUse(_) => "DiskInUse",
            Self::ClaimInUse(_) => "ClaimInUse",
            Self::ClaimNotUsable(..) => "ClaimNotUsable",
            Self::TooManyVolumes(_) => "VolumeLimitReached",
            Self::DriverMissing(_) => "CSIDriverMissing",
            Self::VolumeMissing(_) => "VolumeMissing",
            Self::VolumeAffinity(_) => "VolumeNodeAffinityMismatch",
            Self::NoVolume(_) => "NoVolumeToBind",
            Self::StorageFull(_) => "StorageCapacityExceeded",
            Self::VolumeElsewhere(_) => "VolumeZoneMismatch",
        }
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        match self {
            Self::Unschedulable => "spec.unschedulable",
            Self::NodeAffinity => "spec.affinity.nodeAffinity",
            Self::UntoleratedTaint(subject)
            | Self::NodeSelector(subject)
            | Self::MissingFeature(subject)
            | Self::HostPort(subject)
            | Self::Insufficient(subject)
            | Self::SharedByAnother(subject)
            | Self::UnreadablePod(subject)
            | Self::PodAffinity(subject)
            | Self::PodAntiAffinity(subject)
            | Self::OthersAntiAffinity(subject)
            | Self::TopologySpread(subject)
            | Self::NoTopology(subject)
            | Self::DiskInUse(subject)
            | Self::ClaimInUse(subject)
            | Self::ClaimNotUsable(_, subject)
            | Self::TooManyVolumes(subject)
            | Self::DriverMissing(subject)
            | Self::VolumeMissing(subject)
            | Self::VolumeAffinity(subject)
            | Self::NoVolume(subject)
            | Self::StorageFull(subject)
            | Self::VolumeElsewhere(subject) => subject,
        }
    }

    /// kube-scheduler's filter of the same rule. None where the rule is ours alone.
    pub fn filter(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unschedulable => "NodeUnschedulable",
            Self::UntoleratedTaint(_) => "TaintToleration",
            Self::NodeSelector(_) | Self::NodeAffinity => "NodeAffinity",
            Self::MissingFeature(_) => "NodeDeclaredFeatures",
            Self::HostPort(_) => "NodePorts",
            Self::Insufficient(_) => "NodeResourcesFit",
            Self::PodAffinity(_) | Self::PodAntiAffinity(_) | Self::OthersAntiAffinity(_) => {
                "InterPodAffinity"
            }
            Self::TopologySpread(_) | Self::NoTopology(_) => "PodTopologySpread",
            Self::ClaimNotUsable(filter, _) => filter.name(),
            Self::DiskInUse(_) | Self::ClaimInUse(_) => VolumeFilter::Restrictions.name(),
            Self::TooManyVolumes(_) | Self::DriverMissing(_) => VolumeFilter::Limits.name(),
            Self::VolumeMissing(_) | Self::VolumeAffinity(_) | Self::NoVolume(_) | Self::StorageFull(_) => {
                VolumeFilter::Binding.name()
            }
            Self::VolumeElsewhere(_) => VolumeFilter::Zone.name(),
            Self::SharedByAnother(_) | Self::UnreadablePod(_) => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.reason(), self.subject())
    }
}

/// A rule that only looks at the node itself.
type Rule = fn(&Kind, &Node, &Shared) -> Option<Refusal>;

/// The rules that only look at the node itself, whoever is on it.
const LASTING: [Rule; 4] = [cordon, taints::untolerated, affinity::mismatch, features];

/// The rules that look at who else is on the node, and not at how much is free there.
const PASSING: [Rule; 3] = [ports, shared_by_another, unreadable];

/// The first rule that the node breaks, whatever is free on it and wherever other pods are.
pub(crate) fn refusal(kind: &Kind, node: &Node, shared: &Shared) -> Option<Refusal> {
    rules().find_map(|rule| rule(kind, node, shared))
}

/// Whether it breaks none: [`refusal`] without words, for those who ask thousands of nodes.
pub(crate) fn allows(kind: &Kind, node: &Node) -> bool {
    !is_lasting_refusal(kind, node)
        && taken_port(kind, node).is_none()
        && !is_anothers(kind, node)
        && node.unreadable.is_empty()
}

/// Whether the node breaks a rule that it would break with nobody on it, too.
pub(crate) fn is_lasting_refusal(kind: &Kind, node: &Node) -> bool {
    is_cordoned(kind, node)
        || !affinity::matches(kind, node)
        || !taints::are_tolerated(kind, node)
        || missing_feature(kind, node).is_some()
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    LASTING.iter().chain(&PASSING)
}

/// Every rule that the node breaks, what is free on it among them.
pub(crate) fn refusals(kind: &Kind, node: &Node, shared: &Shared) -> Vec<Refusal> {
    let broken = rules().filter_map(|rule| rule(kind, node, shared));
    broken.chain(insufficient(kind, node, shared)).collect()
}

fn is_cordoned(kind: &Kind, node: &Node) -> bool {
    node.unschedulable && !taints::tolerates_cordon(&kind.tolerations)
}

fn cordon(kind: &Kind, node: &Node, _: &Shared) -> Option<Refusal> {
    is_cordoned(kind, node).then_some(Refusal::Unschedulable)
}

fn missing_feature<'a>(kind: &'a Kind, node: &Node) -> Option<&'a Text> {
    kind.features.iter().find(|feature| !node.features.contains(feature))
}

fn features(kind: &Kind, node: &Node, _: &Shared) -> Option<Refusal> {
    Some(Refusal::MissingFeature(missing_feature(kind, node)?.to_string()))
}

fn taken_port<'a>(kind: &'a Kind, node: &Node) -> Option<&'a HostPort> {
    kind.ports.iter().find(|port| node.ports.iter().any(|other| other.collides(port)))
}

fn ports(kind: &Kind, node: &Node, _: &Shared) -> Option<Refusal> {
    let taken = taken_port(kind, node)?;
    Some(Refusal::HostPort(format!("{}/{}", taken.port, taken.protocol)))
}

/// Which of its GPUs a pod gets isn't known before the node hands them out, so the whole node is one namespace's.
fn is_anothers(kind: &Kind, node: &Node) -> bool {
    kind.shared.is_some() && node.sharing.iter().any(|namespace| *namespace != kind.namespace)
}

fn shared_by_another(kind: &Kind, node: &Node, shared: &Shared) -> Option<Refusal> {
    let resource = kind.shared.filter(|_| is_anothers(kind, node))?;
    Some(Refusal::SharedByAnother(shared.resources.name(resource).to_owned()))
}

fn unreadable(_: &Kind, node: &Node, _: &Shared) -> Option<Refusal> {
    node.unreadable.first().cloned().map(Refusal::UnreadablePod)
}

/// The first resource of which too little is free. Asking for nothing always fits.
fn insufficient(kind: &Kind, node: &Node, shared: &Shared) -> Option<Refusal> {
    let lacks = |(id, asked): &(_, i64)| *asked > 0 && *asked > node.free(*id);
    let (id, _) = kind.requests.iter().find(lacks)?;
    Some(Refusal::Insufficient(shared.resources.name(id).to_owned()))
}

#[cfg(test)]
mod tests;

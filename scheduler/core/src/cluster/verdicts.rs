//! What every rule says about a pod and each node: what is compared with kube-scheduler.

use super::Cluster;
use crate::{
    filter::{self, Company, Refusal, Spreading, VolumeNeeds},
    pod::{Kind, Pod},
};

/// What the rules say about a pod and one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node's name.
    pub node: String,
    /// Every rule that it breaks.
    pub refusals: Vec<Refusal>,
}

impl Cluster {
    /// What every rule says about a pod that is known, and each node. Nothing where the pod isn't known.
    pub fn verdicts(&self, uid: &str) -> Vec<Verdict> {
        let Some(known) = self.known_by_uid(uid) else { return Vec::new() };
        let kind = &*known.pod.kind;
        let (company, spreading) = (self.company(&known.pod), self.spreading(&known.pod));
        let volumes = kind.volumes.as_ref().map(|_| VolumeNeeds::new(self, &known.pod));
        let verdict = |node| {
            let own = filter::refusals(kind, node, &self.shared);
            let around = [company.refusal(kind, node), spreading.refusal(kind, node)];
            Verdict {
                node: node.name.to_string(),
                refusals: own
                    .into_iter()
                    .chain(around.into_iter().flatten())
                    .chain(volumes.iter().flat_map(|volumes| volumes.refusals(node)))
                    .collect(),
            }
        };
        self.existing().map(|(_, node)| verdict(node)).collect()
    }

    /// Why this scheduler doesn't take the pod on, where it doesn't.
    pub fn problem(&self, uid: &str) -> Option<String> {
        self.known_by_uid(uid)?.pod.problem.as_ref().map(ToString::to_string)
    }

    /// What the pods around say to a pod.
    pub(crate) fn company(&self, pod: &Pod) -> Company {
        let kind = &*pod.kind;
        let mut company = Company::new(pod.labels.clone(), self.namespace_labels(pod.namespace()).cloned());
        let is_choosy = !kind.company.is_empty() || !kind.shuns.is_empty();
        // Only where the pod itself asks is everybody looked at; else those who shun it are enough.
        if is_choosy {
            for (other, node) in self.placed() {
                let namespace_labels = self.namespace_labels(other.namespace());
                company.count(kind, (&other.kind, &other.labels, namespace_labels), node, 1);
            }
        } else {
            let shunning = self.shunning(&pod.labels, pod.namespace());
            shunning.for_each(|(term, node)| company.is_shunned_by(term, node));
        }
        company
    }

    /// How pods like it are spread.
    pub(crate) fn spreading(&self, pod: &Pod) -> Spreading {
        let kind: &Kind = &pod.kind;
        let mut spreading = Spreading::new(kind, pod.labels.clone(), self.existing().map(|(_, node)| node));
        if !kind.spread.is_empty() {
            for (other, node) in self.placed().filter(|(other, _)| !other.stage.is_terminating) {
                spreading.count(kind, (&other.kind, &other.labels), node, 1);
            }
            spreading.sum_up();
        }
        spreading
    }
}

//! The pods on nodes that want certain pods not to be near them, found by the labels of those.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    labels::{Labels, Text},
    node::PodId,
    pod::{Kind, PodTerm},
};

/// Pods by what they shun.
#[derive(Debug, Default)]
pub(crate) struct Shunning {
    /// Terms that ask for one of some values of a label, by label and value.
    by_label: HashMap<(Text, Text), HashMap<PodTerm, BTreeSet<PodId>>>,
    /// Other terms.
    others: HashMap<PodTerm, BTreeSet<PodId>>,
}

impl Shunning {
    /// A pod is on a node from now on.
    pub(super) fn add(&mut self, id: PodId, kind: &Kind) {
        for term in &kind.shuns {
            match anchors(term) {
                Some(anchors) => {
                    for anchor in anchors {
                        let terms = self.by_label.entry(anchor).or_default();
                        terms.entry(term.clone()).or_default().insert(id);
                    }
                }
                None => {
                    self.others.entry(term.clone()).or_default().insert(id);
                }
            }
        }
    }

    /// It isn't any more.
    pub(super) fn remove(&mut self, id: PodId, kind: &Kind) {
        for term in &kind.shuns {
            match anchors(term) {
                Some(anchors) => {
                    for anchor in anchors {
                        let Some(terms) = self.by_label.get_mut(&anchor) else { continue };
                        take(terms, term, id);
                        if terms.is_empty() {
                            self.by_label.remove(&anchor);
                        }
                    }
                }
                None => take(&mut self.others, term, id),
            }
        }
    }

    /// The terms that may be about a pod with these labels, and who has them.
    pub(super) fn about<'a>(
        &'a self,
        labels: &'a Labels,
    ) -> impl Iterator<Item = (&'a PodTerm, &'a BTreeSet<PodId>)> {
        let by_label = labels
            .iter()
            .filter_map(|(key, value)| self.by_label.get(&(key.clone(), value.clone())))
            .flatten();
        by_label.chain(&self.others)
    }

    /// Every term.
    pub(super) fn terms(&self) -> impl Iterator<Item = &PodTerm> {
        let anchored = self.by_label.values().flat_map(HashMap::keys);
        anchored.chain(self.others.keys())
    }
}

/// Labels of which a pod must have one for the term to be about it; nothing where that can't be said.
fn anchors(term: &PodTerm) -> Option<HashSet<(Text, Text)>> {
    term.selector.as_ref()?.anchors()
}

fn take(terms: &mut HashMap<PodTerm, BTreeSet<PodId>>, term: &PodTerm, id: PodId) {
    let Some(pods) = terms.get_mut(term) else { return };
    pods.remove(&id);
    if pods.is_empty() {
        terms.remove(term);
    }
}

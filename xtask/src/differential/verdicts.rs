//! What filters say of pods and nodes, and where two of them differ.

use std::collections::BTreeMap;

/// A node that a filter refuses to a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refused {
    pub(super) node: String,
    pub(super) filter: String,
}

/// All refusals of one case, in the order of its incoming pods, with what was said.
pub(super) type Verdicts = Vec<BTreeMap<Refused, String>>;

/// A verdict that isn't the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which of the incoming pods.
    pub(super) pod: usize,
    pub(super) refused: Refused,
    /// What kube-scheduler says; nothing where it lets the pod pass.
    pub(super) theirs: Option<String>,
    /// What our filter says; nothing where it lets the pod pass.
    pub(super) ours: Option<String>,
}

/// Every verdict that only one side gives as a refusal.
pub(super) fn differences(theirs: &Verdicts, ours: &Verdicts) -> Vec<Difference> {
    let mut found = Vec::new();
    for (pod, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
        let one_sided = theirs.keys().filter(|refused| !ours.contains_key(refused));
        let other_sided = ours.keys().filter(|refused| !theirs.contains_key(refused));
        for refused in one_sided.chain(other_sided) {
            found.push(Difference {
                pod,
                refused: refused.clone(),
                theirs: theirs.get(refused).cloned(),
                ours: ours.get(refused).cloned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(node: &str, filter: &str) -> (Refused, String) {
        (Refused { node: node.to_owned(), filter: filter.to_owned() }, "why".to_owned())
    }

    #[test]
    fn a_refusal_of_one_side_differs_whichever_it_is() {
        let theirs = vec![BTreeMap::from([refused("a", "F"), refused("b", "F")]), BTreeMap::new()];
        let ours = vec![BTreeMap::from([refused("b", "F")]), BTreeMap::from([refused("a", "F")])];
        let found = differences(&theirs, &ours);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].pod, found[0].theirs.is_some(), found[0].ours.is_some()), (0, true, false));
        assert_eq!((found[1].pod, found[1].theirs.is_some(), found[1].ours.is_some()), (1, false, true));
        assert!(differences(&theirs, &theirs).is_empty());
    }
}

//! Recorded verdicts of kube-scheduler, so that a slice of the comparison runs where there is no Go.
//!
//! The cases aren't recorded: they are made again from their seed. A digest of them tells where that makes others.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    KUBERNETES,
    case::Case,
    themes,
    verdicts::{Refused, Verdicts},
};
use crate::paths;

/// How many cases: a second or two.
const CASES: u64 = 300;
/// Their seed.
const SEED: u64 = 2026;

/// What is in the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recorded {
    kubernetes: String,
    seed: u64,
    /// Of the cases as they were when this was recorded.
    digest: String,
    /// kube-scheduler's, in its order.
    filters: Vec<String>,
    /// For each case, incoming pod and node: the filters that refuse, as the sum of 2 to the power of their places.
    refused: Vec<Vec<Vec<u32>>>,
}

impl Recorded {
    fn path() -> PathBuf {
        paths::repository().join("xtask/src/differential/recorded.json")
    }

    /// Asks kube-scheduler about every case, and writes the file.
    pub(super) fn write(filters: &[String], mut ask: impl FnMut(&Case) -> Result<Verdicts>) -> Result<()> {
        let mut refused = Vec::new();
        for case in cases() {
            refused.push(packed(&case, &ask(&case)?, filters));
        }
        let recorded = Self {
            kubernetes: KUBERNETES.to_owned(),
            seed: SEED,
            digest: digest()?,
            filters: filters.to_vec(),
            refused,
        };
        // A case on a line: what changes is seen.
        let text = serde_json::to_string(&recorded).context("write the recorded verdicts")?;
        let text = text.replace("]],[[", "]],\n[[") + "\n";
        std::fs::write(Self::path(), text).with_context(|| format!("write {}", Self::path().display()))
    }
}

fn cases() -> impl Iterator<Item = Case> {
    (0..CASES).map(|number| themes::case(SEED, number))
}

fn digest() -> Result<String> {
    let mut hasher = Sha256::new();
    for case in cases() {
        hasher.update(serde_json::to_vec(&case).context("write a case")?);
    }
    Ok(hex::encode(&hasher.finalize()[..8]))
}

/// A case's verdicts as numbers.
fn packed(case: &Case, verdicts: &Verdicts, filters: &[String]) -> Vec<Vec<u32>> {
    let nodes = case.node_names();
    let bits = |of_pod: &std::collections::BTreeMap<Refused, String>, node: &String| {
        let refuses =
            |filter: &String| of_pod.contains_key(&Refused { node: node.clone(), filter: filter.clone() });
        filters.iter().enumerate().map(|(place, filter)| u32::from(refuses(filter)) << place).sum()
    };
    verdicts.iter().map(|of_pod| nodes.iter().map(|node| bits(of_pod, node)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{case::name, ours};

    #[test]
    fn our_filters_say_what_kube_scheduler_was_recorded_to_say() {
        let text = std::fs::read_to_string(Recorded::path()).expect("the recorded verdicts");
        let recorded: Recorded = serde_json::from_str(&text).expect("recorded verdicts");
        let fresh = (recorded.kubernetes.as_str(), recorded.seed, recorded.refused.len() as u64);
        let again = "cargo xtask differential --record";
        assert_eq!(fresh, (KUBERNETES, SEED, CASES), "stale: run {again}");
        assert_eq!(recorded.digest, digest().expect("a digest"), "the cases are others now: run {again}");
        let mut refusals = vec![0; recorded.filters.len()];
        for (number, (case, theirs)) in cases().zip(&recorded.refused).enumerate() {
            let ours = packed(&case, &ours::verdicts(&case).expect("verdicts"), &recorded.filters);
            for (pod, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                for (node, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                    for (place, filter) in recorded.filters.iter().enumerate() {
                        let (ours, theirs) = (ours >> place & 1, theirs >> place & 1);
                        refusals[place] += theirs;
                        assert!(
                            ours == theirs,
                            "case {number} of seed {SEED}: {filter}, pod {} on node {}: kube-scheduler {}, ours {}",
                            name(&case.incoming[pod]),
                            name(&case.nodes[node]),
                            if theirs == 1 { "refuses" } else { "lets it pass" },
                            if ours == 1 { "refuses" } else { "lets it pass" },
                        );
                    }
                }
            }
        }
        assert!(refusals.iter().all(|count| *count > 40), "a filter that hardly refuses: {refusals:?}");
    }
}

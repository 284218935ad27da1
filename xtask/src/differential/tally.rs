//! What a run has compared, filter by filter, and whether it was enough.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    KUBERNETES,
    case::{Case, name},
    ours::{DETOUR, PLAN},
    verdicts::{Difference, Refused, Verdicts},
};

/// Fewer verdicts than this prove too little.
const VERDICTS: u64 = 20_000;
/// Nor does a filter that was hardly ever the only one to refuse a node.
const ALONE: u64 = 200;

/// Of one filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct OfFilter {
    /// Pairs of pod and node that it judged.
    pub(super) verdicts: u64,
    /// Those that kube-scheduler's filter refused.
    pub(super) refused: u64,
    /// Those that none but it refused.
    pub(super) alone: u64,
    /// Those where ours said something else.
    pub(super) different: u64,
}

/// Of all of them.
pub(super) struct Tally {
    /// In kube-scheduler's order.
    pub(super) filters: Vec<(String, OfFilter)>,
    pub(super) pairs: u64,
    /// Pods whose plan went against our own verdicts.
    pub(super) against_plan: u64,
    /// Pods of which something else was said where the cluster came to be by a detour.
    pub(super) after_detour: u64,
}

impl Tally {
    pub(super) fn new(filters: &[String]) -> Self {
        let one = |filter: &String| (filter.clone(), OfFilter::default());
        Self { filters: filters.iter().map(one).collect(), pairs: 0, against_plan: 0, after_detour: 0 }
    }

    pub(super) fn add(&mut self, case: &Case, theirs: &Verdicts, differences: &[Difference]) {
        let pairs = (case.nodes.len() * case.incoming.len()) as u64;
        self.pairs += pairs;
        for (_, counts) in &mut self.filters {
            counts.verdicts += pairs;
        }
        for of_pod in theirs {
            for node in &case.nodes {
                let node = name(node);
                let refused: Vec<&Refused> = of_pod.keys().filter(|refused| refused.node == node).collect();
                for one in &refused {
                    self.count(&one.filter, |counts| counts.refused += 1);
                }
                if let [only] = refused.as_slice() {
                    self.count(&only.filter, |counts| counts.alone += 1);
                }
            }
        }
        for difference in differences {
            self.against_plan += u64::from(difference.refused.filter == PLAN);
            self.after_detour += u64::from(difference.refused.filter == DETOUR);
            self.count(&difference.refused.filter, |counts| counts.different += 1);
        }
    }

    fn count(&mut self, filter: &str, what: impl FnOnce(&mut OfFilter)) {
        if let Some((_, counts)) = self.filters.iter_mut().find(|(name, _)| name == filter) {
            what(counts);
        }
    }

    pub(super) fn sum(&self, of: impl Fn(&OfFilter) -> u64) -> u64 {
        self.filters.iter().map(|(_, counts)| of(counts)).sum()
    }

    /// What is wrong with the run, in words; nothing where all is well.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let verdicts = self.sum(|counts| counts.verdicts);
        if verdicts < VERDICTS {
            found.push(format!("only {verdicts} verdicts: {VERDICTS} are needed, raise --cases"));
        }
        if self.against_plan > 0 {
            found.push(format!("{} pods are planned against our own verdicts", self.against_plan));
        }
        if self.after_detour > 0 {
            found.push(format!(
                "{} pods are judged by the order in which things were heard of",
                self.after_detour
            ));
        }
        for (filter, counts) in &self.filters {
            if counts.different > 0 {
                found.push(format!("{filter}: {} of {} verdicts differ", counts.different, counts.verdicts));
            }
            if counts.alone < ALONE {
                found.push(format!(
                    "{filter} is the only one to refuse a node {} times: {ALONE} are needed, raise --cases",
                    counts.alone
                ));
            }
        }
        found
    }

    /// What is told to programs.
    pub(super) fn told(&self, cases: u64, seed: u64, seconds: f64) -> Told<'_> {
        Told {
            verdicts: self.sum(|counts| counts.verdicts),
            different: self.sum(|counts| counts.different),
            pairs: self.pairs,
            against_plan: self.against_plan,
            after_detour: self.after_detour,
            cases,
            seed,
            kubernetes: KUBERNETES,
            seconds: (seconds * 10.0).round() / 10.0,
            filters: self.filters.iter().map(|(name, counts)| (name.as_str(), *counts)).collect(),
        }
    }
}

/// A run, as a line of JSON.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    verdicts: u64,
    different: u64,
    pairs: u64,
    against_plan: u64,
    after_detour: u64,
    cases: u64,
    seed: u64,
    kubernetes: &'static str,
    seconds: f64,
    filters: BTreeMap<&'a str, OfFilter>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:22} {:>9} {:>9} {:>7} {:>9}", "filter", "verdicts", "refused", "alone", "different")?;
        for (name, counts) in &self.filters {
            let OfFilter { verdicts, refused, alone, different } = counts;
            writeln!(f, "{name:22} {verdicts:>9} {refused:>9} {alone:>7} {different:>9}")?;
        }
        let (verdicts, different) = (self.sum(|counts| counts.verdicts), self.sum(|counts| counts.different));
        writeln!(
            f,
            "{verdicts} verdicts about {} pairs of pod and node, {different} different from kube-scheduler {KUBERNETES}'s",
            self.pairs
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tally(verdicts: u64, alone: u64, different: u64) -> Tally {
        let counts = OfFilter { verdicts, alone, different, ..OfFilter::default() };
        Tally { filters: vec![("F".to_owned(), counts)], pairs: verdicts, against_plan: 0, after_detour: 0 }
    }

    #[test]
    fn a_run_fails_for_each_of_its_reasons() {
        assert!(tally(VERDICTS, ALONE, 0).shortcomings().is_empty());
        assert_eq!(tally(VERDICTS - 1, ALONE, 0).shortcomings().len(), 1);
        assert_eq!(tally(VERDICTS, ALONE - 1, 0).shortcomings().len(), 1);
        assert_eq!(tally(VERDICTS, ALONE, 1).shortcomings().len(), 1);
        let planned = Tally { against_plan: 1, ..tally(VERDICTS, ALONE, 0) };
        assert_eq!(planned.shortcomings().len(), 1);
        let detour = Tally { after_detour: 1, ..tally(VERDICTS, ALONE, 0) };
        assert_eq!(detour.shortcomings().len(), 1);
    }

    #[test]
    fn a_refusal_is_alone_where_no_other_filter_refuses_the_node() {
        let node = |name: &str| json!({ "metadata": { "name": name } });
        let case = Case { nodes: vec![node("a"), node("b")], incoming: vec![json!({})], ..Case::default() };
        let refused = |node: &str, filter: &str| {
            (Refused { node: node.to_owned(), filter: filter.to_owned() }, String::new())
        };
        let theirs = vec![BTreeMap::from([refused("a", "F"), refused("b", "F"), refused("b", "G")])];
        let names = ["F".to_owned(), "G".to_owned()];
        let mut tally = Tally::new(&names);
        tally.add(&case, &theirs, &[]);
        let (f, g) = (tally.filters[0].1, tally.filters[1].1);
        assert_eq!((f.verdicts, f.refused, f.alone), (2, 2, 1));
        assert_eq!((g.verdicts, g.refused, g.alone), (2, 1, 0));
        let told = serde_json::to_string(&tally.told(1, 1, 1.0)).expect("JSON");
        assert!(told.starts_with("{\"verdicts\":4,\"different\":0,"), "{told}");
    }
}

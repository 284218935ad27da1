//! `docs/reference/scheduler-differential.md`: the table as it is published, written by a run.

use std::{fmt::Write as _, path::PathBuf};

use super::{
    Arguments, KUBERNETES,
    tally::{OfFilter, Tally},
    themes::THEMES,
};
use crate::paths;

/// Where it is.
pub(super) fn file() -> PathBuf {
    paths::repository().join("docs/reference/scheduler-differential.md")
}

/// The page.
pub(super) fn of(tally: &Tally, arguments: &Arguments) -> String {
    let (verdicts, different) = (tally.sum(|counts| counts.verdicts), tally.sum(|counts| counts.different));
    let mut page = format!(
        "# Scheduler: compared with kube-scheduler\n\n\
         Random nodes and pods go through our scheduler's filters and through kube-scheduler {KUBERNETES}'s own: its framework, \
         its cache and its plugins with their default arguments and the default feature gates, linked into a small program \
         (`e2e/scheduler-oracle`). Each filter is asked of each pair of pod and node by itself, so that no refusal hides \
         another. **{verdicts} verdicts, {different} different**, about {} pairs of pod and node in {} clusters \
         (seed {}).\n\n\
         Every object is one that Kubernetes' own validation takes, in the form in which it is stored. *Alone* counts the pairs \
         that no other filter refused: what the filter says is all that kept the pod away. A run fails where a verdict differs, \
         where a filter has fewer than 200 of these, or where there are fewer than 20,000 verdicts. It fails, too, where our plan \
         places a pod on a node that a filter refuses, or holds one for which there is a node that none refuses; and where our verdicts change with the \
         order in which the cluster was heard of.\n\n\
         | filter | what is varied | verdicts | refused | alone | different |\n\
         | --- | --- | --: | --: | --: | --: |\n",
        tally.pairs, arguments.cases, arguments.seed,
    );
    for (name, counts) in &tally.filters {
        let OfFilter { verdicts, refused, alone, different } = counts;
        let _ = writeln!(page, "{} {verdicts} | {refused} | {alone} | {different} |", listing(name));
    }
    page.push_str(END);
    page
}

const END: &str = "\n\
    A pod that names its node is, to us, on that node: every other one is refused. kube-scheduler's other default filter, \
    `DynamicResources`, is left out: pods with device claims are refused by the field's name. Two rules of ours are stricter than \
    kube-scheduler and have no filter of that name: GPUs that a node shares are one namespace's, and beside a pod whose requests \
    can't be read nothing more is placed. A node that is being deleted takes nobody, as if it were cordoned. A pod that has ended holds its part for us until its containers are said to have \
    stopped; for kube-scheduler it is gone at once.\n\n\
    ```console\n\
    $ cargo xtask differential --cases 3000 --seed 1 --json   # a difference is shrunk and shown, with both verdicts\n\
    $ cargo xtask differential --publish                      # writes this page\n\
    $ cargo xtask differential --record                       # writes the verdicts that the unit tests compare, without Go\n\
    ```\n";

/// The part of a line that a run doesn't change.
fn listing(filter: &str) -> String {
    let varies = THEMES.iter().find(|theme| theme.filter == filter).map_or("", |theme| theme.varies);
    format!("| `{filter}` | {varies} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_just_what_is_varied() {
        let page = std::fs::read_to_string(file()).expect("the page");
        for theme in THEMES {
            let listed = page.lines().filter(|line| line.starts_with(&listing(theme.filter))).count();
            assert_eq!(listed, 1, "{}: run cargo xtask differential --publish", theme.filter);
        }
        let lines = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(lines, THEMES.len(), "run cargo xtask differential --publish");
        assert!(page.ends_with(END), "run cargo xtask differential --publish");
    }
}

//! `cargo xtask differential`: random nodes and pods through our scheduler's filters and through kube-scheduler's own.
//!
//! Each case is a small cluster with pods that wait. Every filter is asked of every pair of pod and node by itself, on both
//! sides, and no verdict may differ. Our plan for the pod must keep to the verdicts, and they must be the same in whichever order
//! the cluster was heard of.

mod base;
mod case;
mod oracle;
mod ours;
mod page;
mod random;
mod record;
mod shrink;
mod tally;
mod themes;
mod verdicts;

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use case::Case;
use oracle::Oracle;
use record::Recorded;
use tally::Tally;
use verdicts::Difference;

use crate::{paths, progress};

/// Whose filters are the truth.
pub(crate) const KUBERNETES: &str = "1.37.2";

/// How many differences are shrunk and shown: one cause makes many.
const SHOWN: usize = 3;

/// How much is compared, and where it goes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many random clusters.
    #[arg(long, default_value_t = 3000)]
    cases: u64,
    /// What makes the cases: the same seed makes the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Write docs/reference/scheduler-differential.md, where all is well.
    #[arg(long)]
    publish: bool,
    /// Write the verdicts of kube-scheduler that the unit tests compare with, and nothing else.
    #[arg(long, conflicts_with_all = ["json", "publish"])]
    record: bool,
}

/// Compares; fails where a verdict differs or too little was compared.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut oracle = Oracle::start()?;
    let varied: Vec<&str> = themes::THEMES.iter().map(|theme| theme.filter).collect();
    ensure!(
        oracle.filters == varied,
        "kube-scheduler filters by {:?}, and we vary {varied:?}",
        oracle.filters
    );
    if arguments.record {
        return Recorded::write(&oracle.filters.clone(), |case| oracle.ask(case));
    }
    let begun = Instant::now();
    let mut tally = Tally::new(&oracle.filters);
    let title = format!("{} random clusters, seed {}", arguments.cases, arguments.seed);
    let found = progress::step(&title, None, || compare(arguments, &mut oracle, &mut tally))?;
    for (number, difference) in &found {
        show(*number, arguments.seed, difference, &mut oracle)?;
    }
    if arguments.json {
        let told = tally.told(arguments.cases, arguments.seed, begun.elapsed().as_secs_f64());
        println!("{}", serde_json::to_string(&told).context("write the figures")?);
    } else {
        print!("{tally}");
    }
    let short = tally.shortcomings();
    ensure!(short.is_empty(), "{}", short.join("; "));
    if arguments.publish {
        std::fs::write(page::file(), page::of(&tally, arguments)).context("write the page")?;
    }
    Ok(())
}

/// All cases; the first differences, each of another filter, with the number of its case.
fn compare(arguments: &Arguments, oracle: &mut Oracle, tally: &mut Tally) -> Result<Vec<(u64, Difference)>> {
    let mut found: Vec<(u64, Difference)> = Vec::new();
    for number in 0..arguments.cases {
        let case = themes::case(arguments.seed, number);
        let theirs = oracle.ask(&case).with_context(|| format!("case {number}"))?;
        let ours = ours::verdicts(&case).with_context(|| format!("case {number}"))?;
        let differences = verdicts::differences(&theirs, &ours);
        tally.add(&case, &theirs, &differences);
        for difference in differences {
            let is_new = found.iter().all(|(_, known)| known.refused.filter != difference.refused.filter);
            if is_new && found.len() < SHOWN {
                found.push((number, difference));
            }
        }
    }
    Ok(found)
}

/// Shrinks a case to what shows the difference, and shows it.
fn show(number: u64, seed: u64, difference: &Difference, oracle: &mut Oracle) -> Result<()> {
    let filter = difference.refused.filter.clone();
    let mut look = |case: &Case| -> Option<Difference> {
        let theirs = oracle.ask(case).ok()?;
        let ours = ours::verdicts(case).ok()?;
        let same_way = |found: &Difference| {
            found.refused.filter == filter && found.theirs.is_some() == difference.theirs.is_some()
        };
        verdicts::differences(&theirs, &ours).into_iter().find(same_way)
    };
    let small = shrink::shrink(themes::case(seed, number), |case| look(case).is_some());
    let last = look(&small).context("the difference is gone: a verdict changes by itself")?;
    let file = paths::logs()?.join(format!("differential-{seed}-{number}-{filter}.yaml"));
    let text = serde_saphyr::to_string(&small).context("write a case")?;
    std::fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
    let is_our_own = [ours::PLAN, ours::DETOUR].contains(&filter.as_str());
    let say = |verdict: &Option<String>| match verdict {
        Some(why) if is_our_own => why.clone(),
        Some(why) => format!("refuses it ({why})"),
        None if is_our_own => "has no part in it".to_owned(),
        None => "lets it pass".to_owned(),
    };
    let pod = small.incoming.get(last.pod).map(case::name).unwrap_or_default();
    progress::say(format!(
        "case {number} of seed {seed}, shrunk ({}):\n{}\n  {filter}, pod {pod} on node {}:\n    kube-scheduler {}\n    ours {}",
        file.display(),
        text.trim_end(),
        last.refused.node,
        say(&last.theirs),
        say(&last.ours),
    ));
    Ok(())
}

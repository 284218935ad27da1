//! What a run measured, for people: each figure beside its bar, and kube-scheduler's own beside ours.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{
    contender::Contender::Theirs,
    record::{Figures, Record},
    turn::Turn,
};
use crate::{bench::figures::rounded, progress};

/// Gangs are as quick as plain pods, within what two turns of the same differ by.
const NOISE: f64 = 0.05;

/// A figure, its bar, and kube-scheduler's figure, where it has one.
pub(super) struct Row {
    name: &'static str,
    value: f64,
    bar: Bar,
    what: &'static str,
    theirs: Option<f64>,
}

enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    fn keeps(&self) -> bool {
        match self.bar {
            Bar::AtLeast(bar) => self.value >= bar,
            Bar::AtMost(bar) => self.value <= bar,
        }
    }

    /// The cells of its line.
    pub(super) fn cells(&self) -> [String; 5] {
        let bar = match self.bar {
            Bar::AtLeast(bar) => format!("at least {}", rounded(bar)),
            Bar::AtMost(bar) => format!("at most {}", rounded(bar)),
        };
        let theirs = self.theirs.map(|figure| rounded(figure).to_string()).unwrap_or_default();
        [self.name.to_owned(), rounded(self.value).to_string(), bar, theirs, self.what.to_owned()]
    }
}

/// Prints them, as JSON on standard output where that is wanted.
///
/// # Errors
/// A bar isn't kept.
pub(super) fn tell(record: &Record, json: bool) -> Result<()> {
    if json {
        println!("{}", as_json(&record.figures())?);
    }
    let rows = rows(record);
    progress::say(format!("{:16} {:>9} {:14} {:>14}", "figure", "ours", "bar", "kube-scheduler"));
    for [name, value, bar, theirs, what] in rows.iter().map(Row::cells) {
        progress::say(format!("{name:16} {value:>9} {bar:14} {theirs:>14} {what}"));
    }
    if record.nodes < 5000 {
        progress::say(format!(
            "the bars are about 5000 nodes and 50000 pods, and here are {} nodes",
            record.nodes
        ));
    }
    let missed: Vec<&str> = rows.iter().filter(|row| !row.keeps()).map(|row| row.name).collect();
    if missed.is_empty() { Ok(()) } else { bail!("bars not kept: {}", missed.join(", ")) }
}

/// Every figure with its bar.
pub(super) fn rows(record: &Record) -> Vec<Row> {
    let ours = record.figures();
    let theirs = record.full_of(Theirs);
    let row = |name, value, bar, theirs, what| Row { name, value, bar, what, theirs };
    let at_most = Bar::AtMost;
    let mean = |of: fn(&Turn) -> f64| Some(record.plain_mean(Theirs, of));
    vec![
        row(
            "plain_ratio",
            ours.plain_ratio,
            Bar::AtLeast(2.0),
            Some(1.0),
            "plain pods a second, to kube-scheduler's",
        ),
        row(
            "cpu_ms_per_pod",
            ours.cpu_ms_per_pod,
            at_most(0.4),
            mean(|turn| turn.cpu_ms_per_pod),
            "from the first binding to the last",
        ),
        row(
            "gang_ratio",
            ours.gang_ratio,
            Bar::AtLeast(ours.plain_ratio * (1.0 - NOISE)),
            None,
            "pods a second of the slowest gangs, to kube-scheduler's plain ones; the bar is our plain ones",
        ),
        row(
            "rss_mib",
            ours.rss_mib,
            at_most(80.0),
            theirs.map(|full| full.turn.rss_mib),
            "resident memory in a full cluster, after binding",
        ),
        row(
            "writes_per_pod",
            ours.writes_per_pod,
            at_most(1.01),
            mean(|turn| turn.writes_per_pod),
            "requests that change something, plain pods",
        ),
        row(
            "unschedulable_s",
            ours.unschedulable_s,
            at_most(1.0),
            theirs.map(|full| full.unschedulable_s),
            "seconds until it is told why there is no place, the worst of 10",
        ),
        row(
            "restart_s",
            ours.restart_s,
            at_most(15.0),
            theirs.map(|full| full.restart_s),
            "seconds from the start of a killed scheduler to its first binding, the worst of 3",
        ),
    ]
}

/// One line with every figure.
fn as_json(figures: &Figures) -> Result<Value> {
    let Value::Object(figures) = json!(figures) else { bail!("figures are an object") };
    let rounded = figures.into_iter().map(|(name, figure)| {
        let figure = figure.as_f64().with_context(|| format!("{name} wasn't measured"))?;
        Ok((name, json!(rounded(figure))))
    });
    Ok(Value::Object(rounded.collect::<Result<_>>()?))
}

/// A turn in a line.
pub(super) fn line(turn: &Turn) -> String {
    let what = turn.gang.map_or("plain".to_owned(), |size| format!("gangs of {size}"));
    format!(
        "{:16} {what:12} {:>5} pods {:>6.0} a second; CPU a pod {:.2} ms ({:.2} with its start), API server and etcd \
         {:.2} ms; {:.2} writes a pod, {} events, {} on gangs; first bound after {:.1} s; {:.0} MiB (at most {:.0})",
        turn.scheduler,
        turn.pods,
        turn.rate,
        turn.cpu_ms_per_pod,
        turn.whole_cpu_ms_per_pod,
        turn.api_cpu_ms_per_pod,
        turn.writes_per_pod,
        turn.events,
        turn.gang_writes,
        turn.first_bind_s,
        turn.rss_mib,
        turn.peak_mib,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scheduler::record::tests::record;

    #[test]
    fn the_line_of_json_has_each_figure_and_nothing_else() {
        let line = as_json(&record(1000).figures()).expect("figures").to_string();
        assert_eq!(
            line,
            r#"{"cpu_ms_per_pod":0.45,"gang_ratio":3.1,"plain_ratio":4.5,"restart_s":2.0,"rss_mib":50.0,"unschedulable_s":0.5,"writes_per_pod":1.0}"#
        );
        let unmeasured = Record { full: Vec::new(), ..record(1000) };
        assert!(as_json(&unmeasured.figures()).is_err());
    }

    #[test]
    fn a_bar_that_is_not_kept_is_named() {
        // Gangs at 310 a second where plain pods have 450, and 0.45 ms of CPU time.
        let fault = tell(&record(1000), false).expect_err("two bars are missed").to_string();
        assert_eq!(fault, "bars not kept: cpu_ms_per_pod, gang_ratio");
    }
}

//! What a run measured, and the figures that the bars are about.

use serde::{Deserialize, Serialize};

use super::{
    contender::Contender,
    full::Full,
    turn::{Turn, float},
};

/// Sizes of gangs.
pub(super) const GANGS: [usize; 3] = [10, 100, 512];

/// All of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) nodes: usize,
    /// Whether etcd waited for the disk.
    pub(super) fsync: bool,
    /// Rounds: plain pods, the schedulers in turns; then gangs, ours alone.
    pub(super) turns: Vec<Turn>,
    /// A full cluster, one entry a scheduler.
    pub(super) full: Vec<Full>,
}

/// What is asked of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) plain_ratio: f64,
    pub(super) cpu_ms_per_pod: f64,
    pub(super) gang_ratio: f64,
    pub(super) rss_mib: f64,
    pub(super) writes_per_pod: f64,
    pub(super) unschedulable_s: f64,
    pub(super) restart_s: f64,
}

impl Record {
    /// Bindings a second of plain pods, the median of its turns.
    pub(super) fn plain_rate(&self, who: Contender) -> Option<f64> {
        rate(self.plain(who))
    }

    /// Bindings a second of gangs of that size, the median of their turns.
    pub(super) fn gang_rate(&self, size: usize) -> Option<f64> {
        rate(self.turns.iter().filter(|turn| turn.gang == Some(size)))
    }

    /// The mean over the turns of plain pods.
    pub(super) fn plain_mean(&self, who: Contender, of: impl Fn(&Turn) -> f64) -> f64 {
        let all: Vec<f64> = self.plain(who).map(of).collect();
        all.iter().sum::<f64>() / float(all.len())
    }

    pub(super) fn full_of(&self, who: Contender) -> Option<&Full> {
        self.full.iter().find(|full| full.scheduler == who.name())
    }

    fn plain(&self, who: Contender) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| turn.scheduler == who.name() && turn.gang.is_none())
    }

    /// Infinitely bad is what wasn't measured.
    pub(super) fn figures(&self) -> Figures {
        use Contender::{Ours, Theirs};
        let ratio =
            |ours: Option<f64>| ours.zip(self.plain_rate(Theirs)).map_or(0.0, |(ours, theirs)| ours / theirs);
        let slowest = GANGS.iter().map(|size| ratio(self.gang_rate(*size))).fold(f64::INFINITY, f64::min);
        let full = self.full_of(Ours);
        let of_full = |of: fn(&Full) -> f64| full.map_or(f64::INFINITY, of);
        Figures {
            plain_ratio: ratio(self.plain_rate(Ours)),
            cpu_ms_per_pod: self.plain_mean(Ours, |turn| turn.cpu_ms_per_pod),
            gang_ratio: slowest,
            rss_mib: of_full(|full| full.turn.rss_mib),
            writes_per_pod: self.plain_mean(Ours, |turn| turn.writes_per_pod),
            unschedulable_s: of_full(|full| full.unschedulable_s),
            restart_s: of_full(|full| full.restart_s),
        }
    }
}

/// Bindings a second, the median of these turns, where there are any: of an even number the mean of the middle two.
fn rate<'a>(turns: impl Iterator<Item = &'a Turn>) -> Option<f64> {
    let mut rates: Vec<f64> = turns.map(|turn| turn.rate).collect();
    rates.sort_by(f64::total_cmp);
    let last = rates.len().checked_sub(1)?;
    Some(f64::midpoint(rates[last / 2], rates[last.div_ceil(2)]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn turn(who: Contender, gang: Option<usize>, rate: f64) -> Turn {
        Turn {
            scheduler: who.name().to_owned(),
            pods: 1001,
            gang,
            first_bind_s: 1.0,
            rate,
            cpu_ms_per_pod: rate / 1000.0,
            whole_cpu_ms_per_pod: 1.0,
            api_cpu_ms_per_pod: 1.0,
            writes_per_pod: 1.0,
            events: 0,
            gang_writes: 0,
            rss_mib: 50.0,
            peak_mib: 60.0,
        }
    }

    pub(crate) fn record(nodes: usize) -> Record {
        use Contender::{Ours, Theirs};
        let full = Full {
            scheduler: Ours.name().to_owned(),
            residents: nodes * 10,
            restart_s: 2.0,
            turn: turn(Ours, None, 300.0),
            unschedulable_s: 0.5,
        };
        let mut turns = vec![
            turn(Ours, None, 300.0),
            turn(Theirs, None, 100.0),
            turn(Ours, None, 600.0),
            turn(Theirs, None, 100.0),
        ];
        for round in [0.0, 100.0] {
            turns.extend(GANGS.map(|size| turn(Ours, Some(size), 250.0 + float(size) + round)));
        }
        Record { nodes, fsync: false, turns, full: vec![full] }
    }

    #[test]
    fn rates_are_medians_and_the_slowest_gangs_count() {
        let figures = record(1000).figures();
        let told = [figures.plain_ratio, figures.gang_ratio, figures.cpu_ms_per_pod, figures.rss_mib];
        // Of 300 and 600 a second; of gangs of 260 and 360.
        assert_eq!(told.map(|figure| format!("{figure:.2}")), ["4.50", "3.10", "0.45", "50.00"]);
        let rates = [1.0, 900.0, 300.0].map(|rate| turn(Contender::Ours, None, rate));
        assert_eq!(rate(rates.iter()), Some(300.0));
        assert_eq!(rate([].iter()), None);
    }

    #[test]
    fn what_was_not_measured_keeps_no_bar() {
        let figures = Record { full: Vec::new(), ..record(1000) }.figures();
        assert!(figures.rss_mib.is_infinite() && figures.restart_s.is_infinite());
    }
}

//! Samples and what is told of them: the middle, the 99th of a hundred, the worst.

/// Samples in one unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(super) fn p99(&self) -> f64 {
        self.at(0.99)
    }

    pub(super) fn worst(&self) -> f64 {
        self.at(1.0)
    }

    /// The smallest sample that is at least as large as that share of all; none is infinitely bad.
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few thousand"
        )]
        let rank = (share * sorted.len() as f64).ceil() as usize;
        rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or(f64::INFINITY)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(samples: T) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// To three decimals, for people and JSON.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_the_99th_and_the_worst_of_a_hundred() {
        let samples: Samples = (1..=100).rev().map(f64::from).collect();
        let told = [samples.median(), samples.p99(), samples.worst()];
        assert_eq!(told.map(|figure| format!("{figure}")), ["50", "99", "100"]);
    }

    #[test]
    fn nothing_measured_keeps_no_bar() {
        assert!(Samples::default().worst().is_infinite());
    }
}

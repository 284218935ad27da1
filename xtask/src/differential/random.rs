//! Choices that a seed decides.

/// A source of choices: the same seed makes the same ones.
pub(super) struct Random(fastrand::Rng);

impl Random {
    /// The choices of one case of a run.
    pub(super) fn of(seed: u64, case: u64) -> Self {
        // Neighbouring seeds may not share cases: the run's seed and the case's number are spread over all bits.
        Self(fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ case))
    }

    /// True in this many of a hundred times.
    pub(super) fn percent(&mut self, chance: u32) -> bool {
        self.0.u32(0..100) < chance
    }

    /// A number from the first to the last of these, both included.
    pub(super) fn between(&mut self, first: usize, last: usize) -> usize {
        self.0.usize(first..=last)
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.0.usize(0..among.len())]
    }

    /// As many different ones of them, in any order.
    pub(super) fn several<T: Copy>(&mut self, count: usize, among: &[T]) -> Vec<T> {
        self.0.choose_multiple(among.iter().copied(), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_cases_differ() {
        let numbers = |seed, case| {
            let mut random = Random::of(seed, case);
            [(); 8].map(|()| random.between(0, 1000))
        };
        assert_eq!(numbers(1, 2), numbers(1, 2));
        assert_ne!(numbers(1, 2), numbers(1, 3));
        assert_ne!(numbers(1, 2), numbers(2, 2));
    }
}

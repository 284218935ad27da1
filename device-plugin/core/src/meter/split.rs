//! Shares of a number that add up to it, to the last one.

/// Splits a whole by weights; what rounding down leaves goes to the largest remainders, the first of equals first.
/// Where all weights are zero, the last gets it all.
pub(super) fn split(whole: u64, weights: &[u32]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        let mut shares = vec![0; weights.len()];
        shares.last_mut().into_iter().for_each(|last| *last = whole);
        return shares;
    }
    let exact = |weight: &u32| u128::from(whole) * u128::from(*weight);
    let mut shares: Vec<u64> =
        weights.iter().map(|weight| u64::try_from(exact(weight) / total).unwrap_or(u64::MAX)).collect();
    let rest = whole - shares.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|at| std::cmp::Reverse(exact(&weights[*at]) % total));
    // There are fewer left over than there are shares.
    by_remainder.into_iter().zip(0..rest).for_each(|(at, _)| shares[at] += 1);
    shares
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn what_is_left_over_goes_to_the_largest_remainders() {
        assert_eq!(split(10, &[333, 333, 334]), [3, 3, 4]);
        assert_eq!(split(2, &[1, 1, 1]), [1, 1, 0]);
        assert_eq!(split(7, &[0, 0]), [0, 7]);
        assert_eq!(split(u64::MAX, &[1000]), [u64::MAX]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_is_off_by_more_than_one(
            whole in any::<u64>(), weights in vec(0_u32..2000, 1..9),
        ) {
            let shares = split(whole, &weights);
            prop_assert_eq!(shares.iter().map(|share| u128::from(*share)).sum::<u128>(), u128::from(whole));
            let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let exact = (u128::from(whole) * u128::from(*weight)).checked_div(total);
                prop_assert!(exact.is_none_or(|exact| u128::from(*share).abs_diff(exact) <= 1));
            }
        }
    }
}

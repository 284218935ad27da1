//! From what a pod's status says to what it used.

use plasma_types::{Duration, UnixMillis};

use crate::WHOLE;

/// One container, as the kubelet reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRun {
    /// It never started.
    Never,
    /// It ran.
    Ran {
        /// When it first started, if that is known.
        started: Option<UnixMillis>,
        /// When it ended for good, if that is known.
        finished: Option<UnixMillis>,
    },
}

/// A pod that runs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRun {
    /// Every container, init containers among them.
    pub containers: Vec<ContainerRun>,
    /// How much of GPUs it held, in thousandths.
    pub milli_gpus: u64,
    /// When the API server made it: nothing of it ran before, whatever its node's clock says.
    pub created: UnixMillis,
    /// When it was seen to run no more: it ended by then, and exactly then where the kubelet never told an end.
    pub seen_over: UnixMillis,
}

/// What a pod used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// No container ever started: there is nothing to bill.
    Nothing,
    /// From the first start to the last end.
    Known {
        /// The last end.
        end: UnixMillis,
        /// The span.
        duration: Duration,
        /// The span times the GPUs, rounded down, in the payer's favour.
        device_ms: u64,
    },
    /// It ran, and nobody knows for how long: billed as nothing, in the payer's favour.
    Unknown {
        /// When it was seen to run no more.
        end: UnixMillis,
    },
}

/// What the pod used. A GPU is held from the first container's start to the last one's end.
///
/// Times are the node's clock's, so they are kept between the pod's creation and the moment it was seen over: a clock that
/// is wrong, or is put right while the pod runs, can't bill more than that, nor move a rental's watermark into the future.
pub fn measure(pod: &PodRun) -> Usage {
    let (mut first, mut last, mut untold) = (None, None, false);
    for container in &pod.containers {
        let ContainerRun::Ran { started, finished } = *container else { continue };
        first = [first, started].into_iter().flatten().min();
        last = [last, finished].into_iter().flatten().max();
        untold |= started.is_none() || finished.is_none();
    }
    let (Some(first), Some(last), false) = (first, last, untold) else {
        return if untold { Usage::Unknown { end: pod.seen_over } } else { Usage::Nothing };
    };
    let (start, end) = (first.max(pod.created), last.min(pod.seen_over));
    let duration = end.since(start);
    let device_ms = u128::from(duration.0) * u128::from(pod.milli_gpus) / u128::from(WHOLE);
    Usage::Known { end, duration, device_ms: u64::try_from(device_ms).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ran(started: Option<u64>, finished: Option<u64>) -> ContainerRun {
        ContainerRun::Ran { started: started.map(UnixMillis), finished: finished.map(UnixMillis) }
    }

    fn pod(containers: &[ContainerRun]) -> PodRun {
        let (created, seen_over) = (UnixMillis(500), UnixMillis(99_000));
        PodRun { containers: containers.to_vec(), milli_gpus: 2000, created, seen_over }
    }

    #[test]
    fn a_gpu_is_held_from_the_first_start_to_the_last_end() {
        let told = [ran(Some(3000), Some(9000)), ran(Some(1000), Some(4000)), ContainerRun::Never];
        let expected = Usage::Known { end: UnixMillis(9000), duration: Duration(8000), device_ms: 16_000 };
        assert_eq!(measure(&pod(&told)), expected);
    }

    #[test]
    fn a_part_of_a_gpu_counts_as_the_part_that_it_is() {
        let part = PodRun { milli_gpus: 142, ..pod(&[ran(Some(1000), Some(9999))]) };
        let expected = Usage::Known { end: UnixMillis(9999), duration: Duration(8999), device_ms: 1277 };
        assert_eq!(measure(&part), expected, "rounded down");
    }

    #[test]
    fn what_never_started_is_nothing() {
        assert_eq!(measure(&pod(&[ContainerRun::Never])), Usage::Nothing);
        assert_eq!(measure(&pod(&[])), Usage::Nothing);
    }

    #[test]
    fn what_ran_and_did_not_tell_for_how_long_is_unknown() {
        let unknown = Usage::Unknown { end: UnixMillis(99_000) };
        assert_eq!(measure(&pod(&[ran(Some(1), None)])), unknown);
        assert_eq!(measure(&pod(&[ran(None, None)])), unknown, "its container was lost");
        let half_told = [ran(Some(1000), Some(6000)), ran(None, None)];
        assert_eq!(measure(&pod(&half_told)), unknown, "the one that is known may be the least of it");
    }

    #[test]
    fn a_clock_that_goes_back_bills_nothing() {
        let expected = Usage::Known { end: UnixMillis(1000), duration: Duration(0), device_ms: 0 };
        assert_eq!(measure(&pod(&[ran(Some(5000), Some(1000))])), expected);
    }

    proptest! {
        #[test]
        fn no_clock_bills_more_than_the_pods_life(started in 0_u64..200_000, finished in 0_u64..200_000) {
            let Usage::Known { end, duration, .. } = measure(&pod(&[ran(Some(started), Some(finished))])) else {
                return Err(TestCaseError::fail("it is known"));
            };
            prop_assert!(end <= UnixMillis(99_000), "a watermark in the future can't be settled");
            prop_assert!(duration.0 <= 98_500);
        }
    }
}

//! From what a pod's status says to what it used.

use plasma_types::{Duration, UnixMillis};

/// One container, as the kubelet reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerRun {
    /// When it started, if it ever did.
    pub started: Option<UnixMillis>,
    /// When it ended, if that is known.
    pub finished: Option<UnixMillis>,
}

/// A pod that runs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRun {
    /// Every container, init containers among them.
    pub containers: Vec<ContainerRun>,
    /// How many GPUs it held.
    pub gpus: u32,
    /// When it was seen to run no more: the end where the kubelet never told one.
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
        /// The span times the GPUs.
        device_ms: u64,
    },
    /// It ran, and nobody knows for how long: billed as nothing, in the payer's favour.
    Unknown {
        /// When it was seen to run no more.
        end: UnixMillis,
    },
}

/// What the pod used. A GPU is held from the first container's start to the last one's end.
pub fn measure(pod: &PodRun) -> Usage {
    let ran = || pod.containers.iter().filter(|container| container.started.is_some());
    let Some(start) = ran().filter_map(|container| container.started).min() else { return Usage::Nothing };
    if ran().any(|container| container.finished.is_none()) {
        return Usage::Unknown { end: pod.seen_over };
    }
    let end = ran().filter_map(|container| container.finished).max().unwrap_or(start);
    let duration = end.since(start);
    Usage::Known { end, duration, device_ms: duration.0.saturating_mul(u64::from(pod.gpus)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[(Option<u64>, Option<u64>)]) -> PodRun {
        let run = |(started, finished): &(Option<u64>, Option<u64>)| ContainerRun {
            started: started.map(UnixMillis),
            finished: finished.map(UnixMillis),
        };
        PodRun { containers: containers.iter().map(run).collect(), gpus: 2, seen_over: UnixMillis(99_000) }
    }

    #[test]
    fn a_gpu_is_held_from_the_first_start_to_the_last_end() {
        let usage = measure(&pod(&[(Some(3000), Some(9000)), (Some(1000), Some(4000)), (None, None)]));
        let expected = Usage::Known { end: UnixMillis(9000), duration: Duration(8000), device_ms: 16_000 };
        assert_eq!(usage, expected);
    }

    #[test]
    fn what_never_started_is_nothing_and_what_never_ended_is_unknown() {
        assert_eq!(measure(&pod(&[(None, None)])), Usage::Nothing);
        assert_eq!(measure(&pod(&[])), Usage::Nothing);
        assert_eq!(measure(&pod(&[(Some(1), None)])), Usage::Unknown { end: UnixMillis(99_000) });
    }

    #[test]
    fn a_clock_that_goes_back_bills_nothing() {
        let expected = Usage::Known { end: UnixMillis(1000), duration: Duration(0), device_ms: 0 };
        assert_eq!(measure(&pod(&[(Some(5000), Some(1000))])), expected);
    }
}

//! Devices rest between two pods. A kubelet tells that a deleted pod is over before its device plugin has looked at what the
//! pod had, and refuses whoever is sent there meanwhile. So for a moment the end of such a pod isn't taken in.

use std::collections::HashMap;

use plasma_scheduler_core::PodDocument;
use tokio::time::{Duration, Instant};

use crate::object::Object;

/// What was told of a pod: that it is like this, or that it is gone.
pub(crate) type Told = Option<Object<PodDocument>>;

/// The ends that aren't taken in yet, by UID.
#[derive(Default)]
pub(crate) struct Rests {
    span: Duration,
    held: HashMap<String, (Instant, Told)>,
}

impl Rests {
    /// Each takes this long; none at all where that is zero.
    pub(crate) fn of(span: Duration) -> Self {
        Self { span, held: HashMap::new() }
    }

    /// Whether there are rests at all.
    pub(crate) fn are_taken(&self) -> bool {
        !self.span.is_zero()
    }

    /// Whether the pod's end isn't taken in yet.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.held.contains_key(uid)
    }

    /// This was told of a pod last: it is taken in when the rest is over that began with the first word of its end.
    pub(crate) fn hold(&mut self, uid: &str, told: Told) {
        let until = Instant::now() + self.span;
        self.held.entry(uid.to_owned()).or_insert((until, None)).1 = told;
    }

    /// Those whose rest is over, which are taken in now.
    pub(crate) fn over(&mut self) -> Vec<(String, Told)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let over = self.held.extract_if(|_, (until, _)| *until <= now);
        over.map(|(uid, (_, told))| (uid, told)).collect()
    }

    /// The pods for which this holds are there, and no others.
    pub(crate) fn retain(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.held.retain(|uid, _| is_listed(uid));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        observe::{Change, Observed},
        state::State,
    };

    const SPAN: Duration = Duration::from_millis(1000);

    fn pod(resource: &str, phase: &str) -> Object<PodDocument> {
        let requests = json!({ "requests": { resource: "1" } });
        let deleted = (phase != "Running").then_some("2026-01-01T00:00:00Z");
        let pod = json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u", "deletionTimestamp": deleted },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "resources": requests }] },
            "status": { "phase": phase },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn with(resource: &str, span: Duration) -> State {
        let mut state = State::new("s");
        state.rests = Rests::of(span);
        state.observe(Observed::Pod(Change::Is(pod(resource, "Running"))));
        state
    }

    fn gone(state: &mut State, resource: &str) -> usize {
        state.observe(Observed::Pod(Change::Gone(pod(resource, "Failed"))));
        state.cluster.pods()
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_pods_end_is_taken_in_a_rest_after_the_first_word_of_it() {
        let mut state = with("example.com/gpu", SPAN);
        state.observe(Observed::Pod(Change::Is(pod("example.com/gpu", "Failed"))));
        tokio::time::advance(SPAN / 2).await;
        assert_eq!(gone(&mut state, "example.com/gpu"), 1);
        tokio::time::advance(SPAN / 2 - Duration::from_millis(1)).await;
        state.end_rests();
        assert_eq!(state.cluster.pods(), 1, "its device rests");
        tokio::time::advance(Duration::from_millis(1)).await;
        state.end_rests();
        assert_eq!((state.cluster.pods(), state.rests.has("u")), (0, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_list_without_the_pod_ends_its_rest() {
        let mut state = with("example.com/gpu", SPAN);
        assert_eq!(gone(&mut state, "example.com/gpu"), 1);
        state.observe(Observed::Pod(Change::ListBegins));
        state.observe(Observed::Pod(Change::ListEnds));
        assert_eq!((state.cluster.pods(), state.rests.has("u")), (0, false));
    }

    #[test]
    fn who_has_no_device_takes_none_and_nobody_where_it_is_zero() {
        assert_eq!(gone(&mut with("cpu", SPAN), "cpu"), 0);
        assert_eq!(gone(&mut with("example.com/gpu", Duration::ZERO), "example.com/gpu"), 0);
    }
}

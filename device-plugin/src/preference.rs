//! Which GPUs to take, said within a deadline: comparing sets may take long, and the kubelet starts no pod meanwhile.

use std::{sync::Arc, time::Duration};

use plasma_device_plugin_core::{Offered, Placement, Topology, Wish, first_of, prefer};
use tokio::sync::Semaphore;

use crate::inventory::Observed;

/// Within how long there is an answer.
const DEADLINE: Duration = Duration::from_millis(100);

/// Compares sets, one question at a time.
#[derive(Clone)]
pub(crate) struct Preferences(Arc<Semaphore>);

/// What the kubelet asks: which of these, including those, and how many.
pub(crate) struct Question {
    pub(crate) available: Vec<String>,
    pub(crate) required: Vec<String>,
    pub(crate) size: usize,
}

/// What is compared: a resource's devices, and how their GPUs are connected.
#[derive(Default)]
pub(crate) struct Board {
    offer: Vec<Offered>,
    topology: Topology,
    placement: Placement,
}

impl Board {
    pub(crate) fn of(observed: &Observed, resource: &str) -> Self {
        let topology = observed.believed().topology().clone();
        let offer = observed.offers().resources.remove(resource).unwrap_or_default();
        Self { offer, topology, placement: observed.policy.placement }
    }
}

impl Question {
    fn wish(&self) -> Wish<'_> {
        Wish { available: &self.available, required: &self.required, size: self.size }
    }
}

impl Default for Preferences {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Preferences {
    /// The GPUs that work best together; where comparing takes too long, the first ones.
    pub(crate) async fn answer(&self, board: &Arc<Board>, question: Question) -> Vec<String> {
        let question = Arc::new(question);
        let (of, asked) = (board.clone(), question.clone());
        let compare = move || prefer(&of.offer, &of.topology, asked.wish(), of.placement);
        self.within(DEADLINE, compare).await.unwrap_or_else(|| {
            tracing::warn!(
                "comparing sets of {} of {} devices takes longer than {DEADLINE:?}",
                question.size,
                question.available.len()
            );
            first_of(&board.offer, question.wish())
        })
    }

    /// The result, if it is there in time. What takes longer ends by itself, and nothing else is begun until then: else a
    /// kubelet that asks on and on would fill the machine.
    async fn within<T: Send + 'static>(
        &self,
        deadline: Duration,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = self.0.clone().try_acquire_owned().ok()?;
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            compute()
        });
        tokio::time::timeout(deadline, work).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_is_not_waited_for_and_nothing_is_begun_beside_it() {
        let preferences = Preferences::default();
        let (end, ended) = mpsc::channel();
        let asked = Instant::now();
        let slow = preferences.within(Duration::from_millis(20), move || ended.recv()).await;
        assert!(slow.is_none() && asked.elapsed() < Duration::from_secs(5));
        assert_eq!(preferences.within(Duration::from_secs(5), || 1).await, None, "one at a time");
        end.send(()).unwrap();
        let again = async {
            while preferences.within(Duration::from_secs(5), || 1).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(5), again).await.is_ok(), "it ended");
    }

    #[tokio::test]
    async fn a_machine_that_is_too_slow_still_answers() {
        let preferences = Preferences::default();
        let busy = preferences.clone();
        let (end, ended) = mpsc::channel();
        let blocked =
            tokio::spawn(async move { busy.within(Duration::from_secs(5), move || ended.recv()).await });
        let begun = async {
            while preferences.0.available_permits() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(5), begun).await.is_ok(), "it is begun");
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let question = Question { available: ids(&["A", "B", "C"]), required: ids(&["C"]), size: 2 };
        assert_eq!(preferences.answer(&Arc::default(), question).await, ["C", "A"]);
        end.send(()).unwrap();
        blocked.await.unwrap().unwrap().unwrap();
    }
}

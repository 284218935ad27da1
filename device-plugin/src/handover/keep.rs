//! Looks again and again whether containers get what there is, publishes it, and says what doesn't come to an end.
//!
//! Files are read and written beside everything else, at each look: a disk that hangs holds up nobody who asks for a GPU.

use std::time::{Duration, Instant};

use plasma_device_plugin_core::{CDI_KIND, HandOver};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    ToHandOver,
    metrics::Metrics,
    prepare::{Prepared, Preparer},
};
use crate::{
    cdi_file::Written,
    inventory::{Observed, PREPARED_WITHIN, Publisher, newer},
};

/// What goes on is said again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Publishes what came of each look.
pub(super) struct Keeper {
    /// `None` where no spec is kept.
    metrics: Option<Metrics>,
    publish: Publisher,
    told: HandOver,
    /// So long a look may take without a word.
    patience: Duration,
    /// Which devices were last said to be late, and when.
    said: Option<(Vec<String>, Instant)>,
}

impl Keeper {
    pub(super) fn new(metrics: Option<Metrics>, publish: Publisher) -> Self {
        Self { metrics, publish, told: HandOver::Unknown, patience: PREPARED_WITHIN, said: None }
    }

    /// Looks again at each look at the GPUs, and as often where there is none.
    pub(super) async fn keep(mut self, mut preparer: Preparer, mut observed: watch::Receiver<Observed>) {
        loop {
            let seen = observed.borrow_and_update().clone();
            if let Some(devices) = ToHandOver::of(&seen) {
                let places = preparer.places();
                let work = tokio::task::spawn_blocking(move || {
                    let prepared = preparer.prepare(&devices);
                    (preparer, prepared)
                });
                // It ends early only when the program does.
                let Some((back, prepared)) = self.outcome(work, &places, &observed).await else { return };
                preparer = back;
                self.tell(prepared);
                self.say_late(&observed);
            }
            newer(&mut observed, seen.period()).await;
        }
    }

    /// Waits for what comes of it; where that takes long, it is said.
    async fn outcome<T>(
        &mut self,
        mut work: JoinHandle<T>,
        places: &str,
        observed: &watch::Receiver<Observed>,
    ) -> Option<T> {
        let mut patience = self.patience;
        loop {
            match tokio::time::timeout(patience, &mut work).await {
                Ok(done) => return done.ok(),
                Err(_) => self.say_hanging(places),
            }
            self.say_late(observed);
            patience = SAY_AGAIN;
        }
    }

    fn say_hanging(&mut self, places: &str) {
        let why = format!("{places}, hasn't answered for more than {PREPARED_WITHIN:?}");
        tracing::error!("what containers get with their GPUs can't be looked at: {why}");
        self.metrics.iter().for_each(Metrics::hangs);
        // What was ready before still is; where nothing ever was, the node would wait without a word.
        if self.told == HandOver::Unknown {
            self.publish(HandOver::Refused(format!("it can't be handed to containers: {why}")));
        }
    }

    fn tell(&mut self, prepared: Result<Prepared, String>) {
        self.metrics.iter().for_each(|metrics| metrics.prepared(&prepared));
        let now = match prepared {
            Ok(Prepared { hand_over, written }) => {
                if written == Written::Anew
                    && let HandOver::Ready(needs) = &hand_over
                {
                    tracing::info!(
                        "the CDI spec of {CDI_KIND} is written, for {} devices",
                        needs.devices.len()
                    );
                }
                hand_over
            }
            Err(why) => HandOver::Refused(format!("it can't be handed to containers: {why}")),
        };
        if let HandOver::Refused(why) = &now
            && self.told != now
        {
            tracing::error!("no GPU is offered: {why}");
        }
        self.publish(now);
    }

    fn publish(&mut self, now: HandOver) {
        self.publish.hand_over(now.clone());
        self.told = now;
    }

    /// A device for which nothing is ever written would be kept back without a word.
    fn say_late(&mut self, observed: &watch::Receiver<Observed>) {
        let (pending, late) = {
            let observed = observed.borrow();
            (observed.pending(), observed.late())
        };
        self.metrics.iter().for_each(|metrics| metrics.pending(pending));
        let was_said = |(devices, at): &(Vec<String>, Instant)| *devices == late && at.elapsed() < SAY_AGAIN;
        if late.is_empty() {
            self.said = None;
        } else if !self.said.as_ref().is_some_and(was_said) {
            tracing::error!(
                "not given to pods for more than {PREPARED_WITHIN:?}, since the container runtime isn't told what they are \
                 now: {}",
                late.join(", ")
            );
            self.said = Some((late, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use plasma_device_plugin_core::{Gpu, HealthRules, Inventory, Look, Needs, Scan, Seen, Signs};

    use super::*;

    fn observed() -> Observed {
        let gpu = Gpu { uuid: "GPU-0".to_owned(), ..Gpu::default() };
        let mut inventory = Inventory::new(HealthRules::default());
        let gpus = vec![Seen::Answered { gpu, signs: Signs::default() }];
        inventory.observe(Scan::Looked(Look { gpus, ..Look::default() }));
        Observed::for_tests(inventory)
    }

    fn obstacle(observed: &watch::Receiver<Observed>) -> Option<String> {
        let believed = observed.borrow().believed();
        believed.gpus()[0].1.why().map(str::to_owned)
    }

    #[tokio::test]
    async fn what_is_never_made_ready_is_said_once_in_a_while() {
        let (publish, observed) = Publisher::for_tests(observed());
        let registry = plasma_runtime::prometheus::Registry::new();
        let mut keeper = Keeper::new(Some(Metrics::register(&registry).unwrap()), publish.clone());
        let nothing = HandOver::Ready(Needs::default());
        keeper.tell(Ok(Prepared { hand_over: nothing, written: Written::Unchanged }));
        keeper.say_late(&observed);
        assert!(keeper.said.is_none() && obstacle(&observed).is_none(), "it has just come");
        publish.long_pending();
        keeper.say_late(&observed);
        let said = keeper.said.clone();
        assert_eq!(said.as_ref().map(|(late, _)| late.as_slice()), Some(&["GPU-0".to_owned()][..]));
        assert!(obstacle(&observed).unwrap().contains("isn't ready for containers"));
        assert_eq!(registry.gather()[0].get_metric()[0].get_gauge().get_value(), 1.0, "it is counted");
        keeper.say_late(&observed);
        assert_eq!(keeper.said, said, "not again so soon");
        let needs = Needs::of(observed.borrow().seen());
        keeper.tell(Ok(Prepared { hand_over: HandOver::Ready(needs), written: Written::Unchanged }));
        keeper.say_late(&observed);
        assert!(keeper.said.is_none() && obstacle(&observed).is_none());
    }

    #[tokio::test]
    async fn a_disk_that_never_answers_is_said_and_keeps_what_was_ready() {
        let (publish, observed) = Publisher::for_tests(observed());
        let patience = Duration::from_millis(20);
        let mut keeper = Keeper { patience, ..Keeper::new(None, publish) };
        let hangs = || tokio::spawn(std::future::pending::<()>());
        let work = keeper.outcome(hangs(), "/var/run/cdi", &observed);
        assert!(tokio::time::timeout(10 * patience, work).await.is_err());
        let why = obstacle(&observed).unwrap();
        assert!(why.contains("/var/run/cdi") && why.contains("hasn't answered"), "{why}");

        let needs = Needs::of(observed.borrow().seen());
        keeper.tell(Ok(Prepared { hand_over: HandOver::Ready(needs), written: Written::Unchanged }));
        assert_eq!(obstacle(&observed), None);
        let work = keeper.outcome(hangs(), "/var/run/cdi", &observed);
        assert!(tokio::time::timeout(10 * patience, work).await.is_err());
        assert_eq!(obstacle(&observed), None, "what was written is still written");
    }
}

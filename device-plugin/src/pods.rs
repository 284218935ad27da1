//! Who holds which device: follows the node's pods, and asks the kubelet for their devices where no status names them.
//!
//! The pods come from the kubelet's Pods API (Kubernetes 1.37 and later), and from the API server where the kubelet has
//! none. Neither is on a path that the kubelet waits for; where nobody answers, it is unknown who holds what.

mod api_server;
mod kubelet;
mod pulse;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use plasma_device_plugin_core::{Holder, Holdings, Known, PodSeen, Tenants, Tenure};
use plasma_runtime::ServiceAccount;
use tokio::sync::{mpsc, watch};

use crate::{args::Args, backoff::Backoff, clock::Clock, vital::Vital};
use kubelet::Lister;
use source::{News, Opener, Source};

/// How often what grew old or is missing is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A list that told nothing is asked for again after this long.
const LIST_AGAIN: Duration = Duration::from_secs(10);
/// What was told longer ago than this isn't believed any more.
const OLD: Duration = Duration::from_secs(10);
/// How long to wait after a failure, at first; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(10);
/// When it wasn't clear for so long what a pod holds, it is said.
const LONG_UNCLEAR_MS: u64 = 30_000;
/// How long a pod that is gone is remembered: the meter may be waiting for NVML meanwhile.
const REMEMBER_MS: u64 = 3_600_000;

/// What is known of who holds what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// Every holding that has begun, also those that ended lately.
    pub(crate) tenures: Arc<Vec<Tenure>>,
    /// Until when that is all, and right. Milliseconds since 1970, by the meter's clock; `None` where it never was, or it isn't known yet what an
    /// earlier process knew.
    pub(crate) complete_ms: Option<u64>,
    /// Why that isn't now, in words, where a pod has been unclear for long.
    pub(crate) unclear: Option<String>,
}

/// The runtime's ids of the containers that run now.
pub(crate) type Running = BTreeMap<Holder, String>;

/// What an earlier process knew.
pub(crate) struct Remembered {
    /// What was held: its pods must turn up, or they are gone.
    pub(crate) held: Vec<Tenure>,
    /// When that was known last. Milliseconds since 1970.
    pub(crate) last_ms: u64,
    /// By UID, which pods are recorded to their end, and when that was.
    pub(crate) ended: Vec<(String, u64)>,
}

/// Where it is published.
#[derive(Clone)]
pub(crate) struct Pods {
    /// Who was given what, and isn't over.
    pub(crate) holdings: watch::Receiver<Holdings>,
    pub(crate) told: watch::Receiver<Told>,
    /// Which container of whom runs now, by the runtime's id; nobody where that isn't known.
    pub(crate) running: watch::Receiver<Running>,
    remember: mpsc::UnboundedSender<Remembered>,
}

impl Pods {
    /// Of which nothing is told.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let (holdings, told) = (watch::channel(Holdings::Unknown).1, watch::channel(Told::default()).1);
        let running = watch::channel(Running::default()).1;
        Self { holdings, told, running, remember: mpsc::unbounded_channel().0 }
    }

    /// Adds what an earlier process knew.
    pub(crate) fn remember(&self, what: Remembered) {
        // Without a follower the program is at its end.
        let _ = self.remember.send(what);
    }
}

/// Begins to follow the pods.
pub(crate) fn start(args: &Args, node: &str, clock: Clock, vital: &Vital) -> Pods {
    let settles = Duration::from_secs(args.settle_seconds);
    let (follower, pods) = follower(&args.resource_name, &args.pod_resources_socket, settles, clock);
    let (socket, node) = (args.pods_api_socket.clone(), node.to_owned());
    vital.spawn("who holds which GPU", follower.follow_forever(socket, node, args.account.clone()));
    pods
}

/// One who knows nothing yet, and where it publishes.
fn follower(resource: &str, pod_resources: &Path, settles: Duration, clock: Clock) -> (Follower, Pods) {
    let (remember, remembered) = mpsc::unbounded_channel();
    let (holdings, holdings_are) = watch::channel(Holdings::Unknown);
    let (told, told_is) = watch::channel(Told::default());
    let (running, running_are) = watch::channel(Running::new());
    let follower = Follower {
        tenants: Tenants::with_resources_like(resource),
        clock,
        begun: Instant::now(),
        known: Known::new(settles),
        seen_ms: 0,
        remembered,
        good_until: Instant::now(),
        lister: Lister::new(pod_resources),
        list_fault: None,
        list_due: Instant::now(),
        holdings,
        told,
        running,
    };
    (follower, Pods { holdings: holdings_are, told: told_is, running: running_are, remember })
}

struct Follower {
    tenants: Tenants,
    /// All times in here are by it.
    clock: Clock,
    begun: Instant,
    known: Known,
    /// When all pods were told of last, whether or not that was right already. Milliseconds since 1970.
    seen_ms: u64,
    remembered: mpsc::UnboundedReceiver<Remembered>,
    good_until: Instant,
    lister: Lister,
    /// What was said last of a list that failed.
    list_fault: Option<String>,
    /// When the devices may be asked for again.
    list_due: Instant,
    holdings: watch::Sender<Holdings>,
    told: watch::Sender<Told>,
    running: watch::Sender<Running>,
}

impl Follower {
    async fn follow_forever(mut self, socket: PathBuf, node: String, account: ServiceAccount) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut said = String::new();
        let mut opener = Opener::new(node, account);
        while !self.holdings.is_closed() {
            let followed = match opener.open(&socket).await {
                Ok(mut source) => {
                    tracing::info!("the node's pods are told by {source}");
                    self.follow(&mut source, &socket).await
                }
                Err(fault) => Err(fault),
            };
            self.known.is_silent();
            match followed {
                Ok(()) => {
                    backoff.reset();
                    said.clear();
                }
                // Once is enough: without a kubelet or a cluster it would be said for ever.
                Err(fault) if fault == said => {}
                Err(fault) => {
                    tracing::warn!("who holds which GPU can't be followed: {fault}; trying again");
                    said = fault;
                }
            }
            self.wait(backoff.pause()).await;
        }
    }

    /// Lets what is known grow old.
    async fn wait(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.publish();
            tokio::time::sleep(TICK.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Follows one source until it ends; an error where it failed before it told of all pods, or tells old news.
    async fn follow(&mut self, source: &mut Source, socket: &Path) -> Result<(), String> {
        let at_second_hand = source.is_api_server();
        self.kubelet_is_there(at_second_hand).await?;
        let mut tick = tokio::time::interval(TICK);
        let mut began: Option<Vec<PodSeen>> = Some(Vec::new());
        loop {
            let news = tokio::select! {
                news = source.next() => Some(news),
                _ = tick.tick() => None,
            };
            match news {
                Some(Ok(news)) => self.take_in(news, &mut began),
                Some(Err(fault)) if began.is_some() => return Err(fault),
                Some(Err(fault)) => {
                    tracing::warn!("the node's pods must be asked for anew: {fault}");
                    return Ok(());
                }
                None if source.is_outdated(socket) => return Ok(()),
                None => self.kubelet_is_there(at_second_hand).await?,
            }
            if began.is_none() {
                self.hear(source.heard());
                self.tenants.forget_before(self.clock.now_ms().saturating_sub(REMEMBER_MS));
                self.list(source).await;
            }
            // How a pod ended is still being asked: meanwhile what is known stays where it is.
            if began.is_none() && source.is_behind() {
                continue;
            }
            self.publish();
        }
    }

    /// Whoever tells of pods at second hand does so also while their kubelet is away, and doesn't know that one has ended.
    async fn kubelet_is_there(&self, at_second_hand: bool) -> Result<(), String> {
        if at_second_hand { self.lister.listens().await } else { Ok(()) }
    }

    /// While the kubelet hangs nothing more is known than before.
    fn hear(&mut self, at: Instant) {
        let ago_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen_ms = self.clock.now_ms().saturating_sub(ago_ms);
        self.good_until = at + OLD;
    }

    /// `began` has the pods that are told of at first, until that is all.
    fn take_in(&mut self, news: News, began: &mut Option<Vec<PodSeen>>) {
        let now_ms = self.clock.now_ms();
        match (self.by_our_clock(news), began.as_mut()) {
            (News::Again, _) => {
                self.known.is_silent();
                *began = Some(Vec::new());
            }
            (News::Pod(pod), Some(first)) => first.push(pod),
            (News::Pod(pod), None) => {
                self.tenants.observe(&pod, now_ms);
                self.list_due = Instant::now();
            }
            (News::Gone(uid, last), None) => {
                last.iter().for_each(|pod| self.tenants.observe(pod, now_ms));
                self.tenants.remove(&uid, now_ms);
                self.clock.forget_but(|one| one != uid);
            }
            (News::Gone(uid, last), Some(first)) => {
                first.retain(|pod| pod.uid != uid);
                first.extend(last);
            }
            (News::All, _) => {
                let pods = began.take().unwrap_or_default();
                pods.iter().for_each(|pod| self.tenants.observe(pod, self.seen_ms));
                let present: BTreeSet<String> = pods.into_iter().map(|pod| pod.uid).collect();
                self.tenants.synced(&present, self.seen_ms);
                self.clock.forget_but(|uid| present.contains(uid));
                self.known.is_told(self.begun.elapsed());
                self.list_due = Instant::now();
            }
        }
    }

    /// A kubelet tells times by the node's clock.
    fn by_our_clock(&self, news: News) -> News {
        match news {
            News::Pod(pod) => News::Pod(self.clock.pod(pod)),
            News::Gone(uid, last) => News::Gone(uid, last.map(|pod| self.clock.pod(pod))),
            News::Again | News::All => news,
        }
    }

    /// Asks for the devices, where that would tell something new.
    async fn list(&mut self, source: &mut Source) {
        if !self.tenants.wants_list() || Instant::now() < self.list_due {
            return;
        }
        self.list_due = Instant::now() + LIST_AGAIN;
        match self.lister.list_between(source).await {
            Ok((before, listed, after)) => {
                self.list_fault = None;
                self.tenants.assign(&before, &listed, &after);
            }
            Err(fault) if self.list_fault.as_ref() == Some(&fault) => {}
            Err(fault) => {
                tracing::warn!(
                    "the devices of the node's pods can't be listed: {fault}; it isn't known who holds what, and nothing \
                     is metered, until they can"
                );
                self.list_fault = Some(fault);
            }
        }
    }

    /// What isn't clear for longer than a list takes.
    fn long_unclear(&self, unclear: Option<(u64, String)>) -> Option<String> {
        let (since_ms, pod) =
            unclear.filter(|(since_ms, _)| since_ms + LONG_UNCLEAR_MS < self.clock.now_ms())?;
        let why = self
            .list_fault
            .as_deref()
            .unwrap_or("the kubelet lists none of its devices, or two pods have its name");
        Some(format!("it isn't known which devices pod {pod} holds since {since_ms} ms: {why}"))
    }

    fn publish(&mut self) {
        while let Ok(Remembered { held, last_ms, ended }) = self.remembered.try_recv() {
            held.iter().for_each(|held| self.tenants.remember(held, last_ms));
            ended.iter().for_each(|(uid, end_ms)| self.tenants.remember_end(uid, *end_ms));
            self.known.remember(last_ms);
        }
        let is_good = Instant::now() < self.good_until;
        let holdings = if is_good { self.tenants.holdings() } else { Holdings::Unknown };
        let running = if is_good { self.tenants.running() } else { Running::new() };
        replace(&self.running, running, |_, _| {});
        replace(&self.holdings, holdings, say_changes);
        let unclear = self.tenants.unclear();
        let since_ms = unclear.as_ref().map(|(since_ms, _)| *since_ms);
        let complete_ms = self.known.until(self.begun.elapsed(), self.seen_ms, since_ms);
        let tenures = Arc::new(self.tenants.tenures());
        let told = Told { tenures, complete_ms, unclear: self.long_unclear(unclear) };
        replace(&self.told, told, |_, _| {});
    }
}

/// Publishes what is another value than before.
fn replace<T: PartialEq>(to: &watch::Sender<T>, now: T, about: impl FnOnce(&T, &T)) {
    to.send_if_modified(|was| {
        let is_another = *was != now;
        if is_another {
            about(was, &now);
            *was = now;
        }
        is_another
    });
}

/// Says who was given what.
fn say_changes(was: &Holdings, now: &Holdings) {
    let Some(held) = now.named() else { return };
    for (device, holders) in held {
        for holder in holders.iter().filter(|holder| !was.of(device).contains(holder)) {
            let Holder { pod_uid, namespace, pod, container } = holder;
            tracing::info!("{device} is held by pod {namespace}/{pod} ({pod_uid}), container {container}");
        }
    }
}

#[cfg(test)]
mod tests;

//! What all namespaces share, and how much of it one may have: where its requests hang, nobody of another one waits for them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};

/// A request that takes longer holds nothing any more that others may want: it is waited for in its namespace's share alone.
const SLOW_REQUEST: Duration = Duration::from_secs(1);
/// So many turns a namespace keeps where many requests are slow.
const FEW: usize = 8;
/// Pods on their way for longer count in their namespace alone. Each takes several requests.
const SLOW_WAY: Duration = Duration::from_secs(3);

/// Turns at something that so many may do at once, and half as many of one namespace. As many may be slow beside them; for each
/// slow one beyond that, its namespace has one turn less, and for each that isn't slow one more again: all share the
/// connections.
#[derive(Clone)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    own: Arc<Mutex<HashMap<String, Arc<Share>>>>,
    /// Turns at being slow.
    slow: Arc<Semaphore>,
}

/// A namespace's turn, and one of all.
struct Turn<'a> {
    share: &'a Share,
    own: Option<SemaphorePermit<'a>>,
    shared: Option<SemaphorePermit<'a>>,
}

/// The turns of one namespace.
struct Share {
    turns: Semaphore,
    /// How many there are, and how many there are at most.
    size: Mutex<usize>,
    most: usize,
}

impl Share {
    fn new(most: usize) -> Self {
        Self { turns: Semaphore::new(most), size: Mutex::new(most), most }
    }

    fn grow(&self) {
        let mut size = locked(&self.size);
        if *size < self.most {
            *size += 1;
            self.turns.add_permits(1);
        }
    }

    fn shrink(&self, turn: SemaphorePermit<'_>) {
        let mut size = locked(&self.size);
        if *size > FEW {
            *size -= 1;
            turn.forget();
        }
    }
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Self {
        let all = Arc::new(Semaphore::new(at_once));
        let slow = Arc::new(Semaphore::new(at_once));
        Self { all, each: at_once / 2, own: Arc::default(), slow }
    }

    /// Does something for a namespace when it is its turn.
    pub(crate) fn take<T>(
        &self,
        namespace: &str,
        work: impl Future<Output = T> + Send,
    ) -> impl Future<Output = T> + Send {
        let own = self.share_of(namespace);
        // In a box: thousands wait here, and one future within another has room for it twice.
        let work = Box::pin(work);
        async move {
            let turn = self.turn(&own).await;
            self.during(turn, work).await
        }
    }

    /// Does something for a namespace if its turn comes before that moment. What has begun goes on.
    pub(crate) fn take_by<T>(
        &self,
        namespace: &str,
        until: Instant,
        work: impl Future<Output = T> + Send,
    ) -> impl Future<Output = Option<T>> + Send {
        let own = self.share_of(namespace);
        let work = Box::pin(work);
        async move {
            let turn = timeout_at(until, self.turn(&own)).await.ok()?;
            // What waited behind the last that could be served in time is too late.
            if Instant::now() >= until {
                return None;
            }
            Some(self.during(turn, work).await)
        }
    }

    async fn turn<'a>(&'a self, share: &'a Share) -> Turn<'a> {
        Turn { own: share.turns.acquire().await.ok(), shared: self.all.acquire().await.ok(), share }
    }

    async fn during<T>(&self, turn: Turn<'_>, mut work: impl Future<Output = T> + Send + Unpin) -> T {
        let Turn { share, own, shared } = turn;
        if let Ok(done) = timeout(SLOW_REQUEST, &mut work).await {
            share.grow();
            return done;
        }
        drop(shared);
        let slow = self.slow.try_acquire();
        let done = work.await;
        if let (Err(_), Some(own)) = (slow, own) {
            share.shrink(own);
        }
        done
    }

    fn share_of(&self, namespace: &str) -> Arc<Share> {
        let mut own = locked(&self.own);
        if let Some(share) = own.get(namespace) {
            return share.clone();
        }
        own.retain(|_, share| Arc::strong_count(share) > 1);
        own.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Share::new(self.each))).clone()
    }
}

/// How many pods are on their way to their nodes.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    swift: usize,
    /// By namespace, slow ones too.
    all: HashMap<String, usize>,
    crowded: BTreeSet<String>,
}

impl UnderWay {
    /// Those that aren't slow.
    pub(crate) fn swift(&self) -> usize {
        locked(&self.0).swift
    }

    /// The namespaces of which so many are, slow ones too; and until half of them are, so that it doesn't change with each.
    pub(crate) fn crowded(&self, from: usize) -> BTreeSet<String> {
        let Counts { all, crowded, .. } = &mut *locked(&self.0);
        crowded.retain(|namespace| all.get(namespace).is_some_and(|pods| *pods * 2 > from));
        crowded.extend(all.iter().filter(|(_, pods)| **pods >= from).map(|(namespace, _)| namespace.clone()));
        crowded.clone()
    }

    #[cfg(test)]
    fn of(&self, namespace: &str) -> usize {
        locked(&self.0).all.get(namespace).copied().unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> usize {
        locked(&self.0).all.values().sum()
    }

    /// So many pods of a namespace set off.
    pub(crate) fn begin(&self, namespace: &str, pods: usize) -> OnTheWay {
        let mut counts = locked(&self.0);
        counts.swift += pods;
        *counts.all.entry(namespace.to_owned()).or_default() += pods;
        OnTheWay { counts: self.0.clone(), namespace: namespace.to_owned(), pods, is_slow: false }
    }
}

/// Pods that are counted as on their way, until this is dropped.
pub(crate) struct OnTheWay {
    counts: Arc<Mutex<Counts>>,
    namespace: String,
    pods: usize,
    is_slow: bool,
}

impl OnTheWay {
    /// While this is done they are on their way.
    pub(crate) fn during<T>(
        mut self,
        work: impl Future<Output = T> + Send,
    ) -> impl Future<Output = T> + Send {
        let mut work = Box::pin(work);
        async move {
            if let Ok(done) = timeout(SLOW_WAY, &mut work).await {
                return done;
            }
            self.is_slow = true;
            locked(&self.counts).swift -= self.pods;
            work.await
        }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        let mut counts = locked(&self.counts);
        if !self.is_slow {
            counts.swift -= self.pods;
        }
        if let Some(pods) = counts.all.get_mut(&self.namespace) {
            *pods -= self.pods;
        }
        counts.all.retain(|_, pods| *pods > 0);
    }
}

/// What is counted here is right after each line, whoever panicked.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_one_namespace_half_as_many_are_at_it_at_most() {
        let (turns, begun) = (Turns::new(4), Instant::now());
        let work = |_| turns.take("a", async { sleep(Duration::from_millis(100)).await });
        futures::future::join_all((0..10).map(work)).await;
        assert_eq!(begun.elapsed().as_millis(), 500, "two at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_for_requests_of_others_that_hang() {
        let turns = Turns::new(4);
        for hangs in ["a", "b", "c"] {
            for _ in 0..100 {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take(hangs, pending::<()>()).await });
            }
        }
        sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        timeout(SLOW_REQUEST * 100, turns.take("d", async {})).await.expect("its turn comes");
        assert!(begun.elapsed() <= SLOW_REQUEST * 2, "six hang, of which four begin at once");
        let begun = Instant::now();
        turns.take("d", async {}).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(timeout(SLOW_REQUEST * 100, turns.take("a", async {})).await.is_err());
        assert_eq!(locked(&turns.own).len(), 4);
    }

    /// Requests of a namespace that take so long, and how many of them are at it.
    async fn at_it(turns: &Turns, namespace: &str, (requests, time): (usize, Duration)) -> Arc<()> {
        let at_it = Arc::new(());
        for _ in 0..requests {
            let (turns, at_it, namespace) = (turns.clone(), Arc::downgrade(&at_it), namespace.to_owned());
            tokio::spawn(async move {
                let request = async {
                    let _at_it = at_it.upgrade();
                    sleep(time).await;
                };
                turns.take(&namespace, request).await;
            });
        }
        sleep(Duration::from_millis(1)).await;
        at_it
    }

    #[tokio::test(start_paused = true)]
    async fn where_many_are_slow_fewer_are_begun_and_as_many_as_before_once_they_are_not() {
        let (turns, hangs) = (Turns::new(128), SLOW_REQUEST * 30);
        let count = |at_it: &Arc<()>| Arc::strong_count(at_it) - 1;
        let alone = at_it(&turns, "a", (1000, hangs)).await;
        sleep(hangs * 2).await;
        assert_eq!(count(&alone), 64, "it keeps nobody from anything");
        let beside = [at_it(&turns, "b", (1000, hangs)).await, at_it(&turns, "c", (1000, hangs)).await];
        sleep(hangs * 4).await;
        let all = [&alone, &beside[0], &beside[1]].map(count);
        assert!((128..=128 + FEW).contains(&all.iter().sum()), "{all:?}");
        assert!(all.iter().all(|at_it| *at_it >= FEW), "{all:?}");
        sleep(hangs * 1000).await;
        assert_eq!(count(&alone) + count(&beside[0]) + count(&beside[1]), 0, "all come to an end");
        drop(at_it(&turns, "c", (100, SLOW_REQUEST / 2)).await);
        sleep(SLOW_REQUEST * 100).await;
        let again = at_it(&turns, "c", (100, SLOW_REQUEST / 2)).await;
        assert_eq!(count(&again), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_does_not_come_in_time_is_told_so_then_and_who_has_begun_goes_on() {
        let (turns, begun) = (Turns::new(4), Instant::now());
        let _at_it = at_it(&turns, "a", (100, SLOW_REQUEST * 5)).await;
        let until = begun + SLOW_REQUEST * 3;
        assert_eq!(turns.take_by("a", until, async { 1 }).await, None);
        assert_eq!(begun.elapsed(), SLOW_REQUEST * 3);
        let late = async {
            sleep(SLOW_REQUEST * 9).await;
            2
        };
        assert_eq!(turns.take_by("b", begun + SLOW_REQUEST * 4, late).await, Some(2));
        assert_eq!(turns.take_by("b", begun, async { 3 }).await, None, "it was too late at once");
    }

    #[test]
    fn a_namespace_is_crowded_from_so_many_pods_on_until_half_of_them_are_left() {
        let under_way = UnderWay::default();
        let mut pods: Vec<OnTheWay> = (0..8).map(|_| under_way.begin("a", 1)).collect();
        let _others = under_way.begin("b", 7);
        let names = |crowded: &[&str]| crowded.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(under_way.crowded(8), names(&["a"]));
        pods.truncate(5);
        assert_eq!(under_way.crowded(8), names(&["a"]));
        pods.truncate(4);
        assert_eq!(under_way.crowded(8), names(&[]));
        pods.push(under_way.begin("a", 3));
        assert_eq!(under_way.crowded(8), names(&[]), "not before it is so many again");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_are_slow_count_in_their_namespace_alone_and_nobody_counts_after_the_end() {
        let under_way = UnderWay::default();
        let counts = || (under_way.swift(), under_way.of("a"), under_way.of("b"), under_way.all());
        let slow = tokio::spawn(under_way.begin("a", 3).during(pending::<()>()));
        let swift = under_way.begin("b", 2);
        assert_eq!(counts(), (5, 3, 2, 5));
        sleep(SLOW_WAY * 2).await;
        assert_eq!(counts(), (2, 3, 2, 5));
        swift.during(sleep(SLOW_WAY / 2)).await;
        assert_eq!(counts(), (0, 3, 0, 3));
        slow.abort();
        assert!(slow.await.is_err());
        assert_eq!(counts(), (0, 0, 0, 0));
    }
}

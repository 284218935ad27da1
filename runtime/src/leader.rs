//! Leading: of several copies of a program only one works, by a Lease that it renews (client-go's protocol, so that
//! `kubectl get lease` says what admins expect).
//!
//! A lease is no lock. Who doesn't hear from the API server in time can't know whether another leads already, so he counts
//! himself out before the lease runs out for the others: between the two there is time for his last request to end.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{Method, Request};
use clap::{ArgAction, Args};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::PostParams,
    client::{Body, ClientBuilder},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{bounded, health::Gate};

/// How long a program that ends tries to give the lease back.
const GIVE_BACK: Duration = Duration::from_secs(2);
/// How long it waits before it tries so again where somebody else wrote the lease meanwhile.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// Flags for leading, named as kube-scheduler names them.
#[derive(Clone, Debug, Args)]
pub struct LeaderArgs {
    /// Work only while holding the lease. Without it, nothing keeps two copies from working at once.
    #[arg(long, env = "LEADER_ELECT", default_value_t = true, action = ArgAction::Set)]
    pub leader_elect: bool,

    /// Seconds after which others take the lease of one that doesn't renew it.
    #[arg(long, env = "LEADER_ELECT_LEASE_DURATION", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=600))]
    pub leader_elect_lease_duration: u32,

    /// Seconds without a renewal after which one counts himself out: two thirds of the lease's if not given.
    #[arg(long, env = "LEADER_ELECT_RENEW_DEADLINE")]
    pub leader_elect_renew_deadline: Option<u32>,

    /// The lease's namespace; the program's own if not given.
    #[arg(long, env = "LEADER_ELECT_RESOURCE_NAMESPACE")]
    pub leader_elect_resource_namespace: Option<String>,

    /// The lease's name; the program's usual one if not given.
    #[arg(long, env = "LEADER_ELECT_RESOURCE_NAME")]
    pub leader_elect_resource_name: Option<String>,

    /// What this copy is called among the others: its pod's name, or else its host's. A random UUID is put behind it, since
    /// one that is started again under its name is another: what its last self sent may still arrive.
    #[arg(long, env = "POD_NAME", hide_env_values = true)]
    pub leader_elect_identity: Option<String>,
}

impl LeaderArgs {
    fn lease_duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.leader_elect_lease_duration))
    }

    /// Always before the lease runs out for the others, whatever was asked for.
    fn renew_deadline(&self) -> Duration {
        let usual = self.lease_duration() * 2 / 3;
        let given = self.leader_elect_renew_deadline.map(|seconds| Duration::from_secs(u64::from(seconds)));
        given.unwrap_or(usual).clamp(Duration::from_secs(1), usual)
    }

    /// How long a request may take for it to have ended before another may lead.
    pub fn last_request(&self) -> Duration {
        self.lease_duration() - self.renew_deadline()
    }

    /// How long one request about the lease may take: of three, the last one is still in time, should the others be lost on
    /// a dead connection.
    fn request_timeout(&self) -> Duration {
        self.renew_deadline() / 3
    }

    /// No two processes ever have the same, not even two in turn under one name.
    fn identity(&self) -> String {
        let from_kernel = |what| std::fs::read_to_string(format!("/proc/sys/kernel/{what}"));
        let given = self.leader_elect_identity.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let host = || from_kernel("hostname").unwrap_or_else(|_| "unknown".to_owned());
        let name = given.map_or_else(host, str::to_owned);
        let unique = from_kernel("random/uuid")
            .unwrap_or_else(|_| format!("{}.{}", std::process::id(), Timestamp::now().as_nanosecond()));
        format!("{}_{}", name.trim(), unique.trim())
    }
}

/// Whether this copy leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Until when; for ever where nobody else can.
    until: Arc<Mutex<Option<Instant>>>,
    is_shared: bool,
    /// Asks whoever renews the lease to give it back.
    ends: CancellationToken,
    renewing: TaskTracker,
}

impl Leadership {
    /// Leads without a lease.
    pub fn alone() -> Self {
        Self::new(false)
    }

    fn new(is_shared: bool) -> Self {
        let (ends, renewing) = (CancellationToken::new(), TaskTracker::new());
        Self { until: Arc::default(), is_shared, ends, renewing }
    }

    /// Whether it leads now, for as long as the last request may take.
    pub fn is_held(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_shared || until.is_some_and(|until| Instant::now() < until)
    }

    /// The same client, that writes only while this copy leads, and gives each write no longer than its lease outlasts it:
    /// what was sent has ended before another may lead.
    pub fn guard(&self, client: Client, args: &LeaderArgs) -> Client {
        let (namespace, valid_until) = (client.default_namespace().to_owned(), *client.valid_until());
        let (leadership, within) = (self.clone(), args.last_request());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, leadership) = (client.clone(), leadership.clone());
            async move {
                if !leadership.is_shared || request.method() == Method::GET {
                    return client.send(request).await;
                }
                let what = format!("{} {}", request.method(), request.uri().path());
                if !leadership.is_held() {
                    let why = format!("{what} is not sent: this copy doesn't lead any more");
                    return Err(kube::Error::Service(io::Error::other(why).into()));
                }
                match tokio::time::timeout(within, bounded::answer(&client, request)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(bounded::unanswered(&what, within)),
                }
            }
        });
        ClientBuilder::new(service, namespace).with_valid_until(valid_until).build()
    }

    /// Stops leading and lets the others have the lease at once; returns when they do, or when that failed. To be called
    /// when nothing is under way any more: the next leader doesn't wait for what is.
    pub async fn give_back(&self) {
        self.ends.cancel();
        self.renewing.close();
        self.renewing.wait().await;
    }

    /// Says until when it leads, or that it doesn't.
    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Waits until this copy leads, then keeps the lease renewed. When it is lost, `lost` is cancelled: what the program knows
/// may be old from then on, and it had best end. Nothing where the program is asked to end first; who leads keeps the lease
/// until [`Leadership::give_back`], that what is under way may end.
///
/// While another leads, `ready` is open: an update that brings this copy may end the other. It is closed once this one leads.
pub async fn lead(
    client: &Client,
    name: &str,
    args: &LeaderArgs,
    (shutdown, lost): (&CancellationToken, &CancellationToken),
    ready: &Gate,
) -> Option<Leadership> {
    if !args.leader_elect {
        return Some(Leadership::alone());
    }
    let leadership = Leadership::new(true);
    let mut candidate = Candidate::new(client, name, args, leadership.clone());
    let mut has_waited = false;
    while !candidate.try_once().await {
        if !has_waited {
            tracing::info!("waiting for the lease {}, held by {}", candidate.name, candidate.holder());
            has_waited = true;
        }
        ready.set(candidate.is_held_by_another());
        shutdown.run_until_cancelled(tokio::time::sleep(candidate.pause)).await?;
    }
    ready.set(false);
    tracing::info!("leads: holds the lease {}", candidate.name);
    let lost = lost.clone();
    leadership.renewing.spawn(async move { candidate.keep(&lost).await });
    Some(leadership)
}

/// One copy that wants to lead.
struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    lease_duration: Duration,
    renew_deadline: Duration,
    /// How long to wait between two tries.
    pause: Duration,
    leadership: Leadership,
    /// The lease as it was when its holder last gave a sign of life, and since when that is seen, by this machine's clock
    /// alone.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    fn new(client: &Client, name: &str, args: &LeaderArgs, leadership: Leadership) -> Self {
        let namespace = args.leader_elect_resource_namespace.as_deref().unwrap_or(client.default_namespace());
        Self {
            leases: Api::namespaced(bounded::bounded(client.clone(), args.request_timeout()), namespace),
            name: args.leader_elect_resource_name.as_deref().unwrap_or(name).to_owned(),
            identity: args.identity(),
            lease_duration: args.lease_duration(),
            renew_deadline: args.renew_deadline(),
            pause: args.last_request().min(args.renew_deadline()).min(Duration::from_secs(2)) / 2,
            leadership,
            seen: None,
        }
    }

    fn holder(&self) -> &str {
        let spec = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("nobody")
    }

    /// Whether somebody is known to hold the lease: without an answer from the API server nobody is.
    fn is_held_by_another(&self) -> bool {
        let spec = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        !holder.is_empty() && holder != self.identity
    }

    /// Renews the lease until it is to be given back or is lost.
    async fn keep(mut self, lost: &CancellationToken) {
        let ends = self.leadership.ends.clone();
        while ends.run_until_cancelled(tokio::time::sleep(self.pause)).await.is_some() {
            if !self.try_once().await && !self.leadership.is_held() {
                tracing::error!("the lease {} is lost, held by {}", self.name, self.holder());
                lost.cancel();
                return;
            }
        }
        self.leadership.set(None);
        self.give_back().await;
    }

    /// Takes or renews the lease, if that may be; whether it was done.
    async fn try_once(&mut self) -> bool {
        let begun = Instant::now();
        match tokio::time::timeout(self.renew_deadline, self.take()).await {
            Ok(Ok(true)) => {
                self.leadership.set(Some(begun + self.renew_deadline));
                true
            }
            Ok(Ok(false)) => {
                // Another has it: not for a moment longer.
                self.leadership.set(None);
                false
            }
            Ok(Err(fault)) => {
                tracing::warn!("the lease {}: {fault}", self.name);
                false
            }
            Err(_) => {
                tracing::warn!("the lease {}: no answer within {:?}", self.name, self.renew_deadline);
                false
            }
        }
    }

    /// Whether the lease is ours now. What is unknown is an error.
    async fn take(&mut self) -> Result<bool, kube::Error> {
        match self.take_as_read().await {
            // Somebody wrote the lease since it was read. That isn't to say that he has it: another look tells.
            Err(fault) if is_conflict(&fault) => self.take_as_read().await,
            outcome => outcome,
        }
    }

    /// Reads the lease, and takes it in the version that was read if that may be.
    async fn take_as_read(&mut self) -> Result<bool, kube::Error> {
        let Some(found) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            self.leases.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| signs_of_life(seen) != signs_of_life(&found)) {
            self.seen = Some((found.clone(), Instant::now()));
        }
        let holder = found.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        // Who holds it says for how long: copies may be told different things.
        let told = found.spec.as_ref().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
        let lasts = told.filter(|told| *told > 0).map_or(self.lease_duration, Duration::from_secs);
        let has_run_out = self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= lasts);
        if !holder.is_empty() && holder != self.identity && !has_run_out {
            return Ok(false);
        }
        // The version that was read is the precondition: of two who take it, one does.
        let spec = Some(self.spec(found.spec.as_ref()));
        let lease = Lease { spec, ..found };
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let is_renewal = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lease_duration.as_secs()).ok(),
            acquire_time: before
                .filter(|_| is_renewal)
                .map_or_else(|| now.clone(), |spec| spec.acquire_time.clone()),
            renew_time: now,
            lease_transitions: Some(if is_renewal || before.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            // What coordinated election keeps there isn't ours.
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Lets the others have the lease at once. Whoever waits finds it run out, if this fails.
    async fn give_back(&self) {
        let give_back = async {
            loop {
                match self.give_back_as_read().await {
                    Err(fault) if is_conflict(&fault) => tokio::time::sleep(CONFLICT_PAUSE).await,
                    outcome => break outcome,
                }
            }
        };
        match tokio::time::timeout(GIVE_BACK, give_back).await {
            Ok(Ok(())) => tracing::info!("the lease {} is given back", self.name),
            Ok(Err(fault)) => tracing::warn!("the lease {} isn't given back: {fault}", self.name),
            Err(_) => {
                tracing::warn!("the lease {} isn't given back: no answer within {GIVE_BACK:?}", self.name)
            }
        }
    }

    async fn give_back_as_read(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// What whoever takes or renews a lease changes. Anything else, such as an annotation, others may have written: it doesn't say
/// that the holder lives.
fn signs_of_life(lease: &Lease) -> impl PartialEq {
    let spec = lease.spec.as_ref();
    spec.map(|spec| (&spec.holder_identity, &spec.renew_time, &spec.acquire_time, spec.lease_transitions))
}

/// Whether somebody has written the object since it was read, perhaps we ourselves.
pub fn is_conflict(fault: &kube::Error) -> bool {
    matches!(fault, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests;

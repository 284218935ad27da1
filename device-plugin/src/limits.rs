//! Sees to it that no container takes more of a shared GPU's memory than its share, where the driver enforces that.
//!
//! It runs on the thread that owns NVML, at each look and whenever other containers run than before. A container that is
//! started again has another cgroup, and a limit goes with its cgroup: so the driver is asked each time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use plasma_device_plugin_core::{
    Holder, Holdings, Inventory, MemoryShare, Obstacles, Policy, is_of_container, is_of_pod, leads_to_pods,
    memory_shares, shares_instances,
};
use tokio::sync::watch;

use crate::{
    nvml::{Limited, Session},
    pods::Running,
};

/// So deep below the root pods lie at most: kubelets nest them in three or four folders.
const DEEPEST: usize = 6;
/// What the root of cgroups of version 2 has, and none of version 1.
const VERSION_2: &str = "cgroup.controllers";

/// How the containers' shares of memory are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Why not every share can be enforced on this node, in words; `None` where the driver takes limits.
    pub(crate) obstacle: Option<String>,
    /// Each container's part of each GPU.
    pub(crate) shares: Vec<Kept>,
}

/// One container's share of one GPU's memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) share: MemoryShare,
    /// Whether the container runs, as far as is known: one that doesn't has no cgroup, and takes nothing.
    pub(crate) runs: bool,
    /// What the driver says of it; or in words, why it isn't enforced.
    pub(crate) limited: Result<Limited, String>,
}

impl Limits {
    /// Before anything is known of the driver nothing is enforced.
    pub(crate) fn unknown() -> Self {
        Self { obstacle: Some("the driver wasn't asked yet".to_owned()), shares: Vec::new() }
    }

    fn all(obstacle: String, shares: Vec<MemoryShare>, running: &Running) -> Self {
        let kept = shares.into_iter().map(|share| Kept {
            runs: running.contains_key(&share.holder),
            share,
            limited: Err(obstacle.clone()),
        });
        Self { shares: kept.collect(), obstacle: Some(obstacle) }
    }
}

/// Keeps the shares.
pub(crate) struct Limiter {
    root: PathBuf,
    holdings: watch::Receiver<Holdings>,
    running: watch::Receiver<Running>,
    /// Where each running container's cgroup was found, by its runtime's id.
    found: BTreeMap<String, PathBuf>,
    obstacles: Obstacles,
    last: Limits,
}

impl Limiter {
    pub(crate) fn new(
        root: PathBuf,
        holdings: watch::Receiver<Holdings>,
        running: watch::Receiver<Running>,
    ) -> Self {
        Self {
            root,
            holdings,
            running,
            found: BTreeMap::new(),
            obstacles: Obstacles::default(),
            last: Limits::unknown(),
        }
    }

    /// Whether other containers run or hold GPUs than when it was kept last.
    pub(crate) fn is_due(&self) -> bool {
        let is_other = |changed: Result<bool, _>| changed.is_ok_and(|changed: bool| changed);
        is_other(self.holdings.has_changed()) || is_other(self.running.has_changed())
    }

    /// A library was loaded: another driver may be able to do more.
    pub(crate) fn begin(&mut self) {
        self.obstacles = Obstacles::default();
    }

    /// Sees to every share, and says how it stands.
    pub(crate) fn keep(&mut self, session: &Session<'_>, inventory: &Inventory, policy: &Policy) -> Limits {
        let holdings = self.holdings.borrow_and_update().clone();
        let running = self.running.borrow_and_update().clone();
        let shares = memory_shares(inventory, policy, &holdings);
        let now = match self.obstacle(session) {
            Some(obstacle) => Limits::all(obstacle, shares, &running),
            None => {
                self.found.retain(|id, place| running.values().any(|now| now == id) && place.is_dir());
                let keep = |share: MemoryShare| {
                    let id = running.get(&share.holder);
                    let limited = self.keep_one(session, &share, id);
                    Kept { share, runs: id.is_some(), limited }
                };
                let shares: Vec<Kept> = shares.into_iter().map(keep).collect();
                let of_running = shares.iter().filter(|kept| kept.runs);
                self.obstacles.observe(
                    of_running.map(|kept| (&kept.share, kept.limited.as_ref().err().map(String::as_str))),
                );
                let instances = shares_instances(inventory, policy)
                    .then_some("instances of divided GPUs are shared, for which the driver takes no limit");
                Limits { obstacle: self.obstacles.first().or(instances).map(str::to_owned), shares }
            }
        };
        say_changes(&self.last, &now);
        self.last = now.clone();
        now
    }

    /// What keeps any limit from being enforced.
    fn obstacle(&self, session: &Session<'_>) -> Option<String> {
        if !session.has_memory_limits() {
            return Some("the driver has no memory limits: those came with CUDA 13.4".to_owned());
        }
        let root = self.root.display();
        (!self.root.join(VERSION_2).exists())
            .then(|| format!("{root} is no root of cgroups of version 2, which the driver's limits need"))
    }

    fn keep_one(
        &mut self,
        session: &Session<'_>,
        share: &MemoryShare,
        id: Option<&String>,
    ) -> Result<Limited, String> {
        let id = id.ok_or("it doesn't run, or nobody tells of its run")?;
        let place = match self.found.get(id) {
            Some(place) => place.clone(),
            None => {
                let place = find(&self.root, &share.holder, id).ok_or_else(|| {
                    format!("no cgroup of container {id} is found below {}", self.root.display())
                })?;
                self.found.insert(id.clone(), place.clone());
                place
            }
        };
        match session.limit_memory(&share.gpu, &place, share.bytes) {
            Ok(limited) if limited.hard == share.bytes => Ok(limited),
            Ok(limited) => Err(format!(
                "the driver took a limit of {} bytes, and tells of {}",
                share.bytes, limited.hard
            )),
            Err(why) => Err(format!("the driver refused its limit at {}: {why}", place.display())),
        }
    }
}

/// The container's folder, looked for from the root.
fn find(root: &Path, holder: &Holder, id: &str) -> Option<PathBuf> {
    let mut level = vec![root.to_owned()];
    for _ in 0..DEEPEST {
        let mut below = Vec::new();
        for (name, place) in level.iter().flat_map(|folder| folders(folder)) {
            if is_of_pod(&name, &holder.pod_uid) {
                return folders(&place)
                    .into_iter()
                    .find(|(name, _)| is_of_container(name, id))
                    .map(|(_, place)| place);
            }
            if leads_to_pods(&name) {
                below.push(place);
            }
        }
        level = below;
    }
    None
}

/// The folders in a folder. One that went meanwhile has none.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

/// Says what is enforced that wasn't, and what isn't and why; each once.
fn say_changes(was: &Limits, now: &Limits) {
    if let Some(obstacle) = now.obstacle.as_ref().filter(|now| was.obstacle.as_ref() != Some(*now)) {
        tracing::warn!("not every container that shares a GPU is limited in its memory: {obstacle}");
    }
    for Kept { share, limited, .. } in now.shares.iter().filter(|kept| kept.runs) {
        let before = was.shares.iter().find(|before| before.share == *share).map(|before| &before.limited);
        let Holder { namespace, pod, container, .. } = &share.holder;
        let who = format!("pod {namespace}/{pod}, container {container}");
        match (before, limited) {
            (Some(Ok(was)), Ok(now)) if was.hard == now.hard => {}
            (_, Ok(limited)) => {
                tracing::info!("{who} may take {} bytes of GPU {}'s memory", limited.hard, share.gpu)
            }
            (Some(Err(was)), Err(now)) if was == now => {}
            (_, Err(why)) if now.obstacle.as_ref() != Some(why) => {
                tracing::warn!("nothing limits what {who} takes of GPU {}'s memory: {why}", share.gpu);
            }
            (_, Err(_)) => {}
        }
    }
}

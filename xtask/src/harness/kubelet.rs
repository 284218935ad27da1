//! One life of a kubelet's managers: a process that is asked by lines of JSON and tells what changes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Node, Pod, RESOURCE, eventually};

/// How long an answer may take: an admission waits for the plugin, for which the kubelet has no limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a kubelet that starts finds.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Start {
    /// CPUs for the static CPU manager; none is the policy none.
    pub(crate) cpus: u32,
    /// Containers that run.
    pub(crate) running: Vec<Running>,
}

/// A container that runs when the kubelet starts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Running {
    pub(crate) uid: String,
    pub(crate) container: String,
}

/// What the device manager counts of our resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Count {
    pub(crate) capacity: i64,
    pub(crate) allocatable: i64,
}

/// What changed, and when, in nanoseconds of Unix time.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) event: String,
    pub(crate) at: u64,
    pub(crate) value: Value,
}

impl Change {
    /// The count that it tells, where it is one of our resource.
    pub(crate) fn count(&self) -> Option<Count> {
        let ours = self.event == "count" && self.value["resource"] == RESOURCE;
        ours.then(|| serde_json::from_value(self.value.clone()).ok()).flatten()
    }
}

/// What a container was given.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Given {
    pub(crate) devices: BTreeMap<String, Vec<String>>,
    pub(crate) cdi: Vec<String>,
}

impl Given {
    /// The IDs of our resource.
    pub(crate) fn gpus(&self) -> Vec<String> {
        self.devices.get(RESOURCE).cloned().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Admitted {
    admitted: bool,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Answer {
    answer: Value,
    #[serde(default)]
    error: String,
}

/// The running managers; they are killed when this goes, as a kubelet that is restarted is.
pub(crate) struct Kubelet {
    child: Child,
    input: Mutex<ChildStdin>,
    answers: Mutex<Receiver<Answer>>,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Kubelet {
    /// Starts the managers on that node. They are ready when this returns, and wait for the pods
    /// that the API server has: see [`Self::heard`].
    ///
    /// # Errors
    /// There can be no such process, or it refuses.
    pub(crate) fn start(node: &Node, how: &Start) -> Result<Self> {
        let log = File::options().create(true).append(true).open(node.log("kubelet"));
        // The kubelet's folders are hard-coded: in a mount namespace of its own they are the node's.
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        unshare.args(["--mount", "sh", "-c", "mount --bind \"$0\" /var/lib && exec \"$1\""]);
        unshare.arg(node.folder()).arg(&node.programs().kubelet);
        let streams = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.context("log")?);
        let mut child = streams.spawn().context("start unshare")?;
        let input = Mutex::new(child.stdin.take().context("its input")?);
        let output = child.stdout.take().context("its output")?;
        let (send, answers) = mpsc::channel();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&changes);
        thread::spawn(move || listen(output, &send, &heard));
        let kubelet = Self { child, input, answers: Mutex::new(answers), changes };
        kubelet.ask::<Value>(&json!({ "op": "start", "start": how }))?;
        Ok(kubelet)
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// In the managers' own words; or they have ended.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &Value) -> Result<T> {
        // One at a time: answers come in the order of the questions.
        let answers = lock(&self.answers);
        writeln!(lock(&self.input), "{request}").context("ask the kubelet's managers")?;
        let answer = answers.recv_timeout(PATIENCE);
        let answer = answer.with_context(|| format!("the kubelet's managers did not answer {request}"))?;
        ensure!(answer.error.is_empty(), "{}: {}", request["op"].as_str().unwrap_or_default(), answer.error);
        serde_json::from_value(answer.answer).with_context(|| format!("understand the answer to {request}"))
    }

    /// Admits a pod, in the way of the kubelet.
    ///
    /// # Errors
    /// The reason and the message that its status would have.
    pub(crate) fn admit(&self, pod: &Pod) -> Result<()> {
        let outcome: Admitted = self.ask(&json!({ "op": "admit", "pod": pod.json() }))?;
        ensure!(outcome.admitted, "{}: {}", outcome.reason, outcome.message);
        Ok(())
    }

    /// Makes a container of an admitted pod: the first time, or again.
    ///
    /// # Errors
    /// The device manager has nothing for it.
    pub(crate) fn run_container(&self, pod: &Pod, container: &str) -> Result<Given> {
        self.ask(&json!({ "op": "runContainer", "uid": pod.uid, "container": container }))
    }

    /// The API server's pods have all been admitted, or refused: what nobody holds any more is free from now on.
    ///
    /// # Errors
    /// The managers have ended.
    pub(crate) fn heard(&self) -> Result<()> {
        self.ask(&json!({ "op": "heard" }))
    }

    /// Makes a pod's one container, and says which one GPU it has.
    ///
    /// # Errors
    /// It has another number of them.
    pub(crate) fn gpu_of(&self, pod: &Pod) -> Result<String> {
        let given = self.run_container(pod, pod.container_name())?;
        match &given.gpus()[..] {
            [one] => Ok(one.clone()),
            others => bail!("{} has {others:?}, not one GPU", pod.name),
        }
    }

    /// The pod is gone.
    ///
    /// # Errors
    /// The managers have ended.
    pub(crate) fn remove(&self, pod: &Pod) -> Result<()> {
        self.ask(&json!({ "op": "remove", "uid": pod.uid }))
    }

    /// Everything that changed so far, in order.
    pub(crate) fn changes(&self) -> Vec<Change> {
        lock(&self.changes).clone()
    }

    /// What is counted of our resource now; none where it was never heard of.
    pub(crate) fn count(&self) -> Option<Count> {
        lock(&self.changes).iter().rev().find_map(Change::count)
    }

    /// Waits for that count.
    ///
    /// # Errors
    /// It doesn't come in time.
    pub(crate) fn counts(&self, allocatable: i64, capacity: i64, within: Duration) -> Result<()> {
        let expected = Some(Count { capacity, allocatable });
        eventually(within, || {
            let found = self.count();
            ensure!(found == expected, "{found:?} of {RESOURCE} are counted, not {expected:?}");
            Ok(())
        })
    }

    /// Stays so for that long: not one change.
    ///
    /// # Errors
    /// Something else was counted meanwhile.
    pub(crate) fn keeps_counting(&self, allocatable: i64, capacity: i64, time: Duration) -> Result<()> {
        self.counts(allocatable, capacity, PATIENCE)?;
        let so_far = self.changes().len();
        thread::sleep(time);
        let changes: Vec<Count> = self.changes()[so_far..].iter().filter_map(Change::count).collect();
        ensure!(changes.is_empty(), "not ({allocatable}, {capacity}) all the time, but {changes:?}");
        Ok(())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(output: ChildStdout, answers: &Sender<Answer>, changes: &Mutex<Vec<Change>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(change) = serde_json::from_str::<Change>(&line) {
            lock(changes).push(change);
        } else if let Ok(answer) = serde_json::from_str::<Answer>(&line)
            && answers.send(answer).is_err()
        {
            return;
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

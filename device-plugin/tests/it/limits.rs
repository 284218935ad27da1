//! The memory of containers that share a GPU: limited by the driver where it can, and said where it can't.

use std::{fs, path::PathBuf, time::Duration};

use plasma_fake_nvml::{State, limits, older};

use crate::{
    kubelet::PATIENCE,
    node_pods::{NodePod, NodePods},
    plugin::{Node, Plugin, gpu},
};

const POD: &str = "1b6e4ba0-7c5d-4a0e-9f7f-2a0c6d1f9d11";
const OTHER_POD: &str = "9d2f1c64-0000-4a0e-9f7f-2a0c6d1f9d11";
const NO_PERMISSION: u32 = 4;
const NOT_SUPPORTED: u32 = 3;
const SET: &str = "nvmlDeviceSetMemoryLimits_v1";
const GET: &str = "nvmlDeviceGetMemoryLimits_v1";
const QUARTER: u64 = (81_559 << 20) / 4;

/// A pod whose container has these shares of the first GPU.
fn pod(uid: &str, name: &str, shares: &[u32], started: u64) -> NodePod {
    NodePod {
        uid: uid.to_owned(),
        name: name.to_owned(),
        devices: shares.iter().map(|share| format!("{}::{share}", gpu(0).uuid)).collect(),
        started: Some(started),
        finished: None,
    }
}

/// A node with one GPU, its cgroups and its kubelet.
struct Shared {
    node: Node,
    pods: NodePods,
}

impl Shared {
    fn new() -> Self {
        let node = Node::new(1);
        let pods = NodePods::start(&node, true);
        let shared = Self { node, pods };
        fs::create_dir(shared.root()).unwrap();
        fs::write(shared.root().join("cgroup.controllers"), "memory").unwrap();
        shared
    }

    fn root(&self) -> PathBuf {
        self.node.folder().join("cgroup")
    }

    /// A container's cgroup as systemd has it.
    fn scope(&self, uid: &str, container_id: &str) -> PathBuf {
        let pod = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        let pod = self.root().join("kubepods.slice/kubepods-burstable.slice").join(pod);
        self.cgroup(pod.join(format!("cri-containerd-{container_id}.scope")))
    }

    /// A guaranteed pod's container's cgroup, as folders alone have it.
    fn folder(&self, uid: &str, container_id: &str) -> PathBuf {
        self.cgroup(self.root().join(format!("kubepods/pod{uid}/{container_id}")))
    }

    fn cgroup(&self, place: PathBuf) -> PathBuf {
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn plugin(&self) -> Plugin {
        let root = self.root();
        self.node.plugin_with(&[
            "--scan-seconds",
            "1",
            "--replicas",
            "4",
            "--cgroup-root",
            root.to_str().unwrap(),
        ])
    }

    /// What the driver was told, by cgroup.
    fn limits(&self) -> Vec<(PathBuf, [u64; 2])> {
        let mut all = limits::limits(&self.node.state_file()).unwrap();
        all.remove(&gpu(0).uuid).unwrap_or_default().into_iter().collect()
    }

    async fn become_limits(&self, expected: &[(&PathBuf, u64)]) {
        let mut expected: Vec<_> =
            expected.iter().map(|(place, bytes)| ((*place).clone(), [*bytes; 2])).collect();
        expected.sort();
        let become_so = async {
            while self.limits() != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let became = tokio::time::timeout(PATIENCE, become_so).await;
        assert!(became.is_ok(), "{:?} instead of {expected:?}", self.limits());
    }
}

/// Waits until the metric of that pod has that value.
async fn metric_is(plugin: &Plugin, metric: &str, pod: &str, value: u64) {
    let of_pod = |page: &str| {
        let is_it = |line: &&str| {
            line.starts_with(&format!("{metric}{{")) && line.contains(&format!("pod=\"{pod}\""))
        };
        page.lines().find(is_it).and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    let mut last = None;
    let becomes = async {
        while last != Some(value) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            last = of_pod(&plugin.get("/metrics").await.1);
        }
    };
    let became = tokio::time::timeout(PATIENCE, becomes).await;
    assert!(became.is_ok(), "{metric} of {pod} is {last:?}, not {value}");
}

/// Has that function fail for the first GPU.
fn fail(state: &mut State, function: &str, code: u32) {
    state.gpus[0].errors.insert(function.to_owned(), code);
}

const ENFORCED: &str = "plasma_gpu_memory_limit_enforced";

#[tokio::test]
async fn each_container_is_limited_to_its_share_and_again_when_it_is_started_again() {
    let shared = Shared::new();
    shared.node.change(|state| state.gpus[0].memory_used_mib = 100);
    let (one, other) = (shared.scope(POD, "c1000"), shared.folder(OTHER_POD, "c1001"));
    let plugin = shared.plugin();
    plugin.becomes("/metrics", "plasma_nvml_up 1").await;
    shared.pods.set(pod(POD, "one", &[0], 1_000));
    shared.pods.set(pod(OTHER_POD, "other", &[1, 3], 1_001));
    shared.become_limits(&[(&one, QUARTER), (&other, QUARTER * 2)]).await;
    metric_is(&plugin, ENFORCED, "one", 1).await;
    metric_is(&plugin, ENFORCED, "other", 1).await;
    metric_is(&plugin, "plasma_gpu_memory_share_bytes", "other", QUARTER * 2).await;
    metric_is(&plugin, "plasma_gpu_memory_share_used_bytes", "one", 100 << 20).await;

    fs::remove_dir(&one).unwrap();
    shared.pods.set(pod(POD, "one", &[0], 1_002));
    plugin.must_say("no cgroup of container containerd://c1002 is found").await;
    metric_is(&plugin, ENFORCED, "one", 0).await;
    let again = shared.scope(POD, "c1002");
    shared.become_limits(&[(&again, QUARTER), (&other, QUARTER * 2)]).await;
    metric_is(&plugin, ENFORCED, "one", 1).await;
}

#[tokio::test]
async fn a_container_is_limited_as_soon_as_it_runs_and_not_only_at_the_next_look() {
    let shared = Shared::new();
    let one = shared.scope(POD, "c1000");
    let root = shared.root();
    let plugin = shared.node.plugin_with(&[
        "--scan-seconds",
        "300",
        "--replicas",
        "4",
        "--cgroup-root",
        root.to_str().unwrap(),
    ]);
    plugin.becomes("/metrics", "plasma_nvml_up 1").await;
    shared.pods.set(pod(POD, "one", &[0], 1_000));
    shared.become_limits(&[(&one, QUARTER)]).await;
}

#[tokio::test]
async fn a_limit_that_somebody_else_changed_is_set_again() {
    let shared = Shared::new();
    let one = shared.scope(POD, "c1000");
    shared.pods.set(pod(POD, "one", &[2], 1_000));
    let _plugin = shared.plugin();
    shared.become_limits(&[(&one, QUARTER)]).await;
    let file = shared.node.state_file().with_extension("limits");
    let mut limits = limits::limits(&shared.node.state_file()).unwrap();
    limits.get_mut(&gpu(0).uuid).unwrap().insert(one.clone(), [0, u64::MAX]);
    fs::write(&file, serde_json::to_vec(&limits).unwrap()).unwrap();
    shared.become_limits(&[(&one, QUARTER)]).await;
    fs::remove_file(&file).unwrap();
    shared.become_limits(&[(&one, QUARTER)]).await;
}

#[tokio::test]
async fn a_limit_that_the_driver_refuses_is_said_and_asked_for_again() {
    let shared = Shared::new();
    let one = shared.scope(POD, "c1000");
    shared.pods.set(pod(POD, "one", &[0], 1_000));
    shared.node.change(|state| fail(state, SET, NO_PERMISSION));
    let plugin = shared.plugin();
    plugin.must_say("nothing limits what pod team/one, container main takes of GPU").await;
    plugin.must_say("the driver refused its limit at").await;
    metric_is(&plugin, ENFORCED, "one", 0).await;
    assert!(shared.limits().is_empty());
    shared.node.change(|state| state.gpus[0].errors.clear());
    shared.become_limits(&[(&one, QUARTER)]).await;
    metric_is(&plugin, ENFORCED, "one", 1).await;
    // A driver that hangs says nothing any more: what it said isn't told as if it were so.
    shared.node.change(|state| state.hang.extend(["nvmlDeviceGetCount_v2".to_owned()]));
    metric_is(&plugin, ENFORCED, "one", 0).await;
    shared.node.change(|state| state.hang.clear());
    metric_is(&plugin, ENFORCED, "one", 1).await;
}

#[tokio::test]
async fn where_nothing_can_be_enforced_that_is_said_and_gpus_are_shared_all_the_same() {
    let mut shared = Shared::new();
    shared.scope(POD, "c1000");
    shared.pods.set(pod(POD, "one", &[0], 1_000));
    let able = shared.node.library.clone();
    let older = shared.node.folder().join("older.so");
    older::without(&able, &[SET, GET], &older).unwrap();
    shared.node.library = older;
    {
        let plugin = shared.plugin();
        plugin.must_say("the driver has no memory limits").await;
        metric_is(&plugin, ENFORCED, "one", 0).await;
    }
    shared.node.library = able;
    shared.node.change(|state| fail(state, GET, NOT_SUPPORTED));
    {
        let plugin = shared.plugin();
        plugin.must_say("the driver refused its limit at").await;
        plugin.must_say("not every container that shares a GPU is limited in its memory").await;
        metric_is(&plugin, ENFORCED, "one", 0).await;
    }
    shared.node.change(|state| state.gpus[0].errors.clear());
    fs::remove_file(shared.root().join("cgroup.controllers")).unwrap();
    let plugin = shared.plugin();
    plugin.must_say("is no root of cgroups of version 2").await;
    metric_is(&plugin, ENFORCED, "one", 0).await;
    assert!(shared.limits().is_empty());
}

//! What a case runs on: a node with a kubelet and our plugin, as the node tests have them before each case.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::harness::{Kubelet, Node, Plugin, Pod, Programs, RESOURCE, Start, Way, eventually};

/// How long anything may take that the node tests give a minute or more.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The node tests' own patience with a plugin that registers anew.
pub(super) const REGISTERS: Duration = Duration::from_secs(30);

/// The node, its kubelet, and the pods that the API server has for it.
pub(super) struct Stage {
    pub(super) way: Way,
    pub(super) node: Node,
    programs: Programs,
    start: Start,
    kubelet: Option<Kubelet>,
    pods: Vec<Pod>,
}

/// One pod of the pod-resources API.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodResources {
    pub(super) name: String,
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) containers: Vec<ContainerResources>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ContainerResources {
    pub(super) name: String,
    #[serde(default)]
    pub(super) devices: Vec<Devices>,
    #[serde(default)]
    pub(super) cpu_ids: Vec<i64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Devices {
    pub(super) resource_name: String,
    #[serde(default)]
    pub(super) device_ids: Vec<String>,
    #[serde(default)]
    pub(super) topology: Option<serde_json::Value>,
}

impl Stage {
    /// A node with two GPUs, and nothing that runs on it.
    pub(super) fn new(programs: &Programs, way: Way) -> Result<Self> {
        let node = Node::new(programs, way, 2)?;
        let programs = programs.clone();
        Ok(Self { way, node, programs, start: Start::default(), kubelet: None, pods: Vec::new() })
    }

    /// The same with another number of GPUs.
    pub(super) fn with_gpus(&mut self, gpus: usize) -> Result<()> {
        self.node = Node::new(&self.programs, self.way, gpus)?;
        Ok(())
    }

    /// The same with a static CPU manager.
    pub(super) fn with_cpus(&mut self, cpus: u32) {
        self.start.cpus = cpus;
    }

    pub(super) fn kubelet(&self) -> Result<&Kubelet> {
        self.kubelet.as_ref().context("the kubelet isn't running")
    }

    /// Starts the kubelet, which finds those containers running, and admits the pods that the API server has.
    ///
    /// # Errors
    /// It can't be started, or a pod is refused.
    pub(super) fn start_kubelet(&mut self, running: &[&Pod]) -> Result<()> {
        self.start.running = running.iter().flat_map(|pod| pod.running()).collect();
        let kubelet = Kubelet::start(&self.node, &self.start)?;
        for pod in &self.pods {
            kubelet.admit(pod)?;
        }
        kubelet.heard()?;
        self.kubelet = Some(kubelet);
        Ok(())
    }

    pub(super) fn stop_kubelet(&mut self) {
        self.kubelet = None;
    }

    /// Ends the kubelet and starts another one, while those pods run on.
    ///
    /// # Errors
    /// As [`Self::start_kubelet`].
    pub(super) fn restart_kubelet(&mut self, running: &[&Pod]) -> Result<()> {
        self.stop_kubelet();
        self.start_kubelet(running)
    }

    /// Before each case: a kubelet, our plugin (whose pod is one, too), and both GPUs to give.
    ///
    /// # Errors
    /// They never are.
    pub(super) fn ready(&mut self) -> Result<Plugin> {
        self.start_kubelet(&[])?;
        self.admit(&Pod::named("device-plugin").container("device-plugin", 0, 0))?;
        let plugin = self.node.plugin(&[])?;
        self.kubelet()?.counts(2, 2, PATIENCE)?;
        Ok(plugin)
    }

    /// After each case: with the plugin gone and the kubelet restarted there are no GPUs.
    ///
    /// # Errors
    /// There are.
    pub(super) fn nothing_remains(&mut self, plugin: Plugin) -> Result<()> {
        plugin.terminate()?;
        self.pods.clear();
        self.restart_kubelet(&[])?;
        eventually(PATIENCE, || {
            let found = self.kubelet()?.count();
            ensure!(found.is_none_or(|count| count.capacity <= 0), "{found:?} remain without a plugin");
            Ok(())
        })
    }

    /// Admits a pod that the API server has from now on.
    ///
    /// # Errors
    /// It is refused.
    pub(super) fn admit(&mut self, pod: &Pod) -> Result<()> {
        self.pods.push(pod.clone());
        self.kubelet()?.admit(pod)
    }

    /// A pod with one GPU that runs, and which GPU that is.
    ///
    /// # Errors
    /// It doesn't, or hasn't.
    pub(super) fn run(&mut self, pod: &Pod) -> Result<String> {
        self.admit(pod)?;
        self.kubelet()?.gpu_of(pod)
    }

    /// The pod is deleted, or has ended: the kubelet has it no more, nor will it have it after a restart.
    ///
    /// # Errors
    /// The kubelet isn't running.
    pub(super) fn forget(&mut self, pod: &Pod) -> Result<()> {
        self.pods.retain(|other| other.uid != pod.uid);
        self.kubelet.as_ref().map_or(Ok(()), |kubelet| kubelet.remove(pod))
    }

    /// What the pod-resources API lists.
    ///
    /// # Errors
    /// It doesn't answer.
    pub(super) fn pod_resources(&self) -> Result<Vec<PodResources>> {
        Ok(self.kubelet()?.ask::<Option<_>>(&json!({ "op": "podResources" }))?.unwrap_or_default())
    }

    /// The pod-resources API says that the pod's one container has just this GPU.
    ///
    /// # Errors
    /// It says something else.
    pub(super) fn is_assigned(&self, pod: &Pod, gpu: &str) -> Result<()> {
        let listed = self.pod_resources()?;
        let found = listed.iter().find(|one| one.name == pod.name).context("the pod isn't listed")?;
        let container = found.containers.iter().find(|one| one.name == pod.container_name());
        let devices = container.context("its container isn't listed")?.ids(RESOURCE);
        ensure!(devices == [gpu], "{} is listed with {devices:?}, not with {gpu}", pod.name);
        Ok(())
    }
}

impl ContainerResources {
    /// The IDs of one resource's devices.
    pub(super) fn ids(&self, resource: &str) -> Vec<&str> {
        let ours = self.devices.iter().filter(|devices| devices.resource_name == resource);
        ours.flat_map(|devices| &devices.device_ids).map(String::as_str).collect()
    }
}

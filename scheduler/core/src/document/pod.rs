//! A pod as the API server stores it. Every field of a 1.37 pod's spec is here: as one that is understood, or as one that
//! doesn't matter to placement; what is neither is told by its path.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_ignored::Path;
use serde_json::value::RawValue;

use super::{
    AmountTexts, LabelSelector, Meta,
    parts::{Parts, part},
    skip::Skip,
    volume::Volume,
};
use crate::pod::{Affinity, Toleration};

/// A pod. Its spec and status are read when the cluster takes it in, so that one that makes no sense is a pod with a
/// fault and not the end of a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Parts")]
pub struct PodDocument {
    /// What it says about itself.
    pub metadata: Meta,
    /// Why not all of that can be read.
    pub(crate) fault: Option<String>,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

impl From<Parts> for PodDocument {
    fn from(parts: Parts) -> Self {
        let (metadata, fault) = parts.metadata();
        Self { metadata, fault, spec: parts.spec, status: parts.status }
    }
}

impl PodDocument {
    /// The spec, and the paths of its fields that aren't known.
    pub(crate) fn spec(&self) -> Result<(PodSpec, Vec<String>), serde_json::Error> {
        let text = self.spec.as_ref().map_or("{}", |spec| spec.get());
        let mut unknown = Vec::new();
        let mut json = serde_json::Deserializer::from_str(text);
        let spec = serde_ignored::deserialize(&mut json, |path| unknown.push(written(&path)))?;
        Ok((spec, unknown))
    }

    /// What can be said of a pod whose spec can't be read: where it is, and whose it is.
    pub(crate) fn outside(&self) -> Outside {
        part(self.spec.as_deref()).unwrap_or_default()
    }

    /// The status.
    pub(crate) fn status(&self) -> Result<PodStatus, serde_json::Error> {
        part(self.status.as_deref())
    }
}

/// The outside of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Outside {
    pub(crate) node_name: Option<String>,
    pub(crate) scheduler_name: Option<String>,
}

/// A path as people write it: `spec.containers[].image`.
pub(super) fn written(path: &Path<'_>) -> String {
    match path {
        Path::Root => "spec".to_owned(),
        Path::Seq { parent, .. } => format!("{}[]", written(parent)),
        Path::Map { parent, key } => format!("{}.{key}", written(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            written(parent)
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct PodSpec {
    // Understood.
    pub(crate) affinity: Option<Affinities>,
    pub(crate) containers: Vec<Container>,
    pub(crate) host_network: Option<bool>,
    pub(crate) host_users: Option<bool>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) node_name: Option<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) overhead: AmountTexts,
    pub(crate) preemption_policy: Option<String>,
    pub(crate) priority: Option<i32>,
    pub(crate) priority_class_name: Option<String>,
    pub(crate) resource_claims: Vec<Skip>,
    pub(crate) resources: Option<Requirements>,
    pub(crate) scheduler_name: Option<String>,
    pub(crate) scheduling_gates: Vec<Gate>,
    pub(crate) scheduling_group: Option<SchedulingGroup>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) topology_spread_constraints: Vec<Spread>,
    pub(crate) volumes: Vec<Volume>,
    // Nothing to do with placement.
    active_deadline_seconds: Skip,
    automount_service_account_token: Skip,
    dns_config: Skip,
    dns_policy: Skip,
    enable_service_links: Skip,
    ephemeral_containers: Skip,
    eviction_responders: Skip,
    host_aliases: Skip,
    #[serde(rename = "hostIPC")]
    host_ipc: Skip,
    #[serde(rename = "hostPID")]
    host_pid: Skip,
    hostname: Skip,
    hostname_override: Skip,
    image_pull_secrets: Skip,
    os: Skip,
    readiness_gates: Skip,
    restart_policy: Skip,
    runtime_class_name: Skip,
    security_context: Skip,
    service_account: Skip,
    service_account_name: Skip,
    #[serde(rename = "setHostnameAsFQDN")]
    set_hostname_as_fqdn: Skip,
    share_process_namespace: Skip,
    subdomain: Skip,
    termination_grace_period_seconds: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) ports: Vec<Port>,
    pub(crate) resources: Requirements,
    pub(crate) restart_policy: Option<String>,
    pub(crate) restart_policy_rules: Vec<RestartRule>,
    args: Skip,
    command: Skip,
    env: Skip,
    env_from: Skip,
    image: Skip,
    image_pull_policy: Skip,
    lifecycle: Skip,
    liveness_probe: Skip,
    readiness_probe: Skip,
    resize_policy: Skip,
    security_context: Skip,
    startup_probe: Skip,
    stdin: Skip,
    stdin_once: Skip,
    termination_message_path: Skip,
    termination_message_policy: Skip,
    tty: Skip,
    volume_devices: Skip,
    pub(crate) volume_mounts: Vec<VolumeMount>,
    working_dir: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct Port {
    pub(crate) host_port: Option<i64>,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: Option<String>,
    pub(crate) protocol: Option<String>,
    name: Skip,
    container_port: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct RestartRule {
    pub(crate) action: String,
    exit_codes: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct VolumeMount {
    pub(crate) bind_mount_options: Vec<Skip>,
    mount_path: Skip,
    mount_propagation: Skip,
    name: Skip,
    read_only: Skip,
    recursive_read_only: Skip,
    sub_path: Skip,
    sub_path_expr: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(dead_code)]
pub(crate) struct Requirements {
    pub(crate) requests: AmountTexts,
    pub(crate) claims: Vec<Skip>,
    limits: Skip,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Gate {
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SchedulingGroup {
    pub(crate) pod_group_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinities {
    pub(crate) node_affinity: Option<NodeAffinity>,
    pub(crate) pod_affinity: Option<PodAffinity>,
    pub(crate) pod_anti_affinity: Option<PodAffinity>,
}

/// Preferences are wishes: a placement that ignores them is still correct.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct NodeAffinity {
    pub(crate) required_during_scheduling_ignored_during_execution: Option<Affinity>,
    preferred_during_scheduling_ignored_during_execution: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code)]
pub(crate) struct PodAffinity {
    pub(crate) required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    preferred_during_scheduling_ignored_during_execution: Skip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodAffinityTerm {
    pub(crate) label_selector: Option<LabelSelector>,
    pub(crate) match_label_keys: Vec<String>,
    pub(crate) mismatch_label_keys: Vec<String>,
    pub(crate) namespace_selector: Option<LabelSelector>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) topology_key: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spread {
    pub(crate) label_selector: Option<LabelSelector>,
    pub(crate) match_label_keys: Vec<String>,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: Option<i64>,
    pub(crate) node_affinity_policy: Option<String>,
    pub(crate) node_taints_policy: Option<String>,
    pub(crate) topology_key: String,
    pub(crate) when_unsatisfiable: String,
}

/// What of a pod's status says what it holds, and where it is going.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    pub(crate) start_time: Option<String>,
    pub(crate) nominated_node_name: Option<String>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
    pub(crate) allocated_resources: Option<AmountTexts>,
    pub(crate) resources: Option<StatusResources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<String>,
}

impl Condition {
    /// Whether it is of this type, and has this status.
    pub(crate) fn is(&self, kind: &str, status: &str) -> bool {
        self.kind == kind && self.status == status
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) state: ContainerState,
    pub(crate) allocated_resources: Option<AmountTexts>,
    pub(crate) resources: Option<StatusResources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub(crate) running: Option<Skip>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatusResources {
    pub(crate) requests: Option<AmountTexts>,
}

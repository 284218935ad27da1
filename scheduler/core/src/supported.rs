//! Which pods this scheduler understands: a typed, exhaustive check of the spec as the API server stores it.
//!
//! Every field of a 1.37 pod is here, as one that is understood, one that doesn't matter to placement, or one that is
//! refused when it is set. A field that isn't here is refused too: a guess could put a pod where it must not be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::pod::{Affinity, Pod, Toleration, requests};

/// Why a pod is not scheduled here: the field, and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Unsupported {
    /// The field's path.
    pub field: String,
    /// What is the matter, and the way out.
    pub why: String,
}

type Ignored = Option<IgnoredAny>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct Spec {
    // Understood.
    #[serde(default)]
    affinity: Affinities,
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    node_selector: BTreeMap<String, String>,
    overhead: Ignored,
    resources: Option<Requirements>,
    #[serde(default)]
    tolerations: Vec<Toleration>,
    #[serde(default)]
    topology_spread_constraints: Vec<Spread>,
    #[serde(default)]
    volumes: Vec<BTreeMap<String, Value>>,
    // Refused when set.
    #[serde(default)]
    resource_claims: Vec<IgnoredAny>,
    scheduling_group: Option<Value>,
    // Nothing to do with placement, or looked at by the shell.
    active_deadline_seconds: Ignored,
    automount_service_account_token: Ignored,
    dns_config: Ignored,
    dns_policy: Ignored,
    enable_service_links: Ignored,
    ephemeral_containers: Ignored,
    eviction_responders: Ignored,
    host_aliases: Ignored,
    #[serde(rename = "hostIPC")]
    host_ipc: Ignored,
    #[serde(rename = "hostPID")]
    host_pid: Ignored,
    host_network: Option<bool>,
    host_users: Ignored,
    hostname: Ignored,
    hostname_override: Ignored,
    image_pull_secrets: Ignored,
    node_name: Ignored,
    os: Ignored,
    preemption_policy: Ignored,
    priority: Ignored,
    priority_class_name: Ignored,
    readiness_gates: Ignored,
    restart_policy: Ignored,
    runtime_class_name: Ignored,
    scheduler_name: Ignored,
    scheduling_gates: Ignored,
    security_context: Ignored,
    service_account: Ignored,
    service_account_name: Ignored,
    #[serde(rename = "setHostnameAsFQDN")]
    set_hostname_as_fqdn: Ignored,
    share_process_namespace: Ignored,
    subdomain: Ignored,
    termination_grace_period_seconds: Ignored,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct Container {
    name: String,
    #[serde(default)]
    ports: Vec<Port>,
    resources: Option<Requirements>,
    args: Ignored,
    command: Ignored,
    env: Ignored,
    env_from: Ignored,
    image: Ignored,
    image_pull_policy: Ignored,
    lifecycle: Ignored,
    liveness_probe: Ignored,
    readiness_probe: Ignored,
    resize_policy: Ignored,
    restart_policy: Ignored,
    restart_policy_rules: Ignored,
    security_context: Ignored,
    startup_probe: Ignored,
    stdin: Ignored,
    stdin_once: Ignored,
    termination_message_path: Ignored,
    termination_message_policy: Ignored,
    tty: Ignored,
    volume_devices: Ignored,
    volume_mounts: Ignored,
    working_dir: Ignored,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    host_port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Requirements {
    limits: Ignored,
    requests: Ignored,
    #[serde(default)]
    claims: Vec<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Affinities {
    node_affinity: Option<NodeAffinity>,
    pod_affinity: Option<PodAffinity>,
    pod_anti_affinity: Option<PodAffinity>,
}

/// Preferences are wishes: a placement that ignores them is still correct.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<Affinity>,
    preferred_during_scheduling_ignored_during_execution: Ignored,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct PodAffinity {
    #[serde(default)]
    required_during_scheduling_ignored_during_execution: Vec<IgnoredAny>,
    preferred_during_scheduling_ignored_during_execution: Ignored,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spread {
    when_unsatisfiable: String,
}

/// Volumes that any node can mount.
const VOLUMES: &[&str] =
    &["configMap", "downwardAPI", "emptyDir", "hostPath", "image", "nfs", "projected", "secret"];

/// Reads a pod as far as placing it is concerned.
///
/// # Errors
/// The first field that this scheduler doesn't understand, or doesn't take on.
pub fn understand(name: &str, uid: &str, spec: &Value) -> Result<Pod, Unsupported> {
    let parsed = Spec::deserialize(spec).map_err(|fault| unreadable(spec, &fault.to_string()))?;
    refuse_unsupported(&parsed)?;
    let asked = requests(spec).map_err(|fault| refuse("spec.containers[].resources", fault.to_string()))?;
    let required = |node: NodeAffinity| node.required_during_scheduling_ignored_during_execution;
    Ok(Pod {
        namespace: String::new(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        requests: asked,
        node_selector: parsed.node_selector,
        affinity: parsed.affinity.node_affinity.and_then(required),
        tolerations: parsed.tolerations,
    })
}

fn refuse(field: &str, why: impl Into<String>) -> Unsupported {
    Unsupported { field: field.to_owned(), why: why.into() }
}

/// Names the field that couldn't be read. The parser knows an unknown field's name, but neither its path nor when to
/// stop listing the names that it does know.
fn unreadable(spec: &Value, fault: &str) -> Unsupported {
    let unknown = fault.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let Some(name) = unknown else { return refuse("spec", fault) };
    let mut paths = BTreeSet::new();
    collect_paths(spec, "spec", name, &mut paths);
    let why = "plasma-scheduler doesn't know this field, so it can't tell where the pod may run: \
               leave it out, or use another scheduler for this pod";
    match (paths.pop_first(), paths.is_empty()) {
        (Some(path), true) => refuse(&path, why),
        // One of several places with that name, and which isn't known.
        _ => refuse(&format!("spec: {name}"), why),
    }
}

/// Collects where fields of that name stand; items of a list count as one place.
fn collect_paths(value: &Value, path: &str, name: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = format!("{path}.{field}");
                collect_paths(value, &path, name, found);
                if field == name {
                    found.insert(path);
                }
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| collect_paths(item, &format!("{path}[]"), name, found));
        }
        _ => {}
    }
}

fn refuse_unsupported(spec: &Spec) -> Result<(), Unsupported> {
    const NOT_YET: &str =
        "plasma-scheduler doesn't take this on: leave it out, or use another scheduler for this pod";
    let is_required = |affinity: &Option<PodAffinity>| {
        affinity
            .as_ref()
            .is_some_and(|pods| !pods.required_during_scheduling_ignored_during_execution.is_empty())
    };
    let claims =
        |requirements: &Option<Requirements>| requirements.as_ref().is_some_and(|r| !r.claims.is_empty());
    let containers = || spec.containers.iter().chain(&spec.init_containers);
    let host_port =
        |container: &Container| container.ports.iter().any(|port| port.host_port.unwrap_or(0) != 0);
    let hard_spread = |spread: &Spread| spread.when_unsatisfiable != "ScheduleAnyway";
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let refused = [
        (format!("spec.affinity.podAffinity.{required}"), is_required(&spec.affinity.pod_affinity)),
        (format!("spec.affinity.podAntiAffinity.{required}"), is_required(&spec.affinity.pod_anti_affinity)),
        (
            "spec.topologySpreadConstraints".to_owned(),
            spec.topology_spread_constraints.iter().any(hard_spread),
        ),
        ("spec.resourceClaims".to_owned(), !spec.resource_claims.is_empty()),
        ("spec.schedulingGroup".to_owned(), spec.scheduling_group.is_some()),
        ("spec.resources.claims".to_owned(), claims(&spec.resources)),
        ("spec.containers[].resources.claims".to_owned(), containers().any(|c| claims(&c.resources))),
        ("spec.containers[].ports[].hostPort".to_owned(), containers().any(host_port)),
    ];
    if let Some((field, _)) = refused.into_iter().find(|(_, set)| *set) {
        return Err(refuse(&field, NOT_YET));
    }
    for volume in &spec.volumes {
        let foreign = volume.keys().find(|key| *key != "name" && !VOLUMES.contains(&key.as_str()));
        if let Some(kind) = foreign {
            return Err(refuse(&format!("spec.volumes[].{kind}"), NOT_YET));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod as an API server stores it: defaults filled in, token and tolerations added by admission.
    fn stored() -> Value {
        json!({
            "containers": [{
                "name": "c", "image": "x", "imagePullPolicy": "Always",
                "resources": { "limits": { "nvidia.com/gpu": "1" }, "requests": { "nvidia.com/gpu": "1", "cpu": "100m" } },
                "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{ "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "t", "readOnly": true }],
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
            "priority": 0, "restartPolicy": "Never", "schedulerName": "plasma-scheduler", "securityContext": {},
            "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "tolerations": [{ "effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300 }],
            "volumes": [{ "name": "t", "projected": { "defaultMode": 420, "sources": [] } }],
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut spec = stored();
        spec[field] = value;
        spec
    }

    fn refused_field(spec: &Value) -> String {
        understand("p", "u", spec).unwrap_err().field
    }

    #[test]
    fn an_ordinary_stored_pod_is_understood() {
        let pod = understand("p", "u", &stored()).unwrap();
        assert_eq!(pod.requests.get("nvidia.com/gpu").to_string(), "1");
        assert_eq!(pod.tolerations.len(), 1);
    }

    #[test]
    fn a_field_from_the_future_is_refused_by_its_name() {
        let fault = understand("p", "u", &with("quantumAffinity", json!({}))).unwrap_err();
        assert_eq!(fault.field, "spec.quantumAffinity");
        assert!(fault.to_string().len() < 200, "the names of all other fields help nobody: {fault}");
        let mut nested = stored();
        nested["containers"][0]["gpuSharing"] = json!(true);
        assert_eq!(refused_field(&nested), "spec.containers[].gpuSharing");
        nested["nodeSelector"] = json!({ "gpuSharing": "a label" });
        assert_eq!(refused_field(&nested), "spec: gpuSharing");
    }

    #[test]
    fn what_is_not_taken_on_is_refused_by_its_field() {
        let term = json!({ "topologyKey": "kubernetes.io/hostname" });
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
        let preferred = json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1 }] });
        let anti = refused_field(&with("affinity", json!({ "podAntiAffinity": required })));
        assert!(anti.starts_with("spec.affinity.podAntiAffinity"), "{anti}");
        assert!(understand("p", "u", &with("affinity", json!({ "podAffinity": preferred }))).is_ok());
        assert_eq!(refused_field(&with("resourceClaims", json!([{ "name": "g" }]))), "spec.resourceClaims");
        let claim = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "x" } }]);
        assert_eq!(refused_field(&with("volumes", claim)), "spec.volumes[].persistentVolumeClaim");
        let spread = json!([{ "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1, "topologyKey": "zone" }]);
        assert_eq!(
            refused_field(&with("topologySpreadConstraints", spread)),
            "spec.topologySpreadConstraints"
        );
        let mut port = stored();
        port["containers"][0]["ports"][0]["hostPort"] = json!(80);
        assert_eq!(refused_field(&port), "spec.containers[].ports[].hostPort");
    }
}

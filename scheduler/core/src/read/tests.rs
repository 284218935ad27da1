//! What of a stored pod is understood, and what is told about what isn't.

use serde_json::{Value, json};

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

fn read(spec: &Value) -> (Pod, Shared) {
    let document = json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": spec });
    let mut shared = Shared::default();
    (pod(&serde_json::from_value(document).unwrap(), &mut shared), shared)
}

fn refused_field(spec: &Value) -> String {
    read(spec).0.problem.map(|problem| problem.field).unwrap_or_default()
}

#[test]
fn an_ordinary_stored_pod_is_understood() {
    let (pod, mut shared) = read(&stored());
    assert_eq!(pod.problem, None);
    let gpu = shared.resources.id("nvidia.com/gpu");
    assert_eq!((pod.kind.requests.get(gpu), pod.kind.requests.get(ResourceId::PODS)), (1, 1));
    assert_eq!(pod.kind.tolerations.len(), 1);
    assert_eq!(&*pod.scheduler, "plasma-scheduler");
}

#[test]
fn a_field_from_the_future_is_refused_by_its_path() {
    let fault = read(&with("quantumAffinity", json!({}))).0.problem.unwrap();
    assert_eq!(fault.field, "spec.quantumAffinity");
    assert!(fault.to_string().len() < 200, "{fault}");
    let mut nested = stored();
    nested["containers"][0]["gpuSharing"] = json!(true);
    nested["nodeSelector"] = json!({ "gpuSharing": "a label" });
    assert_eq!(refused_field(&nested), "spec.containers[].gpuSharing");
    let volume = json!([{ "name": "v", "quantumDisk": {} }]);
    assert_eq!(refused_field(&with("volumes", volume)), "spec.volumes[].quantumDisk");
    let affinity = json!({ "nodeAffinity": { "requiredByTheFuture": {} } });
    assert_eq!(refused_field(&with("affinity", affinity)), "spec.affinity.nodeAffinity.requiredByTheFuture");
    // A pod that another scheduler placed holds what it holds all the same.
    assert!(read(&nested).0.holds.is_some());
}

#[test]
fn what_is_not_taken_on_is_refused_by_its_field() {
    assert_eq!(refused_field(&with("resourceClaims", json!([{ "name": "g" }]))), "spec.resourceClaims");
    assert_eq!(refused_field(&with("schedulingGroup", json!({}))), "spec.schedulingGroup");
    let group = json!({ "podGroupName": "g", "role": "leader" });
    assert_eq!(refused_field(&with("schedulingGroup", group)), "spec.schedulingGroup.role");
    let mut claims = stored();
    claims["containers"][0]["resources"]["claims"] = json!([{ "name": "g" }]);
    assert_eq!(refused_field(&claims), "spec.containers[].resources.claims");
    let mut given = stored();
    given["containers"][0]["resources"]["requests"]["deviceclass.resource.kubernetes.io/gpu.example.com"] =
        json!("1");
    assert_eq!(
        refused_field(&given),
        "spec.containers[].resources.requests[deviceclass.resource.kubernetes.io/gpu.example.com]"
    );
}

#[test]
fn a_pod_that_makes_no_sense_is_still_on_its_node() {
    let mut spec = with("nodeName", json!("n1"));
    spec["containers"] = json!("none");
    let (pod, _) = read(&spec);
    assert_eq!((pod.node.as_deref(), pod.holds), (Some("n1"), None));
    assert_eq!(pod.problem.unwrap().field, "spec");
    let mut lots = with("nodeName", json!("n1"));
    lots["containers"][0]["resources"]["requests"]["cpu"] = json!("lots");
    let (pod, _) = read(&lots);
    assert_eq!((pod.node.as_deref(), pod.holds), (Some("n1"), None));
    assert_eq!(pod.problem.unwrap().field, "spec.containers[].resources");
}

#[test]
fn host_ports_are_those_of_containers_and_side_cars() {
    let mut spec = stored();
    spec["containers"][0]["ports"] = json!([{ "containerPort": 1, "hostPort": 80, "protocol": "UDP", "hostIP": "10.0.0.1" },
        { "containerPort": 2 }]);
    spec["initContainers"] = json!([{ "name": "i", "ports": [{ "hostPort": 81 }] },
        { "name": "s", "restartPolicy": "Always", "ports": [{ "hostPort": 82 }] }]);
    let ports: Vec<_> =
        read(&spec).0.kind.ports.iter().map(|port| (port.port, port.address.to_string())).collect();
    assert_eq!(ports, [(80, "10.0.0.1".to_owned()), (82, "0.0.0.0".to_owned())]);
}

#[test]
fn a_shared_resource_is_one_whose_name_says_so_and_of_which_something_is_asked() {
    for (name, amount, is_shared) in [
        ("nvidia.com/gpu.shared", "1", true),
        ("nvidia.com/mig-1g.10gb.shared", "2", true),
        ("nvidia.com/gpu.shared", "0", false),
        ("nvidia.com/gpu", "1", false),
    ] {
        let mut spec = stored();
        spec["containers"][0]["resources"]["requests"] = json!({ name: amount });
        assert_eq!(read(&spec).0.kind.shared.is_some(), is_shared, "{name} {amount}");
    }
}

#[test]
fn alike_pods_have_one_kind() {
    let mut shared = Shared::default();
    let mut read = |name: &str, labels: Value| {
        let metadata = json!({ "name": name, "namespace": "n", "uid": name, "labels": labels });
        let document = json!({ "metadata": metadata, "spec": stored() });
        pod(&serde_json::from_value(document).unwrap(), &mut shared)
    };
    let (a, b) = (read("a", json!({ "index": "0" })), read("b", json!({ "index": "1" })));
    assert!(Arc::ptr_eq(&a.kind, &b.kind));
    drop((a, b));
    shared.forget_unused(HashSet::new());
    assert!(shared.kinds.is_empty());
}

#[test]
fn pods_of_a_daemon_set_are_of_one_kind_once_they_are_on_their_nodes() {
    let mut shared = Shared::default();
    let mut read = |node: &str, is_there: bool| {
        let mut spec = stored();
        spec["tolerations"] = json!([{ "key": "a", "operator": "Exists" }]);
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
        let terms = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
        spec["affinity"] =
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
        spec["nodeName"] = if is_there { json!(node) } else { Value::Null };
        let document = json!({ "metadata": { "name": node, "namespace": "n", "uid": node }, "spec": spec });
        pod(&serde_json::from_value(document).unwrap(), &mut shared)
    };
    assert!(Arc::ptr_eq(&read("a", true).kind, &read("b", true).kind));
    let (a, b) = (read("a", false), read("b", false));
    assert!(!Arc::ptr_eq(&a.kind, &b.kind) && a.kind.affinity.is_some() && !a.kind.tolerations.is_empty());
}

#[test]
fn a_part_of_an_unknown_shape_is_a_fault_of_its_object_alone() {
    let pods = json!([
        { "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": { "a": 1 } }, "spec": stored() },
        { "metadata": { "name": "q", "namespace": "n", "uid": "v" }, "spec": stored() },
    ]);
    let pods: Vec<PodDocument> = serde_json::from_value(pods).unwrap();
    let mut shared = Shared::default();
    let read: Vec<Pod> = pods.iter().map(|document| pod(document, &mut shared)).collect();
    assert_eq!((&*read[0].name, &*read[0].uid), ("p", "u"));
    assert_eq!(read[0].problem.as_ref().map(|problem| problem.field.as_str()), Some("metadata"));
    assert!(read[0].holds.is_none() && read[1].problem.is_none());
}

#[test]
fn a_pod_whose_wishes_for_company_cannot_be_read_holds_something_unknown() {
    let expression = json!({ "key": "a", "operator": "Near", "values": ["b"] });
    let term = json!({ "labelSelector": { "matchExpressions": [expression] }, "topologyKey": "zone" });
    let wish = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    let (pod, _) = read(&with("affinity", wish));
    assert!(pod.holds.is_none() && pod.problem.is_some());
}

#[test]
fn a_pod_that_cannot_be_read_and_has_ended_holds_nothing() {
    let stage = |status: Value| {
        let metadata = json!({ "name": "p", "namespace": "n", "uid": "u" });
        let document = json!({ "metadata": metadata, "spec": { "containers": "none", "nodeName": "a" }, "status": status });
        pod(&serde_json::from_value(document).unwrap(), &mut Shared::default()).stage
    };
    for (phase, has_failed) in [("Failed", true), ("Succeeded", false)] {
        let ended = stage(json!({ "phase": phase }));
        assert!(ended.is_over && ended.has_failed == has_failed, "{ended:?}");
    }
    let running = json!([{ "name": "c", "state": { "running": {} } }]);
    assert!(!stage(json!({ "phase": "Failed", "containerStatuses": running })).is_over);
    assert!(!stage(json!({ "phase": "Running" })).is_over && !stage(json!("odd")).is_over);
}

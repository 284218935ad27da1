//! What is told to an API server that knows, refuses and remembers.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use kube::client::Body;
use plasma_device_plugin_core::{Gpu, HealthRules, Inventory, Look, Policy, Scan, Seen, Signs};
use serde_json::Value;
use tonic::codegen::http::{Request, Response};

use super::*;

/// What an API server was asked: method and path, and the body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A label that a node has once somebody told it that it was divided.
const OLD_LAYOUT: &str = "nvidia.com/mig-2g.20gb.count";

/// An API server that knows one GpuNode or none, and refuses the first so many requests.
fn api_server(known: Option<GpuNode>, mut refusals: usize) -> (Teller, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, known) = (log.clone(), known.clone());
        let refused = refusals > 0;
        refusals = refusals.saturating_sub(1);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, answer) = answer(&line, &body, known.as_ref(), refused);
            log.lock().unwrap_or_else(PoisonError::into_inner).push((line, body));
            let answer = Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
        }
    });
    let reporter = Teller {
        client: Client::new(service, "default"),
        node: "n".to_owned(),
        observes: false,
        meter: watch::channel(MeterState::default()).1,
    };
    (reporter, asked)
}

fn answer(line: &str, body: &Value, known: Option<&GpuNode>, refused: bool) -> (u16, Value) {
    let failure = |code: u16, reason: &str| json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no" });
    match known {
        _ if refused => (503, failure(503, "ServiceUnavailable")),
        _ if line.starts_with("GET /api/v1/nodes/n") => (200, one_labelled_by_two()),
        _ if line.starts_with("POST /apis/events.k8s.io/") => (201, body.clone()),
        _ if line.starts_with("PATCH /api/v1/nodes/n?") => {
            let was_divided = !body["metadata"]["labels"]["was-divided"].is_null();
            let labels = if was_divided { json!({ OLD_LAYOUT: "1" }) } else { json!({}) };
            (200, json!({ "metadata": { "name": "n", "uid": "the-node", "labels": labels } }))
        }
        _ if line.starts_with("PATCH ") => (200, body.clone()),
        Some(known) => (200, json!(known)),
        None => (404, failure(404, "NotFound")),
    }
}

/// A node that somebody else labelled, and we.
fn one_labelled_by_two() -> Value {
    let labels = json!({ "theirs": "1", OLD_LAYOUT: "1", "ours": "1" });
    let by = |manager: &str, labels: Value| {
        json!({
            "manager": manager, "operation": "Update", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:metadata": { "f:labels": labels } },
        })
    };
    let managers = [
        by("gpu-feature-discovery", json!({ "f:theirs": {}, (format!("f:{OLD_LAYOUT}")): {} })),
        by("plasma-device-plugin", json!({ ".": {}, "f:ours": {} })),
    ];
    json!({ "metadata": { "name": "n", "resourceVersion": "7", "labels": labels, "managedFields": managers } })
}

fn policy() -> Policy {
    Policy { resource: names::GPU_RESOURCE.to_owned(), ..Policy::default() }
}

fn inventory(scans: impl IntoIterator<Item = Scan>) -> Inventory {
    let mut inventory = Inventory::new(HealthRules::default());
    scans.into_iter().for_each(|scan| inventory.observe(scan));
    inventory
}

fn one_gpu() -> Scan {
    let gpu = Gpu { uuid: "GPU-0".to_owned(), name: "NVIDIA H100".to_owned(), ..Gpu::default() };
    let gpus = vec![Seen::Answered { gpu, signs: Signs::default() }];
    Scan::Looked(Look { gpus, ..Look::default() })
}

const GPU_NODE: &str = "/apis/compute.plasma.dev/v1alpha1/gpunodes/n";

#[tokio::test]
async fn the_node_is_labelled_and_its_gpunode_applied_with_its_status() {
    let (reporter, asked) = api_server(None, 0);
    reporter.tell(&describe::describe(&inventory([one_gpu()]), &policy(), true)).await.unwrap();
    let asked = asked.lock().unwrap();
    let lines: Vec<_> = asked.iter().map(|(line, _)| line.as_str()).collect();
    let manager = "force=true&fieldManager=plasma-device-plugin";
    assert_eq!(
        lines,
        [
            "PATCH /api/v1/nodes/n?&fieldManager=plasma-device-plugin".to_owned(),
            format!("PATCH {GPU_NODE}?&{manager}"),
            format!("PATCH {GPU_NODE}/status?&{manager}"),
        ]
    );
    assert_eq!(asked[0].1["metadata"]["labels"]["nvidia.com/gpu.product"], "NVIDIA-H100");
    assert_eq!(asked[1].1["metadata"], json!({ "name": "n" }), "no owner: it outlives its node");
    assert_eq!(asked[1].1["spec"]["simulated"], true);
    assert_eq!(asked[2].1["status"]["gpus"][0]["health"], "Healthy");
}

#[tokio::test]
async fn labels_of_an_earlier_layout_are_taken_off_the_node() {
    let (reporter, asked) = api_server(None, 0);
    let label = |name: &str| Labels::from([(name.to_owned(), Some("yes".to_owned()))]);
    reporter.label(&label("as-ever")).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1, "there is nothing to take off");
    reporter.label(&label("was-divided")).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].1["metadata"]["labels"], json!({ OLD_LAYOUT: null }));
}

#[tokio::test]
async fn beside_another_plugin_its_labels_stay_as_they_are() {
    let (mut reporter, asked) = api_server(None, 0);
    reporter.observes = true;
    let label = |value: &str| Some(value.to_owned());
    let labels = Labels::from([
        ("theirs".to_owned(), label("4")),
        ("ours".to_owned(), label("5")),
        ("nobodys".to_owned(), label("6")),
        ("gone".to_owned(), None),
    ]);
    reporter.label(&labels).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let metadata = json!({ "labels": { "ours": "5", "nobodys": "6" }, "resourceVersion": "7" });
    assert_eq!(asked[1].1["metadata"], metadata);
}

fn one_known_gpu() -> GpuNodeSpec {
    match describe::describe(&inventory([one_gpu()]), &policy(), false) {
        Described::Known(spec, ..) => *spec,
        other => panic!("it is known: {other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_looked_at_keeps_its_gpus_and_labels() {
    let (reporter, asked) = api_server(Some(GpuNode::new("n", one_known_gpu())), 0);
    let nobody_knows = inventory([Scan::Failed("no driver".to_owned())]);
    reporter.tell(&describe::describe(&nobody_knows, &policy(), false)).await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(line, _)| !line.contains("/nodes/")), "the labels stay: {asked:?}");
    assert_eq!(asked[1].1["spec"]["gpus"][0]["uuid"], "GPU-0");
    assert_eq!(asked[2].1["status"]["gpus"][0]["health"], "Unknown");
    assert_eq!(asked[2].1["status"]["message"], "no driver");
}

#[tokio::test]
async fn a_list_of_gpus_is_never_replaced_by_none() {
    let none = describe::describe(&inventory([Scan::Looked(Look::default())]), &policy(), false);
    let (reporter, asked) = api_server(Some(GpuNode::new("n", one_known_gpu())), 0);
    reporter.tell(&none).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].1["metadata"]["labels"]["nvidia.com/gpu.product"], Value::Null);
    assert_eq!(asked[2].1["spec"]["gpus"][0]["uuid"], "GPU-0");
    assert_eq!((&asked[3].1["status"]["total"], &asked[3].1["status"]["healthy"]), (&json!(1), &json!(0)));
    assert_eq!(asked[3].1["status"]["message"], NONE_LEFT);
}

#[tokio::test]
async fn a_node_that_never_had_gpus_says_so() {
    let none = describe::describe(&inventory([Scan::Looked(Look::default())]), &policy(), false);
    let (reporter, asked) = api_server(None, 0);
    reporter.tell(&none).await.unwrap();
    assert_eq!(asked.lock().unwrap()[2].1["spec"]["gpus"], json!([]));
}

#[tokio::test]
async fn a_meter_that_does_not_work_is_a_meter_all_the_same() {
    let told = |meter: MeterState| async {
        let (mut reporter, asked) = api_server(None, 0);
        reporter.meter = watch::channel(meter).1;
        reporter.tell(&describe::describe(&inventory([one_gpu()]), &policy(), true)).await.unwrap();
        let asked = asked.lock().unwrap();
        (asked[1].1["spec"]["meter"].clone(), asked[2].1["status"]["message"].clone())
    };
    let works = MeterState { reports: true, since_ms: Some(1_795_720_400_000), ..MeterState::default() };
    let since = json!({ "since": "2026-11-26T19:13:20Z" });
    assert_eq!(told(works).await, (since, Value::Null));
    let fault = Some("the journal is of version 7".to_owned());
    let broken = MeterState { reports: true, fault: fault.clone(), ..MeterState::default() };
    let message = json!("the meter is off: the journal is of version 7");
    assert_eq!(told(broken).await, (json!({}), message), "pods wait for it");
    let for_itself = MeterState { since_ms: Some(1), fault, ..MeterState::default() };
    assert_eq!(told(for_itself).await, (Value::Null, Value::Null), "pods are billed from their status");
}

#[tokio::test]
async fn while_another_process_has_the_journal_what_it_told_of_it_stays() {
    let told = |known: Option<NodeMeter>| async {
        let spec = GpuNodeSpec { meter: known, ..one_known_gpu() };
        let (mut reporter, asked) = api_server(Some(GpuNode::new("n", spec)), 0);
        reporter.meter = watch::channel(MeterState { reports: true, ..MeterState::default() }).1;
        reporter.tell(&describe::describe(&inventory([one_gpu()]), &policy(), true)).await.unwrap();
        let asked = asked.lock().unwrap();
        let spec = asked.iter().find(|(line, _)| line.starts_with("PATCH ") && line.contains("/gpunodes/n?"));
        let status = asked.iter().find(|(line, _)| line.contains("/gpunodes/n/status?"));
        (spec.unwrap().1["spec"]["meter"].clone(), status.unwrap().1["status"]["message"].clone())
    };
    let since = Timestamp::from_second(1_795_720_400).unwrap();
    let stands = json!({ "since": "2026-11-26T19:13:20Z" });
    assert_eq!(told(Some(NodeMeter { since: Some(Time(since)) })).await, (stands, Value::Null));
    assert_eq!(told(None).await, (json!({}), Value::Null), "pods wait until it is known");
}

#[tokio::test]
async fn before_the_first_look_nothing_is_written() {
    let (reporter, asked) = api_server(None, 0);
    reporter.tell(&describe::describe(&inventory([]), &policy(), false)).await.unwrap();
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_cluster_that_refuses_is_told_again() {
    let (reporter, asked) = api_server(None, 1);
    let (_publish, observed) = watch::channel(Observed::for_tests(inventory([one_gpu()])));
    let report = reporter.report(observed);
    assert!(tokio::time::timeout(RETRY_FIRST * 2, report).await.is_err(), "it never ends");
    assert_eq!(
        asked.lock().unwrap().len(),
        1 + 3 + 2,
        "once in vain, then in full, and the node's condition"
    );
}

#[tokio::test]
async fn a_gpu_that_falls_ill_is_an_event_of_its_node_and_its_condition() {
    let (reporter, asked) = api_server(None, 0);
    let status = |scans: Vec<Scan>| match describe::describe(&inventory(scans), &policy(), false) {
        Described::Known(_, status, _) => status,
        other => panic!("{other:?}"),
    };
    let (well, sick) =
        (status(vec![one_gpu()]), status(vec![one_gpu(), Scan::Failed("no driver".to_owned())]));
    reporter.announce(Some(&well), &sick).await;
    let asked = asked.lock().unwrap();
    assert!(
        asked[0].0.starts_with("POST /apis/events.k8s.io/v1/namespaces/default/events"),
        "{}",
        asked[0].0
    );
    assert_eq!(asked[0].1["regarding"]["kind"], "Node");
    assert_eq!(asked[0].1["note"], "GPU GPU-0: no driver");
    let (line, body) = &asked[2];
    assert!(line.starts_with("PATCH /api/v1/nodes/n/status?"), "{line}");
    let conditions = body["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1, "those of others stay as they are");
    assert_eq!(
        (&conditions[0]["type"], &conditions[0]["status"]),
        (&json!("GPUUnhealthy"), &json!("Unknown"))
    );
}

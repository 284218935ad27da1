//! Whole cycles against an API server that loses and refuses requests: what is written, in which order, and what a
//! successor makes of what a dead scheduler left.

mod api_server;

use clap::Parser as _;
use k8s_openapi::{
    api::core::v1::Node,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    core::DeserializeGuard,
    runtime::{reflector::store::Writer, watcher::Event},
};
use plasma_api::{Gang, names};
use plasma_runtime::{CancellationToken, Health, prometheus::Registry};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    args::Args,
    cycle::Scheduler,
    metrics::Metrics,
    observe::{self, Watched, pod_resource},
};
use api_server::{ApiServer, Fault};

/// A cluster with one gang of two pods, a GPU each, and what a scheduler's watches show of it.
struct Cluster {
    server: ApiServer,
    pods: Writer<DynamicObject>,
    nodes: Writer<Node>,
    gangs: Writer<DeserializeGuard<Gang>>,
    now: Timestamp,
}

const UIDS: [&str; 2] = ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000001"];

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::default();
        {
            let mut objects = server.objects();
            objects.nodes.insert("n".to_owned(), node());
            objects.gangs.insert("g".to_owned(), gang());
            objects.pods.insert("p0".to_owned(), pod(0));
            objects.pods.insert("p1".to_owned(), pod(1));
        }
        let now = Timestamp::now();
        let (pods, nodes, gangs) = (Writer::new(pod_resource()), Writer::default(), Writer::default());
        let mut cluster = Self { server, pods, nodes, gangs, now };
        cluster.show();
        cluster
    }

    /// A gang as a scheduler leaves it that dies after it wrote its plan, with a deadline in so many seconds.
    fn with_journal(seconds: i64) -> Self {
        let mut cluster = Self::new();
        let deadline = cluster.now + SignedDuration::from_secs(seconds);
        let place = |pod: usize| json!({ "pod": format!("p{pod}"), "podUid": UIDS[pod], "node": "n" });
        let journal = json!({ "deadline": deadline.to_string(), "placements": [place(0), place(1)] });
        cluster.set_gang("status", json!({ "phase": "Binding", "journal": journal }));
        cluster
    }

    /// The watches catch up with the API server.
    fn show(&mut self) {
        let objects = self.server.objects();
        show(&mut self.pods, objects.pods.values());
        show(&mut self.nodes, objects.nodes.values());
        show(&mut self.gangs, objects.gangs.values());
    }

    /// A scheduler that just started.
    fn scheduler(&self) -> Scheduler {
        let watched =
            Watched::for_tests(self.pods.as_reader(), self.nodes.as_reader(), self.gangs.as_reader());
        let metrics = Metrics::register(&Registry::new());
        let args = Args::parse_from(["plasma-scheduler"]);
        let mut scheduler = Scheduler::new(args, self.server.client(), watched, metrics);
        scheduler.begin();
        scheduler
    }

    /// The scheduler's next cycle, so much later, after the watches have caught up.
    async fn later(&mut self, scheduler: &mut Scheduler, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.show();
        scheduler.cycle(self.now).await;
    }

    fn set_gang(&mut self, field: &str, value: Value) {
        self.server.objects().gangs.get_mut("g").unwrap()[field] = value;
        self.show();
    }

    /// Changes a pod; the watches don't show it yet.
    fn change_pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.server.objects().pods.get_mut(name).unwrap());
    }

    fn status(&self) -> Value {
        self.server.objects().gangs["g"]["status"].clone()
    }

    fn node_of(&self, pod: &str) -> Value {
        self.server.objects().pods[pod]["spec"]["nodeName"].clone()
    }

    fn pods(&self) -> Vec<String> {
        self.server.objects().pods.keys().cloned().collect()
    }

    fn lines(&self, begin: &str) -> Vec<String> {
        self.server.lines(begin)
    }
}

fn show<'a, K>(writer: &mut Writer<K>, objects: impl Iterator<Item = &'a Value>)
where
    K: kube::Resource + Clone + DeserializeOwned + 'static,
    K::DynamicType: Clone + Eq + std::hash::Hash,
{
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object.clone()).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

fn node() -> Value {
    let free = json!({ "nvidia.com/gpu": "2", "pods": "10" });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "status": { "allocatable": free } })
}

fn gang() -> Value {
    json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "spec": { "minMember": 2 },
        "metadata": { "name": "g", "namespace": "ns", "uid": "the-gang", "resourceVersion": "1" },
    })
}

fn pod(index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("p{index}"), "namespace": "ns", "uid": UIDS[index],
            "labels": { names::GANG_LABEL: "g" },
        },
        "spec": {
            "schedulerName": names::SCHEDULER_NAME,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": "1" } } }],
        },
        "status": { "phase": "Pending" },
    })
}

fn is_bound(pod: &mut Value) {
    pod["spec"]["nodeName"] = json!("n");
}

fn runs(pod: &mut Value) {
    is_bound(pod);
    pod["status"]["phase"] = json!("Running");
}

#[tokio::test]
async fn the_plan_is_journalled_before_its_first_binding_and_bindings_name_the_pods_uid() {
    let cluster = Cluster::new();
    cluster.scheduler().cycle(cluster.now).await;
    let asked = cluster.server.asked();
    let journalled = asked.iter().position(|asked| asked.line == "PUT gangs/g/status").unwrap();
    let bindings: Vec<usize> = (0..asked.len()).filter(|at| asked[*at].line.ends_with("/binding")).collect();
    assert_eq!(bindings.len(), 2);
    assert!(bindings.iter().all(|binding| journalled < *binding), "{:?}", cluster.lines(""));
    let journal = &asked[journalled].body["status"]["journal"];
    assert_eq!(journal["placements"].as_array().map(Vec::len), Some(2));
    for binding in bindings {
        let Value::Object(place) = &journal["placements"][usize::from(asked[binding].line.contains("p1"))]
        else {
            panic!("{journal}")
        };
        assert_eq!(asked[binding].body["metadata"]["uid"], place["podUid"]);
        assert_eq!(asked[binding].body["target"]["name"], place["node"]);
    }
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["bound"]), (&json!("Scheduled"), &json!(2)));
    assert!(status["journal"].is_null(), "{status}");
}

#[tokio::test]
async fn without_a_journal_nothing_is_bound() {
    for fault in [Fault::Refused(409), Fault::Refused(500), Fault::RequestLost, Fault::ReplyLost] {
        let cluster = Cluster::new();
        cluster.server.fail("PUT gangs/g/status", 1, fault);
        cluster.scheduler().cycle(cluster.now).await;
        assert_eq!(cluster.lines("POST"), [""; 0]);
    }
}

#[tokio::test]
async fn a_journal_whose_reply_was_lost_is_carried_on_once_it_shows() {
    let mut cluster = Cluster::new();
    cluster.server.fail("PUT gangs/g/status", 1, Fault::ReplyLost);
    let mut scheduler = cluster.scheduler();
    scheduler.cycle(cluster.now).await;
    // The watches are behind: a second plan must not be written over the first.
    scheduler.cycle(cluster.now).await;
    assert_eq!(cluster.lines("PUT").len(), 1);
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
    assert_eq!(cluster.lines("POST").len(), 2);
}

#[tokio::test]
async fn a_lost_reply_to_a_binding_is_read_again() {
    let cluster = Cluster::new();
    cluster.server.fail("POST pods/p0/binding", 1, Fault::ReplyLost);
    cluster.scheduler().cycle(cluster.now).await;
    assert_eq!(cluster.lines("GET pods"), ["GET pods/p0"]);
    assert_eq!(cluster.lines("POST pods/p0"), ["POST pods/p0/binding"]);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test]
async fn what_is_unknown_is_sent_again_after_a_second_and_what_is_known_is_not() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p0/binding", 1, Fault::RequestLost);
    let mut scheduler = cluster.scheduler();
    scheduler.cycle(cluster.now).await;
    assert_eq!(cluster.status()["phase"], "Binding");
    for _ in 0..5 {
        cluster.later(&mut scheduler, 0).await;
    }
    assert_eq!(cluster.lines("POST").len(), 2, "each event is no reason to send it again");
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.lines("POST pods/p0").len(), 2);
    assert_eq!(cluster.lines("POST pods/p1").len(), 1);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test]
async fn a_pod_that_another_scheduler_bound_undoes_the_rest() {
    let mut cluster = Cluster::new();
    cluster.change_pod("p0", |pod| pod["spec"]["nodeName"] = json!("elsewhere"));
    let mut scheduler = cluster.scheduler();
    scheduler.cycle(cluster.now).await;
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.lines("PATCH"), ["PATCH pods/p1/status"]);
    assert_eq!(cluster.lines("DELETE"), ["DELETE pods/p1"]);
    assert_eq!(cluster.node_of("p0"), "elsewhere");
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["bound"]), (&json!("RollingBack"), &json!(0)));
    assert!(status["journal"].is_null());
}

#[tokio::test]
async fn a_successor_binds_what_was_journalled_and_not_begun() {
    let cluster = Cluster::with_journal(30);
    cluster.scheduler().cycle(cluster.now).await;
    assert_eq!((cluster.node_of("p0"), cluster.node_of("p1")), (json!("n"), json!("n")));
    assert_eq!(cluster.lines("PUT").len(), 1, "its end, and no second plan");
    assert_eq!(cluster.status()["phase"], "Scheduled");
    assert!(cluster.status()["journal"].is_null());
}

#[tokio::test]
async fn at_the_deadline_every_pod_is_told_to_be_disrupted_and_then_deleted() {
    let mut cluster = Cluster::with_journal(-1);
    cluster.change_pod("p0", runs);
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    cluster.show();
    cluster.scheduler().cycle(cluster.now).await;
    let asked = cluster.server.asked();
    for (pod, uid) in ["p0", "p1"].into_iter().zip(UIDS) {
        let at = |line: String| asked.iter().position(|asked| asked.line == line).unwrap();
        let (told, deleted) = (at(format!("PATCH pods/{pod}/status")), at(format!("DELETE pods/{pod}")));
        assert!(told < deleted);
        assert_eq!(asked[told].body["status"]["conditions"][0]["type"], "DisruptionTarget");
        assert_eq!(asked[told].body["metadata"]["uid"], uid);
        assert_eq!(asked[deleted].body["preconditions"]["uid"], uid);
    }
    assert_eq!(cluster.status()["phase"], "RollingBack");
    assert!(cluster.status()["journal"].is_null());
}

#[tokio::test]
async fn a_pod_that_could_not_be_told_is_not_deleted_and_the_journal_stays_until_it_is() {
    for fault in [Fault::Refused(500), Fault::Refused(403), Fault::RequestLost] {
        let mut cluster = Cluster::with_journal(-1);
        cluster.change_pod("p0", is_bound);
        cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
        cluster.server.fail("PATCH pods/p0/status", 1, fault);
        let mut scheduler = cluster.scheduler();
        cluster.later(&mut scheduler, 0).await;
        assert_eq!(cluster.pods(), ["p0"]);
        assert!(cluster.status()["journal"].is_object(), "{}", cluster.status());
        cluster.later(&mut scheduler, 2).await;
        assert!(cluster.pods().is_empty());
        assert!(cluster.status()["journal"].is_null(), "{}", cluster.status());
        assert_eq!(cluster.lines("POST").len(), 1, "what was given up is not bound again");
    }
}

#[tokio::test]
async fn a_pod_that_could_not_be_deleted_keeps_the_journal() {
    let mut cluster = Cluster::with_journal(-1);
    cluster.server.fail("POST pods/p1/binding", usize::MAX, Fault::Refused(403));
    cluster.server.fail("DELETE pods/p0", 1, Fault::Refused(500));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert!(cluster.status()["journal"].is_object());
    cluster.later(&mut scheduler, 2).await;
    assert!(cluster.pods().is_empty() && cluster.status()["journal"].is_null());
}

#[tokio::test]
async fn a_pod_made_anew_under_its_name_is_not_undone() {
    let cluster = Cluster::with_journal(30);
    let another = "00000000-0000-4000-8000-00000000ffff";
    cluster.change_pod("p0", |pod| pod["metadata"]["uid"] = json!(another));
    cluster.scheduler().cycle(cluster.now).await;
    assert_eq!(cluster.pods(), ["p0"]);
    assert!(cluster.node_of("p0").is_null());
    assert_eq!(cluster.status()["phase"], "RollingBack");
}

#[tokio::test]
async fn long_after_the_deadline_pods_that_run_are_left_alone() {
    let mut cluster = Cluster::with_journal(-3600);
    cluster.change_pod("p0", runs);
    cluster.server.objects().pods.remove("p1");
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.lines("DELETE"), [""; 0]);
    assert!(cluster.status()["journal"].is_null());
    assert_eq!(cluster.status()["bound"], 1);
}

#[tokio::test]
async fn an_end_that_could_not_be_written_is_written_later() {
    for fault in [Fault::Refused(500), Fault::Refused(409), Fault::RequestLost, Fault::ReplyLost] {
        let mut cluster = Cluster::with_journal(30);
        cluster.change_pod("p0", runs);
        cluster.change_pod("p1", runs);
        cluster.server.fail("PUT gangs/g/status", 1, fault);
        let mut scheduler = cluster.scheduler();
        for _ in 0..3 {
            cluster.later(&mut scheduler, 0).await;
        }
        assert_eq!(cluster.lines("PUT").len(), 1, "not on every event");
        cluster.later(&mut scheduler, 2).await;
        assert_eq!(cluster.status()["phase"], "Scheduled");
        assert!(cluster.status()["journal"].is_null());
        assert_eq!(cluster.lines("POST"), [""; 0]);
    }
}

#[tokio::test]
async fn a_plan_that_is_over_is_left_alone_while_the_watch_lags_and_then_forgotten() {
    let mut cluster = Cluster::new();
    let mut scheduler = cluster.scheduler();
    scheduler.cycle(cluster.now).await;
    let journalled = cluster.server.asked().into_iter().find(|asked| asked.line.starts_with("PUT")).unwrap();
    show(&mut cluster.gangs, [journalled.body].iter());
    let before = cluster.server.asked().len();
    scheduler.cycle(cluster.now + SignedDuration::from_secs(9)).await;
    assert_eq!(cluster.server.asked().len(), before, "{:?}", cluster.lines(""));
    assert_eq!(scheduler.remembers(), 1);
    cluster.later(&mut scheduler, 9).await;
    assert_eq!(scheduler.remembers(), 0);
}

#[tokio::test]
async fn an_ended_journal_is_forgotten_with_its_gang() {
    let mut cluster = Cluster::new();
    let mut scheduler = cluster.scheduler();
    scheduler.cycle(cluster.now).await;
    cluster.server.objects().gangs.clear();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(scheduler.remembers(), 0);
}

#[tokio::test]
async fn a_gang_without_pods_says_so_until_it_was_scheduled() {
    let mut cluster = Cluster::new();
    cluster.server.objects().pods.clear();
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["message"]), (&json!("Gathering"), &json!("0 of 2 pods exist")));
    cluster.set_gang("status", json!({ "phase": "Scheduled", "bound": 2 }));
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test]
async fn a_scheduling_gate_is_named_as_what_the_gang_waits_for() {
    let mut cluster = Cluster::new();
    cluster.change_pod("p1", |pod| pod["spec"]["schedulingGates"] = json!([{ "name": "quota.example" }]));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    let status = cluster.status();
    assert_eq!(status["phase"], "Waiting");
    let expected = "1 of 2 pods wait for scheduling gate quota.example to be taken off";
    assert_eq!(status["message"], expected);
    assert_eq!(status["blockers"][0]["subject"], "quota.example");
    assert_eq!(cluster.lines("POST"), [""; 0]);
}

#[tokio::test]
async fn pods_of_an_earlier_job_of_the_same_name_are_no_members() {
    let mut cluster = Cluster::new();
    cluster.server.objects().gangs.get_mut("g").unwrap()["metadata"]["labels"] =
        json!({ names::JOB_UID_LABEL: "new" });
    cluster.change_pod("p0", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("new"));
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("old"));
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["message"], "1 of 2 pods exist");
    cluster.change_pod("p1", |pod| pod["metadata"]["labels"][names::JOB_UID_LABEL] = json!("new"));
    cluster.later(&mut scheduler, 0).await;
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test]
async fn a_gang_that_lost_a_pod_counts_what_is_bound_and_counts_all_when_it_is_whole_again() {
    let mut cluster = Cluster::new();
    cluster.set_gang("status", json!({ "phase": "Scheduled", "bound": 2 }));
    cluster.change_pod("p0", runs);
    let lost = cluster.server.objects().pods.remove("p1").unwrap();
    let mut scheduler = cluster.scheduler();
    cluster.later(&mut scheduler, 0).await;
    assert_eq!((&cluster.status()["bound"], &cluster.status()["phase"]), (&json!(1), &json!("Gathering")));
    cluster.server.objects().pods.insert("p1".to_owned(), lost);
    cluster.later(&mut scheduler, 0).await;
    assert_eq!((&cluster.status()["bound"], &cluster.status()["phase"]), (&json!(2), &json!("Scheduled")));
}

#[tokio::test]
async fn a_gang_that_cannot_be_read_keeps_no_other_from_being_seen() {
    let cluster = Cluster::new();
    let unreadable = json!({
        "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "spec": { "minMember": "two" },
        "metadata": { "name": "bad", "namespace": "ns" },
    });
    cluster.server.objects().gangs.insert("bad".to_owned(), unreadable);
    let typed: Result<_, kube::Error> =
        Api::<Gang>::all(cluster.server.client()).list(&ListParams::default()).await;
    assert!(typed.is_err(), "a list of plain Gangs fails as a whole, so the test shows something");
    let shutdown = CancellationToken::new();
    let watched =
        observe::start(&cluster.server.client(), Health::default().gate("watches"), shutdown.clone());
    let listed = watched.wait_until_complete();
    tokio::time::timeout(std::time::Duration::from_secs(20), listed).await.unwrap();
    assert_eq!(watched.gangs.state().iter().filter(|gang| gang.0.is_ok()).count(), 1);
    shutdown.cancel();
}

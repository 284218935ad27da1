//! A namespace in which nothing is answered: pods of others don't wait for its.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plasma_api::names;
use plasma_runtime::prometheus::Registry;
use plasma_scheduler_core::{Bound, Placement, Victim};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    api_server::{Fault, Objects},
    cluster::{Cluster, runs},
};
use crate::{
    commit::Binder,
    cycle::Scheduler,
    event,
    evict::{Eviction, Evictor},
    metrics::Metrics,
};

/// More pods than may be on their way at once, outside of tests too.
const CROWD: usize = 1100;

/// Pods of two namespaces: so many of `a`, which come first, and few of `b`.
fn crowd(first: usize) -> Cluster {
    let mut cluster = Cluster::new();
    {
        let mut objects = cluster.server.objects();
        objects.gangs.clear();
        objects.pods.clear();
        let node = &mut objects.nodes.get_mut("n").unwrap()["status"];
        node["allocatable"] = json!({ "nvidia.com/gpu": "5000", "pods": "5000" });
        let of = |namespace: &str, pods: usize, priority: i32| {
            (0..pods).map(|at| pod(namespace, at, priority)).collect::<Vec<_>>()
        };
        for pod in [of("a", first, 1), of("b", 5, 0)].concat() {
            objects.pods.insert(pod["metadata"]["name"].as_str().unwrap().to_owned(), pod);
        }
    }
    cluster.show();
    cluster
}

fn pod(namespace: &str, at: usize, priority: i32) -> Value {
    let uid = format!("00000000-0000-4000-8000-{priority:04}{at:08}");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{namespace}{at}"), "namespace": namespace, "uid": uid, "resourceVersion": "1", "labels": {},
        },
        "spec": {
            "schedulerName": names::SCHEDULER_NAME, "priority": priority,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": "1" } } }],
        },
        "status": { "phase": "Pending" },
    })
}

/// Makes gangs of two of the pods of `a`.
fn into_gangs(cluster: &mut Cluster) {
    let mut objects = cluster.server.objects();
    let pods = objects.pods.values_mut().filter(|pod| pod["metadata"]["namespace"] == "a");
    let gangs: Vec<String> = pods
        .enumerate()
        .map(|(at, pod)| {
            let gang = format!("a{}", at / 2);
            pod["metadata"]["labels"] = json!({ names::GANG_LABEL: gang });
            gang
        })
        .collect();
    for gang in gangs {
        let made = json!({
            "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "spec": { "minMember": 2, "priority": 1 },
            "metadata": { "name": gang, "namespace": "a", "uid": format!("uid-of-{gang}"), "resourceVersion": "1" },
        });
        objects.gangs.insert(gang, made);
    }
    drop(objects);
    cluster.show();
}

/// The scheduler works for so long, as the program does: no cycle waits for what an earlier one began. Its watches show
/// what has happened every ten seconds.
async fn work(cluster: &mut Cluster, scheduler: &mut Scheduler, time: Duration) {
    let (begun, at_first) = (Instant::now(), cluster.now);
    let now = |begun: Instant| -> Timestamp { at_first + SignedDuration::try_from(begun.elapsed()).unwrap() };
    let mut told = None;
    while begun.elapsed() < time {
        cluster.now = now(begun);
        if told.is_none_or(|told| cluster.now.duration_since(told) >= SignedDuration::from_secs(10)) {
            told = Some(cluster.now);
            cluster.show();
            cluster.shown.tell(scheduler);
        }
        scheduler.look(cluster.now);
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cluster.now = now(begun);
            while let Some(outcome) = scheduler.tasks.try_join_next() {
                scheduler.learn(outcome, cluster.now);
            }
            scheduler.cycle(cluster.now);
            while scheduler.goes_on() {
                scheduler.cycle(cluster.now);
            }
        }
    }
}

fn placement(pod: &Value) -> Placement {
    Placement {
        pod: pod["metadata"]["name"].as_str().unwrap().to_owned(),
        uid: pod["metadata"]["uid"].as_str().unwrap().to_owned(),
        node: "n".to_owned(),
        volumes: Vec::new(),
    }
}

/// What binds, and a plan for all pods.
fn plan(cluster: &Cluster) -> (Binder, Vec<Placement>) {
    let binder = Binder::new(cluster.server.client(), Metrics::register(&Registry::new()));
    (binder, cluster.server.objects().pods.values().map(placement).collect())
}

/// How many pods of a namespace have no node.
fn wait(cluster: &Cluster, namespace: &str) -> usize {
    let waits = |pod: &&Value| pod["metadata"]["namespace"] == namespace && pod["spec"]["nodeName"].is_null();
    cluster.server.objects().pods.values().filter(waits).count()
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_while_those_of_another_namespace_hang() {
    let mut cluster = crowd(CROWD);
    cluster.server.fail("POST pods/a", usize::MAX, Fault::NoAnswer);
    let mut scheduler = cluster.scheduler();
    work(&mut cluster, &mut scheduler, Duration::from_secs(6)).await;
    assert_eq!((wait(&cluster, "a"), wait(&cluster, "b")), (CROWD, 0));
    assert!(scheduler.state.cluster.on_their_way() < CROWD / 2, "most of them keep no room");
    cluster.server.heal();
    work(&mut cluster, &mut scheduler, Duration::from_secs(100)).await;
    assert_eq!((wait(&cluster, "a"), scheduler.under_way()), (0, 0), "nobody is lost for it");
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_while_the_plans_or_bindings_of_another_namespaces_gangs_hang() {
    for hangs in ["PUT gangs/a", "POST pods/a"] {
        let mut cluster = crowd(400);
        into_gangs(&mut cluster);
        cluster.server.fail(hangs, usize::MAX, Fault::NoAnswer);
        let mut scheduler = cluster.scheduler();
        work(&mut cluster, &mut scheduler, Duration::from_secs(6)).await;
        assert_eq!((wait(&cluster, "a"), wait(&cluster, "b")), (400, 0), "{hangs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_binding_gets_on_the_wire_while_those_of_another_namespace_hang() {
    let cluster = crowd(CROWD);
    cluster.server.fail("POST pods/a", usize::MAX, Fault::NoAnswer);
    let (binder, placements) = plan(&cluster);
    let until = Instant::now() + Duration::from_secs(600);
    for gang in placements[..CROWD].chunks(100).map(<[_]>::to_vec) {
        let binder = binder.clone();
        tokio::spawn(async move { binder.bind_all("a", &gang, until).await });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (asked, begun) = (cluster.lines("POST").len(), Instant::now());
    timeout(Duration::from_secs(60), binder.bind_all("b", &placements[CROWD..], until))
        .await
        .expect("it ends");
    assert_eq!((asked, wait(&cluster, "b"), begun.elapsed().as_secs()), (64, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_plan_is_sent_once_its_deadline_has_passed() {
    let cluster = crowd(CROWD);
    cluster.server.fail("POST pods", usize::MAX, Fault::NoAnswer);
    let (binder, placements) = plan(&cluster);
    let (begun, patience) = (Instant::now(), Duration::from_secs(12));
    let sent = binder.bind_all("a", &placements, begun + patience).await;
    assert!(begun.elapsed() < patience * 2, "{:?}", begun.elapsed());
    let refused = sent.outcomes.iter().filter(|outcome| **outcome == Bound::Refused).count();
    assert_eq!(refused + cluster.lines("POST").len(), placements.len(), "who wasn't sent won't arrive");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_told_that_there_is_no_room_while_those_of_another_namespace_cannot_be_told() {
    let mut cluster = crowd(200);
    cluster.server.objects().nodes.clear();
    cluster.server.fail("PATCH pods/a", usize::MAX, Fault::NoAnswer);
    let mut scheduler = cluster.scheduler();
    work(&mut cluster, &mut scheduler, Duration::from_secs(3)).await;
    let told = cluster.server.objects().pods["b0"]["status"]["conditions"][0]["reason"].clone();
    assert_eq!(told, "Unschedulable");
}

/// As many bindings as may be on their way hang in `a`. Answers what binds, the pods that run there, and those of `b`.
async fn hanging(running: usize) -> (Cluster, Binder, Vec<Placement>, Vec<Placement>) {
    let cluster = crowd(CROWD);
    cluster.server.fail("POST pods/a", usize::MAX, Fault::NoAnswer);
    let (binder, placements) = plan(&cluster);
    let (theirs, all): (Vec<Placement>, Vec<Placement>) =
        placements.into_iter().partition(|placement| placement.pod.starts_with('b'));
    let (there, waiting) = all.split_at(running);
    there.iter().for_each(|placement| cluster.change_pod(&placement.pod, runs));
    for single in &waiting[..1024] {
        let (binder, single) = (binder.clone(), single.clone());
        tokio::spawn(async move { binder.bind("a", &single, None).await });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    (cluster, binder, there.to_vec(), theirs)
}

/// Room is to be made for a pod of `b`, by these of `a`.
fn eviction(victims: &[Placement], nominations: Vec<Placement>) -> Eviction {
    let victim = |place: &Placement| {
        let (pod, uid) = (place.pod.clone(), place.uid.clone());
        Victim { namespace: "a".to_owned(), pod, uid, group: "a/g".to_owned() }
    };
    Eviction {
        group: "b/pod:b0".to_owned(),
        priority: 100,
        victims: victims.iter().map(victim).collect(),
        nominations,
        message: String::new(),
        about: event::pod_reference("b", "b0", "x"),
        gangs: std::collections::BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_taken_away_does_not_wait_for_bindings_that_hang() {
    let (cluster, binder, there, theirs) = hanging(2).await;
    let begun = Instant::now();
    assert!(binder.undo_all("a", [&there[0]].into_iter()).await);
    cluster.change_pod("b0", |pod| pod["spec"]["priority"] = json!(100));
    let evictor = Evictor::new(cluster.server.client(), binder.away.clone());
    let evicted = evictor.make_room(&eviction(&there[1..], theirs[..1].to_vec())).await;
    assert_eq!((evicted.count, begun.elapsed()), (1, Duration::ZERO));
}

/// How many deletions are begun where each hangs, and this happens to those for whom room is made.
async fn begun_before(happens: impl FnOnce(&mut Objects) + Send + 'static) -> usize {
    let (cluster, binder, there, theirs) = hanging(40).await;
    for pod in ["b0", "b1"] {
        cluster.change_pod(pod, |pod| pod["spec"]["priority"] = json!(100));
    }
    cluster.server.fail("DELETE pods/a", usize::MAX, Fault::NoAnswer);
    let server = cluster.server.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        happens(&mut server.objects());
    });
    let evictor = Evictor::new(cluster.server.client(), binder.away.clone());
    let evicted = evictor.make_room(&eviction(&there, theirs[..2].to_vec())).await;
    assert_eq!((evicted.count, evicted.spared.len()), (0, 40));
    cluster.lines("DELETE").len()
}

#[tokio::test(start_paused = true)]
async fn nobody_more_is_evicted_once_not_all_of_those_wait_for_whom_it_is_done() {
    assert_eq!(begun_before(|_| ()).await, 40);
    let gone = |objects: &mut Objects| drop(objects.pods.remove("b1"));
    assert_eq!(begun_before(gone).await, 16, "those that had begun");
    let given_back = |objects: &mut Objects| {
        objects.pods.get_mut("b0").unwrap()["status"]["nominatedNodeName"] = Value::Null;
    };
    assert_eq!(begun_before(given_back).await, 16);
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_turn_does_not_come_is_known_to_be_late_at_its_deadline() {
    let (cluster, binder, _, _) = hanging(0).await;
    let (begun, patience) = (Instant::now(), Duration::from_secs(12));
    let late = plan(&cluster).1.into_iter().filter(|place| place.pod.starts_with('a')).skip(1024).take(4);
    let answers = binder.bind_all("a", &late.collect::<Vec<_>>(), begun + patience).await;
    assert_eq!(answers.outcomes, [Bound::Refused; 4]);
    assert!(begun.elapsed() < patience + Duration::from_secs(1), "{:?}", begun.elapsed());
}

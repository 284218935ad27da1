//! Whatever goes wrong, and in whichever order: requests and replies get lost, watches lag one behind the other, the
//! scheduler dies at any write and another begins, a node vanishes. No node is ever given more than it has, and once things
//! are calm every gang is whole or not there at all.

use std::collections::BTreeMap;

use plasma_api::names;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{
    api_server::Fault,
    cluster::{Cluster, Lags},
};
use crate::cycle::Scheduler;

/// GPUs of each node; more than all gangs need together only while no node is gone.
const NODES: [(&str, usize); 3] = [("n0", 3), ("n1", 2), ("n2", 4)];
/// Pods of each gang, of one GPU each.
const GANGS: [(&str, usize); 3] = [("g0", 3), ("g1", 2), ("g2", 3)];

#[derive(Clone, Debug)]
enum Happens {
    /// The scheduler goes through a cycle; some watches lag.
    Cycle { lags: Lags, seconds: i64 },
    /// The next request that begins so goes wrong.
    Fault { request: &'static str, fault: Fault },
    /// The scheduler goes through a cycle and dies after so many requests; another begins.
    Death { requests: usize },
    /// A node is gone.
    NodeGone(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    let lags = (any::<bool>(), any::<bool>(), any::<bool>());
    let lags = lags.prop_map(|(pods, nodes, gangs)| Lags { pods, nodes, gangs });
    let request = prop_oneof![Just("PUT"), Just("POST"), Just("GET"), Just("PATCH"), Just("DELETE")];
    let fault = prop_oneof![
        Just(Fault::RequestLost),
        Just(Fault::ReplyLost),
        Just(Fault::Refused(409)),
        Just(Fault::Refused(500))
    ];
    prop_oneof![
        4 => (lags, 0_i64..40).prop_map(|(lags, seconds)| Happens::Cycle { lags, seconds }),
        3 => (request, fault).prop_map(|(request, fault)| Happens::Fault { request, fault }),
        2 => (0_usize..14).prop_map(|requests| Happens::Death { requests }),
        1 => (0_usize..3).prop_map(Happens::NodeGone),
    ]
}

/// The cluster, its job controller and its kubelets.
struct World {
    cluster: Cluster,
    made: usize,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::empty();
        {
            let mut objects = cluster.server.objects();
            for (name, gpus) in NODES {
                let free = json!({ "nvidia.com/gpu": gpus.to_string(), "pods": "10" });
                let node = json!({ "metadata": { "name": name }, "status": { "allocatable": free } });
                objects.nodes.insert(name.to_owned(), node);
            }
            for (name, pods) in GANGS {
                let metadata =
                    json!({ "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1" });
                let gang = json!({
                    "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "Gang", "metadata": metadata,
                    "spec": { "minMember": pods },
                });
                objects.gangs.insert(name.to_owned(), gang);
            }
        }
        let mut world = Self { cluster, made: 0 };
        world.make_pods();
        world.cluster.show();
        world
    }

    /// What controllers and kubelets do: pods of nodes that are gone are collected, and their gangs start again; pods that are
    /// gone are made anew; bound ones run.
    fn make_pods(&mut self) {
        let mut objects = self.cluster.server.objects();
        let objects = &mut *objects;
        let nodes = &objects.nodes;
        let is_lost =
            |pod: &Value| pod["spec"]["nodeName"].as_str().is_some_and(|node| !nodes.contains_key(node));
        let lost: Vec<String> = objects.pods.values().filter(|pod| is_lost(pod)).map(gang_of).collect();
        objects.pods.retain(|_, pod| !lost.contains(&gang_of(pod)));
        for (gang, pods) in GANGS {
            for at in 0..pods {
                let name = format!("{gang}-{at}");
                let made = &mut self.made;
                let pod = objects.pods.entry(name.clone()).or_insert_with(|| {
                    *made += 1;
                    pod(&name, gang, *made)
                });
                if pod["spec"]["nodeName"].is_string() {
                    pod["status"]["phase"] = json!("Running");
                }
            }
        }
    }

    /// How many pods are on each node.
    fn on_nodes(&self) -> BTreeMap<String, usize> {
        let mut on = BTreeMap::new();
        for pod in self.cluster.server.objects().pods.values() {
            if let Some(node) = pod["spec"]["nodeName"].as_str() {
                *on.entry(node.to_owned()).or_default() += 1;
            }
        }
        on
    }

    fn check(&self) {
        for (node, pods) in self.on_nodes() {
            let gpus = NODES.iter().find(|(name, _)| *name == node).map_or(0, |(_, gpus)| *gpus);
            assert!(pods <= gpus, "{pods} pods on {node}, which has {gpus} GPUs");
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.cluster.server.objects().pods.get(name).is_some_and(|pod| pod["spec"]["nodeName"].is_string())
    }

    /// A node is gone, unless it is the last one.
    fn lose_node(&self, node: &str) {
        let mut objects = self.cluster.server.objects();
        if objects.nodes.len() > 1 {
            objects.nodes.remove(node);
        }
    }

    async fn happen(&mut self, scheduler: &mut Scheduler, event: &Happens) {
        match event {
            Happens::Cycle { lags, seconds } => self.cluster.later_but(scheduler, *lags, *seconds).await,
            Happens::Fault { request, fault } => self.cluster.server.fail(request, 1, *fault),
            Happens::Death { requests } => {
                self.cluster.server.die_after(*requests);
                // What it began and can't end dies with it.
                let dying = self.cluster.later(scheduler, 1);
                let _ = tokio::time::timeout(std::time::Duration::from_secs(300), dying).await;
                self.cluster.server.heal();
                self.cluster.show();
                *scheduler = self.cluster.scheduler();
            }
            Happens::NodeGone(at) => self.lose_node(NODES[*at].0),
        }
        self.check();
        self.make_pods();
    }

    /// Nothing goes wrong any more, and time passes well beyond every deadline.
    async fn calm_down(&mut self, scheduler: &mut Scheduler) {
        self.cluster.server.heal();
        for _ in 0..12 {
            self.cluster.later(scheduler, 30).await;
            self.check();
            self.make_pods();
        }
    }
}

fn pod(name: &str, gang: &str, number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("00000000-0000-4000-8000-{number:012}"),
            "labels": { names::GANG_LABEL: gang },
        },
        "spec": {
            "schedulerName": names::SCHEDULER_NAME,
            "containers": [{ "name": "c", "resources": { "requests": { "nvidia.com/gpu": "1" } } }],
        },
        "status": { "phase": "Pending" },
    })
}

fn gang_of(pod: &Value) -> String {
    pod["metadata"]["labels"][names::GANG_LABEL].as_str().unwrap_or_default().to_owned()
}

/// Goes through what happens, and looks at what is left when it is calm again.
async fn survives(events: &[Happens]) {
    let mut world = World::new();
    let mut scheduler = world.cluster.scheduler();
    for event in events {
        world.happen(&mut scheduler, event).await;
    }
    world.calm_down(&mut scheduler).await;
    let mut left: usize = {
        let objects = world.cluster.server.objects();
        NODES.iter().filter(|(name, _)| objects.nodes.contains_key(*name)).map(|(_, gpus)| gpus).sum()
    };
    for (gang, pods) in GANGS {
        let bound = (0..pods).filter(|at| world.is_bound(&format!("{gang}-{at}"))).count();
        assert!(bound == 0 || bound == pods, "{bound} of {pods} pods of {gang} are bound");
        left -= bound;
    }
    for (gang, pods) in GANGS {
        let status = world.cluster.server.objects().gangs[gang]["status"].clone();
        assert!(status["journal"].is_null(), "{gang}: {status}");
        assert!(
            world.is_bound(&format!("{gang}-0")) || pods > left,
            "{gang} waits beside {left} free GPUs: {status}"
        );
    }
}

fn run(events: &[Happens]) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(survives(events));
}

/// The scheduler dies after each of the requests that it takes to place everything, one after the other.
#[test]
fn a_scheduler_may_die_at_any_request() {
    for requests in 0..40 {
        run(&[Happens::Death { requests }]);
        run(&[Happens::Death { requests }, Happens::Death { requests: 3 }, Happens::Death { requests }]);
    }
}

/// Each request in turn is lost, or its reply is, or it is refused.
#[test]
fn any_request_may_fail() {
    for fault in [Fault::RequestLost, Fault::ReplyLost, Fault::Refused(409), Fault::Refused(500)] {
        for request in 0..20 {
            let mut world = World::new();
            world.cluster.server.fail_nth(request, fault);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut scheduler = world.cluster.scheduler();
                world.calm_down(&mut scheduler).await;
                for (gang, _) in GANGS {
                    let status = world.cluster.server.objects().gangs[gang]["status"].clone();
                    assert_eq!(status["phase"], "Scheduled", "request {request}: {gang}");
                }
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_node_is_over_committed_and_no_half_gang_is_left(events in vec(happens(), 1..25)) {
        run(&events);
    }
}

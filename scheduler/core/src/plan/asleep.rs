//! Whoever isn't looked at again would have found nothing: neither room nor somebody to evict.

mod happens;

use happens::{Abroad, Asks, Happens, How, happens};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{
    StorageKind,
    gang::GangFacts,
    testing::{World, gpus},
};

const NODES: usize = 4;
const PODS: usize = 10;

/// A cluster, and the documents of its pods.
struct Scene {
    world: World,
    pods: Vec<Option<Value>>,
    /// How many pods there ever were: each has a UID of its own.
    made: usize,
    /// How late it is, in seconds.
    now: i64,
}

fn affinity(kind: &str, app: usize, key: &str) -> Value {
    let term = json!({ "labelSelector": { "matchLabels": { "app": app.to_string() } }, "topologyKey": key });
    json!({ kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } })
}

/// Anti-affinity to pods of an app: of one namespace, or of all.
fn apart_from(app: usize, (namespace, from_all): (&str, bool)) -> Value {
    let mut affinity = affinity("podAntiAffinity", app, "zone");
    let term = &mut affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    if from_all {
        term["namespaceSelector"] = json!({});
    } else {
        term["namespaces"] = json!([namespace]);
    }
    affinity
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self { world: World::default(), pods: vec![None; PODS], made: 0, now: 1_767_225_600 };
        scene.world.cluster.pass_time(scene.now);
        for gang in 0..3 {
            scene.gang(gang, 2, 0);
        }
        scene.world.class("local", "kubernetes.io/no-provisioner", |_| ());
        (0..2).for_each(|claim| scene.claim(claim, false));
        scene.world.pod_group("u", &json!({ "schedulingPolicy": { "gang": { "minCount": 2 } } }));
        scene.world.upstream_gang("u");
        scene
    }

    fn gang(&mut self, gang: usize, min_member: usize, priority: i32) {
        let key = format!("ns/g{gang}");
        self.world.cluster.set_gang(GangFacts { key, min_member, priority, ..GangFacts::default() });
    }

    fn claim(&mut self, claim: usize, is_for_one: bool) {
        self.world.claim(&format!("s{claim}"), "local", |claim| {
            let mode = if is_for_one { "ReadWriteOncePod" } else { "ReadWriteOnce" };
            claim["spec"]["accessModes"] = json!([mode]);
        });
    }

    fn volume(&mut self, volume: usize, zone: usize) {
        let expression = json!({ "key": "zone", "operator": "In", "values": [zone.to_string()] });
        self.world.volume(&format!("s{volume}"), "local", |volume| {
            volume["spec"]["accessModes"] = json!(["ReadWriteOnce", "ReadWriteOncePod"]);
            volume["spec"]["nodeAffinity"] =
                json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
        });
    }

    fn tell(&mut self, pod: usize, document: Value) {
        self.world.cluster.set_pod(&serde_json::from_value(document.clone()).unwrap());
        self.pods[pod] = Some(document);
    }

    /// The pod's document is changed, if there is one.
    fn change(&mut self, pod: usize, change: impl FnOnce(&mut Value)) {
        if let Some(mut document) = self.pods[pod].clone() {
            change(&mut document);
            self.tell(pod, document);
        }
    }

    fn uid(&self, pod: usize) -> Option<String> {
        Some(self.pods[pod].as_ref()?["metadata"]["uid"].as_str()?.to_owned())
    }

    fn forget(&mut self, pod: usize) {
        if let Some(uid) = self.uid(pod) {
            self.world.cluster.remove_pod(&uid);
            self.pods[pod] = None;
        }
    }

    /// A pod in place of the one that was there.
    fn make(
        &mut self,
        pod: usize,
        (gpus, priority, app): (i64, i32, usize),
        change: impl FnOnce(&mut Value),
    ) {
        self.forget(pod);
        self.made += 1;
        let mut document = json!({
            "metadata": { "name": format!("p{pod}"), "namespace": "ns", "uid": format!("u{}", self.made),
                "labels": { "app": app.to_string() } },
            "spec": { "schedulerName": "plasma-scheduler", "priority": priority, "containers": [{ "name": "c",
                "resources": { "requests": { "nvidia.com/gpu": gpus.to_string() } } }] },
        });
        change(&mut document);
        self.tell(pod, document);
    }

    fn arrives(&mut self, pod: usize, asks: &Asks) {
        let is_upstream = asks.group == Some(3);
        let priority = if is_upstream { 0 } else { asks.priority };
        self.make(pod, (asks.gpus, priority, asks.app), |pod| {
            match asks.group {
                Some(3) => pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "u" }),
                Some(gang) => {
                    pod["metadata"]["labels"]["compute.plasma.dev/gang"] = json!(format!("g{gang}"));
                }
                None => {}
            }
            match asks.how {
                How::Plainly => {}
                How::Apart(app, key) => pod["spec"]["affinity"] = affinity("podAntiAffinity", app, key),
                How::Together(app, key) => pod["spec"]["affinity"] = affinity("podAffinity", app, key),
                How::ApartFromAbroad { app, from_all } => {
                    pod["spec"]["affinity"] = apart_from(app, ("abroad", from_all));
                }
                How::Spread => {
                    pod["spec"]["topologySpreadConstraints"] = json!([{ "maxSkew": 1, "topologyKey": "zone",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": { "matchLabels": { "app": asks.app.to_string() } } }]);
                }
                How::InZone(zone) => pod["spec"]["nodeSelector"] = json!({ "zone": zone.to_string() }),
                How::WithPort => {
                    pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 80 }]);
                }
                How::WithClaim(claim) => {
                    let claim = json!({ "claimName": format!("s{claim}") });
                    pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": claim }]);
                }
                How::WithoutPreempting if is_upstream => {}
                How::WithoutPreempting => pod["spec"]["preemptionPolicy"] = json!("Never"),
            }
        });
    }

    fn happen(&mut self, event: &Happens) {
        match event {
            Happens::Node { node, gpus: count, zone, is_cordoned } => {
                let name = format!("n{node}");
                self.world.node(&name, &gpus(*count));
                self.world.change_node(&name, |node| {
                    node["metadata"]["labels"]["zone"] = json!(zone.to_string());
                    node["spec"]["unschedulable"] = json!(is_cordoned);
                });
            }
            Happens::NodeGone(node) => self.world.cluster.remove_node(&format!("n{node}")),
            Happens::Pod { pod, asks } => self.arrives(*pod, asks),
            Happens::Foreign { pod, node, gpus, priority, app, abroad } => {
                self.make(*pod, (*gpus, *priority, *app), |pod| {
                    pod["spec"]["schedulerName"] = json!("default-scheduler");
                    pod["spec"]["nodeName"] = json!(format!("n{node}"));
                    if let Some(abroad) = abroad {
                        pod["metadata"]["namespace"] = json!("abroad");
                        if let Abroad::Apart { app, from_all } = *abroad {
                            pod["spec"]["affinity"] = apart_from(app, ("ns", from_all));
                        }
                    }
                });
            }
            Happens::Gang { gang, min_member, priority } => self.gang(*gang, *min_member, *priority),
            Happens::PodGroup { min_count } => self
                .world
                .pod_group("u", &json!({ "schedulingPolicy": { "gang": { "minCount": min_count } } })),
            Happens::Budget { app, allowed } => {
                let budget = json!({ "metadata": { "name": "b", "namespace": "ns" },
                    "spec": { "selector": { "matchLabels": { "app": app.to_string() } } },
                    "status": { "disruptionsAllowed": allowed } });
                self.world.cluster.set_budget(&serde_json::from_value(budget).unwrap());
            }
            Happens::Claim { claim, is_for_one } => self.claim(*claim, *is_for_one),
            Happens::Volume { volume, zone } => self.volume(*volume, *zone),
            Happens::StorageGone(kind, which) => {
                let name =
                    if *kind == StorageKind::Claim { format!("ns/s{which}") } else { format!("s{which}") };
                self.world.cluster.remove_storage(*kind, &name);
            }
            Happens::BudgetGone => self.world.cluster.remove_budget("ns/b"),
            Happens::ReservationsEnd => drop(self.world.cluster.end_reservations(i64::MAX / 2, 0)),
            Happens::Later(seconds) => {
                self.now += seconds;
                self.world.cluster.pass_time(self.now);
            }
            Happens::Explained => drop(self.world.cluster.explain(2)),
            Happens::Forgotten => self.world.cluster.forget_unused(),
            other => self.happen_to_pod(other),
        }
    }

    fn happen_to_pod(&mut self, event: &Happens) {
        match event {
            Happens::Bound(pod) => {
                let node = self.uid(*pod).and_then(|uid| self.world.cluster.node_of(&uid).map(str::to_owned));
                if let Some(node) = node {
                    self.change(*pod, |pod| pod["spec"]["nodeName"] = json!(node));
                }
            }
            Happens::Ending(pod, seconds) => {
                let at = jiff::Timestamp::from_second(self.now + seconds).unwrap();
                self.change(*pod, |pod| pod["metadata"]["deletionTimestamp"] = json!(at.to_string()));
            }
            Happens::Finished(pod, phase) => {
                self.change(*pod, |pod| pod["status"]["phase"] = json!(phase));
            }
            Happens::Gone(pod) => self.forget(*pod),
            Happens::Echo(pod) => self.change(*pod, |pod| {
                pod["status"]["conditions"] =
                    json!([{ "type": "PodScheduled", "status": "False", "reason": "x" }]);
            }),
            Happens::GivenUp(pod) => {
                let Some(uid) = self.uid(*pod) else { return };
                let known = self.world.cluster.known_by_uid(&uid);
                if let Some(group) = known.and_then(|known| known.group.clone()) {
                    self.world.cluster.give_up(&group, [uid.as_str()]);
                }
            }
            Happens::Spared(pod) => {
                if let Some(uid) = self.uid(*pod) {
                    self.world.cluster.spare(&uid);
                }
            }
            _ => unreachable!("it is no pod's"),
        }
    }

    /// Plans once. What was done, and whether there is nothing more to be done now.
    fn plan(&mut self) -> (Vec<Decision>, bool) {
        let mut done = self.world.cluster.plan(100);
        done.retain(|decision| matches!(decision, Decision::Place { .. } | Decision::Preempt { .. }));
        let is_over = done.is_empty() && !self.world.cluster.has_more();
        for decision in &done {
            if let Decision::Place { group, .. } | Decision::Preempt { group, .. } = decision {
                // It is carried out at once.
                self.world.cluster.set_busy(group, false);
            }
        }
        (done, is_over)
    }

    /// Plans until there is nothing more to be done now. What was done.
    fn settle(&mut self) -> Vec<Decision> {
        let mut all = Vec::new();
        for _ in 0..50 {
            let (done, is_over) = self.plan();
            all.extend(done);
            if is_over {
                return all;
            }
        }
        panic!("it doesn't settle: {all:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whoever_is_not_looked_at_again_would_have_found_nothing(events in vec(happens(), 1..50), is_in_parts: bool) {
        let mut scene = Scene::new();
        if is_in_parts {
            scene.world.cluster.looks_at_once = 0;
        }
        for (at, event) in events.iter().enumerate() {
            scene.happen(event);
            // Not each time: what is remembered for long must hold as well, and so must what was found out in parts.
            if at % 9 != 8 && at + 1 != events.len() {
                if is_in_parts { drop(scene.plan()) } else { drop(scene.settle()) }
                continue;
            }
            scene.settle();
            scene.world.cluster.forget_hopes();
            let missed = scene.settle();
            prop_assert!(missed.is_empty(), "after {:?}, number {}: {:?}", event, at, missed);
        }
    }
}

#[test]
fn whoever_gains_by_nodes_that_a_plan_gives_back_after_it_passed_by_is_looked_at_by_the_next_one() {
    let mut scene = Scene::new();
    let asks = |gpus, how| Asks { gpus, priority: 1, app: 0, group: None, how };
    let low = || Happens::Foreign { pod: 1, node: 0, gpus: 0, priority: 0, app: 0, abroad: None };
    for event in [
        Happens::Node { node: 3, gpus: 3, zone: 0, is_cordoned: false },
        Happens::Pod { pod: 3, asks: asks(1, How::WithPort) },
        Happens::Bound(3),
        Happens::Ending(3, 0),
        low(),
        // The node is kept for it until the other is gone, and then too small.
        Happens::Pod { pod: 7, asks: asks(3, How::Apart(2, "zone")) },
        Happens::Gone(1),
        Happens::Node { node: 3, gpus: 2, zone: 1, is_cordoned: false },
        Happens::Pod { pod: 0, asks: asks(1, How::WithPort) },
    ] {
        scene.happen(&event);
        scene.settle();
    }
    assert_eq!(scene.world.cluster.kept(), 1);
    scene.happen(&low());
    let done = scene.settle();
    assert!(matches!(&done[..], [Decision::Preempt { group, .. }] if group == "ns/pod:p0"), "{done:?}");
}

#[test]
fn a_node_that_comes_with_a_pod_that_shuns_somebody_rouses_those_for_whom_nodes_are_kept() {
    let mut scene = Scene::new();
    let asks = Asks { gpus: 2, priority: 1, app: 2, group: None, how: How::Plainly };
    let apart = Some(Abroad::Apart { app: 2, from_all: false });
    for event in [
        Happens::Node { node: 1, gpus: 2, zone: 1, is_cordoned: false },
        Happens::Foreign { pod: 5, node: 1, gpus: 1, priority: 0, app: 0, abroad: None },
        Happens::Pod { pod: 1, asks },
        Happens::Foreign { pod: 2, node: 0, gpus: 0, priority: 0, app: 0, abroad: apart },
    ] {
        scene.happen(&event);
        scene.settle();
    }
    assert_eq!(scene.world.cluster.kept(), 1);
    scene.happen(&Happens::Node { node: 0, gpus: 0, zone: 1, is_cordoned: false });
    let done = scene.settle();
    assert!(matches!(&done[..], [Decision::Preempt { victims, .. }] if victims[0].pod == "p2"), "{done:?}");
}

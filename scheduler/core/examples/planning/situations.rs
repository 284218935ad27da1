//! The situations that are measured: much waits, and much is there.

use std::error::Error;

use plasma_scheduler_core::Decision;
use serde_json::{Value, json};

use crate::{
    Figure, memory,
    objects::{Bench, NODES, node_name, on, pod},
};

type Figures = Result<Vec<Figure>, Box<dyn Error>>;

/// A situation by its name.
type Situation = (&'static str, fn() -> Figures);

/// All of them.
pub(crate) const ALL: [Situation; 6] = [
    ("kinds", kinds),
    ("misfits", misfits),
    ("anti-affinity", anti_affinity),
    ("victims", victims),
    ("daemons", daemons),
    ("residents", residents),
];

/// So many kinds of pods wait, and so many of each.
const KINDS: usize = 1_000;
const OF_EACH: usize = 10;
/// So many things happen, one by one, with a plan after each.
const EVENTS: usize = 300;

fn ms(name: &'static str, value: f64) -> Figure {
    Figure { name, value, unit: "ms" }
}

fn mib(name: &'static str, value: f64) -> Figure {
    Figure { name, value, unit: "MiB" }
}

/// Every node's GPUs are taken by one pod each.
fn full() -> serde_json::Result<Bench> {
    let mut bench = Bench::new()?;
    for at in 0..NODES {
        bench.tell(&on(pod(&format!("resident-{at}"), (8, 64)), at))?;
    }
    bench.plan();
    Ok(bench)
}

/// A pod of a kind of its own: another selector, or another amount of memory.
fn of_kind(kind: usize, at: usize) -> Value {
    let mut pod = pod(&format!("kind-{kind}-{at}"), (1, 1));
    pod["spec"]["containers"][0]["resources"]["requests"]["memory"] =
        json!(format!("{}Mi", 4096 + kind / 10));
    pod["spec"]["nodeSelector"] = json!({ "pool": format!("pool-{}", kind % 10) });
    pod
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn per_event(spent: f64) -> f64 {
    spent / EVENTS as f64
}

fn kinds() -> Figures {
    let mut figures = Vec::new();
    for is_full in [false, true] {
        let mut bench = if is_full { full()? } else { Bench::new()? };
        bench.begin();
        for at in 0..OF_EACH {
            for kind in 0..KINDS {
                bench.tell(&of_kind(kind, at))?;
            }
        }
        bench.plan();
        if !is_full {
            assert_eq!(bench.placed, KINDS * OF_EACH, "all of them fit");
            figures.push(ms("1000 kinds, 10000 pods that fit", bench.spent));
            figures.push(ms("  the longest plan", bench.worst));
            continue;
        }
        figures.push(ms("1000 kinds, 10000 pods that don't", bench.spent));
        figures.push(ms("  the longest plan", bench.worst));
        bench.begin();
        for at in 0..EVENTS {
            bench.gone(&format!("resident-{at}"));
            bench.plan();
        }
        assert_eq!(bench.placed, EVENTS * 8, "what is freed is taken");
        figures.push(ms("  a node is freed and taken", per_event(bench.spent)));
    }
    Ok(figures)
}

fn misfits() -> Figures {
    let mut bench = full()?;
    bench.begin();
    let pods: Vec<Value> = (0..10_000).map(|at| pod(&format!("misfit-{at}"), (1, 1))).collect();
    for pod in &pods {
        bench.tell(pod)?;
    }
    bench.plan();
    assert_eq!(bench.decided, pods.len(), "each is told once");
    let mut figures =
        vec![ms("10000 misfits are told why", bench.spent), ms("  the longest plan", bench.worst)];
    bench.begin();
    for (at, pod) in pods.iter().enumerate() {
        let mut pod = pod.clone();
        pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room" }]);
        bench.tell(&pod)?;
        if at % 100 == 99 {
            bench.plan();
        }
    }
    figures.push(ms("  and say so themselves", bench.spent));
    bench.begin();
    for at in 0..EVENTS {
        bench.gone(&format!("resident-{at}"));
        bench.plan();
    }
    figures.push(ms("  a node is freed and taken", per_event(bench.spent)));
    Ok(figures)
}

fn anti_affinity() -> Figures {
    let mut bench = full()?;
    for at in 0..2_000 {
        bench.tell(&of_kind(at % 20, at))?;
    }
    bench.plan();
    let shuns = |app: &str, key: &str| {
        json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key }] } })
    };
    let mut lonely = on(pod("lonely", (0, 1)), 7);
    lonely["metadata"]["labels"]["app"] = json!("lonely");
    lonely["spec"]["affinity"] = shuns("lonely", "kubernetes.io/hostname");
    bench.tell(&lonely)?;
    bench.plan();
    let mut figures = Vec::new();
    // A pod of somebody else's is made, gets a node, runs.
    let mut live = |bench: &mut Bench, name: &'static str| -> Result<(), Box<dyn Error>> {
        bench.begin();
        for at in 0..EVENTS {
            let mut other = pod(&format!("{}-{at}", name.len()), (0, 1));
            other["spec"]["schedulerName"] = json!("default-scheduler");
            bench.tell(&other)?;
            bench.plan();
            let mut bound = other.clone();
            bound["spec"]["nodeName"] = json!(node_name(at));
            bench.tell(&bound)?;
            bench.plan();
            bench.tell(&on(other, at))?;
            bench.plan();
        }
        figures.push(ms(name, per_event(bench.spent)));
        Ok(())
    };
    live(&mut bench, "a foreign pod comes, beside 2000 that wait and one that shuns")?;
    for at in 0..100 {
        let mut pod = pod(&format!("apart-{at}"), (1, 1));
        pod["metadata"]["labels"]["app"] = json!("apart");
        pod["spec"]["affinity"] = shuns("apart", "topology.kubernetes.io/zone");
        bench.tell(&pod)?;
    }
    bench.plan();
    live(&mut bench, "  and 100 that wait to be apart")?;
    Ok(figures)
}

/// Ten pods of the lowest priority on each node, of so many kinds.
fn crowded(kinds: usize) -> serde_json::Result<Bench> {
    let mut bench = Bench::new()?;
    for at in 0..NODES * 10 {
        let (gpus, kind) = (usize::from(at % 10 < 8), at % kinds);
        let mut resident = on(pod(&format!("resident-{at}"), (gpus, 1 + kind % 16)), at / 10);
        resident["metadata"]["labels"]["app.kubernetes.io/name"] = json!(format!("app-{kind}"));
        resident["metadata"]["namespace"] = json!(format!("ns-{}", kind / 16));
        bench.tell(&resident)?;
    }
    bench.plan();
    Ok(bench)
}

fn victims() -> Figures {
    let mut bench = crowded(1)?;
    let mut figures = Vec::new();
    bench.begin();
    bench.gang("mixed", 9, &[((8, 64), 64), ((4, 32), 64), ((2, 16), 64)])?;
    bench.plan();
    figures.push(ms("a mixed gang of 192 evicts", bench.spent));
    bench.begin();
    for at in 0..1_000 {
        let mut pod = pod(&format!("large-{at}"), (8, 193));
        pod["spec"]["priority"] = json!(9);
        bench.tell(&pod)?;
    }
    bench.plan();
    figures.push(ms("1000 pods that no eviction helps", bench.spent));
    figures.push(ms("  the longest plan", bench.worst));
    bench.begin();
    for at in 0..EVENTS {
        bench.gone(&format!("resident-{}", at * 10 + 9));
        bench.plan();
    }
    figures.push(ms("  a pod ends beside them", per_event(bench.spent)));
    figures.extend(bound_beside()?);
    bench.begin();
    for at in 0..20 {
        bench.gang(&format!("split-{at}"), 9, &[((8, 64), 2_000), ((7, 150), 2_000), ((8, 192), 1_001)])?;
    }
    bench.plan();
    figures.push(ms("20 mixed gangs of 5001 that don't fit", bench.spent));
    figures.push(ms("  the longest plan", bench.worst));
    Ok(figures)
}

/// Pods are bound one by one beside 1,000 kinds of pods, each of which has sought in vain whom to evict.
fn bound_beside() -> Figures {
    let mut bench = crowded(1)?;
    for at in 0..KINDS {
        let mut pod = pod(&format!("large-{at}"), (8, 193 + at));
        pod["spec"]["priority"] = json!(9);
        bench.tell(&pod)?;
    }
    bench.plan();
    bench.begin();
    for at in 0..EVENTS {
        let mut small = pod(&format!("small-{at}"), (0, 1));
        small["spec"]["priority"] = json!(9);
        bench.tell(&small)?;
        let node = match bench.plan().pop() {
            Some(Decision::Place { placements, .. }) => placements[0].node.clone(),
            other => return Err(format!("{other:?}").into()),
        };
        small["spec"]["nodeName"] = json!(node);
        bench.tell(&small)?;
        bench.cluster.set_busy(&format!("ns/pod:small-{at}"), false);
        bench.plan();
    }
    Ok(vec![ms("a pod is bound beside 1000 kinds that no eviction helps", per_event(bench.spent))])
}

fn daemons() -> Figures {
    let mut bench = Bench::new()?;
    let before = memory()?;
    bench.begin();
    for at in 0..NODES * 10 {
        let mut daemon = pod(&format!("daemon-{at}"), (0, 0));
        daemon["spec"]["schedulerName"] = json!("default-scheduler");
        daemon["metadata"]["labels"] =
            json!({ "app": format!("daemon-{}", at % 10), "pod-template-generation": "1" });
        daemon["spec"]["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": [node_name(at / 10)] }] }] } } });
        bench.tell(&daemon)?;
        bench.tell(&on(daemon, at / 10))?;
    }
    Ok(vec![ms("50000 pods of DaemonSets come", bench.spent), mib("  and take", memory()? - before)])
}

fn residents() -> Figures {
    let bench = crowded(500)?;
    let all = memory()?;
    drop(bench);
    Ok(vec![mib("5000 nodes, 50000 pods of 500 kinds: all of the process", all)])
}

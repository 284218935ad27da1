//! Our filters: those of the scheduler's core, asked through the same cluster state that the scheduler keeps.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use cluster::{Way, filled, read};
use plasma_scheduler_core::{Cluster, Decision, Verdict};
use serde_json::Value;

use super::{
    case::{Case, name},
    verdicts::{Refused, Verdicts},
};

/// The filter that the core has no rule for, because a pod that names its node is never one that waits.
const NODE_NAME: &str = "NodeName";

/// What stands in a filter's place where the plan goes against the verdicts.
pub(super) const PLAN: &str = "(plan)";

/// And where what is said depends on the order in which things were heard of.
pub(super) const DETOUR: &str = "(detour)";

/// What our filters say of a case, and where a plan goes against that.
///
/// # Errors
/// An object can't be read, or a pod isn't taken on.
pub(super) fn verdicts(case: &Case) -> Result<Verdicts> {
    let mut judged = along(case, Way::Straight)?;
    for (straight, detour) in judged.iter_mut().zip(along(case, Way::Detour)?) {
        let only = |refused: &&Refused| !(straight.contains_key(refused) && detour.contains_key(refused));
        let Some(other) = straight.keys().chain(detour.keys()).find(only).cloned() else { continue };
        let why = format!("says otherwise by {} after a detour", other.filter);
        straight.insert(Refused { node: other.node, filter: DETOUR.to_owned() }, why);
    }
    Ok(judged)
}

fn along(case: &Case, way: Way) -> Result<Verdicts> {
    let mut cluster = filled(case, way)?;
    case.incoming.iter().map(|pod| of_pod(&mut cluster, case, pod)).collect()
}

/// One pod by itself: it comes, is judged, and goes.
fn of_pod(cluster: &mut Cluster, case: &Case, pod: &Value) -> Result<BTreeMap<Refused, String>> {
    let uid = pod["metadata"]["uid"].as_str().context("a pod without UID")?;
    let mut refusals = elsewhere(cluster, case, pod, uid)?;
    let mut waits = pod.clone();
    if let Value::Object(spec) = &mut waits["spec"] {
        spec.remove("nodeName");
    }
    cluster.set_pod(&read(&waits)?);
    let problem = cluster.problem(uid).unwrap_or_default();
    ensure!(problem.is_empty(), "pod {} isn't taken on: {problem}", name(pod));
    let (mut judged, verdicts) = (BTreeSet::new(), cluster.verdicts(uid));
    refusals.extend(contradiction(&cluster.plan(1), uid, &verdicts));
    for verdict in verdicts {
        for refusal in &verdict.refusals {
            if let Some(filter) = refusal.filter() {
                let refused = Refused { node: verdict.node.clone(), filter: filter.to_owned() };
                refusals.entry(refused).or_insert_with(|| refusal.to_string());
            }
        }
        judged.insert(verdict.node);
    }
    let nodes: BTreeSet<String> = case.node_names().into_iter().collect();
    ensure!(judged == nodes, "pod {}: judged on {judged:?} of {nodes:?}", name(pod));
    cluster.remove_pod(uid);
    Ok(refusals)
}

/// The verdicts are only worth something where the plan keeps to them: the pod goes where nothing speaks against it, and is held
/// where there is no such node.
fn contradiction(plan: &[Decision], uid: &str, verdicts: &[Verdict]) -> Option<(Refused, String)> {
    let placements = plan.iter().flat_map(|decision| match decision {
        Decision::Place { placements, .. } => placements.as_slice(),
        Decision::Hold { .. } | Decision::Preempt { .. } | Decision::Aside { .. } => &[],
    });
    let node = placements.into_iter().find(|placement| placement.uid == uid).map(|placement| &placement.node);
    let (against, why) = match node {
        Some(node) => {
            let verdict = verdicts.iter().find(|verdict| verdict.node == *node)?;
            (verdict, format!("is placed there in spite of {}", verdict.refusals.first()?))
        }
        None => {
            let free = verdicts.iter().find(|verdict| verdict.refusals.is_empty())?;
            (free, "isn't placed though nothing speaks against this node".to_owned())
        }
    };
    Some((Refused { node: against.node.clone(), filter: PLAN.to_owned() }, why))
}

/// A pod that names its node is taken to be there, whatever the rules say: every other node is refused.
fn elsewhere(
    cluster: &mut Cluster,
    case: &Case,
    pod: &Value,
    uid: &str,
) -> Result<BTreeMap<Refused, String>> {
    cluster.set_pod(&read(pod)?);
    let refused = match cluster.node_of(uid) {
        None => BTreeMap::new(),
        Some(on) => {
            let others = case.node_names().into_iter().filter(|node| node != on);
            let one = |node| (Refused { node, filter: NODE_NAME.to_owned() }, format!("it is on {on}"));
            others.map(one).collect()
        }
    };
    cluster.remove_pod(uid);
    Ok(refused)
}

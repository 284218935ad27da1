//! What a cluster looked like when something failed in it: written down before the cluster goes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{cluster::Cluster, command, paths, progress, stack::SYSTEM};

/// Kubernetes' own kinds, and ours: asked for apart, since one kind that isn't there fails the whole question.
const KINDS: [(&str, &str); 2] = [
    ("objects", "nodes,pods,jobs,deployments,daemonsets,services"),
    ("plasma", "computejobs,computequeues,gangs,gpunodes,settlementbatches"),
];
/// Whose pods are looked at closely: Plasma's, and those of the demo's and the tests' user.
const NAMESPACES: [&str; 2] = [SYSTEM, "team-a"];

/// Adds to a failure where what was there is written down.
pub(crate) fn of<T>(outcome: Result<T>, what: &str) -> Result<T> {
    outcome.map_err(|failure| match gather(what) {
        Ok(Some(folder)) => {
            failure.context(format!("what was there when it failed is in {folder}: objects, events, logs"))
        }
        Ok(None) => failure,
        Err(fault) => {
            progress::say(format!("what was there when it failed can't be written down: {fault:#}"));
            failure
        }
    })
}

/// The folder; none where there was no cluster to look at.
fn gather(what: &str) -> Result<Option<String>> {
    let Ok(cluster) = Cluster::running() else { return Ok(None) };
    let folder = paths::logs()?.join(format!("failed-{what}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("daemons")).with_context(|| format!("create {}", folder.display()))?;
    for entry in fs::read_dir(cluster.logs()).context("list the daemons' logs")?.flatten() {
        let copy = folder.join("daemons").join(entry.file_name());
        fs::copy(entry.path(), &copy).with_context(|| format!("write {}", copy.display()))?;
    }
    let ask = |file: &str, arguments: &[&str]| answer(&cluster, &folder.join(file), arguments);
    for (file, kinds) in KINDS {
        ask(&format!("{file}.txt"), &["get", kinds, "--all-namespaces", "--output=wide"])?;
        ask(&format!("{file}.yaml"), &["get", kinds, "--all-namespaces", "--output=yaml"])?;
    }
    ask("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"])?;
    for namespace in NAMESPACES {
        ask(&format!("{namespace}.txt"), &["describe", "pods", "--namespace", namespace])?;
        let mut list = cluster.kubectl()?;
        list.args(["get", "pods", "--output=name", "--request-timeout=10s", "--namespace", namespace]);
        for pod in command::output(&mut list).unwrap_or_default().lines() {
            let logs = ["logs", "--namespace", namespace, pod, "--all-containers", "--prefix", "--tail=2000"];
            let file = format!("{namespace}-{}", pod.trim_start_matches("pod/"));
            ask(&format!("{file}.log"), &logs)?;
            // Of a container that was ended and started again: what it said before.
            ask(&format!("{file}.previous.log"), &[&logs[..], &["--previous"]].concat())?;
        }
    }
    Ok(Some(folder.display().to_string()))
}

/// What kubectl says, or why it says nothing.
fn answer(cluster: &Cluster, file: &Path, arguments: &[&str]) -> Result<()> {
    let mut kubectl: Command = cluster.kubectl()?;
    kubectl.arg("--request-timeout=10s").args(arguments);
    let text = command::output(&mut kubectl).unwrap_or_else(|fault| format!("{fault:#}\n"));
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

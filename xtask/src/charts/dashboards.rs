//! Dashboards and alerts: they are where Grafana and Prometheus look for them, and Prometheus understands what they ask.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::items;
use crate::{command, tools};

/// What Grafana puts in place of its own words.
const GRAFANAS: [(&str, &str); 2] = [("$__rate_interval", "5m"), ("$__range", "1h")];

/// What must hold of them, in a chart that renders them all.
pub(super) fn check(objects: &[Value]) -> Result<()> {
    let of_kind = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let monitors = of_kind("PodMonitor");
    ensure!(monitors.len() == 2, "there are {} PodMonitors, not 2", monitors.len());
    for monitor in monitors {
        ensure!(
            monitor["metadata"]["labels"]["release"] == "prometheus",
            "a monitor lacks the labels that were asked for"
        );
    }
    let mut expressions = Vec::new();
    for rule in of_kind("PrometheusRule") {
        let rules = items(&rule["spec"]["groups"]).flat_map(|group| items(&group["rules"]));
        expressions.extend(rules.filter_map(|rule| rule["expr"].as_str().map(str::to_owned)));
    }
    ensure!(!expressions.is_empty(), "there are no alerts");
    let found =
        of_kind("ConfigMap").into_iter().filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    for text in found.flat_map(|map| map["data"].as_object().into_iter().flat_map(|data| data.values())) {
        let text = text.as_str().context("a dashboard isn't text")?;
        expressions.extend(of_dashboard(&serde_json::from_str(text).context("a dashboard isn't JSON")?)?);
    }
    understood(&expressions)
}

/// The expressions of a dashboard's panels, as Grafana sends them.
fn of_dashboard(dashboard: &Value) -> Result<Vec<String>> {
    let targets = items(&dashboard["panels"]).flat_map(|panel| items(&panel["targets"]));
    let sent = targets.filter_map(|target| target["expr"].as_str()).map(|expression| {
        GRAFANAS.iter().fold(expression.to_owned(), |sent, (word, value)| sent.replace(word, value))
    });
    let sent: Vec<String> = sent.collect();
    ensure!(!sent.is_empty(), "{} asks nothing", dashboard["title"]);
    Ok(sent)
}

fn understood(expressions: &[String]) -> Result<()> {
    let parser = tools::build(&tools::PROMQL)?.join("promql");
    let folder = tempfile::tempdir().context("make a folder")?;
    let file = folder.path().join("expressions");
    fs::write(&file, expressions.join("\n")).with_context(|| format!("write {}", file.display()))?;
    command::output(Command::new(parser).arg(file)).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn grafanas_words_are_replaced_and_an_empty_dashboard_is_refused() {
        let panel = json!({ "targets": [{ "expr": "rate(a[$__rate_interval])" }, { "expr": "b" }] });
        let sent = of_dashboard(&json!({ "panels": [{ "type": "row" }, panel] })).expect("it asks");
        assert_eq!(sent, ["rate(a[5m])", "b"]);
        let fault = of_dashboard(&json!({ "title": "empty", "panels": [] })).expect_err("it asks nothing");
        assert!(fault.to_string().contains("empty"), "{fault}");
    }
}

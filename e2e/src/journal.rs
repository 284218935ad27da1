//! What the device plugin's meter wrote down on the node of the cluster under test.

use std::collections::BTreeMap;

use plasma_types::PodUid;
use serde_json::Value;

use crate::processes::{Victim, file_of};

/// Where the chart has the meter's journal.
const JOURNAL: &str = "/var/lib/plasma/meter/journal.jsonl";

/// What the journal's records of one pod add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// How long each device was held and could be used, by its UUID. Milliseconds.
    pub healthy: BTreeMap<String, u64>,
    /// When the first of them was given, in milliseconds since 1970.
    pub start: u64,
    /// When the last of them was given back.
    pub end: u64,
    /// Whether the last record of the pod is there.
    pub is_over: bool,
}

/// Each pod's records, as the plugin has them on its disk: also those that were acknowledged, until its file is written anew.
///
/// # Panics
/// Where no plugin runs, or a line of its journal isn't one. The last one may be half written.
pub fn recorded() -> BTreeMap<PodUid, Recorded> {
    let text = file_of(Victim::DevicePlugin, JOURNAL).expect("a device plugin that runs, and its journal");
    let text = String::from_utf8(text).expect("UTF-8");
    let mut pods: BTreeMap<PodUid, Recorded> = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let (_, json) = line.split_once(' ').expect("a checksum and JSON");
        let line: Value = serde_json::from_str(json).expect("JSON");
        for record in line["commit"]["records"].as_array().into_iter().flatten() {
            let Some(uid) = record["holder"]["podUid"].as_str().and_then(|uid| uid.parse().ok()) else {
                continue;
            };
            let number = |name: &str| record[name].as_u64().expect("a number");
            let (start, end) = (number("startMs"), number("endMs"));
            let device = record["uuid"].as_str().expect("a device").to_owned();
            let pod = pods.entry(uid).or_insert_with(|| Recorded { start, ..Recorded::default() });
            *pod.healthy.entry(device).or_default() += number("healthyMs");
            (pod.start, pod.end) = (pod.start.min(start), pod.end.max(end));
            pod.is_over |= record["podIsOver"].as_bool().expect("a word");
        }
    }
    pods
}

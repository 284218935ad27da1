//! The device plugin's figures: memory, waiting times at the device manager, and what upgrades and restarts cost.

mod energy;
mod rounds;
mod sickness;

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::figures::{Samples, rounded};
use crate::{
    harness::{Kubelet, Node, Plugin, Programs, Start, Way},
    programs::Profile,
    progress,
};

/// GPUs of the node.
const GPUS: i64 = 8;
/// How long anything may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many allocations are timed while NVML hangs.
const ALLOCATIONS: u32 = 2000;
/// How long the plugin is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(20);

/// A figure: its name, what was measured, and the bar.
struct Figure {
    name: &'static str,
    value: f64,
    bar: Option<f64>,
    what: String,
}

/// Measures everything.
///
/// # Errors
/// A bar isn't kept, or there is nothing to measure with.
pub(super) fn run(json: bool, rounds: u32) -> Result<()> {
    let programs = Programs::build(Profile::Small)?;
    let meter = progress::step("the meter", None, || energy::measure(&programs))?;
    let mut figures = progress::step("a node with eight GPUs", None, || of_one_plugin(&programs))?;
    figures.push(meter);
    figures.push(progress::step("rolling upgrades", None, || rounds::upgrades(&programs, rounds))?);
    figures.push(progress::step("kubelet restarts", None, || rounds::restarts(&programs, rounds))?);
    tell(&figures, json)
}

/// A node as one is: eight GPUs, a kubelet, an API server.
struct Bench {
    kubelet: Kubelet,
    plugin: Plugin,
    node: Node,
}

impl Bench {
    fn new(programs: &Programs) -> Result<Self> {
        let node = node(programs)?;
        let kubelet = Kubelet::start(&node, &Start::default())?;
        kubelet.heard()?;
        node.has_cluster(&kubelet.ask(&json!({ "op": "apiServer" }))?)?;
        let plugin = node.plugin(&[])?;
        plugin.is_ready()?;
        kubelet.counts(GPUS, GPUS, PATIENCE)?;
        Ok(Self { kubelet, plugin, node })
    }

    /// The plugin is killed, and another one started.
    fn with_a_killed_plugin(self) -> Result<Self> {
        let Self { kubelet, plugin, node } = self;
        plugin.kill();
        let plugin = node.plugin(&[])?;
        plugin.is_ready()?;
        kubelet.counts(GPUS, GPUS, PATIENCE)?;
        Ok(Self { kubelet, plugin, node })
    }
}

fn node(programs: &Programs) -> Result<Node> {
    Node::new(programs, Way::Watched, usize::try_from(GPUS).context("GPUs")?)
}

fn of_one_plugin(programs: &Programs) -> Result<Vec<Figure>> {
    let bench = Bench::new(programs)?;
    let idle = idle_cpu(&bench.plugin)?;
    let mut figures = sickness::measure(&bench)?;
    figures.insert(0, allocations(&bench)?);
    figures.insert(0, memory(&bench.plugin)?);
    figures.push(Figure {
        name: "rss_anonymous_mib",
        value: mebibytes(bench.plugin.memory_kib("status", "RssAnon:")?),
        bar: None,
        what:
            "of it the program's own: the rest are pages of its file and of libraries, shared and given back"
                .to_owned(),
    });
    figures.push(idle);
    Ok(figures)
}

/// After everything else: the most that it ever was.
fn memory(plugin: &Plugin) -> Result<Figure> {
    let value = mebibytes(plugin.memory_kib("status", "VmHWM:")?);
    let what = "resident memory with 8 GPUs, the most that it ever was".to_owned();
    Ok(Figure { name: "rss_mib", value, bar: Some(10.0), what })
}

fn mebibytes(kibibytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let mebibytes = kibibytes as f64 / 1024.0;
    mebibytes
}

fn idle_cpu(plugin: &Plugin) -> Result<Figure> {
    let before = plugin.cpu_seconds()?;
    thread::sleep(IDLE);
    let value = (plugin.cpu_seconds()? - before) / IDLE.as_secs_f64() * 100.0;
    let what = format!("of one CPU, over {IDLE:?} in which nothing happened");
    Ok(Figure { name: "idle_cpu_percent", value, bar: None, what })
}

#[derive(Deserialize)]
struct Timed {
    nanoseconds: Vec<u32>,
    refused: u32,
}

/// Allocate while NVML hangs: at first it grants from memory, later it refuses since nobody knows how the GPUs are.
fn allocations(bench: &Bench) -> Result<Figure> {
    bench.node.change(|state| state["hang"] = json!(["nvmlDeviceGetCount_v2"]))?;
    thread::sleep(Duration::from_secs(3));
    let socket = bench.node.plugin_socket()?;
    let gpu = "GPU-00000000-0000-0000-0000-000000000000";
    let mut samples = Samples::default();
    let (mut refused, mut granted) = (0, 0);
    // A half before the silence is noticed, a half after it.
    for _ in 0..2 {
        let asked =
            json!({ "op": "timeAllocations", "socket": socket, "ids": [gpu], "times": ALLOCATIONS / 2 });
        let timed: Timed = bench.kubelet.ask(&asked)?;
        timed.nanoseconds.iter().for_each(|nanoseconds| samples.push(f64::from(*nanoseconds) / 1e6));
        refused += timed.refused;
        granted += ALLOCATIONS / 2 - timed.refused;
        bench.kubelet.counts(0, GPUS, PATIENCE)?;
    }
    bench.node.change(|state| state["hang"] = json!([]))?;
    bench.kubelet.counts(GPUS, GPUS, PATIENCE)?;
    let what = format!(
        "Allocate with NVML hung, of {ALLOCATIONS} ({granted} granted, {refused} refused); median {:.2} ms, worst {:.2} ms",
        samples.median(),
        samples.worst()
    );
    Ok(Figure { name: "allocate_p99_ms", value: samples.p99(), bar: Some(5.0), what })
}

fn tell(figures: &[Figure], json: bool) -> Result<()> {
    if json {
        let told: serde_json::Map<String, Value> =
            figures.iter().map(|figure| (figure.name.to_owned(), json!(rounded(figure.value)))).collect();
        println!("{}", Value::Object(told));
    }
    let mut missed = Vec::new();
    for figure in figures {
        let bar = figure.bar.map(|bar| format!("at most {bar}")).unwrap_or_default();
        progress::say(format!("{:26} {:>10} {bar:14} {}", figure.name, rounded(figure.value), figure.what));
        if figure.bar.is_some_and(|bar| figure.value > bar) {
            missed.push(figure.name);
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("bars not kept: {}", missed.join(", ")) }
}

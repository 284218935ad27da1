//! `cargo xtask demo`: a real distributed PyTorch job, from `kubectl apply` to a payment for each of its pods.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use plasma_types::{Hash, WeiPerGpuSecond, Xpl};
use serde_json::{Value, json};

use crate::{
    cluster::{self, Cluster},
    command, debian, evidence, paths, programs, progress,
    stack::{CONTRACT, RPC_ON_HOST, Stack, cast},
};

const JOB: &str = "pytorch-ddp";
const NAMESPACE: &str = "team-a";
/// The flag of a leaf that is worth nothing.
const VOID: u64 = 4;

/// What the demo found: from the receipts, and from the chain itself.
struct Findings {
    /// Pods that ran: each has a receipt.
    pods: usize,
    settled: usize,
    duplicates: usize,
    receipts: Xpl,
    chain: Xpl,
}

/// Runs it; `json` prints one closing line, `keep` leaves everything running.
pub(crate) fn run(json: bool, keep: bool) -> Result<()> {
    let begun = Instant::now();
    debian::require_root()?;
    debian::require_toolchains()?;
    debian::require(&[debian::NODE, debian::PYTORCH])?;
    let outcome = evidence::of(attempt(), "demo");
    let end = if keep { look_around() } else { progress::step("bring everything down", None, cluster::down) };
    // Why it failed comes before why there is nothing to look at, or why it couldn't be brought down.
    let found = outcome?;
    end?;
    let seconds = begun.elapsed().as_secs();
    eprintln!("\n{} pods, {} settled, {} twice, in {seconds} s", found.pods, found.settled, found.duplicates);
    eprintln!("receipts say {} XPL, the chain says {} XPL", found.receipts, found.chain);
    if json {
        let line = json!({
            "pods": found.pods, "settled": found.settled, "duplicates": found.duplicates,
            "receipts_wei": found.receipts.wei().to_string(), "chain_wei": found.chain.wei().to_string(),
            "rpc": format!("http://{RPC_ON_HOST}"), "contract": CONTRACT, "seconds": seconds,
        });
        println!("{line}");
    }
    ensure!(found.pods > 0, "the job had no pod");
    ensure!(found.settled == found.pods && found.duplicates == 0, "not every pod was settled exactly once");
    ensure!(found.receipts == found.chain, "the receipts and the chain disagree");
    Ok(())
}

/// The parts of the demo.
const PARTS: usize = 4;
const JOB_OBJECT: [&str; 4] = ["computejob", JOB, "-n", NAMESPACE];

fn attempt() -> Result<Findings> {
    progress::part(1, PARTS, "the example's image");
    let pytorch = programs::pytorch()?;
    progress::part(2, PARTS, "a cluster with Plasma in it");
    let stack = Stack::up(&[pytorch])?;
    progress::part(3, PARTS, "a distributed training job");
    // With all that it made, or the next one of its name would find that.
    let delete = ["delete", "--ignore-not-found", "--wait", "--cascade=foreground"];
    command::output(stack.cluster.kubectl()?.args(delete).args(JOB_OBJECT))?;
    stack.apply_file(&paths::repository().join("examples/pytorch-ddp.yaml"))?;
    progress::step("train", None, || train(&stack))?;
    let accuracy = accuracy(&stack)?;
    ensure!(accuracy > 0.9, "test accuracy {accuracy} is not above 0.9");
    progress::part(4, PARTS, "its payment");
    let finished = progress::step("settle", None, || settle(&stack))?;
    compare(&stack, &finished)
}

/// Says what the job says of itself, each time that it changes.
fn train(stack: &Stack) -> Result<()> {
    let mut said = String::new();
    stack.wait("the job's end", Duration::from_secs(600), |stack| {
        let status = stack.get(&JOB_OBJECT)?["status"].take();
        let phase = status["phase"].as_str().unwrap_or("not looked at yet");
        let told = format!("{phase}: {}", status["message"].as_str().unwrap_or_default());
        if told != said {
            progress::say(told.trim_end_matches([':', ' ']));
        }
        if matches!(phase, "Failed" | "Refused") {
            worker_logs(stack, "50")?.lines().for_each(|line| eprintln!("  {line}"));
            bail!("the job is {told}");
        }
        said = told;
        Ok((said.starts_with("Succeeded")).then_some(()))
    })
}

/// Waits until every receipt is paid, and there is one for each pod at least: a further attempt makes more.
fn settle(stack: &Stack) -> Result<Value> {
    let mut said = String::new();
    stack.wait("the payments", Duration::from_secs(120), |stack| {
        let object = stack.get(&JOB_OBJECT)?;
        let (status, cost) = (&object["status"], &object["status"]["cost"]);
        let [recorded, settled] =
            [&cost["recorded"], &cost["settled"]].map(|count| count.as_u64().unwrap_or(0));
        let told = format!("{recorded} receipts, {settled} of them paid for good");
        if told != said {
            progress::say(&told);
        }
        said = told;
        let is_paid = status["pods"].as_u64().is_some_and(|pods| pods <= settled) && recorded == settled;
        Ok(is_paid.then_some(object))
    })
}

/// What the workers printed; those that never started have nothing to say.
fn worker_logs(stack: &Stack, lines: &str) -> Result<String> {
    let selector = format!("compute.plasma.dev/job-name={JOB}");
    let tail = format!("--tail={lines}");
    let logs = ["-n", NAMESPACE, "logs", "-l", &selector, &tail, "--prefix", "--ignore-errors"];
    command::output(stack.cluster.kubectl()?.args(logs))
}

/// Shows what the workers printed, and reads the test accuracy from it.
fn accuracy(stack: &Stack) -> Result<f64> {
    let logs = worker_logs(stack, "-1")?;
    logs.lines().for_each(|line| eprintln!("  {line}"));
    let told = logs
        .lines()
        .find_map(|line| line.split("test accuracy ").nth(1))
        .context("no worker told its accuracy")?;
    told.split(',')
        .next()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("understand the accuracy {told:?}"))
}

/// The two sides: receipts as recorded in the cluster and priced anew, and events as the chain has them.
fn compare(stack: &Stack, job: &Value) -> Result<Findings> {
    let uid = job["metadata"]["uid"].as_str().context("the job has no UID")?;
    let mut receipts = Vec::new();
    for batch in stack.get(&["settlementbatches", "-A"])?["items"].as_array().into_iter().flatten() {
        for receipt in batch["spec"]["receipts"].as_array().into_iter().flatten() {
            if receipt["jobUid"] == uid {
                receipts.push(worth(receipt, &batch["spec"]["prices"])?);
            }
        }
    }
    let pods = receipts.len();
    let on_chain = on_chain(uid)?;
    let duplicates = on_chain.values().filter(|amounts| amounts.len() > 1).count();
    Ok(Findings {
        pods,
        settled: on_chain.len(),
        duplicates,
        receipts: receipts.into_iter().sum(),
        chain: on_chain.into_values().flatten().sum(),
    })
}

fn worth(receipt: &Value, prices: &Value) -> Result<Xpl> {
    if receipt["flags"].as_u64().unwrap_or(0) & VOID != 0 {
        return Ok(Xpl::ZERO);
    }
    let class = usize::try_from(receipt["priceClass"].as_u64().context("a receipt without a price class")?)?;
    let price = prices[class].as_str().context("a price class without a price")?.parse()?;
    let device_ms = receipt["deviceMs"].as_u64().context("a receipt without device time")?;
    WeiPerGpuSecond(price).for_device_millis(device_ms).context("a receipt worth more than can exist")
}

/// What the contract's events say was settled for each pod of the job.
fn on_chain(job_uid: &str) -> Result<HashMap<Hash, Vec<Xpl>>> {
    let event = "PodSettled(bytes32,bytes16,bytes16,uint256)";
    let logs =
        command::output(&mut cast(&["logs", "--json", "--from-block", "0", "--address", CONTRACT, event])?)?;
    let logs: Vec<Value> = serde_json::from_str(&logs).context("understand the chain's events")?;
    let job: String = job_uid.replace('-', "");
    let mut pods: HashMap<Hash, Vec<Xpl>> = HashMap::new();
    for log in logs {
        let topic = |at: usize| log["topics"][at].as_str().unwrap_or_default().to_owned();
        if !topic(3).trim_start_matches("0x").starts_with(&job) {
            continue;
        }
        let data =
            log["data"].as_str().and_then(|data| data.strip_prefix("0x")).context("an event without data")?;
        let amount = data
            .get(..64)
            .and_then(|word| u128::from_str_radix(word, 16).ok())
            .context("an event without an amount")?;
        pods.entry(topic(2).parse()?).or_default().push(Xpl::from_wei(amount));
    }
    Ok(pods)
}

fn look_around() -> Result<()> {
    let cluster = Cluster::running()?;
    progress::say("left running; to look around:");
    progress::say(format!(
        "  export KUBECONFIG={} PATH={}:$PATH",
        cluster.kubeconfig().display(),
        kubectl_folder()?
    ));
    progress::say("  kubectl get computejobs,gangs,gpunodes -A; kubectl get settlementbatches -A");
    progress::say(format!("  the chain: http://{RPC_ON_HOST}, the contract: {CONTRACT}"));
    progress::say("  cargo xtask down ends all of it");
    Ok(())
}

fn kubectl_folder() -> Result<String> {
    Ok(Cluster::kubectl_path()?.parent().map(|folder| folder.display().to_string()).unwrap_or_default())
}

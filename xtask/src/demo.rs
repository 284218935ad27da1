//! `cargo xtask demo`: a real distributed PyTorch job, from `kubectl apply` to a payment for each of its pods.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use plasma_types::{Hash, WeiPerGpuSecond, Xpl};
use serde_json::{Value, json};

use crate::{
    cluster::{self, Cluster},
    command, debian, paths, programs, progress,
    stack::{CONTRACT, RPC_ON_HOST, Stack, cast},
};

const JOB: &str = "pytorch-ddp";
const NAMESPACE: &str = "team-a";
/// The flag of a leaf that is worth nothing.
const VOID: u64 = 4;

/// What the demo found: from the receipts, and from the chain itself.
struct Findings {
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
    let outcome = attempt();
    if keep {
        look_around()?;
    } else {
        progress::step("bring everything down", None, cluster::down)?;
    }
    let found = outcome?;
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

fn attempt() -> Result<Findings> {
    progress::part(1, PARTS, "the example's image");
    let pytorch = programs::pytorch()?;
    progress::part(2, PARTS, "a cluster with Plasma in it");
    let stack = Stack::up(&[pytorch])?;
    progress::part(3, PARTS, "a distributed training job");
    let job = ["computejob", JOB, "-n", NAMESPACE];
    command::output(stack.cluster.kubectl()?.args(["delete", "--ignore-not-found", "--wait"]).args(job))?;
    stack.apply_file(&paths::repository().join("examples/pytorch-ddp.yaml"))?;
    progress::step("train", None, || {
        stack.wait("the job's end", Duration::from_secs(600), |stack| {
            let object = stack.get(&job)?;
            let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
            ensure!(
                !matches!(phase.as_str(), "Failed" | "Refused"),
                "the job is {phase}: {}",
                object["status"]["message"]
            );
            Ok((phase == "Succeeded").then_some(()))
        })
    })?;
    let accuracy = accuracy(&stack)?;
    ensure!(accuracy > 0.9, "test accuracy {accuracy} is not above 0.9");
    progress::part(4, PARTS, "its payment");
    let finished = progress::step("settle", None, || {
        stack.wait("the payments", Duration::from_secs(120), |stack| {
            let object = stack.get(&job)?;
            let (pods, settled) =
                (object["status"]["pods"].as_u64(), object["status"]["cost"]["settled"].as_u64());
            Ok((pods.is_some() && pods <= settled).then_some(object))
        })
    })?;
    compare(&stack, &finished)
}

/// Shows what the workers printed, and reads the test accuracy from it.
fn accuracy(stack: &Stack) -> Result<f64> {
    let selector = format!("compute.plasma.dev/job-name={JOB}");
    let logs = ["-n", NAMESPACE, "logs", "-l", &selector, "--tail=-1", "--prefix"];
    let logs = command::output(stack.cluster.kubectl()?.args(logs))?;
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
    let on_chain = on_chain(uid)?;
    let duplicates = on_chain.values().filter(|amounts| amounts.len() > 1).count();
    Ok(Findings {
        pods: usize::try_from(job["status"]["pods"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX),
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
    let event = "PodSettled(bytes32,bytes16,bytes16,uint64,uint256)";
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
        // Two words: the sequence and the amount.
        let amount = data
            .get(64..128)
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

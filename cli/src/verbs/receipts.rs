//! `kubectl plasma receipts JOB`: what each pod cost, and how far its payment is.

use comfy_table::{Table, presets::NOTHING};
use kube::ResourceExt as _;
use plasma_api::{SettlementBatch, compute_job::Cost, settlement_batch::BatchPhase};
use plasma_types::{JobUid, Xpl, flag};
use serde_json::{Value, json};

use crate::{args::Output, cluster::Cluster, failure::Failure, output};

pub(crate) async fn run(cluster: &Cluster, name: &str, output: Output) -> Result<(), Failure> {
    let (uid, job) = cluster.job(name).await?;
    let receipts = match cluster.batches().await {
        Ok(batches) => of_batches(&batches, uid),
        // Who may read the job may see what it cost: settlement wrote the same into its status.
        Err(fault) if fault.is_forbidden() => {
            output::note(&format!("from the ComputeJob's own status, with fewer columns: {fault}"));
            of_status(&job.status.and_then(|status| status.cost).unwrap_or_default())
        }
        Err(fault) => return Err(fault),
    };
    if receipts.is_empty() {
        return Err(cluster.no_receipts(name));
    }
    match output {
        Output::Json => output::print(&serde_json::to_string_pretty(&Value::Array(receipts))?),
        Output::Table => output::print(&table(&receipts)),
    }
}

/// One entry for each receipt of the job, in the order of their sequences.
fn of_batches(batches: &[SettlementBatch], job: JobUid) -> Vec<Value> {
    let mut found = Vec::new();
    for batch in batches {
        let status = batch.status.clone().unwrap_or_default();
        for (sequence, receipt) in (batch.spec.first_sequence..).zip(&batch.spec.receipts) {
            if receipt.job_uid == job {
                found.push(json!({
                    "pod": receipt.pod, "podUid": receipt.pod_uid, "node": receipt.node, "sequence": sequence,
                    "seconds": receipt.duration.0 / 1000, "gpuSeconds": receipt.device_ms / 1000,
                    "source": source(receipt.flags), "simulated": receipt.flags & flag::SIMULATED != 0,
                    "void": receipt.flags & flag::VOID != 0, "amount": receipt.amount, "batch": batch.name_any(),
                    "state": status.phase.unwrap_or(BatchPhase::Recorded), "transaction": status.transaction,
                }));
            }
        }
    }
    found
}

/// Where its times come from.
fn source(flags: u8) -> &'static str {
    match (flags & flag::METERED != 0, flags & flag::FROM_POD_STATUS != 0) {
        (true, false) => "meter",
        (false, true) => "pod status",
        // No program of ours writes such a one.
        (true, true) | (false, false) => "unknown",
    }
}

/// The same from the job's own status, which knows neither times nor nodes, and of very many pods not each.
fn of_status(cost: &Cost) -> Vec<Value> {
    let listed = i32::try_from(cost.receipts.len()).unwrap_or(i32::MAX);
    if listed < cost.recorded {
        let (recorded, total) = (cost.recorded, cost.total);
        output::note(&format!(
            "the status lists {listed} of {recorded} receipts; all of them are {total} XPL"
        ));
    }
    let entry = |pod: &plasma_api::compute_job::PodCost| {
        json!({
            "pod": pod.pod, "podUid": pod.pod_uid, "amount": pod.amount, "batch": pod.batch,
            "state": pod.state, "transaction": pod.transaction,
        })
    };
    cost.receipts.iter().map(entry).collect()
}

fn table(receipts: &[Value]) -> String {
    const COLUMNS: &[(&str, &str)] = &[
        ("POD", "pod"),
        ("SECONDS", "seconds"),
        ("GPU-SECONDS", "gpuSeconds"),
        ("FROM", "source"),
        ("XPL", "amount"),
        ("STATE", "state"),
        ("BATCH", "batch"),
        ("TRANSACTION", "transaction"),
    ];
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(COLUMNS.iter().map(|(title, _)| *title));
    for receipt in receipts {
        table.add_row(COLUMNS.iter().map(|(_, field)| match &receipt[*field] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }));
    }
    let amounts = receipts.iter().filter_map(|receipt| receipt["amount"].as_str()?.parse::<Xpl>().ok());
    format!("{}\ntotal {} XPL", table.trim_fmt(), amounts.sum::<Xpl>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_receipt_and_their_sum() {
        let receipt = |pod: &str| json!({ "pod": pod, "seconds": 5, "gpuSeconds": 5, "amount": "0.005", "state": "Final" });
        let text = table(&[receipt("a"), receipt("b")]);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.ends_with("total 0.01 XPL"), "{text}");
        assert!(text.contains("POD") && text.contains("Final"), "{text}");
    }

    #[test]
    fn a_receipt_says_where_its_times_come_from() {
        assert_eq!(source(flag::METERED | flag::SIMULATED), "meter");
        assert_eq!(source(flag::FROM_POD_STATUS | flag::VOID), "pod status");
        assert_eq!(source(flag::VOID), "unknown");
        let receipt = json!({ "pod": "a", "source": "meter", "amount": "1" });
        let text = table(&[receipt]);
        assert!(text.contains("FROM") && text.contains("meter"), "{text}");
    }

    #[test]
    fn who_may_read_the_job_alone_sees_what_its_status_says() {
        let cost: Cost = serde_json::from_value(json!({
            "total": "0.02", "recorded": 2, "settled": 1,
            "receipts": [{
                "pod": "train-worker-0-0", "podUid": "123e4567-e89b-12d3-a456-426614174000", "amount": "0.01",
                "batch": "aaaaaaaaaaaa-0000000000", "state": "Final",
            }],
        }))
        .expect("a cost");
        let text = table(&of_status(&cost));
        assert!(text.contains("train-worker-0-0") && text.contains("Final"), "{text}");
        assert!(text.ends_with("total 0.01 XPL"), "{text}");
        assert!(of_status(&Cost::default()).is_empty());
    }
}

//! `kubectl plasma receipts JOB`: what each pod cost, and how far its payment is.

use comfy_table::{Table, presets::NOTHING};
use kube::ResourceExt as _;
use plasma_api::{SettlementBatch, settlement_batch::BatchPhase};
use plasma_types::{JobUid, Xpl};
use serde_json::{Value, json};

use crate::{args::Output, cluster::Cluster, failure::Failure};

pub(crate) async fn run(cluster: &Cluster, job: &str, output: Output) -> Result<(), Failure> {
    let uid = cluster.job_uid(job).await?;
    let receipts = receipts(&cluster.batches().await?, uid);
    if receipts.is_empty() {
        return Err(Failure::NoReceipts(format!("{}/{job}", cluster.namespace)));
    }
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&Value::Array(receipts))?),
        Output::Table => println!("{}", table(&receipts)),
    }
    Ok(())
}

/// One entry for each receipt of the job, in the order of their sequences.
fn receipts(batches: &[SettlementBatch], job: JobUid) -> Vec<Value> {
    let mut found = Vec::new();
    for batch in batches {
        let status = batch.status.clone().unwrap_or_default();
        for (sequence, receipt) in (batch.spec.first_sequence..).zip(&batch.spec.receipts) {
            if receipt.job_uid == job {
                found.push(json!({
                    "pod": receipt.pod, "podUid": receipt.pod_uid, "node": receipt.node, "sequence": sequence,
                    "seconds": receipt.duration.0 / 1000, "gpuSeconds": receipt.device_ms / 1000,
                    "amount": receipt.amount, "batch": batch.name_any(),
                    "state": status.phase.unwrap_or(BatchPhase::Recorded), "transaction": status.transaction,
                }));
            }
        }
    }
    found
}

fn table(receipts: &[Value]) -> String {
    const COLUMNS: &[(&str, &str)] = &[
        ("POD", "pod"),
        ("SECONDS", "seconds"),
        ("GPU-SECONDS", "gpuSeconds"),
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
}

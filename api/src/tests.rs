//! What the generated definitions must hold whatever their fields are.

use serde_json::Value;

use super::*;

fn schema_of(kind: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).expect("kind is listed");
    serde_json::to_value(crd).expect("a definition is JSON")["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

#[test]
fn a_pod_template_takes_whole_numbers_as_quantities() {
    let container = &schema_of("ComputeJob")["properties"]["spec"]["properties"]["roles"]["items"]["properties"]
        ["template"]["properties"]["spec"]["properties"]["containers"]["items"];
    let quantity = &container["properties"]["resources"]["properties"]["limits"]["additionalProperties"];
    assert_eq!(quantity["x-kubernetes-int-or-string"], Value::Bool(true), "{quantity}");
}

#[test]
fn the_job_definition_stays_below_what_one_request_may_carry() {
    let crd = serde_json::to_string(&ComputeJob::crd()).expect("a definition is JSON");
    assert!(
        crd.len() < 256 * 1024,
        "{} bytes: client-side apply keeps a copy in an annotation of 256 KiB",
        crd.len()
    );
}

#[test]
fn every_kind_has_a_status_subresource_and_an_age_column() {
    for crd in crds() {
        let version = &crd.spec.versions[0];
        assert!(
            version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
            "{}",
            crd.spec.names.kind
        );
        let columns = version.additional_printer_columns.iter().flatten();
        assert!(columns.into_iter().any(|column| column.name == "Age"), "{}", crd.spec.names.kind);
    }
}

#[test]
fn a_model_is_priced_by_its_own_entry_before_the_one_for_every_model() {
    let billing: compute_queue::Billing = serde_json::from_value(serde_json::json!({
        "payer": "0x5fbdb2315678afecb367f032d93f642f64180aa3",
        "rental": format!("0x{}", "ab".repeat(32)),
        "prices": [{ "pricePerGpuHour": "1" }, { "gpuProduct": "H100", "pricePerGpuHour": "3" }],
    }))
    .expect("a billing");
    assert_eq!(billing.class_of(Some("H100")), Some(1));
    assert_eq!(billing.class_of(Some("T4")), Some(0));
    assert_eq!(billing.class_of(None), Some(0));
}

#[test]
fn no_schema_uses_a_number_format_that_the_api_server_does_not_know() {
    fn formats(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("format").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| formats(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| formats(item, found)),
            _ => {}
        }
    }
    for crd in crds() {
        let mut found = Vec::new();
        formats(&schema_of(&crd.spec.names.kind), &mut found);
        assert!(found.iter().all(|format| !format.starts_with("uint")), "{}: {found:?}", crd.spec.names.kind);
    }
}

#[test]
fn no_number_is_accepted_that_its_type_cannot_hold() {
    let spec = &schema_of("SettlementBatch")["properties"]["spec"]["properties"];
    let receipt = &spec["receipts"]["items"]["properties"];
    for (field, most) in [
        (&spec["count"], u64::from(u32::MAX)),
        (&receipt["priceClass"], u64::from(u16::MAX)),
        (&receipt["nodeIndex"], u64::from(u32::MAX)),
        (&receipt["flags"], u64::from(u8::MAX)),
    ] {
        let maximum = field["maximum"].as_f64().expect("a maximum");
        assert!((maximum - most as f64).abs() < 0.5, "{field}, not {most}");
    }
}

#[test]
fn an_address_is_accepted_as_wallets_write_it() {
    let billing =
        &schema_of("ComputeQueue")["properties"]["spec"]["properties"]["billing"]["properties"]["payer"];
    let contract = &schema_of("SettlementBatch")["properties"]["spec"]["properties"]["contract"];
    for schema in [billing, contract] {
        assert_eq!(schema["pattern"], "^0x[0-9a-fA-F]{40}$");
    }
    let checksummed = "0x5FbDB2315678afecb367f032d93F642f64180aa3".parse::<plasma_types::Address>();
    assert!(checksummed.is_ok(), "what the definition takes, the type reads");
}

#[test]
fn a_pod_template_has_bounds_on_what_costs_money_and_what_rules_look_at() {
    let pod = &schema_of("ComputeJob")["properties"]["spec"]["properties"]["roles"]["items"]["properties"]["template"]
        ["properties"]["spec"]["properties"];
    let grace = |fields: &Value| fields["terminationGracePeriodSeconds"]["maximum"].as_f64();
    assert_eq!(grace(pod), Some(3600.0));
    let container = &pod["containers"]["items"]["properties"];
    assert_eq!(grace(&container["livenessProbe"]["properties"]), Some(3600.0), "a probe has one of its own");
    for list in ["containers", "initContainers"] {
        assert_eq!(pod[list]["maxItems"].as_f64(), Some(64.0), "{list}");
    }
}

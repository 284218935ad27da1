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

//! Schemas that serde types alone cannot state: amounts, chain identities, the pod template, keyed lists.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// Decimal XPL: at most 12 digits before the point and 18 after it, so that every accepted text is whole wei in 128 bits.
pub(crate) fn xpl(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 31, "pattern": r"^[0-9]{1,12}(\.[0-9]{1,18})?$" })
}

/// As [`xpl`], where it may be left out.
pub(crate) fn optional_xpl(generator: &mut SchemaGenerator) -> Schema {
    nullable(xpl(generator))
}

/// An account or contract: `0x` and 40 hex digits, of which wallets write some in upper case, as a checksum.
pub(crate) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^0x[0-9a-fA-F]{40}$" })
}

/// A hash, a head or a rental: `0x` and 64 lower-case hex digits.
pub(crate) fn hash(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^0x[0-9a-f]{64}$" })
}

/// As [`hash`], where it may be left out.
pub(crate) fn optional_hash(generator: &mut SchemaGenerator) -> Schema {
    nullable(hash(generator))
}

/// A UUID, hyphenated, in lower case.
pub(crate) fn uid(_: &mut SchemaGenerator) -> Schema {
    let pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
    json_schema!({ "type": "string", "pattern": pattern })
}

/// A number that is never negative. The API server knows no unsigned formats, so `format` says int64.
pub(crate) fn unsigned(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// As [`unsigned`], of 32 bits: a larger number would fail whoever reads the object, and every list that holds it.
pub(crate) fn unsigned32(_: &mut SchemaGenerator) -> Schema {
    up_to(u32::MAX)
}

/// As [`unsigned32`], of 16 bits.
pub(crate) fn unsigned16(_: &mut SchemaGenerator) -> Schema {
    up_to(u16::MAX.into())
}

/// As [`unsigned32`], of 8 bits.
pub(crate) fn unsigned8(_: &mut SchemaGenerator) -> Schema {
    up_to(u8::MAX.into())
}

fn up_to(maximum: u32) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": maximum })
}

/// Conditions, one of each type: what makes server-side apply merge them one by one.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    let mut schema = json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    });
    schema.insert("items".to_owned(), generator.subschema_for::<Condition>().to_value());
    without_descriptions(schema)
}

/// The longest grace period of a pod or a probe, in seconds: GPUs are billed until the last container has ended.
const LONGEST_GRACE: i64 = 3600;
/// The most containers, and init containers, of one pod: the cost of the rules about each of them is bounded by it.
const MOST_CONTAINERS: u32 = 64;

/// A pod template as Kubernetes has it, without its 200 kB of descriptions (`kubectl explain pod` has those), and with
/// bounds where it has none.
pub(crate) fn pod_template(generator: &mut SchemaGenerator) -> Schema {
    let mut template = without_descriptions(generator.subschema_for::<PodTemplateSpec>()).to_value();
    bound(&mut template);
    // Kubernetes leaves it open; a role without it means nothing.
    template["required"] = serde_json::json!(["spec"]);
    Schema::try_from(template).unwrap_or_default()
}

fn bound(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for (name, property) in properties.iter_mut().filter(|(_, property)| property.is_object()) {
            match name.as_str() {
                "terminationGracePeriodSeconds" => {
                    property["minimum"] = 0.into();
                    property["maximum"] = LONGEST_GRACE.into();
                }
                "containers" | "initContainers" => property["maxItems"] = MOST_CONTAINERS.into(),
                _ => {}
            }
        }
    }
    fields.values_mut().for_each(bound);
}

fn nullable(mut schema: Schema) -> Schema {
    schema.insert("nullable".to_owned(), Value::Bool(true));
    schema
}

fn without_descriptions(schema: Schema) -> Schema {
    let mut value = schema.to_value();
    strip_descriptions(&mut value);
    Schema::try_from(value).unwrap_or_default()
}

/// Removes `description` where it is text: a property of that name holds a schema and stays.
fn strip_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| name != "description" || !field.is_string());
            fields.values_mut().for_each(strip_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}

//! An object in its parts, each read by itself: one part of a shape that isn't known is a fault of that object, and not the
//! end of the list that it is in.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::Meta;

/// The parts, as text.
#[derive(Deserialize)]
pub(crate) struct Parts {
    metadata: Option<Box<RawValue>>,
    pub(crate) spec: Option<Box<RawValue>>,
    pub(crate) status: Option<Box<RawValue>>,
}

impl Parts {
    /// What the object says about itself, as far as it can be read, and why not all of it can.
    pub(crate) fn metadata(&self) -> (Meta, Option<String>) {
        match part(self.metadata.as_deref()) {
            Ok(meta) => (meta, None),
            Err(fault) => (self.outside(), Some(format!("metadata: {fault}"))),
        }
    }

    /// Whose metadata it is.
    fn outside(&self) -> Meta {
        let found: Value = part(self.metadata.as_deref()).unwrap_or_default();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        let (name, namespace) = (text("name"), text("namespace"));
        Meta {
            name,
            namespace,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..Meta::default()
        }
    }
}

/// A part; what isn't there says nothing.
pub(crate) fn part<T: DeserializeOwned + Default>(text: Option<&RawValue>) -> Result<T, serde_json::Error> {
    text.map_or_else(|| Ok(T::default()), |text| serde_json::from_str(text.get()))
}

//! A PodDisruptionBudget: how many of certain pods may be disturbed at the moment.

use serde::Deserialize;

use super::{LabelSelector, Meta};

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Deserialize)]
pub struct BudgetDocument {
    /// What it says about itself.
    pub metadata: Meta,
    #[serde(default)]
    pub(crate) spec: BudgetSpec,
    #[serde(default)]
    pub(crate) status: BudgetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BudgetSpec {
    pub(crate) selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BudgetStatus {
    pub(crate) disruptions_allowed: i64,
}

impl BudgetDocument {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }
}

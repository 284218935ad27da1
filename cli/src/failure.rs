//! What can go wrong, with the way out.

use plasma_chain::ChainError;
use plasma_settlement_core::Difference;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no cluster: {0}. Is KUBECONFIG set, and the context right?")]
    Config(Box<kube::config::KubeconfigError>),
    #[error("{0}: {1}")]
    Kube(String, Box<kube::Error>),
    #[error("{kind} {namespace}/{name} doesn't exist: is the namespace right (-n)?")]
    NotFound { kind: &'static str, namespace: String, name: String },
    #[error("ComputeJob {0} has no receipts yet: its pods have not finished, or its queue doesn't bill")]
    NoReceipts(String),
    #[error("SettlementBatch {0}: {1}")]
    Batch(String, String),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("NOT VERIFIED: {0}")]
    Different(#[from] Difference),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("pod {0} doesn't wait for a receipt: there is nothing to release")]
    NotHeld(String),
    #[error("nothing was done: say --yes to let pod {0} go; whatever it cost will never be paid")]
    NotConfirmed(String),
}

impl Failure {
    pub(crate) fn kube(what: &str) -> impl FnOnce(kube::Error) -> Self {
        let what = what.to_owned();
        move |fault| Self::Kube(what, Box::new(fault))
    }
}

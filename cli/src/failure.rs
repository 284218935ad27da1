//! What can go wrong, with the way out.

use plasma_chain::ChainError;
use plasma_settlement_core::Difference;
use plasma_types::Address;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no cluster: {0}. Is KUBECONFIG set, and the context right?")]
    Config(Box<kube::config::KubeconfigError>),
    #[error("{0}: {1}")]
    Kube(String, Box<kube::Error>),
    #[error("{kind} {namespace}/{name} doesn't exist: is the namespace right (-n)?")]
    NotFound { kind: &'static str, namespace: String, name: String },
    #[error(
        "ComputeJob {job} has no receipts yet: its pods have not finished, its queue doesn't bill, or Plasma isn't installed in {system_namespace} (--system-namespace)"
    )]
    NoReceipts { job: String, system_namespace: String },
    #[error("SettlementBatch {0}: {1}")]
    Batch(String, String),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("NOT VERIFIED: {0}")]
    Different(#[from] Difference),
    #[error("NOT VERIFIED: SettlementBatch {batch} is of contract {recorded}, and --contract says {asked}")]
    OtherContract { batch: String, recorded: Address, asked: Address },
    #[error(
        "{0}. One job is paid by one contract on one chain: say with --contract which one you rent by; what the others record is not its payment"
    )]
    SeveralContracts(String),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("writing the answer: {0}")]
    Output(std::io::Error),
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

    /// Whether the API server answered that this isn't for whoever asks.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kube(_, fault) if matches!(&**fault, kube::Error::Api(status) if status.code == 403))
    }
}

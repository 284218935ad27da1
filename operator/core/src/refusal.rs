//! Why a job may not start, or not yet: for programs in one word, for people in a sentence.

use std::fmt;

use plasma_api::NotWhole;
use plasma_types::{PricePerGpuHour, Xpl};

/// How much of what the API server says is repeated, in characters.
const MOST_WORDS: usize = 2000;

/// Why a job may not start. Each names the object, the rule and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue doesn't exist.
    QueueNotFound(String),
    /// The queue doesn't serve the job's namespace.
    NamespaceNotServed {
        /// The queue.
        queue: String,
        /// The job's namespace.
        namespace: String,
    },
    /// The queue bills, and nobody here could settle.
    NoSettlement(String),
    /// The queue bills, and the job doesn't say what it may cost.
    LimitsMissing(&'static str),
    /// A GPU of a role costs more than the job allows.
    PriceTooHigh {
        /// The role.
        role: String,
        /// What a GPU costs an hour.
        price: PricePerGpuHour,
        /// What the job allows.
        ceiling: PricePerGpuHour,
    },
    /// The queue has no price for a role's GPU.
    NoPrice {
        /// The role.
        role: String,
        /// The model that its node selector names.
        model: String,
    },
    /// An attempt could cost more than is left of the budget.
    BudgetTooSmall {
        /// What an attempt costs if every pod runs to its limit.
        worst: Xpl,
        /// What is left.
        left: Xpl,
    },
    /// The budget covers the attempt only if pods that ran before cost less than they may; their receipts will say.
    ReceiptsPending(u32),
    /// An object that the job needs exists and isn't the job's.
    NameTaken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object of an earlier job of that name has a name that the job needs, and is being deleted.
    NameNotFreeYet {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server doesn't take an object that the job needs.
    Rejected {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The API server's words.
        words: String,
    },
    /// A GPU request that is no whole number.
    GpuRequest {
        /// The role.
        role: String,
        /// What it asks for.
        fault: NotWhole,
    },
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QueueNotFound(_) => "QueueNotFound",
            Self::NamespaceNotServed { .. } => "NamespaceNotServed",
            Self::NoSettlement(_) => "NoSettlement",
            Self::LimitsMissing(_) => "LimitsMissing",
            Self::PriceTooHigh { .. } => "PriceTooHigh",
            Self::NoPrice { .. } => "NoPrice",
            Self::BudgetTooSmall { .. } => "BudgetTooSmall",
            Self::ReceiptsPending(_) => "ReceiptsPending",
            Self::NameTaken { .. } => "NameTaken",
            Self::NameNotFreeYet { .. } => "NameNotFreeYet",
            Self::Rejected { .. } => "Rejected",
            Self::GpuRequest { .. } => "InvalidGpuRequest",
        }
    }

    /// From the API server's answer about an object, where that is a no: asked again, it would say the same.
    pub fn rejected(kind: &str, name: &str, code: u16, words: &str) -> Option<Self> {
        // Entries that are there twice, in a list that is kept by a key, are told as if the server were at fault.
        let is_no = matches!(code, 400 | 403 | 413 | 422)
            || (code == 500 && words.starts_with("failed to create typed patch object"));
        let words = words.chars().take(MOST_WORDS).collect();
        is_no.then(|| Self::Rejected { kind: kind.to_owned(), name: name.to_owned(), words })
    }

    /// Whether it passes by itself: then a job waits, and isn't refused.
    pub fn passes(&self) -> bool {
        matches!(self, Self::ReceiptsPending(_) | Self::NameNotFreeYet { .. })
    }

    /// Whether others than the job's owner can lift it: then a job that ran before waits for them, and doesn't fail.
    pub fn can_be_lifted(&self) -> bool {
        match self {
            Self::QueueNotFound(_)
            | Self::NamespaceNotServed { .. }
            | Self::NoSettlement(_)
            | Self::NameTaken { .. }
            | Self::Rejected { .. }
            | Self::ReceiptsPending(_)
            | Self::NameNotFreeYet { .. } => true,
            Self::LimitsMissing(_)
            | Self::PriceTooHigh { .. }
            | Self::NoPrice { .. }
            | Self::BudgetTooSmall { .. }
            | Self::GpuRequest { .. } => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueNotFound(queue) => {
                write!(
                    f,
                    "spec.queue: ComputeQueue {queue} doesn't exist: name another, or ask an admin to make it"
                )
            }
            Self::NamespaceNotServed { queue, namespace } => write!(
                f,
                "spec.queue: ComputeQueue {queue} doesn't serve namespace {namespace}: name another, or ask an admin to add it"
            ),
            Self::NoSettlement(queue) => write!(
                f,
                "spec.queue: ComputeQueue {queue} bills, and this cluster has no settlement: install it \
                 (settlement.enabled), or name a queue without billing"
            ),
            Self::LimitsMissing(field) => {
                write!(f, "{field} is needed, since the queue bills: say what the job may cost")
            }
            Self::PriceTooHigh { role, price, ceiling } => write!(
                f,
                "spec.maxPricePerGpuHour: a GPU of role {role} costs {price} XPL an hour, the job allows {ceiling}"
            ),
            Self::NoPrice { role, model } => {
                write!(
                    f,
                    "role {role}: the queue has no price for GPU model {model}: choose another model or queue"
                )
            }
            Self::BudgetTooSmall { worst, left } => write!(
                f,
                "spec.budget: an attempt may cost {worst} XPL, and {left} are left: raise it, or lower \
                 maxRuntimeSeconds, replicas or GPUs"
            ),
            Self::ReceiptsPending(pods) => write!(
                f,
                "spec.budget: waiting for the receipts of {pods} pods of earlier attempts, which decide whether \
                 another attempt fits; raise it to go on at once"
            ),
            Self::NameTaken { kind, name } => {
                write!(f, "{kind} {name} exists and isn't this job's: rename the job, or delete that object")
            }
            Self::NameNotFreeYet { kind, name } => {
                write!(f, "waiting until {kind} {name} of an earlier job of this name is deleted")
            }
            Self::Rejected { kind, name, words } => write!(
                f,
                "the API server doesn't take {kind} {name}: {words}. Make a new ComputeJob that it takes, or ask an \
                 admin where it is a limit"
            ),
            Self::GpuRequest { role, fault } => write!(f, "role {role}: {fault}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_object_itself_is_a_refusal() {
        let is_refusal = |code, words| Refusal::rejected("Job", "j-worker-0", code, words).is_some();
        for code in [400, 403, 413, 422] {
            assert!(is_refusal(code, "spec.template: Required value"), "{code}");
        }
        for code in [401, 404, 409, 429, 500, 503, 504] {
            assert!(!is_refusal(code, "try again"), "{code}");
        }
        let twice = "failed to create typed patch object (a/j; batch/v1, Kind=Job): errors: duplicate entries for key";
        assert!(is_refusal(500, twice));
    }

    #[test]
    fn a_rejection_repeats_the_api_servers_words_to_a_length() {
        let told = |words: &str| Refusal::rejected("Job", "j-worker-0", 422, words).unwrap().to_string();
        assert!(told("image: Required value").contains("Job j-worker-0: image: Required value"));
        assert!(told(&"é".repeat(1_000_000)).chars().count() < 3000);
    }
}

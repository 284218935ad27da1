//! What the operator decides: whether a job may start, which objects it needs, when an attempt has failed and whether
//! another follows, and what its status says.
//!
//! Pure: objects in, values out.

mod absent;
mod admit;
mod conclude;
mod desire;
mod disturbed;
mod environment;
mod grouped;
mod most;
mod own;
mod progress;
mod refusal;
mod starting;

pub use absent::Absent;
pub use admit::{Spent, admit};
pub use conclude::conclude;
pub use desire::{Children, Parent, attempt_name, desire, role_job_name};
pub use grouped::{Group, GroupVersion, Ungrouped, has_pod_groups, tell_group};
pub use own::{Claim, Key, claim, own_jobs};
pub use progress::{Observed, Progress, Step, hold, next_step, unrecorded};
pub use refusal::Refusal;
pub use starting::Starting;

#[cfg(test)]
mod fixtures;

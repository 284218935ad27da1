//! What the operator decides: whether a job may start, which objects it needs, when an attempt has failed and whether
//! another follows, and what its status says.
//!
//! Pure: objects in, values out.

mod admit;
mod conclude;
mod desire;
mod environment;
mod progress;
mod starting;

pub use admit::{Refusal, Spent, admit};
pub use conclude::conclude;
pub use desire::{Children, Parent, attempt_name, desire, role_job_name};
pub use progress::{Observed, Progress, Step, next_step, unrecorded};
pub use starting::Starting;

#[cfg(test)]
mod fixtures;

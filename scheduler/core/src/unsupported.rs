//! Why a pod is not scheduled here.

/// The field, and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Unsupported {
    /// The field's path.
    pub field: String,
    /// What is the matter, and the way out.
    pub why: String,
}

impl Unsupported {
    /// A field that isn't known.
    pub(crate) fn unknown(field: &str) -> Self {
        let why = "plasma-scheduler doesn't know this field, so it can't tell where the pod may run: \
                   leave it out, or use another scheduler for this pod";
        Self { field: field.to_owned(), why: why.to_owned() }
    }

    /// A field that is known, and not taken on.
    pub(crate) fn not_taken_on(field: &str) -> Self {
        let why =
            "plasma-scheduler doesn't take this on: leave it out, or use another scheduler for this pod";
        Self { field: field.to_owned(), why: why.to_owned() }
    }

    /// A pod says that it belongs to a group of which this API server knows nothing.
    pub(crate) fn not_served() -> Self {
        let why = "this API server has no PodGroups of scheduling.k8s.io/v1 or v1beta1 (feature gate GenericWorkload), so \
                   nothing says with which others the pod must start: turn them on, or leave it out";
        Self { field: "spec.schedulingGroup".to_owned(), why: why.to_owned() }
    }

    /// A value that makes no sense.
    pub(crate) fn nonsense(field: &str, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), why: why.into() }
    }
}

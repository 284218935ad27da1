//! What a Gang's object says that planning needs.

/// A gang: pods that are placed all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GangFacts {
    /// `namespace/name`; of one that was made for an upstream PodGroup, the PodGroup's: `namespace/podgroup:name`.
    pub key: String,
    /// The UID of the job whose pods are meant. Pods of an earlier job of the same name have the same gang label until
    /// they are collected.
    pub job: Option<String>,
    /// How many pods must start together.
    pub min_member: usize,
    /// Higher goes first among those whose pods are of the same priority.
    pub priority: i32,
    /// When it was created, in seconds; older goes first among equals.
    pub created: i64,
    /// It is being deleted.
    pub is_terminating: bool,
    /// Its pods were all bound once. It may lose them all: its work is done.
    pub is_scheduled: bool,
    /// The UID of the upstream PodGroup for which it was made, where it was made for one.
    pub pod_group: Option<String>,
    /// The plan that is being carried out: a pod's UID and its node. Empty where there is none.
    pub journal: Vec<(String, String)>,
}

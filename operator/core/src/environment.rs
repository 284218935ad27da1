//! What every container is told about its place among the others.
//!
//! `MASTER_ADDR`, `MASTER_PORT`, `RANK`, `WORLD_SIZE` are what `torch.distributed` reads; torchrun reads each of its
//! options from a variable with the prefix `PET_`.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector};

/// Where the rank-0 process listens unless the user says otherwise: torchrun's own default.
const MASTER_PORT: &str = "29500";
/// Where the Job controller writes a pod's index.
const INDEX: &str = "metadata.annotations['batch.kubernetes.io/job-completion-index']";

/// A role's place in its job.
pub(crate) struct Place<'a> {
    /// The role's name.
    pub(crate) role: &'a str,
    /// How many pods the role has.
    pub(crate) replicas: i32,
    /// How many pods the roles before it have.
    pub(crate) offset: i32,
    /// GPUs of each of its pods.
    pub(crate) gpus: u32,
    /// The address of the first role's pod of rank 0.
    pub(crate) master: &'a str,
}

/// Puts the variables before the container's own, of which each wins over ours.
pub(crate) fn inject(container: &mut Container, place: &Place<'_>) {
    let own = container.env.take().unwrap_or_default();
    let is_free = |variable: &EnvVar| own.iter().all(|taken| taken.name != variable.name);
    let mut all: Vec<EnvVar> = variables(place).into_iter().filter(is_free).collect();
    all.extend(own);
    container.env = Some(all);
}

fn variables(place: &Place<'_>) -> Vec<EnvVar> {
    let mut variables = vec![
        value("MASTER_ADDR", place.master),
        value("MASTER_PORT", MASTER_PORT),
        value("PLASMA_ROLE", place.role),
        index("PLASMA_ROLE_INDEX"),
        value("PLASMA_ROLE_OFFSET", &place.offset.to_string()),
    ];
    // The downward API can't add, so only the first role's indexes are ranks.
    if place.offset == 0 {
        let (nodes, processes) = (place.replicas.to_string(), place.gpus.max(1).to_string());
        variables.extend([
            value("WORLD_SIZE", &nodes),
            index("RANK"),
            value("PET_NNODES", &nodes),
            index("PET_NODE_RANK"),
            value("PET_NPROC_PER_NODE", &processes),
            value("PET_MASTER_ADDR", place.master),
            value("PET_MASTER_PORT", MASTER_PORT),
        ]);
    }
    variables
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn index(name: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: INDEX.to_owned(), api_version: None };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

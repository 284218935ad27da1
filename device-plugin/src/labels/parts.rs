//! Labels about what is offered: whole GPUs under `nvidia.com/gpu.`, instances under that too where all are alike, or else
//! under `nvidia.com/mig-<profile>.`

use plasma_device_plugin_core::{
    Gpu, Inventory, MigInstance, MigStrategy, Policy, Profile, SHARED, Share, instance_product, offers,
    product_label,
};

/// How it is shared.
const REPLICAS: &str = ".replicas";
const STRATEGY: &str = ".sharing-strategy";

/// What labels say of each kind of thing that is offered.
const FACTS: [&str; 13] = [
    ".product",
    ".count",
    ".memory",
    REPLICAS,
    STRATEGY,
    ".multiprocessors",
    ".slices.gi",
    ".slices.ci",
    ".engines.copy",
    ".engines.decoder",
    ".engines.encoder",
    ".engines.jpeg",
    ".engines.ofa",
];

/// What the names of labels begin with: of whole GPUs, or of what counts as such; and of one profile, with its name.
const GPU: &str = "nvidia.com/gpu";
const PROFILE: &str = "nvidia.com/mig-";

type Label = (String, Option<String>);

/// Labels of one kind of thing.
struct Kind {
    /// What their names begin with.
    prefix: String,
    product: Option<String>,
    count: usize,
    memory_mib: u64,
    /// What an instance has; nothing to say of a whole GPU.
    has: Option<Share>,
    /// The resource that it is.
    resource: String,
}

impl Kind {
    fn whole(policy: &Policy, gpus: &[&Gpu], count: usize) -> Self {
        let first = gpus.first();
        Self {
            prefix: GPU.to_owned(),
            product: first.map(|gpu| product_label(&gpu.name)),
            count,
            memory_mib: first.map_or(0, |gpu| gpu.memory_bytes >> 20),
            has: None,
            resource: policy.resource.clone(),
        }
    }

    fn of_parts(prefix: String, resource: String, parts: &[(&Gpu, &MigInstance)]) -> Self {
        let first = parts.first();
        Self {
            prefix,
            product: first.map(|(gpu, part)| instance_product(&gpu.name, &part.profile)),
            count: parts.len(),
            memory_mib: first.map_or(0, |(_, part)| part.has.memory_mib),
            has: first.map(|(_, part)| part.has),
            resource,
        }
    }

    fn labels(self, policy: &Policy) -> Vec<Label> {
        let is_there = self.product.is_some();
        let replicas = policy.shared.get(&self.resource).map(|sharing| sharing.replicas);
        let number = |number: u64| is_there.then(|| number.to_string());
        let of_part = |value: fn(&Share) -> u32| self.has.as_ref().map(|has| value(has).to_string());
        let values = [
            self.product.clone(),
            number(self.count as u64),
            number(self.memory_mib),
            number(replicas.unwrap_or(1).into()),
            is_there.then(|| if replicas.is_some() { "time-slicing" } else { "none" }.to_owned()),
            of_part(|has| has.multiprocessors),
            of_part(|has| has.gpu_slices),
            of_part(|has| has.compute_slices),
            of_part(|has| has.copy_engines),
            of_part(|has| has.decoders),
            of_part(|has| has.encoders),
            of_part(|has| has.jpeg_engines),
            of_part(|has| has.optical_flow),
        ];
        FACTS.iter().zip(values).map(|(fact, value)| (format!("{}{fact}", self.prefix), value)).collect()
    }
}

/// Whether a label is one of ours that is about a profile.
pub(super) fn is_of_profile(name: &str) -> bool {
    name.starts_with(PROFILE) && FACTS.iter().any(|fact| name.ends_with(fact))
}

/// Whether a label says how something is shared.
pub(super) fn is_about_sharing(name: &str) -> bool {
    [REPLICAS, STRATEGY].iter().any(|fact| name.ends_with(fact))
}

/// The labels of everything that is offered.
pub(super) fn labels(inventory: &Inventory, policy: &Policy) -> Vec<Label> {
    let gpus: Vec<&Gpu> = inventory.gpus().into_iter().map(|(gpu, _)| gpu).collect();
    let parts: Vec<(&Gpu, &MigInstance)> =
        gpus.iter().flat_map(|gpu| gpu.instances().iter().map(move |part| (*gpu, part))).collect();
    let is_divided = gpus.iter().any(|gpu| gpu.is_divided());
    let whole = gpus.iter().filter(|gpu| !gpu.is_divided()).count();
    let mut kinds = Vec::new();
    match policy.mig {
        MigStrategy::None => kinds.push(Kind::whole(policy, &gpus, gpus.len())),
        MigStrategy::Single if !is_divided => kinds.push(Kind::whole(policy, &gpus, gpus.len())),
        MigStrategy::Single => kinds.push(alike(inventory, policy, &gpus, &parts)),
        MigStrategy::Mixed => {
            kinds.push(Kind::whole(policy, &gpus, whole));
            kinds.extend(by_profile(policy, &parts));
        }
    }
    let strategy = match policy.mig {
        MigStrategy::None => None,
        MigStrategy::Single => Some("single"),
        MigStrategy::Mixed => Some("mixed"),
    };
    let strategy = strategy.filter(|_| !gpus.is_empty()).map(str::to_owned);
    let labels = kinds.into_iter().flat_map(|kind| kind.labels(policy));
    labels.chain([("nvidia.com/mig.strategy".to_owned(), strategy)]).collect()
}

/// Instances that count as GPUs; a layout that can't is labelled as GPU feature discovery does.
fn alike(inventory: &Inventory, policy: &Policy, gpus: &[&Gpu], parts: &[(&Gpu, &MigInstance)]) -> Kind {
    let offers = offers(inventory, policy);
    let shared = policy.resource.clone() + SHARED;
    if offers.of(&policy.resource).is_empty() && offers.of(&shared).is_empty() {
        let model = gpus.first().map(|gpu| product_label(&format!("{} MIG INVALID", gpu.name)));
        return Kind { product: model, memory_mib: 0, ..Kind::whole(policy, gpus, 0) };
    }
    Kind::of_parts(GPU.to_owned(), policy.resource.clone(), parts)
}

fn by_profile(policy: &Policy, parts: &[(&Gpu, &MigInstance)]) -> Vec<Kind> {
    let mut profiles: Vec<_> = parts.iter().map(|(_, part)| &part.profile).collect();
    profiles.sort();
    profiles.dedup();
    let kind = |profile: &Profile| {
        let of_it: Vec<_> = parts.iter().copied().filter(|(_, part)| part.profile == *profile).collect();
        let prefix = PROFILE.to_owned() + &profile.label();
        Kind::of_parts(prefix, policy.resource_of(profile), &of_it)
    };
    profiles.into_iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use plasma_api::names::{GPU_COUNT_LABEL, GPU_MEMORY_LABEL, GPU_PRODUCT_LABEL};

    use super::*;

    #[test]
    fn the_names_that_other_programs_know_are_among_them() {
        for (name, fact) in [(GPU_PRODUCT_LABEL, 0), (GPU_COUNT_LABEL, 1), (GPU_MEMORY_LABEL, 2)] {
            assert_eq!(format!("{GPU}{}", FACTS[fact]), name);
        }
    }
}

//! The inventory in the cluster's words: GpuNode's spec and status, and the node's labels.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use plasma_api::{
    GpuNodeSpec, GpuNodeStatus,
    gpu_node::{
        Distance as ApiDistance, Gpu as ApiGpu, GpuHealth, Health, InstanceHealth, Link as ApiLink,
        MigInstance as ApiInstance, NodeMeter,
    },
};
use plasma_device_plugin_core::{
    Distance, Gpu, GpuState, Inventory, Link, MigInstance, Policy, instance_product, offers, product_label,
};

use crate::{
    labels::{Labels, NodeLabels, labels, limited_by_driver},
    limits::Limits,
    meter::MeterState,
};

/// What there is to tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Described {
    /// The first look isn't over.
    Nothing,
    /// NVML never answered: what the node has isn't known, which is not the same as nothing.
    Unknown { simulated: bool, fault: String },
    /// What the node has, and how it is.
    Known(Box<GpuNodeSpec>, GpuNodeStatus, Labels),
}

impl Described {
    /// The same, saying who limits the memory of those who share GPUs.
    pub(crate) fn limited(mut self, limits: &Limits) -> Self {
        if let (Self::Known(_, _, labels), None) = (&mut self, &limits.obstacle) {
            limited_by_driver(labels);
        }
        self
    }

    /// The same, with what its labels say beyond the GPUs.
    pub(crate) fn labelled(self, node: &mut NodeLabels) -> Self {
        match self {
            Self::Known(spec, status, labels) => {
                Self::Known(spec, status, node.complete(labels, Timestamp::now().as_second()))
            }
            unknown => unknown,
        }
    }
}

/// Describes the node, whose GPUs are offered by that policy.
pub(crate) fn describe(inventory: &Inventory, policy: &Policy, simulated: bool) -> Described {
    if !inventory.is_known() {
        return match inventory.fault() {
            None => Described::Nothing,
            Some(fault) => Described::Unknown { simulated, fault: fault.to_owned() },
        };
    }
    let gpus = inventory.gpus();
    let spec = GpuNodeSpec {
        simulated,
        driver_version: inventory.driver_version.clone(),
        cuda_version: inventory.cuda_version.map(dotted),
        gpus: gpus.iter().map(|(gpu, _)| facts(gpu)).collect(),
        links: inventory.topology().pairs().filter_map(link).collect(),
        meter: None,
    };
    let health = gpus.iter().map(|(gpu, state)| health_of(inventory, gpu, state)).collect();
    let faults = inventory.message().into_iter().chain(offers(inventory, policy).complaints);
    let faults: Vec<String> = faults.collect();
    let message = (!faults.is_empty()).then(|| faults.join("; "));
    Described::Known(Box::new(spec), status(health, message), labels(inventory, policy, simulated))
}

/// The meter, where pods are billed from it: also where it doesn't work just now, so that they wait for it.
pub(crate) fn meter(state: &MeterState) -> Option<NodeMeter> {
    let since = |ms: u64| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok().map(Time);
    state.reports.then(|| NodeMeter { since: state.since_ms.and_then(since) })
}

/// A node of which nothing was ever known.
pub(crate) fn empty(simulated: bool) -> GpuNodeSpec {
    GpuNodeSpec { simulated, ..GpuNodeSpec::default() }
}

/// The status of GPUs that were seen once, when nobody can be asked how they are.
pub(crate) fn unknown(spec: &GpuNodeSpec, fault: &str) -> GpuNodeStatus {
    let health = spec.gpus.iter().map(|gpu| GpuHealth {
        uuid: gpu.uuid.clone(),
        health: Health::Unknown,
        reason: Some(fault.to_owned()),
        instances: Vec::new(),
    });
    status(health.collect(), Some(fault.to_owned()))
}

fn status(gpus: Vec<GpuHealth>, message: Option<String>) -> GpuNodeStatus {
    let healthy = gpus.iter().filter(|gpu| matches!(gpu.health, Health::Healthy | Health::Suspect)).count();
    let count = |number| i32::try_from(number).unwrap_or(i32::MAX);
    GpuNodeStatus { total: count(gpus.len()), healthy: count(healthy), message, observed_at: None, gpus }
}

fn facts(gpu: &Gpu) -> ApiGpu {
    ApiGpu {
        uuid: gpu.uuid.clone(),
        index: i32::try_from(gpu.index).unwrap_or(i32::MAX),
        product: product_label(&gpu.name),
        memory_mib: i64::try_from(gpu.memory_bytes >> 20).unwrap_or(i64::MAX),
        pci_bus_id: gpu.pci_bus_id.clone(),
        numa_node: gpu.numa_node.and_then(|node| i32::try_from(node).ok()),
        compute_capability: gpu.compute_capability.map(dotted),
        mig_capable: gpu.mig.is_some(),
        mig_enabled: gpu.is_divided(),
        mig_pending: gpu.mig.as_ref().filter(|mig| mig.pending != mig.enabled).map(|mig| mig.pending),
        instances: gpu.instances().iter().map(|part| instance(gpu, part)).collect(),
    }
}

fn instance(gpu: &Gpu, part: &MigInstance) -> ApiInstance {
    let number = |number| i32::try_from(number).unwrap_or(i32::MAX);
    ApiInstance {
        uuid: part.uuid.clone(),
        profile: part.profile.name().to_owned(),
        product: instance_product(&gpu.name, &part.profile),
        gpu_instance: number(part.instance.gpu),
        compute_instance: number(part.instance.compute),
        memory_mib: i64::try_from(part.has.memory_mib).unwrap_or(i64::MAX),
    }
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn link((one, other, link): (&str, &str, Link)) -> Option<ApiLink> {
    let distance = match link.distance {
        Distance::Board => ApiDistance::Board,
        Distance::Switch => ApiDistance::Switch,
        Distance::Switches => ApiDistance::Switches,
        Distance::HostBridge => ApiDistance::HostBridge,
        Distance::Node => ApiDistance::Node,
        Distance::Machine => ApiDistance::Machine,
    };
    let is_told = link != Link::default();
    let nvlinks = i32::try_from(link.nvlinks).unwrap_or(i32::MAX);
    is_told.then(|| ApiLink { gpus: vec![one.to_owned(), other.to_owned()], nvlinks, distance })
}

fn health_of(inventory: &Inventory, gpu: &Gpu, state: &GpuState) -> GpuHealth {
    let parts = inventory.instances(&gpu.uuid).into_iter().filter(|(_, of_part)| *of_part != state);
    let instances = parts.map(|(part, state)| InstanceHealth {
        uuid: part.uuid.clone(),
        health: health(state),
        reason: state.why().map(str::to_owned),
    });
    GpuHealth {
        uuid: gpu.uuid.clone(),
        health: health(state),
        reason: state.why().map(str::to_owned),
        instances: instances.collect(),
    }
}

fn health(state: &GpuState) -> Health {
    match state {
        GpuState::Healthy => Health::Healthy,
        GpuState::Suspect(_) => Health::Suspect,
        GpuState::Unhealthy(_) => Health::Unhealthy,
        GpuState::Recovering(_) => Health::Recovering,
        GpuState::Unknown(_) => Health::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use plasma_device_plugin_core::{HealthRules, Look, Scan, Seen, Sharing, Signs, Silence, Topology};

    use super::*;

    fn policy() -> Policy {
        Policy { resource: "nvidia.com/gpu".to_owned(), ..Policy::default() }
    }

    fn seen(uuid: &str, index: u32) -> Seen {
        let gpu = Gpu {
            uuid: uuid.to_owned(),
            index,
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            memory_bytes: 81_559 << 20,
            numa_node: Some(1),
            ..Gpu::default()
        };
        Seen::Answered { gpu, signs: Signs::default() }
    }

    #[test]
    fn before_the_first_look_there_is_nothing_to_tell() {
        let mut inventory = Inventory::new(HealthRules::default());
        assert_eq!(describe(&inventory, &policy(), false), Described::Nothing);
        inventory.observe(Scan::Failed("no driver".to_owned()));
        let unknown = Described::Unknown { simulated: true, fault: "no driver".to_owned() };
        assert_eq!(describe(&inventory, &policy(), true), unknown);
    }

    #[test]
    fn a_node_is_described_with_its_sick_gpus() {
        let mut inventory = Inventory::new(HealthRules::default());
        let look = |gpus| Scan::Looked(Look { gpus, ..Look::default() });
        inventory.observe(look(vec![seen("A", 0), seen("B", 1)]));
        inventory.observe(look(vec![
            seen("A", 0),
            Seen::Silent(Silence { why: "GPU is lost".to_owned(), certain: true }),
        ]));
        let Described::Known(spec, status, _) = describe(&inventory, &policy(), true) else {
            panic!("it is known")
        };
        assert_eq!((status.total, status.healthy, status.message), (2, 1, None));
        assert_eq!(status.gpus[1].reason.as_deref(), Some("GPU is lost"));
        assert_eq!(spec.gpus[1].numa_node, Some(1));
    }

    #[test]
    fn what_was_known_of_a_node_stays_when_nobody_can_be_asked() {
        let mut inventory = Inventory::new(HealthRules::default());
        inventory.observe(Scan::Looked(Look { gpus: vec![seen("A", 0)], ..Look::default() }));
        let Described::Known(spec, ..) = describe(&inventory, &policy(), false) else {
            panic!("it is known")
        };
        let status = unknown(&spec, "no driver");
        assert_eq!((status.total, status.healthy), (1, 0));
        assert_eq!(status.gpus[0].health, Health::Unknown);
    }

    #[test]
    fn how_gpus_are_connected_is_told_where_it_matters() {
        let mut topology = Topology::default();
        topology.connect("A", "B", Link { nvlinks: 18, distance: Distance::Node });
        topology.connect("A", "C", Link::default());
        let mut inventory = Inventory::new(HealthRules::default());
        let gpus = vec![seen("A", 0), seen("B", 1), seen("C", 2)];
        inventory.observe(Scan::Looked(Look { gpus, topology, ..Look::default() }));
        let Described::Known(spec, ..) = describe(&inventory, &policy(), false) else {
            panic!("it is known")
        };
        let gpus = vec!["A".to_owned(), "B".to_owned()];
        assert_eq!(spec.links, [ApiLink { gpus, nvlinks: 18, distance: ApiDistance::Node }]);
    }

    #[test]
    fn the_label_says_that_the_driver_limits_memory_only_while_nothing_is_in_the_way() {
        let mut inventory = Inventory::new(HealthRules::default());
        inventory.observe(Scan::Looked(Look { gpus: vec![seen("A", 0)], ..Look::default() }));
        let sharing = Sharing { replicas: 2, one_each: false };
        let shared = BTreeMap::from([("nvidia.com/gpu".to_owned(), sharing)]);
        let shares = Policy { shared, ..policy() };
        for (limits, label) in [(Limits::unknown(), "none"), (Limits::default(), "driver")] {
            let Described::Known(_, _, labels) = describe(&inventory, &shares, false).limited(&limits) else {
                panic!("it is known")
            };
            assert_eq!(labels["compute.plasma.dev/memory-limit"].as_deref(), Some(label));
        }
    }
}

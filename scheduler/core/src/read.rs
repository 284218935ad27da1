//! From a pod's document to what planning needs of it.

mod volumes;

use std::{collections::HashSet, sync::Arc};

use crate::{
    amounts::{Amounts, ResourceId, ResourceNames},
    document::{
        AmountTexts, Container, PodAffinity, PodAffinityTerm, PodDocument, PodSpec, PodStatus, Spread,
    },
    labels::{Labels, Selector, Test, Text, Texts},
    notice::Notice,
    pod::{HostPort, Kind, Pod, PodTerm, SpreadConstraint, Stage},
    quantity::{Quantity, Resources},
    requests,
    unsupported::Unsupported,
};

/// What is shared between the pods and nodes of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) texts: Texts,
    pub(crate) resources: ResourceNames,
    kinds: HashSet<Arc<Kind>>,
    /// How much of it somebody mentioned when that was last looked at.
    kept: usize,
}

/// So much more than what was mentioned last, and half of that, is kept before anything is dropped.
const SPARE: usize = if cfg!(test) { 100 } else { 10_000 };

impl Shared {
    /// Whether much of it may be mentioned by nobody any more.
    pub(crate) fn is_overgrown(&self) -> bool {
        self.len() > self.kept + self.kept / 2 + SPARE
    }

    /// How much there is.
    pub(crate) fn len(&self) -> usize {
        self.texts.len() + self.kinds.len() + self.resources.len()
    }

    /// Drops what nobody mentions any more: neither these resources, which pods and nodes name, nor a kind.
    pub(crate) fn forget_unused(&mut self, mut resources: HashSet<ResourceId>) {
        self.kinds.retain(|kind| Arc::strong_count(kind) > 1);
        resources.extend(self.kinds.iter().flat_map(|kind| kind.requests.iter().map(|(id, _)| id)));
        self.resources.retain(&resources);
        self.texts.forget_unused();
        self.kept = self.len();
    }

    fn share(&mut self, kind: Kind) -> Arc<Kind> {
        if let Some(known) = self.kinds.get(&kind) {
            return known.clone();
        }
        let new = Arc::new(kind);
        self.kinds.insert(new.clone());
        new
    }
}

/// What the names of resources begin with that DeviceClasses give without being asked to.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// What the names of resources end in whose devices several containers have at once.
const SHARED: &str = ".shared";

/// Reads a pod. What is wrong with it is said in it: it is a pod all the same, and may hold a part of a node.
pub(crate) fn pod(document: &PodDocument, shared: &mut Shared) -> Pod {
    if let Some(fault) = &document.fault {
        return unreadable(document, "metadata", fault, shared);
    }
    let (spec, unknown, status) = match (document.spec(), document.status()) {
        (Ok((spec, unknown)), Ok(status)) => (spec, unknown, status),
        (Err(fault), _) => return unreadable(document, "spec", &fault.to_string(), shared),
        (_, Err(fault)) => return unreadable(document, "status", &fault.to_string(), shared),
    };
    let mut problem = unknown.first().map(|field| Unsupported::unknown(field));
    let labels = shared.texts.labels(&document.metadata.labels);
    let namespace = shared.texts.share(&document.metadata.namespace);
    let is_bound = spec.node_name.as_ref().is_some_and(|node| !node.is_empty());
    let held = if is_bound { requests::held(&spec, &status) } else { requests::asked(&spec) };
    let mut holds = match held {
        Ok(resources) => Some(counted(resources, shared)),
        Err(fault) => {
            problem = Some(Unsupported::nonsense("spec.containers[].resources", fault.to_string()));
            None
        }
    };
    let kind = kind(&spec, (&namespace, &labels), holds.clone().unwrap_or_default(), shared)
        .map(|kind| if is_bound { kind.on_its_node() } else { kind });
    let kind = kind.unwrap_or_else(|fault| {
        problem.get_or_insert(fault);
        // Whom it wants near it or not isn't known.
        holds = None;
        Kind { namespace, ..Kind::default() }
    });
    let kind = shared.share(kind);
    // Most pods hold what they ask for, as those alike do.
    let holds = holds.map(|holds| if holds == kind.requests { kind.requests.clone() } else { holds });
    let mut pod = bare(document, kind, shared);
    pod.claims = volumes::claims(&spec, &document.metadata, &mut shared.texts);
    let mut text =
        |text: Option<&String>| text.filter(|text| !text.is_empty()).map(|text| shared.texts.share(text));
    pod.labels = labels;
    pod.holds = holds;
    pod.node = text(spec.node_name.as_ref());
    pod.nominated = text(status.nominated_node_name.as_ref());
    pod.scheduler = text(spec.scheduler_name.as_ref()).unwrap_or_default();
    pod.gate = spec.scheduling_gates.first().and_then(|gate| text(Some(&gate.name)));
    pod.pod_group = spec.scheduling_group.as_ref().and_then(|group| text(group.pod_group_name.as_ref()));
    pod.priority = spec.priority.unwrap_or(0);
    pod.started = seconds(status.start_time.as_deref()).unwrap_or(pod.created);
    pod.may_preempt = spec.preemption_policy.as_deref() != Some("Never");
    let class = spec.priority_class_name.clone().filter(|_| spec.priority.is_none());
    pod.notice = pod.node.is_none().then(|| Box::new(Notice::new(&document.metadata, Some(&status), class)));
    pod.stage = stage(&status, pod.stage);
    pod.problem = problem.or_else(|| not_taken_on(&spec)).map(Box::new);
    pod
}

/// A pod of which only the outside can be read. What it holds is unknown.
fn unreadable(document: &PodDocument, field: &str, why: &str, shared: &mut Shared) -> Pod {
    let outside = document.outside();
    let kind = Kind { namespace: shared.texts.share(&document.metadata.namespace), ..Kind::default() };
    let kind = shared.share(kind);
    let mut pod = bare(document, kind, shared);
    pod.node = outside.node_name.filter(|node| !node.is_empty()).map(|node| shared.texts.share(&node));
    pod.scheduler = outside.scheduler_name.map(|name| shared.texts.share(&name)).unwrap_or_default();
    pod.labels = shared.texts.labels(&document.metadata.labels);
    let status = document.status().ok();
    pod.stage = status.as_ref().map_or(pod.stage, |status| stage(status, pod.stage));
    pod.notice = pod.node.is_none().then(|| Box::new(Notice::new(&document.metadata, status.as_ref(), None)));
    pod.problem = Some(Box::new(Unsupported::nonsense(field, why)));
    pod
}

fn bare(document: &PodDocument, kind: Arc<Kind>, shared: &mut Shared) -> Pod {
    let meta = &document.metadata;
    let created = seconds(meta.creation_timestamp.as_deref()).unwrap_or(0);
    Pod {
        name: meta.name.as_str().into(),
        uid: meta.uid.as_str().into(),
        labels: Labels::default(),
        kind,
        holds: None,
        node: None,
        nominated: None,
        scheduler: shared.texts.share(""),
        priority: 0,
        may_preempt: true,
        created,
        started: created,
        is_mirror: meta.is_mirror(),
        stage: Stage {
            is_terminating: meta.is_terminating(),
            ends: seconds(meta.deletion_timestamp.as_deref()),
            ..Stage::default()
        },
        claims: Box::default(),
        gate: None,
        problem: None,
        notice: None,
        pod_group: None,
    }
}

fn seconds(text: Option<&str>) -> Option<i64> {
    text?.parse::<jiff::Timestamp>().ok().map(|at| at.as_second())
}

/// The amounts, and one pod.
fn counted(mut resources: Resources, shared: &mut Shared) -> Amounts {
    resources.0.insert("pods".to_owned(), Quantity::whole(1));
    shared.resources.amounts(&resources)
}

/// Whether the pod's containers have ended, as far as its status can be read.
pub(crate) fn is_over(document: &PodDocument) -> bool {
    document.status().is_ok_and(|status| stage(&status, Stage::default()).is_over)
}

/// A phase alone doesn't say whether a pod is over: the kubelet sets an evicted pod to Failed before its containers are
/// stopped, and what they have of a GPU isn't free before.
fn stage(status: &PodStatus, before: Stage) -> Stage {
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let is_finished = matches!(phase, "Succeeded" | "Failed");
    let mut containers = status.container_statuses.iter().chain(&status.init_container_statuses);
    let is_over = is_finished && !containers.any(|container| container.state.running.is_some());
    Stage { is_finished, has_failed: phase == "Failed", has_started: phase != "Pending", is_over, ..before }
}

fn kind(
    spec: &PodSpec,
    (namespace, labels): (&Text, &Labels),
    requests: Amounts,
    shared: &mut Shared,
) -> Result<Kind, Unsupported> {
    let is_shared = |id: &ResourceId| {
        let name = shared.resources.name(*id);
        name.contains('/') && name.ends_with(SHARED)
    };
    let shared_resource = requests.iter().filter(|(_, amount)| *amount > 0).map(|(id, _)| id).find(is_shared);
    let texts = &mut shared.texts;
    let affinities = spec.affinity.as_ref();
    let node_affinity = affinities.and_then(|affinity| affinity.node_affinity.as_ref());
    let company = affinities.and_then(|affinity| affinity.pod_affinity.as_ref());
    let shuns = affinities.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    Ok(Kind {
        namespace: namespace.clone(),
        requests,
        shared: shared_resource,
        node_selector: spec
            .node_selector
            .iter()
            .map(|(key, value)| (texts.share(key), texts.share(value)))
            .collect(),
        affinity: node_affinity
            .and_then(|node| node.required_during_scheduling_ignored_during_execution.clone()),
        tolerations: spec.tolerations.clone(),
        ports: ports(spec, texts),
        features: features(spec).into_iter().map(|feature| texts.share(feature)).collect(),
        company: terms(company, "podAffinity", namespace, texts)?,
        shuns: terms(shuns, "podAntiAffinity", namespace, texts)?,
        spread: spread(&spec.topology_spread_constraints, labels, texts)?,
        volumes: volumes::of_kind(spec, texts).map(Box::new),
    })
}

/// The node's ports that containers and side-cars take. With the host's network, every container port is one: the API
/// server has filled that in.
fn ports(spec: &PodSpec, texts: &mut Texts) -> Vec<HostPort> {
    let side_cars =
        spec.init_containers.iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(side_cars).flat_map(|container| &container.ports);
    let given = |text: &Option<String>, default: &str| match text.as_deref() {
        None | Some("") => default.to_owned(),
        Some(text) => text.to_owned(),
    };
    let mut ports: Vec<HostPort> = all
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some(HostPort {
                port: number,
                protocol: texts.share(&given(&port.protocol, "TCP")),
                address: texts.share(&given(&port.host_ip, "0.0.0.0")),
            })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

/// Features that a node must have declared for this pod (KEP-5328).
fn features(spec: &PodSpec) -> Vec<&'static str> {
    let restarts_all = |container: &Container| {
        container.restart_policy_rules.iter().any(|rule| rule.action == "RestartAllContainers")
    };
    let binds_specially = |container: &Container| {
        container.volume_mounts.iter().any(|mount| !mount.bind_mount_options.is_empty())
    };
    let mut features = Vec::new();
    if spec.containers.iter().chain(&spec.init_containers).any(binds_specially) {
        features.push("VolumeBindMountOptions");
    }
    if spec.containers.iter().chain(&spec.init_containers).any(restarts_all) {
        features.push("RestartAllContainersOnContainerExits");
    }
    if spec.host_network == Some(true) && spec.host_users == Some(false) {
        features.push("UserNamespacesHostNetworkSupport");
    }
    features
}

fn terms(
    affinity: Option<&PodAffinity>,
    field: &str,
    namespace: &Text,
    texts: &mut Texts,
) -> Result<Vec<PodTerm>, Unsupported> {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let Some(affinity) = affinity else { return Ok(Vec::new()) };
    let nonsense = |operator: String| {
        Unsupported::nonsense(
            &format!("spec.affinity.{field}.{required}[].labelSelector"),
            format!("operator {operator} isn't known"),
        )
    };
    let mut term = |term: &PodAffinityTerm| {
        let mut namespaces: Vec<Text> = term.namespaces.iter().map(|name| texts.share(name)).collect();
        let namespace_selector = Selector::read(term.namespace_selector.as_ref(), texts)?;
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(namespace.clone());
        }
        Ok(PodTerm {
            // `matchLabelKeys` and `mismatchLabelKeys` were merged into the selector when the pod was created.
            selector: Selector::read(term.label_selector.as_ref(), texts)?,
            namespaces,
            namespace_selector,
            topology_key: texts.share(&term.topology_key),
        })
    };
    let terms = affinity.required_during_scheduling_ignored_during_execution.iter().map(&mut term);
    terms.collect::<Result<_, String>>().map_err(nonsense)
}

fn spread(
    constraints: &[Spread],
    labels: &Labels,
    texts: &mut Texts,
) -> Result<Vec<SpreadConstraint>, Unsupported> {
    // `ScheduleAnyway` is a wish.
    let required = constraints.iter().filter(|spread| spread.when_unsatisfiable != "ScheduleAnyway");
    let nonsense = |operator: String| {
        let field = "spec.topologySpreadConstraints[].labelSelector";
        Unsupported::nonsense(field, format!("operator {operator} isn't known"))
    };
    let mut constraint = |spread: &Spread| {
        let mut selector = Selector::read(spread.label_selector.as_ref(), texts)?;
        for key in &spread.match_label_keys {
            if let (Some(selector), Some(value)) = (&mut selector, labels.get(key)) {
                selector.add(texts.share(key), Test::In(vec![value.clone()]));
            }
        }
        Ok(SpreadConstraint {
            max_skew: spread.max_skew,
            min_domains: spread.min_domains.unwrap_or(1),
            topology_key: texts.share(&spread.topology_key),
            selector,
            honours_affinity: spread.node_affinity_policy.as_deref() != Some("Ignore"),
            honours_taints: spread.node_taints_policy.as_deref() == Some("Honor"),
        })
    };
    required.map(&mut constraint).collect::<Result<_, String>>().map_err(nonsense)
}

/// A resource that no node has by that name: a DeviceClass gives it, by a claim that the scheduler makes.
fn of_a_device_class(requests: &AmountTexts) -> Option<&str> {
    requests.keys().map(|name| &**name).find(|name| name.starts_with(DEVICE_CLASS))
}

/// A field that is known and that this scheduler leaves to others.
fn not_taken_on(spec: &PodSpec) -> Option<Unsupported> {
    for (field, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
        if let Some(name) = containers.iter().find_map(|one| of_a_device_class(&one.resources.requests)) {
            return Some(Unsupported::not_taken_on(&format!("spec.{field}[].resources.requests[{name}]")));
        }
    }
    let mut containers = spec.containers.iter().chain(&spec.init_containers);
    let field = if spec.scheduling_group.as_ref().is_some_and(|group| group.pod_group_name.is_none()) {
        // A group of which only a newer Kubernetes can say which.
        "spec.schedulingGroup"
    } else if !spec.resource_claims.is_empty() {
        "spec.resourceClaims"
    } else if spec.resources.as_ref().is_some_and(|resources| !resources.claims.is_empty()) {
        "spec.resources.claims"
    } else if containers.any(|container| !container.resources.claims.is_empty()) {
        "spec.containers[].resources.claims"
    } else {
        return None;
    };
    Some(Unsupported::not_taken_on(field))
}

#[cfg(test)]
mod tests;

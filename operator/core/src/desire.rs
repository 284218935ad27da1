//! The objects that one attempt of an admitted job needs. Cannot fail: what could be wrong was judged before.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{PodTemplateSpec, Service, ServiceSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use plasma_api::{
    ComputeJobSpec, Gang, GangSpec,
    compute_job::Role,
    names::{
        ATTEMPT_LABEL, GANG_LABEL, JOB_NAME_LABEL, JOB_UID_LABEL, QUEUE_ANNOTATION, ROLE_LABEL,
        SETTLEMENT_FINALIZER,
    },
};

use crate::{
    environment::{self, Place},
    grouped::Group,
    most::gpus,
    own::Key,
};

/// The job as its children name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The ComputeJob.
    pub key: Key,
    /// Whether its queue bills: then each pod is held until its receipt is durable.
    pub billed: bool,
    /// `spec.schedulerName` of its pods: whoever places gangs in this cluster.
    pub scheduler: String,
}

/// What one attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// What the scheduler places.
    pub gang: Gang,
    /// The pods' addresses.
    pub service: Service,
    /// The gang as others than our scheduler know it, where the API server serves such.
    pub group: Option<Group>,
    /// One Indexed Job a role.
    pub jobs: Vec<Job>,
}

/// The name of an attempt's Gang and Service.
pub fn attempt_name(job: &str, attempt: i32) -> String {
    format!("{job}-{attempt}")
}

/// The name of a role's Job.
pub fn role_job_name(job: &str, role: &str, attempt: i32) -> String {
    format!("{job}-{role}-{attempt}")
}

/// The objects of one attempt.
pub fn desire(parent: &Parent, spec: &ComputeJobSpec, attempt: i32) -> Children {
    let first = spec.roles.first().map(|role| role.name.as_str()).unwrap_or_default();
    let name = attempt_name(&parent.key.name, attempt);
    let master = format!("{}-0.{name}", role_job_name(&parent.key.name, first, attempt));
    let mut offset = 0;
    let jobs = spec.roles.iter().map(|role| {
        let place =
            Place { role: &role.name, replicas: role.replicas, offset, gpus: gpus(role), master: &master };
        offset += role.replicas;
        role_job(parent, spec, &place, &role.template, attempt)
    });
    let jobs: Vec<Job> = jobs.collect();
    let min_member = spec.roles.iter().map(|role: &Role| role.replicas).sum();
    let gang = Gang {
        metadata: metadata(parent, name.clone(), labels(parent, attempt)),
        spec: GangSpec { min_member, max_runtime_seconds: Some(spec.max_runtime_seconds), priority: 0 },
        status: None,
    };
    Children { gang, service: service(parent, &name, attempt), group: None, jobs }
}

fn service(parent: &Parent, group: &str, attempt: i32) -> Service {
    Service {
        metadata: metadata(parent, group.to_owned(), labels(parent, attempt)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            // Ranks look for each other before any of them is ready.
            publish_not_ready_addresses: Some(true),
            // The UID, too: pods of a job that had this name before may still be ending.
            selector: Some(
                [(GANG_LABEL, group), (JOB_UID_LABEL, &parent.key.uid)]
                    .map(|(label, value)| (label.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn role_job(
    parent: &Parent,
    spec: &ComputeJobSpec,
    place: &Place<'_>,
    template: &PodTemplateSpec,
    attempt: i32,
) -> Job {
    let mut labels = labels(parent, attempt);
    labels.insert(ROLE_LABEL.to_owned(), place.role.to_owned());
    let name = role_job_name(&parent.key.name, place.role, attempt);
    let template = pod_template(parent, spec, place, template.clone(), &labels);
    Job {
        metadata: metadata(parent, name, labels),
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".to_owned()),
            completions: Some(place.replicas),
            parallelism: Some(place.replicas),
            // One pod's failure is the attempt's: the gang starts again as a whole, or not at all.
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(ignore_disruptions()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A pod that was taken away did not fail.
fn ignore_disruptions() -> PodFailurePolicy {
    let disrupted = PodFailurePolicyOnPodConditionsPattern {
        type_: "DisruptionTarget".to_owned(),
        status: Some("True".to_owned()),
    };
    let rule = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![disrupted]),
        on_exit_codes: None,
    };
    PodFailurePolicy { rules: vec![rule] }
}

fn pod_template(
    parent: &Parent,
    spec: &ComputeJobSpec,
    place: &Place<'_>,
    mut template: PodTemplateSpec,
    labels: &BTreeMap<String, String>,
) -> PodTemplateSpec {
    let group = &labels[GANG_LABEL];
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().extend(labels.clone());
    metadata.annotations.get_or_insert_default().insert(QUEUE_ANNOTATION.to_owned(), spec.queue.clone());
    // Whether the pod is held is not the template's to say; and an entry that is there twice, the API server refuses.
    let finalizers = metadata.finalizers.get_or_insert_default();
    finalizers.retain(|finalizer| finalizer != SETTLEMENT_FINALIZER);
    if parent.billed {
        finalizers.push(SETTLEMENT_FINALIZER.to_owned());
    }
    let pod = template.spec.get_or_insert_default();
    pod.scheduler_name = Some(parent.scheduler.clone());
    pod.restart_policy = Some("Never".to_owned());
    pod.subdomain = Some(group.clone());
    // Counted from the kubelet's acceptance: waiting costs no run time.
    pod.active_deadline_seconds = Some(spec.max_runtime_seconds);
    for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
        environment::inject(container, place);
    }
    template
}

fn labels(parent: &Parent, attempt: i32) -> BTreeMap<String, String> {
    BTreeMap::from([
        (GANG_LABEL.to_owned(), attempt_name(&parent.key.name, attempt)),
        (JOB_NAME_LABEL.to_owned(), parent.key.name.clone()),
        (JOB_UID_LABEL.to_owned(), parent.key.uid.clone()),
        (ATTEMPT_LABEL.to_owned(), attempt.to_string()),
    ])
}

fn metadata(parent: &Parent, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: format!("{}/{}", plasma_api::names::GROUP, plasma_api::names::VERSION),
        kind: "ComputeJob".to_owned(),
        name: parent.key.name.clone(),
        uid: parent.key.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(name),
        namespace: Some(parent.key.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{job, parent};

    fn two_roles() -> ComputeJobSpec {
        let mut spec = job().spec;
        let second = Role { name: "data".to_owned(), replicas: 3, ..spec.roles[0].clone() };
        spec.roles.push(second);
        spec
    }

    fn environment_of(job: &Job) -> BTreeMap<String, Option<String>> {
        let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let variables = pod.containers[0].env.iter().flatten();
        variables.map(|variable| (variable.name.clone(), variable.value.clone())).collect()
    }

    #[test]
    fn an_attempt_is_a_gang_a_service_and_a_job_for_each_role() {
        let children = desire(&parent(true), &two_roles(), 1);
        assert_eq!(children.gang.metadata.name.as_deref(), Some("ddp-1"));
        assert_eq!(children.gang.spec.min_member, 5);
        let names: Vec<_> = children.jobs.iter().filter_map(|job| job.metadata.name.as_deref()).collect();
        assert_eq!(names, ["ddp-worker-1", "ddp-data-1"]);
        let pod = children.jobs[0].spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        assert_eq!(pod.subdomain.as_deref(), children.service.metadata.name.as_deref());
        assert_eq!(pod.scheduler_name.as_deref(), Some("plasma-scheduler"));
        assert_eq!(pod.active_deadline_seconds, Some(3600));
    }

    #[test]
    fn ranks_go_to_the_first_role_and_offsets_to_all() {
        let children = desire(&parent(true), &two_roles(), 0);
        let (workers, data) = (environment_of(&children.jobs[0]), environment_of(&children.jobs[1]));
        assert_eq!(workers["MASTER_ADDR"].as_deref(), Some("ddp-worker-0-0.ddp-0"));
        assert_eq!(workers["WORLD_SIZE"].as_deref(), Some("2"));
        assert_eq!(workers["PET_NPROC_PER_NODE"].as_deref(), Some("1"));
        assert!(workers.contains_key("RANK") && !data.contains_key("RANK"));
        assert_eq!(data["PLASMA_ROLE_OFFSET"].as_deref(), Some("2"));
    }

    #[test]
    fn a_variable_of_the_users_own_wins() {
        let mut spec = job().spec;
        let container = &mut spec.roles[0].template.spec.as_mut().unwrap().containers[0];
        container.env = Some(vec![k8s_openapi::api::core::v1::EnvVar {
            name: "MASTER_PORT".to_owned(),
            value: Some("1234".to_owned()),
            value_from: None,
        }]);
        let children = desire(&parent(true), &spec, 0);
        assert_eq!(environment_of(&children.jobs[0])["MASTER_PORT"].as_deref(), Some("1234"));
        let pod = children.jobs[0].spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let ports = pod.containers[0].env.iter().flatten().filter(|variable| variable.name == "MASTER_PORT");
        assert_eq!(ports.count(), 1);
    }

    #[test]
    fn only_billed_pods_are_held_for_settlement_whatever_the_template_says() {
        let mut listed = job().spec;
        let template = &mut listed.roles[0].template;
        template.metadata.get_or_insert_default().finalizers =
            Some(vec!["example.com/own".to_owned(), SETTLEMENT_FINALIZER.to_owned()]);
        let held = |spec: &ComputeJobSpec, billed| {
            let job = desire(&parent(billed), spec, 0).jobs.remove(0);
            job.spec.unwrap().template.metadata.unwrap().finalizers.unwrap()
        };
        assert_eq!(held(&job().spec, true), [SETTLEMENT_FINALIZER]);
        assert!(held(&job().spec, false).is_empty());
        assert_eq!(held(&listed, true), ["example.com/own", SETTLEMENT_FINALIZER]);
        assert_eq!(held(&listed, false), ["example.com/own"]);
    }

    #[test]
    fn a_service_leads_to_the_pods_of_this_job_alone() {
        let children = desire(&parent(true), &job().spec, 0);
        let labels = children.jobs[0].spec.clone().unwrap().template.metadata.unwrap().labels.unwrap();
        let selector =
            |parent: &Parent| desire(parent, &job().spec, 0).service.spec.unwrap().selector.unwrap();
        assert!(selector(&parent(true)).iter().all(|(label, value)| labels.get(label) == Some(value)));
        let anew = Parent { key: Key { uid: "another".to_owned(), ..parent(true).key }, ..parent(true) };
        assert!(!selector(&anew).iter().all(|(label, value)| labels.get(label) == Some(value)));
    }
}

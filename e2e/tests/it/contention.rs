//! kube-scheduler and ours at the same GPUs in the same moments. An API server checks no room when it binds, so both may give
//! the same GPU away: then its kubelet refuses a pod, and where that is of a gang of ours, the gang starts again as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use plasma_api::{
    ComputeJob,
    compute_job::Phase,
    names::{ATTEMPT_LABEL, GPU_RESOURCE, JOB_NAME_LABEL, JOB_UID_LABEL},
};
use plasma_e2e::{NAMESPACE, World, job, phase, until};
use serde_json::json;

use crate::device_plugin::{every_gpu, node, pod};

/// Pods of no scheduler's name are here, with this label.
const THEIRS: (&str, &str, &str) = ("default", "app", "e2e-contends");
/// How many there are of theirs. Each asks for as many GPUs as a gang of ours, or theirs would always come first.
const PODS: usize = 8;
/// How many gangs of two there are of ours.
const GANGS: usize = 8;
/// How often this is tried.
const ROUNDS: usize = 5;
/// Each pod of a gang ends once it has met the other: half a gang never does.
const MEETS: &str = r#"if [ "$RANK" = 0 ]; then nc -l -p 8080 </dev/null
    else until nc -w 1 "$MASTER_ADDR" 8080 </dev/null; do sleep 0.2; done; fi"#;
/// How long a kubelet may take to refuse what it has no room for.
const REFUSES: Duration = Duration::from_secs(5);
/// How long what is left of a gang may take to end, when one of its pods was refused.
const ENDS: Duration = Duration::from_secs(20);
const PATIENCE: u64 = 120;
/// How a kubelet refuses a pod for which it has no GPU.
const REFUSALS: [&str; 2] = ["OutOfnvidia.com/gpu", "UnexpectedAdmissionError"];

#[tokio::test]
async fn beside_kube_scheduler_no_gpu_is_given_twice_and_every_gang_ends_whole() {
    let world = World::connect().await;
    clean(&world).await;
    let (gpus, ..) = every_gpu(&world).await;
    let outcome = tokio::spawn(contend(u64::try_from(gpus).expect("a few"))).await;
    cordon(&world, false).await;
    clean(&world).await;
    outcome.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
}

/// Goes on until the two were at one GPU in the same moment, which is most often at once.
async fn contend(gpus: u64) {
    let world = World::connect().await;
    for _ in 0..ROUNDS {
        let mut watch = Watch::default();
        one_round(&world, gpus, &mut watch).await;
        clean(&world).await;
        if !watch.refused.is_empty() {
            return;
        }
    }
    panic!("the two were never at one GPU in the same moment: {ROUNDS} times nobody was refused");
}

async fn one_round(world: &World, gpus: u64, watch: &mut Watch) {
    // All of them wait, and then both schedulers see in the same moment that they needn't any more.
    cordon(world, true).await;
    join_all((0..PODS).map(|_| one_of_theirs(world))).await;
    let jobs = join_all((0..GANGS).map(|index| a_gang(world, index))).await;
    until("the pods of every gang wait", PATIENCE, || async {
        ours(world).await.iter().filter(|pod| waits(pod)).count() == 2 * GANGS
    })
    .await;
    cordon(world, false).await;

    let begun = Instant::now();
    while !all_done(world, &jobs).await {
        watch.look(&theirs(world).await, &ours(world).await, gpus);
        assert!(begun.elapsed() < Duration::from_secs(PATIENCE), "not all have ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for pod in theirs(world).await.iter().filter(|pod| is_over(pod)) {
        assert!(is(pod, "Succeeded") || is_refused(pod), "neither ran nor was refused: {pod:?}");
    }
    // It happens in one moment of many: whoever didn't count the other's pods would be refused again and again.
    let refused = watch.refused.len();
    assert!(refused <= 2 * GANGS, "{refused} pods were refused");
    for job in jobs {
        world.delete(&job).await;
    }
}

/// What was seen from one look to the next.
#[derive(Default)]
struct Watch {
    /// More GPUs are asked for on the node than it has.
    too_many: Option<Instant>,
    /// Attempts of which one pod goes on and another doesn't.
    halves: BTreeMap<String, Instant>,
    /// UIDs of pods that the kubelet refused.
    refused: BTreeSet<String>,
}

impl Watch {
    fn look(&mut self, theirs: &[Pod], ours: &[Pod], gpus: u64) {
        let all = || theirs.iter().chain(ours);
        let held = all().filter(|pod| is_under_way(pod)).map(gpus_of).sum::<u64>();
        self.refused.extend(all().filter(|pod| is_refused(pod)).filter_map(Pod::uid));
        self.too_many = (held > gpus).then(|| self.too_many.unwrap_or_else(Instant::now));
        assert!(
            self.too_many.is_none_or(|since| since.elapsed() < REFUSES),
            "{held} of {gpus} GPUs are given away"
        );
        let mut devices = BTreeSet::new();
        for device in all().flat_map(devices_of) {
            assert!(devices.insert(device.clone()), "two containers have {device}");
        }
        let halves = halves(ours);
        self.halves = halves.into_iter().map(|half| (half.clone(), since(&self.halves, &half))).collect();
        for (half, since) in &self.halves {
            assert!(since.elapsed() < ENDS, "half of {half} goes on alone");
        }
    }
}

fn since(known: &BTreeMap<String, Instant>, name: &str) -> Instant {
    known.get(name).copied().unwrap_or_else(Instant::now)
}

/// Attempts of which a pod is on the node and hasn't ended, while another has no place, or was refused, or is gone.
fn halves(pods: &[Pod]) -> BTreeSet<String> {
    let mut attempts: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in pods {
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        attempts.entry(format!("{}-{}", label(JOB_UID_LABEL), label(ATTEMPT_LABEL))).or_default().push(pod);
    }
    let is_well = |pod: &Pod| is_under_way(pod) || is(pod, "Succeeded");
    let is_half = |pods: &[&Pod]| {
        let well = pods.iter().filter(|pod| is_well(pod)).count();
        pods.iter().any(|pod| is_under_way(pod)) && well < 2
    };
    attempts.into_iter().filter(|(_, pods)| is_half(pods)).map(|(name, _)| name).collect()
}

async fn cordon(world: &World, unschedulable: bool) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({ "spec": { "unschedulable": unschedulable } }));
    let name = node(world).await.name_any();
    nodes.patch(&name, &PatchParams::default(), &patch).await.expect("the node");
}

/// A job of two pods, of which not one failure is allowed.
async fn a_gang(world: &World, index: usize) -> ComputeJob {
    let mut job = job(&format!("contends-{index}"), (2, 1), MEETS);
    job["spec"]["backoffLimit"] = json!(0);
    world.create(NAMESPACE, job).await.expect("a job")
}

async fn one_of_theirs(world: &World) {
    let mut pod = pod("true");
    let container = pod.spec.as_mut().and_then(|spec| spec.containers.first_mut()).expect("its container");
    let limits = BTreeMap::from([(GPU_RESOURCE.to_owned(), Quantity("2".to_owned()))]);
    container.resources.get_or_insert_default().limits = Some(limits);
    pod.labels_mut().insert(THEIRS.1.to_owned(), THEIRS.2.to_owned());
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), THEIRS.0);
    pods.create(&PostParams::default(), &pod).await.expect("it is made");
}

async fn theirs(world: &World) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), THEIRS.0);
    let label = format!("{}={}", THEIRS.1, THEIRS.2);
    pods.list(&ListParams::default().labels(&label)).await.expect("pods").items
}

async fn ours(world: &World) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let names = (0..GANGS).map(|index| format!("contends-{index}")).collect::<Vec<_>>().join(",");
    let label = format!("{JOB_NAME_LABEL} in ({names})");
    pods.list(&ListParams::default().labels(&label)).await.expect("pods").items
}

/// Whether every job has succeeded; one that failed was counted a failure that wasn't its own.
async fn all_done(world: &World, jobs: &[ComputeJob]) -> bool {
    let mut done = 0;
    for job in jobs {
        let job = world.jobs(NAMESPACE).get(&job.name_any()).await.expect("the job");
        assert_ne!(phase(&job), Some(Phase::Failed), "{:#?}", job.status);
        done += usize::from(phase(&job) == Some(Phase::Succeeded));
    }
    done == jobs.len()
}

/// How many GPUs its one container asks for.
fn gpus_of(pod: &Pod) -> u64 {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let limits = container.and_then(|container| container.resources.as_ref()?.limits.as_ref());
    limits.map_or(0, |limits| limits[GPU_RESOURCE].0.parse().expect("a number"))
}

fn waits(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none())
        && pod.metadata.deletion_timestamp.is_none()
}

/// Whether it has a node, and hasn't ended there.
fn is_under_way(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) && !is_over(pod)
}

fn is_over(pod: &Pod) -> bool {
    is(pod, "Succeeded") || is(pod, "Failed")
}

fn is(pod: &Pod, phase: &str) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)
}

fn is_refused(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    is(pod, "Failed") && reason.is_some_and(|reason| REFUSALS.contains(&reason))
}

/// The GPUs of the pod's containers that run, by the kubelet's word.
fn devices_of(pod: &Pod) -> Vec<String> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let running =
        containers.filter(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    let told = running.flat_map(|container| container.allocated_resources_status.iter().flatten());
    let of_gpus = told.filter(|told| told.name.contains(GPU_RESOURCE));
    of_gpus.flat_map(|told| told.resources.iter().flatten()).map(|gpu| gpu.resource_id.clone()).collect()
}

/// Deletes what an earlier run left, or this one; and waits until it is gone.
async fn clean(world: &World) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), THEIRS.0);
    let label = format!("{}={}", THEIRS.1, THEIRS.2);
    let now = DeleteParams::default().grace_period(0);
    pods.delete_collection(&now, &ListParams::default().labels(&label)).await.expect("they go");
    until("they are gone", PATIENCE, || async { theirs(world).await.is_empty() }).await;
}

//! Pods that come, go, and use names again; statuses in any order; lists between any two looks.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::ContainerSeen;

fn pod(uid: &str, name: &str, started_ms: Option<u64>) -> PodSeen {
    let container = ContainerSeen { name: "c".to_owned(), started_ms, ..ContainerSeen::default() };
    PodSeen {
        uid: uid.to_owned(),
        namespace: "n".to_owned(),
        name: name.to_owned(),
        over: false,
        containers: vec![container],
    }
}

fn finished(mut pod: PodSeen, at_ms: u64) -> PodSeen {
    pod.over = true;
    pod.containers[0].finished_ms = Some(at_ms);
    pod
}

fn listed(name: &str, devices: &[&str]) -> Listed {
    Listed {
        namespace: "n".to_owned(),
        pod: name.to_owned(),
        container: "c".to_owned(),
        devices: devices.iter().map(|device| (*device).to_owned()).collect(),
    }
}

fn synced(pods: &[PodSeen]) -> Tenants {
    let mut tenants = Tenants::default();
    pods.iter().for_each(|pod| tenants.observe(pod, 0));
    tenants.synced(&pods.iter().map(|pod| pod.uid.clone()).collect(), 0);
    tenants
}

fn held_by(tenants: &Tenants) -> Vec<(String, String)> {
    tenants.tenures().into_iter().map(|one| (one.device, one.holder.pod_uid)).collect()
}

#[test]
fn a_status_that_names_its_devices_needs_no_list() {
    let mut told = pod("u", "p", Some(5));
    told.containers[0].devices = vec!["GPU-0".to_owned()];
    let mut tenants = synced(&[told.clone()]);
    assert!(!tenants.wants_list());
    assert_eq!(tenants.holdings().of("GPU-0")[0].pod_uid, "u");
    tenants.observe(&finished(told, 9), 100);
    let [tenure] = &tenants.tenures()[..] else { panic!("one holding") };
    assert_eq!((tenure.started_ms, tenure.end), (5, Some(End { at_ms: 9, told: true })));
    assert_eq!(tenants.holdings(), Holdings::Known(BTreeMap::new()), "what is over holds nothing");
}

#[test]
fn until_it_is_clear_who_holds_what_nobody_is_said_to_hold_anything() {
    let mut tenants = Tenants::default();
    assert_eq!(tenants.holdings(), Holdings::Unknown, "the pods aren't known yet");
    let (old, new) = (pod("old", "p", Some(1)), pod("new", "p", Some(1)));
    tenants = synced(std::slice::from_ref(&new));
    assert!(tenants.wants_list());
    assert_eq!(tenants.holdings(), Holdings::Unknown);
    assert_eq!(tenants.unclear(), Some((1, "n/p".to_owned())));
    // The list was made while the old one became the new one.
    tenants.assign(std::slice::from_ref(&old), &[listed("p", &["GPU-0"])], std::slice::from_ref(&new));
    assert!(held_by(&tenants).is_empty());
    // Two of one name, as after a forced deletion.
    let both = [new.clone(), old];
    tenants.assign(&both, &[listed("p", &["GPU-0"])], &both);
    let twice = [listed("p", &["GPU-0"]), listed("p", &["GPU-1"])];
    tenants.assign(std::slice::from_ref(&new), &twice, std::slice::from_ref(&new));
    assert!(held_by(&tenants).is_empty());
    tenants.assign(std::slice::from_ref(&new), &[listed("p", &["GPU-0"])], std::slice::from_ref(&new));
    assert_eq!(held_by(&tenants), [("GPU-0".to_owned(), "new".to_owned())]);
    assert!(!tenants.wants_list());
    assert_eq!(tenants.unclear(), None);
}

#[test]
fn what_has_not_started_may_still_be_given_devices() {
    let waits = pod("u", "p", None);
    let mut tenants = synced(std::slice::from_ref(&waits));
    tenants.assign(std::slice::from_ref(&waits), &[listed("p", &[])], std::slice::from_ref(&waits));
    assert!(tenants.wants_list());
    assert_eq!(tenants.holdings(), Holdings::Known(BTreeMap::new()), "and holds nothing as yet");
    tenants.assign(std::slice::from_ref(&waits), &[listed("p", &["GPU-0"])], std::slice::from_ref(&waits));
    assert_eq!(tenants.holdings().of("GPU-0").len(), 1, "given, though it waits for its image");
    assert!(tenants.tenures().is_empty(), "and not held before it starts");
}

#[test]
fn a_pod_that_went_unseen_ended_when_it_was_seen_last() {
    let held = Tenure {
        device: "GPU-0".to_owned(),
        holder: Holder {
            pod_uid: "u".to_owned(),
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            container: "c".to_owned(),
        },
        started_ms: 5,
        end: None,
    };
    let mut tenants = Tenants::default();
    tenants.remember(&held, 70);
    tenants.synced(&BTreeSet::new(), 0);
    let end = Some(End { at_ms: 70, told: false });
    assert_eq!(tenants.tenures(), [Tenure { end, ..held.clone() }]);
    tenants.forget_before(70);
    assert_eq!(tenants.tenures().len(), 1);
    tenants.forget_before(71);
    assert!(tenants.tenures().is_empty());

    // The pods were known before it was remembered.
    let mut tenants = synced(&[]);
    tenants.remember(&held, 70);
    assert_eq!(tenants.tenures(), [Tenure { end, ..held.clone() }]);

    // The same, but it is still there.
    let mut tenants = Tenants::default();
    tenants.remember(&held, 60);
    tenants.observe(&pod("u", "p", Some(8)), 0);
    tenants.synced(&BTreeSet::from(["u".to_owned()]), 70);
    assert_eq!(tenants.tenures(), [held]);
}

#[test]
fn a_container_whose_end_has_no_time_ended_when_that_was_seen() {
    let mut lost = pod("u", "p", Some(5));
    lost.containers[0].devices = vec!["GPU-0".to_owned()];
    lost.over = true;
    let tenants = {
        let mut tenants = Tenants::default();
        tenants.observe(&lost, 50);
        tenants
    };
    assert_eq!(tenants.tenures()[0].end, Some(End { at_ms: 50, told: false }));
}

#[test]
fn a_pod_ends_with_its_last_container_and_an_init_container_needs_no_devices() {
    let mut told = pod("u", "p", Some(5));
    told.containers[0].devices = vec!["GPU-0".to_owned()];
    let container = |name: &str, init, finished_ms| ContainerSeen {
        name: name.to_owned(),
        init,
        started_ms: Some(1),
        run_started_ms: None,
        finished_ms: Some(finished_ms),
        ..ContainerSeen::default()
    };
    told.containers.push(container("prepare", true, 4));
    let tenants = synced(std::slice::from_ref(&told));
    assert!(!tenants.wants_list(), "no list has what an init container was given");
    told.containers.push(container("log", false, 30));
    let tenants = synced(&[finished(told, 20)]);
    assert_eq!(tenants.tenures()[0].end, Some(End { at_ms: 30, told: true }));
}

fn container(name: &str, init: bool, started_ms: u64, finished_ms: Option<u64>) -> ContainerSeen {
    let (name, started_ms) = (name.to_owned(), Some(started_ms));
    ContainerSeen { name, init, started_ms, finished_ms, ..ContainerSeen::default() }
}

#[test]
fn a_side_car_is_listed_though_its_pods_status_names_the_other_devices() {
    let mut told = pod("u", "p", Some(5));
    told.containers[0].devices = vec!["GPU-0".to_owned()];
    told.containers.push(container("car", true, 1, None));
    let mut tenants = synced(std::slice::from_ref(&told));
    assert!(tenants.wants_list());
    assert_eq!(tenants.unclear(), Some((1, "n/p".to_owned())));
    let car = Listed { container: "car".to_owned(), ..listed("p", &["GPU-1"]) };
    tenants.assign(std::slice::from_ref(&told), &[car], std::slice::from_ref(&told));
    assert_eq!(tenants.unclear(), None);
    assert_eq!(tenants.holdings().of("GPU-1")[0].container, "car");
    assert!(!tenants.wants_list());
}

#[test]
fn a_pod_holds_a_device_once_from_its_first_start() {
    let mut told = pod("u", "p", Some(5));
    told.containers[0].devices = vec!["GPU-0".to_owned()];
    told.containers.push(container("before", true, 1, Some(4)));
    told.containers[1].devices = vec!["GPU-0".to_owned()];
    let tenants = synced(&[told]);
    let [tenure] = &tenants.tenures()[..] else { panic!("one holding") };
    assert_eq!((tenure.started_ms, &*tenure.holder.container), (1, "c"));
    assert_eq!(tenants.holdings().of("GPU-0").len(), 1);
}

/// An init container that runs and asks for so many GPUs.
fn init_runs(gpus: u64) -> ContainerSeen {
    let asks = BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus), ("rdma/hca".to_owned(), 9)]);
    ContainerSeen { running: Some("containerd://1".to_owned()), asks, ..container("init", true, 1, None) }
}

#[test]
fn what_an_init_container_alone_was_given_is_told_by_nobody_while_it_runs() {
    let mut tenants = Tenants::with_resources_like("nvidia.com/gpu");
    let is_partly = |tenants: &Tenants| matches!(tenants.holdings(), Holdings::Partly(_));
    let mut told = pod("u", "p", None);
    told.containers.push(init_runs(1));
    tenants.synced(&BTreeSet::from(["u".to_owned()]), 0);
    let mut becomes = |tenants: &mut Tenants, init: ContainerSeen, main: &[&str], asked: u64| {
        told.containers[1] = init;
        told.containers[0].devices = main.iter().map(|&id| id.to_owned()).collect();
        told.containers[0].asks = BTreeMap::from([("nvidia.com/gpu".to_owned(), asked)]);
        tenants.observe(&told, 0);
        is_partly(tenants)
    };
    assert!(becomes(&mut tenants, init_runs(1), &[], 0));
    assert!(!becomes(&mut tenants, init_runs(0), &[], 0), "a resource of somebody else");
    assert!(becomes(&mut tenants, init_runs(1), &[], 1), "the other container's isn't told either");
    assert!(
        !becomes(&mut tenants, ContainerSeen { running: None, ..init_runs(1) }, &[], 0),
        "it waits or is done"
    );
    // One that failed and runs again.
    let failed = ContainerSeen { running: None, finished_ms: Some(2), ..init_runs(1) };
    assert!(!becomes(&mut tenants, failed, &[], 0) && becomes(&mut tenants, init_runs(1), &[], 0));
    assert!(!becomes(&mut tenants, init_runs(1), &["GPU-0"], 1), "the other container has the same one");
    assert_eq!(tenants.holdings().of("GPU-0").len(), 1);
    assert!(becomes(&mut tenants, init_runs(2), &["GPU-0"], 1), "it has one more");
    assert_eq!(tenants.holdings().of("GPU-0").len(), 1);
    tenants.remove("u", 9);
    assert!(!is_partly(&tenants), "it is over");
}

/// What a kubelet knows at one moment: its pods, and their devices by UID.
#[derive(Clone, Debug, Default)]
struct Truth {
    pods: Vec<PodSeen>,
    devices: BTreeMap<String, String>,
}

impl Truth {
    fn list(&self) -> Vec<Listed> {
        let active = self.pods.iter().filter(|pod| !pod.over);
        let devices = |pod: &PodSeen| self.devices.get(&pod.uid).map(String::as_str);
        active.map(|pod| listed(&pod.name, &devices(pod).into_iter().collect::<Vec<_>>())).collect()
    }

    /// One thing happens: a pod comes, under a name that may be used by one that is still there; or its container
    /// starts, finishes, or it is removed.
    fn step(&self, now: u64, what: u8, which: &Index) -> Self {
        let mut next = self.clone();
        if what == 0 || next.pods.is_empty() {
            next.pods.push(pod(&format!("u{now}"), &format!("p{}", which.index(2)), None));
            return next;
        }
        let at = which.index(next.pods.len());
        let one = &mut next.pods[at];
        match (one.containers[0].started_ms, one.over) {
            (None, false) => {
                let used: BTreeSet<&String> = self.devices.values().collect();
                let free = (0..).map(|n| format!("GPU-{n}")).find(|device| !used.contains(device));
                next.devices.insert(one.uid.clone(), free.unwrap());
                one.containers[0].started_ms = Some(now);
            }
            (Some(_), false) => *one = finished(one.clone(), now),
            (_, true) => drop(next.pods.remove(at)),
        }
        next
    }
}

fn timeline() -> impl Strategy<Value = Vec<Truth>> {
    vec((0_u8..3, any::<Index>()), 1..40).prop_map(|steps| {
        let mut times = vec![Truth::default()];
        for (now, (what, which)) in (1..).zip(steps) {
            times.push(times.last().unwrap().step(now, what, &which));
        }
        times
    })
}

proptest! {
    /// However late the news of pods is, and whenever a list is made, no device is ever put on a pod that didn't hold it;
    /// and one quiet moment makes all clear.
    #[test]
    fn no_device_is_ever_put_on_the_wrong_pod(
        times in timeline(),
        looks in vec((any::<Index>(), any::<[Index; 3]>()), 0..20),
    ) {
        let truth: BTreeMap<String, String> = times.iter().flat_map(|time| time.devices.clone()).collect();
        let mut looks: Vec<_> = looks.iter().map(|(news, list)| {
            let mut list = list.map(|index| index.index(times.len()));
            list.sort_unstable();
            (news.index(times.len()), list)
        }).collect();
        looks.sort_unstable();
        let mut tenants = Tenants::default();
        for (news, [before, list, after]) in looks {
            times[news].pods.iter().for_each(|pod| tenants.observe(pod, 0));
            tenants.synced(&times[news].pods.iter().map(|pod| pod.uid.clone()).collect(), 0);
            tenants.assign(&times[before].pods, &times[list].list(), &times[after].pods);
            for (device, uid) in held_by(&tenants) {
                prop_assert_eq!(Some(&device), truth.get(&uid));
            }
        }
        let last = times.last().unwrap();
        last.pods.iter().for_each(|pod| tenants.observe(pod, 0));
        tenants.synced(&last.pods.iter().map(|pod| pod.uid.clone()).collect(), 0);
        tenants.assign(&last.pods, &last.list(), &last.pods);
        let named = |name: &str| last.pods.iter().filter(|pod| pod.name == name && !pod.over).count();
        if last.pods.iter().filter(|pod| !pod.over).all(|pod| named(&pod.name) == 1) {
            let open: BTreeSet<&String> =
                last.pods.iter().filter(|pod| !pod.over && pod.containers[0].started_ms.is_some()).map(|pod| &pod.uid).collect();
            let held: BTreeMap<String, String> = held_by(&tenants).into_iter().map(|(device, uid)| (uid, device)).collect();
            prop_assert!(open.iter().all(|uid| held.get(*uid) == truth.get(*uid)));
            prop_assert!(tenants.holdings() != Holdings::Unknown);
        }
    }

    /// Whatever is told of a pod, in whatever order, says the same in the end.
    #[test]
    fn the_order_of_what_is_told_does_not_matter(
        starts in vec(prop::option::of(1_u64..50), 1..5), end in 50_u64..60, order in any::<[Index; 8]>(),
    ) {
        let mut told: Vec<PodSeen> = starts.iter().map(|start| pod("u", "p", *start)).collect();
        let mut last = finished(pod("u", "p", Some(49)), end);
        last.containers[0].devices = vec!["GPU-0".to_owned()];
        told.push(last);
        let mut shuffled = told.clone();
        for (from, to) in (0..shuffled.len()).zip(order) {
            let to = to.index(shuffled.len());
            shuffled.swap(from, to);
        }
        prop_assert_eq!(synced(&told), synced(&shuffled));
    }
}

#[test]
fn who_runs_is_as_it_was_told_last_and_nobody_of_a_pod_that_is_over() {
    let told = |running: Option<&str>, over| PodSeen {
        uid: "u".to_owned(),
        over,
        containers: vec![ContainerSeen {
            name: "c".to_owned(),
            running: running.map(str::to_owned),
            ..ContainerSeen::default()
        }],
        ..PodSeen::default()
    };
    let mut tenants = Tenants::default();
    for (id, over, runs) in [
        (Some("a"), false, Some("a")),
        (None, false, None),
        (Some("b"), false, Some("b")),
        (Some("b"), true, None),
    ] {
        tenants.observe(&told(id, over), 0);
        let running = tenants.running();
        assert_eq!(running.values().next().map(String::as_str), runs);
        assert!(running.keys().all(|holder| holder.pod_uid == "u" && holder.container == "c"));
    }
}

/// A container that ran from then on, after a run that is told to have begun then.
fn run(started_ms: u64, before_ms: u64, devices: &[&str]) -> ContainerSeen {
    ContainerSeen {
        name: "c".to_owned(),
        started_ms: Some(before_ms),
        run_started_ms: Some(started_ms),
        devices: devices.iter().map(|device| (*device).to_owned()).collect(),
        ..ContainerSeen::default()
    }
}

#[test]
fn a_pod_that_comes_again_under_its_uid_lives_again() {
    let first = PodSeen { containers: vec![run(5, 5, &["GPU-0"])], ..pod("u", "p", None) };
    let second = PodSeen { containers: vec![run(12, 5, &["GPU-1"])], ..first.clone() };
    let mut tenants = synced(std::slice::from_ref(&first));
    tenants.observe(&finished(first.clone(), 9), 100);
    tenants.observe(&first, 101);
    assert_eq!(held_by(&tenants).len(), 1, "that it ran until then is old news");
    assert!(tenants.holdings().of("GPU-0").is_empty());
    tenants.observe(&second, 110);
    assert_eq!(tenants.holdings().of("GPU-1")[0].pod_uid, "u", "nobody may call it dirty");
    let told = |at_ms| Some(End { at_ms, told: true });
    let lives = |tenants: &Tenants| -> Vec<_> {
        let tenures = tenants.tenures().into_iter();
        tenures.map(|one| (one.device, one.started_ms, one.end)).collect()
    };
    let (gpu_0, gpu_1) = ("GPU-0".to_owned(), "GPU-1".to_owned());
    assert_eq!(lives(&tenants), [(gpu_0.clone(), 5, told(9)), (gpu_1.clone(), 12, None)]);
    // Old news of the first life's end come late.
    tenants.observe(&finished(first, 9), 111);
    assert_eq!(lives(&tenants)[1].2, None);
    tenants.observe(&finished(second, 20), 120);
    assert_eq!(lives(&tenants), [(gpu_0, 5, told(9)), (gpu_1, 12, told(20))]);
    tenants.remove("u", 130);
    tenants.forget_before(21);
    assert_eq!(lives(&tenants), []);
}

#[test]
fn a_life_that_another_process_recorded_to_its_end_is_not_lived_again() {
    let second = PodSeen { containers: vec![run(12, 5, &["GPU-0"])], ..pod("u", "p", None) };
    let started = |tenants: &Tenants| tenants.tenures().iter().map(|one| one.started_ms).collect::<Vec<_>>();
    // Whichever is told first.
    let mut tenants = Tenants::default();
    tenants.remember_end("u", 9);
    tenants.observe(&second, 100);
    tenants.synced(&BTreeSet::from(["u".to_owned()]), 0);
    assert_eq!(started(&tenants), [12]);
    assert_eq!(tenants.holdings().of("GPU-0").len(), 1);
    let mut tenants = synced(&[second]);
    assert_eq!(started(&tenants), [5]);
    tenants.remember_end("u", 9);
    assert_eq!(started(&tenants), [12]);
    tenants.remember_end("u", 30);
    assert_eq!(started(&tenants), [12], "what is over and still said to run is no other life");
}

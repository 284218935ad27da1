//! The meter, as it is shipped: a kubelet that tells of pods, a counter that counts, a settlement that comes and goes, and a
//! plugin that is killed at any moment. No second is lost or doubled, and no millijoule.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant, SystemTime},
};

use plasma_proto::meter::{Quality, Record};

use crate::{
    node_pods::{NodePod, NodePods},
    plugin::{Node, Plugin, gpu},
    settlement::{Heard, Settlement},
};

/// What the counters say at first.
const COUNTER: u64 = 1_000_000;

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn pod(uid: &str, device: usize, started: u64) -> NodePod {
    NodePod {
        uid: uid.to_owned(),
        name: format!("name-{}", device % 2),
        devices: vec![gpu(device).uuid],
        started: Some(started),
        finished: None,
    }
}

fn node(gpus: usize) -> Node {
    let node = Node::new(gpus);
    node.change(|state| state.gpus.iter_mut().for_each(|gpu| gpu.energy_millijoules = Some(COUNTER)));
    node
}

/// Every GPU uses something else.
fn use_energy(node: &Node, by: u64) {
    node.change(|state| {
        for (gpu, at) in state.gpus.iter_mut().zip(1..) {
            *gpu.energy_millijoules.as_mut().unwrap() += by * at + at;
        }
    });
}

fn counter(node: &Node, device: usize) -> u64 {
    node.state().gpus[device].energy_millijoules.unwrap()
}

fn plugin(node: &Node, settlement: &Settlement) -> Plugin {
    let arguments = settlement.arguments();
    let mut all = vec!["--observe", "--scan-seconds", "1"];
    all.extend(arguments.iter().map(String::as_str));
    node.plugin_with(&all)
}

fn holder(record: &Record) -> Option<&str> {
    record.holder.as_ref().map(|holder| holder.pod_uid.as_str())
}

fn of<'a>(heard: &'a Heard, device: &str) -> Vec<&'a Record> {
    let is_of = |record: &&Record| record.device.as_ref().unwrap().gpu_uuid == device;
    heard.records.values().filter(is_of).collect()
}

fn is_over(heard: &Heard, uid: &str) -> bool {
    heard.records.values().any(|record| {
        record.holder.as_ref().is_some_and(|holder| holder.pod_uid == uid && holder.pod_is_over)
    })
}

/// The records of each GPU follow each other in time and energy, and each pod's cover its time.
fn must_add_up(heard: &Heard, pods: &BTreeMap<String, (u64, u64)>) {
    let journals: BTreeSet<&String> = heard.records.keys().map(|(journal, _)| journal).collect();
    assert_eq!(journals.len(), 1, "it is one journal all along");
    let numbers: Vec<u64> = heard.records.keys().map(|(_, sequence)| *sequence).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let devices: BTreeSet<String> =
        heard.records.values().map(|record| record.device.as_ref().unwrap().gpu_uuid.clone()).collect();
    for device in devices {
        let records = of(heard, &device);
        for pair in records.windows(2) {
            assert_eq!(pair[0].end_ms, pair[1].start_ms, "{:#?}", pair);
            let (before, after) = (pair[0].energy.as_ref().unwrap(), pair[1].energy.as_ref().unwrap());
            assert_eq!(
                (before.end_mj, &before.driver_epoch),
                (after.start_mj, &after.driver_epoch),
                "{pair:#?}"
            );
        }
        assert_eq!(records[0].energy.as_ref().unwrap().start_mj, COUNTER);
    }
    for (uid, (started, finished)) in pods {
        let ms = |record: &&Record| record.end_ms - record.start_ms;
        let records: Vec<_> = heard.records.values().filter(|record| holder(record) == Some(uid)).collect();
        let sum: u64 = records.iter().map(ms).sum();
        assert_eq!(sum, (finished - started) * 1000, "{uid}: {records:#?}");
        assert_eq!(records.iter().filter(|record| record.last).count(), 1, "{uid}: {records:#?}");
        assert!(records.last().unwrap().holder.as_ref().unwrap().pod_is_over);
    }
}

#[tokio::test]
async fn what_a_pod_held_and_used_is_told_exactly() {
    let node = node(1);
    let (pods, settlement) = (NodePods::start(&node, false), Settlement::start(&node.settlement()));
    let plugin = plugin(&node, &settlement);
    plugin.must_say("metering since").await;
    plugin.must_say("is found").await;
    let started = now() + 1;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pods.set(pod("u", 0, started));
    use_energy(&node, 5_000);
    tokio::time::sleep(Duration::from_secs(3)).await;
    use_energy(&node, 7_000);
    let ends = counter(&node, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let finished = now();
    pods.end_silently("u", finished);
    settlement.hears("the pod is over", |heard| is_over(heard, "u")).await;
    {
        let heard = settlement.heard.lock().unwrap();
        must_add_up(&heard, &BTreeMap::from([("u".to_owned(), (started, finished))]));
        let record = *of(&heard, &gpu(0).uuid).last().unwrap();
        assert_eq!(record.energy.as_ref().unwrap().end_mj, ends);
        assert_eq!((record.time_quality(), record.simulated), (Quality::Exact, true));
        assert_eq!(record.healthy_ms, record.end_ms - record.start_ms);
        let device = record.device.as_ref().unwrap();
        assert_eq!((&*device.product, &*device.instance_product), ("NVIDIA-H100-80GB-HBM3", ""));
        assert_eq!((&device.id, &device.uuid, device.milli_gpu), (&gpu(0).uuid, &gpu(0).uuid, 1000));
        let named = record.holder.as_ref().unwrap();
        assert_eq!((&*named.namespace, &*named.pod, &*named.container), ("team", "name-0", "main"));
        assert_eq!((&*heard.hellos[0].node, &*heard.tokens[0]), ("node", "Bearer first"));
    }
    plugin.becomes("/metrics", "plasma_meter_unacknowledged_records 0").await;
    plugin.becomes("/metrics", "plasma_meter_on 1").await;
    let (_, metrics) = plugin.get("/metrics").await;
    assert!(metrics.contains("plasma_meter_records_total{quality=\"exact\"}"), "{metrics}");
    // Nothing of it is told again, and all of before is promised to be told.
    settlement.hears("it is complete", |heard| heard.until_ms > finished * 1000).await;
    assert_eq!(settlement.heard.lock().unwrap().repeated, 0);
}

#[tokio::test]
async fn each_share_that_a_pod_holds_of_one_gpu_has_its_own_records() {
    let node = node(1);
    let (pods, settlement) = (NodePods::start(&node, true), Settlement::start(&node.settlement()));
    let arguments = settlement.arguments();
    let mut all = vec!["--observe", "--scan-seconds", "1", "--replicas", "4"];
    all.extend(arguments.iter().map(String::as_str));
    let plugin = node.plugin_with(&all);
    plugin.must_say("metering since").await;
    plugin.must_say("is found").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (uuid, at) = (gpu(0).uuid, now());
    let shares = [format!("{uuid}::0"), format!("{uuid}::2")];
    pods.set(NodePod { devices: shares.to_vec(), ..pod("u", 0, at) });
    tokio::time::sleep(Duration::from_secs(2)).await;
    pods.end_silently("u", at + 2);
    settlement.hears("the pod is over", |heard| is_over(heard, "u")).await;
    let heard = settlement.heard.lock().unwrap();
    let of_it = heard.records.values().filter(|record| holder(record) == Some("u"));
    let told: Vec<_> = of_it
        .map(|record| {
            let device = record.device.as_ref().unwrap();
            (&device.id, &device.uuid, device.milli_gpu, record.end_ms - record.start_ms)
        })
        .collect();
    assert_eq!(told, shares.each_ref().map(|id| (id, &uuid, 250, 2000)));
}

#[tokio::test]
async fn what_ended_while_the_kubelet_hung_is_told_exactly() {
    let node = node(1);
    let (pods, settlement) = (NodePods::start(&node, false), Settlement::start(&node.settlement()));
    let plugin = plugin(&node, &settlement);
    plugin.must_say("metering since").await;
    plugin.must_say("is found").await;
    let started = now() + 1;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pods.set(pod("u", 0, started));
    plugin.must_say("is held by pod").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pods.hang(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let finished = now();
    pods.end_silently("u", finished);
    plugin.must_say("the kubelet's Pods API hasn't answered for 10s").await;
    pods.hang(false);
    settlement.hears("the pod is over", |heard| is_over(heard, "u")).await;
    let heard = settlement.heard.lock().unwrap();
    must_add_up(&heard, &BTreeMap::from([("u".to_owned(), (started, finished))]));
}

/// The cut lasts for so long in the suite. `CONTRIBUTING.md` has the command that cuts for ten minutes.
const CUT_SECONDS: u64 = 10;

#[tokio::test]
async fn a_long_cut_loses_and_doubles_nothing() {
    let seconds = std::env::var("PLASMA_CUT_SECONDS").map_or(CUT_SECONDS, |text| text.parse().unwrap());
    let each = Duration::from_millis((seconds * 10).max(1_100));
    let rounds = 3 + Duration::from_secs(seconds).as_millis().div_ceil(each.as_millis());
    let cut = cut(rounds.try_into().unwrap(), each).await;
    assert!(cut >= Duration::from_secs(seconds), "{cut:?}");
}

/// So many pods on each GPU, one after the other and each for so long, and one that is there throughout. After the third
/// round settlement is cut off until all are over, and the plugin is killed meanwhile. For how long that was.
async fn cut(rounds: u64, each: Duration) -> Duration {
    let node = node(8);
    let (pods, mut settlement) = (NodePods::start(&node, true), Settlement::start(&node.settlement()));
    let mut metered = plugin(&node, &settlement);
    metered.must_say("the meter reports to").await;
    metered.must_say("is found").await;
    // What began before the meter isn't all its business.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It takes records and says nothing, then it is gone.
    settlement.acknowledge(false);
    let throughout = now();
    pods.set(pod("throughout", 7, throughout));
    let (mut held, mut began) = (BTreeMap::new(), Instant::now());
    for round in 0..rounds {
        for device in 0..7 {
            let (uid, at) = (format!("pod-{round}-{device}"), now());
            pods.set(pod(&uid, device, at));
            held.insert(uid, (at, at));
        }
        use_energy(&node, 1_000 + round);
        tokio::time::sleep(each).await;
        for device in 0..7 {
            let uid = format!("pod-{round}-{device}");
            held.get_mut(&uid).unwrap().1 = now();
            pods.end_silently(&uid, held[&uid].1);
        }
        if round == 2 {
            settlement.stop();
            began = Instant::now();
        }
        if round == rounds * 2 / 3 {
            metered.kill();
            metered = plugin(&node, &settlement);
        }
    }
    let ends: Vec<u64> = (0..8).map(|device| counter(&node, device)).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for device in 0..7 {
        let (uid, at) = (format!("last-{device}"), now());
        pods.set(pod(&uid, device, at - 1));
        pods.end_silently(&uid, at);
        held.insert(uid, (at - 1, at));
    }
    held.insert("throughout".to_owned(), (throughout, now()));
    pods.end_silently("throughout", held["throughout"].1);
    metered.counts("plasma_meter_unacknowledged_records", held.len() as u64).await;
    fs::write(node.settlement().join("token"), "second").unwrap();
    let (cut, again) = (began.elapsed(), Instant::now());
    settlement.start_again();
    settlement.hears("all is told", |heard| held.keys().all(|uid| is_over(heard, uid))).await;
    let caught_up = again.elapsed();
    {
        let heard = settlement.heard.lock().unwrap();
        must_add_up(&heard, &held);
        for (device, end) in ends.iter().enumerate() {
            let records = of(&heard, &gpu(device).uuid);
            assert_eq!(records.last().unwrap().energy.as_ref().unwrap().end_mj, *end);
            let energy =
                |record: &&Record| record.energy.as_ref().map(|one| one.end_mj - one.start_mj).unwrap();
            assert_eq!(records.iter().map(energy).sum::<u64>(), end - COUNTER);
        }
        assert!(heard.tokens.contains(&"Bearer second".to_owned()), "the token is read at each call");
        eprintln!(
            "cut for {cut:.1?}: {} records of {} pods, {} of them told twice; all was there {caught_up:.1?} later",
            heard.records.len(),
            held.len(),
            heard.repeated
        );
    }
    // What was told and not acknowledged was told again; now it is acknowledged, and forgotten.
    settlement.acknowledge(true);
    metered.becomes("/metrics", "plasma_meter_unacknowledged_records 0").await;
    cut
}

#[tokio::test]
async fn a_plugin_that_is_killed_at_any_moment_goes_on_where_it_was() {
    let node = node(2);
    let (pods, mut settlement) = (NodePods::start(&node, true), Settlement::start(&node.settlement()));
    let mut metered = plugin(&node, &settlement);
    metered.must_say("metering since").await;
    metered.must_say("is found").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = now();
    pods.set(pod("long", 0, began));
    let mut held = BTreeMap::new();
    let mut random = u64::from(std::process::id());
    for round in 0..12_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (uid, at) = (format!("short-{round}"), now());
        pods.set(pod(&uid, 1, at));
        use_energy(&node, random % 10_000);
        tokio::time::sleep(Duration::from_millis(random >> 32 & 1023)).await;
        metered.kill();
        if round % 4 == 1 {
            settlement.stop();
        }
        use_energy(&node, random % 1_000);
        tokio::time::sleep(Duration::from_millis(random >> 42 & 1023)).await;
        pods.end_silently(&uid, now().max(at + 1));
        held.insert(uid, (at, now().max(at + 1)));
        tokio::time::sleep(Duration::from_secs((at + 1).saturating_sub(now()))).await;
        metered = plugin(&node, &settlement);
        if round % 4 == 3 {
            settlement.start_again();
        }
    }
    let ends = [counter(&node, 0), counter(&node, 1)];
    tokio::time::sleep(Duration::from_secs(3)).await;
    let end = now();
    pods.end_silently("long", end);
    held.insert("long".to_owned(), (began, end));
    pods.set(pod("last", 1, end - 1));
    pods.end_silently("last", end);
    held.insert("last".to_owned(), (end - 1, end));
    settlement.hears("all is told", |heard| held.keys().all(|uid| is_over(heard, uid))).await;
    let heard = settlement.heard.lock().unwrap();
    must_add_up(&heard, &held);
    for (device, end) in ends.iter().enumerate() {
        let records = of(&heard, &gpu(device).uuid);
        assert_eq!(records.last().unwrap().energy.as_ref().unwrap().end_mj, *end);
    }
}

#[tokio::test]
async fn a_journal_of_a_later_version_is_left_as_it_is_and_the_plugin_serves() {
    let node = node(1);
    fs::create_dir_all(node.meter()).unwrap();
    let file = node.meter().join("journal.jsonl");
    let json = r#"{"header":{"version":7,"more":true}}"#;
    let written = format!("{} {json}\n", "3a5c8a6d6a3ff6ba");
    fs::write(&file, &written).unwrap();
    let plugin = node.plugin_with(&["--observe", "--scan-seconds", "1"]);
    // Its checksum is of no known version's, so it is damage: kept aside, and a new one begins.
    plugin.must_say("is not a meter's journal any more").await;
    plugin.becomes("/metrics", "plasma_meter_on 1").await;
    drop(plugin);
    let aside = fs::read_dir(node.meter()).unwrap().map(|file| file.unwrap().path());
    let aside = aside.into_iter().find(|path| path.to_string_lossy().contains("corrupt")).unwrap();
    assert_eq!(fs::read_to_string(aside).unwrap(), written);

    fs::write(&file, checked(json)).unwrap();
    let plugin = node.plugin_with(&["--observe", "--scan-seconds", "1"]);
    plugin.must_say("journal.jsonl is of version 7, and this program knows versions up to 1").await;
    plugin.becomes("/metrics", "plasma_meter_on 0").await;
    plugin.becomes("/readyz", "ok").await;
    assert_eq!(fs::read_to_string(&file).unwrap(), checked(json));
}

/// A line with its checksum, by sha256sum.
fn checked(json: &str) -> String {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    format!("{} {json}\n", &sum[..16])
}

#[tokio::test]
async fn a_disk_that_went_back_gives_no_number_twice() {
    let node = node(1);
    let (pods, settlement) = (NodePods::start(&node, true), Settlement::start(&node.settlement()));
    let mut metered = plugin(&node, &settlement);
    metered.must_say("is found").await;
    let file = node.meter().join("journal.jsonl");
    let (mut old, mut at) = (Vec::new(), now());
    for uid in ["first", "second", "third"] {
        pods.set(pod(uid, 0, at));
        pods.end_silently(uid, at + 1);
        at += 1;
        settlement.hears(uid, |heard| is_over(heard, uid)).await;
        if uid == "first" {
            old = fs::read(&file).unwrap();
        }
    }
    metered.becomes("/metrics", "plasma_meter_unacknowledged_records 0").await;
    metered.kill();
    fs::write(&file, old).unwrap();
    // Told of them again, it could write as many records as settlement has before it hears from settlement.
    for uid in ["second", "third"] {
        pods.remove(uid);
    }
    let metered = plugin(&node, &settlement);
    metered.must_say("is not a meter's journal any more: settlement has its records up to").await;
    let at = now();
    pods.set(pod("fourth", 0, at));
    pods.end_silently("fourth", at + 2);
    settlement.hears("the new journal", |heard| is_over(heard, "fourth")).await;
    metered.becomes("/metrics", "plasma_meter_on 1").await;
    let heard = settlement.heard.lock().unwrap();
    let journals: BTreeSet<&String> = heard.records.keys().map(|(journal, _)| journal).collect();
    assert_eq!(journals.len(), 2, "the new records are under another name");
}

#[tokio::test]
async fn two_plugins_beside_each_other_share_one_journal() {
    let node = node(1);
    let (pods, settlement) = (NodePods::start(&node, true), Settlement::start(&node.settlement()));
    let mut old = plugin(&node, &settlement);
    old.must_say("metering since").await;
    let new = plugin(&node, &settlement);
    new.must_say("another process of this node has the meter's journal and records").await;
    // That is no fault.
    new.becomes("/metrics", "plasma_meter_on 0").await;
    assert!(!new.log().contains("the meter is off"), "{}", new.log());
    old.terminate().await;
    new.must_say("metering since").await;
    new.must_say("is found").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let at = now();
    pods.set(pod("u", 0, at));
    tokio::time::sleep(Duration::from_secs(2)).await;
    pods.end_silently("u", at + 2);
    settlement.hears("the pod is over", |heard| is_over(heard, "u")).await;
    must_add_up(&settlement.heard.lock().unwrap(), &BTreeMap::from([("u".to_owned(), (at, at + 2))]));
}

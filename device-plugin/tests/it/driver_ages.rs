//! Drivers that lack functions: what they can't be asked is left out, and nothing else.

use plasma_fake_nvml::older;

use crate::{
    dirt::running,
    inspect::run,
    kubelet::{Kubelet, list},
    metrics::{talkative, values},
    node_pods::{NodePod, NodePods},
    plugin::Node,
};

/// What even the oldest driver has.
const EVERY_DRIVER: [&str; 12] = [
    "nvmlInit_v2",
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlErrorString",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMinorNumber",
    "nvmlEventSetFree",
    "nvmlDeviceGetHandleByUUID",
];

/// What came later, and what is then missing on the page.
const LATER: [(&str, &str); 16] = [
    ("nvmlDeviceGetMemoryInfo_v2", "plasma_gpu_memory_reserved_bytes"),
    ("nvmlDeviceGetUtilizationRates", "plasma_gpu_utilization_ratio"),
    ("nvmlDeviceGetTemperature", "plasma_gpu_temperature_celsius"),
    ("nvmlDeviceGetPowerUsage", "plasma_gpu_power_watts"),
    ("nvmlDeviceGetTotalEnergyConsumption", "plasma_gpu_energy_joules_total"),
    ("nvmlDeviceGetFieldValues", "plasma_gpu_memory_temperature_celsius"),
    ("nvmlDeviceGetClockInfo", "plasma_gpu_sm_clock_hertz"),
    ("nvmlDeviceGetEncoderUtilization", "plasma_gpu_encoder_utilization_ratio"),
    ("nvmlDeviceGetDecoderUtilization", "plasma_gpu_decoder_utilization_ratio"),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", "plasma_gpu_clock_event"),
    ("nvmlGpmQueryDeviceSupport", "plasma_gpu_sm_active_ratio"),
    ("nvmlGpmSampleAlloc", "plasma_gpu_sm_active_ratio"),
    ("nvmlGpmSampleGet", "plasma_gpu_sm_active_ratio"),
    ("nvmlGpmSampleFree", "plasma_gpu_sm_active_ratio"),
    ("nvmlGpmMetricsGet", "plasma_gpu_sm_active_ratio"),
    ("nvmlEventSetWait_v2", "plasma_gpu_last_xid"),
];

/// What drivers since 510 alone have of all that tells who uses a GPU.
const USE: [&str; 3] = [
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
];

#[tokio::test]
async fn where_a_driver_tells_nothing_of_a_gpus_use_it_is_offered_again_after_its_pod() {
    let mut node = Node::new(1);
    // What is reserved is nobody's.
    node.change(|state| state.gpus[0] = talkative());
    let copy = node.folder().join("older.so");
    older::without(&node.library, &USE, &copy).unwrap();
    node.library = copy;
    let pods = NodePods::start(&node, true);
    let pod = running();
    pods.set(pod.clone());
    let mut kubelet = Kubelet::start(node.sockets());
    let plugin = node.plugin();
    let mut device_plugin = kubelet.registered().await;
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    plugin.must_say("is held by pod team/p").await;
    pods.set(NodePod { finished: Some(1_050), ..pod });
    assert_eq!(device_plugin.next_list().await, list(&[(0, false)]), "until a look began after it");
    assert_eq!(device_plugin.next_list().await, list(&[(0, true)]));
    assert!(!plugin.said("is not given to pods"), "{}", plugin.log());
}

#[tokio::test]
async fn an_older_driver_leaves_out_what_it_lacks_and_its_gpus_are_healthy() {
    let mut node = Node::new(1);
    node.change(|state| state.gpus[0] = talkative());
    let copy = node.folder().join("older.so");
    older::without(&node.library, &LATER.map(|(function, _)| function), &copy).unwrap();
    node.library = copy;
    let plugin = node.plugin();
    plugin.becomes("/metrics", "outcome=\"answered\"} 3").await;
    let told = values(&plugin.get("/metrics").await.1);
    assert_eq!(told["plasma_gpu_healthy"], 1.0);
    assert_eq!(
        told["plasma_gpu_memory_used_bytes"],
        f64::from(1490 + 480) * 1_048_576.0,
        "as version 1 counts"
    );
    for (function, metric) in LATER {
        let leaked: Vec<_> = told.keys().filter(|name| name.starts_with(metric)).collect();
        assert!(leaked.is_empty(), "without {function} nobody can tell {leaked:?}");
    }
}

#[test]
fn whatever_function_is_missing_every_question_is_answered_or_refused() {
    let functions: Vec<&str> = LATER
        .map(|(function, _)| function)
        .iter()
        .chain(&USE[1..])
        .chain(&EVERY_DRIVER[4..])
        .copied()
        .collect();
    // Each waits more than it computes.
    std::thread::scope(|threads| {
        for some in functions.chunks(6) {
            threads.spawn(|| some.iter().for_each(|missing| must_answer_or_refuse(missing)));
        }
    });
}

fn must_answer_or_refuse(missing: &str) {
    let mut node = Node::new(1);
    node.change(|state| state.gpus[0] = talkative());
    let copy = node.folder().join("older.so");
    older::without(&node.library, &[missing], &copy).unwrap();
    node.library = copy;
    let checked = run(&node, &["check"]);
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(!said.contains("panicked"), "without {missing}:\n{said}");
    let refused = said.lines().any(|line| line.starts_with("no ") && line.contains(missing))
        || said.contains("it is not NVML, or only a part of it");
    // The first version is asked only where there is no second.
    assert_eq!(refused, missing != "nvmlDeviceGetMemoryInfo", "without {missing}:\n{said}");
}

#[test]
fn a_driver_of_today_answers_every_question() {
    let node = Node::new(1);
    node.change(|state| {
        let mut gpu = talkative();
        gpu.recovery_action = Some(0);
        gpu.mig = Some(false);
        gpu.compute_capability = Some([9, 0]);
        gpu.nvlinks = vec!["switch".to_owned()];
        gpu.numa_node = Some(0);
        state.cuda_version = Some(13_000);
        state.gpus[0] = gpu;
    });
    let said = String::from_utf8(run(&node, &["check"]).stdout).unwrap();
    let refused: Vec<&str> = said.lines().filter(|line| line.starts_with("no ")).collect();
    assert!(said.lines().count() > 40 && refused.is_empty(), "{refused:#?}");
}

//! The verbs that need no kubelet.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use plasma_fake_nvml::{Instance, Near, STATE_VARIABLE};
use serde_json::Value;

use crate::plugin::{Node, gpu};

pub(crate) fn run(node: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plasma-device-plugin"));
    command.env_clear().env(STATE_VARIABLE, node.state_file()).args(arguments);
    command.arg("--nvml-library").arg(&node.library).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn inspecting_shows_what_is_there_and_what_is_wrong() {
    let node = Node::new(2);
    node.change(|state| {
        state.cuda_version = Some(13_000);
        state.gpus[0].compute_capability = Some([9, 0]);
        state.gpus[1].recovery_action = Some(1);
    });
    let seen = run(&node, &["inspect"]);
    let table = text(&seen.stdout);
    assert!(
        seen.status.success() && table.starts_with("driver 580.95.05, CUDA 13.0, simulated\n"),
        "{table}"
    );
    let line = |uuid: &str| table.lines().find(|line| line.contains(uuid)).unwrap().to_owned();
    assert!(line(&gpu(0).uuid).contains("Healthy") && line(&gpu(0).uuid).contains("9.0"), "{table}");
    assert!(line(&gpu(1).uuid).contains("the driver asks for a GPU reset"), "{table}");

    let seen: Value = serde_json::from_slice(&run(&node, &["inspect", "-o", "json"]).stdout).unwrap();
    assert_eq!(seen["spec"]["gpus"][0]["product"], "NVIDIA-H100-80GB-HBM3");
    assert_eq!(seen["status"]["gpus"][1]["health"], "Unhealthy");
}

#[test]
fn checking_says_what_the_driver_answers_to_each_question() {
    let node = Node::new(1);
    node.change(|state| state.gpus[0].recovery_action = Some(0));
    let checked = run(&node, &["check"]);
    let told = text(&checked.stdout);
    assert!(checked.status.success(), "{told}");
    for line in [
        "ok    nvmlInit_v2: loaded",
        "ok    GPU 0  field 230: GET_GPU_RECOVERY_ACTION: 0",
        "ok    GPU 0  nvmlDeviceRegisterEvents (XIDs): done",
        "ok    GPU 0  nvmlEventSetWait_v2: None",
        "ok    GPU 0  nvmlDeviceGetHandleByUUID: done",
        "ok    GPU 0  nvmlDeviceGetMemoryLimits_v1 (of all cgroups): None",
        "no    GPU 0  nvmlDeviceGetMigMode: ",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{line:?} is missing in\n{told}");
    }
    let all: Value = serde_json::from_slice(&run(&node, &["check", "-o", "json"]).stdout).unwrap();
    assert_eq!(all[1]["question"], "nvmlSystemGetDriverVersion");
    assert_eq!((&all[1]["answer"], &all[1]["fault"]), (&Value::from("\"580.95.05\""), &Value::Null));
}

#[test]
fn a_divided_gpu_is_shown_and_asked_with_its_instances() {
    let node = Node::new(1);
    node.change(|state| {
        state.gpus[0].mig = Some(true);
        state.gpus[0].instances = vec![Instance {
            uuid: "MIG-7".to_owned(),
            profile: "1g.10gb".to_owned(),
            gpu_instance: 7,
            memory_mib: 9984,
            ..Instance::default()
        }];
    });
    let table = text(&run(&node, &["inspect"]).stdout);
    let line = table.lines().find(|line| line.contains("MIG-7")).unwrap();
    assert!(line.contains("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb") && line.contains("Healthy"), "{table}");
    let told = text(&run(&node, &["check"]).stdout);
    for line in [
        "ok    GPU 0  nvmlDeviceGetMaxMigDeviceCount: 7",
        "ok    GPU 0  nvmlDeviceGetName (of an instance): \"NVIDIA H100 80GB HBM3 MIG 1g.10gb\"",
        "ok    GPU 0  nvmlDeviceGetGpuInstanceId, nvmlDeviceGetComputeInstanceId: Instance { gpu: 7, compute: 0 }",
        "ok    GPU 0  nvmlDeviceGetAttributes_v2: ",
        "ok    GPU 0  nvmlDeviceGetHandleByUUID (of an instance): done",
        "ok    GPU 0  nvmlDeviceGetMemoryInfo_v2 (of an instance): ",
        "no    GPU 0  nvmlDeviceGetComputeRunningProcesses_v3 (of an instance): ",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{line:?} is missing in\n{told}");
    }
}

#[test]
fn a_gpus_links_and_neighbours_are_asked_for() {
    let node = Node::new(2);
    node.change(|state| {
        state.gpus[0].nvlinks = vec![gpu(1).uuid, "switch".to_owned()];
        state.near = vec![Near { gpus: [0, 1], level: 10 }];
    });
    let told = text(&run(&node, &["check"]).stdout);
    for line in [
        "ok    GPU 0  nvmlDeviceGetNvLinkState (each link): [0, 1]",
        "ok    GPU 0  nvmlDeviceGetNvLinkRemoteDeviceType (each active link): [0, 2]",
        "ok    GPU 0  nvmlDeviceGetNvLinkRemotePciInfo_v2 (each link to a GPU): [\"",
        "ok    GPU 0  nvmlDeviceGetTopologyCommonAncestor (each other GPU): [Single]",
        "no    GPU 1  nvmlDeviceGetNvLinkState (each link): ",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{line:?} is missing in\n{told}");
    }
}

/// What a verb of a driver that hangs may take, patience aside.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_question_that_is_never_answered_is_named() {
    let node = Node::new(2);
    node.change(|state| {
        state.hang.insert("nvmlDeviceGetPowerUsage".to_owned());
    });
    let begun = Instant::now();
    let checked = run(&node, &["check", "--patience-seconds", "1"]);
    let (fault, told) = (text(&checked.stderr), text(&checked.stdout));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(checked.status.code(), Some(3), "{fault}");
    assert!(fault.contains("GPU 0: nvmlDeviceGetPowerUsage has not been answered for 1s"), "{fault}");
    for line in [
        "ok    GPU 0  nvmlDeviceGetTemperature: ",
        "hangs GPU 0  nvmlDeviceGetPowerUsage: never answered",
        "-     GPU 0  nvmlDeviceGetTotalEnergyConsumption: not asked",
        "-     GPU 1  everything: not asked",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{line:?} is missing in\n{told}");
    }
}

#[test]
fn a_driver_that_hangs_holds_up_no_other_verb() {
    let node = Node::new(1);
    for hangs in ["nvmlInit_v2", "nvmlDeviceGetUUID"] {
        node.change(|state| state.hang = [hangs.to_owned()].into());
        for verb in ["inspect", "cdi"] {
            let begun = Instant::now();
            let ended = run(&node, &[verb, "--patience-seconds", "1"]);
            let fault = text(&ended.stderr);
            assert!(begun.elapsed() < SOON, "{verb}: {:?}", begun.elapsed());
            assert!(fault.contains("the driver has not answered for 1s"), "{verb}: {fault}");
            assert_eq!((ended.status.code(), ended.stdout.len()), (Some(3), 0), "{verb}: {fault}");
        }
    }
    let refused = run(&node, &["inspect", "--patience-seconds", "51"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
}

#[test]
fn the_cdi_spec_is_printed_and_nothing_is_written() {
    let node = Node::new(2);
    let printed = run(&node, &["cdi", "--format", "json"]);
    let spec: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(spec["devices"][1]["name"], gpu(1).uuid);
    let yaml = text(&run(&node, &["cdi"]).stdout);
    assert!(yaml.contains("cdiVersion: ") && yaml.contains("kind: compute.plasma.dev/gpu"), "{yaml}");
    assert!(!node.cdi().exists());
}

#[test]
fn without_a_driver_all_say_so() {
    let mut node = Node::new(1);
    node.library = node.folder().join("libnvidia-ml.so.1");
    for verb in ["inspect", "check", "cdi"] {
        let said = run(&node, &[verb]);
        let all = text(&said.stdout) + &text(&said.stderr);
        assert!(said.status.code() == Some(1) && all.contains("libnvidia-ml.so.1"), "{verb}: {all}");
    }
}

//! The spec that is written, on small machines; what a real one gets is compared in the shell's tests.

use proptest::prelude::*;

use super::*;
use crate::Library;

fn device(id: &str, nodes: &[&str]) -> HandOut {
    HandOut { id: id.to_owned(), device_nodes: nodes.iter().map(|node| (*node).to_owned()).collect() }
}

fn driver() -> Driver {
    let library = |host_path: &str, names: &[&str]| Library {
        host_path: host_path.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let file = |kind, path: &str| DriverFile {
        kind,
        host_path: format!("/run/nvidia/driver{path}"),
        path: path.to_owned(),
    };
    Driver {
        libraries: vec![library("/opt/libcuda.so.580.1", &["libcuda.so.1", "libcuda.so"])],
        files: vec![
            file(FileKind::Program, "/usr/local/nvidia/bin/nvidia-smi"),
            file(FileKind::Socket, "/run/nvidia-persistenced/socket"),
        ],
        ldconfig: None,
    }
}

#[test]
fn the_hosts_ldconfig_runs_in_containers_only_where_it_is_asked_for() {
    let devices = [device("GPU-0", &["/dev/nvidia0"])];
    assert!(spec(&devices, &[], Some(&driver())).container_edits.hooks.is_empty());
    let asked = Driver { ldconfig: Some("/sbin/ldconfig".to_owned()), ..driver() };
    let hooks = spec(&devices, &[], Some(&asked)).container_edits.hooks;
    let [hook] = hooks.as_slice() else { panic!("one hook: {hooks:?}") };
    assert_eq!((hook.hook_name.as_str(), hook.path.as_str()), ("createContainer", "/sbin/ldconfig"));
    assert_eq!(hook.args, ["ldconfig", "-r", "."]);
    assert!(!hook.env.is_empty(), "without variables of its own it gets the image's");
    assert!(spec(&devices, &[], None).container_edits.hooks.is_empty(), "nothing pretended needs a cache");
}

#[test]
fn a_container_gets_its_gpu_and_the_driver_and_no_other_gpu() {
    let devices = [device("GPU-0", &["/dev/nvidia0"]), device("GPU-1", &["/dev/nvidia1"])];
    let spec = spec(&devices, &["/dev/nvidiactl".to_owned()], Some(&driver()));
    assert_eq!((spec.cdi_version.as_str(), spec.kind.as_str()), ("0.5.0", "compute.plasma.dev/gpu"));
    let nodes_of =
        |edits: &Edits| edits.device_nodes.iter().map(|node| node.path.clone()).collect::<Vec<_>>();
    let named: Vec<_> =
        spec.devices.iter().map(|device| (device.name.clone(), nodes_of(&device.container_edits))).collect();
    assert_eq!(
        named,
        [
            ("GPU-0".to_owned(), vec!["/dev/nvidia0".to_owned()]),
            ("GPU-1".to_owned(), vec!["/dev/nvidia1".to_owned()])
        ]
    );
    assert_eq!(nodes_of(&spec.container_edits), ["/dev/nvidiactl"]);
    assert_eq!(spec.container_edits.env, ["NVIDIA_VISIBLE_DEVICES=void", "TRITON_LIBCUDA_PATH=/usr/lib"]);
    let mounts = spec.container_edits.mounts.iter();
    let mounts: Vec<_> =
        mounts.map(|mount| (mount.host_path.as_str(), mount.container_path.as_str())).collect();
    let cuda = "/opt/libcuda.so.580.1";
    assert_eq!(
        mounts,
        [
            (cuda, "/usr/lib/libcuda.so.1"),
            (cuda, "/usr/lib64/libcuda.so.1"),
            (cuda, "/usr/lib/libcuda.so"),
            (cuda, "/usr/lib64/libcuda.so"),
            ("/run/nvidia/driver/usr/local/nvidia/bin/nvidia-smi", "/usr/bin/nvidia-smi"),
            ("/run/nvidia/driver/run/nvidia-persistenced/socket", "/run/nvidia-persistenced/socket"),
        ]
    );
}

#[test]
fn a_pretended_gpu_is_a_device_node_that_swallows_everything() {
    let spec = spec(&[device("GPU-0", &[])], &[], None);
    let node = &spec.devices[0].container_edits.device_nodes[0];
    assert_eq!(
        (node.path.as_str(), node.host_path.as_deref()),
        ("/dev/plasma-simulated/GPU-0", Some("/dev/null"))
    );
    assert_eq!(spec.container_edits.env, ["PLASMA_SIMULATED=true"]);
    assert!(spec.container_edits.mounts.is_empty());
}

#[test]
fn a_name_that_runtimes_refuse_would_spoil_the_file_for_all() {
    let devices = [
        device("GPU 0", &["/dev/nvidia0"]),
        device("", &[]),
        device("GPU-2", &[]),
        device("MIG-1", &["/dev/nvidia1"]),
    ];
    let spec = spec(&devices, &[], Some(&driver()));
    let names: Vec<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["MIG-1"]);
}

proptest! {
    /// Whatever NVML calls its GPUs: names are valid, no device is without edits, and the text says the same again.
    #[test]
    fn what_is_written_can_be_read_and_is_valid(ids in prop::collection::vec("[a-zA-Z0-9_.: /-]{0,12}", 0..5), real: bool) {
        let devices: Vec<HandOut> = ids.iter().map(|id| device(id, &["/dev/nvidia0"])).collect();
        let written = spec(&devices, &[], real.then(driver).as_ref());
        for device in &written.devices {
            prop_assert!(is_device_name(&device.name));
            prop_assert!(device.container_edits != Edits::default(), "runtimes refuse empty edits");
        }
        let text = serde_saphyr::to_string(&written).unwrap();
        prop_assert_eq!(serde_saphyr::from_str::<Spec>(&text).unwrap(), written);
    }
}

//! The table: each case under Kubernetes' own name, what is done here in its place, and the function that does it.

mod assignments;
mod failures;
mod pod_resources;
mod rollouts;
mod status;

use anyhow::Result;

use super::stage::Stage;
use crate::harness::Way;

/// Both ways of registration.
const BOTH: &[Way] = &[Way::Watched, Way::Classic];
/// Cases about one registration, which only the classic way tells apart.
const CLASSIC: &[Way] = &[Way::Classic];

/// One case.
#[derive(Debug)]
pub(super) struct Case {
    /// The file in `test/e2e_node`.
    pub(super) file: &'static str,
    /// The name in that file.
    pub(super) name: &'static str,
    /// How it is run here, where that isn't obvious.
    pub(super) here: &'static str,
    pub(super) ways: &'static [Way],
    /// Whether it waits for minutes.
    pub(super) is_long: bool,
    pub(super) run: fn(&mut Stage) -> Result<()>,
}

impl Case {
    /// Its name as a file's.
    pub(super) fn slug(&self) -> String {
        let words =
            self.name.split(|sign: char| !sign.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.take(12).collect::<Vec<_>>().join("-").to_lowercase()
    }
}

const fn case(
    file: &'static str,
    name: &'static str,
    here: &'static str,
    ways: &'static [Way],
    run: fn(&mut Stage) -> Result<()>,
) -> Case {
    Case { file, name, here, ways, is_long: false, run }
}

const fn long(case: Case) -> Case {
    Case { is_long: true, ..case }
}

const PLUGIN: &str = "device_plugin_test.go";
const FAILURES: &str = "device_plugin_failures_test.go";
const STATUS: &str = "device_plugin_failures_pod_status_test.go";
const MULTIPLE: &str = "device_plugin_multiple_test.go";
const RESOURCES: &str = "podresources_test.go";

const AT_THE_MANAGER: &str = "a container sees what the device manager hands to the container runtime";
const LOST: &str = "a GPU falls off the bus, and is back";
const DOOR: &str = "the calls fail at a door in front of the plugin, which by itself answers them";

pub(super) const CASES: &[Case] = &[
    case(PLUGIN, "Can schedule a pod that requires a device", AT_THE_MANAGER, BOTH, assignments::schedule),
    case(
        PLUGIN,
        "can make a CDI device accessible in a container",
        "the container runtime is handed one CDI name; the spec on disk defines it, with one device node: that of the GPU",
        BOTH,
        assignments::cdi,
    ),
    case(
        PLUGIN,
        "Keeps device plugin assignments across pod restarts (no kubelet restart, no device plugin restart)",
        "the container is made a second time",
        BOTH,
        assignments::pod_restart,
    ),
    case(
        PLUGIN,
        "Keeps device plugin assignments across kubelet restarts (no pod restart, no device plugin restart)",
        "the managers are killed and started again; the container runs on",
        BOTH,
        assignments::kubelet_restart,
    ),
    case(
        PLUGIN,
        "Keeps device plugin assignments across pod and kubelet restarts (no device plugin restart)",
        "the container is made again before and after the managers are killed",
        BOTH,
        assignments::pod_and_kubelet_restart,
    ),
    case(
        PLUGIN,
        "will not attempt to admit the succeeded pod after the kubelet restart and device plugin removed",
        "the device manager's part: without the plugin it starts with its checkpoint, and holds nothing for the pod; \
         that finished pods aren't admitted is the kubelet's, not the manager's",
        BOTH,
        assignments::succeeded_pod,
    ),
    case(
        PLUGIN,
        "Keeps device plugin assignments after the device plugin has restarted (no kubelet restart, pod restart)",
        "the plugin is killed",
        BOTH,
        assignments::plugin_restart,
    ),
    case(
        PLUGIN,
        "Keeps device plugin assignments after kubelet restart and device plugin restart (no pod restart)",
        "the managers are killed, then the plugin",
        BOTH,
        assignments::kubelet_and_plugin_restart,
    ),
    case(
        PLUGIN,
        "[OrphanedPods] Ensures pods consuming devices deleted while kubelet is down are cleaned up correctly",
        "the pod isn't there any more when the managers start; both GPUs can be given again",
        BOTH,
        assignments::orphaned_pod,
    ),
    case(
        PLUGIN,
        "Can schedule a pod with a restartable init container",
        AT_THE_MANAGER,
        BOTH,
        assignments::restartable_init_container,
    ),
    case(
        PLUGIN,
        "Does not keep device plugin assignments across node reboots if fails admission (no pod restart, no device \
         plugin re-registration)",
        "managers and plugin are killed and no container runs; the plugin comes after the pod",
        BOTH,
        assignments::reboot,
    ),
    case(
        FAILURES,
        "when GetDevicePluginOptions fails, device plugin will not be used",
        DOOR,
        CLASSIC,
        failures::options_fail,
    ),
    case(
        FAILURES,
        "will set allocatable to zero when a single device became unhealthy and then back to 1 if it got healthy again",
        LOST,
        BOTH,
        failures::unhealthy_and_back,
    ),
    long(case(
        FAILURES,
        "will set allocatable to zero when a single device became unhealthy, but capacity will stay at 1",
        LOST,
        BOTH,
        failures::unhealthy_while_held,
    )),
    case(
        FAILURES,
        "will lower allocatable to a number of unhealthy devices and then back if they became healthy again",
        "GPUs fall off the bus, and are back",
        BOTH,
        failures::several_unhealthy,
    ),
    long(case(
        FAILURES,
        "when ListAndWatch fails immediately, node allocatable will be set to zero and kubelet will not retry to list \
         resources",
        "the calls fail at a door in front of the plugin, which passes one registration on: the plugin would repeat it",
        CLASSIC,
        failures::list_fails_at_once,
    )),
    long(case(
        FAILURES,
        "when ListAndWatch fails after provisioning devices, node allocatable will be set to zero and kubelet will not \
         retry to list resources",
        "the calls fail at a door in front of the plugin, which passes one registration on: the plugin would repeat it",
        CLASSIC,
        failures::list_fails_later,
    )),
    long(case(
        FAILURES,
        "when device plugin is stopped after provisioning devices, node allocatable will be set to zero",
        "",
        BOTH,
        failures::stopped,
    )),
    case(
        STATUS,
        "will report a Healthy and then Unhealthy single device in the pod status",
        LOST,
        BOTH,
        status::healthy_then_unhealthy,
    ),
    case(
        STATUS,
        "will report a Device Status for the failed pod in the pod status",
        "the pod's container is never made, as where its image can't be pulled",
        BOTH,
        status::of_a_pod_that_never_ran,
    ),
    long(case(
        MULTIPLE,
        "Device Plugin Multiple: Basic rollout of device plugins with zero downtime",
        "counted every millisecond",
        BOTH,
        rollouts::basic,
    )),
    long(case(
        MULTIPLE,
        "Device Plugin Multiple: DP2 takes long time to start working",
        "the second plugin's options fail at a door in front of it, then no longer",
        BOTH,
        rollouts::slow,
    )),
    long(case(
        MULTIPLE,
        "Device Plugin Multiple: DP2 changed its mind",
        "counted every millisecond",
        BOTH,
        rollouts::changed_its_mind,
    )),
    case(
        RESOURCES,
        "with SRIOV devices in the system, with CPU manager Static policy: should return the expected responses",
        "GPUs in the place of SR-IOV devices",
        BOTH,
        pod_resources::devices_and_cpus,
    ),
    case(
        RESOURCES,
        "with SRIOV devices in the system, with CPU manager None policy: should return the expected responses",
        "GPUs in the place of SR-IOV devices",
        BOTH,
        pod_resources::devices_alone,
    ),
    case(
        RESOURCES,
        "with CPU manager Static policy: should succeed when calling Get for a valid pod",
        "beside GPUs that nobody asked for",
        BOTH,
        pod_resources::get,
    ),
    case(
        RESOURCES,
        "with a topology-unaware device plugin: should return proper podresources the same as before the restart of \
         kubelet",
        "GPUs of which no NUMA node is known",
        BOTH,
        pod_resources::same_after_restart,
    ),
];

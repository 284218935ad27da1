//! Which folder below the cgroups' root is a container's.
//!
//! Kubelets lay pods out in two ways. By systemd: `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/`
//! with the UID's dashes as underscores, and in it `cri-containerd-<id>.scope` or `crio-<id>.scope`. By folders alone:
//! `kubepods/burstable/pod<uid>/<id>`. Guaranteed pods have no level of their own, and a kubelet may be told of a folder
//! above all this. So it is looked for, not made up: a folder that nobody made has no cgroup.

/// What a monitor of CRI-O's is called, which lies beside its container and is none.
const MONITOR: &str = "crio-conmon-";
/// What lies beside the pods on a machine of systemd's.
const OTHERS: [&str; 3] = ["system.slice", "user.slice", "init.scope"];

/// Whether the folder of that name is the pod's.
pub fn is_of_pod(name: &str, pod_uid: &str) -> bool {
    if pod_uid.is_empty() {
        return false;
    }
    let by_systemd = || name.strip_suffix(".slice")?.strip_suffix(&pod_uid.replace('-', "_"));
    name.strip_prefix("pod") == Some(pod_uid) || by_systemd().is_some_and(|before| before.ends_with("-pod"))
}

/// Whether the folder of that name, in a pod's folder, is the container's. The id is as the kubelet tells it, with or
/// without the runtime in front: `containerd://<id>`.
pub fn is_of_container(name: &str, container_id: &str) -> bool {
    let id = container_id.rsplit_once("://").map_or(container_id, |(_, id)| id);
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let before = name.strip_suffix(id).filter(|_| !id.is_empty());
    before.is_some_and(|before| before.is_empty() || (before.ends_with('-') && before != MONITOR))
}

/// Whether pods may lie below the folder of that name: it is no pod's own, no service, and nothing of a container's.
pub fn leads_to_pods(name: &str) -> bool {
    let is_of_some_pod = name.starts_with("pod")
        || (name.contains("kubepods") && name.contains("-pod") && name.ends_with(".slice"));
    let is_leaf = [".scope", ".service", ".mount", ".socket"].iter().any(|end| name.ends_with(end));
    !is_of_some_pod && !is_leaf && !OTHERS.contains(&name)
}

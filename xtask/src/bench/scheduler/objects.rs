//! What the schedulers meet: nodes with eight GPUs as a labelled cluster has them, and pods as training jobs have them.

use plasma_api::{
    Gang, GangSpec,
    names::{ATTEMPT_LABEL, GANG_LABEL, GPU_PRODUCT_LABEL, GPU_RESOURCE, JOB_NAME_LABEL, QUEUE_ANNOTATION},
};
use serde_json::{Value, json};

/// Selects the pods that came without a node.
pub(super) const ARRIVALS: &str = "app.kubernetes.io/part-of=arrivals";
/// Where pods and gangs are.
pub(super) const NAMESPACE: &str = "bench";
/// GPUs of a node.
pub(super) const GPUS: usize = 8;
/// The GPUs' model, which every pod asks for.
const MODEL: &str = "NVIDIA-H100-80GB-HBM3";
/// So many images are on each node.
const IMAGES: usize = 20;

/// A node that is there and ready.
pub(super) fn node(number: usize) -> Value {
    let name = node_name(number);
    let size = json!({
        "cpu": "192", "memory": "2113556856Ki", "ephemeral-storage": "1855Gi", "hugepages-1Gi": "0",
        "hugepages-2Mi": "0", "pods": "110", GPU_RESOURCE: GPUS.to_string(),
    });
    let images: Vec<Value> = (0..IMAGES)
        .map(|image| {
            let names = [format!("registry.example/ml/image-{image}@sha256:{image:064x}"), image_name(image)];
            json!({ "names": names, "sizeBytes": 1_000_000_000 + image })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": node_labels(number, &name), "annotations": {
            "node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        } },
        "spec": { "podCIDR": format!("10.{}.{}.0/24", number / 256 % 256, number % 256) },
        "status": {
            "capacity": size, "allocatable": size, "conditions": node_conditions(), "images": images,
            "addresses": [
                { "type": "InternalIP", "address": format!("10.0.{}.{}", number / 256 % 256, number % 256) },
                { "type": "Hostname", "address": name },
            ],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "Debian GNU/Linux 12 (bookworm)",
                "bootID": uid(number, 0xb007), "machineID": format!("{number:032x}"), "systemUUID": uid(number, 0x5e5),
                "containerRuntimeVersion": "containerd://2.4.2", "kernelVersion": "6.1.0-30-amd64",
                "kubeProxyVersion": "v1.37.2", "kubeletVersion": "v1.37.2",
            },
        },
    })
}

pub(super) fn node_name(number: usize) -> String {
    format!("gpu-node-{number:05}.example")
}

fn node_labels(number: usize, name: &str) -> Value {
    json!({
        "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux", "kubernetes.io/hostname": name,
        "node.kubernetes.io/instance-type": "gpu-8x-h100",
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": format!("region-1-{}", number % 3),
        "topology.example/rack": format!("rack-{}", number / 16),
        GPU_PRODUCT_LABEL: MODEL, "nvidia.com/gpu.count": GPUS.to_string(), "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.family": "hopper", "nvidia.com/gpu.compute.major": "9", "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.machine": "gpu-8x", "nvidia.com/gpu.present": "true", "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none", "nvidia.com/cuda.driver.major": "580",
        "nvidia.com/cuda.driver.minor": "159", "nvidia.com/cuda.runtime.major": "13",
        "nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "single",
        "feature.node.kubernetes.io/cpu-model.vendor_id": "AMD",
        "feature.node.kubernetes.io/kernel-version.full": "6.1.0-30-amd64",
    })
}

fn node_conditions() -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({ "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": "2026-01-02T03:04:05Z", "lastTransitionTime": "2026-01-01T03:04:05Z" })
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}

/// A pod to be made.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) scheduler: &'static str,
    /// The gang that it belongs to.
    pub(super) gang: Option<String>,
    /// How many GPUs it asks for.
    pub(super) gpus: usize,
    /// The node that it is bound to from birth.
    pub(super) node: Option<String>,
}

impl Pod {
    /// A pod as a job's worker is: its environment, its volumes, the token's one, what admission would add.
    pub(super) fn object(&self, number: usize) -> Value {
        let job = self.gang.clone().unwrap_or_else(|| "train".to_owned());
        let mut labels = json!({
            "app.kubernetes.io/name": "trainer", "app.kubernetes.io/part-of": self.part(),
            "batch.kubernetes.io/controller-uid": uid(number, 1), "batch.kubernetes.io/job-name": job,
            "batch.kubernetes.io/job-completion-index": number.to_string(), "controller-uid": uid(number, 1),
            "job-name": job, JOB_NAME_LABEL: job, ATTEMPT_LABEL: "0",
        });
        if let Some(gang) = &self.gang {
            labels[GANG_LABEL] = json!(gang);
        }
        let owner = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid(number, 1),
            "controller": true, "blockOwnerDeletion": true });
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": [owner],
                "annotations": { "batch.kubernetes.io/job-completion-index": number.to_string(),
                    "prometheus.io/scrape": "true", "prometheus.io/port": "9400", QUEUE_ANNOTATION: "research" },
            },
            "spec": self.spec(&job),
        })
    }

    fn part(&self) -> &'static str {
        if self.node.is_some() { "residents" } else { "arrivals" }
    }

    fn spec(&self, job: &str) -> Value {
        let mut spec = json!({
            "schedulerName": self.scheduler, "restartPolicy": "Never", "subdomain": job,
            "activeDeadlineSeconds": 86400, "terminationGracePeriodSeconds": 60, "serviceAccountName": "default",
            "automountServiceAccountToken": true,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000,
                "seccompProfile": { "type": "RuntimeDefault" } },
            "tolerations": [{ "key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule" }],
            "containers": [self.container(job)],
            "volumes": [
                { "name": "dshm", "emptyDir": { "medium": "Memory", "sizeLimit": "64Gi" } },
                { "name": "scratch", "emptyDir": {} },
                { "name": "settings", "configMap": { "name": "trainer-settings" } },
                { "name": "kube-api-access", "projected": { "defaultMode": 420, "sources": [
                    { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                    { "downwardAPI": { "items": [{ "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
                ] } },
            ],
        });
        if self.gpus > 0 {
            spec["nodeSelector"] = json!({ GPU_PRODUCT_LABEL: MODEL });
        }
        if let Some(node) = &self.node {
            spec["nodeName"] = json!(node);
        }
        spec
    }

    fn container(&self, job: &str) -> Value {
        let (cpu, memory) = if self.gpus > 0 { (8 * self.gpus, 64 * self.gpus) } else { (1, 2) };
        let mut limits = json!({ "memory": format!("{memory}Gi") });
        let mut requests = json!({ "cpu": cpu.to_string(), "memory": format!("{memory}Gi") });
        if self.gpus > 0 {
            limits[GPU_RESOURCE] = json!(self.gpus.to_string());
            requests[GPU_RESOURCE] = json!(self.gpus.to_string());
        }
        json!({
            "name": "trainer", "image": image_name(0), "imagePullPolicy": "IfNotPresent",
            "command": ["torchrun"],
            "args": ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "train.py", "--config=/settings/run.yaml"],
            "env": environment(job),
            "ports": [{ "name": "rendezvous", "containerPort": 29500, "protocol": "TCP" }],
            "resources": { "limits": limits, "requests": requests },
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            "volumeMounts": [
                { "name": "dshm", "mountPath": "/dev/shm" }, { "name": "scratch", "mountPath": "/scratch" },
                { "name": "settings", "mountPath": "/settings", "readOnly": true },
                { "name": "kube-api-access", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" },
            ],
        })
    }
}

fn environment(job: &str) -> Value {
    let plain = |name: &str, value: &str| json!({ "name": name, "value": value });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } });
    let index = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    json!([
        plain("MASTER_ADDR", &format!("{job}-0.{job}")),
        plain("MASTER_PORT", "29500"),
        plain("WORLD_SIZE", "8"),
        field("RANK", index),
        plain("PET_NNODES", "8"),
        field("PET_NODE_RANK", index),
        plain("PET_NPROC_PER_NODE", "1"),
        plain("NCCL_DEBUG", "WARN"),
        plain("NCCL_SOCKET_IFNAME", "eth0"),
        plain("OMP_NUM_THREADS", "8"),
        plain("HF_HOME", "/scratch/huggingface"),
        plain("WANDB_MODE", "offline"),
        plain("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        field("POD_NAME", "metadata.name"),
        field("POD_IP", "status.podIP"),
    ])
}

/// A gang of so many pods.
///
/// # Errors
/// It isn't JSON, which it always is.
pub(super) fn gang(name: &str, members: usize) -> serde_json::Result<Value> {
    let spec = GangSpec {
        min_member: i32::try_from(members).unwrap_or(i32::MAX),
        max_runtime_seconds: Some(86400),
        priority: 0,
    };
    let mut gang = Gang::new(name, spec);
    gang.metadata.namespace = Some(NAMESPACE.to_owned());
    gang.metadata.labels = Some([(JOB_NAME_LABEL.to_owned(), name.to_owned())].into());
    serde_json::to_value(gang)
}

fn image_name(number: usize) -> String {
    format!("registry.example/ml/image-{number}:2.8.0-cuda13")
}

/// Something that looks like a UID.
fn uid(number: usize, kind: u16) -> String {
    format!("{number:08x}-{kind:04x}-4000-8000-{number:012x}")
}

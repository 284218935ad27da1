//! The charts: linted, and what must hold of what they render.

mod dashboards;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{command, paths, tools};

/// Settings under which the chart is complete on a real chain, and on a chain of one's own.
const REAL: &[&str] = &[
    "chain.rpc=https://rpc.example",
    "chain.contract=0xe7f1725e7734ce288f8367e1bb143e90bb3f0512",
    "chain.providers=0x5fbdb2315678afecb367f032d93f642f64180aa3",
];
/// A cluster that only schedules.
const UNPAID: &[&str] = &["settlement.enabled=false"];
const DEV: &[&str] = &["chain.dev.enabled=true", "chain.id=31337", "devicePlugin.simulated.enabled=true"];
/// Everything that Prometheus and Grafana find.
const MONITORED: &[&str] = &[
    "settlement.enabled=false",
    "metrics.podMonitor.enabled=true",
    "metrics.podMonitor.labels.release=prometheus",
    "metrics.prometheusRule.enabled=true",
    "grafana.dashboards.enabled=true",
];
/// A node whose driver comes in a container, and whose GPUs somebody else offers.
const BESIDE: &[&str] = &[
    "settlement.enabled=false",
    "devicePlugin.observe=true",
    "metrics.networkPolicy.enabled=true",
    "devicePlugin.driverRoot=/run/nvidia/driver",
    "devicePlugin.healthConfig.xids.79=ignore",
    "devicePlugin.kubeletRootDir=/data/kubelet",
];
/// A cluster whose only scheduler is ours.
const ALONE: &[&str] =
    &["settlement.enabled=false", "scheduler.name=default-scheduler", "scheduler.replicas=2"];
/// The one program that is not confined like the others, and says why.
const EXCEPTION: &str = "plasma-device-plugin";
/// The one service account whose pods see the provider's key.
const KEY_HOLDER: &str = "plasma-settlement";

/// Whose pods see which side of the meter's TLS.
const METER_TLS: [(&str, &str); 2] =
    [(KEY_HOLDER, "plasma-meter-server-tls"), (EXCEPTION, "plasma-meter-client-tls")];
/// Certificates of one's own for the meter's server, and none for its clients.
const HALF_TLS: &[&str] = &[REAL[0], REAL[1], REAL[2], "meter.tls.existingServerSecret=mine"];

/// Lints and renders them.
pub(crate) fn check() -> Result<()> {
    command::output(helm(&["lint", "--strict"], &[])?.arg(folder("plasma-crds")))?;
    for (settings, key_mounts) in [(REAL, 1), (DEV, 1), (UNPAID, 0), (BESIDE, 0), (ALONE, 0)] {
        command::output(helm(&["lint", "--strict"], settings)?.arg(folder("plasma")))?;
        rules(&render(settings)?, key_mounts).with_context(|| format!("charts/plasma with {settings:?}"))?;
    }
    beside(&render(BESIDE)?).with_context(|| format!("charts/plasma with {BESIDE:?}"))?;
    schedulers_name(&render(UNPAID)?, "plasma-scheduler", "plasma-system").context("charts/plasma")?;
    schedulers_name(&render(ALONE)?, "default-scheduler", "kube-system")
        .with_context(|| format!("charts/plasma with {ALONE:?}"))?;
    refused(&[UNPAID[0], "devicePlugin.obsevre=true"], "obsevre")?;
    refused(&[UNPAID[0], "scheduler.name=Not_A_Name"], "name")?;
    refused(&[UNPAID[0], "meter.tsl.days=1"], "tsl")?;
    dashboards::check(&render(MONITORED)?).context("charts/plasma/dashboards")?;
    refused(&["chain.dev.enabled=true", "chain.id=9745"], "set chain.id to 31337, not 9745")?;
    refused(&[], "chain.rpc is needed")?;
    refused(&REAL[..1], "chain.contract is needed")?;
    refused(&REAL[..2], "chain.providers is needed")?;
    refused(HALF_TLS, "belong together")?;
    refused(&["chain.rpc=rpc.example"], "chain")
}

fn refused(settings: &[&str], why: &str) -> Result<()> {
    let fault = render(settings).err().map(|fault| format!("{fault:#}")).unwrap_or_default();
    ensure!(fault.contains(why), "{settings:?} must be refused with {why:?}, got {fault:?}");
    Ok(())
}

/// The values reach the program, and the driver's root is where its mounts come and go.
fn beside(objects: &[Value]) -> Result<()> {
    let text = serde_json::to_string(objects).context("write what helm rendered")?;
    for part in [
        r#""--observe""#,
        r#"[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}],"ports":[{"port":"metrics"}]}]"#,
        r#""--health-config=/etc/plasma-config/health.yaml""#,
        r#"{"name":"DRIVER_ROOT","value":"/run/nvidia/driver"}"#,
        r#"{"name":"DRIVER_ROOT_CTR_PATH","value":"/driver-root/driver"}"#,
        r#""path":"/run/nvidia""#,
        r#""path":"/data/kubelet/pod-resources""#,
        r#""path":"/var/lib/kubelet/device-plugins""#,
    ] {
        ensure!(text.contains(part), "{part} isn't in it");
    }
    Ok(())
}

/// Whoever says which scheduler places a pod says the same one, and it may have the one lease that its name asks for.
fn schedulers_name(objects: &[Value], name: &str, namespace: &str) -> Result<()> {
    let of = |kind: &str, object: &str| {
        let is = |found: &&Value| found["kind"] == kind && found["metadata"]["name"] == object;
        objects.iter().find(is).with_context(|| format!("no {kind} {object}"))
    };
    for program in ["plasma-scheduler", "plasma-operator"] {
        let pod = &of("Deployment", program)?["spec"]["template"]["spec"];
        let flag = format!("--scheduler-name={name}");
        let has_flag = items(&pod["containers"][0]["args"]).any(|argument| *argument == *flag);
        ensure!(has_flag, "{program} isn't started with {flag}");
    }
    let policy = of("ValidatingAdmissionPolicy", "plasma-shared-gpus")?["spec"].to_string();
    ensure!(policy.contains(&format!("== '{name}'")), "plasma-shared-gpus asks for another scheduler");
    let is_lease = |role: &&Value| {
        items(&role["rules"]).any(|rule| items(&rule["resources"]).any(|one| one == "leases"))
    };
    let roles = objects.iter().filter(is_lease);
    let places: Vec<&Value> = roles.map(|role| &role["metadata"]["namespace"]).collect();
    ensure!(places == [namespace], "leases may be written in {places:?}, not in {namespace} alone");
    let is_kept = of("Deployment", "plasma-scheduler")?["spec"]["template"]["spec"]["priorityClassName"]
        == "system-cluster-critical";
    ensure!(
        is_kept == (name == "default-scheduler"),
        "the only scheduler, and no other, is nobody's to evict"
    );
    Ok(())
}

/// What must hold of every object; the key must be mounted so many times.
fn rules(objects: &[Value], expected: usize) -> Result<()> {
    let mut key_mounts = 0;
    for object in objects {
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        match object["kind"].as_str() {
            Some("ClusterRole" | "Role") => least_rights(name, object)?,
            Some("Deployment" | "DaemonSet" | "Job") => {
                let pod = &object["spec"]["template"]["spec"];
                confined(name, pod)?;
                key_mounts += key_mounts_of(name, pod)?;
            }
            Some("ValidatingAdmissionPolicy") => guards_every_way(name, object)?,
            _ => {}
        }
    }
    ensure!(key_mounts == expected, "the key is mounted {key_mounts} times, not {expected}");
    Ok(())
}

fn least_rights(name: &str, role: &Value) -> Result<()> {
    for rule in items(&role["rules"]) {
        for field in ["apiGroups", "resources", "verbs"] {
            ensure!(!items(&rule[field]).any(|word| word == "*"), "{name} has a wildcard in {field}: {rule}");
        }
        ensure!(!items(&rule["resources"]).any(|word| word == "secrets"), "{name} may see secrets: {rule}");
    }
    Ok(())
}

/// No container of the pod may do anything to its node, whatever it runs.
fn confined(name: &str, pod: &Value) -> Result<()> {
    let containers: Vec<&Value> = items(&pod["initContainers"]).chain(items(&pod["containers"])).collect();
    ensure!(!containers.is_empty(), "{name} has no container");
    // Such a mount stays the file that was there at the start, whoever replaces it.
    let is_file = |volume: &Value| volume["hostPath"]["type"] == "File";
    ensure!(!items(&pod["volumes"]).any(is_file), "{name} mounts a single file of its node");
    let seccomp = &pod["securityContext"]["seccompProfile"]["type"];
    ensure!(seccomp == "RuntimeDefault", "{name} runs without the runtime's seccomp profile");
    for container in containers {
        let security = &container["securityContext"];
        ensure!(security["readOnlyRootFilesystem"] == true, "{name} may write to its root file system");
        if name == EXCEPTION {
            continue;
        }
        ensure!(security["privileged"] != true, "{name} is privileged");
        ensure!(security["allowPrivilegeEscalation"] == false, "{name} may gain privileges");
        ensure!(security["capabilities"]["drop"][0] == "ALL", "{name} keeps capabilities");
        ensure!(security["runAsUser"].is_null(), "{name} names another user than its pod");
    }
    if name != EXCEPTION {
        ensure!(pod["securityContext"]["runAsNonRoot"] == true, "{name} may run as root");
        ensure!(items(&pod["volumes"]).all(|volume| volume["hostPath"].is_null()), "{name} mounts its node");
    }
    Ok(())
}

/// How often the pod mounts the key; only settlement's may, and none may have a Secret in its environment. Beside the key,
/// settlement and the device plugin mount their own side of the meter's TLS.
fn key_mounts_of(name: &str, pod: &Value) -> Result<usize> {
    let account = &pod["serviceAccountName"];
    let secrets = items(&pod["volumes"]).map(|volume| &volume["secret"]).filter(|secret| !secret.is_null());
    let is_own_tls = |secret: &&Value| {
        METER_TLS.iter().any(|(holder, held)| account == holder && secret["secretName"] == *held)
    };
    let mounts = secrets.filter(|secret| !is_own_tls(secret)).count();
    let holder = account == KEY_HOLDER;
    ensure!(mounts == 0 || holder, "{name} mounts a Secret, and isn't settlement");
    let text = pod.to_string();
    ensure!(
        !text.contains("secretKeyRef") && !text.contains("secretRef"),
        "{name} has a Secret in its environment"
    );
    Ok(mounts)
}

/// An object's metadata can be changed through its status, too.
fn guards_every_way(name: &str, policy: &Value) -> Result<()> {
    let ways: &[&str] = match name {
        EXCEPTION => &["nodes", "nodes/status", "gpunodes", "gpunodes/status"],
        name if name.ends_with("finalizer") => &["pods", "pods/status"],
        _ => &[],
    };
    let rules = items(&policy["spec"]["matchConstraints"]["resourceRules"]);
    let guarded: Vec<&Value> = rules.flat_map(|rule| items(&rule["resources"])).collect();
    for way in ways {
        ensure!(guarded.iter().any(|resource| resource == way), "{name} doesn't look at {way}");
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The objects that the chart makes of the settings.
fn render(settings: &[&str]) -> Result<Vec<Value>> {
    let mut template = helm(&["template", "plasma"], settings)?;
    let text = command::output(template.arg(folder("plasma")).args(["--namespace", "plasma-system"]))
        .context("render charts/plasma")?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("understand what helm rendered")?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn helm(verb: &[&str], settings: &[&str]) -> Result<Command> {
    let mut helm = Command::new(tools::build(&tools::HELM)?.join("helm"));
    helm.env("HELM_CACHE_HOME", paths::cache()?.join("helm")).args(verb);
    for setting in settings {
        helm.args(["--set", setting]);
    }
    Ok(helm)
}

fn folder(chart: &str) -> std::path::PathBuf {
    paths::repository().join("charts").join(chart)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program(change: impl FnOnce(&mut Value)) -> Value {
        let mut object = json!({
            "kind": "Deployment",
            "metadata": { "name": "plasma-settlement" },
            "spec": { "template": { "spec": {
                "serviceAccountName": "plasma-settlement",
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{ "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                } }],
                "volumes": [{ "secret": { "secretName": "key" } }],
            } } },
        });
        change(&mut object["spec"]["template"]["spec"]);
        object
    }

    fn fault(objects: &[Value]) -> String {
        rules(objects, 1).err().map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_program_that_is_not_confined_is_refused_by_what_it_lacks() {
        assert_eq!(fault(&[program(|_| {})]), "");
        for (pointer, value, says) in [
            ("/securityContext/runAsNonRoot", json!(false), "may run as root"),
            ("/securityContext/seccompProfile", json!({}), "seccomp"),
            ("/containers", json!([]), "no container"),
            ("/containers/0/securityContext/readOnlyRootFilesystem", json!(false), "root file system"),
            ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true), "gain privileges"),
            ("/containers/0/securityContext/capabilities", json!({}), "capabilities"),
            ("/volumes/0", json!({ "hostPath": { "path": "/" } }), "mounts its node"),
            ("/volumes/0", json!({ "hostPath": { "path": "/f", "type": "File" } }), "a single file"),
            ("/volumes/0", json!({ "emptyDir": {} }), "mounted 0 times"),
            ("/serviceAccountName", json!("plasma-operator"), "isn't settlement"),
        ] {
            let changed = program(|pod| {
                if let Some(place) = pod.pointer_mut(pointer) {
                    *place = value;
                }
            });
            let fault = fault(&[changed]);
            assert!(fault.contains(says), "{pointer}: {fault:?}");
        }
    }

    #[test]
    fn each_side_of_the_meters_tls_is_for_its_program_alone() {
        let with = |secret: &str, account: &str| {
            program(|pod| {
                pod["serviceAccountName"] = json!(account);
                pod["volumes"] = json!([{ "secret": { "secretName": secret } }]);
            })
        };
        let plugin = "plasma-device-plugin";
        assert_eq!(fault(&[program(|_| {}), with("plasma-meter-client-tls", plugin)]), "");
        assert!(fault(&[with("plasma-meter-server-tls", "plasma-settlement")]).contains("mounted 0 times"));
        assert!(fault(&[with("plasma-meter-server-tls", plugin)]).contains("isn't settlement"));
        assert!(fault(&[with("plasma-settlement-key", plugin)]).contains("isn't settlement"));
    }

    #[test]
    fn a_role_with_a_wildcard_or_with_secrets_is_refused() {
        for (rule, says) in [
            (json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["*"] }), "wildcard in verbs"),
            (json!({ "apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"] }), "wildcard in apiGroups"),
            (json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }), "secrets"),
        ] {
            let role = json!({ "kind": "ClusterRole", "metadata": { "name": "role" }, "rules": [rule] });
            assert!(fault(&[program(|_| {}), role]).contains(says), "{says}");
        }
    }

    #[test]
    fn a_policy_that_overlooks_the_status_is_refused() {
        let rule = json!({ "resources": ["pods"] });
        let policy = json!({
            "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "finalizer" },
            "spec": { "matchConstraints": { "resourceRules": [rule] } },
        });
        assert!(fault(&[program(|_| {}), policy]).contains("pods/status"));
    }
}

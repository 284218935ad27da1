//! Themes about volumes: what may not be used twice, how many a node can take, where they are, and whether they are at all.

mod binding;
mod claims;
mod limits;

use serde_json::{Value, json};

pub(super) use self::{binding::binding, limits::limits};
use super::super::{case::Case, random::Random};

/// Claims of one pod at a time, and disks of one node at a time.
pub(super) fn restrictions(random: &mut Random, case: &mut Case) {
    let mut shared = Vec::new();
    for namespace in super::super::base::NAMESPACES {
        let (_, claim) = claims::bound(case, namespace);
        let mode = random.pick(&["ReadWriteOncePod", "ReadWriteOncePod", "ReadWriteOnce", "ReadWriteMany"]);
        set_mode(case, &claim, mode);
        shared.push((*namespace, claim));
    }
    for list in [&mut case.pods, &mut case.incoming] {
        for pod in list {
            let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            if random.percent(30)
                && let Some((_, claim)) = shared.iter().find(|(of, _)| *of == namespace)
            {
                claims::mount(pod, claim);
            }
            if random.percent(55) {
                claims::add(pod, disk(random));
            }
        }
    }
}

fn set_mode(case: &mut Case, claim: &str, mode: &str) {
    if let Some(found) = case.pvcs.iter_mut().find(|pvc| pvc["metadata"]["name"] == claim) {
        found["spec"]["accessModes"] = json!([mode]);
        let volume = found["spec"]["volumeName"].clone();
        if let Some(pv) = case.pvs.iter_mut().find(|pv| pv["metadata"]["name"] == volume) {
            pv["spec"]["accessModes"] = json!([mode]);
        }
    }
}

/// A disk in the pod's own words, of the kinds that Kubernetes looks after itself.
fn disk(random: &mut Random) -> Value {
    let mut volume = json!({ "name": "disk" });
    let read_only = random.percent(50);
    match random.between(0, 4) {
        0 => {
            volume["gcePersistentDisk"] =
                json!({ "pdName": random.pick(&["pd-1", "pd-2"]), "fsType": "ext4", "readOnly": read_only });
        }
        1 => {
            volume["awsElasticBlockStore"] = json!({ "volumeID": random.pick(&["vol-1", "vol-2"]), "fsType": "ext4", "readOnly": read_only });
        }
        2 => {
            volume["iscsi"] = json!({
                "targetPortal": random.pick(&["10.0.0.1:3260", "10.0.0.2:3260"]),
                "iqn": random.pick(&["iqn.2026-01.dev.plasma:a", "iqn.2026-01.dev.plasma:b"]),
                "lun": random.pick(&[0, 1]), "iscsiInterface": "default", "readOnly": read_only,
            });
        }
        3 => {
            let monitors = random.between(1, 2);
            volume["rbd"] = json!({
                "monitors": random.several(monitors, &["10.0.0.1:6789", "10.0.0.2:6789", "10.0.0.3:6789"]),
                "pool": random.pick(&["rbd", "fast"]), "image": random.pick(&["one", "one", "two"]),
                "user": "admin", "keyring": "/etc/ceph/keyring", "readOnly": read_only,
            });
        }
        _ => volume["emptyDir"] = json!({}),
    }
    volume
}

/// Bound volumes that say in their labels where they are.
pub(super) fn zones(random: &mut Random, case: &mut Case) {
    const KEYS: &[(&str, &[&str])] = &[
        ("topology.kubernetes.io/zone", &["za", "zb", "za__zb", "zc", "zx", "za__za", ""]),
        ("topology.kubernetes.io/region", &["ra", "rb", "ra__rb"]),
        ("failure-domain.beta.kubernetes.io/zone", &["za", "zb", "zb__zc"]),
        ("failure-domain.beta.kubernetes.io/region", &["ra", "rb"]),
        ("somewhere", &["else"]),
    ];
    for node in &mut case.nodes {
        let labels = &mut node["metadata"]["labels"];
        match random.between(0, 9) {
            0 | 1 => {
                labels["failure-domain.beta.kubernetes.io/zone"] = json!(random.pick(&["za", "zb", "zc"]));
                labels["failure-domain.beta.kubernetes.io/region"] = json!(random.pick(&["ra", "rb"]));
            }
            2 => {
                if let Value::Object(labels) = labels {
                    labels.remove("topology.kubernetes.io/zone");
                    labels.remove("topology.kubernetes.io/region");
                }
            }
            _ => {}
        }
    }
    let mut incoming = std::mem::take(&mut case.incoming);
    for pod in &mut incoming {
        for _ in 0..random.pick(&[0, 1, 1, 1, 2]) {
            let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            let (volume, claim) = claims::bound(case, &namespace);
            claims::mount(pod, &claim);
            let Some(pv) = case.pvs.iter_mut().find(|pv| pv["metadata"]["name"] == volume) else { continue };
            let count = random.between(0, 2);
            for (key, values) in random.several(count, KEYS) {
                pv["metadata"]["labels"][key] = json!(random.pick(values));
            }
        }
    }
    case.incoming = incoming;
}

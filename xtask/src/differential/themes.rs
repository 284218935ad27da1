//! What makes a case interesting: a theme for each filter, so that each one refuses nodes that no other does.

mod affinity;
mod node;
mod ports;
mod resize;
mod resources;
mod selectors;
mod spread;
mod volumes;

use serde_json::Value;

use super::{base, case::Case, random::Random};

/// What is laid over a plain cluster so that one filter has something to refuse.
pub(super) struct Theme {
    /// The filter that it is meant for.
    pub(super) filter: &'static str,
    /// What is varied, in words for the published table.
    pub(super) varies: &'static str,
    lay: fn(&mut Random, &mut Case),
}

/// One for each filter, in kube-scheduler's order.
pub(super) const THEMES: &[Theme] = &[
    Theme {
        filter: "NodeName",
        varies: "`spec.nodeName`: another node, one that isn't there",
        lay: node::names,
    },
    Theme {
        filter: "NodeUnschedulable",
        varies: "cordons, with and without the controller's taint; tolerations of it by key, by effect, of everything",
        lay: node::cordons,
    },
    Theme {
        filter: "TaintToleration",
        varies: "taints of all three effects; tolerations with `Equal`, `Exists`, `Lt`, `Gt` and no operator, without key, value or effect",
        lay: node::taints,
    },
    Theme {
        filter: "NodeAffinity",
        varies: "`nodeSelector`; required terms with all six operators and `matchFields`, empty terms, several terms, numbers that are none; preferred terms",
        lay: node::affinity,
    },
    Theme {
        filter: "NodePorts",
        varies: "host ports of three protocols, at one address, at all; of side-cars and of init containers that end; the host's network",
        lay: ports::host_ports,
    },
    Theme {
        filter: "NodeResourcesFit",
        varies: "init containers, side-cars, overhead, pod-level resources, huge pages, ephemeral storage, extended resources, zero and missing requests, the number of pods; resizes that are deferred, infeasible, in progress, of containers and of pods",
        lay: resources::requests,
    },
    Theme {
        filter: "VolumeRestrictions",
        varies: "`ReadWriteOncePod` claims in use; disks of four in-tree kinds in use, read-only or not",
        lay: volumes::restrictions,
    },
    Theme {
        filter: "NodeVolumeLimits",
        varies: "limits of CSINodes, volumes in use, shared and being attached, claims to be provisioned, in-tree disks that a CSI driver took over, drivers that are missing",
        lay: volumes::limits,
    },
    Theme {
        filter: "VolumeBinding",
        varies: "claims that are bound, unbound, lost, missing, deleted, ephemeral and another's; volumes with node affinity, size, class, modes and labels; provisioning with topologies and free capacity",
        lay: volumes::binding,
    },
    Theme {
        filter: "VolumeZone",
        varies: "bound volumes' labels of zone and region, old and new, with one value or several; nodes without them",
        lay: volumes::zones,
    },
    Theme {
        filter: "PodTopologySpread",
        varies: "`maxSkew`, `minDomains`, both inclusion policies, `matchLabelKeys`, several constraints, nodes without the key, pods that end, other namespaces",
        lay: spread::constraints,
    },
    Theme {
        filter: "InterPodAffinity",
        varies: "affinity and anti-affinity of pods that wait and of pods on nodes, several terms, namespaces and their selectors, `matchLabelKeys`, the first pod of its kind, pods that end",
        lay: affinity::terms,
    },
    Theme {
        filter: "NodeDeclaredFeatures",
        varies: "containers that restart all others, user namespaces on the host's network, options of bind mounts; what nodes declare",
        lay: node::declared_features,
    },
];

/// The case of this number in a run.
pub(super) fn case(seed: u64, number: u64) -> Case {
    let mut random = Random::of(seed, number);
    let mut case = base::cluster(&mut random);
    let turns = THEMES.len() as u64 + 2;
    let chosen = usize::try_from(number % turns).unwrap_or_default();
    match THEMES.get(chosen) {
        Some(theme) => {
            (theme.lay)(&mut random, &mut case);
            if random.percent(25) {
                let other = random.between(0, THEMES.len() - 1);
                if other != chosen {
                    (THEMES[other].lay)(&mut random, &mut case);
                }
            }
        }
        // Sometimes a bit of everything.
        None => {
            for theme in THEMES {
                if random.percent(30) {
                    (theme.lay)(&mut random, &mut case);
                }
            }
        }
    }
    case.all_pods().for_each(ports::of_host_network);
    for list in case.lists() {
        list.iter_mut().for_each(without_nulls);
    }
    case
}

/// What is stored has no empty fields: they are what looking for something leaves behind.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::differential::case::name;

    #[test]
    fn a_case_is_made_by_its_seed_and_number_alone() {
        assert_eq!(case(3, 8), case(3, 8));
        assert_ne!(case(3, 8), case(4, 8));
    }

    #[test]
    fn objects_of_a_case_have_names_of_their_own() {
        for number in 0..200 {
            let mut case = case(1, number);
            for list in case.lists() {
                let key = |object: &serde_json::Value| {
                    (object["metadata"]["namespace"].as_str().map(str::to_owned), name(object))
                };
                let names: BTreeSet<_> = list.iter().map(key).collect();
                assert_eq!(names.len(), list.len(), "case {number}: {list:?}");
            }
        }
    }
}

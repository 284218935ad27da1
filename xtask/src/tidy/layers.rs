//! Arrows between crates only go down, a core has no I/O, and a crate is named as its folder.

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::paths;

/// The height of each crate; arrows lead to strictly lower ones.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["types"]),
    (1, &["api", "proto"]),
    (2, &["operator/core", "scheduler/core", "device-plugin/core", "settlement/core"]),
    (3, &["chain", "runtime", "device-plugin/fake-nvml"]),
    (4, &["operator", "scheduler", "device-plugin", "settlement", "cli"]),
    (5, &["e2e", "xtask"]),
];

/// What a crate without I/O may not depend on.
const IMPURE: &[&str] = &[
    "anyhow",
    "axum",
    "clap",
    "ethers-core",
    "ethers-signers",
    "hyper",
    "jsonrpsee-http-client",
    "kube",
    "kube-client",
    "kube-runtime",
    "libc",
    "nvml-wrapper",
    "reqwest",
    "rustix",
    "tokio",
    "tonic",
];

/// Crates without I/O that may use Kubernetes' types: their product is Kubernetes objects.
const KUBERNETES_TYPES: &[&str] = &["api", "operator/core"];

pub(crate) fn check() -> Result<Vec<String>> {
    let metadata =
        MetadataCommand::new().manifest_path(paths::repository().join("Cargo.toml")).no_deps().exec();
    let metadata = metadata.context("read the workspace")?;
    let root = metadata.workspace_root.as_str().to_owned();
    let crates: Vec<Crate> = metadata.packages.iter().map(|package| Crate::read(package, &root)).collect();
    Ok(breaches(&crates))
}

/// A crate as far as these rules are concerned.
#[derive(Clone, Debug)]
struct Crate {
    name: String,
    folder: String,
    /// Names of what it depends on outside of its tests.
    needs: Vec<String>,
}

impl Crate {
    fn read(package: &Package, root: &str) -> Self {
        let folder = package.manifest_path.as_str().trim_start_matches(root).trim_matches('/');
        let needs =
            package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        Self {
            name: package.name.to_string(),
            folder: folder.trim_end_matches("Cargo.toml").trim_matches('/').to_owned(),
            needs: needs.map(|dependency| dependency.name.clone()).collect(),
        }
    }
}

fn breaches(crates: &[Crate]) -> Vec<String> {
    let mut breaches = Vec::new();
    for one in crates {
        let Some(layer) = layer(&one.folder) else {
            breaches.push(format!(
                "{}: the folder has no layer: give it one in xtask/src/tidy/layers.rs",
                one.folder
            ));
            continue;
        };
        let expected = format!("plasma-{}", one.folder.replace('/', "-"));
        if one.name != expected {
            breaches
                .push(format!("{}: the crate is named {}, its folder says {expected}", one.folder, one.name));
        }
        for need in &one.needs {
            let below =
                crates.iter().find(|other| other.name == *need).and_then(|other| self::layer(&other.folder));
            if below.is_some_and(|below| layer <= below) {
                breaches.push(format!("{} may not depend on {need}: arrows only go down", one.folder));
            }
            let is_facade = need == "kube" && one.folder == "api";
            if layer <= 2 && one.folder != "proto" && IMPURE.contains(&need.as_str()) && !is_facade {
                breaches.push(format!("{} may not depend on {need}: it has no I/O", one.folder));
            }
            let kubernetes = matches!(need.as_str(), "plasma-api" | "k8s-openapi" | "kube-core");
            if layer <= 2 && kubernetes && !KUBERNETES_TYPES.contains(&one.folder.as_str()) {
                breaches.push(format!("{} may not depend on {need}: it knows no Kubernetes", one.folder));
            }
        }
    }
    breaches
}

fn layer(folder: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, folders)| folders.contains(&folder)).map(|(layer, _)| *layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &str, needs: &[&str]) -> Vec<String> {
        let one = |folder: &str, needs: &[&str]| Crate {
            name: format!("plasma-{}", folder.replace('/', "-")),
            folder: folder.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        };
        let others = LAYERS.iter().flat_map(|(_, folders)| folders.iter()).filter(|other| **other != folder);
        let crates: Vec<Crate> = others.map(|other| one(other, &[])).chain([one(folder, needs)]).collect();
        breaches(&crates)
    }

    #[test]
    fn arrows_go_down_and_never_sideways() {
        assert!(found("scheduler", &["plasma-scheduler-core", "plasma-runtime", "plasma-api"]).is_empty());
        assert_eq!(found("scheduler/core", &["plasma-settlement-core"]).len(), 1);
        assert_eq!(found("operator", &["plasma-scheduler"]).len(), 1);
        assert_eq!(found("types", &["plasma-api"]).len(), 2);
    }

    #[test]
    fn a_core_has_no_io_and_only_the_operators_knows_kubernetes() {
        for need in ["tokio", "kube", "clap", "ethers-core"] {
            assert_eq!(found("settlement/core", &[need]).len(), 1, "{need}");
        }
        assert_eq!(found("scheduler/core", &["k8s-openapi"]).len(), 1);
        assert!(found("operator/core", &["plasma-api", "k8s-openapi"]).is_empty());
    }

    #[test]
    fn a_crate_is_named_as_its_folder_and_has_a_layer() {
        let crates = [Crate { name: "plasma-odd".to_owned(), folder: "types".to_owned(), needs: vec![] }];
        assert_eq!(breaches(&crates).len(), 1);
        let crates = [Crate { name: "plasma-new".to_owned(), folder: "new".to_owned(), needs: vec![] }];
        assert_eq!(breaches(&crates).len(), 1);
    }
}

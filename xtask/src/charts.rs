//! The charts: linted, and what must hold of what they render.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{command, paths, tools};

/// Settings under which the chart is complete on a chain of one's own, and on a real one.
const REAL: &[&str] =
    &["chain.rpc=https://rpc.example", "chain.contract=0x5fbdb2315678afecb367f032d93f642f64180aa3"];
const DEV: &[&str] = &["chain.dev.enabled=true", "chain.id=31337", "devicePlugin.simulated.enabled=true"];

/// Lints and renders them.
pub(crate) fn check() -> Result<()> {
    command::output(helm(&["lint", "--strict"], &[])?.arg(folder("plasma-crds")))?;
    for settings in [REAL, DEV] {
        command::output(helm(&["lint", "--strict"], settings)?.arg(folder("plasma")))?;
        let rendered = render(settings)?;
        ensure!(
            !rendered.contains("resources: [\"*\"]") && !rendered.contains("verbs: [\"*\"]"),
            "a role with a wildcard"
        );
        // The device plugin is the one program that is not confined like the others, and says why.
        let programs = rendered.matches("kind: Deployment").count();
        ensure!(rendered.matches("runAsNonRoot: true").count() >= programs, "a program may run as root");
        ensure!(
            rendered.matches("privileged: true").count() <= 1,
            "more than the device plugin is privileged"
        );
        ensure!(
            rendered.matches("secretName: plasma-settlement-key").count() == 1,
            "the key is mounted more than once"
        );
    }
    let refused = |settings: &[&str], why: &str| {
        let fault = render(settings).err().map(|fault| format!("{fault:#}")).unwrap_or_default();
        ensure!(fault.contains(why), "{settings:?} must be refused with {why:?}, got {fault:?}");
        Ok(())
    };
    refused(&["chain.dev.enabled=true", "chain.id=9745"], "set chain.id to 31337, not 9745")?;
    refused(&[], "chain.rpc is needed")?;
    refused(&["chain.rpc=https://rpc.example"], "chain.contract is needed")?;
    refused(&["chain.rpc=rpc.example"], "chain")
}

fn render(settings: &[&str]) -> Result<String> {
    let mut template = helm(&["template", "plasma"], settings)?;
    command::output(template.arg(folder("plasma")).args(["--namespace", "plasma-system"]))
        .context("render charts/plasma")
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

//! What is generated: CRDs, the code of `proto/`, the contracts' ABIs and storage layout, the shared vectors, and the page of what was measured.
//! Committed, and checked.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{bench::scheduler::publish, command, contracts, paths};

/// What the first lines of a generated file say.
const HEADER: &str = "# Generated from api/ by `cargo xtask codegen`. Changes here are lost.\n";

/// Writes everything that is generated; with `check`, says what is stale and writes nothing.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    let layout = (contracts::storage::FILE.to_owned(), contracts::storage::layout()?);
    for (file, text) in definitions()?.into_iter().chain(publish::drawn()?).chain([layout]) {
        let path = paths::repository().join(&file);
        if fs::read_to_string(&path).unwrap_or_default() != text {
            if check {
                stale.push(file);
            } else {
                write(&path, &text)?;
            }
        }
    }
    let mut proto = command::cargo();
    proto.current_dir(paths::repository()).args(["test", "--quiet", "--package", "plasma-proto"]);
    if check {
        if !command::succeeds(&mut proto) {
            stale.push("proto/src/generated/v1beta1.rs".to_owned());
        }
        stale.extend(contracts::stale_abis()?);
    } else {
        command::output(proto.env("UPDATE", "1"))?;
        contracts::export_abis()?;
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("stale: {}. Write them anew with `cargo xtask codegen`", stale.join(", "))
}

/// Each kind twice: for reading in `crds/`, and as a template of the chart, where uninstalling keeps it.
fn definitions() -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for mut definition in plasma_api::crds() {
        let name = format!("{}.yaml", definition.spec.names.plural);
        files.push((format!("crds/{name}"), yaml(&definition)?));
        let annotations = definition.metadata.annotations.get_or_insert_default();
        annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
        files.push((format!("charts/plasma-crds/templates/{name}"), yaml(&definition)?));
    }
    Ok(files)
}

fn yaml(object: &impl serde::Serialize) -> Result<String> {
    // Through JSON, so that keys have one order whatever the types' fields have.
    let value = serde_json::to_value(object).context("turn a definition into JSON")?;
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&value).context("turn a definition into YAML")?))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

//! Where each contract keeps what: `contracts/snapshots/storage.json`, as the compiler lays it out.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{DEPLOYED, compiler::Compiler, folder};

/// The file, from the repository's root.
pub(crate) const FILE: &str = "contracts/snapshots/storage.json";

/// The file's text as it must be now.
pub(crate) fn layout() -> Result<String> {
    let mut compiler = Compiler::start(&folder())?;
    let mut parts = Vec::new();
    for contract in DEPLOYED {
        let file = format!("src/{contract}.sol");
        let text = fs::read_to_string(folder().join(&file)).with_context(|| format!("read {file}"))?;
        let input = json!({
            "language": "Solidity",
            "sources": { &file: { "content": text } },
            "settings": { "outputSelection": { &file: { contract: ["storageLayout"] } } },
        });
        let answer = compiler.ask(&input)?;
        let layout = &answer["contracts"][&file][contract]["storageLayout"];
        ensure!(layout["storage"].is_array(), "{contract} doesn't compile: {}", first_error(&answer));
        parts.push(part(contract, &layout["storage"], layout));
        for (_, kind) in layout["types"].as_object().into_iter().flatten() {
            if kind["members"].is_array() {
                let name = kind["label"].as_str().unwrap_or_default();
                parts.push(part(name, &kind["members"], layout));
            }
        }
    }
    Ok(format!("{{\n{}\n}}\n", parts.join(",\n")))
}

fn part(name: &str, places: &Value, layout: &Value) -> String {
    let line = |place: &Value| {
        let kind = &layout["types"][place["type"].as_str().unwrap_or_default()]["label"];
        let (slot, offset) = (place["slot"].as_str().unwrap_or_default(), &place["offset"]);
        let (kind, label) = (kind.as_str().unwrap_or_default(), place["label"].as_str().unwrap_or_default());
        format!("    \"slot {slot} byte {offset}: {kind} {label}\"")
    };
    let lines: Vec<String> = places.as_array().into_iter().flatten().map(line).collect();
    format!("  \"{name}\": [\n{}\n  ]", lines.join(",\n"))
}

fn first_error(answer: &Value) -> String {
    let errors = answer["errors"].as_array().into_iter().flatten();
    let mut errors = errors.filter(|error| error["severity"] == "error");
    errors.next().and_then(|error| error["formattedMessage"].as_str()).unwrap_or_default().to_owned()
}

/// Says how the layout differs from what is checked in.
pub(super) fn check() -> Result<()> {
    let kept = fs::read_to_string(crate::paths::repository().join(FILE)).unwrap_or_default();
    let now = layout()?;
    if kept == now {
        return Ok(());
    }
    let differs = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
    let (kept, now) = differs.unwrap_or(("its end", "more or less lines"));
    bail!(
        "{FILE} is stale: `{}` is `{}` now. If that is meant, `cargo xtask codegen` writes it anew",
        kept.trim(),
        now.trim()
    )
}

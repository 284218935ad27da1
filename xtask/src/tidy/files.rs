//! What every source file must be: opened by what lives in it, of a size to live in, reached from its crate, and
//! touching foreign things only through their one door.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::paths;

/// Lines of code outside tests.
const MAX_LINES: usize = 400;

/// Words that a finished file doesn't hold. Split, so that this file doesn't either.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore")];

/// Foreign things, and the one place that may name each.
const DOORS: &[(&str, &str)] = &[
    (concat!("nvml_wrap", "per::"), "device-plugin/src/nvml"),
    (concat!("ethers_", "core::"), "chain/src/"),
    (concat!("ethers_", "signers::"), "chain/src/"),
];

/// What lifts the workspace's ban on `unsafe`.
const UNSAFE: &str = concat!("allow(unsafe", "_code");

/// What a core may not ask for.
const CLOCKS: &[&str] = &["SystemTime::now", "Instant::now", "Timestamp::now", "env::var"];

pub(crate) fn check() -> Result<Vec<String>> {
    let root = paths::repository();
    let mut sources = Vec::new();
    collect(&root, &mut sources)?;
    let mut breaches = Vec::new();
    for file in &sources {
        let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
        let text = fs::read_to_string(file).with_context(|| format!("read {name}"))?;
        breaches.extend(of_file(&name, &text).into_iter().map(|breach| format!("{name}: {breach}")));
        if !is_reached(file) {
            breaches.push(format!("{name}: no `mod` names it, so it is never compiled"));
        }
    }
    Ok(breaches)
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let skipped =
            name.starts_with('.') || matches!(name.as_str(), "target" | "node_modules" | "generated");
        if path.is_dir() && !skipped {
            collect(&path, sources)?;
        } else if name.ends_with(".rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn of_file(name: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if !text.starts_with("//!") {
        breaches.push("the first line must say, after //!, what lives in the file".to_owned());
    }
    let production = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = production.lines().count();
    let is_test = name.contains("/tests") || name.ends_with("tests.rs");
    if lines > MAX_LINES && !is_test {
        breaches.push(format!("{lines} lines of code: split it, {MAX_LINES} are enough for one room"));
    }
    for word in UNFINISHED.iter().filter(|word| text.contains(**word)) {
        breaches.push(format!("holds {word}"));
    }
    for (thing, door) in DOORS.iter().filter(|(thing, door)| text.contains(thing) && !name.starts_with(door))
    {
        breaches.push(format!("names {thing}, whose one door is {door}"));
    }
    let is_pure = name.contains("/core/src/") || name.starts_with("types/");
    if text.contains(UNSAFE) && (is_pure || name.starts_with("api/")) {
        breaches.push("allows what is unsafe: types, api and the cores have none".to_owned());
    }
    if is_pure {
        for clock in CLOCKS.iter().filter(|clock| production.contains(**clock)) {
            breaches.push(format!("asks {clock}: a core is given what it needs"));
        }
    }
    breaches
}

/// Whether a `mod` leads to the file, or cargo does.
fn is_reached(file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = file.parent().unwrap_or(file);
    let is_root = matches!(stem.as_str(), "main" | "lib" | "build")
        || folder.ends_with("tests")
        || folder.ends_with("it") && stem == "main";
    if is_root {
        return true;
    }
    let (module, folder) = if stem == "mod" {
        (
            folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            folder.parent().unwrap_or(folder),
        )
    } else {
        (stem, folder)
    };
    let beside = folder.with_extension("rs");
    let parents = ["main.rs", "lib.rs", "mod.rs"].map(|name| folder.join(name)).into_iter().chain([beside]);
    let names = |parent: PathBuf| {
        let text = fs::read_to_string(parent).unwrap_or_default();
        text.lines().any(|line| {
            line.trim_start_matches("pub ").trim_start_matches("pub(crate) ") == format!("mod {module};")
        })
    };
    parents.into_iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_lives_in_it_and_is_of_a_size_to_live_in() {
        assert!(of_file("cli/src/a.rs", "//! A.\n").is_empty());
        assert_eq!(of_file("cli/src/a.rs", "fn a() {}\n").len(), 1);
        let long = format!("//! A.\n{}", "\n".repeat(MAX_LINES));
        assert_eq!(of_file("cli/src/a.rs", &long).len(), 1);
        let tested = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(MAX_LINES));
        assert!(of_file("cli/src/a.rs", &tested).is_empty());
    }

    #[test]
    fn foreign_things_have_one_door_and_cores_no_clock() {
        let nvml = concat!("//! A.\nuse nvml_wrap", "per::Nvml;\n");
        assert_eq!(of_file("device-plugin/src/main.rs", nvml).len(), 1);
        assert!(of_file("device-plugin/src/nvml.rs", nvml).is_empty());
        let clock = "//! A.\nlet now = Instant::now();\n";
        assert_eq!(of_file("scheduler/core/src/a.rs", clock).len(), 1);
        assert!(of_file("scheduler/src/a.rs", clock).is_empty());
        let unsafe_code = format!("//! A.\n#![{UNSAFE})]\n");
        assert_eq!(of_file("api/src/a.rs", &unsafe_code).len(), 1);
        assert!(of_file("device-plugin/src/a.rs", &unsafe_code).is_empty());
    }

    #[test]
    fn a_file_that_no_mod_names_is_found() {
        let folder = paths::repository().join("xtask/src/tidy");
        assert!(is_reached(&folder.join("files.rs")));
        assert!(!is_reached(&folder.join("nobody.rs")));
    }

    #[test]
    fn unfinished_words_are_found() {
        assert_eq!(of_file("cli/src/a.rs", concat!("//! A.\ntodo", "!()\n")).len(), 1);
    }
}

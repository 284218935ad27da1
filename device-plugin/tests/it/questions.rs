//! `check` asks everything that the plugin relies on: held against the plugin's own source.
//!
//! Which functions of NVML a call of nvml-wrapper's comes to is read from that library's source; which functions `check` calls
//! is what the stand-in writes down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use plasma_fake_nvml::{CALLS_VARIABLE, STATE_VARIABLE, older};
use serde_json::Value;

use crate::{
    inspect,
    metrics::{divided, talkative},
    plugin::{Node, gpu},
};

/// What the plugin calls, and `check` doesn't, and why.
const NOT_ASKED: [(&str, &str); 2] = [
    ("nvmlDeviceSetMemoryLimits_v1", "it writes: whoever only asks must change nothing on a machine"),
    ("nvmlInitWithFlags", "nvml-wrapper's way to begin with flags, of which the plugin gives none"),
];

/// Methods of nvml-wrapper whose names others have too, and of which the plugin calls only the others.
const OF_OTHERS: [&str; 3] = ["from", "try_from", "remove"];

type Names = BTreeSet<String>;

/// The words of a source, each with the character before and after it; without comments and tests.
fn words(source: &str) -> Vec<(char, String, char)> {
    let tested = ["\nmod test {", "\nmod tests {"].iter().filter_map(|tests| source.find(tests)).min();
    let mut code = source[..tested.unwrap_or(source.len())].to_owned();
    while let Some(begin) = code.find("/*") {
        let end = code[begin..].find("*/").map_or(code.len(), |length| begin + length + 2);
        code.replace_range(begin..end, " ");
    }
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut words, mut before, mut word) = (Vec::new(), ' ', String::new());
    for next in code.chars().chain([' ']) {
        if is_part(next) {
            word.push(next);
            continue;
        }
        if !word.is_empty() {
            words.push((before, std::mem::take(&mut word), next));
        }
        before = next;
    }
    words
}

/// `nvmlDeviceGetName`, and not a type's name, or the one field of that form.
fn is_function(word: &str) -> bool {
    word != "nvmlReturn"
        && word
            .strip_prefix("nvml")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase()))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Where nvml-wrapper's source is, from which the plugin is built.
fn wrapper() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // Not `--offline`: it asks for crates of other platforms, too, which no build here has fetched.
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    let told = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let mut packages = told["packages"].as_array().unwrap().iter();
    let package = packages.find(|package| package["name"] == "nvml-wrapper").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("src")
}

/// By method of nvml-wrapper: the functions of NVML that it calls, itself or through others. Methods of one name count as one.
fn by_method() -> BTreeMap<String, Names> {
    let (mut calls, mut through) = (BTreeMap::<String, Names>::new(), BTreeMap::<String, Names>::new());
    for file in sources(&wrapper()) {
        // Units and virtual GPUs are things of their own, with methods of the same names.
        if ["unit.rs", "vgpu.rs", "test_utils.rs"].iter().any(|name| file.ends_with(name)) {
            continue;
        }
        let (mut method, mut is_named) = (String::new(), false);
        for (before, word, after) in words(&fs::read_to_string(&file).unwrap()) {
            if std::mem::replace(&mut is_named, word == "fn") {
                method = word;
            } else if before == '.' && is_function(&word) {
                calls.entry(method.clone()).or_default().insert(word);
            } else if after == '(' && matches!(before, '.' | ':') && !OF_OTHERS.contains(&word.as_str()) {
                through.entry(method.clone()).or_default().insert(word);
            }
        }
    }
    loop {
        let mut all = calls.clone();
        for (method, others) in &through {
            let theirs = others.iter().filter_map(|other| calls.get(other)).flatten().cloned();
            all.entry(method.clone()).or_default().extend(theirs);
        }
        if all == calls {
            return calls;
        }
        calls = all;
    }
}

/// The functions of NVML that the plugin calls.
fn called_by_the_plugin() -> Names {
    let (by_method, source) = (by_method(), Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let files = sources(&source.join("nvml")).into_iter().chain([source.join("nvml.rs")]);
    let words = files.flat_map(|file| words(&fs::read_to_string(file).unwrap()));
    let called = words.flat_map(|(before, word, after)| {
        // By its name, as a text or as a field of the library's; or through a method.
        if is_function(&word) && (before == '.' || after == '\\') {
            return BTreeSet::from([word]);
        }
        let is_method =
            matches!(before, '.' | ':' | ' ') && after == '(' && !OF_OTHERS.contains(&word.as_str());
        by_method.get(&word).filter(|_| is_method).cloned().unwrap_or_default()
    });
    called.collect()
}

/// A machine of which everything can be asked.
fn whole_machine() -> Node {
    let node = Node::new(3);
    node.change(|state| {
        state.gpus[0] = talkative();
        state.gpus[0].nvlinks = vec![gpu(1).uuid, "switch".to_owned()];
        state.gpus[2] = divided();
        state.gpus[2].uuid = gpu(2).uuid;
    });
    node
}

fn lines(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_function_that_the_plugin_calls_is_asked() {
    let mut node = whole_machine();
    let calls = node.folder().join("calls");
    let check = |node: &Node| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_plasma-device-plugin"));
        check.env_clear().env(STATE_VARIABLE, node.state_file()).env(CALLS_VARIABLE, &calls);
        let checked = check.arg("check").arg("--nvml-library").arg(&node.library).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    };
    check(&node);
    // What is asked only where the driver lacks the newer way to ask.
    let copy = node.folder().join("older.so");
    older::without(&node.library, &["nvmlDeviceGetMemoryInfo_v2"], &copy).unwrap();
    node.library = copy;
    check(&node);
    let asked: Names = fs::read_to_string(&calls).unwrap().lines().map(str::to_owned).collect();
    let called = called_by_the_plugin();
    assert!(called.len() > 40 && called.contains("nvmlDeviceGetHandleByIndex_v2"), "{called:?}");
    let missing: Vec<&str> = called.difference(&asked).map(String::as_str).collect();
    assert_eq!(missing, NOT_ASKED.map(|(function, _)| function));
}

#[test]
fn what_is_said_not_to_be_asked_is_all_that_could_have_been() {
    let mut node = whole_machine();
    let asked = |node: &Node| -> Names {
        let all = lines(&inspect::run(node, &["check", "-o", "json"]));
        let of_gpus = all.as_array().unwrap().iter().filter(|answer| !answer["gpu"].is_null());
        of_gpus.map(|answer| answer["question"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = asked(&node);
    let whole = node.library.clone();
    let copy = node.folder().join("older.so");
    older::without(&whole, &["nvmlDeviceGetMemoryInfo_v2"], &copy).unwrap();
    node.library = copy;
    all.extend(asked(&node));
    // Behind a stand-in there is none.
    all.insert("its device node".to_owned());
    node.library = whole;
    node.change(|state| {
        state.hang.insert("nvmlDeviceGetHandleByIndex_v2".to_owned());
    });
    let hangs = inspect::run(&node, &["check", "-o", "json", "--patience-seconds", "1"]);
    let said = lines(&hangs);
    let rows = said.as_array().unwrap().iter().filter(|row| row["gpu"] == 0);
    let rows: Names = rows.map(|row| row["question"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rows, all);
    let of_others: Vec<_> = said.as_array().unwrap().iter().rev().take(2).collect();
    for (row, index) in of_others.into_iter().zip([2, 1]) {
        assert_eq!(
            (&row["gpu"], &row["question"], &row["fault"]),
            (&Value::from(index), &"everything".into(), &"not asked".into())
        );
    }
}

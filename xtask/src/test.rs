//! `cargo xtask test`: everything that must pass, step by step.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    charts,
    cluster::{self, Cluster, Traces},
    codegen, command, contracts, debian, evidence, paths, programs, progress,
    stack::{CONTRACT, RPC_ON_HOST, Stack},
    tidy, tools,
};

/// One thing that must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// rustfmt.
    Format,
    /// The architecture rules.
    Tidy,
    /// Dependencies, licences, sources.
    Deny,
    /// clippy, with warnings denied.
    Clippy,
    /// Unit and property tests.
    Unit,
    /// The contracts.
    Contracts,
    /// Nothing generated is stale.
    Codegen,
    /// The charts: lint, and what must hold of what they render.
    Charts,
    /// The end-to-end tests on the local cluster.
    E2e,
}

/// In the order in which a mistake is found soonest.
const STEPS: &[Step] = &[
    Step::Format,
    Step::Tidy,
    Step::Contracts,
    Step::Clippy,
    Step::Unit,
    Step::Codegen,
    Step::Charts,
    Step::Deny,
    Step::E2e,
];

/// Steps that need to make namespaces, mounts and cgroups.
const ROOT_ONLY: &[Step] = &[Step::E2e];

/// Runs all of them, or one; a step that this machine can't run is named, and with `CI=true` it is a failure.
pub(crate) fn run(only: Option<Step>) -> Result<()> {
    debian::require_toolchains()?;
    let steps: Vec<Step> =
        STEPS.iter().copied().filter(|step| only.is_none_or(|only| only == *step)).collect();
    let (steps, left_out): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| debian::is_root() || !ROOT_ONLY.contains(step));
    for (at, step) in steps.iter().enumerate() {
        progress::part(at + 1, steps.len(), name(*step));
        run_one(*step)?;
    }
    if !left_out.is_empty() {
        let names = left_out.into_iter().map(name).collect::<Vec<_>>().join(", ");
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!("left out, since it needs root: {names}; with CI=true that is a failure");
        }
        progress::say(format!("left out, since it needs root: {names}"));
    }
    println!("steps: {} passed, 0 failed", steps.len());
    Ok(())
}

fn name(step: Step) -> String {
    step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn run_one(step: Step) -> Result<()> {
    match step {
        Step::Format => cargo("format", &["fmt", "--all", "--check"]),
        Step::Tidy => progress::step("architecture rules", None, tidy::check),
        Step::Deny => deny(),
        Step::Clippy => {
            cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        }
        Step::Unit => cargo("unit and property tests", &["test", "--workspace", "--exclude", "plasma-e2e"]),
        Step::Contracts => contracts::quick(),
        Step::Codegen => progress::step("generated files", None, || codegen::run(true)),
        Step::Charts => progress::step("charts", None, charts::check),
        Step::E2e => e2e(),
    }
}

/// Plasma in a cluster of its own, and the tests against it, one after the other: they kill what others need. The last of
/// them uninstalls it.
fn e2e() -> Result<()> {
    debian::require_root()?;
    cluster::down()?;
    let before = Traces::of_host()?;
    debian::require(&[debian::NODE, debian::PYTORCH])?;
    evidence::of(on_a_cluster(before), "e2e")
}

fn on_a_cluster(before: Traces) -> Result<()> {
    let stack = Stack::up(&[programs::pytorch()?])?;
    let before = before.and_of_node(stack.cluster.namespaces());
    let log = paths::logs()?.join("e2e.log");
    let _ = std::fs::remove_file(&log);
    for (what, binary) in [("end-to-end tests", "it"), ("uninstalling", "uninstall")] {
        progress::step(what, Some(&log), || command::logged(&mut end_to_end(&stack, binary, &[])?, &log))?;
    }
    // A failure leaves the cluster as it is, to be looked at.
    progress::step("bring everything down", None, || {
        cluster::down()?;
        before.nothing_new()
    })
}

/// The end-to-end tests of these names, shown as they run.
pub(crate) fn some(names: &[String]) -> Result<()> {
    let status = end_to_end(&Stack::running()?, "it", names)?.status().context("start cargo")?;
    ensure!(status.success(), "end-to-end tests failed");
    Ok(())
}

fn end_to_end(stack: &Stack, binary: &str, names: &[String]) -> Result<Command> {
    let mut tests = command::cargo();
    tests.current_dir(paths::repository()).args(["test", "--package", "plasma-e2e", "--test", binary]);
    tests.args(["--", "--test-threads=1"]).args(names);
    // A backtrace is long, and says nothing that the failed line doesn't.
    tests.env("RUST_BACKTRACE", "0");
    tests.env("KUBECONFIG", stack.cluster.kubeconfig());
    tests.env("PLASMA_RPC", format!("http://{RPC_ON_HOST}")).env("PLASMA_CONTRACT", CONTRACT);
    tests.env("PLASMA_KUBECTL", Cluster::kubectl_path()?);
    tests.env("PLASMA_HELM", tools::build(&tools::HELM)?.join("helm"));
    tests.env("PLASMA_CLI", programs::folder()?.join("kubectl-plasma"));
    Ok(tests)
}

fn cargo(what: &str, arguments: &[&str]) -> Result<()> {
    let log = paths::logs()?.join(format!("{}.log", arguments[0]));
    let _ = std::fs::remove_file(&log);
    progress::step(what, Some(&log), || {
        let mut cargo = command::cargo();
        cargo.current_dir(paths::repository()).env("RUST_BACKTRACE", "0").args(arguments);
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            cargo.env("RUST_TEST_THREADS", test_threads().to_string());
        }
        command::logged(&mut cargo, &log)
    })
}

/// How many tests run at once: those of whole programs wait far more than they compute, so there are more than cores.
fn test_threads() -> usize {
    const LEAST: usize = 8;
    std::thread::available_parallelism().map_or(LEAST, |cores| cores.get().max(LEAST))
}

/// The version of cargo-deny that decides.
const DENY: &str = "0.20.2";

fn deny() -> Result<()> {
    let root = paths::cache()?.join(format!("tools/cargo-deny-{DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        let log = paths::logs()?.join("cargo-deny.log");
        progress::step("build cargo-deny", Some(&log), || {
            let mut cargo = command::cargo();
            // Outside the workspace, whose toolchain settings and lock are not its.
            cargo.current_dir(paths::cache()?).args([
                "install",
                "cargo-deny",
                "--locked",
                "--debug",
                "--no-default-features",
            ]);
            command::logged(cargo.args(["--version", DENY, "--root"]).arg(&root), &log)
        })?;
    }
    let ask = |what: &[&str]| {
        let mut deny = Command::new(&program);
        command::output(deny.current_dir(paths::repository()).args(["--log-level", "error"]).args(what))
            .map(drop)
    };
    progress::step("dependencies: bans, licences, sources", None, || {
        ask(&["check", "bans", "licenses", "sources"])
    })?;
    // They come from a repository of their own, which not every machine reaches; once here, each one counts.
    if let Err(fault) = ask(&["fetch", "db"]) {
        let fault = format!("{fault:#}");
        let why = fault.lines().last().unwrap_or_default();
        progress::say(format!("left out, since their database can't be fetched: advisories ({why})"));
        return Ok(());
    }
    progress::step("dependencies: advisories", None, || ask(&["--offline", "check", "advisories"]))
}

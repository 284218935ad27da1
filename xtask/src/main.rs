//! `cargo xtask …`: every piece of automation of this repository, in Rust.

mod bench;
mod charts;
mod cluster;
mod codegen;
mod command;
mod conformance;
mod contracts;
mod debian;
mod demo;
mod differential;
mod evidence;
mod harness;
mod image;
mod paths;
mod programs;
mod progress;
mod stack;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Plasma's automation: the demo, the tests, the local cluster")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The local cluster: a real Kubernetes node in namespaces of its own.
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// The whole path, from nothing to payments on a chain: a real distributed PyTorch job.
    Demo {
        /// Print one closing line of JSON on standard output.
        #[arg(long)]
        json: bool,
        /// Leave it running, and say how to look around.
        #[arg(long)]
        keep: bool,
    },
    /// End whatever is left running, the cluster included.
    Down,
    /// Write what is generated: CRDs, the code of proto/, the contract's ABI, the page of the scheduler's figures.
    Codegen {
        /// Only say what is stale.
        #[arg(long)]
        check: bool,
    },
    /// The contracts: what they must keep, and each figure.
    Contracts {
        #[command(subcommand)]
        verb: ContractsVerb,
    },
    /// Check the architecture rules.
    Tidy,
    /// Figures of what is shipped, each beside the bar that it must keep.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Kubernetes' own node tests for device plugins, case by case, on our plugin and the kubelet's own managers.
    DeviceConformance {
        /// Parts of the cases' names; none is all of them.
        names: Vec<String>,
        /// Print one line of JSON on standard output.
        #[arg(long)]
        json: bool,
        /// Write docs/reference/device-plugin-conformance.md.
        #[arg(long)]
        publish: bool,
    },
    /// Random nodes and pods through our scheduler's filters and through kube-scheduler's own, verdict by verdict.
    Differential(differential::Arguments),
    /// Everything that must pass. `.ci/run` is this and nothing else.
    Test {
        /// Run one step only.
        #[arg(long)]
        only: Option<test::Step>,
    },
    /// End-to-end tests by name, against the cluster that is up: `demo --keep` leaves one.
    E2e {
        /// Parts of their names; none is all of them, except the one that uninstalls.
        names: Vec<String>,
    },
}

#[derive(Subcommand)]
enum ContractsVerb {
    /// All of it: format, build, tests, canary, snapshots, proofs, slither, mutation score.
    Check(contracts::check::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Cluster(verb) => cluster::run(verb),
        Verb::Demo { json, keep } => demo::run(json, keep),
        Verb::Down => cluster::down(),
        Verb::Codegen { check } => codegen::run(check),
        Verb::Contracts { verb: ContractsVerb::Check(options) } => contracts::check::run(&options),
        Verb::Tidy => tidy::check(),
        Verb::Bench(verb) => bench::run(&verb),
        Verb::DeviceConformance { names, json, publish } => conformance::run(&names, json, publish),
        Verb::Differential(arguments) => differential::run(&arguments),
        Verb::Test { only } => test::run(only),
        Verb::E2e { names } => test::some(&names),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

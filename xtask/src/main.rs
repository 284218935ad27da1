//! `cargo xtask …`: every piece of automation of this repository, in Rust.

mod cluster;
mod command;
mod debian;
mod image;
mod paths;
mod progress;
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
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Cluster(verb) => cluster::run(verb),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

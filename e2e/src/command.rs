//! Programs that people run, run as they would.

use std::{env, process::Command};

/// What a program said, and whether it was content.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with 0.
    pub succeeded: bool,
    /// What it printed.
    pub output: String,
    /// What it complained of.
    pub errors: String,
}

/// `kubectl plasma` with these arguments, in the namespace that the tests' jobs are in.
///
/// # Panics
/// Where the program can't be started.
pub fn kubectl_plasma(arguments: &[&str]) -> Said {
    run("PLASMA_CLI", &[&["--namespace", crate::NAMESPACE], arguments].concat())
}

/// `kubectl` with these arguments, in the namespace that the tests' jobs are in.
///
/// # Panics
/// Where the program can't be started.
pub fn kubectl(arguments: &[&str]) -> Said {
    run("PLASMA_KUBECTL", &[&["--namespace", crate::NAMESPACE], arguments].concat())
}

/// `helm` with these arguments, in Plasma's namespace.
///
/// # Panics
/// Where the program can't be started.
pub fn helm(arguments: &[&str]) -> Said {
    run("PLASMA_HELM", &[&["--namespace", plasma_api::names::SYSTEM_NAMESPACE], arguments].concat())
}

fn run(variable: &str, arguments: &[&str]) -> Said {
    let program = env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run cargo xtask test --only e2e"));
    let said = Command::new(&program).args(arguments).output();
    let said = said.unwrap_or_else(|fault| panic!("{program} {arguments:?}: {fault}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { succeeded: said.status.success(), output: text(&said.stdout), errors: text(&said.stderr) }
}

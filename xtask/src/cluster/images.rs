//! The images that the cluster itself needs: the sandbox's pause, DNS, and a shell for tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, image, tools};

/// The image of a pod's sandbox.
pub(crate) const PAUSE: &str = "plasma.dev/pause:1";
/// The cluster's DNS.
pub(crate) const COREDNS: &str = "plasma.dev/coredns:1.15.0";
/// A shell, for tests and examples.
pub(crate) const BUSYBOX: &str = "plasma.dev/busybox:1";

/// Waits for its end, and reaps what the pod's containers leave behind.
const PAUSE_SOURCE: &str = r"#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
  signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap);
  for (;;) pause();
}
";

/// The archives of all of them, built where they aren't in the cache.
pub(crate) fn all() -> Result<Vec<PathBuf>> {
    Ok(vec![image::build(PAUSE, pause)?, image::build(COREDNS, coredns)?, image::build(BUSYBOX, busybox)?])
}

fn pause(stage: &Path) -> Result<()> {
    fs::write(stage.join("pause.c"), PAUSE_SOURCE).context("write pause.c")?;
    command::output(
        Command::new("cc").args(["-Os", "-static", "-s", "-o", "pause", "pause.c"]).current_dir(stage),
    )?;
    dockerfile(stage, "FROM scratch\nCOPY pause /pause\nUSER 65532\nENTRYPOINT [\"/pause\"]\n")
}

fn coredns(stage: &Path) -> Result<()> {
    fs::copy(tools::build(&tools::COREDNS)?.join("coredns"), stage.join("coredns"))
        .context("stage coredns")?;
    dockerfile(stage, "FROM scratch\nCOPY coredns /coredns\nENTRYPOINT [\"/coredns\"]\n")
}

fn busybox(stage: &Path) -> Result<()> {
    fs::create_dir_all(stage.join("bin")).context("stage busybox")?;
    fs::copy("/bin/busybox", stage.join("bin/busybox")).context("stage busybox")?;
    command::output(Command::new("/bin/busybox").args(["--install", "-s"]).arg(stage.join("bin")))?;
    // The links that --install makes name the host's own place of the program.
    for entry in fs::read_dir(stage.join("bin")).context("list busybox's links")?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            fs::remove_file(entry.path()).context("replace a link")?;
            std::os::unix::fs::symlink("busybox", entry.path()).context("replace a link")?;
        }
    }
    dockerfile(stage, "FROM scratch\nCOPY bin /bin\nENV PATH=/bin\nCMD [\"/bin/sh\"]\n")
}

fn dockerfile(stage: &Path, text: &str) -> Result<()> {
    fs::write(stage.join("Dockerfile"), text).context("write the Dockerfile")
}

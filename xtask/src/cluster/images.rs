//! The images that the cluster itself needs: the sandbox's pause, DNS, and a shell for tests.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, image, programs, tools};

/// The image of a pod's sandbox.
pub(crate) const PAUSE: &str = "plasma.dev/pause:1";
/// The cluster's DNS.
pub(crate) const COREDNS: &str = "plasma.dev/coredns:1.15.0";
/// A shell, for tests and examples.
pub(crate) const BUSYBOX: &str = "plasma.dev/busybox:2";
/// All of them.
pub(crate) const NAMES: [&str; 3] = [PAUSE, COREDNS, BUSYBOX];

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
    let shell = fs::read(programs::BUSYBOX).context("read busybox")?;
    let dns = tools::build(&tools::COREDNS)?.display().to_string();
    let recipe = |content: &[u8]| image::hash([content, include_bytes!("images.rs")]);
    Ok(vec![
        image::build(PAUSE, &recipe(PAUSE_SOURCE.as_bytes()), pause)?,
        image::build(COREDNS, &recipe(dns.as_bytes()), coredns)?,
        image::build(BUSYBOX, &recipe(&shell), busybox)?,
    ])
}

/// The names under which `ctr images ls` lists other versions of the images that are kept. containerd lets content go when
/// its last name goes, and an image has several: with its tag, by its digest, by its id.
pub(crate) fn older(listing: &str, kept: &[&str]) -> Vec<String> {
    let listed: Vec<(&str, &str)> = listing
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            Some((columns.next()?, columns.nth(1)?))
        })
        .collect();
    let repository = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    let current: HashSet<&str> =
        listed.iter().filter(|(name, _)| kept.contains(name)).map(|(_, digest)| *digest).collect();
    let is_of_ours = |name: &str| kept.iter().any(|kept| repository(kept) == repository(name));
    let old: HashSet<&str> = listed
        .iter()
        .filter(|(name, digest)| is_of_ours(name) && !current.contains(digest))
        .map(|(_, digest)| *digest)
        .collect();
    // What an import with --digests called by the day, whatever it was: it holds on to content of images that are gone.
    let is_old = |(name, digest): &&(&str, &str)| old.contains(digest) || name.starts_with("import-");
    listed.iter().filter(is_old).map(|(name, _)| (*name).to_owned()).collect()
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
    fs::copy(programs::BUSYBOX, stage.join("bin/busybox")).context("stage busybox")?;
    command::output(Command::new(programs::BUSYBOX).args(["--install", "-s"]).arg(stage.join("bin")))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_an_older_version_is_found_and_no_other() {
        let listing = "REF TYPE DIGEST SIZE PLATFORMS LABELS
x/a:1 application/v 111 5 MiB linux/amd64 -
x/a@111 application/v 111 5 MiB linux/amd64 -
sha256:aaa application/v 111 5 MiB linux/amd64 -
x/a:2 application/v 222 5 MiB linux/amd64 -
sha256:bbb application/v 222 5 MiB linux/amd64 -
x/b:1 application/v 333 5 MiB linux/amd64 -
x/a:0 application/v 222 5 MiB linux/amd64 -
import-2026-01-02@444 application/v 444 5 MiB linux/amd64 -
";
        assert_eq!(older(listing, &["x/a:2"]), ["x/a:1", "x/a@111", "sha256:aaa", "import-2026-01-02@444"]);
        assert!(older(listing, &["x/a:3", "x/c:1"]).len() == 7, "nothing of a is current");
    }
}

//! Images of our own programs, of the development chain, and of the PyTorch example.
//!
//! One build serves all: the ordinary development build, whose programs go into an image with just the shared libraries
//! that they name. NVML is loaded by name at run time, so a static program could not be used for the device plugin.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::{command, contracts, image, paths, progress};

/// The programs that run in the cluster.
pub(crate) const PROGRAMS: &[&str] =
    &["plasma-operator", "plasma-scheduler", "plasma-device-plugin", "plasma-settlement"];

/// The distribution's certificate authorities.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A shell and its tools, in one static program.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// An image in the cache.
pub(crate) struct Image {
    /// Its name with its tag, which changes with its content.
    pub(crate) name: String,
    /// Its archive.
    pub(crate) archive: PathBuf,
}

/// Compiles the programs; the folder that they are in.
pub(crate) fn compile() -> Result<PathBuf> {
    let log = paths::logs()?.join("cargo-build.log");
    let _ = fs::remove_file(&log);
    progress::step("compile Plasma", Some(&log), || {
        let mut cargo = command::cargo();
        cargo.current_dir(paths::repository()).arg("build");
        for program in PROGRAMS.iter().chain(&["plasma-device-plugin-fake-nvml", "plasma-cli"]) {
            cargo.args(["--package", program]);
        }
        command::logged(&mut cargo, &log)
    })?;
    folder()
}

/// How programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The ordinary development build.
    Development,
    /// As what runs on every node is shipped.
    Small,
}

/// Compiles the device plugin and its substitute of NVML; the folder that they are in.
pub(crate) fn device_plugin(profile: Profile) -> Result<PathBuf> {
    let log = paths::logs()?.join("cargo-build-device-plugin.log");
    let _ = fs::remove_file(&log);
    progress::step("compile the device plugin", Some(&log), || {
        let mut cargo = command::cargo();
        cargo.current_dir(paths::repository()).arg("build");
        if profile == Profile::Small {
            cargo.args(["--profile", "small"]);
        }
        cargo.args(["--package", "plasma-device-plugin", "--package", "plasma-device-plugin-fake-nvml"]);
        command::logged(&mut cargo, &log)
    })?;
    target(if profile == Profile::Small { "small" } else { "debug" })
}

/// Compiles the scheduler as it is shipped; where it is.
pub(crate) fn scheduler() -> Result<PathBuf> {
    let log = paths::logs()?.join("cargo-build-scheduler.log");
    let _ = fs::remove_file(&log);
    progress::step("compile the scheduler", Some(&log), || {
        let mut cargo = command::cargo();
        cargo.current_dir(paths::repository()).args(["build", "--release", "--package", "plasma-scheduler"]);
        command::logged(&mut cargo, &log)
    })?;
    Ok(target("release")?.join("plasma-scheduler"))
}

/// Compiles the bench of the scheduler's core; where it is.
pub(crate) fn planning_bench() -> Result<PathBuf> {
    let log = paths::logs()?.join("cargo-build-planning.log");
    let _ = fs::remove_file(&log);
    progress::step("compile the scheduler's core", Some(&log), || {
        let mut cargo = command::cargo();
        cargo.current_dir(paths::repository()).args(["build", "--release", "--package"]);
        command::logged(cargo.args(["plasma-scheduler-core", "--example", "planning"]), &log)
    })?;
    Ok(target("release")?.join("examples/planning"))
}

/// Where compiled programs are: cargo's own settings decide.
pub(crate) fn folder() -> Result<PathBuf> {
    target("debug")
}

fn target(profile: &str) -> Result<PathBuf> {
    let mut ask = MetadataCommand::new();
    let metadata =
        ask.current_dir(paths::repository()).no_deps().exec().context("ask cargo for its folder")?;
    Ok(metadata.target_directory.as_std_path().join(profile))
}

/// Every image that the charts name, and the example's.
pub(crate) fn images() -> Result<Vec<Image>> {
    let binaries = compile()?;
    progress::step("images of Plasma", Some(&image::log()?), || {
        let mut images = Vec::new();
        for program in PROGRAMS {
            images.push(program_image(program, &binaries)?);
        }
        images.push(chain_image()?);
        Ok(images)
    })
}

fn program_image(program: &str, binaries: &Path) -> Result<Image> {
    let binary = binaries.join(program);
    // Beside the plugin, its substitute of NVML: used only where the chart is told to.
    let library = (program == "plasma-device-plugin").then(|| binaries.join("libplasma_fake_nvml.so"));
    let content: Vec<&Path> = std::iter::once(binary.as_path()).chain(library.as_deref()).collect();
    let (name, recipe) = tagged(program, &content)?;
    let archive = image::build(&name, &recipe, |stage| {
        stage_program(stage, &binary, &format!("usr/bin/{program}"))?;
        if let Some(library) = &library {
            stage_program(stage, library, "opt/plasma/libplasma_fake_nvml.so")?;
            // What a driver's library needs when it is loaded.
            for needed in ["libdl.so.2", "libpthread.so.0", "librt.so.1"] {
                stage_library(stage, needed)?;
            }
        }
        fs::write(stage.join("root/etc/passwd"), "nonroot:x:65532:65532::/:/\n").context("write passwd")?;
        let text = format!("FROM scratch\nCOPY root /\nUSER 65532\nENTRYPOINT [\"/usr/bin/{program}\"]\n");
        fs::write(stage.join("Dockerfile"), text).context("write the Dockerfile")
    })?;
    Ok(Image { name, archive })
}

/// anvil and cast with what they need, and a shell that deploys the contracts.
fn chain_image() -> Result<Image> {
    let (anvil, cast) = (contracts::program("anvil")?, contracts::program("cast")?);
    let abis = contracts::DEPLOYED.map(|contract| paths::repository().join(contracts::abi_file(contract)));
    let mut content = vec![anvil.as_path(), cast.as_path(), Path::new(BUSYBOX)];
    content.extend(abis.iter().map(PathBuf::as_path));
    let (name, recipe) = tagged("dev-chain", &content)?;
    let archive = image::build(&name, &recipe, |stage| {
        stage_program(stage, &anvil, "usr/bin/anvil")?;
        stage_program(stage, &cast, "usr/bin/cast")?;
        let codes = stage.join("root/contracts");
        fs::create_dir_all(&codes).context("stage the bytecode")?;
        for (contract, abi) in contracts::DEPLOYED.iter().zip(&abis) {
            let code = bytecode(abi).with_context(|| format!("the bytecode of {contract}"))?;
            fs::write(codes.join(format!("{contract}.hex")), code).context("stage the bytecode")?;
        }
        fs::create_dir_all(stage.join("root/bin")).context("stage the shell")?;
        fs::copy(BUSYBOX, stage.join("root/bin/sh")).context("stage the shell")?;
        fs::copy(BUSYBOX, stage.join("root/bin/busybox")).context("stage the shell")?;
        let text = "FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/bin HOME=/tmp\nUSER 65532\n";
        fs::write(stage.join("Dockerfile"), text).context("write the Dockerfile")
    })?;
    Ok(Image { name, archive })
}

/// The code that creates a contract, from its ABI file.
fn bytecode(abi: &Path) -> Result<String> {
    let artifact = fs::read_to_string(abi).context("read the ABI file")?;
    let artifact: serde_json::Value = serde_json::from_str(&artifact).context("understand the ABI file")?;
    Ok(artifact["bytecode"].as_str().context("the ABI file holds no bytecode")?.to_owned())
}

/// How the image of the PyTorch example is made.
const PYTORCH: &[&str] = &[
    "--variant=minbase",
    "--include=python3-torch,python3-sklearn",
    "--aptopt=Acquire::Languages \"none\"",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    TORCHRUN,
    "--customize-hook=rm -rf \"$1\"/usr/include \"$1\"/usr/lib/gcc \"$1\"/usr/share/perl \"$1\"/var/cache/apt \"$1\"/var/lib/apt/lists",
    "bookworm",
];

/// Debian's PyTorch 1.13 is older than its Python 3.11, which no longer yields a flag's zero when one goes through its
/// members: torchrun asks for just that one, gets nothing, and every worker ends before it begins. Here they are named;
/// a source without that line fails the build.
const TORCHRUN: &str = r#"--customize-hook=api="$1"/usr/lib/python3/dist-packages/torch/distributed/elastic/multiprocessing/api.py; grep -q "for s in Std:" "$api" && sed -i "s/for s in Std:/for s in (Std.NONE, Std.OUT, Std.ERR, Std.ALL):/" "$api""#;

/// The image of the PyTorch example: a small Debian with PyTorch and scikit-learn from its own packages.
pub(crate) fn pytorch() -> Result<Image> {
    const DOCKERFILE: &str =
        "FROM scratch\nADD root.tar /\nENV PATH=/usr/bin:/bin\nUSER 65532\nCMD [\"python3\"]\n";
    // The name that the example has. A change of the recipe makes another archive; raise the tag with it, since whoever
    // has an image of this name already pulls no other.
    let name = "plasma.dev/pytorch:2".to_owned();
    let recipe = image::hash(PYTORCH.iter().chain([&DOCKERFILE]).map(|part| part.as_bytes()));
    let log = image::log()?;
    let archive = progress::step("image of PyTorch", Some(&log), || {
        image::build(&name, &recipe, |stage| {
            let tar = stage.join("root.tar");
            // What it mounts in the new system must go with it, however it ends: the stage is removed as a whole.
            let mut mmdebstrap = Command::new("unshare");
            mmdebstrap.args(["--mount", "mmdebstrap"]).args(PYTORCH).arg(&tar);
            // It unpacks gigabytes: /tmp is in memory on many machines.
            command::logged(mmdebstrap.env("TMPDIR", stage), &log)?;
            fs::write(stage.join("Dockerfile"), DOCKERFILE).context("write the Dockerfile")
        })
    })?;
    Ok(Image { name, archive })
}

/// `plasma.dev/<name>:<hash of the content>`, and the hash.
fn tagged(name: &str, files: &[&Path]) -> Result<(String, String)> {
    // What goes into an image beside the files is in this file.
    let mut content = vec![include_bytes!("programs.rs").to_vec()];
    for file in files {
        content.push(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    let hash = image::hash(content.iter().map(Vec::as_slice));
    Ok((format!("plasma.dev/{}:{hash}", name.trim_start_matches("plasma-")), hash))
}

/// Puts a program or library into the stage, without its debug information, and every library that it names.
fn stage_program(stage: &Path, file: &Path, place: &str) -> Result<()> {
    let target = stage.join("root").join(place);
    copy(file, &target)?;
    // Whoever speaks TLS to the outside needs to know whom to trust.
    copy(Path::new(CERTIFICATES), &stage.join("root").join(CERTIFICATES.trim_start_matches('/')))?;
    command::output(Command::new("strip").arg("--strip-unneeded").arg(&target))?;
    for line in command::output(Command::new("ldd").arg(file))?.lines() {
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        if let Some(path) = path {
            copy(Path::new(path), &stage.join("root").join(path.trim_start_matches('/')))?;
        } else if line.contains("not found") {
            bail!("{} needs a library that this machine lacks: {line}", file.display());
        }
    }
    Ok(())
}

fn stage_library(stage: &Path, name: &str) -> Result<()> {
    let folders = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    // Since glibc 2.34 these are empty; a system without them doesn't need them.
    let Some(found) = found else { return Ok(()) };
    copy(&found, &stage.join("root").join(found.strip_prefix("/").unwrap_or(&found)))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display())).map(drop)
}

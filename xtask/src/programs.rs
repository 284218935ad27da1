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
use sha2::{Digest as _, Sha256};

use crate::{command, contracts, image, paths, progress};

/// The programs that run in the cluster.
pub(crate) const PROGRAMS: &[&str] =
    &["plasma-operator", "plasma-scheduler", "plasma-device-plugin", "plasma-settlement"];

/// The distribution's certificate authorities.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

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
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(paths::repository()).arg("build");
        for program in PROGRAMS.iter().chain(&["plasma-device-plugin-fake-nvml", "plasma-cli"]) {
            cargo.args(["--package", program]);
        }
        command::logged(&mut cargo, &log)
    })?;
    Ok(folder())
}

/// Where compiled programs are.
pub(crate) fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| paths::repository().join("target"), PathBuf::from).join("debug")
}

/// Every image that the charts name, and the example's.
pub(crate) fn images() -> Result<Vec<Image>> {
    let binaries = compile()?;
    progress::step("images of Plasma", None, || {
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
    let name = tagged(program, &content)?;
    let archive = image::build(&name, |stage| {
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

/// anvil and cast with what they need, and a shell that deploys the contract.
fn chain_image() -> Result<Image> {
    let (anvil, cast) = (contracts::program("anvil")?, contracts::program("cast")?);
    let abi = paths::repository().join("chain/abi/Rental.json");
    let name = tagged("dev-chain", &[&anvil, &cast, &abi])?;
    let archive = image::build(&name, |stage| {
        stage_program(stage, &anvil, "usr/bin/anvil")?;
        stage_program(stage, &cast, "usr/bin/cast")?;
        let artifact = fs::read_to_string(&abi).context("read the contract's ABI")?;
        let artifact: serde_json::Value =
            serde_json::from_str(&artifact).context("understand the contract's ABI")?;
        let bytecode = artifact["bytecode"].as_str().context("the ABI file holds no bytecode")?;
        fs::create_dir_all(stage.join("root/contracts")).context("stage the bytecode")?;
        fs::create_dir_all(stage.join("root/bin")).context("stage the shell")?;
        fs::write(stage.join("root/contracts/Rental.hex"), bytecode).context("stage the bytecode")?;
        fs::copy("/bin/busybox", stage.join("root/bin/sh")).context("stage the shell")?;
        fs::copy("/bin/busybox", stage.join("root/bin/busybox")).context("stage the shell")?;
        let text = "FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/bin HOME=/tmp\nUSER 65532\n";
        fs::write(stage.join("Dockerfile"), text).context("write the Dockerfile")
    })?;
    Ok(Image { name, archive })
}

/// The image of the PyTorch example: a small Debian with PyTorch and scikit-learn from its own packages.
pub(crate) fn pytorch() -> Result<Image> {
    const RECIPE: &[&str] = &[
        "--variant=minbase",
        "--include=python3-torch,python3-sklearn",
        "--aptopt=Acquire::Languages \"none\"",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--customize-hook=rm -rf \"$1\"/usr/include \"$1\"/usr/lib/gcc \"$1\"/usr/share/perl \"$1\"/var/cache/apt \"$1\"/var/lib/apt/lists",
        "bookworm",
    ];
    // The name that the example has; raise its tag with every change of the recipe.
    let name = "plasma.dev/pytorch:1".to_owned();
    let log = paths::logs()?.join("pytorch.log");
    let archive = progress::step("image of PyTorch", Some(&log), || {
        image::build(&name, |stage| {
            let tar = stage.join("root.tar");
            command::logged(Command::new("mmdebstrap").args(RECIPE).arg(&tar), &log)?;
            let text =
                "FROM scratch\nADD root.tar /\nENV PATH=/usr/bin:/bin\nUSER 65532\nCMD [\"python3\"]\n";
            fs::write(stage.join("Dockerfile"), text).context("write the Dockerfile")
        })
    })?;
    Ok(Image { name, archive })
}

/// `plasma.dev/<name>:<hash of the content>`.
fn tagged(name: &str, files: &[&Path]) -> Result<String> {
    let mut hasher = Sha256::new();
    // What goes into an image beside the files is in this file.
    hasher.update(include_str!("programs.rs"));
    for file in files {
        hasher.update(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    let hash = hex::encode(&hasher.finalize()[..6]);
    Ok(format!("plasma.dev/{}:{hash}", name.trim_start_matches("plasma-")))
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

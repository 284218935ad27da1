//! `plasma-device-plugin cdi`: prints the CDI spec for this machine, and writes nothing.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use plasma_device_plugin_core::{HealthRules, Inventory};

use crate::{
    aside::{Fault, PatienceArgs},
    handover::{DriverRootArgs, ToHandOver},
    inspect::{look, print},
    nvml::{DRIVER_LIBRARY, Source},
};

/// In which language the spec is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As `nvidia-ctk cdi generate` prints.
    #[default]
    Yaml,
    /// As it is kept for the runtime.
    Json,
}

/// What printing the spec needs to know.
#[derive(Clone, Debug, Args)]
pub(crate) struct Printing {
    /// The NVML library. Anything but the driver's own is a substitute, and its GPUs are pretended.
    #[arg(long, env = "NVML_LIBRARY", default_value = DRIVER_LIBRARY)]
    nvml_library: PathBuf,

    /// In which language the spec is.
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    patience: PatienceArgs,

    #[command(flatten)]
    driver_root: DriverRootArgs,
}

/// Prints the spec that containers would get their GPUs by.
///
/// # Errors
/// In words: NVML can't be used or doesn't answer in time, or the driver's files aren't there.
pub(crate) fn cdi(printing: &Printing) -> Result<(), Fault> {
    let source = Source { library: printing.nvml_library.clone(), root: printing.driver_root.root() };
    let (scan, _, substitute) = look(source, printing.patience.patience())?;
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(scan);
    if let Some(fault) = inventory.fault() {
        return Err(fault.to_owned().into());
    }
    let devices = ToHandOver::new(&inventory, substitute);
    let spec = devices.spec(|version| printing.driver_root.root().find(version))?;
    Ok(print(&match printing.format {
        Format::Yaml => serde_saphyr::to_string(&spec).map_err(|fault| fault.to_string())?,
        Format::Json => serde_json::to_string_pretty(&spec).map_err(|fault| fault.to_string())?,
    })?)
}

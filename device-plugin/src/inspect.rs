//! `plasma-device-plugin inspect`: what the plugin sees of this machine's GPUs, without Kubernetes.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use plasma_device_plugin_core::{HealthRules, Inventory, MigStrategy, Policy, Scan};
use serde_json::{Value, json};

use crate::{
    aside::{self, Fault, PatienceArgs},
    describe::{self, Described},
    handover::DriverRootArgs,
    nvml::{DRIVER_LIBRARY, Figures, Library, Session, Source},
};

/// How the output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What looking needs to know.
#[derive(Clone, Debug, Args)]
pub(crate) struct Looking {
    /// The NVML library. Anything but the driver's own is a substitute, and what it says is marked simulated.
    #[arg(long, env = "NVML_LIBRARY", default_value = DRIVER_LIBRARY)]
    pub(crate) nvml_library: PathBuf,

    /// How the output looks.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: Output,

    #[command(flatten)]
    patience: PatienceArgs,

    #[command(flatten)]
    driver_root: DriverRootArgs,
}

impl Looking {
    pub(crate) fn patience(&self) -> Duration {
        self.patience.patience()
    }

    pub(crate) fn nvml(&self) -> Source {
        Source { library: self.nvml_library.clone(), root: self.driver_root.root() }
    }
}

/// Prints what the plugin sees of this machine's GPUs.
///
/// # Errors
/// In words: NVML can't be used, or doesn't answer in time.
pub(crate) fn inspect(looking: &Looking) -> Result<(), Fault> {
    let (scan, figures, substitute) = look(looking.nvml(), looking.patience())?;
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(scan);
    // Everything that is there, whichever way it is offered.
    let policy = Policy { mig: MigStrategy::Mixed, ..Policy::default() };
    let (spec, status) = match describe::describe(&inventory, &policy, substitute) {
        Described::Known(spec, status, _) => (spec, status),
        Described::Unknown { fault, .. } => return Err(fault.into()),
        Described::Nothing => return Err("NVML said nothing".to_owned().into()),
    };
    let seen = json!({ "spec": spec, "status": status, "figures": figures.iter().map(of_figures).collect::<Vec<_>>() });
    let text = match looking.output {
        Output::Json => serde_json::to_string_pretty(&seen).map_err(|fault| fault.to_string())?,
        Output::Table => table(&seen),
    };
    Ok(print(&text)?)
}

/// One look at all GPUs, and whether a substitute of NVML says what was seen.
///
/// # Errors
/// In words: NVML can't be used, or doesn't answer in time.
pub(crate) fn look(nvml: Source, patience: Duration) -> Result<(Scan, Vec<Figures>, bool), Fault> {
    let seen = aside::within(patience, move || {
        let library = Library::load(&nvml)?;
        let (scan, figures) = Session::new(&library, 0).look();
        Ok((scan, figures, library.is_substitute()))
    });
    seen?.map_err(Fault::Refused)
}

fn of_figures(figures: &Figures) -> Value {
    json!({
        "uuid": figures.uuid, "memoryUsedBytes": figures.memory_used_bytes,
        "utilizationPercent": figures.utilization_percent, "temperatureCelsius": figures.temperature_celsius,
        "powerMilliwatts": figures.power_milliwatts, "energyMillijoules": figures.energy_millijoules,
    })
}

fn table(seen: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["INDEX", "UUID", "PRODUCT", "MEMORY", "NUMA", "CUDA", "MIG", "HEALTH", "REASON"]);
    let entries = |list: &Value| list.as_array().cloned().unwrap_or_default();
    for (gpu, health) in entries(&seen["spec"]["gpus"]).iter().zip(entries(&seen["status"]["gpus"])) {
        let memory = format!("{} MiB", text(&gpu["memoryMib"]));
        let mig = match (&gpu["migEnabled"], &gpu["migCapable"]) {
            (Value::Bool(true), _) => "on",
            (_, Value::Bool(true)) => "off",
            _ => "-",
        };
        let (numa, cuda) = (text(&gpu["numaNode"]), text(&gpu["computeCapability"]));
        table.add_row([
            text(&gpu["index"]),
            text(&gpu["uuid"]),
            text(&gpu["product"]),
            memory,
            numa,
            cuda,
            mig.to_owned(),
            text(&health["health"]),
            text(&health["reason"]),
        ]);
        for part in entries(&gpu["instances"]) {
            let hurt = entries(&health["instances"]).into_iter().find(|hurt| hurt["uuid"] == part["uuid"]);
            let of_part = hurt.as_ref().unwrap_or(&health);
            table.add_row([
                String::new(),
                text(&part["uuid"]),
                text(&part["product"]),
                format!("{} MiB", text(&part["memoryMib"])),
                String::new(),
                String::new(),
                text(&part["profile"]),
                text(&of_part["health"]),
                text(&of_part["reason"]),
            ]);
        }
    }
    let driver = format!(
        "driver {}, CUDA {}",
        text(&seen["spec"]["driverVersion"]),
        text(&seen["spec"]["cudaVersion"])
    );
    let simulated = if seen["spec"]["simulated"] == json!(true) { ", simulated" } else { "" };
    let message =
        seen["status"]["message"].as_str().map(|message| format!("\n{message}")).unwrap_or_default();
    format!("{driver}{simulated}{message}\n{table}")
}

/// Prints it; a reader that has gone is no fault.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(fault.to_string()),
        _ => Ok(()),
    }
}

//! `plasma-device-plugin inspect` and `check`: what this machine's NVML says, without Kubernetes.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use plasma_device_plugin_core::{HealthRules, Inventory, MigStrategy, Policy};
use serde_json::{Value, json};

use crate::{
    describe::{self, Described},
    handover::DriverRootArgs,
    nvml::{Answer, DRIVER_LIBRARY, Figures, Library, Session, Source, ask_all},
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

    /// A question that isn't answered within so many seconds is one that hangs.
    #[arg(long, default_value_t = 20)]
    pub(crate) patience_seconds: u64,

    #[command(flatten)]
    driver_root: DriverRootArgs,
}

impl Looking {
    fn nvml(&self) -> Source {
        Source { library: self.nvml_library.clone(), root: self.driver_root.root() }
    }
}

/// Prints what the plugin sees of this machine's GPUs.
///
/// # Errors
/// In words: NVML can't be used.
pub(crate) fn inspect(looking: &Looking) -> Result<(), String> {
    let library = Library::load(&looking.nvml())?;
    let (scan, figures) = Session::new(&library, 0).look();
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(scan);
    // Everything that is there, whichever way it is offered.
    let policy = Policy { mig: MigStrategy::Mixed, ..Policy::default() };
    let (spec, status) = match describe::describe(&inventory, &policy, library.is_substitute()) {
        Described::Known(spec, status, _) => (spec, status),
        Described::Unknown { fault, .. } => return Err(fault),
        Described::Nothing => return Err("NVML said nothing".to_owned()),
    };
    let seen = json!({ "spec": spec, "status": status, "figures": figures.iter().map(of_figures).collect::<Vec<_>>() });
    let text = match looking.output {
        Output::Json => serde_json::to_string_pretty(&seen).map_err(|fault| fault.to_string())?,
        Output::Table => table(&seen),
    };
    print(&text)
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

/// What the asking thread says.
enum Said {
    Asking(Option<u32>, &'static str),
    Answered(Answer),
}

/// Asks NVML everything that the plugin relies on, and prints each answer. A question that hangs is named.
///
/// # Errors
/// In words: NVML can't be used, or a question was never answered.
pub(crate) fn check(looking: &Looking) -> Result<(), String> {
    let (say, hear) = mpsc::channel();
    let source = looking.nvml();
    thread::spawn(move || {
        // Whoever listens may have given up on us: nobody is left to be told.
        let loaded = say.send(Said::Asking(None, "nvmlInit_v2")).and_then(|()| {
            let library = match Library::load(&source) {
                Ok(library) => library,
                Err(fault) => return say.send(answer("nvmlInit_v2", Err(fault))),
            };
            say.send(answer("nvmlInit_v2", Ok("loaded".to_owned())))?;
            let asking = &mut |gpu, question| drop(say.send(Said::Asking(gpu, question)));
            ask_all(&library, asking, &mut |answer| drop(say.send(Said::Answered(answer))));
            Ok(())
        });
        drop(loaded);
    });
    let patience = Duration::from_secs(looking.patience_seconds);
    let (answers, hangs) = collect(&hear, patience);
    let loaded = answers.first().is_some_and(|first| first.answer.is_ok());
    print(&match looking.output {
        Output::Json => {
            let all: Vec<Value> = answers.iter().map(of_answer).collect();
            serde_json::to_string_pretty(&all).map_err(|fault| fault.to_string())?
        }
        Output::Table => answers.iter().map(line).collect::<Vec<_>>().join("\n"),
    })?;
    match hangs {
        Some(question) => Err(format!("{question} has not been answered for {patience:?}: the driver hangs")),
        None if loaded => Ok(()),
        None => Err("NVML can't be used: is the driver installed, and loaded?".to_owned()),
    }
}

fn answer(question: &'static str, answer: Result<String, String>) -> Said {
    Said::Answered(Answer { question, gpu: None, answer, took: None })
}

/// Everything that was answered, and the question that wasn't.
fn collect(hear: &mpsc::Receiver<Said>, patience: Duration) -> (Vec<Answer>, Option<String>) {
    let (mut answers, mut asked) = (Vec::new(), None);
    loop {
        match hear.recv_timeout(patience) {
            Ok(Said::Asking(gpu, question)) => asked = Some((gpu, question)),
            Ok(Said::Answered(answer)) => answers.push(answer),
            Err(mpsc::RecvTimeoutError::Disconnected) => return (answers, None),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let of_gpu = |gpu: u32| format!("GPU {gpu}: ");
                let named =
                    asked.map(|(gpu, question)| format!("{}{question}", gpu.map(of_gpu).unwrap_or_default()));
                return (answers, Some(named.unwrap_or_default()));
            }
        }
    }
}

fn of_answer(answer: &Answer) -> Value {
    let (told, fault) = (answer.answer.as_ref().ok(), answer.answer.as_ref().err());
    let microseconds = answer.took.map(|took| took.as_micros() as u64);
    json!({
        "question": answer.question, "gpu": answer.gpu, "answer": told, "fault": fault,
        "microseconds": microseconds,
    })
}

fn line(answer: &Answer) -> String {
    let gpu = answer.gpu.map(|gpu| format!("GPU {gpu}  ")).unwrap_or_default();
    let took = answer.took.map(|took| format!("  [{} µs]", took.as_micros())).unwrap_or_default();
    match &answer.answer {
        Ok(told) => format!("ok    {gpu}{}: {told}{took}", answer.question),
        Err(fault) => format!("no    {gpu}{}: {fault}{took}", answer.question),
    }
}

/// Prints it; a reader that has gone is no fault.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(fault.to_string()),
        _ => Ok(()),
    }
}

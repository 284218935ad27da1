//! Arguments that every program has.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Flatten this into a program's own arguments.
#[derive(Args, Clone, Debug)]
pub struct RuntimeArgs {
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "METRICS_ADDRESS", default_value = "0.0.0.0:9090")]
    pub metrics_address: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as `info,plasma_scheduler=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors, one object a line.
    Json,
}

pub(crate) fn init_logs(args: &RuntimeArgs) {
    let (filter, fault) = match EnvFilter::try_new(&args.log_level) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new("info"), Some(fault)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, as in tests, leaves the first one's choice.
    let _ = match args.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if let Some(fault) = fault {
        tracing::warn!("--log-level {:?} is not understood ({fault}): logging at info", args.log_level);
    }
}

//! Arguments that every program has.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

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
    // Not `EnvFilter`: its filters by fields bring an engine for regular expressions, which lies in memory everywhere.
    let (targets, fault) = match args.log_level.parse::<Targets>() {
        Ok(targets) => (targets, None),
        Err(fault) => (Targets::new().with_default(LevelFilter::INFO), Some(fault)),
    };
    let filtered = tracing_subscriber::registry().with(targets);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A second call, as in tests, leaves the first one's choice.
    let _ = match args.log_format {
        LogFormat::Text => filtered.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => filtered.with(lines.json()).try_init(),
    };
    if let Some(fault) = fault {
        tracing::warn!("--log-level {:?} is not understood ({fault}): logging at info", args.log_level);
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_and_directives_by_target_are_understood_and_nonsense_is_not() {
        let targets: Targets = "info,plasma_scheduler=debug".parse().unwrap();
        assert!(targets.would_enable("plasma_scheduler::plan", &Level::DEBUG));
        assert!(targets.would_enable("kube", &Level::INFO) && !targets.would_enable("kube", &Level::DEBUG));
        assert!("plasma_scheduler=loud".parse::<Targets>().is_err());
    }
}

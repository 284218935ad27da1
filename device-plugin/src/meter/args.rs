//! The meter's flags.

use std::path::PathBuf;

use clap::Args;

/// What the meter needs to know.
#[derive(Clone, Debug, Args)]
pub(crate) struct MeterArgs {
    /// Where the meter's records go: settlement's `https://HOST:PORT`. Without it they are kept on this node, and pods are
    /// billed from their status.
    #[arg(long, env = "METER_ADDRESS", requires = "meter_tls_dir")]
    pub(crate) meter_address: Option<String>,

    /// The folder with ca.crt, tls.crt and tls.key, by which the two know each other.
    #[arg(long, env = "METER_TLS_DIR")]
    pub(crate) meter_tls_dir: Option<PathBuf>,

    /// The file with this pod's service account token for the audience `plasma-meter`.
    #[arg(long, env = "METER_TOKEN_FILE", default_value = "/var/run/secrets/plasma/meter/token")]
    pub(crate) meter_token_file: PathBuf,

    /// The folder in which the meter keeps its journal. It must outlive this process.
    #[arg(long, env = "METER_DIR", default_value = "/var/lib/plasma/meter")]
    pub(crate) meter_dir: PathBuf,

    /// Milliseconds between two looks at the GPUs, from `--scan-seconds`.
    #[arg(skip = 2_000_u64)]
    pub(crate) look_ms: u64,
}

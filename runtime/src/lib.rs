//! What every program of Plasma needs around its work: logs, metrics, health, a Kubernetes client, an orderly end.
//!
//! A program's `main` parses its arguments, calls [`Runtime::start`], wires its parts and waits for
//! [`Runtime::shutdown`]. Nothing here decides anything.

mod args;
mod bounded;
mod health;
mod leader;
mod metrics;
mod multiplexed;
mod server;
mod service_account;

use std::{fmt::Display, process::ExitCode, time::Duration};

pub use args::{LogFormat, RuntimeArgs};
pub use health::{Gate, Health};
pub use leader::{LeaderArgs, Leadership, is_conflict, lead};
pub use metrics::register;
pub use prometheus;
pub use service_account::ServiceAccount;
pub use tokio_util::sync::CancellationToken;

/// How long one request to the API server may take, with what is tried again by itself, before it counts as unanswered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a program could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metrics server's address can't be used.
    #[error("cannot listen on {address} for metrics and health: {source}")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither a service account nor a kubeconfig is usable.
    #[error("no way to reach a Kubernetes API server: {0}")]
    KubeConfig(#[from] Box<kube::config::InferConfigError>),
    /// The service account isn't usable.
    #[error("no way to reach a Kubernetes API server: {0}")]
    ServiceAccount(#[source] std::io::Error),
    /// Another copy leads, or may: begin anew, and wait for the lease.
    #[error("the lease was lost: another copy leads, or may")]
    LeaseLost,
    /// The client can't be made from the configuration.
    #[error("the Kubernetes client can't be made: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// The running surroundings of a program.
pub struct Runtime {
    /// Where the program's metrics are registered.
    pub registry: prometheus::Registry,
    /// Whether the program is ready, gate by gate.
    pub health: Health,
    /// Cancelled when the program is asked to end.
    pub shutdown: CancellationToken,
}

impl Runtime {
    /// Sets up logs, the metrics and health server, and the wish to end. Needs no cluster.
    ///
    /// # Errors
    /// When the metrics address can't be listened on.
    pub async fn start(args: &RuntimeArgs) -> Result<Self, StartError> {
        args::init_logs(args);
        // Fails only where a provider is installed already, which is all that is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Self {
            registry: prometheus::Registry::new(),
            health: Health::default(),
            shutdown: CancellationToken::new(),
        };
        server::start(args.metrics_address, runtime.registry.clone(), runtime.health.clone()).await?;
        tokio::spawn(cancel_on_signal(runtime.shutdown.clone()));
        Ok(runtime)
    }

    /// A client for the cluster: the service account's, or the kubeconfig's outside a pod. Each of its requests ends
    /// within half a minute, watches aside.
    ///
    /// # Errors
    /// When there is neither.
    pub async fn kube_client(&self) -> Result<kube::Client, StartError> {
        let mut config = kube::Config::infer().await.map_err(Box::new)?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.write_timeout = Some(REQUEST_TIMEOUT);
        let client = kube::Client::try_from(config).map_err(|fault| StartError::Client(Box::new(fault)))?;
        Ok(bounded::bounded(client, REQUEST_TIMEOUT))
    }

    /// The same, for a program with hundreds of requests under way at once: they share a few connections, so many at most.
    ///
    /// # Errors
    /// When there is neither.
    pub async fn multiplexed_kube_client(&self, connections: usize) -> Result<kube::Client, StartError> {
        multiplexed::client(&kube::Config::infer().await.map_err(Box::new)?, connections, REQUEST_TIMEOUT)
    }
}

/// The exit code for how a program ended; a failure is said on the log.
pub fn exit<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!("{fault}");
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals can't be caught: the program will end without saying goodbye");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to end");
    shutdown.cancel();
}

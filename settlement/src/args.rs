//! Flags, each with an environment variable. The key comes from a file and nowhere else.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand};
use plasma_chain::Finality;
use plasma_runtime::RuntimeArgs;
use plasma_types::Address;

/// Pays for finished pods, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "plasma-settlement", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Settle until told to end.
    Run(Box<Settings>),
    /// Take the settlement finalizer off every pod and end: for uninstalling. Records nothing.
    ReleaseAll,
}

/// What settling needs to know.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Settings {
    /// A JSON-RPC endpoint of the chain.
    #[arg(long, env = "CHAIN_RPC")]
    pub(crate) chain_rpc: String,

    /// The chain's id; an endpoint that serves another one is refused.
    #[arg(long, env = "CHAIN_ID")]
    pub(crate) chain_id: u64,

    /// The Rental contract.
    #[arg(long, env = "CONTRACT")]
    pub(crate) contract: Address,

    /// The Providers contract: it says whose batches a key may sign.
    #[arg(long, env = "PROVIDERS")]
    pub(crate) providers: Address,

    /// Blocks on top of one until it counts as final; or `finalized`, where the chain itself says what is.
    #[arg(long, env = "CONFIRMATIONS", default_value = "12")]
    pub(crate) confirmations: Finality,

    /// The block in which the contract was made: its events are looked for from there.
    #[arg(long, env = "CONTRACT_BLOCK", default_value_t = 0)]
    pub(crate) contract_block: u64,

    /// The file with the private key of one of the provider's signers: in hex, or an encrypted keystore in JSON. It signs
    /// batches and pays for the transactions' gas.
    #[arg(long, env = "KEY_FILE")]
    pub(crate) key_file: PathBuf,

    /// The file with the keystore's password.
    #[arg(long, env = "KEY_PASSWORD_FILE")]
    pub(crate) key_password_file: Option<PathBuf>,

    /// The namespace of SettlementBatches.
    #[arg(long, env = "NAMESPACE", default_value = plasma_api::names::SYSTEM_NAMESPACE)]
    pub(crate) namespace: String,

    /// Seconds that finished pods wait for others, to be settled together.
    #[arg(long, env = "BATCH_SECONDS", default_value_t = 10)]
    pub(crate) batch_seconds: u64,

    /// Receipts in one batch, at most.
    #[arg(long, env = "BATCH_LIMIT", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) batch_limit: u16,

    /// Seconds between two looks at what of a rental can be released to the provider's credit; 0 releases nothing, which
    /// leaves it to others: anyone may.
    #[arg(long, env = "RELEASE_SECONDS", default_value_t = 600)]
    pub(crate) release_seconds: u64,

    /// Where the nodes' meters report; nowhere, if it isn't given: pods are billed from their status where there is no meter.
    #[arg(long, env = "METER_LISTEN", requires = "meter_tls_dir")]
    pub(crate) meter_listen: Option<SocketAddr>,

    /// The folder with ca.crt, tls.crt and tls.key for the meters: the authority of their certificates, and ours.
    #[arg(long, env = "METER_TLS_DIR")]
    pub(crate) meter_tls_dir: Option<PathBuf>,

    /// Bill simulated GPUs: for test chains only.
    #[arg(long, env = "ALLOW_SIMULATED")]
    pub(crate) allow_simulated: bool,
}

/// Chains on which simulated GPUs may be billed: those that people run on their own machines.
pub(crate) const TEST_CHAINS: [u64; 2] = [31337, 1337];

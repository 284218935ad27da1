//! The command line, in kubectl's habits.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use plasma_types::Address;

/// What a job cost, and whether the chain agrees.
#[derive(Debug, Parser)]
#[command(name = "kubectl plasma", bin_name = "kubectl plasma", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which cluster, and which namespace in it.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Connection {
    /// The kubeconfig's context to use.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,

    /// The namespace; the context's own by default.
    #[arg(long, short, global = true)]
    pub(crate) namespace: Option<String>,

    /// The namespace that Plasma is installed in: its SettlementBatches are the records, and no others.
    #[arg(long, global = true, env = "PLASMA_NAMESPACE", default_value = plasma_api::names::SYSTEM_NAMESPACE)]
    pub(crate) system_namespace: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the receipts of a ComputeJob: what each pod cost, and how far its payment is.
    Receipts {
        /// The ComputeJob's name.
        job: String,
        /// How to print them.
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Recompute a ComputeJob's receipts and compare them with the chain; fails at the first difference.
    Verify {
        /// The ComputeJob's name.
        job: String,
        #[command(flatten)]
        chain: ChainArgs,
    },
    /// Break glass: let a pod go that waits for its receipt. Its provider is not paid for it.
    Release {
        /// The pod's name.
        pod: String,
        /// Do it, rather than say what would be given up.
        #[arg(long)]
        yes: bool,
    },
}

/// Whom to ask, and what about.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ChainArgs {
    /// A JSON-RPC endpoint of the chain: your own, if you trust nobody else's.
    #[arg(long, env = "PLASMA_RPC")]
    pub(crate) rpc: String,

    /// The Rental contract that you rent by. Without it the records say which contract is asked, and so they can't be
    /// wrong about that.
    #[arg(long, env = "PLASMA_CONTRACT")]
    pub(crate) contract: Option<Address>,

    /// The block in which the contract was made, or any later one before the job's first receipt: events are looked
    /// for from there.
    #[arg(long, env = "PLASMA_FROM_BLOCK", default_value_t = 0)]
    pub(crate) from_block: u64,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

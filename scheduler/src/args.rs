//! Flags, each with an environment variable.

use clap::Parser;
use plasma_runtime::{LeaderArgs, RuntimeArgs};

/// The name under which kube-scheduler works, and which pods have that name none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// Where kube-scheduler's own lease is, and its name.
const ITS_LEASE: (&str, &str) = ("kube-system", "kube-scheduler");

/// Places gangs of pods on nodes, all or nothing.
#[derive(Clone, Debug, Parser)]
#[command(name = "plasma-scheduler", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,

    #[command(flatten)]
    pub(crate) leader: LeaderArgs,

    /// Pods with this `spec.schedulerName` are ours.
    #[arg(long, env = "SCHEDULER_NAME", default_value = plasma_api::names::SCHEDULER_NAME)]
    pub(crate) scheduler_name: String,

    /// Seconds until a gang that could be bound only in part is undone.
    #[arg(long, env = "GANG_DEADLINE_SECONDS", default_value_t = 60)]
    pub(crate) gang_deadline_seconds: u32,

    /// Seconds for which nodes are kept for a group for which others are evicted; then it is looked at anew.
    #[arg(long, env = "NOMINATION_SECONDS", default_value_t = 600)]
    pub(crate) nomination_seconds: u32,

    /// Milliseconds for which nobody gets the devices of a pod that was deleted: device plugins look at them first.
    #[arg(long, env = "DEVICE_REST_MILLISECONDS", default_value_t = 1000)]
    pub(crate) device_rest_milliseconds: u32,
}

impl Args {
    /// Under kube-scheduler's name the lease is kube-scheduler's too, unless another is asked for: of the two, one works.
    pub(crate) fn with_lease_of_its_name(mut self) -> Self {
        if self.scheduler_name == DEFAULT_SCHEDULER {
            let (namespace, name) = ITS_LEASE;
            self.leader.leader_elect_resource_namespace.get_or_insert_with(|| namespace.to_owned());
            self.leader.leader_elect_resource_name.get_or_insert_with(|| name.to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lease's namespace and name, as far as they aren't the usual ones.
    fn lease(flags: &[&str]) -> (Option<String>, Option<String>) {
        let args = Args::parse_from([&["plasma-scheduler"], flags].concat()).with_lease_of_its_name();
        (args.leader.leader_elect_resource_namespace, args.leader.leader_elect_resource_name)
    }

    fn told(namespace: &str, name: &str) -> (Option<String>, Option<String>) {
        (Some(namespace.to_owned()), Some(name.to_owned()))
    }

    #[test]
    fn who_takes_kube_schedulers_name_takes_its_lease_too_unless_told_otherwise() {
        assert_eq!(lease(&[]), (None, None));
        assert_eq!(lease(&["--scheduler-name=another"]), (None, None));
        let default = "--scheduler-name=default-scheduler";
        assert_eq!(lease(&[default]), told("kube-system", "kube-scheduler"));
        let (namespace, name) =
            ("--leader-elect-resource-namespace=mine", "--leader-elect-resource-name=own");
        assert_eq!(lease(&[default, namespace, name]), told("mine", "own"));
        assert_eq!(lease(&[default, name]), told("kube-system", "own"));
    }
}

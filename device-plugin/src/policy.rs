//! How the node's GPUs are offered: by flags, and by a file in the shape that NVIDIA's plugin reads.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum, value_parser};
use plasma_device_plugin_core as core;
use plasma_device_plugin_core::{Policy, SHARED, Sharing};
use serde::Deserialize;

/// So many containers may have one device at once, at most: more find no time on it.
const MOST_REPLICAS: u32 = 256;
/// The only version of the file there is.
const VERSION: &str = "v1";

/// How GPUs are offered.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PolicyArgs {
    /// How divided GPUs are offered: none unless this or the file says so.
    #[arg(long, env = "MIG_STRATEGY", value_enum)]
    mig_strategy: Option<MigStrategy>,

    /// So many containers may have one GPU at once; it is offered as `<resource>.shared` then, and never as a whole.
    #[arg(long, env = "REPLICAS", value_parser = value_parser!(u32).range(2..=i64::from(MOST_REPLICAS)))]
    replicas: Option<u32>,

    /// Where the next container goes that shares a GPU.
    #[arg(long, env = "SHARED_PLACEMENT", value_enum, default_value_t)]
    shared_placement: SharedPlacement,

    /// A file that says the same for each resource, in the shape of NVIDIA's plugin: flags.migStrategy, sharing.timeSlicing.
    #[arg(long, env = "CONFIG_FILE")]
    config_file: Option<PathBuf>,
}

/// How divided GPUs are offered, as NVIDIA's plugin names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MigStrategy {
    /// Whole GPUs alone; one in MIG mode is counted, and given to nobody.
    #[default]
    None,
    /// All GPUs are divided alike, and an instance counts as a GPU.
    Single,
    /// Each profile is a resource of its own, such as `nvidia.com/mig-1g.10gb`.
    Mixed,
}

/// Where the next container goes that shares a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SharedPlacement {
    /// To the GPU that the fewest others have.
    #[default]
    Distributed,
    /// To the GPU that the most others have, so that the rest stays free.
    Packed,
}

/// The file, as YAML. What NVIDIA's plugin knows beyond this is refused by its name: it would not be done.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(default)]
    flags: Flags,
    #[serde(default)]
    sharing: Shares,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Flags {
    mig_strategy: Option<MigStrategy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Shares {
    time_slicing: Option<TimeSlicing>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimeSlicing {
    rename_by_default: Option<bool>,
    #[serde(default)]
    fail_requests_greater_than_one: bool,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    replicas: u32,
}

impl PolicyArgs {
    /// The policy for GPUs that are `resource`.
    ///
    /// # Errors
    /// In words: the file can't be read, or flags and file say what can't be done. Half of it is never used.
    pub(crate) fn policy(&self, resource: &str) -> Result<Policy, String> {
        let file = self.config_file.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut shared = match (&self.config_file, file.sharing.time_slicing) {
            (Some(path), Some(time_slicing)) => {
                time_slicing.shared().map_err(|why| format!("--config-file {}: {why}", path.display()))?
            }
            _ => BTreeMap::new(),
        };
        if let Some(replicas) = self.replicas {
            if shared.contains_key(resource) {
                return Err(format!(
                    "{resource} is shared by --replicas and by --config-file: drop one of them"
                ));
            }
            shared.insert(resource.to_owned(), Sharing { replicas, one_each: false });
        }
        let mig = match self.mig_strategy.or(file.flags.mig_strategy).unwrap_or_default() {
            MigStrategy::None => core::MigStrategy::None,
            MigStrategy::Single => core::MigStrategy::Single,
            MigStrategy::Mixed => core::MigStrategy::Mixed,
        };
        let policy = Policy { resource: resource.to_owned(), mig, ..Policy::default() };
        if let Some(path) = &self.config_file {
            let refused = shared.keys().find_map(|name| policy.can_offer(name).err());
            refused.map_or(Ok(()), |why| Err(format!("--config-file {}: {why}", path.display())))?;
        }
        let placement = match self.shared_placement {
            SharedPlacement::Distributed => core::Placement::Distributed,
            SharedPlacement::Packed => core::Placement::Packed,
        };
        Ok(Policy { shared, placement, ..policy })
    }
}

fn read(path: &Path) -> Result<File, String> {
    let fault = |why: String| format!("--config-file {}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|why| fault(why.to_string()))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|why| fault(why.to_string()))?;
    match file.version.as_str() {
        VERSION => Ok(file),
        other => Err(fault(format!("version {other:?} isn't known, only {VERSION:?}"))),
    }
}

impl TimeSlicing {
    fn shared(self) -> Result<BTreeMap<String, Sharing>, String> {
        if self.rename_by_default == Some(false) {
            return Err(format!(
                "renameByDefault: false would offer shares under the name of whole GPUs: they are always named \
                 <resource>{SHARED}; set it to true, or leave it out"
            ));
        }
        let mut shared = BTreeMap::new();
        for Resource { name, replicas } in self.resources {
            if !(2..=MOST_REPLICAS).contains(&replicas) {
                return Err(format!(
                    "{name} can't have {replicas} replicas: 2 to {MOST_REPLICAS} containers share one"
                ));
            }
            let sharing = Sharing { replicas, one_each: self.fail_requests_greater_than_one };
            if shared.insert(name.clone(), sharing).is_some() {
                return Err(format!("{name} is named twice"));
            }
        }
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "nvidia.com/gpu";

    fn from(text: &str, args: PolicyArgs) -> Result<Policy, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        PolicyArgs { config_file: Some(file.path().to_owned()), ..args }.policy(GPU)
    }

    fn resources(resources: &str) -> String {
        format!("{{version: v1, sharing: {{timeSlicing: {{resources: [{resources}]}}}}}}")
    }

    #[test]
    fn a_file_for_nvidias_plugin_is_understood() {
        let text = "version: v1\nflags:\n  migStrategy: mixed\nsharing:\n  timeSlicing:\n    renameByDefault: true\n    \
                    failRequestsGreaterThanOne: true\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n    - \
                    name: nvidia.com/mig-1g.10gb\n      replicas: 2\n";
        let policy = from(text, PolicyArgs::default()).unwrap();
        assert_eq!((policy.mig, policy.resource.as_str()), (core::MigStrategy::Mixed, GPU));
        assert_eq!(policy.shared[GPU], Sharing { replicas: 4, one_each: true });
        assert_eq!(policy.shared["nvidia.com/mig-1g.10gb"].replicas, 2);
        let flag = PolicyArgs { mig_strategy: Some(MigStrategy::Single), ..PolicyArgs::default() };
        let mixed = "{version: v1, flags: {migStrategy: mixed}}";
        assert_eq!(from(mixed, flag.clone()).unwrap().mig, core::MigStrategy::Single, "the flag wins");
        let refused = from(text, flag).unwrap_err();
        assert!(refused.contains("nvidia.com/mig-1g.10gb") && refused.contains("mixed alone"), "{refused}");
    }

    #[test]
    fn replicas_alone_share_whole_gpus() {
        let policy = PolicyArgs { replicas: Some(3), ..PolicyArgs::default() }.policy(GPU).unwrap();
        assert_eq!(
            policy.shared,
            BTreeMap::from([(GPU.to_owned(), Sharing { replicas: 3, one_each: false })])
        );
        assert!(PolicyArgs::default().policy(GPU).unwrap().shared.is_empty());
    }

    #[test]
    fn what_would_not_be_done_as_it_says_is_refused() {
        for (text, why) in [
            ("version: v2".to_owned(), "\"v2\""),
            ("{version: v1, sharing: {mps: {}}}".to_owned(), "mps"),
            ("{version: v1, resources: []}".to_owned(), "resources"),
            ("{version: v1, sharing: {timeSlicing: {renameByDefault: false}}}".to_owned(), "always named"),
            (resources("{name: nvidia.com/gpu, replicas: 1}"), "can't have 1 replicas"),
            (resources("{name: nvidia.com/gpu, replicas: 257}"), "can't have 257 replicas"),
            (resources("{name: nvidia.com/gpuu, replicas: 2}"), "\"nvidia.com/gpuu\" is never offered"),
            (resources("{name: nvidia.com/gpu.shared, replicas: 2}"), "can't be shared"),
            (resources("{name: gpu, replicas: 2}"), "can't be shared"),
            (resources("{name: nvidia.com/mig-1g.10gb, replicas: 2}"), "mixed alone"),
            (resources("{name: nvidia.com/gpu, replica: 2}"), "replica"),
            (resources("{name: a/b, replicas: 2}, {name: a/b, replicas: 3}"), "named twice"),
            (resources("{name: a/b, replicas: 2, devices: all}"), "devices"),
        ] {
            let refused = from(&text, PolicyArgs::default()).unwrap_err();
            assert!(refused.contains(why) && refused.contains("--config-file"), "{text}: {refused}");
        }
        let both = PolicyArgs { replicas: Some(2), ..PolicyArgs::default() };
        let refused = from(&resources("{name: nvidia.com/gpu, replicas: 2}"), both).unwrap_err();
        assert!(refused.contains("drop one of them"), "{refused}");
        let missing = PolicyArgs { config_file: Some("/no/such/file".into()), ..PolicyArgs::default() };
        assert!(missing.policy(GPU).unwrap_err().contains("/no/such/file"));
    }
}

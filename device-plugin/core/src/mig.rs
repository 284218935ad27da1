//! A GPU that is divided (MIG): its instances, what they have, and what they are called.

use crate::{Instance, gpu::product_label};

/// How a GPU is divided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mig {
    /// Whether it is in MIG mode: then no program can use it as a whole.
    pub enabled: bool,
    /// Whether it will be, once it is reset.
    pub pending: bool,
    /// What it is divided into.
    pub instances: Vec<MigInstance>,
}

/// One part of a divided GPU that a container can have: a compute instance in a GPU instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigInstance {
    /// NVML's UUID, `MIG-…`: also the kubelet's device id.
    pub uuid: String,
    /// Which part it is.
    pub instance: Instance,
    /// What kind of part.
    pub profile: Profile,
    /// What it has.
    pub has: Share,
    /// The device nodes that open it, beside the GPU's own. A simulated one has none.
    pub device_nodes: Vec<String>,
    /// Why it can't be given to anybody, where one look is enough to know.
    pub fault: Option<String>,
}

/// What one instance has of its GPU (`nvmlDeviceAttributes_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Slices of the GPU instance.
    pub gpu_slices: u32,
    /// Of these, the compute instance's.
    pub compute_slices: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG decoders.
    pub jpeg_engines: u32,
    /// Optical-flow accelerators.
    pub optical_flow: u32,
}

/// The kind of an instance, as NVIDIA names it: `1g.10gb`, `1c.3g.40gb`, `1g.10gb+me`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile(String);

/// No profile's name is longer: resources and labels have little room.
const LONGEST: usize = 32;

impl Profile {
    /// From the name that NVML gives an instance, such as `NVIDIA H100 80GB HBM3 MIG 1g.10gb`. `None` where it names no
    /// profile.
    pub fn named(device: &str) -> Option<Self> {
        let name = device.rsplit_once("MIG ")?.1.trim();
        (name.len() <= LONGEST && is_profile(name)).then(|| Self(name.to_owned()))
    }

    /// From what the instance has, for drivers whose name for it says nothing. The memory in it is the eighths of its GPU's
    /// memory that it has, both rounded up, as NVIDIA names profiles. Media extensions can only be seen where the share is a
    /// single slice, which has optical flow with them alone.
    pub fn measured(share: Share, gpu_memory_bytes: u64) -> Self {
        let board_gib = u128::from(gpu_memory_bytes.div_ceil(1 << 30));
        let bytes = u128::from(share.memory_mib) << 20;
        let eighths = (bytes * 8).div_ceil(u128::from(gpu_memory_bytes.max(1)));
        // To the nearest GiB, a half up.
        let gib = (eighths * board_gib * 2 + 8) / 16;
        let (gpu, compute) = (share.gpu_slices, share.compute_slices);
        let part = if compute == gpu { String::new() } else { format!("{compute}c.") };
        let media = if gpu == 1 && share.optical_flow > 0 { "+me" } else { "" };
        Self(format!("{part}{gpu}g.{gib}gb{media}"))
    }

    /// As NVIDIA writes it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// As resources and labels have it, which hold no plus sign: `1g.10gb.me`.
    pub fn label(&self) -> String {
        self.0.replace(['+', ','], ".")
    }
}

/// Whether a profile may be called so in resources and labels.
pub(crate) fn is_label(label: &str) -> bool {
    label.len() <= LONGEST && is_profile(&label.replacen("gb.", "gb+", 1))
}

/// `[<n>c.]<n>g.<n>gb`, then attributes after a plus or minus sign.
fn is_profile(name: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (shares, attributes) = match name.find(['+', '-']) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (name, "none"),
    };
    let counts = |part: &str, unit: &str| {
        part.strip_suffix(unit)
            .is_some_and(|count| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_share = match &shares.split('.').collect::<Vec<_>>()[..] {
        [gpu, memory] => counts(gpu, "g") && counts(memory, "gb"),
        [compute, gpu, memory] => counts(compute, "c") && counts(gpu, "g") && counts(memory, "gb"),
        _ => false,
    };
    is_share && attributes.split([',', '.', '+', '-']).all(is_word)
}

/// The model that an instance is sold as: its GPU's, with the profile.
pub fn instance_product(gpu: &str, profile: &Profile) -> String {
    let suffix = format!("-MIG-{}", profile.label());
    // A label holds 63 characters, and what the profile says decides more than the model's last words.
    let model: String = product_label(gpu).chars().take(63_usize.saturating_sub(suffix.len())).collect();
    model.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned() + &suffix
}

/// The number of a capability's device node, from the file that tells it:
/// `/proc/driver/nvidia/capabilities/gpu<n>/mig/gi<n>/access` and `…/ci<n>/access`.
pub fn capability_minor(file: &str) -> Option<u32> {
    let line = file.lines().find_map(|line| line.strip_prefix("DeviceFileMinor:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an H100 of 80 GB says of each profile (`fixtures/h100-580.159.04/answers.json`): slices, memory in MiB, optical
    /// flow, name.
    const H100: [(u32, u64, u32, &str); 7] = [
        (1, 9_984, 0, "1g.10gb"),
        (2, 20_096, 0, "2g.20gb"),
        (3, 40_448, 0, "3g.40gb"),
        (4, 40_448, 0, "4g.40gb"),
        (7, 81_152, 1, "7g.80gb"),
        (1, 9_984, 1, "1g.10gb+me"),
        (1, 20_096, 0, "1g.20gb"),
    ];
    const H100_BYTES: u64 = 85_520_809_984;

    fn share(gpu_slices: u32, compute_slices: u32, memory_mib: u64, optical_flow: u32) -> Share {
        Share { memory_mib, gpu_slices, compute_slices, optical_flow, ..Share::default() }
    }

    #[test]
    fn a_profile_is_named_as_the_driver_names_it_even_where_it_doesnt_tell() {
        for (slices, mib, optical_flow, name) in H100 {
            let measured = Profile::measured(share(slices, slices, mib, optical_flow), H100_BYTES);
            assert_eq!(measured.name(), name);
            assert_eq!(Profile::named(&format!("NVIDIA H100 80GB HBM3 MIG {name}")), Some(measured));
        }
        let part = Profile::measured(share(3, 1, 40_448, 0), H100_BYTES);
        assert_eq!(part.name(), "1c.3g.40gb");
        // An A100 of 40 GB: 4864 MiB of 40 GiB are an eighth.
        assert_eq!(Profile::measured(share(1, 1, 4_864, 0), 42_298_834_944).name(), "1g.5gb");
    }

    #[test]
    fn a_name_that_is_no_profile_is_none() {
        for odd in
            ["NVIDIA H100", "NVIDIA H100 MIG ", "X MIG 1g", "X MIG 1g.10", "X MIG g.10gb", "X MIG 1g.10gb+"]
        {
            assert_eq!(Profile::named(odd), None, "{odd}");
        }
        for good in ["1g.24gb-me", "1g.24gb+gfx", "1g.10gb+me.all", "1c.2g.20gb+me"] {
            assert_eq!(
                Profile::named(&format!("X MIG {good}")).map(|it| it.name().to_owned()),
                Some(good.to_owned())
            );
        }
    }

    #[test]
    fn resources_and_labels_hold_no_plus_sign() {
        let profile = Profile::named("X MIG 1g.10gb+me").unwrap();
        assert_eq!(profile.label(), "1g.10gb.me");
        assert_eq!(
            instance_product("NVIDIA H100 80GB HBM3", &profile),
            "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me"
        );
    }

    #[test]
    fn the_number_of_a_capability_is_read_from_its_file() {
        assert_eq!(capability_minor("DeviceFileMinor: 3\nDeviceFileMode: 292\n"), Some(3));
        assert_eq!(capability_minor("DeviceFileMode: 292\n"), None);
        assert_eq!(capability_minor("DeviceFileMinor: x\n"), None);
    }

    proptest! {
        /// Whatever a driver calls an instance or says of it, its profile can be a resource's name.
        #[test]
        fn a_profile_can_always_be_a_resource(
            name in "(MIG )?[0-9a-z.+, -]{0,20}", shares in any::<(u32, u32, u64, u32, u64)>(),
        ) {
            let (gpu, compute, mib, optical_flow, board) = shares;
            let measured = Profile::measured(share(gpu, compute, mib >> 20, optical_flow), board);
            for profile in Profile::named(&name).into_iter().chain([measured]) {
                let label = profile.label();
                prop_assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{label}");
                prop_assert!(label.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric()));
            }
        }
    }
}

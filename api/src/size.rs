//! How much of a GPU a device is, by its resource's name: for whoever must know before it is given to anybody.

use crate::names::GPU_PREFIX;

/// A whole GPU, in thousandths.
pub const WHOLE: u16 = 1000;
/// The slices of a divided GPU, by which NVIDIA names its parts.
const SLICES: u16 = 7;
/// So many share a GPU at least, or it isn't shared.
const FEWEST_SHARERS: u16 = 2;

/// What one device of a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<'a> {
    /// How much of a GPU it is at most, in thousandths: of a share only the node knows how many others there are.
    pub milli: u16,
    /// Where it is a whole part of a divided GPU: its profile, as labels have it, such as `1g.10gb.me`.
    pub profile: Option<&'a str>,
}

/// What one device of the resource is, such as `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb` or `nvidia.com/gpu.shared`. A name
/// that says nothing is a whole GPU.
pub fn of(resource: &str) -> Size<'_> {
    let name = resource.strip_prefix(GPU_PREFIX).unwrap_or(resource);
    let (name, sharers) = name.strip_suffix(".shared").map_or((name, 1), |name| (name, FEWEST_SHARERS));
    let profile = name.strip_prefix("mig-");
    let milli = profile.and_then(part).unwrap_or(WHOLE).div_ceil(sharers);
    Size { milli, profile: profile.filter(|_| sharers == 1) }
}

/// How much of its GPU a part of that profile is, in thousandths, rounded down as meters do. `1g.10gb`, or `1c.2g.20gb`,
/// begins with its slices of the GPU's computing; `None` where it doesn't.
pub fn part(profile: &str) -> Option<u16> {
    let digits = profile.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    let slices = digits.parse().ok().filter(|slices| (1..=SLICES).contains(slices));
    slices.map(|slices: u16| slices * WHOLE / SLICES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resources_name_says_how_much_of_a_gpu_a_device_is() {
        for (resource, milli, profile) in [
            ("nvidia.com/gpu", 1000, None),
            ("nvidia.com/mig-1g.10gb", 142, Some("1g.10gb")),
            ("nvidia.com/mig-1g.10gb.me", 142, Some("1g.10gb.me")),
            ("nvidia.com/mig-1c.3g.40gb", 142, Some("1c.3g.40gb")),
            ("nvidia.com/mig-7g.80gb", 1000, Some("7g.80gb")),
            ("nvidia.com/gpu.shared", 500, None),
            ("nvidia.com/mig-3g.40gb.shared", 214, None),
            ("nvidia.com/h100", 1000, None),
        ] {
            assert_eq!(of(resource), Size { milli, profile }, "{resource}");
        }
    }

    #[test]
    fn a_name_that_says_nothing_is_a_whole_gpu() {
        for resource in [
            "nvidia.com/mig-0g.1gb",
            "nvidia.com/mig-9g.90gb",
            "nvidia.com/mig-",
            "",
            "nvidia.com/mig-99999999g",
        ] {
            assert_eq!(of(resource).milli, WHOLE, "{resource}");
        }
    }
}

//! What each XID means for the GPU that it hits: the table, and what a settings file changes of it.
//!
//! Numbers and meanings are those of NVIDIA's XID catalogue (docs.nvidia.com/deploy/xid-errors). The verdicts are ours,
//! and listed in `docs/reference/device-plugin.md`.

use std::collections::BTreeMap;

/// What an XID says about the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: a program's own fault, or only news.
    Ignore,
    /// The GPU may be failing: it is offered, and watched.
    Suspect,
    /// The GPU isn't offered until it has recovered.
    Unhealthy,
}

/// One line of the table: number, verdict, meaning.
type Line = (u64, Verdict, &'static str);

use Verdict::{Ignore, Suspect, Unhealthy};

/// In ascending order. An XID that isn't here is unhealthy: what nobody knows may be anything.
const TABLE: &[Line] = &[
    (13, Ignore, "a program's illegal access in the graphics engine"),
    (31, Ignore, "a program's page fault in the GPU's memory"),
    (32, Suspect, "corrupted commands reached the GPU"),
    (38, Suspect, "the driver's firmware failed"),
    (43, Ignore, "a program's channel was stopped"),
    (44, Suspect, "fault while switching between programs"),
    (45, Ignore, "a program was cleaned up after an earlier error"),
    (46, Unhealthy, "the GPU stopped processing"),
    (48, Unhealthy, "uncorrectable memory error"),
    (54, Unhealthy, "auxiliary power is not connected"),
    (56, Suspect, "display engine error"),
    (57, Suspect, "the memory interface could not be programmed"),
    (58, Unhealthy, "the memory interface is unstable"),
    (61, Unhealthy, "the internal microcontroller hit a breakpoint"),
    (62, Unhealthy, "the internal microcontroller halted"),
    (63, Suspect, "a memory row is to be remapped, or a page to be retired"),
    (64, Unhealthy, "a memory row can't be remapped"),
    (65, Ignore, "video processor exception"),
    (66, Ignore, "a program's illegal access"),
    (67, Suspect, "the driver's illegal access"),
    (68, Ignore, "video decoder exception"),
    (69, Suspect, "graphics engine class error"),
    (74, Unhealthy, "NVLink error"),
    (78, Suspect, "a virtual GPU could not start"),
    (79, Unhealthy, "the GPU has fallen off the bus"),
    (80, Suspect, "corrupted data was sent to the GPU"),
    (82, Ignore, "JPEG decoder exception"),
    (83, Ignore, "video decoder 1 exception"),
    (84, Ignore, "video decoder 2 exception"),
    (88, Ignore, "video decoder 3 exception"),
    (89, Ignore, "video decoder 4 exception"),
    (92, Suspect, "many corrected memory errors"),
    (93, Suspect, "the information ROM is worn"),
    (94, Unhealthy, "contained memory error"),
    (95, Unhealthy, "uncontained memory error"),
    (109, Ignore, "a program could not be switched off in time"),
    (110, Unhealthy, "security fault"),
    (119, Unhealthy, "the GPU's system processor doesn't answer"),
    (120, Unhealthy, "the GPU's system processor failed"),
    (121, Suspect, "corrected error of the link to the processor"),
    (122, Suspect, "the board's memory can't be read"),
    (123, Suspect, "the board's memory can't be written"),
    (124, Suspect, "event of the information ROM"),
    (136, Unhealthy, "NVLink could not be trained"),
    (137, Ignore, "a program's illegal access over NVLink"),
    (140, Unhealthy, "unrecovered memory error"),
    (143, Unhealthy, "the GPU could not be initialised"),
    (144, Unhealthy, "NVLink error"),
    (145, Unhealthy, "NVLink error"),
    (146, Unhealthy, "NVLink error"),
    (147, Unhealthy, "NVLink error"),
    (148, Unhealthy, "NVLink error"),
    (149, Unhealthy, "NVLink error"),
    (150, Unhealthy, "NVLink error"),
    (154, Ignore, "the recovery action changed: that itself is read"),
    (156, Suspect, "a resource is to be retired"),
    (157, Unhealthy, "a resource can't be retired"),
    (158, Unhealthy, "the GPU timed out"),
];

/// The table with the settings on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xids {
    overrides: BTreeMap<u64, Verdict>,
}

impl Xids {
    /// These verdicts instead of the table's.
    pub fn with(overrides: impl IntoIterator<Item = (u64, Verdict)>) -> Self {
        Self { overrides: overrides.into_iter().collect() }
    }

    /// What the XID says about the GPU.
    pub fn verdict(&self, xid: u64) -> Verdict {
        let own = self.overrides.get(&xid).copied();
        own.or_else(|| line(xid).map(|line| line.1)).unwrap_or(Verdict::Unhealthy)
    }
}

/// What the XID means, for people; empty where it isn't known.
pub(crate) fn meaning(xid: u64) -> &'static str {
    line(xid).map_or("", |line| line.2)
}

fn line(xid: u64) -> Option<&'static Line> {
    TABLE.binary_search_by_key(&xid, |line| line.0).ok().map(|at| &TABLE[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_each_line_is_found() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(
            TABLE.iter().all(|line| meaning(line.0) == line.2 && Xids::default().verdict(line.0) == line.1)
        );
    }

    #[test]
    fn what_nobody_knows_may_be_anything_and_settings_win() {
        assert_eq!(Xids::default().verdict(9999), Verdict::Unhealthy);
        let xids = Xids::with([(79, Verdict::Ignore), (9999, Verdict::Suspect)]);
        assert_eq!((xids.verdict(79), xids.verdict(9999)), (Verdict::Ignore, Verdict::Suspect));
        assert_eq!(xids.verdict(48), Verdict::Unhealthy, "the others stay as they are");
    }

    #[test]
    fn the_reference_lists_every_line() {
        let page = include_str!("../../../docs/reference/device-plugin.md");
        for (xid, verdict, meaning) in TABLE {
            let line = format!("| {xid} | {} | {meaning} |", format!("{verdict:?}").to_lowercase());
            assert!(page.contains(&line), "docs/reference/device-plugin.md lacks: {line}");
        }
    }
}

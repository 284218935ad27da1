//! When a GPU counts as healthy, and when it does so again.
//!
//! A fault takes a GPU out at once. It comes back after some clean looks in a row, so that one that flickers doesn't
//! flicker in the kubelet. Answering isn't enough after an XID: a GPU that just hit one answers every query. There
//! NVML's own recovery action decides; a driver that doesn't tell it must have been reloaded since.

use std::collections::BTreeSet;

use crate::{GpuState, Recovery};

/// The settings of the health rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// XIDs that are an application's fault and not the GPU's.
    pub ignored_xids: BTreeSet<u64>,
    /// How many looks in a row must be clean before a GPU is healthy again.
    pub clean_looks: u32,
}

impl HealthRules {
    /// XIDs that running programs cause: illegal accesses, page faults, stopped channels, video decoder errors.
    pub const APPLICATION_XIDS: [u64; 6] = [13, 31, 43, 45, 68, 109];
}

impl Default for HealthRules {
    fn default() -> Self {
        Self { ignored_xids: Self::APPLICATION_XIDS.into(), clean_looks: 3 }
    }
}

/// One GPU's health over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    cause: Cause,
    /// The session in which it was last seen.
    session: u64,
    clean_looks: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Silent(String),
    Xid(u64),
    Wants(&'static str),
    XidAndWants(u64, &'static str),
}

impl Health {
    /// The GPU didn't answer.
    pub(crate) fn silent(&mut self, why: String, session: u64) {
        // What an XID said remains true: a GPU that answers again isn't well because of that.
        let cause = match self.fault.take().map(|fault| fault.cause) {
            Some(Cause::Xid(xid) | Cause::XidAndWants(xid, _)) => Cause::Xid(xid),
            _ => Cause::Silent(why),
        };
        self.fault = Some(Fault { cause, session, clean_looks: 0 });
    }

    /// The GPU answered, said what it needs, and the driver reported these XIDs since.
    pub(crate) fn answered(&mut self, recovery: Recovery, xids: &[u64], session: u64, rules: &HealthRules) {
        let before = self.fault.as_ref().and_then(|fault| fault.cause.xid());
        let new = xids.iter().rfind(|xid| !rules.ignored_xids.contains(*xid)).copied();
        let cause = match (new.or(before), recovery) {
            (Some(xid), Recovery::Needed(what)) => Some(Cause::XidAndWants(xid, what)),
            (None, Recovery::Needed(what)) => Some(Cause::Wants(what)),
            (Some(xid), Recovery::NotNeeded | Recovery::NotTold) if new.is_some() => Some(Cause::Xid(xid)),
            _ => None,
        };
        match cause {
            Some(cause) => self.fault = Some(Fault { cause, session, clean_looks: 0 }),
            None => self.clean_look(recovery, session, rules),
        }
    }

    fn clean_look(&mut self, recovery: Recovery, session: u64, rules: &HealthRules) {
        let Some(fault) = &mut self.fault else { return };
        let unproven =
            recovery == Recovery::NotTold && fault.cause.xid().is_some() && fault.session == session;
        if unproven {
            return;
        }
        fault.clean_looks += 1;
        if fault.clean_looks >= rules.clean_looks {
            self.fault = None;
        }
    }

    pub(crate) fn state(&self) -> GpuState {
        match &self.fault {
            None => GpuState::Healthy,
            Some(fault) => GpuState::Unhealthy(fault.cause.to_string()),
        }
    }
}

impl Cause {
    fn xid(&self) -> Option<u64> {
        match self {
            Self::Xid(xid) | Self::XidAndWants(xid, _) => Some(*xid),
            Self::Silent(_) | Self::Wants(_) => None,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(why) => f.write_str(why),
            Self::Xid(xid) => write!(f, "XID {xid}{}", meaning(*xid)),
            Self::Wants(what) => write!(f, "the driver asks for {what}"),
            Self::XidAndWants(xid, what) => {
                write!(f, "XID {xid}{}; the driver asks for {what}", meaning(*xid))
            }
        }
    }
}

/// What the commonest XIDs mean, as NVIDIA's catalogue has it.
fn meaning(xid: u64) -> &'static str {
    match xid {
        48 => " (uncorrectable memory error)",
        63 => " (memory row is being remapped)",
        64 => " (memory row can't be remapped)",
        74 => " (NVLink error)",
        79 => " (GPU has fallen off the bus)",
        94 => " (contained memory error)",
        95 => " (uncontained memory error)",
        119 | 120 => " (GPU system processor doesn't answer)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const RULES: fn() -> HealthRules = || HealthRules { ignored_xids: [13].into(), clean_looks: 2 };

    fn after(looks: &[(Recovery, &[u64], u64)]) -> GpuState {
        let mut health = Health::default();
        for (recovery, xids, session) in looks {
            health.answered(*recovery, xids, *session, &RULES());
        }
        health.state()
    }

    fn unhealthy(why: &str) -> GpuState {
        GpuState::Unhealthy(why.to_owned())
    }

    #[test]
    fn an_application_error_harms_nobody() {
        assert_eq!(after(&[(Recovery::NotNeeded, &[13], 0)]), GpuState::Healthy);
    }

    #[test]
    fn an_xid_holds_until_the_driver_needs_nothing_for_some_looks() {
        let reset = Recovery::Needed("a GPU reset");
        let told = [(reset, &[48_u64][..], 0), (reset, &[], 0)];
        assert_eq!(
            after(&told),
            unhealthy("XID 48 (uncorrectable memory error); the driver asks for a GPU reset")
        );
        let one_clean = [told[0], (Recovery::NotNeeded, &[], 0)];
        assert!(matches!(after(&one_clean), GpuState::Unhealthy(_)));
        let two_clean = [told[0], one_clean[1], one_clean[1]];
        assert_eq!(after(&two_clean), GpuState::Healthy);
        let interrupted = [told[0], one_clean[1], told[1], one_clean[1]];
        assert!(matches!(after(&interrupted), GpuState::Unhealthy(_)));
    }

    #[test]
    fn where_the_driver_tells_nothing_an_xid_holds_until_it_is_reloaded() {
        let quiet = (Recovery::NotTold, &[][..], 0);
        let hit = (Recovery::NotTold, &[79][..], 0);
        let mut looks = vec![hit];
        looks.extend([quiet; 10]);
        assert_eq!(after(&looks), unhealthy("XID 79 (GPU has fallen off the bus)"));
        looks.extend([(Recovery::NotTold, &[][..], 1); 2]);
        assert_eq!(after(&looks), GpuState::Healthy);
    }

    #[test]
    fn silence_does_not_wash_an_xid_away() {
        let mut health = Health::default();
        health.answered(Recovery::NotTold, &[79], 0, &RULES());
        health.silent("lost".to_owned(), 0);
        (0..5).for_each(|_| health.answered(Recovery::NotTold, &[], 0, &RULES()));
        assert_eq!(health.state(), unhealthy("XID 79 (GPU has fallen off the bus)"));
    }

    #[test]
    fn a_wish_without_an_xid_takes_the_gpu_out_too() {
        let looks: [(Recovery, &[u64], u64); 1] = [(Recovery::Needed("a node reboot"), &[], 0)];
        assert_eq!(after(&looks), unhealthy("the driver asks for a node reboot"));
    }

    proptest! {
        /// Whatever happened before, enough clean looks in which the driver needs nothing make a GPU healthy.
        #[test]
        fn every_gpu_can_recover(
            past in vec((0_u8..4, 0_u64..3), 0..20),
        ) {
            let mut health = Health::default();
            for (kind, session) in past {
                match kind {
                    0 => health.silent("lost".to_owned(), session),
                    1 => health.answered(Recovery::NotTold, &[79], session, &RULES()),
                    2 => health.answered(Recovery::Needed("a GPU reset"), &[], session, &RULES()),
                    _ => health.answered(Recovery::NotNeeded, &[], session, &RULES()),
                }
            }
            for _ in 0..RULES().clean_looks {
                health.answered(Recovery::NotNeeded, &[], 9, &RULES());
            }
            prop_assert_eq!(health.state(), GpuState::Healthy);
        }
    }
}

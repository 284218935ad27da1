//! When a GPU counts as healthy, and when it does so again: Healthy → Suspect → Unhealthy → Recovering → Healthy.
//!
//! A fault takes a GPU out at once; a sign that may be a fault is watched, and is one when it comes again. What is over
//! must stay away for some looks in a row, so that a GPU that flickers doesn't flicker in the kubelet. Answering isn't
//! enough after an XID: a GPU that just hit one answers every query. There NVML's own recovery action decides; a driver
//! that doesn't tell it must have been reloaded since.

use crate::{
    GpuState, Recovery,
    xid::{Verdict, Xids, meaning},
};

/// The settings of the health rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// What each XID says.
    pub xids: Xids,
    /// How many looks in a row must be clean before a GPU is healthy again.
    pub clean_looks: u32,
    /// How many suspect signs, without as many clean looks in between, make a GPU unhealthy.
    pub suspect_signs: u32,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self { xids: Xids::default(), clean_looks: 3, suspect_signs: 3 }
    }
}

/// The part of a GPU that an event is about, where it is divided (MIG).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// GPU instance.
    pub gpu: u32,
    /// Compute instance in it; [`WHOLE`](Self::WHOLE) in an event about all of them.
    pub compute: u32,
}

impl Instance {
    /// What NVML writes where an event is about all compute instances.
    pub const WHOLE: u32 = u32::MAX;

    /// Whether an event about this hits that instance.
    pub fn hits(self, other: Self) -> bool {
        self.gpu == other.gpu && (self.compute == other.compute || self.compute == Self::WHOLE)
    }
}

/// An XID that the driver reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xid {
    /// Its number.
    pub number: u64,
    /// The instance that it hit; `None` where it is about the whole GPU.
    pub instance: Option<Instance>,
}

/// What one GPU says about its health in one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// What it needs.
    pub recovery: Recovery,
    /// The XIDs since the last look.
    pub xids: Vec<Xid>,
    /// Whether a memory row waits to be remapped, which the next reset does.
    pub remapping_pending: bool,
    /// Whether a memory row could not be remapped: the memory is worn out.
    pub remapping_failed: bool,
    /// Uncorrectable memory errors since the driver was loaded, where they are counted.
    pub uncorrectable_errors: Option<u64>,
}

/// Why a GPU didn't answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// In words.
    pub why: String,
    /// Whether NVML itself says that the GPU is lost, or it can't be handed out; else one more look decides.
    pub certain: bool,
}

/// One GPU's health over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    stage: Stage,
    /// The last count of uncorrectable errors, and the session that it is from.
    errors: Option<(u64, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Healthy,
    Suspect {
        why: String,
        signs: u32,
        clean_looks: u32,
    },
    /// Recovering once there was a clean look.
    Faulty {
        cause: Cause,
        /// The session in which it was last seen.
        session: u64,
        clean_looks: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    /// The XID that began it: what it said remains true while the GPU only answers again.
    xid: Option<Xid>,
    why: String,
}

/// What a look found, worst first.
enum Finding {
    Fault(Cause),
    Suspicion(String),
    /// A state that a reset ends, and that harms nobody until then.
    Standing(String),
    Clean,
}

impl Health {
    /// The GPU didn't answer.
    pub(crate) fn silent(&mut self, silence: Silence, session: u64, rules: &HealthRules) {
        let was_out = matches!(self.stage, Stage::Faulty { .. });
        let was_silent = matches!(&self.stage, Stage::Suspect { why, .. } if *why == silence.why);
        if !(silence.certain || was_out || was_silent) {
            return self.suspect(silence.why, session, rules);
        }
        let xid = self.xid();
        let why = xid.map_or(silence.why, in_words);
        self.stage = Stage::Faulty { cause: Cause { xid, why }, session, clean_looks: 0 };
    }

    /// The GPU answered, and said this about itself.
    pub(crate) fn answered(&mut self, signs: &Signs, session: u64, rules: &HealthRules) {
        match self.find(signs, session, rules) {
            Finding::Fault(cause) => self.stage = Stage::Faulty { cause, session, clean_looks: 0 },
            Finding::Suspicion(why) => self.suspect(why, session, rules),
            Finding::Standing(why) => match &mut self.stage {
                Stage::Faulty { .. } => self.clean_look(signs.recovery, session, rules),
                _ => self.stand(why, rules),
            },
            Finding::Clean => self.clean_look(signs.recovery, session, rules),
        }
    }

    /// A standing sign is none that adds up, and none that others could hide behind: for them this look is a clean one.
    fn stand(&mut self, why: String, rules: &HealthRules) {
        let (signs, clean_looks) = match &self.stage {
            Stage::Suspect { signs, clean_looks, .. } => (*signs, clean_looks + 1),
            Stage::Healthy | Stage::Faulty { .. } => (0, 0),
        };
        let are_over = clean_looks >= rules.clean_looks;
        let (signs, clean_looks) = if are_over { (0, 0) } else { (signs, clean_looks) };
        self.stage = Stage::Suspect { why, signs, clean_looks };
    }

    fn find(&mut self, signs: &Signs, session: u64, rules: &HealthRules) -> Finding {
        let worst = |wanted: Verdict| signs.xids.iter().rfind(|xid| rules.xids.verdict(xid.number) == wanted);
        let new = worst(Verdict::Unhealthy).copied();
        let more_errors = self.more_errors(signs.uncorrectable_errors, session);
        if let Recovery::Needed(what) = signs.recovery {
            let xid = new.or(self.xid());
            let before = xid.map(|xid| format!("{}; ", in_words(xid))).unwrap_or_default();
            return Finding::Fault(Cause { xid, why: format!("{before}the driver asks for {what}") });
        }
        if let Some(xid) = new {
            return Finding::Fault(Cause { xid: Some(xid), why: in_words(xid) });
        }
        if signs.remapping_failed {
            let why = "a memory row can't be remapped: the GPU must be replaced".to_owned();
            return Finding::Fault(Cause { xid: None, why });
        }
        if let Some(xid) = worst(Verdict::Suspect) {
            return Finding::Suspicion(in_words(*xid));
        }
        match more_errors {
            Some(errors) => Finding::Suspicion(format!("{errors} more uncorrectable memory errors")),
            None if signs.remapping_pending => {
                Finding::Standing("a memory row is remapped at the next reset".to_owned())
            }
            None => Finding::Clean,
        }
    }

    /// How many errors came since the last look of this session.
    fn more_errors(&mut self, count: Option<u64>, session: u64) -> Option<u64> {
        let before = self.errors.filter(|(_, counted_in)| *counted_in == session);
        let count = count?;
        self.errors = Some((count, session));
        before.map(|(before, _)| count.saturating_sub(before)).filter(|more| *more > 0)
    }

    fn suspect(&mut self, why: String, session: u64, rules: &HealthRules) {
        let signs = match &self.stage {
            // What is out stays out, and what may be wrong doesn't make it better.
            Stage::Faulty { cause, .. } => {
                let cause = cause.clone();
                self.stage = Stage::Faulty { cause, session, clean_looks: 0 };
                return;
            }
            Stage::Suspect { signs, .. } => signs + 1,
            Stage::Healthy => 1,
        };
        self.stage = if signs < rules.suspect_signs {
            Stage::Suspect { why, signs, clean_looks: 0 }
        } else {
            let cause = Cause { xid: None, why: format!("{why}; such signs came {signs} times in a row") };
            Stage::Faulty { cause, session, clean_looks: 0 }
        };
    }

    fn clean_look(&mut self, recovery: Recovery, session: u64, rules: &HealthRules) {
        let clean_looks = match &mut self.stage {
            Stage::Healthy => return,
            Stage::Suspect { clean_looks, .. } => clean_looks,
            Stage::Faulty { cause, session: seen_in, clean_looks } => {
                if recovery == Recovery::NotTold && cause.xid.is_some() && *seen_in == session {
                    return;
                }
                clean_looks
            }
        };
        *clean_looks += 1;
        if *clean_looks >= rules.clean_looks {
            self.stage = Stage::Healthy;
        }
    }

    fn xid(&self) -> Option<Xid> {
        match &self.stage {
            Stage::Faulty { cause, .. } => cause.xid,
            Stage::Healthy | Stage::Suspect { .. } => None,
        }
    }

    pub(crate) fn state(&self) -> GpuState {
        match &self.stage {
            Stage::Healthy => GpuState::Healthy,
            Stage::Suspect { why, .. } => GpuState::Suspect(why.clone()),
            Stage::Faulty { cause, clean_looks: 0, .. } => GpuState::Unhealthy(cause.why.clone()),
            Stage::Faulty { cause, .. } => GpuState::Recovering(cause.why.clone()),
        }
    }
}

fn in_words(xid: Xid) -> String {
    let meaning = match meaning(xid.number) {
        "" => String::new(),
        known => format!(" ({known})"),
    };
    let whose = xid.instance.map(|instance| format!(" in GPU instance {}", instance.gpu)).unwrap_or_default();
    format!("XID {}{meaning}{whose}", xid.number)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const RULES: fn() -> HealthRules =
        || HealthRules { clean_looks: 2, suspect_signs: 3, ..HealthRules::default() };

    fn signs(recovery: Recovery, xids: &[u64]) -> Signs {
        let xids = xids.iter().map(|number| Xid { number: *number, instance: None }).collect();
        Signs { recovery, xids, ..Signs::default() }
    }

    fn after(looks: &[(Recovery, &[u64], u64)]) -> GpuState {
        let mut health = Health::default();
        for (recovery, xids, session) in looks {
            health.answered(&signs(*recovery, xids), *session, &RULES());
        }
        health.state()
    }

    fn lost(certain: bool) -> Silence {
        Silence { why: "lost".to_owned(), certain }
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
        let why = "XID 48 (uncorrectable memory error); the driver asks for a GPU reset";
        assert_eq!(after(&told), unhealthy(why));
        let one_clean = [told[0], (Recovery::NotNeeded, &[], 0)];
        assert_eq!(after(&one_clean), GpuState::Recovering(why.to_owned()));
        let two_clean = [told[0], one_clean[1], one_clean[1]];
        assert_eq!(after(&two_clean), GpuState::Healthy);
        let interrupted = [told[0], one_clean[1], told[1], one_clean[1]];
        assert!(matches!(after(&interrupted), GpuState::Recovering(_)), "it counts from the beginning");
    }

    #[test]
    fn where_the_driver_tells_nothing_an_xid_holds_until_it_is_reloaded() {
        let quiet = (Recovery::NotTold, &[][..], 0);
        let hit = (Recovery::NotTold, &[79][..], 0);
        let mut looks = vec![hit];
        looks.extend([quiet; 10]);
        assert_eq!(after(&looks), unhealthy("XID 79 (the GPU has fallen off the bus)"));
        looks.extend([(Recovery::NotTold, &[][..], 1); 2]);
        assert_eq!(after(&looks), GpuState::Healthy);
    }

    #[test]
    fn suspect_signs_add_up_while_a_row_waits_to_be_remapped() {
        let look = |health: &mut Health, xids: &[u64]| {
            let pending = Signs { remapping_pending: true, ..signs(Recovery::NotNeeded, xids) };
            health.answered(&pending, 0, &RULES());
        };
        let mut health = Health::default();
        for _ in 0..3 {
            look(&mut health, &[]);
            look(&mut health, &[92]);
        }
        assert!(!health.state().is_offered(), "{:?}", health.state());
        let mut rare = Health::default();
        for _ in 0..9 {
            look(&mut rare, &[92]);
            (0..RULES().clean_looks).for_each(|_| look(&mut rare, &[]));
        }
        assert!(rare.state().is_offered(), "{:?}", rare.state());
    }

    #[test]
    fn silence_does_not_wash_an_xid_away() {
        let mut health = Health::default();
        health.answered(&signs(Recovery::NotTold, &[79]), 0, &RULES());
        health.silent(lost(true), 0, &RULES());
        (0..5).for_each(|_| health.answered(&signs(Recovery::NotTold, &[]), 0, &RULES()));
        assert_eq!(health.state(), unhealthy("XID 79 (the GPU has fallen off the bus)"));
    }

    #[test]
    fn one_look_without_an_answer_is_a_suspicion_and_a_second_one_a_fault() {
        let mut health = Health::default();
        health.silent(lost(false), 0, &RULES());
        assert_eq!(health.state(), GpuState::Suspect("lost".to_owned()));
        let mut again = health.clone();
        again.silent(lost(false), 0, &RULES());
        assert_eq!(again.state(), unhealthy("lost"));
        (0..2).for_each(|_| health.answered(&signs(Recovery::NotTold, &[]), 0, &RULES()));
        assert_eq!(health.state(), GpuState::Healthy);
        health.silent(lost(true), 0, &RULES());
        assert_eq!(health.state(), unhealthy("lost"), "NVML itself says so");
    }

    #[test]
    fn a_wish_without_an_xid_takes_the_gpu_out_too() {
        let looks: [(Recovery, &[u64], u64); 1] = [(Recovery::Needed("a node reboot"), &[], 0)];
        assert_eq!(after(&looks), unhealthy("the driver asks for a node reboot"));
    }

    #[test]
    fn suspect_signs_that_come_again_and_again_are_a_fault() {
        let hit = (Recovery::NotNeeded, &[92_u64][..], 0);
        let clean = (Recovery::NotNeeded, &[][..], 0);
        assert!(matches!(after(&[hit, clean, hit]), GpuState::Suspect(_)));
        assert!(matches!(after(&[hit, clean, hit, clean, hit]), GpuState::Unhealthy(_)));
        assert!(matches!(after(&[hit, hit, clean, clean, hit]), GpuState::Suspect(_)), "those were over");
    }

    #[test]
    fn memory_that_wears_out_is_told_and_taken_out_when_it_has() {
        let mut health = Health::default();
        let mut look = |change: &dyn Fn(&mut Signs)| {
            let mut signs = signs(Recovery::NotNeeded, &[]);
            change(&mut signs);
            health.answered(&signs, 0, &RULES());
            health.state()
        };
        assert_eq!(
            look(&|signs| signs.uncorrectable_errors = Some(7)),
            GpuState::Healthy,
            "who knows since when"
        );
        let more = look(&|signs| signs.uncorrectable_errors = Some(9));
        assert_eq!(more, GpuState::Suspect("2 more uncorrectable memory errors".to_owned()));
        for _ in 0..9 {
            let pending = look(&|signs| signs.remapping_pending = true);
            assert!(
                matches!(pending, GpuState::Suspect(_)),
                "it harms nobody, however long it lasts: {pending:?}"
            );
        }
        assert!(matches!(look(&|signs| signs.remapping_failed = true), GpuState::Unhealthy(_)));
    }

    #[test]
    fn an_event_of_a_part_names_the_part() {
        let mut health = Health::default();
        let xid = Xid { number: 94, instance: Some(Instance { gpu: 7, compute: 0 }) };
        let hit = Signs { xids: vec![xid], ..Signs::default() };
        health.answered(&hit, 0, &RULES());
        assert_eq!(health.state(), unhealthy("XID 94 (contained memory error) in GPU instance 7"));
    }

    proptest! {
        /// Whatever happened before, enough clean looks in which the driver needs nothing make a GPU healthy.
        #[test]
        fn every_gpu_can_recover(past in vec((0_u8..7, 0_u64..3), 0..20)) {
            let mut health = Health::default();
            for (kind, session) in past {
                match kind {
                    0 => health.silent(lost(true), session, &RULES()),
                    1 => health.silent(lost(false), session, &RULES()),
                    2 => health.answered(&signs(Recovery::NotTold, &[79]), session, &RULES()),
                    3 => health.answered(&signs(Recovery::Needed("a GPU reset"), &[]), session, &RULES()),
                    4 => health.answered(&signs(Recovery::NotNeeded, &[92]), session, &RULES()),
                    5 => health.answered(&Signs { remapping_pending: true, ..Signs::default() }, session, &RULES()),
                    _ => health.answered(&signs(Recovery::NotNeeded, &[]), session, &RULES()),
                }
            }
            for _ in 0..RULES().clean_looks {
                health.answered(&signs(Recovery::NotNeeded, &[]), 9, &RULES());
            }
            prop_assert_eq!(health.state(), GpuState::Healthy);
        }

        /// A fault is never offered, whatever comes beside it.
        #[test]
        fn a_fault_is_never_offered(xids in vec(0_u64..200, 0..6), needed in any::<bool>()) {
            let recovery = if needed { Recovery::Needed("a GPU reset") } else { Recovery::NotNeeded };
            let mut health = Health::default();
            health.answered(&signs(recovery, &xids), 0, &RULES());
            let is_fault = needed || xids.iter().any(|xid| RULES().xids.verdict(*xid) == Verdict::Unhealthy);
            prop_assert_eq!(!health.state().is_offered(), is_fault);
        }
    }
}

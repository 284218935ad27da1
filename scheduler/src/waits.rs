//! What a group waits for, in words: for its gang's status and for its pods' conditions.

use plasma_api::{
    gang::{Blocker as ApiBlocker, GangPhase},
    names,
};
use plasma_scheduler_core::{Aside, Blocker};

use crate::{commit::Obstacle, kept::Kind, state::State, undone::Paused};

/// The field that keeps pods from being scheduled.
const UNSUPPORTED: &str = "UnsupportedField";
/// A scheduling gate.
const GATED: &str = "SchedulingGated";

/// How many pods are named, where there are more.
const NAMED: usize = 5;

/// Why a gang, or a pod of no gang, has no place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waits {
    pub(crate) why: Why,
    pub(crate) message: String,
    pub(crate) blockers: Vec<ApiBlocker>,
    pub(crate) bound: usize,
}

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is no room: more nodes would help.
    NoRoom,
    /// It hasn't all its pods yet.
    Gathering,
    /// Somebody wants some of its pods to wait.
    Gated,
    /// It is refused.
    Refused,
    /// Its upstream PodGroup isn't there, or not any more.
    PodGroupNotReady,
    /// The gang that its upstream PodGroup needs isn't there.
    NoGang,
    /// Its volumes couldn't be had as planned.
    VolumesNotBound,
    /// Its volumes are on their way.
    VolumesPending,
    /// The label of its pods names a gang that isn't there.
    GangMissing,
    /// The labels of some pods name the gang, but not its job.
    OfAnotherJob,
    /// The API server doesn't let its pods be bound, or its plan be written.
    BindingRefused,
    /// It should, and has a fault of its own.
    BindingFailed,
    /// Its pods were undone, and it waits before it is tried again.
    Undone,
}

/// What is to stand in a pod's condition `PodScheduled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// False, for this reason.
    Says(&'static str),
    /// Nothing: what it says doesn't hold any more.
    SaysNothing,
    /// What is there, if anything.
    AsItIs,
}

impl Why {
    /// The reason in a gang's condition.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NoRoom => "Unschedulable",
            Self::Gathering => "Gathering",
            Self::Gated => GATED,
            Self::Refused => UNSUPPORTED,
            Self::PodGroupNotReady => "PodGroupNotReady",
            Self::NoGang => "NoGang",
            Self::VolumesNotBound => "VolumesNotBound",
            Self::VolumesPending => "VolumesPending",
            Self::GangMissing => "GangMissing",
            Self::OfAnotherJob => "OfAnotherJob",
            Self::BindingRefused => "BindingRefused",
            Self::BindingFailed => "BindingFailed",
            Self::Undone => "PlanUndone",
        }
    }

    pub(crate) fn phase(self) -> GangPhase {
        if self == Self::Gathering { GangPhase::Gathering } else { GangPhase::Waiting }
    }

    /// What one of its pods is to say that says this now. Autoscalers add nodes for those that are `Unschedulable`, so
    /// nobody may be who wouldn't start on a new node.
    pub(crate) fn word(self, said: Option<&str>) -> Word {
        match (self, said) {
            (Self::NoRoom, _) => Word::Says("Unschedulable"),
            (
                Self::Refused
                | Self::PodGroupNotReady
                | Self::NoGang
                | Self::VolumesNotBound
                | Self::GangMissing
                | Self::OfAnotherJob
                | Self::BindingRefused
                | Self::BindingFailed
                | Self::Undone,
                _,
            ) => Word::Says("SchedulerError"),
            (Self::VolumesPending, _) => Word::Says("VolumesPending"),
            // A pod with a gate of its own says so, by the API server.
            (Self::Gated, Some("Unschedulable")) => Word::SaysNothing,
            // A pod that is missing for a moment is no reason to write on all the others.
            (Self::Gathering | Self::Gated, Some("SchedulerError" | "VolumesPending")) => Word::SaysNothing,
            (Self::Gathering | Self::Gated, _) => Word::AsItIs,
        }
    }

    /// Whether it is said on pods alone: there is no gang, what they are isn't its concern, or its status has a plan in it or
    /// can't be written.
    pub(crate) fn is_of_pods(self) -> bool {
        self == Self::BindingRefused || (self.passes() && self != Self::Undone)
    }

    /// Whether it may be over in a moment.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::GangMissing | Self::OfAnotherJob | Self::BindingFailed | Self::Undone)
    }

    /// Whether it had its places, and couldn't be sent there.
    pub(crate) fn is_obstacle(self) -> bool {
        matches!(self, Self::BindingRefused | Self::BindingFailed)
    }

    /// Whether it is worth an event: every gang gathers for a moment, and volumes take a while.
    pub(crate) fn alarms(self) -> bool {
        !matches!(self, Self::Gathering | Self::VolumesPending)
    }
}

impl Waits {
    /// There is no room.
    pub(crate) fn for_room(message: String, blockers: &[Blocker], bound: usize) -> Self {
        Self { why: Why::NoRoom, message, blockers: blockers.iter().map(api_blocker).collect(), bound }
    }

    /// It isn't planned over.
    pub(crate) fn aside(why: &Aside, bound: usize) -> Self {
        let blocker = |reason: &str, subject: &String| ApiBlocker {
            reason: reason.to_owned(),
            subject: subject.clone(),
            nodes: 0,
            needed: None,
            free: None,
        };
        let (why, message, blockers) = match why {
            Aside::Gathering { there, needed, failed } => {
                let beside = match failed {
                    0 => String::new(),
                    failed => format!(", beside {failed} that have failed"),
                };
                (Why::Gathering, format!("{there} of {needed} pods exist{beside}"), Vec::new())
            }
            Aside::Gated { gate, pods, of } => {
                let message = format!("{pods} of {of} pods wait for scheduling gate {gate} to be taken off");
                (Why::Gated, message, vec![blocker(GATED, gate)])
            }
            Aside::Refused(why) => (Why::Refused, why.to_string(), vec![blocker(UNSUPPORTED, &why.field)]),
            Aside::Awaits(what) => (Why::PodGroupNotReady, what.clone(), Vec::new()),
            Aside::NoGang { .. } => (Why::NoGang, "its gang is being made".to_owned(), Vec::new()),
            Aside::GangMissing => (Why::GangMissing, String::new(), Vec::new()),
            Aside::OfAnotherJob => (Why::OfAnotherJob, String::new(), Vec::new()),
        };
        Self { why, message, blockers, bound }
    }

    /// The same, with what the cluster knows of the pods' labels.
    pub(crate) fn about(mut self, group: &str, state: &State) -> Self {
        let strangers: Vec<&str> = state.cluster.strangers(group).map(|pod| pod.pod).take(NAMED).collect();
        let job = names::JOB_UID_LABEL;
        let others =
            format!("the label {job} of {} names another job than Gang {group}'s own", strangers.join(", "));
        match self.why {
            Why::GangMissing if state.faults.knows(Kind::Gang, group) => {
                self.message =
                    format!("the label {} names Gang {group}, which can't be read", names::GANG_LABEL);
            }
            Why::GangMissing => {
                self.message =
                    format!("the label {} names Gang {group}, which doesn't exist", names::GANG_LABEL);
            }
            Why::OfAnotherJob => self.message = others,
            Why::Gathering if !strangers.is_empty() => self.message.push_str(&format!("; {others}")),
            _ => {}
        }
        self
    }

    /// Its volumes couldn't be had as planned: it is planned anew.
    pub(crate) fn for_volumes(why: &str, bound: usize) -> Self {
        let message = format!("its volumes can't be had as planned, so it is planned anew: {why}");
        Self { why: Why::VolumesNotBound, message, blockers: Vec::new(), bound }
    }

    /// It has its places, and its pods can't be bound, or its plan can't be written.
    pub(crate) fn for_obstacle(obstacle: Obstacle, bound: usize) -> Self {
        let why = if obstacle.is_refusal { Why::BindingRefused } else { Why::BindingFailed };
        Self { why, message: obstacle.words, blockers: Vec::new(), bound }
    }

    /// Its pods were undone: it is planned again later.
    pub(crate) fn for_undone(paused: &Paused, bound: usize) -> Self {
        let Paused { key, times, until, why } = paused;
        // The Gang of a PodGroup has its name.
        let gang = key.replacen("/podgroup:", "/", 1);
        let message = format!(
            "pods of it were bound and had to be undone {times} times in a row, the last time because {why}; it is planned \
             again at {until:.0}, or at once when Gang {gang} is changed, or one of its pods that weren't bound"
        );
        Self { why: Why::Undone, message, blockers: Vec::new(), bound }
    }

    /// The gang that its PodGroup needs can't be made.
    pub(crate) fn for_gang(why: String) -> Self {
        Self { why: Why::NoGang, message: why, blockers: Vec::new(), bound: 0 }
    }

    /// Its volumes are being made or bound: one of them is still to come.
    pub(crate) fn for_claim(claim: &str, bound: usize) -> Self {
        let message = format!("a place is kept until its volumes are bound: claim {claim} isn't yet");
        Self { why: Why::VolumesPending, message, blockers: Vec::new(), bound }
    }

    /// Whether both say the same but for numbers.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let kinds = |waits: &Self| -> Vec<(String, String)> {
            waits.blockers.iter().map(|blocker| (blocker.reason.clone(), blocker.subject.clone())).collect()
        };
        self.why == other.why && self.bound == other.bound && kinds(self) == kinds(other)
    }
}

fn api_blocker(blocker: &Blocker) -> ApiBlocker {
    ApiBlocker {
        reason: blocker.reason.to_owned(),
        subject: blocker.subject.clone(),
        nodes: i32::try_from(blocker.nodes).unwrap_or(i32::MAX),
        needed: blocker.needed.map(|amount| amount.to_string()),
        free: blocker.free.map(|amount| amount.to_string()),
    }
}

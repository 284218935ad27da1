//! What becomes of a plan that is being carried out: it is finished, waited for, or undone.

/// How long after its deadline a plan is undone whole, in seconds. Later, nobody was there to do it in time: pods that
/// have started by then are worth more running than made anew, and what is missing beside them is placed by itself.
pub const SLACK_SECONDS: i64 = 60;

/// How a planned binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The pod is bound to the planned node.
    Yes,
    /// It is, and its containers have been started.
    Started,
    /// The pod is gone, or is bound to another node: this plan can't be finished.
    Never,
    /// It has no node, and the API server refused to bind it for now.
    Refused,
    /// It has no node.
    NotYet,
    /// Nobody knows.
    Unknown,
}

impl Bound {
    /// Whether the pod is where the plan wants it.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Yes | Self::Started)
    }

    /// Whether what was sent to bind it may be carried out after all.
    pub fn may_arrive(self) -> bool {
        matches!(self, Self::NotYet | Self::Unknown)
    }
}

/// How a plan stands.
#[derive(Clone, Copy, Debug)]
pub struct Stand<'a> {
    /// How each of its bindings does.
    pub bindings: &'a [Bound],
    /// How many of them must stand for the group to have as many pods as must run together.
    pub enough: usize,
    /// How many seconds it is beyond its deadline; before it, if negative.
    pub seconds_late: i64,
    /// Whether nobody has begun to undo it.
    pub is_open: bool,
    /// Whether pods that aren't bound may go now where they were planned.
    pub holds: bool,
    /// Whether bindings that were sent may still be carried out by the API server.
    pub may_arrive: bool,
}

/// What is to be done about a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Every pod is bound: the plan is over.
    Finish,
    /// Some aren't yet, and there is time.
    Wait,
    /// It can't be finished, or not in time; but so many pods are bound as must run together. These stay, and the others are
    /// given up.
    Keep {
        /// Whether the plan is over with that. Otherwise others may still come to be bound.
        is_all: bool,
    },
    /// It can't be finished, or not in time.
    Undo {
        /// These pods, by their place in the plan, must not stay.
        pods: Vec<usize>,
        /// Whether the plan is over once these are gone. Otherwise others may still come to be bound.
        is_all: bool,
    },
}

/// Judges a plan by how it stands. Only pods that are bound are undone: of the others there is nothing to undo, once nothing
/// that was sent for them can arrive any more.
pub fn next(plan: Stand<'_>) -> Next {
    let Stand { bindings, enough, seconds_late, is_open, holds, may_arrive } = plan;
    let bound = bindings.iter().filter(|bound| bound.is_done()).count();
    if bound == bindings.len() {
        return Next::Finish;
    }
    let is_settled = |bound: &Bound| match bound {
        Bound::Unknown => false,
        // A request before the one that was refused may still arrive, too.
        Bound::NotYet | Bound::Refused => !may_arrive,
        Bound::Yes | Bound::Started | Bound::Never => true,
    };
    let is_all = bindings.iter().all(is_settled);
    // What doesn't hold now may hold in a moment. That is waited for where to give up would undo pods, or free no room yet.
    // Where enough are bound, others of the group need not wait for those that are refused.
    let is_refused =
        bound >= enough && bindings.iter().all(|bound| bound.is_done() || *bound == Bound::Refused);
    let is_worth_it = holds && !is_refused || !is_all || (1..enough).contains(&bound);
    if seconds_late <= 0 && is_open && is_worth_it && !bindings.contains(&Bound::Never) {
        return Next::Wait;
    }
    if bound >= enough {
        return Next::Keep { is_all };
    }
    let must_go = |bound: Bound| match bound {
        Bound::Yes => true,
        Bound::Started => seconds_late <= SLACK_SECONDS,
        Bound::Never | Bound::Refused | Bound::NotYet | Bound::Unknown => false,
    };
    let pods = bindings.iter().enumerate().filter(|(_, bound)| must_go(**bound));
    Next::Undo { pods: pods.map(|(place, _)| place).collect(), is_all }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Bound; 6] =
        [Bound::Yes, Bound::Started, Bound::Never, Bound::Refused, Bound::NotYet, Bound::Unknown];

    /// A plan with these bindings, all of which must stand, that is as it was made, and of which nothing is on its way.
    fn plan(bindings: &[Bound], seconds_late: i64) -> Stand<'_> {
        let enough = bindings.len();
        Stand { bindings, enough, seconds_late, is_open: true, holds: true, may_arrive: false }
    }

    fn undo(pods: &[usize], is_all: bool) -> Next {
        Next::Undo { pods: pods.to_vec(), is_all }
    }

    #[test]
    fn a_plan_is_finished_when_every_pod_is_bound_however_late() {
        assert_eq!(next(plan(&[Bound::Yes, Bound::Started], i64::MAX)), Next::Finish);
    }

    #[test]
    fn what_is_not_bound_is_waited_for_until_the_deadline_and_then_the_rest_is_undone() {
        let bindings = [Bound::Yes, Bound::NotYet, Bound::Started];
        assert_eq!(next(plan(&bindings, -1)), Next::Wait);
        assert_eq!(next(plan(&bindings, 0)), Next::Wait);
        assert_eq!(next(plan(&bindings, 1)), undo(&[0, 2], true));
    }

    #[test]
    fn a_plan_that_lost_a_pod_is_undone_at_once() {
        assert_eq!(next(plan(&[Bound::Yes, Bound::Never, Bound::NotYet], -30)), undo(&[0], true));
    }

    #[test]
    fn a_plan_that_does_not_hold_is_waited_for_only_where_to_give_up_undoes_pods_or_frees_nothing() {
        let half = [Bound::Yes, Bound::NotYet];
        let stand = Stand { holds: false, ..plan(&half, 0) };
        assert_eq!(next(stand), Next::Wait, "there is time");
        assert_eq!(next(Stand { seconds_late: 1, ..stand }), undo(&[0], true));
        assert_eq!(next(Stand { is_open: false, ..stand }), undo(&[0], true), "others are undone already");
        assert_eq!(next(Stand { bindings: &[Bound::Never, Bound::Yes], ..stand }), undo(&[1], true));
        assert_eq!(next(Stand { enough: 1, ..stand }), Next::Keep { is_all: true }, "nobody is undone");
        let none = Stand { bindings: &[Bound::Refused, Bound::NotYet], ..stand };
        assert_eq!(next(none), undo(&[], true), "its room is free");
        assert_eq!(next(Stand { may_arrive: true, ..none }), Next::Wait, "its room isn't free before");
    }

    #[test]
    fn only_what_is_bound_is_undone_and_nothing_is_over_while_more_may_come_to_be() {
        for bound in ALL {
            for may_arrive in [false, true] {
                let bindings = [Bound::Never, bound];
                let is_all = match bound {
                    Bound::Unknown => false,
                    Bound::NotYet | Bound::Refused => !may_arrive,
                    _ => true,
                };
                let gone: &[usize] = if bound.is_done() { &[1] } else { &[] };
                let stand = Stand { may_arrive, ..plan(&bindings, 1) };
                assert_eq!(next(stand), undo(gone, is_all), "{bound:?}, may arrive: {may_arrive}");
            }
        }
    }

    #[test]
    fn where_so_many_are_bound_as_must_run_together_nobody_is_undone_for_the_others() {
        let bindings = [Bound::Yes, Bound::Never, Bound::Started, Bound::NotYet];
        let of = |enough, may_arrive| next(Stand { enough, may_arrive, ..plan(&bindings, 0) });
        assert_eq!(of(3, false), undo(&[0, 2], true));
        assert_eq!(of(2, false), Next::Keep { is_all: true });
        assert_eq!(of(2, true), Next::Keep { is_all: false }, "the last one may still come to be bound");
        assert_eq!(next(Stand { enough: 0, ..plan(&[Bound::Refused], 1) }), Next::Keep { is_all: true });
        assert_eq!(next(Stand { enough: 0, ..plan(&[Bound::NotYet], 0) }), Next::Wait, "there is time");
        let refused = Stand { enough: 1, ..plan(&[Bound::Yes, Bound::Refused], -30) };
        assert_eq!(next(refused), Next::Keep { is_all: true }, "nobody waits for who is refused");
        assert_eq!(next(Stand { may_arrive: true, ..refused }), Next::Wait, "its room isn't free before");
        assert_eq!(next(Stand { enough: 2, ..refused }), Next::Wait, "it may be let in before the deadline");
    }

    #[test]
    fn what_runs_long_after_the_deadline_is_left_alone() {
        let bindings = [Bound::Started, Bound::Never, Bound::Yes];
        assert_eq!(next(plan(&bindings, SLACK_SECONDS)), undo(&[0, 2], true));
        assert_eq!(next(plan(&bindings, SLACK_SECONDS + 1)), undo(&[2], true));
    }
}

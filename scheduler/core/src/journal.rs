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
    /// It isn't bound, and the API server refused to bind it for now.
    Refused,
    /// Nobody knows yet.
    NotYet,
}

impl Bound {
    /// Whether the pod is where the plan wants it.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Yes | Self::Started)
    }
}

/// What is to be done about a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Every pod is bound: the plan is over.
    Finish,
    /// Some aren't yet, and there is time.
    Wait,
    /// It can't be finished, or not in time: these pods, by their place in the plan, must not stay.
    Undo(Vec<usize>),
}

/// Judges a plan by how its bindings stand, so many seconds after its deadline (before it, if negative).
pub fn next(bindings: &[Bound], seconds_late: i64) -> Next {
    if bindings.iter().all(|bound| bound.is_done()) {
        return Next::Finish;
    }
    if seconds_late <= 0 && !bindings.contains(&Bound::Never) {
        return Next::Wait;
    }
    let must_go = |bound: &Bound| match bound {
        // What was refused for sure isn't bound, and needs no undoing.
        Bound::Never | Bound::Refused => false,
        Bound::Started => seconds_late <= SLACK_SECONDS,
        // A binding that nobody knows of may still arrive: its pod must not be left.
        Bound::Yes | Bound::NotYet => true,
    };
    let pods = bindings.iter().enumerate().filter(|(_, bound)| must_go(bound));
    Next::Undo(pods.map(|(place, _)| place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_finished_when_every_pod_is_bound_however_late() {
        assert_eq!(next(&[Bound::Yes, Bound::Started], i64::MAX), Next::Finish);
    }

    #[test]
    fn what_is_unknown_is_waited_for_until_the_deadline_and_then_undone_with_the_rest() {
        let bindings = [Bound::Yes, Bound::NotYet, Bound::Started];
        assert_eq!(next(&bindings, -1), Next::Wait);
        assert_eq!(next(&bindings, 0), Next::Wait);
        assert_eq!(next(&bindings, 1), Next::Undo(vec![0, 1, 2]));
    }

    #[test]
    fn a_plan_that_lost_a_pod_is_undone_at_once_but_for_that_pod() {
        assert_eq!(next(&[Bound::Yes, Bound::Never, Bound::NotYet], -30), Next::Undo(vec![0, 2]));
    }

    #[test]
    fn what_runs_long_after_the_deadline_is_left_alone() {
        let bindings = [Bound::Started, Bound::Never, Bound::Yes];
        assert_eq!(next(&bindings, SLACK_SECONDS), Next::Undo(vec![0, 2]));
        assert_eq!(next(&bindings, SLACK_SECONDS + 1), Next::Undo(vec![2]));
    }
}

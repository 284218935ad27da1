//! Conditions: how every status says what holds, why, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says of itself before it is merged into a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The condition's type, such as `Admitted`.
    pub kind: &'static str,
    /// Whether it holds; unknown is an answer of its own.
    pub holds: Holds,
    /// A CamelCase reason that programs may rely on.
    pub reason: String,
    /// For people: the object, the rule and the way out.
    pub message: String,
}

/// The three answers that a condition can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// It can't be told now.
    Unknown,
}

impl Holds {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Puts the statement among the conditions; the transition time moves only when the answer changes.
pub fn merge(conditions: &mut Vec<Condition>, statement: Statement, generation: Option<i64>, now: &Time) {
    let before = conditions.iter().position(|condition| condition.type_ == statement.kind);
    let unchanged_since = before
        .map(|index| &conditions[index])
        .filter(|condition| condition.status == statement.holds.as_str())
        .map(|condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: statement.kind.to_owned(),
        status: statement.holds.as_str().to_owned(),
        reason: statement.reason,
        message: statement.message,
        observed_generation: generation,
        last_transition_time: unchanged_since.unwrap_or_else(|| now.clone()),
    };
    match before {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

/// The condition of that type, if there is one.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn says(holds: Holds, reason: &str) -> Statement {
        Statement { kind: "Ready", holds, reason: reason.to_owned(), message: String::new() }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_answer() {
        let mut conditions = Vec::new();
        merge(&mut conditions, says(Holds::False, "A"), None, &at(1));
        merge(&mut conditions, says(Holds::False, "B"), None, &at(2));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert_eq!(conditions[0].reason, "B");
        merge(&mut conditions, says(Holds::True, "C"), None, &at(3));
        assert_eq!(conditions[0].last_transition_time, at(3));
        assert_eq!(conditions.len(), 1);
    }
}

//! What objects say that makes no sense: told once on the object itself, as an event, until it says something else.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ObjectReference;

/// What doesn't make sense, by object; and what of it isn't told yet.
#[derive(Default)]
pub(crate) struct Faults {
    known: HashMap<(String, String), String>,
    untold: Vec<(ObjectReference, String)>,
}

impl Faults {
    /// What is wrong with an object now; nothing where all of it makes sense.
    pub(crate) fn set(&mut self, about: ObjectReference, wrong: &[String]) {
        let kind = about.kind.clone().unwrap_or_default();
        let key = match about.namespace.as_deref().unwrap_or_default() {
            "" => about.name.clone().unwrap_or_default(),
            namespace => format!("{namespace}/{}", about.name.as_deref().unwrap_or_default()),
        };
        let wrong = wrong.join("; ");
        if wrong.is_empty() {
            self.known.remove(&(kind, key));
        } else if self.known.get(&(kind.clone(), key.clone())) != Some(&wrong) {
            tracing::warn!("{kind} {key}: {wrong}");
            self.untold.push((about, wrong.clone()));
            self.known.insert((kind, key), wrong);
        }
    }

    /// What is to be told.
    pub(crate) fn take(&mut self) -> Vec<(ObjectReference, String)> {
        std::mem::take(&mut self.untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::reference;

    #[test]
    fn what_is_wrong_is_told_once_and_again_when_it_is_something_else() {
        let mut faults = Faults::default();
        let node = || reference(("v1", "Node"), "", "n", "u");
        let mut told = |wrong: &[String]| {
            faults.set(node(), wrong);
            faults.take().into_iter().map(|(_, wrong)| wrong).collect::<Vec<_>>()
        };
        assert_eq!(told(&["a".to_owned(), "b".to_owned()]), ["a; b"]);
        assert_eq!(told(&["a".to_owned(), "b".to_owned()]), [""; 0]);
        assert_eq!(told(&["a".to_owned()]), ["a"]);
        assert_eq!(told(&[]), [""; 0]);
        assert_eq!(told(&["a".to_owned()]), ["a"], "it was well in between");
    }
}

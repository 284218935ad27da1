//! PodDisruptionBudgets come, change and go: who is evicted is chosen so that few of them are broken.

use super::{Cluster, Fault};
use crate::{
    document::BudgetDocument,
    labels::{Selector, Text},
    pod::Pod,
};

/// How many of certain pods may be evicted at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    namespace: Text,
    /// Which pods. None matches none; an empty one every pod of the namespace.
    selector: Option<Selector>,
    pub(crate) allowed: i64,
}

impl Budget {
    /// Whether the budget is about the pod.
    pub(crate) fn is_about(&self, pod: &Pod) -> bool {
        let selects = |selector: &Selector| selector.matches(&pod.labels);
        self.namespace == *pod.namespace() && self.selector.as_ref().is_some_and(selects)
    }
}

impl Cluster {
    /// A budget is there, or has changed. Answers what of it makes no sense; then it is about every pod of its namespace.
    pub fn set_budget(&mut self, document: &BudgetDocument) -> Vec<Fault> {
        let texts = &mut self.shared.texts;
        let (key, namespace) = (texts.share(&document.key()), texts.share(&document.metadata.namespace));
        let (selector, fault) = match Selector::read(document.spec.selector.as_ref(), texts) {
            Ok(selector) => (selector, None),
            Err(operator) => (Some(Selector::default()), Some(operator)),
        };
        let fault = fault.map(|operator| Fault {
            object: format!("poddisruptionbudget {key}"),
            why: format!(
                "spec.selector: operator {operator} isn't known; it is taken for one about every pod"
            ),
        });
        self.budgets
            .insert(key, Budget { namespace, selector, allowed: document.status.disruptions_allowed });
        fault.into_iter().collect()
    }

    /// A budget is there that can't be read: it is about every pod of its namespace, and nobody of them may go.
    pub fn set_unreadable_budget(&mut self, namespace: &str, name: &str) {
        let texts = &mut self.shared.texts;
        let (key, namespace) = (texts.share(&format!("{namespace}/{name}")), texts.share(namespace));
        self.budgets.insert(key, Budget { namespace, selector: Some(Selector::default()), allowed: 0 });
    }

    /// A budget is gone.
    pub fn remove_budget(&mut self, key: &str) {
        self.budgets.remove(key);
    }

    /// Keeps the budgets of a complete list, and takes the others for gone.
    pub fn retain_budgets(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.budgets.retain(|key, _| is_listed(key));
    }
}

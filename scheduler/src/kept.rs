//! What each kind of object that is watched is to the cluster: what it is called, how it is taken in, and how it is dropped.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt as _, core::DeserializeGuard};
use plasma_api::Gang;
use plasma_scheduler_core::{
    BudgetDocument, Fault, NamespaceDocument, NodeDocument, PodDocument, StorageKind,
};

use crate::{
    object::{Object, key},
    pod_groups::group_of,
    state::State,
    storage::{self, StorageDocument},
};

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Pod,
    Node,
    Namespace,
    Gang,
    Budget,
    Storage(StorageKind),
}

impl Kind {
    /// All of them: before each was listed once, what looks free may not be.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let others = [Self::Pod, Self::Node, Self::Namespace, Self::Gang, Self::Budget];
        others.into_iter().chain(storage::KINDS.map(Self::Storage))
    }
}

/// What of an object makes no sense: the object, and why.
pub(crate) type Wrong = Option<(ObjectReference, String)>;

/// An object that is watched.
pub(crate) trait Kept: Sized {
    const KIND: Kind;

    /// What it is called within its kind.
    fn key(&self) -> String;

    /// It is there, or has changed.
    fn put(self, key: &str, state: &mut State) -> Wrong;

    /// It is gone.
    fn remove(key: &str, state: &mut State);

    /// Those of a complete list are there, and no others.
    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool);
}

fn wrong(object: &impl Resource<DynamicType = ()>, faults: impl IntoIterator<Item = Fault>) -> Wrong {
    let faults: Vec<String> = faults.into_iter().map(|fault| fault.why).collect();
    (!faults.is_empty()).then(|| (object.object_ref(&()), faults.join("; ")))
}

impl Kept for Object<PodDocument> {
    const KIND: Kind = Kind::Pod;

    fn key(&self) -> String {
        self.document.metadata.uid.clone()
    }

    fn put(self, key: &str, state: &mut State) -> Wrong {
        if state.rests_after(key, Some(&self.document)) {
            state.rest(key, Some(self));
            return None;
        }
        wrong(&self, state.cluster.set_pod(&self.document))
    }

    fn remove(key: &str, state: &mut State) {
        if state.rests_after(key, None) {
            return state.rest(key, None);
        }
        state.cluster.remove_pod(key);
    }

    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool) {
        state.rests.retain(&is_listed);
        state.cluster.retain_pods(is_listed);
    }
}

impl Kept for Object<NodeDocument> {
    const KIND: Kind = Kind::Node;

    fn key(&self) -> String {
        self.name_any()
    }

    fn put(self, _: &str, state: &mut State) -> Wrong {
        wrong(&self, state.cluster.set_node(&self.document))
    }

    fn remove(key: &str, state: &mut State) {
        state.cluster.remove_node(key);
    }

    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool) {
        state.cluster.retain_nodes(is_listed);
    }
}

impl Kept for Object<NamespaceDocument> {
    const KIND: Kind = Kind::Namespace;

    fn key(&self) -> String {
        self.name_any()
    }

    fn put(self, _: &str, state: &mut State) -> Wrong {
        wrong(&self, state.cluster.set_namespace(&self.document))
    }

    fn remove(key: &str, state: &mut State) {
        state.cluster.retain_namespaces(|name| name != key);
    }

    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool) {
        state.cluster.retain_namespaces(is_listed);
    }
}

impl Kept for DeserializeGuard<Object<BudgetDocument>> {
    const KIND: Kind = Kind::Budget;

    fn key(&self) -> String {
        key(self)
    }

    fn put(self, _: &str, state: &mut State) -> Wrong {
        match &self.0 {
            Ok(budget) => wrong(budget, state.cluster.set_budget(&budget.document)),
            Err(fault) => {
                let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
                state.cluster.set_unreadable_budget(&namespace, &name);
                let why =
                    "it can't be read, so it is taken for one that allows no pod of its namespace to go";
                Some((self.object_ref(&()), format!("{why}: {fault}")))
            }
        }
    }

    fn remove(key: &str, state: &mut State) {
        state.cluster.remove_budget(key);
    }

    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool) {
        state.cluster.retain_budgets(is_listed);
    }
}

impl<D: StorageDocument> Kept for DeserializeGuard<Object<D>> {
    const KIND: Kind = Kind::Storage(D::KIND);

    fn key(&self) -> String {
        key(self)
    }

    fn put(self, key: &str, state: &mut State) -> Wrong {
        match &self.0 {
            Ok(object) => wrong(object, object.document.put(&mut state.cluster)),
            Err(fault) => {
                state.cluster.remove_storage(D::KIND, key);
                Some((self.object_ref(&()), format!("it can't be read, and is taken for missing: {fault}")))
            }
        }
    }

    fn remove(key: &str, state: &mut State) {
        state.cluster.remove_storage(D::KIND, key);
    }

    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool) {
        state.cluster.retain_storage(D::KIND, is_listed);
    }
}

impl Kept for DeserializeGuard<Gang> {
    const KIND: Kind = Kind::Gang;

    fn key(&self) -> String {
        group_of(self)
    }

    fn put(self, key: &str, state: &mut State) -> Wrong {
        let about = self.object_ref(&());
        match self.0 {
            Ok(gang) => {
                state.set_gang(key.to_owned(), gang);
                None
            }
            Err(fault) => {
                state.remove_gang(key);
                Some((about, format!("it can't be read, and its pods are not placed: {fault}")))
            }
        }
    }

    fn remove(key: &str, state: &mut State) {
        state.remove_gang(key);
    }

    fn retain(state: &mut State, is_listed: impl Fn(&str) -> bool) {
        state.retain_gangs(is_listed);
    }
}

//! Events: what happened to an object, for people who look at it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use plasma_api::names;

/// How long a note may be: the API server takes no more (1 kB).
const LONGEST: usize = 1000;
/// How long an object's name may be, in bytes.
const LONGEST_NAME: usize = 253;

/// What is told of an object.
pub(crate) struct Told<'a> {
    pub(crate) about: ObjectReference,
    /// Something to look at, not just to know.
    pub(crate) is_warning: bool,
    pub(crate) reason: &'a str,
    pub(crate) note: &'a str,
}

/// Writes an event. That it couldn't be written is logged, and nothing waits for it.
pub(crate) async fn publish(client: &Client, told: Told<'_>) {
    let when = format!("{:x}", Timestamp::now().as_nanosecond());
    if let Err(fault) = write(client, told, &when).await {
        tracing::warn!("an event can't be written: {fault}");
    }
}

/// Writes an event, unless it is there already, by whomever: its name says what it says. Whether it is there.
pub(crate) async fn publish_once(client: &Client, told: Told<'_>) -> bool {
    let mut hasher = DefaultHasher::new();
    (&told.about.uid, told.reason, told.note).hash(&mut hasher);
    match write(client, told, &format!("{:016x}", hasher.finish())).await {
        Ok(()) => true,
        Err(kube::Error::Api(status)) if status.is_already_exists() => true,
        Err(fault) => {
            tracing::warn!("an event can't be written: {fault}");
            false
        }
    }
}

async fn write(client: &Client, told: Told<'_>, suffix: &str) -> Result<(), kube::Error> {
    let Told { about, is_warning, reason, note } = told;
    let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    // A dot stands between, and before it no dot and no dash.
    let about_whom = cut(about.name.as_deref().unwrap_or_default(), LONGEST_NAME - 1 - suffix.len());
    let name = format!("{}.{suffix}", about_whom.trim_end_matches(['.', '-']));
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Scheduling".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(cut(note, LONGEST).to_owned()),
        reason: Some(reason.to_owned()),
        regarding: Some(about),
        reporting_controller: Some(names::field_manager::SCHEDULER.to_owned()),
        reporting_instance: Some(names::field_manager::SCHEDULER.to_owned()),
        type_: Some(if is_warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    events.create(&PostParams::default(), &event).await?;
    Ok(())
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// An object of a kind, for an event about it.
pub(crate) fn reference(kind: (&str, &str), namespace: &str, name: &str, uid: &str) -> ObjectReference {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (version, kind) = kind;
    ObjectReference {
        api_version: given(version),
        kind: given(kind),
        namespace: given(namespace),
        name: given(name),
        uid: given(uid),
        ..ObjectReference::default()
    }
}

/// A pod, for an event about it.
pub(crate) fn pod_reference(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    reference(("v1", "Pod"), namespace, name, uid)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn texts_are_cut_by_bytes_and_between_letters() {
        assert_eq!(["abc", "ab…", "…"].map(|text| cut(text, 3)), ["abc", "ab", "…"]);
        assert_eq!([cut("…", 2), cut("", 3), cut("abcd", 3)], ["", "", "abc"]);
    }
}

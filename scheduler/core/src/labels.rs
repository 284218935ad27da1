//! Labels and what is asked of them. Texts that many objects share are kept once.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use arcstr::ArcStr;

use crate::document::{LabelRequirement, LabelSelector};

/// A text that is shared by whatever mentions it. A cluster of fifty thousand pods mentions a million: each mention is a
/// single pointer.
pub(crate) type Text = ArcStr;

/// Labels, ordered by key. Pods that are made alike have different values, and the same keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Labels {
    keys: Keys,
    /// One for each key.
    values: Box<[Text]>,
}

/// The keys of labels, in order.
type Keys = Arc<Box<[Text]>>;

impl Labels {
    /// The value of a label.
    pub(crate) fn get(&self, key: &str) -> Option<&Text> {
        let at = self.keys.binary_search_by(|name| (**name).cmp(key)).ok()?;
        self.values.get(at)
    }

    /// Every label and its value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.keys.iter().zip(&self.values)
    }

    /// The labels with these keys.
    pub(crate) fn only(&self, keys: &BTreeSet<Text>) -> Self {
        let chosen = self.iter().filter(|(key, _)| keys.contains(*key));
        let (keys, values): (Vec<Text>, Vec<Text>) =
            chosen.map(|(key, value)| (key.clone(), value.clone())).unzip();
        Self { keys: Arc::new(keys.into()), values: values.into() }
    }
}

/// Texts by content: what is said a thousand times is kept once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    texts: HashSet<Text>,
    keys: HashSet<Keys>,
}

impl Texts {
    /// The shared text with this content.
    pub(crate) fn share(&mut self, text: &str) -> Text {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Text = text.into();
        self.texts.insert(new.clone());
        new
    }

    /// Labels of shared texts.
    pub(crate) fn labels<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Labels {
        let mut shared: Vec<(Text, Text)> =
            labels.into_iter().map(|(key, value)| (self.share(key), self.share(value))).collect();
        shared.sort();
        let (keys, values): (Vec<Text>, Vec<Text>) = shared.into_iter().unzip();
        Labels { keys: self.share_keys(keys.into()), values: values.into() }
    }

    fn share_keys(&mut self, keys: Box<[Text]>) -> Keys {
        if let Some(known) = self.keys.get(&keys) {
            return known.clone();
        }
        let new = Keys::new(keys);
        self.keys.insert(new.clone());
        new
    }

    /// Drops what nobody mentions any more.
    pub(crate) fn forget_unused(&mut self) {
        self.keys.retain(|keys| Arc::strong_count(keys) > 1);
        // One without a count is part of the program.
        self.texts.retain(|text| Text::strong_count(text).is_some_and(|count| count > 1));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// What is asked of labels: every requirement holds. One without requirements holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Selector(Vec<Requirement>);

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Requirement {
    pub(crate) key: Text,
    pub(crate) test: Test,
}

/// How a label's value is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Test {
    In(Vec<Text>),
    NotIn(Vec<Text>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether the labels are as asked.
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let value = labels.get(key);
            match test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }

    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels that are looked at.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Text> {
        self.0.iter().map(|requirement| &requirement.key)
    }

    /// Labels of which one must be there, with its value; nothing where none must.
    pub(crate) fn anchors(&self) -> Option<HashSet<(Text, Text)>> {
        self.0.iter().find_map(|Requirement { key, test }| match test {
            Test::In(values) => Some(values.iter().map(|value| (key.clone(), value.clone())).collect()),
            _ => None,
        })
    }

    /// Asks for one more thing.
    pub(crate) fn add(&mut self, key: Text, test: Test) {
        self.0.push(Requirement { key, test });
    }

    /// Reads a selector. Without one, nothing matches: that is `None`.
    ///
    /// # Errors
    /// The operator that isn't known.
    pub(crate) fn read(selector: Option<&LabelSelector>, texts: &mut Texts) -> Result<Option<Self>, String> {
        let Some(LabelSelector { match_labels, match_expressions }) = selector else { return Ok(None) };
        let mut read = Self::default();
        for (key, value) in match_labels {
            read.add(texts.share(key), Test::In(vec![texts.share(value)]));
        }
        for LabelRequirement { key, operator, values } in match_expressions {
            let values = values.iter().map(|value| texts.share(value)).collect();
            let test = match operator.as_str() {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::DoesNotExist,
                other => return Err(other.to_owned()),
            };
            read.add(texts.share(key), test);
        }
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn labels(texts: &mut Texts, labels: &[(&str, &str)]) -> Labels {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        texts.labels(&labels)
    }

    #[test]
    fn a_selector_asks_for_all_of_its_requirements() {
        let mut texts = Texts::default();
        let app = labels(&mut texts, &[("app", "a"), ("tier", "x")]);
        for (selector, expected) in [
            (json!({}), true),
            (json!({ "matchLabels": { "app": "a" } }), true),
            (json!({ "matchLabels": { "app": "a", "tier": "y" } }), false),
            (json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["b", "a"] }] }), true),
            (json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": ["a"] }] }), false),
            (json!({ "matchExpressions": [{ "key": "zone", "operator": "NotIn", "values": ["a"] }] }), true),
            (json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }), false),
            (json!({ "matchExpressions": [{ "key": "zone", "operator": "DoesNotExist" }] }), true),
        ] {
            let document: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            let read = Selector::read(Some(&document), &mut texts).unwrap().unwrap();
            assert_eq!(read.matches(&app), expected, "{selector}");
        }
        assert_eq!(Selector::read(None, &mut texts), Ok(None));
        let future = json!({ "matchExpressions": [{ "key": "zone", "operator": "Near" }] });
        let future: LabelSelector = serde_json::from_value(future).unwrap();
        assert_eq!(Selector::read(Some(&future), &mut texts), Err("Near".to_owned()));
    }

    #[test]
    fn texts_that_nobody_mentions_are_dropped() {
        let mut texts = Texts::default();
        let kept = labels(&mut texts, &[("app", "a")]);
        drop(labels(&mut texts, &[("app", "b")]));
        texts.forget_unused();
        assert_eq!((texts.len(), kept.get("app").map(|value| &**value)), (2, Some("a")));
    }
}

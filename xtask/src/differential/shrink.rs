//! The smallest case that still shows a difference: whatever can go without ending it, goes.

use serde_json::Value;

use super::case::Case;

/// Takes away objects, then fields and elements of lists, as long as what remains still shows it.
pub(super) fn shrink(mut case: Case, mut shows: impl FnMut(&Case) -> bool) -> Case {
    loop {
        let before = size(&mut case);
        without_objects(&mut case, &mut shows);
        without_fields(&mut case, &mut shows);
        if size(&mut case) == before {
            return case;
        }
    }
}

fn size(case: &mut Case) -> usize {
    case.lists().iter().flat_map(|list| list.iter()).map(|object| object.to_string().len()).sum()
}

fn without_objects(case: &mut Case, shows: &mut impl FnMut(&Case) -> bool) {
    for list in 0..case.lists().len() {
        let mut index = case.lists()[list].len();
        while index > 0 {
            index -= 1;
            let mut smaller = case.clone();
            smaller.lists()[list].remove(index);
            if shows(&smaller) {
                *case = smaller;
            }
        }
    }
}

fn without_fields(case: &mut Case, shows: &mut impl FnMut(&Case) -> bool) {
    for list in 0..case.lists().len() {
        for index in 0..case.lists()[list].len() {
            // From the outside in: what goes whole needn't be taken apart.
            let mut inside = parts(&case.lists()[list][index]);
            inside.sort_by_key(Vec::len);
            for path in inside {
                let mut smaller = case.clone();
                if remove(&mut smaller.lists()[list][index], &path) && shows(&smaller) {
                    *case = smaller;
                }
            }
        }
    }
}

/// Fields without which an object isn't one that an API server would store: they go with what they are in, or not at all.
const KEPT: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "key",
    "operator",
    "maxSkew",
    "topologyKey",
    "whenUnsatisfiable",
    "containers",
];

/// One step into a document.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Element(usize),
}

/// The way to every part of a document; of lists, from the end.
fn parts(value: &Value) -> Vec<Vec<Step>> {
    let children: Vec<(Step, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (Step::Field(name.clone()), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().rev().map(|(index, value)| (Step::Element(index), value)).collect()
        }
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (step, child) in children {
        if !matches!(&step, Step::Field(name) if KEPT.contains(&name.as_str())) {
            found.push(vec![step.clone()]);
        }
        for mut inner in parts(child) {
            inner.insert(0, step.clone());
            found.push(inner);
        }
    }
    found
}

/// Takes a part away; it may have gone with another one.
fn remove(value: &mut Value, path: &[Step]) -> bool {
    match (value, path) {
        (Value::Object(fields), [Step::Field(name)]) => fields.remove(name).is_some(),
        (Value::Array(items), [Step::Element(index)]) if *index < items.len() => {
            items.remove(*index);
            true
        }
        (Value::Object(fields), [Step::Field(name), rest @ ..]) => {
            fields.get_mut(name).is_some_and(|inner| remove(inner, rest))
        }
        (Value::Array(items), [Step::Element(index), rest @ ..]) => {
            items.get_mut(*index).is_some_and(|inner| remove(inner, rest))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_shows_it_remains() {
        let node =
            |name: &str| json!({ "metadata": { "name": name, "labels": { "a": "b" } }, "list": [1, 2, 3] });
        let case = Case { nodes: vec![node("one"), node("two")], pods: vec![node("pod")], ..Case::default() };
        let small = shrink(case, |case| {
            case.nodes.iter().any(|node| {
                let items = node["list"].as_array().into_iter().flatten();
                node["metadata"]["name"] == "one" && items.into_iter().any(|item| *item == json!(2))
            })
        });
        let expected =
            Case { nodes: vec![json!({ "metadata": { "name": "one" }, "list": [2] })], ..Case::default() };
        assert_eq!(small, expected);
    }

    #[test]
    fn what_everything_shows_shrinks_to_nothing() {
        let case = Case { nodes: vec![json!({ "metadata": { "name": "one" } })], ..Case::default() };
        assert_eq!(shrink(case, |_| true), Case::default());
    }
}

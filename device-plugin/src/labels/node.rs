//! Labels that no look at the GPUs tells: the machine that they are in, who offers them, and when all that was found.

use std::{fs, path::Path};

use super::{Labels, MACHINE, MPS_CAPABLE, parts};

/// What the machine's maker calls it.
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// When the labels became what they are, in seconds since 1970.
const TIMESTAMP: &str = "nvidia.com/gfd.timestamp";

/// Completes the labels of one node.
pub(crate) struct NodeLabels {
    /// What the machine is called, as a label has it; empty where nobody says.
    machine: String,
    /// Whether another plugin offers the GPUs.
    observes: bool,
    /// The labels as they were last, and since when.
    last: Option<(Labels, i64)>,
}

impl NodeLabels {
    /// Of the machine that this runs on.
    pub(crate) fn new(observes: bool) -> Self {
        Self::of(Path::new(PRODUCT_NAME), observes)
    }

    fn of(product_name: &Path, observes: bool) -> Self {
        let told = fs::read_to_string(product_name).unwrap_or_default();
        Self { machine: plasma_device_plugin_core::product_label(&told), observes, last: None }
    }

    /// The labels in full, at this second since 1970. The same labels have the same time, so that nothing is written for the
    /// time's sake; a process that starts begins anew.
    pub(crate) fn complete(&mut self, mut labels: Labels, now: i64) -> Labels {
        if let Some(machine) = labels.get_mut(MACHINE).and_then(Option::as_mut)
            && !self.machine.is_empty()
        {
            machine.clone_from(&self.machine);
        }
        if self.observes {
            offered_by_another(&mut labels);
        }
        let since = match self.last.take() {
            Some((last, since)) if last == labels => since,
            _ => now,
        };
        self.last = Some((labels.clone(), since));
        let has_gpus = labels.get(MACHINE).is_some_and(Option::is_some);
        labels.insert(TIMESTAMP.to_owned(), has_gpus.then(|| since.to_string()));
        labels
    }
}

/// How GPUs are shared is what the other plugin was told, and not what we were: it isn't known, which is no label.
fn offered_by_another(labels: &mut Labels) {
    let is_unknown = |name: &str| parts::is_about_sharing(name) || name == MPS_CAPABLE;
    labels.iter_mut().filter(|(name, _)| is_unknown(name)).for_each(|(_, value)| *value = None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, Option<&str>)]) -> Labels {
        of.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    }

    fn node(observes: bool) -> NodeLabels {
        NodeLabels::of(Path::new("/nowhere"), observes)
    }

    #[test]
    fn the_machine_is_what_its_maker_calls_it_and_unknown_where_nobody_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "Standard PC (Q35 + ICH9, 2009)\n").unwrap();
        let unknown = labels(&[(MACHINE, Some("unknown"))]);
        let told = NodeLabels::of(file.path(), false).complete(unknown.clone(), 1);
        assert_eq!(told[MACHINE].as_deref(), Some("Standard-PC-Q35-ICH9-2009"));
        fs::write(file.path(), " \n").unwrap();
        for mut silent in [node(false), NodeLabels::of(file.path(), false)] {
            assert_eq!(silent.complete(unknown.clone(), 1)[MACHINE].as_deref(), Some("unknown"));
        }
        let none = node(false).complete(labels(&[(MACHINE, None)]), 1);
        assert_eq!((&none[MACHINE], &none[TIMESTAMP]), (&None, &None), "there is no GPU");
    }

    #[test]
    fn the_time_of_labels_is_when_they_became_what_they_are() {
        let mut node = node(false);
        let mut at = |count: &str, now: i64| {
            let told = labels(&[(MACHINE, Some("unknown")), ("nvidia.com/gpu.count", Some(count))]);
            node.complete(told, now)[TIMESTAMP].clone().unwrap()
        };
        let times =
            [("8", 10), ("8", 12), ("7", 14), ("7", 99), ("8", 100)].map(|(count, now)| at(count, now));
        assert_eq!(times, ["10", "10", "14", "14", "100"]);
    }

    #[test]
    fn how_another_plugin_shares_is_not_told() {
        let told = labels(&[
            ("nvidia.com/gpu.count", Some("8")),
            ("nvidia.com/gpu.replicas", Some("1")),
            ("nvidia.com/gpu.sharing-strategy", Some("none")),
            ("nvidia.com/mig-1g.10gb.replicas", Some("1")),
            (MPS_CAPABLE, Some("false")),
        ]);
        let known = |observes: bool| {
            let told = node(observes).complete(told.clone(), 1);
            told.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(known(true), ["nvidia.com/gpu.count"]);
        assert_eq!(known(false).len(), told.len());
    }
}

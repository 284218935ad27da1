//! Which nodes are gone for good, and their meters with them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::{failure::Failure, settle::Surroundings};

/// A node is asked for so often.
const LOOK: Duration = Duration::from_secs(30);
/// A node that has not been there for so long won't come back with what its meter knew: a kubelet makes its Node again within
/// seconds where somebody deleted it.
const GONE: Duration = Duration::from_secs(300);

/// Nodes that pods wait for, and since when they aren't there.
#[derive(Default)]
pub(crate) struct Gone {
    nodes: HashMap<String, Look>,
}

struct Look {
    asked: Instant,
    missing_since: Option<Instant>,
}

impl Gone {
    /// Asks for those nodes; the others are forgotten.
    pub(crate) async fn look(&mut self, around: &Surroundings, awaited: &[&str]) -> Result<(), Failure> {
        self.nodes.retain(|name, _| awaited.contains(&name.as_str()));
        let nodes: Api<Node> = Api::all(around.client.clone());
        for name in awaited {
            let before = self.nodes.get(*name);
            if before.is_some_and(|look| look.asked.elapsed() < LOOK) {
                continue;
            }
            let found = nodes.get_metadata_opt(name).await;
            let found = found.map_err(Failure::kube(format!("looking for node {name}")))?;
            let asked = Instant::now();
            let missing_since = || before.and_then(|look| look.missing_since).unwrap_or(asked);
            let missing_since = found.is_none().then(missing_since);
            self.nodes.insert((*name).to_owned(), Look { asked, missing_since });
        }
        Ok(())
    }

    /// Whether it has not been there for long.
    pub(crate) fn is_gone(&self, name: &str) -> bool {
        let since = self.nodes.get(name).and_then(|look| look.missing_since);
        since.is_some_and(|since| since.elapsed() >= GONE)
    }
}

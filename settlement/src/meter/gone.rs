//! Which nodes are gone for good, and their meters with them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

use crate::failure::Failure;

/// A node is asked for so often.
const LOOK: Duration = Duration::from_secs(30);
/// A node that has not been there for so long, and whose meter doesn't call, won't come back with what its meter knew. Where
/// somebody deleted the Node of a machine that runs, its kubelet makes it again when it is restarted.
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
    pub(crate) async fn look(&mut self, client: &Client, awaited: &[&str]) -> Result<(), Failure> {
        self.nodes.retain(|name, _| awaited.contains(&name.as_str()));
        let nodes: Api<Node> = Api::all(client.clone());
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

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;
    use tonic::codegen::http;

    use super::*;

    /// An API server that knows a node `here` and no other.
    fn api_server() -> Client {
        let answer = |request: http::Request<Body>| async move {
            let is_there = request.uri().path().ends_with("/here");
            let object = match is_there {
                true => json!({ "metadata": { "name": "here" } }),
                false => json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound" }),
            };
            let response = http::Response::builder().status(if is_there { 200 } else { 404 });
            Ok::<_, tower::BoxError>(response.body(Body::from(serde_json::to_vec(&object)?))?)
        };
        Client::new(tower::service_fn(answer), "default")
    }

    /// As if so much time had passed.
    fn pass(gone: &mut Gone, time: Duration) {
        for look in gone.nodes.values_mut() {
            look.asked -= time;
            look.missing_since = look.missing_since.map(|since| since - time);
        }
    }

    #[tokio::test]
    async fn a_node_is_gone_when_it_has_not_been_there_for_long() {
        let (client, mut gone) = (api_server(), Gone::default());
        gone.look(&client, &["here", "away"]).await.unwrap();
        assert!(!gone.is_gone("away"), "it may come back");
        pass(&mut gone, GONE);
        gone.look(&client, &["here", "away"]).await.unwrap();
        assert!(gone.is_gone("away") && !gone.is_gone("here") && !gone.is_gone("unknown"));
        gone.look(&client, &[]).await.unwrap();
        assert!(!gone.is_gone("away"), "nobody waits for it: it is looked for anew");
    }

    #[tokio::test]
    async fn a_node_that_came_back_is_not_gone() {
        let (client, mut gone) = (api_server(), Gone::default());
        let long_ago = Instant::now() - GONE - LOOK;
        gone.nodes.insert("here".to_owned(), Look { asked: long_ago, missing_since: Some(long_ago) });
        gone.look(&client, &["here"]).await.unwrap();
        assert!(!gone.is_gone("here"));
    }
}

//! Making and deleting many objects at once, before and after what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Client,
    api::{DeleteParams, GetParams, ListParams, PostParams},
    core::Request,
};
use serde_json::{Value, json};

use super::objects::NAMESPACE;

/// So many requests are under way at once.
const AT_ONCE: usize = 32;
/// How long deleting, or a kind's being served, may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often one looks.
const LOOK: Duration = Duration::from_millis(100);

/// A client of the API server, for objects as JSON.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
}

/// Where objects of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Node,
    Pod,
    Gang,
}

impl Kind {
    fn path(self) -> String {
        match self {
            Self::Node => "/api/v1/nodes".to_owned(),
            Self::Pod => format!("/api/v1/namespaces/{NAMESPACE}/pods"),
            Self::Gang => {
                let (group, version) = (plasma_api::names::GROUP, plasma_api::names::VERSION);
                format!("/apis/{group}/{version}/namespaces/{NAMESPACE}/gangs")
            }
        }
    }
}

impl Store {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes Plasma's kinds and the namespace, and waits until gangs are served.
    ///
    /// # Errors
    /// The API server refuses one.
    pub(super) async fn prepare(&self) -> Result<()> {
        for kind in plasma_api::crds() {
            self.create_at("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &kind).await?;
        }
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        self.create_at("/api/v1/namespaces", &namespace).await?;
        self.wait_until("gangs are served", || async { Ok(self.count(Kind::Gang).await.is_ok()) }).await
    }

    /// Makes all of them.
    ///
    /// # Errors
    /// The API server refuses one.
    pub(super) async fn create_all(&self, kind: Kind, objects: impl Iterator<Item = Value>) -> Result<()> {
        let path = kind.path();
        let create = |object: Value| {
            let path = path.as_str();
            async move { self.create_at(path, &object).await }
        };
        stream::iter(objects).map(create).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Makes one.
    ///
    /// # Errors
    /// The API server refuses it.
    pub(super) async fn create(&self, kind: Kind, object: &Value) -> Result<()> {
        self.create_at(&kind.path(), object).await
    }

    /// Reads one.
    ///
    /// # Errors
    /// It can't be read.
    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        let request =
            Request::new(kind.path()).get(name, &GetParams::default()).context("ask for an object")?;
        self.client.request(request).await.with_context(|| format!("read {name}"))
    }

    /// Deletes all of a kind that the selector of labels takes, without grace, and waits until they are gone.
    ///
    /// # Errors
    /// The API server refuses, or they don't go.
    pub(super) async fn delete_all(&self, kind: Kind, selector: &str) -> Result<()> {
        let chosen = ListParams::default().labels(selector);
        self.wait_until("what was made is deleted", || async {
            let delete = Request::new(kind.path())
                .delete_collection(&DeleteParams::default().grace_period(0), &chosen);
            // It may be cut short where there is much to delete: what counts is whether anything is left.
            let _ = self.client.request_text(delete.context("delete objects")?).await;
            Ok(self.count_of(kind, &chosen).await? == 0)
        })
        .await
    }

    async fn count(&self, kind: Kind) -> Result<usize> {
        self.count_of(kind, &ListParams::default()).await
    }

    /// How many there are, one or none.
    async fn count_of(&self, kind: Kind, chosen: &ListParams) -> Result<usize> {
        let list = Request::new(kind.path()).list(&chosen.clone().limit(1)).context("list objects")?;
        let list: Value = self.client.request(list).await.context("list objects")?;
        Ok(list["items"].as_array().map_or(0, Vec::len))
    }

    async fn create_at(&self, path: &str, object: &impl serde::Serialize) -> Result<()> {
        let body = serde_json::to_vec(object).context("write an object as JSON")?;
        let request = Request::new(path).create(&PostParams::default(), body).context("create an object")?;
        self.client.request_text(request).await.with_context(|| format!("create an object at {path}"))?;
        Ok(())
    }

    async fn wait_until<F>(&self, what: &str, mut is_so: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = Result<bool>>,
    {
        let begun = Instant::now();
        while !is_so().await? {
            ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

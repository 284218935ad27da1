//! Who calls: the node in a device plugin's token, by the API server's word, and no other.

mod reviewed;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, Client, api::PostParams};
use plasma_proto::meter::AUDIENCE;
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Status, metadata::MetadataMap};

use reviewed::Reviewed;

/// Where the API server says which node a token's pod runs on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// No token is longer.
const LONGEST_TOKEN: usize = 16 * 1024;

/// So many reviews are asked of the API server at once, whoever calls how often; the others wait, but no longer than this.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells who calls.
#[derive(Clone)]
pub(crate) struct Callers {
    client: Client,
    /// The user that device plugins are.
    account: String,
    reviewed: Arc<Reviewed>,
    turns: Arc<Semaphore>,
}

impl Callers {
    /// Device plugins run in this namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let account = format!("system:serviceaccount:{namespace}:plasma-device-plugin");
        Self { client, account, reviewed: Arc::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The node that the caller may speak for.
    ///
    /// # Errors
    /// `unauthenticated` without a valid token, `permission_denied` for somebody who is no device plugin, `unavailable` when
    /// the API server doesn't answer, or too many call.
    pub(crate) async fn node(&self, metadata: &MetadataMap) -> Result<String, Status> {
        let token = token(metadata)?;
        if let Some(node) = self.reviewed.node(&token, Instant::now()) {
            return Ok(node);
        }
        // Nobody closes it.
        let Ok(Ok(_turn)) = timeout(PATIENCE, self.turns.acquire()).await else {
            return Err(Status::unavailable("too many callers wait for a review of their tokens: try again"));
        };
        let node = self.review(token.clone()).await?;
        self.reviewed.keep(&token, &node, Instant::now());
        Ok(node)
    }

    async fn review(&self, token: String) -> Result<String, Status> {
        let review = TokenReview {
            spec: TokenReviewSpec { token, audiences: Some(vec![AUDIENCE.to_owned()]) },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        // The fault may repeat what was sent; the caller is told no more than that it failed.
        let reviewed = reviewed.map_err(|fault| {
            tracing::warn!("a meter's token can't be reviewed: {fault}");
            Status::unavailable("the API server can't review the token now: try again")
        })?;
        let status = reviewed.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            let why = status.error.unwrap_or_else(|| "it isn't valid".to_owned());
            return Err(Status::unauthenticated(format!("the token is refused: {why}")));
        }
        if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
            return Err(Status::unauthenticated(format!("the token isn't for the audience {AUDIENCE}")));
        }
        self.node_of(status.user.unwrap_or_default())
    }

    fn node_of(&self, user: UserInfo) -> Result<String, Status> {
        let name = user.username.unwrap_or_default();
        if name != self.account {
            let message =
                format!("{name} is no device plugin: {} reports what a node's meter says", self.account);
            return Err(Status::permission_denied(message));
        }
        let mut nodes = user.extra.unwrap_or_default().remove(NODE_NAME).unwrap_or_default().into_iter();
        match (nodes.next(), nodes.next()) {
            (Some(node), None) if !node.is_empty() => Ok(node),
            _ => Err(Status::permission_denied(
                "the token isn't bound to a pod on a node: only the kubelet's own token says which node it speaks for",
            )),
        }
    }
}

fn token(metadata: &MetadataMap) -> Result<String, Status> {
    let without = || Status::unauthenticated("no token: send authorization: Bearer TOKEN");
    let header = metadata.get("authorization").ok_or_else(without)?;
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(without)?;
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        return Err(without());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests;

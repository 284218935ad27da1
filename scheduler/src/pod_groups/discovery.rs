//! Whether, and in which version, the API server has PodGroups; and following them as long as it has.

use std::time::Duration;

use futures::StreamExt as _;
use kube::{
    Api, Client,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use plasma_runtime::CancellationToken;
use tokio::sync::mpsc::Sender;

use super::PodGroup;
use crate::observe::{Change, Observed, is_not_served};

/// The versions that are understood, the first that is served is used. Alphas change from release to release.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// How often an API server without PodGroups is asked again, and one that didn't answer.
const ASKED_AGAIN: Duration = Duration::from_secs(60);
const TRIED_AGAIN: Duration = Duration::from_secs(5);

/// Tells whether there are PodGroups, and which, until the program is asked to end.
pub(crate) fn watch(client: Client, sender: Sender<Observed>, shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move { shutdown.run_until_cancelled(keep_telling(&client, &sender)).await });
}

/// Ends when nobody listens any more.
async fn keep_telling(client: &Client, sender: &Sender<Observed>) {
    loop {
        let pause = match find(client).await {
            Ok(found) => {
                if sender.send(Observed::PodGroupsFound(found.clone())).await.is_err() {
                    return;
                }
                match found {
                    Some(resource) if follow(client, &resource, sender).await.is_none() => return,
                    Some(_) => Duration::ZERO,
                    None => ASKED_AGAIN,
                }
            }
            // It isn't known, and what was known before stays.
            Err(fault) => {
                tracing::warn!("whether the API server has PodGroups can't be found out: {fault}");
                TRIED_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The PodGroups of the first version that has them; nothing where none has.
///
/// # Errors
/// The API server didn't say.
async fn find(client: &Client) -> Result<Option<ApiResource>, kube::Error> {
    for version in VERSIONS {
        let answer = client.list_api_group_resources(&format!("scheduling.k8s.io/{version}")).await;
        let has_them = match answer {
            Ok(list) => list.resources.iter().any(|resource| resource.name == "podgroups"),
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(fault) => return Err(fault),
        };
        if has_them {
            let kind = GroupVersionKind::gvk("scheduling.k8s.io", version, "PodGroup");
            return Ok(Some(ApiResource::from_gvk_with_plural(&kind, "podgroups")));
        }
    }
    Ok(None)
}

/// Tells of PodGroups as long as the API server has them. Nothing when nobody listens any more.
async fn follow(client: &Client, resource: &ApiResource, sender: &Sender<Observed>) -> Option<()> {
    let pod_groups: Api<PodGroup> = Api::all_with(client.clone(), resource);
    let events = watcher(pod_groups, watcher::Config::default()).default_backoff();
    futures::pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => sender.send(Observed::PodGroup(Change::of(event))).await.ok()?,
            Err(fault) => {
                tracing::warn!("watching PodGroup: {fault}");
                if is_not_served(&fault) {
                    break;
                }
            }
        }
    }
    Some(())
}

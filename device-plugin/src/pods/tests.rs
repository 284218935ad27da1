//! What is followed, and what isn't believed.

use std::{fs, os::unix::net::UnixListener};

use super::{
    api_server::tests::{api_server, list},
    *,
};

fn unheard(pod_resources: &Path) -> (Follower, Pods) {
    follower("nvidia.com/gpu", pod_resources, Duration::ZERO)
}

#[tokio::test]
async fn what_the_api_server_tells_while_the_kubelet_is_away_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (kubelet, no_pods_api) = (folder.path().join("kubelet.sock"), folder.path().join("none"));
    // The list, and then a watch that fails.
    let follow = async || {
        let mut source = Source::ApiServer(Box::new(api_server(vec![list(&[])]).0), None);
        unheard(&kubelet).0.follow(&mut source, &no_pods_api).await
    };
    let listener = UnixListener::bind(&kubelet).unwrap();
    assert_eq!(follow().await, Ok(()));
    drop(listener);
    let fault = follow().await.unwrap_err();
    assert!(fault.contains("the kubelet is away") && fault.contains("kubelet.sock"), "{fault}");
    fs::remove_file(&kubelet).unwrap();
    assert_eq!(follow().await, Ok(()), "where there is no such socket nobody can say");
}

#[tokio::test]
async fn what_is_known_is_known_up_to_when_the_kubelet_was_heard_and_grows_old_from_then_on() {
    let (mut follower, pods) = unheard(Path::new("/nowhere"));
    pods.remember(Vec::new(), 0);
    follower.take_in(News::All, &mut Some(Vec::new()));
    let now = Heard::now();
    follower.hear(Heard { ms: 7_000, ..now });
    follower.publish();
    assert_eq!(pods.told.borrow().complete_ms, Some(7_000), "not up to now");
    assert_eq!(*pods.holdings.borrow(), Holdings::Known(BTreeMap::new()));
    let long_ago = now.at.checked_sub(OLD).unwrap();
    follower.hear(Heard { ms: 7_000, at: long_ago });
    follower.publish();
    assert_eq!((pods.told.borrow().complete_ms, &*pods.holdings.borrow()), (Some(7_000), &Holdings::Unknown));
}

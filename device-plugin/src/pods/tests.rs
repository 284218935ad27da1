//! What is followed, and what isn't believed.

use std::{fs, os::unix::net::UnixListener};

use super::{
    api_server::tests::{api_server, list},
    *,
};

fn unheard(pod_resources: &Path) -> (Follower, Pods) {
    follower("nvidia.com/gpu", pod_resources, Duration::ZERO, Clock::open(pod_resources))
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
    pods.remember(Remembered { held: Vec::new(), last_ms: 0, ended: Vec::new() });
    follower.take_in(News::All, &mut Some(Vec::new()));
    let told = |follower: &mut Follower, ago: Duration| {
        let before_ms = follower.clock.now_ms();
        follower.hear(Instant::now().checked_sub(ago).unwrap());
        follower.publish();
        let complete_ms = pods.told.borrow().complete_ms.expect("it was complete");
        before_ms - complete_ms
    };
    let recent = Duration::from_secs(3);
    assert!((2_900..=3_000).contains(&told(&mut follower, recent)), "not up to now");
    assert_eq!(*pods.holdings.borrow(), Holdings::Known(BTreeMap::new()));
    let ago_ms = told(&mut follower, OLD);
    assert_eq!(Duration::from_millis(ago_ms.next_multiple_of(100)), OLD);
    assert_eq!(*pods.holdings.borrow(), Holdings::Unknown);
}

//! What is followed, and what isn't believed.

use std::{fs, os::unix::net::UnixListener};

use super::{
    api_server::tests::{api_server, list},
    *,
};

fn follower(pod_resources: &Path) -> Follower {
    Follower {
        tenants: Tenants::default(),
        begun: Instant::now(),
        known: Known::new(Duration::ZERO),
        seen_ms: 0,
        remembered: mpsc::unbounded_channel().1,
        good_until: Instant::now(),
        lister: Lister::new(pod_resources),
        list_fault: None,
        list_due: Instant::now(),
        holdings: watch::channel(Holdings::Unknown).0,
        told: watch::channel(Told::default()).0,
        running: watch::channel(Running::new()).0,
    }
}

#[tokio::test]
async fn what_the_api_server_tells_while_the_kubelet_is_away_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (kubelet, no_pods_api) = (folder.path().join("kubelet.sock"), folder.path().join("none"));
    // The list, and then a watch that fails.
    let follow = async || {
        let mut source = Source::ApiServer(Box::new(api_server(vec![list(&[])]).0), None);
        follower(&kubelet).follow(&mut source, &no_pods_api).await
    };
    let listener = UnixListener::bind(&kubelet).unwrap();
    assert_eq!(follow().await, Ok(()));
    drop(listener);
    let fault = follow().await.unwrap_err();
    assert!(fault.contains("the kubelet is away") && fault.contains("kubelet.sock"), "{fault}");
    fs::remove_file(&kubelet).unwrap();
    assert_eq!(follow().await, Ok(()), "where there is no such socket nobody can say");
}

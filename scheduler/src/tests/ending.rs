//! The orderly end: what is under way is waited for, and only then may the next leader begin.

use std::time::Duration;

use clap::Parser as _;
use plasma_runtime::{CancellationToken, Health, Leadership};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{api_server::Fault, cluster::Cluster};
use crate::{args::Args, cycle};

const LEASE: &str = "plasma-scheduler";

async fn leads(cluster: &Cluster) -> Leadership {
    let args = Args::parse_from(["plasma-scheduler", "--leader-elect-identity", "me"]);
    let tokens = (&CancellationToken::new(), &CancellationToken::new());
    let ready = Health::default().gate("watches");
    plasma_runtime::lead(&cluster.server.client(), LEASE, &args.leader, tokens, &ready).await.unwrap()
}

/// Whether a process holds the lease that was given the name `me`.
fn is_held(cluster: &Cluster) -> bool {
    cluster.server.holder(LEASE).as_str().is_some_and(|holder| holder.starts_with("me"))
}

/// Runs a scheduler that is asked to end while a binding is on its way that takes so long. Says when, and whether
/// it has learned by its end that the plan was begun.
async fn ends_while_binding(cluster: &Cluster, takes: Duration) -> (Instant, bool) {
    cluster.server.fail("POST pods/p0/binding", 1, Fault::Late(takes));
    let leadership = leads(cluster).await;
    let mut scheduler = cluster.scheduler_that_knows();
    let (shutdown, (_watches, observations)) = (CancellationToken::new(), mpsc::channel(1));
    let ready = Health::default().gate("watches");
    let asked_to_end = async {
        while cluster.lines("POST pods/p0/binding").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
        Instant::now()
    };
    let runs = cycle::run(&mut scheduler, observations, ready, &shutdown, &leadership);
    let ((), asked) = tokio::join!(runs, asked_to_end);
    assert!(scheduler.tasks.is_empty());
    (asked, scheduler.state.is_journalled("ns/g"))
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_given_back_after_the_bindings_under_way_are_known() {
    let cluster = Cluster::new();
    let given_back = async {
        while cluster.lines("POST pods/p0/binding").is_empty() || is_held(&cluster) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.node_of("p0")
    };
    let takes = Duration::from_secs(3);
    let ((asked, is_learned), node) = tokio::join!(ends_while_binding(&cluster, takes), given_back);
    assert_eq!(cluster.server.holder(LEASE), Value::Null);
    assert_eq!(
        (is_learned, node),
        (true, json!("n")),
        "the binding was learned, and done before the lease was given"
    );
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_dropped_and_the_lease_runs_out_for_it() {
    let cluster = Cluster::new();
    let (asked, is_learned) = ends_while_binding(&cluster, Duration::from_secs(3600)).await;
    assert_eq!((is_held(&cluster), is_learned), (true, false));
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
}

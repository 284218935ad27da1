//! The plan is journalled, then bound, and what a lost request or reply leaves unknown is found out.

use serde_json::{Value, json};

use super::{api_server::Fault, cluster::Cluster};

#[tokio::test(start_paused = true)]
async fn the_plan_is_journalled_before_its_first_binding_and_bindings_name_the_pods_uid() {
    let cluster = Cluster::new();
    cluster.cycle(&mut cluster.scheduler()).await;
    let asked = cluster.server.asked();
    let journalled = asked.iter().position(|asked| asked.line == "PUT gangs/g/status").unwrap();
    let bindings: Vec<usize> = (0..asked.len()).filter(|at| asked[*at].line.ends_with("/binding")).collect();
    assert_eq!(bindings.len(), 2);
    assert!(bindings.iter().all(|binding| journalled < *binding), "{:?}", cluster.lines(""));
    let journal = &asked[journalled].body["status"]["journal"];
    assert_eq!(journal["placements"].as_array().map(Vec::len), Some(2));
    for binding in bindings {
        let Value::Object(place) = &journal["placements"][usize::from(asked[binding].line.contains("p1"))]
        else {
            panic!("{journal}")
        };
        assert_eq!(asked[binding].body["metadata"]["uid"], place["podUid"]);
        assert_eq!(asked[binding].body["target"]["name"], place["node"]);
    }
    let status = cluster.status();
    assert_eq!((&status["phase"], &status["bound"]), (&json!("Scheduled"), &json!(2)));
    assert!(status["journal"].is_null(), "{status}");
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_nothing_is_bound() {
    for fault in [Fault::Refused(409), Fault::Refused(500), Fault::RequestLost] {
        let cluster = Cluster::new();
        cluster.server.fail("PUT gangs/g/status", 1, fault);
        cluster.cycle(&mut cluster.scheduler()).await;
        assert_eq!(cluster.lines("POST"), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_whose_reply_was_lost_is_read_again_and_carried_out() {
    let cluster = Cluster::new();
    cluster.server.fail("PUT gangs/g/status", 1, Fault::ReplyLost);
    cluster.cycle(&mut cluster.scheduler()).await;
    assert_eq!(cluster.lines("GET gangs"), ["GET gangs/g"]);
    assert_eq!(cluster.lines("PUT").len(), 2, "the plan is written once, and its end");
    assert_eq!(cluster.lines("POST").len(), 2);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_a_binding_is_read_again() {
    let cluster = Cluster::new();
    cluster.server.fail("POST pods/p0/binding", 1, Fault::ReplyLost);
    cluster.cycle(&mut cluster.scheduler()).await;
    assert_eq!(cluster.lines("GET pods"), ["GET pods/p0"]);
    assert_eq!(cluster.lines("POST pods/p0"), ["POST pods/p0/binding"]);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_sent_again_after_a_second_and_what_is_known_is_not() {
    let mut cluster = Cluster::new();
    cluster.server.fail("POST pods/p0/binding", 1, Fault::RequestLost);
    let mut scheduler = cluster.scheduler();
    cluster.cycle(&mut scheduler).await;
    assert_eq!(cluster.status()["phase"], "Binding");
    for _ in 0..5 {
        cluster.later(&mut scheduler, 0).await;
    }
    assert_eq!(cluster.lines("POST").len(), 2, "each event is no reason to send it again");
    cluster.later(&mut scheduler, 2).await;
    assert_eq!(cluster.lines("POST pods/p0").len(), 2);
    assert_eq!(cluster.lines("POST pods/p1").len(), 1);
    assert_eq!(cluster.status()["phase"], "Scheduled");
}

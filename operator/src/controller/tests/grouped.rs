//! When an attempt is made in one of upstream's PodGroups, and that it is made without where it can't be.

use super::*;

/// What the API server says of PodGroups; nothing where they aren't served.
#[derive(Default)]
pub(super) struct Upstream {
    /// The versions of `scheduling.k8s.io` in which it has them.
    serves: &'static [&'static str],
    /// Code and words with which it answers a discovery.
    fails: Option<(u16, &'static str)>,
    /// Code and words with which it refuses to take a PodGroup; where they forbid, also to show one.
    refuses: Option<(u16, &'static str)>,
    /// Whether it drops what says that a pod belongs to one.
    drops: bool,
    /// A PodGroup that has the attempt's name.
    exists: Option<Value>,
}

impl Upstream {
    /// The answer, where the request is about PodGroups.
    pub(super) fn answer(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let refused = || self.refuses.map(|(code, words)| failure(code, words));
        if path.contains("/podgroups/") {
            return match method {
                "GET" if self.exists.is_some() => self.exists.clone().map(|group| (200, group)),
                "GET" => refused().filter(|(code, _)| *code == 403),
                _ => {
                    assert!(body["spec"]["disruptionMode"] == json!({ "all": {} }), "{body}");
                    refused()
                }
            };
        }
        let version = path.strip_prefix("/apis/scheduling.k8s.io/")?;
        let resources = match version {
            _ if self.fails.is_some() => return self.fails.map(|(code, words)| failure(code, words)),
            _ if self.serves.contains(&version) => json!([resource("podgroups", "PodGroup")]),
            "v1" => json!([resource("priorityclasses", "PriorityClass")]),
            _ => return Some(failure(404, "the server could not find the requested resource")),
        };
        let list = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "", "resources": resources });
        Some((200, list))
    }

    /// What it keeps of an object.
    pub(super) fn kept(&self, mut object: Value) -> Value {
        if self.drops && object["kind"] == "Job" {
            let pod = object["spec"]["template"]["spec"].as_object_mut();
            pod.and_then(|pod| pod.remove("schedulingGroup"));
        }
        object
    }
}

fn resource(name: &str, kind: &str) -> Value {
    json!({ "name": name, "kind": kind, "singularName": "", "namespaced": true, "verbs": [] })
}

/// The objects that were made, and the version of the PodGroup among them.
async fn made(upstream: Upstream) -> (Vec<String>, Option<String>) {
    let (server, outcome) = reconciled(ApiServer { upstream, ..ApiServer::default() }).await;
    outcome.expect("it goes well");
    let asked = server.asked();
    let made: Vec<&Value> =
        asked.iter().filter(|(verb, _)| *verb == "make").map(|(_, object)| object).collect();
    let is_of_group = |object: &&&Value| object["kind"] == "PodGroup";
    let version = made.iter().find(is_of_group).map(|group| text(&group["apiVersion"]));
    for job in made.iter().filter(|object| object["kind"] == "Job") {
        let named = &job["spec"]["template"]["spec"]["schedulingGroup"]["podGroupName"];
        let expected = if version.is_some() { json!("j-0") } else { Value::Null };
        assert_eq!(named, &expected, "its pods belong to a PodGroup if and only if there is one");
    }
    (made.iter().map(|object| text(&object["kind"])).collect(), version)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

const WITHOUT: [&str; 3] = ["Service", "Gang", "Job"];
const WITH: [&str; 4] = ["Service", "Gang", "PodGroup", "Job"];

#[tokio::test]
async fn an_attempt_has_a_pod_group_where_such_are_served() {
    for serves in [&["v1beta1"][..], &["v1alpha3", "v1beta1"]] {
        let (kinds, version) = made(Upstream { serves, ..Upstream::default() }).await;
        assert_eq!(kinds, WITH, "{serves:?}");
        assert_eq!(version.as_deref(), Some("scheduling.k8s.io/v1beta1"), "{serves:?}");
    }
    let (_, version) = made(Upstream { serves: &["v1beta1", "v1"], ..Upstream::default() }).await;
    assert_eq!(version.as_deref(), Some("scheduling.k8s.io/v1"), "the newest");
}

#[tokio::test]
async fn alphas_are_not_used() {
    for serves in [&[][..], &["v1alpha3"]] {
        assert_eq!(made(Upstream { serves, ..Upstream::default() }).await.0, WITHOUT, "{serves:?}");
    }
}

#[tokio::test]
async fn a_discovery_that_failed_decides_nothing() {
    for fails in [(503, "starting"), (403, "forbidden"), (500, "no")] {
        let upstream = Upstream { serves: &["v1beta1"], fails: Some(fails), ..Upstream::default() };
        let (server, outcome) = reconciled(ApiServer { upstream, ..ApiServer::default() }).await;
        assert!(matches!(&outcome, Err(failure) if failure.class() == "read"), "{fails:?}: {outcome:?}");
        assert!(server.asked().is_empty(), "{fails:?}: nothing is made, and nothing said");
    }
}

#[tokio::test]
async fn an_attempt_is_made_without_a_pod_group_that_cannot_be_had() {
    let serves = &["v1beta1"];
    let dropped = Upstream { serves, drops: true, ..Upstream::default() };
    assert_eq!(made(dropped).await.0, WITHOUT, "the pods' field is dropped");
    for refuses in [(403, "podgroups is forbidden"), (422, "spec.disruptionMode: Forbidden")] {
        let refused = Upstream { serves, refuses: Some(refuses), ..Upstream::default() };
        assert_eq!(made(refused).await.0, WITHOUT, "{refuses:?}");
    }
}

#[tokio::test]
async fn a_pod_group_that_could_not_be_asked_for_is_asked_for_again() {
    let upstream = Upstream { serves: &["v1beta1"], refuses: Some((503, "busy")), ..Upstream::default() };
    let (server, outcome) = reconciled(ApiServer { upstream, ..ApiServer::default() }).await;
    assert!(matches!(&outcome, Err(failure) if failure.class() == "write"), "{outcome:?}");
    assert!(server.asked().iter().all(|(verb, _)| *verb == "rehearse"), "nothing is made");
}

#[tokio::test]
async fn a_pod_group_of_somebody_else_stays_and_holds_the_job() {
    let metadata = json!({ "name": "j-0", "namespace": "team" });
    let group =
        json!({ "apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": metadata });
    let upstream = Upstream { serves: &["v1beta1"], exists: Some(group), ..Upstream::default() };
    let (server, outcome) = reconciled(ApiServer { upstream, ..ApiServer::default() }).await;
    outcome.expect("it is told");
    let asked = server.asked();
    assert!(asked.iter().all(|(verb, _)| *verb != "make"), "{asked:?}");
    let (_, status) = asked.iter().find(|(verb, _)| *verb == "status").expect("a status");
    assert!(
        status["message"].as_str().is_some_and(|message| message.contains("PodGroup j-0 exists")),
        "{status}"
    );
}

#[tokio::test]
async fn what_is_refused_in_a_group_and_without_is_refused() {
    let upstream = Upstream { serves: &["v1beta1"], ..Upstream::default() };
    let refuses_job = Some((422, "image: Required value"));
    let (server, outcome) = reconciled(ApiServer { upstream, refuses_job, ..ApiServer::default() }).await;
    outcome.expect("it is told");
    let asked = server.asked();
    assert!(asked.iter().all(|(verb, _)| *verb != "make"), "{asked:?}");
    let (_, status) = asked.iter().find(|(verb, _)| *verb == "status").expect("a status");
    assert_eq!(status["phase"], "Refused");
}

/// The status and the reason of the condition `Grouped`, and its message.
async fn said(upstream: Upstream) -> Option<(String, String, String)> {
    let (server, outcome) = reconciled(ApiServer { upstream, ..ApiServer::default() }).await;
    outcome.expect("it goes well");
    let asked = server.asked();
    let (_, status) = asked.iter().find(|(verb, _)| *verb == "status").expect("a status");
    let conditions = status["conditions"].as_array().expect("conditions");
    let said = conditions.iter().find(|condition| condition["type"] == "Grouped")?;
    Some((text(&said["status"]), text(&said["reason"]), text(&said["message"])))
}

#[tokio::test]
async fn a_job_says_whether_its_pods_are_in_a_pod_group_and_why_not() {
    let serves = &["v1beta1"];
    assert_eq!(said(Upstream::default()).await, None, "none are served");
    let (holds, reason, message) =
        said(Upstream { serves, ..Upstream::default() }).await.expect("it is said");
    assert_eq!((holds.as_str(), reason.as_str()), ("True", "PodGroup"));
    assert!(message.contains("j-0"), "{message}");
    let (holds, reason, message) =
        said(Upstream { serves, drops: true, ..Upstream::default() }).await.expect("it is said");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "FieldDropped"));
    assert!(message.contains("GenericWorkload"), "{message}");
    let refuses = Some((403, "podgroups is forbidden"));
    let (holds, reason, message) =
        said(Upstream { serves, refuses, ..Upstream::default() }).await.expect("it is said");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "NotTaken"));
    assert!(message.contains("podgroups is forbidden"), "{message}");
}

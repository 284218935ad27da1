//! An API server that knows pods, gangs and volumes, writes down what it is asked, and loses or refuses what it is told to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode, Uri},
    response::Response,
};
use futures::stream;
use kube::Client;
use serde_json::{Value, json};

/// For how long a client waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It is refused.
    Refused(u16),
    /// It never arrives; the client learns nothing.
    RequestLost,
    /// It is done; the client learns nothing.
    ReplyLost,
    /// It is done and answered so much later.
    Late(Duration),
    /// It never arrives, and its client has waited for an answer for as long as it waits.
    NoAnswer,
    /// Whoever waits for its answer panics. It never arrives.
    Panic,
}

/// A request: `POST pods/p0/binding`, and its body.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) body: Value,
}

#[derive(Default)]
pub(super) struct Objects {
    pub(super) pods: BTreeMap<String, Value>,
    pub(super) gangs: BTreeMap<String, Value>,
    pub(super) nodes: BTreeMap<String, Value>,
    pub(super) namespaces: BTreeMap<String, Value>,
    pub(super) claims: BTreeMap<String, Value>,
    pub(super) volumes: BTreeMap<String, Value>,
    /// None where the API server has no such kind.
    pub(super) pod_groups: Option<BTreeMap<String, Value>>,
    leases: BTreeMap<String, Value>,
    /// Pods on nodes that are deleted only begin to end.
    pub(super) pods_linger: bool,
    /// For how long each answer is waited for.
    pub(super) answers_after: Duration,
    /// How many requests wait for their answers, and how many did at most.
    pub(super) under_way: (usize, usize),
    asked: Vec<Asked>,
    faults: Vec<Spoiled>,
    version: u64,
}

/// Requests that go wrong: those that begin like this, so many after so many.
struct Spoiled {
    begin: String,
    after: usize,
    times: usize,
    fault: Fault,
}

impl Spoiled {
    /// What goes wrong with this request, if it is one of them.
    fn strike(&mut self, line: &str) -> Option<Fault> {
        if self.times == 0 || !line.starts_with(&self.begin) {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault)
    }
}

#[derive(Clone, Default)]
pub(super) struct ApiServer(Arc<Mutex<Objects>>);

impl ApiServer {
    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "default")
    }

    /// So many requests that begin like this go wrong.
    pub(super) fn fail(&self, begin: &str, times: usize, fault: Fault) {
        self.objects().faults.push(Spoiled { begin: begin.to_owned(), after: 0, times, fault });
    }

    /// After so many more requests, one goes wrong.
    pub(super) fn fail_nth(&self, after: usize, fault: Fault) {
        self.objects().faults.push(Spoiled { begin: String::new(), after, times: 1, fault });
    }

    /// After so many more requests, whoever asks is dead: nothing of him arrives any more.
    pub(super) fn die_after(&self, after: usize) {
        let (begin, times, fault) = (String::new(), usize::MAX, Fault::RequestLost);
        self.objects().faults.insert(0, Spoiled { begin, after, times, fault });
    }

    /// What was asked so far, without what was only told for people to read.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let asked = self.objects().asked.clone();
        asked.into_iter().filter(|asked| !asked.line.ends_with("events")).collect()
    }

    /// Who holds the lease of this name; null where nobody does.
    pub(super) fn holder(&self, lease: &str) -> Value {
        self.objects().leases.get(lease).map_or(Value::Null, |lease| lease["spec"]["holderIdentity"].clone())
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&self) {
        self.objects().faults.clear();
    }

    /// The events that were written.
    pub(super) fn events(&self) -> Vec<Value> {
        let asked = self.objects().asked.clone();
        asked.into_iter().filter(|asked| asked.line.ends_with("events")).map(|asked| asked.body).collect()
    }

    /// The lines of what was asked that begin like this.
    pub(super) fn lines(&self, begin: &str) -> Vec<String> {
        let lines = self.asked().into_iter().map(|asked| asked.line);
        lines.filter(|line| line.starts_with(begin)).collect()
    }
}

async fn answer(State(server): State<ApiServer>, method: Method, uri: Uri, body: Bytes) -> Response {
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        return Response::new(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
    }
    let line = line(&method, &uri);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answers_after = server.objects().begins(&line, &body);
    tokio::time::sleep(answers_after).await;
    let fault = server.objects().faults.iter_mut().find_map(|spoiled| spoiled.strike(&line));
    match fault {
        Some(Fault::Late(after)) => tokio::time::sleep(after).await,
        Some(Fault::NoAnswer) => tokio::time::sleep(PATIENCE).await,
        _ => {}
    }
    let mut objects = server.objects();
    objects.under_way.0 -= 1;
    match fault {
        Some(Fault::Refused(code)) => respond(failure(code)),
        Some(Fault::RequestLost | Fault::NoAnswer) => lost(),
        Some(Fault::Panic) => {
            drop(objects);
            panic!("as the test wants: {line}")
        }
        Some(Fault::ReplyLost) => {
            objects.answer(&line, &body);
            lost()
        }
        Some(Fault::Late(_)) | None => respond(objects.answer(&line, &body)),
    }
}

/// A request without what only its path says: `POST pods/p0/binding`. The last parts say it all: no two objects of different
/// namespaces have one name.
pub(super) fn line(method: &Method, uri: &Uri) -> String {
    let of_namespace = uri.path().split_once("/namespaces/").and_then(|(_, path)| path.split_once('/'));
    let path = of_namespace.map_or(uri.path(), |(_, path)| path);
    format!("{method} {path}")
}

pub(super) fn respond((code, answer): (u16, Value)) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(&answer).unwrap()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// An answer that breaks off.
pub(super) fn lost() -> Response {
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("the connection broke"))]);
    Response::new(Body::from_stream(broken))
}

pub(super) fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    let status =
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no" });
    (code, status)
}

fn success() -> (u16, Value) {
    (200, json!({ "kind": "Status", "status": "Success", "code": 200 }))
}

impl Objects {
    /// A request has come: how long it waits for its answer.
    fn begins(&mut self, line: &str, body: &Value) -> Duration {
        self.asked.push(Asked { line: line.to_owned(), body: body.clone() });
        self.under_way.0 += 1;
        self.under_way.1 = self.under_way.1.max(self.under_way.0);
        self.answers_after
    }

    pub(super) fn answer(&mut self, line: &str, body: &Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["pods", name]) => found(self.pods.get(*name)),
            ("GET", ["gangs", name]) => found(self.gangs.get(*name)),
            ("GET", [.., "pods"]) => list(&self.pods),
            ("GET", [.., "gangs"]) => list(&self.gangs),
            ("GET", [.., "nodes"]) => list(&self.nodes),
            ("GET", [_, _, "scheduling.k8s.io", version]) => self.discover(version),
            ("GET", ["podgroups", name]) => found(self.pod_groups.iter().find_map(|all| all.get(*name))),
            ("GET", [.., "podgroups"]) if self.pod_groups.is_some() => {
                list(self.pod_groups.as_ref().unwrap())
            }
            ("PATCH", ["podgroups", name, "status"]) => self.patch_pod_group(name, body),
            ("POST", ["gangs"]) => self.post_gang(body),
            ("GET", [.., "namespaces"]) => list(&self.namespaces),
            ("GET", ["persistentvolumeclaims", name]) => found(self.claims.get(*name)),
            ("GET", [.., "persistentvolumes", name]) => found(self.volumes.get(*name)),
            ("PATCH", ["persistentvolumeclaims", name]) => patch(self.claims.get_mut(*name), body),
            ("PATCH", [.., "persistentvolumes", name]) => patch(self.volumes.get_mut(*name), body),
            ("POST", ["pods", name, "binding"]) => self.bind(name, body),
            ("PATCH", ["pods", name, "status"]) => self.patch_pod(name, body),
            ("DELETE", ["pods", name]) => self.delete_pod(name, body),
            ("PUT", ["gangs", name, "status"]) => self.put_gang(name, body),
            ("GET", [.., "leases", name]) => found(self.leases.get(*name)),
            ("POST" | "PUT", [.., "leases"] | [.., "leases", _]) => self.put_lease(body),
            (_, [.., "events"] | [.., "events", _]) => (200, body.clone()),
            _ => failure(404),
        }
    }

    /// What there is in a version of scheduling.k8s.io.
    fn discover(&self, version: &str) -> (u16, Value) {
        let has_them = version == "v1beta1" && self.pod_groups.is_some();
        let name = if has_them { "podgroups" } else { "priorityclasses" };
        let resource =
            json!({ "name": name, "kind": "X", "namespaced": true, "singularName": "", "verbs": [] });
        match version {
            "v1" | "v1beta1" if version == "v1" || has_them => {
                let group = format!("scheduling.k8s.io/{version}");
                (200, json!({ "kind": "APIResourceList", "groupVersion": group, "resources": [resource] }))
            }
            _ => failure(404),
        }
    }

    fn post_gang(&mut self, new: &Value) -> (u16, Value) {
        let name = new["metadata"]["name"].as_str().unwrap().to_owned();
        if self.gangs.contains_key(&name) {
            return failure(409);
        }
        let mut gang = new.clone();
        gang["metadata"]["uid"] = json!(format!("uid-of-gang-{name}"));
        gang["metadata"]["resourceVersion"] = json!("1");
        self.gangs.insert(name, gang.clone());
        (201, gang)
    }

    /// A strategic merge patch: of conditions, the one of the same type.
    fn patch_pod_group(&mut self, name: &str, patch: &Value) -> (u16, Value) {
        let group = self.pod_groups.as_mut().and_then(|all| all.get_mut(name));
        let Some(group) = group else { return failure(404) };
        for precondition in ["uid", "resourceVersion"] {
            let named = &patch["metadata"][precondition];
            if !named.is_null() && *named != group["metadata"][precondition] {
                return failure(409);
            }
        }
        let mut conditions = group["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for new in patch["status"]["conditions"].as_array().unwrap() {
            conditions.retain(|old| old["type"] != new["type"]);
            conditions.push(new.clone());
        }
        group["status"]["conditions"] = conditions.into();
        touch(group);
        (200, group.clone())
    }

    fn bind(&mut self, name: &str, binding: &Value) -> (u16, Value) {
        let Some(pod) = self.pods.get_mut(name) else { return failure(404) };
        let (is_ending, has_node) =
            (pod["metadata"]["deletionTimestamp"].is_string(), pod["spec"]["nodeName"].is_string());
        if pod["metadata"]["uid"] != binding["metadata"]["uid"] || is_ending || has_node {
            return failure(409);
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        pod["status"]["nominatedNodeName"] = Value::Null;
        touch(pod);
        success()
    }

    fn patch_pod(&mut self, name: &str, patch: &Value) -> (u16, Value) {
        let Some(pod) = self.pods.get_mut(name) else { return failure(404) };
        for field in ["uid", "resourceVersion"] {
            let named = &patch["metadata"][field];
            if !named.is_null() && pod["metadata"][field] != *named {
                return failure(409);
            }
        }
        for (field, value) in patch["status"].as_object().into_iter().flatten() {
            match (field.as_str(), value) {
                ("conditions", Value::Array(new)) => merge_conditions(&mut pod["status"][field], new),
                _ => pod["status"][field] = value.clone(),
            }
        }
        touch(pod);
        (200, pod.clone())
    }

    fn delete_pod(&mut self, name: &str, options: &Value) -> (u16, Value) {
        let Some(pod) = self.pods.get_mut(name) else { return failure(404) };
        if pod["metadata"]["uid"] != options["preconditions"]["uid"] {
            return failure(409);
        }
        if self.pods_linger && pod["spec"]["nodeName"].is_string() {
            pod["metadata"]["deletionTimestamp"] = json!(super::cluster::in_seconds(30));
        } else {
            self.pods.remove(name);
        }
        success()
    }

    fn put_lease(&mut self, new: &Value) -> (u16, Value) {
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        let before = self.leases.get(name).map(|lease| lease["metadata"]["resourceVersion"].clone());
        if before.unwrap_or_default() != new["metadata"]["resourceVersion"] {
            return failure(409);
        }
        let mut lease = new.clone();
        touch(&mut lease);
        self.leases.insert(name.to_owned(), lease.clone());
        (200, lease)
    }

    fn put_gang(&mut self, name: &str, new: &Value) -> (u16, Value) {
        self.version += 1;
        let version = (self.version + 1000).to_string();
        let Some(gang) = self.gangs.get_mut(name) else { return failure(404) };
        if gang["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
            return failure(409);
        }
        gang["status"] = new["status"].clone();
        gang["metadata"]["resourceVersion"] = json!(version);
        (200, gang.clone())
    }
}

fn found(object: Option<&Value>) -> (u16, Value) {
    object.map_or_else(|| failure(404), |object| (200, object.clone()))
}

/// A merge patch of an object that must be in the version that the patch names.
fn patch(object: Option<&mut Value>, patch: &Value) -> (u16, Value) {
    let Some(object) = object else { return failure(404) };
    if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
        return failure(409);
    }
    merge(object, patch);
    touch(object);
    (200, object.clone())
}

/// A strategic merge: by type.
fn merge_conditions(conditions: &mut Value, new: &[Value]) {
    let mut merged = conditions.as_array().cloned().unwrap_or_default();
    merged.retain(|old| new.iter().all(|new| new["type"] != old["type"]));
    merged.extend(new.iter().filter(|new| new["$patch"] != "delete").cloned());
    *conditions = json!(merged);
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (object, patch) if patch.is_object() => {
            *object = json!({});
            merge(object, patch);
        }
        (object, patch) => *object = patch.clone(),
    }
}

/// The object has changed.
pub(super) fn touch(object: &mut Value) {
    let version = &mut object["metadata"]["resourceVersion"];
    *version = json!(format!("{}+", version.as_str().unwrap_or_default()));
}

fn list(objects: &BTreeMap<String, Value>) -> (u16, Value) {
    let items: Vec<&Value> = objects.values().collect();
    (
        200,
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }),
    )
}

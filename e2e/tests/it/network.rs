//! What a tenant's pod can reach by name: the cluster's API, and the other pods of its job.

use plasma_api::{ComputeJob, compute_job::Phase};
use plasma_e2e::{NAMESPACE, World, job, kubectl, phase};
use serde_json::json;

/// Each pod answers the other once and asks it once, by its name; then it asks the API, with the certificate and the token
/// that every pod is given.
const PROGRAM: &str = r#"
import os, socket, ssl, threading, time, urllib.request

rank = int(os.environ["RANK"])
other = os.environ["MASTER_ADDR"].replace("-0.", f"-{1 - rank}.", 1)
server = socket.create_server(("", 8080))

def answer_once():
    peer, _ = server.accept()
    with peer:
        peer.sendall(f"from {rank}".encode())

def ask():
    while True:
        try:
            with socket.create_connection((other, 8080), 5) as peer:
                return peer.recv(100).decode()
        except OSError:
            time.sleep(0.3)

answers = threading.Thread(target=answer_once)
answers.start()
print("told", ask(), flush=True)
answers.join()
account = "/var/run/secrets/kubernetes.io/serviceaccount"
request = urllib.request.Request("https://kubernetes.default.svc/api")
request.add_header("Authorization", "Bearer " + open(f"{account}/token").read())
trust = ssl.create_default_context(cafile=f"{account}/ca.crt")
print("API:", urllib.request.urlopen(request, timeout=10, context=trust).status, flush=True)
"#;

#[tokio::test]
async fn a_pod_reaches_the_api_and_the_pods_of_its_job_by_name() {
    let world = World::connect().await;
    let mut asks = job("network", (2, 1), "");
    let container = &mut asks["spec"]["roles"][0]["template"]["spec"]["containers"][0];
    // The shell's image speaks no TLS that the API server takes; the example's has Python.
    container["image"] = json!("plasma.dev/pytorch:2");
    container["command"] = json!(["python3", "-c", PROGRAM]);
    let made = world.create(NAMESPACE, asks).await.expect("a job");
    let over = |job: &ComputeJob| matches!(phase(job), Some(Phase::Succeeded | Phase::Failed));
    let done = world.wait(&made, "over", 180, over).await;
    let logs = kubectl(&["logs", "--selector=compute.plasma.dev/job-name=network", "--prefix", "--tail=-1"]);
    assert_eq!(phase(&done), Some(Phase::Succeeded), "{logs:?}");
    for (from, to) in [(0, 1), (1, 0)] {
        let pod = format!("network-worker-0-{from}-");
        let says = |word: &str| logs.output.lines().any(|line| line.contains(&pod) && line.ends_with(word));
        assert!(says(&format!("told from {to}")), "{from} didn't reach {to}: {logs:?}");
        assert!(says("API: 200"), "{from} didn't reach the API: {logs:?}");
    }
    world.delete(&made).await;
}

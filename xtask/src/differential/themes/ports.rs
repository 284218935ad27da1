//! Ports of the node itself.

use serde_json::{Value, json};

use super::super::{
    case::{Case, each, push},
    random::Random,
};

/// Pods that want the same few ports of their node.
pub(super) fn host_ports(random: &mut Random, case: &mut Case) {
    for pod in case.all_pods() {
        let mut taken = Vec::new();
        for index in 0..random.pick(&[0, 1, 1, 2, 2]) {
            let port = port(random);
            // Within a pod, a port may be named once.
            let named = (port["containerPort"].clone(), port["protocol"].clone());
            if taken.contains(&named) {
                continue;
            }
            taken.push(named);
            match random.between(0, 9) {
                0 => push(&mut pod["spec"]["initContainers"], container(index, Some("Always"), port)),
                1 => push(&mut pod["spec"]["initContainers"], container(index, None, port)),
                2 => push(&mut pod["spec"]["containers"], container(index, None, port)),
                _ => push(&mut pod["spec"]["containers"][0]["ports"], port),
            }
        }
        if random.percent(10) {
            pod["spec"]["hostNetwork"] = json!(true);
        }
    }
}

fn port(random: &mut Random) -> Value {
    let number = random.pick(&[8080, 8080, 9090, 53]);
    let mut port =
        json!({ "containerPort": number, "protocol": random.pick(&["TCP", "TCP", "TCP", "UDP", "SCTP"]) });
    if random.percent(85) {
        port["hostPort"] = json!(number);
        match random.pick(&["", "", "0.0.0.0", "127.0.0.1", "10.0.0.1", "::", "::1"]) {
            "" => {}
            address => port["hostIP"] = json!(address),
        }
    }
    port
}

fn container(index: usize, restart: Option<&str>, port: Value) -> Value {
    let name = format!("with-port-{index}");
    let mut container =
        json!({ "name": name, "image": "registry.k8s.io/pause:3.10", "resources": {}, "ports": [port] });
    if let Some(policy) = restart {
        container["restartPolicy"] = json!(policy);
    }
    container
}

/// On the host's network every port is the host's: the API server writes it so.
pub(super) fn of_host_network(pod: &mut Value) {
    if pod["spec"]["hostNetwork"] != true {
        return;
    }
    for list in ["containers", "initContainers"] {
        for container in each(&mut pod["spec"][list]) {
            for port in each(&mut container["ports"]) {
                port["hostPort"] = port["containerPort"].clone();
            }
        }
    }
}

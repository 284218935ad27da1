//! An end to every request that the API server doesn't answer.
//!
//! The client's own time-outs count silence on a connection, in one direction: a watch is silent for minutes and well,
//! and a list may come a byte at a time for ever. So the whole of each request is timed instead, with what the client
//! tries again by itself; of a watch only its beginning, since its end is the watcher's to decide.

use std::{io, time::Duration};

use axum::http::{Request, Response};
use kube::{
    Client, Error,
    client::{Body, ClientBuilder},
};

/// The same client, in which no request takes longer.
pub(crate) fn bounded(client: Client, within: Duration) -> Client {
    let (namespace, valid_until) = (client.default_namespace().to_owned(), *client.valid_until());
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let what = format!("{} {}", request.method(), request.uri().path());
            match tokio::time::timeout(within, answer(&client, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(unanswered(&what, within)),
            }
        }
    });
    ClientBuilder::new(service, namespace).with_valid_until(valid_until).build()
}

pub(crate) async fn answer(client: &Client, request: Request<Body>) -> Result<Response<Body>, Error> {
    let is_watch = is_watch(request.uri().query().unwrap_or_default());
    let answer = client.send(request).await?;
    if is_watch {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, Body::from(body.collect_bytes().await?)))
}

fn is_watch(query: &str) -> bool {
    query.split('&').any(|pair| pair == "watch=true")
}

pub(crate) fn unanswered(what: &str, within: Duration) -> Error {
    let why = format!("the API server has not answered {what} within {within:?}");
    Error::Service(io::Error::new(io::ErrorKind::TimedOut, why).into())
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api, Config,
        api::{ListParams, WatchEvent, WatchParams},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const WITHIN: Duration = Duration::from_millis(300);
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

    /// A client of an API server that says these things to whoever asks, so long after each other, and then nothing.
    async fn client(says: Vec<String>, pause: Duration) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 4096]).await.unwrap();
            for words in says {
                connection.write_all(words.as_bytes()).await.unwrap();
                tokio::time::sleep(pause).await;
            }
            std::future::pending::<()>().await;
        });
        let config = Config::new(url.parse().unwrap());
        bounded(Client::try_from(config).unwrap(), WITHIN)
    }

    /// A piece of an answer whose length isn't known before.
    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    async fn fault_of_a_list(says: Vec<String>) -> String {
        let maps: Api<ConfigMap> = Api::default_namespaced(client(says, Duration::ZERO).await);
        let listed = tokio::time::timeout(WITHIN * 10, maps.list(&ListParams::default())).await;
        let fault = listed.expect("it ends").expect_err("it was never answered");
        match fault {
            Error::Service(fault) => fault.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_request_that_is_never_answered_ends() {
        let fault = fault_of_a_list(vec![]).await;
        assert_eq!(
            fault,
            "the API server has not answered GET /api/v1/namespaces/default/configmaps within 300ms"
        );
    }

    #[tokio::test]
    async fn an_answer_that_stops_in_the_middle_ends() {
        let fault = fault_of_a_list(vec![HEAD.to_owned(), chunk("{\"items\": [")]).await;
        assert!(fault.contains("has not answered"), "{fault}");
    }

    #[tokio::test]
    async fn a_watch_may_be_silent_for_longer() {
        let map =
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"late","resourceVersion":"1"}}"#;
        let says = vec![HEAD.to_owned(), chunk(&format!("{{\"type\":\"ADDED\",\"object\":{map}}}\n"))];
        let maps: Api<ConfigMap> = Api::default_namespaced(client(says, WITHIN * 2).await);
        let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
        let event = tokio::time::timeout(WITHIN * 10, events.try_next()).await.expect("an event").unwrap();
        let Some(WatchEvent::Added(map)) = event else { panic!("{event:?}") };
        assert_eq!(map.metadata.name.as_deref(), Some("late"));
    }

    #[test]
    fn a_watch_is_known_by_its_query() {
        assert!(is_watch("&watch=true&timeoutSeconds=290") && is_watch("watch=true"));
        assert!(!is_watch("") && !is_watch("labelSelector=watch%3Dtrue") && !is_watch("watch=false"));
    }
}

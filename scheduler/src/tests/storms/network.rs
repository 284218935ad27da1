//! What lies between a scheduler and the API server: requests and replies take their time, get lost, arrive long after
//! their sender gave up on them, or twice.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, Uri},
    response::Response,
};
use kube::Client;
use serde_json::Value;

use super::world::World;
use crate::tests::api_server::{PATIENCE, failure, line, lost, respond};

/// For how long an API server works on a request.
const LONGEST: usize = 60_000;

/// A copy's connection to the API server.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) world: World,
    /// Whose it is.
    pub(super) copy: usize,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Arrives,
    /// It never arrives, and its sender learns that it broke off.
    IsLost,
    /// It is done, and its sender learns nothing.
    ReplyIsLost,
    /// It arrives when its sender has given up.
    IsLate,
    /// It arrives twice; its sender gets one of the answers.
    IsRepeated {
        gets_second: bool,
    },
    Refused(u16),
}

impl Connection {
    pub(super) fn client(&self) -> Client {
        Client::new(Router::new().fallback(send).with_state(self.clone()), "default")
    }

    /// The request gets to the API server, so much later: also where its sender stands still by then.
    async fn arrive(self, after: Duration, line: String, body: Value) -> Option<(u16, Value)> {
        tokio::time::sleep(after).await;
        let answer = self.world.ask(self.copy, &line, &body);
        if answer.is_none() {
            // Whoever asked waits for as long as he waits for anything.
            tokio::time::sleep(PATIENCE).await;
        }
        answer
    }
}

async fn send(State(connection): State<Connection>, method: Method, uri: Uri, body: Bytes) -> Response {
    let line = line(&method, &uri);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    carry(&connection, &line, &body).await.map_or_else(lost, respond)
}

/// Carries a request there, and the answer back, if there is one.
async fn carry(connection: &Connection, line: &str, body: &Value) -> Option<(u16, Value)> {
    let (fate, there, back) = connection.world.fate(line);
    let world = connection.world.clone();
    world.note(&format!("{} sends {line}: {fate:?}", connection.copy));
    if world.is_dead(connection.copy) {
        return None;
    }
    world.check_target(connection.copy, line, body);
    let arrive = |after: Duration| {
        // Nobody who gives up on it stops it.
        tokio::spawn(connection.clone().arrive(after, line.to_owned(), body.clone()))
    };
    let arrives = match fate {
        Fate::Arrives => arrive(there),
        Fate::IsLost => {
            tokio::time::sleep(there).await;
            return None;
        }
        Fate::ReplyIsLost => {
            let _ = tokio::time::timeout(PATIENCE, arrive(there)).await;
            return None;
        }
        Fate::IsLate => {
            let later = world.throw(|dice| dice.millis(LONGEST));
            drop(arrive(later.max(PATIENCE)));
            tokio::time::sleep(PATIENCE).await;
            return None;
        }
        Fate::IsRepeated { gets_second } => {
            let first = arrive(there);
            let second = arrive(
                there
                    + world
                        .throw(|dice| if dice.one_in(2) { dice.millis(100) } else { dice.millis(LONGEST) }),
            );
            if gets_second { second } else { first }
        }
        Fate::Refused(code) => {
            tokio::time::sleep(there).await;
            return Some(failure(code));
        }
    };
    match tokio::time::timeout(PATIENCE, arrives).await {
        Ok(Ok(Some(answer))) => {
            tokio::time::sleep(back).await;
            world.until_resumed(connection.copy).await;
            Some(answer)
        }
        _ => None,
    }
}

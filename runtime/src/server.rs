//! /metrics, /healthz and /readyz.

use std::net::SocketAddr;

use axum::{Router, http::StatusCode, routing::get};
use prometheus::{Registry, TextEncoder};

use crate::{Health, StartError};

pub(crate) async fn start(address: SocketAddr, registry: Registry, health: Health) -> Result<(), StartError> {
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|source| StartError::Listen { address, source })?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(&health)))
        .route("/metrics", get(async move || metrics(&registry)));
    tokio::spawn(async move {
        if let Err(fault) = axum::serve(listener, router).await {
            tracing::error!("the metrics and health server ended: {fault}");
        }
    });
    Ok(())
}

fn readiness(health: &Health) -> (StatusCode, String) {
    match health.closed().as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        closed => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", closed.join(", "))),
    }
}

fn metrics(registry: &Registry) -> (StatusCode, String) {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, text),
        Err(fault) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics can't be written: {fault}\n")),
    }
}

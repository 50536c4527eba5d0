//! An axum application with live updates: who has its page open sees each deploy as it happens.

#![allow(clippy::print_stdout)] // A program for a terminal.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use outspoke_hub::{Body, Hub, Kind, PublishError};
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let hub = Hub::builder().start()?;
    let app = Router::new()
        .route("/", get(async || Html(include_str!("index.html"))))
        .route("/deploys", post(deploy))
        .with_state(hub.clone())
        .route_service("/ws", hub.service());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(stopped(hub)).await?;
    Ok(())
}

/// Tells everybody in the room; the answer says how many that were.
async fn deploy(State(hub): State<Hub>, version: String) -> Result<String, (StatusCode, String)> {
    let unavailable = |error: PublishError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let body =
        Body::json(&json!({ "version": version })).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))?;
    let published = hub.publish("deploys", Kind::Custom("deploy".into()), body).map_err(unavailable)?;
    let published = published.await.map_err(unavailable)?;
    Ok(format!("{version}: members told: {}\n", published.members))
}

/// Ready when Ctrl-C was pressed and every client is told to come back later.
async fn stopped(hub: Hub) {
    let _ = tokio::signal::ctrl_c().await;
    hub.shutdown(Duration::from_secs(10)).await;
}

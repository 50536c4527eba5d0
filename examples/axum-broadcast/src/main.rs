//! An axum application that has a hub beside its own routes, and broadcasts from a handler.
//!
//! ```console
//! $ cargo run -p example-axum-broadcast
//! http://127.0.0.1:3000
//! ```
//!
//! In a second terminal, wait for news:
//!
//! ```console
//! $ npx wscat -c 'ws://127.0.0.1:3000/ws?userId=ann'
//! < {"type":"welcome",...}
//! < {"type":"subscribed","room":"news",...}
//! ```
//!
//! In a third, make some. The answer says how many got it:
//!
//! ```console
//! $ curl -X POST http://127.0.0.1:3000/news -H 'content-type: application/json' -d '{"headline":"Spring is here"}'
//! {"members":1,"offset":1}
//! ```
//!
//! Ctrl-C stops the application in good order: every client is told to come back later, and requests that are being
//! answered are answered.

#![allow(clippy::print_stdout)] // A program for a terminal.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use outspoke_hub::{Body, Hub, HubConfig, Kind, PublishError, RoomName};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The room that every client is in from the start.
const NEWS: &str = "news";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);

    let config = HubConfig { default_room: Some(RoomName::new(NEWS, 128)?), ..HubConfig::default() };
    let hub = Hub::builder().config(config).start()?;
    axum::serve(listener, routes(&hub)).with_graceful_shutdown(stopped(hub)).await?;
    Ok(())
}

/// The application's own routes, and the hub's among them.
fn routes(hub: &Hub) -> Router {
    Router::new()
        .route("/", get(async || "POST /news to tell everybody who is connected to /ws\n"))
        .route("/news", post(publish))
        .route("/clients", get(clients))
        .with_state(hub.clone())
        .route_service("/ws", hub.service())
}

/// Tells everybody in the room. The body is passed on byte for byte, whatever JSON it is.
async fn publish(
    State(hub): State<Hub>,
    Json(news): Json<Value>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let body = Body::json(&news).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let published = hub.publish(NEWS, Kind::Data, body).map_err(refused)?.await.map_err(refused)?;
    let offset = published.position.map(|position| position.offset);
    Ok(Json(json!({ "members": published.members, "offset": offset })))
}

/// Nobody has got what is refused, so the caller may try again.
fn refused(error: PublishError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// Who is connected.
async fn clients(State(hub): State<Hub>) -> Json<Value> {
    let users: Vec<String> = hub.clients().iter().map(|client| client.user().to_string()).collect();
    Json(json!({ "clients": hub.client_count(), "users": users }))
}

/// Ready when Ctrl-C was pressed and every client is told and gone; axum then finishes what it is answering.
async fn stopped(hub: Hub) {
    // Without a signal to wait for the application would stop at once, so an error here means: stop.
    let _ = tokio::signal::ctrl_c().await;
    hub.shutdown(Duration::from_secs(10)).await;
}

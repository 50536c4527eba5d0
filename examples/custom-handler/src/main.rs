//! A hub with the application's own message type, its own users, and callbacks when they come and go.
//!
//! A small exchange. Whoever has a key may connect; traders may place orders, and everybody sees the trades.
//!
//! ```console
//! $ cargo run -p example-custom-handler
//! ws://127.0.0.1:3000/ws
//! $ npx wscat -c ws://127.0.0.1:3000/ws -H 'Authorization: Bearer key-of-tess'
//! < {"type":"welcome",...}
//! < {"type":"subscribed","room":"trades",...}
//! > {"type":"order","id":1,"data":{"symbol":"ACME","amount":3}}
//! < {"type":"accepted","id":1,"data":{"price":4200}}
//! < {"type":"trade","room":"trades","data":{"symbol":"ACME","amount":3,"price":4200},...}
//! > {"type":"online"}
//! < {"type":"online","data":["tess"]}
//! ```
//!
//! `key-of-walt` may watch and not trade; without a key the upgrade is answered with 401.

#![allow(clippy::print_stdout)] // A program for a terminal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use outspoke_hub::{
    AuthError, Body, Context, Data, ErrorCode, Hub, HubConfig, Identity, Kind, Refusal, Reply, RoomName,
    authenticator_fn,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

const TRADES: &str = "trades";

/// What a client sends: `{"type":"order","data":{"symbol":"ACME","amount":3}}`.
#[derive(Deserialize)]
struct Order {
    symbol: String,
    amount: u32,
}

/// What everybody sees.
#[derive(Serialize)]
struct Trade {
    symbol: String,
    amount: u32,
    price: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("ws://{}/ws", listener.local_addr()?);

    let hub = start()?;
    let app = Router::new().route_service("/ws", hub.service());
    let stopped = async move {
        let _ = tokio::signal::ctrl_c().await;
        hub.shutdown(Duration::from_secs(10)).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    Ok(())
}

fn start() -> anyhow::Result<Hub> {
    let online = Online::default();
    let (came, went) = (online.clone(), online.clone());
    let config = HubConfig { default_room: Some(RoomName::new(TRADES, 128)?), ..HubConfig::default() };
    let hub = Hub::builder()
        .config(config)
        .authenticator(authenticator_fn(authenticate))
        .on("order", order)
        .on("online", move |context: Context, _: Data| {
            let users = online.users();
            async move { context.answer("online", &users) }
        })
        .on_connect(move |client| {
            println!("{} came", client.user());
            came.came(client.user().as_str());
        })
        .on_disconnect(move |client, departure| {
            println!("{} went: {departure:?}", client.user());
            went.went(client.user().as_str());
        })
        .start()?;
    Ok(hub)
}

/// Key -> user and role. Yours are in a database: then implement `Authenticator`, which may wait.
const KEYS: [(&str, &str, &str); 2] = [("key-of-tess", "tess", "trader"), ("key-of-walt", "walt", "watcher")];

fn authenticate(request: &Parts) -> Result<Identity, AuthError> {
    let header = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = header.and_then(|value| value.strip_prefix("Bearer "));
    let known = KEYS.iter().find(|(known, ..)| key.is_some_and(|key| same(key, known)));
    let (_, user, role) = known.ok_or_else(|| AuthError::unauthorized("send Authorization: Bearer <key>"))?;
    Ok(Identity::user(*user).named(*user).with_claims(json!({ "role": role })))
}

/// Takes as long for a near miss as for a far one, so that a key cannot be guessed byte by byte.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Answers `order`. What it returns goes to the client that asked; a `Refusal` becomes an `error` with the same id.
async fn order(context: Context, data: Data) -> Result<Option<Reply>, Refusal> {
    let role = context.client.identity().claims.as_ref().and_then(|claims| claims["role"].as_str());
    if role != Some("trader") {
        return Err(Refusal::new(ErrorCode::Forbidden, "only traders may place orders"));
    }
    let Order { symbol, amount } = context.parse(&data)?;
    let price = price_of(&symbol).await?;
    let trade = Trade { symbol, amount, price };
    let body = Body::json(&trade).map_err(|_| Refusal::new(ErrorCode::Internal, "no JSON"))?;
    context
        .hub
        .publish(TRADES, Kind::Custom("trade".into()), body)
        .map_err(|error| Refusal::new(ErrorCode::Unavailable, error.to_string()))?;
    context.answer("accepted", &json!({ "price": price }))
}

/// Stands for a question to another service. While it waits, only this connection's next requests wait behind it.
async fn price_of(symbol: &str) -> Result<u64, Refusal> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    match symbol {
        "ACME" => Ok(4200),
        "GLOBEX" => Ok(1700),
        _ => Err(Refusal::new(ErrorCode::BadRequest, "there is no such symbol; try ACME or GLOBEX")),
    }
}

/// Who is connected, and how often: the application's own state, kept by the callbacks.
#[derive(Clone, Default)]
struct Online(Arc<Mutex<BTreeMap<String, usize>>>);

impl Online {
    fn came(&self, user: &str) {
        *self.lock().entry(user.to_owned()).or_default() += 1;
    }

    fn went(&self, user: &str) {
        let mut users = self.lock();
        if let Some(connections) = users.get_mut(user) {
            *connections -= 1;
            if *connections == 0 {
                users.remove(user);
            }
        }
    }

    fn users(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

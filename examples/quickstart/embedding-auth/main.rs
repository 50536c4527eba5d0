//! The same application for people who are logged in: a token says who connects, and what they may do.

#![allow(clippy::print_stdout)] // A program for a terminal.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, SigningKey, TokenAuthenticator, VerificationKey};
use outspoke_hub::Hub;
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = std::env::var("SECRET").context("set SECRET, to what `openssl rand -hex 32` prints")?;
    let key = VerificationKey::secret(Algorithm::HS256, secret.as_bytes())?;
    let verifier = JwtVerifier::new(vec![key], ClaimRules::default())?;
    let hub = Hub::builder()
        .authenticator(TokenAuthenticator::new(verifier))
        .on_auth_failure(|failure| println!("refused: {failure:?}"))
        .on_connect(|client| println!("{} came", client.user()))
        .start()?;

    let signer = SigningKey::secret(Algorithm::HS256, secret.as_bytes())?;
    let app = Router::new()
        .route("/login", post(login))
        .with_state(std::sync::Arc::new(signer))
        .route_service("/ws", hub.service());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let stopped = async move {
        let _ = tokio::signal::ctrl_c().await;
        hub.shutdown(Duration::from_secs(10)).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    Ok(())
}

/// Stands for your login: whoever asks gets a token. Yours looks at a password or a session first.
async fn login(State(signer): State<std::sync::Arc<SigningKey>>, user: String) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "sub": user,
        "exp": (now + Duration::from_secs(3600)).as_secs(),
        // May listen to the deploys and talk in rooms of the team; nothing else.
        "rooms": { "join": ["deploys", "team:*"], "publish": ["team:*"] },
    });
    signer.sign(claims.as_object().unwrap_or(&serde_json::Map::new()))
}

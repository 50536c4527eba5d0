//! How many requests the API takes: by address, and by key.
//!
//! Asked before anything else of a request is looked at, and generous: an application with a loop gone wild is held back, one
//! that works hard is not. Keys are told apart by a hash that nobody can foresee, and that says nothing of them; whether one
//! opens anything is for [`key`](super::key) to know.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use outspoke_hub::{AddressRange, ClientAddress, ErrorCode, Rate, RateLimiter, origin_of};

use super::Kept;
use super::error::ApiError;
use super::refusals::Refusals;
use crate::config::settings::rate::Rates;

/// Addresses and keys remembered.
const REMEMBERED_MAX: usize = 16 * 1024;

/// What is remembered of addresses and keys.
#[derive(Debug)]
pub(crate) struct Throttles {
    addresses: RateLimiter<IpAddr>,
    keys: RateLimiter<u64>,
    hasher: RandomState,
}

impl Default for Throttles {
    fn default() -> Self {
        Self {
            addresses: RateLimiter::new(REMEMBERED_MAX),
            keys: RateLimiter::new(REMEMBERED_MAX),
            hasher: RandomState::new(),
        }
    }
}

#[derive(Debug)]
struct Throttle {
    remembered: Arc<Throttles>,
    refusals: Arc<Refusals>,
    by_address: Rate,
    by_key: Rate,
    exempt: Vec<AddressRange>,
}

/// The same routes, for so many requests.
pub(crate) fn throttled(routes: Router, rates: &Rates, kept: &Kept) -> Router {
    let throttle = Throttle {
        remembered: Arc::clone(&kept.throttles),
        refusals: Arc::clone(&kept.refusals),
        by_address: rates.if_enabled(rates.api_address),
        by_key: rates.if_enabled(rates.api_key),
        exempt: rates.exempt.clone(),
    };
    routes.layer(from_fn_with_state(Arc::new(throttle), check))
}

async fn check(State(throttle): State<Arc<Throttle>>, request: Request, next: Next) -> Response {
    let response = match throttle.take(&request) {
        Ok(()) => next.run(request).await,
        Err((whose, wait)) => {
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            let message = format!("too many requests {whose}; nothing was done, try again in {seconds} s");
            let mut response = ApiError::new(ErrorCode::RateLimited, message).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
    };
    throttle.refusals.note(&response);
    response
}

impl Throttle {
    fn take(&self, request: &Request) -> Result<(), (&'static str, Duration)> {
        let extensions = request.extensions();
        let peer = || extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let address = extensions.get::<ClientAddress>().map(|address| address.ip()).or_else(peer);
        if let Some(address) = address.filter(|ip| !self.exempt.iter().any(|range| range.contains(*ip))) {
            let wait = self.remembered.addresses.take(&origin_of(address), self.by_address);
            wait.map_err(|wait| ("from this address", wait))?;
        }
        if let Some(key) = request.headers().get(header::AUTHORIZATION) {
            let hash = self.remembered.hasher.hash_one(key.as_bytes());
            self.remembered.keys.take(&hash, self.by_key).map_err(|wait| ("with this key", wait))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use axum::routing::get;
    use tower_service::Service as _;

    use super::*;
    use crate::config::Config;

    async fn status(routes: &mut Router, address: [u8; 4], key: &str) -> (u16, bool) {
        let mut request =
            Request::builder().uri("/x").header("authorization", key).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ClientAddress::new(address.into()));
        let response = routes.call(request).await.unwrap();
        (response.status().as_u16(), response.headers().contains_key("retry-after"))
    }

    #[tokio::test]
    async fn requests_are_limited_by_address_and_by_key_and_told_when_to_come_back() {
        let (mut rates, kept) = (Config::default().rate, Kept::default());
        rates.api_address = Rate::per(1, Duration::from_secs(3600), 4);
        rates.api_key = Rate::per(1, Duration::from_secs(3600), 3);
        let mut routes = throttled(Router::new().route("/x", get(|| async {})), &rates, &kept);
        let mut seen = Vec::new();
        for (address, key) in [
            ([192, 0, 2, 1], "a"),
            ([192, 0, 2, 1], "a"),
            ([192, 0, 2, 2], "a"),
            ([192, 0, 2, 2], "a"),
            ([192, 0, 2, 1], "b"),
            ([192, 0, 2, 1], "b"),
            ([192, 0, 2, 1], "b"),
            ([127, 0, 0, 1], "b"),
            ([127, 0, 0, 1], "b"),
        ] {
            seen.push(status(&mut routes, address, key).await);
        }
        let (ok, much) = ((200, false), (429, true));
        assert_eq!(seen, [ok, ok, ok, much, ok, ok, much, ok, much]);
        let counted: Vec<_> = kept.refusals.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(ErrorCode::RateLimited, 3)]);
        rates.enabled = false;
        let mut routes = throttled(Router::new().route("/x", get(|| async {})), &rates, &kept);
        for _ in 0..20 {
            assert_eq!(status(&mut routes, [192, 0, 2, 1], "a").await, ok);
        }
    }
}

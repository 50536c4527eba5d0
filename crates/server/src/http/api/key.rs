//! Who may use the API: whoever has a key.
//!
//! Keys are compared in constant time, each with each, and are never logged. Without keys nobody may, unless the
//! configuration says that the API is open, which it may say on a loopback address only. An open API is still not
//! open to web pages of others: the browser of somebody on this machine reaches loopback addresses too, so `Host` must
//! name one and `Origin` the same. Wrong keys are limited per address: ten guesses a second find no key, but fill logs.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use outspoke_hub::ErrorCode;
use subtle::{Choice, ConstantTimeEq as _};

use super::Api;
use super::error::ApiError;

/// Keys are compared in this length, which says nothing about theirs.
const PADDED: usize = 512;
/// Wrong keys that an address may try at once, and in a second.
const GUESSES: (f64, f64) = (100.0, 10.0);
/// Addresses remembered; with more, those that did not guess lately are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// What opens the API.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Padded>,
    open: bool,
    guesses: Arc<Guesses>,
}

struct Padded {
    bytes: [u8; PADDED],
    len: u64,
}

impl std::fmt::Debug for Padded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a key)")
    }
}

impl Padded {
    /// `None` for what is longer than any key.
    fn new(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; PADDED];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { bytes, len: key.len() as u64 })
    }

    fn is(&self, other: &Self) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.len.ct_eq(&other.len)
    }
}

impl Keys {
    pub(super) fn new(keys: &[String], open: bool, guesses: &Arc<Guesses>) -> Self {
        let keys = keys.iter().filter_map(|key| Padded::new(key.as_bytes())).collect();
        Self { keys, open, guesses: Arc::clone(guesses) }
    }

    fn check(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), ApiError> {
        if self.keys.is_empty() {
            return if self.open { check_local(headers) } else { Err(closed()) };
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return if self.open { check_local(headers) } else { Err(unauthorized("this needs a key")) };
        };
        if !self.guesses.allowed(peer, Instant::now()) {
            return Err(ApiError::http(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many wrong keys came from this address; wait a second",
            ));
        }
        let given = given.as_bytes();
        let (scheme, key) = given.split_at_checked(7).unwrap_or((given, &[]));
        let given = scheme.eq_ignore_ascii_case(b"bearer ").then(|| Padded::new(key.trim_ascii())).flatten();
        let Some(given) = given else {
            self.guesses.count(peer, Instant::now());
            return Err(unauthorized("the Authorization header has another form"));
        };
        // Every key is looked at, whichever fits.
        let known = self.keys.iter().fold(Choice::from(0), |known, key| known | key.is(&given));
        if known.into() {
            return Ok(());
        }
        self.guesses.count(peer, Instant::now());
        Err(unauthorized("this is not a key of this server"))
    }
}

fn closed() -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        "the API has no keys yet: set api.keys in the configuration, for example to the output of `openssl rand -hex \
         24`; or, on a loopback address only, api.open_on_loopback to true",
    )
}

fn unauthorized(what: &str) -> ApiError {
    let message = format!("{what}: send the header `Authorization: Bearer KEY` with one of api.keys");
    ApiError::new(ErrorCode::Unauthorized, message)
}

/// Whether the request was made for this machine, and by none but its own pages.
fn check_local(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let foreign = |what: &str| {
        let message = format!("the API is open to this machine only, and {what}: set api.keys and send one");
        Err(ApiError::new(ErrorCode::Forbidden, message))
    };
    if !is_loopback(host) {
        return foreign("the Host header names another one");
    }
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.split_once("://").is_some_and(|(_, origin)| origin == host) => Ok(()),
        Some(_) => foreign("another site's page asks"),
    }
}

/// Whether a Host header names this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _port)) => name,
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Lets requests with a key through.
pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    match api.keys.check(request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// A leaky bucket of wrong keys for each address.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, (f64, Instant)>>);

impl Guesses {
    fn allowed(&self, address: IpAddr, now: Instant) -> bool {
        let guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.get(&address).is_none_or(|bucket| level(*bucket, now) < GUESSES.0)
    }

    fn count(&self, address: IpAddr, now: Instant) {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= ADDRESSES_MAX {
            guesses.retain(|_, bucket| level(*bucket, now) > 0.0);
        }
        if guesses.len() >= ADDRESSES_MAX && !guesses.contains_key(&address) {
            guesses.clear();
        }
        let bucket = guesses.entry(address).or_insert((0.0, now));
        *bucket = (level(*bucket, now) + 1.0, now);
    }
}

/// What is in a bucket by now.
fn level((level, since): (f64, Instant), now: Instant) -> f64 {
    (level - now.saturating_duration_since(since).as_secs_f64() * GUESSES.1).max(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn status(keys: &Keys, pairs: &[(header::HeaderName, &str)]) -> Option<u16> {
        let refused = keys.check(&headers(pairs), PEER).err()?;
        Some(refused.into_response().status().as_u16())
    }

    #[test]
    fn only_a_whole_key_opens() {
        let keys = Keys::new(&["secret-one".to_owned(), "secret-two".to_owned()], false, &Arc::default());
        let with = |value| status(&keys, &[(header::AUTHORIZATION, value)]);
        assert_eq!((with("Bearer secret-one"), with("bearer  secret-two")), (None, None));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secret-on",
            "Bearer secret-one1",
            "Basic secret-one",
            "secret-one",
        ] {
            assert_eq!(with(wrong), Some(401), "{wrong}");
        }
        assert_eq!(with(&format!("Bearer {}", "x".repeat(5000))), Some(401));
        assert_eq!(status(&keys, &[]), Some(401));
    }

    #[test]
    fn without_keys_nobody_comes_in_unless_it_is_open_and_then_only_this_machine() {
        let closed = Keys::new(&[], false, &Arc::default());
        assert_eq!(
            status(&closed, &[(header::HOST, "localhost"), (header::AUTHORIZATION, "Bearer ")]),
            Some(403)
        );
        let open = Keys::new(&[], true, &Arc::default());
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"] {
            assert_eq!(status(&open, &[(header::HOST, host)]), None, "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8080", "192.168.1.1:80", "[::2]"] {
            assert_eq!(status(&open, &[(header::HOST, host)]), Some(403), "{host}");
        }
        let from = |origin| status(&open, &[(header::HOST, "localhost:80"), (header::ORIGIN, origin)]);
        assert_eq!((from("http://localhost:80"), from("null")), (None, Some(403)));
        assert_eq!((from("http://localhost:81"), from("http://evil.example")), (Some(403), Some(403)));
    }

    #[test]
    fn wrong_keys_from_one_address_are_limited_and_others_are_not_touched() {
        let guesses = Guesses::default();
        let now = Instant::now();
        let other = IpAddr::from([10, 0, 0, 1]);
        (0..GUESSES.0 as u32).for_each(|_| guesses.count(PEER, now));
        assert!(!guesses.allowed(PEER, now) && guesses.allowed(other, now));
        assert!(guesses.allowed(PEER, now + Duration::from_millis(200)));
        for address in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 10 {
            guesses.count(IpAddr::from(address.to_be_bytes()), now);
        }
        assert!(guesses.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }

    #[test]
    fn keys_are_in_no_debug_text() {
        let keys = Keys::new(&["secret-one".to_owned()], false, &Arc::default());
        assert!(!format!("{keys:?}").contains("secret"), "{keys:?}");
    }
}

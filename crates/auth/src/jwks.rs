//! Keys that an identity provider publishes (a JWK set, RFC 7517, section 5), kept here and renewed.
//!
//! Asked by [`crate::jwt`] for the key with a `kid`. A set is renewed when it is old, behind the back of whoever asks; and at
//! once when a token names a key that is not in it, because providers change keys. All who wait for that wait for the same one
//! request. Invariants: at most one request is on its way; there is a least time between two, longer and longer while they fail,
//! so that made-up key ids reach nobody; keys of an unreachable provider are used for a bounded time and not longer.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Uri, header};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::authorities::Authorities;
use crate::error::{SetupError, TokenError};
use crate::http::{HttpClient, HttpError, Limits, check_url};
use crate::jwt::json;
use crate::jwt::key::{KeySet, VerificationKey};

/// Keys in a set that are looked at.
const KEYS_MAX: usize = 100;
/// Longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// How a key set is fetched and kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JwksOptions {
    /// After this time the set is fetched again, while the old one is used. Default: 15 min.
    pub refresh_interval: Duration,
    /// Least time between two requests, whatever key ids tokens name. Default: 10 s.
    pub refresh_interval_min: Duration,
    /// How long keys are used that cannot be fetched again, from when they last were. Default: 24 h.
    pub stale_max: Duration,
    /// How long an answer may take. Default: 5 s.
    pub timeout: Duration,
    /// How large the set may be. Default: 256 KiB.
    pub bytes_max: usize,
    /// Who vouches for the provider. Default: the authorities that browsers know.
    pub authorities: Authorities,
}

impl Default for JwksOptions {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_secs(15 * 60),
            refresh_interval_min: Duration::from_secs(10),
            stale_max: Duration::from_secs(24 * 3600),
            timeout: Duration::from_secs(5),
            bytes_max: 256 * 1024,
            authorities: Authorities::default(),
        }
    }
}

/// A published key set. Cheap to clone.
#[derive(Clone)]
pub struct Jwks {
    inner: Arc<Inner>,
}

struct Inner {
    url: Uri,
    options: JwksOptions,
    http: HttpClient,
    // A lock, because what is done under it takes no time and nothing waits in it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    fetched: Option<Instant>,
    /// No request before this.
    earliest: Option<Instant>,
    failures: u32,
    /// The request on its way; its sender is dropped when it is over.
    on_its_way: Option<watch::Receiver<()>>,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", &self.inner.url.host()).finish_non_exhaustive()
    }
}

impl Jwks {
    /// The set at this address, which is not asked yet. To be made inside of a tokio runtime, which its requests run in.
    ///
    /// # Errors
    /// The address is neither https nor on this machine.
    pub fn new(url: &str, options: JwksOptions) -> Result<Self, SetupError> {
        let url = check_url(url, false)?;
        let http = HttpClient::new(&options.authorities)?;
        let inner = Inner { url, options, http, state: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Fetches the set, so that the first token need not wait; whether it is there now.
    pub async fn prefetch(&self) -> bool {
        if let Some(arrival) = self.refresh() {
            over(arrival).await;
        }
        self.inner.state().fetched.is_some()
    }

    /// The key with that id.
    ///
    /// *Cancel safety*: a request that was begun goes on for whoever asks next.
    pub(crate) async fn key(&self, kid: Option<&str>) -> Result<Arc<VerificationKey>, TokenError> {
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        if let Some(arrival) = self.refresh() {
            over(arrival).await;
            if let Some(key) = self.known(kid) {
                return Ok(key);
            }
        }
        // Without any keys nothing is known about the token; with keys, it is known to be of none of them.
        if self.inner.is_usable() { Err(TokenError::UnknownKey) } else { Err(TokenError::Unavailable) }
    }

    /// A key of the set at hand. If that is old, another one is on its way.
    fn known(&self, kid: Option<&str>) -> Option<Arc<VerificationKey>> {
        let (keys, age) = {
            let state = self.inner.state();
            (Arc::clone(&state.keys), state.fetched?.elapsed())
        };
        if age >= self.inner.options.refresh_interval {
            drop(self.refresh());
        }
        if age >= self.inner.options.stale_max {
            return None;
        }
        keys.find(kid).cloned()
    }

    /// Joins the request on its way, or begins one; `None` if it is too early for another.
    fn refresh(&self) -> Option<watch::Receiver<()>> {
        let mut state = self.inner.state();
        if let Some(on_its_way) = &state.on_its_way {
            return Some(on_its_way.clone());
        }
        if state.earliest.is_some_and(|earliest| Instant::now() < earliest) {
            return None;
        }
        let (arrived, arrival) = watch::channel(());
        state.on_its_way = Some(arrival.clone());
        drop(state);
        let inner = Arc::clone(&self.inner);
        self.inner.http.spawn(async move {
            // A guard, so that a request that ends in any way lets the next one begin.
            let _over = Over { inner: &inner, _arrived: arrived };
            let answer = inner.fetch().await;
            inner.take(answer);
        });
        Some(arrival)
    }
}

/// Ready when the request is over.
async fn over(mut arrival: watch::Receiver<()>) {
    while arrival.changed().await.is_ok() {}
}

struct Over<'a> {
    inner: &'a Inner,
    _arrived: watch::Sender<()>,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.inner.state().on_its_way = None;
    }
}

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the answer has status {0}; redirects are not followed")]
    Status(u16),
    #[error("the answer is no JSON object with a list \"keys\"")]
    NoKeySet,
    #[error("none of the keys in the answer can be used here")]
    NoKeys,
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_usable(&self) -> bool {
        self.state().fetched.is_some_and(|fetched| fetched.elapsed() < self.options.stale_max)
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let request = Request::get(self.url.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("outspoke/", env!("CARGO_PKG_VERSION")))
            .body(Full::default())
            .expect("an address that was checked, and headers that are constant");
        let limits = Limits { timeout: self.options.timeout, bytes_max: self.options.bytes_max };
        let (status, body) = self.http.send(request, limits).await?;
        if status != http::StatusCode::OK {
            return Err(FetchError::Status(status.as_u16()));
        }
        let set = read_set(&body).ok_or(FetchError::NoKeySet)?;
        if set.len() == 0 { Err(FetchError::NoKeys) } else { Ok(set) }
    }

    fn take(&self, answer: Result<KeySet, FetchError>) {
        let mut state = self.state();
        let now = Instant::now();
        match answer {
            Ok(keys) => {
                tracing::info!(host = self.url.host(), keys = keys.len(), "key set fetched");
                state.keys = Arc::new(keys);
                state.fetched = Some(now);
                state.failures = 0;
                state.earliest = Some(now + jittered(self.options.refresh_interval_min));
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                let pause = backoff(self.options.refresh_interval_min, state.failures);
                state.earliest = Some(now + pause);
                let age = state.fetched.map(|fetched| fetched.elapsed());
                tracing::warn!(host = self.url.host(), %error, retry_after = ?pause, age_of_keys = ?age, "no new key set");
            }
        }
    }
}

/// A second after the first failure, then twice as long each time, up to five minutes. A set that was never there is asked for
/// soon; otherwise never sooner than the least time between two requests.
fn backoff(least: Duration, failures: u32) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(1 << failures.saturating_sub(1).min(16));
    jittered(doubled.min(BACKOFF_MAX).max(least.min(BACKOFF_MAX)))
}

/// Up to a quarter more, so that the servers of a cluster do not ask all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}

/// The keys of a set that can be used. One that cannot is left out: providers publish keys for other purposes beside.
fn read_set(body: &[u8]) -> Option<KeySet> {
    let document = json::object(body)?;
    let entries = document.get("keys")?.as_array()?;
    let mut keys: Vec<VerificationKey> = Vec::new();
    for entry in entries.iter().take(KEYS_MAX) {
        let Value::Object(jwk) = entry else { continue };
        match VerificationKey::from_jwk(jwk) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
                tracing::debug!(kid = %kid.escape_debug(), %error, "a key of the set is not used");
            }
        }
    }
    // Several that a token could mean are none; which came first must not decide.
    let unambiguous = |key: &VerificationKey| keys.iter().filter(|other| other.id() == key.id()).count() == 1;
    let clear: Vec<bool> = keys.iter().map(unambiguous).collect();
    let mut clear = clear.into_iter();
    keys.retain(|_| clear.next().unwrap_or(false));
    KeySet::new(keys).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn backoff_doubles_up_to_five_minutes_and_never_hurries() {
        let (none, ten) = (Duration::ZERO, Duration::from_secs(10));
        let in_range = |pause: Duration, seconds: u64| {
            assert!(
                pause >= Duration::from_secs(seconds) && pause <= Duration::from_millis(seconds * 1250 + 1),
                "{pause:?}"
            );
        };
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            in_range(backoff(none, failures), seconds);
        }
        in_range(backoff(ten, 1), 10);
        in_range(backoff(ten, 5), 16);
    }

    #[test]
    fn sets_with_keys_that_are_not_for_us_are_used_without_them() {
        let x = "11qYAycS5NTJIXfPmIg-gvGRVSP2UhwhCdHZjZrX1Zw";
        let ed = |kid: &str, more: &str| {
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"{more}}}"#)
        };
        let sets = [
            (format!("[{}]", ed("a", "")), 1),
            (format!("[{},{}]", ed("a", ""), ed("b", r#","alg":"EdDSA","use":"sig","key_ops":["verify"]"#)), 2),
            (format!("[{},{}]", ed("a", ""), ed("a", "")), 0),
            (format!("[{},{}]", ed("a", r#","use":"enc""#), ed("b", r#","alg":"HS256""#)), 0),
            (format!("[{},{}]", ed("a", r#","key_ops":["sign"]"#), ed("b", r#","alg":"RS256""#)), 0),
            (r#"[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0","kid":"a"}]"#.to_owned(), 0),
            (r#"[1,null,{},{"kty":"RSA","kid":"a"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-521","x":"","y":""}]"#.to_owned(), 0),
            (r#"[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"},{"kty":"OKP","crv":"X25519","x":"AAAA"}]"#.to_owned(), 0),
        ];
        for (keys, count) in sets {
            let set = read_set(format!(r#"{{"keys":{keys}}}"#).as_bytes()).unwrap();
            assert_eq!(set.len(), count, "{keys}");
        }
        for no_set in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(read_set(no_set.as_bytes()).is_none(), "{no_set}");
        }
    }
}

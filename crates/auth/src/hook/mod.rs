//! The application asked over HTTP: who connects, and whether a join or a message is allowed.
//!
//! A [`Hook`] posts a question and reads the answer ([`wire`]). It is an [`Authenticator`] for connects; [`crate::RoomAuthorizer`]
//! asks it about rooms. Invariant: whatever goes wrong, the answer is no: `unavailable`, which clients try again. Questions have
//! one time limit for everything (waiting for a slot included), a bounded number are on their way and a bounded number wait, and
//! a [`breaker`] spares an application that is down.

mod breaker;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use bytes::Bytes;
use ecow::EcoString;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use outspoke_hub::{
    Action, Ask, Asks, AuthError, Authentication, Authenticator, ClientAddress, ErrorCode, Grant, Identity,
    Permissions, Refusal, Timestamp,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::breaker::Breaker;
use self::wire::{Answer, Connect, InRoom, Question, Said};
use crate::authenticator::{Credentials, Sources};
use crate::authorities::Authorities;
use crate::error::SetupError;
use crate::http::{HttpClient, HttpError, Limits, check_url};
use crate::identity::{IdentityLimits, check_id, check_name};
use crate::permissions::for_user;

/// When the question was signed, in seconds since 1970.
const TIMESTAMP: HeaderName = HeaderName::from_static("outspoke-timestamp");
/// `v1=` and the HMAC-SHA256, in hexadecimal digits, of the timestamp, a dot and the body.
const SIGNATURE: HeaderName = HeaderName::from_static("outspoke-signature");
/// Longest reason that is passed on to a client.
const REASON_CHARS_MAX: usize = 200;
/// How often an operator is told that the application does not answer.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// A shorter secret could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// What is asked, where, and with which bounds.
#[derive(Clone)]
#[non_exhaustive]
pub struct HookOptions {
    /// Where to ask who connects. Default: nowhere.
    pub connect: Option<String>,
    /// Where to ask about joins.
    pub subscribe: Option<String>,
    /// Where to ask about messages.
    pub publish: Option<String>,
    /// Plain http to other machines than this one is allowed: only for a network that is your own. Default: no.
    pub plain_http: bool,
    /// How long an answer may take, waiting for its turn included. Default: 3 s.
    pub timeout: Duration,
    /// Questions on their way at the same time. Default: 64.
    pub concurrency_max: usize,
    /// Questions that may wait for their turn. Default: 1024. More are refused at once.
    pub waiting_max: usize,
    /// Size of an answer. Default: 64 KiB.
    pub answer_bytes_max: usize,
    /// Failures in a row after which nobody is asked for a while. Default: 5.
    pub failures_max: u32,
    /// For how long. Default: 10 s.
    pub pause: Duration,
    /// Headers of the upgrade that are passed on, in lower case. Default: none.
    pub headers: Vec<String>,
    /// Who vouches for the application, where it is asked over https. Default: the authorities that browsers know.
    pub authorities: Authorities,
    /// Where the token is read that is passed on. Default: header and subprotocol.
    pub sources: Sources,
    /// Signs the questions. Default: they are not signed.
    pub secret: Option<String>,
    /// What somebody may do if the answer does not say. `{user}` in a pattern stands for the user's id.
    pub permissions: Permissions,
    /// Longest user id and device, in bytes. Default: 128.
    pub user_id_bytes_max: usize,
    /// Longest name, in characters. Default: 50.
    pub username_chars_max: usize,
}

impl Default for HookOptions {
    fn default() -> Self {
        Self {
            connect: None,
            subscribe: None,
            publish: None,
            plain_http: false,
            timeout: Duration::from_secs(3),
            concurrency_max: 64,
            waiting_max: 1024,
            answer_bytes_max: 64 * 1024,
            failures_max: 5,
            pause: Duration::from_secs(10),
            headers: Vec::new(),
            authorities: Authorities::default(),
            sources: Sources::default(),
            secret: None,
            permissions: Permissions::default(),
            user_id_bytes_max: 128,
            username_chars_max: 50,
        }
    }
}

/// The secret is in no text.
impl fmt::Debug for HookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookOptions").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Asks the application. Cheap to clone; clones share their bounds.
#[derive(Clone)]
pub struct Hook {
    inner: Arc<Inner>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("breaker", &self.inner.breaker).finish_non_exhaustive()
    }
}

struct Inner {
    connect: Option<Uri>,
    subscribe: Option<Uri>,
    publish: Option<Uri>,
    headers: Vec<HeaderName>,
    key: Option<hmac::Key>,
    http: HttpClient,
    breaker: Breaker,
    /// On their way.
    running: Semaphore,
    /// On their way or waiting.
    admitted: Semaphore,
    /// When it was last said that there was no answer.
    complained: Mutex<Option<Instant>>,
    options: HookOptions,
}

/// Why there is no answer to go by.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is not what docs/operating/authentication.md describes: {0}")]
    Answer(String),
}

/// What the application said.
enum Verdict {
    Yes(Box<Answer>),
    Unauthorized(EcoString),
    Forbidden(EcoString),
}

impl Hook {
    /// Asks as the options say. To be made inside of a tokio runtime, which its requests run in.
    ///
    /// # Errors
    /// An address, a header's name or the secret cannot be used.
    pub fn new(options: HookOptions) -> Result<Self, SetupError> {
        let url =
            |url: &Option<String>| url.as_deref().map(|url| check_url(url, options.plain_http)).transpose();
        let headers = options.headers.iter().map(|name| {
            HeaderName::try_from(name.as_str()).map_err(|_| {
                SetupError::Incomplete("a header that is to be passed on has a name that no header can have")
            })
        });
        let key = match &options.secret {
            Some(secret) if secret.len() < SECRET_BYTES_MIN => {
                return Err(SetupError::SecretTooShort {
                    algorithm: "HS256",
                    min: SECRET_BYTES_MIN,
                    len: secret.len(),
                });
            }
            secret => secret.as_ref().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
        };
        let inner = Inner {
            connect: url(&options.connect)?,
            subscribe: url(&options.subscribe)?,
            publish: url(&options.publish)?,
            headers: headers.collect::<Result<_, _>>()?,
            key,
            http: HttpClient::new(&options.authorities)?,
            breaker: Breaker::new(options.failures_max, options.pause),
            running: Semaphore::new(options.concurrency_max.max(1)),
            admitted: Semaphore::new(options.concurrency_max.max(1).saturating_add(options.waiting_max)),
            complained: Mutex::new(None),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it is to be asked about rooms.
    #[must_use]
    pub fn asks(&self) -> Asks {
        let mut asks = Asks::default();
        asks.join = self.inner.subscribe.is_some();
        asks.publish = self.inner.publish.is_some();
        asks
    }

    /// Whether somebody may do something in a room.
    ///
    /// *Cancel safety*: dropped, the question is given up.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Grant, Refusal> {
        self.in_room(&ask.identity, ask.action, ask.room.as_str(), ask.token.as_deref(), ask.body.as_ref())
            .await
    }

    async fn in_room(
        &self,
        identity: &Identity,
        action: Action,
        room: &str,
        token: Option<&str>,
        body: Option<&outspoke_hub::Body>,
    ) -> Result<Grant, Refusal> {
        let question = InRoom::new(identity, room, token, Said::of(body));
        let (url, question) = match action {
            Action::Join => (&self.inner.subscribe, Question::Subscribe(question)),
            Action::Publish => (&self.inner.publish, Question::Publish(question)),
            _ => return Err(Refusal::new(ErrorCode::Forbidden, "the application is not asked about this")),
        };
        let Some(url) = url else {
            // Asked although nothing is to be asked: only because a token was shown, which nobody here reads.
            return Err(Refusal::new(ErrorCode::Unauthorized, "tokens for rooms are not accepted here"));
        };
        let verdict = self.inner.put(url, &question, |answer| match answer.allow {
            Some(_) => Ok(()),
            None => Err(HookError::Answer("\"allow\" is missing".to_owned())),
        });
        match verdict.await {
            Ok(Verdict::Yes(answer)) => {
                let mut grant = Grant::default();
                grant.actions = answer.actions;
                grant.expires = answer.expires.map(moment);
                Ok(grant)
            }
            Ok(Verdict::Unauthorized(reason) | Verdict::Forbidden(reason)) => {
                Err(Refusal::new(ErrorCode::Forbidden, reason))
            }
            Err(retry_after) => {
                let mut refusal = Refusal::new(ErrorCode::Unavailable, UNAVAILABLE);
                refusal.retry_after = retry_after;
                Err(refusal)
            }
        }
    }

    async fn connect(&self, question: Connect<'_>) -> Result<Identity, AuthError> {
        let Some(url) = &self.inner.connect else {
            return Err(AuthError::missing("a credential is needed to connect"));
        };
        let options = &self.inner.options;
        let question = Question::Connect(question);
        let verdict = self.inner.put(url, &question, |answer| {
            if answer.allow == Some(false) { Ok(()) } else { check_identity(answer, options) }
        });
        match verdict.await {
            Ok(Verdict::Yes(answer)) => identity(*answer, options),
            Ok(Verdict::Unauthorized(reason)) => Err(AuthError::unauthorized(reason)),
            Ok(Verdict::Forbidden(reason)) => Err(AuthError::forbidden(reason)),
            Err(_) => Err(AuthError::new(ErrorCode::Unavailable, UNAVAILABLE)),
        }
    }
}

const UNAVAILABLE: &str = "the application cannot be asked at the moment; try again in a few seconds";

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

impl Inner {
    /// Asks; `None` or a time to wait is that there is no answer.
    async fn put(
        &self,
        url: &Uri,
        question: &Question<'_>,
        check: impl Fn(&Answer) -> Result<(), HookError>,
    ) -> Result<Verdict, Option<Duration>> {
        let deadline = Instant::now() + self.options.timeout;
        let Ok(_admitted) = self.admitted.try_acquire() else {
            tracing::debug!("too many questions wait for the application");
            return Err(None);
        };
        let Ok(Ok(_slot)) = tokio::time::timeout_at(deadline, self.running.acquire()).await else {
            return Err(None);
        };
        // After the wait: who waited while it opened is not to ask.
        let pass = self.breaker.enter().map_err(Some)?;
        let answer = self.exchange(url, question, deadline.saturating_duration_since(Instant::now())).await;
        let verdict = answer.and_then(|(status, body)| read(status, &body, check));
        match verdict {
            Ok(verdict) => {
                pass.succeeded();
                Ok(verdict)
            }
            Err(error) => {
                pass.failed();
                self.complain(url, &error);
                Err(None)
            }
        }
    }

    /// Loudly, but not for every client that comes.
    fn complain(&self, url: &Uri, error: &HookError) {
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now - last < COMPLAINT_INTERVAL) {
            tracing::debug!(host = url.host(), %error, "the application did not answer");
            return;
        }
        *last = Some(now);
        tracing::warn!(host = url.host(), %error, "the application did not answer; what was asked for is refused");
    }

    async fn exchange(
        &self,
        url: &Uri,
        question: &Question<'_>,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), HookError> {
        let body = serde_json::to_vec(question).map_err(|error| HookError::Answer(error.to_string()))?;
        let mut request = Request::post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("outspoke/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = &self.key {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            request = request.header(TIMESTAMP, now).header(SIGNATURE, signature(key, now, &body));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .expect("an address that was checked, and plain headers");
        let limits = Limits { timeout, bytes_max: self.options.answer_bytes_max };
        Ok(self.http.send(request, limits).await?)
    }

    /// The headers that are passed on. One that came twice is passed on as a list, as RFC 9110, section 5.3 says.
    fn forwarded<'a>(&'a self, request: &'a Parts) -> Vec<(&'a str, String)> {
        let values = |name: &HeaderName| {
            let values =
                request.headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
            let separator = if *name == header::COOKIE { "; " } else { ", " };
            values.collect::<Vec<_>>().join(separator)
        };
        let present = self.headers.iter().filter(|name| request.headers.contains_key(*name));
        present.map(|name| (name.as_str(), values(name))).collect()
    }
}

fn signature(key: &hmac::Key, timestamp: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{timestamp}.").as_bytes());
    context.update(body);
    context.sign().as_ref().iter().fold("v1=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn read(
    status: StatusCode,
    body: &[u8],
    check: impl Fn(&Answer) -> Result<(), HookError>,
) -> Result<Verdict, HookError> {
    match status {
        StatusCode::OK => {
            if !body.trim_ascii_start().starts_with(b"{") {
                return Err(HookError::Answer("no JSON object".to_owned()));
            }
            let answer: Answer = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
            check(&answer)?;
            match answer.allow {
                Some(false) => Ok(Verdict::Forbidden(reason(answer.reason))),
                _ => Ok(Verdict::Yes(Box::new(answer))),
            }
        }
        StatusCode::UNAUTHORIZED => Ok(Verdict::Unauthorized(reason_in(body))),
        StatusCode::FORBIDDEN => Ok(Verdict::Forbidden(reason_in(body))),
        status => Err(HookError::Status(status.as_u16())),
    }
}

/// What is wrong with an answer, without quoting it: it may have secrets in it.
fn unreadable(error: &serde_json::Error) -> HookError {
    HookError::Answer(format!("no such JSON (line {}, column {})", error.line(), error.column()))
}

fn reason_in(body: &[u8]) -> EcoString {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    reason(answer.and_then(|answer| answer.reason))
}

fn reason(reason: Option<String>) -> EcoString {
    let reason = reason.unwrap_or_default();
    let shown: EcoString =
        reason.chars().filter(|c| !crate::is_unprintable(*c)).take(REASON_CHARS_MAX).collect();
    if shown.is_empty() { "the application does not allow it".into() } else { shown }
}

fn check_identity(answer: &Answer, options: &HookOptions) -> Result<(), HookError> {
    let limits = IdentityLimits {
        user_id_bytes_max: options.user_id_bytes_max,
        username_chars_max: options.username_chars_max,
    };
    let wrong = |field: &str, problem: String| HookError::Answer(format!("{field:?} {problem}"));
    let user = answer.user.as_deref().unwrap_or_default();
    if user.is_empty() {
        return Err(HookError::Answer("\"user\" is missing or empty".to_owned()));
    }
    for (field, value) in [("user", user), ("tenant", &answer.tenant), ("device", &answer.device)] {
        check_id(value, limits).map_err(|problem| wrong(field, problem))?;
    }
    check_name(&answer.name, limits).map_err(|problem| wrong("name", problem))?;
    let permissions = answer.rooms.as_ref().unwrap_or(&options.permissions);
    for_user(permissions, user).map(drop).map_err(|problem| wrong("user", problem.to_owned()))
}

fn identity(answer: Answer, options: &HookOptions) -> Result<Identity, AuthError> {
    let user = answer.user.unwrap_or_default();
    let permissions = for_user(answer.rooms.as_ref().unwrap_or(&options.permissions), &user)
        .map_err(|problem| AuthError::unauthorized(format!("the user's id {problem}")))?;
    let name = match answer.name.trim() {
        "" if user.chars().count() <= options.username_chars_max => user.as_str(),
        name => name,
    };
    let mut identity = Identity::user(user.as_str()).named(name).with_permissions(permissions);
    identity.tenant = answer.tenant.into();
    identity.device = answer.device.into();
    identity.expires = answer.expires.map(moment);
    identity.credential = answer.credential.into();
    identity.issued = Some(Timestamp::from_system_time(SystemTime::now()));
    identity.claims = answer.info.map(Arc::new);
    Ok(identity)
}

impl Authenticator for Hook {
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        Box::pin(async move {
            let token = match self.inner.options.sources.read(request) {
                Credentials::Refused(why) => return Err(AuthError::unauthorized(why)),
                Credentials::One(token) => Some(token),
                Credentials::None => None,
            };
            let forwarded = self.inner.forwarded(request);
            let headers: BTreeMap<&str, &str> =
                forwarded.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let address = request.extensions.get::<ClientAddress>().map(ToString::to_string);
            let showed_nothing = token.is_none() && headers.is_empty();
            let answer = self.connect(Connect { address, token: token.as_deref(), headers }).await;
            answer.map_err(|error| match error.code {
                ErrorCode::Unauthorized if showed_nothing => AuthError::missing(error.detail),
                _ => error,
            })
        })
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        Box::pin(self.connect(Connect { address: None, token: Some(token), headers: BTreeMap::new() }))
    }
}

//! Who may connect, and as whom.
//!
//! Asked once per upgrade, after the handshake was found valid and before it is answered. What an identity may
//! *do* is not decided here.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ecow::{EcoString, eco_format};
use http::request::Parts;
use outspoke_protocol::{ErrorCode, UserId};

/// Who is behind a connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Identity {
    /// Whose rooms and users these are; empty for the one tenant of a hub without tenants.
    pub tenant: EcoString,
    /// The user.
    pub user: UserId,
    /// The name shown to people; may be empty.
    pub name: EcoString,
    /// Which of the user's devices or tabs this is; empty when the user has but one.
    pub device: EcoString,
    /// Nobody said who this is: the user id was made up, and evicts nobody.
    pub anonymous: bool,
    /// What the credential says besides, for the application's handlers.
    pub claims: Option<Arc<serde_json::Value>>,
}

impl Identity {
    /// A user without further attributes.
    #[must_use]
    pub fn user(user: impl Into<EcoString>) -> Self {
        Self {
            tenant: EcoString::new(),
            user: UserId::new(user),
            name: EcoString::new(),
            device: EcoString::new(),
            anonymous: false,
            claims: None,
        }
    }

    /// Somebody, with a made-up user id.
    #[must_use]
    pub fn anonymous() -> Self {
        let id = uuid::Uuid::new_v4();
        Self { anonymous: true, ..Self::user(eco_format!("anon-{}", id.simple())) }
    }

    /// The same identity with a name to show.
    #[must_use]
    pub fn named(mut self, name: impl Into<EcoString>) -> Self {
        self.name = name.into();
        self
    }

    /// The same identity on one of the user's devices.
    #[must_use]
    pub fn on_device(mut self, device: impl Into<EcoString>) -> Self {
        self.device = device.into();
        self
    }

    /// The same identity with claims.
    #[must_use]
    pub fn with_claims(mut self, claims: serde_json::Value) -> Self {
        self.claims = Some(Arc::new(claims));
        self
    }
}

/// Why a connection is refused before the upgrade.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
#[non_exhaustive]
pub struct AuthError {
    /// Decides the HTTP status: 403 for `Forbidden`, 401 for `Unauthorized`, 400 for a malformed identity,
    /// 503 for `Unavailable`.
    pub code: ErrorCode,
    /// What the client is told. Never put a secret here.
    pub detail: EcoString,
}

impl AuthError {
    /// Any refusal.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<EcoString>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// HTTP 401: no credential, or none that is accepted.
    #[must_use]
    pub fn unauthorized(detail: impl Into<EcoString>) -> Self {
        Self::new(ErrorCode::Unauthorized, detail)
    }

    /// HTTP 403: known, and not allowed in.
    #[must_use]
    pub fn forbidden(detail: impl Into<EcoString>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }
}

/// The answer of an [`Authenticator`], in time.
pub type Authentication<'a> = Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>>;

/// Decides who a new connection is.
///
/// Called once per upgrade request, from the HTTP server's task, concurrently. Implementations may wait (for a
/// database, say) but must not block the thread.
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// Looks at the upgrade request: headers, query, address in the extensions.
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a>;

    /// Whether identities are taken on trust; clients and operators are told.
    fn is_open(&self) -> bool {
        false
    }
}

/// A function as an [`Authenticator`], for answers that need no waiting.
///
/// ```
/// use outspoke_hub::{AuthError, Hub, Identity, authenticator_fn};
///
/// let hub = Hub::builder().authenticator(authenticator_fn(|request| {
///     match request.headers.get("x-api-key").and_then(|key| key.to_str().ok()) {
///         Some("open sesame") => Ok(Identity::user("ali-baba")),
///         _ => Err(AuthError::unauthorized("an x-api-key is needed")),
///     }
/// }));
/// ```
pub fn authenticator_fn<F>(identify: F) -> impl Authenticator
where
    F: Fn(&Parts) -> Result<Identity, AuthError> + Send + Sync + 'static,
{
    AuthenticatorFn(identify)
}

struct AuthenticatorFn<F>(F);

impl<F> fmt::Debug for AuthenticatorFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthenticatorFn")
    }
}

impl<F> Authenticator for AuthenticatorFn<F>
where
    F: Fn(&Parts) -> Result<Identity, AuthError> + Send + Sync + 'static,
{
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        Box::pin(std::future::ready((self.0)(request)))
    }
}

/// No authentication: whoever says they are somebody is.
///
/// Reads `userId`, `username` and `device` from the query. Without `userId` a connection is anonymous. For
/// development and trusted networks only.
#[derive(Clone, Copy, Debug)]
pub struct OpenMode {
    /// Longest name, in characters.
    pub username_chars_max: usize,
    /// Longest user id and device, in bytes.
    pub user_id_bytes_max: usize,
}

impl Authenticator for OpenMode {
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        let identity = self.identify(request.uri.query().unwrap_or_default());
        Box::pin(std::future::ready(identity))
    }

    fn is_open(&self) -> bool {
        true
    }
}

impl OpenMode {
    fn identify(&self, query: &str) -> Result<Identity, AuthError> {
        // Made up only if nobody says who this is: it costs randomness.
        let mut identity = Identity { anonymous: true, ..Identity::user("") };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "userId" if !value.is_empty() => {
                    identity.user = UserId::new(self.id("userId", &value)?);
                    identity.anonymous = false;
                }
                "device" => identity.device = self.id("device", &value)?,
                "username" => identity.name = printable_name(&value, self.username_chars_max)?,
                _ => {}
            }
        }
        if identity.anonymous {
            identity.user = Identity::anonymous().user;
        }
        Ok(identity)
    }

    fn id(&self, key: &str, value: &str) -> Result<EcoString, AuthError> {
        let max = self.user_id_bytes_max;
        if value.len() > max {
            let detail = eco_format!("{key} has {} bytes of UTF-8; at most {max} are allowed", value.len());
            return Err(AuthError::new(ErrorCode::InvalidIdentity, detail));
        }
        printable(key, value)
    }
}

/// A name to show, as it may be: at most `max` characters, all of them printable.
pub(crate) fn printable_name(value: &str, max: usize) -> Result<EcoString, AuthError> {
    let len = value.chars().count();
    if len > max {
        let detail = eco_format!("username has {len} characters; at most {max} are allowed");
        return Err(AuthError::new(ErrorCode::UsernameTooLong, detail));
    }
    printable("username", value.trim())
}

fn printable(key: &str, value: &str) -> Result<EcoString, AuthError> {
    if value.chars().any(is_unprintable) {
        let detail = eco_format!(
            "{key} has control or invisible characters, or is no UTF-8; use printable text, percent-encoded"
        );
        return Err(AuthError::new(ErrorCode::InvalidIdentity, detail));
    }
    Ok(EcoString::from(value))
}

/// Control characters, the invisible ones that reorder or hide text, and what stands for broken UTF-8, which would
/// make one of many. Joiners (U+200C, U+200D) are part of names in several scripts, and of emoji.
pub(crate) fn is_unprintable(c: char) -> bool {
    let hides =
        matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    c.is_control() || hides || matches!(c, '\u{feff}' | char::REPLACEMENT_CHARACTER)
}

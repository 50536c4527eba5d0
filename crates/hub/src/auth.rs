//! Who may connect, and as whom; and who is asked besides before something is done.
//!
//! An [`Authenticator`] is asked once per upgrade, after the handshake was found valid and before it is answered, and
//! whenever a client shows a token over its connection. What an identity may *do* is decided by [`crate::policy`] from the
//! [permissions](Permissions) that the identity brings; an [`Authorizer`] can be asked besides.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ecow::{EcoString, eco_format};
use http::request::Parts;
use outspoke_protocol::{Body, ErrorCode, Refusal, RoomName, Timestamp, UserId};

use crate::config::HubConfig;
use crate::peer::ClientAddress;
use crate::policy::{Action, Permissions};

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
    /// What the user may do. Default: everything but moderate.
    pub permissions: Permissions,
    /// When the credential ends: the connection is closed with 4004 then, unless it was refreshed. `None`: never.
    pub expires: Option<Timestamp>,
    /// When the credential was issued, for revoking older ones; `None` where it does not say so.
    pub issued: Option<Timestamp>,
    /// The credential's own id (a token's `jti`, a key's name), for revoking it; empty where it has none. Never a secret.
    pub credential: EcoString,
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
            permissions: Permissions::default(),
            expires: None,
            issued: None,
            credential: EcoString::new(),
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

    /// The same identity, of a tenant.
    #[must_use]
    pub fn of_tenant(mut self, tenant: impl Into<EcoString>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// The same identity, allowed to do this and nothing else.
    #[must_use]
    pub fn with_permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = permissions;
        self
    }

    /// The same identity, until then.
    #[must_use]
    pub fn until(mut self, expires: Timestamp) -> Self {
        self.expires = Some(expires);
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
    /// There was no credential at all: an endpoint may let the client in to show one in its
    /// [first message](crate::UpgradeOptions::first_message).
    pub missing: bool,
}

impl AuthError {
    /// Any refusal.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<EcoString>) -> Self {
        Self { code, detail: detail.into(), missing: false }
    }

    /// HTTP 401, unless the client may show its credential later: there is none. Not for one that is not accepted, which must
    /// not get a second try.
    #[must_use]
    pub fn missing(detail: impl Into<EcoString>) -> Self {
        Self { missing: true, ..Self::unauthorized(detail) }
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

/// A credential that was not accepted, or that did not come: for logs and for who counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthFailure {
    /// From where, if that is known.
    pub address: Option<ClientAddress>,
    /// Why.
    pub code: ErrorCode,
    /// What the client was told. Never the credential.
    pub detail: EcoString,
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

    /// Looks at a token that a client shows over its connection: as its first message, where the endpoint lets clients in that
    /// have shown none yet, or to go on with a fresh one. Default: no token is accepted.
    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        let _ = token;
        let refused = AuthError::unauthorized("tokens are not accepted over a connection here");
        Box::pin(std::future::ready(Err(refused)))
    }

    /// Whether identities are taken on trust; clients and operators are told.
    fn is_open(&self) -> bool {
        false
    }
}

/// Something that a client wants to do in a room, for an [`Authorizer`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Ask {
    /// Who wants it.
    pub identity: Arc<Identity>,
    /// [`Action::Join`] or [`Action::Publish`].
    pub action: Action,
    /// Where.
    pub room: RoomName,
    /// The token for this room that the client has shown, if it has.
    pub token: Option<EcoString>,
    /// What is to be said.
    pub body: Option<Body>,
}

impl Ask {
    /// A question without a token and without anything to say, for the tests of an [`Authorizer`].
    #[must_use]
    pub fn new(identity: Arc<Identity>, action: Action, room: RoomName) -> Self {
        Self { identity, action, room, token: None, body: None }
    }
}

/// The token does not show itself.
impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("user", &self.identity.user)
            .field("action", &self.action)
            .field("room", &self.room)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .finish_non_exhaustive()
    }
}

/// What somebody may do in one room besides what their permissions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// What is allowed there. Empty: only what was asked for, once.
    pub actions: Vec<Action>,
    /// Until when; the client is taken out of the room then if it may not be there otherwise. `None`: as long as it stays.
    pub expires: Option<Timestamp>,
}

/// The answer of an [`Authorizer`], in time.
pub type Authorization<'a> = Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>>;

/// What an [`Authorizer`] wants to be asked about, besides tokens for rooms, which it is always shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asks {
    /// Every join.
    pub join: bool,
    /// Every message that a client publishes.
    pub publish: bool,
}

/// Decides single joins and messages: from a token for the room, or by asking the application.
///
/// Asked after the [policy](Permissions) for what that allows, and instead of it where a client shows a token for the room.
/// The connection that waits for the answer reads nothing meanwhile; the hub's `handler_timeout` bounds the wait.
/// Implementations must not block the thread.
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// What it wants to be asked about. Read once, when the hub starts.
    fn asks(&self) -> Asks {
        Asks::default()
    }

    /// Whether this may be done.
    fn authorize(&self, ask: Ask) -> Authorization<'_>;
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

/// Open mode with the limits of a hub's configuration, whichever that is at the moment.
#[derive(Debug)]
pub(crate) struct OpenByConfig(ArcSwap<OpenMode>);

impl OpenByConfig {
    pub(crate) fn new(config: &HubConfig) -> Self {
        Self(ArcSwap::from_pointee(Self::of(config)))
    }

    pub(crate) fn follow(&self, config: &HubConfig) {
        self.0.store(Arc::new(Self::of(config)));
    }

    fn of(config: &HubConfig) -> OpenMode {
        OpenMode {
            username_chars_max: config.username_chars_max,
            user_id_bytes_max: config.user_id_bytes_max,
        }
    }
}

impl Authenticator for OpenByConfig {
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        let identity = self.0.load().identify(request.uri.query().unwrap_or_default());
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

//! Who uses the API: whoever has a key, and users with their tokens.
//!
//! A request is made by a [`Caller`], which every handler gets: the application, with a key that opens everything or one that is
//! limited; or a user, with the token with which the user connects, who may do here what a connection of the user's may. What is
//! for others than the application is listed ([`OPEN`]), and what keys that may look ([`LOOK`], [`LOOK_AT_ALL`]) may see, and those
//! that may audit ([`AUDIT`]); everything else needs a key without limits.
//!
//! Of keys only their hashes are kept; all are compared with what is shown, in constant time, and nothing of them is logged.
//! Without keys nobody may, unless the configuration says that the API is open, which it may say on a loopback address only. An
//! open API is still not open to web pages of others: the browser of somebody on this machine reaches loopback addresses too, so
//! `Host` must name one and `Origin` the same. Wrong keys and tokens are limited per address: ten guesses a second find no
//! key, but fill logs. Wrong tokens count besides as those shown elsewhere do (`rate.auth_failures`), since somebody may have to be
//! asked about each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use outspoke_hub::{Action, ClientAddress, Deed, ErrorCode, Hub, Identity, Permissions, origin_of};
use subtle::{Choice, ConstantTimeEq as _};

use super::error::{ApiError, GUESSED_TOO_OFTEN, Refused};
use super::{Api, BASE, TENANT, audit, is_tenant_name};
use crate::config::settings;

/// A key is no longer; what is longer is not even hashed.
const KEY_BYTES_MAX: usize = 512;
/// A token is no longer, also where the header could be.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Wrong keys that an address may try at once, and in a second.
const GUESSES: (f64, f64) = (100.0, 10.0);
/// Addresses remembered; with more, those that did not guess lately are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// What is for others than the application, too, and what is asked of its caller there. Each handler of these asks it of the name.
const OPEN: [(&str, Method, Option<Action>); 13] = [
    ("/whoami", Method::GET, None),
    ("/follow", Method::GET, Some(Action::Moderate)),
    ("/explain", Method::GET, Some(Action::Moderate)),
    ("/publish", Method::POST, Some(Action::Publish)),
    ("/publish/batch", Method::POST, Some(Action::Publish)),
    ("/rooms/{room}", Method::GET, Some(Action::Join)),
    ("/rooms/{room}/presence", Method::GET, Some(Action::Presence)),
    ("/rooms/{room}/history", Method::GET, Some(Action::History)),
    ("/rooms/{room}/receipts", Method::GET, Some(Action::Presence)),
    ("/rooms/{room}/messages/{offset}", Method::DELETE, Some(Action::Moderate)),
    ("/rooms/{room}/members/{user}/remove", Method::POST, Some(Action::Moderate)),
    ("/rooms/{room}/members/{user}/readmit", Method::POST, Some(Action::Moderate)),
    ("/users/{user}/messages", Method::POST, Some(Action::Direct)),
];

/// What a key that may look may see of its tenant, or of any if it has none.
const LOOK: [&str; 9] = [
    "/rooms",
    "/clients",
    "/clients/{client}",
    "/users",
    "/rulings",
    "/affinity",
    "/analytics",
    "/analytics/rooms",
    "/analytics/rooms/{room}",
];

/// What is of all tenants together: for keys that may look and have none.
const LOOK_AT_ALL: [&str; 7] =
    ["/nodes", "/nodes/{node}", "/tenants", "/tenants/{tenant}", "/metrics", "/config", "/log-level"];

/// What operators did: for keys that may audit, since it is about persons, and who watches figures need not know of it.
const AUDIT: &str = "/audit";

/// Who makes a request.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// The application: everything is open to it.
    Application {
        /// The key's name, for the log.
        name: Arc<str>,
    },
    /// The application, with a key that is limited to a tenant, and to some things there.
    Limited {
        /// What it may.
        identity: Arc<Identity>,
        /// It sees what operators see, and changes nothing by that.
        look: bool,
        /// It sees what operators did.
        audit: bool,
    },
    /// A user, with a token of the user's.
    User(Arc<Identity>),
}

impl Caller {
    fn application(name: &str) -> Self {
        Self::Application { name: name.into() }
    }

    /// What the log calls the caller.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Application { name } => format!("key:{name}"),
            Self::Limited { identity, .. } => identity.credential.to_string(),
            Self::User(identity) => format!("user:{}", identity.user),
        }
    }

    /// Whether everything is open to the caller.
    pub(super) fn is_application(&self) -> bool {
        matches!(self, Self::Application { .. })
    }

    /// What the caller is, for programs.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Application { .. } => "application",
            Self::Limited { .. } => "limited",
            Self::User(_) => "user",
        }
    }

    /// The user, if it is one who speaks only for himself or herself.
    pub(super) fn user(&self) -> Option<&Identity> {
        match self {
            Self::User(identity) => Some(identity),
            _ => None,
        }
    }

    /// What the caller's credential says, where it says anything.
    pub(super) fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Application { .. } => None,
            Self::Limited { identity, .. } | Self::User(identity) => Some(identity),
        }
    }

    /// Whether the caller may do something to a room of the tenant, or, for [`Action::Direct`], to a user.
    pub(super) async fn check(&self, hub: &Hub, action: Action, name: &str) -> Result<(), ApiError> {
        match self {
            Self::User(identity) => Ok(hub.check_as_user(identity, action, name).await?),
            _ => self.check_permitted(hub, action, name),
        }
    }

    /// The same without asking anybody: of what the application has allowed, whether it is permitted still.
    pub(super) fn check_permitted(&self, hub: &Hub, action: Action, name: &str) -> Result<(), ApiError> {
        match self {
            Self::Application { .. } => Ok(()),
            Self::Limited { identity, .. } => Ok(hub.check(identity, action, name)?),
            Self::User(identity) => Ok(hub.check_permitted_as_user(identity, action, name)?),
        }
    }

    /// Whether the caller may ask for this at all; about which names, the handler says.
    pub(super) fn may_ask(&self, path: &str, method: &Method) -> bool {
        let looks = |look: bool, tenant: &str| {
            let at_all = || tenant.is_empty() && LOOK_AT_ALL.contains(&path);
            look && (LOOK.contains(&path) || at_all())
        };
        match self {
            Self::Application { .. } => true,
            Self::Limited { identity, look, audit } => {
                let sees = || looks(*look, &identity.tenant) || (*audit && path == AUDIT);
                open(path, method).is_some() || (*method == Method::GET && sees())
            }
            Self::User(_) => open(path, method).is_some(),
        }
    }

    /// Whether asking for this can end well, for some name.
    pub(super) fn has_use_for(&self, path: &str, method: &Method) -> bool {
        let permitted = |action| match self {
            Self::Limited { identity, .. } => !identity.permissions.patterns(action).is_empty(),
            // Users may do some things to what is their own.
            _ => true,
        };
        self.may_ask(path, method) && open(path, method).flatten().is_none_or(permitted)
    }

    /// What the caller is permitted, where that is limited.
    pub(super) fn permissions(&self) -> Option<&Permissions> {
        self.identity().map(|identity| &identity.permissions)
    }

    /// The only tenant that the caller may name.
    pub(super) fn only_tenant(&self) -> Option<&str> {
        match self {
            Self::Limited { identity, look: true, .. } if identity.tenant.is_empty() => None,
            _ => self.tenant(),
        }
    }

    /// The only tenant about which the caller may know what operators did: a key without one may of all.
    pub(super) fn only_tenant_to_audit(&self) -> Option<&str> {
        self.tenant().filter(|tenant| !tenant.is_empty())
    }

    /// Whose rooms the caller may see: every tenant's, or this one's.
    fn tenant(&self) -> Option<&str> {
        self.identity().map(|identity| identity.tenant.as_str())
    }
}

/// The hub for the tenant of the request, and who asks.
#[derive(Debug)]
pub(super) struct For {
    pub(super) hub: Hub,
    pub(super) caller: Caller,
    address: Option<ClientAddress>,
    /// Whether the request only looks.
    looks: bool,
}

impl For {
    /// Whether the caller may do something, which counts as done; see [`Caller::check`].
    pub(super) async fn check(&self, action: Action, name: &str) -> Result<(), ApiError> {
        self.count(action)?;
        self.caller.check(&self.hub, action, name).await
    }
}

impl For {
    /// Counts what a user does, as it is counted over a connection.
    pub(super) fn count(&self, action: Action) -> Result<(), ApiError> {
        let Caller::User(identity) = &self.caller else { return Ok(()) };
        let deed = match action {
            _ if self.looks => Deed::Read,
            Action::Direct => Deed::Direct,
            _ => Deed::Publish,
        };
        Ok(self.hub.count_as_user(identity, self.address, deed)?)
    }
}

impl FromRequestParts<Api> for For {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(|| unauthorized("nobody asks"))?;
        let hub = match caller.tenant() {
            None => named(parts, api)?,
            Some(tenant) => hub_of(parts, api, tenant)?,
        };
        let address = parts.extensions.get().copied();
        let looks = matches!(parts.method, Method::GET | Method::HEAD);
        Ok(Self { hub, caller, address, looks })
    }
}

/// The hub for a tenant to which the caller is bound.
fn hub_of(parts: &Parts, api: &Api, tenant: &str) -> Result<Hub, ApiError> {
    let named = parts.headers.get(TENANT).map(|name| name.to_str().unwrap_or_default());
    if named.is_some_and(|named| named != tenant) {
        let message = "the credential is another tenant's than X-Tenant names";
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    if tenant.is_empty() { Ok(api.hub.clone()) } else { Ok(api.hub.known_tenant(tenant)?) }
}

/// The hub for the tenant of the request: any that the application, or a key that looks at all of them, names; or the caller's own.
#[derive(Debug)]
pub(super) struct Of(pub(super) Hub);

impl FromRequestParts<Api> for Of {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let bound = parts.extensions.get::<Caller>().and_then(Caller::tenant);
        match bound.filter(|tenant| !tenant.is_empty()) {
            Some(tenant) => hub_of(parts, api, tenant).map(Self),
            None => named(parts, api).map(Self),
        }
    }
}

/// The hub for the tenant that the request names.
fn named(parts: &Parts, api: &Api) -> Result<Hub, ApiError> {
    let Some(tenant) = parts.headers.get(TENANT) else { return Ok(api.hub.clone()) };
    if !api.tenants {
        let message = "this server has no tenants: set tenants.enabled, or leave the header X-Tenant out";
        return Err(ApiError::bad_request(message));
    }
    let name = tenant.to_str().unwrap_or_default();
    if !is_tenant_name(name) {
        let message =
            "the header X-Tenant must be 1 to 64 letters, digits, -, _ and ., and begin with no dot";
        return Err(ApiError::bad_request(message));
    }
    Ok(api.hub.known_tenant(name)?)
}

/// What opens the API.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<(Hashed, Caller)>,
    open: bool,
    guesses: Arc<Guesses>,
}

/// A key's SHA-256. Keys are random, so that nobody finds one by trying.
#[derive(Clone, Copy)]
struct Hashed([u8; 32]);

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a key)")
    }
}

impl Hashed {
    fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(bytes)
    }

    /// As it is configured: a key, or `sha256:` and its hash in hexadecimal digits.
    fn read(text: &str) -> Self {
        hash_in(text).map_or_else(|| Self::of(text.as_bytes()), Self)
    }

    fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The hash in a configured key, if it is one.
fn hash_in(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64)?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(hash)
}

/// What a request shows.
enum Shown<'a> {
    /// The Authorization header is absent.
    Nothing,
    Text(&'a str),
    /// It has another form.
    Other,
}

impl<'a> Shown<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = given.next() else { return Self::Nothing };
        // Whoever checks one of two must not be fooled with the other.
        if given.next().is_some() {
            return Self::Other;
        }
        let given = first.to_str().unwrap_or_default();
        match given.split_at_checked(7) {
            Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer ") && !text.trim().is_empty() => {
                Self::Text(text.trim())
            }
            _ => Self::Other,
        }
    }
}

impl Keys {
    pub(super) fn new(api: &settings::Api, guesses: &Arc<Guesses>) -> Self {
        let whole = api.keys.iter().enumerate();
        let whole =
            whole.map(|(index, key)| (Hashed::read(key), Caller::application(&(index + 1).to_string())));
        let limited = api.scoped_keys.iter().map(|key| (Hashed::read(&key.key), limited(key)));
        Self {
            keys: whole.chain(limited).collect(),
            open: api.open_on_loopback,
            guesses: Arc::clone(guesses),
        }
    }

    /// Whose key this is.
    fn find(&self, shown: &str) -> Option<Caller> {
        if shown.len() > KEY_BYTES_MAX {
            return None;
        }
        let shown = Hashed::of(shown.as_bytes());
        let mut found = None;
        // Every key is looked at, whichever fits.
        for (key, caller) in &self.keys {
            if key.is(&shown).into() {
                found = Some(caller);
            }
        }
        found.cloned()
    }
}

fn limited(key: &settings::ScopedKey) -> Caller {
    let lists = [
        (Action::Join, &key.join),
        (Action::Publish, &key.publish),
        (Action::History, &key.history),
        (Action::Presence, &key.presence),
        (Action::Moderate, &key.moderate),
        (Action::Direct, &key.direct),
    ];
    let mut permissions = Permissions::nothing();
    for (action, patterns) in lists {
        for pattern in patterns {
            permissions = permissions.allow(action, pattern.as_str());
        }
    }
    // A key is no user: what is decided about users does not concern it.
    let mut identity = Identity::user("").of_tenant(key.tenant.as_str());
    identity.permissions = permissions;
    identity.credential = format!("key:{}", key.name).into();
    Caller::Limited { identity: Arc::new(identity), look: key.look, audit: key.audit }
}

impl Api {
    /// Who makes a request.
    async fn identify(&self, headers: &HeaderMap, from: IpAddr) -> Result<Caller, ApiError> {
        let keys = &self.keys;
        let tokens = !self.hub.authenticator().is_open();
        let open = || check_local(headers).map(|()| Caller::application("none, on loopback"));
        if keys.keys.is_empty() && !tokens {
            return if keys.open { open() } else { Err(closed()) };
        }
        let shown = match Shown::of(headers) {
            Shown::Nothing if keys.open => return open(),
            Shown::Nothing if keys.keys.is_empty() => {
                return Err(unauthorized("this needs a user's token, and the server has no keys"));
            }
            Shown::Nothing => return Err(unauthorized("this needs a key")),
            shown => shown,
        };
        if !keys.guesses.allowed(from, Instant::now()) {
            return Err(ApiError::http(
                StatusCode::TOO_MANY_REQUESTS,
                GUESSED_TOO_OFTEN,
                "too many wrong keys came from this address; wait a second",
            ));
        }
        let refused = match shown {
            Shown::Text(text) => match keys.find(text) {
                Some(caller) => return self.accept_key(caller).await,
                None if tokens && text.len() <= TOKEN_BYTES_MAX => match self.user(text, from).await {
                    Ok(caller) => return Ok(caller),
                    Err(error) => error,
                },
                None => unauthorized("this is not a key of this server"),
            },
            _ => unauthorized("the Authorization header has another form"),
        };
        if refused.is_unauthorized() {
            keys.guesses.count(from, Instant::now());
        }
        Err(refused)
    }

    /// A limited key can be revoked by its name (`key:NAME`), as tokens are by their ids.
    async fn accept_key(&self, caller: Caller) -> Result<Caller, ApiError> {
        if let Caller::Limited { identity, .. } = &caller {
            self.hub.check_credential(identity).await?;
        }
        Ok(caller)
    }

    /// The user whose token this is.
    async fn user(&self, token: &str, from: IpAddr) -> Result<Caller, ApiError> {
        let identity = self.hub.authenticate_from(token, ClientAddress::new(from)).await?;
        Ok(Caller::User(Arc::new(identity)))
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
    let message = format!(
        "{what}: send the header `Authorization: Bearer KEY` with one of api.keys, or with a user's token"
    );
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

/// Lets through who may ask what is asked for.
pub(super) async fn check(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let from = address_of(&request, peer.unwrap_or(IpAddr::from([0, 0, 0, 0])));
    let caller = match api.identify(request.headers(), from).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let audited = audit::Pending::of(&mut request);
    let who = audit::Who::of(&caller, from);
    let response = if !may_ask(&caller, &request) {
        let message = "this is the application's own: it needs one of api.keys";
        ApiError::new(ErrorCode::Forbidden, message).into_response()
    } else {
        request.extensions_mut().insert(caller);
        next.run(request).await
    };
    if let Some(audited) = audited {
        let refused = response.extensions().get::<Refused>();
        audited.done(&api.audit, who, (response.status(), refused));
    }
    response
}

/// From where a request comes, through whatever proxies are trusted.
fn address_of(request: &Request, peer: IpAddr) -> IpAddr {
    request.extensions().get::<ClientAddress>().map_or(peer, |address| address.ip())
}

/// Whether a caller may ask what a request asks. What there is not is nobody's secret.
fn may_ask(caller: &Caller, request: &Request) -> bool {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return true };
    let path = path.as_str();
    let path = path.strip_prefix(BASE).unwrap_or(path);
    // Who may read may ask what reading would say.
    let method = if *request.method() == Method::HEAD { &Method::GET } else { request.method() };
    caller.may_ask(path, method)
}

/// What is asked of the caller of an operation that is for others than the application, too.
fn open(path: &str, method: &Method) -> Option<Option<Action>> {
    OPEN.iter().find(|(open, of, _)| *open == path && of == method).map(|(_, _, action)| *action)
}

/// A leaky bucket of wrong keys for each address, as [`origin_of`] has it.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, (f64, Instant)>>);

impl Guesses {
    fn allowed(&self, address: IpAddr, now: Instant) -> bool {
        let guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.get(&origin_of(address)).is_none_or(|bucket| level(*bucket, now) < GUESSES.0)
    }

    fn count(&self, address: IpAddr, now: Instant) {
        let address = origin_of(address);
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

    const PLAIN: &str = "secret-one";
    const HASHED: &str = "secret-two";

    fn settings(keys: &[&str], open_on_loopback: bool) -> settings::Api {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        settings::Api { enabled: true, keys, open_on_loopback, body_bytes_max: 1024, scoped_keys: Vec::new() }
    }

    fn api(hub: &Hub, keys: &[&str], open: bool) -> Api {
        let tenants = settings::Tenants {
            enabled: false,
            path: false,
            connections_max: 0,
            rooms_max: 0,
            messages_per_second: 0,
            stored_bytes_max: 0,
            hosts: Vec::new(),
            list: Vec::new(),
        };
        Api::new(hub, &settings(keys, open), &tenants, "test", &super::super::Kept::default())
    }

    async fn status(api: &Api, pairs: &[(header::HeaderName, &str)]) -> Option<u16> {
        let refused = api.identify(&headers(pairs), PEER).await.err()?;
        Some(refused.into_response().status().as_u16())
    }

    fn hub() -> Hub {
        Hub::builder().start_on_this_runtime().unwrap()
    }

    /// Here accepted: `token-of-USER`.
    #[derive(Debug)]
    struct Tokens;

    impl outspoke_hub::Authenticator for Tokens {
        fn authenticate<'a>(&'a self, _: &'a Parts) -> outspoke_hub::Authentication<'a> {
            Box::pin(async { Err(outspoke_hub::AuthError::unauthorized("no")) })
        }

        fn authenticate_token<'a>(&'a self, token: &'a str) -> outspoke_hub::Authentication<'a> {
            let user = token.strip_prefix("token-of-").map(Identity::user);
            let unknown = || outspoke_hub::AuthError::unauthorized("this is no token");
            Box::pin(std::future::ready(user.ok_or_else(unknown)))
        }
    }

    #[tokio::test]
    async fn only_a_whole_key_opens_also_where_only_its_hash_is_configured() {
        let hash: String = Hashed::of(HASHED.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = format!("sha256:{hash}");
        let api = api(&hub(), &[PLAIN, &hash], false);
        for key in ["Bearer secret-one", "bearer  secret-two", "BEARER secret-one "] {
            assert_eq!(status(&api, &[(header::AUTHORIZATION, key)]).await, None, "{key}");
        }
        let long = format!("Bearer {}", "x".repeat(5000));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secret-on",
            "Bearer secret-one1",
            "Basic secret-one",
            "secret-one",
            &format!("Bearer {hash}"),
            &long,
        ] {
            assert_eq!(status(&api, &[(header::AUTHORIZATION, wrong)]).await, Some(401), "{wrong}");
        }
        assert_eq!(status(&api, &[]).await, Some(401));
        let two = [(header::AUTHORIZATION, "Bearer secret-one"), (header::AUTHORIZATION, "Bearer x")];
        let mut both = HeaderMap::new();
        for (name, value) in two {
            both.append(name, value.parse().unwrap());
        }
        assert!(api.identify(&both, PEER).await.is_err(), "two credentials");
    }

    #[tokio::test]
    async fn without_keys_nobody_comes_in_unless_it_is_open_and_then_only_this_machine() {
        let hub = hub();
        let closed = api(&hub, &[], false);
        let guess = [(header::HOST, "localhost"), (header::AUTHORIZATION, "Bearer ")];
        assert_eq!(status(&closed, &guess).await, Some(403));
        let open = api(&hub, &[], true);
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"] {
            assert_eq!(status(&open, &[(header::HOST, host)]).await, None, "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8080", "192.168.1.1:80", "[::2]"] {
            assert_eq!(status(&open, &[(header::HOST, host)]).await, Some(403), "{host}");
        }
        let from =
            async |origin| status(&open, &[(header::HOST, "localhost:80"), (header::ORIGIN, origin)]).await;
        assert_eq!((from("http://localhost:80").await, from("null").await), (None, Some(403)));
        let others = (from("http://localhost:81").await, from("http://evil.example").await);
        assert_eq!(others, (Some(403), Some(403)));
    }

    #[tokio::test]
    async fn users_come_with_their_tokens_unless_those_are_revoked() {
        let hub = Hub::builder().authenticator(Tokens).start_on_this_runtime().unwrap();
        let api = api(&hub, &[PLAIN], false);
        let with = async |token: &str| {
            let headers = headers(&[(header::AUTHORIZATION, &format!("Bearer {token}"))]);
            api.identify(&headers, PEER)
                .await
                .map(|caller| caller.name())
                .map_err(|error| error.into_response().status())
        };
        assert_eq!(with(PLAIN).await.unwrap(), "key:1");
        assert_eq!(with("token-of-ana").await.unwrap(), "user:ana");
        assert_eq!(with("token").await.unwrap_err(), StatusCode::UNAUTHORIZED);
        hub.revoke_user(&outspoke_hub::UserId::new("ana"), false).await.unwrap();
        assert_eq!(with("token-of-ana").await.unwrap_err(), StatusCode::UNAUTHORIZED);
        assert_eq!(with("token-of-ben").await.unwrap(), "user:ben");
    }

    #[test]
    fn wrong_keys_from_one_address_are_limited_and_others_are_not_touched() {
        let guesses = Guesses::default();
        let now = Instant::now();
        let other = IpAddr::from([10, 0, 0, 1]);
        (0..GUESSES.0 as u32).for_each(|_| guesses.count(PEER, now));
        assert!(!guesses.allowed(PEER, now) && guesses.allowed(other, now));
        assert!(guesses.allowed(PEER, now + Duration::from_millis(200)));
        let network =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|address| address.parse().unwrap());
        (0..GUESSES.0 as u32).for_each(|_| guesses.count(network[0], now));
        let allowed = network.map(|address| guesses.allowed(address, now));
        assert_eq!(allowed, [false, false, true], "who has one address of a network has all");
        for address in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 10 {
            guesses.count(IpAddr::from(address.to_be_bytes()), now);
        }
        assert!(guesses.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }

    #[test]
    fn keys_are_in_no_debug_text() {
        let keys = Keys::new(&settings(&[PLAIN], false), &Arc::default());
        assert!(!format!("{keys:?}").contains("secret"), "{keys:?}");
    }
}

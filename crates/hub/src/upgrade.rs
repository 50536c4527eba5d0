//! From an HTTP request to a connection of the hub: a `tower` service for any router.
//!
//! Checks the handshake, asks who it is, chooses the dialect, answers 101, and hands the stream to a shard. A
//! plain TCP stream is taken out of the HTTP server, so that nothing of HTTP stays behind, and so is any other of which
//! the server says how ([`Unwrap`]); what remains (HTTP/2) takes the same road as it is. Before anything else is looked
//! at, the page must be one that [may connect](crate::origin). Limits on headers and their time are the HTTP server's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use outspoke_protocol::{Dialect, ErrorCode, Position, Refusal, RoomName, StartFrom};
use outspoke_websocket::{Accept, Upgrade};
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::Instrument as _;

use crate::admitted::{Admitted, Guest, SocketInHand};
use crate::antechamber::{self, Seat};
use crate::auth::{AuthError, Identity};
use crate::client::registry::Place;
use crate::conn::{StreamConn, TcpConn};
use crate::error::AttachError;
use crate::hub::{Attach, Hub};
use crate::peer::{ClientAddress, Unwrap};
use crate::spans::TRACE_TARGET;
use crate::tenant::{Tenant, check_name};

/// What an endpoint makes of the connections that come to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpgradeOptions {
    /// The dialect of clients that name none; `None` is the hub's first.
    pub dialect: Option<String>,
    /// Connections start without a room even if the hub has a default one. A client chooses for itself with
    /// `?join=none` or `?join=ROOM`.
    pub without_room: bool,
    /// Connections that are put into the default room need a user name; without one they are refused with 400.
    pub username_required: bool,
    /// Every message goes back as it came: for conformance tests, never for users.
    pub echo: bool,
    /// Whose clients come here.
    pub tenant: TenantFrom,
    /// Clients that bring [no credential](AuthError::missing) are let in all the same, to show one in their first message.
    /// Until then they are outside the hub: see [`HubConfig::unauthenticated_max`](crate::HubConfig::unauthenticated_max).
    pub first_message: bool,
    /// How long such a client may take, and the authenticator with it; then it is closed with 4006. Default 10 s.
    pub auth_timeout: Duration,
}

impl Default for UpgradeOptions {
    fn default() -> Self {
        Self {
            dialect: None,
            without_room: false,
            username_required: false,
            echo: false,
            tenant: TenantFrom::default(),
            first_message: false,
            auth_timeout: Duration::from_secs(10),
        }
    }
}

/// How an endpoint knows whose clients come to it.
///
/// What the credential says counts besides: a client whose credential names another tenant than the endpoint is refused
/// with 403, and one whose credential names none is the endpoint's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantFrom {
    /// From the credential alone.
    #[default]
    Identity,
    /// From the host name by which the client reached the server, where it is one of these (in lower case, without a
    /// port); other hosts say nothing. A proxy in front must pass `Host` on as it came.
    Host(HashMap<String, EcoString>),
    /// From the path: `/t/TENANT/ws`, or whatever else follows. Mount it where every path is like that; any other is
    /// refused with 404.
    Path,
}

impl UpgradeOptions {
    /// Clients that name no dialect speak this one.
    #[must_use]
    pub fn speaking(mut self, dialect: impl Into<String>) -> Self {
        self.dialect = Some(dialect.into());
        self
    }

    /// Connections start without a room.
    #[must_use]
    pub fn without_room(mut self) -> Self {
        self.without_room = true;
        self
    }

    /// Connections that start in a room need a user name.
    #[must_use]
    pub fn with_username(mut self) -> Self {
        self.username_required = true;
        self
    }

    /// Clients belong to the tenant that the endpoint is for.
    #[must_use]
    pub fn of_tenant(mut self, tenant: TenantFrom) -> Self {
        self.tenant = tenant;
        self
    }

    /// Clients that bring no credential may show one in their first message, within that time.
    #[must_use]
    pub fn with_first_message(mut self, auth_timeout: Duration) -> Self {
        (self.first_message, self.auth_timeout) = (true, auth_timeout);
        self
    }

    /// Every message goes back as it came.
    #[must_use]
    pub fn echoing(mut self) -> Self {
        self.echo = true;
        self
    }
}

/// Upgrades WebSocket requests to clients of a hub. Mount it on any path of any `tower` router.
///
/// The HTTP server must drive upgrades (hyper's `with_upgrades`; `axum::serve` does). Responses to refused
/// requests are JSON: `{"type":"error","code":...,"error":"...","message":"..."}`.
#[derive(Clone, Debug)]
pub struct UpgradeService {
    pub(crate) hub: Hub,
    pub(crate) options: Arc<UpgradeOptions>,
}

impl Hub {
    /// The hub as a `tower` service that upgrades requests, with the default options.
    #[must_use]
    pub fn service(&self) -> UpgradeService {
        self.service_with(UpgradeOptions::default())
    }

    /// The hub as a `tower` service that upgrades requests.
    #[must_use]
    pub fn service_with(&self, options: UpgradeOptions) -> UpgradeService {
        UpgradeService { hub: self.clone(), options: Arc::new(options) }
    }
}

type Answer = Response<Full<Bytes>>;

impl<B: Send + 'static> Service<Request<B>> for UpgradeService {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let upgraded = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let service = self.clone();
        let span = tracing::debug_span!(target: TRACE_TARGET, "upgrade", status = tracing::field::Empty);
        let told = span.clone();
        let upgrading = async move {
            let answer = service.upgrade(parts, upgraded).await.unwrap_or_else(|refused| *refused);
            service.hub.inner.doors.answered(answer.status().as_u16());
            told.record("status", answer.status().as_u16());
            Ok(answer)
        };
        Box::pin(upgrading.instrument(span))
    }
}

impl UpgradeService {
    /// Who makes a plain HTTP request, and the hub of their tenant: for what an application answers besides the hub, to the same
    /// people. Judged as an upgrade at this endpoint would be, but that nobody connects: web pages of others are refused, and so
    /// is who shows no credential, and whoever comes from an address that has shown too many wrong ones.
    ///
    /// # Errors
    /// The answer to give instead, in the shape that refused upgrades have.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn identify(&self, parts: &Parts) -> Result<(Identity, Hub), Box<Response<Full<Bytes>>>> {
        let address = parts.extensions.get::<ClientAddress>().copied();
        // Browsers do not say where a page's own reading requests come from; nothing is done by one.
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        if !reads || parts.headers.contains_key(header::ORIGIN) {
            self.check_origin(parts)?;
        }
        let of_endpoint = self.options.tenant.of(parts)?;
        if let Some(address) = address {
            self.hub.inner.gate.may_show(address, &self.hub.config().rate).map_err(too_often)?;
        }
        let told = |error: AuthError| {
            self.hub.inner.tell_auth_failure(address, &error);
            refused(&error)
        };
        let span = tracing::debug_span!(target: TRACE_TARGET, "authenticate");
        let mut identity =
            self.hub.authenticator().authenticate(parts).instrument(span).await.map_err(told)?;
        let tenant = self.choose_tenant(&mut identity, of_endpoint).await?;
        self.hub.check_credential(&identity).await.map_err(told)?;
        Ok((identity, Hub { inner: Arc::clone(&self.hub.inner), tenant }))
    }

    /// Refuses pages of other sites. Browsers do not show them the reason, so that the log tells it, now and then.
    fn check_origin(&self, parts: &Parts) -> Result<(), Box<Answer>> {
        let hub = &self.hub.inner;
        hub.config().origins.check(parts).map_err(|foreign| {
            if hub.doors.may_tell_of_origin(hub.now()) {
                let origin = parts.headers.get(header::ORIGIN).map_or(&b""[..], |origin| origin.as_bytes());
                let origin = String::from_utf8_lossy(&origin[..origin.len().min(256)]);
                tracing::warn!(?origin, "a web page was refused (said once a minute at most): {foreign}");
            }
            refused(&AuthError::forbidden(foreign.to_string()))
        })
    }

    async fn upgrade(&self, parts: Parts, upgraded: OnUpgrade) -> Result<Answer, Box<Answer>> {
        let address = parts.extensions.get::<ClientAddress>().copied();
        if let Some(address) = address {
            let config = self.hub.config();
            self.hub.inner.gate.attempt(address, &config.rate).map_err(too_often)?;
        }
        let upgrade = Upgrade::check(&parts.method, parts.version, &parts.headers)
            .map_err(|error| Box::new(error.response().map(|text| Full::new(Bytes::from(text)))))?;
        self.check_origin(&parts)?;
        let query = Query::of(&parts);
        let (dialect, subprotocol) = self.choose_dialect(&upgrade, query.dialect.as_deref())?;
        let room = self.choose_room(query.join.as_deref())?;
        let from = query.start()?;
        let of_endpoint = self.options.tenant.of(&parts)?;
        let unwrap = parts.extensions.get().copied();
        let in_hand = parts.extensions.get::<SocketInHand>().is_some();
        let visit = Visit { dialect, room, from, of_endpoint, address, unwrap };
        let span = tracing::debug_span!(target: TRACE_TARGET, "authenticate");
        let identity = match self.hub.authenticator().authenticate(&parts).instrument(span).await {
            Ok(identity) => identity,
            Err(error) if error.missing && self.options.first_message && !self.options.echo => {
                return self.let_wait(&upgrade, subprotocol, (!in_hand).then_some(upgraded), visit);
            }
            Err(error) => {
                self.hub.inner.tell_auth_failure(address, &error);
                return Err(refused(&error));
            }
        };
        let (identity, place) = self.admit(identity, &visit).await?;
        let accept = upgrade.accept(subprotocol, self.hub.config().compression.enabled);
        let compression = accept.deflate().map(outspoke_websocket::PermessageDeflate::server_window);
        let unwrap = visit.unwrap;
        let attach = Attach { compression, echo: self.options.echo, ..visit.attach(identity) };
        let hub = self.hub.clone();
        if in_hand {
            return Ok(admitting(&accept, Guest::Client { hub, place, attach }));
        }
        // The connection becomes ours when the 101 is on the wire, which is after this function has returned.
        tokio::spawn(hand_over(hub, place, upgraded, unwrap, attach));
        Ok(answer_of(&accept))
    }

    /// Lets a client in that is to show its credential in its first message; until then it is outside the hub.
    ///
    /// `upgraded`: its stream to be; `None` if the server has its socket.
    fn let_wait(
        &self,
        upgrade: &Upgrade<'_>,
        subprotocol: Option<&'static str>,
        upgraded: Option<OnUpgrade>,
        visit: Visit,
    ) -> Result<Answer, Box<Answer>> {
        if !self.hub.is_accepting() {
            return Err(unavailable(&AttachError::Stopping));
        }
        let config = self.hub.config();
        let origin = visit.address.map(|address| self.hub.inner.gate.admit_unknown(address, &config));
        let origin =
            origin.transpose().map_err(|max| unavailable(&AttachError::TooManyFromAddress { max }))?;
        let max = config.unauthenticated_max;
        let seat = Seat::take(&self.hub.inner, max, origin.flatten())
            .ok_or_else(|| unavailable(&AttachError::TooManyConnections { max }))?;
        // Nothing is compressed by or for somebody whom nobody knows.
        let accept = upgrade.accept(subprotocol, false);
        match upgraded {
            Some(upgraded) => {
                tokio::spawn(antechamber::wait(self.clone(), seat, visit, upgraded));
                Ok(answer_of(&accept))
            }
            None => Ok(admitting(&accept, Guest::Unknown { service: self.clone(), seat, visit })),
        }
    }

    /// Lets somebody whose credential is accepted into the tenant, if there is a place.
    pub(crate) async fn admit(
        &self,
        mut identity: Identity,
        visit: &Visit,
    ) -> Result<(Identity, Place), Box<Answer>> {
        let tenant = self.choose_tenant(&mut identity, visit.of_endpoint.clone()).await?;
        if let Err(error) = self.hub.check_credential(&identity).await {
            self.hub.inner.tell_auth_failure(visit.address, &error);
            return Err(refused(&error));
        }
        if self.options.username_required && visit.room.is_some() && identity.name.is_empty() {
            let detail =
                "username is required: connect with ?username=NAME, or with ?join=none to chat in no room";
            return Err(refused(&AuthError::new(ErrorCode::UsernameRequired, detail)));
        }
        let place = self.hub.place(&tenant, &identity, visit.address).map_err(|error| unavailable(&error))?;
        Ok((identity, place))
    }

    /// The tenant that the client is let into.
    async fn choose_tenant(
        &self,
        identity: &mut Identity,
        of_endpoint: Option<EcoString>,
    ) -> Result<Arc<Tenant>, Box<Answer>> {
        let named_here = match of_endpoint {
            Some(tenant) if identity.tenant.is_empty() => {
                identity.tenant = tenant;
                true
            }
            Some(tenant) if identity.tenant != tenant => {
                let detail = "the credential is another tenant's than this address";
                return Err(refused(&AuthError::forbidden(detail)));
            }
            Some(_) => true,
            None => false,
        };
        if !identity.tenant.is_empty() {
            check_name(&identity.tenant)
                .map_err(|error| refused(&AuthError::forbidden(error.to_string())))?;
        }
        let admitted = match self.hub.admit(&identity.tenant) {
            Err(AttachError::TenantsUnread) => {
                let hub = &self.hub.inner;
                hub.tenants.wait_until_read(hub.config().store_timeout).await;
                self.hub.admit(&identity.tenant)
            }
            admitted => admitted,
        };
        admitted.map_err(|error| match error {
            AttachError::UnknownTenant { .. } if named_here => no_tenant(StatusCode::NOT_FOUND, &error),
            AttachError::UnknownTenant { .. } => no_tenant(StatusCode::FORBIDDEN, &error),
            error => unavailable(&error),
        })
    }

    /// The subprotocol decides, then the query, then the endpoint.
    fn choose_dialect(
        &self,
        upgrade: &Upgrade<'_>,
        asked: Option<&str>,
    ) -> Result<(String, Option<&'static str>), Box<Answer>> {
        let dialects = self.hub.dialects();
        let supported: Vec<&'static str> =
            dialects.iter().flat_map(|dialect| dialect.subprotocols().iter().copied()).collect();
        if let Some(subprotocol) = upgrade.select_protocol(&supported) {
            let speaks = |dialect: &&Arc<dyn Dialect>| dialect.subprotocols().contains(&subprotocol);
            let name = dialects.iter().find(speaks).map(|dialect| dialect.name().to_owned());
            return Ok((name.unwrap_or_default(), Some(subprotocol)));
        }
        let default = self.options.dialect.as_deref().unwrap_or(dialects[0].name());
        let name = asked.unwrap_or(default);
        if dialects.iter().any(|dialect| dialect.name() == name) {
            return Ok((name.to_owned(), None));
        }
        let known: Vec<&str> = dialects.iter().map(|dialect| dialect.name()).collect();
        let detail = format!("there is no such dialect; choose one of: {}", known.join(", "));
        Err(Box::new(error_answer(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, &detail)))
    }

    fn choose_room(&self, asked: Option<&str>) -> Result<Option<RoomName>, Box<Answer>> {
        let config = self.hub.config();
        match asked {
            None if self.options.without_room || self.options.echo => Ok(None),
            None => Ok(config.default_room.clone()),
            Some("none") => Ok(None),
            Some(room) => RoomName::new(room, config.room_name_bytes_max).map(Some).map_err(|invalid| {
                let detail = format!("join: {invalid}");
                Box::new(error_answer(StatusCode::BAD_REQUEST, ErrorCode::InvalidRoom, &detail))
            }),
        }
    }
}

/// What a request asks for besides saying who it is.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) dialect: String,
    room: Option<RoomName>,
    from: StartFrom,
    of_endpoint: Option<EcoString>,
    pub(crate) address: Option<ClientAddress>,
    /// How to get the stream itself.
    pub(crate) unwrap: Option<Unwrap>,
}

impl Visit {
    /// How somebody is attached who asks for this.
    pub(crate) fn attach(self, identity: Identity) -> Attach {
        let Self { dialect, room, from, address, of_endpoint: _, unwrap: _ } = self;
        Attach { dialect: Some(dialect), room, from, address, ..Attach::new(identity) }
    }
}

impl TenantFrom {
    /// The tenant that the request's address names, if it names one.
    fn of(&self, parts: &Parts) -> Result<Option<EcoString>, Box<Answer>> {
        match self {
            Self::Identity => Ok(None),
            Self::Host(tenants) => Ok(host_of(parts).and_then(|host| tenants.get(&host).cloned())),
            Self::Path => match tenant_in_path(parts.uri.path()) {
                Some(name) => Ok(Some(name)),
                None => {
                    let detail = "the path names no tenant; connect to /t/TENANT/ws";
                    Err(Box::new(error_answer(StatusCode::NOT_FOUND, ErrorCode::TenantNotFound, detail)))
                }
            },
        }
    }
}

/// The host name that the client wanted, in lower case, without a port and the root's dot.
fn host_of(parts: &Parts) -> Option<String> {
    let header = || parts.headers.get(header::HOST)?.to_str().ok();
    // HTTP/2 has it in the target.
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).or_else(header)?;
    let host = match authority.rsplit_once(':') {
        // An IPv6 address is in brackets when a port may follow.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => host,
        _ => authority,
    };
    Some(host.trim_end_matches('.').to_ascii_lowercase())
}

/// The tenant in `/t/TENANT/...`.
fn tenant_in_path(path: &str) -> Option<EcoString> {
    let (name, _) = path.strip_prefix("/t/")?.split_once('/')?;
    let name = percent_decoded(name)?;
    check_name(&name).ok()?;
    Some(EcoString::from(name))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What the query says to the endpoint; who it is, is the authenticator's to read.
#[derive(Debug, Default)]
struct Query<'a> {
    dialect: Option<Cow<'a, str>>,
    join: Option<Cow<'a, str>>,
    epoch: Option<Cow<'a, str>>,
    offset: Option<Cow<'a, str>>,
    last: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    fn of(parts: &'a Parts) -> Self {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match &*key {
                "dialect" => query.dialect = Some(value),
                "join" => query.join = Some(value),
                "epoch" => query.epoch = Some(value),
                "offset" => query.offset = Some(value),
                "last" => query.last = Some(value),
                _ => {}
            }
        }
        query
    }

    /// With which of the first room's messages to begin: after `epoch` and `offset`, or with the `last` so many.
    fn start(&self) -> Result<StartFrom, Box<Answer>> {
        let wrong = |detail| Box::new(error_answer(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, detail));
        match (&self.epoch, &self.offset, &self.last) {
            (None, None, None) => Ok(StartFrom::Now),
            (Some(epoch), Some(offset), None) => match (epoch.parse(), offset.parse()) {
                (Ok(epoch), Ok(offset)) => Ok(StartFrom::After(Position { epoch, offset })),
                _ => Err(wrong(
                    "epoch is sixteen hexadecimal digits and offset a number, as the server sent them",
                )),
            },
            (None, None, Some(last)) => match last.parse() {
                Ok(last) => Ok(StartFrom::Last(last)),
                Err(_) => Err(wrong("last is how many of the room's newest messages to begin with")),
            },
            _ => Err(wrong("send epoch and offset, or last, or none of them")),
        }
    }
}

/// Why an upgraded stream did not become a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    #[error("the socket refused its options")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Waits until the HTTP server lets go of the stream, and gives it to the hub.
async fn hand_over(hub: Hub, place: Place, upgraded: OnUpgrade, unwrap: Option<Unwrap>, attach: Attach) {
    let upgraded = match upgraded.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            // The client went away, or the server does not drive upgrades, which its developer must learn.
            tracing::debug!(%error, "the upgrade did not come about");
            return;
        }
    };
    if let Err(error) = attach_upgraded(&hub, place, upgraded, unwrap, attach) {
        tracing::debug!(%error, "an upgraded connection was not attached");
    }
}

fn attach_upgraded(
    hub: &Hub,
    place: Place,
    upgraded: Upgraded,
    unwrap: Option<Unwrap>,
    attach: Attach,
) -> Result<(), HandOverError> {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner().into_std()?;
            let conn = TcpConn::new(stream, &hub.config().tcp)?;
            hub.attach_at(place, Box::new(conn), Attach { early: parts.read_buf, ..attach })?;
        }
        Err(upgraded) => {
            let taken = match unwrap {
                Some(unwrap) => unwrap.apply(upgraded),
                None => Err(upgraded),
            };
            match taken {
                Ok((stream, early)) => {
                    let conn = Box::new(StreamConn::new(stream));
                    hub.attach_at(place, conn, Attach { early, ..attach })?
                }
                Err(upgraded) => {
                    let conn = StreamConn::new(TokioIo::new(upgraded));
                    hub.attach_at(place, Box::new(conn), attach)?
                }
            };
        }
    }
    Ok(())
}

fn answer_of(accept: &Accept) -> Answer {
    accept.response().map(|()| Full::default())
}

/// The answer with the one whom it lets in.
fn admitting(accept: &Accept, guest: Guest) -> Answer {
    let mut answer = answer_of(accept);
    answer.extensions_mut().insert(Admitted::new(guest));
    answer
}

fn refused(error: &AuthError) -> Box<Answer> {
    let status = match error.code {
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::Unauthorized | ErrorCode::TokenExpired => StatusCode::UNAUTHORIZED,
        ErrorCode::Unavailable | ErrorCode::Internal | ErrorCode::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Box::new(error_answer(status, error.code, &error.detail))
}

fn no_tenant(status: StatusCode, error: &AttachError) -> Box<Answer> {
    Box::new(error_answer(status, ErrorCode::TenantNotFound, &error.to_string()))
}

fn unavailable(error: &AttachError) -> Box<Answer> {
    let (status, code) = match error {
        AttachError::TooManyConnections { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyConnections)
        }
        AttachError::TooManyFromAddress { .. } | AttachError::TooManyOfUser { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyConnections)
        }
        AttachError::Quota { .. } => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::QuotaExceeded),
        _ => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
    };
    let mut answer = error_answer(status, code, &error.to_string());
    // Another node takes a client at once; a full one needs time.
    let seconds = if matches!(error, AttachError::Stopping) { "1" } else { "5" };
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    Box::new(answer)
}

/// An address that tries to connect too often, or too often with what is not accepted.
fn too_often(retry_after: Duration) -> Box<Answer> {
    let seconds = retry_after.as_millis().div_ceil(1000).max(1);
    let detail = format!("too many attempts came from this address; try again in {seconds} s");
    let mut answer = error_answer(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, &detail);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds as u64));
    Box::new(answer)
}

fn error_answer(status: StatusCode, code: ErrorCode, detail: &str) -> Answer {
    // By hand, to keep the fields in the order that frames have them.
    let body = format!(
        r#"{{"type":"error","code":{},"error":"{}","message":{},"temporary":{}}}"#,
        code.number(),
        code.name(),
        serde_json::Value::from(detail),
        code.is_temporary(),
    );
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    // For whom it is told over a connection.
    answer.extensions_mut().insert(Refusal::new(code, detail));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tenant_in_the_path_is_decoded_and_must_be_a_name() {
        for (path, tenant) in [
            ("/t/acme/ws", Some("acme")),
            ("/t/ac%6De/ws", Some("acme")),
            ("/t/acme.example-1_x/", Some("acme.example-1_x")),
            ("/t/acme/anything/else", Some("acme")),
            ("/t/acme", None),
            ("/t//ws", None),
            ("/ws", None),
            ("/x/t/acme/ws", None),
            ("/t/../ws", None),
            ("/t/%2e%2e/ws", None),
            ("/t/a%2Fb/ws", None),
            ("/t/a%00/ws", None),
            ("/t/a%zz/ws", None),
            ("/t/a%6/ws", None),
            ("/t/%ff/ws", None),
        ] {
            assert_eq!(tenant_in_path(path).as_deref(), tenant, "{path}");
        }
    }

    #[test]
    fn host_is_compared_without_case_port_and_last_dot() {
        for (host, name) in [
            ("chat.acme.example", "chat.acme.example"),
            ("Chat.ACME.example:8080", "chat.acme.example"),
            ("chat.acme.example.", "chat.acme.example"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            let (parts, ()) =
                Request::builder().uri("/ws").header("host", host).body(()).unwrap().into_parts();
            assert_eq!(host_of(&parts).as_deref(), Some(name), "{host}");
        }
        let target =
            Request::builder().uri("https://A.example/ws").header("host", "b.example").body(()).unwrap();
        assert_eq!(host_of(&target.into_parts().0).as_deref(), Some("a.example"));
    }
}

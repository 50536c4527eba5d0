//! From an HTTP request to a connection of the hub: a `tower` service for any router.
//!
//! Checks the handshake, asks who it is, chooses the dialect, answers 101, and hands the stream to a shard. A
//! plain TCP stream is taken out of the HTTP server, so that nothing of HTTP stays behind; any other stream
//! (TLS, HTTP/2) takes the same road as it is. Limits on headers and their time are the HTTP server's.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use outspoke_protocol::{Dialect, ErrorCode, Position, RoomName, StartFrom};
use outspoke_websocket::{Accept, Upgrade};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::auth::AuthError;
use crate::client::registry::Place;
use crate::conn::{StreamConn, TcpConn};
use crate::error::AttachError;
use crate::hub::{Attach, Hub};

/// What an endpoint makes of the connections that come to it.
#[derive(Clone, Debug, Default)]
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
    hub: Hub,
    options: Arc<UpgradeOptions>,
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
        Box::pin(async move { Ok(service.upgrade(parts, upgraded).await.unwrap_or_else(|refused| *refused)) })
    }
}

impl UpgradeService {
    async fn upgrade(&self, parts: Parts, upgraded: OnUpgrade) -> Result<Answer, Box<Answer>> {
        let upgrade = Upgrade::check(&parts.method, parts.version, &parts.headers)
            .map_err(|error| Box::new(error.response().map(|text| Full::new(Bytes::from(text)))))?;
        let query = Query::of(&parts);
        let (dialect, subprotocol) = self.choose_dialect(&upgrade, query.dialect.as_deref())?;
        let room = self.choose_room(query.join.as_deref())?;
        let from = query.start()?;
        let identity =
            self.hub.authenticator().authenticate(&parts).await.map_err(|error| refused(&error))?;
        if self.options.username_required && room.is_some() && identity.name.is_empty() {
            let detail =
                "username is required: connect with ?username=NAME, or with ?join=none to chat in no room";
            return Err(refused(&AuthError::new(ErrorCode::UsernameRequired, detail)));
        }
        let place = self.hub.place().map_err(|error| unavailable(&error))?;
        let accept = upgrade.accept(subprotocol, self.hub.config().compression.enabled);
        let attach = Attach {
            dialect: Some(dialect),
            compression: accept.deflate().map(outspoke_websocket::PermessageDeflate::server_window),
            room,
            from,
            echo: self.options.echo,
            ..Attach::new(identity)
        };
        // The connection becomes ours when the 101 is on the wire, which is after this function has returned.
        tokio::spawn(hand_over(self.hub.clone(), place, upgraded, attach));
        Ok(answer_of(&accept))
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
enum HandOverError {
    #[error("the socket refused its options")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Waits until the HTTP server lets go of the stream, and gives it to the hub.
async fn hand_over(hub: Hub, place: Place, upgraded: OnUpgrade, attach: Attach) {
    let upgraded = match upgraded.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            // The client went away, or the server does not drive upgrades, which its developer must learn.
            tracing::debug!(%error, "the upgrade did not come about");
            return;
        }
    };
    if let Err(error) = attach_upgraded(&hub, place, upgraded, attach) {
        tracing::debug!(%error, "an upgraded connection was not attached");
    }
}

fn attach_upgraded(hub: &Hub, place: Place, upgraded: Upgraded, attach: Attach) -> Result<(), HandOverError> {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner().into_std()?;
            let conn = TcpConn::new(stream, &hub.config().tcp)?;
            hub.attach_at(place, Box::new(conn), Attach { early: parts.read_buf, ..attach })?;
        }
        Err(upgraded) => {
            let conn = StreamConn::new(TokioIo::new(upgraded));
            hub.attach_at(place, Box::new(conn), attach)?;
        }
    }
    Ok(())
}

fn answer_of(accept: &Accept) -> Answer {
    accept.response().map(|()| Full::default())
}

fn refused(error: &AuthError) -> Box<Answer> {
    let status = match error.code {
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Unavailable | ErrorCode::Internal | ErrorCode::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Box::new(error_answer(status, error.code, &error.detail))
}

fn unavailable(error: &AttachError) -> Box<Answer> {
    let code = match error {
        AttachError::TooManyConnections { .. } => ErrorCode::TooManyConnections,
        _ => ErrorCode::Unavailable,
    };
    let mut answer = error_answer(StatusCode::SERVICE_UNAVAILABLE, code, &error.to_string());
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
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
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

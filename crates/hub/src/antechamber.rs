//! Clients that have brought no credential, until they show one in their first message.
//!
//! Filled by [`crate::upgrade`] where the endpoint lets such clients in; who shows a credential that is accepted is attached to the
//! hub as if it had come with it, and whoever does not is sent away. Each waits in a task of its own on the HTTP server's runtime,
//! outside the hub: no shard, no room and no other client knows of it.
//!
//! Invariants: at most [`unauthenticated_max`](crate::HubConfig::unauthenticated_max) wait, each for at most
//! [`auth_timeout`](crate::UpgradeOptions::auth_timeout); one of them takes at most [`MESSAGE_BYTES_MAX`] and one read's worth of memory,
//! is answered at most [`CONTROLS_MAX`] pings, and nothing is compressed.

use std::net::TcpStream as Socket;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use outspoke_protocol::{
    Command, Dialect, Disconnect, ErrorCode, Event, Payload, Refusal, Request, RequestId, Token,
};
use outspoke_websocket::{
    CloseCode, Decoder, Inflater, Item, Limits, Opcode, ProtocolError, Role, encode_close, encode_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::{AuthError, Identity};
use crate::client::registry::Place;
use crate::conn::{StreamConn, TcpConn};
use crate::hub::{Attach, Inner};
use crate::peer::Stream;
use crate::publication::opcode;
use crate::rate::gate::Unknown;
use crate::upgrade::{HandOverError, UpgradeService, Visit};

/// Largest first message: the longest token, and what is around it.
const MESSAGE_BYTES_MAX: usize = Token::LEN_MAX + 1024;
/// Bytes read at once.
const READ_BYTES: usize = 2048;
/// Pings and pongs of one client; with more it is sent away.
const CONTROLS_MAX: u32 = 16;
/// Bytes read, and not looked at, of one that is being sent away: closing earlier could destroy our last frames on their way.
const IGNORED_BYTES_MAX: usize = 64 * 1024;

/// How many wait, and whether they may go on to.
#[derive(Debug, Default)]
pub(crate) struct Antechamber {
    inside: watch::Sender<usize>,
    closed: watch::Sender<bool>,
}

impl Antechamber {
    pub(crate) fn count(&self) -> usize {
        *self.inside.borrow()
    }

    /// Sends everybody away.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until nobody is left.
    pub(crate) async fn is_left(&self) -> bool {
        self.inside.subscribe().wait_for(|inside| *inside == 0).await.is_ok()
    }

    async fn closing(&self) {
        // The hub holds the sender for as long as somebody asks.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

/// One of the places for those who wait, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Inner>,
    /// The same among those of its address, if they are counted.
    _of_address: Option<Unknown>,
}

impl Seat {
    /// A place, if there is one left of `max`.
    pub(crate) fn take(hub: &Arc<Inner>, max: usize, of_address: Option<Unknown>) -> Option<Self> {
        let one_more = |inside: &mut usize| {
            let free = *inside < max;
            *inside += usize::from(free);
            free
        };
        let seat = || Self { hub: Arc::clone(hub), _of_address: of_address };
        hub.antechamber.inside.send_if_modified(one_more).then(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.antechamber.inside.send_modify(|inside| *inside -= 1);
    }
}

/// Waits for a client's first message and attaches the client, or sends it away.
pub(crate) async fn wait(service: UpgradeService, seat: Seat, visit: Visit, upgraded: OnUpgrade) {
    let deadline = Instant::now() + service.options.auth_timeout;
    let Ok(Ok(upgraded)) = tokio::time::timeout_at(deadline, upgraded).await else {
        tracing::debug!("the upgrade did not come about");
        return;
    };
    let host = Host { service, visit, deadline };
    let outcome = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let mut stream = parts.io.into_inner();
            match host.receive(&mut stream, &parts.read_buf).await {
                Some(welcome) => host.attach_socket(stream, welcome),
                None => return,
            }
        }
        Err(upgraded) => {
            let taken = match host.visit.unwrap {
                Some(unwrap) => unwrap.apply(upgraded),
                None => Err(upgraded),
            };
            let (mut stream, early): (Box<dyn Stream>, _) =
                taken.unwrap_or_else(|upgraded| (Box::new(TokioIo::new(upgraded)), Bytes::new()));
            match host.receive(&mut stream, &early).await {
                Some(welcome) => host.attach_stream(stream, welcome),
                None => return,
            }
        }
    };
    // It counts as one who waits until it has a place in the hub.
    drop(seat);
    note_outcome(outcome);
}

/// The same for a socket that no HTTP library has, nor has had: `greeting` is written first.
pub(crate) async fn seat(
    service: UpgradeService,
    seat: Seat,
    visit: Visit,
    socket: Socket,
    greeting: Vec<u8>,
) {
    let deadline = Instant::now() + service.options.auth_timeout;
    let host = Host { service, visit, deadline };
    let Ok(mut stream) = TcpStream::from_std(socket) else { return };
    let Ok(Ok(())) = tokio::time::timeout_at(deadline, stream.write_all(&greeting)).await else { return };
    drop(greeting);
    let Some(welcome) = host.receive(&mut stream, &[]).await else { return };
    let outcome = host.attach_socket(stream, welcome);
    drop(seat);
    note_outcome(outcome);
}

fn note_outcome(outcome: Result<(), HandOverError>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client that had shown its credential was not attached");
    }
}

/// Somebody whose credential is accepted.
struct Welcomed {
    identity: Identity,
    place: Place,
    /// What came behind the first message.
    early: Bytes,
}

/// The end of somebody who waited.
enum Farewell {
    /// The stream has ended.
    Gone,
    /// The client said goodbye.
    Answered(Option<CloseCode>),
    /// The client broke the protocol.
    Violated(ProtocolError),
    /// Sent away, with words for the request if there was one.
    Sent(Disconnect, Option<Refusal>),
}

impl Farewell {
    /// What becomes of a client whose credential was not accepted, or that cannot be let in with it.
    fn refused(refusal: Refusal, request: Option<RequestId>) -> Self {
        let disconnect = match refusal.code.is_temporary() {
            true => Disconnect::TryAgainLater,
            false => Disconnect::Unauthorized,
        };
        Self::Sent(disconnect, Some(refusal.answering(request)))
    }
}

/// What the first message said.
struct Shown {
    request: Option<RequestId>,
    token: String,
}

/// Who receives one client.
struct Host {
    service: UpgradeService,
    visit: Visit,
    deadline: Instant,
}

impl Host {
    fn hub(&self) -> &Arc<Inner> {
        &self.service.hub.inner
    }

    fn dialect(&self) -> &dyn Dialect {
        let dialects = &self.hub().dialects;
        let named = dialects.iter().find(|dialect| dialect.name() == self.visit.dialect);
        // The upgrade has chosen one of them.
        named.unwrap_or(&dialects[0]).as_ref()
    }

    /// Waits for the first message and judges it; `None`: the client was sent away.
    async fn receive<S>(&self, stream: &mut S, early: &[u8]) -> Option<Welcomed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let listened = tokio::select! {
            // Whoever has been let in by now is in.
            biased;
            listened = tokio::time::timeout_at(self.deadline, self.listen(stream, early)) => listened,
            () = self.hub().antechamber.closing() => Ok(Err(Farewell::Sent(Disconnect::GoingAway, None))),
        };
        let farewell = match listened {
            Ok(Ok(welcomed)) => return Some(welcomed),
            Ok(Err(farewell)) => farewell,
            Err(_) => {
                let error = AuthError::missing("no credential was sent in time");
                self.hub().tell_auth_failure(self.visit.address, &error);
                Farewell::Sent(Disconnect::AuthenticationTimeout, None)
            }
        };
        self.send_away(stream, farewell).await;
        None
    }

    /// Reads up to the end of the first message.
    async fn listen<S>(&self, stream: &mut S, early: &[u8]) -> Result<Welcomed, Farewell>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut listener = Listener::default();
        let mut replies = Vec::new();
        let mut input = early.to_vec();
        loop {
            let shown = listener.hear(&mut input, self.dialect(), &mut replies)?;
            if !replies.is_empty() {
                stream.write_all(&replies).await.map_err(|_| Farewell::Gone)?;
                replies.clear();
            }
            if let Some((shown, early)) = shown {
                return self.judge(shown, early).await;
            }
            input.resize(READ_BYTES, 0);
            match stream.read(&mut input).await {
                Ok(count) if count > 0 => input.truncate(count),
                _ => return Err(Farewell::Gone),
            }
        }
    }

    async fn judge(&self, shown: Shown, early: Bytes) -> Result<Welcomed, Farewell> {
        let Shown { request, token } = shown;
        let judged = self.service.hub.authenticator().authenticate_token(&token).await;
        let identity = judged.map_err(|error| {
            self.hub().tell_auth_failure(self.visit.address, &error);
            Farewell::refused(Refusal::new(error.code, error.detail), request.clone())
        })?;
        match self.service.admit(identity, &self.visit).await {
            Ok((identity, place)) => Ok(Welcomed { identity, place, early }),
            Err(answer) => {
                let unknown = || Refusal::new(ErrorCode::Unavailable, "the client cannot be let in now");
                let refusal = answer.extensions().get().cloned().unwrap_or_else(unknown);
                Err(Farewell::refused(refusal, request))
            }
        }
    }

    /// Says why, and goodbye; then gives the client a moment to read it.
    async fn send_away<S>(&self, stream: &mut S, farewell: Farewell)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut last = Vec::new();
        match farewell {
            Farewell::Gone => return,
            Farewell::Answered(code) => encode_close(code, "", &mut last),
            Farewell::Violated(error) => {
                encode_close(Some(error.close_code()), &error.to_string(), &mut last)
            }
            Farewell::Sent(disconnect, refusal) => {
                if let Some(refusal) = refusal {
                    let mut payload = Vec::new();
                    if let Some(kind) = self.dialect().encode(&Event::Refused(refusal), &mut payload) {
                        encode_frame(opcode(kind), &payload, &mut last);
                    }
                }
                encode_close(CloseCode::new(disconnect.code()), disconnect.reason(), &mut last);
            }
        }
        let patience: Duration = self.hub().config().close_timeout;
        let farewell = async {
            stream.write_all(&last).await?;
            stream.shutdown().await?;
            let mut ignored = [0; 512];
            let mut count = 0;
            while count < IGNORED_BYTES_MAX {
                match stream.read(&mut ignored).await? {
                    0 => break,
                    read => count += read,
                }
            }
            Ok::<(), std::io::Error>(())
        };
        // Whoever does not read it has had its time.
        let _ = tokio::time::timeout(patience, farewell).await;
    }

    fn attach_socket(self, stream: TcpStream, welcomed: Welcomed) -> Result<(), HandOverError> {
        let conn = TcpConn::new(stream.into_std()?, &self.hub().config().tcp)?;
        let Welcomed { identity, place, early } = welcomed;
        let attach = Attach { early, ..self.visit.attach(identity) };
        self.service.hub.attach_at(place, Box::new(conn), attach)?;
        Ok(())
    }

    fn attach_stream<S>(self, stream: S, welcomed: Welcomed) -> Result<(), HandOverError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Welcomed { identity, place, early } = welcomed;
        let attach = Attach { early, ..self.visit.attach(identity) };
        self.service.hub.attach_at(place, Box::new(StreamConn::new(stream)), attach)?;
        Ok(())
    }
}

/// Takes a first message out of bytes.
struct Listener {
    decoder: Decoder,
    inflater: Inflater,
    controls: u32,
}

impl Default for Listener {
    fn default() -> Self {
        Self { decoder: Decoder::new(Role::Server, false), inflater: Inflater::new(), controls: 0 }
    }
}

impl Listener {
    /// Looks at what was read; with the first message, what came behind it.
    fn hear(
        &mut self,
        input: &mut [u8],
        dialect: &dyn Dialect,
        replies: &mut Vec<u8>,
    ) -> Result<Option<(Shown, Bytes)>, Farewell> {
        let limits = Limits::new(MESSAGE_BYTES_MAX);
        let mut frames = self.decoder.feed(input, &limits, &mut self.inflater);
        while let Some(item) = frames.next() {
            let shown = match item.map_err(Farewell::Violated)? {
                Item::Text(text) => Some(shown(dialect, Payload::Text(text))?),
                Item::Binary(bytes) => Some(shown(dialect, Payload::Binary(bytes))?),
                Item::Close(frame) => return Err(Farewell::Answered(frame.map(|frame| frame.code))),
                Item::Ping(payload) => {
                    encode_frame(Opcode::Pong, payload, replies);
                    None
                }
                Item::Pong(_) => None,
            };
            if let Some(shown) = shown {
                return Ok(Some((shown, Bytes::copy_from_slice(frames.unread()))));
            }
            self.controls += 1;
            if self.controls > CONTROLS_MAX {
                return Err(Farewell::Sent(Disconnect::RateLimited, None));
            }
        }
        Ok(None)
    }
}

/// What a first message shows, if it is one.
fn shown(dialect: &dyn Dialect, payload: Payload<'_>) -> Result<Shown, Farewell> {
    match dialect.decode(payload) {
        Ok(Request { id, command: Command::Authenticate { token } }) => {
            Ok(Shown { request: id, token: token.reveal().to_owned() })
        }
        Ok(Request { id, .. }) => {
            let detail = "the first message shows who you are: send `auth` with a `token`";
            Err(sent_away(Refusal::new(ErrorCode::Unauthorized, detail).answering(id)))
        }
        Err(refusal) => Err(sent_away(refusal)),
    }
}

fn sent_away(refusal: Refusal) -> Farewell {
    Farewell::Sent(Disconnect::Unauthorized, Some(refusal))
}

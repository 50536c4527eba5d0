//! The accept loop: a task per HTTP connection, until it is upgraded, answered or too slow.
//!
//! Not `axum::serve`: headers have a time limit, a size limit and a count limit; the upgraded socket is taken out; and a
//! full descriptor table pauses accepting instead of spinning. Before HTTP come the PROXY protocol and TLS, where they are
//! configured, each in a task of its own and with a time limit: nothing that a client does or omits there keeps another
//! from being accepted. Nobody keeps a connection here without saying anything, or without listening: each request has a
//! time, and each address a number of connections.
//!
//! A plain connection whose [first request](super::first) asks for an upgrade goes to the hub without an HTTP library, and
//! without having been registered with the runtime.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream as Socket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{Either, TryFutureExt as _};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use outspoke_hub::{Admitted, ClientCertificate, Hub, SocketInHand, Unwrap};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tower_service::Service as _;

use super::doors::Entered;
use super::first::{self, Seen, Upgrade};
use super::listen::{Listener, Waiting};
use super::reload::Front;
use super::sender::{Trusted, proxied};
use super::tls::{Secured, Tls};
use crate::config::settings::Server;
use crate::http::Progress;
use crate::limits::RESERVED;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long accepting pauses when descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections accepted before those that came before get their turn.
const BATCH: usize = 32;

/// What an address is told that has too many connections, where it would understand that.
const CROWDED: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Bounds on a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderLimits {
    timeout: Duration,
    request_timeout: Duration,
    bytes_max: usize,
    fields_max: usize,
}

impl HeaderLimits {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            timeout: server.header_timeout,
            request_timeout: server.request_timeout,
            bytes_max: server.header_bytes_max,
            fields_max: server.headers_max,
        }
    }
}

/// Everything the loop needs.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) listener: Listener,
    pub(super) way: Way,
    pub(super) hub: Hub,
    pub(super) descriptors_max: usize,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) in_flight: InFlight,
}

/// Connections that speak HTTP at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

struct Ticket(InFlight);

impl InFlight {
    fn ticket(&self) -> Ticket {
        self.0.fetch_add(1, Ordering::AcqRel);
        Ticket(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until every request is answered. The caller sets the limit.
    pub(super) async fn all_answered(&self) {
        while self.count() > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Acceptor {
    /// Accepts until told to stop; then closes the listener. What is still being answered goes on.
    pub(super) async fn run(self) {
        let mut stopping = self.stopping.clone();
        loop {
            let full = self.is_full();
            tokio::select! {
                // Stopping goes first: a flood of connections must not keep the server from it.
                biased;
                () = told_to_stop(&mut stopping) => return,
                () = tokio::time::sleep(PAUSE), if full => {}
                waiting = self.listener.ready(), if !full => match waiting.and_then(|waiting| self.take(waiting)) {
                    // There may be more, and they may never end.
                    Ok(()) => tokio::task::yield_now().await,
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    /// Some descriptors stay free, so that health checks and refusals get through when the hub is full.
    fn is_full(&self) -> bool {
        let in_flight = self.in_flight.count();
        let open = self.hub.client_count() + in_flight;
        open + RESERVED as usize / 2 >= self.descriptors_max || in_flight >= self.way.front.doors.max()
    }

    /// Begins with those that wait, but not with all of many.
    fn take(&self, mut waiting: Waiting<'_>) -> io::Result<()> {
        for _ in 0..BATCH {
            match waiting.next()? {
                Some((socket, peer)) => self.begin(socket, peer, self.in_flight.ticket()),
                None => break,
            }
            if self.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn begin(&self, mut socket: Socket, peer: SocketAddr, ticket: Ticket) {
        // A trusted proxy comes for many; each of those it speaks for counts once that is known.
        let entered = match self.way.front.trusted.load().has(peer.ip()) {
            true => None,
            false => match self.way.front.doors.enter(peer.ip()) {
                Some(entered) => Some(entered),
                None => {
                    // Whether it gets that is its own affair: nobody waits for it.
                    let _ = socket.write(CROWDED);
                    return;
                }
            },
        };
        let limits = **self.way.front.limits.load();
        let conversation = Conversation { way: self.way.clone(), limits, entered, _ticket: ticket };
        tokio::spawn(conversation.hold(socket, peer, self.stopping.clone()));
    }

    async fn pause(&self, error: &io::Error) {
        // A connection that was gone before it was accepted is nobody's problem.
        if error.kind() != io::ErrorKind::ConnectionAborted {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What connections of a listener go through, and where to. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) front: Front,
    /// Connections begin with the PROXY protocol.
    pub(super) proxy_protocol: bool,
    /// Then comes TLS.
    pub(super) tls: Option<Tls>,
}

/// One connection, until it ends or is upgraded.
struct Conversation {
    way: Way,
    limits: HeaderLimits,
    /// Held for its drop: its place among those of its address.
    entered: Option<Entered>,
    _ticket: Ticket,
}

impl Conversation {
    async fn hold(self, socket: Socket, peer: SocketAddr, stopping: watch::Receiver<bool>) {
        let ended = if self.way.proxy_protocol || self.way.tls.is_some() {
            // Boxed, like all that a plain upgrade does not need: each connection begins as a task of this future's size.
            Box::pin(self.hold_introduced(socket, peer, stopping)).await
        } else {
            let sender = Sender { peer, secure: false, certificate: None };
            self.meet(socket, sender, stopping).await
        };
        if let Err(error) = ended {
            // A client's mistakes and absences are no news; the level is for whoever looks for one.
            tracing::debug!(error = %error_chain(&*error), "an HTTP connection ended early");
        }
    }

    async fn hold_introduced(
        mut self,
        socket: Socket,
        peer: SocketAddr,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), BoxError> {
        let stream = TcpStream::from_std(socket)?;
        let begun = tokio::select! {
            // What has not asked for anything yet is owed no answer.
            biased;
            () = told_to_stop(&mut stopping) => return Ok(()),
            begun = self.introduce(stream, peer) => begun?,
        };
        match begun {
            (Stream::Plain(stream), sender) => self.meet(stream.into_std()?, sender, stopping).await,
            (Stream::Tls(secured), sender) => {
                let Secured { stream, client } = *secured;
                let sender = Sender { secure: true, certificate: client, ..sender };
                let head_by = Instant::now() + self.limits.timeout;
                self.serve(stream, sender, stopping, head_by, None).await
            }
        }
    }

    /// Plain HTTP: looks whether the first request is for an upgrade.
    async fn meet(
        self,
        mut socket: Socket,
        sender: Sender,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), BoxError> {
        let head_by = Instant::now() + self.limits.timeout;
        let HeaderLimits { bytes_max, fields_max, .. } = self.limits;
        let mut seen = first::look(&socket, bytes_max, fields_max);
        if let Seen::Nothing = seen {
            let stream = TcpStream::from_std(socket)?;
            tokio::select! {
                // What has not asked for anything yet is owed no answer.
                biased;
                () = told_to_stop(&mut stopping) => return Ok(()),
                come = tokio::time::timeout_at(head_by, stream.readable()) => come??,
            }
            socket = stream.into_std()?;
            seen = first::look(&socket, bytes_max, fields_max);
        }
        match seen {
            Seen::Upgrade(upgrade) => self.upgrade(socket, upgrade, sender, stopping).await,
            Seen::Nothing | Seen::Other => {
                let stream = TcpStream::from_std(socket)?;
                Box::pin(self.serve(stream, sender, stopping, head_by, None)).await
            }
        }
    }

    /// Answers a request for an upgrade, of which nobody else knows yet.
    async fn upgrade(
        self,
        socket: Socket,
        upgrade: Upgrade,
        sender: Sender,
        stopping: watch::Receiver<bool>,
    ) -> Result<(), BoxError> {
        let (mut request, length) = upgrade.into_parts();
        sender.sign(&mut request, &self.way.front.trusted.load());
        request.extensions_mut().insert(SocketInHand);
        let answer = Router::clone(&self.way.front.routes.load()).call(request);
        let answer = tokio::time::timeout(self.limits.request_timeout, answer).await;
        let mut answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(never)) => match never {},
            Err(_) => too_late(),
        };
        match Admitted::of(&mut answer) {
            Some(admitted) => {
                Upgrade::take(&socket, length)?;
                admitted.attach(socket, answer.map(drop)).await?;
                Ok(())
            }
            // The HTTP library reads the request again, and finds it answered.
            None => {
                let stream = TcpStream::from_std(socket)?;
                // It is there, and was in time.
                let head_by = Instant::now() + self.limits.timeout;
                Box::pin(self.serve(stream, sender, stopping, head_by, Some(answer))).await
            }
        }
    }

    /// The steps before HTTP.
    async fn introduce(&mut self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<(Stream, Sender)> {
        let mut sender = Sender { peer, secure: false, certificate: None };
        if self.way.proxy_protocol {
            let trusted = self.way.front.trusted.load();
            let told = tokio::time::timeout(self.limits.timeout, proxied(&mut stream)).await;
            match told.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                Some(client) if trusted.has(peer.ip()) => {
                    let entered = self.way.front.doors.enter(client.ip());
                    self.entered = Some(entered.ok_or_else(|| {
                        io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections of this address")
                    })?);
                    sender.peer = client;
                }
                // A health check, of the proxy's or of this machine's own.
                None if trusted.has(peer.ip()) || peer.ip().to_canonical().is_loopback() => {}
                _ => return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a trusted proxy")),
            }
        }
        match &self.way.tls {
            None => Ok((Stream::Plain(stream), sender)),
            Some(tls) => Ok((Stream::Tls(Box::new(tls.accept(stream).await?)), sender)),
        }
    }

    /// Speaks HTTP. The head of the first request is there by `head_by`, or never; `answered`: what it is answered, if it has
    /// been judged before.
    async fn serve<S>(
        self,
        stream: S,
        sender: Sender,
        mut stopping: watch::Receiver<bool>,
        head_by: Instant,
        answered: Option<Response>,
    ) -> Result<(), BoxError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.timeout)
            // Who says that nothing more follows, right behind a request, still wants its answer.
            .half_close(true)
            .max_headers(self.limits.fields_max)
            .max_buf_size(self.limits.bytes_max);
        let (progress, moved) = Progress::begin();
        let answered = Cell::new(answered);
        let (way, limits, seen) = (&self.way, self.limits, moved.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            progress.moved();
            let upgrade = request.headers().contains_key(header::UPGRADE);
            let answered = answered.take().map(|answer| last_unless_upgraded(answer, upgrade));
            if let Some(answer) = answered {
                return Either::Left(std::future::ready(Ok(answer)));
            }
            sender.sign(&mut request, &way.front.trusted.load());
            request.extensions_mut().insert(Unwrap::of::<S>());
            request.extensions_mut().insert(progress.clone());
            // Those that hold now: the next request on the same connection may get others.
            let answer = Router::clone(&way.front.routes.load()).call(request);
            let answer = in_time(limits.request_timeout, seen.clone(), answer);
            Either::Right(answer.map_ok(move |answer| last_unless_upgraded(answer, upgrade)))
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = overdue(moved, self.limits.request_timeout + self.limits.timeout, head_by) => {
                tracing::debug!("an HTTP connection ended: its client neither sent nor read in time");
                return Ok(());
            }
        };
        Ok(ended?)
    }
}

/// Ends the connection with the answer to a request for an `upgrade` that is refused: what the client sends behind it is of
/// another protocol, or of somebody else's making.
fn last_unless_upgraded(mut answer: Response, upgrade: bool) -> Response {
    if upgrade && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// A connection that is ready for HTTP.
enum Stream {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

/// What is known of who sends the requests of a connection.
struct Sender {
    peer: SocketAddr,
    secure: bool,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Sender {
    /// Puts it into a request's extensions.
    fn sign<B>(&self, request: &mut Request<B>, trusted: &Trusted) {
        let (address, reached) = trusted.sender(self.peer.ip(), self.secure, request.headers());
        let same = address.ip() == self.peer.ip().to_canonical();
        // Nobody says the ports of clients behind proxies.
        let port = if same { self.peer.port() } else { 0 };
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(SocketAddr::new(address.ip(), port)));
        extensions.insert(address);
        extensions.insert(reached);
        if let Some(certificate) = &self.certificate {
            extensions.insert(ClientCertificate::clone(certificate));
        }
    }
}

/// An answer in time, or one that says that it took too long. Bytes of a file that came or went are time gained.
async fn in_time(
    timeout: Duration,
    mut moved: watch::Receiver<Instant>,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    let begun = *moved.borrow_and_update();
    tokio::select! {
        biased;
        answer = answer => answer,
        // Whatever is left of the request is not waited for.
        () = overdue(moved, timeout, begun + timeout) => Ok(too_late()),
    }
}

fn too_late() -> Response {
    (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response()
}

/// Ready when nothing has moved for so long: no request begun, nor bytes of a file. Between requests the header's time is
/// shorter, so a client that is here by then takes its time with a body, or with reading its answer.
///
/// `deadline`: until something has moved for the first time.
async fn overdue(mut moved: watch::Receiver<Instant>, patience: Duration, mut deadline: Instant) {
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return,
            // An error: nobody can begin another one; the deadline stays.
            Ok(()) = moved.changed() => deadline = *moved.borrow_and_update() + patience,
        }
    }
}

/// Ready when the server stops. Also when whoever could say so is gone, which is the same.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

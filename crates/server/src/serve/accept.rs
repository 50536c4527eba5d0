//! The accept loop: a task per HTTP connection, until it is upgraded, answered or too slow.
//!
//! Not `axum::serve`: headers have a time limit, a size limit and a count limit; the upgraded socket is taken out; and a
//! full descriptor table pauses accepting instead of spinning. Before HTTP come the PROXY protocol and TLS, where they are
//! configured, each in a task of its own and with a time limit: nothing that a client does or omits there keeps another
//! from being accepted. Nobody keeps a connection here without saying anything, or without listening: each request has a
//! time, and each address a number of connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use outspoke_hub::{ClientCertificate, Hub, Unwrap};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tower_service::Service as _;

use super::doors::Entered;
use super::reload::Front;
use super::sender::{Trusted, proxied};
use super::tls::{Secured, Tls};
use crate::config::settings::Server;
use crate::http::Progress;
use crate::limits::RESERVED;

/// How long accepting pauses when descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(20);

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
    pub(super) listener: TcpListener,
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
        let in_flight = &self.in_flight;
        let mut stopping = self.stopping.clone();
        loop {
            // Some descriptors stay free, so that health checks and refusals get through when the hub is full.
            let open = self.hub.client_count() + in_flight.count();
            let full = open + RESERVED as usize / 2 >= self.descriptors_max
                || in_flight.count() >= self.way.front.doors.max();
            tokio::select! {
                // Stopping goes first: a flood of connections must not keep the server from it.
                biased;
                () = told_to_stop(&mut stopping) => return,
                () = tokio::time::sleep(PAUSE), if full => {}
                accepted = self.listener.accept(), if !full => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer, in_flight.ticket()),
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) {
        // A trusted proxy comes for many; each of those it speaks for counts once that is known.
        let entered = match self.way.front.trusted.load().has(peer.ip()) {
            true => None,
            false => match self.way.front.doors.enter(peer.ip()) {
                Some(entered) => Some(entered),
                None => {
                    // Whether it gets that is its own affair: nobody waits for it.
                    let _ = stream.try_write(CROWDED);
                    return;
                }
            },
        };
        let limits = **self.way.front.limits.load();
        let conversation = Conversation { way: self.way.clone(), limits, entered, _ticket: ticket };
        tokio::spawn(conversation.hold(stream, peer, self.stopping.clone()));
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
    async fn hold(mut self, stream: TcpStream, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
        let ended = tokio::select! {
            // What has not asked for anything yet is owed no answer.
            biased;
            () = told_to_stop(&mut stopping) => return,
            begun = self.introduce(stream, peer) => begun,
        };
        let ended = match ended {
            Ok((Stream::Plain(stream), sender)) => self.serve(stream, sender, stopping).await,
            Ok((Stream::Tls(secured), sender)) => {
                let Secured { stream, client } = *secured;
                let sender = Sender { secure: true, certificate: client, ..sender };
                self.serve(stream, sender, stopping).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            // A client's mistakes and absences are no news; the level is for whoever looks for one.
            tracing::debug!(error = %error_chain(&*error), "an HTTP connection ended early");
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

    /// Speaks HTTP.
    async fn serve<S>(
        self,
        stream: S,
        sender: Sender,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.timeout)
            .max_headers(self.limits.fields_max)
            .max_buf_size(self.limits.bytes_max);
        let (progress, moved) = Progress::begin();
        let service = service_fn(|mut request: Request<Incoming>| {
            progress.moved();
            sender.sign(&mut request, &self.way.front.trusted.load());
            request.extensions_mut().insert(Unwrap::of::<S>());
            request.extensions_mut().insert(progress.clone());
            // Those that hold now: the next request on the same connection may get others.
            let answer = Router::clone(&self.way.front.routes.load()).call(request);
            in_time(self.limits.request_timeout, moved.clone(), answer)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = overdue(moved.clone(), self.limits.request_timeout + self.limits.timeout) => {
                tracing::debug!("an HTTP connection ended: its client neither sent nor read in time");
                return Ok(());
            }
        };
        Ok(ended?)
    }
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
    fn sign(&self, request: &mut Request<Incoming>, trusted: &Trusted) {
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
    moved: watch::Receiver<Instant>,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    tokio::select! {
        biased;
        answer = answer => answer,
        // Whatever is left of the request is not waited for.
        () = overdue(moved, timeout) => {
            Ok((StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response())
        }
    }
}

/// Ready when nothing has moved for so long: no request begun, nor bytes of a file. Between requests the header's time is
/// shorter, so a client that is here by then takes its time with a body, or with reading its answer.
async fn overdue(mut moved: watch::Receiver<Instant>, patience: Duration) {
    loop {
        let deadline = *moved.borrow_and_update() + patience;
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return,
            // An error: nobody can begin another one; the deadline stays.
            Ok(()) = moved.changed() => {}
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

//! The accept loop: a task per HTTP connection, until it is upgraded, answered or too slow.
//!
//! Not `axum::serve`: headers have a time limit, a size limit and a count limit; the upgraded socket must be plain
//! to be taken out; and a full descriptor table pauses accepting instead of spinning. Nobody keeps a connection here without
//! saying anything, or without listening: each request has a time, and each address a number of connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use outspoke_hub::{ClientAddress, Hub};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tower_service::Service as _;

use super::doors::Entered;
use super::reload::Front;
use crate::config::settings::Server;
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
    pub(super) front: Front,
    pub(super) hub: Hub,
    pub(super) descriptors_max: usize,
    pub(super) stopping: watch::Receiver<bool>,
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
    /// Accepts until told to stop; then closes the listener and gives what is still being answered.
    pub(super) async fn run(self) -> InFlight {
        let in_flight = InFlight::default();
        let mut stopping = self.stopping.clone();
        loop {
            // Some descriptors stay free, so that health checks and refusals get through when the hub is full.
            let open = self.hub.client_count() + in_flight.count();
            let full = open + RESERVED as usize / 2 >= self.descriptors_max
                || in_flight.count() >= self.front.doors.max();
            tokio::select! {
                // Stopping goes first: a flood of connections must not keep the server from it.
                biased;
                () = told_to_stop(&mut stopping) => return in_flight,
                () = tokio::time::sleep(PAUSE), if full => {}
                accepted = self.listener.accept(), if !full => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer, in_flight.ticket()),
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) {
        let Some(entered) = self.front.doors.enter(peer.ip()) else {
            // Whether it gets that is its own affair: nobody waits for it.
            let _ = stream.try_write(CROWDED);
            return;
        };
        let (routes, limits) = (Arc::clone(&self.front.routes), **self.front.limits.load());
        tokio::spawn(converse(stream, peer, routes, limits, self.stopping.clone(), (ticket, entered)));
    }

    async fn pause(&self, error: &std::io::Error) {
        // A connection that was gone before it was accepted is nobody's problem.
        if error.kind() != std::io::ErrorKind::ConnectionAborted {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Speaks HTTP on one connection until it ends or is upgraded.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Arc<ArcSwap<Router>>,
    limits: HeaderLimits,
    mut stopping: watch::Receiver<bool>,
    ticket: (Ticket, Entered),
) {
    let _ticket = ticket;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.timeout)
        .max_headers(limits.fields_max)
        .max_buf_size(limits.bytes_max);
    let (begins, last_began) = watch::channel(Instant::now());
    let service = service_fn(move |mut request: Request<Incoming>| {
        begins.send_replace(Instant::now());
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(ClientAddress::new(peer.ip()));
        // Those that hold now: the next request on the same connection may get others.
        in_time(limits.request_timeout, Router::clone(&routes.load()).call(request))
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection.with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = overdue(last_began, limits.request_timeout + limits.timeout) => {
            tracing::debug!("an HTTP connection ended: its client neither sent nor read in time");
            return;
        }
    };
    if let Err(error) = ended {
        // A client's mistakes and absences are no news; the level is for whoever looks for one.
        tracing::debug!(error = %error_chain(&error), "an HTTP connection ended early");
    }
}

/// An answer in time, or one that says that it took too long.
async fn in_time(
    timeout: Duration,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        // Whatever is left of the request is not waited for.
        Err(_) => Ok((StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response()),
    }
}

/// Ready when no request has begun for so long. Between requests the header's time is shorter, so a client that is here by
/// then takes its time with a body, or with reading its answer.
async fn overdue(mut last_began: watch::Receiver<Instant>, patience: Duration) {
    loop {
        let deadline = *last_began.borrow_and_update() + patience;
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return,
            // An error: nobody can begin another one; the deadline stays.
            Ok(()) = last_began.changed() => {}
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

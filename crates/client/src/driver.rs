//! The client's own task: connects, keeps the connection, comes back.
//!
//! One loop per client. It owns the socket and all waiting; what frames mean is the core's. It ends when the client is
//! closed, when the last handle is gone, or when coming back would end the same way.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use outspoke_websocket::{CloseCode, Random};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::builder::elsewhere_from;
use crate::core::outbox::Frame;
use crate::core::wire::{Head, Welcome};
use crate::core::{Ending, Heard, Out};
use crate::error::{Error, Refusal};
use crate::shared::Shared;
use crate::socket::{Received, Request, Socket};
use crate::state::{Cause, ConnectionState, Session};
use crate::token::{TokenError, TokenReason};

/// The native dialect; with bytes as they are, where the server can.
const PROTOCOLS: [&str; 2] = ["outspoke.v1.binary", "outspoke.v1"];
/// How long the server may take to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long after a failure the token provider is asked again while the old credential holds.
const TOKEN_AGAIN: Duration = Duration::from_secs(5);

/// Why a session ended.
enum End {
    /// The connection is gone.
    Lost(Error),
    /// The client ends; the server was told.
    Done,
}

/// Runs a client to its end.
pub(crate) async fn run(shared: Arc<Shared>) {
    let error = Driver::new(&shared).run().await;
    let unsent = shared.with(|core| {
        let unsent = core.outbox.publishes();
        core.end(&error.clone().unwrap_or(Error::Closed));
        unsent
    });
    let error = match error {
        None if unsent > 0 => Some(Error::Unsent { messages: unsent }),
        error => error,
    };
    shared.state.send_replace(ConnectionState::Closed { error });
    shared.space.notify_waiters();
}

struct Driver<'a> {
    shared: &'a Shared,
    /// Failures in a row; an unstable connection is one.
    failures: u32,
    ever_online: bool,
    /// The next token is for this.
    why: TokenReason,
}

impl<'a> Driver<'a> {
    const fn new(shared: &'a Shared) -> Self {
        Self { shared, failures: 0, ever_online: false, why: TokenReason::Connect }
    }

    /// Until the client ends; with the error that ended it, if it was one.
    async fn run(mut self) -> Option<Error> {
        loop {
            if self.idle().await {
                return None;
            }
            let attempt = self.failures;
            self.shared.state.send_replace(ConnectionState::Connecting { attempt });
            let error = match self.unless_ended(self.connect()).await {
                None => return None,
                Some(Err(error)) => error,
                Some(Ok((socket, welcome))) => {
                    let since = Instant::now();
                    let end = self.session(socket, &welcome, since).await;
                    self.shared.with(crate::core::Core::disconnected);
                    if since.elapsed() >= self.shared.config.backoff.stability() {
                        self.failures = 0;
                    }
                    match end {
                        End::Done => return None,
                        End::Lost(error) => error,
                    }
                }
            };
            tracing::debug!(%error, "the connection is gone");
            if let Err(end) = self.judge(&error) {
                return Some(end);
            }
            let strict = self.shared.with(|core| core.strict);
            if strict && !self.ever_online && self.why == TokenReason::Connect {
                return Some(error);
            }
            if self.stay_away(error).await {
                return None;
            }
        }
    }

    /// Waits until there is something to connect for. Returns whether the client has ended instead.
    async fn idle(&self) -> bool {
        loop {
            let (wanted, ended) = self.shared.with(|core| (core.wanted, is_over(core)));
            if ended || wanted {
                return ended;
            }
            self.shared.bell.notified().await;
        }
    }

    /// Does something for as long as the client has not ended.
    async fn unless_ended<T>(&self, act: impl Future<Output = T>) -> Option<T> {
        let ended = async {
            loop {
                // Messages become too old meanwhile as well, and others wait for their room.
                let (ended, deadline) = self.shared.with(|core| {
                    let now = Instant::now();
                    core.outbox.expire(now);
                    let flush = match core.ending {
                        Some(Ending::Flush(until)) => Some(until),
                        _ => None,
                    };
                    (is_over(core), [flush, core.outbox.deadline(now)].into_iter().flatten().min())
                });
                if ended {
                    return;
                }
                tokio::select! {
                    () = self.shared.bell.notified() => {}
                    () = until(deadline) => {}
                }
            }
        };
        tokio::select! {
            biased;
            result = act => Some(result),
            () = ended => None,
        }
    }

    async fn connect(&self) -> Result<(Socket, Welcome), Error> {
        let config = &self.shared.config;
        // Who makes tokens has its own time limits, and may ask a person.
        let token = config.token.token(self.why).await.map_err(|error| Error::Token(Arc::from(error)))?;
        let headers = with_token(&config.headers, token.as_deref())?;
        // Once: whether that worked or not, the attempt after it goes where the application says.
        let elsewhere = self.shared.with(|core| core.elsewhere.take());
        let elsewhere = elsewhere.and_then(|url| elsewhere_from(&config.url, &url));
        let url = elsewhere.as_ref().unwrap_or(&config.url);
        let attempt = async {
            let stream = config.dialer.dial(url).await.map_err(Error::lost)?;
            let request = Request {
                url,
                headers: &headers,
                protocols: &PROTOCOLS,
                compression: config.compression,
                message_bytes_max: config.message_bytes_max,
            };
            let mut socket = Socket::open(stream, &request, Random::new()).await?;
            let welcome = welcomed(&mut socket).await?;
            Ok((socket, welcome))
        };
        let late = || Error::lost(std::io::ErrorKind::TimedOut.into());
        timeout(config.connect_timeout, attempt).await.unwrap_or_else(|_| Err(late()))
    }

    /// Whether to come back after this, and with which token.
    fn judge(&mut self, error: &Error) -> Result<(), Error> {
        let config = &self.shared.config;
        // A token that was accepted and has ended is no reason to doubt the next.
        let renews = config.token.can_renew() && refuses_the_token(error);
        if renews && self.why != TokenReason::Rejected {
            self.why = TokenReason::Rejected;
        } else if renews || !comes_back_after(error, self.ever_online) {
            return Err(error.clone());
        }
        self.failures += 1;
        if config.backoff.gives_up_after(self.failures) {
            return Err(Error::GaveUp(Box::new(error.clone())));
        }
        Ok(())
    }

    /// Waits for the next attempt. Returns whether the client has ended meanwhile.
    async fn stay_away(&self, error: Error) -> bool {
        let config = &self.shared.config;
        let told = match &error {
            Error::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        };
        let (random, away, queued) =
            self.shared.with(|core| (core.random(), core.away.take(), core.outbox.publishes()));
        // What the server names is the least; on top of it everybody comes at a time of their own.
        let delay = told.unwrap_or_default() + config.backoff.delay(self.failures - 1, away, random);
        let retry_at = Instant::now() + delay;
        self.shared.state.send_replace(ConnectionState::Offline {
            cause: Cause::of(&error),
            error,
            attempt: self.failures,
            retry_at,
            queued,
        });
        let wait = async {
            loop {
                if self.shared.with(|core| std::mem::take(&mut core.retry_now)) {
                    return;
                }
                // Whoever waits for the outbox's room must hear of messages that expire while there is no connection.
                let deadline = self.shared.with(|core| {
                    core.outbox.expire(Instant::now());
                    core.outbox.deadline(Instant::now()).map_or(retry_at, |deadline| deadline.min(retry_at))
                });
                if Instant::now() >= retry_at {
                    return;
                }
                let _ = timeout_at(deadline, self.shared.bell.notified()).await;
                if self.shared.with(|core| is_over(core)) {
                    return;
                }
            }
        };
        wait.await;
        self.shared.with(|core| is_over(core))
    }

    /// Keeps a connection until it ends.
    async fn session(&mut self, mut socket: Socket, welcome: &Welcome, since: Instant) -> End {
        let binary = socket.protocol() == Some(PROTOCOLS[0]);
        self.shared.with(|core| {
            core.connected(welcome, binary, since);
            core.retry_now = false;
        });
        self.shared.state.send_replace(ConnectionState::Online(Session {
            client: welcome.client_id.as_str().into(),
            user: welcome.user_id.as_str().into(),
            username: welcome.username.as_str().into(),
            since,
            resumed: self.ever_online,
            rtt: None,
            node: welcome.node.as_ref().map(|node| node.name.as_str().into()),
            open_mode: welcome.open_mode,
        }));
        self.ever_online = true;
        self.why = TokenReason::Connect;
        match self.converse(&mut socket).await {
            Ok(()) => {
                socket.queue_close(CloseCode::NORMAL, "");
                let _ = timeout(GOODBYE, socket.until_closed()).await;
                End::Done
            }
            Err(error) => {
                if matches!(error, Error::Refused(_)) {
                    // A second token in a row that was shown over this connection.
                    self.why = TokenReason::Rejected;
                }
                // The answer to a close frame, or the reason why we go.
                let _ = timeout(GOODBYE, socket.flush()).await;
                End::Lost(error)
            }
        }
    }

    /// Sends and receives; `Ok` when the client has ended.
    async fn converse(&self, socket: &mut Socket) -> Result<(), Error> {
        let mut renewal: Option<Renewal> = None;
        let mut pinged: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let (over, deadline) = self.shared.with(|core| {
                core.tick(now)?;
                while socket.has_room()
                    && let Some(out) = core.next_frame(now)
                {
                    match out {
                        Out::Frame(Frame::Text(text)) => socket.queue_text(&text),
                        Out::Frame(Frame::Binary(bytes)) => socket.queue_binary(&bytes),
                        Out::Ping => {
                            pinged = Some(now);
                            socket.queue_ping();
                        }
                    }
                }
                if renewal.is_none() && core.wants_token(now) {
                    renewal = Some(self.renew(TokenReason::Expiring));
                }
                Ok::<_, Error>((is_over(core), core.deadline(now)))
            })?;
            if over {
                return Ok(());
            }
            tokio::select! {
                // What came is worked off before more is sent: an answer may free what waits.
                biased;
                received = socket.next() => self.receive(socket, received?, &mut renewal, &mut pinged)?,
                (second, token) = renewed(&mut renewal) => {
                    renewal = None;
                    self.show(token, second);
                }
                () = self.shared.bell.notified() => {}
                () = until(deadline) => {}
            }
        }
    }

    /// Takes in what came, and what has come behind it.
    fn receive(
        &self,
        socket: &mut Socket,
        first: Received,
        renewal: &mut Option<Renewal>,
        pinged: &mut Option<Instant>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let mut next = Some(first);
        self.shared.with(|core| {
            core.heard(now);
            while let Some(received) = next {
                match received {
                    Received::Text(text) => match core.text(text, now)? {
                        Heard::Nothing => {}
                        Heard::Pong(rtt) => self.measured(rtt),
                        Heard::TokenRefused => *renewal = Some(self.renew(TokenReason::Rejected)),
                    },
                    Received::Binary(bytes) => core.binary(&bytes),
                    Received::Ping => {}
                    Received::Pong => {
                        if let Some(pinged) = pinged.take() {
                            self.measured(now - pinged);
                        }
                    }
                    Received::Close { code, reason } => {
                        return Err(Error::Disconnected {
                            code: code.unwrap_or(1005),
                            reason: reason.into(),
                        });
                    }
                }
                next = socket.pop();
            }
            Ok(())
        })
    }

    fn measured(&self, rtt: Duration) {
        self.shared.state.send_if_modified(|state| match state {
            ConnectionState::Online(session) => {
                session.rtt = Some(rtt);
                true
            }
            _ => false,
        });
    }

    /// Asks for a token while the connection goes on.
    fn renew(&self, why: TokenReason) -> Renewal {
        let source = self.shared.config.token.clone();
        let second = why == TokenReason::Rejected;
        Box::pin(async move { (second, source.token(why).await) })
    }

    fn show(&self, token: Result<Option<String>, TokenError>, second: bool) {
        self.shared.with(|core| match token {
            Ok(Some(token)) => core.show_token(&token, second),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "no fresh token; the old one holds until it ends");
                core.token_failed(Instant::now() + TOKEN_AGAIN);
            }
        });
    }
}

type Renewal = Pin<Box<dyn Future<Output = (bool, Result<Option<String>, TokenError>)> + Send>>;

async fn renewed(renewal: &mut Option<Renewal>) -> (bool, Result<Option<String>, TokenError>) {
    match renewal {
        Some(renewal) => renewal.await,
        None => pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Whether a client that is to end has nothing left to wait for.
fn is_over(core: &crate::core::Core) -> bool {
    match core.ending {
        None => false,
        Some(Ending::Now) => true,
        Some(Ending::Flush(until)) => core.outbox.is_empty() || Instant::now() >= until,
    }
}

/// Whether another token may be accepted where this one was not.
fn refuses_the_token(error: &Error) -> bool {
    match error {
        Error::Rejected { status, .. } => matches!(status, 401 | 403),
        Error::Disconnected { code, .. } => *code == 4504,
        // Before the welcome; in a session the second refusal is the end.
        Error::Refused(refusal) => matches!(refusal.code, 130 | 133),
        _ => false,
    }
}

/// Whether another attempt may end differently.
fn comes_back_after(error: &Error, ever_online: bool) -> bool {
    let elsewhere = match error {
        // It was the right place before: this is a proxy without its server.
        Error::Rejected { status, .. } => !matches!(status, 400 | 401 | 403),
        Error::Handshake(_) => true,
        _ => false,
    };
    error.is_retryable() || (ever_online && elsewhere)
}

fn with_token(headers: &HeaderMap, token: Option<&str>) -> Result<HeaderMap, Error> {
    let mut headers = headers.clone();
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value =
            value.map_err(|_| Error::invalid("the token has characters that no header may have"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Waits for the first frame, which says who we are.
async fn welcomed(socket: &mut Socket) -> Result<Welcome, Error> {
    let mut refused = None;
    loop {
        let text = match socket.next().await? {
            Received::Text(text) => text,
            Received::Close { code, reason } => {
                let _ = socket.flush().await;
                let code = code.unwrap_or(1005);
                return Err(refused.unwrap_or(Error::Disconnected { code, reason: reason.into() }));
            }
            _ => continue,
        };
        let kind = serde_json::from_str::<Head<'_>>(&text).map(|head| head.kind.into_owned());
        match kind.as_deref() {
            Ok("welcome") => {
                return serde_json::from_str(&text)
                    .map_err(|error| Error::Protocol(format!("its welcome: {error}").into()));
            }
            Ok("error") => {
                refused = Refusal::parse(text.as_bytes()).map(|refusal| Error::Refused(Box::new(refusal)));
            }
            // Nothing else counts before the welcome.
            _ => {}
        }
    }
}

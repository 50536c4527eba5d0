//! Raw frames over a connection that comes back, against any WebSocket server.
//!
//! Beside [`Client`](crate::Client), and without its knowledge of rooms: texts and bytes, callbacks, a back-off. Nothing is
//! kept over a loss of connection: what was not sent has failed, and who sent it knows.
//!
//! ```no_run
//! # async fn example() -> Result<(), outspoke_client::Error> {
//! use outspoke_client::reconnecting::{Frame, ReconnectingClient};
//!
//! let client = ReconnectingClient::builder("wss://echo.example.com/")
//!     .on_connect(|| println!("here"))
//!     .on_message(|frame| println!("{frame:?}"))
//!     .build()?;
//! let sender = client.clone();
//! tokio::spawn(async move { sender.send("hello").await });
//! client.connect().await // until `close`, or out of retries
//! # }
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use outspoke_websocket::{CloseCode, Random};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::builder::header_map;
use crate::dialer::{Dialer, Tcp};
use crate::error::Error;
use crate::socket::{Received, Request, Socket, Step};

/// Frames that may wait for the network; more wait with their senders.
const QUEUE: usize = 64;
/// How long the server may take to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where a [`ReconnectingClient`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There is no connection: not yet, not any more, or not now.
    Disconnected,
    /// A connection is being made.
    Connecting,
    /// Frames can be sent.
    Connected,
}

/// A message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl From<&str> for Frame {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

type OnConnect = dyn Fn() + Send + Sync;
type OnDisconnect = dyn Fn(&Error) + Send + Sync;
type OnReconnect = dyn Fn(u32) + Send + Sync;
type OnMessage = dyn Fn(Frame) + Send + Sync;

#[derive(Default)]
struct Callbacks {
    connect: Option<Box<OnConnect>>,
    disconnect: Option<Box<OnDisconnect>>,
    reconnect: Option<Box<OnReconnect>>,
    message: Option<Box<OnMessage>>,
}

/// Options of a [`ReconnectingClient`]; every one but the address has a default.
///
/// Callbacks run in the task that has called [`connect`](ReconnectingClient::connect), in the order of what they tell of.
/// They must not block; they may call the client.
#[must_use = "a builder makes a client with `build`"]
pub struct Builder {
    url: String,
    headers: Vec<(String, String)>,
    initial_backoff: Duration,
    max_backoff: Duration,
    multiplier: f64,
    max_retries: Option<u32>,
    jitter: bool,
    ping_interval: Duration,
    connect_timeout: Duration,
    message_bytes_max: usize,
    dialer: Arc<dyn Dialer>,
    callbacks: Callbacks,
    seed: Option<u64>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses and headers may hold secrets.
        f.debug_struct("Builder").field("max_retries", &self.max_retries).finish_non_exhaustive()
    }
}

impl Builder {
    /// The first limit of the wait between attempts: 1 s by default.
    pub fn initial_backoff(mut self, wait: Duration) -> Self {
        self.initial_backoff = wait;
        self
    }

    /// The highest limit: 30 s by default.
    pub fn max_backoff(mut self, wait: Duration) -> Self {
        self.max_backoff = wait;
        self
    }

    /// How the limit grows with every failure in a row: 2.0 by default.
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// Gives up after so many failed attempts in a row that were not the first. By default, never.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// Whether a wait is a random time below its limit (yes by default), or exactly its limit.
    pub fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// How connections come about, instead of [`Tcp`].
    pub fn dialer(mut self, dialer: impl Dialer) -> Self {
        self.dialer = Arc::new(dialer);
        self
    }

    /// A header of the handshake.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// After so much silence the server is pinged, and after as much again the connection is given up: 30 s by default,
    /// zero for never.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// How long an attempt may take: 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest message taken from the server: 16 MiB by default. A longer one ends the connection.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Called when there is a connection for the first time.
    pub fn on_connect(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.callbacks.connect = Some(Box::new(call));
        self
    }

    /// Called when a connection was lost or closed, with the reason. Attempts that fail are not told.
    pub fn on_disconnect(mut self, call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.callbacks.disconnect = Some(Box::new(call));
        self
    }

    /// Called when there is a connection again, with the number of attempts that it took.
    pub fn on_reconnect(mut self, call: impl Fn(u32) + Send + Sync + 'static) -> Self {
        self.callbacks.reconnect = Some(Box::new(call));
        self
    }

    /// Called with every message.
    pub fn on_message(mut self, call: impl Fn(Frame) + Send + Sync + 'static) -> Self {
        self.callbacks.message = Some(Box::new(call));
        self
    }

    /// Makes waits repeatable, for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A client that waits for [`connect`](ReconnectingClient::connect).
    ///
    /// # Errors
    /// The address or a header cannot be used.
    pub fn build(self) -> Result<ReconnectingClient, Error> {
        let invalid = || Error::invalid("the address must be ws:// or wss:// with a host");
        let url: Uri = self.url.parse().map_err(|_| invalid())?;
        if !matches!(url.scheme_str(), Some("ws" | "wss")) || url.host().is_none_or(str::is_empty) {
            return Err(invalid());
        }
        let mut backoff = Backoff::full_jitter(self.initial_backoff..=self.max_backoff)
            .multiplier(self.multiplier)
            .jitter(self.jitter);
        if let Some(retries) = self.max_retries {
            backoff = backoff.attempts_max(retries);
        }
        let random = self.seed.map_or_else(Random::new, Random::seeded);
        let shared = Shared {
            headers: header_map(&self.headers)?,
            url,
            backoff,
            ping_interval: self.ping_interval,
            connect_timeout: self.connect_timeout,
            message_bytes_max: self.message_bytes_max,
            dialer: self.dialer,
            callbacks: self.callbacks,
            random: Mutex::new(random),
            state: watch::Sender::new(State::Disconnected),
            outgoing: Mutex::new(None),
            running: Mutex::new(false),
            closed: watch::Sender::new(false),
        };
        Ok(ReconnectingClient { shared: Arc::new(shared) })
    }
}

struct Shared {
    url: Uri,
    headers: HeaderMap,
    backoff: Backoff,
    ping_interval: Duration,
    connect_timeout: Duration,
    message_bytes_max: usize,
    dialer: Arc<dyn Dialer>,
    callbacks: Callbacks,
    random: Mutex<Random>,
    state: watch::Sender<State>,
    /// The way into the present connection.
    outgoing: Mutex<Option<mpsc::Sender<Outgoing>>>,
    running: Mutex<bool>,
    closed: watch::Sender<bool>,
}

struct Outgoing {
    frame: Frame,
    written: oneshot::Sender<()>,
}

/// A connection of raw frames that comes back by itself.
///
/// Clones are handles of the same connection. [`connect`](Self::connect) is where everything happens; the other methods may
/// be called from any thread at any time.
#[derive(Clone)]
pub struct ReconnectingClient {
    shared: Arc<Shared>,
}

impl fmt::Debug for ReconnectingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingClient").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl ReconnectingClient {
    /// Options for a client of the server at `url`.
    pub fn builder(url: &str) -> Builder {
        Builder {
            url: url.to_owned(),
            headers: Vec::new(),
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            multiplier: 2.0,
            max_retries: None,
            jitter: true,
            ping_interval: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            message_bytes_max: 16 * 1024 * 1024,
            dialer: Arc::new(Tcp::new()),
            callbacks: Callbacks::default(),
            seed: None,
        }
    }

    /// Connects, and comes back after every loss, until [`close`](Self::close) is called.
    ///
    /// # Errors
    /// The last attempt's, once the retries are used up; at once, if the client is connected already by another call.
    ///
    /// *Cancel safety*: dropping the future ends the connection without a close frame; calling it again begins anew.
    pub async fn connect(&self) -> Result<(), Error> {
        let shared = &*self.shared;
        let _running = Running::begin(shared)?;
        let mut closed = shared.closed.subscribe();
        tokio::select! {
            biased;
            result = shared.run() => result,
            // `run` sees it too, and says goodbye; this ends its waits and attempts.
            () = wait_until_idle_and_closed(&mut closed, shared) => Ok(()),
        }
    }

    /// Sends a frame, and waits until the network has it.
    ///
    /// # Errors
    /// There is no connection, or it broke before the frame was written: [`Error::NotConnected`]. Whether the server got a
    /// frame is only known if it answers.
    ///
    /// *Cancel safety*: the frame may be sent.
    pub async fn send(&self, frame: impl Into<Frame>) -> Result<(), Error> {
        let outgoing = self.outgoing()?;
        let (written, done) = oneshot::channel();
        let frame = Outgoing { frame: frame.into(), written };
        outgoing.send(frame).await.map_err(|_| Error::NotConnected)?;
        done.await.map_err(|_| Error::NotConnected)
    }

    /// Sends a frame without waiting: for callbacks, and for code that is not async.
    ///
    /// # Errors
    /// There is no connection, or as many frames wait for it as may ([`Error::OutboxFull`]).
    pub fn try_send(&self, frame: impl Into<Frame>) -> Result<(), Error> {
        let outgoing = self.outgoing()?;
        let (written, _) = oneshot::channel();
        outgoing.try_send(Outgoing { frame: frame.into(), written }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::OutboxFull { queued: QUEUE },
            mpsc::error::TrySendError::Closed(_) => Error::NotConnected,
        })
    }

    fn outgoing(&self) -> Result<mpsc::Sender<Outgoing>, Error> {
        let outgoing = self.shared.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        outgoing.clone().ok_or(Error::NotConnected)
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> State {
        *self.shared.state.borrow()
    }

    /// The same, now and from now on.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Closes the connection, and with it [`connect`](Self::connect), which must be called anew to come back.
    /// Harmless if there is none.
    pub fn close(&self) {
        if *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner) {
            self.shared.closed.send_replace(true);
        }
    }
}

/// Resolves when the client is to close.
async fn until_told(closed: &mut watch::Receiver<bool>) {
    // The sender lives as long as the client.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// Resolves when the client is closed while no connection is there to be closed in good order.
async fn wait_until_idle_and_closed(closed: &mut watch::Receiver<bool>, shared: &Shared) {
    let mut states = shared.state.subscribe();
    until_told(closed).await;
    let _ = states.wait_for(|state| *state != State::Connected).await;
}

/// One call of `connect` at a time; whatever ends it, the state says so.
struct Running<'a> {
    shared: &'a Shared,
}

impl<'a> Running<'a> {
    fn begin(shared: &'a Shared) -> Result<Self, Error> {
        let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if *running {
            return Err(Error::invalid("the client is connected already, by another call of `connect`"));
        }
        *running = true;
        shared.closed.send_replace(false);
        Ok(Self { shared })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.set_outgoing(None);
        self.shared.state.send_replace(State::Disconnected);
        *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Shared {
    fn set_outgoing(&self, outgoing: Option<mpsc::Sender<Outgoing>>) {
        *self.outgoing.lock().unwrap_or_else(PoisonError::into_inner) = outgoing;
    }

    async fn run(&self) -> Result<(), Error> {
        let (mut ever, mut failures) = (false, 0);
        loop {
            self.state.send_replace(State::Connecting);
            let error = match self.open().await {
                Ok(socket) => {
                    let (outgoing, frames) = mpsc::channel(QUEUE);
                    self.set_outgoing(Some(outgoing));
                    self.state.send_replace(State::Connected);
                    match (&self.callbacks.connect, &self.callbacks.reconnect) {
                        (Some(connect), _) if !ever => connect(),
                        (_, Some(reconnect)) if ever => reconnect(failures),
                        _ => {}
                    }
                    (ever, failures) = (true, 0);
                    let end = self.keep(socket, frames).await;
                    self.set_outgoing(None);
                    let closed = end.is_ok();
                    let error = end.err().unwrap_or(Error::Closed);
                    if let Some(disconnect) = &self.callbacks.disconnect {
                        disconnect(&error);
                    }
                    self.state.send_replace(State::Disconnected);
                    if closed {
                        return Ok(());
                    }
                    error
                }
                Err(error) => {
                    self.state.send_replace(State::Disconnected);
                    error
                }
            };
            failures += 1;
            if self.backoff.gives_up_after(failures) {
                return Err(error);
            }
            let random = self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
            sleep(self.backoff.delay(failures - 1, None, random)).await;
        }
    }

    async fn open(&self) -> Result<Socket, Error> {
        let attempt = async {
            let stream = self.dialer.dial(&self.url).await.map_err(Error::lost)?;
            let request = Request {
                url: &self.url,
                headers: &self.headers,
                protocols: &[],
                compression: true,
                message_bytes_max: self.message_bytes_max,
            };
            Socket::open(stream, &request, Random::new()).await
        };
        let late = || Err(Error::lost(std::io::ErrorKind::TimedOut.into()));
        timeout(self.connect_timeout, attempt).await.unwrap_or_else(|_| late())
    }

    /// Keeps a connection; `Ok` when the client was closed.
    async fn keep(&self, mut socket: Socket, mut frames: mpsc::Receiver<Outgoing>) -> Result<(), Error> {
        let mut closed = self.closed.subscribe();
        let mut heard = Instant::now();
        let mut pinged = false;
        // Who waits for their frame to be written.
        let mut writing = Vec::new();
        loop {
            let silent = heard + if pinged { self.ping_interval * 2 } else { self.ping_interval };
            tokio::select! {
                biased;
                step = socket.step() => match step? {
                    Step::Written => writing.drain(..).for_each(|written: oneshot::Sender<()>| {
                        // Who does not wait any more need not know.
                        let _ = written.send(());
                    }),
                    Step::Received(received) => {
                        (heard, pinged) = (Instant::now(), false);
                        self.receive(&mut socket, received).await?;
                    }
                },
                Some(Outgoing { frame, written }) = frames.recv(), if socket.has_room() => {
                    match frame {
                        Frame::Text(text) => socket.queue_text(&text),
                        Frame::Binary(bytes) => socket.queue_binary(&bytes),
                    }
                    writing.push(written);
                }
                () = until_told(&mut closed) => {
                    socket.queue_close(CloseCode::NORMAL, "");
                    let _ = timeout(GOODBYE, socket.until_closed()).await;
                    return Ok(());
                }
                () = sleep_until(silent), if !self.ping_interval.is_zero() => {
                    if pinged {
                        return Err(Error::Silent);
                    }
                    pinged = true;
                    socket.queue_ping();
                }
            }
        }
    }

    async fn receive(&self, socket: &mut Socket, received: Received) -> Result<(), Error> {
        let frame = match received {
            Received::Text(text) => Frame::Text(text),
            Received::Binary(bytes) => Frame::Binary(bytes),
            Received::Ping | Received::Pong => return Ok(()),
            Received::Close { code, reason } => {
                let _ = timeout(GOODBYE, socket.flush()).await;
                return Err(Error::Disconnected { code: code.unwrap_or(1005), reason: reason.into() });
            }
        };
        if let Some(message) = &self.callbacks.message {
            message(frame);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::peer::Lan;

    /// What the callbacks were told, in order.
    fn recorded(builder: Builder) -> (ReconnectingClient, mpsc::Receiver<String>) {
        let (tell, told) = mpsc::channel(100);
        let [connect, disconnect, reconnect] = std::array::from_fn(|_| tell.clone());
        let client = builder
            .seed(1)
            .on_connect(move || connect.try_send("connect".to_owned()).unwrap())
            .on_disconnect(move |error| disconnect.try_send(format!("disconnect: {error}")).unwrap())
            .on_reconnect(move |attempts| reconnect.try_send(format!("reconnect {attempts}")).unwrap())
            .on_message(move |frame| tell.try_send(format!("{frame:?}")).unwrap())
            .build()
            .unwrap();
        (client, told)
    }

    fn running(client: &ReconnectingClient) -> tokio::task::JoinHandle<Result<(), Error>> {
        let client = client.clone();
        tokio::spawn(async move { client.connect().await })
    }

    async fn reach(client: &ReconnectingClient, state: State) {
        client.states().wait_for(|now| *now == state).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn reconnecting_client_sends_receives_and_comes_back() {
        let (dialer, mut lan) = Lan::new();
        let (client, mut told) = recorded(ReconnectingClient::builder("ws://h/").dialer(dialer));
        assert_eq!(client.state(), State::Disconnected);
        assert!(matches!(client.send("x").await, Err(Error::NotConnected)));
        let connect = running(&client);

        let mut peer = lan.accept().await;
        assert_eq!(told.recv().await.unwrap(), "connect");
        assert_eq!(client.state(), State::Connected);
        client.send("hello").await.unwrap();
        assert_eq!(peer.text().await, "hello");
        client.try_send(vec![1, 2]).unwrap();
        assert_eq!(peer.binary().await, [1, 2]);
        peer.send_text("world").await;
        assert_eq!(told.recv().await.unwrap(), "Text(\"world\")");

        drop(peer);
        assert!(told.recv().await.unwrap().starts_with("disconnect: "));
        assert!(matches!(client.try_send("lost"), Err(Error::NotConnected)));
        let mut peer = lan.accept().await;
        assert_eq!(told.recv().await.unwrap(), "reconnect 1");
        peer.close(1000, "").await;
        assert_eq!(told.recv().await.unwrap(), "disconnect: the server closed the connection with 1000");
        let mut peer = lan.accept().await;
        assert_eq!(told.recv().await.unwrap(), "reconnect 1");

        client.close();
        assert_eq!(peer.closed().await, Some(1000));
        connect.await.unwrap().unwrap();
        assert_eq!(told.recv().await.unwrap(), "disconnect: the client is closed");
        assert_eq!(client.state(), State::Disconnected);
    }

    #[tokio::test(start_paused = true)]
    async fn reconnecting_client_waits_longer_with_every_failure_and_gives_up() {
        let (dialer, mut lan) = Lan::new();
        let builder = ReconnectingClient::builder("ws://h/").dialer(dialer).jitter(false);
        let client = builder.max_retries(6).build().unwrap();
        let connect = running(&client);
        let mut waits = Vec::new();
        let mut last = Instant::now();
        for _ in 0..7 {
            lan.refuse().await;
            waits.push(last.elapsed().as_secs());
            last = Instant::now();
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30]);
        assert!(matches!(connect.await.unwrap(), Err(Error::Network(_))));
        assert_eq!(client.state(), State::Disconnected);
    }

    #[tokio::test(start_paused = true)]
    async fn reconnecting_client_ends_where_it_is_told_to() {
        let (dialer, mut lan) = Lan::new();
        let client = ReconnectingClient::builder("ws://h/").dialer(dialer).build().unwrap();
        // In a wait.
        let connect = running(&client);
        lan.refuse().await;
        reach(&client, State::Disconnected).await;
        client.close();
        connect.await.unwrap().unwrap();
        // In an attempt, by cancellation.
        let connect = running(&client);
        reach(&client, State::Connecting).await;
        assert!(client.connect().await.is_err(), "another call has it");
        connect.abort();
        assert!(connect.await.unwrap_err().is_cancelled());
        assert_eq!(client.state(), State::Disconnected);
        // And anew.
        lan.forget();
        let connect = running(&client);
        let _peer = lan.accept().await;
        reach(&client, State::Connected).await;
        client.close();
        connect.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn reconnecting_client_gives_a_silent_connection_up() {
        let (dialer, mut lan) = Lan::new();
        let (client, mut told) = recorded(ReconnectingClient::builder("ws://h/").dialer(dialer));
        let connect = running(&client);
        let _silent = lan.accept().await;
        assert_eq!(told.recv().await.unwrap(), "connect");
        let began = Instant::now();
        assert!(told.recv().await.unwrap().contains("silent"));
        assert_eq!(began.elapsed().as_secs(), 60);
        connect.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn reconnecting_client_sends_from_many_tasks_and_each_frame_whole() {
        let (dialer, mut lan) = Lan::new();
        let client = ReconnectingClient::builder("ws://h/").dialer(dialer).build().unwrap();
        let connect = running(&client);
        let mut peer = lan.accept().await;
        reach(&client, State::Connected).await;
        let sent = Arc::new(AtomicU32::new(0));
        for task in 0..20 {
            let (client, sent) = (client.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                for number in 0..50 {
                    client.send(format!("{task}:{number}:{}", "x".repeat(2000))).await.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut next = [0; 20];
        for _ in 0..1000 {
            let text = peer.text().await;
            let mut parts = text.split(':');
            let task: usize = parts.next().unwrap().parse().unwrap();
            assert_eq!(parts.next().unwrap().parse::<u32>().unwrap(), next[task], "each task's own order");
            next[task] += 1;
        }
        client.close();
        connect.await.unwrap().unwrap();
        assert_eq!(sent.load(Ordering::Relaxed), 1000);
    }
}

//! The driver's sockets: one thread, one epoll loop, one read buffer.
//!
//! Scenarios open connections by slot number, send frames and are called back through [`Handler`]; they never
//! see a socket. What matters here is the cost per delivery, because the driver has one core and must take all
//! that the server can give from another: a large shared read buffer, no allocation and no copy for frames
//! that arrive whole, one clock reading per read.
//!
//! Invariant: a slot's `carry` holds only an incomplete frame (or an incomplete handshake answer).

#[cfg(target_os = "linux")]
mod alarm;
mod channel;
mod connect;
mod target;
mod trust;

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token};

#[cfg(target_os = "linux")]
use self::alarm::Alarm;
use self::channel::Channel;
use crate::frame::{self, FrameError};
pub(crate) use connect::Sources;
pub(crate) use target::Target;
pub(crate) use trust::Trust;

/// Bytes read at once. Large, so that a driver that fell behind catches up with few system calls.
const SCRATCH: usize = 256 << 10;

/// A handshake answer longer than this is not one.
const HANDSHAKE_MAX: usize = 16 << 10;

/// Unsent bytes of one connection above which the server evidently does not read any more.
const UNSENT_MAX: usize = 64 << 20;

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The upgrade is done.
    Open,
    /// A text or binary message.
    Message(&'a [u8]),
    /// The connection is gone; the slot may be opened again.
    Closed(Closed),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// With a close frame: code (1005 if it had none) and reason.
    Frame(u16, String),
    /// The server ended the TCP stream without one.
    Eof,
    /// The stream broke (reset, timed out).
    Broken(ErrorKind),
    /// The connection never came to be; the text says why.
    Refused(String),
    /// The peer's bytes make no sense to this driver.
    Garbled(FrameError),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame(code, reason) if reason.is_empty() => write!(f, "close code {code}"),
            Self::Frame(code, reason) => write!(f, "close code {code} ({reason})"),
            Self::Eof => f.write_str("end of stream without a close frame"),
            Self::Broken(kind) => write!(f, "{kind}"),
            Self::Refused(why) => f.write_str(why),
            Self::Garbled(error) => write!(f, "{error}"),
        }
    }
}

/// Who is told of events: a scenario, or its preparation.
pub(crate) trait Handler {
    /// Called for each event, in the order of each connection's bytes; `now` is when they were read.
    fn on_event(&mut self, net: &mut Net, slot: usize, event: Event<'_>, now: u64) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Free,
    Connecting,
    Upgrading,
    Open,
}

#[derive(Default)]
struct Conn {
    stream: Option<Channel>,
    stage: Stage,
    /// Reads nothing until resumed.
    stalled: bool,
    /// We sent a close frame first.
    closing: bool,
    carry: Vec<u8>,
    unsent: Vec<u8>,
    close_frame: Option<Box<(u16, String)>>,
}

/// What crossed the sockets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes_in: u64,
    pub(crate) frames_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) reads: u64,
}

impl Traffic {
    /// What crossed since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            bytes_in: self.bytes_in - earlier.bytes_in,
            frames_in: self.frames_in - earlier.frames_in,
            bytes_out: self.bytes_out - earlier.bytes_out,
            reads: self.reads - earlier.reads,
        }
    }
}

/// The driver's connections to one server.
pub(crate) struct Net {
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    scratch: Vec<u8>,
    origin: Instant,
    target: Target,
    trust: Option<Trust>,
    sources: Sources,
    receive_buffer: Option<usize>,
    /// Ends waits to the nanosecond, if it is wanted.
    #[cfg(target_os = "linux")]
    alarm: Option<Alarm>,
    mask_key: u32,
    /// What crossed the sockets so far.
    pub(crate) traffic: Traffic,
}

impl Net {
    /// No connection yet; `slots` is how many there may be. With `trust` they are by TLS.
    pub(crate) fn new(target: Target, trust: Option<Trust>, slots: usize) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().context("cannot create an event queue")?,
            events: Events::with_capacity(4096),
            conns: (0..slots).map(|_| Conn::default()).collect(),
            scratch: vec![0; SCRATCH],
            origin: Instant::now(),
            sources: Sources::for_target(target.addr),
            target,
            trust,
            receive_buffer: None,
            #[cfg(target_os = "linux")]
            alarm: None,
            mask_key: 0x9E37_79B9,
            traffic: Traffic::default(),
        })
    }

    /// Which server.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Nanoseconds since this driver started.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Whether the upgrade of `slot` is done and the connection not gone.
    pub(crate) fn is_open(&self, slot: usize) -> bool {
        self.conns[slot].stage == Stage::Open
    }

    /// From now on, the kernel holds about so many bytes for a connection that does not read.
    pub(crate) fn limit_receive_buffers(&mut self, bytes: Option<usize>) {
        self.receive_buffer = bytes;
    }

    /// From now on the driver leaves its core to others whenever it has nothing to do, at some 50 microseconds (the kernel's
    /// timer slack) for each message on a schedule. Otherwise it polls before a message is due.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    #[cfg(target_os = "linux")]
    pub(crate) fn nap(&mut self) -> Result<()> {
        self.alarm = Some(Alarm::new(self.poll.registry()).context("cannot set a timer")?);
        Ok(())
    }

    /// How long to wait for events when something must be sent in `nanoseconds`: shortly before it by polling, since the event
    /// queue's own timer is too coarse, unless the driver naps.
    pub(crate) fn until(&self, nanoseconds: u64) -> Duration {
        const POLLED: u64 = 2_000_000;
        let wait = match nanoseconds {
            #[cfg(target_os = "linux")]
            all if self.alarm.is_some() => all,
            long if long > POLLED => long - POLLED / 2,
            _ => 0,
        };
        Duration::from_nanos(wait)
    }

    /// Starts to connect `slot` and to upgrade at `path`; an [`Event::Open`] or [`Event::Closed`] follows.
    pub(crate) fn open(&mut self, slot: usize, path: &str) -> Result<()> {
        let socket = connect::start(self.target.addr, &mut self.sources, self.receive_buffer)
            .with_context(|| format!("cannot connect to {}", self.target))?;
        let mut stream = match &self.trust {
            None => Channel::plain(socket),
            Some(trust) => Channel::secure(socket, trust.session()?),
        };
        let request = self.target.upgrade_request(path);
        let conn = &mut self.conns[slot];
        *conn = Conn { stage: Stage::Connecting, unsent: request.into_bytes(), ..Conn::default() };
        // On loopback the connection is usually there already, and this saves one turn of the loop. If it
        // failed already, this call takes the error from the socket, and no event would tell it again.
        match stream.write(&conn.unsent) {
            Ok(sent) => {
                self.traffic.bytes_out += sent as u64;
                conn.unsent.drain(..sent);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => bail!(cannot_connect(&self.target, &error)),
        }
        self.poll
            .registry()
            .register(&mut stream.socket, Token(slot), Interest::READABLE | Interest::WRITABLE)
            .context("cannot watch a socket")?;
        conn.stream = Some(stream);
        Ok(())
    }

    /// Appends a masked frame to what will be sent on `slot`; [`Self::flush`] sends it.
    pub(crate) fn queue(&mut self, slot: usize, opcode: u8, payload: &[u8]) {
        // Not secret, only different each time: nobody stands between the driver and its server.
        self.mask_key = self.mask_key.wrapping_mul(0x915F_77F5).wrapping_add(0x6D2B_79F5);
        frame::push_masked(&mut self.conns[slot].unsent, opcode, payload, self.mask_key);
    }

    /// Sends one text frame on `slot` with one write.
    pub(crate) fn send(&mut self, slot: usize, payload: &[u8]) -> Result<()> {
        self.queue(slot, frame::TEXT, payload);
        self.flush(slot)
    }

    /// Writes what is queued on `slot`, as far as the kernel takes it; the rest goes when it is writable.
    pub(crate) fn flush(&mut self, slot: usize) -> Result<()> {
        let conn = &mut self.conns[slot];
        let Some(stream) = &mut conn.stream else { return Ok(()) };
        // A connection that is just breaking: the event that tells why comes by itself.
        let _ = stream.push();
        while !conn.unsent.is_empty() {
            match stream.write(&conn.unsent) {
                Ok(sent) => {
                    self.traffic.bytes_out += sent as u64;
                    conn.unsent.drain(..sent);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A write to a connection that is just breaking: the event that tells why comes by itself.
                Err(_) => break,
            }
        }
        if conn.unsent.len() > UNSENT_MAX {
            bail!("the server stopped reading what is published (connection {slot}); lower the rate");
        }
        Ok(())
    }

    /// Sends a close frame (code 1000); the end of the connection comes as an event.
    pub(crate) fn close(&mut self, slot: usize) -> Result<()> {
        self.conns[slot].closing = true;
        self.queue(slot, frame::CLOSE, &1000u16.to_be_bytes());
        self.flush(slot)
    }

    /// Drops the connection without a word and without an event.
    pub(crate) fn abandon(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        if let Some(mut stream) = conn.stream.take() {
            // Fails only for a socket that is not registered, which none here is.
            let _ = self.poll.registry().deregister(&mut stream.socket);
        }
        *conn = Conn::default();
    }

    /// Stops reading from `slot`, as a stuck client would.
    pub(crate) fn stall(&mut self, slot: usize) {
        self.conns[slot].stalled = true;
    }

    /// Reads again from `slot`, beginning with what has gathered.
    pub(crate) fn resume<H: Handler>(&mut self, slot: usize, handler: &mut H) -> Result<()> {
        self.conns[slot].stalled = false;
        self.with_scratch(|net, scratch| net.read(slot, true, scratch, handler))
    }

    /// Waits at most `timeout` for events and hands them to `handler`; returns how many sockets had some.
    pub(crate) fn turn<H: Handler>(&mut self, timeout: Duration, handler: &mut H) -> Result<usize> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        #[cfg(target_os = "linux")]
        if let Some(alarm) = self.alarm.as_ref().filter(|_| !timeout.is_zero()) {
            alarm.set(timeout).context("cannot set a timer")?;
        }
        let polled = match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            other => other.context("cannot wait for events"),
        };
        let count = events.iter().count();
        let done = polled.and_then(|()| {
            self.with_scratch(|net, scratch| {
                events.iter().try_for_each(|event| net.dispatch(event, scratch, handler))
            })
        });
        self.events = events;
        done.map(|()| count)
    }

    /// Lends the read buffer to `work`, so that frames may lie in it while handlers use the rest of `self`.
    fn with_scratch<T>(&mut self, work: impl FnOnce(&mut Self, &mut Vec<u8>) -> T) -> T {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = work(self, &mut scratch);
        self.scratch = scratch;
        result
    }

    fn dispatch<H: Handler>(
        &mut self,
        event: &mio::event::Event,
        scratch: &mut Vec<u8>,
        handler: &mut H,
    ) -> Result<()> {
        let slot = event.token().0;
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(()) }; // the alarm
        if conn.stage == Stage::Connecting
            && let Some(stream) = &conn.stream
        {
            match connect::outcome(&stream.socket) {
                Ok(false) => return Ok(()),
                Ok(true) => conn.stage = Stage::Upgrading,
                Err(error) => {
                    let why = cannot_connect(&self.target, &error);
                    return self.closed(slot, Closed::Refused(why), handler);
                }
            }
        }
        if event.is_writable() {
            self.flush(slot)?;
        }
        if event.is_readable() || event.is_error() {
            self.read(slot, event.is_read_closed() || event.is_error(), scratch, handler)?;
        }
        Ok(())
    }

    /// Reads until the kernel has no more. A short read means that, unless the stream is at its end.
    fn read<H: Handler>(
        &mut self,
        slot: usize,
        to_the_end: bool,
        scratch: &mut Vec<u8>,
        handler: &mut H,
    ) -> Result<()> {
        loop {
            let conn = &mut self.conns[slot];
            let Some(stream) = &mut conn.stream else { return Ok(()) };
            if conn.stalled {
                return Ok(());
            }
            let in_records = stream.comes_in_records();
            let kept = conn.carry.len();
            if kept == scratch.len() {
                scratch.resize(2 * kept, 0);
            }
            scratch[..kept].copy_from_slice(&conn.carry);
            match stream.read(&mut scratch[kept..]) {
                Ok(0) => {
                    let cause = conn.close_frame.take().map_or(Closed::Eof, |f| Closed::Frame(f.0, f.1));
                    return self.closed(slot, cause, handler);
                }
                Ok(count) => {
                    self.traffic.bytes_in += count as u64;
                    self.traffic.reads += 1;
                    let filled = kept + count;
                    conn.carry.clear();
                    self.digest(slot, &scratch[..filled], handler)?;
                    if filled < scratch.len() && !to_the_end && !in_records {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let broken = match error.get_ref() {
                        Some(why) if why.is::<rustls::Error>() => {
                            Closed::Refused(format!("TLS with {} failed: {error}", self.target))
                        }
                        _ => Closed::Broken(error.kind()),
                    };
                    let cause = conn.close_frame.take().map_or(broken, |f| Closed::Frame(f.0, f.1));
                    return self.closed(slot, cause, handler);
                }
            }
        }
    }

    /// Takes handshake answer and frames from the front of `bytes`; keeps what is incomplete.
    fn digest<H: Handler>(&mut self, slot: usize, mut bytes: &[u8], handler: &mut H) -> Result<()> {
        let now = self.now();
        if self.conns[slot].stage == Stage::Upgrading {
            match connect::upgrade_answer(bytes) {
                Ok(Some(len)) => bytes = &bytes[len..],
                Ok(None) if bytes.len() < HANDSHAKE_MAX => {
                    self.conns[slot].carry.extend_from_slice(bytes);
                    return Ok(());
                }
                Ok(None) => {
                    let why = "the server's answer to the upgrade does not end".to_owned();
                    return self.closed(slot, Closed::Refused(why), handler);
                }
                Err(why) => return self.closed(slot, Closed::Refused(why), handler),
            }
            self.conns[slot].stage = Stage::Open;
            handler.on_event(self, slot, Event::Open, now)?;
        }
        // A handler may close any connection, this one too.
        while self.conns[slot].stage == Stage::Open {
            match frame::scan(bytes) {
                Ok(Some(frame)) => {
                    bytes = &bytes[frame.len..];
                    self.traffic.frames_in += 1;
                    match frame.opcode {
                        frame::TEXT | frame::BINARY => {
                            handler.on_event(self, slot, Event::Message(frame.payload), now)?;
                        }
                        control => self.control(slot, control, frame.payload)?,
                    }
                }
                Ok(None) => {
                    self.conns[slot].carry.extend_from_slice(bytes);
                    return Ok(());
                }
                Err(error) => return self.closed(slot, Closed::Garbled(error), handler),
            }
        }
        Ok(())
    }

    fn control(&mut self, slot: usize, opcode: u8, payload: &[u8]) -> Result<()> {
        match opcode {
            frame::PING => {
                self.queue(slot, frame::PONG, payload);
                self.flush(slot)
            }
            frame::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                if !self.conns[slot].closing {
                    self.queue(slot, frame::CLOSE, payload.get(..2).unwrap_or_default());
                    self.flush(slot)?;
                    if let Some(stream) = &mut self.conns[slot].stream {
                        stream.end();
                    }
                }
                self.conns[slot].close_frame = Some(Box::new((code, reason)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn closed<H: Handler>(&mut self, slot: usize, cause: Closed, handler: &mut H) -> Result<()> {
        self.abandon(slot);
        let now = self.now();
        handler.on_event(self, slot, Event::Closed(cause), now)
    }
}

fn cannot_connect(target: &Target, error: &io::Error) -> String {
    format!("cannot connect to {target}: {error}; is the server running?")
}

/// Shortens a server's answer for an error text.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    text.trim().replace("\r\n", " | ")
}

/// Whether a connect call that returned `error` is merely not finished.
fn in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has no stable ErrorKind of its own.
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

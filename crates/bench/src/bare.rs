//! The reference: an epoll loop that sends one ready-made frame to each member, and nothing else.
//!
//! It shows what a delivery costs when a server does no work of its own: one `send(2)` per member and message
//! (or, batching, per member and read). Every other server's figure is a ratio to it. So it has no queues, no
//! timers, no validation and no mercy: a member whose socket is full is dropped, an upgrade is answered for the
//! one key that the driver sends, and whatever is not a whole masked frame ends the connection.
//!
//! Paths: `/room/NAME` relays text to all connections with that path, the sender included; any other path
//! answers with the same text. Deliveries are padded to `frame_bytes`, so that they are as long on the wire as
//! those of the server they are compared with.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::frame;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// The answer for the sample key of RFC 6455 section 1.3, which the driver always sends.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// How deliveries are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct BareOptions {
    /// Pad every delivery to this many bytes, header included; 0 leaves it as long as the message.
    pub frame_bytes: usize,
    /// One write per member for all messages of one read, instead of one for each.
    pub batch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Handshake,
    Echo,
    Room(u32),
}

#[derive(Debug)]
struct Conn {
    stream: TcpStream,
    place: Place,
    /// Position in the room's list of members.
    seat: u32,
}

/// The listening server.
#[derive(Debug)]
pub struct Bare {
    poll: Poll,
    listener: TcpListener,
    options: BareOptions,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    names: HashMap<Box<[u8]>, u32>,
    rooms: Vec<Vec<u32>>,
    /// Incomplete frames or requests, by connection; empty in the normal case.
    carry: HashMap<usize, Vec<u8>>,
    /// The frames being sent.
    outgoing: Vec<u8>,
}

impl Bare {
    /// Listens on `addr`.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub fn bind(addr: SocketAddr, options: BareOptions) -> Result<Self> {
        let poll = Poll::new().context("cannot create an event queue")?;
        let mut listener = listen(addr).with_context(|| format!("cannot listen on {addr}"))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            options,
            conns: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            rooms: Vec::new(),
            carry: HashMap::new(),
            outgoing: Vec::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("cannot read the address of the listener")
    }

    /// Ends [`Self::run`] when woken; from any thread.
    ///
    /// # Errors
    /// If the system has no event descriptor left.
    pub fn stopper(&self) -> Result<Waker> {
        Waker::new(self.poll.registry(), WAKER).context("cannot create a waker")
    }

    /// Serves until the waker of [`Self::stopper`] is used, for ever without one.
    ///
    /// # Errors
    /// If the event queue fails.
    pub fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 256 << 10];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context("cannot wait for events")?,
            }
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => self.accept(),
                    Token(slot) => {
                        if self.read(slot, event.is_read_closed(), &mut scratch).is_err() {
                            self.drop_conn(slot);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        // Ends with WouldBlock; any other failure (out of descriptors) leaves the connection in the backlog.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            let ready = stream
                .set_nodelay(true)
                .and_then(|()| self.poll.registry().register(&mut stream, Token(slot), Interest::READABLE));
            if ready.is_ok() {
                self.conns[slot] = Some(Conn { stream, place: Place::Handshake, seat: 0 });
            } else {
                self.free.push(slot);
            }
        }
    }

    /// Any error ends the connection.
    fn read(&mut self, slot: usize, to_the_end: bool, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(conn) = &mut self.conns[slot] else { return Ok(()) };
            let kept = self.carry.remove(&slot).unwrap_or_default();
            scratch.get_mut(..kept.len()).ok_or(ErrorKind::OutOfMemory)?.copy_from_slice(&kept);
            match conn.stream.read(&mut scratch[kept.len()..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let filled = kept.len() + count;
                    self.digest(slot, &mut scratch[..filled])?;
                    if filled < scratch.len() && !to_the_end {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !kept.is_empty() {
                        self.carry.insert(slot, kept);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the upgrade request and whole frames from the front of `bytes`, keeps the rest.
    fn digest(&mut self, slot: usize, bytes: &mut [u8]) -> io::Result<()> {
        let Some(conn) = &mut self.conns[slot] else { return Ok(()) };
        let (place, upgraded) = match conn.place {
            Place::Handshake => match memchr::memmem::find(bytes, b"\r\n\r\n") {
                Some(end) => {
                    write_whole(&mut conn.stream, UPGRADED)?;
                    (self.seat(slot, bytes), end + 4)
                }
                None => {
                    self.carry.insert(slot, bytes.to_vec());
                    return Ok(());
                }
            },
            place => (place, 0),
        };
        let taken = upgraded + self.relay(slot, place, &mut bytes[upgraded..])?;
        if taken < bytes.len() && self.conns[slot].is_some() {
            self.carry.insert(slot, bytes[taken..].to_vec());
        }
        Ok(())
    }

    /// Delivers the messages in `bytes`; returns how far whole frames went.
    fn relay(&mut self, slot: usize, place: Place, bytes: &mut [u8]) -> io::Result<usize> {
        let mut at = 0;
        self.outgoing.clear();
        loop {
            let Ok(frame) = frame::scan_masked(&mut bytes[at..]) else {
                return Err(ErrorKind::InvalidData.into());
            };
            let Some(frame) = frame else { break };
            match frame.opcode {
                frame::TEXT | frame::BINARY => {
                    push_padded(&mut self.outgoing, frame.payload, self.options.frame_bytes, place);
                    if !self.options.batch {
                        self.deliver(slot, place);
                    }
                }
                frame::CLOSE => return self.say_goodbye(slot, frame.payload),
                _ => {}
            }
            at += frame.len;
        }
        if !self.outgoing.is_empty() {
            self.deliver(slot, place);
        }
        Ok(at)
    }

    /// The loop that everything is compared with.
    fn deliver(&mut self, sender: usize, place: Place) {
        match place {
            Place::Room(room) => {
                let mut index = 0;
                while let Some(&member) = self.rooms[room as usize].get(index) {
                    // Dropping a member moves the last one to its seat, which is therefore looked at again.
                    if self.send(member as usize) {
                        index += 1;
                    }
                }
            }
            Place::Echo | Place::Handshake => {
                self.send(sender);
            }
        }
        self.outgoing.clear();
    }

    /// Sends what is outgoing; a connection that does not take it whole is dropped.
    fn send(&mut self, slot: usize) -> bool {
        let Some(conn) = &mut self.conns[slot] else { return false };
        let taken = write_whole(&mut conn.stream, &self.outgoing).is_ok();
        if !taken {
            self.drop_conn(slot);
        }
        taken
    }

    fn say_goodbye(&mut self, slot: usize, payload: &[u8]) -> io::Result<usize> {
        let mut farewell = Vec::new();
        frame::push(&mut farewell, frame::CLOSE, &payload[..payload.len().min(2)]);
        if let Some(conn) = &mut self.conns[slot] {
            write_whole(&mut conn.stream, &farewell)?;
        }
        Err(ErrorKind::ConnectionAborted.into())
    }

    /// Where the request's path puts the connection.
    fn seat(&mut self, slot: usize, request: &[u8]) -> Place {
        let path = request.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let place = match path.strip_prefix(b"/room/") {
            Some(name) => {
                let fresh = self.rooms.len() as u32;
                let room = *self.names.entry(name.into()).or_insert(fresh);
                if room == fresh {
                    self.rooms.push(Vec::new());
                }
                self.rooms[room as usize].push(slot as u32);
                Place::Room(room)
            }
            None => Place::Echo,
        };
        if let (Some(conn), Place::Room(room)) = (&mut self.conns[slot], place) {
            conn.seat = self.rooms[room as usize].len() as u32 - 1;
        }
        if let Some(conn) = &mut self.conns[slot] {
            conn.place = place;
        }
        place
    }

    fn drop_conn(&mut self, slot: usize) {
        let Some(mut conn) = self.conns[slot].take() else { return };
        self.carry.remove(&slot);
        self.free.push(slot);
        // The socket closes with `conn`, whatever the event queue says.
        let _ = self.poll.registry().deregister(&mut conn.stream);
        if let Place::Room(room) = conn.place {
            let members = &mut self.rooms[room as usize];
            members.swap_remove(conn.seat as usize);
            if let Some(&moved) = members.get(conn.seat as usize)
                && let Some(neighbour) = &mut self.conns[moved as usize]
            {
                neighbour.seat = conn.seat;
            }
        }
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// One write; less than all of it counts as failure.
fn write_whole(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    loop {
        match stream.write(bytes) {
            Ok(count) if count == bytes.len() => return Ok(()),
            Ok(_) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Appends a frame with `payload`, padded so that the whole frame of a room is `frame_bytes` long.
fn push_padded(out: &mut Vec<u8>, payload: &[u8], frame_bytes: usize, place: Place) {
    let header = match frame_bytes {
        0..=127 => 2,
        128..=0x1_0003 => 4,
        _ => 10,
    };
    let padding = frame_bytes.saturating_sub(header + payload.len());
    if padding == 0 || place == Place::Echo {
        return frame::push(out, frame::TEXT, payload);
    }
    let padded = [payload, &vec![b'.'; padding]].concat();
    frame::push(out, frame::TEXT, &padded);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn padded_frames_have_the_size_asked_for() {
        for frame_bytes in [0, 60, 127, 128, 129, 200, 65_539, 70_000] {
            let mut out = Vec::new();
            push_padded(&mut out, &[b'x'; 40], frame_bytes, Place::Room(0));
            let frame = frame::scan(&out).unwrap().unwrap();
            assert!(frame.payload.starts_with(&[b'x'; 40]));
            // 128 and 129 are sizes that no frame has: the longer header would need 126 bytes of payload.
            let expected = if frame_bytes == 0 { 42 } else { frame_bytes };
            assert!(
                out.len() == expected || (128..130).contains(&frame_bytes),
                "{frame_bytes}: {}",
                out.len()
            );
        }
    }

    #[test]
    fn padding_never_shortens_and_leaves_echoes_alone() {
        let mut out = Vec::new();
        push_padded(&mut out, &[b'x'; 100], 50, Place::Room(0));
        assert_eq!(out.len(), 102);
        out.clear();
        push_padded(&mut out, &[b'x'; 10], 50, Place::Echo);
        assert_eq!(out.len(), 12);
    }
}

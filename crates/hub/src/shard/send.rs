//! Bytes out: straight to the socket where nothing waits before them, else through the outbox.

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, RawFd};
use std::task::{Context, Poll};

use bytes::Bytes;
use outspoke_protocol::Disconnect;
use outspoke_websocket::{Opcode, encode_frame};
use rustix::net::SendFlags;
use tokio::sync::oneshot;

use super::connection::{Connection, Phase};
use super::{Key, Shard};
use crate::client::Client;
use crate::client::outbox::{Entry, Origin, Outbox};
use crate::trace::diary::What;
use crate::trace::follow::{Sight, Sighting};

/// No signal when the peer is gone: the error says it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const FLAGS: SendFlags = SendFlags::empty();

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// Only so many bytes, maybe none.
    Part(usize),
    /// The connection is broken.
    Failed,
}

/// One `send(2)` on a descriptor from [`Hot::direct`](super::connection::Hot::direct).
#[allow(unsafe_code)]
#[inline]
pub(super) fn send_direct(socket: RawFd, bytes: &[u8]) -> Sent {
    // SAFETY: a descriptor is in `Hot::direct` only while its `Connection`, which owns it, is in the slab:
    // `attach` and `emptied` put it there, and `close_quietly`, the only place that removes a connection,
    // clears it first. The shard is single-threaded, so none of this can happen during the call.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    loop {
        return match rustix::net::send(socket, bytes, FLAGS) {
            Ok(count) if count == bytes.len() => Sent::All,
            Ok(count) => Sent::Part(count),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => Sent::Part(0),
            Err(_) => Sent::Failed,
        };
    }
}

impl Shard {
    /// Sends the collected replies of a connection: at once, or with the rest of the turn if more for it may
    /// be on the way.
    pub(super) fn send_replies(&mut self, slot: u32, merge: bool) {
        if self.replies.is_empty() {
            return;
        }
        let mut replies = std::mem::take(&mut self.replies);
        self.send_control(slot, &replies, merge);
        replies.clear();
        self.replies = replies;
    }

    fn send_control(&mut self, slot: u32, bytes: &[u8], merge: bool) {
        let direct = self.hot[slot as usize].direct;
        let tried = if direct >= 0 && !merge {
            match send_direct(direct, bytes) {
                Sent::All => return,
                Sent::Part(count) => Some(count),
                Sent::Failed => return self.lost_later(slot),
            }
        } else {
            None
        };
        // Whole even if begun: what is on the wire in part must be finished, and is known by what is written of it.
        let entry = Entry { bytes: Bytes::copy_from_slice(bytes), origin: Origin::Control };
        self.queue(slot, entry, tried);
        let key = self.connections[slot as usize].key(slot as usize);
        if tried.is_none() {
            self.dirty.push(key);
        }
        if self.is_full(slot) {
            // What was not tried yet says nothing of the client.
            self.flush(slot);
            if self.is_full(slot) {
                self.doomed.push((key, Disconnect::SlowConsumer));
            }
        }
    }

    fn is_full(&self, slot: u32) -> bool {
        self.connections[slot as usize].client.queued_bytes() > self.hub.config().outbox_bytes_max
    }

    /// Sends a pushed frame, for which the client is charged already.
    pub(super) fn push(&mut self, client: &Client, frame: Bytes, written: Option<oneshot::Sender<()>>) {
        let key = client.key.get().copied();
        let open = |key: &Key| self.connection(*key).is_some_and(|connection| connection.is_open());
        let Some(key) = key.filter(open) else {
            // Dropping `written` tells the sender that the connection has ended.
            return client.release(frame.len());
        };
        let direct = self.hot[key.slot as usize].direct;
        let sent = (direct >= 0).then(|| send_direct(direct, &frame));
        match sent {
            Some(Sent::All) => {
                client.release(frame.len());
                if let Some(written) = written {
                    // Whoever asked may have stopped waiting.
                    let _ = written.send(());
                }
            }
            Some(Sent::Part(count)) => {
                client.release(count);
                self.enqueue(key.slot, Entry { bytes: frame, origin: Origin::Push { written } }, Some(count));
            }
            None => {
                self.enqueue(key.slot, Entry { bytes: frame, origin: Origin::Push { written } }, None);
                self.dirty.push(key);
            }
            Some(Sent::Failed) => {
                client.release(frame.len());
                self.lost_later(key.slot);
            }
        }
    }

    /// Appends an entry to the outbox and charges the client. `tried`: so many bytes of it were taken, and no more;
    /// `None`: it has not been tried.
    pub(super) fn queue(&mut self, slot: u32, entry: Entry, tried: Option<usize>) {
        self.connections[slot as usize].client.charge(entry.bytes.len() - tried.unwrap_or(0));
        self.enqueue(slot, entry, tried);
    }

    /// Appends an entry with whose unwritten bytes the client is charged.
    fn enqueue(&mut self, slot: u32, entry: Entry, tried: Option<usize>) {
        let now = self.now();
        let connection = &mut self.connections[slot as usize];
        match &mut connection.outbox {
            Some(outbox) => outbox.push(entry, tried.unwrap_or(0)),
            empty => {
                let mut outbox = Box::new(Outbox::new(now));
                let stuck = tried.is_some() && outbox.get_stuck();
                outbox.push(entry, tried.unwrap_or(0));
                *empty = Some(outbox);
                self.hot[slot as usize].direct = -1;
                self.look_at_write(slot);
                if stuck {
                    self.show_stuck(slot);
                }
            }
        }
    }

    /// Tries everything that was queued during the turn without having been tried.
    pub(super) fn write_dirty(&mut self) {
        // An outbox that is emptied may owe something, which is tried at once too.
        while let Some(key) = self.dirty.pop() {
            if self.connection(key).is_some() {
                self.flush(key.slot);
            }
        }
    }

    /// Writes from the outbox until it is empty or the connection takes no more.
    pub(super) fn flush(&mut self, slot: u32) {
        if self.is_slowed(slot) {
            return self.stuck(slot);
        }
        loop {
            let now = self.now();
            let waker = self.waker_of(slot);
            let connection = &mut self.connections[slot as usize];
            let Some(outbox) = connection.outbox.as_mut() else { return };
            if outbox.is_empty() {
                // What a layer below holds back is not written yet.
                match flush_stream(&mut *connection.conn, waker.as_ref()) {
                    Poll::Ready(Ok(())) => return self.emptied(slot),
                    Poll::Ready(Err(_)) => return self.lost_later(slot),
                    Poll::Pending => {
                        return self.stuck(slot);
                    }
                }
            }
            let written = {
                let mut slices = Outbox::no_slices();
                let count = outbox.slices(&mut slices);
                write(&mut *connection.conn, waker.as_ref(), &slices[..count])
            };
            match written {
                Poll::Ready(Ok(count)) if count > 0 => {
                    connection.client.release(count);
                    outbox.advance(count, now);
                }
                Poll::Pending => {
                    return self.stuck(slot);
                }
                Poll::Ready(_) => return self.lost_later(slot),
            }
        }
    }

    /// The connection takes no more bytes for now.
    fn stuck(&mut self, slot: u32) {
        let Some(outbox) = self.connections[slot as usize].outbox.as_mut() else { return };
        if outbox.get_stuck() {
            self.show_stuck(slot);
        }
    }

    fn show_stuck(&self, slot: u32) {
        let queued = self.connections[slot as usize].client.queued_bytes() as u64;
        self.show(slot, Sight::Slow, |sighting| Sighting { queued_bytes: Some(queued), ..sighting });
    }

    /// Everything is written: deliveries may go straight to the socket again.
    fn emptied(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.pong_queued = false;
        if let Some(payload) = connection.pong_owed.take() {
            encode_frame(Opcode::Pong, &payload, &mut self.replies);
        }
        let outbox = connection.outbox.take().map(|outbox| *outbox).unwrap_or_default();
        let skipped = outbox.skipped;
        if let Some(since) = outbox.stuck_since {
            self.diary.note(&connection.client, What::WasSlow { since });
            self.show(slot, Sight::CaughtUp, |sighting| sighting);
        }
        self.note_skipped(slot, &skipped);
        let connection = &mut self.connections[slot as usize];
        match connection.phase {
            Phase::Open => {
                if let Some(socket) = connection.conn.socket() {
                    self.hot[slot as usize].direct = std::os::fd::AsRawFd::as_raw_fd(&socket);
                }
                self.tell_gaps(slot, &skipped);
                self.drained(slot);
            }
            Phase::Closing { .. } => {
                self.replies.clear();
                self.go_on_closing(slot);
            }
        }
    }

    /// The waker of a connection without a socket of its own; sockets wait in the poller.
    pub(super) fn waker_of(&mut self, slot: u32) -> Option<std::task::Waker> {
        let connection = &mut self.connections[slot as usize];
        match connection.conn.socket() {
            Some(_) => None,
            None => Some(connection.waker(&self.hub, self.index, slot as usize)),
        }
    }
}

/// Writes to the socket if there is one, else to the stream.
fn write(
    conn: &mut dyn crate::conn::WsConn,
    waker: Option<&std::task::Waker>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match waker {
        Some(waker) => conn.poll_write(&mut Context::from_waker(waker), slices),
        None => write_socket(conn, slices),
    }
}

/// Has everything been passed on that was written? A socket holds nothing back.
fn flush_stream(
    conn: &mut dyn crate::conn::WsConn,
    waker: Option<&std::task::Waker>,
) -> Poll<io::Result<()>> {
    match waker {
        Some(waker) => conn.poll_flush(&mut Context::from_waker(waker)),
        None => Poll::Ready(Ok(())),
    }
}

fn write_socket(conn: &mut dyn crate::conn::WsConn, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let Some(socket) = conn.socket() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
    loop {
        return match rustix::net::sendmsg(
            socket,
            slices,
            &mut rustix::net::SendAncillaryBuffer::default(),
            FLAGS,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => Poll::Pending,
            written => Poll::Ready(written.map_err(io::Error::from)),
        };
    }
}

impl Connection {
    /// Reads from the socket if there is one, else from the stream.
    pub(super) fn read(
        &mut self,
        waker: Option<&std::task::Waker>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(waker) = waker {
            return self.conn.poll_read(&mut Context::from_waker(waker), buffer);
        }
        let Some(socket) = self.conn.socket() else { return Poll::Ready(Ok(0)) };
        loop {
            return match rustix::io::read(socket, &mut *buffer) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => Poll::Pending,
                count => Poll::Ready(count.map_err(io::Error::from)),
            };
        }
    }
}

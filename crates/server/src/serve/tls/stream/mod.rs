//! The server's end of a TLS connection, which owns no buffers while nothing is on its way.
//!
//! `Tls::accept` makes it, hyper reads a request from it, the hub has it from then on. `rustls` is asked through its
//! unbuffered interface (`session`), because its buffered one keeps 4 KiB for reading as long as the connection
//! lives, and connections are idle nearly always (decision 12 in docs/decisions).
//!
//! Socket bytes are read into memory that all connections of a thread share (`scratch`) and are decrypted there. A
//! connection owns memory only for a record that has not come to its end, for what its reader had no room for, and
//! for what the socket did not take; each is given back as soon as it is empty.
//!
//! Invariants: nothing is encrypted while encrypted bytes wait, so what waits has a bound; nothing is read while
//! decrypted bytes wait; the order of what goes out is the order of `rustls`.

mod backlog;
mod scratch;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::backlog::Backlog;
use self::scratch::Scratch;
use self::session::Session;

/// Plain bytes that are encrypted at once, and so what may wait in this layer for a client that does not read,
/// besides the kernel's buffer. The rest waits in the outbox, where it is counted.
const WRITE_BYTES_MAX: usize = 32 * 1024;
/// A record with its header, which is the most that may be incomplete: `rustls` refuses longer ones by their header.
const RECORD_BYTES_MAX: usize = HEADER_BYTES + (1 << 14) + (1 << 11);
/// A record's type, version and length.
const HEADER_BYTES: usize = 5;
/// What may be incomplete during the handshake, whose messages go over several records. They are as long in `rustls`.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// What is read at once to an incomplete record that does not say how much is missing.
const STEP_BYTES: usize = 4096;

/// A connection over TLS, after its handshake.
///
/// Both directions are polled from one task, and may wait at the same time. An end of the stream that the client did
/// not announce is an error ([`io::ErrorKind::UnexpectedEof`]): somebody on the way may have cut it off.
pub(in crate::serve) struct TlsStream<S> {
    io: S,
    session: Session,
    /// What has come of a record or handshake message that is incomplete.
    incoming: Vec<u8>,
    /// Decrypted, and not read yet.
    plain: Backlog,
    /// Encrypted, and not taken by the socket yet.
    outgoing: Backlog,
    /// Why nothing can be written any more. What was encrypted is lost, and what followed could not be decrypted.
    broken: Option<io::ErrorKind>,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Shakes hands, to the last byte of the server's. The caller sets the time limit.
    ///
    /// # Errors
    /// What the client did wrong, of which it was told by an alert as far as the socket took it.
    pub(in crate::serve) async fn accept(io: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut stream = Self {
            io,
            session: Session::new(config)?,
            incoming: Vec::new(),
            plain: Backlog::default(),
            outgoing: Backlog::default(),
            broken: None,
        };
        std::future::poll_fn(|context| stream.poll_handshake(context)).await?;
        Ok(stream)
    }

    /// The certificates that the client has shown, its own first.
    pub(in crate::serve) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.session.peer_certificates()
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_push(context))?;
            if !self.session.is_handshaking() {
                return Pin::new(&mut self.io).poll_flush(context);
            }
            // Data may come with the last message of the handshake; all of it waits for its reader.
            if ready!(self.poll_receive(context, &mut ReadBuf::new(&mut [])))? == 0 {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof")));
            }
            if let Some(error) = self.session.failure() {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Reads once from the socket and decrypts what is complete, into `buffer` as far as it has room. Returns how
    /// many bytes came from the socket. A failure of the session is the session's to tell: what came before it
    /// counts.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = self.room()?;
        let received = scratch::with(|scratch| {
            let mut read = ReadBuf::new(&mut scratch.received[..room]);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut read))?;
            let count = read.filled().len();
            if self.incoming.is_empty() {
                let received = read.filled_mut();
                let used = self.session.receive(
                    received,
                    &mut |bytes| deliver(bytes, buffer, &mut self.plain),
                    &mut self.outgoing,
                );
                self.incoming.extend_from_slice(&received[used..]);
            } else {
                self.incoming.extend_from_slice(read.filled());
                self.take_in(|bytes, plain| deliver(bytes, buffer, plain));
            }
            Poll::Ready(io::Result::Ok(count))
        });
        // Alerts, as a rule. The next poll tries again; whoever writes learns of an error.
        if !self.outgoing.is_empty() {
            let _ = self.poll_push(context);
        }
        received
    }

    /// How many bytes may be read to those that are incomplete.
    fn room(&self) -> io::Result<usize> {
        let kept = self.incoming.len();
        if kept == 0 {
            return Ok(RECORD_BYTES_MAX);
        }
        let max = if self.session.is_handshaking() { HANDSHAKE_BYTES_MAX } else { RECORD_BYTES_MAX };
        if kept >= max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long"));
        }
        let missing = match self.incoming.first_chunk::<HEADER_BYTES>() {
            // No more than this record, so that its memory can be given back.
            Some(&[.., high, low]) => {
                (HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]))).checked_sub(kept)
            }
            None => None,
        };
        Ok(missing.filter(|missing| *missing > 0).unwrap_or(STEP_BYTES).min(max - kept))
    }

    /// Decrypts what has become complete among the incoming bytes.
    fn take_in(&mut self, mut sink: impl FnMut(&[u8], &mut Backlog)) {
        let Self { session, incoming, plain, outgoing, .. } = self;
        let used = session.receive(incoming, &mut |bytes| sink(bytes, plain), outgoing);
        incoming.drain(..used);
        if incoming.is_empty() {
            *incoming = Vec::new();
        }
    }

    /// Hands the socket what waits for it.
    fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.broken {
            return Poll::Ready(Err(kind.into()));
        }
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, self.outgoing.front()));
            match written {
                Ok(0) => return Poll::Ready(Err(self.breaks(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.outgoing.advance(count),
                Err(error) => return Poll::Ready(Err(self.breaks(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn breaks(&mut self, error: io::Error) -> io::Error {
        self.broken = Some(error.kind());
        self.outgoing = Backlog::default();
        error
    }

    /// Encrypts as much of `slices` as fits and writes it; what the socket does not take waits.
    fn write_sealed(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        let plain = gather(slices, &mut scratch.plain);
        if plain.is_empty() {
            return Ok(0);
        }
        let sealed = self.session.seal(&mut self.incoming, plain, &mut scratch.sealed, &mut self.outgoing);
        let mut rest = match sealed {
            Ok(count) => &scratch.sealed[..count],
            Err(error) => {
                // It may have an alert to tell.
                let _ = self.poll_push(context);
                return Err(error);
            }
        };
        while self.outgoing.is_empty() && !rest.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, rest) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(self.breaks(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => rest = &rest[count..],
                Poll::Ready(Err(error)) => return Err(self.breaks(error)),
            }
        }
        self.outgoing.push(rest);
        Ok(plain.len())
    }
}

/// Hands decrypted bytes to the reader, and what it has no room for to those that wait.
fn deliver(bytes: &[u8], buffer: &mut ReadBuf<'_>, plain: &mut Backlog) {
    let room = if plain.is_empty() { buffer.remaining().min(bytes.len()) } else { 0 };
    buffer.put_slice(&bytes[..room]);
    plain.push(&bytes[room..]);
}

/// The first bytes of `slices` in one piece, at most as many as `buffer` has; a slice that is alone is not copied.
fn gather<'a>(slices: &'a [IoSlice<'_>], buffer: &'a mut [u8]) -> &'a [u8] {
    let mut filled = slices.iter().filter(|slice| !slice.is_empty());
    let Some(first) = filled.next() else { return &[] };
    let Some(second) = filled.next().filter(|_| first.len() < buffer.len()) else {
        return &first[..first.len().min(buffer.len())];
    };
    let mut len = 0;
    for slice in [first, second].into_iter().chain(filled) {
        let count = slice.len().min(buffer.len() - len);
        buffer[len..len + count].copy_from_slice(&slice[..count]);
        len += count;
        if len == buffer.len() {
            break;
        }
    }
    &buffer[..len]
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What reading has brought about waits for nobody who writes: it is pushed on whenever somebody reads, who
        // also is woken for it. Errors are for who writes, since there may be something to read behind them.
        if !this.outgoing.is_empty() {
            let _ = this.poll_push(context);
        }
        let before = buffer.filled().len();
        loop {
            this.plain.read(buffer);
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = this.session.failure() {
                return Poll::Ready(Err(error));
            }
            if this.session.is_closed_by_peer() {
                return Poll::Ready(Ok(()));
            }
            if ready!(this.poll_receive(context, buffer))? == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the client ended the stream without saying so in TLS (close_notify)",
                )));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_push(context))?;
        let count = scratch::with(|scratch| this.write_sealed(context, slices, scratch))?;
        // Whoever does not ask again is woken, too. Of an error the next call tells.
        if !this.outgoing.is_empty() {
            let _ = this.poll_push(context);
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_push(context))?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Behind what is encrypted already, and once.
        scratch::with(|scratch| {
            if this.broken.is_some() {
                return;
            }
            let count = this.session.close(&mut this.incoming, &mut scratch.sealed, &mut this.outgoing);
            this.outgoing.push(&scratch.sealed[..count]);
        });
        ready!(this.poll_push(context))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(context)) {
            // The client was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            shut => Poll::Ready(shut),
        }
    }
}

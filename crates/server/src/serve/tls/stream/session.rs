//! The TLS session without any I/O: bytes of the peer in, plain bytes and answers out.
//!
//! Every call drives `rustls` until it asks for more bytes or would let us write, so that nothing it wants done is
//! ever left over: messages it has ready (handshake, alerts, tickets, key updates) are always in the output before
//! anything that is encrypted afterwards. Who passes incomplete bytes in again passes in what was left of them,
//! unchanged.

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic};
use rustls::{Error, ServerConfig};

use super::backlog::Backlog;

/// A server's session.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    /// What the peer did wrong. Nothing is decrypted or encrypted any more.
    failure: Option<Box<Error>>,
    /// The peer has said that it writes no more.
    closed_by_peer: bool,
    /// We have.
    closed: bool,
}

/// What is done as soon as something may be written.
type Write<'a> = &'a mut dyn FnMut(&mut WriteTraffic<'_, ServerConnectionData>);

impl Session {
    /// Before the handshake.
    pub(super) fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self { tls, failure: None, closed_by_peer: false, closed: false })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the peer has said that nothing follows.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }

    /// What the peer did wrong.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let failure = self.failure.as_deref()?;
        Some(io::Error::new(io::ErrorKind::InvalidData, failure.clone()))
    }

    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    /// Takes in what the peer has sent and calls `plain` with what it means, record by record. Returns how many bytes
    /// at the front of `input` are done with; the others are to come again, with more behind them. After a failure,
    /// or when the peer has closed, they all are done with.
    pub(super) fn receive(
        &mut self,
        input: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
        output: &mut Backlog,
    ) -> usize {
        if self.failure.is_none() {
            match self.drive(input, plain, output, None) {
                Ok(used) if !self.closed_by_peer => return used,
                Ok(_) => {}
                Err(error) => self.fail(error, output),
            }
        }
        input.len()
    }

    /// Encrypts `plain` into `sealed` and returns how long it became. What must go before it is appended to `output`.
    /// `incoming` is what [`Self::receive`] has left over.
    ///
    /// # Errors
    /// After a failure, when this side has closed, or when the keys may not be used any longer (TLS 1.2 cannot renew
    /// them).
    pub(super) fn seal(
        &mut self,
        incoming: &mut [u8],
        plain: &[u8],
        sealed: &mut [u8],
        output: &mut Backlog,
    ) -> io::Result<usize> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut result = None;
        let mut write = |traffic: &mut WriteTraffic<'_, _>| result = Some(traffic.encrypt(plain, sealed));
        if let Err(error) = self.drive(incoming, &mut nothing, output, Some(&mut write)) {
            self.fail(error, output);
        }
        result.ok_or(io::ErrorKind::NotConnected)?.map_err(|error| {
            self.tell(output);
            io::Error::other(error)
        })
    }

    /// Says goodbye (`close_notify`), once and if there is a session to end: writes it into `sealed` and returns its
    /// length.
    pub(super) fn close(&mut self, incoming: &mut [u8], sealed: &mut [u8], output: &mut Backlog) -> usize {
        if self.closed || self.failure.is_some() || self.is_handshaking() {
            return 0;
        }
        self.closed = true;
        let mut count = 0;
        let mut say = |traffic: &mut WriteTraffic<'_, _>| {
            count = traffic.queue_close_notify(sealed).unwrap_or_default();
        };
        if let Err(error) = self.drive(incoming, &mut nothing, output, Some(&mut say)) {
            self.fail(error, output);
        }
        count
    }

    /// Does all that `rustls` wants done with `input`, until it needs more of it.
    fn drive(
        &mut self,
        input: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
        output: &mut Backlog,
        write: Option<Write<'_>>,
    ) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut input[used..]);
            let blocked = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain(record.payload);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(message) => {
                    encode(message, output)?;
                    false
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    // It is in the output, whose order holds.
                    transmit.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.closed_by_peer = true;
                    false
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    if let Some(write) = write {
                        write(&mut traffic);
                    }
                    return Ok(used + discard);
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => true,
                // Early data among them, which the configuration does not accept.
                _ => return Err(Error::General("an unexpected state of the session".to_owned())),
            };
            used += discard;
            if blocked {
                return Ok(used);
            }
        }
    }

    fn fail(&mut self, error: Error, output: &mut Backlog) {
        self.failure = Some(Box::new(error));
        self.tell(output);
    }

    /// Puts the alert that ends the session into the output. `rustls` has nothing else to say then, and needs no
    /// input for it.
    fn tell(&mut self, output: &mut Backlog) {
        while self.tls.wants_write() {
            let state = self.tls.process_tls_records(&mut []).state;
            let Ok(ConnectionState::EncodeTlsData(message)) = state else { return };
            if encode(message, output).is_err() {
                return;
            }
        }
    }
}

/// Nothing can be read where something is written: all that was complete has been taken in.
fn nothing(bytes: &[u8]) {
    debug_assert!(bytes.is_empty(), "{} bytes were not taken in", bytes.len());
}

/// Appends a message that `rustls` has ready.
fn encode(mut message: EncodeTlsData<'_, ServerConnectionData>, output: &mut Backlog) -> Result<(), Error> {
    let required = match message.encode(&mut []) {
        Ok(_) => 0,
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Ok(()),
    };
    let mut encoded = Ok(0);
    output.push_with(required, |room| encoded = message.encode(room));
    match encoded {
        Ok(_) | Err(EncodeError::AlreadyEncoded) => Ok(()),
        Err(EncodeError::InsufficientSize(_)) => {
            Err(Error::General("a message has changed its length".to_owned()))
        }
    }
}

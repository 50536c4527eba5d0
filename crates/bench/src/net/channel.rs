//! A connection's bytes, with TLS around them or not, read and written like a socket that does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ClientConnection;

/// A socket, and the TLS session on it if there is one.
pub(super) struct Channel {
    /// What the event queue watches.
    pub(super) socket: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Channel {
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { socket, session: None }
    }

    /// Shakes hands as soon as it is written to.
    pub(super) fn secure(socket: TcpStream, session: ClientConnection) -> Self {
        Self { socket, session: Some(Box::new(session)) }
    }

    /// Whether a read that was short may have left something behind: what is encrypted comes in records.
    pub(super) fn comes_in_records(&self) -> bool {
        self.session.is_some()
    }

    /// Sends what the session still has to send: handshake messages, and what the kernel did not take.
    pub(super) fn push(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        while session.wants_write() {
            session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Says that nothing more will be sent. One that is broken already is as good.
    pub(super) fn end(&mut self) {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            let _ = self.push();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

impl Write for Channel {
    /// What the session has taken counts as written; [`Channel::push`] sends the rest when the kernel takes more. The
    /// session has a bound: it takes nothing only while the kernel does not, or before the handshake is done.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.socket.write(bytes) };
        let count = session.writer().write(bytes)?;
        let handshaking = session.is_handshaking();
        match self.push() {
            Err(error) if count > 0 && is_waiting(&error) => Ok(count),
            Ok(()) if count == 0 && handshaking => Err(ErrorKind::WouldBlock.into()),
            pushed => pushed.map(|()| count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.socket.read(buffer) };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            session.read_tls(&mut self.socket)?;
            let processed = session.process_new_packets();
            // Answers of the handshake, or why it fails. What the kernel does not take goes when it is writable.
            while session.wants_write() {
                match session.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if is_waiting(&error) => break,
                    Err(error) => return Err(error),
                }
            }
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

/// Not yet connected, or nothing taken at the moment.
fn is_waiting(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

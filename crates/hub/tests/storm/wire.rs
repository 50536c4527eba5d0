//! What a storm's clients talk over: a pipe in memory, or a real socket.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use outspoke_hub::{MemoryConn, MemoryPeer, TcpConfig, TcpConn};
use outspoke_testkit::ByteStream;

/// A client's end, which never waits.
#[derive(Debug)]
pub(crate) enum Wire {
    Memory(MemoryPeer),
    Socket(TcpStream),
}

impl Wire {
    /// Both ends of a pipe of so many bytes.
    pub(crate) fn memory(bytes: usize) -> (MemoryConn, Self) {
        let (conn, peer) = MemoryConn::pair(bytes);
        (conn, Self::Memory(peer))
    }

    /// Both ends of a socket; `slow`: with the smallest buffers there are.
    pub(crate) fn socket(slow: bool) -> (TcpConn, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        if slow {
            socket.set_recv_buffer_size(2048).unwrap();
        }
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        let peer = TcpStream::from(socket);
        peer.set_nodelay(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let config = TcpConfig { send_buffer_bytes: if slow { 2048 } else { 0 }, nodelay: true };
        (TcpConn::new(accepted, &config).unwrap(), Self::Socket(peer))
    }

    /// Writes what is taken at once; returns how much that was.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Memory(peer) => peer.send(bytes),
            // A failure is found when reading.
            Self::Socket(stream) => stream.write(bytes).unwrap_or(0),
        }
    }
}

impl ByteStream for Wire {
    async fn read(&mut self) -> Vec<u8> {
        loop {
            match self.read_now() {
                Some(bytes) => return bytes,
                None => tokio::task::yield_now().await,
            }
        }
    }

    fn read_now(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Memory(peer) => peer.read_now(),
            Self::Socket(stream) => {
                let mut buffer = vec![0; 64 * 1024];
                match stream.read(&mut buffer) {
                    Ok(count) => buffer.truncate(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                    Err(_) => buffer.clear(),
                }
                Some(buffer)
            }
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let sent = self.send(bytes);
            bytes = &bytes[sent..];
            tokio::task::yield_now().await;
        }
        true
    }
}

//! A socket to write anything to, and to read an HTTP answer from, if one comes.

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::{TcpClient, TcpPipe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// What a server did with bytes that are no valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A response, up to the end of its declared body.
    Status(u16, String),
    /// The end of the stream, without a response.
    Closed,
}

impl Answer {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status, _) => Some(*status),
            Self::Closed => None,
        }
    }
}

/// A WebSocket connection without a welcome awaited; nothing if nobody listens, or the answer is no.
pub(crate) async fn upgrade(addr: SocketAddr, target: &str) -> Option<TcpClient> {
    let mut raw = Raw { stream: TcpStream::connect(addr).await.ok()?, buffer: Vec::new() };
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    raw.send(request.as_bytes()).await;
    let upgraded = raw.answer().await.status() == Some(101);
    upgraded.then(|| raw.into_client())
}

/// A plain connection.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Writes as much as the server takes; one that has closed takes nothing.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the server reads").is_ok()
    }

    /// The client of a connection that has been upgraded.
    pub(crate) fn into_client(self) -> TcpClient {
        TcpClient::new(TcpPipe::new(self.stream), None, self.buffer, PATIENCE)
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn shut_down(&mut self) {
        // A server that has closed already needs no word of it.
        let _ = self.stream.shutdown().await;
    }

    /// The next response.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            if let Some(answer) = self.parse(false) {
                return answer;
            }
            if !self.read_more().await {
                return self.parse(true).unwrap_or(Answer::Closed);
            }
        }
    }

    /// Reads to the end of the stream; returns whether it came within `limit`.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, async { while self.read_more().await {} }).await.is_ok()
    }

    pub(crate) async fn ends(&mut self) -> bool {
        self.ends_within(PATIENCE).await
    }

    async fn read_more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("the server answers or closes"), Ok(count) if count > 0)
    }

    /// A whole response; when the stream has `ended` also one without the body that it declares, as HEAD has it.
    fn parse(&mut self, ended: bool) -> Option<Answer> {
        let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
        let mut total = end + length.unwrap_or(0);
        if self.buffer.len() < total {
            if !ended {
                return None;
            }
            total = self.buffer.len();
        }
        let body = String::from_utf8_lossy(&self.buffer[end..total]).into_owned();
        self.buffer.drain(..total);
        Some(Answer::Status(status, body))
    }
}

//! A scripted client over a real socket, after a real handshake.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use outspoke_websocket::handshake::head::{HeadReader, parse_response};
use outspoke_websocket::{ClientHandshake, Established, Random};
use tokio::net::{TcpSocket, TcpStream};

use crate::{ByteStream, WsClient};

/// A client over TCP.
pub type TcpClient = WsClient<TcpPipe>;

/// How long a server on the same machine may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A TCP socket as a stream of bytes.
#[derive(Debug)]
pub struct TcpPipe {
    stream: TcpStream,
}

impl TcpPipe {
    /// A connected socket.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Says that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// What the system says.
    pub fn shut_down(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)
    }
}

impl ByteStream for TcpPipe {
    async fn read(&mut self) -> Vec<u8> {
        loop {
            if self.stream.readable().await.is_err() {
                return Vec::new();
            }
            if let Some(bytes) = self.read_now() {
                return bytes;
            }
        }
    }

    fn read_now(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.try_read(&mut buffer) {
            Ok(count) => buffer.truncate(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => buffer.clear(),
        }
        Some(buffer)
    }

    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.stream.writable().await.is_err() {
                return false;
            }
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// The answer of a server that did not upgrade.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, as far as its declared length.
    pub body: String,
}

/// A connection to be opened.
#[derive(Clone, Debug)]
#[must_use = "nothing is connected until it is opened"]
pub struct Connect {
    addr: SocketAddr,
    target: String,
    headers: HeaderMap,
    protocols: Vec<String>,
    compression: bool,
    early: Vec<u8>,
    receive_buffer_bytes: Option<u32>,
}

impl Connect {
    /// To a path and query of a server.
    pub fn to(addr: SocketAddr, target: &str) -> Self {
        Self {
            addr,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            protocols: Vec::new(),
            compression: false,
            early: Vec::new(),
            receive_buffer_bytes: None,
        }
    }

    /// With a header field.
    ///
    /// # Panics
    /// It is none.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// Offering a subprotocol.
    pub fn protocol(mut self, name: &str) -> Self {
        self.protocols.push(name.to_owned());
        self
    }

    /// Offering permessage-deflate.
    pub fn compression(mut self) -> Self {
        self.compression = true;
        self
    }

    /// Sending bytes in one segment with the request, before the answer is known.
    pub fn early(mut self, bytes: &[u8]) -> Self {
        self.early = bytes.to_vec();
        self
    }

    /// With a small receive buffer, so that a client that does not read is slow soon.
    pub fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// The server's answer, when it did not upgrade.
    ///
    /// # Panics
    /// There is no server, or it does not speak HTTP.
    pub async fn open(self) -> Result<TcpClient, Refused> {
        self.establish().await.map(|(client, _)| client)
    }

    /// Connects and shakes hands, and says what was agreed.
    ///
    /// # Errors
    /// The server's answer, when it did not upgrade.
    ///
    /// # Panics
    /// There is no server, or it does not speak HTTP.
    pub async fn establish(self) -> Result<(TcpClient, Established), Refused> {
        let pipe = TcpPipe { stream: dial(self.addr, self.receive_buffer_bytes).await };
        self.establish_over(pipe).await
    }

    /// Shakes hands over a stream that is connected already, and says what was agreed.
    ///
    /// # Errors
    /// The server's answer, when it did not upgrade.
    ///
    /// # Panics
    /// There is no server, or it does not speak HTTP.
    pub async fn establish_over<S: ByteStream>(
        self,
        mut pipe: S,
    ) -> Result<(WsClient<S>, Established), Refused> {
        let uri: Uri = format!("ws://{}{}", self.addr, self.target).parse().expect("a path and query");
        let mut handshake = ClientHandshake::new(uri, &mut Random::new())
            .and_then(|handshake| handshake.compression(self.compression).headers(&self.headers))
            .expect("a handshake");
        for protocol in &self.protocols {
            handshake = handshake.protocol(protocol).expect("a subprotocol");
        }
        let mut request = handshake.request();
        request.extend_from_slice(&self.early);
        pipe.write(&request).await;
        let (response, mut rest) = read_head(&mut pipe).await;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(&mut pipe, response, rest).await);
        }
        let established = handshake.check_response(&response).expect("a valid upgrade");
        let client = WsClient::new(pipe, established.deflate, std::mem::take(&mut rest), PATIENCE);
        Ok((client, established))
    }
}

impl TcpClient {
    /// Connects to a path and query of a server, with header fields.
    ///
    /// # Errors
    /// The server's answer, when it did not upgrade.
    ///
    /// # Panics
    /// There is no server, or it does not speak HTTP.
    pub async fn connect(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let connect = headers
            .iter()
            .fold(Connect::to(addr, target), |connect, (name, value)| connect.header(name, value));
        connect.open().await
    }
}

/// Sends the bytes of a request as they are, and returns the answer.
///
/// # Panics
/// There is no server, or it does not speak HTTP.
pub async fn exchange(addr: SocketAddr, request: &[u8]) -> Refused {
    exchange_over(TcpPipe { stream: dial(addr, None).await }, request).await
}

/// As [`exchange`], over a stream that is connected already.
///
/// # Panics
/// There is no server, or it does not speak HTTP.
pub async fn exchange_over(mut pipe: impl ByteStream, request: &[u8]) -> Refused {
    pipe.write(request).await;
    let (response, rest) = read_head(&mut pipe).await;
    refused(&mut pipe, response, rest).await
}

async fn dial(addr: SocketAddr, receive_buffer_bytes: Option<u32>) -> TcpStream {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.expect("the system gives a socket");
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes).expect("the system takes the option");
    }
    let stream = socket.connect(addr).await.expect("a server listens");
    stream.set_nodelay(true).expect("the system takes the option");
    stream
}

async fn read_head(pipe: &mut impl ByteStream) -> (Response<()>, Vec<u8>) {
    let mut reader = HeadReader::new();
    let mut bytes = Vec::new();
    loop {
        let more = tokio::time::timeout(PATIENCE, pipe.read()).await.expect("the server answers");
        assert!(!more.is_empty(), "the server closed the connection instead of answering");
        bytes.extend_from_slice(&more);
        if let Some(end) = reader.end(&bytes).expect("an HTTP response") {
            let rest = bytes.split_off(end);
            return (parse_response(&bytes).expect("an HTTP response"), rest);
        }
    }
}

async fn refused(pipe: &mut impl ByteStream, response: Response<()>, mut body: Vec<u8>) -> Refused {
    let length = response.headers().get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    while body.len() < length {
        let more = tokio::time::timeout(PATIENCE, pipe.read()).await.expect("the server sends its body");
        if more.is_empty() {
            break;
        }
        body.extend_from_slice(&more);
    }
    Refused {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

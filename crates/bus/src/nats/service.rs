//! Connecting to one of NATS's servers, and logging in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::NatsOptions;
use super::codec::{Info, NatsCodec, error, line_end};
use super::credentials::Credentials;
use super::subjects::Subjects;
use crate::BusError;
use crate::remote::{Address, Codec as _, Event, Place, Service, Session, Tls};

/// Shortest of the longest payloads that a bus may have.
pub(super) const PAYLOAD_BYTES_MIN: usize = 64 * 1024;

/// Makes connections. Each attempt is at the next server.
#[derive(Clone, Debug)]
pub(super) struct Nats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Vec<Server>,
    next: AtomicUsize,
    tls: Tls,
    credentials_file: Option<PathBuf>,
    subjects: Subjects,
    payload_bytes_max: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Server {
    place: Place,
    tls: bool,
    login: Login,
}

enum Login {
    None,
    Token(String),
    User(String, String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Nats {
    pub(super) fn new(
        options: &NatsOptions,
        subjects: &Subjects,
        payload_bytes_max: &Arc<AtomicUsize>,
    ) -> Result<Self, BusError> {
        let invalid = |what: String| BusError::Invalid(format!("the NATS setting {what}"));
        let addresses = Address::parse_all(&options.url).unwrap_or_default();
        let servers: Option<Vec<Server>> = addresses.into_iter().map(Server::new).collect();
        let servers = servers.filter(|servers| !servers.is_empty());
        let servers = servers
            .ok_or_else(|| invalid("`url` must look like nats://user:password@host:4222".to_owned()))?;
        if let Some(file) = &options.credentials_file {
            Credentials::read(file).map_err(invalid)?;
        }
        Ok(Self(Arc::new(Inner {
            next: AtomicUsize::new(fastrand::usize(..servers.len())),
            servers,
            tls: Tls::new(options.ca_file.as_deref()).map_err(invalid)?,
            credentials_file: options.credentials_file.clone(),
            subjects: subjects.clone(),
            payload_bytes_max: Arc::clone(payload_bytes_max),
        })))
    }
}

impl Server {
    fn new(address: Address) -> Option<Self> {
        let tls = match address.scheme.as_str() {
            "nats" => false,
            "tls" => true,
            _ => return None,
        };
        let login = match (address.user, address.password) {
            (None, None) => Login::None,
            (Some(token), None) => Login::Token(token),
            (user, Some(password)) => Login::User(user.unwrap_or_default(), password),
        };
        let place = Place { host: address.host, port: address.port.unwrap_or(4222) };
        Some(Self { place, tls, login })
    }
}

impl Service for Nats {
    type Codec = NatsCodec;

    fn place(&self) -> String {
        let places: Vec<_> = self.0.servers.iter().map(|server| server.place.to_string()).collect();
        format!("NATS at {}", places.join(", "))
    }

    async fn connect(&self) -> Result<Session<NatsCodec>, String> {
        let inner = &*self.0;
        let server = &inner.servers[inner.next.fetch_add(1, Ordering::Relaxed) % inner.servers.len()];
        let session = inner.log_in(server).await;
        session.map_err(|error| format!("NATS at {}: {error}", server.place))
    }
}

impl Inner {
    async fn log_in(&self, server: &Server) -> Result<Session<NatsCodec>, String> {
        let codec = NatsCodec::new(self.subjects.clone(), Arc::clone(&self.payload_bytes_max));
        let mut stream = server.place.connect().await?;
        // The server speaks first, in plain text; TLS begins behind that.
        let (info, rest) = introduced(&mut stream).await?;
        if info.max_payload < PAYLOAD_BYTES_MIN {
            let least = PAYLOAD_BYTES_MIN;
            return Err(format!(
                "it takes payloads of {} bytes: raise its `max_payload` to {least} or more",
                info.max_payload
            ));
        }
        self.payload_bytes_max.store(info.max_payload, Ordering::Relaxed);
        let tls = server.tls || info.tls_required;
        let mut session = if tls {
            // Nothing that came unencrypted is believed further.
            Session::new(Box::new(self.tls.secure(stream, &server.place).await?), codec)
        } else {
            let mut session = Session::new(Box::new(stream), codec);
            session.input().unsplit(rest);
            session
        };
        let mut hello = BytesMut::from(self.hello(server, &info, tls).await?.as_bytes());
        session.codec.ping(&mut hello);
        session.write(&hello).await?;
        while session.next().await? != Event::Pong {}
        Ok(session)
    }

    async fn hello(&self, server: &Server, info: &Info, tls: bool) -> Result<String, String> {
        let mut hello = json!({
            "verbose": false, "pedantic": false, "tls_required": tls, "echo": true, "protocol": 1,
            "name": "outspoke", "lang": "rust", "version": env!("CARGO_PKG_VERSION"),
        });
        match &server.login {
            Login::None => {}
            Login::Token(token) => hello["auth_token"] = json!(token),
            Login::User(user, password) => {
                hello["user"] = json!(user);
                hello["pass"] = json!(password);
            }
        }
        if let Some(file) = &self.credentials_file {
            let file = file.clone();
            let credentials = spawn_blocking(move || Credentials::read(&file))
                .await
                .map_err(|error| error.to_string())??;
            hello["sig"] = json!(credentials.sign(info.nonce.as_deref().unwrap_or_default()));
            match &credentials.jwt {
                Some(jwt) => hello["jwt"] = json!(jwt),
                None => hello["nkey"] = json!(credentials.public()),
            }
        }
        Ok(format!("CONNECT {hello}\r\n"))
    }
}

/// Reads the server's `INFO`, and what has come with it.
async fn introduced(stream: &mut TcpStream) -> Result<(Info, BytesMut), String> {
    let mut input = BytesMut::new();
    let line = loop {
        if let Some(line) = line_end(&input)? {
            break input.split_to(line + 2);
        }
        match stream.read_buf(&mut input).await {
            Ok(0) => return Err("the server has closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(format!("the connection is lost: {error}")),
        }
    };
    if line.starts_with(b"-ERR") {
        return Err(error(&line));
    }
    let info = line.strip_prefix(b"INFO ").and_then(|json| serde_json::from_slice(json).ok());
    let info = info.ok_or_else(|| "what listens there is no NATS server".to_owned())?;
    Ok((info, input))
}

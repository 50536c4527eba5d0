//! `outspoke healthcheck`: one HTTP/1.1 request over a plain socket or TLS, for containers without curl.
//!
//! Needs no runtime and no HTTP library. The deadline covers everything from resolving to the status line; of the
//! answer only the status line is read, at most 1 KiB.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::SettingsArgs;
use super::api::is_about_trust;
use super::ca::{Authorities, CaError};
use super::link::{Link, Trust};
use super::output::print;
use crate::config::kind::{Kind, Time};
use crate::config::settings::tls::ClientAuth;
use crate::config::{Config, ConfigError, Host, ListenAddr, load};

/// Longest status line that is waited for.
const ANSWER_BYTES_MAX: usize = 1024;
/// What is asked.
const HEALTH: &str = "/health";

/// Whom to ask.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Address to ask [default: /health at the address that `serve` would listen on with these settings]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = timeout)]
    timeout: Duration,

    /// A file with the certificate authorities, in PEM, one of which must vouch for the server under the name that is asked, over https [default: whoever answers is believed]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// A duration to wait for.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match Time::read(text) {
        Ok(Duration::ZERO) => Err("an answer needs some time; write 3s".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(refusal) => Err(refusal.hint.unwrap_or_else(|| format!("write {}", Time::ACCEPTS))),
    }
}

/// Why the server is not well, as far as can be seen from outside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// The settings that say where the server listens are wrong; a health check answers 0 or 1, never 78.
    #[error("cannot tell where the server listens\n{0}")]
    Settings(ConfigError),
    /// The authorities cannot be had.
    #[error(transparent)]
    Authorities(CaError),
    /// Not an address that can be asked.
    #[error("{0} is not an http:// or https:// address")]
    BadUrl(String),
    /// Nobody answers there.
    #[error("cannot reach {host}: {source}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// Connected, but no answer in time.
    #[error("{host} accepted the connection but did not answer in time")]
    TimedOut {
        /// Host and port.
        host: String,
    },
    /// Something else than an HTTP server answers there.
    #[error("{host} does not answer in HTTP")]
    NotHttp {
        /// Host and port.
        host: String,
    },
    /// The server says that it is not well.
    #[error("{url} answers with status {status}")]
    Unhealthy {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
}

impl HealthError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Settings(_) => "correct the settings, or name the server's address with --url",
            Self::BadUrl(_) => "write for example --url http://127.0.0.1:8080/health",
            Self::Authorities(error) => error.hint(),
            Self::Unreachable { source, .. } if is_about_trust(source) => {
                "name the authority that the server's certificate is from with --ca, and the server by a name that is in it"
            }
            Self::Unreachable { .. } => "start the server, or name its address with --url",
            Self::TimedOut { .. } => "look at the server's log and load, or wait longer with --timeout",
            Self::NotHttp { .. } => "another program has this port; name the server's address with --url",
            Self::Unhealthy { .. } => "the server's log says why; 503 while it starts or stops is normal",
        }
    }
}

pub(super) fn run(args: &HealthcheckArgs) -> anyhow::Result<()> {
    let mut target = match &args.url {
        // Whether somebody is well is no secret, and told to nobody: whoever answers there may.
        Some(url) => Target { trust: Trust::ThisMachine, ..Target::from_url(url, HEALTH)? },
        None => {
            let loaded = load(&args.settings.sources()).map_err(HealthError::Settings)?;
            Target::health_of(&loaded.config)
        }
    };
    if let Some(path) = args.ca.as_deref().filter(|_| target.secure) {
        target.trust = Trust::Named(Authorities::read(path).map_err(HealthError::Authorities)?);
    }
    target.check(Instant::now() + args.timeout)?;
    print(&format!("ok: {}\n", target.url()))
}

/// One URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port, as the Host header wants them.
    pub(super) host: String,
    pub(super) path: String,
    /// Over TLS.
    pub(super) secure: bool,
    pub(super) trust: Trust,
    /// The server wants the PROXY protocol first.
    pub(super) proxied: bool,
}

impl Target {
    /// `path_if_none`: where the URL has no path.
    pub(super) fn from_url(url: &str, path_if_none: &str) -> Result<Self, HealthError> {
        let bad = || HealthError::BadUrl(format!("{url:?}"));
        let secure = url.starts_with("https://");
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(bad)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let unwanted = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#');
        if host.is_empty()
            || host.contains(unwanted)
            || path.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(bad());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let usual = if secure { 443 } else { 80 };
        let host = if has_port { host.to_owned() } else { format!("{host}:{usual}") };
        let path = if path.len() > 1 { path } else { path_if_none };
        let trust = Trust::PublicAuthorities;
        Ok(Self { host, path: path.to_owned(), secure, trust, proxied: false })
    }

    /// The own server, as these settings say.
    pub(super) fn own(config: &Config, path: &str) -> Self {
        let (secure, proxied) = (config.tls.is_on(), config.server.proxy_protocol);
        Self { secure, proxied, ..Self::from_addr(&config.server.addr, path) }
    }

    /// Where the own server answers everything of the HTTP API.
    pub(super) fn of_operators(config: &Config) -> Self {
        match &config.admin.addr {
            Some(addr) => Self { secure: config.tls.is_on(), ..Self::from_addr(addr, "") },
            None => Self::own(config, ""),
        }
    }

    /// Where the own server says how it is: without TLS if it asks for certificates, of which there is none here.
    fn health_of(config: &Config) -> Self {
        match &config.tls.redirect_addr {
            Some(addr) if config.tls.client_auth == ClientAuth::Required => {
                Self { proxied: config.server.proxy_protocol, ..Self::from_addr(addr, HEALTH) }
            }
            _ => Self::own(config, HEALTH),
        }
    }

    /// The own server, seen from this machine.
    pub(super) fn from_addr(addr: &ListenAddr, path: &str) -> Self {
        let port = addr.port();
        let host = match addr.host() {
            Host::Any => format!("localhost:{port}"),
            Host::Name(name) => format!("{name}:{port}"),
            Host::Ip(ip) => SocketAddr::new(loopback_if_unspecified(*ip), port).to_string(),
        };
        Self { host, path: path.to_owned(), secure: false, trust: Trust::ThisMachine, proxied: false }
    }

    fn url(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.host)
    }

    fn check(&self, deadline: Instant) -> Result<(), HealthError> {
        let mut stream = self.connect(deadline)?;
        match self.exchange(&mut stream, deadline) {
            Ok(Some(200..=299)) => Ok(()),
            Ok(Some(status)) => Err(HealthError::Unhealthy { url: self.url(), status }),
            Ok(None) => Err(HealthError::NotHttp { host: self.host.clone() }),
            Err(error) if is_timeout(&error) => Err(HealthError::TimedOut { host: self.host.clone() }),
            Err(source) => Err(HealthError::Unreachable { host: self.host.clone(), source }),
        }
    }

    pub(super) fn connect(&self, deadline: Instant) -> Result<Link, HealthError> {
        let unreachable = |source| HealthError::Unreachable { host: self.host.clone(), source };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in self.candidates().map_err(unreachable)? {
            match remaining(deadline).and_then(|left| TcpStream::connect_timeout(&addr, left)) {
                Ok(socket) => return self.begin(socket, deadline).map_err(unreachable),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    /// What comes before HTTP.
    fn begin(&self, mut socket: TcpStream, deadline: Instant) -> io::Result<Link> {
        socket.set_write_timeout(Some(remaining(deadline)?))?;
        if self.proxied {
            socket.write_all(b"PROXY UNKNOWN\r\n")?;
        }
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        match self.secure {
            true => Link::secure(socket, &self.host, &self.trust),
            false => Ok(Link::Plain(socket)),
        }
    }

    /// `localhost` without the resolver, which a minimal container may lack.
    fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(port) = self.host.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok()) {
            return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
        }
        Ok(self.host.to_socket_addrs()?.collect())
    }

    /// The status, or `None` if the answer is not HTTP.
    fn exchange(&self, stream: &mut Link, deadline: Instant) -> io::Result<Option<u16>> {
        let Self { host, path, .. } = self;
        stream.socket().set_write_timeout(Some(remaining(deadline)?))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: outspoke-healthcheck\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
            stream.socket().set_read_timeout(Some(remaining(deadline)?))?;
            let mut chunk = [0; 256];
            match stream.read(&mut chunk)? {
                0 => break,
                read => answer.extend_from_slice(&chunk[..read]),
            }
        }
        Ok(status(&answer))
    }
}

/// RFC 9112 section 4: `HTTP/1.1 200 OK`.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.0 ").or_else(|| line.strip_prefix(b"HTTP/1.1 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn loopback_if_unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// The time that is left.
pub(super) fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Linux reports a socket time-out as `WouldBlock`.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn target(host: String) -> Target {
        Target::from_url(&format!("http://{host}"), HEALTH).unwrap()
    }

    /// A server that gives one answer, whatever it is asked, and returns the request.
    fn answering(answer: &'static [u8]) -> (Target, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(request[..read].to_vec()).unwrap()
        });
        (target(host), server)
    }

    #[test]
    fn health_is_a_status_of_200() {
        let (target, server) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        target.check(soon()).unwrap();
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request}");
    }

    #[test]
    fn health_of_a_draining_server_is_its_status() {
        let (target, _server) = answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert!(matches!(target.check(soon()), Err(HealthError::Unhealthy { status: 503, .. })));
    }

    #[test]
    fn health_of_a_stranger_is_not_http() {
        let (target, _server) = answering(b"SSH-2.0-OpenSSH_9.2\r\n");
        assert!(matches!(target.check(soon()), Err(HealthError::NotHttp { .. })));
        let (target, _server) = answering(b"");
        assert!(matches!(target.check(soon()), Err(HealthError::NotHttp { .. })));
    }

    #[test]
    fn health_of_a_silent_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(listener.local_addr().unwrap().to_string());
        let result = target.check(Instant::now() + Duration::from_millis(50));
        assert!(matches!(result, Err(HealthError::TimedOut { .. })), "{result:?}");
    }

    #[test]
    fn health_of_nobody_is_unreachable() {
        // Bound but not listening: the port is ours for the time of the test and refuses everybody.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let host = silent.local_addr().unwrap().as_socket().unwrap().to_string();
        let target = target(host);
        assert!(matches!(target.check(soon()), Err(HealthError::Unreachable { .. })));
    }

    #[test]
    fn health_url_needs_http_and_gets_the_usual_path() {
        let target = |url| Target::from_url(url, HEALTH).unwrap().url();
        assert_eq!(target("http://a:1"), "http://a:1/health");
        assert_eq!(target("http://a/"), "http://a:80/health");
        assert_eq!(target("http://[::1]:1/readyz"), "http://[::1]:1/readyz");
        assert_eq!(target("https://a"), "https://a:443/health");
        for url in ["wss://a", "a:8080", "http://", "http://u:p@a", "http://a b", "http://a/\r\nX: y"] {
            assert!(Target::from_url(url, HEALTH).is_err(), "{url}");
        }
    }

    #[test]
    fn health_of_the_own_server_is_asked_on_this_machine() {
        let host = |text| Target::from_addr(&ListenAddr::parse(text).unwrap(), HEALTH).host;
        assert_eq!(host(":8080"), "localhost:8080");
        assert_eq!(host("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(host("[::]:8080"), "[::1]:8080");
        assert_eq!(host("10.1.2.3:8080"), "10.1.2.3:8080");
    }
}

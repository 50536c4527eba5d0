//! The HTTP API as the verbs ask it: one request for each question, and refusals as errors with a cure.
//!
//! Spoken as HTTP/1.0 over a plain or TLS connection of its own, as `healthcheck` does it: a server answers a client of that
//! version in one piece and closes. The credential goes nowhere but into the request.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ca::CaError;
use super::context::ContextError;
use super::explain;
use super::healthcheck::{HealthError, is_timeout, remaining, status};
use super::link::Link;
use super::output::clean;
use super::reach::{Reach, ReachArgs};
use crate::config::ConfigError;
use crate::exit::Exit;

/// Longest answer that is read: a check of a hundred nodes has about two megabytes, a page of history at most about eight.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the API was not asked, or does not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The settings that say where the server is, or its key, are wrong.
    #[error(transparent)]
    Settings(ConfigError),
    /// The context cannot be had.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The certificate authorities cannot be had.
    #[error(transparent)]
    Authorities(#[from] CaError),
    /// A variable of the environment is wrong.
    #[error("{name} is no address")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What to write.
        why: String,
    },
    /// The server cannot be asked at all.
    #[error(transparent)]
    Server(HealthError),
    /// What answers is no Outspoke, or has its API switched off.
    #[error("{0} has no API")]
    NoApi(String),
    /// The credential is wrong, or missing.
    #[error("the server refuses {}", refused(*given, why))]
    Denied {
        /// What was shown: a key or a token.
        given: Option<&'static str>,
        /// The server's words, if it said any.
        why: String,
    },
    /// The credential is accepted, but not for this.
    #[error("not allowed: {message}")]
    Forbidden {
        /// What the server said.
        message: String,
    },
    /// Anything else that the server refuses.
    #[error("the server refuses: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The refusal's name.
        name: String,
        /// The server's words.
        message: String,
        /// Whether the same request may succeed later.
        temporary: bool,
    },
    /// The answer makes no sense.
    #[error("the server's answer is of another version ({0})")]
    Answer(serde_json::Error),
}

impl ApiError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Settings(_) => "correct the settings, or name the server with --server and --key",
            Self::Context(error) => return error.hint(),
            Self::Authorities(error) => error.hint(),
            Self::Variable { why, .. } => return why.clone(),
            Self::Server(HealthError::BadUrl(_)) => "write for example --server http://127.0.0.1:8080",
            Self::Server(HealthError::TimedOut { .. }) => {
                "look at the server's log and load, or wait longer with --timeout"
            }
            Self::Server(HealthError::NotHttp { .. }) => {
                "another program has this port; name the server's address with --server"
            }
            Self::Server(HealthError::Unreachable { source, .. }) if is_about_trust(source) => {
                "name the file with the authority that the server's certificate is from with --ca"
            }
            Self::Server(_) => "start the server, or name its address with --server",
            Self::NoApi(_) => "set api.enabled to true on the server, or name another address with --server",
            Self::Denied { given: Some("token"), .. } => {
                "show a fresh token with --token, or one of the server's api.keys with --key"
            }
            Self::Denied { .. } => {
                "give one of the server's api.keys with --key, in OUTSPOKE_KEY, with `outspoke context add`, or in the \
                 configuration file"
            }
            Self::Forbidden { .. } => {
                "use a key or token that may do this; see docs/operating/authorization.md"
            }
            Self::Refused { name, .. } => explain::cure(name).unwrap_or("the server's log says more"),
            Self::Answer(_) => "use the `outspoke` of the server's own version",
        };
        hint.to_owned()
    }

    /// How the process ends for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::Context(_) | Self::Authorities(_) | Self::Variable { .. } => {
                Exit::Config
            }
            Self::Server(HealthError::Unreachable { .. } | HealthError::TimedOut { .. }) => Exit::Unreachable,
            Self::Denied { .. } | Self::Forbidden { .. } => Exit::Denied,
            _ => Exit::Failure,
        }
    }

    /// Whether there is nothing of that name.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the same request may succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Server(error) => {
                matches!(error, HealthError::Unreachable { .. } | HealthError::TimedOut { .. })
            }
            Self::Refused { temporary, .. } => *temporary,
            _ => false,
        }
    }
}

/// What is refused of a credential, and why. Who shows none needs no reason.
fn refused(given: Option<&str>, why: &str) -> String {
    match given {
        None => "requests without a key".to_owned(),
        Some(sort) if why.is_empty() => format!("this {sort}"),
        Some(sort) => format!("this {sort}: {why}"),
    }
}

/// Whether TLS does not believe the server.
pub(super) fn is_about_trust(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

/// The API of a server.
#[derive(Debug)]
pub(super) struct Api {
    reach: Reach,
}

impl Api {
    pub(super) fn of(args: &ReachArgs) -> Result<Self, ApiError> {
        Ok(Self { reach: args.resolve()? })
    }

    pub(super) fn at(reach: Reach) -> Self {
        Self { reach }
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        self.reach.api.origin()
    }

    /// One question; the answer's JSON as it came.
    pub(super) fn ask(&self, method: &str, path: &str) -> Result<String, ApiError> {
        self.request(method, path, None)
    }

    /// One question, and its answer read.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        read(&self.ask("GET", path)?)
    }

    /// One order, and its answer read.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ApiError> {
        read(&self.request("POST", path, Some(&body.to_string()))?)
    }

    /// One order whose JSON is written already.
    pub(super) fn post_json(&self, path: &str, body: &str) -> Result<String, ApiError> {
        self.request("POST", path, Some(body))
    }

    fn request(&self, method: &str, path: &str, body: Option<&str>) -> Result<String, ApiError> {
        let target = &self.reach.api;
        let deadline = Instant::now() + self.reach.timeout;
        let mut stream = target.connect(deadline).map_err(ApiError::Server)?;
        let request = self.written(method, path, body);
        let answer = exchange(&mut stream, &request, deadline).and_then(whole).map_err(|source| {
            let host = target.host.clone();
            ApiError::Server(match source {
                source if is_timeout(&source) => HealthError::TimedOut { host },
                source => HealthError::Unreachable { host, source },
            })
        })?;
        self.judge(&answer)
    }

    fn written(&self, method: &str, path: &str, body: Option<&str>) -> String {
        let Reach { api: target, credential, tenant, .. } = &self.reach;
        let (host, prefix) = (&target.host, target.path.trim_end_matches('/'));
        let mut request = format!(
            "{method} {prefix}/api/v1{path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: outspoke-cli\r\n\
             Accept: application/json\r\n"
        );
        if let Some(credential) = credential {
            let _ = write!(request, "Authorization: Bearer {}\r\n", credential.secret().reveal());
        }
        if let Some(tenant) = tenant {
            // Without what would end the header.
            let _ = write!(request, "X-Tenant: {}\r\n", tenant.replace(char::is_control, ""));
        }
        match body {
            Some(body) => {
                let _ = write!(
                    request,
                    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
            None if method == "POST" => request.push_str("Content-Length: 0\r\n\r\n"),
            None => request.push_str("\r\n"),
        }
        request
    }

    fn judge(&self, answer: &[u8]) -> Result<String, ApiError> {
        let not_http = || ApiError::Server(HealthError::NotHttp { host: self.reach.api.host.clone() });
        let status = status(answer).ok_or_else(not_http)?;
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(not_http)?;
        let body = String::from_utf8_lossy(&answer[head + 4..]).into_owned();
        if status == 200 {
            return Ok(body);
        }
        let refusal: Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |field: &str| clean(refusal[field].as_str().unwrap_or_default()).into_owned();
        let message = text("message");
        Err(match status {
            // A proxy, whose server is away.
            502..=504 if refusal["type"] != "error" => ApiError::Refused {
                status,
                name: "unavailable".to_owned(),
                message: format!("a proxy answers with {status}"),
                temporary: true,
            },
            _ if refusal["type"] != "error" => ApiError::NoApi(self.origin()),
            401 => {
                let given = self.reach.credential.as_ref().map(|known| known.sort());
                ApiError::Denied { given, why: message }
            }
            403 => ApiError::Forbidden { message },
            _ => ApiError::Refused {
                status,
                name: text("error"),
                message,
                temporary: refusal["temporary"] == true,
            },
        })
    }
}

pub(super) fn read<T: DeserializeOwned>(json: &str) -> Result<T, ApiError> {
    serde_json::from_str(json).map_err(ApiError::Answer)
}

/// Sends the request and reads until the server closes.
fn exchange(stream: &mut Link, request: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    stream.socket().set_write_timeout(Some(remaining(deadline)?))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        stream.socket().set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            // A server that refuses a body unread answers, and closes.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {
                return Ok(answer);
            }
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
    }
}

/// Refuses an answer that was cut off: whether what was asked for was done, nobody knows.
fn whole(answer: Vec<u8>) -> io::Result<Vec<u8>> {
    let cut = || {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection before its answer was whole",
        ))
    };
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        // What does not begin like HTTP is judged as such.
        return if b"HTTP/1.".starts_with(&answer[..answer.len().min(7)]) { cut() } else { Ok(answer) };
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    if length.is_some_and(|length| answer.len() - end - 4 < length) { cut() } else { Ok(answer) }
}

/// A name as a part of a path or of a query (RFC 3986 section 2.3).
pub(super) fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that dies while it answers has said nothing that may be believed.
    #[test]
    fn answer_that_was_cut_off_is_none() {
        let cut = |answer: &str| whole(answer.as_bytes().to_vec()).is_err();
        assert!(cut("") && cut("HTT") && cut("HTTP/1.0 200 OK\r\ncontent-"));
        assert!(cut("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n{\"a\""));
        assert!(!cut("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
        assert!(!cut("HTTP/1.0 200 OK\r\n\r\n{}"));
        assert!(!cut("SSH-2.0-OpenSSH_9.2\r\n"));
    }

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(encoded("chat/rust ü~"), "chat%2Frust%20%C3%BC~");
    }
}

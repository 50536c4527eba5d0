//! The client's side of the opening handshake (RFC 6455 sections 4.1 and 4.2.2).
//!
//! Makes the request and judges the answer. Resolving, connecting, TLS, redirects and time limits are the caller's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, Version};

use super::lists::{contains_token, elements, extensions, single, token};
use super::{HandshakeError, PermessageDeflate, accept_key, head};
use crate::Random;

/// Why the connection was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not `ws://host[:port]/path` or `wss://...`.
    #[error("the url must be ws:// or wss:// with a host and without a user name")]
    Url,
    /// A subprotocol is not a token, or is named twice.
    #[error("subprotocol {0:?} is not a token or is named twice; use letters, digits, dots and dashes")]
    Protocol(String),
    /// A header that the handshake itself sets.
    #[error("header {0} is set by the handshake itself; leave it out")]
    ReservedHeader(String),
    /// The answer is not an HTTP/1 response head.
    #[error("the answer is not an http/1.1 response: {0}")]
    Head(#[from] HandshakeError),
    /// The server did not switch protocols. 401 and 403: credentials; 429 and 503: try later; 3xx: see Location.
    #[error("the server answered {0} instead of switching to websocket")]
    Refused(StatusCode),
    /// `Upgrade: websocket` or `Connection: Upgrade` is missing, or the version is HTTP/1.0.
    #[error("the server's answer is not a websocket upgrade; is there a proxy that cannot pass it on?")]
    NotAnUpgrade,
    /// The accept key is wrong, missing or repeated: the answer is not to our request.
    #[error("Sec-WebSocket-Accept does not match the request's key")]
    AcceptKey,
    /// The server chose a subprotocol that was not offered.
    #[error("the server chose a subprotocol that was not offered")]
    UnexpectedProtocol,
    /// The server agreed to an extension, or to parameters, that were not offered.
    #[error("the server agreed to an extension that was not offered")]
    UnexpectedExtension,
}

/// What the server agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The subprotocol, if one was chosen.
    pub protocol: Option<String>,
    /// The compression, if agreed.
    pub deflate: Option<PermessageDeflate>,
}

/// One attempt to open a connection: a request and the key that its answer must match.
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    uri: Uri,
    key: String,
    headers: HeaderMap,
    protocols: Vec<String>,
    compression: bool,
}

impl ClientHandshake {
    /// For a `ws://` or `wss://` address, with a fresh nonce as key.
    pub fn new(uri: Uri, random: &mut Random) -> Result<Self, ClientError> {
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(ClientError::Url),
        };
        let host = host_header(&uri, secure).ok_or(ClientError::Url)?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host);
        let key = STANDARD.encode(random.nonce());
        Ok(Self { uri, key, headers, protocols: Vec::new(), compression: false })
    }

    /// Offers a subprotocol; earlier ones are preferred.
    pub fn protocol(mut self, name: &str) -> Result<Self, ClientError> {
        if token(name.as_bytes()).is_none() || self.protocols.iter().any(|known| known == name) {
            return Err(ClientError::Protocol(name.to_owned()));
        }
        self.protocols.push(name.to_owned());
        Ok(self)
    }

    /// Offers permessage-deflate.
    pub const fn compression(mut self, offered: bool) -> Self {
        self.compression = offered;
        self
    }

    /// Adds header fields, such as `Authorization` or `Origin`.
    pub fn headers(mut self, headers: &HeaderMap) -> Result<Self, ClientError> {
        let reserved = [
            HOST,
            UPGRADE,
            CONNECTION,
            CONTENT_LENGTH,
            TRANSFER_ENCODING,
            SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_VERSION,
            SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_EXTENSIONS,
            SEC_WEBSOCKET_ACCEPT,
        ];
        for (name, value) in headers {
            if reserved.contains(name) {
                return Err(ClientError::ReservedHeader(name.to_string()));
            }
            self.headers.append(name, value.clone());
        }
        Ok(self)
    }

    /// The request's bytes.
    pub fn request(&self) -> Vec<u8> {
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        let mut request = format!("GET {slash}{target} HTTP/1.1\r\n").into_bytes();
        head::encode_fields(&self.headers, &mut request);
        let mut field = |name: &str, value: &str| {
            request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        };
        field("Upgrade", "websocket");
        field("Connection", "Upgrade");
        field("Sec-WebSocket-Key", &self.key);
        field("Sec-WebSocket-Version", "13");
        if !self.protocols.is_empty() {
            field("Sec-WebSocket-Protocol", &self.protocols.join(", "));
        }
        if self.compression {
            field("Sec-WebSocket-Extensions", PermessageDeflate::offer());
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    /// Judges the answer's head; what follows it in the buffer are frames.
    pub fn check(&self, head: &[u8]) -> Result<Established, ClientError> {
        self.check_response(&head::parse_response(head)?)
    }

    /// Judges a parsed answer.
    pub fn check_response<B>(&self, response: &Response<B>) -> Result<Established, ClientError> {
        let headers = response.headers();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Refused(response.status()));
        }
        let upgrades = contains_token(headers, &UPGRADE, "websocket");
        if response.version() != Version::HTTP_11
            || !upgrades
            || !contains_token(headers, &CONNECTION, "upgrade")
        {
            return Err(ClientError::NotAnUpgrade);
        }
        if single(headers, &SEC_WEBSOCKET_ACCEPT) != Some(accept_key(self.key.as_bytes()).as_bytes()) {
            return Err(ClientError::AcceptKey);
        }
        Ok(Established { protocol: self.chosen_protocol(headers)?, deflate: self.agreed_deflate(headers)? })
    }

    fn chosen_protocol(&self, headers: &HeaderMap) -> Result<Option<String>, ClientError> {
        if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            return Ok(None);
        }
        let mut chosen = elements(headers, &SEC_WEBSOCKET_PROTOCOL);
        let offered = |chosen: &[u8]| self.protocols.iter().find(|offered| offered.as_bytes() == chosen);
        match (chosen.next().and_then(offered), chosen.next()) {
            (Some(protocol), None) => Ok(Some(protocol.clone())),
            _ => Err(ClientError::UnexpectedProtocol),
        }
    }

    fn agreed_deflate(&self, headers: &HeaderMap) -> Result<Option<PermessageDeflate>, ClientError> {
        if !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Ok(None);
        }
        let answer = extensions(headers, &SEC_WEBSOCKET_EXTENSIONS);
        let answer = answer.map_err(|_| ClientError::UnexpectedExtension)?;
        match PermessageDeflate::from_response(&answer) {
            Some(deflate) if self.compression => Ok(Some(deflate)),
            _ => Err(ClientError::UnexpectedExtension),
        }
    }
}

/// The authority without a user name, and without the scheme's default port.
fn host_header(uri: &Uri, secure: bool) -> Option<HeaderValue> {
    let authority = uri.authority()?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let default_port = if secure { 443 } else { 80 };
    match authority.port_u16() {
        Some(port) if port != default_port => {
            HeaderValue::try_from(format!("{}:{port}", authority.host())).ok()
        }
        _ => HeaderValue::from_str(authority.host()).ok(),
    }
}

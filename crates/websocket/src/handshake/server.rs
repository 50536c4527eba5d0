//! The server's side of the opening handshake (RFC 6455 section 4.2).
//!
//! Fed by the HTTP listener, before authentication or after it. [`Upgrade::check`] is strict: a request that is not
//! exactly a WebSocket upgrade gets an HTTP error with the cure in its text, never a 101.

use base64::Engine as _;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

use super::lists::{contains_token, elements, extensions, single, token};
use super::{PermessageDeflate, accept_key};

/// Subprotocols that a request may offer: each is compared with those before it.
const PROTOCOLS_MAX: usize = 32;

/// Keys typed by hand may have stray bits after the 16th byte; they carry nothing, so they do no harm.
const KEY_ENCODING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a request is not upgraded, with the HTTP status that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// 405: the method is not GET.
    #[error("a websocket handshake is a GET request; send GET")]
    MethodNotGet,
    /// 400: HTTP/1.0, or HTTP/2, whose upgrade (RFC 8441) is not supported.
    #[error("a websocket handshake needs HTTP/1.1; send the request with HTTP/1.1")]
    HttpVersion,
    /// 400: no Host, an empty or malformed one, or several.
    #[error("exactly one valid Host header is needed; send one")]
    Host,
    /// 400: Content-Length (even 0) or Transfer-Encoding: bytes behind the header would be taken for frames.
    #[error("a websocket handshake has no body; leave out Content-Length and Transfer-Encoding")]
    Body,
    /// 426: no `Upgrade: websocket`.
    #[error("this address speaks websocket; send Upgrade: websocket and Connection: Upgrade")]
    UpgradeMissing,
    /// 400: no `Connection: upgrade`. Proxies drop it, since it is hop-by-hop.
    #[error("Connection: Upgrade is missing; send it, and let every proxy on the way pass it on")]
    ConnectionMissing,
    /// 400: no Sec-WebSocket-Version, or several.
    #[error("exactly one Sec-WebSocket-Version header is needed; send Sec-WebSocket-Version: 13")]
    VersionCount,
    /// 426: another version of the protocol.
    #[error("only websocket version 13 is spoken here; send Sec-WebSocket-Version: 13")]
    VersionUnsupported,
    /// 400: no Sec-WebSocket-Key, or several.
    #[error("exactly one Sec-WebSocket-Key header is needed; send one")]
    KeyCount,
    /// 400: the key is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is not 16 bytes in base64; send 24 characters that end with ==")]
    KeyMalformed,
    /// 400: Sec-WebSocket-Protocol is not a list of distinct tokens.
    #[error("Sec-WebSocket-Protocol is not a list of distinct tokens; separate the names with commas")]
    ProtocolsMalformed,
    /// 400: Sec-WebSocket-Protocol offers more than 32.
    #[error("Sec-WebSocket-Protocol offers more than {PROTOCOLS_MAX} subprotocols; offer fewer")]
    TooManyProtocols,
    /// 400: Sec-WebSocket-Extensions breaks the grammar.
    #[error(
        "Sec-WebSocket-Extensions is malformed; send a list such as permessage-deflate; client_max_window_bits"
    )]
    ExtensionsMalformed,
    /// 431: the header is too long, or has too many fields.
    #[error("request header above {bytes_max} bytes or {fields_max} fields; send fewer or shorter fields")]
    HeadTooLarge {
        /// The limit in bytes.
        bytes_max: usize,
        /// The limit in fields.
        fields_max: usize,
    },
    /// 400: not an HTTP/1 request.
    #[error(
        "not an http/1.1 request header; send a request line, fields and an empty line, all ended by CRLF"
    )]
    HeadMalformed,
}

impl HandshakeError {
    /// The answer's status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MethodNotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeMissing | Self::VersionUnsupported => StatusCode::UPGRADE_REQUIRED,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Header fields that the answer must have beside the usual ones.
    pub fn headers(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let fields: &[(HeaderName, &'static str)] = match self {
            Self::MethodNotGet => &[(ALLOW, "GET")],
            Self::UpgradeMissing | Self::VersionUnsupported | Self::VersionCount => {
                &[(UPGRADE, "websocket"), (CONNECTION, "upgrade"), (SEC_WEBSOCKET_VERSION, "13")]
            }
            _ => &[],
        };
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
    }

    /// The whole answer, with the error's text as its body.
    pub fn response(self) -> Response<String> {
        let mut response = Response::new(format!("{self}\n"));
        *response.status_mut() = self.status();
        response.headers_mut().extend(self.headers().map(|(name, value)| (Some(name), value)));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, text);
        response
    }
}

/// A request that is a valid WebSocket upgrade, and what it offers.
#[derive(Debug)]
pub struct Upgrade<'r> {
    key: &'r [u8],
    protocols: Vec<&'r str>,
    deflate: Option<PermessageDeflate>,
}

impl<'r> Upgrade<'r> {
    /// Checks a request; the body type does not matter, for there must be none.
    pub fn of<B>(request: &'r Request<B>) -> Result<Self, HandshakeError> {
        Self::check(request.method(), request.version(), request.headers())
    }

    /// Checks the parts of a request that make it an upgrade.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks; answer with [`HandshakeError::response`].
    pub fn check(method: &Method, version: Version, headers: &'r HeaderMap) -> Result<Self, HandshakeError> {
        check_request(method, version, headers)?;
        check_upgrade(headers)?;
        check_version(headers)?;
        let extensions = extensions(headers, &SEC_WEBSOCKET_EXTENSIONS);
        let extensions = extensions.map_err(|_| HandshakeError::ExtensionsMalformed)?;
        Ok(Self {
            key: checked_key(headers)?,
            protocols: protocols(headers)?,
            deflate: PermessageDeflate::choose(&extensions),
        })
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'r str> {
        self.protocols.iter().copied()
    }

    /// The client's first subprotocol that is in `supported`, compared exactly.
    pub fn select_protocol<'s>(&self, supported: &[&'s str]) -> Option<&'s str> {
        let position = |offered: &&str| supported.iter().position(|supported| supported == offered);
        self.protocols.iter().find_map(position).map(|index| supported[index])
    }

    /// What the answer agrees to if compression is wanted.
    pub const fn deflate(&self) -> Option<PermessageDeflate> {
        self.deflate
    }

    /// The answer: `protocol` must be one that the client offered (any other is left out, for a client must refuse
    /// it); `compression` agrees to permessage-deflate where the client offers it in a form that we can honour.
    pub fn accept(&self, protocol: Option<&str>, compression: bool) -> Accept {
        let offered = protocol.filter(|protocol| self.protocols.contains(protocol));
        Accept {
            key: accept_key(self.key),
            protocol: offered.map(str::to_owned),
            deflate: self.deflate.filter(|_| compression),
        }
    }
}

/// Method, version, Host, no body: what any upgrade needs.
fn check_request(method: &Method, version: Version, headers: &HeaderMap) -> Result<(), HandshakeError> {
    if method != Method::GET {
        return Err(HandshakeError::MethodNotGet);
    }
    if version != Version::HTTP_11 {
        return Err(HandshakeError::HttpVersion);
    }
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Err(HandshakeError::Body);
    }
    match single(headers, &HOST) {
        Some(host) if is_host(host) => Ok(()),
        _ => Err(HandshakeError::Host),
    }
}

/// `uri-host [":" port]`, loosely: the bytes that may occur, not an address book.
fn is_host(host: &[u8]) -> bool {
    let allowed = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
    !host.is_empty() && host.iter().all(allowed)
}

fn check_upgrade(headers: &HeaderMap) -> Result<(), HandshakeError> {
    if !contains_token(headers, &UPGRADE, "websocket") {
        return Err(HandshakeError::UpgradeMissing);
    }
    if !contains_token(headers, &CONNECTION, "upgrade") {
        return Err(HandshakeError::ConnectionMissing);
    }
    Ok(())
}

fn check_version(headers: &HeaderMap) -> Result<(), HandshakeError> {
    match single(headers, &SEC_WEBSOCKET_VERSION) {
        None => Err(HandshakeError::VersionCount),
        Some(b"13") => Ok(()),
        Some(_) => Err(HandshakeError::VersionUnsupported),
    }
}

fn checked_key(headers: &HeaderMap) -> Result<&[u8], HandshakeError> {
    let key = single(headers, &SEC_WEBSOCKET_KEY).ok_or(HandshakeError::KeyCount)?;
    let mut nonce = [0; 18];
    match KEY_ENCODING.decode_slice(key, &mut nonce) {
        Ok(16) => Ok(key),
        _ => Err(HandshakeError::KeyMalformed),
    }
}

fn protocols(headers: &HeaderMap) -> Result<Vec<&str>, HandshakeError> {
    let mut protocols = Vec::new();
    for element in elements(headers, &SEC_WEBSOCKET_PROTOCOL) {
        if protocols.len() == PROTOCOLS_MAX {
            return Err(HandshakeError::TooManyProtocols);
        }
        match token(element) {
            Some(protocol) if !protocols.contains(&protocol) => protocols.push(protocol),
            _ => return Err(HandshakeError::ProtocolsMalformed),
        }
    }
    if protocols.is_empty() && headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Err(HandshakeError::ProtocolsMalformed);
    }
    Ok(protocols)
}

/// The answer that opens the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    key: String,
    protocol: Option<String>,
    deflate: Option<PermessageDeflate>,
}

impl Accept {
    /// The agreed subprotocol.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The agreed compression.
    pub const fn deflate(&self) -> Option<PermessageDeflate> {
        self.deflate
    }

    /// The 101 response.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, visible(&self.key));
        if let Some(protocol) = &self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, visible(protocol));
        }
        if let Some(deflate) = self.deflate {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, visible(&deflate.response()));
        }
        response
    }
}

fn visible(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("base64, tokens and our own words are visible ASCII")
}

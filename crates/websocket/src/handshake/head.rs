//! HTTP/1 heads as bytes, for callers without an HTTP library: tests, tools, our client.
//!
//! Servers normally have hyper in front. Work is linear in the bytes: the end of the head is searched in what is new,
//! and the head is parsed once, when it is whole.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use super::HandshakeError;

/// The longest head; longer ones are answered with 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most header fields; more are answered with 431.
pub const HEAD_FIELDS_MAX: usize = 100;

const END: &[u8] = b"\r\n\r\n";
const TOO_LARGE: HandshakeError =
    HandshakeError::HeadTooLarge { bytes_max: HEAD_BYTES_MAX, fields_max: HEAD_FIELDS_MAX };

/// Finds the end of a head in a buffer that grows.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadReader {
    searched: usize,
}

impl HeadReader {
    /// For a new connection.
    pub const fn new() -> Self {
        Self { searched: 0 }
    }

    /// The head's length once `buffer`, which holds all bytes since the connection began, contains its empty line.
    ///
    /// # Errors
    ///
    /// No end within [`HEAD_BYTES_MAX`].
    pub fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let window = &buffer[..buffer.len().min(HEAD_BYTES_MAX)];
        let start = self.searched.min(window.len());
        if let Some(position) = memchr::memmem::find(&window[start..], END) {
            return Ok(Some(start + position + END.len()));
        }
        if buffer.len() >= HEAD_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        self.searched = window.len().saturating_sub(END.len() - 1);
        Ok(None)
    }
}

/// Parses a whole request head, as [`HeadReader::end`] delimits it.
pub fn parse_request(head: &[u8]) -> Result<Request<()>, HandshakeError> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    check_whole(parsed.parse(head), head)?;
    let mut request = Request::new(());
    *request.method_mut() = required(parsed.method.and_then(|method| method.parse::<Method>().ok()))?;
    *request.uri_mut() = required(parsed.path.and_then(|path| path.parse::<Uri>().ok()))?;
    *request.version_mut() = version(parsed.version)?;
    *request.headers_mut() = header_map(parsed.headers)?;
    Ok(request)
}

/// Parses a whole response head, as [`HeadReader::end`] delimits it.
pub fn parse_response(head: &[u8]) -> Result<Response<()>, HandshakeError> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    check_whole(parsed.parse(head), head)?;
    let mut response = Response::new(());
    *response.status_mut() = required(parsed.code.and_then(|code| StatusCode::from_u16(code).ok()))?;
    *response.version_mut() = version(parsed.version)?;
    *response.headers_mut() = header_map(parsed.headers)?;
    Ok(response)
}

/// The bytes of a response head, with a Content-Length where a body of `body_bytes` follows.
pub fn encode_response<B>(response: &Response<B>, body_bytes: Option<usize>, output: &mut Vec<u8>) {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    output.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    encode_fields(response.headers(), output);
    if let Some(length) = body_bytes {
        output.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    output.extend_from_slice(b"\r\n");
}

pub(super) fn encode_fields(headers: &HeaderMap, output: &mut Vec<u8>) {
    for (name, value) in headers {
        output.extend_from_slice(name.as_str().as_bytes());
        output.extend_from_slice(b": ");
        output.extend_from_slice(value.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

/// A head that ends before the given bytes do hides something (bare line feeds): refused.
fn check_whole(result: httparse::Result<usize>, head: &[u8]) -> Result<(), HandshakeError> {
    match result {
        Ok(httparse::Status::Complete(length)) if length == head.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_LARGE),
        _ => Err(HandshakeError::HeadMalformed),
    }
}

fn required<T>(value: Option<T>) -> Result<T, HandshakeError> {
    value.ok_or(HandshakeError::HeadMalformed)
}

fn version(minor: Option<u8>) -> Result<Version, HandshakeError> {
    match minor {
        Some(0) => Ok(Version::HTTP_10),
        Some(1) => Ok(Version::HTTP_11),
        _ => Err(HandshakeError::HeadMalformed),
    }
}

fn header_map(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HandshakeError> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else { return Err(HandshakeError::HeadMalformed) };
        headers.append(name, value);
    }
    Ok(headers)
}

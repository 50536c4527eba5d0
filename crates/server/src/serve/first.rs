//! The first request of a plain connection, looked at before anything of HTTP is set up for it.
//!
//! Most connections come to be upgraded, and say so in one packet. Such a request is read here and answered without an HTTP
//! library, which takes a third of the time. It is looked at while it stays in the socket, and taken from there only when it
//! is answered: whatever is not such a request from its first byte to its last (incomplete, malformed, too long, with a body
//! or an expectation, another method, another protocol) is the HTTP library's to read, to judge and to answer. So nothing
//! passes here that would not pass there: the parser is the same, and so are the limits.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsFd as _;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use rustix::io::Errno;
use rustix::net::RecvFlags;

/// Longer requests are left to the HTTP library: browsers' have half of that, with a token.
const BYTES_MAX: usize = 4096;
/// Requests with more fields are left to it, too.
const FIELDS_MAX: usize = 64;

/// What is in a socket.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // It is taken apart where it arrives; a box would be an allocation for each connect.
pub(super) enum Seen {
    /// Nothing yet.
    Nothing,
    /// A whole request for an upgrade.
    Upgrade(Upgrade),
    /// Something else, or the end.
    Other,
}

/// A request for a WebSocket, which is still in its socket.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) request: Request<Body>,
    length: usize,
}

/// Looks at what has come, without waiting, and leaves it where it is.
///
/// `bytes_max`, `fields_max`: of a request's head, as they are configured.
pub(super) fn look(socket: &TcpStream, bytes_max: usize, fields_max: usize) -> Seen {
    let mut buffer = [0; BYTES_MAX];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(socket.as_fd(), &mut buffer, flags) {
        Ok((_, count)) => {
            let upgrade = upgrade(&buffer[..count], bytes_max, fields_max);
            upgrade.map_or(Seen::Other, Seen::Upgrade)
        }
        Err(Errno::AGAIN) => Seen::Nothing,
        Err(_) => Seen::Other,
    }
}

impl Upgrade {
    /// Takes the request out of its socket, and nothing that is behind it.
    ///
    /// # Errors
    /// The connection has broken meanwhile.
    pub(super) fn take(socket: &TcpStream, length: usize) -> io::Result<()> {
        let mut buffer = [0; BYTES_MAX];
        match rustix::net::recv(socket.as_fd(), &mut buffer[..length], RecvFlags::DONTWAIT) {
            Ok((_, count)) if count == length => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// The request, and how many bytes it has.
    pub(super) fn into_parts(self) -> (Request<Body>, usize) {
        (self.request, self.length)
    }
}

/// The request for an upgrade that `bytes` begin with, if they do.
fn upgrade(bytes: &[u8], bytes_max: usize, fields_max: usize) -> Option<Upgrade> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let fields = &mut fields[..fields_max.min(FIELDS_MAX)];
    let mut parsed = httparse::Request::new(&mut []);
    let httparse::Status::Complete(length) = parsed.parse_with_uninit_headers(bytes, fields).ok()? else {
        return None;
    };
    if length > bytes_max || parsed.method != Some("GET") || parsed.version != Some(1) {
        return None;
    }
    // One allocation for all values.
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let part =
        |part: &[u8]| head.slice(part.as_ptr() as usize - bytes.as_ptr() as usize..).slice(..part.len());
    let uri = Uri::from_maybe_shared(part(parsed.path?.as_bytes())).ok()?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_maybe_shared(part(field.value)).ok()?);
    }
    let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let bare = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].iter().all(|name| !headers.contains_key(name));
    if !bare || !headers.get(UPGRADE).is_some_and(asks) {
        return None;
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(Upgrade { request, length })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const GOOD: &str =
        "GET /ws?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nCookie: a \r\n\r\n";

    fn seen(text: &str) -> Option<Upgrade> {
        upgrade(text.as_bytes(), 16 * 1024, 100)
    }

    #[test]
    fn whole_request_for_an_upgrade_is_read_as_it_was_sent() {
        let with_more = format!("{GOOD}\u{1}frames");
        let upgrade = seen(&with_more).unwrap();
        let (request, length) = upgrade.into_parts();
        assert_eq!((length, request.uri().to_string()), (GOOD.len(), "/ws?a=b".to_owned()));
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        let values: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let sent = [("host", "h"), ("upgrade", "WebSocket"), ("connection", "Upgrade"), ("cookie", "a")];
        assert_eq!(values, sent);
    }

    #[test]
    fn whatever_else_there_is_is_left_to_the_http_library() {
        for length in 0..GOOD.len() {
            assert!(seen(&GOOD[..length]).is_none(), "{:?}", &GOOD[..length]);
        }
        let with = |field: &str| GOOD.replace("Cookie: a ", field);
        let many = (0..FIELDS_MAX).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
        for (what, text) in [
            ("another method", GOOD.replace("GET", "POST")),
            ("an older version", GOOD.replace("1.1", "1.0")),
            ("a newer version", GOOD.replace("1.1", "2.0")),
            ("another protocol", GOOD.replace("WebSocket", "h2c")),
            ("several protocols", GOOD.replace("WebSocket", "websocket, h2c")),
            ("no upgrade", GOOD.replace("Upgrade: WebSocket\r\n", "")),
            ("a body", with("Content-Length: 0")),
            ("chunks", with("Transfer-Encoding: chunked")),
            ("an expectation", with("Expect: 100-continue")),
            ("a folded line", with("Cookie: a\r\n b")),
            ("a space before the colon", with("Cookie : a")),
            ("a byte that is no text", with("Cookie: a\0")),
            ("a name that is none", with("Coo(kie: a")),
            ("a target that is none", GOOD.replace("/ws", "/w<s")),
            ("too many fields", with(&many)),
            ("too many bytes", with(&format!("Cookie: {}", "a".repeat(BYTES_MAX)))),
        ] {
            let text = &text[..text.len().min(BYTES_MAX)];
            assert!(seen(text).is_none(), "{what}: {text:?}");
        }
        assert!(upgrade(GOOD.as_bytes(), GOOD.len() - 1, 100).is_none(), "longer than configured");
        assert!(upgrade(GOOD.as_bytes(), GOOD.len(), 3).is_none(), "more fields than configured");
        assert!(upgrade(GOOD.as_bytes(), GOOD.len(), 4).is_some());
    }

    #[test]
    fn request_stays_in_the_socket_until_it_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let looked = || look(&socket, 16 * 1024, 100);
        assert!(matches!(looked(), Seen::Nothing));
        client.write_all(format!("{GOOD}frames").as_bytes()).unwrap();
        let length = loop {
            match looked() {
                Seen::Upgrade(upgrade) => break upgrade.into_parts().1,
                other => assert!(matches!(other, Seen::Nothing)),
            }
        };
        assert!(matches!(looked(), Seen::Upgrade(_)));
        Upgrade::take(&socket, length).unwrap();
        let mut rest = [0; 6];
        io::Read::read_exact(&mut &socket, &mut rest).unwrap();
        assert_eq!(&rest, b"frames");
        drop(client);
        while let Seen::Nothing = looked() {}
        assert!(matches!(looked(), Seen::Other), "its end");
    }
}

//! Facts about the opening handshake: what is accepted, what is answered, and that other libraries agree.

#![allow(clippy::unwrap_used)]

mod corpus;

use http::header::{CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use outspoke_websocket::handshake::head::{encode_response, parse_request, parse_response};
use outspoke_websocket::{
    Accept, ClientError, ClientHandshake, HandshakeError, PermessageDeflate, Random, Upgrade, Window,
};

fn request(without: &[&str], with: &[(&str, &str)]) -> Request<()> {
    parse_request(&corpus::request("GET /ws?a=b HTTP/1.1", without, with)).unwrap()
}

fn accept(with: &[(&str, &str)], protocol: Option<&str>, compression: bool) -> Accept {
    Upgrade::of(&request(&[], with)).unwrap().accept(protocol, compression)
}

#[test]
fn upgrade_of_the_rfc_example_gets_the_rfc_answer() {
    let accept = accept(
        &[("Origin", "http://example.com"), ("Sec-WebSocket-Protocol", "chat, superchat")],
        Some("chat"),
        true,
    );
    let mut bytes = Vec::new();
    encode_response(&accept.response(), None, &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    for line in [
        "upgrade: websocket",
        "connection: Upgrade",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: chat",
    ] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{text}");
    }
    assert!(text.ends_with("\r\n\r\n") && !text.contains("extensions"), "{text}");
}

/// What proxies and browsers make of the fields.
#[test]
fn upgrade_in_every_usual_spelling_is_accepted() {
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let spellings: &[(&[&str], Fields<'_>)] = &[
        (&["Connection"], &[("Connection", "keep-alive, Upgrade")]),
        (&["Connection"], &[("Connection", "keep-alive"), ("Connection", "upgrade")]),
        (&["Connection"], &[("Connection", " ,, UPGRADE ,")]),
        (&["Upgrade"], &[("Upgrade", "WebSocket")]),
        (&["Upgrade"], &[("Upgrade", "h2c, websocket")]),
        (&["Host"], &[("Host", "[::1]:8080")]),
        (&["Host"], &[("Host", "chat.example.com:8080")]),
        (&["Sec-WebSocket-Key"], &[("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEC==")]),
        (&[], &[("Sec-WebSocket-Extensions", "x-unknown; a=b, y"), ("Pragma", "no-cache")]),
        (&[], &[("TE", "trailers"), ("Expect", "")]),
    ];
    for (without, with) in spellings {
        let request = request(without, with);
        assert!(Upgrade::of(&request).is_ok(), "{with:?}");
    }
}

#[test]
fn upgrade_over_http_2_is_refused() {
    let mut request = request(&[], &[]);
    *request.version_mut() = http::Version::HTTP_2;
    assert_eq!(Upgrade::of(&request).unwrap_err(), HandshakeError::HttpVersion);
}

#[test]
fn handshake_error_response_says_what_to_do() {
    let response = HandshakeError::VersionUnsupported.response();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["sec-websocket-version"], "13");
    assert_eq!(response.headers()[UPGRADE], "websocket");
    assert_eq!(response.headers()[CONNECTION], "upgrade");
    assert!(response.body().contains("Sec-WebSocket-Version: 13"));
    assert_eq!(HandshakeError::MethodNotGet.response().headers()["allow"], "GET");
    let mut bytes = Vec::new();
    encode_response(&response, Some(response.body().len()), &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(&format!("content-length: {}\r\n", response.body().len())));
}

#[test]
fn protocol_selected_is_the_clients_first_that_is_supported() {
    let request =
        request(&[], &[("Sec-WebSocket-Protocol", "v3, gohub"), ("Sec-WebSocket-Protocol", "outspoke.v1")]);
    let upgrade = Upgrade::of(&request).unwrap();
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["v3", "gohub", "outspoke.v1"]);
    assert_eq!(upgrade.select_protocol(&["outspoke.v1", "gohub"]), Some("gohub"));
    assert_eq!(upgrade.select_protocol(&["Gohub"]), None, "names are case-sensitive");
    assert_eq!(upgrade.select_protocol(&[]), None);
}

/// Each is compared with those before it, on every line, so thousands would cost milliseconds before anybody is known.
#[test]
fn more_subprotocols_than_anybody_needs_are_refused() {
    let offer = |count: usize| (0..count).map(|number| format!("{number:x}")).collect::<Vec<_>>();
    let check = |lines: &[String]| {
        let mut request = request(&[], &[]);
        for line in lines {
            request.headers_mut().append(SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap());
        }
        Upgrade::of(&request).map(|upgrade| upgrade.protocols().count())
    };
    assert_eq!(check(&[offer(32).join(",")]), Ok(32));
    for count in [33, 5000] {
        assert_eq!(check(&[offer(count).join(",")]), Err(HandshakeError::TooManyProtocols), "{count}");
        assert_eq!(check(&offer(count)), Err(HandshakeError::TooManyProtocols), "{count}, each on its line");
    }
    assert_eq!(HandshakeError::TooManyProtocols.status(), 400);
}

/// A browser closes the connection if the answer names a protocol that it did not offer.
#[test]
fn protocol_that_was_not_offered_is_not_answered() {
    let accept = accept(&[("Sec-WebSocket-Protocol", "a, b")], Some("c"), false);
    assert_eq!(accept.protocol(), None);
    assert!(!accept.response().headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
}

/// What the server answers to an offer; `None`: no compression.
fn answer(offers: &[&str]) -> Option<String> {
    let fields: Vec<_> = offers.iter().map(|offer| ("Sec-WebSocket-Extensions", *offer)).collect();
    let response = accept(&fields, None, true).response();
    response.headers().get(SEC_WEBSOCKET_EXTENSIONS).map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn deflate_offer_that_can_be_honoured_is_accepted_without_context_takeover() {
    let plain = Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned());
    for offer in [
        "permessage-deflate",
        "Permessage-Deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=\"10\"",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=15",
        "permessage-deflate ; server_max_window_bits = 15 ; client_max_window_bits",
        "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
    ] {
        assert_eq!(answer(&[offer]), plain, "{offer}");
    }
}

#[test]
fn deflate_offer_with_a_small_server_window_is_answered_with_it() {
    for bits in 9..15_u8 {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let answered = answer(&[&offer]).unwrap();
        assert!(answered.ends_with(&format!("; server_max_window_bits={bits}")), "{answered}");
        let accept = accept(&[("Sec-WebSocket-Extensions", &offer)], None, true);
        assert_eq!(accept.deflate().map(PermessageDeflate::server_window), Some(Window::Small));
    }
}

#[test]
fn deflate_offer_with_wrong_parameters_is_declined() {
    for offer in [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=9x",
        "permessage-deflate; server_max_window_bits=256",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=99999999999999999999",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=11",
        "permessage-deflate; unknown",
        "permessage-deflate; Server_No_Context_Takeover",
        "permessage-bzip2",
    ] {
        assert_eq!(answer(&[offer]), None, "{offer}");
    }
}

#[test]
fn deflate_second_offer_is_taken_where_the_first_is_declined() {
    let fallback =
        "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10";
    assert!(answer(&[fallback]).unwrap().ends_with("=10"));
    assert!(answer(&["permessage-deflate; unknown", "permessage-deflate"]).is_some());
    assert!(
        answer(&["permessage-deflate", "permessage-deflate; server_max_window_bits=9"])
            .unwrap()
            .ends_with("client_no_context_takeover")
    );
}

#[test]
fn deflate_offer_is_left_unanswered_if_compression_is_off() {
    let accept = accept(&[("Sec-WebSocket-Extensions", "permessage-deflate")], None, false);
    assert_eq!(accept.deflate(), None);
    assert!(!accept.response().headers().contains_key(SEC_WEBSOCKET_EXTENSIONS));
}

fn client(url: &str) -> ClientHandshake {
    ClientHandshake::new(url.parse::<Uri>().unwrap(), &mut Random::seeded(1)).unwrap()
}

#[test]
fn client_request_is_accepted_by_our_server_and_its_answer_by_our_client() {
    let handshake = client("ws://chat.example.com:8080/ws?userId=u1").compression(true);
    let handshake = handshake.protocol("outspoke.v1").unwrap().protocol("gohub").unwrap();
    let request = parse_request(&handshake.request()).unwrap();
    assert_eq!(request.uri(), "/ws?userId=u1");
    assert_eq!(request.headers()["host"], "chat.example.com:8080");
    let mut response = Vec::new();
    encode_response(
        &Upgrade::of(&request).unwrap().accept(Some("gohub"), true).response(),
        None,
        &mut response,
    );
    let established = handshake.check(&response).unwrap();
    assert_eq!(established.protocol.as_deref(), Some("gohub"));
    assert_eq!(established.deflate.map(PermessageDeflate::client_window), Some(Window::Full));
}

#[test]
fn client_host_field_leaves_out_the_default_port_only() {
    let host = |url| parse_request(&client(url).request()).unwrap().headers()["host"].clone();
    assert_eq!(host("ws://a.b"), "a.b");
    assert_eq!(host("ws://a.b:80/"), "a.b");
    assert_eq!(host("wss://a.b:443/"), "a.b");
    assert_eq!(host("wss://a.b:80/"), "a.b:80");
    assert_eq!(host("ws://[::1]:9000/"), "[::1]:9000");
    assert!(client("ws://a.b?x=1").request().starts_with(b"GET /?x=1 HTTP/1.1\r\n"));
}

#[test]
fn client_url_that_is_no_websocket_address_is_refused() {
    for url in ["http://a.b/", "/ws", "a.b:80", "ws://user:secret@a.b/"] {
        let result = ClientHandshake::new(url.parse().unwrap(), &mut Random::seeded(1));
        assert_eq!(result.unwrap_err(), ClientError::Url, "{url}");
    }
}

#[test]
fn client_takes_further_headers_but_not_those_of_the_handshake() {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer k"));
    let request = client("ws://a.b/").headers(&headers).unwrap().request();
    assert_eq!(parse_request(&request).unwrap().headers()["authorization"], "Bearer k");
    headers.insert("sec-websocket-key", HeaderValue::from_static("x"));
    let error = client("ws://a.b/").headers(&headers).unwrap_err();
    assert_eq!(error, ClientError::ReservedHeader("sec-websocket-key".to_owned()));
}

#[test]
fn client_protocol_that_is_no_token_or_named_twice_is_refused() {
    for name in ["", "a b", "a,b", "ä"] {
        assert!(client("ws://a.b/").protocol(name).is_err(), "{name}");
    }
    assert!(client("ws://a.b/").protocol("a").unwrap().protocol("a").is_err());
}

/// A server's answer with `{accept}` filled in, judged by a client that offers protocol `a`, and compression.
fn judge(answer: &str) -> Result<Option<String>, ClientError> {
    let handshake = client("ws://a.b/").protocol("a").unwrap().compression(true);
    let request = parse_request(&handshake.request()).unwrap();
    let key = outspoke_websocket::handshake::accept_key(request.headers()["sec-websocket-key"].as_bytes());
    handshake.check(answer.replace("{accept}", &key).as_bytes()).map(|established| established.protocol)
}

#[test]
fn client_refuses_every_answer_that_is_not_to_its_request() {
    let valid = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n";
    assert_eq!(judge(valid), Ok(None));
    let with = |field: &str| judge(&valid.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n")));
    let without = |field: &str| {
        let kept = valid.split_inclusive("\r\n").filter(|line| !line.starts_with(field));
        judge(&kept.collect::<String>())
    };
    assert_eq!(without("Upgrade"), Err(ClientError::NotAnUpgrade));
    assert_eq!(without("Connection"), Err(ClientError::NotAnUpgrade));
    assert_eq!(without("Sec-WebSocket-Accept"), Err(ClientError::AcceptKey));
    assert_eq!(judge(&valid.replace("HTTP/1.1", "HTTP/1.0")), Err(ClientError::NotAnUpgrade));
    assert_eq!(
        judge(&valid.replace("{accept}", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        Err(ClientError::AcceptKey)
    );
    assert_eq!(with("Sec-WebSocket-Accept: {accept}"), Err(ClientError::AcceptKey));
    for status in ["200", "301", "401", "403", "426", "503"] {
        let refused = Err(ClientError::Refused(status.parse().unwrap()));
        assert_eq!(judge(&valid.replace("101", status)), refused);
    }
    assert!(matches!(judge("hello\r\n\r\n"), Err(ClientError::Head(_))));

    assert_eq!(with("Sec-WebSocket-Protocol: a"), Ok(Some("a".to_owned())));
    for protocol in ["b", "A", "a, a", "a, b", ""] {
        assert_eq!(
            with(&format!("Sec-WebSocket-Protocol: {protocol}")),
            Err(ClientError::UnexpectedProtocol)
        );
    }
    let deflate = "permessage-deflate; server_no_context_takeover";
    assert_eq!(with(&format!("Sec-WebSocket-Extensions: {deflate}")), Ok(None));
    assert_eq!(with(&format!("Sec-WebSocket-Extensions: {deflate}; client_max_window_bits=9")), Ok(None));
    for answer in [
        "permessage-deflate",
        "x-unknown",
        &format!("{deflate}; client_max_window_bits"),
        &format!("{deflate}; client_max_window_bits=7"),
        &format!("{deflate}; server_max_window_bits=16"),
        &format!("{deflate}; unknown"),
        &format!("{deflate}, {deflate}"),
        &format!("{deflate}, x-unknown"),
        "permessage-deflate;",
        "",
    ] {
        let extension = with(&format!("Sec-WebSocket-Extensions: {answer}"));
        assert_eq!(extension, Err(ClientError::UnexpectedExtension), "{answer}");
    }
}

#[test]
fn client_that_offered_nothing_accepts_nothing() {
    let handshake = client("ws://a.b/");
    let request = parse_request(&handshake.request()).unwrap();
    let mut response = Upgrade::of(&request).unwrap().accept(None, false).response();
    assert!(handshake.check_response(&response).is_ok());
    let deflate = HeaderValue::from_static("permessage-deflate; server_no_context_takeover");
    response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, deflate);
    assert_eq!(handshake.check_response(&response), Err(ClientError::UnexpectedExtension));
    response.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("a"));
    assert_eq!(handshake.check_response(&response), Err(ClientError::UnexpectedProtocol));
}

/// 8 bits is a window that our compressor cannot make: the client then sends plain messages, which is always allowed.
#[test]
fn client_asked_for_a_window_of_8_bits_never_compresses() {
    let handshake = client("ws://a.b/").compression(true);
    let request = parse_request(&handshake.request()).unwrap();
    let mut response = Upgrade::of(&request).unwrap().accept(None, false).response();
    let deflate =
        HeaderValue::from_static("permessage-deflate; server_no_context_takeover; client_max_window_bits=8");
    response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, deflate);
    let agreed = handshake.check_response(&response).unwrap().deflate.unwrap();
    assert_eq!(agreed.client_window(), Window::Plain);
}

/// Half of an in-memory connection: reads what it was given, keeps what is written.
struct Half {
    input: std::io::Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl std::io::Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.input.read(buffer)
    }
}

impl std::io::Write for Half {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.output.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn tungstenite_server_accepts_our_request_and_our_client_its_answer() {
    let handshake = client("ws://a.b/ws");
    let half = Half { input: std::io::Cursor::new(handshake.request()), output: Vec::new() };
    let socket = tungstenite::accept(half).unwrap();
    let established = handshake.check(&socket.get_ref().output).unwrap();
    assert_eq!((established.protocol, established.deflate), (None, None));
}

#[test]
fn tungstenite_client_request_is_accepted_by_our_server() {
    use tungstenite::client::IntoClientRequest;
    let request = "ws://a.b:9000/ws?x=1".into_client_request().unwrap();
    let (bytes, _) = tungstenite::handshake::client::generate_request(request).unwrap();
    let request = parse_request(&bytes).unwrap();
    let mut response = Vec::new();
    encode_response(&Upgrade::of(&request).unwrap().accept(None, true).response(), None, &mut response);
    assert_eq!(parse_response(&response).unwrap().status(), 101);
}

//! Any bytes as a request and as an answer: no panic, the head's end found the same at once and byte by byte, an accepted
//! request really has what RFC 6455 section 4.2.1 demands, and our client accepts our server's answer to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outspoke_websocket::handshake::head::{HeadReader, encode_response, parse_request, parse_response};
use outspoke_websocket::{ClientHandshake, Random, Upgrade};

fuzz_target!(|data: &[u8]| {
    let at_once = HeadReader::new().end(data);
    let mut reader = HeadReader::new();
    let step_by_step = (1..=data.len()).find_map(|length| reader.end(&data[..length]).transpose());
    assert_eq!(at_once.transpose(), step_by_step);

    if let Some(Ok(end)) = step_by_step {
        check_request(&data[..end]);
    }
    let handshake = ClientHandshake::new("ws://a.b/".parse().expect("a valid url"), &mut Random::seeded(0));
    let handshake = handshake.expect("a websocket url").compression(true);
    // Its key is fixed, so the fuzzer may even find an answer that matches.
    let _ = handshake.check(data);
});

fn check_request(head: &[u8]) {
    let Ok(request) = parse_request(head) else { return };
    let upgrade = match Upgrade::of(&request) {
        Ok(upgrade) => upgrade,
        Err(error) => {
            assert!(error.status().is_client_error());
            let _ = error.response();
            return;
        }
    };
    assert_eq!(request.method(), "GET");
    for once in ["host", "sec-websocket-key", "sec-websocket-version"] {
        assert_eq!(request.headers().get_all(once).iter().count(), 1, "{once}");
    }
    for never in ["content-length", "transfer-encoding"] {
        assert!(!request.headers().contains_key(never), "{never}");
    }
    assert_eq!(request.headers()["sec-websocket-key"].len(), 24);
    assert_eq!(request.headers()["sec-websocket-version"], "13");

    let protocol = upgrade.protocols().last();
    let accept = upgrade.accept(protocol, true);
    assert_eq!(accept.protocol(), protocol);
    let mut response = Vec::new();
    encode_response(&accept.response(), None, &mut response);
    let response = parse_response(&response).expect("our own answer");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers().contains_key("sec-websocket-extensions"), accept.deflate().is_some());
}

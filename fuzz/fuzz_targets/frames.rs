//! Any bytes, cut in any way: no panic, memory bounded by what was received, the same result as uncut, nothing after
//! the end, and every message encodes to something that decodes to itself.
#![no_main]

#[path = "../../crates/websocket/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use outspoke_websocket::{Opcode, Role};
use support::{End, Event, Receiver, frame};

const LIMIT: usize = 4096;
/// The box that holds what is incomplete, and the smallest buffer in it.
const FIXED_BYTES: usize = 256;

fuzz_target!(|data: &[u8]| {
    let [options, bytes @ ..] = data else { return };
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    let compression = options & 2 != 0;
    // The length of the pieces; with 0 they are of growing length.
    let piece = usize::from(options >> 2);

    let mut whole = Receiver::new(role, compression, LIMIT);
    whole.feed(bytes);
    let mut cut = Receiver::new(role, compression, LIMIT);
    let (mut rest, mut received, mut next) = (bytes, 0, 1);
    while !rest.is_empty() {
        let length = if piece == 0 { next } else { piece };
        let (head, tail) = rest.split_at(length.min(rest.len()));
        cut.feed(head);
        (rest, received, next) = (tail, received + head.len(), next + 1);
        let held = cut.decoder.pending_bytes();
        assert!(held <= 2 * received + FIXED_BYTES, "{held} bytes held after {received}");
        assert!(held <= 2 * LIMIT + FIXED_BYTES, "{held} bytes held");
    }
    assert_eq!(whole.events, cut.events);
    assert_eq!(whole.end(), cut.end());
    for end in [&whole, &cut] {
        assert!(end.end() == End::Open || (end.decoder.is_finished() && end.decoder.is_idle()));
    }
    for event in &whole.events {
        round_trip(event);
    }
});

/// The event, sent to a server in fragments, comes out as itself.
fn round_trip(event: &Event) {
    let key = Some([0xa5, 0x5a, 0x0f, 0xf0]);
    let (opcode, payload) = match event {
        Event::Text(text) => (Opcode::Text, text.as_bytes()),
        Event::Binary(bytes) => (Opcode::Binary, &bytes[..]),
        Event::Ping(payload) => (Opcode::Ping, &payload[..]),
        Event::Pong(payload) => (Opcode::Pong, &payload[..]),
        Event::Close(_) => return,
    };
    let bytes = if opcode.is_control() {
        frame(true, false, opcode, payload, key)
    } else {
        let (first, second) = payload.split_at(payload.len() / 2);
        let first = frame(false, false, opcode, first, key);
        [first, frame(true, false, Opcode::Continuation, second, key)].concat()
    };
    let mut receiver = Receiver::server(LIMIT);
    receiver.feed(&bytes);
    assert_eq!(receiver.events, std::slice::from_ref(event));
}

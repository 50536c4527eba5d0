//! Any bytes as a compressed message: no panic, never above the limit, the inflater usable afterwards; and any bytes as
//! a message: compressed and inflated they are themselves.
#![no_main]

#[path = "../../crates/websocket/tests/support/mod.rs"]
mod support;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use outspoke_websocket::{Deflater, Opcode, ProtocolError, Role, Window};
use support::{Event, Receiver, frame};

const LIMIT: usize = 256 * 1024;

thread_local! {
    // Kept over all runs, as a shard keeps it over all connections: nothing of one message may show in the next.
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::with_level(1, 0));
    static RECEIVER: RefCell<Receiver> = RefCell::new(receiver());
}

fn receiver() -> Receiver {
    Receiver::new(Role::Client, true, LIMIT)
}

fuzz_target!(|data: &[u8]| {
    let fresh = inflate(&mut receiver(), data);
    RECEIVER.with_borrow_mut(|used| {
        assert_eq!(inflate(used, data), fresh, "a used inflater gives another result");
        for window in [Window::Full, Window::Small] {
            let compressed =
                DEFLATER.with_borrow_mut(|deflater| deflater.compress(data, window).map(<[u8]>::to_vec));
            if let Some(compressed) = compressed {
                assert!(compressed.len() < data.len());
                assert_eq!(inflate(used, &compressed).as_deref(), Ok(data));
            }
        }
    });
});

/// The message that the bytes inflate to.
fn inflate(receiver: &mut Receiver, compressed: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    receiver.decoder = outspoke_websocket::Decoder::new(Role::Client, true);
    (receiver.events, receiver.error) = (Vec::new(), None);
    receiver.feed(&frame(true, true, Opcode::Binary, compressed, None));
    match (receiver.events.pop(), receiver.error) {
        (Some(Event::Binary(bytes)), None) => {
            assert!(bytes.len() <= LIMIT);
            Ok(bytes)
        }
        (None, Some(error)) => Err(error),
        other => panic!("one frame gave {other:?}"),
    }
}

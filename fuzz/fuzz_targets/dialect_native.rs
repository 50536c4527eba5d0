//! Any bytes as a frame of the `native` dialect: no panic, refusals that can be written down and name their request, and
//! whatever is accepted can be read by every receiver, in every dialect.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outspoke_protocol::Payload;
use outspoke_protocol::dialects::native::{Native, NativeBinary};

#[path = "../../crates/protocol/tests/checks/mod.rs"]
mod checks;

fuzz_target!(|data: &[u8]| {
    match std::str::from_utf8(data) {
        Ok(text) => checks::check_frame(&Native, Payload::Text(text)),
        Err(_) => checks::check_frame(&Native, Payload::Binary(data)),
    }
    checks::check_frame(&NativeBinary, Payload::Binary(data));
});

//! Any bytes as the stored record of a message: no panic, no memory beyond what is there, and what is read can be written
//! and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/protocol/tests/checks/record.rs"]
mod check;

fuzz_target!(|data: &[u8]| check::check_record(data));

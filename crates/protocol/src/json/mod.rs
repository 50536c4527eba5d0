//! What the JSON dialects share: reading a flat object, writing values, and judging foreign JSON.
//!
//! Below the dialects, beside nothing else. Knows JSON (RFC 8259) and the neutral types, no dialect's words.

mod names;
mod portable;
mod read;
mod write;

pub(crate) use names::Names;
pub use portable::check_portable;
pub(crate) use read::{Field, Object, bad_request, read_object};
pub(crate) use write::{
    array, base64, boolean, close, epoch, integer, key, millis, open, raw, string, timestamp, unsigned, uuid,
};

//! Names of an application's own sorts of messages, which are types on the wire.
//!
//! Whoever publishes may choose one, over the wire or over HTTP; what a dialect itself says or understands is taken.

use ecow::eco_format;

use super::requests::Ask;
use super::{SERVER_TYPES, TYPE_LEN_MAX};
use crate::json::bad_request;
use crate::{Kind, Refusal};

/// Requests that are no [`Ask`], and what the server tells of clients.
const TAKEN: [&str; 7] = ["chat", "publish", "subscribe", "unsubscribe", "join", "leave", "ping"];

/// The kind of messages with an application's own name: 1 to 64 letters, digits, `_`, `-`, `.` and `:`.
///
/// # Errors
/// `bad_request` where the name is another's already, or none.
pub fn custom_kind(name: &str) -> Result<Kind, Refusal> {
    if TAKEN.contains(&name) || SERVER_TYPES.contains(&name) || Ask::from_name(name).is_some() {
        return Err(bad_request(format_args!(
            "{name:?} is a type of the protocol's own: choose another name"
        )));
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if !(1..=TYPE_LEN_MAX).contains(&name.len()) || !name.bytes().all(is_letter) {
        let detail =
            eco_format!("a sort of message has a name of 1 to {TYPE_LEN_MAX} letters, digits, _, -, . and :");
        return Err(bad_request(detail));
    }
    Ok(Kind::Custom(name.into()))
}

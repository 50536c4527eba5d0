//! The opening handshake (RFC 6455 section 4), both roles, and the negotiation of permessage-deflate (RFC 7692).
//!
//! A server with an HTTP library hands the parsed request to [`Upgrade::check`]; one without reads it with [`head`]
//! first. A client uses [`ClientHandshake`]. Origin and authentication are the caller's decisions.

mod client;
mod extension;
pub mod head;
mod lists;
mod server;

pub use client::{ClientError, ClientHandshake, Established};
pub use extension::PermessageDeflate;
pub use server::{Accept, HandshakeError, Upgrade};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Appended to the client's key before hashing (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The answer to a key: proves that the server speaks WebSocket (section 4.2.2, point 5.4).
pub fn accept_key(key: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_of_the_rfc_example() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}

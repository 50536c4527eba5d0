//! What a peer can do wrong on an open connection, and the close code that answers it.
//!
//! Returned by the decoder only. Every variant ends the connection (RFC 6455 section 7.1.7): the caller
//! sends a close frame with [`ProtocolError::close_code`] and the error's text as reason, then closes.

use crate::CloseCode;

/// Why a received byte sequence ends the connection. The texts fit a close frame's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV2 or RSV3 is set, or RSV1 without permessage-deflate: no extension gives it a meaning (section 5.2).
    #[error("reserved bit set without an extension that defines it")]
    ReservedBit,
    /// RSV1 outside the first frame of a message (RFC 7692 section 6).
    #[error("compression bit set on a control or continuation frame; set it on a message's first frame only")]
    MisplacedCompressionBit,
    /// Opcodes 3 to 7 and 11 to 15 are reserved (section 5.2).
    #[error("reserved opcode {0:#x}; use text, binary, close, ping, pong or continuation")]
    ReservedOpcode(u8),
    /// A client must mask every frame (section 5.1).
    #[error("unmasked frame; a client must mask every frame")]
    Unmasked,
    /// A server must not mask (section 5.1).
    #[error("masked frame; a server must not mask")]
    Masked,
    /// Control frames must not be fragmented (section 5.5).
    #[error("fragmented control frame; send it whole")]
    FragmentedControl,
    /// Control payloads have at most 125 bytes (section 5.5).
    #[error("control frame payload above 125 bytes")]
    ControlTooLong,
    /// The length must use the shortest of the three forms (section 5.2).
    #[error("payload length not in its shortest form")]
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length must be 0 (section 5.2).
    #[error("payload length with its most significant bit set")]
    LengthTopBit,
    /// A continuation frame without a message to continue (section 5.4).
    #[error("continuation frame without a started message")]
    UnexpectedContinuation,
    /// A new message started before the fragmented one ended (section 5.4).
    #[error("new message inside a fragmented one; send its continuation frames first")]
    ExpectedContinuation,
    /// A close payload is empty or starts with a two-byte code (section 5.5.1).
    #[error("close frame with a one-byte payload; send a two-byte code or nothing")]
    ClosePayloadTooShort,
    /// The close code must not appear on the wire (section 7.4).
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(u16),
    /// A close reason is UTF-8 (section 5.5.1).
    #[error("close reason is not valid UTF-8")]
    CloseReasonNotUtf8,
    /// A text message is UTF-8 (section 5.6).
    #[error("text message is not valid UTF-8; send bytes as a binary message")]
    TextNotUtf8,
    /// The compressed payload is not a deflate stream as RFC 7692 section 7.2 wants it.
    #[error("compressed message is not valid deflate data")]
    CorruptDeflate,
    /// The message, as declared, received or inflated, is above the limit.
    #[error("message above the limit of {limit} bytes; send a smaller one or split it")]
    MessageTooBig {
        /// The limit in bytes.
        limit: usize,
    },
}

impl ProtocolError {
    /// The code for the close frame: 1002, 1007 or 1009.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::CloseReasonNotUtf8 | Self::TextNotUtf8 | Self::CorruptDeflate => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig { .. } => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

//! Close codes, close payloads and the closing handshake (RFC 6455 sections 5.5.1, 7.1 and 7.4).
//!
//! The decoder parses close payloads with it, the encoder writes them. [`CloseHandshake`] holds one
//! connection's part of the exchange; time limits and the TCP close belong to the caller.

use crate::ProtocolError;

/// The longest reason that fits a close frame beside its code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// A close code that may appear on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that this endpoint does not accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: data that contradicts its kind, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the endpoint's policy forbids it.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message above the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client wanted an extension that the server did not negotiate.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: the server failed.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code, if it may be sent: 1000 to 1003, 1007 to 1014, and 3000 to 4999 (section 7.4 and the IANA registry).
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The payload of a close frame that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why.
    pub code: CloseCode,
    /// For humans; may be empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads a close payload; `None` stands for an empty one.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Option<Self>, ProtocolError> {
        match payload {
            [] => Ok(None),
            [_] => Err(ProtocolError::ClosePayloadTooShort),
            [high, low, reason @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                let code = CloseCode::new(number).ok_or(ProtocolError::InvalidCloseCode(number))?;
                let reason =
                    simdutf8::basic::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
                Ok(Some(Self { code, reason }))
            }
        }
    }
}

/// `reason` cut to what fits a close frame, at a character boundary.
pub(crate) fn fit_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)]
}

/// What to do after a close frame was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReaction {
    /// Send a close frame with this code (`None`: with an empty payload), then end the connection.
    Reply(Option<CloseCode>),
    /// Ours was answered: end the connection (the server closes TCP first, section 7.1.1).
    Finish,
}

/// One connection's closing handshake: who has sent a close frame so far.
///
/// After [`CloseHandshake::sent`] no data may be written; after [`CloseHandshake::received`] none is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloseHandshake {
    sent: bool,
    received: bool,
}

impl CloseHandshake {
    /// Nothing sent, nothing received.
    pub const fn new() -> Self {
        Self { sent: false, received: false }
    }

    /// Asks to send a close frame. True once only: a second close frame must not be sent.
    pub const fn start(&mut self) -> bool {
        !std::mem::replace(&mut self.sent, true)
    }

    /// Notes the peer's close frame and says how to react: its code is echoed (section 5.5.1).
    pub fn receive(&mut self, frame: Option<CloseFrame<'_>>) -> CloseReaction {
        self.received = true;
        if self.start() { CloseReaction::Reply(frame.map(|frame| frame.code)) } else { CloseReaction::Finish }
    }

    /// A close frame of ours was sent.
    pub const fn sent(&self) -> bool {
        self.sent
    }

    /// A close frame of the peer's was received.
    pub const fn received(&self) -> bool {
        self.received
    }

    /// Both sides have said goodbye: only TCP remains to be closed.
    pub const fn is_complete(&self) -> bool {
        self.sent && self.received
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn close_code_sendable_are_exactly_the_registered_and_the_private_ranges() {
        let sendable = |code: u16| CloseCode::new(code).is_some();
        for code in 0..=u16::MAX {
            let expected = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(sendable(code), expected, "{code}");
        }
    }

    #[test]
    fn close_payload_of_one_byte_is_a_protocol_error() {
        assert_eq!(CloseFrame::parse(&[3]), Err(ProtocolError::ClosePayloadTooShort));
    }

    #[test]
    fn close_reason_is_cut_at_a_character_boundary() {
        let reason = "é".repeat(100);
        let cut = fit_reason(&reason);
        assert_eq!(cut.len(), 122);
        assert!(reason.starts_with(cut));
        assert_eq!(fit_reason("bye"), "bye");
    }

    #[test]
    fn close_handshake_started_by_the_peer_echoes_its_code_once() {
        let mut state = CloseHandshake::new();
        let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: "" };
        assert_eq!(state.receive(Some(frame)), CloseReaction::Reply(Some(CloseCode::GOING_AWAY)));
        assert!(!state.start());
        assert!(state.is_complete());
    }

    #[test]
    fn close_handshake_started_here_finishes_with_the_peers_answer() {
        let mut state = CloseHandshake::new();
        assert!(state.start());
        assert!(!state.is_complete());
        assert_eq!(state.receive(None), CloseReaction::Finish);
        assert!(state.is_complete());
    }
}

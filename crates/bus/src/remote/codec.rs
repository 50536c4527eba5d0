//! A protocol's spelling, without I/O.

use bytes::{Bytes, BytesMut};

use crate::Topic;

/// Speaks a protocol on one connection, after the login.
pub(crate) trait Codec: Send + 'static {
    /// What the first bytes of `input` say, which it takes; `None` when more are needed.
    ///
    /// # Errors
    /// The server has said that something failed, or something that is not understood: the connection cannot be used any more.
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Event>, String>;

    /// Asks for a topic, which is not asked for on this connection yet.
    fn subscribe(&mut self, topic: &Topic, out: &mut BytesMut);

    /// Asks for a topic no longer.
    fn unsubscribe(&mut self, topic: &Topic, out: &mut BytesMut);

    /// Asks for one [`Event::Pong`].
    fn ping(&mut self, out: &mut BytesMut);

    /// Answers an [`Event::Ping`].
    fn pong(&mut self, out: &mut BytesMut);

    /// As [`ping`](Self::ping), and has the server say whether it is one to publish to; if not, decoding fails.
    fn check(&mut self, out: &mut BytesMut) {
        self.ping(out);
    }
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "nats", feature = "redis")),
    allow(dead_code, reason = "no protocol says all of it")
)]
pub(crate) enum Event {
    /// Somebody published on a topic that was asked for.
    Message { topic: Topic, payload: Bytes },
    /// Everything before the ping was done.
    Pong,
    /// It wants to know whether we live.
    Ping,
    /// It has ended a subscription that nobody asked it to end.
    Ended(Topic),
    /// Nothing that matters.
    Other,
}

/// CRC-16/XMODEM: of Redis's slots, and of NATS's keys.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| crc << 8 ^ CRC16[usize::from(crc >> 8 ^ u16::from(byte))])
}

/// What each byte does to it.
const CRC16: [u16; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_has_the_check_value_of_its_catalogue_entry() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}

//! What a node puts around its bytes, so that others know what they have.
//!
//! ```text
//! magic 'O'  version  flags  origin   sent (ms)  run    number  payload ...  tag
//! 1          1        1      16       8          8      8                    16, if flags & 1
//! ```
//!
//! All numbers are big-endian. `number` counts an origin's frames on a topic; it begins at `run`, which is greater than every number
//! the origin has used before, so that an origin may forget a topic. The tag is an HMAC-SHA-256, cut to 16 bytes, over the
//! topic, a zero byte and everything before it, under the cluster's secret.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use bytes::{BufMut, Bytes, BytesMut};

use crate::{NodeId, Topic};

const MAGIC: u8 = b'O';
const VERSION: u8 = 1;
const TAGGED: u8 = 1;
const HEADER_LEN: usize = 3 + 16 + 8 + 8 + 8;
const TAG_LEN: usize = 16;
/// What a frame adds to its payload at most.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// What the nodes of a cluster know and nobody else.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// One of that text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    fn tag(&self, topic: &Topic, frame: &[u8]) -> [u8; TAG_LEN] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(topic.as_str().as_bytes());
        context.update(&[0]);
        context.update(frame);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_LEN]);
        tag
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) origin: NodeId,
    /// Milliseconds since 1970, by the origin's clock.
    pub(crate) sent: i64,
    pub(crate) run: u64,
    pub(crate) number: u64,
}

/// Why bytes are no frame of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    Garbage,
    /// Another version, or tagged where we have no secret, or the other way round.
    Foreign,
    /// The tag is not of our secret.
    Forged,
}

pub(crate) fn encode(secret: Option<&Secret>, topic: &Topic, header: &Header, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + OVERHEAD);
    frame.put_slice(&[MAGIC, VERSION, if secret.is_some() { TAGGED } else { 0 }]);
    frame.put_u128(header.origin.as_u128());
    frame.put_i64(header.sent);
    frame.put_u64(header.run);
    frame.put_u64(header.number);
    frame.put_slice(payload);
    if let Some(secret) = secret {
        let tag = secret.tag(topic, &frame);
        frame.put_slice(&tag);
    }
    frame.freeze()
}

pub(crate) fn decode(
    secret: Option<&Secret>,
    topic: &Topic,
    frame: &Bytes,
) -> Result<(Header, Bytes), NoFrame> {
    let [MAGIC, version, flags, ..] = frame[..] else { return Err(NoFrame::Garbage) };
    if version != VERSION || flags & !TAGGED != 0 || (flags & TAGGED != 0) != secret.is_some() {
        return Err(NoFrame::Foreign);
    }
    let end = frame.len() - if secret.is_some() { TAG_LEN.min(frame.len()) } else { 0 };
    if end < HEADER_LEN {
        return Err(NoFrame::Garbage);
    }
    if let Some(secret) = secret {
        let (signed, tag) = frame.split_at(end);
        verify_slices_are_equal(&secret.tag(topic, signed), tag).map_err(|_| NoFrame::Forged)?;
    }
    let header = Header {
        origin: NodeId::from_u128(u128::from_be_bytes(field(frame, 3))),
        sent: i64::from_be_bytes(field(frame, 19)),
        run: u64::from_be_bytes(field(frame, 27)),
        number: u64::from_be_bytes(field(frame, 35)),
    };
    if header.number < header.run {
        return Err(NoFrame::Garbage);
    }
    Ok((header, frame.slice(HEADER_LEN..end)))
}

/// The bytes of a header's field, whose length was checked.
fn field<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&frame[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topic() -> Topic {
        Topic::new("room/x").unwrap()
    }

    fn header() -> Header {
        Header { origin: NodeId::from_u128(7), sent: 1_700_000_000_000, run: 5, number: 9 }
    }

    #[test]
    fn frames_come_back_as_they_were() {
        for secret in [None, Some(Secret::new("abc"))] {
            let frame = encode(secret.as_ref(), &topic(), &header(), b"hello");
            let (read, payload) = decode(secret.as_ref(), &topic(), &frame).unwrap();
            assert_eq!((read, &payload[..]), (header(), &b"hello"[..]));
        }
    }

    #[test]
    fn frames_of_another_secret_or_topic_are_forged() {
        let ours = Secret::new("abc");
        let frame = encode(Some(&Secret::new("other")), &topic(), &header(), b"hello");
        assert_eq!(decode(Some(&ours), &topic(), &frame).unwrap_err(), NoFrame::Forged);
        let elsewhere = encode(Some(&ours), &Topic::new("room/y").unwrap(), &header(), b"hello");
        assert_eq!(decode(Some(&ours), &topic(), &elsewhere).unwrap_err(), NoFrame::Forged);
        let plain = encode(None, &topic(), &header(), b"hello");
        assert_eq!(decode(Some(&ours), &topic(), &plain).unwrap_err(), NoFrame::Foreign);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_is_taken_for_a_frame_under_a_secret() {
        let secret = Secret::new("abc");
        let frame = encode(Some(&secret), &topic(), &header(), b"hello");
        for len in 0..frame.len() {
            assert!(decode(Some(&secret), &topic(), &frame.slice(..len)).is_err(), "cut to {len}");
        }
        for bit in 0..frame.len() * 8 {
            let mut bent = frame.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(Some(&secret), &topic(), &bent.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn bytes_of_any_kind_do_not_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..80)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut().filter(|_| random.bool()) {
                *first = MAGIC;
            }
            if bytes.len() > 2 && random.bool() {
                (bytes[1], bytes[2]) = (VERSION, u8::from(random.bool()));
            }
            let bytes = Bytes::from(bytes);
            let _ = decode(None, &topic(), &bytes);
            let _ = decode(Some(&Secret::new("k")), &topic(), &bytes);
        }
    }
}

//! What a node puts around its payloads, so that others know what they have.
//!
//! ```text
//! magic 'O'  version  flags  origin   sent (ms)  run    number  length  payload ...  length  payload ...  tag
//! 1          1        1      16       8          8      8       4                    4                    16, if flags & 1
//! ```
//!
//! All numbers are big-endian. A frame has one payload or more, of one topic, which follow each other: `number` is the first one's,
//! and counts an origin's payloads on a topic; it begins at `run`, which is greater than every number the origin has used
//! before, so that an origin may forget a topic. The tag is an HMAC-SHA-256, cut to 16 bytes, over the topic, a zero byte and
//! everything before it, under the cluster's secret.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{NodeId, Topic};

const MAGIC: u8 = b'O';
const VERSION: u8 = 2;
const TAGGED: u8 = 1;
const HEADER_LEN: usize = 3 + 16 + 8 + 8 + 8;
const TAG_LEN: usize = 16;
/// What comes before a payload.
const LENGTH_LEN: usize = 4;
/// What a frame adds to its payloads at most, besides [`PAYLOAD_OVERHEAD`] for each of them.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// What a frame adds to each payload.
pub(crate) const PAYLOAD_OVERHEAD: usize = LENGTH_LEN;

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
    /// The first payload's.
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

/// A frame that payloads are put into.
#[derive(Debug)]
pub(crate) struct Draft(BytesMut);

impl Draft {
    /// One with room for a payload of that length, and some more.
    pub(crate) fn new(len: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(OVERHEAD + LENGTH_LEN + len);
        bytes.put_bytes(0, HEADER_LEN);
        Self(bytes)
    }

    /// Bytes in it, without what every frame has.
    pub(crate) fn len(&self) -> usize {
        self.0.len() - HEADER_LEN
    }

    /// Puts a payload behind the others; returns by how many bytes the frame has grown.
    pub(crate) fn put(&mut self, payload: &[u8]) -> usize {
        self.0.reserve(LENGTH_LEN + payload.len() + TAG_LEN);
        self.0.put_u32(u32::try_from(payload.len()).expect("a payload is shorter than what may wait"));
        self.0.put_slice(payload);
        LENGTH_LEN + payload.len()
    }

    /// The frame as it is sent.
    pub(crate) fn finish(mut self, secret: Option<&Secret>, topic: &Topic, header: &Header) -> Bytes {
        let mut front = &mut self.0[..HEADER_LEN];
        front.put_slice(&[MAGIC, VERSION, if secret.is_some() { TAGGED } else { 0 }]);
        front.put_u128(header.origin.as_u128());
        front.put_i64(header.sent);
        front.put_u64(header.run);
        front.put_u64(header.number);
        if let Some(secret) = secret {
            let tag = secret.tag(topic, &self.0);
            self.0.put_slice(&tag);
        }
        self.0.freeze()
    }
}

/// The payloads of a frame. Invariant: each is whole, and there is one at least.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    rest: Bytes,
    count: u64,
}

impl Bundle {
    /// `None`: the lengths are not those of what is there.
    fn read(bytes: Bytes) -> Option<Self> {
        let (mut rest, mut count) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (len, payloads) = rest.split_first_chunk()?;
            rest = payloads.get(u32::from_be_bytes(*len) as usize..)?;
            count += 1;
        }
        (count > 0).then_some(Self { rest: bytes, count })
    }

    /// Payloads that are left.
    pub(crate) fn payloads(&self) -> u64 {
        self.count
    }
}

impl Iterator for Bundle {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let len = self.rest.try_get_u32().ok()?;
        self.count -= 1;
        Some(self.rest.split_to(len as usize))
    }
}

pub(crate) fn decode(
    secret: Option<&Secret>,
    topic: &Topic,
    frame: &Bytes,
) -> Result<(Header, Bundle), NoFrame> {
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
    let bundle = Bundle::read(frame.slice(HEADER_LEN..end)).ok_or(NoFrame::Garbage)?;
    // Numbers do not wrap around within an origin's life.
    header.number.checked_add(bundle.payloads()).ok_or(NoFrame::Garbage)?;
    Ok((header, bundle))
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

    fn encode(secret: Option<&Secret>, topic: &Topic, header: &Header, payloads: &[&[u8]]) -> Bytes {
        let mut draft = Draft::new(0);
        let put: usize = payloads.iter().map(|payload| draft.put(payload)).sum();
        assert_eq!(draft.len(), put);
        draft.finish(secret, topic, header)
    }

    fn header() -> Header {
        Header { origin: NodeId::from_u128(7), sent: 1_700_000_000_000, run: 5, number: 9 }
    }

    #[test]
    fn frames_come_back_as_they_were() {
        for secret in [None, Some(Secret::new("abc"))] {
            let said: [&[u8]; 3] = [b"hello", b"", b"you"];
            let frame = encode(secret.as_ref(), &topic(), &header(), &said);
            let (read, bundle) = decode(secret.as_ref(), &topic(), &frame).unwrap();
            assert_eq!((read, bundle.payloads()), (header(), 3));
            assert_eq!(bundle.collect::<Vec<_>>(), said);
        }
    }

    #[test]
    fn frames_of_another_secret_or_topic_are_forged() {
        let ours = Secret::new("abc");
        let frame = encode(Some(&Secret::new("other")), &topic(), &header(), &[b"hello"]);
        assert_eq!(decode(Some(&ours), &topic(), &frame).unwrap_err(), NoFrame::Forged);
        let elsewhere = encode(Some(&ours), &Topic::new("room/y").unwrap(), &header(), &[b"hello"]);
        assert_eq!(decode(Some(&ours), &topic(), &elsewhere).unwrap_err(), NoFrame::Forged);
        let plain = encode(None, &topic(), &header(), &[b"hello"]);
        assert_eq!(decode(Some(&ours), &topic(), &plain).unwrap_err(), NoFrame::Foreign);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_is_taken_for_a_frame_under_a_secret() {
        let secret = Secret::new("abc");
        let frame = encode(Some(&secret), &topic(), &header(), &[b"hello"]);
        for len in 0..frame.len() {
            assert!(decode(Some(&secret), &topic(), &frame.slice(..len)).is_err(), "cut to {len}");
        }
        for bit in 0..frame.len() * 8 {
            let mut bent = frame.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(Some(&secret), &topic(), &bent.into()).is_err(), "bit {bit}");
        }
    }

    /// What a length says is believed only as far as there are bytes.
    #[test]
    fn frames_without_payloads_or_with_wrong_lengths_are_garbage() {
        let good = encode(None, &topic(), &header(), &[b"hello"]);
        let with = |payloads: &[u8]| {
            let frame = [&good[..HEADER_LEN], payloads].concat();
            decode(None, &topic(), &frame.into()).map(|(_, bundle)| bundle.payloads())
        };
        assert_eq!(with(b"\0\0\0\x01a"), Ok(1));
        for wrong in [&b""[..], b"\0\0\0", b"\0\0\0\x02a", b"\xff\xff\xff\xffa", b"\0\0\0\x01ab"] {
            assert_eq!(with(wrong), Err(NoFrame::Garbage), "{wrong:?}");
        }
        let last = Header { number: u64::MAX, ..header() };
        let frame = encode(None, &topic(), &last, &[b"hello"]);
        assert_eq!(decode(None, &topic(), &frame).unwrap_err(), NoFrame::Garbage);
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

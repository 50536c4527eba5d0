//! One message encoded once for any number of connections.
//!
//! Made by the hub when a message is published, handed to every shard, written to every member. The compressed
//! forms come into being when the first connection that negotiated compression needs them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::frame::{close_payload, encode};
use crate::{CloseCode, Deflater, FrameHeader, Opcode, Window};

/// The longest header without a mask key.
const SERVER_HEADER_BYTES_MAX: usize = 10;

/// A whole server frame: encoded at most once plain and once per [`Window`], shared by all clones.
///
/// # Cost
///
/// A clone is one atomic increment; [`SharedFrame::plain`] is a pointer.
#[derive(Debug, Clone)]
pub struct SharedFrame {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    opcode: Opcode,
    header_len: u8,
    plain: Bytes,
    /// `Some(None)`: tried, and not smaller.
    full: OnceLock<Option<Bytes>>,
    small: OnceLock<Option<Bytes>>,
}

impl SharedFrame {
    /// Encodes the plain form. Control payloads have at most [`crate::CONTROL_PAYLOAD_BYTES_MAX`] bytes.
    pub fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let header = FrameHeader::whole(opcode, payload.len());
        let mut frame = Vec::with_capacity(SERVER_HEADER_BYTES_MAX + payload.len());
        encode(header, payload, &mut frame);
        let header_len = (frame.len() - payload.len()) as u8;
        let inner =
            Inner { opcode, header_len, plain: frame.into(), full: OnceLock::new(), small: OnceLock::new() };
        Self { inner: Arc::new(inner) }
    }

    /// A text message.
    pub fn text(payload: &str) -> Self {
        Self::new(Opcode::Text, payload.as_bytes())
    }

    /// A binary message.
    pub fn binary(payload: &[u8]) -> Self {
        Self::new(Opcode::Binary, payload)
    }

    /// A close frame for many connections; a reason too long for it is cut at a character boundary.
    pub fn close(code: Option<CloseCode>, reason: &str) -> Self {
        let (payload, length) = close_payload(code, reason);
        Self::new(Opcode::Close, &payload[..length])
    }

    /// What the frame carries.
    pub fn opcode(&self) -> Opcode {
        self.inner.opcode
    }

    /// The payload, uncompressed.
    pub fn payload(&self) -> &[u8] {
        &self.inner.plain[usize::from(self.inner.header_len)..]
    }

    /// The uncompressed frame.
    #[inline]
    pub fn plain(&self) -> &Bytes {
        &self.inner.plain
    }

    /// The compressed frame for peers of this window class; the plain one where compression does not help.
    ///
    /// The first caller compresses, with its own thread's `deflater`, level and threshold; callers on other threads
    /// that come meanwhile wait for it (microseconds), all later ones read a pointer.
    pub fn deflated(&self, deflater: &mut Deflater, window: Window) -> &Bytes {
        let slot = match window {
            Window::Full => &self.inner.full,
            Window::Small => &self.inner.small,
            Window::Plain => return self.plain(),
        };
        slot.get_or_init(|| self.deflate(deflater, window)).as_ref().unwrap_or(&self.inner.plain)
    }

    /// The form for one connection: [`SharedFrame::deflated`] where compression was agreed, else plain.
    #[inline]
    pub fn encoded(&self, deflater: &mut Deflater, window: Option<Window>) -> &Bytes {
        match window {
            None => self.plain(),
            Some(window) => self.deflated(deflater, window),
        }
    }

    fn deflate(&self, deflater: &mut Deflater, window: Window) -> Option<Bytes> {
        if self.inner.opcode.is_control() {
            return None;
        }
        let payload = deflater.compress(self.payload(), window)?;
        let header = FrameHeader { compressed: true, ..FrameHeader::whole(self.inner.opcode, payload.len()) };
        let mut frame = Vec::with_capacity(SERVER_HEADER_BYTES_MAX + payload.len());
        encode(header, payload, &mut frame);
        Some(frame.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shared_frame_payload_is_what_was_given_at_every_header_length() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let frame = SharedFrame::new(Opcode::Binary, &payload);
            assert_eq!((frame.payload(), frame.opcode()), (&payload[..], Opcode::Binary));
            assert_eq!(
                frame.plain().len(),
                length
                    + if length < 126 {
                        2
                    } else if length < 65_536 {
                        4
                    } else {
                        10
                    }
            );
        }
    }

    /// Where compression does not help, nothing is stored a second time.
    #[test]
    fn shared_frame_that_does_not_shrink_is_plain_for_everybody() {
        let mut deflater = Deflater::with_level(1, 512);
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..2000).map(|_| random.u8(..)).collect();
        let frames = [
            SharedFrame::text("short"),
            SharedFrame::binary(&noise),
            SharedFrame::close(Some(CloseCode::GOING_AWAY), &"bye".repeat(200)),
            SharedFrame::new(Opcode::Ping, &[0; 125]),
        ];
        for frame in frames {
            for window in [Window::Full, Window::Small, Window::Plain] {
                assert_eq!(frame.deflated(&mut deflater, window).as_ptr(), frame.plain().as_ptr());
            }
            assert_eq!(frame.encoded(&mut deflater, None).as_ptr(), frame.plain().as_ptr());
        }
    }

    #[test]
    fn shared_frame_is_compressed_once_for_all_clones_and_threads() {
        let frame = SharedFrame::text(&"the same for everybody ".repeat(100));
        let compress =
            |frame: SharedFrame| frame.deflated(&mut Deflater::new(), Window::Full).as_ptr() as usize;
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let frame = frame.clone();
                std::thread::spawn(move || compress(frame))
            })
            .collect();
        let addresses: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(addresses, [compress(frame.clone()); 4]);
        assert!(frame.deflated(&mut Deflater::new(), Window::Full).len() < frame.plain().len() / 10);
        // First byte: final, compressed, text.
        assert_eq!(frame.deflated(&mut Deflater::new(), Window::Small)[0], 0xc1);
    }

    #[test]
    fn shared_close_frame_equals_an_encoded_one() {
        let mut encoded = Vec::new();
        crate::encode_close(Some(CloseCode::GOING_AWAY), "the server goes down", &mut encoded);
        let frame = SharedFrame::close(Some(CloseCode::GOING_AWAY), "the server goes down");
        assert_eq!(frame.plain(), &encoded);
        assert_eq!(SharedFrame::close(None, "").plain()[..], [0x88, 0]);
    }
}

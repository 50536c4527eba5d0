//! One message encoded once for any number of connections.
//!
//! Made by the hub when a message is published, handed to every shard, written to every member. The compressed
//! forms come into being when the first connection that negotiated compression needs them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::frame::encode;
use crate::{Deflater, FRAME_HEADER_BYTES_MAX, FrameHeader, Opcode, Window};

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
    /// Encodes the plain form.
    pub fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let header = FrameHeader::whole(opcode, payload.len());
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES_MAX.min(10) + payload.len());
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
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES_MAX + payload.len());
        encode(header, payload, &mut frame);
        Some(frame.into())
    }
}

//! Compression of sent messages (RFC 7692 section 7.2.1) without context takeover.
//!
//! One [`Deflater`] serves all connections of a thread. A message is compressed once per window class, not once
//! per connection: see [`crate::SharedFrame`].

use flate2::{Compress, Compression, FlushCompress, Status};

/// What a sync flush ends with and the sender must remove.
const SYNC_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
const DEFAULT_LEVEL: u32 = 1;
const DEFAULT_THRESHOLD_BYTES: usize = 512;
/// Output that may stay allocated between messages.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Which compressed form a peer can inflate, from the window size that it negotiated.
///
/// A stream made with a smaller window is valid for every larger one, so two forms serve all peers: the full window
/// of 15 bits, and 9 bits for the few that asked for less. Windows of 8 bits, which zlib cannot make, get plain frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// 15 bits (32 KiB), the usual one.
    Full,
    /// 9 to 14 bits: compressed with 9 bits (512 bytes).
    Small,
    /// 8 bits: never compressed.
    Plain,
}

impl Window {
    /// The class of a negotiated `max_window_bits`.
    pub const fn of_bits(bits: u8) -> Self {
        match bits {
            15.. => Self::Full,
            9..=14 => Self::Small,
            _ => Self::Plain,
        }
    }
}

/// The shared state for sending compressed messages: one per shard or client.
///
/// Allocates (about 380 KiB, 250 KiB for the small window) with the first message above the threshold.
#[derive(Debug)]
pub struct Deflater {
    level: Compression,
    threshold_bytes: usize,
    full: Option<Box<Compress>>,
    small: Option<Box<Compress>>,
    output: Vec<u8>,
}

impl Deflater {
    /// Level 1, messages of 512 bytes and more.
    pub fn new() -> Self {
        Self::with_level(DEFAULT_LEVEL, DEFAULT_THRESHOLD_BYTES)
    }

    /// `level` from 1 (fast, recommended) to 9 (small); 0 never compresses. Payloads below `threshold_bytes` stay plain.
    pub fn with_level(level: u32, threshold_bytes: usize) -> Self {
        Self {
            level: Compression::new(level.min(9)),
            threshold_bytes,
            full: None,
            small: None,
            output: Vec::new(),
        }
    }

    /// Payloads below it are not compressed.
    pub const fn threshold_bytes(&self) -> usize {
        self.threshold_bytes
    }

    /// The compressed payload, or `None` if it is below the threshold or would not be smaller.
    pub fn compress(&mut self, payload: &[u8], window: Window) -> Option<&[u8]> {
        if payload.len() < self.threshold_bytes.max(1) || self.level == Compression::none() {
            return None;
        }
        let (slot, bits) = match window {
            Window::Full => (&mut self.full, 15),
            Window::Small => (&mut self.small, 9),
            Window::Plain => return None,
        };
        let level = self.level;
        let context =
            slot.get_or_insert_with(|| Box::new(Compress::new_with_window_bits(level, false, bits)));
        context.reset();
        if self.output.len() > KEPT_BYTES_MAX {
            self.output = Vec::new();
        }
        // One byte less than the payload, plus the tail that is removed: more room could only fit a useless result.
        let room = payload.len() - 1 + SYNC_TAIL.len();
        if self.output.len() < room {
            self.output.resize(room, 0);
        }
        let length = deflate(context, payload, &mut self.output[..room])?;
        Some(&self.output[..length])
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of the compressed form without its tail, or `None` if the output is too small for it.
fn deflate(context: &mut Compress, payload: &[u8], output: &mut [u8]) -> Option<usize> {
    let status = context.compress(payload, output, FlushCompress::Sync).ok()?;
    let length = context.total_out() as usize;
    let complete = status == Status::Ok && context.total_in() == payload.len() as u64;
    if !complete || length == output.len() && !output.ends_with(&SYNC_TAIL) {
        return None;
    }
    output[..length].strip_suffix(&SYNC_TAIL).map(<[u8]>::len)
}

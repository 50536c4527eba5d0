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
        let mut context =
            slot.take().unwrap_or_else(|| Box::new(Compress::new_with_window_bits(level, false, bits)));
        context.reset();
        if self.output.len() > KEPT_BYTES_MAX {
            self.output = Vec::new();
        }
        let room = worst_case(payload.len());
        if self.output.len() < room {
            self.output.resize(room, 0);
        }
        let length = deflate(&mut context, payload, &mut self.output)?;
        *slot = Some(context);
        (length < payload.len()).then(|| &self.output[..length])
    }
}

/// Room for any result: a fixed Huffman code costs up to 9 bits a byte, blocks a few bytes each.
///
/// Giving less, to stop early where compression does not help, is not an option: zlib-rs 0.6 keeps the read position of
/// output that it could not hand over across a reset, and panics some messages later.
const fn worst_case(payload_bytes: usize) -> usize {
    payload_bytes + payload_bytes / 8 + payload_bytes / 64 + 64
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of the compressed form without its tail; `None` if it is not whole, after which the context is unusable.
fn deflate(context: &mut Compress, payload: &[u8], output: &mut [u8]) -> Option<usize> {
    let status = context.compress(payload, output, FlushCompress::Sync).ok()?;
    let length = context.total_out() as usize;
    // A full buffer may hide pending output.
    if status != Status::Ok || context.total_in() != payload.len() as u64 || length == output.len() {
        return None;
    }
    output[..length].strip_suffix(&SYNC_TAIL).map(<[u8]>::len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Inflater;

    const WINDOWS: [Window; 2] = [Window::Full, Window::Small];

    /// Lengths around every bound in the code and in deflate, text and noise.
    fn payloads() -> Vec<Vec<u8>> {
        let mut random = fastrand::Rng::with_seed(7);
        let lengths = [1, 2, 3, 4, 5, 31, 32, 125, 511, 512, 513, 1000, 16_383, 65_536, 200_000];
        let mut payloads = Vec::new();
        for length in lengths {
            payloads.push(vec![b'a'; length]);
            payloads.push((0..length).map(|_| random.u8(..)).collect());
            payloads.push((0..length).map(|_| random.u8(144..)).collect());
            payloads.push(b"the quick brown fox ".iter().copied().cycle().take(length).collect());
        }
        payloads
    }

    #[test]
    fn deflater_at_every_level_and_window_makes_what_the_inflater_reads() {
        let mut inflater = Inflater::new();
        for level in 1..=9 {
            for window in WINDOWS {
                let mut deflater = Deflater::with_level(level, 0);
                // Twice: the second round finds a used context.
                for payload in payloads().iter().chain(&payloads()) {
                    let Some(compressed) = deflater.compress(payload, window) else { continue };
                    assert!(compressed.len() < payload.len());
                    inflater.inflate(compressed, payload.len()).unwrap();
                    assert_eq!(inflater.take_large().as_deref().unwrap_or(inflater.message()), payload);
                }
                assert!(deflater.full.is_some() || deflater.small.is_some(), "the context was kept");
            }
        }
    }

    /// A peer that asked for a small window remembers 512 bytes: a farther copy would end its connection. Noise that
    /// repeats can only be compressed by copying from one repetition before.
    #[test]
    fn deflater_small_window_never_copies_from_farther_than_512_bytes() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut repeated = |distance| {
            let noise: Vec<u8> = (0..distance).map(|_| random.u8(..)).collect();
            noise.repeat(20)
        };
        for level in 1..=9 {
            let mut deflater = Deflater::with_level(level, 0);
            let mut percent = |payload: &[u8], window| {
                deflater.compress(payload, window).map_or(100, |small| small.len() * 100 / payload.len())
            };
            let near = percent(&repeated(200), Window::Small);
            assert!(near < 60, "level {level}: {near} %");
            for distance in [513, 514, 600, 1024, 20_000] {
                let payload = repeated(distance);
                let (small, full) = (percent(&payload, Window::Small), percent(&payload, Window::Full));
                assert!(small > 85 && full < 20, "level {level}, distance {distance}: {small} %, {full} %");
            }
        }
    }

    #[test]
    fn deflater_leaves_plain_what_is_short_or_would_grow() {
        let mut deflater = Deflater::new();
        assert_eq!(deflater.compress(&[b'a'; 511], Window::Full), None);
        assert!(deflater.compress(&[b'a'; 512], Window::Full).is_some());
        let mut random = fastrand::Rng::with_seed(3);
        let noise: Vec<u8> = (0..4096).map(|_| random.u8(..)).collect();
        assert_eq!(deflater.compress(&noise, Window::Full), None);
        assert_eq!(deflater.compress(&[b'a'; 4096], Window::Plain), None);
        assert_eq!(Deflater::with_level(0, 0).compress(&[b'a'; 4096], Window::Full), None);
        assert_eq!(Deflater::with_level(1, 0).compress(b"", Window::Full), None);
    }

    #[test]
    fn window_classes_follow_the_negotiated_bits() {
        let classes: Vec<Window> = (8..=15).map(Window::of_bits).collect();
        assert_eq!(classes[0], Window::Plain);
        assert_eq!(classes[1..7], [Window::Small; 6]);
        assert_eq!(classes[7], Window::Full);
    }
}

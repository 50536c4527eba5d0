//! Inflating of compressed messages (RFC 7692 section 7.2.2), counted while it happens.
//!
//! One [`Inflater`] serves all connections of a thread: without context takeover nothing of one message
//! is needed for the next. Bytes that do not end as section 7.2.1 demands are refused, never delivered in part.

use flate2::{Decompress, FlushDecompress, Status};

use crate::ProtocolError;

/// Output that may stay allocated between messages.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const FIRST_BYTES: usize = 4 * 1024;

/// What the sender removed (an empty stored block without its first bits), then an empty *final* block: the
/// stream ends exactly behind the latter, or the message was cut or forged.
const TAIL: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// The shared state for receiving compressed messages: one per shard or client.
///
/// Allocates (about 48 KiB) with the first compressed message.
#[derive(Debug, Default)]
pub struct Inflater {
    context: Option<Box<Decompress>>,
    /// Always initialised in full; only `filled` bytes of it are the message.
    output: Vec<u8>,
    filled: usize,
}

/// Where feeding stopped.
enum Fed {
    /// All input was taken.
    All,
    /// A final block ended the stream; so many bytes of input are left.
    Ended(usize),
}

impl Inflater {
    /// Without memory yet.
    pub const fn new() -> Self {
        Self { context: None, output: Vec::new(), filled: 0 }
    }

    /// The last inflated message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.output[..self.filled]
    }

    /// Gives the last message away if its buffer is too big to keep.
    pub(crate) fn take_large(&mut self) -> Option<Vec<u8>> {
        if self.output.len() <= KEPT_BYTES_MAX {
            return None;
        }
        let mut message = std::mem::take(&mut self.output);
        message.truncate(self.filled);
        self.filled = 0;
        Some(message)
    }

    /// Inflates one message into [`Self::message`].
    ///
    /// A sender may use final blocks (section 7.2.3.4), so a stream that ended is followed by a new one while
    /// input is left. An empty payload stands for the empty message: some senders leave out the 0x00 of section 7.2.3.6.
    pub(crate) fn inflate(&mut self, compressed: &[u8], limit: usize) -> Result<(), ProtocolError> {
        self.filled = 0;
        let result = self.inflate_blocks(compressed, limit);
        if result.is_err() {
            self.take_large();
        }
        result
    }

    fn inflate_blocks(&mut self, compressed: &[u8], limit: usize) -> Result<(), ProtocolError> {
        let mut rest = compressed;
        while !rest.is_empty() {
            self.reset();
            match self.feed(rest, limit)? {
                Fed::Ended(left) => rest = &rest[rest.len() - left..],
                Fed::All => {
                    return match self.feed(&TAIL, limit)? {
                        Fed::Ended(0) => Ok(()),
                        _ => Err(ProtocolError::CorruptDeflate),
                    };
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        match &mut self.context {
            Some(context) => context.reset(false),
            None => self.context = Some(Box::new(Decompress::new(false))),
        }
    }

    fn feed(&mut self, mut input: &[u8], limit: usize) -> Result<Fed, ProtocolError> {
        loop {
            if self.filled == self.output.len() {
                self.grow(limit)?;
            }
            let context = self.context.as_mut().expect("reset made it");
            let (taken, made) = (context.total_in(), context.total_out());
            let status = context
                .decompress(input, &mut self.output[self.filled..], FlushDecompress::Sync)
                .map_err(|_| ProtocolError::CorruptDeflate)?;
            let taken = (context.total_in() - taken) as usize;
            let made = (context.total_out() - made) as usize;
            input = &input[taken..];
            self.filled += made;
            if self.filled > limit {
                return Err(ProtocolError::MessageTooBig { limit });
            }
            match status {
                Status::StreamEnd => return Ok(Fed::Ended(input.len())),
                _ if self.filled == self.output.len() => {}
                _ if input.is_empty() => return Ok(Fed::All),
                _ if taken == 0 && made == 0 => return Err(ProtocolError::CorruptDeflate),
                _ => {}
            }
        }
    }

    /// Doubles the output, to at most one byte above the limit: the byte that proves a message too big.
    fn grow(&mut self, limit: usize) -> Result<(), ProtocolError> {
        if self.output.len() > limit {
            // A buffer kept from a connection with a higher limit, full to its end.
            return Err(ProtocolError::MessageTooBig { limit });
        }
        let size = (self.output.len() * 2).max(FIRST_BYTES).min(limit.saturating_add(1));
        self.output.resize(size, 0);
        Ok(())
    }
}

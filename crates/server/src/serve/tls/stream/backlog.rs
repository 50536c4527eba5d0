//! Bytes that wait for somebody, in memory that goes when they are gone.

use tokio::io::ReadBuf;

/// First in, first out. Owns nothing while it is empty.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// So many of them are gone.
    done: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        // Never all of them: then there are none.
        self.bytes.is_empty()
    }

    /// What comes next.
    pub(super) fn front(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `count` bytes that `fill` writes; it is given zeros.
    pub(super) fn push_with(&mut self, count: usize, fill: impl FnOnce(&mut [u8])) {
        let begin = self.bytes.len();
        self.bytes.resize(begin + count, 0);
        fill(&mut self.bytes[begin..]);
    }

    /// The first `count` bytes are gone.
    pub(super) fn advance(&mut self, count: usize) {
        self.done += count;
        if self.done >= self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Moves to `buffer` what it has room for.
    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = buffer.remaining().min(self.front().len());
        buffer.put_slice(&self.front()[..count]);
        self.advance(count);
    }

    /// Memory, whether it is in use or not.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

//! What every published message carries: which group, which sequence number, and since when.
//!
//! A stamp is 36 bytes of text at a fixed width, so that it survives any envelope (JSON string, plain text) and
//! is found and read without parsing: the place where the last one was found is tried first, a substring
//! search is the fallback.

use memchr::memmem;

const MARK: &[u8; 4] = b"~ob:";
const GROUP: usize = 6;
const SEQUENCE: usize = 10;
const TIME: usize = 16;

/// Bytes that a stamp takes inside a message.
pub(crate) const STAMP_LEN: usize = MARK.len() + GROUP + SEQUENCE + TIME;

/// The smallest message that can carry a stamp as a JSON string.
pub(crate) const SIZE_MIN: usize = STAMP_LEN + 2;

/// Identity and age of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The room it was published to, by number.
    pub(crate) group: u32,
    /// Its place among the messages of that room.
    pub(crate) sequence: u64,
    /// When it was sent, or should have been, in nanoseconds of the driver's clock.
    pub(crate) time: u64,
}

/// A message of fixed size that is stamped anew for each publish.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    at: usize,
}

impl Template {
    /// A message of `size` bytes in all; `quoted` makes it a JSON string.
    pub(crate) fn new(size: usize, quoted: bool) -> Self {
        let at = usize::from(quoted);
        let mut bytes = vec![b'x'; size.max(STAMP_LEN + 2 * at)];
        if quoted {
            bytes[0] = b'"';
            *bytes.last_mut().expect("at least a stamp long") = b'"';
        }
        bytes[at..at + MARK.len()].copy_from_slice(MARK);
        Self { bytes, at }
    }

    /// The message with `stamp` in it.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        let digits = &mut self.bytes[self.at + MARK.len()..];
        let (group, digits) = digits.split_at_mut(GROUP);
        let (sequence, digits) = digits.split_at_mut(SEQUENCE);
        write_hex(group, u64::from(stamp.group));
        write_hex(sequence, stamp.sequence);
        write_hex(&mut digits[..TIME], stamp.time);
        &self.bytes
    }
}

/// Finds stamps in what the server delivers.
#[derive(Debug)]
pub(crate) struct Finder {
    search: memmem::Finder<'static>,
    last_at: usize,
}

impl Finder {
    pub(crate) fn new() -> Self {
        Self { search: memmem::Finder::new(MARK), last_at: 0 }
    }

    /// The stamp in `payload`, if there is one.
    #[inline]
    pub(crate) fn find(&mut self, payload: &[u8]) -> Option<Stamp> {
        if let Some(stamp) = payload.get(self.last_at..).and_then(read) {
            return Some(stamp);
        }
        let at = self.search.find(payload)?;
        self.last_at = at;
        read(&payload[at..])
    }
}

#[inline]
fn read(bytes: &[u8]) -> Option<Stamp> {
    let digits = bytes.get(..STAMP_LEN)?.strip_prefix(MARK)?;
    let (group, digits) = digits.split_at(GROUP);
    let (sequence, time) = digits.split_at(SEQUENCE);
    Some(Stamp { group: read_hex(group)? as u32, sequence: read_hex(sequence)?, time: read_hex(time)? })
}

fn write_hex(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[inline]
fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STAMP: Stamp = Stamp { group: 999, sequence: 0xAB_CDEF_0123, time: u64::MAX - 5 };

    #[test]
    fn template_has_the_size_asked_for_and_is_a_json_string_when_quoted() {
        for size in [SIZE_MIN, 64, 128, 4096] {
            let mut template = Template::new(size, true);
            let message = template.stamped(STAMP);
            assert_eq!(message.len(), size);
            assert!(serde_json::from_slice::<String>(message).is_ok());
            assert_eq!(Template::new(size, false).stamped(STAMP).len(), size);
        }
    }

    #[test]
    fn finder_reads_a_stamp_wherever_it_lies() {
        let mut finder = Finder::new();
        let mut template = Template::new(64, true);
        for prefix in ["", "{\"data\":", "{\"type\":\"message\",\"offset\":7,\"data\":", "{\"d\":", "~ob"] {
            let message = [prefix.as_bytes(), template.stamped(STAMP), b"}"].concat();
            assert_eq!(finder.find(&message), Some(STAMP), "after {prefix:?}");
        }
    }

    #[test]
    fn finder_ignores_what_only_looks_like_a_stamp() {
        let mut finder = Finder::new();
        for text in ["", "~ob:", "{\"type\":\"join\"}", "~ob:zzzzzz0000000000000000000000000000"] {
            assert_eq!(finder.find(text.as_bytes()), None, "{text}");
        }
    }
}

//! Appends JSON values to a byte vector.
//!
//! Called by the dialects' `encode`, once per event and dialect. Invariants: what is appended is valid JSON
//! and valid UTF-8; nothing is allocated when the vector has room; no formatting machinery on the way.

use base64::Engine as _;

use crate::{Epoch, Timestamp};

/// Appends bytes that are already JSON.
pub(crate) fn raw(out: &mut Vec<u8>, json: impl AsRef<[u8]>) {
    out.extend_from_slice(json.as_ref());
}

/// Begins an object: [`key`] and a value for each field, then [`close`].
pub(crate) fn open(out: &mut Vec<u8>) {
    out.push(b'{');
}

/// Ends an object.
pub(crate) fn close(out: &mut Vec<u8>) {
    out.push(b'}');
}

/// Appends a field's name, which must need no escapes, and what separates it from the field before.
pub(crate) fn key(out: &mut Vec<u8>, name: &'static str) {
    // No value ends with an opening brace, so the first field is the one right after it.
    out.extend_from_slice(if out.last() == Some(&b'{') { b"\"" } else { b",\"" });
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends an array; `write` appends one item.
pub(crate) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Appends `true` or `false`.
pub(crate) fn boolean(out: &mut Vec<u8>, value: bool) {
    raw(out, if value { "true" } else { "false" });
}

/// Appends a string, quoted and escaped.
///
/// Beyond what RFC 8259 demands, DEL and the two line separators that are line ends in JavaScript source and
/// in some logs (U+2028, U+2029) are escaped, so that a message is always one line.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut written = 0;
    let mut at = plain_end(bytes, 0);
    while let Some(&byte) = bytes.get(at) {
        let class = CLASS[usize::from(byte)];
        if class == MAYBE_SEPARATOR && !is_separator(bytes, at) {
            at = plain_end(bytes, at + 1);
            continue;
        }
        let len = if class == MAYBE_SEPARATOR { 3 } else { 1 };
        out.extend_from_slice(&bytes[written..at]);
        escape(out, class, &bytes[at..at + len]);
        written = at + len;
        at = plain_end(bytes, written);
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// The index of the first byte from `at` on that is not copied as it is.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    // Comparisons without a branch or a table: the compiler turns sixteen of them into a few vector
    // instructions, and nearly all text is plain.
    while let Some(chunk) = bytes.get(at..at + 16) {
        let special = chunk.iter().fold(false, |special, &b| {
            special | (b < 0x20) | (b == b'"') | (b == b'\\') | (b == 0x7f) | (b == 0xe2)
        });
        if special {
            break;
        }
        at += 16;
    }
    while bytes.get(at).is_some_and(|&b| CLASS[usize::from(b)] == PLAIN) {
        at += 1;
    }
    at
}

/// Copied as it is.
const PLAIN: u8 = 0;
/// Written as `\u00XX`.
const CONTROL: u8 = b'u';
/// First byte of U+2028 and U+2029 (E2 80 A8, E2 80 A9), and of much else.
const MAYBE_SEPARATOR: u8 = 1;

/// How each byte is written; anything not named above is the letter after the backslash.
static CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 0x20 {
        class[byte] = CONTROL;
        byte += 1;
    }
    class[0x7f] = CONTROL;
    class[0x08] = b'b';
    class[b'\t' as usize] = b't';
    class[b'\n' as usize] = b'n';
    class[0x0c] = b'f';
    class[b'\r' as usize] = b'r';
    class[b'"' as usize] = b'"';
    class[b'\\' as usize] = b'\\';
    class[0xe2] = MAYBE_SEPARATOR;
    class
};

fn is_separator(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at..at + 3), Some([0xe2, 0x80, 0xa8 | 0xa9]))
}

fn escape(out: &mut Vec<u8>, class: u8, bytes: &[u8]) {
    match (class, bytes) {
        (MAYBE_SEPARATOR, [.., last]) => {
            out.extend_from_slice(if *last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
        }
        (CONTROL, [byte, ..]) => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => out.extend_from_slice(&[b'\\', class]),
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends an unsigned integer.
pub(crate) fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder of ten is a digit.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an integer.
pub(crate) fn integer(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(out, number.unsigned_abs());
}

/// Appends a duration as whole milliseconds, at most what a JavaScript number holds exactly.
pub(crate) fn millis(out: &mut Vec<u8>, duration: std::time::Duration) {
    const SAFE_MAX: u64 = (1 << 53) - 1;
    let millis = u64::try_from(duration.as_millis()).unwrap_or(SAFE_MAX);
    unsigned(out, millis.min(SAFE_MAX));
}

/// Appends a UUID as a string.
pub(crate) fn uuid(out: &mut Vec<u8>, bits: u128) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = uuid::Uuid::from_u128(bits).hyphenated().encode_lower(&mut text);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends an epoch as a string.
pub(crate) fn epoch(out: &mut Vec<u8>, epoch: Epoch) {
    let mut text = [b'"'; 18];
    for (digit, shift) in text[1..17].iter_mut().zip((0..64).step_by(4).rev()) {
        *digit = HEX[(epoch.as_u64() >> shift & 15) as usize];
    }
    out.extend_from_slice(&text);
}

/// Appends a time as an RFC 3339 string.
pub(crate) fn timestamp(out: &mut Vec<u8>, ts: Timestamp) {
    out.push(b'"');
    out.extend_from_slice(&ts.to_rfc3339());
    out.push(b'"');
}

/// Appends bytes as a base64 string (RFC 4648 section 4, with padding).
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let written = base64::engine::general_purpose::STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("four characters were reserved for every three bytes");
    out.truncate(start + written);
    out.push(b'"');
}

//! The few bytes of RFC 6455 that a load generator needs, written to be cheap.
//!
//! The driver scans server frames where they lie in its read buffer and masks what it sends; the bare server
//! does the reverse. Deliberately not the codec of the server under test: a fault there must not hide here.
//! Frames that a benchmark peer never sends (compressed, fragmented) are errors, not supported cases.

/// Opcodes, RFC 6455 section 5.2.
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Frames above this are refused, so that a broken length cannot make the driver wait for ever.
pub(crate) const PAYLOAD_MAX: usize = 16 << 20;

/// Why a peer's bytes are not frames that a benchmark can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame has reserved bits set; run the server without compression")]
    Reserved,
    #[error("a message came in several frames; use smaller messages")]
    Fragmented,
    #[error("a frame is masked where it must not be, or not masked where it must")]
    Mask,
    #[error("a frame says it is longer than {PAYLOAD_MAX} bytes")]
    TooLong,
}

/// A whole frame inside a read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Header and payload: how far the next frame is.
    pub(crate) len: usize,
}

struct Header {
    opcode: u8,
    header_len: usize,
    payload_len: usize,
}

/// Reads the frame at the start of `buf`, sent by a server (unmasked); `None` if it is not all there yet.
#[inline]
pub(crate) fn scan(buf: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(header) = header(buf, false)? else { return Ok(None) };
    let len = header.header_len + header.payload_len;
    let Some(payload) = buf.get(header.header_len..len) else { return Ok(None) };
    Ok(Some(Frame { opcode: header.opcode, payload, len }))
}

/// Reads and unmasks, in place, the frame at the start of `buf`, sent by a client.
pub(crate) fn scan_masked(buf: &mut [u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(header) = header(buf, true)? else { return Ok(None) };
    let start = header.header_len + 4;
    let len = start + header.payload_len;
    if buf.len() < len {
        return Ok(None);
    }
    let key = [buf[start - 4], buf[start - 3], buf[start - 2], buf[start - 1]];
    let payload = &mut buf[start..len];
    mask(payload, key);
    Ok(Some(Frame { opcode: header.opcode, payload, len }))
}

#[inline]
fn header(buf: &[u8], masked: bool) -> Result<Option<Header>, FrameError> {
    let &[first, second, ..] = buf else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    if first & FIN == 0 || first & 0x0F == 0 {
        return Err(FrameError::Fragmented);
    }
    if (second & MASKED != 0) != masked {
        return Err(FrameError::Mask);
    }
    let (header_len, payload_len) = match second & 0x7F {
        126 => match buf.get(2..4) {
            Some(bytes) => (4, u64::from(u16::from_be_bytes([bytes[0], bytes[1]]))),
            None => return Ok(None),
        },
        127 => match buf.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (10, u64::from_be_bytes(bytes)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    match usize::try_from(payload_len) {
        Ok(payload_len) if payload_len <= PAYLOAD_MAX => {
            Ok(Some(Header { opcode: first & 0x0F, header_len, payload_len }))
        }
        _ => Err(FrameError::TooLong),
    }
}

/// Appends an unmasked frame.
pub(crate) fn push(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_header(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

/// Appends a frame masked with `key`.
pub(crate) fn push_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8], key: u32) {
    push_header(out, opcode, payload.len(), MASKED);
    let key = key.to_ne_bytes();
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], key);
}

fn push_header(out: &mut Vec<u8>, opcode: u8, payload_len: usize, mask_bit: u8) {
    out.push(FIN | opcode);
    match payload_len {
        0..=125 => out.push(mask_bit | payload_len as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// Masks and unmasks: the same operation, eight bytes at a time.
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mixed = u64::from_ne_bytes(word.try_into().expect("chunks of 8 are 8 long")) ^ wide;
        word.copy_from_slice(&mixed.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Lengths on both sides of every header size.
    const LENGTHS: [usize; 9] = [0, 1, 7, 125, 126, 127, 65_535, 65_536, 70_000];

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn scan_finds_what_push_wrote_at_every_length() {
        for len in LENGTHS {
            let payload = content(len);
            let mut bytes = Vec::new();
            push(&mut bytes, TEXT, &payload);
            bytes.extend_from_slice(&[0x89, 0]);
            let frame = scan(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload), (TEXT, &payload[..]));
            assert_eq!(scan(&bytes[frame.len..]).unwrap().unwrap().opcode, PING);
        }
    }

    #[test]
    fn scan_split_at_every_byte_waits_for_the_rest() {
        for len in [0, 5, 125, 126, 300, 65_536] {
            let mut bytes = Vec::new();
            push(&mut bytes, TEXT, &content(len));
            for cut in (0..bytes.len()).take(400).chain(bytes.len() - 1..bytes.len()) {
                assert_eq!(scan(&bytes[..cut]), Ok(None), "payload {len}, cut {cut}");
            }
        }
    }

    #[test]
    fn masked_frames_come_back_unmasked_at_every_length() {
        for len in LENGTHS {
            let payload = content(len);
            let mut bytes = Vec::new();
            push_masked(&mut bytes, BINARY, &payload, 0xA1B2_C3D4);
            assert!(len < 8 || !bytes.windows(len).any(|window| window == payload), "masked on the wire");
            assert_eq!(scan_masked(&mut bytes.clone()[..bytes.len() - 1]), Ok(None));
            let frame = scan_masked(&mut bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload), (BINARY, &payload[..]));
        }
    }

    #[test]
    fn scan_refuses_what_a_benchmark_peer_never_sends() {
        assert_eq!(scan(&[0xC1, 0]), Err(FrameError::Reserved));
        assert_eq!(scan(&[0x01, 0]), Err(FrameError::Fragmented));
        assert_eq!(scan(&[0x80, 0]), Err(FrameError::Fragmented));
        assert_eq!(scan(&[0x81, 0x80, 0, 0, 0, 0]), Err(FrameError::Mask));
        assert_eq!(scan_masked(&mut [0x81, 0]), Err(FrameError::Mask));
        let huge = [0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(scan(&huge), Err(FrameError::TooLong));
    }
}

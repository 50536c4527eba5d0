//! XOR masking of client payloads (RFC 6455 section 5.3), in place and by words.
//!
//! Used by the decoder on received bytes and by the client's encoder on sent ones. Masking hides nothing;
//! it only keeps a browser's bytes from looking like HTTP to an intermediary.

/// XORs `payload` with `key`, as if `offset` bytes of the same payload had been done before.
///
/// Applying it twice gives the original bytes.
///
/// # Cost
///
/// One pass, a word at a time (vectorised by the compiler); a zero key costs nothing.
#[inline]
pub fn apply_mask(payload: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset % 4);
    if key == [0; 4] {
        return;
    }
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(payload: &[u8], key: [u8; 4], offset: usize) -> Vec<u8> {
        payload.iter().enumerate().map(|(index, byte)| byte ^ key[(index + offset) % 4]).collect()
    }

    #[test]
    fn mask_of_every_length_and_offset_equals_the_byte_wise_definition() {
        let payload: Vec<u8> = (0..100_u8).collect();
        for length in 0..payload.len() {
            for offset in 0..9 {
                let mut masked = payload[..length].to_vec();
                apply_mask(&mut masked, [0x37, 0xfa, 0x21, 0x3d], offset);
                assert_eq!(masked, reference(&payload[..length], [0x37, 0xfa, 0x21, 0x3d], offset));
            }
        }
    }

    #[test]
    fn mask_applied_in_pieces_equals_mask_applied_at_once() {
        let payload: Vec<u8> = (0..77_u8).collect();
        for split in 0..payload.len() {
            let mut pieces = payload.clone();
            let (head, tail) = pieces.split_at_mut(split);
            apply_mask(head, [1, 2, 3, 4], 0);
            apply_mask(tail, [1, 2, 3, 4], split);
            assert_eq!(pieces, reference(&payload, [1, 2, 3, 4], 0));
        }
    }
}

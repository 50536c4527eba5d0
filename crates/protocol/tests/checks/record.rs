//! What must hold for any bytes that are read as a record: the property tests and the fuzz target.

use outspoke_protocol::{Epoch, Position, RoomName, decode_record, encode_record};

/// Reads the bytes; what comes out is written and read again.
///
/// # Panics
/// When a promise of the records is broken.
pub(crate) fn check_record(bytes: &[u8]) {
    let room = RoomName::new("lobby", 5).expect("a printable name of five bytes");
    let position = Position { epoch: Epoch::from_u64(1), offset: 1 };
    let Ok(message) = decode_record(bytes, room.clone(), position) else { return };
    let mut again = Vec::new();
    encode_record(&message, &mut again);
    assert!(again.len() <= bytes.len(), "the shortest form of {bytes:02x?} is longer: {again:02x?}");
    assert_eq!(decode_record(&again, room, position).as_ref(), Ok(&message));
}

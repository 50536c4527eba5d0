//! Replays the corpus of malformed input against the codec itself, at every split of the bytes.

#![allow(clippy::unwrap_used)]

mod corpus;

use std::collections::HashSet;

use corpus::{FrameCase, HandshakeCase};
use outspoke_websocket::handshake::head::{HEAD_BYTES_MAX, HeadReader, parse_request};
use outspoke_websocket::{Decoder, HandshakeError, Inflater, Item, Limits, ProtocolError, Role, Upgrade};

const LIMITS: Limits = Limits::new(corpus::MESSAGE_BYTES_MAX);

/// The error that ends the case, fed in the given pieces.
fn outcome(case: &FrameCase, pieces: &[&[u8]], inflater: &mut Inflater) -> Option<ProtocolError> {
    let mut decoder = Decoder::new(Role::Server, case.deflate);
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut frames = decoder.feed(&mut input, &LIMITS, inflater);
        while let Some(item) = frames.next() {
            if let Err(error) = item {
                assert!(frames.next().is_none(), "{}: something follows the error", case.name);
                return Some(error);
            }
        }
    }
    None
}

/// A malformed sequence gets its close code however the network cuts it.
#[test]
fn corpus_frames_are_refused_with_their_close_code_at_every_split() {
    let mut inflater = Inflater::new();
    for case in corpus::frame_cases() {
        let whole = outcome(&case, &[&case.bytes], &mut inflater);
        let code = whole.map(|error| error.close_code().get());
        assert_eq!(code, Some(case.close_code), "{}: {whole:?}", case.name);
        let step = case.bytes.len() / 512 + 1;
        for split in (0..case.bytes.len()).step_by(step) {
            let (head, tail) = case.bytes.split_at(split);
            let cut = outcome(&case, &[head, tail], &mut inflater);
            assert_eq!(cut, whole, "{} split at {split}", case.name);
        }
        let bytes: Vec<&[u8]> = case.bytes.chunks(step).collect();
        assert_eq!(outcome(&case, &bytes, &mut inflater), whole, "{} in pieces of {step}", case.name);
    }
}

/// The connection after a refused one works: nothing of it is left in the shared inflater.
#[test]
fn corpus_frames_leave_the_shared_inflater_usable() {
    let mut inflater = Inflater::new();
    for case in corpus::frame_cases() {
        outcome(&case, &[&case.bytes], &mut inflater);
        let mut decoder = Decoder::new(Role::Server, true);
        let mut hello = corpus::masked(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        let mut frames = decoder.feed(&mut hello, &LIMITS, &mut inflater);
        assert_eq!(frames.next(), Some(Ok(Item::Text("Hello"))), "after {}", case.name);
    }
}

#[test]
fn corpus_is_large_and_its_names_are_unique() {
    let frames = corpus::frame_cases();
    let handshakes = corpus::handshake_cases();
    assert!(frames.len() + handshakes.len() >= 300, "{} + {}", frames.len(), handshakes.len());
    let names: HashSet<&str> =
        frames.iter().map(|case| &*case.name).chain(handshakes.iter().map(|case| case.name)).collect();
    assert_eq!(names.len(), frames.len() + handshakes.len());
}

fn answer(case: &HandshakeCase) -> Result<(), HandshakeError> {
    let end = HeadReader::new().end(&case.request)?.ok_or(HandshakeError::HeadMalformed)?;
    let request = parse_request(&case.request[..end])?;
    Upgrade::of(&request).map(|_| ())
}

#[test]
fn corpus_handshakes_are_refused_with_their_status() {
    for case in corpus::handshake_cases() {
        let error = answer(&case).expect_err(case.name);
        assert_eq!(error.status().as_u16(), case.status, "{}: {error}", case.name);
        assert!(error.to_string().len() > 30, "{}: the text says the cure", case.name);
    }
}

#[test]
fn corpus_valid_request_is_accepted() {
    let request = parse_request(&corpus::valid_request()).unwrap();
    assert!(Upgrade::of(&request).is_ok());
}

/// A head that comes byte by byte costs one search per byte, not one per byte squared, and is found at its end.
#[test]
fn head_reader_fed_byte_by_byte_finds_the_same_end() {
    let mut bytes = corpus::valid_request();
    let head = bytes.len();
    bytes.extend_from_slice(b"\x81\x80\0\0\0\0");
    let mut reader = HeadReader::new();
    let found = (1..=bytes.len()).find_map(|length| reader.end(&bytes[..length]).unwrap());
    assert_eq!(found, Some(head));
    assert_eq!(HeadReader::new().end(&bytes), Ok(Some(head)));
}

#[test]
fn head_reader_refuses_a_head_without_end_at_the_limit_and_not_before() {
    let bytes = vec![b'a'; HEAD_BYTES_MAX];
    let mut reader = HeadReader::new();
    assert_eq!(reader.end(&bytes[..HEAD_BYTES_MAX - 1]), Ok(None));
    assert_eq!(reader.end(&bytes).map_err(|error| error.status().as_u16()), Err(431));
}

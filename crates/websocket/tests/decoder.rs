//! Facts about the decoder that a hub relies on: in place, bounded, in order, nothing after the end.

#![allow(clippy::unwrap_used)]

mod corpus;
mod support;

use outspoke_websocket::{
    CloseCode, CloseFrame, Decoder, Deflater, FrameHeader, Inflater, Item, Limits, Opcode, ProtocolError,
    Role, Window,
};
use support::{End, Event, Receiver, frame};

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
const LIMIT: usize = 64 * 1024;

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

fn server_events(bytes: &[u8]) -> Vec<Event> {
    let mut receiver = Receiver::server(LIMIT);
    receiver.feed(bytes);
    assert_eq!(receiver.error, None);
    receiver.events
}

fn deflate_events(frames: &[&[u8]]) -> (Vec<Event>, Option<ProtocolError>) {
    let mut receiver = Receiver::new(Role::Client, true, LIMIT);
    frames.iter().for_each(|frame| receiver.feed(frame));
    (receiver.events, receiver.error)
}

/// RFC 6455 section 5.7.
#[test]
fn decoder_reads_the_examples_of_rfc_6455() {
    let client = |bytes: &[u8]| {
        let mut receiver = Receiver::new(Role::Client, false, LIMIT);
        receiver.feed(bytes);
        assert_eq!(receiver.error, None);
        receiver.events
    };
    assert_eq!(client(b"\x81\x05Hello"), [text("Hello")]);
    assert_eq!(server_events(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), [text("Hello")]);
    assert_eq!(client(b"\x01\x03Hel\x80\x02lo"), [text("Hello")]);
    assert_eq!(client(b"\x89\x05Hello"), [Event::Ping(b"Hello".to_vec())]);
    assert_eq!(
        server_events(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        [Event::Pong(b"Hello".to_vec())]
    );
    let bytes = [&[0x82, 0x7e, 0x01, 0x00], &[7; 256][..]].concat();
    assert_eq!(client(&bytes), [Event::Binary(vec![7; 256])]);
    let bytes = [&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], &[7; 65_536][..]].concat();
    assert_eq!(client(&bytes), [Event::Binary(vec![7; 65_536])]);
}

/// RFC 7692 section 7.2.3, as far as it does not need the previous message.
#[test]
fn decoder_reads_the_examples_of_rfc_7692() {
    let hello = (vec![text("Hello")], None);
    assert_eq!(deflate_events(&[b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"]), hello, "one frame");
    assert_eq!(deflate_events(&[b"\x41\x03\xf2\x48\xcd", b"\x80\x04\xc9\xc9\x07\x00"]), hello, "two frames");
    assert_eq!(deflate_events(&[b"\xc1\x0b\x00\x05\x00\xfa\xffHello\x00"]), hello, "stored block");
    assert_eq!(deflate_events(&[b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00"]), hello, "final block");
    let two_blocks = b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    assert_eq!(deflate_events(&[two_blocks]), hello, "two blocks");
    // Section 7.2.3.2: the second message refers to the first, which we have told the peer not to do.
    let (events, error) =
        deflate_events(&[b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xc1\x05\xf2\x00\x11\x00\x00"]);
    assert_eq!((events, error), (vec![text("Hello")], Some(ProtocolError::CorruptDeflate)), "taken over");
}

#[test]
fn decoder_reads_every_form_of_the_empty_compressed_message() {
    let empty = (vec![text("")], None);
    assert_eq!(deflate_events(&[b"\xc1\x01\x00"]), empty, "section 7.2.3.6");
    assert_eq!(deflate_events(&[b"\xc1\x02\x02\x00"]), empty, "an empty fixed block before it");
    assert_eq!(deflate_events(&[b"\xc1\x00"]), empty, "no bytes at all");
    assert_eq!(deflate_events(&[b"\x41\x00", b"\x00\x00", b"\x80\x01\x00"]), empty, "in fragments");
    assert_eq!(deflate_events(&[b"\xc1\x02\x03\x00"]), empty, "an empty final block");
}

#[test]
fn decoder_without_pending_bytes_is_16_bytes() {
    assert!(size_of::<Decoder>() <= 16, "{}", size_of::<Decoder>());
}

#[test]
fn decoder_whole_frame_is_lent_from_the_input_itself() {
    let mut input = frame(true, false, Opcode::Binary, &[1; 1000], KEY);
    let range = input.as_ptr_range();
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, false), Inflater::new());
    let mut frames = decoder.feed(&mut input, &Limits::new(LIMIT), &mut inflater);
    let Some(Ok(Item::Binary(bytes))) = frames.next() else { panic!("a binary message") };
    assert_eq!(bytes, [1; 1000]);
    assert!(range.contains(&bytes.as_ptr()));
    assert!(decoder.is_idle());
}

/// A header that the network cut does not cost the payload a copy.
#[test]
fn decoder_frame_with_a_cut_header_is_lent_from_the_second_input() {
    let bytes = frame(true, false, Opcode::Text, "Grüße".repeat(40).as_bytes(), KEY);
    for cut in 1..8 {
        let (mut decoder, mut inflater) = (Decoder::new(Role::Server, false), Inflater::new());
        let (mut head, mut tail) = (bytes[..cut].to_vec(), bytes[cut..].to_vec());
        assert!(decoder.feed(&mut head, &Limits::new(LIMIT), &mut inflater).next().is_none());
        assert!(!decoder.is_idle());
        let range = tail.as_ptr_range();
        let mut frames = decoder.feed(&mut tail, &Limits::new(LIMIT), &mut inflater);
        let Some(Ok(Item::Text(text))) = frames.next() else { panic!("a text message") };
        assert!(range.contains(&text.as_ptr()), "cut at {cut}");
        assert!(decoder.is_idle());
    }
}

#[test]
fn decoder_memory_follows_received_bytes_not_declared_ones() {
    let limit = 1 << 30;
    let mut receiver = Receiver::server(limit);
    receiver.feed(&corpus::declared(0x82, limit as u64));
    assert!(receiver.decoder.pending_bytes() < 256, "{}", receiver.decoder.pending_bytes());
    for received in (1..=256).map(|piece| piece * 1000) {
        receiver.feed(&[0; 1000]);
        let held = receiver.decoder.pending_bytes();
        assert!(held <= 2 * received + 256, "{held} bytes held after {received}");
    }
    assert_eq!(receiver.end(), End::Open);
}

#[test]
fn decoder_is_idle_again_after_every_message_that_came_in_pieces() {
    let mut receiver = Receiver::new(Role::Server, true, LIMIT);
    let stream = [
        frame(true, false, Opcode::Text, b"one", KEY),
        frame(false, false, Opcode::Text, b"t", KEY),
        frame(true, false, Opcode::Ping, b"ping", KEY),
        frame(true, false, Opcode::Continuation, b"wo", KEY),
        frame(true, true, Opcode::Text, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], KEY),
        frame(true, false, Opcode::Binary, &[3; 500], KEY),
    ];
    for bytes in stream.iter().flatten() {
        receiver.feed(&[*bytes]);
    }
    let expected =
        [text("one"), Event::Ping(b"ping".to_vec()), text("two"), text("Hello"), Event::Binary(vec![3; 500])];
    assert_eq!(receiver.events, expected);
    assert!(receiver.decoder.is_idle());
    assert_eq!(receiver.decoder.pending_bytes(), 0);
}

#[test]
fn decoder_200_000_empty_fragments_cost_no_memory() {
    for chunk in [1, 6, 4096, usize::MAX] {
        let mut receiver = Receiver::server(LIMIT);
        receiver.feed(&frame(false, false, Opcode::Text, b"a", KEY));
        let empty = frame(false, false, Opcode::Continuation, b"", KEY);
        let fragments = if chunk == 1 { 2000 } else { 200_000 };
        for piece in empty.repeat(fragments).chunks(chunk) {
            receiver.feed(piece);
            assert!(receiver.decoder.pending_bytes() < 512);
        }
        receiver.feed(&frame(true, false, Opcode::Continuation, b"b", KEY));
        assert_eq!(receiver.events, [text("ab")]);
    }
}

#[test]
fn decoder_fragments_of_one_byte_cost_what_their_bytes_cost() {
    let mut receiver = Receiver::server(LIMIT);
    receiver.feed(&frame(false, false, Opcode::Binary, b"", KEY));
    receiver.feed(&frame(false, false, Opcode::Continuation, b"x", KEY).repeat(LIMIT));
    assert!(receiver.decoder.pending_bytes() <= 2 * LIMIT + 256);
    receiver.feed(&frame(true, false, Opcode::Continuation, b"", KEY));
    assert_eq!(receiver.events, [Event::Binary(vec![b'x'; LIMIT])]);
}

#[test]
fn decoder_limit_is_exact_plain_fragmented_and_compressed() {
    let payload = vec![b'x'; 1001];
    let plain = |length: usize| vec![frame(true, false, Opcode::Binary, &payload[..length], KEY)];
    let fragments = |length: usize| {
        let (first, rest) = payload[..length].split_at(400);
        vec![
            frame(false, false, Opcode::Binary, first, KEY),
            frame(false, false, Opcode::Continuation, b"", KEY),
            frame(true, false, Opcode::Continuation, rest, KEY),
        ]
    };
    let compressed = |length: usize| {
        let mut deflater = Deflater::with_level(1, 0);
        let bytes = deflater.compress(&payload[..length], Window::Full).unwrap();
        vec![frame(true, true, Opcode::Binary, bytes, KEY)]
    };
    for make in [&plain as &dyn Fn(usize) -> Vec<Vec<u8>>, &fragments, &compressed] {
        let outcome = |length| {
            let mut receiver = Receiver::new(Role::Server, true, 1000);
            receiver.feed(&make(length).concat());
            receiver.end()
        };
        assert_eq!(outcome(1000), End::Open);
        assert_eq!(outcome(1001), End::Refused(ProtocolError::MessageTooBig { limit: 1000 }));
    }
}

/// A compressor may make a message longer; that is no reason to refuse it.
#[test]
fn decoder_takes_a_compressed_form_longer_than_the_limit_if_the_message_fits() {
    // Stored blocks of 100 bytes: 5 bytes each on top.
    let mut stored: Vec<u8> =
        (0..10).flat_map(|_| [&[0x00, 100, 0, 155, 255], &[7; 100][..]].concat()).collect();
    stored.push(0);
    let mut receiver = Receiver::new(Role::Server, true, 1000);
    receiver.feed(&frame(true, true, Opcode::Binary, &stored, KEY));
    assert_eq!(receiver.events, [Event::Binary(vec![7; 1000])]);
    let mut receiver = Receiver::new(Role::Server, true, 1000);
    receiver.feed(&corpus::declared(0xc2, 1000 + 125 + 64 + 1));
    assert_eq!(receiver.end(), End::Refused(ProtocolError::MessageTooBig { limit: 1000 }));
}

#[test]
fn decoder_delivers_control_frames_inside_a_message_before_it_and_in_order() {
    let stream = [
        frame(false, false, Opcode::Text, "€".as_bytes().split_at(1).0, KEY),
        frame(true, false, Opcode::Ping, b"1", KEY),
        frame(false, false, Opcode::Continuation, "€".as_bytes().split_at(1).1, KEY),
        frame(true, false, Opcode::Pong, b"2", KEY),
        frame(true, false, Opcode::Continuation, b"!", KEY),
    ];
    let expected = [Event::Ping(b"1".to_vec()), Event::Pong(b"2".to_vec()), text("€!")];
    assert_eq!(server_events(&stream.concat()), expected);
}

#[test]
fn decoder_close_inside_a_message_ends_it_and_frees_its_memory() {
    let mut receiver = Receiver::server(LIMIT);
    receiver.feed(&frame(false, false, Opcode::Binary, &[0; 5000], KEY));
    receiver.feed(&frame(true, false, Opcode::Close, b"\x03\xe9bye", KEY));
    assert_eq!(receiver.events, [Event::Close(Some((1001, "bye".to_owned())))]);
    assert!(receiver.decoder.is_idle() && receiver.decoder.is_finished());
}

#[test]
fn decoder_ignores_everything_after_a_close_frame() {
    let mut receiver = Receiver::server(LIMIT);
    let close = frame(true, false, Opcode::Close, b"", KEY);
    receiver.feed(&[close, frame(true, false, Opcode::Text, b"late", KEY)].concat());
    receiver.feed(&[0xff; 100]);
    assert_eq!(receiver.events, [Event::Close(None)]);
    assert_eq!(receiver.end(), End::Closed);
    assert_eq!(receiver.decoder.pending_bytes(), 0);
}

#[test]
fn decoder_close_reason_of_123_bytes_and_its_code_are_lent() {
    let reason = "é".repeat(61) + "!";
    let payload = [&3456_u16.to_be_bytes(), reason.as_bytes()].concat();
    let mut input = frame(true, false, Opcode::Close, &payload, KEY);
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, false), Inflater::new());
    let mut frames = decoder.feed(&mut input, &Limits::new(LIMIT), &mut inflater);
    let code = CloseCode::new(3456).unwrap();
    assert_eq!(frames.next(), Some(Ok(Item::Close(Some(CloseFrame { code, reason: &reason })))));
}

#[test]
fn decoder_after_an_error_delivers_nothing_and_holds_nothing() {
    let mut receiver = Receiver::server(LIMIT);
    receiver.feed(&frame(false, false, Opcode::Binary, &[0; 5000], KEY));
    receiver.feed(b"\x81\x00");
    assert_eq!(receiver.end(), End::Refused(ProtocolError::Unmasked));
    receiver.feed(&frame(true, false, Opcode::Continuation, b"x", KEY));
    assert!(receiver.events.is_empty());
    assert_eq!(receiver.decoder.pending_bytes(), 0);
    assert!(receiver.decoder.is_finished());
}

#[test]
fn decoder_messages_before_an_error_in_the_same_input_are_delivered() {
    let mut receiver = Receiver::server(LIMIT);
    receiver.feed(&[frame(true, false, Opcode::Text, b"good", KEY), vec![0xff]].concat());
    assert_eq!(receiver.events, [text("good")]);
    assert_eq!(receiver.end(), End::Refused(ProtocolError::ReservedBit));
}

/// A caller that must stop (rate limit, full inbox) keeps the rest and goes on later.
#[test]
fn frames_unread_fed_again_continues_without_loss() {
    let stream: Vec<u8> = (0..50_u8)
        .flat_map(|index| {
            let first = frame(index % 3 != 0, false, Opcode::Binary, &vec![index; usize::from(index)], KEY);
            let ping = frame(true, false, Opcode::Ping, &[index], KEY);
            let rest = frame(true, false, Opcode::Continuation, b"+", KEY);
            if index % 3 == 0 { [first, ping, rest].concat() } else { [first, ping].concat() }
        })
        .collect();
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, false), Inflater::new());
    let (mut rest, mut events) = (stream.clone(), Vec::new());
    while !rest.is_empty() {
        let mut input = std::mem::take(&mut rest);
        let mut frames = decoder.feed(&mut input, &Limits::new(LIMIT), &mut inflater);
        if let Some(item) = frames.next() {
            events.push(Event::from(item.unwrap()));
        }
        rest = frames.unread().to_vec();
    }
    assert_eq!(events, server_events(&stream));
    assert_eq!(events.len(), 100);
}

#[test]
fn decoder_client_refuses_masked_frames_and_server_refuses_unmasked_ones() {
    let outcome = |role, key| {
        let mut receiver = Receiver::new(role, false, LIMIT);
        receiver.feed(&frame(true, false, Opcode::Text, b"x", key));
        receiver.end()
    };
    assert_eq!(outcome(Role::Client, KEY), End::Refused(ProtocolError::Masked));
    assert_eq!(outcome(Role::Server, None), End::Refused(ProtocolError::Unmasked));
    assert_eq!(outcome(Role::Client, None), End::Open);
    assert_eq!(outcome(Role::Server, Some([0; 4])), End::Open);
}

/// A hub reads frames of all its connections with one inflater.
#[test]
fn inflater_shared_by_connections_keeps_their_messages_apart() {
    let mut inflater = Inflater::new();
    let mut deflater = Deflater::with_level(1, 0);
    let mut decoders: Vec<Decoder> = (0..8).map(|_| Decoder::new(Role::Server, true)).collect();
    for round in 0..20 {
        for (index, decoder) in decoders.iter_mut().enumerate() {
            let payload = format!("{index} {round} ").repeat(100);
            let bytes = deflater.compress(payload.as_bytes(), Window::Full).unwrap().to_vec();
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let mut head = frame(false, true, Opcode::Text, first, KEY);
            assert!(decoder.feed(&mut head, &Limits::new(LIMIT), &mut inflater).next().is_none());
            let mut tail = frame(true, false, Opcode::Continuation, second, KEY);
            let mut frames = decoder.feed(&mut tail, &Limits::new(LIMIT), &mut inflater);
            assert_eq!(frames.next(), Some(Ok(Item::Text(&payload))));
        }
    }
}

/// The texts are sent as close reasons.
#[test]
fn protocol_error_texts_fit_a_close_frame() {
    let errors = [
        ProtocolError::ReservedBit,
        ProtocolError::MisplacedCompressionBit,
        ProtocolError::ReservedOpcode(15),
        ProtocolError::Unmasked,
        ProtocolError::Masked,
        ProtocolError::FragmentedControl,
        ProtocolError::ControlTooLong,
        ProtocolError::LengthNotMinimal,
        ProtocolError::LengthTopBit,
        ProtocolError::UnexpectedContinuation,
        ProtocolError::ExpectedContinuation,
        ProtocolError::ClosePayloadTooShort,
        ProtocolError::InvalidCloseCode(65_535),
        ProtocolError::CloseReasonNotUtf8,
        ProtocolError::TextNotUtf8,
        ProtocolError::CorruptDeflate,
        ProtocolError::MessageTooBig { limit: usize::MAX },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.len() <= outspoke_websocket::CLOSE_REASON_BYTES_MAX, "{text}");
        assert!(matches!(error.close_code().get(), 1002 | 1007 | 1009));
    }
}

#[test]
fn frame_header_of_every_length_form_is_the_shortest() {
    let encoded = |length: u64, mask| {
        let header =
            FrameHeader { fin: true, compressed: false, opcode: Opcode::Binary, mask, payload_len: length };
        header.encode().to_vec()
    };
    assert_eq!(encoded(0, None), [0x82, 0]);
    assert_eq!(encoded(125, None), [0x82, 125]);
    assert_eq!(encoded(126, None), [0x82, 126, 0, 126]);
    assert_eq!(encoded(65_535, None), [0x82, 126, 255, 255]);
    assert_eq!(encoded(65_536, None), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(encoded(1, Some([1, 2, 3, 4])), [0x82, 0x81, 1, 2, 3, 4]);
    assert_eq!(encoded(65_536, Some([1, 2, 3, 4])).len(), 14);
}

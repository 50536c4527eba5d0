//! What must hold for any messages and any network: what is sent arrives, however it is cut, and the peers agree.

#![allow(clippy::unwrap_used)]

mod corpus;
mod support;

use outspoke_websocket::{
    CloseCode, Deflater, Opcode, Role, SharedFrame, Window, encode_close, encode_frame, encode_masked_close,
    encode_masked_frame, encode_message,
};
use proptest::prelude::*;
use support::{Event, Receiver, frame, tungstenite_peer};

const LIMIT: usize = 64 * 1024;

/// A message or control frame and how it is sent.
#[derive(Debug, Clone)]
struct Sent {
    event: Event,
    key: [u8; 4],
    compressed: bool,
    /// Where the payload is split into fragments, as fractions of its length.
    cuts: Vec<u16>,
    /// Control frames between the fragments.
    between: Vec<Event>,
}

fn control() -> impl Strategy<Value = Event> {
    let payload = prop::collection::vec(any::<u8>(), 0..=125);
    (any::<bool>(), payload)
        .prop_map(|(ping, payload)| if ping { Event::Ping(payload) } else { Event::Pong(payload) })
}

fn message() -> impl Strategy<Value = Event> {
    let size = prop_oneof![4 => 0..200_usize, 1 => 0..5000_usize];
    let bytes = size.prop_flat_map(|size| prop::collection::vec(any::<u8>(), size));
    let repeats = (bytes.clone(), 1..8_usize).prop_map(|(bytes, times)| bytes.repeat(times));
    prop_oneof![
        "\\PC{0,300}".prop_map(Event::Text),
        "[a-zäß€😀 ]{0,40}".prop_map(|text| Event::Text(text.repeat(20))),
        bytes.prop_map(Event::Binary),
        repeats.prop_map(Event::Binary),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let event = prop_oneof![3 => message(), 1 => control()];
    let cuts = prop::collection::vec(any::<u16>(), 0..5);
    let between = prop::collection::vec(control(), 0..3);
    (event, any::<[u8; 4]>(), any::<bool>(), cuts, between)
        .prop_map(|(event, key, compressed, cuts, between)| Sent { event, key, compressed, cuts, between })
}

/// The frames on the wire and the events in the order of their arrival.
fn encode(messages: &[Sent], compression: bool, masked: bool) -> (Vec<u8>, Vec<Event>) {
    let (mut wire, mut events) = (Vec::new(), Vec::new());
    let mut deflater = Deflater::with_level(1, 0);
    for sent in messages {
        let key = masked.then_some(sent.key);
        let (opcode, payload) = match &sent.event {
            Event::Text(text) => (Opcode::Text, text.as_bytes()),
            Event::Binary(bytes) => (Opcode::Binary, &bytes[..]),
            control => {
                wire.extend(control_frame(control, key));
                events.push(control.clone());
                continue;
            }
        };
        let smaller =
            if sent.compressed && compression { deflater.compress(payload, Window::Full) } else { None };
        let (compressed, payload) = smaller.map_or((false, payload), |smaller| (true, smaller));
        let mut cuts: Vec<usize> =
            sent.cuts.iter().map(|cut| payload.len() * usize::from(*cut) / usize::from(u16::MAX)).collect();
        cuts.sort_unstable();
        let (mut start, last) = (0, cuts.len());
        for (index, end) in cuts.into_iter().chain([payload.len()]).enumerate() {
            let opcode = if index == 0 { opcode } else { Opcode::Continuation };
            wire.extend(frame(index == last, compressed && index == 0, opcode, &payload[start..end], key));
            start = end;
            if index < last {
                for control in &sent.between {
                    wire.extend(control_frame(control, key));
                    events.push(control.clone());
                }
            }
        }
        events.push(sent.event.clone());
    }
    (wire, events)
}

fn control_frame(event: &Event, key: Option<[u8; 4]>) -> Vec<u8> {
    match event {
        Event::Ping(payload) => frame(true, false, Opcode::Ping, payload, key),
        Event::Pong(payload) => frame(true, false, Opcode::Pong, payload, key),
        other => unreachable!("{other:?} is no control frame of these tests"),
    }
}

/// Feeds in pieces whose lengths cycle through `lengths`.
fn receive(receiver: &mut Receiver, mut wire: &[u8], lengths: &[usize]) {
    for length in lengths.iter().cycle() {
        let (piece, rest) = wire.split_at((*length).min(wire.len()));
        receiver.feed(piece);
        wire = rest;
        if wire.is_empty() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_arrive_unchanged_and_in_order_however_the_network_cuts_them(
        messages in prop::collection::vec(sent(), 1..6),
        compression in any::<bool>(),
        masked in any::<bool>(),
        lengths in prop::collection::vec(1..700_usize, 1..10),
    ) {
        let (wire, events) = encode(&messages, compression, masked);
        let role = if masked { Role::Server } else { Role::Client };
        for lengths in [&[usize::MAX][..], &lengths, &[1]] {
            let mut receiver = Receiver::new(role, compression, LIMIT);
            receive(&mut receiver, &wire, lengths);
            prop_assert_eq!(receiver.error, None);
            prop_assert_eq!(&receiver.events, &events);
            prop_assert!(receiver.decoder.is_idle());
        }
    }

    #[test]
    fn bytes_of_any_kind_give_the_same_result_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        prefix in prop::collection::vec(sent(), 0..2),
        compression in any::<bool>(),
        lengths in prop::collection::vec(1..40_usize, 1..10),
    ) {
        let (mut wire, _) = encode(&prefix, compression, true);
        wire.extend_from_slice(&bytes);
        let mut whole = Receiver::new(Role::Server, compression, 1000);
        whole.feed(&wire);
        let mut cut = Receiver::new(Role::Server, compression, 1000);
        receive(&mut cut, &wire, &lengths);
        prop_assert_eq!(&whole.events, &cut.events);
        prop_assert_eq!(whole.end(), cut.end());
    }

    #[test]
    fn tungstenite_reads_the_same_from_valid_and_from_damaged_streams(
        messages in prop::collection::vec(sent(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        close in prop::option::of((any::<u16>(), "\\PC{0,20}")),
    ) {
        let (mut wire, _) = encode(&messages, false, true);
        if let Some((code, reason)) = close {
            let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
            wire.extend(frame(true, false, Opcode::Close, &payload[..payload.len().min(125)], Some([9; 4])));
        }
        for (index, value) in damage {
            let index = index.index(wire.len());
            wire[index] = value;
        }
        let mut ours = Receiver::server(LIMIT);
        ours.feed(&wire);
        support::assert_agreement(&mut ours, &tungstenite_peer::decode(&wire, LIMIT), "tungstenite");
    }

    #[test]
    fn encoders_make_what_the_decoder_of_the_other_role_reads(
        event in message(),
        key in any::<[u8; 4]>(),
        window in prop_oneof![Just(Window::Full), Just(Window::Small), Just(Window::Plain)],
        code in 3000..5000_u16,
        reason in "\\PC{0,150}",
    ) {
        let (opcode, payload) = match &event {
            Event::Text(text) => (Opcode::Text, text.as_bytes()),
            Event::Binary(bytes) => (Opcode::Binary, &bytes[..]),
            other => unreachable!("{other:?} is no message"),
        };
        let mut deflater = Deflater::with_level(1, 0);
        let code = CloseCode::new(code);
        let mut to_client = Vec::new();
        encode_frame(opcode, payload, &mut to_client);
        encode_message(opcode, payload, &mut deflater, window, None, &mut to_client);
        let shared = SharedFrame::new(opcode, payload);
        to_client.extend_from_slice(shared.plain());
        to_client.extend_from_slice(shared.deflated(&mut deflater, window));
        encode_close(code, &reason, &mut to_client);
        let mut client = Receiver::new(Role::Client, true, LIMIT);
        client.feed(&to_client);
        let mut to_server = Vec::new();
        encode_masked_frame(opcode, payload, key, &mut to_server);
        encode_message(opcode, payload, &mut deflater, window, Some(key), &mut to_server);
        encode_masked_close(code, &reason, key, &mut to_server);
        let mut server = Receiver::new(Role::Server, true, LIMIT);
        server.feed(&to_server);

        prop_assert_eq!((client.error, server.error), (None, None));
        let (close, messages) = client.events.split_last().unwrap();
        prop_assert_eq!(messages, vec![event.clone(); 4]);
        let Event::Close(Some((received, cut))) = close else { panic!("a close frame") };
        prop_assert_eq!(Some(*received), code.map(CloseCode::get));
        prop_assert!(reason.starts_with(cut.as_str()) && (cut.len() == reason.len() || cut.len() > 119));
        prop_assert_eq!(&server.events[..2], vec![event; 2]);
        prop_assert_eq!(server.events.last(), Some(close));
    }
}

/// The corpus again: tungstenite refuses the same, or waits for more where we know enough.
#[test]
fn tungstenite_agrees_with_the_corpus() {
    for case in corpus::frame_cases().iter().filter(|case| !case.deflate) {
        let mut ours = Receiver::server(corpus::MESSAGE_BYTES_MAX);
        ours.feed(&case.bytes);
        let theirs = tungstenite_peer::decode(&case.bytes, corpus::MESSAGE_BYTES_MAX);
        support::assert_agreement(&mut ours, &theirs, &format!("{}: tungstenite", case.name));
    }
}

/// A stream with every kind of frame, cut into two at every byte and into three at many.
#[test]
fn messages_cut_at_every_byte_arrive_unchanged() {
    let long = "0123456789äöü€😀".repeat(12);
    let mut messages = Vec::new();
    for (index, compressed) in [false, true, false, true].into_iter().enumerate() {
        messages.push(Sent {
            event: if index < 2 {
                Event::Text(long.clone())
            } else {
                Event::Binary(long.clone().into_bytes())
            },
            key: [1, 2, 3, index as u8],
            compressed,
            cuts: vec![10_000, 30_000, 30_000, 60_000],
            between: vec![Event::Ping(vec![7; 30])],
        });
        messages.push(Sent { cuts: Vec::new(), ..messages[messages.len() - 1].clone() });
    }
    let (wire, events) = encode(&messages, true, true);
    let check = |pieces: &[&[u8]]| {
        let mut receiver = Receiver::new(Role::Server, true, LIMIT);
        pieces.iter().for_each(|piece| receiver.feed(piece));
        assert_eq!((receiver.error, &receiver.events), (None, &events));
        assert!(receiver.decoder.is_idle());
    };
    for first in 0..wire.len() {
        let (head, tail) = wire.split_at(first);
        check(&[head, tail]);
        for second in (0..tail.len()).step_by(397) {
            let (middle, tail) = tail.split_at(second);
            check(&[head, middle, tail]);
        }
    }
}

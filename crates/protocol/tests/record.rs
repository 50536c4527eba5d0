//! The record of a message: reads back equal, is never read wrongly, and keeps its format.
#![allow(clippy::unwrap_used)]

#[path = "checks/record.rs"]
mod check;
#[allow(dead_code, reason = "each test program uses its part of them")]
mod strategies;

use bytes::Bytes;
use check::check_record;
use outspoke_protocol::{
    Body, ClientId, DamagedRecord, Details, Epoch, Kind, Message, MessageId, Position, Publisher, Reactions,
    RoomName, Timestamp, UserId, decode_record, encode_record,
};
use proptest::prelude::*;

const POSITION: Position = Position { epoch: Epoch::from_u64(0x1f), offset: 17 };

fn lobby() -> RoomName {
    RoomName::new("lobby", 5).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Message, DamagedRecord> {
    decode_record(bytes, lobby(), POSITION)
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    encode_record(message, &mut out);
    out
}

fn hello() -> Message {
    Message {
        id: MessageId::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0001),
        room: Some(lobby()),
        position: Some(POSITION),
        kind: Kind::Chat,
        from: Some(Publisher {
            user: UserId::new("ada"),
            name: "Ada é".into(),
            client: ClientId::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0002),
        }),
        ts: Timestamp::from_millis(1_767_090_600_000),
        body: Body::Text("hello".into()),
        details: None,
    }
}

/// Something of everything that a record can have.
fn full() -> Message {
    let reacted = |reaction: &str, users: &[&str]| Reactions {
        reaction: reaction.into(),
        users: users.iter().map(|user| UserId::new(*user)).collect(),
    };
    Message {
        kind: Kind::Custom("vote".into()),
        ts: Timestamp::from_millis(-1),
        body: Body::Json(Bytes::from_static(b"[1, 2]")),
        details: Some(Box::new(Details {
            to: Some(UserId::new("bob")),
            target: Some(300),
            withdrawn: true,
            edited: Some(Timestamp::from_millis(1_767_090_600_001)),
            deleted: Some(Timestamp::from_millis(0)),
            reactions: vec![reacted("👍", &["ada", "bob"]), reacted("x", &[])],
            ..Details::default()
        })),
        ..hello()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is on people's disks must stay readable: these bytes may be added to, never changed.
#[test]
fn record_format_is_what_it_always_was() {
    let golden = [
        (
            hello(),
            concat!(
                "01",
                "01",
                "01970000000070008000000000000001",
                "80e1f5eced66",
                "010568656c6c6f",
                "011a019700000000700080000000000000020361646141646120c3a9",
            ),
        ),
        (
            full(),
            concat!(
                "01",
                "ff04766f7465",
                "01970000000070008000000000000001",
                "01",
                "02065b312c20325d",
                "011a019700000000700080000000000000020361646141646120c3a9",
                "0203626f62",
                "0302ac02",
                "0400",
                "050682e1f5eced66",
                "060100",
                "071104f09f918d020361646103626f62017800",
            ),
        ),
        (
            Message { kind: Kind::System, from: None, body: Body::Empty, ..hello() },
            "01020197000000007000800000000000000180e1f5eced6600",
        ),
        (
            Message {
                kind: Kind::Data,
                from: None,
                body: Body::Binary(Bytes::from_static(&[0, 255])),
                ..hello()
            },
            "01050197000000007000800000000000000180e1f5eced66030200ff",
        ),
    ];
    for (message, bytes) in golden {
        assert_eq!(hex(&encoded(&message)), bytes);
        assert_eq!(decode(&encoded(&message)).unwrap(), message);
    }
}

#[test]
fn record_kinds_have_their_numbers_for_ever() {
    let kinds = [
        Kind::Chat,
        Kind::System,
        Kind::Join,
        Kind::Leave,
        Kind::Data,
        Kind::Action,
        Kind::Topic,
        Kind::Rename,
        Kind::Edit,
        Kind::Delete,
        Kind::Reaction,
    ];
    for (kind, number) in kinds.into_iter().zip(1..) {
        let record = encoded(&Message { kind: kind.clone(), ..hello() });
        assert_eq!(record[1], number, "{kind:?}");
        assert_eq!(decode(&record).unwrap().kind, kind);
    }
}

/// An application may call its sort what it likes, also by a name that the hub uses.
#[test]
fn record_of_a_custom_kind_with_a_known_name_stays_custom() {
    let message = Message { kind: Kind::Custom("chat".into()), ..hello() };
    assert_eq!(decode(&encoded(&message)).unwrap(), message);
}

#[test]
fn record_of_a_newer_version_says_so() {
    let mut record = encoded(&hello());
    record[0] = 2;
    let refusal = decode(&record).unwrap_err();
    assert_eq!(refusal, DamagedRecord::Newer { version: 2 });
    assert_eq!(
        refusal.to_string(),
        "the record has format 2 and this program reads formats up to 1: run a newer version"
    );
}

/// A later version adds what this one can do without; downgrading must not lose the rest.
#[test]
fn record_with_fields_of_a_later_version_is_read_without_them() {
    for message in [hello(), full()] {
        let mut record = encoded(&message);
        record.extend_from_slice(&[9, 3, 1, 2, 3]); // tag 9, three bytes
        record.extend_from_slice(&[0xc8, 0x01, 0]); // tag 200, none
        assert_eq!(decode(&record).unwrap(), message);
    }
}

/// Every place where a record can be torn off is noticed, except between two fields: the store's checksum is for that.
#[test]
fn record_cut_anywhere_is_refused_or_lacks_whole_fields() {
    let (message, record) = (full(), encoded(&full()));
    for end in 0..record.len() {
        match decode(&record[..end]) {
            Ok(shorter) => {
                assert_eq!((shorter.id, shorter.ts, &shorter.body), (message.id, message.ts, &message.body));
                assert!(record.starts_with(&encoded(&shorter)));
            }
            Err(DamagedRecord::Short { .. }) => {}
            Err(other) => panic!("{end}: {other}"),
        }
    }
}

#[test]
fn record_that_cannot_be_is_refused_with_the_part_that_is_wrong() {
    let head = |rest: &[u8]| [&encoded(&hello())[..24], rest].concat();
    assert!(decode(&head(&[0])).is_ok());
    for (record, words) in [
        (vec![], "ends in the middle of its version"),
        (vec![0], "version cannot be"),
        (vec![1, 12], "kind cannot be"),
        (vec![1, 255, 1, 0xff], "kind cannot be"),
        (vec![1, 1, 0], "ends in the middle of its id"),
        (head(&[4]), "body cannot be"),
        (head(&[1, 1, 0xff]), "body cannot be"),
        (head(&[2, 1, b'{']), "body cannot be"),
        (head(&[2, 3, b'"', 0xff, b'"']), "body cannot be"),
        // A length in two bytes where one would do, one beyond 64 bits, one beyond the record.
        (head(&[3, 0x80, 0]), "body cannot be"),
        (head(&[3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), "body cannot be"),
        (head(&[3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), "ends in the middle of its body"),
        // Tags that are zero, twice, or out of order.
        (head(&[0, 0, 0]), "fields cannot be"),
        (head(&[0, 4, 0, 4, 0]), "fields cannot be"),
        (head(&[0, 4, 0, 3, 1, 1]), "fields cannot be"),
        // Fields with less or more in them than they have.
        (head(&[0, 1, 1, 7]), "ends in the middle of its publisher"),
        (head(&[0, 3, 0]), "ends in the middle of its target"),
        (head(&[0, 3, 2, 1, 1]), "fields cannot be"),
        (head(&[0, 4, 1, 1]), "fields cannot be"),
        (head(&[0, 2, 1, 0xff]), "addressee cannot be"),
        // A reaction that says it has more users than memory.
        (
            head(&[0, 7, 12, 1, b'x', 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            "middle of its reactions",
        ),
    ] {
        let refusal = decode(&record).unwrap_err();
        assert!(refusal.to_string().contains(words), "{record:02x?}: {refusal}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn record_reads_back_equal(message in strategies::message(), room in strategies::room(), place in strategies::position()) {
        let record = encoded(&message);
        let expected = Message { room: Some(room.clone()), position: Some(place), ..message };
        prop_assert_eq!(decode_record(&record, room, place).unwrap(), expected);
        check_record(&record);
    }

    #[test]
    fn record_of_any_bytes_is_refused_or_reads_back_equal(bytes in any::<Vec<u8>>()) {
        check_record(&bytes);
        check_record(&[&[1, 1], bytes.as_slice()].concat());
    }

    #[test]
    fn record_with_changed_bytes_is_refused_or_reads_back_equal(
        message in strategies::message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut record = encoded(&message);
        for (at, byte) in changes {
            let at = at.index(record.len());
            record[at] = byte;
        }
        check_record(&record);
    }
}

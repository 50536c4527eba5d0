//! The road of a message allocates nothing in the dialects.
//!
//! Counts this thread's allocations, so that the test harness's own threads do not matter.
#![allow(clippy::unwrap_used)]
// A global allocator cannot be had without unsafe: it forwards every call, unchanged, to the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{
    Acknowledgement, Body, ClientId, Details, Epoch, Event, Kind, Message, MessageId, Payload, Position,
    Publisher, Reactions, Receipt, ReceiptOf, RequestId, RoomName, Timestamp, Typing, UserId, dialects,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every method forwards its arguments to the system allocator and returns what that returns. Counting
// touches a thread-local without destructor, which allocates nothing and is valid until the thread ends.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `alloc`'s contract, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and every pointer came from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `realloc`'s contract, and every pointer came from the system allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn decoding_plain_requests_allocates_nothing() {
    let long = "x".repeat(500);
    let standard = dialects::standard();
    for (dialect, frame) in [
        (&standard[0], format!(r#"{{"type":"chat","content":"{long}"}}"#)),
        (
            &standard[0],
            format!(r#"{{"type":"chat","id":17,"room":"a room of twenty letters","content":"{long} é"}}"#),
        ),
        (
            &standard[0],
            format!(r#"{{"type":"publish","id":"fifteen bytes..","room":"r","data":["{long}\n",1e3]}}"#),
        ),
        (&standard[0], format!(r#"{{"type":"vote","data":{{"a":"{long}"}},"unknown":"{long}"}}"#)),
        (&standard[0], r#"{"type":"ping"}"#.to_owned()),
        (&standard[0], format!(r#"{{"type":"chat","content":"{long}","idempotencyKey":"{}"}}"#, &long[..64])),
        (&standard[0], r#"{"type":"seen","id":1,"room":"lobby","offset":12345}"#.to_owned()),
        (
            &standard[0],
            r#"{"type":"subscribe","room":"a","epoch":"5ac1d54f0b7c9e21","offset":12}"#.to_owned(),
        ),
        (&standard[0], r#"{"type":"react","room":"a","offset":12,"reaction":"👍"}"#.to_owned()),
        (&standard[1], r#"{"message_id":0,"message_type":"typing","data":{"room":"a"}}"#.to_owned()),
        (&standard[1], format!(r#"{{"message_id":1,"message_type":"chat","data":"{long}"}}"#)),
        (
            &standard[1],
            format!(r#"{{"message_id":1,"message_type":"publish","data":{{"room":"r","data":"{long}"}}}}"#),
        ),
    ] {
        let count = allocations(|| {
            black_box(dialect.decode(Payload::Text(black_box(&frame)))).unwrap();
        });
        assert_eq!(count, 0, "{frame}");
    }
}

#[test]
fn encoding_into_a_vector_with_room_allocates_nothing() {
    let position = Position { epoch: Epoch::random(), offset: 12_345 };
    let room = RoomName::new("a room of twenty letters", 64).unwrap();
    let message = |kind, body| {
        Event::Message(Message {
            id: MessageId::random(),
            room: Some(room.clone()),
            position: Some(position),
            kind,
            from: Some(Publisher {
                user: UserId::new("user123"),
                name: "Alice \"A\" Liddell".into(),
                client: ClientId::random(),
            }),
            ts: Timestamp::from_millis(1_767_090_600_000),
            body,
            details: None,
        })
    };
    let acknowledgement = Acknowledgement {
        request: RequestId::Number(1),
        room: room.clone(),
        id: MessageId::random(),
        position,
        ts: Timestamp::from_millis(0),
        duplicate: false,
    };
    let Event::Message(mut chat) = message(Kind::Chat, Body::Text("better".into())) else { panic!() };
    chat.details = Some(Box::new(Details {
        edited: Some(Timestamp::from_millis(1)),
        reactions: vec![Reactions { reaction: "👍".into(), users: vec![UserId::new("ada"); 50] }],
        ..Details::default()
    }));
    let receipt =
        ReceiptOf { room: room.clone(), user: UserId::new("ada"), receipt: Receipt::Seen, position };
    let from = chat.from.clone().unwrap();
    let typing = Typing { room: room.clone(), from, active: true, expires: Duration::from_secs(5) };
    let amended = Event::Message(chat);
    let events = [
        message(Kind::Chat, Body::Text("line\nline \u{2028} é😀".repeat(20).into())),
        message(Kind::Data, Body::Json(Bytes::from_static(b"[1,2,3]"))),
        message(Kind::Data, Body::Binary(Bytes::from_static(&[7; 1000]))),
        message(Kind::Join, Body::Empty),
        amended,
        Event::Receipt(receipt),
        Event::Typing(typing),
        Event::Acknowledged(acknowledgement),
        Event::Pong { request: None },
    ];
    let mut out = Vec::with_capacity(8192);
    for dialect in dialects::standard() {
        for event in &events {
            out.clear();
            let count = allocations(|| {
                dialect.encode(black_box(event), &mut out).unwrap();
            });
            assert_eq!(count, 0, "{} {event:?}", dialect.name());
        }
    }
}

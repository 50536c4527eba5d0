//! One event of each sort that rooms with a memory send, with every optional field set somewhere.

use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{
    Body, ClientId, Conversation, Conversations, Crowd, Cursor, Details, Device, Durability, Epoch,
    ErrorCode, Event, History, Kind, Message, MessageId, Position, Presence, Present, Publisher, Reactions,
    Receipt, ReceiptCounts, ReceiptOf, Receipts, Refusal, RequestId, RoomName, Subscribed, Timestamp, Typing,
    Unread, UserId,
};

pub(crate) fn lobby() -> RoomName {
    RoomName::new("lobby", 8).unwrap()
}

fn position() -> Position {
    Position { epoch: Epoch::from_u64(0x1f), offset: 42 }
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_767_090_600_000 + millis)
}

fn publisher() -> Publisher {
    Publisher { user: UserId::new("ada"), name: "Ada".into(), client: ClientId::from_u128(9) }
}

fn request() -> Option<RequestId> {
    Some(RequestId::Number(5))
}

fn message(kind: Kind, body: &str, details: Details) -> Message {
    Message {
        id: MessageId::from_u128(7),
        room: Some(lobby()),
        position: Some(position()),
        kind,
        from: Some(publisher()),
        ts: time(0),
        body: if body.is_empty() { Body::Empty } else { Body::Text(body.into()) },
        details: (details != Details::default()).then(|| Box::new(details)),
    }
}

fn about(target: u64) -> Details {
    Details { target: Some(target), ..Details::default() }
}

fn unread() -> Unread {
    Unread { count: 2, seen: 40, delivered: 41 }
}

fn subscribed() -> Subscribed {
    Subscribed {
        request: request(),
        room: lobby(),
        position: position(),
        head: 50,
        first: 11,
        recovered: Some(true),
        members: 3,
        durability: Durability::Stored,
        unread: Some(unread()),
        topic: "Tea".into(),
    }
}

/// Messages of the kinds, and with the details, that only some have.
pub(crate) fn messages() -> Vec<Message> {
    let users = vec![UserId::new("bob"), UserId::new("ada")];
    let reactions = vec![Reactions { reaction: "👍".into(), users }];
    vec![
        message(Kind::Action, "waves", Details::default()),
        message(Kind::Topic, "Tea", Details::default()),
        message(Kind::Topic, "", Details::default()),
        message(Kind::Rename, "Augusta", Details::default()),
        message(Kind::Edit, "better", about(40)),
        message(Kind::Delete, "", about(40)),
        message(Kind::Reaction, "👍", about(40)),
        message(Kind::Reaction, "👍", Details { withdrawn: true, ..about(40) }),
        message(Kind::Chat, "psst", Details { to: Some(UserId::new("bob")), ..Details::default() }),
        message(Kind::Chat, "better", Details { edited: Some(time(1)), reactions, ..Details::default() }),
        message(Kind::Chat, "", Details { deleted: Some(time(2)), ..Details::default() }),
    ]
}

/// Everything else.
pub(crate) fn events() -> Vec<Event> {
    let named = |user: &str, name: &str| (UserId::new(user), name.into());
    let chat = message(Kind::Chat, "hello", Details::default());
    let data = Message { body: Body::Json(Bytes::from_static(b"[1, 2]")), kind: Kind::Data, ..chat.clone() };
    let device = |client, device: &str| Device {
        client: ClientId::from_u128(client),
        device: device.into(),
        node: if device.is_empty() { "hub-2".into() } else { "".into() },
        since: time(3),
    };
    let ada = Present {
        user: UserId::new("ada"),
        name: "Ada".into(),
        since: time(3),
        devices: vec![device(9, "phone"), device(10, "")],
        info: Some(Bytes::from_static(b"{\"color\":\"red\"}")),
        online: true,
    };
    let bob = Present {
        user: UserId::new("bob"),
        name: "".into(),
        since: time(4),
        devices: vec![],
        info: None,
        online: false,
    };
    let private = RoomName::new("dm", 8).unwrap();
    vec![
        Event::Subscribed(Box::new(subscribed())),
        Event::Subscribed(Box::new(Subscribed {
            request: None,
            recovered: Some(false),
            durability: Durability::Memory,
            unread: None,
            topic: "".into(),
            ..subscribed()
        })),
        Event::History(Box::new(History {
            request: request(),
            room: lobby(),
            epoch: Epoch::from_u64(0x1f),
            first: 11,
            head: 42,
            messages: vec![chat, data],
            more: true,
        })),
        Event::History(Box::new(History {
            request: None,
            room: lobby(),
            epoch: Epoch::from_u64(0x1f),
            first: 1,
            head: 0,
            messages: vec![],
            more: false,
        })),
        Event::Presence(Box::new(Presence {
            request: request(),
            room: lobby(),
            users: 3,
            members: 5,
            page: vec![ada, bob],
            next: Some(UserId::new("bob")),
        })),
        Event::Crowd(Box::new(Crowd {
            room: lobby(),
            users: 300,
            members: 310,
            joined: vec![named("ada", "Ada"), named("bob", "")],
            left: vec![],
            joined_count: 12,
            left_count: 0,
        })),
        Event::Typing(Typing {
            room: lobby(),
            from: publisher(),
            active: true,
            expires: Duration::from_secs(6),
        }),
        Event::Receipt(ReceiptOf {
            room: lobby(),
            user: UserId::new("ada"),
            receipt: Receipt::Seen,
            position: position(),
        }),
        Event::Receipt(ReceiptOf {
            room: lobby(),
            user: UserId::new("ada"),
            receipt: Receipt::Delivered,
            position: position(),
        }),
        Event::ReceiptCounts(ReceiptCounts { room: lobby(), position: position(), delivered: 250, seen: 31 }),
        Event::Receipts(Box::new(Receipts {
            request: request(),
            room: lobby(),
            epoch: Epoch::from_u64(0x1f),
            page: vec![Cursor { user: UserId::new("ada"), delivered: 42, seen: 40 }],
            next: Some(UserId::new("ada")),
        })),
        Event::Conversations(Box::new(Conversations {
            request: request(),
            page: vec![Conversation {
                room: private,
                with: UserId::new("bob"),
                head: position(),
                ts: time(0),
                unread: unread(),
            }],
            next: Some(UserId::new("bob")),
        })),
        Event::Authenticated { request: request(), expires: Some(time(0)) },
        Event::Authenticated { request: None, expires: None },
        Event::Kicked { request: request(), room: lobby(), user: UserId::new("bob") },
        Event::Unsubscribed {
            request: None,
            room: lobby(),
            because: Some(Box::new(Refusal::new(ErrorCode::Forbidden, "removed"))),
        },
        Event::Conversations(Box::new(Conversations { request: None, page: vec![], next: None })),
    ]
}

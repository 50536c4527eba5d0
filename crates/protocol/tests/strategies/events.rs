//! Answers and notices of every sort.

use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{
    Acknowledgement, ClientId, Conversation, Conversations, Crowd, Cursor, Device, Durability, Epoch,
    ErrorCode, Event, Gap, History, MessageId, NodeHint, Notice, Presence, Present, Receipt, ReceiptCounts,
    ReceiptOf, Receipts, Refusal, RequestId, Subscribed, Timestamp, Typing, Unread, Welcome,
};
use proptest::prelude::*;

use super::{message, position, publisher, room, text, timestamp, user};

pub(crate) fn request_id() -> impl Strategy<Value = RequestId> {
    prop_oneof![
        any::<i64>().prop_map(RequestId::Number),
        text().prop_map(|text| RequestId::Text(text.into()))
    ]
}

fn request() -> impl Strategy<Value = Option<RequestId>> {
    prop::option::of(request_id())
}

fn unread() -> impl Strategy<Value = Unread> {
    any::<[u64; 3]>().prop_map(|[count, seen, delivered]| Unread { count, seen, delivered })
}

fn subscribed() -> impl Strategy<Value = Event> {
    let durability = prop::sample::select(vec![Durability::None, Durability::Memory, Durability::Stored]);
    let known = (durability, prop::option::of(unread()), text());
    (request(), room(), position(), any::<[u64; 2]>(), any::<Option<bool>>(), any::<u32>(), known).prop_map(
        |(request, room, position, [head, first], recovered, members, (durability, unread, topic))| {
            Event::Subscribed(Box::new(Subscribed {
                request,
                room,
                position,
                head,
                first,
                recovered,
                members: members as usize,
                durability,
                unread,
                topic: topic.into(),
            }))
        },
    )
}

fn history() -> impl Strategy<Value = Event> {
    let messages = prop::collection::vec(message(), 0..4);
    (request(), room(), any::<[u64; 3]>(), messages, any::<bool>()).prop_map(
        |(request, room, [epoch, first, head], messages, more)| {
            let epoch = Epoch::from_u64(epoch);
            Event::History(Box::new(History { request, room, epoch, first, head, messages, more }))
        },
    )
}

fn json() -> impl Strategy<Value = Bytes> {
    text().prop_map(|text| Bytes::from(serde_json::to_vec(&text).unwrap()))
}

fn present() -> impl Strategy<Value = Present> {
    let device = (any::<u128>(), text(), text(), timestamp()).prop_map(|(client, device, node, since)| {
        Device { client: ClientId::from_u128(client), device: device.into(), node: node.into(), since }
    });
    let devices = prop::collection::vec(device, 0..3);
    (user(), text(), timestamp(), devices, prop::option::of(json()), any::<bool>()).prop_map(
        |(user, name, since, devices, info, online)| Present {
            user,
            name: name.into(),
            since,
            devices,
            info,
            online,
        },
    )
}

fn presence() -> impl Strategy<Value = Event> {
    let page = prop::collection::vec(present(), 0..3);
    (request(), room(), any::<[u32; 2]>(), page, prop::option::of(user())).prop_map(
        |(request, room, [users, members], page, next)| {
            let (users, members) = (users as usize, members as usize);
            Event::Presence(Box::new(Presence { request, room, users, members, page, next }))
        },
    )
}

fn crowd() -> impl Strategy<Value = Event> {
    let users = || prop::collection::vec((user(), text().prop_map(Into::into)), 0..3);
    (room(), any::<[u32; 4]>(), users(), users()).prop_map(|(room, counts, joined, left)| {
        let [users, members, joined_count, left_count] = counts.map(|count| count as usize);
        Event::Crowd(Box::new(Crowd { room, users, members, joined, left, joined_count, left_count }))
    })
}

fn receipts() -> impl Strategy<Value = Event> {
    let cursor =
        (user(), any::<[u64; 2]>()).prop_map(|(user, [delivered, seen])| Cursor { user, delivered, seen });
    let page = prop::collection::vec(cursor, 0..3);
    let receipt = prop::sample::select(vec![Receipt::Delivered, Receipt::Seen]);
    prop_oneof![
        (request(), room(), any::<u64>(), page, prop::option::of(user())).prop_map(
            |(request, room, epoch, page, next)| {
                let epoch = Epoch::from_u64(epoch);
                Event::Receipts(Box::new(Receipts { request, room, epoch, page, next }))
            }
        ),
        (room(), user(), receipt, position()).prop_map(|(room, user, receipt, position)| {
            Event::Receipt(ReceiptOf { room, user, receipt, position })
        }),
        (room(), position(), any::<[u64; 2]>()).prop_map(|(room, position, [delivered, seen])| {
            Event::ReceiptCounts(ReceiptCounts { room, position, delivered, seen })
        }),
    ]
}

fn conversations() -> impl Strategy<Value = Event> {
    let conversation = (room(), user(), position(), timestamp(), unread())
        .prop_map(|(room, with, head, ts, unread)| Conversation { room, with, head, ts, unread });
    let page = prop::collection::vec(conversation, 0..3);
    (request(), page, prop::option::of(user())).prop_map(|(request, page, next)| {
        Event::Conversations(Box::new(Conversations { request, page, next }))
    })
}

fn typing() -> impl Strategy<Value = Event> {
    (room(), publisher(), any::<bool>(), any::<Duration>())
        .prop_map(|(room, from, active, expires)| Event::Typing(Typing { room, from, active, expires }))
}

fn acknowledgement() -> impl Strategy<Value = Event> {
    (request_id(), room(), any::<u128>(), position(), any::<i64>(), any::<bool>()).prop_map(
        |(request, room, id, position, ts, duplicate)| {
            let (id, ts) = (MessageId::from_u128(id), Timestamp::from_millis(ts));
            Event::Acknowledged(Acknowledgement { request, room, id, position, ts, duplicate })
        },
    )
}

fn refusal() -> impl Strategy<Value = Event> {
    (request(), prop::sample::select(ErrorCode::ALL.to_vec()), text(), any::<Option<Duration>>()).prop_map(
        |(request, code, detail, retry_after)| {
            Event::Refused(Refusal { request, code, detail: detail.into(), retry_after })
        },
    )
}

fn welcome() -> impl Strategy<Value = Event> {
    let node = (text(), text(), text()).prop_map(|(name, prefer, url)| NodeHint {
        name: name.into(),
        prefer: prefer.into(),
        url: url.into(),
    });
    let expires = prop::option::of(timestamp());
    (publisher(), timestamp(), any::<Duration>(), any::<bool>(), expires, prop::option::of(node)).prop_map(
        |(who, ts, ping_interval, open_mode, expires, node)| {
            Event::Welcome(Box::new(Welcome {
                client: who.client,
                user: who.user,
                name: who.name,
                ts,
                ping_interval,
                message_bytes_max: usize::MAX,
                open_mode,
                expires,
                node,
            }))
        },
    )
}

/// Everything but a message.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        subscribed(),
        history(),
        presence(),
        crowd(),
        receipts(),
        conversations(),
        typing(),
        acknowledgement(),
        refusal(),
        welcome(),
        (request(), prop::option::of(timestamp()))
            .prop_map(|(request, expires)| Event::Authenticated { request, expires }),
        (request(), room(), publisher()).prop_map(|(request, room, who)| Event::Kicked {
            request,
            room,
            user: who.user
        }),
        (request(), room(), prop::option::of(refusal())).prop_map(|(request, room, because)| {
            let because = because.and_then(|because| match because {
                Event::Refused(refusal) => Some(Box::new(refusal)),
                _ => None,
            });
            Event::Unsubscribed { request, room, because }
        }),
        request().prop_map(|request| Event::Pong { request }),
        (request(), text(), prop::option::of(json())).prop_map(|(request, name, data)| Event::Reply {
            request,
            name: name.into(),
            data
        }),
        (room(), position(), any::<u64>()).prop_map(|(room, to, missed)| Event::Gap(Gap {
            room,
            to,
            missed
        })),
        (any::<Duration>(), prop::option::of(text())).prop_map(|(reconnect_after, url)| {
            Event::Notice(Notice::GoingAway { reconnect_after, url: url.map(Into::into) })
        }),
    ]
}

//! Neutral values of every sort, for the property tests.

pub(crate) mod events;

use bytes::Bytes;
use outspoke_protocol::{
    Body, ClientId, Details, Epoch, Kind, Message, MessageId, Position, Publisher, Reactions, RoomName,
    Timestamp, UserId,
};
use proptest::prelude::*;

/// Any text, with a good share of what is special in JSON, in scripts and in terminals.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        '"',
        '\\',
        '/',
        '\0',
        '\n',
        '\r',
        '\u{7f}',
        '\u{85}',
        '\u{2028}',
        '\u{2029}',
        '\u{202e}',
        '\u{feff}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{ffff}',
        '\u{10ffff}',
        '<',
        '&',
        '😀',
        '\u{20ac}',
    ]);
    prop::collection::vec(prop_oneof![any::<char>(), odd, prop::char::range(' ', '~')], 0..40)
        .prop_map(|chars| chars.into_iter().collect())
}

pub(crate) fn user() -> impl Strategy<Value = UserId> {
    text().prop_map(UserId::new)
}

pub(crate) fn room() -> impl Strategy<Value = RoomName> {
    text().prop_map(|text| {
        let printable = |c: &char| RoomName::new(&format!("x{c}x"), 8).is_ok();
        let name: String = text.chars().filter(printable).collect();
        RoomName::new(&format!("<{name}>"), 256).unwrap()
    })
}

pub(crate) fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(epoch, offset)| Position { epoch: Epoch::from_u64(epoch), offset })
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

pub(crate) fn publisher() -> impl Strategy<Value = Publisher> {
    (user(), text(), any::<u128>()).prop_map(|(user, name, client)| Publisher {
        user,
        name: name.into(),
        client: ClientId::from_u128(client),
    })
}

pub(crate) fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Empty),
        text().prop_map(|text| Body::Text(text.into())),
        prop::collection::vec(text(), 0..3).prop_map(|texts| Body::json(&texts).unwrap()),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Body::Binary(Bytes::from(bytes))),
    ]
}

fn reactions() -> impl Strategy<Value = Reactions> {
    (text(), prop::collection::vec(user(), 0..4))
        .prop_map(|(reaction, users)| Reactions { reaction: reaction.into(), users })
}

/// Never empty: nothing in it and none at all are the same thing.
fn details() -> impl Strategy<Value = Details> {
    let amended = (prop::option::of(timestamp()), prop::option::of(timestamp()));
    let about = (prop::option::of(user()), prop::option::of(any::<u64>()), any::<bool>());
    (about, amended, prop::collection::vec(reactions(), 0..3))
        .prop_map(|((to, target, withdrawn), (edited, deleted), reactions)| Details {
            to,
            target,
            withdrawn,
            edited,
            deleted,
            reactions,
            ..Details::default()
        })
        .prop_filter("something in it", |details| *details != Details::default())
}

pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        5 => prop::sample::select(vec![
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
        ]),
        1 => text().prop_map(|name| Kind::Custom(name.into())),
    ]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let place = (prop::option::of(room()), prop::option::of(position()));
    let said = (kind(), prop::option::of(publisher()), body());
    let details = prop::option::weighted(0.4, details());
    (any::<u128>(), place, timestamp(), said, details).prop_map(
        |(id, (room, position), ts, (kind, from, body), details)| Message {
            id: MessageId::from_u128(id),
            room,
            position,
            kind,
            from,
            ts,
            body,
            details: details.map(Box::new),
        },
    )
}

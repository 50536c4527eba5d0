//! Events, written as `native` frames.
//!
//! Called once per event, never per receiver. The order of the keys is part of the contract (people read
//! these lines), so every shape is written out here in that order.

use crate::json::{
    base64, boolean, close, epoch, integer, key, millis, open, raw, string, timestamp, unsigned, uuid,
};
use crate::{
    Acknowledgement, Body, Event, Gap, Kind, Message, Notice, Position, Publisher, Refusal, RequestId,
    RoomName, Subscribed, Welcome,
};

/// Room for everything around a body, so that the vector grows at most once.
const ENVELOPE_LEN: usize = 384;

pub(super) fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Welcome(welcome) => write_welcome(out, welcome),
        Event::Message(message) => write_message(out, message),
        Event::Subscribed(subscribed) => {
            let Subscribed { request, room, position, members, .. } = subscribed.as_ref();
            begin(out, "subscribed");
            write_request(out, request.as_ref());
            write_room(out, Some(room));
            write_position(out, Some(*position));
            key(out, "members");
            unsigned(out, *members as u64);
        }
        Event::Unsubscribed { request, room } => {
            begin(out, "unsubscribed");
            write_request(out, request.as_ref());
            write_room(out, Some(room));
        }
        Event::Acknowledged(acknowledgement) => write_acknowledgement(out, acknowledgement),
        Event::Pong { request } => {
            begin(out, "pong");
            write_request(out, request.as_ref());
        }
        Event::Refused(refusal) => write_refusal(out, refusal),
        Event::Reply { request, name, data } => {
            begin(out, name);
            write_request(out, request.as_ref());
            if let Some(data) = data {
                key(out, "data");
                raw(out, data);
            }
        }
        Event::Gap(gap) => write_gap(out, gap),
        Event::Notice(Notice::GoingAway { reconnect_after }) => {
            begin(out, "going_away");
            key(out, "reconnectAfter");
            millis(out, *reconnect_after);
        }
        _ => begin(out, "unspoken"),
    }
    close(out);
}

fn begin(out: &mut Vec<u8>, name: &str) {
    open(out);
    key(out, "type");
    string(out, name);
}

fn write_welcome(out: &mut Vec<u8>, welcome: &Welcome) {
    begin(out, "welcome");
    key(out, "clientId");
    uuid(out, welcome.client.as_u128());
    key(out, "userId");
    string(out, welcome.user.as_str());
    key(out, "username");
    string(out, &welcome.name);
    key(out, "timestamp");
    timestamp(out, welcome.ts);
    key(out, "pingInterval");
    millis(out, welcome.ping_interval);
    key(out, "maxMessageBytes");
    unsigned(out, welcome.message_bytes_max as u64);
    key(out, "openMode");
    boolean(out, welcome.open_mode);
}

fn write_message(out: &mut Vec<u8>, message: &Message) {
    out.reserve(ENVELOPE_LEN + message.body.len());
    begin(out, message.kind.name());
    match message.kind {
        Kind::Chat
        | Kind::Action
        | Kind::Topic
        | Kind::Rename
        | Kind::Edit
        | Kind::Delete
        | Kind::Reaction => {
            write_publisher(out, message.from.as_ref());
            write_body(out, "content", &message.body);
            key(out, "timestamp");
            timestamp(out, message.ts);
            write_room(out, message.room.as_ref());
            write_message_id(out, message);
        }
        Kind::System => {
            write_body(out, "content", &message.body);
            key(out, "timestamp");
            timestamp(out, message.ts);
            write_publisher(out, message.from.as_ref());
            write_room(out, message.room.as_ref());
            write_message_id(out, message);
        }
        Kind::Join | Kind::Leave => {
            write_publisher(out, message.from.as_ref());
            key(out, "timestamp");
            timestamp(out, message.ts);
            write_room(out, message.room.as_ref());
            // One user may come with several connections: without this, nobody could tell which one left.
            if let Some(publisher) = &message.from {
                key(out, "clientId");
                uuid(out, publisher.client.as_u128());
            }
            write_body(out, "data", &message.body);
        }
        Kind::Data | Kind::Custom(_) => {
            write_room(out, message.room.as_ref());
            write_body(out, "data", &message.body);
            write_publisher(out, message.from.as_ref());
            key(out, "timestamp");
            timestamp(out, message.ts);
            write_message_id(out, message);
        }
    }
    write_position(out, message.position);
}

fn write_acknowledgement(out: &mut Vec<u8>, acknowledgement: &Acknowledgement) {
    begin(out, "ack");
    write_request(out, Some(&acknowledgement.request));
    write_room(out, Some(&acknowledgement.room));
    key(out, "messageId");
    uuid(out, acknowledgement.id.as_u128());
    write_position(out, Some(acknowledgement.position));
    key(out, "timestamp");
    timestamp(out, acknowledgement.ts);
    if acknowledgement.duplicate {
        key(out, "duplicate");
        boolean(out, true);
    }
}

fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    begin(out, "error");
    write_request(out, refusal.request.as_ref());
    key(out, "code");
    unsigned(out, refusal.code.number().into());
    key(out, "error");
    string(out, refusal.code.name());
    key(out, "message");
    string(out, &refusal.detail);
    key(out, "temporary");
    boolean(out, refusal.code.is_temporary());
    if let Some(after) = refusal.retry_after {
        key(out, "retryAfter");
        millis(out, after);
    }
}

fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    begin(out, "gap");
    write_room(out, Some(&gap.room));
    key(out, "missed");
    unsigned(out, gap.missed);
    write_position(out, Some(gap.to));
}

fn write_request(out: &mut Vec<u8>, request: Option<&RequestId>) {
    let Some(request) = request else { return };
    key(out, "id");
    match request {
        RequestId::Number(number) => integer(out, *number),
        RequestId::Text(text) => string(out, text),
    }
}

fn write_room(out: &mut Vec<u8>, room: Option<&RoomName>) {
    let Some(room) = room else { return };
    key(out, "room");
    string(out, room.as_str());
}

fn write_publisher(out: &mut Vec<u8>, publisher: Option<&Publisher>) {
    let Some(publisher) = publisher else { return };
    key(out, "userId");
    string(out, publisher.user.as_str());
    key(out, "username");
    string(out, &publisher.name);
}

fn write_message_id(out: &mut Vec<u8>, message: &Message) {
    key(out, "id");
    uuid(out, message.id.as_u128());
}

fn write_position(out: &mut Vec<u8>, position: Option<Position>) {
    let Some(position) = position else { return };
    key(out, "epoch");
    epoch(out, position.epoch);
    key(out, "offset");
    unsigned(out, position.offset);
}

/// The body under its name; bytes always as `base64`, JSON always as `data`, nothing where there is nothing.
fn write_body(out: &mut Vec<u8>, text_name: &'static str, body: &Body) {
    match body {
        Body::Empty => {}
        Body::Text(text) => {
            key(out, text_name);
            string(out, text);
        }
        Body::Json(json) => {
            key(out, "data");
            raw(out, json);
        }
        Body::Binary(bytes) => {
            key(out, "base64");
            base64(out, bytes);
        }
    }
}

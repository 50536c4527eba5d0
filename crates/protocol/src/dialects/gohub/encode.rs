//! Events, written as `gohub` envelopes.
//!
//! Called once per event, never per receiver. The order of the keys is part of the contract (people read
//! these lines), so every shape is written out here in that order.

use crate::json::{base64, boolean, close, epoch, integer, key, millis, open, raw, string, unsigned, uuid};
use crate::{
    Acknowledgement, Body, Event, Gap, Kind, Message, Notice, Position, Publisher, Refusal, RequestId,
    RoomName, Subscribed, Timestamp, Welcome,
};

/// Room for everything around a body, so that the vector grows at most once.
const ENVELOPE_LEN: usize = 384;

pub(super) fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Welcome(welcome) => write_welcome(out, welcome),
        Event::Message(message) => write_message(out, message),
        Event::Subscribed(subscribed) => {
            let Subscribed { request, room, position, members, .. } = subscribed.as_ref();
            begin(out, request.as_ref(), "subscribed");
            begin_data(out);
            write_room(out, Some(room));
            write_position(out, Some(*position));
            key(out, "members");
            unsigned(out, *members as u64);
            end(out, None);
        }
        Event::Unsubscribed { request, room } => {
            begin(out, request.as_ref(), "unsubscribed");
            begin_data(out);
            write_room(out, Some(room));
            end(out, None);
        }
        Event::Acknowledged(acknowledgement) => write_acknowledgement(out, acknowledgement),
        Event::Pong { request } => {
            begin(out, request.as_ref(), "pong");
            close(out);
        }
        Event::Refused(refusal) => write_refusal(out, refusal),
        Event::Reply { request, name, data } => {
            begin(out, request.as_ref(), name);
            if let Some(data) = data {
                key(out, "data");
                raw(out, data);
            }
            close(out);
        }
        Event::Gap(gap) => write_gap(out, gap),
        Event::Notice(Notice::GoingAway { reconnect_after }) => {
            begin(out, None, "going_away");
            begin_data(out);
            key(out, "reconnect_after_ms");
            millis(out, *reconnect_after);
            end(out, None);
        }
        _ => {}
    }
}

/// The envelope up to its type. The hub has this dialect's ids from this dialect only, so they are numbers.
fn begin(out: &mut Vec<u8>, request: Option<&RequestId>, name: &str) {
    open(out);
    key(out, "message_id");
    match request {
        Some(RequestId::Number(number)) => integer(out, *number),
        Some(RequestId::Text(_)) | None => unsigned(out, 0),
    }
    key(out, "message_type");
    string(out, name);
}

fn begin_data(out: &mut Vec<u8>) {
    key(out, "data");
    open(out);
}

/// Ends `data` and the envelope.
fn end(out: &mut Vec<u8>, ts: Option<Timestamp>) {
    close(out);
    if let Some(ts) = ts {
        key(out, "ts");
        integer(out, ts.as_millis());
    }
    close(out);
}

fn write_welcome(out: &mut Vec<u8>, welcome: &Welcome) {
    begin(out, None, "welcome");
    begin_data(out);
    key(out, "client_id");
    uuid(out, welcome.client.as_u128());
    key(out, "user_id");
    string(out, welcome.user.as_str());
    key(out, "username");
    string(out, &welcome.name);
    key(out, "ping_interval_ms");
    millis(out, welcome.ping_interval);
    key(out, "message_bytes_max");
    unsigned(out, welcome.message_bytes_max as u64);
    key(out, "open_mode");
    boolean(out, welcome.open_mode);
    end(out, Some(welcome.ts));
}

/// One shape for every kind: where, who, what, which.
fn write_message(out: &mut Vec<u8>, message: &Message) {
    out.reserve(ENVELOPE_LEN + message.body.len());
    begin(out, None, message.kind.name());
    begin_data(out);
    write_room(out, message.room.as_ref());
    write_publisher(out, message.from.as_ref());
    let text_name = if matches!(message.kind, Kind::Chat | Kind::System) { "content" } else { "data" };
    write_body(out, text_name, &message.body);
    key(out, "id");
    uuid(out, message.id.as_u128());
    write_position(out, message.position);
    end(out, Some(message.ts));
}

fn write_acknowledgement(out: &mut Vec<u8>, acknowledgement: &Acknowledgement) {
    begin(out, Some(&acknowledgement.request), "ack");
    begin_data(out);
    write_room(out, Some(&acknowledgement.room));
    key(out, "id");
    uuid(out, acknowledgement.id.as_u128());
    write_position(out, Some(acknowledgement.position));
    if acknowledgement.duplicate {
        key(out, "duplicate");
        boolean(out, true);
    }
    end(out, Some(acknowledgement.ts));
}

fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    begin(out, refusal.request.as_ref(), "error");
    begin_data(out);
    key(out, "code");
    unsigned(out, refusal.code.number().into());
    key(out, "error");
    string(out, refusal.code.name());
    key(out, "message");
    string(out, &refusal.detail);
    key(out, "temporary");
    boolean(out, refusal.code.is_temporary());
    if let Some(after) = refusal.retry_after {
        key(out, "retry_after_ms");
        millis(out, after);
    }
    end(out, None);
}

fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    begin(out, None, "gap");
    begin_data(out);
    write_room(out, Some(&gap.room));
    key(out, "missed");
    unsigned(out, gap.missed);
    write_position(out, Some(gap.to));
    end(out, None);
}

fn write_room(out: &mut Vec<u8>, room: Option<&RoomName>) {
    let Some(room) = room else { return };
    key(out, "room");
    string(out, room.as_str());
}

fn write_publisher(out: &mut Vec<u8>, publisher: Option<&Publisher>) {
    let Some(publisher) = publisher else { return };
    key(out, "user_id");
    string(out, publisher.user.as_str());
    key(out, "username");
    string(out, &publisher.name);
    key(out, "client_id");
    uuid(out, publisher.client.as_u128());
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

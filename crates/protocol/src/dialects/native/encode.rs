//! Events, written as `native` frames.
//!
//! Called once per event, never per receiver. The order of the keys is part of the contract (people read
//! these lines), so every shape is written out here in that order.

use super::super::shared::{self, Words, write_body, write_details, write_position, write_room};
use crate::json::{boolean, close, integer, key, millis, open, raw, string, timestamp, unsigned, uuid};
use crate::{
    Acknowledgement, Event, Gap, Kind, Message, NodeHint, Notice, Publisher, Refusal, RequestId, Timestamp,
    Welcome,
};

const WORDS: Words = Words {
    user_id: "userId",
    username: "username",
    previous_username: "previousUsername",
    client_id: "clientId",
    user_count: "userCount",
    joined_count: "joinedCount",
    left_count: "leftCount",
    expires_after: "expiresAfter",
    timestamp: "timestamp",
    time: timestamp,
    message: write_message,
};

/// Room for everything around a body, so that the vector grows at most once.
const ENVELOPE_LEN: usize = 384;

pub(super) fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Welcome(welcome) => write_welcome(out, welcome),
        Event::Message(message) => return write_message(out, message),
        Event::Subscribed(subscribed) => {
            answer(out, "subscribed", subscribed.request.as_ref());
            shared::write_subscribed(out, subscribed);
        }
        Event::Authenticated { request, expires } => {
            answer(out, "authenticated", request.as_ref());
            write_expires(out, *expires);
        }
        Event::Kicked { request, room, user } => {
            answer(out, "kicked", request.as_ref());
            write_room(out, Some(room));
            key(out, "userId");
            string(out, user.as_str());
        }
        Event::Unsubscribed { request, room, because } => {
            answer(out, "unsubscribed", request.as_ref());
            write_room(out, Some(room));
            shared::write_reason(out, because.as_deref());
        }
        Event::Acknowledged(acknowledgement) => write_acknowledgement(out, acknowledgement),
        Event::Pong { request } => answer(out, "pong", request.as_ref()),
        Event::Refused(refusal) => write_refusal(out, refusal),
        Event::Reply { request, name, data } => {
            answer(out, name, request.as_ref());
            if let Some(data) = data {
                key(out, "data");
                raw(out, data);
            }
        }
        Event::Gap(gap) => write_gap(out, gap),
        Event::History(history) => {
            out.reserve(history.messages.iter().map(|message| ENVELOPE_LEN + message.body.len()).sum());
            answer(out, "history", history.request.as_ref());
            shared::write_history(out, &WORDS, history);
        }
        Event::Presence(presence) => {
            answer(out, "presence", presence.request.as_ref());
            shared::write_presence(out, &WORDS, presence);
        }
        Event::Crowd(crowd) => {
            begin(out, "presence_change");
            shared::write_crowd(out, &WORDS, crowd);
        }
        Event::Typing(typing) => {
            begin(out, "typing");
            shared::write_typing(out, &WORDS, typing);
        }
        Event::Receipt(receipt) => {
            begin(out, "receipt");
            shared::write_receipt(out, &WORDS, receipt);
        }
        Event::ReceiptCounts(counts) => {
            begin(out, "receipt_counts");
            shared::write_receipt_counts(out, counts);
        }
        Event::Receipts(receipts) => {
            answer(out, "receipts", receipts.request.as_ref());
            shared::write_receipts(out, &WORDS, receipts);
        }
        Event::Conversations(conversations) => {
            answer(out, "conversations", conversations.request.as_ref());
            shared::write_conversations(out, &WORDS, conversations);
        }
        Event::Notice(Notice::GoingAway { reconnect_after, url }) => {
            begin(out, "going_away");
            key(out, "reconnectAfter");
            millis(out, *reconnect_after);
            if let Some(url) = url {
                key(out, "url");
                string(out, url);
            }
        }
    }
    close(out);
}

fn begin(out: &mut Vec<u8>, name: &str) {
    open(out);
    key(out, "type");
    string(out, name);
}

/// What answers a request begins with the request's id.
fn answer(out: &mut Vec<u8>, name: &str, request: Option<&RequestId>) {
    begin(out, name);
    write_request(out, request);
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
    write_expires(out, welcome.expires);
    if let Some(node) = &welcome.node {
        write_node(out, node);
    }
}

fn write_expires(out: &mut Vec<u8>, expires: Option<Timestamp>) {
    let Some(expires) = expires else { return };
    key(out, "expires");
    timestamp(out, expires);
}

fn write_node(out: &mut Vec<u8>, node: &NodeHint) {
    key(out, "node");
    open(out);
    key(out, "name");
    string(out, &node.name);
    for (name, text) in [("prefer", &node.prefer), ("url", &node.url)] {
        if !text.is_empty() {
            key(out, name);
            string(out, text);
        }
    }
    close(out);
}

/// A whole message.
fn write_message(out: &mut Vec<u8>, message: &Message) {
    out.reserve(ENVELOPE_LEN + message.body.len());
    write_with(out, message, |out| write_body(out, &WORDS, message));
}

/// A message without its body.
pub(super) fn write_header(out: &mut Vec<u8>, message: &Message) {
    out.reserve(ENVELOPE_LEN + message.body.len());
    write_with(out, message, |_| {});
}

/// A message whose body is written by `body`. People read chat, so what they look for comes first there; programs look for
/// the room.
fn write_with(out: &mut Vec<u8>, message: &Message, body: impl FnOnce(&mut Vec<u8>)) {
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
            body(out);
            write_time(out, message);
            write_room(out, message.room.as_ref());
            write_message_id(out, message);
        }
        Kind::System => {
            body(out);
            write_time(out, message);
            write_publisher(out, message.from.as_ref());
            write_room(out, message.room.as_ref());
            write_message_id(out, message);
        }
        Kind::Join | Kind::Leave => {
            write_publisher(out, message.from.as_ref());
            write_time(out, message);
            write_room(out, message.room.as_ref());
            // One user may come with several connections: without this, nobody could tell which one left.
            if let Some(publisher) = &message.from {
                key(out, "clientId");
                uuid(out, publisher.client.as_u128());
            }
            body(out);
        }
        Kind::Data | Kind::Custom(_) => {
            write_room(out, message.room.as_ref());
            body(out);
            write_publisher(out, message.from.as_ref());
            write_time(out, message);
            write_message_id(out, message);
        }
    }
    write_position(out, message.position);
    write_details(out, &WORDS, message);
    close(out);
}

fn write_time(out: &mut Vec<u8>, message: &Message) {
    key(out, "timestamp");
    timestamp(out, message.ts);
}

fn write_acknowledgement(out: &mut Vec<u8>, acknowledgement: &Acknowledgement) {
    answer(out, "ack", Some(&acknowledgement.request));
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
    answer(out, "error", refusal.request.as_ref());
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

//! Events, written as `gohub` envelopes.
//!
//! Called once per event, never per receiver. The order of the keys is part of the contract (people read
//! these lines), so every shape is written out here in that order.

use super::super::shared::{self, Words, write_body, write_details, write_position, write_room};
use crate::json::{boolean, close, integer, key, millis, open, raw, string, unsigned, uuid};
use crate::{
    Acknowledgement, Event, Gap, Message, Notice, Publisher, Refusal, RequestId, Timestamp, Welcome,
};

const WORDS: Words = Words {
    user_id: "user_id",
    username: "username",
    previous_username: "previous_username",
    client_id: "client_id",
    user_count: "user_count",
    joined_count: "joined_count",
    left_count: "left_count",
    expires_after: "expires_after_ms",
    timestamp: "ts",
    time: |out, ts| integer(out, ts.as_millis()),
    message: write_message,
};

/// Room for everything around a body, so that the vector grows at most once.
const ENVELOPE_LEN: usize = 384;

pub(super) fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Welcome(welcome) => write_welcome(out, welcome),
        Event::Message(message) => write_message(out, message),
        Event::Subscribed(subscribed) => {
            begin_data(out, subscribed.request.as_ref(), "subscribed");
            shared::write_subscribed(out, subscribed);
            end(out, None);
        }
        Event::Authenticated { request, expires } => {
            begin_data(out, request.as_ref(), "authenticated");
            write_expires(out, *expires);
            end(out, None);
        }
        Event::Kicked { request, room, user } => {
            begin_data(out, request.as_ref(), "kicked");
            write_room(out, Some(room));
            key(out, "user_id");
            string(out, user.as_str());
            end(out, None);
        }
        Event::Unsubscribed { request, room, because } => {
            begin_data(out, request.as_ref(), "unsubscribed");
            write_room(out, Some(room));
            shared::write_reason(out, because.as_deref());
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
        Event::Notice(Notice::GoingAway { reconnect_after, url }) => {
            begin_data(out, None, "going_away");
            key(out, "reconnect_after_ms");
            millis(out, *reconnect_after);
            if let Some(url) = url {
                key(out, "url");
                string(out, url);
            }
            end(out, None);
        }
        Event::History(history) => {
            out.reserve(history.messages.iter().map(|message| ENVELOPE_LEN + message.body.len()).sum());
            begin_data(out, history.request.as_ref(), "history");
            shared::write_history(out, &WORDS, history);
            end(out, None);
        }
        Event::Presence(presence) => {
            begin_data(out, presence.request.as_ref(), "presence");
            shared::write_presence(out, &WORDS, presence);
            end(out, None);
        }
        Event::Crowd(crowd) => {
            begin_data(out, None, "presence_change");
            shared::write_crowd(out, &WORDS, crowd);
            end(out, None);
        }
        Event::Typing(typing) => {
            begin_data(out, None, "typing");
            shared::write_typing(out, &WORDS, typing);
            end(out, None);
        }
        Event::Receipt(receipt) => {
            begin_data(out, None, "receipt");
            shared::write_receipt(out, &WORDS, receipt);
            end(out, None);
        }
        Event::ReceiptCounts(counts) => {
            begin_data(out, None, "receipt_counts");
            shared::write_receipt_counts(out, counts);
            end(out, None);
        }
        Event::Receipts(receipts) => {
            begin_data(out, receipts.request.as_ref(), "receipts");
            shared::write_receipts(out, &WORDS, receipts);
            end(out, None);
        }
        Event::Conversations(conversations) => {
            begin_data(out, conversations.request.as_ref(), "conversations");
            shared::write_conversations(out, &WORDS, conversations);
            end(out, None);
        }
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

/// The envelope up to and into `data`, which [`end`] ends.
fn begin_data(out: &mut Vec<u8>, request: Option<&RequestId>, name: &str) {
    begin(out, request, name);
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
    begin_data(out, None, "welcome");
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
    write_expires(out, welcome.expires);
    end(out, Some(welcome.ts));
}

fn write_expires(out: &mut Vec<u8>, expires: Option<Timestamp>) {
    let Some(expires) = expires else { return };
    key(out, "expires");
    integer(out, expires.as_millis());
}

/// One shape for every kind: where, who, what, which.
fn write_message(out: &mut Vec<u8>, message: &Message) {
    out.reserve(ENVELOPE_LEN + message.body.len());
    begin_data(out, None, message.kind.name());
    write_room(out, message.room.as_ref());
    write_publisher(out, message.from.as_ref());
    write_body(out, &WORDS, message);
    key(out, "id");
    uuid(out, message.id.as_u128());
    write_position(out, message.position);
    write_details(out, &WORDS, message);
    end(out, Some(message.ts));
}

fn write_acknowledgement(out: &mut Vec<u8>, acknowledgement: &Acknowledgement) {
    begin_data(out, Some(&acknowledgement.request), "ack");
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
    begin_data(out, refusal.request.as_ref(), "error");
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
    begin_data(out, None, "gap");
    write_room(out, Some(&gap.room));
    key(out, "missed");
    unsigned(out, gap.missed);
    write_position(out, Some(gap.to));
    end(out, None);
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

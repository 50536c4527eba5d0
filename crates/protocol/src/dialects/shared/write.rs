//! The fields of the events that have the same ones, in the same order, in every dialect.
//!
//! Called by the dialects' `encode` between the beginning and the end of an object that they write. What differs, the
//! spelling of names and how time is written, is in [`Words`].

use std::time::Duration;

use crate::json::{array, base64, boolean, close, epoch, key, millis, open, raw, string, unsigned, uuid};
use crate::{
    Body, Conversation, Conversations, Crowd, Cursor, Device, History, Kind, Message, Position, Presence,
    Present, Publisher, Reactions, Receipt, ReceiptCounts, ReceiptOf, Receipts, Refusal, RoomName,
    Subscribed, Timestamp, Typing, Unread, UserId,
};

/// How a dialect says what all of them say.
pub(crate) struct Words {
    pub(crate) user_id: &'static str,
    pub(crate) username: &'static str,
    pub(crate) previous_username: &'static str,
    pub(crate) client_id: &'static str,
    pub(crate) user_count: &'static str,
    pub(crate) joined_count: &'static str,
    pub(crate) left_count: &'static str,
    pub(crate) expires_after: &'static str,
    pub(crate) timestamp: &'static str,
    /// Writes a time.
    pub(crate) time: fn(&mut Vec<u8>, Timestamp),
    /// Writes a whole message, as it is written when it is live.
    pub(crate) message: fn(&mut Vec<u8>, &Message),
}

/// The room, the place in it, and what the client can know of the room before the first message.
pub(crate) fn write_subscribed(out: &mut Vec<u8>, subscribed: &Subscribed) {
    write_room(out, Some(&subscribed.room));
    write_position(out, Some(subscribed.position));
    write_count(out, "members", subscribed.members);
    key(out, "head");
    unsigned(out, subscribed.head);
    key(out, "first");
    unsigned(out, subscribed.first);
    if let Some(recovered) = subscribed.recovered {
        key(out, "recovered");
        boolean(out, recovered);
    }
    key(out, "durability");
    string(out, subscribed.durability.name());
    if let Some(unread) = &subscribed.unread {
        write_unread(out, unread);
    }
    if !subscribed.topic.is_empty() {
        key(out, "topic");
        string(out, &subscribed.topic);
    }
}

/// Why the server did what nobody asked for, in an error's words.
pub(crate) fn write_reason(out: &mut Vec<u8>, reason: Option<&Refusal>) {
    let Some(reason) = reason else { return };
    key(out, "code");
    unsigned(out, reason.code.number().into());
    key(out, "error");
    string(out, reason.code.name());
    key(out, "message");
    string(out, &reason.detail);
}

pub(crate) fn write_room(out: &mut Vec<u8>, room: Option<&RoomName>) {
    let Some(room) = room else { return };
    key(out, "room");
    string(out, room.as_str());
}

pub(crate) fn write_position(out: &mut Vec<u8>, position: Option<Position>) {
    let Some(position) = position else { return };
    key(out, "epoch");
    epoch(out, position.epoch);
    key(out, "offset");
    unsigned(out, position.offset);
}

/// The body under its name; bytes always as `base64`, JSON always as `data`. Nothing where there is nothing, except
/// that what people read always has its text: a client shows it without asking whether it is there.
pub(crate) fn write_body(out: &mut Vec<u8>, words: &Words, message: &Message) {
    let text_name = match message.kind {
        Kind::Chat | Kind::System | Kind::Action | Kind::Edit => "content",
        Kind::Topic => "topic",
        Kind::Rename => words.previous_username,
        Kind::Reaction => "reaction",
        Kind::Join | Kind::Leave | Kind::Data | Kind::Delete | Kind::Custom(_) => "data",
    };
    match &message.body {
        Body::Empty => {
            if matches!(message.kind, Kind::Chat | Kind::Action | Kind::Topic) {
                key(out, text_name);
                string(out, "");
            }
        }
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

/// What only some messages have; after everything else.
pub(crate) fn write_details(out: &mut Vec<u8>, words: &Words, message: &Message) {
    let Some(details) = &message.details else { return };
    if let Some(to) = &details.to {
        write_user(out, "to", to);
    }
    if let Some(target) = details.target {
        key(out, "target");
        unsigned(out, target);
    }
    if message.kind == Kind::Reaction {
        key(out, "removed");
        boolean(out, details.withdrawn);
    }
    for (name, time) in [("edited", details.edited), ("deleted", details.deleted)] {
        if let Some(time) = time {
            write_time(out, words, name, time);
        }
    }
    if !details.reactions.is_empty() {
        key(out, "reactions");
        array(out, &details.reactions, write_reactions);
    }
    write_node(out, &details.node);
}

fn write_reactions(out: &mut Vec<u8>, reactions: &Reactions) {
    open(out);
    key(out, "reaction");
    string(out, &reactions.reaction);
    key(out, "users");
    array(out, &reactions.users, |out, user| string(out, user.as_str()));
    close(out);
}

pub(crate) fn write_history(out: &mut Vec<u8>, words: &Words, history: &History) {
    write_room(out, Some(&history.room));
    key(out, "epoch");
    epoch(out, history.epoch);
    key(out, "first");
    unsigned(out, history.first);
    key(out, "head");
    unsigned(out, history.head);
    key(out, "more");
    boolean(out, history.more);
    key(out, "messages");
    array(out, &history.messages, words.message);
}

pub(crate) fn write_presence(out: &mut Vec<u8>, words: &Words, presence: &Presence) {
    write_room(out, Some(&presence.room));
    write_count(out, words.user_count, presence.users);
    write_count(out, "members", presence.members);
    key(out, "users");
    array(out, &presence.page, |out, present| write_present(out, words, present));
    write_next(out, presence.next.as_ref());
}

fn write_present(out: &mut Vec<u8>, words: &Words, present: &Present) {
    open(out);
    write_user(out, words.user_id, &present.user);
    key(out, words.username);
    string(out, &present.name);
    key(out, "online");
    boolean(out, present.online);
    write_time(out, words, "since", present.since);
    key(out, "devices");
    array(out, &present.devices, |out, device| write_device(out, words, device));
    if let Some(info) = &present.info {
        key(out, "info");
        raw(out, info);
    }
    close(out);
}

fn write_device(out: &mut Vec<u8>, words: &Words, device: &Device) {
    open(out);
    key(out, words.client_id);
    uuid(out, device.client.as_u128());
    if !device.device.is_empty() {
        key(out, "device");
        string(out, &device.device);
    }
    write_node(out, &device.node);
    write_time(out, words, "since", device.since);
    close(out);
}

fn write_node(out: &mut Vec<u8>, node: &str) {
    if !node.is_empty() {
        key(out, "node");
        string(out, node);
    }
}

pub(crate) fn write_crowd(out: &mut Vec<u8>, words: &Words, crowd: &Crowd) {
    write_room(out, Some(&crowd.room));
    write_count(out, words.user_count, crowd.users);
    write_count(out, "members", crowd.members);
    write_count(out, words.joined_count, crowd.joined_count);
    write_count(out, words.left_count, crowd.left_count);
    for (name, users) in [("joined", &crowd.joined), ("left", &crowd.left)] {
        key(out, name);
        array(out, users, |out, (user, name)| {
            open(out);
            write_user(out, words.user_id, user);
            key(out, words.username);
            string(out, name);
            close(out);
        });
    }
}

pub(crate) fn write_typing(out: &mut Vec<u8>, words: &Words, typing: &Typing) {
    let Publisher { user, name, client } = &typing.from;
    write_room(out, Some(&typing.room));
    write_user(out, words.user_id, user);
    key(out, words.username);
    string(out, name);
    key(out, words.client_id);
    uuid(out, client.as_u128());
    key(out, "active");
    boolean(out, typing.active);
    write_duration(out, words.expires_after, typing.expires);
}

pub(crate) fn write_receipt(out: &mut Vec<u8>, words: &Words, receipt: &ReceiptOf) {
    write_room(out, Some(&receipt.room));
    write_user(out, words.user_id, &receipt.user);
    key(out, "receipt");
    string(out, receipt_name(receipt.receipt));
    write_position(out, Some(receipt.position));
}

/// The word of the request that a client makes it with.
fn receipt_name(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::Delivered => "delivered",
        Receipt::Seen => "seen",
    }
}

pub(crate) fn write_receipt_counts(out: &mut Vec<u8>, counts: &ReceiptCounts) {
    write_room(out, Some(&counts.room));
    write_position(out, Some(counts.position));
    key(out, "delivered");
    unsigned(out, counts.delivered);
    key(out, "seen");
    unsigned(out, counts.seen);
}

pub(crate) fn write_receipts(out: &mut Vec<u8>, words: &Words, receipts: &Receipts) {
    write_room(out, Some(&receipts.room));
    key(out, "epoch");
    epoch(out, receipts.epoch);
    key(out, "users");
    array(out, &receipts.page, |out, cursor| write_cursor(out, words, cursor));
    write_next(out, receipts.next.as_ref());
}

fn write_cursor(out: &mut Vec<u8>, words: &Words, cursor: &Cursor) {
    open(out);
    write_user(out, words.user_id, &cursor.user);
    key(out, "delivered");
    unsigned(out, cursor.delivered);
    key(out, "seen");
    unsigned(out, cursor.seen);
    close(out);
}

pub(crate) fn write_conversations(out: &mut Vec<u8>, words: &Words, conversations: &Conversations) {
    key(out, "conversations");
    array(out, &conversations.page, |out, conversation| write_conversation(out, words, conversation));
    write_next(out, conversations.next.as_ref());
}

fn write_conversation(out: &mut Vec<u8>, words: &Words, conversation: &Conversation) {
    open(out);
    write_room(out, Some(&conversation.room));
    write_user(out, "with", &conversation.with);
    write_position(out, Some(conversation.head));
    write_time(out, words, words.timestamp, conversation.ts);
    write_unread(out, &conversation.unread);
    close(out);
}

fn write_unread(out: &mut Vec<u8>, unread: &Unread) {
    for (name, number) in [("unread", unread.count), ("seen", unread.seen), ("delivered", unread.delivered)] {
        key(out, name);
        unsigned(out, number);
    }
}

fn write_user(out: &mut Vec<u8>, name: &'static str, user: &UserId) {
    key(out, name);
    string(out, user.as_str());
}

fn write_count(out: &mut Vec<u8>, name: &'static str, count: usize) {
    key(out, name);
    unsigned(out, count as u64);
}

fn write_time(out: &mut Vec<u8>, words: &Words, name: &'static str, time: Timestamp) {
    key(out, name);
    (words.time)(out, time);
}

fn write_duration(out: &mut Vec<u8>, name: &'static str, duration: Duration) {
    key(out, name);
    millis(out, duration);
}

/// The user after whom the next page begins.
fn write_next(out: &mut Vec<u8>, next: Option<&UserId>) {
    if let Some(next) = next {
        write_user(out, "next", next);
    }
}

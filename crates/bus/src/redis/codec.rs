//! Redis's publish and subscribe, spelt.
//!
//! Channels are `<prefix>|<topic>`, as they are: no pattern is ever used, so nothing in a topic can mean anything but itself, and no
//! topic leads out of the prefix. In a cluster the commands are the sharded ones, which only the node with the channel's slot takes.

use std::collections::HashMap;

use bytes::{Buf as _, Bytes, BytesMut};

use super::errors;
use super::resp::{Value, command, parse};
use crate::Topic;
use crate::remote::{Codec, Event, crc16};

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16384;

/// Names of channels and commands.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    prefix: String,
    pub(super) sharded: bool,
}

impl Channels {
    pub(super) fn new(prefix: &str, sharded: bool) -> Self {
        Self { prefix: format!("{prefix}|"), sharded }
    }

    pub(super) fn of(&self, topic: &Topic) -> Vec<u8> {
        [self.prefix.as_bytes(), topic.as_str().as_bytes()].concat()
    }

    pub(super) fn publish(&self, channel: &[u8], payload: &[u8], out: &mut BytesMut) {
        let verb: &[u8] = if self.sharded { b"SPUBLISH" } else { b"PUBLISH" };
        command(&[verb, channel, payload], out);
    }

    fn subscribe(&self) -> &'static [u8] {
        if self.sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" }
    }

    fn unsubscribe(&self) -> &'static [u8] {
        if self.sharded { b"SUNSUBSCRIBE" } else { b"UNSUBSCRIBE" }
    }
}

/// The slot of a channel: of what stands in its first braces, if anything does.
pub(super) fn slot(channel: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', channel).map(|open| &channel[open + 1..]);
    let tag = tag.and_then(|rest| memchr::memchr(b'}', rest).filter(|&len| len > 0).map(|len| &rest[..len]));
    crc16(tag.unwrap_or(channel)) % SLOTS
}

/// One connection's subscriptions.
#[derive(Debug)]
pub(super) struct RedisCodec {
    channels: Channels,
    topics: HashMap<Vec<u8>, Topic>,
    /// Ends of subscriptions that were asked for and are not confirmed.
    ending: HashMap<Vec<u8>, usize>,
    tells_role: bool,
}

impl RedisCodec {
    pub(super) fn new(channels: Channels) -> Self {
        Self { channels, topics: HashMap::new(), ending: HashMap::new(), tells_role: false }
    }

    /// Whether the server says if it is a master when it is asked. At first: no.
    pub(super) fn tells_role(&mut self, tells: bool) {
        self.tells_role = tells;
    }

    fn understand(&mut self, value: &Value<'_>) -> Result<Event, String> {
        match value {
            Value::Error(text) => Err(errors::said(text)),
            Value::Text(b"PONG") => Ok(Event::Pong),
            Value::Array(values) => match values.as_slice() {
                [Value::Text(b"message" | b"smessage"), Value::Text(channel), Value::Text(payload)] => {
                    Ok(self.message(channel, payload))
                }
                [Value::Text(b"pong"), _] => Ok(Event::Pong),
                [Value::Text(b"unsubscribe" | b"sunsubscribe"), Value::Text(channel), _] => {
                    Ok(self.ended(channel))
                }
                [Value::Text(b"slave"), ..] => Err(errors::REPLICA.to_owned()),
                _ => Ok(Event::Other),
            },
            _ => Ok(Event::Other),
        }
    }

    fn message(&self, channel: &[u8], payload: &[u8]) -> Event {
        // Copied: what is kept for long must not keep all that was read with it.
        let payload = Bytes::copy_from_slice(payload);
        // It may be for a subscription that has ended meanwhile.
        self.topics
            .get(channel)
            .map_or(Event::Other, |topic| Event::Message { topic: topic.clone(), payload })
    }

    /// A subscription has ended: because it was asked to, or because the channel's slot is another node's now.
    fn ended(&mut self, channel: &[u8]) -> Event {
        if let Some(count) = self.ending.get_mut(channel) {
            *count -= 1;
            if *count == 0 {
                self.ending.remove(channel);
            }
            return Event::Other;
        }
        self.topics.remove(channel).map_or(Event::Other, Event::Ended)
    }
}

impl Codec for RedisCodec {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some((value, len)) = parse(input)? else { return Ok(None) };
        let event = self.understand(&value)?;
        input.advance(len);
        Ok(Some(event))
    }

    fn subscribe(&mut self, topic: &Topic, out: &mut BytesMut) {
        let channel = self.channels.of(topic);
        command(&[self.channels.subscribe(), &channel], out);
        self.topics.insert(channel, topic.clone());
    }

    fn unsubscribe(&mut self, topic: &Topic, out: &mut BytesMut) {
        let channel = self.channels.of(topic);
        if self.topics.remove(&channel).is_some() {
            command(&[self.channels.unsubscribe(), &channel], out);
            *self.ending.entry(channel).or_default() += 1;
        }
    }

    fn ping(&mut self, out: &mut BytesMut) {
        command(&[b"PING"], out);
    }

    fn pong(&mut self, _: &mut BytesMut) {}

    fn check(&mut self, out: &mut BytesMut) {
        if self.tells_role {
            command(&[b"ROLE"], out);
        }
        self.ping(out);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn codec(sharded: bool) -> RedisCodec {
        RedisCodec::new(Channels::new("p", sharded))
    }

    fn events(codec: &mut RedisCodec, wire: &[u8]) -> Vec<Event> {
        let mut input = BytesMut::from(wire);
        std::iter::from_fn(|| codec.decode(&mut input).unwrap()).collect()
    }

    #[test]
    fn slots_are_those_that_redis_computes() {
        for (channel, expected) in
            [("foo", 12182), ("bar", 5061), ("{user1000}.following", 3443), ("user1000", 3443)]
        {
            assert_eq!(slot(channel.as_bytes()), expected, "{channel}");
        }
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS, "empty braces count for nothing");
    }

    #[test]
    fn what_arrives_on_a_channel_comes_from_its_topic() {
        let mut codec = codec(false);
        let mut out = BytesMut::new();
        codec.subscribe(&topic("a"), &mut out);
        assert_eq!(&out[..], b"*2\r\n$9\r\nSUBSCRIBE\r\n$3\r\np|a\r\n");
        let wire =
            b"*3\r\n$9\r\nsubscribe\r\n$3\r\np|a\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$3\r\np|a\r\n$2\r\nhi\r\n\
            *3\r\n$7\r\nmessage\r\n$3\r\np|b\r\n$2\r\nno\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n";
        let message = Event::Message { topic: topic("a"), payload: Bytes::from_static(b"hi") };
        assert_eq!(events(&mut codec, wire), [Event::Other, message, Event::Other, Event::Pong]);
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_told_and_others_are_not() {
        let mut codec = codec(true);
        let mut out = BytesMut::new();
        codec.subscribe(&topic("a"), &mut out);
        codec.unsubscribe(&topic("a"), &mut out);
        codec.subscribe(&topic("a"), &mut out);
        let end = b"*3\r\n$12\r\nsunsubscribe\r\n$3\r\np|a\r\n:0\r\n";
        assert_eq!(events(&mut codec, end), [Event::Other]);
        assert_eq!(events(&mut codec, end), [Event::Ended(topic("a"))]);
        assert_eq!(events(&mut codec, end), [Event::Other]);
    }

    #[test]
    fn a_replica_is_none_to_publish_to() {
        let mut codec = codec(false);
        codec.tells_role(true);
        let mut out = BytesMut::new();
        codec.check(&mut out);
        assert_eq!(&out[..], b"*1\r\n$4\r\nROLE\r\n*1\r\n$4\r\nPING\r\n");
        assert_eq!(
            events(&mut codec, b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n+PONG\r\n"),
            [Event::Other, Event::Pong]
        );
        let mut input = BytesMut::from(&b"*2\r\n$5\r\nslave\r\n$1\r\nx\r\n"[..]);
        assert!(codec.decode(&mut input).unwrap_err().contains("replica"));
    }
}

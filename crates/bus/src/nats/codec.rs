//! NATS's client protocol, as far as a bus needs it.
//!
//! Lines of text, and payloads of announced length behind some of them:
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use serde::Deserialize;

use super::subjects::Subjects;
use crate::Topic;
use crate::remote::{Codec, Event};

/// Longest line that a server may send; its `INFO` names every server of its cluster.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Longest payload that a server may announce.
const ANNOUNCED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a server says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    pub(super) max_payload: usize,
    pub(super) tls_required: bool,
    /// To be signed by those who log in with a key.
    pub(super) nonce: Option<String>,
}

/// One connection's subscriptions.
#[derive(Debug)]
pub(super) struct NatsCodec {
    subjects: Subjects,
    payload_bytes_max: Arc<AtomicUsize>,
    /// The number of the newest subscription.
    newest: u64,
    topics: HashMap<u64, Topic>,
    numbers: HashMap<Topic, u64>,
}

impl NatsCodec {
    pub(super) fn new(subjects: Subjects, payload_bytes_max: Arc<AtomicUsize>) -> Self {
        Self { subjects, payload_bytes_max, newest: 0, topics: HashMap::new(), numbers: HashMap::new() }
    }

    fn info(&self, json: &[u8]) {
        if let Ok(Info { max_payload: max @ 1.., .. }) = serde_json::from_slice(json) {
            self.payload_bytes_max.store(max, Ordering::Relaxed);
        }
    }

    /// `MSG <subject> <sid> [reply-to] <bytes>`, and the payload behind it.
    fn message(&self, line: usize, input: &mut BytesMut) -> Result<Option<Event>, String> {
        let odd = || "the server has sent a message that is none".to_owned();
        let head = std::str::from_utf8(&input[..line]).map_err(|_| odd())?;
        let mut words = head.split_ascii_whitespace().skip(2);
        let number = words.next().and_then(|number| number.parse::<u64>().ok()).ok_or_else(odd)?;
        let len = words.last().and_then(|len| len.parse::<usize>().ok()).ok_or_else(odd)?;
        if len > ANNOUNCED_BYTES_MAX {
            return Err(odd());
        }
        let (start, end) = (line + 2, line + 2 + len);
        if input.len() < end + 2 {
            input.reserve(end + 2 - input.len());
            return Ok(None);
        }
        // Copied: what is kept for long must not keep all that was read with it.
        let payload = Bytes::copy_from_slice(&input[start..end]);
        input.advance(end + 2);
        // It may be for a subscription that has ended meanwhile.
        let topic = self.topics.get(&number).cloned();
        Ok(Some(topic.map_or(Event::Other, |topic| Event::Message { topic, payload })))
    }
}

impl Codec for NatsCodec {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some(line) = line_end(input)? else { return Ok(None) };
        if input.starts_with(b"MSG ") {
            return self.message(line, input);
        }
        let event = match &input[..line] {
            b"PING" => Event::Ping,
            b"PONG" => Event::Pong,
            said if said.starts_with(b"-ERR") => return Err(error(said)),
            said => {
                // A server that is reconfigured introduces itself again.
                said.strip_prefix(b"INFO ").into_iter().for_each(|json| self.info(json));
                Event::Other
            }
        };
        input.advance(line + 2);
        Ok(Some(event))
    }

    fn subscribe(&mut self, topic: &Topic, out: &mut BytesMut) {
        self.newest += 1;
        let line = format!("SUB {} {}\r\n", self.subjects.of(topic), self.newest);
        out.extend_from_slice(line.as_bytes());
        self.topics.insert(self.newest, topic.clone());
        self.numbers.insert(topic.clone(), self.newest);
    }

    fn unsubscribe(&mut self, topic: &Topic, out: &mut BytesMut) {
        if let Some(number) = self.numbers.remove(topic) {
            self.topics.remove(&number);
            out.extend_from_slice(format!("UNSUB {number}\r\n").as_bytes());
        }
    }

    fn ping(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn pong(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"PONG\r\n");
    }
}

/// Where the first line ends, without its end; `None` when more is needed.
pub(super) fn line_end(input: &[u8]) -> Result<Option<usize>, String> {
    let end = memchr::memmem::find(&input[..input.len().min(LINE_BYTES_MAX)], b"\r\n");
    if end.is_none() && input.len() >= LINE_BYTES_MAX {
        return Err("the server does not speak as NATS does".to_owned());
    }
    Ok(end)
}

/// What a server says in `-ERR 'Authorization Violation'`, and what to do about it.
pub(super) fn error(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let said = text.trim_start_matches("-ERR").trim().trim_matches('\'').to_owned();
    let is = |what: &str| said.to_ascii_lowercase().contains(what);
    let cure = if is("authorization") || is("authentication") {
        "correct user, password or token in `url`, or `credentials_file`"
    } else if is("permissions") {
        "let this user publish and subscribe below the prefix"
    } else if is("slow consumer") {
        "this node is too slow for what it has subscribed to"
    } else if is("maximum connections") {
        "raise `max_connections` of the server"
    } else if is("control line") {
        "leave `max_control_line` of the server at 4 KB or more"
    } else {
        return format!("NATS says: {said}");
    };
    format!("NATS says: {said}; {cure}")
}

/// `PUB <subject> <bytes>`, and the payload.
pub(super) fn publish(subject: &str, payload: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject.as_bytes());
    out.extend_from_slice(format!(" {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn codec() -> NatsCodec {
        NatsCodec::new(Subjects::new("p").unwrap(), Arc::default())
    }

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    /// Whatever arrives with whatever, the same is understood.
    #[test]
    fn a_message_is_understood_byte_by_byte() {
        let mut codec = codec();
        let mut out = BytesMut::new();
        codec.subscribe(&topic("a/b"), &mut out);
        assert_eq!(&out[..], b"SUB p.a=2Fb 1\r\n");
        let wire = b"MSG p.a=2Fb 1 4\r\n\r\n\0x\r\nMSG p.a=2Fb 1 reply 0\r\n\r\nPONG\r\nMSG p.other 7 1\r\nx\r\nPING\r\n+OK\r\n";
        let (mut input, mut events) = (BytesMut::new(), Vec::new());
        for &byte in wire {
            input.extend_from_slice(&[byte]);
            events.extend(codec.decode(&mut input).unwrap());
        }
        let message =
            |payload: &'static [u8]| Event::Message { topic: topic("a/b"), payload: payload.into() };
        let expected =
            [message(b"\r\n\0x"), message(b""), Event::Pong, Event::Other, Event::Ping, Event::Other];
        assert_eq!(events, expected);
        assert!(input.is_empty());
    }

    #[test]
    fn a_subscription_that_has_ended_brings_nothing_also_when_its_topic_is_wanted_again() {
        let mut codec = codec();
        let mut out = BytesMut::new();
        codec.subscribe(&topic("a"), &mut out);
        codec.unsubscribe(&topic("a"), &mut out);
        codec.unsubscribe(&topic("a"), &mut out);
        codec.subscribe(&topic("a"), &mut out);
        assert_eq!(&out[..], b"SUB p.a 1\r\nUNSUB 1\r\nSUB p.a 2\r\n");
        let mut input = BytesMut::from(&b"MSG p.a 1 1\r\nx\r\nMSG p.a 2 1\r\ny\r\n"[..]);
        assert_eq!(codec.decode(&mut input).unwrap(), Some(Event::Other));
        let message = Event::Message { topic: topic("a"), payload: Bytes::from_static(b"y") };
        assert_eq!(codec.decode(&mut input).unwrap(), Some(message));
    }

    #[test]
    fn a_server_that_introduces_itself_again_changes_the_longest_payload() {
        let mut codec = codec();
        let mut input = BytesMut::from(&b"INFO {\"max_payload\":123456,\"ldm\":true}\r\n"[..]);
        assert_eq!(codec.decode(&mut input).unwrap(), Some(Event::Other));
        assert_eq!(codec.payload_bytes_max.load(Ordering::Relaxed), 123_456);
    }

    #[test]
    fn what_is_no_message_is_an_error_and_takes_no_memory() {
        for wire in
            ["MSG a\r\n", "MSG a x 1\r\n", "MSG a 1 99999999999\r\n", "MSG a 1 -1\r\n", "-ERR 'no'\r\n"]
        {
            assert!(codec().decode(&mut wire.as_bytes().into()).is_err(), "{wire}");
        }
        assert!(codec().decode(&mut vec![b'x'; LINE_BYTES_MAX].as_slice().into()).is_err());
    }
}

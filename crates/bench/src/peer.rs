//! How to talk to the server under test: where to connect, how to join and publish, what an answer means.
//!
//! Two kinds cover everything: Outspoke's native dialect, and a raw relay that takes the room from the URL and
//! passes text on as it is (the bare server, `e2e/bench/bun-server.js`, any other server with ten lines of
//! glue). Scenarios never build or read a peer's text themselves. Deliveries are recognised by their stamp
//! (`stamp.rs`), before anything here is asked.

use memchr::memmem;

/// Which protocol the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PeerKind {
    /// Outspoke's native dialect.
    Outspoke,
    /// A relay: the room is the path `/room/NAME`, text goes to all of the room as it is; `/echo` answers with it.
    #[value(alias = "bare")]
    Raw,
}

impl PeerKind {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outspoke => "outspoke",
            Self::Raw => "raw",
        }
    }
}

/// What an event that is not a delivery says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Our join took effect.
    Joined,
    /// Our leave took effect.
    Left,
    /// The answer to the request with this number.
    Answer(u64),
    /// The server refused something; its own words.
    Error(String),
    /// An announcement that is not for us to count.
    Other,
}

/// The request of an `echo` run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EchoMode {
    /// The cheapest request there is: an application-level ping.
    Ping,
    /// Publish with an acknowledgement, each connection in a room of its own (Outspoke only).
    Publish,
}

/// One run's way to talk to its server.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) kind: PeerKind,
    /// Begins every path; from the URL.
    base: String,
    /// Keeps this run's rooms and users apart from those of any other.
    nonce: u64,
    /// Publishes that are acknowledged have an idempotency key.
    pub(crate) keys: bool,
    text: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(kind: PeerKind, base: &str, nonce: u64) -> Self {
        let base = if base.is_empty() && kind == PeerKind::Outspoke { "/ws" } else { base };
        Self { kind, base: base.to_owned(), nonce, keys: false, text: Vec::new() }
    }

    /// Where member `member` of room `room` connects.
    pub(crate) fn path(&self, member: usize, room: u32) -> String {
        match self.kind {
            PeerKind::Outspoke => {
                let (base, nonce) = (&self.base, self.nonce);
                format!("{base}?userId=bench-{nonce:x}-{member}&username=bench-{member}&join=none")
            }
            PeerKind::Raw => format!("{}/room/{}", self.base, self.room(room)),
        }
    }

    /// Where a connection of an `echo` run connects.
    pub(crate) fn echo_path(&self, member: usize) -> String {
        match self.kind {
            PeerKind::Outspoke => self.path(member, 0),
            PeerKind::Raw => format!("{}/echo", self.base),
        }
    }

    fn room(&self, room: u32) -> String {
        format!("bench-{:x}-{room}", self.nonce)
    }

    /// Whether joining is a request of its own, rather than part of connecting.
    pub(crate) fn joins_by_request(&self) -> bool {
        self.kind == PeerKind::Outspoke
    }

    /// Whether messages are JSON values.
    pub(crate) fn quotes_data(&self) -> bool {
        self.kind == PeerKind::Outspoke
    }

    /// The request that joins `room`.
    pub(crate) fn join(&self, room: u32) -> String {
        format!(r#"{{"type":"subscribe","room":"{}"}}"#, self.room(room))
    }

    /// The request that comes back to `room`, from a place that the peer told.
    pub(crate) fn return_to(&self, room: u32, place: &Place) -> String {
        let (room, Place { epoch, offset }) = (self.room(room), place);
        format!(r#"{{"type":"subscribe","room":"{room}","epoch":"{epoch}","offset":{offset}}}"#)
    }

    /// The request that leaves `room`.
    pub(crate) fn leave(&self, room: u32) -> String {
        format!(r#"{{"type":"unsubscribe","room":"{}"}}"#, self.room(room))
    }

    /// The text that publishes `data` to `room`; with `request`, one that is acknowledged.
    pub(crate) fn publish(&mut self, room: u32, data: &[u8], request: Option<u64>) -> &[u8] {
        self.text.clear();
        if self.kind == PeerKind::Raw {
            self.text.extend_from_slice(data);
            return &self.text;
        }
        self.begin_publish(room, request).expect("writing to a vector does not fail");
        self.text.extend_from_slice(data);
        self.text.push(b'}');
        &self.text
    }

    /// A publish up to its data.
    fn begin_publish(&mut self, room: u32, request: Option<u64>) -> std::io::Result<()> {
        use std::io::Write;
        write!(self.text, r#"{{"type":"publish""#)?;
        if let Some(id) = request {
            write!(self.text, r#","id":"{id}""#)?;
        }
        write!(self.text, r#","room":"bench-{:x}-{room}""#, self.nonce)?;
        // Keys are a user's own, and every connection is a user.
        if let (Some(id), true) = (request, self.keys) {
            write!(self.text, r#","idempotencyKey":"{id}""#)?;
        }
        write!(self.text, r#","data":"#)
    }

    /// The request that is answered by request and number alone. All peers get the same text.
    pub(crate) fn ping(&mut self, request: u64) -> &[u8] {
        use std::io::Write;
        self.text.clear();
        write!(self.text, r#"{{"type":"ping","id":"{request}"}}"#)
            .expect("writing to a vector does not fail");
        &self.text
    }

    /// What `payload`, which carries no stamp, says.
    pub(crate) fn hear(&self, payload: &[u8]) -> Heard {
        if self.kind == PeerKind::Raw {
            return text_field(payload, b"\"id\":\"").and_then(number).map_or(Heard::Other, Heard::Answer);
        }
        match text_field(payload, b"\"type\":\"") {
            Some(b"subscribed") => Heard::Joined,
            Some(b"unsubscribed") => Heard::Left,
            Some(b"pong" | b"ack") => {
                text_field(payload, b"\"id\":\"").and_then(number).map_or(Heard::Other, Heard::Answer)
            }
            Some(b"error") => Heard::Error(String::from_utf8_lossy(payload).into_owned()),
            _ => Heard::Other,
        }
    }
}

/// A place in a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// What the answer to a join says of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The place that messages follow.
    pub(crate) place: Place,
    /// What became of the place that was asked for, if one was.
    pub(crate) recovered: Option<bool>,
    /// What an acknowledgement means there.
    pub(crate) durability: String,
}

impl Joined {
    /// Reads the answer to a join; `None` if it says none of that.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let text = |key: &[u8]| Some(String::from_utf8_lossy(text_field(payload, key)?).into_owned());
        let recovered =
            memmem::find(payload, b"\"recovered\":").map(|at| payload[at + 12..].starts_with(b"true"));
        let offset = &payload[memmem::find(payload, b"\"offset\":")? + 9..];
        let digits = offset.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(offset.len());
        let place = Place { epoch: text(b"\"epoch\":\"")?, offset: number(&offset[..digits])? };
        Some(Self { place, recovered, durability: text(b"\"durability\":\"")? })
    }
}

/// The text after `key`, up to the next quote. Enough for values that this driver chose or that are names.
fn text_field<'a>(payload: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let start = memmem::find(payload, key)? + key.len();
    let end = memchr::memchr(b'"', &payload[start..])?;
    Some(&payload[start..start + end])
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outspoke() -> Peer {
        Peer::new(PeerKind::Outspoke, "", 0xBEEF)
    }

    #[test]
    fn peer_outspoke_speaks_the_native_dialect() {
        let mut peer = outspoke();
        assert_eq!(peer.path(3, 1), "/ws?userId=bench-beef-3&username=bench-3&join=none");
        assert_eq!(peer.join(1), r#"{"type":"subscribe","room":"bench-beef-1"}"#);
        let expected = br#"{"type":"publish","room":"bench-beef-2","data":"x"}"#;
        assert_eq!(peer.publish(2, b"\"x\"", None), expected);
        let expected = br#"{"type":"publish","id":"7","room":"bench-beef-2","data":"x"}"#;
        assert_eq!(peer.publish(2, b"\"x\"", Some(7)), expected);
        assert_eq!(peer.ping(7), br#"{"type":"ping","id":"7"}"#);
    }

    #[test]
    fn peer_with_keys_sends_one_with_each_acknowledged_publish() {
        let mut peer = outspoke();
        peer.keys = true;
        let expected =
            br#"{"type":"publish","id":"7","room":"bench-beef-2","idempotencyKey":"7","data":"x"}"#;
        assert_eq!(peer.publish(2, b"\"x\"", Some(7)), expected);
        let place = Place { epoch: "5ac1".to_owned(), offset: 17 };
        let expected = r#"{"type":"subscribe","room":"bench-beef-1","epoch":"5ac1","offset":17}"#;
        assert_eq!(peer.return_to(1, &place), expected);
    }

    #[test]
    fn joined_is_read_from_the_answer_to_a_join() {
        let place = Place { epoch: "5ac1".to_owned(), offset: 17 };
        let answer = r#"{"type":"subscribed","room":"r","epoch":"5ac1","offset":17,"members":2,"durability":"memory"}"#;
        let joined = Joined { place, recovered: None, durability: "memory".to_owned() };
        assert_eq!(Joined::read(answer.as_bytes()), Some(joined.clone()));
        for recovered in [true, false] {
            let answer = answer.replace("17,", &format!("17,\"recovered\":{recovered},"));
            let joined = Joined { recovered: Some(recovered), ..joined.clone() };
            assert_eq!(Joined::read(answer.as_bytes()), Some(joined));
        }
        assert_eq!(Joined::read(b"{}"), None);
    }

    #[test]
    fn peer_raw_has_the_room_in_its_path_and_adds_nothing() {
        let mut peer = Peer::new(PeerKind::Raw, "/relay", 1);
        assert_eq!(peer.path(9, 4), "/relay/room/bench-1-4");
        assert_eq!(peer.echo_path(9), "/relay/echo");
        assert_eq!(peer.publish(4, b"as it is", None), b"as it is");
    }

    #[test]
    fn peer_outspoke_events_are_told_apart() {
        let peer = outspoke();
        for (event, meaning) in [
            (r#"{"type":"welcome","clientId":"c"}"#, Heard::Other),
            (r#"{"type":"join","room":"r","username":"u"}"#, Heard::Other),
            (r#"{"type":"subscribed","room":"r"}"#, Heard::Joined),
            (r#"{"type":"unsubscribed","room":"r"}"#, Heard::Left),
            (r#"{"type":"pong","id":"41"}"#, Heard::Answer(41)),
            (r#"{"type":"ack","id":"42","offset":3}"#, Heard::Answer(42)),
            (r#"{"type":"message","id":"43","data":1}"#, Heard::Other),
            ("", Heard::Other),
        ] {
            assert_eq!(peer.hear(event.as_bytes()), meaning, "{event}");
        }
        let refused = r#"{"type":"error","code":"bad_request"}"#;
        assert_eq!(peer.hear(refused.as_bytes()), Heard::Error(refused.to_owned()));
    }

    #[test]
    fn peer_raw_echo_of_a_ping_is_its_answer() {
        let mut peer = Peer::new(PeerKind::Raw, "", 1);
        let ping = peer.ping(12).to_vec();
        assert_eq!(peer.hear(&ping), Heard::Answer(12));
    }
}

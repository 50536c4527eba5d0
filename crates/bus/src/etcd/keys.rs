//! Topics as keys.
//!
//! `<prefix>/<topic>`, with every byte that is not a letter, a digit or one of `-_.~/` as `%` and two digits. Of one topic's several
//! messages in one transaction, in which no key may come twice, the later ones have `#1`, `#2` and so on behind: a `#` of
//! the topic itself is encoded, so that they are no other topic's keys.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::Topic;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// What all keys of a hub begin with.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// With the slash at its end.
    prefix: Bytes,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        Self { prefix: Bytes::from(format!("{prefix}/")) }
    }

    /// The first key of all, which is no topic's.
    pub(super) fn first(&self) -> Bytes {
        self.prefix.clone()
    }

    /// What is greater than all keys.
    pub(super) fn end(&self) -> Bytes {
        let mut end = self.prefix.to_vec();
        // The slash has a successor.
        *end.last_mut().expect("it ends with a slash") += 1;
        end.into()
    }

    /// The key of a topic's message number `nth` in a transaction.
    pub(super) fn encode(&self, topic: &Topic, nth: usize) -> Bytes {
        let name = topic.as_str().as_bytes();
        let mut key = BytesMut::with_capacity(self.prefix.len() + name.len() + 8);
        key.put_slice(&self.prefix);
        for &byte in name {
            if is_plain(byte) {
                key.put_u8(byte);
            } else {
                key.put_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        if nth > 0 {
            key.put_slice(format!("#{nth}").as_bytes());
        }
        key.freeze()
    }

    /// The topic of a key; `None`: no hub has written it.
    pub(super) fn decode(&self, key: &[u8]) -> Option<Topic> {
        let key = key.strip_prefix(&self.prefix[..])?;
        let end = key.iter().position(|&byte| byte == b'#').unwrap_or(key.len());
        let key = &key[..end];
        if key.iter().all(|&byte| is_plain(byte)) {
            return Topic::new(std::str::from_utf8(key).ok()?).ok();
        }
        let mut name = Vec::with_capacity(key.len());
        let mut rest = key;
        while let [byte, after @ ..] = rest {
            (rest, _) = match (byte, after) {
                (b'%', [high, low, after @ ..]) => (after, name.push((nibble(*high)? << 4) | nibble(*low)?)),
                (byte, after) if is_plain(*byte) => (after, name.push(*byte)),
                _ => return None,
            };
        }
        Topic::new(String::from_utf8(name).ok()?).ok()
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/')
}

fn nibble(digit: u8) -> Option<u8> {
    HEX.iter().position(|&hex| hex == digit).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn keys_are_laid_out_as_gohub_lays_them_out() {
        for prefix in ["/gohub", "/gohub/"] {
            let keys = Keys::new(prefix);
            assert_eq!(keys.encode(&topic("broadcast"), 0), "/gohub/broadcast");
            assert_eq!(keys.encode(&topic("unicast/7f-1_a.b~"), 0), "/gohub/unicast/7f-1_a.b~");
            assert_eq!(keys.encode(&topic("room/a b#1"), 2), "/gohub/room/a%20b%231#2");
            assert_eq!((&keys.first()[..], &keys.end()[..]), (&b"/gohub/"[..], &b"/gohub0"[..]));
        }
    }

    #[test]
    fn names_come_back_from_their_keys() {
        let keys = Keys::new("/gohub");
        for name in ["broadcast", "#", "#1", "a#1", "%", "%2F", "a/b", "/", "//", "é", "日本語🙂", " ", "a%"]
        {
            for nth in [0, 1, 127] {
                assert_eq!(keys.decode(&keys.encode(&topic(name), nth)), Some(topic(name)));
            }
        }
    }

    #[test]
    fn what_no_hub_has_written_is_no_topic() {
        let keys = Keys::new("/gohub");
        let foreign = [
            "/gohub",
            "/gohub/",
            "/gohub/#1",
            "/gohubs/a",
            "/gohub/a b",
            "/gohub/%2f",
            "/gohub/%",
            "/gohub/%4",
        ];
        for key in foreign {
            assert_eq!(keys.decode(key.as_bytes()), None, "{key}");
        }
        assert_eq!(keys.decode(b"/gohub/%FF"), None, "no text");
        assert_eq!(keys.decode(b"/gohub/%0A"), None, "a control character");
    }
}

//! Topics as subjects: `<prefix>.<topic>`, the topic as one token.
//!
//! Letters, digits, `-` and `_` stand for themselves, every other byte is `=` and two hexadecimal digits; in the prefix also dots
//! stand for themselves. So two topics never share a subject, none has a dot, a wildcard or a blank in it, and none can be anything
//! but one token below the prefix. The longest topic takes 3,600 bytes, which with the prefix is less than the 4,096 that NATS
//! allows a line (`max_control_line`).

use crate::{BusError, Topic};

/// Longest prefix, in bytes as it is sent.
const PREFIX_BYTES_MAX: usize = 256;

/// Makes subjects.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    prefix: String,
}

impl Subjects {
    pub(super) fn new(prefix: &str) -> Result<Self, BusError> {
        let tokens = prefix.split('.').map(|token| {
            let mut encoded = String::new();
            encode(token, &mut encoded);
            encoded
        });
        let encoded = tokens.collect::<Vec<_>>().join(".");
        if encoded.len() > PREFIX_BYTES_MAX || prefix.split('.').any(str::is_empty) {
            return Err(BusError::Invalid(
                "the NATS setting `prefix` must be short, and have something before, between and behind its dots"
                    .to_owned(),
            ));
        }
        Ok(Self { prefix: encoded + "." })
    }

    pub(super) fn of(&self, topic: &Topic) -> String {
        let mut subject = String::with_capacity(self.prefix.len() + topic.as_str().len() + 16);
        subject.push_str(&self.prefix);
        encode(topic.as_str(), &mut subject);
        subject
    }
}

fn encode(name: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            out.extend(['=', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn subject(topic: &str) -> String {
        Subjects::new("chat.eu").unwrap().of(&Topic::new(topic).unwrap())
    }

    #[test]
    fn a_topic_is_one_token_whatever_is_in_it() {
        assert_eq!(subject("broadcast"), "chat.eu.broadcast");
        assert_eq!(subject("room/a.b"), "chat.eu.room=2Fa=2Eb");
        assert_eq!(subject(">"), "chat.eu.=3E");
        assert_eq!(subject("*"), "chat.eu.=2A");
        assert_eq!(subject("a b"), "chat.eu.a=20b");
        assert_eq!(subject("="), "chat.eu.=3D");
        assert_eq!(subject("ü"), "chat.eu.=C3=BC");
    }

    #[test]
    fn the_longest_topic_fits_a_line() {
        let prefix = "p".repeat(PREFIX_BYTES_MAX);
        let longest = Topic::new("/".repeat(Topic::BYTES_MAX)).unwrap();
        let subject = Subjects::new(&prefix).unwrap().of(&longest);
        assert!(format!("MSG {subject} {} {}\r\n", u64::MAX, u32::MAX).len() < 4096);
    }

    #[test]
    fn a_prefix_is_encoded_but_for_its_dots() {
        let subject = |prefix| Subjects::new(prefix).unwrap().of(&Topic::new("x").unwrap());
        assert_eq!(subject("a:b.c/d"), "a=3Ab.c=2Fd.x");
        assert_eq!(subject("$SYS.>"), "=24SYS.=3E.x");
    }

    #[test]
    fn a_prefix_that_is_no_subject_is_refused() {
        for prefix in ["", ".", "a..b", "a.", &"/".repeat(100)] {
            let error = Subjects::new(prefix).unwrap_err().to_string();
            assert!(error.contains("`prefix`"), "{prefix}: {error}");
        }
    }
}

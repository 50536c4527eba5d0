//! Redis's wire format (RESP, version 2): <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use bytes::BytesMut;

/// Longest string that a server may announce.
const ANNOUNCED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Arrays within arrays.
const DEPTH_MAX: usize = 8;

/// What a server says, where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Nil,
    Int(i64),
    /// Simple or of announced length; to us that is the same.
    Text(&'a [u8]),
    Error(&'a [u8]),
    Array(Vec<Self>),
}

impl Value<'_> {
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    pub(super) fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// The first value of some bytes, and how many it takes; `None` when there are not enough yet.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Value<'_>, usize)>, String> {
    let mut reader = Reader { input, at: 0 };
    let value = reader.value(DEPTH_MAX)?;
    Ok(value.map(|value| (value, reader.at)))
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value<'a>>, String> {
        let Some(line) = self.line() else { return Ok(None) };
        let Some((&kind, rest)) = line.split_first() else { return Err(odd()) };
        let value = match kind {
            b'+' => Value::Text(rest),
            b'-' => Value::Error(rest),
            b':' => Value::Int(number(rest)?),
            b'$' | b'*' if rest == b"-1" => Value::Nil,
            b'$' => return self.string(length(rest)?),
            b'*' if depth > 0 => return self.array(length(rest)?, depth - 1),
            _ => return Err(odd()),
        };
        Ok(Some(value))
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.input[self.at..];
        let end = memchr::memmem::find(rest, b"\r\n")?;
        self.at += end + 2;
        Some(&rest[..end])
    }

    fn string(&mut self, len: usize) -> Result<Option<Value<'a>>, String> {
        let Some(text) = self.input[self.at..].get(..len + 2) else { return Ok(None) };
        self.at += len + 2;
        text.strip_suffix(b"\r\n").map(|text| Some(Value::Text(text))).ok_or_else(odd)
    }

    fn array(&mut self, len: usize, depth: usize) -> Result<Option<Value<'a>>, String> {
        // Not reserved for what is announced: only what came takes memory.
        let mut values = Vec::new();
        for _ in 0..len {
            let Some(value) = self.value(depth)? else { return Ok(None) };
            values.push(value);
        }
        Ok(Some(Value::Array(values)))
    }
}

fn number(text: &[u8]) -> Result<i64, String> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)
}

fn length(text: &[u8]) -> Result<usize, String> {
    usize::try_from(number(text)?).ok().filter(|&len| len <= ANNOUNCED_BYTES_MAX).ok_or_else(odd)
}

fn odd() -> String {
    "what listens there does not speak as Redis does".to_owned()
}

/// Writes a command.
pub(super) fn command(words: &[&[u8]], out: &mut BytesMut) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_are_understood_once_they_are_whole() {
        let wire = b"*4\r\n$3\r\na\r\n\r\n:-7\r\n*1\r\n+OK\r\n$-1\r\n";
        for len in 0..wire.len() {
            assert_eq!(parse(&wire[..len]).unwrap(), None, "{len}");
        }
        let values =
            vec![Value::Text(b"a\r\n"), Value::Int(-7), Value::Array(vec![Value::Text(b"OK")]), Value::Nil];
        assert_eq!(parse(wire).unwrap(), Some((Value::Array(values), wire.len())));
        assert_eq!(parse(b"-ERR no\r\n+").unwrap(), Some((Value::Error(b"ERR no"), 9)));
    }

    #[test]
    fn what_is_no_value_is_an_error_and_takes_neither_memory_nor_stack() {
        let deep = "*1\r\n".repeat(100_000);
        for wire in
            ["\r\n", "HTTP/1.1 400\r\n", ":x\r\n", "$-2\r\n", "$99999999999\r\n", "$1\r\nabc", deep.as_str()]
        {
            assert!(parse(wire.as_bytes()).is_err(), "{}", &wire[..wire.len().min(20)]);
        }
        assert_eq!(parse(b"*60000000\r\n").unwrap(), None);
    }

    #[test]
    fn a_command_is_written_as_strings_of_known_length() {
        let mut out = BytesMut::new();
        command(&[b"PUBLISH", b"a b", b"\r\n"], &mut out);
        assert_eq!(&out[..], b"*3\r\n$7\r\nPUBLISH\r\n$3\r\na b\r\n$2\r\n\r\n\r\n");
    }
}

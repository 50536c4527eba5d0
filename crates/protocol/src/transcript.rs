//! Recorded conversations: what the documentation shows, and tests replay.
//!
//! The format, and the placeholders for what nobody can know in advance, are described in
//! `transcripts/README.md`. This module reads a transcript and compares what a server really sent with it;
//! how the bytes travel is the test's affair. Public for tests elsewhere in the repository, and not documented.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// The transcripts that ship, with the names of their files.
pub const SHIPPED: &[(&str, &str)] = &[
    ("hello", include_str!("../transcripts/hello.txt")),
    ("rooms", include_str!("../transcripts/rooms.txt")),
    ("errors", include_str!("../transcripts/errors.txt")),
    ("ping", include_str!("../transcripts/ping.txt")),
    ("gohub-ping", include_str!("../transcripts/gohub-ping.txt")),
    ("gohub-rooms", include_str!("../transcripts/gohub-rooms.txt")),
    ("two-dialects", include_str!("../transcripts/two-dialects.txt")),
];

/// Transcripts of what rooms with a memory do; each says what of it with [`needs`].
pub const REMEMBERING: &[(&str, &str)] = &[
    ("history", include_str!("../transcripts/history.txt")),
    ("recovery", include_str!("../transcripts/recovery.txt")),
    ("again", include_str!("../transcripts/again.txt")),
    ("presence", include_str!("../transcripts/presence.txt")),
    ("typing", include_str!("../transcripts/typing.txt")),
    ("receipts", include_str!("../transcripts/receipts.txt")),
    ("private", include_str!("../transcripts/private.txt")),
    ("amendments", include_str!("../transcripts/amendments.txt")),
    ("commands", include_str!("../transcripts/commands.txt")),
    ("gohub-history", include_str!("../transcripts/gohub-history.txt")),
];

/// What a transcript may need of a server beyond rooms that keep nothing: see `transcripts/README.md`.
const NEEDS: &[&str] = &["history", "receipts", "presence", "typing", "private", "amendments", "commands"];

/// What a transcript needs of a server, by the words of its line `needs:`.
#[must_use]
pub fn needs(text: &str) -> Vec<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("needs: "));
    line.map(|words| words.split(' ').collect()).unwrap_or_default()
}

/// One thing that happens in a conversation.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client connects.
    Connect {
        /// What the transcript calls it.
        client: String,
        /// The dialect it speaks.
        dialect: String,
        /// The query of its URL, without the question mark.
        query: String,
    },
    /// A client closes its connection.
    Close {
        /// Which one.
        client: String,
    },
    /// A client sends a text frame. [`Captures::fill`] the text first.
    Send {
        /// Which one.
        client: String,
        /// What it sends.
        text: String,
    },
    /// A client receives these frames and no others.
    Expect {
        /// Which one.
        client: String,
        /// The frames.
        group: Group,
    },
}

/// Frames that one client receives between two things that happen.
#[derive(Clone, Debug, Default)]
pub struct Group {
    fixed: Vec<String>,
    floating: Vec<String>,
}

/// The values that named placeholders stood for so far.
#[derive(Clone, Debug, Default)]
pub struct Captures(BTreeMap<String, String>);

/// Why a text is no transcript.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

/// How what was received differs from the transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The transcript's line; empty when nothing more was expected.
    pub expected: String,
    /// The frame received; empty when none was left.
    pub received: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  expected: {}\n  received: {}", self.problem, self.expected, self.received)
    }
}

impl std::error::Error for Mismatch {}

/// Reads a transcript.
///
/// # Errors
/// Says which line is none of the format's.
pub fn parse(text: &str) -> Result<Vec<Step>, ParseError> {
    let mut parser = Parser::default();
    for (index, line) in text.lines().enumerate() {
        parser.line(line).map_err(|problem| ParseError { line: index + 1, problem })?;
    }
    Ok(parser.steps)
}

/// The line with an example in the place of each placeholder, as the documentation shows it.
#[must_use]
pub fn illustrate(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((literal, placeholder, after)) = next_placeholder(rest) {
        shown.push_str(literal);
        shown.push_str(&placeholder.example());
        rest = after;
    }
    shown + rest
}

#[derive(Default)]
struct Parser {
    steps: Vec<Step>,
    clients: Vec<String>,
    /// Where the current group of server lines begins in `steps`.
    group_start: Option<usize>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (head, text) = line.split_once(' ').ok_or("no blank after the line's head")?;
        match head {
            "@" => self.connect(text),
            "needs:" => match text.split(' ').find(|need| !NEEDS.contains(need)) {
                Some(unknown) => Err(format!("nothing is called {unknown:?}; needs are {NEEDS:?}")),
                None => Ok(()),
            },
            "!" => {
                let client = self.client(text)?;
                self.happens(Step::Close { client });
                Ok(())
            }
            _ => self.frame(head, text),
        }
    }

    fn connect(&mut self, text: &str) -> Result<(), String> {
        let mut words = text.split(' ');
        let (Some(client), Some(dialect)) = (words.next(), words.next()) else {
            return Err("a connection needs a name and a dialect".into());
        };
        let query = words.next().unwrap_or_default().trim_start_matches('?').to_owned();
        self.clients.push(client.to_owned());
        self.happens(Step::Connect { client: client.to_owned(), dialect: dialect.to_owned(), query });
        Ok(())
    }

    fn frame(&mut self, head: &str, text: &str) -> Result<(), String> {
        check_placeholders(text)?;
        if let Some(name) = head.strip_suffix('>') {
            let client = self.client(name)?;
            self.happens(Step::Send { client, text: text.to_owned() });
        } else if let Some(name) = head.strip_suffix("<~") {
            self.group(name)?.floating.push(text.to_owned());
        } else if let Some(name) = head.strip_suffix('<') {
            self.group(name)?.fixed.push(text.to_owned());
        } else {
            return Err(format!("{head:?} is no head of a line"));
        }
        Ok(())
    }

    fn happens(&mut self, step: Step) {
        self.group_start = None;
        self.steps.push(step);
    }

    /// The client's lines in the current group of server lines.
    fn group(&mut self, name: &str) -> Result<&mut Group, String> {
        let name = self.client(name)?;
        let start = *self.group_start.get_or_insert(self.steps.len());
        let known = self.steps[start..]
            .iter()
            .position(|step| matches!(step, Step::Expect { client, .. } if *client == name));
        let at = match known {
            Some(at) => start + at,
            None => {
                self.steps.push(Step::Expect { client: name, group: Group::default() });
                self.steps.len() - 1
            }
        };
        match &mut self.steps[at] {
            Step::Expect { group, .. } => Ok(group),
            _ => Err("a group of server lines was expected here".into()),
        }
    }

    fn client(&self, name: &str) -> Result<String, String> {
        match (name, self.clients.as_slice()) {
            ("", [only]) => Ok(only.clone()),
            ("", _) => Err("which client? Only one may go without its name".into()),
            (name, clients) if clients.iter().any(|client| client == name) => Ok(name.to_owned()),
            _ => Err(format!("{name:?} is not connected")),
        }
    }
}

impl Group {
    /// How many frames the client receives.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fixed.len() + self.floating.len()
    }

    /// Whether the client receives nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compares what was received with the transcript.
    ///
    /// # Errors
    /// The first difference.
    pub fn verify(&self, received: &[String], captures: &mut Captures) -> Result<(), Mismatch> {
        let mut floating: Vec<&String> = self.floating.iter().collect();
        let mut fixed: VecDeque<&String> = self.fixed.iter().collect();
        for text in received {
            let expected = fixed.front().copied();
            let problem = match expected.map(|line| captures.compare(line, text)) {
                Some(Ok(())) => {
                    fixed.pop_front();
                    continue;
                }
                Some(Err(problem)) => problem,
                None => "nothing more was expected".to_owned(),
            };
            match floating.iter().position(|line| captures.compare(line, text).is_ok()) {
                Some(at) => drop(floating.remove(at)),
                None => {
                    let expected = expected.or(floating.first().copied()).cloned().unwrap_or_default();
                    return Err(Mismatch { expected, received: text.clone(), problem });
                }
            }
        }
        match fixed.front().or(floating.first()) {
            None => Ok(()),
            Some(&missing) => Err(Mismatch {
                expected: missing.clone(),
                received: String::new(),
                problem: "a frame is missing".to_owned(),
            }),
        }
    }
}

impl Captures {
    /// The client's text with the named placeholders replaced by what they stood for.
    ///
    /// # Errors
    /// The name that stands for nothing yet.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((literal, placeholder, after)) = next_placeholder(rest) {
            let key = placeholder.key();
            let value = self.0.get(&key).ok_or_else(|| format!("{key} is unknown"))?;
            filled.push_str(literal);
            filled.push_str(value);
            rest = after;
        }
        Ok(filled + rest)
    }

    /// Compares a frame with a transcript's line; what its names stand for is remembered on success.
    fn compare(&mut self, expected: &str, received: &str) -> Result<(), String> {
        let mut found = self.0.clone();
        let mut expected = expected;
        let mut rest = received;
        while let Some((literal, placeholder, after)) = next_placeholder(expected) {
            rest = strip_literal(rest, literal)?;
            let (value, remaining) = placeholder.take(rest)?;
            if !placeholder.name.is_empty() {
                let known = found.entry(placeholder.key()).or_insert_with(|| value.to_owned());
                if known != value {
                    return Err(format!("{} was {known} before and is {value} here", placeholder.key()));
                }
            }
            (expected, rest) = (after, remaining);
        }
        match strip_literal(rest, expected)? {
            "" => {
                self.0 = found;
                Ok(())
            }
            more => Err(format!("there is more than expected: {more:?}")),
        }
    }
}

fn strip_literal<'t>(text: &'t str, literal: &str) -> Result<&'t str, String> {
    text.strip_prefix(literal).ok_or_else(|| {
        let same = text.bytes().zip(literal.bytes()).take_while(|(a, b)| a == b).count();
        let at = |text: &str| String::from_utf8_lossy(&text.as_bytes()[same..]).into_owned();
        format!("they part at {:?} (received) and {:?} (expected)", at(text), at(literal))
    })
}

/// `"${kind:name=example}"`, name and example optional.
#[derive(Clone, Copy, Debug)]
struct Placeholder<'t> {
    kind: &'t str,
    name: &'t str,
    example: &'t str,
}

/// What comes before the next placeholder, the placeholder, and what comes after it.
fn next_placeholder(text: &str) -> Option<(&str, Placeholder<'_>, &str)> {
    let (before, rest) = text.split_once("\"${")?;
    let (inside, after) = rest.split_once("}\"")?;
    let (inside, example) = inside.split_once('=').unwrap_or((inside, ""));
    let (kind, name) = inside.split_once(':').unwrap_or((inside, ""));
    Some((before, Placeholder { kind, name, example }, after))
}

fn check_placeholders(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, placeholder, after)) = next_placeholder(rest) {
        if !["uuid", "time", "epoch", "integer", "string", "json"].contains(&placeholder.kind) {
            return Err(format!("{:?} is no kind of placeholder", placeholder.kind));
        }
        rest = after;
    }
    Ok(())
}

impl Placeholder<'_> {
    /// What it is remembered by: a message's id and its time may share a name.
    fn key(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }

    /// Splits off the value that the placeholder stands for.
    fn take<'t>(&self, text: &'t str) -> Result<(&'t str, &'t str), String> {
        let end = match self.kind {
            "integer" => text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len()),
            "json" => value_len::<serde::de::IgnoredAny>(text),
            _ => value_len::<String>(text),
        };
        let (value, rest) = text.split_at(end);
        let inner = value.trim_matches('"');
        let fits = match self.kind {
            "integer" => value.parse::<i64>().is_ok(),
            "uuid" => inner.len() == 36 && uuid::Uuid::parse_str(inner).is_ok(),
            "time" => is_time(inner),
            "epoch" => inner.len() == 16 && inner.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            "json" => !value.is_empty(),
            _ => value.len() >= 2,
        };
        if fits { Ok((value, rest)) } else { Err(format!("no {} at {text:?}", self.kind)) }
    }

    fn example(&self) -> String {
        match (self.kind, self.example) {
            ("integer", "") => "1".to_owned(),
            ("integer", example) => example.to_owned(),
            // Quotes would end the placeholder.
            ("json", example) => example.replace('\'', "\""),
            ("uuid", "") => format!("\"{}\"", example_uuid(self.name)),
            ("time", "") => "\"2025-12-30T10:30:00.000Z\"".to_owned(),
            ("epoch", "") => "\"5ac1d54f0b7c9e21\"".to_owned(),
            (_, example) => format!("\"{example}\""),
        }
    }
}

/// Bytes of the JSON value that `text` begins with; 0 when it begins with none of that type.
fn value_len<'t, T: serde::Deserialize<'t>>(text: &'t str) -> usize {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<T>();
    match stream.next() {
        Some(Ok(_)) => stream.byte_offset(),
        _ => 0,
    }
}

fn is_time(text: &str) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, want)| match want {
            b'd' => byte.is_ascii_digit(),
            want => byte == *want,
        })
}

/// The same name always gets the same id, other names others.
fn example_uuid(name: &str) -> uuid::Uuid {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Version 7, with the time that the other examples show.
    let bits = (1_767_090_600_000_u128 << 80)
        | (0x7 << 76)
        | (u128::from(seed >> 52) << 64)
        | (0x2 << 62)
        | u128::from(seed & 0x3fff_ffff_ffff_ffff);
    uuid::Uuid::from_u128(bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Captures, Group, Step, illustrate, needs, parse};

    fn group(text: &str) -> Group {
        let steps = parse(&format!("@ a native\n{text}")).unwrap();
        let Some(Step::Expect { group, .. }) = steps.into_iter().nth(1) else { panic!("{text}") };
        group
    }

    fn verify(expected: &str, received: &[&str]) -> Result<(), String> {
        let received: Vec<String> = received.iter().map(|text| (*text).to_owned()).collect();
        group(expected).verify(&received, &mut Captures::default()).map_err(|mismatch| mismatch.problem)
    }

    #[test]
    fn transcript_placeholders_match_their_kind_only() {
        for (kind, fits, unfit) in [
            ("integer", "-7", "\"7\""),
            ("uuid", "\"00000000-0000-7000-8000-000000000001\"", "\"00000000000070008000000000000001\""),
            ("time", "\"2025-12-30T10:30:00.000Z\"", "\"2025-12-30T10:30:00Z\""),
            ("epoch", "\"5ac1d54f0b7c9e21\"", "\"5AC1D54F0B7C9E21\""),
            ("string", r#""a\"b""#, "7"),
            ("json", r#"{"a":["}"]}"#, "}"),
        ] {
            let line = format!("< {{\"x\":\"${{{kind}}}\"}}");
            assert_eq!(verify(&line, &[&format!("{{\"x\":{fits}}}")]), Ok(()), "{kind}");
            assert!(verify(&line, &[&format!("{{\"x\":{unfit}}}")]).is_err(), "{kind}");
        }
    }

    #[test]
    fn transcript_names_stand_for_one_value() {
        let lines = "< [\"${integer:n}\",\"${integer}\"]\n< [\"${integer:n}\"]";
        assert_eq!(verify(lines, &["[1,2]", "[1]"]), Ok(()));
        assert!(verify(lines, &["[1,2]", "[2]"]).unwrap_err().contains("was 1 before"));
    }

    #[test]
    fn transcript_lines_are_in_order_except_floating_ones() {
        let lines = "< 1\n<~ ack\n< 2";
        for received in [["ack", "1", "2"], ["1", "ack", "2"], ["1", "2", "ack"]] {
            assert_eq!(verify(lines, &received), Ok(()));
        }
        assert!(verify(lines, &["2", "1", "ack"]).is_err());
        assert_eq!(verify(lines, &["1", "2"]).unwrap_err(), "a frame is missing");
        assert_eq!(verify(lines, &["1", "2", "ack", "3"]).unwrap_err(), "nothing more was expected");
    }

    #[test]
    fn transcript_client_lines_are_filled_from_captures() {
        let mut captures = Captures::default();
        group("< {\"n\":\"${integer:n}\"}").verify(&["{\"n\":5}".to_owned()], &mut captures).unwrap();
        assert_eq!(captures.fill("{\"since\":\"${integer:n}\"}").unwrap(), "{\"since\":5}");
        assert!(captures.fill("\"${uuid:other}\"").is_err());
    }

    #[test]
    fn transcript_mistakes_are_named_by_line() {
        for (text, line) in [
            ("< {}", 1),
            ("@ a native\nb> {}", 2),
            ("@ a native\n? {}", 2),
            ("@ a native\n# fine\n< \"${colour}\"", 3),
            ("@ a native\n@ b native\n< {}", 3),
            ("@ a", 1),
            ("# a title\nneeds: history magic", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn transcript_needs_are_the_words_of_their_line() {
        assert_eq!(needs("# a title\nneeds: history receipts\n@ a native"), ["history", "receipts"]);
        assert!(needs("# a title\n@ a native").is_empty());
    }

    #[test]
    fn transcript_illustration_shows_examples() {
        assert_eq!(illustrate("{\"a\":\"${integer=54000}\",\"b\":\"${integer}\"}"), "{\"a\":54000,\"b\":1}");
        assert_eq!(illustrate("\"${uuid:a}\""), illustrate("\"${uuid:a}\""));
        assert_ne!(illustrate("\"${uuid:a}\""), illustrate("\"${uuid:b}\""));
        assert_eq!(illustrate("[\"${json={'a':1}}\"]"), "[{\"a\":1}]");
    }
}

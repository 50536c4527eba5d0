//! The output of a program, cut into the lines that are published.
//!
//! Bytes in as they are read, lines out. A line ends with LF, CR LF, or a bare CR, with which programs draw progress.
//! Invariants: no line is longer than the limit once it is written as JSON; nothing is lost: what is too long, or does not
//! end for a while, goes on in the next piece, and says so; a character or a colour is never cut in two; what is no UTF-8 is
//! replaced, one U+FFFD for each sequence that makes no sense.

use super::super::ansi::{Colors, sanitize};

/// Longest unfinished control sequence that is waited for.
const SEQUENCE_BYTES_MAX: usize = 64;

/// A line, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// The line goes on in the next piece of its stream.
    pub(super) partial: bool,
}

/// One stream's lines.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// The longest line, in bytes of JSON.
    max: usize,
    colors: Colors,
    ready: Vec<Line>,
}

impl Lines {
    pub(super) fn new(max: usize, colors: Colors) -> Self {
        Self { buffer: Vec::new(), max, colors, ready: Vec::new() }
    }

    /// Takes what was read; gives the lines that ended.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        self.buffer.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some((end, next)) = line_end(&self.buffer, begin) {
            self.ready.extend(pieces(&self.buffer[begin..end], self.max, self.colors, false));
            begin = next;
        }
        self.buffer.drain(..begin);
        while self.buffer.len() >= self.max {
            let cut = safe_cut(&self.buffer[..self.max]);
            self.cut(if cut == 0 { self.max } else { cut });
        }
        std::mem::take(&mut self.ready)
    }

    /// Nothing came for a moment: gives what there is of a line that has not ended.
    pub(super) fn pause(&mut self) -> Vec<Line> {
        let cut = safe_cut(&self.buffer);
        if cut > 0 {
            self.cut(cut);
        }
        std::mem::take(&mut self.ready)
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) -> Vec<Line> {
        let rest = std::mem::take(&mut self.buffer);
        if !rest.is_empty() {
            let line = rest.strip_suffix(b"\r").unwrap_or(&rest);
            self.ready.extend(pieces(line, self.max, self.colors, false));
        }
        std::mem::take(&mut self.ready)
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn cut(&mut self, at: usize) {
        let piece: Vec<u8> = self.buffer.drain(..at).collect();
        self.ready.extend(pieces(&piece, self.max, self.colors, true));
    }
}

/// Where the line that begins at `begin` ends, and the next one begins.
fn line_end(buffer: &[u8], begin: usize) -> Option<(usize, usize)> {
    let at = begin + buffer[begin..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    match (buffer[at], buffer.get(at + 1)) {
        (b'\n', _) => Some((at, at + 1)),
        (_, Some(b'\n')) => Some((at, at + 2)),
        (_, Some(_)) => Some((at, at + 1)),
        // The LF of a CR LF may be on its way.
        (_, None) => None,
    }
}

/// How much may be taken without cutting a character, a control sequence or a CR LF in two.
fn safe_cut(bytes: &[u8]) -> usize {
    let mut end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'\r').count().min(1);
    let tail = &bytes[end.saturating_sub(4)..end];
    if let Some(back) = tail.iter().rev().position(|byte| *byte >= 0xc0) {
        let lead = tail[tail.len() - 1 - back];
        let wanted = if lead >= 0xf0 {
            4
        } else if lead >= 0xe0 {
            3
        } else {
            2
        };
        if back + 1 < wanted {
            end -= back + 1;
        }
    }
    let begin = end.saturating_sub(SEQUENCE_BYTES_MAX);
    match bytes[begin..end].iter().rposition(|byte| *byte == 0x1b) {
        Some(at) if !is_whole_sequence(&bytes[begin + at..end]) => begin + at,
        _ => end,
    }
}

/// Whether a control sequence has its final byte. Only `ESC [` is looked at; others are short, or strings.
fn is_whole_sequence(bytes: &[u8]) -> bool {
    match bytes {
        [_] => false,
        [_, b'[', parameters @ ..] => parameters.iter().any(|byte| (0x40..=0x7e).contains(byte)),
        _ => true,
    }
}

/// A line as text, in pieces that are no longer than `max` as JSON.
fn pieces(bytes: &[u8], max: usize, colors: Colors, goes_on: bool) -> Vec<Line> {
    let text = sanitize(&String::from_utf8_lossy(bytes), colors);
    let mut pieces = Vec::new();
    let (mut begin, mut size) = (0, 0);
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let mut unit = json_bytes(c);
        if c == '\x1b' {
            // A colour, up to its `m`: whole.
            while let Some((_, c)) = rest.next_if(|(_, c)| *c != 'm') {
                unit += json_bytes(c);
            }
            unit += rest.next().map_or(0, |(_, c)| json_bytes(c));
        }
        if size + unit > max && at > begin {
            pieces.push(Line { text: text[begin..at].to_owned(), partial: true });
            (begin, size) = (at, 0);
        }
        size += unit;
    }
    pieces.push(Line { text: text[begin..].to_owned(), partial: goes_on });
    pieces
}

/// Bytes of a character in a JSON string (RFC 8259 section 7).
fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\t' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn lines(max: usize) -> Lines {
        Lines::new(max, Colors::Strip)
    }

    fn texts(lines: &[Line]) -> Vec<(&str, bool)> {
        lines.iter().map(|line| (line.text.as_str(), line.partial)).collect()
    }

    #[test]
    fn lines_end_with_lf_crlf_and_bare_cr() {
        let mut lines = lines(1000);
        let ended = lines.push(b"one\ntwo\r\n\n10%\r20%\rrest\r");
        assert_eq!(
            texts(&ended),
            [("one", false), ("two", false), ("", false), ("10%", false), ("20%", false)]
        );
        assert_eq!(texts(&lines.push(b"\nmore")), [("rest", false)]);
        assert_eq!(texts(&lines.end()), [("more", false)]);
        assert!(!lines.is_open() && lines.end().is_empty());
    }

    /// A prompt has no line's end; whoever follows must see it all the same.
    #[test]
    fn line_that_does_not_end_is_given_in_pieces() {
        let mut lines = lines(1000);
        assert_eq!(lines.push(b"Continue? "), []);
        assert!(lines.is_open());
        assert_eq!(texts(&lines.pause()), [("Continue? ", true)]);
        assert_eq!(lines.pause(), []);
        assert_eq!(texts(&lines.push(b"yes\n")), [("yes", false)]);
    }

    #[test]
    fn line_that_is_too_long_is_split_and_marked() {
        let mut lines = lines(10);
        let ended = lines.push(b"abcdefghijKLMNOPQRSTuv\nshort\n");
        assert_eq!(
            texts(&ended),
            [("abcdefghij", true), ("KLMNOPQRST", true), ("uv", false), ("short", false)]
        );
        let ended = lines.push(b"\"\"\"\"\"\"\n");
        assert_eq!(texts(&ended), [("\"\"\"\"\"", true), ("\"", false)]);
    }

    #[test]
    fn characters_and_colors_are_never_cut_in_two() {
        let mut lines = lines(1000);
        assert_eq!(lines.push(&"é".as_bytes()[..1]), []);
        assert_eq!(lines.pause(), []);
        assert_eq!(texts(&lines.push(&"é\n".as_bytes()[1..])), [("é", false)]);
        let mut lines = Lines::new(40, Colors::Keep);
        lines.push(b"\x1b[3");
        assert_eq!(lines.pause(), []);
        assert_eq!(texts(&lines.push(b"1mred\x1b[0m\n")), [("\x1b[31mred\x1b[0m", false)]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(
            texts(&lines(1000).push(b"a\xff\xfeb\xe2\x82\n\x00\n")),
            [("a\u{fffd}\u{fffd}b\u{fffd}", false), ("\\0", false)]
        );
    }

    proptest! {
        /// However the bytes come, and whatever they are: no piece is too long, and together they are the same text.
        #[test]
        fn pieces_are_short_and_together_the_whole(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..20),
            pauses in proptest::collection::vec(any::<bool>(), 20),
            max in 16_usize..80,
        ) {
            let mut lines = Lines::new(max, Colors::Strip);
            let mut all = Vec::new();
            for (chunk, pause) in chunks.iter().zip(pauses) {
                all.extend(lines.push(chunk));
                if pause {
                    all.extend(lines.pause());
                }
                prop_assert!(lines.buffer.len() < max);
            }
            all.extend(lines.end());
            for line in &all {
                let json = serde_json::to_string(&line.text).unwrap();
                prop_assert!(json.len() <= max + 2, "{json}");
            }
        }

        /// Text without anything special comes out as it went in, line by line.
        #[test]
        fn plain_text_comes_out_as_it_went_in(
            text in proptest::collection::vec("[a-zé✓ ]{0,50}", 1..20),
            sizes in proptest::collection::vec(1_usize..30, 1..20),
            max in 16_usize..60,
        ) {
            let whole = text.join("\n") + "\n";
            let mut lines = Lines::new(max, Colors::Strip);
            let (mut rest, mut all) = (whole.as_bytes(), Vec::new());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*size).min(rest.len()));
                all.extend(lines.push(now));
                rest = later;
            }
            all.extend(lines.end());
            let mut again = String::new();
            for line in all {
                again.push_str(&line.text);
                if !line.partial {
                    again.push('\n');
                }
            }
            prop_assert_eq!(again, whole);
        }
    }
}

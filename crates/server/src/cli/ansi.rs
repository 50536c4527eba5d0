//! Escape sequences of terminals in the output of programs: colours kept or taken away, everything else always away.
//!
//! Sequences are those of ECMA-48 (section 5.4: `ESC [`, parameters, intermediates, a final byte) and the strings of its
//! section 5.6. Of them only SGR (section 8.3.117: colours, bold and so on) cannot do any harm to a terminal: the others move
//! its cursor, set its title, or make it answer. Invariant: what comes out is safe to print to a terminal.

use super::output::clean;

/// What to do with colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    /// As they came.
    Keep,
    /// Away with them.
    Strip,
}

const RESET: &str = "\x1b[0m";

/// One line of a program's output, safe to show. If colours are kept and left on, they are switched off at its end.
pub(super) fn sanitize(line: &str, colors: Colors) -> String {
    if !line.contains(char::is_control) {
        return clean(line).into_owned();
    }
    let mut out = String::with_capacity(line.len());
    let (mut rest, mut on) = (line, false);
    while let Some(at) = rest.find(['\x1b', '\u{9b}']) {
        out.push_str(&clean(&rest[..at]));
        let (sequence, behind) = split(&rest[at..]);
        if let (Some(parameters), Colors::Keep) = (sgr(sequence), colors) {
            on = !matches!(parameters, "" | "0");
            out.push_str(sequence);
        }
        rest = behind;
    }
    out.push_str(&clean(rest));
    if on {
        out.push_str(RESET);
    }
    out
}

/// The parameters, if the sequence sets colours and such.
fn sgr(sequence: &str) -> Option<&str> {
    let parameters = sequence.strip_prefix("\x1b[")?.strip_suffix('m')?;
    parameters.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':').then_some(parameters)
}

/// The sequence that `text` begins with, and what follows it. One that does not end takes everything.
fn split(text: &str) -> (&str, &str) {
    let mut chars = text.char_indices();
    let introducer = match chars.next() {
        Some((_, '\u{9b}')) => '[',
        _ => match chars.next() {
            Some((_, introducer)) => introducer,
            None => return (text, ""),
        },
    };
    let end = match introducer {
        '[' => chars.find(|(_, c)| ('\x40'..='\x7e').contains(c) || c.is_control()),
        // Strings: up to BEL or ST.
        ']' | 'P' | 'X' | '^' | '_' => {
            let mut before = '\0';
            chars.find(|(_, c)| {
                let ends = matches!(c, '\x07' | '\u{9c}') || (before == '\x1b' && *c == '\\');
                before = *c;
                ends
            })
        }
        // Intermediates, then one byte.
        ' '..='/' => chars.find(|(_, c)| !(' '..='/').contains(c)),
        _ => return text.split_at(1 + introducer.len_utf8()),
    };
    match end {
        Some((at, c)) => text.split_at(at + c.len_utf8()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(line: &str) -> String {
        sanitize(line, Colors::Strip)
    }

    fn keep(line: &str) -> String {
        sanitize(line, Colors::Keep)
    }

    #[test]
    fn colors_are_kept_or_taken_away() {
        let line = "\x1b[1m\x1b[32m   Compiling\x1b[0m outspoke";
        assert_eq!(strip(line), "   Compiling outspoke");
        assert_eq!(keep(line), line);
        assert_eq!(keep("\x1b[38;5;9mred"), "\x1b[38;5;9mred\x1b[0m");
        assert_eq!(keep("\x1b[4:3mwavy\x1b[m"), "\x1b[4:3mwavy\x1b[m");
    }

    /// Output of a build is somebody else's text: it must not drive the terminal of whoever follows it.
    #[test]
    fn everything_but_colors_is_taken_away_always() {
        for line in [
            "a\x1b[2Jb",
            "a\x1b]0;title\x07b",
            "a\x1b]8;;http://x\x1b\\b",
            "a\x1bPq#0\x1b\\b",
            "a\x1b(Bb",
            "a\x1bcb",
            "a\u{9b}6nb",
            "a\x1b[?25hb",
            "a\x1b[>0;1mb",
            "a\x1b[0 qb",
        ] {
            assert_eq!((strip(line).as_str(), keep(line).as_str()), ("ab", "ab"), "{line:?}");
        }
        assert_eq!(keep("a\x1b"), "a");
        assert_eq!(keep("a\x1b[12"), "a");
        assert_eq!(keep("a\x1b]never ends"), "a");
        assert_eq!(keep("bell\x07 é\x1bé"), "bell\\u{7} é");
        assert_eq!(strip("tab\tstays"), "tab\tstays");
    }
}

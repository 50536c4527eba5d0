//! What the verbs print: tables, lines and times, for people or for programs.
//!
//! Results go to standard output, talk to standard error. Colours are for terminals only, and for nobody where `NO_COLOR`
//! is set. Invariant: what others wrote reaches a terminal without anything that would move its cursor, ring its bell or
//! turn its text around ([`clean`]).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use jiff::tz::TimeZone;

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    /// A person, at a terminal.
    pub(super) person: bool,
    /// Colours are welcome.
    pub(super) color: bool,
}

impl Screen {
    /// A program.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { person: false, color: false };

    /// Whoever it is.
    pub(super) fn detect() -> Self {
        let person = io::stdout().is_terminal();
        // https://no-color.org: any value but the empty one.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { person, color: person && !unwanted }
    }

    /// A part that matters less.
    pub(super) fn dim(self, text: &str) -> Cow<'_, str> {
        self.paint("2", text)
    }

    /// A part that matters more.
    pub(super) fn bold(self, text: &str) -> Cow<'_, str> {
        self.paint("1", text)
    }

    fn paint<'a>(self, code: &str, text: &'a str) -> Cow<'a, str> {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m").into() } else { text.into() }
    }

    /// A time of the API: at a terminal the clock on the wall, else as it came.
    pub(super) fn time(self, timestamp: &str) -> String {
        let local = || {
            let at: jiff::Timestamp = timestamp.parse().ok()?;
            let now = jiff::Timestamp::now().to_zoned(TimeZone::system());
            let at = at.to_zoned(TimeZone::system());
            let form = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
            Some(at.strftime(form).to_string())
        };
        self.person.then(local).flatten().unwrap_or_else(|| clean(timestamp).into_owned())
    }
}

/// Text that others wrote, with what a terminal would obey, or a reader not see, written out.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out.into()
}

/// Control characters except the tab, and those that change the direction of what follows.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As [`clean`], for text that may have several lines: further ones are indented, so that none passes for a line of ours.
pub(super) fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(clean).collect();
    lines.join("\n    ")
}

/// About how long, in at most two units.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// So many of something: `1 user`, `2 users`.
pub(super) fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Rows under headings, each column as wide as its widest cell. Names come from other machines, so cells are [`clean`]ed.
pub(super) fn columns(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut lines = vec![headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.into_iter().map(|row| row.iter().map(|cell| clean(cell).into_owned()).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints a result. Not `print!`, which panics when the reader of a pipe has gone.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints JSON values, each in a line of its own.
pub(super) fn print_json<'a>(values: impl IntoIterator<Item = &'a serde_json::Value>) -> anyhow::Result<()> {
    let mut text = String::new();
    for value in values {
        let _ = writeln!(text, "{value}");
    }
    print(&text)
}

/// Says something that is no result. Whoever closed standard error does not want it.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name must not be able to clear the operator's screen, or to look like another.
    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(clean("Zoë\t日本 👩‍🚀"), "Zoë\t日本 👩‍🚀");
        assert_eq!(clean("a\x1b[2Jb\r\n\u{9b}1m"), "a\\u{1b}[2Jb\\r\\n\\u{9b}1m");
        assert_eq!(clean("user\u{202e}nimda"), "user\\u{202e}nimda");
        assert_eq!(clean_lines("one\n12:00:00 root: two"), "one\n    12:00:00 root: two");
        let table = columns(&["A", "B"], vec![vec!["x\ny".into(), "1".into()]]);
        assert_eq!(table, "A     B\nx\\ny  1\n");
    }

    #[test]
    fn times_are_the_clock_of_the_reader_only_at_a_terminal() {
        let at = "2020-02-03T04:05:06.789Z";
        assert_eq!(Screen::PLAIN.time(at), at);
        let seen = Screen { person: true, color: false }.time(at);
        assert!(seen.starts_with("2020-02-0") && seen.ends_with(":06"), "{seen}");
        assert_eq!(Screen { person: true, color: false }.time("\x07"), "\\u{7}");
    }

    #[test]
    fn spans_have_at_most_two_units() {
        assert_eq!([span(7), span(61), span(3_700), span(90_000)], ["7 s", "1 min", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([count(1, "user"), count(0, "user")], ["1 user", "0 users"]);
    }
}

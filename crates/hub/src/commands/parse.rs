//! What somebody typed, taken apart: `/name ARGUMENTS`.
//!
//! Borrows from the text as far as it can. Which commands there are, and what they do, is nothing to this module.

use std::borrow::Cow;

use ecow::EcoString;

use super::{ArgumentKind, CommandSpec};

/// What a chat text that begins with a slash means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Typed<'a> {
    /// Two slashes say one: this is the text to say.
    Text(&'a str),
    /// A command, and what follows its name.
    Command { name: &'a str, rest: &'a str },
}

/// Reads a text that begins with a slash.
pub(crate) fn typed(text: &str) -> Typed<'_> {
    let command = text.strip_prefix('/').unwrap_or(text);
    if command.starts_with('/') {
        return Typed::Text(command);
    }
    let end = command.find(char::is_whitespace).unwrap_or(command.len());
    let (name, rest) = command.split_at(end);
    Typed::Command { name, rest: rest.trim() }
}

/// Why a command's arguments are not what it takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongArguments {
    #[error("{0} is missing")]
    Missing(EcoString),
    #[error("there is more than it takes; put \"quotes\" round a name that has blanks")]
    TooMany,
    #[error("a quote is not closed")]
    Unclosed,
}

/// A command's arguments in the order of its specification, as far as they were given.
pub(crate) fn arguments<'a>(
    spec: &CommandSpec,
    mut rest: &'a str,
) -> Result<Vec<Option<Cow<'a, str>>>, WrongArguments> {
    let mut values = Vec::with_capacity(spec.arguments.len());
    for argument in &spec.arguments {
        let value = if rest.is_empty() {
            None
        } else if argument.kind == ArgumentKind::Text {
            Some(Cow::Borrowed(std::mem::take(&mut rest)))
        } else {
            let (value, behind) = word(rest)?;
            rest = behind;
            Some(value)
        };
        if value.is_none() && !argument.optional {
            return Err(WrongArguments::Missing(argument.name.to_uppercase()));
        }
        values.push(value);
    }
    if rest.is_empty() { Ok(values) } else { Err(WrongArguments::TooMany) }
}

/// The first word, or what is between quotes, and what follows it. `rest` begins with no blank.
fn word(rest: &str) -> Result<(Cow<'_, str>, &str), WrongArguments> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        return Ok((Cow::Borrowed(word), behind.trim_start()));
    };
    let mut escaped = false;
    let ends = |c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    };
    let end = quoted.find(ends).ok_or(WrongArguments::Unclosed)?;
    let (word, behind) = (&quoted[..end], &quoted[end + 1..]);
    if behind.starts_with(|c: char| !c.is_whitespace()) {
        return Err(WrongArguments::Unclosed);
    }
    Ok((unescaped(word), behind.trim_start()))
}

/// `\"` and `\\` as what they stand for; any other backslash is one.
fn unescaped(word: &str) -> Cow<'_, str> {
    if !word.contains('\\') {
        return Cow::Borrowed(word);
    }
    let mut text = String::with_capacity(word.len());
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.next_if(|next| c == '\\' && matches!(next, '"' | '\\'));
        text.push(next.unwrap_or(c));
    }
    Cow::Owned(text)
}

/// The name that is most like `name`, if one is alike at all.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(super::NAME_LEN_MAX).map(|c| c.to_ascii_lowercase()).collect();
    let likeness = |known: &'a str| {
        // Who typed only the beginning is nearer than who mistyped the rest.
        let begun = !name.is_empty() && known.starts_with(&name);
        (if begun { 1 } else { 2 * distance(&name, known) }, known)
    };
    let (distance, known) = known.map(likeness).min()?;
    (distance <= 4 && distance <= known.chars().count()).then_some(known)
}

/// Letters to insert, remove, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::commands::Argument;

    #[test]
    fn text_with_a_slash_is_a_command_and_with_two_it_is_text() {
        for (text, typed_as) in [
            ("/me waves", Typed::Command { name: "me", rest: "waves" }),
            ("/me   waves  ", Typed::Command { name: "me", rest: "waves" }),
            ("/me\twaves\nand smiles", Typed::Command { name: "me", rest: "waves\nand smiles" }),
            ("/help", Typed::Command { name: "help", rest: "" }),
            ("/", Typed::Command { name: "", rest: "" }),
            ("/ me", Typed::Command { name: "", rest: "me" }),
            ("/etc/passwd is a file", Typed::Command { name: "etc/passwd", rest: "is a file" }),
            ("/é ü", Typed::Command { name: "é", rest: "ü" }),
            ("/me\u{2003}waves", Typed::Command { name: "me", rest: "waves" }),
            ("//me waves", Typed::Text("/me waves")),
            ("///", Typed::Text("//")),
            ("//", Typed::Text("/")),
        ] {
            assert_eq!(typed(text), typed_as, "{text:?}");
        }
    }

    type Expected = Result<&'static [Option<&'static str>], WrongArguments>;

    fn check(spec: &CommandSpec, cases: &[(&str, Expected)]) {
        for (rest, expected) in cases {
            let values = arguments(spec, rest);
            let values: Result<Vec<Option<&str>>, WrongArguments> = values
                .as_ref()
                .map(|values| values.iter().map(Option::as_deref).collect())
                .map_err(Clone::clone);
            assert_eq!(values.as_deref(), expected.as_ref().copied(), "{rest:?}");
        }
    }

    #[test]
    fn arguments_are_words_or_quoted_and_a_text_takes_the_rest() {
        let missing = |name: &str| Err(WrongArguments::Missing(EcoString::from(name)));
        let msg = CommandSpec::new("msg", "says something to one user")
            .argument(Argument::user("user"))
            .argument(Argument::text("text"));
        check(
            &msg,
            &[
                ("bob hi", Ok(&[Some("bob"), Some("hi")])),
                ("bob   two  blanks", Ok(&[Some("bob"), Some("two  blanks")])),
                (r#""Ann Lee" hi"#, Ok(&[Some("Ann Lee"), Some("hi")])),
                (r#""Ann \"A\" Lee" hi"#, Ok(&[Some(r#"Ann "A" Lee"#), Some("hi")])),
                (r#""a\\" hi"#, Ok(&[Some(r"a\"), Some("hi")])),
                (r#""a\b" hi"#, Ok(&[Some(r"a\b"), Some("hi")])),
                (r#""" hi"#, Ok(&[Some(""), Some("hi")])),
                (r#"bob "quoted" text"#, Ok(&[Some("bob"), Some(r#""quoted" text"#)])),
                (r#"O"Hara hi"#, Ok(&[Some(r#"O"Hara"#), Some("hi")])),
                ("bob", missing("TEXT")),
                ("", missing("USER")),
                (r#""Ann Lee hi"#, Err(WrongArguments::Unclosed)),
                (r#""Ann"Lee hi"#, Err(WrongArguments::Unclosed)),
                (r#""Ann\" hi"#, Err(WrongArguments::Unclosed)),
                (r#"""#, Err(WrongArguments::Unclosed)),
            ],
        );
        let leave = CommandSpec::new("leave", "leaves").argument(Argument::room("room").optional());
        check(
            &leave,
            &[
                ("", Ok(&[None])),
                ("lobby", Ok(&[Some("lobby")])),
                ("my room", Err(WrongArguments::TooMany)),
                (r#""my room""#, Ok(&[Some("my room")])),
                (r#""my room" x"#, Err(WrongArguments::TooMany)),
            ],
        );
        check(&CommandSpec::new("list", "lists"), &[("", Ok(&[])), ("x", Err(WrongArguments::TooMany))]);
    }

    #[test]
    fn nearest_name_is_what_was_begun_or_mistyped_and_nothing_far_away() {
        let known = ["help", "join", "leave", "me", "msg", "nick", "shrug", "topic", "who"];
        for (name, near) in [
            ("hepl", Some("help")),
            ("HELP", Some("help")),
            ("he", Some("help")),
            ("jion", Some("join")),
            ("topics", Some("topic")),
            ("lea", Some("leave")),
            ("whos", Some("who")),
            ("dance", None),
            ("", None),
            ("etc/passwd", None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), near, "{name:?}");
        }
        let long = "x".repeat(100_000);
        assert_eq!(nearest(&long, known.into_iter()), None);
    }
}

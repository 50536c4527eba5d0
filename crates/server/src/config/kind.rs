//! The kinds of value a setting can have: how each is written, read and refused.
//!
//! Used by [`super::table`] (documentation) and `resolve` (reading). All layers write values as text, so
//! a kind reads text and nothing else: `"3m"` means the same in the file, in a variable and on the command line.
//! Ranges and cross-key rules are not decided here.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::ListenAddr;

/// What a layer wrote for one key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// One value: `3m`, `"lobby"`, `true`.
    Scalar(String),
    /// A sequence of values; only the file can write one, the other layers separate with commas.
    List(Vec<String>),
    /// A key with nothing after the colon, or an explicit `null`.
    Null,
    /// A mapping, or a sequence that holds more than plain values.
    Nested,
}

/// Without the values: any of them may be a secret.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar(_) => "Scalar",
            Self::List(_) => "List",
            Self::Null => "Null",
            Self::Nested => "Nested",
        })
    }
}

impl Input {
    /// The values as written; nothing for what is no value.
    pub fn items(&self) -> &[String] {
        match self {
            Self::Scalar(text) => std::slice::from_ref(text),
            Self::List(items) => items,
            Self::Null | Self::Nested => &[],
        }
    }
}

/// Why a value was refused; the sentence goes on after the value (`"30" has no unit`), or after the key where there
/// is no single value to print (`server.addr has no value`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong with the value, as the rest of the sentence.
    pub why: Cow<'static, str>,
    /// A cure closer to the mistake than the kind's general one.
    pub hint: Option<String>,
}

impl Refusal {
    fn new(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// How a value is printed back: the YAML style and the JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`.
    Bool,
    /// A plain number.
    Number,
    /// A word that needs no quotes: `3m`, `64KiB`, `human`.
    Word,
    /// Free text, always in quotes.
    Quoted,
    /// A sequence of quoted texts.
    List,
    /// A sequence of blocks.
    Blocks,
}

/// A kind of value.
pub trait Kind {
    /// What the program gets.
    type Value;
    /// The kind's name in the reference: `duration`.
    const NAME: &'static str;
    /// What is accepted, as it ends the sentence "write ...".
    const ACCEPTS: &'static str;
    /// How it is printed back.
    const FORM: Form;

    /// Reads one value.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong; the caller adds key, place and range.
    fn read(text: &str) -> Result<Self::Value, Refusal>;

    /// Reads what a layer wrote. Only kinds that hold several values accept a list.
    ///
    /// # Errors
    /// As [`Kind::read`].
    fn read_input(input: &Input) -> Result<Self::Value, Refusal> {
        match input {
            Input::Scalar(text) => Self::read(text.trim()),
            Input::List(_) => Err(Refusal::new("is a list, but takes one value")),
            Input::Null => Err(no_value()),
            Input::Nested => Err(Refusal::new("is a block, but takes one value")),
        }
    }

    /// The value on the scale that the key's range is measured on; `None` if the kind has no order.
    fn magnitude(_value: &Self::Value) -> Option<u128> {
        None
    }
}

fn no_value() -> Refusal {
    Refusal::new("has no value").hint("write a value after the colon, or delete the line to get the default")
}

/// `true` or `false`.
#[derive(Debug)]
pub enum Flag {}

impl Kind for Flag {
    type Value = bool;
    const NAME: &'static str = "flag";
    const ACCEPTS: &'static str = "true or false";
    const FORM: Form = Form::Bool;

    fn read(text: &str) -> Result<bool, Refusal> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Refusal::new("is neither true nor false")),
        }
    }
}

/// A whole number, `_` between digits allowed: `1_000_000`.
#[derive(Debug)]
pub enum Count {}

impl Kind for Count {
    type Value = usize;
    const NAME: &'static str = "number";
    const ACCEPTS: &'static str = "a whole number such as 128 or 1_000_000";
    const FORM: Form = Form::Number;

    fn read(text: &str) -> Result<usize, Refusal> {
        digits(text).ok_or_else(|| Refusal::new("is not a whole number"))
    }

    fn magnitude(value: &usize) -> Option<u128> {
        Some(*value as u128)
    }
}

/// A size in bytes: `8KiB`, `1MiB`, or a plain number of bytes.
#[derive(Debug)]
pub enum Size {}

impl Kind for Size {
    type Value = usize;
    const NAME: &'static str = "size";
    const ACCEPTS: &'static str = "a size such as 64KiB, 1MiB or a plain number of bytes";
    const FORM: Form = Form::Word;

    fn read(text: &str) -> Result<usize, Refusal> {
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let factor: usize = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "k" | "kb" => return Err(decimal_unit(number, "KiB")),
            "m" | "mb" => return Err(decimal_unit(number, "MiB")),
            "g" | "gb" => return Err(decimal_unit(number, "GiB")),
            _ => return Err(Refusal::new("is not a size")),
        };
        let number = digits(number.trim_end()).ok_or_else(|| Refusal::new("is not a size"))?;
        number.checked_mul(factor).ok_or_else(|| Refusal::new("is too large for this machine"))
    }

    fn magnitude(value: &usize) -> Option<u128> {
        Some(*value as u128)
    }
}

/// `8K` and `8kB` mean 1000 to some and 1024 to others; a limit must not be a guess.
fn decimal_unit(number: &str, unit: &str) -> Refusal {
    Refusal::new("has an ambiguous unit").hint(format!("write {}{unit} (units of 1024)", number.trim_end()))
}

/// A length of time: `54s`, `1m30s`, `500ms`; `0` alone needs no unit.
#[derive(Debug)]
pub enum Time {}

impl Kind for Time {
    type Value = Duration;
    const NAME: &'static str = "duration";
    const ACCEPTS: &'static str = "a duration such as 54s, 1m30s, 500ms or 2h";
    const FORM: Form = Form::Word;

    fn read(text: &str) -> Result<Duration, Refusal> {
        if text == "0" {
            return Ok(Duration::ZERO);
        }
        if digits(text).is_some() {
            return Err(Refusal::new("has no unit").hint(format!("write {text}s for seconds or {text}ms")));
        }
        duration(text).ok_or_else(|| Refusal::new("is not a duration"))
    }

    fn magnitude(value: &Duration) -> Option<u128> {
        Some(value.as_millis())
    }
}

/// Number and unit, repeated, units falling: `1h30m`, never `30m1h` or `1m1m`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
        if *millis >= last_unit {
            return None;
        }
        last_unit = *millis;
        total = number.parse::<u64>().ok()?.checked_mul(*millis)?.checked_add(total)?;
        rest = tail;
    }
    (last_unit != u64::MAX).then(|| Duration::from_millis(total))
}

fn digits(text: &str) -> Option<usize> {
    let well_formed = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && !text.contains("__");
    if !well_formed {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// Free text, possibly empty, without control characters.
#[derive(Debug)]
pub enum Text {}

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";
    const ACCEPTS: &'static str = "text without control characters";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        if text.chars().any(char::is_control) {
            return Err(Refusal::new("contains a control character"));
        }
        Ok(text.to_owned())
    }

    fn read_input(input: &Input) -> Result<String, Refusal> {
        whole_text(input).and_then(Self::read)
    }
}

/// One text, blanks at its ends included.
fn whole_text(input: &Input) -> Result<&str, Refusal> {
    match input {
        Input::Scalar(text) => Ok(text),
        Input::Null => Err(no_value().hint("write \"\" if you mean the empty text")),
        Input::List(_) | Input::Nested => Err(Refusal::new("takes one text, not a list or a block")),
    }
}

/// The name of a room, or nothing for none.
#[derive(Debug)]
pub enum Room {}

impl Kind for Room {
    type Value = String;
    const NAME: &'static str = "room name";
    const ACCEPTS: &'static str = "a name without control characters, or \"\" for none";
    const FORM: Form = Form::Quoted;

    /// The hub's rules for room names, so that a bad one is found with its line and column.
    fn read(text: &str) -> Result<String, Refusal> {
        let invisible = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        };
        if text.contains(invisible) {
            return Err(Refusal::new("contains a control character or an invisible one"));
        }
        if text.trim() != text {
            return Err(Refusal::new("has a blank at its start or end"));
        }
        Ok(text.to_owned())
    }

    fn read_input(input: &Input) -> Result<String, Refusal> {
        whole_text(input).and_then(Self::read)
    }
}

/// A folder, absolute or relative to the working directory.
#[derive(Debug)]
pub enum Folder {}

impl Kind for Folder {
    type Value = PathBuf;
    const NAME: &'static str = "folder";
    const ACCEPTS: &'static str = "a path such as ./data or /var/lib/outspoke";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<PathBuf, Refusal> {
        if text.is_empty() {
            return Err(Refusal::new("is empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(Refusal::new("contains a control character"));
        }
        Ok(PathBuf::from(text))
    }
}

/// Where to listen.
#[derive(Debug)]
pub enum Address {}

impl Kind for Address {
    type Value = ListenAddr;
    const NAME: &'static str = "address";
    const ACCEPTS: &'static str =
        "host:port such as \":8080\", \"127.0.0.1:8080\", \"[::1]:8080\" or \"localhost:8080\"";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<ListenAddr, Refusal> {
        ListenAddr::parse(text).map_err(|error| {
            let hint = error.hint();
            let refusal = Refusal::new(error.to_string());
            hint.map_or(refusal.clone(), |hint| refusal.hint(hint))
        })
    }
}

/// An address to listen on, or nothing.
#[derive(Debug)]
pub enum AddressOrNone {}

impl Kind for AddressOrNone {
    type Value = Option<ListenAddr>;
    const NAME: &'static str = Address::NAME;
    const ACCEPTS: &'static str = "an address such as \":80\" or 127.0.0.1:8081, or \"\" for none";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Option<ListenAddr>, Refusal> {
        if text.is_empty() { Ok(None) } else { Address::read(text).map(Some) }
    }
}

/// One or more `http://` or `https://` addresses.
#[derive(Debug)]
pub enum Urls {}

impl Kind for Urls {
    type Value = Vec<String>;
    const NAME: &'static str = "list of URLs";
    const ACCEPTS: &'static str =
        "http:// or https:// addresses: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<String>, Refusal> {
        Self::read_list(text.split(',').map(str::trim))
    }

    fn read_input(input: &Input) -> Result<Vec<String>, Refusal> {
        match input {
            Input::Scalar(text) => Self::read(text),
            Input::List(items) => Self::read_list(items.iter().map(|item| item.trim())),
            Input::Null => Err(no_value()),
            Input::Nested => Err(Refusal::new("is a block, but takes a list")),
        }
    }
}

impl Urls {
    fn read_list<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Refusal> {
        let urls: Vec<String> = items.map(str::to_owned).collect();
        if urls.is_empty() {
            return Err(Refusal::new("names no address"));
        }
        match urls.iter().find(|url| !is_http_url(url)) {
            None => Ok(urls),
            Some(bad) => {
                let shown = without_userinfo(bad);
                let why = format!("holds {shown:?}, which is not an http:// or https:// address");
                Err(Refusal::new(why).hint(format!("write for example http://{}", host_of(&shown))))
            }
        }
    }
}

/// Whatever stands before an `@` may be a password, also where the scheme is missing.
fn without_userinfo(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, host)| format!("***@{host}"))
}

fn host_of(url: &str) -> &str {
    let host = url.rsplit(['/', '@']).find(|part| part.contains(':')).unwrap_or_default();
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "etcd:2379"
    } else {
        host
    }
}

fn is_http_url(url: &str) -> bool {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']))
        && !url.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Secrets, none of them ever printed: a list, or separated by commas.
#[derive(Debug)]
pub enum Secrets {}

impl Kind for Secrets {
    type Value = Vec<String>;
    const NAME: &'static str = "list of secrets";
    const ACCEPTS: &'static str =
        "texts without blanks or commas: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<String>, Refusal> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        Self::read_list(text.split(',').map(str::trim))
    }

    fn read_input(input: &Input) -> Result<Vec<String>, Refusal> {
        match input {
            Input::Scalar(text) => Self::read(text),
            Input::List(items) => Self::read_list(items.iter().map(|item| item.trim())),
            Input::Null => Err(no_value().hint("write [] for none")),
            Input::Nested => Err(Refusal::new("is a block, but takes a list")),
        }
    }
}

impl Secrets {
    fn read_list<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Refusal> {
        let secrets: Vec<String> = items.map(str::to_owned).collect();
        match secrets.iter().position(|secret| !fits_a_header(secret)) {
            None => Ok(secrets),
            Some(index) => {
                let why = format!("holds an entry (number {}) that no HTTP header can carry", index + 1);
                Err(Refusal::new(why).hint(
                    "write printable ASCII characters without blanks, for example the output of \
                     `openssl rand -hex 24`",
                ))
            }
        }
    }
}

/// Patterns for names of rooms or users, in which `*` stands for any text.
#[derive(Debug)]
pub enum Patterns {}

impl Kind for Patterns {
    type Value = Vec<String>;
    const NAME: &'static str = "list of patterns";
    const ACCEPTS: &'static str =
        "names in which * stands for any text: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<String>, Refusal> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        Self::read_list(text.split(',').map(str::trim))
    }

    fn read_input(input: &Input) -> Result<Vec<String>, Refusal> {
        match input {
            Input::Scalar(text) => Self::read(text),
            Input::List(items) => Self::read_list(items.iter().map(|item| item.trim())),
            Input::Null => Err(no_value().hint("write [] for none")),
            Input::Nested => Err(Refusal::new("is a block, but takes a list")),
        }
    }
}

impl Patterns {
    fn read_list<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Refusal> {
        let patterns: Vec<String> = items.map(str::to_owned).collect();
        let wrong = |pattern: &&String| pattern.is_empty() || pattern.chars().any(char::is_control);
        match patterns.iter().find(wrong) {
            None => Ok(patterns),
            Some(_) => Err(Refusal::new("holds a pattern that is empty or has control characters")),
        }
    }
}

/// Secrets travel in HTTP headers (RFC 9110, section 5.5).
fn fits_a_header(secret: &str) -> bool {
    !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic())
}

/// Longest name of a store or tenant.
const NAME_BYTES_MAX: usize = 64;

/// A name for people and paths: of a store, of a tenant.
#[derive(Debug)]
pub enum Name {}

impl Kind for Name {
    type Value = String;
    const NAME: &'static str = "name";
    const ACCEPTS: &'static str = "1 to 64 letters, digits, - and _";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if fits && plain { Ok(text.to_owned()) } else { Err(Refusal::new("is not a name")) }
    }
}

/// The name of a store, or nothing for the one that `store` describes.
#[derive(Debug)]
pub enum StoreName {}

impl Kind for StoreName {
    type Value = String;
    const NAME: &'static str = "store name";
    const ACCEPTS: &'static str =
        "the name of an entry of stores, or \"\" for the store that the section store describes";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        if text.is_empty() { Ok(String::new()) } else { Name::read(text) }
    }
}

/// What names in a shared database begin with.
#[derive(Debug)]
pub enum Prefix {}

impl Kind for Prefix {
    type Value = String;
    const NAME: &'static str = "prefix";
    const ACCEPTS: &'static str = "1 to 64 letters, digits, and - _ . : /";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/');
        if fits && text.bytes().all(plain) {
            Ok(text.to_owned())
        } else {
            Err(Refusal::new("is not a prefix"))
        }
    }
}

/// Which rooms: a name in which `*` stands for any text.
#[derive(Debug)]
pub enum Pattern {}

impl Kind for Pattern {
    type Value = String;
    const NAME: &'static str = "pattern";
    const ACCEPTS: &'static str =
        "the name of a room, in which each * stands for any text, such as lobby, chat:* or *";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        if text.is_empty() {
            return Err(Refusal::new("is empty").hint("write \"*\" for every room"));
        }
        Room::read(text)
    }

    fn read_input(input: &Input) -> Result<String, Refusal> {
        whole_text(input).and_then(Self::read)
    }
}

/// The name of a host, without a port.
#[derive(Debug)]
pub enum HostName {}

impl Kind for HostName {
    type Value = String;
    const NAME: &'static str = "host name";
    const ACCEPTS: &'static str = "a host name without a port, such as chat.example.org";
    const FORM: Form = Form::Quoted;

    /// Host names are compared without regard to case (RFC 4343), so they are kept in lower case.
    fn read(text: &str) -> Result<String, Refusal> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(text.to_ascii_lowercase());
        }
        let refusal = Refusal::new("is not a host name");
        Err(match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(['/', ':']) && port.bytes().all(|b| b.is_ascii_digit()) => {
                refusal.hint(format!("write \"{host}\"; the port plays no part"))
            }
            _ => refusal,
        })
    }
}

/// The address of a database, or nothing.
#[derive(Debug)]
pub enum Url {}

impl Kind for Url {
    type Value = String;
    const NAME: &'static str = "URL";
    const ACCEPTS: &'static str =
        "an address such as postgresql://user:password@host:5432/database or redis://host:6379/0";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        if text.is_empty() {
            return Ok(String::new());
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Refusal::new("contains a blank or a control character"));
        }
        match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(text.to_owned()),
            _ => Err(Refusal::new("is not a URL")),
        }
    }
}

/// A folder, or nothing for the usual one.
#[derive(Debug)]
pub enum FolderOrUsual {}

impl Kind for FolderOrUsual {
    type Value = Option<PathBuf>;
    const NAME: &'static str = "folder";
    const ACCEPTS: &'static str = "a path such as /var/lib/outspoke/store, or \"\" for the usual one";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Option<PathBuf>, Refusal> {
        if text.is_empty() { Ok(None) } else { Folder::read(text).map(Some) }
    }
}

/// What is logged: a level, or a level followed by exceptions, `info,outspoke_hub=debug`.
#[derive(Debug)]
pub enum Level {}

impl Kind for Level {
    type Value = String;
    const NAME: &'static str = "log level";
    const ACCEPTS: &'static str =
        "off, error, warn, info, debug or trace, with exceptions after commas: info,outspoke_hub=debug";
    const FORM: Form = Form::Word;

    fn read(text: &str) -> Result<String, Refusal> {
        let mut parts = text.split(',');
        let general = parts.next().is_some_and(is_level);
        if general && parts.all(is_exception) {
            return Ok(text.to_owned());
        }
        Err(Refusal::new("is not a log level"))
    }
}

fn is_level(word: &str) -> bool {
    matches!(word, "off" | "error" | "warn" | "info" | "debug" | "trace")
}

fn is_exception(part: &str) -> bool {
    let is_target = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'))
    };
    part.split_once('=').is_some_and(|(target, level)| is_target(target) && is_level(level))
}

/// Declares an enum whose variants are the words that a setting accepts.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident ($title:literal, $accepts:literal) {
        $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Kind for $name {
            type Value = Self;
            const NAME: &'static str = $title;
            const ACCEPTS: &'static str = $accepts;
            const FORM: Form = Form::Word;

            fn read(text: &str) -> Result<Self, Refusal> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Refusal::new(concat!("is not a ", $title))),
                }
            }
        }
    };
}

choice! {
    /// What happens to a client that reads more slowly than its rooms speak.
    SlowClient("policy", "disconnect, drop_oldest, drop_newest, conflate or resync") {
        /// Close it with a code that allows a reconnect; nothing is lost in silence.
        Disconnect = "disconnect",
        /// Make space by dropping the oldest waiting messages of the room.
        DropOldest = "drop_oldest",
        /// Drop the messages that do not fit.
        DropNewest = "drop_newest",
        /// Keep only the newest waiting message of each sort and sender.
        Conflate = "conflate",
        /// Drop what waits and tell the client how much it missed.
        Resync = "resync",
    }
}

choice! {
    /// What the acknowledgement of a message means.
    Durability("level of durability", "none, memory or stored") {
        /// The message is on its way; nothing is kept.
        None = "none",
        /// Kept for the life of the server.
        Memory = "memory",
        /// Kept by the store, before anybody sees it.
        Stored = "stored",
    }
}

choice! {
    /// Who may publish.
    Publishers("role", "members or server") {
        /// Every client in the room.
        Members = "members",
        /// Only the application, through the HTTP API.
        Server = "server",
    }
}

choice! {
    /// What keeps the data.
    Backend("back end", "embedded, memory, postgresql, redis or dynamodb") {
        /// Files in a folder of this machine.
        Embedded = "embedded",
        /// This process, as long as it runs.
        Memory = "memory",
        /// A PostgreSQL database.
        Postgresql = "postgresql",
        /// A Redis or Valkey server.
        Redis = "redis",
        /// A table of Amazon DynamoDB.
        Dynamodb = "dynamodb",
    }
}

choice! {
    /// What carries messages between servers.
    Bus("bus", "etcd, redis or nats") {
        /// An etcd cluster.
        Etcd = "etcd",
        /// A Redis or Valkey server, a cluster of them, or one behind sentinels.
        Redis = "redis",
        /// A NATS server or cluster.
        Nats = "nats",
    }
}

impl Bus {
    /// The word that chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    /// The cargo feature without which it is no part of the program, if this build lacks it.
    pub fn missing_feature(self) -> Option<&'static str> {
        let (built_in, feature) = match self {
            Self::Etcd => (cfg!(feature = "etcd"), "etcd"),
            Self::Redis => (cfg!(feature = "redis"), "redis"),
            Self::Nats => (cfg!(feature = "nats"), "nats"),
        };
        (!built_in).then_some(feature)
    }
}

impl Backend {
    /// Whether several servers can use it together.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Postgresql | Self::Redis | Self::Dynamodb)
    }

    /// The word that chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Postgresql => "postgresql",
            Self::Redis => "redis",
            Self::Dynamodb => "dynamodb",
        }
    }

    /// The cargo feature without which it is no part of the program, if this build lacks it.
    pub fn missing_feature(self) -> Option<&'static str> {
        let (built_in, feature) = match self {
            Self::Memory => return None,
            Self::Embedded => (cfg!(feature = "embedded"), "embedded"),
            Self::Postgresql => (cfg!(feature = "postgres"), "postgres"),
            Self::Redis => (cfg!(feature = "redis"), "redis"),
            Self::Dynamodb => (cfg!(feature = "dynamodb"), "dynamodb"),
        };
        (!built_in).then_some(feature)
    }

    /// How the URLs of this back end begin; nothing for those without one.
    pub fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Postgresql => &["postgresql", "postgres"],
            Self::Redis => &["redis", "rediss"],
            Self::Embedded | Self::Memory | Self::Dynamodb => &[],
        }
    }
}

choice! {
    /// How log lines look.
    LogFormat("log format", "auto, human or json") {
        /// Human on a terminal, JSON otherwise.
        Auto = "auto",
        /// Lines for people.
        Human = "human",
        /// One JSON object per line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<u128> {
        Time::read(text).ok().map(|d| d.as_millis())
    }

    #[test]
    fn duration_is_numbers_with_falling_units() {
        let good = [
            ("3m", 180_000),
            ("1m30s", 90_000),
            ("54s", 54_000),
            ("500ms", 500),
            ("0", 0),
            ("1d2h", 93_600_000),
        ];
        for (text, millis) in good {
            assert_eq!(time(text), Some(millis), "{text}");
        }
        for text in
            ["", "s", "3", "3 m", "-3m", "3m2h", "1m1m", "1.5s", "3min", "99999999999999999999s", "m3"]
        {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn duration_without_unit_is_told_to_add_one() {
        let refusal = Time::read("30").expect_err("no unit");
        assert_eq!(refusal.hint.as_deref(), Some("write 30s for seconds or 30ms"));
    }

    #[test]
    fn size_is_bytes_or_binary_units() {
        let good =
            [("8192", 8192), ("8KiB", 8192), ("8 kib", 8192), ("1MiB", 1 << 20), ("1_000", 1000), ("7B", 7)];
        for (text, bytes) in good {
            assert_eq!(Size::read(text).ok(), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "8kB", "8K", "-1", "1.5MiB", "8TiB", "99999999999GiB", "8KiB8"] {
            assert!(Size::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn number_takes_underscores_between_digits_only() {
        assert_eq!(Count::read("1_000_000").ok(), Some(1_000_000));
        for text in ["", "_1", "1_", "1__0", "0x10", "1e3", "+1", "ten"] {
            assert!(Count::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn log_level_takes_exceptions_but_no_unknown_words() {
        for text in ["info", "off", "warn,outspoke_hub=debug", "info,hyper::proto=error,tower=off"] {
            assert!(Level::read(text).is_ok(), "{text}");
        }
        for text in
            ["", "inof", "INFO", "debug,", "outspoke_hub=debug", "info,debug", "info,=debug", "info,a b=warn"]
        {
            assert!(Level::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn room_name_is_visible_text_or_nothing() {
        for text in ["", "lobby", "team é", "a/b:c"] {
            assert_eq!(Room::read_input(&Input::Scalar(text.into())).as_deref(), Ok(text));
        }
        for text in [" lobby", "lobby ", "a\nb", "a\u{202e}b", "\u{feff}lobby"] {
            assert!(Room::read_input(&Input::Scalar(text.into())).is_err(), "{text:?}");
        }
    }

    #[test]
    fn urls_come_as_list_or_with_commas() {
        let list = Input::List(vec!["http://a:1".into(), "https://b".into()]);
        assert_eq!(Urls::read_input(&list), Urls::read("http://a:1, https://b"));
        for text in ["", "etcd:2379", "http://", "http://a,,http://b", "http:// a"] {
            assert!(Urls::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_name_the_bad_item_without_its_password() {
        let refusal = Urls::read("http://a:1,root:s3cret@etcd:2379").expect_err("no scheme");
        assert_eq!(refusal.why, "holds \"***@etcd:2379\", which is not an http:// or https:// address");
        assert_eq!(refusal.hint.as_deref(), Some("write for example http://etcd:2379"));
    }
}

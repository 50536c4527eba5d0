//! What can be wrong with a configuration, and how it is said.
//!
//! Each [`Problem`] names its place, the key and a cure. All problems of all layers are reported together, so that
//! one run is enough to mend a file. Values are masked here, before they can reach a terminal or a log.

use std::borrow::Cow;
use std::fmt;

use super::kind::Input;
use super::source::Source;

/// Problems that are printed; whoever has more is not reading a configuration.
pub(super) const PRINTED_MAX: usize = 50;
/// Longest value that a message repeats.
const VALUE_CHARS_MAX: usize = 60;

/// One thing that is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the mistake stands.
    pub at: Source,
    /// What is wrong.
    pub fault: Fault,
    /// What to write or do instead.
    pub hint: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No setting has this key.
    #[error("unknown key {}", short(key))]
    UnknownKey {
        /// The key as written, with its sections.
        key: String,
    },
    /// A variable that begins with `OUTSPOKE_` and sets nothing.
    #[error("no setting has this variable")]
    UnknownVariable,
    /// A value of the wrong type, out of range, or not of the accepted words.
    #[error("{key}{} {why}", value.as_ref().map(|value| format!(": {value}")).unwrap_or_default())]
    BadValue {
        /// The key.
        key: Cow<'static, str>,
        /// The value, quoted and masked; `None` if there is no single value.
        value: Option<String>,
        /// The rest of the sentence.
        why: String,
    },
    /// A key that stands twice in the file.
    #[error("{} is set twice, first on line {first}", short(key))]
    Duplicate {
        /// The key.
        key: String,
        /// The line of the first.
        first: usize,
    },
    /// A section that holds a value instead of keys.
    #[error("{key} is a section, not a value")]
    NotASection {
        /// The section.
        key: String,
    },
    /// The file cannot be used at all: missing, unreadable, too large, not YAML.
    #[error("{0}")]
    File(String),
    /// Settings that are each acceptable but not together.
    #[error("{0}")]
    Rule(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}\n  hint: {}", self.at, self.fault, self.hint)
    }
}

/// Something that works, but hardly as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub at: Source,
    /// What it leads to.
    pub what: String,
    /// What to write or do instead.
    pub hint: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}: {}\n  hint: {}", self.at, self.what, self.hint)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order file, variables, flags; never empty.
    pub problems: Vec<Problem>,
    /// Set if the file was not asked for by name, and says how to ignore it.
    pub note: Option<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(PRINTED_MAX) {
            writeln!(f, "{problem}")?;
        }
        if self.problems.len() > PRINTED_MAX {
            writeln!(f, "... and {} more", self.problems.len() - PRINTED_MAX)?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "note: {note}")?;
        }
        match self.problems.len() {
            1 => f.write_str("1 problem in the configuration"),
            many => write!(f, "{many} problems in the configuration"),
        }
    }
}

/// The value as a message prints it: in quotes, control characters escaped, shortened, secrets masked.
pub(super) fn printable(input: &Input, secret: bool) -> Option<String> {
    let Input::Scalar(text) = input else { return None };
    if secret {
        return Some("the value (hidden: it is a secret)".to_owned());
    }
    let shown = mask_userinfo(text);
    match shown.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => Some(format!("{:?}...", &shown[..end])),
        None => Some(format!("{shown:?}")),
    }
}

fn short(key: &str) -> String {
    plain(&key.chars().take(VALUE_CHARS_MAX).collect::<String>())
}

/// A name without what could drive a terminal: keys from a file are as hostile as values.
pub(super) fn plain(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '\'' | '"' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Hides what may be a password in everything that looks like a URL: all before the last `@`, and the values of a query that are
/// named like secrets. Rather too much than too little: a password may have any character, escaped or not.
pub(crate) fn mask_userinfo(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    // Addresses in a list begin with a scheme each; a comma alone may belong to a password.
    let end = rest.find("://").and_then(|next| rest[..next].rfind([',', ' '])).unwrap_or(rest.len());
    let (this, others) = rest.split_at(end);
    let (before, query) = this.split_once('?').map_or((this, None), |(before, query)| (before, Some(query)));
    // A question mark may belong to a password, too.
    let query = query.filter(|query| !query.contains('@'));
    let address = if query.is_some() { before } else { this };
    let mut masked = format!("{scheme}://");
    match address.rfind('@') {
        Some(at) => masked.extend(["***", &address[at..]]),
        None => masked.push_str(address),
    }
    if let Some(query) = query {
        let parameters: Vec<Cow<'_, str>> = query.split('&').map(mask_parameter).collect();
        masked.extend(["?", &parameters.join("&")]);
    }
    masked.push_str(&mask_userinfo(others));
    Cow::Owned(masked)
}

fn mask_parameter(parameter: &str) -> Cow<'_, str> {
    let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
    let secret = ["pass", "pwd", "secret", "token", "key", "auth", "credential"]
        .iter()
        .any(|word| name.contains(word));
    if secret { Cow::Owned(format!("{name}=***")) } else { Cow::Borrowed(parameter) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_masked() {
        let cases = [
            ("http://etcd:2379", "http://etcd:2379"),
            ("http://root:s3cret@etcd:2379/x", "http://***@etcd:2379/x"),
            ("http://a:1,https://u:p@b:2,http://c", "http://a:1,https://***@b:2,http://c"),
            ("http://u:p@ss@host", "http://***@host"),
            ("http://u:p/s?s#s@host/x", "http://***@host/x"),
            ("redis://u:a,b@host:1,redis://u:c@d:2", "redis://***@host:1,redis://***@d:2"),
            (
                "postgresql://h/db?user=u&password=p&sslmode=require",
                "postgresql://h/db?user=u&password=***&sslmode=require",
            ),
            ("3m", "3m"),
        ];
        for (text, masked) in cases {
            assert_eq!(mask_userinfo(text), masked);
        }
    }

    #[test]
    fn printed_values_hide_secrets_escape_controls_and_end_somewhere() {
        let shown =
            |text: &str, secret| printable(&Input::Scalar(text.to_owned()), secret).unwrap_or_default();
        assert!(!shown("hunter2", true).contains("hunter2"));
        assert_eq!(shown("a\x1b[31m\nb", false), r#""a\u{1b}[31m\nb""#);
        assert_eq!(shown(&"ü".repeat(1000), false).chars().count(), VALUE_CHARS_MAX + 5);
    }
}

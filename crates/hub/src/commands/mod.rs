//! Slash commands: which there are, how they are used, and what an application adds to them.
//!
//! A chat text that begins with `/` is one; `//` says a text with one slash. They are taken apart and done in the
//! shard of the connection that typed them (`shard/slash.rs`), so that no room ever sees them. What the built-in ones
//! mean is written there; here is the table of all of them, fixed when the hub starts.

mod builtin;
mod manifest;
pub(crate) mod parse;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::RoomName;

pub(crate) use self::builtin::Builtin;
use crate::dispatcher::{Context, Handling, Reply};
use crate::error::StartError;

/// Longest name of a command, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 32;
/// The type of the answers that only the sender of a command gets.
pub(crate) const RESULT: &str = "command_result";

/// A command: what it is called, what it takes, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandSpec {
    /// What is typed behind the slash: 1 to 32 of `a-z 0-9 - _`.
    pub name: EcoString,
    /// What it does, in a few words that go on after its name: `says what you do`.
    pub summary: EcoString,
    /// What follows the name.
    pub arguments: Vec<Argument>,
}

impl CommandSpec {
    /// A command without arguments.
    #[must_use]
    pub fn new(name: impl Into<EcoString>, summary: impl Into<EcoString>) -> Self {
        Self { name: name.into(), summary: summary.into(), arguments: Vec::new() }
    }

    /// The same command with one argument more.
    #[must_use]
    pub fn argument(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }

    /// How it is used: `/leave [ROOM]`.
    #[must_use]
    pub fn usage(&self) -> String {
        self.to_string()
    }

    fn check(&self) -> Result<(), &'static str> {
        let in_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if !(1..=NAME_LEN_MAX).contains(&self.name.len()) || !self.name.bytes().all(in_name) {
            return Err("a name has 1 to 32 of a-z 0-9 - _, without the slash");
        }
        if self.arguments.iter().any(|argument| argument.name.trim().is_empty()) {
            return Err("every argument needs a name");
        }
        let texts = self.arguments.iter().rev().skip(1).any(|argument| argument.kind == ArgumentKind::Text);
        if texts {
            return Err("a text takes the rest of the line, so it must be the last argument");
        }
        let pairs = self.arguments.windows(2);
        if pairs.into_iter().any(|pair| pair[0].optional && !pair[1].optional) {
            return Err("what follows an optional argument must be optional, too");
        }
        Ok(())
    }
}

impl fmt::Display for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.name)?;
        for argument in &self.arguments {
            let name = argument.name.to_uppercase();
            if argument.optional { write!(f, " [{name}]")? } else { write!(f, " {name}")? }
        }
        Ok(())
    }
}

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Argument {
    /// What it is called, by handlers and in the usage.
    pub name: EcoString,
    /// What it is.
    pub kind: ArgumentKind,
    /// Whether it may be missing.
    pub optional: bool,
}

/// What an argument is: by this, clients complete it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArgumentKind {
    /// A room's name.
    Room,
    /// A user's id.
    User,
    /// The name of a command.
    Command,
    /// Any word.
    Word,
    /// The rest of the line, as it is.
    Text,
}

impl ArgumentKind {
    /// The kind's name in the manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::User => "user",
            Self::Command => "command",
            Self::Word => "word",
            Self::Text => "text",
        }
    }
}

impl Argument {
    /// An argument that must be given.
    #[must_use]
    pub fn new(name: impl Into<EcoString>, kind: ArgumentKind) -> Self {
        Self { name: name.into(), kind, optional: false }
    }

    /// A room's name.
    #[must_use]
    pub fn room(name: impl Into<EcoString>) -> Self {
        Self::new(name, ArgumentKind::Room)
    }

    /// A user's id.
    #[must_use]
    pub fn user(name: impl Into<EcoString>) -> Self {
        Self::new(name, ArgumentKind::User)
    }

    /// Any word, in quotes if it has blanks.
    #[must_use]
    pub fn word(name: impl Into<EcoString>) -> Self {
        Self::new(name, ArgumentKind::Word)
    }

    /// The rest of the line. Must be the last argument.
    #[must_use]
    pub fn text(name: impl Into<EcoString>) -> Self {
        Self::new(name, ArgumentKind::Text)
    }

    /// The same argument, which may be missing.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// A command as somebody typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invocation {
    /// The room it was typed into, which the client is in; `None` when it was typed into none.
    pub room: Option<RoomName>,
    arguments: Vec<(EcoString, EcoString)>,
}

impl Invocation {
    pub(crate) fn new(room: Option<RoomName>, spec: &CommandSpec, values: Vec<Option<Cow<'_, str>>>) -> Self {
        let given = |(argument, value): (&Argument, Option<Cow<'_, str>>)| {
            value.map(|value| (argument.name.clone(), EcoString::from(&*value)))
        };
        Self { room, arguments: spec.arguments.iter().zip(values).filter_map(given).collect() }
    }

    /// The argument of that name, if it was given; one that is not optional always was.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Does what an application's command says.
///
/// Called in a shard, as a [`Handler`](crate::Handler) is, and under the same rules. What it returns goes to the
/// sender alone ([`Reply::text`] makes what clients show as a command's answer); to tell others, it publishes. Any
/// `Fn(Context, Invocation) -> impl Future<Output = Result<Option<Reply>, Refusal>>` is one.
pub trait CommandHandler: Send + Sync + 'static {
    /// Begins the work for one command.
    fn handle(&self, context: Context, invocation: Invocation) -> Handling;
}

impl<F, Fut> CommandHandler for F
where
    F: Fn(Context, Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Reply>, outspoke_protocol::Refusal>> + Send + 'static,
{
    fn handle(&self, context: Context, invocation: Invocation) -> Handling {
        Box::pin(self(context, invocation))
    }
}

/// Who does a command.
pub(crate) enum Doer {
    Hub(Builtin),
    Application(Box<dyn CommandHandler>),
}

/// A command of the hub.
pub(crate) struct Entry {
    pub(crate) spec: CommandSpec,
    pub(crate) doer: Doer,
}

/// Every command of a hub, by name.
pub(crate) struct Commands {
    by_name: BTreeMap<EcoString, Entry>,
    manifest: Bytes,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Default for Commands {
    /// The built-in ones.
    fn default() -> Self {
        let mut commands = Self { by_name: BTreeMap::new(), manifest: Bytes::new() };
        for builtin in Builtin::ALL {
            commands.insert(builtin.spec(), Doer::Hub(builtin));
        }
        commands
    }
}

impl Commands {
    /// Adds a command, in the place of one of that name.
    pub(crate) fn insert(&mut self, spec: CommandSpec, doer: Doer) {
        self.by_name.insert(spec.name.clone(), Entry { spec, doer });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// Checks the commands and writes them down for clients: none may change from here on.
    pub(crate) fn finish(mut self) -> Result<Self, StartError> {
        for spec in self.specs() {
            let invalid = |problem| StartError::InvalidCommand { name: spec.name.to_string(), problem };
            spec.check().map_err(invalid)?;
        }
        self.manifest = manifest::manifest(self.specs());
        Ok(self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The command of that name, however it is capitalised: keyboards that begin every line with a capital do so here.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        if let Some(entry) = self.by_name.get(name) {
            return Some(entry);
        }
        let capitals = name.len() <= NAME_LEN_MAX && name.bytes().any(|byte| byte.is_ascii_uppercase());
        capitals.then(|| self.by_name.get(name.to_ascii_lowercase().as_str())).flatten()
    }

    pub(crate) fn specs(&self) -> impl Iterator<Item = &CommandSpec> {
        self.by_name.values().map(|entry| &entry.spec)
    }

    /// All of them as JSON.
    pub(crate) fn manifest(&self) -> &Bytes {
        &self.manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_with_a_name_or_arguments_that_cannot_be_typed_is_refused() {
        let ok = CommandSpec::new("roll-2_d", "rolls").argument(Argument::word("dice").optional());
        assert_eq!(ok.check(), Ok(()));
        assert_eq!(ok.usage(), "/roll-2_d [DICE]");
        let word = Argument::word("word");
        for wrong in [
            CommandSpec::new("", "has no name"),
            CommandSpec::new("/me", "has a slash"),
            CommandSpec::new("Me", "has a capital"),
            CommandSpec::new("two words", "has a blank"),
            CommandSpec::new("x".repeat(33), "is too long"),
            CommandSpec::new("x", "").argument(Argument::word(" ")),
            CommandSpec::new("x", "").argument(Argument::text("text")).argument(word.clone()),
            CommandSpec::new("x", "").argument(word.clone().optional()).argument(word.clone()),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn built_in_commands_are_valid_and_found_however_capitalised() {
        let commands = Commands::default().finish().ok();
        let names: Vec<_> =
            commands.iter().flat_map(|commands| commands.specs()).map(|spec| &spec.name).collect();
        assert_eq!(names, ["help", "join", "kick", "leave", "me", "msg", "nick", "shrug", "topic", "who"]);
        let found = |name| commands.as_ref().and_then(|commands| commands.get(name)).is_some();
        assert!(found("me") && found("Me") && !found("mee") && !found(""));
    }
}

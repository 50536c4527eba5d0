//! Gathers what each layer wrote: file, then environment, then flags.
//!
//! Produces, per key, the inputs in rising precedence with their sources, and all problems of *names* (unknown,
//! duplicate, misplaced). Whether a value is good is decided in [`super::resolve`]. Nothing here reads the process's
//! own environment: it is passed in.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::{self, ListAssignment};
use super::error::{Fault, PRINTED_MAX, Problem, Warning, plain};
use super::kind::{Address, Input, Kind};
use super::nearest::nearest;
use super::source::Source;
use super::table::{Key, SectionInfo};
use super::yaml::{self, Entry, Node, Value};

/// The file that is used when none is named, if it exists.
pub const IMPLICIT_FILE: &str = "config.yaml";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "OUTSPOKE_CONFIG";
/// Variables of the command line, which say where a server is and how to be let in. They are no settings.
const OF_THE_COMMAND_LINE: [&str; 5] =
    ["OUTSPOKE_CA", "OUTSPOKE_CONTEXT", "OUTSPOKE_KEY", "OUTSPOKE_SERVER", "OUTSPOKE_TOKEN"];
const PREFIX: &str = "OUTSPOKE_";

/// Where the settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// Which file to read.
    pub file: FileChoice,
    /// Environment variables; those without the prefix are ignored, except `PORT`.
    pub env: Vec<(OsString, OsString)>,
    /// Settings from the command line, later ones win.
    pub flags: Vec<FlagValue>,
}

/// Which file to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FileChoice {
    /// The one that [`FILE_VARIABLE`] names, else [`IMPLICIT_FILE`] in the working directory if there is one.
    #[default]
    Search,
    /// This one, which must exist; `-` is standard input.
    Named(PathBuf),
    /// None, whatever the variable says.
    None,
}

/// One setting from the command line.
#[derive(Clone, PartialEq, Eq)]
pub struct FlagValue {
    /// The flag as written: `--addr`, `--set`.
    pub flag: String,
    /// The key it sets.
    pub key: String,
    /// The value as written.
    pub value: String,
}

/// One input for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) source: Source,
    pub(super) input: Input,
}

/// What all layers wrote.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Per key, in rising precedence.
    pub(super) assignments: HashMap<&'static str, Vec<Assignment>>,
    /// Per list of blocks, in rising precedence.
    pub(super) lists: HashMap<&'static str, Vec<ListAssignment>>,
    pub(super) problems: Vec<Problem>,
    /// Names that are out of use.
    pub(super) warnings: Vec<Warning>,
    /// The file that was used.
    pub(super) file: Option<Arc<str>>,
    /// Whether the file was found rather than named.
    pub(super) implicit: bool,
}

/// Reads all layers.
pub(super) fn gather(sources: &Sources, sections: &[SectionInfo]) -> Layers {
    let mut gathering = Gathering { sections, layers: Layers::default() };
    gathering.file(sources);
    gathering.environment(&sources.env);
    for flag in &sources.flags {
        gathering.flag(flag);
    }
    gathering.layers
}

struct Gathering<'a> {
    sections: &'a [SectionInfo],
    layers: Layers,
}

impl Gathering<'_> {
    /// The setting with this path, or that had it in earlier versions.
    fn key(&self, path: &str) -> Option<&'static str> {
        self.known(path).map(|key| key.path)
    }

    fn known(&self, path: &str) -> Option<Key> {
        let current = self.keys().find(|key| key.path == path);
        current.or_else(|| self.keys().find(|key| key.formerly == Some(path))).copied()
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.sections.iter().flat_map(|section| &section.keys)
    }

    fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.keys().map(|key| key.path)
    }

    /// Whether `path` is a section or the beginning of one, as `cluster` is of `cluster.etcd`.
    fn is_section(&self, path: &str) -> bool {
        !path.is_empty() && self.sections.iter().any(|section| section.path == path)
    }

    fn assign(&mut self, key: &'static str, source: Source, input: Input) {
        self.layers.assignments.entry(key).or_default().push(Assignment { source, input });
    }

    /// What one variable or flag wrote for a setting, found under `name`.
    fn assign_text(&mut self, key: Key, name: &str, source: Source, text: &str) {
        if key.is_list() {
            return self.assign_list_text(key, source, text);
        }
        self.note_former_name(&key, name, &source);
        self.assign(key.path, source, Input::Scalar(text.to_owned()));
    }

    fn assign_list(
        &mut self,
        key: Key,
        source: Source,
        node: Node,
        place: &dyn Fn(yaml::Position) -> Source,
    ) {
        let blocks = blocks::gather(&key, node, place, &mut self.layers.problems);
        self.layers.lists.entry(key.path).or_default().push(ListAssignment { source, blocks });
    }

    /// Variables and flags write lists as YAML or JSON text.
    fn assign_list_text(&mut self, key: Key, source: Source, text: &str) {
        match yaml::parse(text) {
            Ok(node) => self.assign_list(key, source.clone(), node, &|_| source.clone()),
            Err(error) => {
                let fault =
                    Fault::BadValue { key: key.path.into(), value: None, why: format!("is {}", error.what) };
                let first = key.entry.first().map_or("name", |key| key.path);
                self.problem(
                    source,
                    fault,
                    format!("write the list in one line: [{{{first}: ..., ...}}, ...]"),
                );
            }
        }
    }

    fn note_former_name(&mut self, key: &Key, name: &str, at: &Source) {
        if key.formerly == Some(name) {
            let what = format!("{name} is now called {}", key.path);
            let hint = "rename it; the old name works for now".to_owned();
            self.layers.warnings.push(Warning { at: at.clone(), what, hint });
        }
    }

    fn problem(&mut self, at: Source, fault: Fault, hint: impl Into<String>) {
        self.layers.problems.push(Problem { at, fault, hint: hint.into() });
    }

    // The file.

    fn file(&mut self, sources: &Sources) {
        let (path, named_by) = match &sources.file {
            FileChoice::None => return,
            FileChoice::Named(path) => (path.clone(), Some("--config")),
            FileChoice::Search => match file_variable(&sources.env) {
                Some(path) => (path, Some(FILE_VARIABLE)),
                None => (PathBuf::from(IMPLICIT_FILE), None),
            },
        };
        let name: Arc<str> = match path.to_str() {
            Some("-") => "<stdin>".into(),
            _ => plain(&path.display().to_string()).into(),
        };
        match read_text(&path) {
            Ok(text) => {
                self.layers.file = Some(Arc::clone(&name));
                self.layers.implicit = named_by.is_none();
                self.document(&name, &text);
            }
            Err(FileError::Missing) if named_by.is_none() => {}
            Err(error) => {
                let hint = error.hint(named_by);
                self.problem(Source::whole_file(&name), Fault::File(error.to_string()), hint);
            }
        }
    }

    fn document(&mut self, file: &Arc<str>, text: &str) {
        match yaml::parse(text) {
            Ok(Node { value: Value::Null, .. }) => {}
            Ok(Node { value: Value::Map(entries), .. }) => self.block(file, "", entries),
            Ok(Node { at, .. }) => {
                let at = place(file, at);
                self.problem(
                    at,
                    Fault::File("not a YAML mapping".into()),
                    "begin with a section, such as server:",
                );
            }
            Err(error) => {
                let fault = Fault::File(error.what.clone());
                self.problem(place(file, error.at), fault, error.hint);
            }
        }
    }

    fn block(&mut self, file: &Arc<str>, section: &str, entries: Vec<Entry>) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for Entry { key, at, value } in entries {
            if let Some((outer, leaf)) = key.rsplit_once('.').filter(|_| self.key(&key).is_some()) {
                let hint =
                    format!("a dot does not nest in YAML; write {leaf} on an indented line below {outer}:");
                self.problem(place(file, at), Fault::UnknownKey { key: key.clone() }, hint);
                continue;
            }
            let path = if section.is_empty() { key } else { format!("{section}.{key}") };
            if let Some(first) = seen.get(&path) {
                let fault = Fault::Duplicate { key: path, first: *first };
                self.problem(
                    place(file, at),
                    fault,
                    "keep one of the two; YAML does not say which would count",
                );
                continue;
            }
            seen.insert(path.clone(), at.line);
            if let Some(known) = self.known(&path) {
                self.file_value(file, known, &path, at, value);
            } else if self.is_section(&path) {
                self.inner_section(file, &path, value);
            } else {
                let hint = self.unknown_hint(&path, matches!(value.value, Value::Map(_)));
                self.problem(place(file, at), Fault::UnknownKey { key: path }, hint);
            }
        }
    }

    fn file_value(&mut self, file: &Arc<str>, key: Key, path: &str, at: yaml::Position, value: Node) {
        let source = place(file, value.at);
        if key.is_list() {
            return self.assign_list(key, source, value, &|at| place(file, at));
        }
        if let Some(Source::File { line, .. }) =
            self.layers.assignments.get(key.path).map(|all| &all[0].source)
        {
            let fault = Fault::Duplicate { key: key.path.to_owned(), first: *line };
            let hint = match key.formerly {
                Some(former) => format!("keep one of the two; {former} is its old name"),
                None => "keep one of the two".to_owned(),
            };
            return self.problem(place(file, at), fault, hint);
        }
        self.note_former_name(&key, path, &place(file, at));
        self.assign(key.path, source, input(value.value));
    }

    fn inner_section(&mut self, file: &Arc<str>, path: &str, node: Node) {
        match node.value {
            Value::Map(entries) => self.block(file, path, entries),
            // A section whose keys are all commented out.
            Value::Null => {}
            Value::Scalar(_) | Value::List(_) => {
                let hint = format!("put its keys on indented lines below {path}:");
                self.problem(place(file, node.at), Fault::NotASection { key: path.to_owned() }, hint);
            }
        }
    }

    fn example_in(&self, section: &str) -> &'static str {
        let section = self.sections.iter().find(|info| info.path == section);
        section.and_then(|info| info.keys.first()).map_or("server.addr", |key| key.path)
    }

    fn unknown_hint(&self, path: &str, is_block: bool) -> String {
        const GENERAL: &str = "`outspoke config default` prints every key";
        // Looking for near names costs time, and nobody reads that many hints.
        if self.layers.problems.len() > PRINTED_MAX {
            return GENERAL.to_owned();
        }
        if let Some(list) = self.list_inside(path) {
            return format!("{list} is set as a whole: one value with every entry");
        }
        let sections = self.sections.iter().map(|section| section.path);
        if is_block && let Some(section) = nearest(path, sections) {
            return format!("did you mean the section {section}?");
        }
        match nearest(path, self.paths()) {
            Some(key) => format!("did you mean {key}?"),
            None => GENERAL.to_owned(),
        }
    }

    /// The list that `rooms.classes[0].pattern` or `rooms.classes.0.pattern` reaches into.
    fn list_inside(&self, path: &str) -> Option<&'static str> {
        let mut lists = self.keys().filter(|key| key.is_list()).map(|key| key.path);
        lists.find(|list| path.strip_prefix(list).is_some_and(|rest| rest.starts_with(['[', '.'])))
    }

    // The environment.

    fn environment(&mut self, env: &[(OsString, OsString)]) {
        let mut known: Vec<(&str, &OsString)> =
            env.iter().filter_map(|(name, value)| Some((name.to_str()?, value))).collect();
        // The order of the environment is an accident; messages should not be.
        known.sort_unstable_by_key(|(name, _)| *name);
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == "PORT") {
            self.port(&value.to_string_lossy());
        }
        for (name, value) in known {
            if name.starts_with(PREFIX) && name != FILE_VARIABLE && !OF_THE_COMMAND_LINE.contains(&name) {
                self.variable(name, value);
            }
        }
    }

    /// `PORT`, which platforms set, replaces the port of the address that file or default gave.
    fn port(&mut self, text: &str) {
        let source = Source::Env("PORT".to_owned());
        if text.is_empty() {
            return;
        }
        let Some(key) = self.key("server.addr") else { return };
        let Ok(port) = text.trim().parse::<u16>() else {
            let value = super::error::printable(&Input::Scalar(text.to_owned()), false);
            let fault = Fault::BadValue { key: key.into(), value, why: "is not a port".to_owned() };
            self.problem(source, fault, "write a number from 0 to 65535, such as 8080");
            return;
        };
        let before = self.layers.assignments.get(key).and_then(|all| all.last());
        let before = before.and_then(|assignment| Address::read_input(&assignment.input).ok());
        let addr = before.map_or_else(|| format!(":{port}"), |addr| addr.with_port(port).to_string());
        self.assign(key, source, Input::Scalar(addr));
    }

    fn variable(&mut self, name: &str, value: &OsString) {
        let source = Source::Env(name.to_owned());
        if let Some((key, path)) = self.key_of_variable(name) {
            match value.to_str() {
                Some(text) => self.assign_text(key, path, source, text),
                None => {
                    let why = "is not valid UTF-8".to_owned();
                    let fault = Fault::BadValue { key: key.path.into(), value: None, why };
                    self.problem(source, fault, "set the variable again; its bytes are damaged");
                }
            }
        } else if !is_service_link(name) {
            let path = name[PREFIX.len()..].to_lowercase().replace("__", ".");
            let hint = match self.nearest_variable(&path) {
                _ if self.list_inside(&path).is_some() => self.unknown_hint(&path, false),
                Some(key) => format!("did you mean {}?", variable_name(key)),
                None => format!("unset it, or name section and key: {}", variable_name("server.addr")),
            };
            self.problem(source, Fault::UnknownVariable, hint);
        }
    }

    /// The setting that a variable sets, and the path by which it does.
    fn key_of_variable(&self, name: &str) -> Option<(Key, &'static str)> {
        let by = |key: &Key, path: Option<&'static str>| {
            path.filter(|path| variable_name(path) == name).map(|path| (*key, path))
        };
        let current = self.keys().find_map(|key| by(key, Some(key.path)));
        current.or_else(|| self.keys().find_map(|key| by(key, key.formerly)))
    }

    /// Finds `server.addr` for `server_addr` too: one underscore where two belong is the likeliest slip.
    fn nearest_variable(&self, path: &str) -> Option<&'static str> {
        let flat = path.replace('.', "_");
        self.paths().find(|key| key.replace('.', "_") == flat).or_else(|| nearest(path, self.paths()))
    }

    // The flags.

    fn flag(&mut self, FlagValue { flag, key, value }: &FlagValue) {
        let source = Source::Flag(flag.clone());
        match self.known(key) {
            Some(known) => self.assign_text(known, key, source, value),
            None if self.is_section(key) => {
                let hint = format!("name a setting in it, as {} does", self.example_in(key));
                self.problem(source, Fault::NotASection { key: key.clone() }, hint);
            }
            None => {
                let hint = self.unknown_hint(key, false);
                self.problem(source, Fault::UnknownKey { key: key.clone() }, hint);
            }
        }
    }
}

/// The variable that sets a key: `OUTSPOKE_SERVER__ADDR` for `server.addr`.
pub fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

impl Sources {
    /// The file that is used when none is named on the command line.
    pub(crate) fn searched(&self) -> PathBuf {
        file_variable(&self.env).unwrap_or_else(|| PathBuf::from(IMPLICIT_FILE))
    }
}

/// Neither the environment nor what was typed: both have secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FlagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagValue").field("flag", &self.flag).field("key", &self.key).finish_non_exhaustive()
    }
}

fn file_variable(env: &[(OsString, OsString)]) -> Option<PathBuf> {
    let (_, value) = env.iter().find(|(name, _)| name == FILE_VARIABLE)?;
    (!value.is_empty()).then(|| PathBuf::from(value))
}

/// Variables that Kubernetes puts into every pod for a Service named `outspoke` or `outspoke-...`:
/// `OUTSPOKE_SERVICE_HOST`, `OUTSPOKE_PORT`, `OUTSPOKE_PORT_8080_TCP_ADDR`, `OUTSPOKE_REDIS_PORT`. Refusing them would
/// keep the server from starting there.
fn is_service_link(name: &str) -> bool {
    let port_with_number = |rest: &str| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let proto = ["_TCP", "_UDP", "_SCTP"].into_iter().find_map(|proto| digits.strip_prefix(proto));
        digits.len() < rest.len()
            && proto.is_some_and(|field| matches!(field, "" | "_PROTO" | "_PORT" | "_ADDR"))
    };
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || name.contains("_SERVICE_PORT_")
            || name.ends_with("_PORT")
            || name.match_indices("_PORT_").any(|(i, found)| port_with_number(&name[i + found.len()..])))
}

fn place(file: &Arc<str>, at: yaml::Position) -> Source {
    Source::File { file: Arc::clone(file), line: at.line, column: at.column }
}

/// A value as the kinds read it.
pub(super) fn input(value: Value) -> Input {
    match value {
        Value::Null => Input::Null,
        Value::Scalar(text) => Input::Scalar(text),
        Value::Map(_) => Input::Nested,
        Value::List(nodes) => {
            let scalar = |node: Node| match node.value {
                Value::Scalar(text) => Some(text),
                _ => None,
            };
            nodes.into_iter().map(scalar).collect::<Option<Vec<_>>>().map_or(Input::Nested, Input::List)
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("does not exist")]
    Missing,
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is a folder, not a file")]
    Folder,
    #[error("is larger than {} KiB", yaml::BYTES_MAX / 1024)]
    TooLarge,
    #[error("is not UTF-8 text (byte {0})")]
    NotText(usize),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

impl FileError {
    fn hint(&self, named_by: Option<&str>) -> String {
        match (self, named_by) {
            (Self::Missing, by) => {
                let by = by.unwrap_or("--config");
                format!("correct {by}, or create the file: outspoke config default > config.yaml")
            }
            (Self::Io(error), _) if error.kind() == io::ErrorKind::PermissionDenied => {
                "let the server's user read it, for example with chmod a+r".to_owned()
            }
            (Self::Folder, _) => {
                "name the file itself; a container mount of a file that does not exist makes a folder"
                    .to_owned()
            }
            (Self::Io(_), _) => "check the path and the disk, or name another file with --config".to_owned(),
            (Self::TooLarge | Self::NotText(_), _) => {
                "this does not look like a configuration; name the right file with --config".to_owned()
            }
        }
    }
}

fn read_text(path: &PathBuf) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "too large" from "just fits"; never more, whatever the file claims to be.
    let limit = yaml::BYTES_MAX as u64 + 1;
    if path.as_os_str() == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(FileError::Folder);
        }
        file.take(limit).read_to_end(&mut bytes)?;
    }
    if bytes.len() > yaml::BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotText(error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_service_links_are_told_from_mistakes() {
        let links = [
            "OUTSPOKE_SERVICE_HOST",
            "OUTSPOKE_SERVICE_PORT",
            "OUTSPOKE_SERVICE_PORT_HTTP",
            "OUTSPOKE_PORT",
            "OUTSPOKE_PORT_8080_TCP",
            "OUTSPOKE_PORT_8080_TCP_ADDR",
            "OUTSPOKE_REDIS_PORT_6379_TCP_PROTO",
        ];
        for name in links {
            assert!(is_service_link(name), "{name}");
        }
        for name in
            ["OUTSPOKE_SERVER_ADDR", "OUTSPOKE_SERVER__PORT", "OUTSPOKE_PORT_TCP", "OUTSPOKE_LOG_LEVEL"]
        {
            assert!(!is_service_link(name), "{name}");
        }
    }

    #[test]
    fn variable_names_double_the_underscore_between_section_and_key() {
        assert_eq!(variable_name("cluster.etcd.key_prefix"), "OUTSPOKE_CLUSTER__ETCD__KEY_PREFIX");
    }
}

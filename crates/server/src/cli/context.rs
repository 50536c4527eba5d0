//! `outspoke context`: servers by name, with the credential for each.
//!
//! They are in one file of the user's configuration folder (`$XDG_CONFIG_HOME/outspoke/contexts.json`, else
//! `~/.config/outspoke/contexts.json`), which only its owner may read; a file that others may read is refused, as `ssh`
//! does it with keys. Secrets are written there and shown nowhere. Which context counts is [`super::reach`]'s to decide.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ca::Authorities;
use super::output::{clean, columns, print, print_json};
use super::reach::{Address, Credential, Secret};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest name.
const NAME_CHARS_MAX: usize = 64;

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Remember a server: `outspoke context add prod --server https://hub.example.com --key -`
    Add(AddArgs),
    /// Use a context from now on, where no other is named
    Use {
        /// The context's name
        name: String,
    },
    /// List the contexts
    #[command(visible_alias = "list")]
    Ls {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Forget a context and its credential
    #[command(visible_alias = "remove")]
    Rm {
        /// The context's name
        name: String,
    },
    /// Show a context, without its secret
    Show {
        /// The context's name [default: the one in use]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to remember.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The context's name
    name: String,

    /// The server's address: http, https, ws or wss
    #[arg(long, value_name = "URL")]
    server: Address,

    /// One of the server's API keys; "-" reads it from standard input, which keeps it out of the shell's history
    #[arg(long, value_name = "KEY", conflicts_with = "token")]
    key: Option<Secret>,

    /// The token of a user; "-" reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,

    /// A file with the certificate authorities to trust, in PEM, instead of the public ones; its place is remembered
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The tenant that requests are for
    #[arg(long)]
    tenant: Option<String>,

    /// Who to be on a server without authentication
    #[arg(long, value_name = "ID")]
    user: Option<String>,

    /// Use it from now on
    #[arg(long = "use")]
    in_use: bool,
}

/// Why a context cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Neither `XDG_CONFIG_HOME` nor `HOME` is set.
    #[error("there is no folder for contexts: neither XDG_CONFIG_HOME nor HOME is set")]
    NoFolder,
    /// Others may read the secrets.
    #[error("{} may be read by others", .0.display())]
    Exposed(PathBuf),
    /// The file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error("{} is not a file of contexts: {why}", .path.display())]
    Garbage {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// There is no context of that name.
    #[error("there is no context {0:?}")]
    Unknown(String),
    /// No context is in use.
    #[error("no context is in use")]
    NoneInUse,
    /// Not a name.
    #[error("{0:?} is not a name for a context")]
    BadName(String),
    /// Standard input has no secret.
    #[error("standard input has no key or token")]
    NoSecret,
}

impl ContextError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoFolder => "set HOME, or name the server with --server and --key".into(),
            Self::Exposed(path) => {
                format!(
                    "chmod 600 {}; and change the keys in it if others may have seen them",
                    path.display()
                )
            }
            Self::File { .. } => "look at the permissions of the file and of its folder".into(),
            Self::Garbage { .. } => "correct it, or remove it and add the contexts again".into(),
            Self::Unknown(_) | Self::NoneInUse => {
                "`outspoke context ls` lists those there are, `outspoke context add` makes one".into()
            }
            Self::BadName(_) => {
                format!("write 1 to {NAME_CHARS_MAX} letters, digits, - and _, for example prod")
            }
            Self::NoSecret => {
                "pipe it in, for example: pass show hub | outspoke context add hub --key - ...".into()
            }
        }
    }
}

/// A server and how to be let in.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) server: Address,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// Where the authorities are that its certificate is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
}

impl Named {
    /// What lets somebody in.
    pub(super) fn credential(&self) -> Option<Credential> {
        let key = self.key.clone().map(Credential::Key);
        key.or_else(|| self.token.clone().map(Credential::Token))
    }

    fn credential_sort(&self) -> &'static str {
        self.credential().as_ref().map_or("-", Credential::sort)
    }
}

/// The file's content.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Named>,
}

/// The contexts of the user, in their file.
#[derive(Debug)]
pub(super) struct ContextFile {
    path: PathBuf,
    all: Contexts,
}

impl ContextFile {
    /// Where it is, by the variables of the environment.
    pub(super) fn path(env: impl Fn(&str) -> Option<String>) -> Result<PathBuf, ContextError> {
        // The XDG base directory specification: a relative path there is to be ignored.
        let named = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home =
            || env("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".config"));
        let folder = named.or_else(home).ok_or(ContextError::NoFolder)?;
        Ok(folder.join("outspoke").join("contexts.json"))
    }

    /// Reads it; one that is not there has no contexts.
    pub(super) fn open(path: PathBuf) -> Result<Self, ContextError> {
        let failed = |source| ContextError::File { path: path.clone(), source };
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, all: Contexts::default() });
            }
            file => file.map_err(failed)?,
        };
        // Of the file that was opened, not of what has the name by now.
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(ContextError::Exposed(path));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let garbage = |error: serde_json::Error| ContextError::Garbage {
            // Not the parser's own words: they may show what stands there.
            why: format!("see line {} column {}", error.line(), error.column()),
            path: path.clone(),
        };
        let all = serde_json::from_str(&text).map_err(garbage)?;
        Ok(Self { path, all })
    }

    pub(super) fn named(&self, name: &str) -> Result<&Named, ContextError> {
        self.all.contexts.get(name).ok_or_else(|| ContextError::Unknown(name.to_owned()))
    }

    /// The one in use.
    pub(super) fn current(&self) -> Option<&Named> {
        self.all.contexts.get(self.all.current.as_deref()?)
    }

    /// Whole or not at all, and never readable by others, not even for a moment.
    fn save(&self) -> Result<(), ContextError> {
        let failed = |source| ContextError::File { path: self.path.clone(), source };
        let folder = self.path.parent().ok_or(ContextError::NoFolder)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let draft = self.path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            let text = serde_json::to_string_pretty(&self.all)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&draft);
            failed(error)
        })
    }
}

fn own() -> Result<ContextFile, ContextError> {
    ContextFile::open(ContextFile::path(|name| std::env::var(name).ok())?)
}

pub(super) fn run(command: ContextCommand) -> anyhow::Result<()> {
    let mut file = own()?;
    match command {
        ContextCommand::Add(args) => add(&mut file, args),
        ContextCommand::Use { name } => {
            file.named(&name)?;
            let text = format!("ok: {name} is used from now on\n");
            file.all.current = Some(name);
            file.save()?;
            print(&text)
        }
        ContextCommand::Ls { json } => list(&file, json),
        ContextCommand::Rm { name } => {
            file.all.contexts.remove(&name).ok_or_else(|| ContextError::Unknown(name.clone()))?;
            if file.all.current.as_ref() == Some(&name) {
                file.all.current = None;
            }
            file.save()?;
            print(&format!("ok: {name} is forgotten\n"))
        }
        ContextCommand::Show { name, json } => show(&file, name, json),
    }
}

fn add(file: &mut ContextFile, args: AddArgs) -> anyhow::Result<()> {
    let AddArgs { name, server, key, token, ca, tenant, user, in_use } = args;
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(sound) || name.starts_with('-') {
        return Err(ContextError::BadName(name).into());
    }
    let (key, token) = (key.map(given).transpose()?, token.map(given).transpose()?);
    // From wherever it is used later.
    let ca = ca
        .map(|path| Authorities::read(&path).map(|_| std::path::absolute(&path).unwrap_or(path)))
        .transpose()?;
    let named = Named { server, key, token, tenant, user, ca };
    let replaced = file.all.contexts.insert(name.clone(), named).is_some();
    // The first one is meant to be used.
    if in_use || file.all.contexts.len() == 1 {
        file.all.current = Some(name.clone());
    }
    file.save()?;
    let what = if replaced { "replaced" } else { "added" };
    let used = if file.all.current.as_ref() == Some(&name) { ", and used from now on" } else { "" };
    print(&format!("ok: {name} is {what}{used}\n"))
}

/// A secret of the command line, or of standard input.
fn given(secret: Secret) -> Result<Secret, ContextError> {
    if secret.reveal() != "-" {
        return Ok(secret);
    }
    let mut text = String::new();
    let stdin = || ContextError::NoSecret;
    io::stdin().lock().take(64 * 1024).read_to_string(&mut text).map_err(|_| stdin())?;
    let text = text.trim();
    if text.is_empty() { Err(stdin()) } else { Ok(Secret::new(text)) }
}

/// What may be shown of a context.
fn shown(file: &ContextFile, name: &str, named: &Named) -> serde_json::Value {
    let credential = named.credential().as_ref().map(Credential::sort);
    json!({
        "name": name, "server": named.server.to_string(), "credential": credential, "tenant": named.tenant,
        "user": named.user, "ca": named.ca, "current": file.all.current.as_deref() == Some(name),
    })
}

fn list(file: &ContextFile, json: bool) -> anyhow::Result<()> {
    let contexts = &file.all.contexts;
    if json {
        let all: Vec<_> = contexts.iter().map(|(name, named)| shown(file, name, named)).collect();
        return print_json(&all);
    }
    let row = |(name, named): (&String, &Named)| {
        let current = file.all.current.as_ref() == Some(name);
        vec![
            format!("{}{name}", if current { "* " } else { "  " }),
            named.server.to_string(),
            named.credential_sort().to_owned(),
            named.tenant.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    print(&columns(&["  NAME", "SERVER", "CREDENTIAL", "TENANT"], contexts.iter().map(row).collect()))
}

fn show(file: &ContextFile, name: Option<String>, json: bool) -> anyhow::Result<()> {
    let name = name.or_else(|| file.all.current.clone()).ok_or(ContextError::NoneInUse)?;
    let named = file.named(&name)?;
    if json {
        return print_json([&shown(file, &name, named)]);
    }
    let credential = named.credential_sort();
    let mut text = format!("name:       {name}\nserver:     {}\ncredential: {credential}\n", named.server);
    for (what, value) in [("tenant:     ", &named.tenant), ("user:       ", &named.user)] {
        if let Some(value) = value {
            text.push_str(&format!("{what}{}\n", clean(value)));
        }
    }
    if let Some(path) = &named.ca {
        text.push_str(&format!("ca:         {}\n", clean(&path.to_string_lossy())));
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contexts_are_in_the_users_configuration_folder() {
        let path = |xdg: Option<&str>, home: Option<&str>| {
            ContextFile::path(|name| match name {
                "XDG_CONFIG_HOME" => xdg.map(str::to_owned),
                _ => home.map(str::to_owned),
            })
        };
        assert_eq!(path(Some("/x"), Some("/h")).unwrap(), Path::new("/x/outspoke/contexts.json"));
        assert_eq!(path(Some("x"), Some("/h")).unwrap(), Path::new("/h/.config/outspoke/contexts.json"));
        assert!(matches!(path(None, None), Err(ContextError::NoFolder)));
    }

    /// A key that somebody else may read is no secret; neither may a broken file show one.
    #[test]
    fn file_of_contexts_is_the_owners_alone_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("contexts.json");
        let mut file = ContextFile::open(path.clone()).unwrap();
        let server: Address = "https://hub.example.com".parse().unwrap();
        let key = Some(Secret::new("very-secret"));
        let named = Named { server, key, token: None, tenant: Some("acme".into()), user: None, ca: None };
        file.all.contexts.insert("prod".into(), named.clone());
        file.save().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ContextFile::open(path.clone()).unwrap().named("prod").unwrap(), &named);
        assert!(!format!("{:?}", ContextFile::open(path.clone()).unwrap()).contains("very-secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ContextFile::open(path.clone()), Err(ContextError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, r#"{"contexts":{"prod":{"server":"https://a","key":7,"very-secret":1}}}"#).unwrap();
        let why = ContextFile::open(path).unwrap_err().to_string();
        assert!(why.contains("see line 1") && !why.contains("secret"), "{why}");
    }
}

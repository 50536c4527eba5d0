//! Which server a verb talks to, and with which credential: decided here for all of them.
//!
//! Flags come before variables of the environment, these before a context, and that before the settings that `serve` would
//! use here. A credential never goes where it does not belong: a context's is for the context's server only, and the
//! settings' is not for a context's server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::SettingsArgs;
use super::api::ApiError;
use super::ca::Authorities;
use super::context::{ContextFile, Named};
use super::healthcheck::{Target, timeout};
use super::link::Trust;
use crate::config::{Config, load};

/// Variables of the environment that are the command line's, beside the settings.
const SERVER: &str = "OUTSPOKE_SERVER";
const KEY: &str = "OUTSPOKE_KEY";
const TOKEN: &str = "OUTSPOKE_TOKEN";
const CONTEXT: &str = "OUTSPOKE_CONTEXT";
const CA: &str = "OUTSPOKE_CA";

/// Whom to ask, and as whom.
#[derive(Debug, Args)]
pub struct ReachArgs {
    /// Address of the server (of a cluster: any), for example http://127.0.0.1:8080; https, ws and wss do, too [env: OUTSPOKE_SERVER] [default: that of the context in use, else where `serve` would listen with these settings]
    #[arg(long, value_name = "URL", conflicts_with = "context")]
    pub(super) server: Option<Address>,

    /// The context with address and credential, see `outspoke context` [env: OUTSPOKE_CONTEXT] [default: the one in use]
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,

    /// One of the server's API keys [env: OUTSPOKE_KEY, or OUTSPOKE_API__KEYS] [default: that of the context, else the first of api.keys in these settings]
    #[arg(long, value_name = "KEY", conflicts_with = "token")]
    pub(super) key: Option<Secret>,

    /// A user's token instead of a key [env: OUTSPOKE_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<Secret>,

    /// A file with the certificate authorities to trust, in PEM, instead of the public ones, for https and wss [env: OUTSPOKE_CA] [default: that of the context]
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,

    /// The tenant that requests are for
    #[arg(long)]
    pub(super) tenant: Option<String>,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    pub(super) timeout: Duration,

    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// A server's address as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// With `http://` or `https://`, and without the path of WebSockets.
    base: String,
}

impl Address {
    fn target(&self) -> Result<Target, ApiError> {
        Target::from_url(&self.base, "").map_err(ApiError::Server)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let scheme = match scheme {
            "http" | "ws" => "http",
            "https" | "wss" => "https",
            _ => return Err(format!("write for example http://{rest} or https://{rest}")),
        };
        // Where clients connect is the same server.
        let rest = rest.trim_end_matches('/');
        let rest = rest.strip_suffix("/ws").unwrap_or(rest);
        let base = format!("{scheme}://{rest}");
        let sound = Target::from_url(&base, "").is_ok();
        let wrong =
            || "write a host, and no user, query or blanks, for example http://127.0.0.1:8080".to_owned();
        sound.then_some(Self { base }).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.base
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// Printed nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for a request's header.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(secret: &str) -> Result<Self, Self::Err> {
        Ok(Self(secret.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

/// What lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// An application's.
    Key(Secret),
    /// A user's.
    Token(Secret),
}

impl Credential {
    pub(super) fn secret(&self) -> &Secret {
        let (Self::Key(secret) | Self::Token(secret)) = self;
        secret
    }

    /// What sort it is, for people.
    pub(super) fn sort(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Token(_) => "token",
        }
    }
}

/// A server and how to be let in.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) target: Target,
    /// Where the whole HTTP API is: the same, or where these settings have a listener for operators.
    pub(super) api: Target,
    pub(super) credential: Option<Credential>,
    pub(super) tenant: Option<String>,
    /// Who to be where nobody is asked to prove it.
    pub(super) user: Option<String>,
    pub(super) timeout: Duration,
}

impl ReachArgs {
    /// Decides.
    pub(super) fn resolve(&self) -> Result<Reach, ApiError> {
        self.resolve_with(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn resolve_with(&self, env: impl Fn(&str) -> Option<String>) -> Result<Reach, ApiError> {
        let own = self.own_credential(&env);
        let own_ca =
            self.ca.clone().or_else(|| env(CA).filter(|_| self.context.is_none()).map(PathBuf::from));
        let (mut reach, ca) = match (self.address(&env)?, self.named(&env)?) {
            (Some(address), _) => (self.at(address.target()?, own)?, own_ca),
            (None, Some(named)) => (self.in_context(&named, own)?, own_ca.or(named.ca)),
            (None, None) => (self.at_home(own)?, own_ca),
        };
        if let Some(path) = ca.filter(|_| reach.target.secure) {
            reach.target.trust = Trust::Named(Authorities::read(&path)?);
            reach.api.trust = reach.target.trust.clone();
        }
        // What ends a line would end the header.
        let unfit = |secret: &Secret| secret.reveal().contains(char::is_control);
        match &reach.credential {
            Some(credential) if unfit(credential.secret()) => {
                Err(ApiError::Denied { given: Some(credential.sort()), why: String::new() })
            }
            _ => Ok(reach),
        }
    }

    /// The credential of flags and variables, and whether a flag gave it.
    fn own_credential(&self, env: &impl Fn(&str) -> Option<String>) -> Option<(Credential, bool)> {
        let flag = self.key.clone().map(Credential::Key);
        let flag = flag.or_else(|| self.token.clone().map(Credential::Token)).map(|flag| (flag, true));
        let key = || env(KEY).map(|key| (Credential::Key(Secret(key)), false));
        let token = || env(TOKEN).map(|token| (Credential::Token(Secret(token)), false));
        flag.or_else(key).or_else(token)
    }

    /// The address that a flag or, where no flag names another place, a variable gives.
    fn address(&self, env: &impl Fn(&str) -> Option<String>) -> Result<Option<Address>, ApiError> {
        match (&self.server, env(SERVER)) {
            (Some(address), _) => Ok(Some(address.clone())),
            (None, Some(text)) if self.context.is_none() && !self.settings.are_given() => {
                let wrong = |why| ApiError::Variable { name: SERVER, why };
                text.parse().map(Some).map_err(wrong)
            }
            _ => Ok(None),
        }
    }

    /// The context that counts where no address is given. Settings of the command line come before the one in use.
    fn named(&self, env: &impl Fn(&str) -> Option<String>) -> Result<Option<Named>, ApiError> {
        if self.server.is_some() {
            return Ok(None);
        }
        let name = match &self.context {
            Some(name) => Some(name.clone()),
            None if self.settings.are_given() || env(SERVER).is_some() => return Ok(None),
            None => env(CONTEXT),
        };
        let file = match (ContextFile::path(env), &name) {
            (Ok(path), _) => ContextFile::open(path)?,
            (Err(error), Some(_)) => return Err(error.into()),
            // Nobody asked for one.
            (Err(_), None) => return Ok(None),
        };
        match name {
            Some(name) => Ok(Some(file.named(&name)?.clone())),
            None => Ok(file.current().cloned()),
        }
    }

    fn at(&self, target: Target, own: Option<(Credential, bool)>) -> Result<Reach, ApiError> {
        let credential = match own {
            Some((credential, _)) => Some(credential),
            None => configured_key(&load(&self.settings.sources()).map_err(ApiError::Settings)?.config),
        };
        let api = target.clone();
        Ok(Reach { target, api, credential, tenant: self.tenant.clone(), user: None, timeout: self.timeout })
    }

    /// A context named by a flag is not given a variable's credential, which is probably for another server.
    fn in_context(&self, named: &Named, own: Option<(Credential, bool)>) -> Result<Reach, ApiError> {
        let flag_names_it = self.context.is_some();
        let own = own.filter(|(_, by_flag)| *by_flag || !flag_names_it).map(|(credential, _)| credential);
        let target = named.server.target()?;
        Ok(Reach {
            api: target.clone(),
            target,
            credential: own.or_else(|| named.credential()),
            tenant: self.tenant.clone().or_else(|| named.tenant.clone()),
            user: named.user.clone(),
            timeout: self.timeout,
        })
    }

    /// The server of these settings, on this machine.
    fn at_home(&self, own: Option<(Credential, bool)>) -> Result<Reach, ApiError> {
        let config = load(&self.settings.sources()).map_err(ApiError::Settings)?.config;
        let credential = own.map(|(credential, _)| credential).or_else(|| configured_key(&config));
        let (target, api) = (Target::own(&config, ""), Target::of_operators(&config));
        Ok(Reach { target, api, credential, tenant: self.tenant.clone(), user: None, timeout: self.timeout })
    }
}

/// The first key of the settings that is no mere hash.
fn configured_key(config: &Config) -> Option<Credential> {
    let keys = config.api.keys.iter().filter(|key| !key.starts_with("sha256:"));
    keys.map(|key| Credential::Key(Secret::new(key.as_str()))).next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        reach: ReachArgs,
    }

    /// A user's configuration with the contexts `prod`, which is in use, and `open`, without a credential.
    fn home() -> tempfile::TempDir {
        use std::os::unix::fs::OpenOptionsExt as _;
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("outspoke")).unwrap();
        let path = home.path().join("outspoke/contexts.json");
        let text = r#"{"current":"prod","contexts":{
            "prod":{"server":"wss://prod.example.com/ws","key":"prod-key","tenant":"acme"},
            "open":{"server":"http://open.example.com:81","user":"ann"}}}"#;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        home
    }

    /// Clients connect at one address, operators ask at another; a context names one for both.
    #[test]
    fn whole_api_of_the_own_server_is_where_operators_are_answered() {
        let origins = |args: &[&str]| {
            let line = Line::try_parse_from(["x", "--no-config"].iter().chain(args)).unwrap();
            let reach = line.reach.resolve_with(|_| None).unwrap();
            (reach.target.origin(), reach.api.origin())
        };
        let own = ["--set", "server.addr=:9001", "--set", "admin.addr=127.0.0.1:9002"];
        assert_eq!(origins(&own), ("http://localhost:9001".into(), "http://127.0.0.1:9002".into()));
        let other = ["--server", "http://hub.example.com"];
        let at_other = ("http://hub.example.com:80".to_owned(), "http://hub.example.com:80".to_owned());
        assert_eq!(origins(&[&own[..], &other[..]].concat()), at_other);
    }

    /// Origin, secret and tenant.
    fn reach(
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<(String, Option<String>, Option<String>), ApiError> {
        let home = home();
        let config = home.path().to_str().unwrap().to_owned();
        let line = Line::try_parse_from(["x", "--no-config"].iter().chain(args)).unwrap();
        let lookup = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some(config.clone()),
            name => env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        };
        let reach = line.reach.resolve_with(lookup)?;
        let secret = reach.credential.map(|credential| credential.secret().reveal().to_owned());
        Ok((reach.target.origin(), secret, reach.tenant))
    }

    fn found(args: &[&str], env: &[(&str, &str)]) -> (String, Option<String>) {
        let (origin, secret, _) = reach(args, env).unwrap();
        (origin, secret)
    }

    fn pair(origin: &str, secret: &str) -> (String, Option<String>) {
        (origin.to_owned(), (!secret.is_empty()).then(|| secret.to_owned()))
    }

    #[test]
    fn flags_come_before_variables_before_contexts_before_settings() {
        let prod = "https://prod.example.com:443";
        assert_eq!(reach(&[], &[]).unwrap(), (prod.into(), Some("prod-key".into()), Some("acme".into())));
        assert_eq!(found(&[], &[(KEY, "k")]), pair(prod, "k"));
        assert_eq!(found(&[], &[(CONTEXT, "open")]), pair("http://open.example.com:81", ""));
        assert_eq!(found(&[], &[(SERVER, "ws://s:1/ws"), (CONTEXT, "open")]), pair("http://s:1", ""));
        assert_eq!(found(&["--context", "prod"], &[(SERVER, "http://s:1")]), pair(prod, "prod-key"));
        assert_eq!(
            found(&["--server", "http://f:1", "--key", "f"], &[(SERVER, "http://s:1"), (KEY, "k")]),
            pair("http://f:1", "f")
        );
        assert_eq!(found(&["--server", "http://f:1"], &[(TOKEN, "t")]), pair("http://f:1", "t"));
        assert_eq!(
            found(&["--addr", "127.0.0.1:9"], &[(SERVER, "http://s:1")]),
            pair("http://127.0.0.1:9", "")
        );
        assert_eq!(
            found(&["--addr", ":9", "--set", "api.keys=own-key-0123456789"], &[]),
            pair("http://localhost:9", "own-key-0123456789")
        );
    }

    /// A credential for one server shown to another is given away.
    #[test]
    fn credentials_go_only_where_they_belong() {
        assert_eq!(found(&["--server", "http://other:1"], &[]).1, None);
        assert_eq!(found(&["--context", "open"], &[(KEY, "k")]).1, None);
        assert_eq!(found(&["--context", "prod"], &[(KEY, "k")]).1.as_deref(), Some("prod-key"));
        assert_eq!(found(&["--context", "open", "--key", "k"], &[]).1.as_deref(), Some("k"));
        let hash = "api.keys=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(found(&["--addr", ":9", "--set", hash], &[]).1, None);
        assert!(matches!(reach(&["--key", "a\r\nb"], &[]), Err(ApiError::Denied { .. })));
        assert!(matches!(reach(&["--context", "nope"], &[]), Err(ApiError::Context(_))));
    }

    #[test]
    fn file_of_authorities_counts_for_tls_only_and_must_be_one() {
        let missing = ["--ca", "/no/such/ca.pem"];
        assert!(matches!(reach(&missing, &[]), Err(ApiError::Authorities(_))));
        assert!(matches!(reach(&[], &[(CA, "/no/such/ca.pem")]), Err(ApiError::Authorities(_))));
        assert!(
            reach(&["--server", "http://s:1"], &[(CA, "/no/such/ca.pem")]).is_ok(),
            "nothing is encrypted"
        );
        assert!(
            reach(&["--context", "prod"], &[(CA, "/no/such/ca.pem")]).is_ok(),
            "probably for another server"
        );
    }

    #[test]
    fn address_may_be_the_one_that_clients_connect_to() {
        let base = |text: &str| text.parse::<Address>().map(String::from);
        assert_eq!(base("wss://a.example/chat/ws").unwrap(), "https://a.example/chat");
        assert_eq!(base("ws://[::1]:1/").unwrap(), "http://[::1]:1");
        assert!(base("localhost:8080").unwrap_err().contains("http://localhost:8080"));
        for text in ["http://", "http://u:p@a", "http://a b", "ftp://a", "http://a?x=1"] {
            assert!(base(text).is_err(), "{text}");
        }
    }
}

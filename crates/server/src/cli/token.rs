//! `outspoke token`: tokens made and looked at, with the keys of the configuration.
//!
//! `create` signs; `inspect` shows what a token says, and whether a server with this configuration would accept it. What it
//! says is printed also if nobody can know that it is true, and then that is said first, loudly.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use outspoke_auth::{Algorithm, JwtVerifier, SetupError, SigningKey, TOKEN_BYTES_MAX, inspect};
use outspoke_hub::Timestamp;
use serde_json::{Map, Value, json};

use super::SettingsArgs;
use super::api::{Api, encoded};
use super::output::{Screen, count, print, print_json};
use super::reach::ReachArgs;
use crate::config::kind::{Kind, Time};
use crate::config::{Config, load};
use crate::exit::Exit;
use crate::serve::auth;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it: outspoke token create --user anna --for 1h --join 'chat:*'
    Create(Box<CreateArgs>),
    /// Show what a token says, and whether a server with these settings accepts it; exits with 0 if it does.
    Inspect(InspectArgs),
    /// Let a server accept a token no more: outspoke token revoke 3f9c2e
    #[command(after_help = crate::exit::CODES_HELP)]
    Revoke(RevokeArgs),
}

/// What the token is to say.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The user's id
    #[arg(long, value_name = "ID")]
    user: String,

    /// How long it is valid: 30m, 1h, 7d
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    lifetime: Duration,

    /// The name shown to people
    #[arg(long)]
    name: Option<String>,

    /// The tenant
    #[arg(long)]
    tenant: Option<String>,

    /// Which of the user's devices
    #[arg(long)]
    device: Option<String>,

    /// The token's own id, by which it can be revoked [default: a random one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Rooms to come into, with * for any text; may be repeated. Without any list, auth.permissions decides
    #[arg(long, value_name = "PATTERN")]
    join: Vec<String>,

    /// Rooms to say something in; may be repeated
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,

    /// Rooms whose history may be read; may be repeated
    #[arg(long, value_name = "PATTERN")]
    history: Vec<String>,

    /// Rooms of which to ask who is there; may be repeated
    #[arg(long, value_name = "PATTERN")]
    presence: Vec<String>,

    /// Rooms to moderate; may be repeated
    #[arg(long, value_name = "PATTERN")]
    moderate: Vec<String>,

    /// Users to write to privately; may be repeated
    #[arg(long, value_name = "PATTERN")]
    direct: Vec<String>,

    /// Make a token for this one room, to be shown when joining it
    #[arg(long, value_name = "ROOM", conflicts_with_all = ["join", "publish", "history", "presence", "moderate", "direct"])]
    room: Option<String>,

    /// What a token for a room allows there; may be repeated [default: join]
    #[arg(long, value_name = "ACTION", requires = "room", value_parser = ["join", "publish", "history", "presence", "moderate"])]
    allow: Vec<String>,

    /// One more claim, its value as JSON or as text; may be repeated
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = claim_and_value)]
    claim: Vec<(String, Value)>,

    /// The issuer (iss) [default: the first of auth.jwt.issuers]
    #[arg(long)]
    issuer: Option<String>,

    /// For whom it is (aud) [default: the first of auth.jwt.audiences]
    #[arg(long)]
    audience: Option<String>,

    /// File with the private key (PEM, PKCS#8) or the secret [default: a secret of the configuration]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// The key's algorithm [default: what the key can be for]
    #[arg(long, value_name = "NAME", requires = "key", value_parser = algorithm)]
    algorithm: Option<Algorithm>,

    /// The key's id (kid); without --key, chooses among the configuration's secrets
    #[arg(long, value_name = "ID")]
    kid: Option<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// Which token to take back.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The token's id (jti); `outspoke token inspect` shows it
    #[arg(value_name = "ID")]
    id: String,

    /// How long it is remembered: not less than the token lasts
    #[arg(long = "for", value_name = "DURATION", default_value = "30d", value_parser = lifetime)]
    lifetime: Duration,

    /// Let its clients come back with a fresh token
    #[arg(long)]
    reconnect: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Which token to look at.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The token; "-" reads standard input, which keeps it out of the shell's history
    #[arg(value_name = "TOKEN")]
    token: String,

    #[command(flatten)]
    settings: SettingsArgs,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    match Time::read(text) {
        Ok(lifetime) if lifetime < Duration::from_secs(1) => {
            Err("a token needs some time; write 1h".to_owned())
        }
        Ok(lifetime) => Ok(lifetime),
        Err(refusal) => Err(refusal.hint.unwrap_or_else(|| format!("write {}", Time::ACCEPTS))),
    }
}

fn claim_and_value(text: &str) -> Result<(String, Value), String> {
    let (claim, value) = text.split_once('=').ok_or("expected CLAIM=VALUE, for example role=admin")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((claim.to_owned(), value))
}

fn algorithm(text: &str) -> Result<Algorithm, SetupError> {
    Algorithm::named(text)
}

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
enum NoKey {
    #[error(
        "the configuration has no secret to sign with: set auth.jwt.secret (openssl rand -hex 32), or name the \
         issuer's private key with --key FILE"
    )]
    None,
    #[error(
        "the configuration has public keys only, which make no tokens: name the private key with --key FILE"
    )]
    PublicOnly,
    #[error("the configuration has no secret with the id {0:?}: see auth.jwt.keys")]
    NotNamed(String),
    #[error("{file}: {error}", file = file.display())]
    File { file: PathBuf, error: SetupError },
    #[error("the configuration's secret: {0}")]
    Configured(SetupError),
}

pub(super) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(&args).map(|()| ExitCode::SUCCESS),
        TokenCommand::Inspect(args) => look(&args),
        TokenCommand::Revoke(args) => revoke(&args).map(|()| ExitCode::SUCCESS),
    }
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let order = json!({ "reconnect": args.reconnect, "seconds": args.lifetime.as_secs() });
    let ruled: Value =
        Api::of(&args.reach)?.post(&format!("/tokens/{}/revoke", encoded(&args.id)), &order)?;
    if args.json {
        return print_json([&ruled]);
    }
    let until = Screen::detect().time(ruled["until"].as_str().unwrap_or_default());
    let kept =
        if ruled["durable"] == true { "" } else { "; forgotten when the server restarts: it has no store" };
    let ended = count(ruled["clients"].as_u64().unwrap_or(0), "connection");
    print(&format!("ok: token {:?} is revoked until {until}, {ended} ended here{kept}\n", args.id))
}

fn create(args: &CreateArgs) -> anyhow::Result<()> {
    let config = load(&args.settings.sources())?.config;
    let token = signing_key(args, &config)?.sign(&claims(args, &config));
    // Somebody who has just made a token wants to know why it will not work.
    if config.auth.checks_tokens()
        && let Err(why) = judge(&config, &token)?
    {
        let _ = writeln!(io::stderr(), "warning: a server with these settings refuses it: {why}");
    }
    print(&format!("{token}\n"))
}

fn claims(args: &CreateArgs, config: &Config) -> Map<String, Value> {
    let jwt = &config.auth.jwt;
    let now = now_seconds();
    let id = args.id.clone().unwrap_or_else(new_id);
    let mut claims = Map::new();
    let mut put = |claim: &str, value: Value| drop(claims.insert(claim.to_owned(), value));
    put(&jwt.user_claim, args.user.as_str().into());
    put("iat", now.into());
    put("exp", now.saturating_add(args.lifetime.as_secs()).into());
    put("jti", id.into());
    let optional = [
        (jwt.name_claim.as_str(), args.name.as_ref()),
        (&jwt.tenant_claim, args.tenant.as_ref()),
        ("device", args.device.as_ref()),
        ("iss", args.issuer.as_ref().or(jwt.issuers.first())),
        ("aud", args.audience.as_ref().or(jwt.audiences.first())),
        ("room", args.room.as_ref()),
    ];
    for (claim, value) in optional {
        if let Some(value) = value {
            put(claim, value.as_str().into());
        }
    }
    if !args.allow.is_empty() {
        put("allow", json!(args.allow));
    }
    if let Some(rooms) = rooms(args) {
        put("rooms", rooms);
    }
    for (claim, value) in &args.claim {
        put(claim, value.clone());
    }
    claims
}

/// The permissions, if any are given.
fn rooms(args: &CreateArgs) -> Option<Value> {
    let lists = [
        ("join", &args.join),
        ("publish", &args.publish),
        ("history", &args.history),
        ("presence", &args.presence),
        ("moderate", &args.moderate),
        ("direct", &args.direct),
    ];
    let given = lists.iter().filter(|(_, list)| !list.is_empty());
    let rooms: Map<String, Value> = given.map(|(action, list)| ((*action).to_owned(), json!(list))).collect();
    (!rooms.is_empty()).then_some(Value::Object(rooms))
}

/// Enough of a random key to tell tokens apart.
fn new_id() -> String {
    outspoke_auth::new_key().chars().skip(outspoke_auth::KEY_PREFIX.len()).take(22).collect()
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn signing_key(args: &CreateArgs, config: &Config) -> anyhow::Result<SigningKey> {
    let key = match &args.key {
        Some(file) => {
            let bytes = auth::read_key_file(file, "--key")?;
            let key = key_of_file(&bytes, args.algorithm);
            key.map_err(|error| NoKey::File { file: file.clone(), error })?
                .named(args.kid.as_deref().unwrap_or_default())
        }
        None => configured_key(args.kid.as_deref(), config)?,
    };
    Ok(key)
}

/// A key of a file, for the algorithm that was named, or for the first that it can be for.
fn key_of_file(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<SigningKey, SetupError> {
    let is_pem = bytes.starts_with(b"-----BEGIN");
    let read = |algorithm: Algorithm| match algorithm.is_symmetric() {
        true => SigningKey::secret(algorithm, bytes.trim_ascii_end()),
        false => SigningKey::private(algorithm, bytes),
    };
    match algorithm {
        Some(algorithm) => read(algorithm),
        None if !is_pem => read(Algorithm::HS256),
        None => {
            let guesses = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
            guesses.into_iter().find_map(|guess| read(guess).ok()).map_or_else(|| read(Algorithm::RS256), Ok)
        }
    }
}

/// The secret of the configuration that tokens name so, or the first there is.
fn configured_key(kid: Option<&str>, config: &Config) -> anyhow::Result<SigningKey> {
    let jwt = &config.auth.jwt;
    if !jwt.secret.is_empty() && kid.is_none_or(str::is_empty) {
        let key = SigningKey::secret(Algorithm::HS256, jwt.secret.as_bytes());
        return Ok(key.map_err(NoKey::Configured)?);
    }
    let secrets = jwt.keys.iter().enumerate().filter(|(_, key)| key.algorithm.is_symmetric());
    let found = secrets.clone().find(|(_, key)| kid.is_none_or(|kid| kid == key.id));
    let Some((index, key)) = found else {
        return Err(match kid {
            Some(kid) => NoKey::NotNamed(kid.to_owned()),
            None if config.auth.checks_tokens() => NoKey::PublicOnly,
            None => NoKey::None,
        }
        .into());
    };
    let bytes = auth::key_bytes(key, &format!("auth.jwt.keys[{index}]"))?;
    Ok(SigningKey::secret(key.algorithm, &bytes).map_err(NoKey::Configured)?.named(key.id.as_str()))
}

/// Whether a server with these settings accepts the token, and if not, why.
fn judge(config: &Config, token: &str) -> anyhow::Result<Result<(), outspoke_auth::TokenError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let verifier: JwtVerifier = auth::verifier(config)?;
        Ok(verifier.check(token).await)
    })
}

fn look(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let config = load(&args.settings.sources())?.config;
    let token = match args.token.as_str() {
        "-" => {
            let mut text = String::new();
            // One byte more than any token, so that a longer one is told from it.
            io::stdin().take(TOKEN_BYTES_MAX as u64 + 3).read_to_string(&mut text)?;
            text.trim_ascii().to_owned()
        }
        token => token.to_owned(),
    };
    let verdict = if config.auth.checks_tokens() { Some(judge(&config, &token)?) } else { None };
    let (first, exit) = match &verdict {
        Some(Ok(())) => ("VERIFIED: made with a key of this configuration, and accepted".to_owned(), Exit::Success),
        Some(Err(why)) => (format!("REFUSED: {why}. Do not trust what it says:"), Exit::Failure),
        None => (
            "NOT VERIFIED: these settings have no keys for tokens, and anybody could have written what follows"
                .to_owned(),
            Exit::Failure,
        ),
    };
    let inspection = inspect(&token);
    let mut text = format!("{first}\n\nheader: {}\n", shown(inspection.header.as_ref()));
    text.push_str(&format!("claims: {}\n", shown(inspection.claims.as_ref())));
    for (claim, what) in [("iat", "issued"), ("nbf", "valid from"), ("exp", "expires")] {
        if let Some(line) = inspection.claims.as_ref().and_then(|claims| moment(&claims[claim], what)) {
            text.push_str(&line);
        }
    }
    print(&text)?;
    Ok(exit.into())
}

/// JSON for people, who may look at it on a terminal: nothing in it is acted on.
fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "(cannot be read)".to_owned() };
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let harmless = |c: char| {
        c == '\n'
            || !(c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

/// `expires: 2026-11-21T15:00:00Z (in 59m 58s)`.
fn moment(seconds: &Value, what: &str) -> Option<String> {
    let seconds = seconds.as_i64()?;
    let now = i64::try_from(now_seconds()).ok()?;
    let time = Timestamp::from_millis(seconds.checked_mul(1000)?);
    let distance = Duration::from_secs(seconds.abs_diff(now));
    let distance = match seconds <= now {
        true => format!("{distance:?} ago"),
        false => format!("in {distance:?}"),
    };
    Some(format!("{what}: {time} ({distance})\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn claims_are_json_where_they_can_be_and_text_otherwise() {
        assert_eq!(claim_and_value("role=admin").unwrap(), ("role".to_owned(), json!("admin")));
        assert_eq!(claim_and_value("n=1").unwrap().1, json!(1));
        assert_eq!(claim_and_value(r#"x={"a":[true]}"#).unwrap().1, json!({ "a": [true] }));
        assert!(claim_and_value("role").is_err());
    }

    /// A token may have been written to be looked at.
    #[test]
    fn what_is_shown_does_nothing_to_a_terminal() {
        let text = shown(Some(&json!({ "a": "\u{1b}[2J\u{9b}\u{202e}\n" })));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}') && text.contains("\\u{202e}"));
        assert_eq!(shown(None), "(cannot be read)");
    }
}

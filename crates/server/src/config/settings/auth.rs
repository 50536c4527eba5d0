//! `auth.*`: who may connect, and what they may do; and the kinds of value that only these settings have.
//!
//! How keys are read and used is `serve::auth`'s and the crate `outspoke-auth`'s; what does not fit together is said in
//! `config::rules`.

use std::path::PathBuf;
use std::time::Duration;

use outspoke_auth::{Algorithm, KeyHash, VerificationKey};

use super::super::kind::{Count, Flag, Form, Input, Kind, Name, Pattern, Refusal, Size, Text, Time, Url};
use super::super::table::{block, section};

section! {
    /// Who may connect. Without keys, a key set or a hook everybody may, in whatever name (open mode); see
    /// docs/operating/authentication.md, which begins with recipes.
    Auth at "auth" {
        /// Let clients connect without a credential and show it in their first message. Until then they can do nothing else.
        first_message: bool as Flag = "false" {}

        /// How long such a client may take for it.
        timeout: Duration as Time = "10s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the client is closed with code 4006"),
        }

        /// Take credentials from the header Authorization: Bearer CREDENTIAL.
        header: bool as Flag = "true" {}

        /// Take credentials from a subprotocol outspoke.bearer.CREDENTIAL, which a browser offers beside the dialect's own.
        subprotocol: bool as Flag = "true" {}

        /// Name of a cookie with the credential. Browsers send cookies whatever page asks, so it counts only in requests of
        /// pages from cookie_origins. Empty: none.
        cookie: String as Text = "" {}

        /// Origins of the pages from which the cookie counts, each exactly as browsers send it: `https://chat.example.com`.
        cookie_origins: Vec<String> as Words = "" {}

        /// Take credentials from the query of the address (?token=CREDENTIAL). Addresses end up in logs of proxies and in
        /// histories: only for clients that can do nothing else, with tokens that expire within minutes.
        query: bool as Flag = "false" {}

        /// Name of the query parameter.
        query_name: String as Name = "token" {}

        /// PEM file with the certificate authorities of your own by which the certificates of jwks.url and of hook's addresses
        /// are checked, in the place of the public ones. "" for the public ones.
        ca: Option<PathBuf> as File = "" {}
    }
    lists {
        /// API keys, each by its hash. `outspoke key create` makes one and prints both.
        keys: ApiKey = "[]" {
            example: Some("[{name: build-server, user: ci, hash: \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", publish: [\"builds:*\"]}]"),
        }
    }
    with {
        /// What may be done with a credential that does not say.
        permissions: DefaultPermissions,
        /// Tokens (JWT).
        jwt: Jwt,
        /// Published keys.
        jwks: JwksSettings,
        /// The application asked.
        hook: HookSettings,
    }
}

impl Auth {
    /// Whether anything decides who may connect.
    pub fn is_configured(&self) -> bool {
        self.checks_tokens() || !self.keys.is_empty() || !self.hook.connect.is_empty()
    }

    /// Whether there are keys for tokens.
    pub fn checks_tokens(&self) -> bool {
        !self.jwt.secret.is_empty() || !self.jwt.keys.is_empty() || !self.jwks.url.is_empty()
    }
}

section! {
    /// What may be done with a credential that does not say: patterns of room names in which * stands for any text. {user}
    /// stands for the user's id.
    DefaultPermissions at "auth.permissions" {
        /// Coming into a room and being sent what is said there.
        join: Vec<String> as Patterns = "*" {}

        /// Saying something in a room.
        publish: Vec<String> as Patterns = "*" {}

        /// Reading what was said before.
        history: Vec<String> as Patterns = "*" {}

        /// Asking who is in a room, and how far they have read.
        presence: Vec<String> as Patterns = "*" {}

        /// Deleting what others have said, removing users from a room.
        moderate: Vec<String> as Patterns = "" {}

        /// Writing to a user privately; the patterns are of user ids.
        direct: Vec<String> as Patterns = "*" {}
    }
}

section! {
    /// JSON Web Tokens. Each key is for one algorithm, and no token changes that.
    Jwt at "auth.jwt" {
        /// Secret for tokens with HS256: at least 32 bytes, for example the output of `openssl rand -hex 32`. The same as an
        /// entry of keys without an id.
        secret: String as Text = "" { secret: true }

        /// How far the clocks of issuer and server may differ.
        leeway: Duration as Time = "30s" {
            range: Some(("0s", "10m")),
            zero: Some("not at all"),
        }

        /// How long a token may be valid, from when it was issued (or from now, if it does not say) to when it expires.
        lifetime_max: Duration as Time = "0" {
            range: Some(("1s", "3650d")),
            zero: Some("no limit"),
            at_limit: Some("the token is refused"),
        }

        /// Accepted issuers (the claim iss). Empty: any, also none.
        issuers: Vec<String> as Words = "" {}

        /// Names of this service; a token must be for one of them (the claim aud). Empty: none, and a token that is for
        /// somebody is refused.
        audiences: Vec<String> as Words = "" {}

        /// The claim with the user's id.
        user_claim: String as Text = "sub" {}

        /// The claim with the name to show. Without it the user's id is shown.
        name_claim: String as Text = "name" {}

        /// The claim with the tenant.
        tenant_claim: String as Text = "tenant" {}

        /// Accept tokens for single rooms (with the claim room), shown when joining.
        room_tokens: bool as Flag = "true" {}
    }
    lists {
        /// Keys that tokens are checked with.
        keys: JwtKey = "[]" {
            example: Some("[{id: \"2026-11\", algorithm: ES256, file: /etc/outspoke/jwt.pem}]"),
        }
    }
}

block! {
    /// A key that tokens are checked with: a secret that the issuer has too, or the issuer's public key. One of key and file.
    JwtKey {
        /// The id by which tokens name it (kid). One key may have none: it is for tokens that name none.
        id: String as Text = "" { unique: true }

        /// HS256, HS384, HS512 with a secret; RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA with a public key.
        algorithm: Algorithm as AlgorithmName = required {}

        /// The secret as text, or the public key as PEM.
        key: String as KeyText = "" { secret: true }

        /// File with the secret (a newline at its end does not count), or with the public key as PEM or DER.
        file: Option<PathBuf> as File = "" {}
    }
}

block! {
    /// An API key, and who shows it. Where none of the lists of patterns is written, auth.permissions holds; otherwise a list
    /// that is not written allows nothing.
    ApiKey {
        /// The key's own name, for logs and for revoking it.
        name: String as Name = required { unique: true }

        /// The user.
        user: String as Text = required {}

        /// The key's hash: sha256: and 64 hexadecimal digits.
        hash: String as Hash = required {
            // By mistake it may be the key itself that is written here.
            secret: true,
            unique: true,
        }

        /// The name shown to people. "" is the user's id.
        username: String as Text = "" {}

        /// The tenant. "" for a server without tenants.
        tenant: String as Text = "" {}

        /// Rooms to come into.
        join: Vec<String> as Patterns = "" {}

        /// Rooms to say something in.
        publish: Vec<String> as Patterns = "" {}

        /// Rooms whose history may be read.
        history: Vec<String> as Patterns = "" {}

        /// Rooms of which to ask who is there.
        presence: Vec<String> as Patterns = "" {}

        /// Rooms to moderate.
        moderate: Vec<String> as Patterns = "" {}

        /// Users to write to privately.
        direct: Vec<String> as Patterns = "" {}
    }
}

section! {
    /// Keys for tokens that an identity provider publishes (a JWK set). Public keys only.
    JwksSettings at "auth.jwks" {
        /// Address of the set: https://, or http:// on this machine. Empty: there is none.
        url: String as Url = "" {}

        /// After this time the set is fetched again, while the old one is used.
        refresh_interval: Duration as Time = "15m" { range: Some(("1s", "7d")) }

        /// Least time between two requests, whatever keys tokens name.
        refresh_interval_min: Duration as Time = "10s" {
            range: Some(("100ms", "1h")),
            zero: Some("one for every token with a key that is not known; for tests only"),
        }

        /// How long keys are used after they could last be fetched.
        stale_max: Duration as Time = "1d" {
            range: Some(("1m", "30d")),
            at_limit: Some("tokens are refused with status 503 until the provider answers again"),
        }

        /// How long an answer may take.
        timeout: Duration as Time = "5s" {
            range: Some(("100ms", "1m")),
            at_limit: Some("the old keys are used, and the set is asked for again later"),
        }

        /// Size of the set.
        bytes_max: usize as Size = "256KiB" {
            range: Some(("1KiB", "16MiB")),
            at_limit: Some("the answer is not used"),
        }
    }
}

section! {
    /// The application asked over HTTP. Whatever goes wrong, the answer is no.
    HookSettings at "auth.hook" {
        /// Where to ask who connects, for clients without a credential that is known here. Empty: nowhere.
        connect: String as Url = "" {}

        /// Where to ask about every join.
        subscribe: String as Url = "" {}

        /// Where to ask about every message that a client publishes.
        publish: String as Url = "" {}

        /// Signs the questions (Outspoke-Signature), so that the application knows who asks. At least 16 bytes.
        secret: String as Text = "" { secret: true }

        /// Headers of the upgrade that are passed on when somebody connects, such as cookie.
        headers: Vec<String> as Words = "" {}

        /// Allow plain http:// to other machines: only in a network that is your own.
        plain_http: bool as Flag = "false" {}

        /// How long an answer may take, waiting for its turn included.
        timeout: Duration as Time = "3s" {
            range: Some(("100ms", "1m")),
            at_limit: Some("what was asked for is refused with unavailable (status 503), and may be tried again"),
        }

        /// Questions on their way at the same time.
        concurrency_max: usize as Count = "64" {
            range: Some(("1", "10_000")),
            unit: Some("questions"),
            at_limit: Some("further questions wait for their turn"),
        }

        /// Questions that wait for their turn.
        waiting_max: usize as Count = "1024" {
            range: Some(("1", "1_000_000")),
            unit: Some("questions"),
            zero: Some("none waits"),
            at_limit: Some("what was asked for is refused with unavailable, and may be tried again"),
        }

        /// Failures in a row after which the application is not asked for a while.
        failures_max: usize as Count = "5" {
            range: Some(("1", "1000")),
            unit: Some("failures"),
            at_limit: Some("everything that would be asked is refused with unavailable, for hook.pause"),
        }

        /// For how long it is not asked then.
        pause: Duration as Time = "10s" { range: Some(("100ms", "10m")) }

        /// Size of an answer.
        answer_bytes_max: usize as Size = "64KiB" {
            range: Some(("1KiB", "16MiB")),
            at_limit: Some("the answer counts as a failure"),
        }
    }
}

/// Texts without blanks or commas.
#[derive(Debug)]
pub enum Words {}

impl Kind for Words {
    type Value = Vec<String>;
    const NAME: &'static str = "list of texts";
    const ACCEPTS: &'static str =
        "texts without blanks or commas: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<String>, Refusal> {
        list(text.split(','), word)
    }

    fn read_input(input: &Input) -> Result<Vec<String>, Refusal> {
        each(input, Self::read, word)
    }
}

fn word(item: &str) -> Result<String, Refusal> {
    match item.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') || item.is_empty() {
        true => Err(refusal("holds an entry that is empty or has a blank in it")),
        false => Ok(item.to_owned()),
    }
}

/// Patterns of room names.
#[derive(Debug)]
pub enum Patterns {}

impl Kind for Patterns {
    type Value = Vec<String>;
    const NAME: &'static str = "list of patterns";
    const ACCEPTS: &'static str = "names in which each * stands for any text, such as lobby or chat:*: a list in the file, \
                                   separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<String>, Refusal> {
        list(text.split(','), Pattern::read)
    }

    fn read_input(input: &Input) -> Result<Vec<String>, Refusal> {
        each(input, Self::read, Pattern::read)
    }
}

fn list<'a, T>(
    items: impl Iterator<Item = &'a str>,
    read: impl Fn(&str) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    // Nothing at all is an empty list, not a list of nothing.
    let items: Vec<&str> = items.map(str::trim).collect();
    if items == [""] { Ok(Vec::new()) } else { items.into_iter().map(read).collect() }
}

fn each<T>(
    input: &Input,
    whole: fn(&str) -> Result<Vec<T>, Refusal>,
    read: impl Fn(&str) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    match input {
        Input::Scalar(text) => whole(text),
        Input::List(items) => items.iter().map(|item| read(item.trim())).collect(),
        Input::Null => Err(refusal("has no value").hint("write [] for none")),
        Input::Nested => Err(refusal("is a block, but takes a list")),
    }
}

fn refusal(why: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal { why: why.into(), hint: None }
}

/// What a key is for.
#[derive(Debug)]
pub enum AlgorithmName {}

impl Kind for AlgorithmName {
    type Value = Algorithm;
    const NAME: &'static str = "algorithm";
    const ACCEPTS: &'static str =
        "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";
    const FORM: Form = Form::Word;

    fn read(text: &str) -> Result<Algorithm, Refusal> {
        Algorithm::named(text).map_err(|_| refusal("is no algorithm that is known here"))
    }
}

/// A secret, or PEM, which has several lines.
#[derive(Debug)]
pub enum KeyText {}

impl Kind for KeyText {
    type Value = String;
    const NAME: &'static str = "key";
    const ACCEPTS: &'static str = "a secret as text, or a public key as PEM";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        Ok(text.to_owned())
    }
}

/// A file, or nothing.
#[derive(Debug)]
pub enum File {}

impl Kind for File {
    type Value = Option<PathBuf>;
    const NAME: &'static str = "file";
    const ACCEPTS: &'static str = "a path such as /etc/outspoke/jwt.pem, or \"\" for none";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Option<PathBuf>, Refusal> {
        if text.chars().any(char::is_control) {
            return Err(refusal("contains a control character"));
        }
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

/// The hash of an API key.
#[derive(Debug)]
pub enum Hash {}

impl Kind for Hash {
    type Value = String;
    const NAME: &'static str = "hash";
    const ACCEPTS: &'static str = "sha256: and 64 hexadecimal digits, as `outspoke key create` prints them";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<String, Refusal> {
        // In lower case, so that the same hash twice is seen.
        let hash = KeyHash::parse(text).map_err(|_| refusal("is no hash of an API key"))?;
        Ok(hash.to_string())
    }
}

impl JwtKey {
    /// The key, from these bytes.
    ///
    /// # Errors
    /// It cannot be used, with the cure.
    pub fn read(&self, bytes: &[u8]) -> Result<VerificationKey, outspoke_auth::SetupError> {
        let key = match self.algorithm.is_symmetric() {
            true => VerificationKey::secret(self.algorithm, bytes),
            false => VerificationKey::public(self.algorithm, bytes),
        };
        Ok(key?.named(self.id.as_str()))
    }
}

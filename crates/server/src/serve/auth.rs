//! The settings under `auth` as the hub's authenticator and authorizer.
//!
//! Used when the server starts, and when its configuration is read again; `outspoke token` makes and checks tokens with the same keys. Key files are read here and
//! nowhere else. Nothing configured is open mode, which is the hub's own.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use arc_swap::ArcSwap;
use http::request::Parts;
use outspoke_auth::{
    Algorithm, ApiKeyVerifier, Authorities, ClaimRules, FirstOf, Hook, HookOptions, Jwks, JwksOptions,
    JwtVerifier, KeyHash, RoomAuthorizer, SetupError, Sources, TokenAuthenticator, TokenVerifier,
    VerificationKey,
};
use outspoke_hub::{
    Action, Ask, Asks, AuthError, AuthFailure, Authentication, Authenticator, Authorization, Authorizer,
    HubBuilder, Identity, Permissions,
};

use crate::config::Config;
use crate::config::settings::auth::{ApiKey, Auth, DefaultPermissions, JwksSettings, JwtKey};
use crate::reload::part::Step;
use crate::startup::StartError;

/// Longest key file; no key is nearly as long.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest file with authorities: all public ones together are a fifth of it.
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Who decides who may connect and what they may do, as one configuration says it.
#[derive(Debug)]
pub(super) struct Access {
    authenticator: Option<TokenAuthenticator>,
    authorizer: RoomAuthorizer,
    /// The published keys, and what they are fetched by.
    jwks: Option<(Provider, Jwks)>,
}

/// Where published keys come from: the settings, and the content of the file with the authorities.
type Provider = (JwksSettings, Option<Vec<u8>>);

impl Access {
    /// What the settings say. To be made inside of the runtime that its requests are to run in. Keys that were fetched for
    /// `former` are kept if they come from the same place.
    ///
    /// # Errors
    /// A key, a file or an address cannot be used.
    pub(super) fn of(config: &Config, former: Option<&Self>) -> Result<Self, StartError> {
        let auth = &config.auth;
        let kept = former.and_then(|former| former.jwks.as_ref());
        let (pem, authorities) = authorities(auth)?;
        let provider = (auth.jwks.clone(), pem);
        let kept = kept.filter(|(from, _)| *from == provider).map(|(_, jwks)| jwks.clone());
        let jwks = match kept {
            None if auth.jwks.url.is_empty() => None,
            None => Some(jwks(config, &authorities)?),
            kept => kept,
        };
        let jwt = match auth.checks_tokens() {
            true => Some(verifier_with(config, jwks.clone())?),
            false => None,
        };
        let sources = sources(auth).map_err(|error| StartError::auth("auth.cookie_origins", error))?;
        let hook = hook(config, &sources, &authorities)?;
        let authorizer = authorizer(auth, jwt.clone(), hook.clone());
        let authenticator =
            auth.is_configured().then(|| authenticator(config, jwt, hook, sources)).transpose()?;
        Ok(Self { authenticator, authorizer, jwks: jwks.map(|jwks| (provider, jwks)) })
    }

    /// Behind the back of whoever starts: a provider that is away is no reason not to serve those who are here.
    fn prefetch(&self) {
        if let Some((_, jwks)) = self.jwks.clone() {
            tokio::spawn(async move { jwks.prefetch().await });
        }
    }

    /// Whether `next` can follow while the server runs: the hub asks at its start whether there is anybody to ask.
    fn can_become(&self, next: &Self) -> anyhow::Result<()> {
        match (self.authenticator.is_some(), next.authenticator.is_some()) {
            (true, false) => {
                bail!("without keys, a key set or a hook everybody may connect; that takes a restart")
            }
            (false, true) => {
                bail!("so far everybody may connect; to begin to ask for credentials takes a restart")
            }
            _ => {}
        }
        if self.authorizer.asks() != next.authorizer.asks() {
            bail!(
                "to begin or to end asking the application about joins or messages (auth.hook.subscribe, \
                   auth.hook.publish) takes a restart"
            );
        }
        Ok(())
    }
}

/// The [`Access`] in force, which another configuration can change.
#[derive(Clone, Debug)]
pub(super) struct Live(Arc<ArcSwap<Access>>);

impl Live {
    /// As configured, and asked by the hub to be.
    ///
    /// # Errors
    /// As [`Access::of`].
    pub(super) fn begin(config: &Config, builder: HubBuilder) -> Result<(Self, HubBuilder), StartError> {
        let access = Access::of(config, None)?;
        access.prefetch();
        let live = Self(Arc::new(ArcSwap::from_pointee(access)));
        let access = live.0.load();
        let asks = access.authorizer.asks();
        let builder = match access.authenticator.is_some() {
            // Nobody to ask is open mode, which the hub has and says.
            false => builder,
            true => builder.authenticator(live.clone()).on_auth_failure(told),
        };
        let builder = match access.authenticator.is_some() || asks.join || asks.publish {
            false => builder,
            true => builder.authorizer(live.clone()),
        };
        drop(access);
        Ok((live, builder))
    }

    /// What the settings would have in its place.
    ///
    /// # Errors
    /// It cannot be used, or takes a restart.
    pub(super) fn prepare(&self, config: &Config) -> anyhow::Result<Step> {
        let former = self.0.load_full();
        let next = Access::of(config, Some(&former)).map_err(|error| anyhow!("{error}"))?;
        former.can_become(&next)?;
        next.prefetch();
        Ok(Step::swap(&self.0, next))
    }
}

/// The files that the settings name.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let auth = &config.auth;
    auth.jwt.keys.iter().filter_map(|key| key.file.clone()).chain(auth.ca.clone()).collect()
}

impl Authenticator for Live {
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        let access = self.0.load_full();
        Box::pin(async move {
            match &access.authenticator {
                Some(authenticator) => authenticator.authenticate(request).await,
                None => Err(AuthError::unauthorized("nobody may connect at the moment")),
            }
        })
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        let access = self.0.load_full();
        Box::pin(async move {
            match &access.authenticator {
                Some(authenticator) => authenticator.authenticate_token(token).await,
                None => Err(AuthError::unauthorized("nobody may connect at the moment")),
            }
        })
    }
}

impl Authorizer for Live {
    fn asks(&self) -> Asks {
        self.0.load().authorizer.asks()
    }

    fn authorize(&self, ask: Ask) -> Authorization<'_> {
        let access = self.0.load_full();
        Box::pin(async move { access.authorizer.authorize(ask).await })
    }
}

fn authenticator(
    config: &Config,
    jwt: Option<JwtVerifier>,
    hook: Option<Hook>,
    sources: Sources,
) -> Result<TokenAuthenticator, StartError> {
    let auth = &config.auth;
    let mut verifiers: Vec<Arc<dyn TokenVerifier>> = Vec::new();
    if let Some(jwt) = jwt {
        verifiers.push(Arc::new(jwt));
    }
    if !auth.keys.is_empty() {
        let keys = api_keys(auth).map_err(|error| StartError::auth("auth.keys", error))?;
        verifiers.push(Arc::new(keys));
    }
    let authenticator = TokenAuthenticator::new(FirstOf::new(verifiers)).from_sources(sources);
    Ok(match hook.filter(|_| !auth.hook.connect.is_empty()) {
        Some(hook) => authenticator.or_else(Arc::new(hook)),
        None => authenticator,
    })
}

/// Not louder: whoever tries credentials must not fill the log.
fn told(failure: &AuthFailure) {
    let address = failure.address.map(|address| address.to_string()).unwrap_or_default();
    let code = failure.code.name();
    tracing::debug!(address, code, reason = %failure.detail, "a credential was not accepted");
}

fn authorizer(auth: &Auth, jwt: Option<JwtVerifier>, hook: Option<Hook>) -> RoomAuthorizer {
    let authorizer = match jwt.filter(|_| auth.jwt.room_tokens) {
        Some(jwt) => RoomAuthorizer::new().tokens(jwt),
        None => RoomAuthorizer::new(),
    };
    match hook.filter(|hook| hook.asks().join || hook.asks().publish) {
        Some(hook) => authorizer.hook(hook),
        None => authorizer,
    }
}

fn sources(auth: &Auth) -> Result<Sources, SetupError> {
    let mut sources = Sources::default().header(auth.header).subprotocol(auth.subprotocol);
    if !auth.cookie.is_empty() {
        sources = sources.cookie(auth.cookie.as_str(), auth.cookie_origins.iter().cloned())?;
    }
    Ok(if auth.query { sources.query(auth.query_name.as_str()) } else { sources })
}

/// Checks tokens with all the keys that are configured.
///
/// # Errors
/// A key, a file or an address cannot be used.
pub(crate) fn verifier(config: &Config) -> Result<JwtVerifier, StartError> {
    let jwks = match config.auth.jwks.url.is_empty() {
        true => None,
        false => Some(jwks(config, &authorities(&config.auth)?.1)?),
    };
    verifier_with(config, jwks)
}

fn verifier_with(config: &Config, jwks: Option<Jwks>) -> Result<JwtVerifier, StartError> {
    let auth = &config.auth;
    let mut keys: Vec<VerificationKey> = Vec::new();
    if !auth.jwt.secret.is_empty() {
        let secret = VerificationKey::secret(Algorithm::HS256, auth.jwt.secret.as_bytes());
        keys.push(secret.map_err(|error| StartError::auth("auth.jwt.secret", error))?);
    }
    for (index, key) in auth.jwt.keys.iter().enumerate() {
        let setting = format!("auth.jwt.keys[{index}]");
        let bytes = key_bytes(key, &setting)?;
        keys.push(key.read(&bytes).map_err(|error| StartError::auth(setting, error))?);
    }
    let verifier = JwtVerifier::new(keys, claim_rules(config));
    let verifier = verifier.map_err(|error| StartError::auth("auth.jwt.keys", error))?;
    Ok(match jwks {
        Some(jwks) => verifier.with_jwks(jwks),
        None => verifier,
    })
}

/// Who vouches for whoever is asked over https, and the content of the file that says so.
fn authorities(auth: &Auth) -> Result<(Option<Vec<u8>>, Authorities), StartError> {
    let Some(file) = &auth.ca else { return Ok((None, Authorities::default())) };
    let pem = read_file(file, "auth.ca", CA_FILE_BYTES_MAX)?;
    let authorities = Authorities::from_pem(&pem).map_err(|error| StartError::auth("auth.ca", error))?;
    Ok((Some(pem), authorities))
}

fn jwks(config: &Config, authorities: &Authorities) -> Result<Jwks, StartError> {
    let mut options = jwks_options(config);
    options.authorities = authorities.clone();
    let jwks = Jwks::new(&config.auth.jwks.url, options);
    jwks.map_err(|error| StartError::auth("auth.jwks.url", error))
}

/// The bytes of a key, from the settings or from its file.
///
/// # Errors
/// The file cannot be read, or is no key by its size.
pub(crate) fn key_bytes(key: &JwtKey, setting: &str) -> Result<Vec<u8>, StartError> {
    let Some(file) = &key.file else { return Ok(key.key.as_bytes().to_vec()) };
    let bytes = read_key_file(file, setting)?;
    // Editors and `echo` end files with a newline that nobody means.
    let is_text = key.algorithm.is_symmetric();
    Ok(if is_text { without_newline(&bytes).to_vec() } else { bytes })
}

fn without_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// All of a small file.
pub(crate) fn read_key_file(file: &Path, setting: &str) -> Result<Vec<u8>, StartError> {
    read_file(file, setting, KEY_FILE_BYTES_MAX)
}

fn read_file(file: &Path, setting: &str, bytes_max: u64) -> Result<Vec<u8>, StartError> {
    let failed = |error| StartError::KeyFile { setting: setting.to_owned(), file: file.to_owned(), error };
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(failed(std::io::Error::other("it is larger than what it should be")));
    }
    Ok(bytes)
}

fn claim_rules(config: &Config) -> ClaimRules {
    let jwt = &config.auth.jwt;
    let mut rules = ClaimRules::default();
    rules.leeway = jwt.leeway;
    rules.lifetime_max = (!jwt.lifetime_max.is_zero()).then_some(jwt.lifetime_max);
    rules.issuers.clone_from(&jwt.issuers);
    rules.audiences.clone_from(&jwt.audiences);
    rules.user_claim.clone_from(&jwt.user_claim);
    rules.name_claim.clone_from(&jwt.name_claim);
    rules.tenant_claim.clone_from(&jwt.tenant_claim);
    rules.permissions = default_permissions(&config.auth.permissions);
    rules.user_id_bytes_max = config.limits.user_id_bytes_max;
    rules.username_chars_max = config.limits.username_chars_max;
    rules
}

fn jwks_options(config: &Config) -> JwksOptions {
    let jwks = &config.auth.jwks;
    let mut options = JwksOptions::default();
    options.refresh_interval = jwks.refresh_interval;
    options.refresh_interval_min = jwks.refresh_interval_min;
    options.stale_max = jwks.stale_max;
    options.timeout = jwks.timeout;
    options.bytes_max = jwks.bytes_max;
    options
}

fn hook(config: &Config, sources: &Sources, authorities: &Authorities) -> Result<Option<Hook>, StartError> {
    let hook = &config.auth.hook;
    let url = |url: &String| (!url.is_empty()).then(|| url.clone());
    let mut options = HookOptions::default();
    (options.connect, options.subscribe, options.publish) =
        (url(&hook.connect), url(&hook.subscribe), url(&hook.publish));
    if options.connect.is_none() && options.subscribe.is_none() && options.publish.is_none() {
        return Ok(None);
    }
    options.plain_http = hook.plain_http;
    options.timeout = hook.timeout;
    options.concurrency_max = hook.concurrency_max;
    options.waiting_max = hook.waiting_max;
    options.answer_bytes_max = hook.answer_bytes_max;
    options.failures_max = u32::try_from(hook.failures_max).unwrap_or(u32::MAX);
    options.pause = hook.pause;
    options.headers.clone_from(&hook.headers);
    options.sources = sources.clone();
    options.authorities = authorities.clone();
    options.secret = url(&hook.secret);
    options.permissions = default_permissions(&config.auth.permissions);
    options.user_id_bytes_max = config.limits.user_id_bytes_max;
    options.username_chars_max = config.limits.username_chars_max;
    Hook::new(options).map(Some).map_err(|error| StartError::auth("auth.hook", error))
}

fn api_keys(auth: &Auth) -> Result<ApiKeyVerifier, SetupError> {
    auth.keys.iter().try_fold(ApiKeyVerifier::new(), |keys, key| {
        let name = if key.username.is_empty() { &key.user } else { &key.username };
        let identity = Identity::user(key.user.as_str())
            .named(name.as_str())
            .of_tenant(key.tenant.as_str())
            .with_permissions(key_permissions(key, &auth.permissions));
        keys.key(key.name.as_str(), KeyHash::parse(&key.hash)?, identity)
    })
}

fn default_permissions(lists: &DefaultPermissions) -> Permissions {
    permissions([
        (Action::Join, &lists.join),
        (Action::Publish, &lists.publish),
        (Action::History, &lists.history),
        (Action::Presence, &lists.presence),
        (Action::Moderate, &lists.moderate),
        (Action::Direct, &lists.direct),
    ])
}

/// Its own lists, or those of everybody if it has none.
fn key_permissions(key: &ApiKey, general: &DefaultPermissions) -> Permissions {
    let own = permissions([
        (Action::Join, &key.join),
        (Action::Publish, &key.publish),
        (Action::History, &key.history),
        (Action::Presence, &key.presence),
        (Action::Moderate, &key.moderate),
        (Action::Direct, &key.direct),
    ]);
    if own == Permissions::nothing() { default_permissions(general) } else { own }
}

fn permissions(lists: [(Action, &Vec<String>); 6]) -> Permissions {
    let patterns = lists.iter().flat_map(|(action, list)| list.iter().map(|pattern| (*action, pattern)));
    patterns.fold(Permissions::nothing(), |all, (action, pattern)| all.allow(action, pattern.as_str()))
}

//! JSON Web Tokens (RFC 7519), with the advice of RFC 8725 taken.
//!
//! The road of a token: [`envelope`] takes it apart, a key is found by its `kid` ([`key`], or [`crate::jwks`] for keys that an
//! identity provider publishes), the key checks it, [`claims`] says whether it is good now and whose it is. Nothing a token
//! says chooses an algorithm, an address or a file.
//!
//! Cryptography is aws-lc-rs's, which TLS brings anyway. The envelope is read here and not by a JWT library: what must be refused
//! (a key twice, a second spelling, parameters that bring keys, claims of other types) is what a lenient reader does not show,
//! and what is left besides is one call. The tests have another library make the tokens.

pub(crate) mod claims;
pub(crate) mod envelope;
pub(crate) mod json;
pub(crate) mod key;
mod sign;

use std::fmt;
use std::sync::Arc;

use outspoke_hub::{Identity, Timestamp};

use self::claims::{ClaimRules, Claims, RoomGrant, Times};
use self::envelope::Envelope;
use self::key::{KeySet, VerificationKey};
use crate::error::{SetupError, TokenError};
use crate::jwks::Jwks;
use crate::verifier::{TokenVerifier, Verification};

pub use envelope::TOKEN_BYTES_MAX;
pub use key::Algorithm;
pub use sign::SigningKey;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Checks tokens.
#[derive(Clone)]
pub struct JwtVerifier {
    keys: Arc<KeySet>,
    jwks: Option<Jwks>,
    rules: Arc<ClaimRules>,
    clock: Clock,
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier")
            .field("keys", &self.keys)
            .field("jwks", &self.jwks)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Accepts tokens made with these keys.
    ///
    /// A token's `kid` must be the id of a key. A token without one is for the one key that has no id, or for the only key
    /// there is.
    ///
    /// # Errors
    /// Two keys have the same id, or several have none.
    pub fn new(keys: Vec<VerificationKey>, rules: ClaimRules) -> Result<Self, SetupError> {
        let clock: Clock = Arc::new(|| Timestamp::from_system_time(std::time::SystemTime::now()));
        Ok(Self { keys: Arc::new(KeySet::new(keys)?), jwks: None, rules: Arc::new(rules), clock })
    }

    /// Accepts tokens made with published keys too.
    #[must_use]
    pub fn with_jwks(mut self, jwks: Jwks) -> Self {
        self.jwks = Some(jwks);
        self
    }

    /// Tells the time by another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub async fn identify(&self, token: &str) -> Result<Identity, TokenError> {
        let (claims, times) = self.accept(token).await?;
        self.rules.identity(claims, times)
    }

    /// Whether the token would be accepted for what it is for: to connect, or to join a room.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, token: &str) -> Result<(), TokenError> {
        let (claims, times) = self.accept(token).await?;
        match claims.contains_key("room") {
            true => self.rules.room_grant(&claims, times).map(drop),
            false => self.rules.identity(claims, times).map(drop),
        }
    }

    /// What a token for a room allows, and to whom.
    pub(crate) async fn room_grant(&self, token: &str) -> Result<RoomGrant, TokenError> {
        let (claims, times) = self.accept(token).await?;
        self.rules.room_grant(&claims, times)
    }

    /// The claims of a token that is genuine and good now.
    async fn accept(&self, token: &str) -> Result<(Claims, Times), TokenError> {
        let envelope = Envelope::parse(token)?;
        self.check_signature(&envelope).await?;
        let claims = envelope.claims()?;
        let times = self.rules.check(&claims, (self.clock)())?;
        Ok((claims, times))
    }

    async fn check_signature(&self, token: &Envelope<'_>) -> Result<(), TokenError> {
        let kid = token.kid.as_deref();
        if let Some(key) = self.keys.find(kid) {
            return key.check(token);
        }
        match &self.jwks {
            None => Err(TokenError::UnknownKey),
            // An algorithm that no published key can have is not worth a request.
            Some(_)
                if !Algorithm::ALL
                    .iter()
                    .any(|known| !known.is_symmetric() && known.name() == token.algorithm) =>
            {
                Err(TokenError::UnknownKey)
            }
            Some(jwks) => jwks.key(kid).await?.check(token),
        }
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a> {
        Box::pin(async move { Ok(self.identify(token).await?) })
    }

    /// Whatever has a dot in it; no API key made here has one.
    fn recognizes(&self, token: &str) -> bool {
        token.contains('.')
    }
}

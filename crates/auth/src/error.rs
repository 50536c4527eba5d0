//! Why a credential is not accepted.
//!
//! Made by every verifier here, and turned into the hub's [`AuthError`], which decides the HTTP status. The texts go to
//! clients and into logs: they name what is wrong and never quote what was shown.

use outspoke_hub::{AuthError, ErrorCode};

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// More bytes than any token needs; nothing of it was looked at.
    #[error("the token is longer than {max} bytes")]
    TooLong {
        /// How long a token may be.
        max: usize,
    },
    /// It is no token in compact form (RFC 7515, section 3.1).
    #[error("this is no token: {0}")]
    Malformed(&'static str),
    /// Its header asks for something that is not done here.
    #[error("the token's header is not accepted: {0}")]
    Header(&'static str),
    /// Its header names another algorithm than the key is for.
    #[error("the token names another algorithm than its key is for")]
    Algorithm,
    /// No key has its `kid`, or it has none and several keys could be meant.
    #[error("the token's key is not known: no key here has its kid")]
    UnknownKey,
    /// It was changed, or somebody else made it.
    #[error("the token's signature does not fit")]
    Signature,
    /// A claim that it must have is missing.
    #[error("the token has no claim {claim:?}")]
    Missing {
        /// Which.
        claim: String,
    },
    /// A claim has another type than it must have.
    #[error("the token's claim {claim:?} must be {expected}")]
    ClaimType {
        /// Which.
        claim: String,
        /// What it must be.
        expected: &'static str,
    },
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iat` has not come.
    #[error("the token was issued in the future: see that the clocks of issuer and server agree")]
    FromTheFuture,
    /// It is valid for longer than tokens may be.
    #[error("the token is valid for longer than {max_seconds} s, which is the most accepted here")]
    TooLasting {
        /// How long it may be valid.
        max_seconds: u64,
    },
    /// `iss` is none of the accepted ones.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` names none of the accepted ones.
    #[error("the token is for another audience")]
    Audience,
    /// It is for a room, and was shown to connect; or the other way round.
    #[error("{0}")]
    Purpose(&'static str),
    /// What it says of the user cannot be.
    #[error("the token's claim {claim:?} {problem}")]
    Identity {
        /// Which claim.
        claim: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The keys to look at it with are not here, and cannot be had at the moment.
    #[error("tokens cannot be checked at the moment; try again in a few seconds")]
    Unavailable,
}

impl TokenError {
    pub(crate) fn missing(claim: &str) -> Self {
        Self::Missing { claim: claim.to_owned() }
    }

    pub(crate) fn wrong_type(claim: &str, expected: &'static str) -> Self {
        Self::ClaimType { claim: claim.to_owned(), expected }
    }

    pub(crate) fn identity(claim: &str, problem: impl Into<String>) -> Self {
        Self::Identity { claim: claim.to_owned(), problem: problem.into() }
    }
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Unavailable => ErrorCode::Unavailable,
            _ => ErrorCode::Unauthorized,
        };
        Self::new(code, error.to_string())
    }
}

/// Why a key, or what else was configured, cannot be used. The texts say the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A secret is shorter than the hash (RFC 7518, section 3.2).
    #[error(
        "a secret for {algorithm} needs at least {min} bytes, this one has {len}: make one with `openssl rand -hex {min}`"
    )]
    SecretTooShort {
        /// For which algorithm.
        algorithm: &'static str,
        /// Bytes needed.
        min: usize,
        /// Bytes given.
        len: usize,
    },
    /// What was given as a secret is a key that others know, or may know.
    #[error(
        "what is given as a secret for {algorithm} is {found}: whoever has the public key could make tokens with it. \
             Use it with the algorithm it is made for (RS256, ES256, EdDSA, ...), or make a secret with `openssl rand -hex 32`"
    )]
    SecretIsAKey {
        /// For which algorithm.
        algorithm: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A public key cannot be read, or is of another kind.
    #[error("the key for {algorithm} cannot be used: {problem}")]
    BadKey {
        /// For which algorithm.
        algorithm: &'static str,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// Two keys have the same id.
    #[error("two keys have the id {id:?}: give each one of its own")]
    DuplicateKeyId {
        /// Which.
        id: String,
    },
    /// Several keys have no id.
    #[error(
        "several keys have no id, so that a token could not say which it is for: give each an id, and put it into the tokens' kid"
    )]
    SeveralKeysWithoutId,
    /// An algorithm's name is not known.
    #[error("there is no algorithm {name:?} here: use one of {}", crate::jwt::Algorithm::names())]
    UnknownAlgorithm {
        /// The name.
        name: String,
    },
    /// An API key could be guessed.
    #[error(
        "an API key needs at least {min} random bits, this one has about {bits}: make one with `outspoke key create`"
    )]
    WeakKey {
        /// Bits needed.
        min: u32,
        /// Bits it may have.
        bits: u32,
    },
    /// A text is no hash of an API key.
    #[error(
        "this is no hash of an API key: write sha256: and 64 hexadecimal digits, as `outspoke key create` prints them"
    )]
    BadHash,
    /// A user's id would mean more than the user in a pattern.
    #[error("the user {user:?} {problem}: give the user an id without it")]
    BadUser {
        /// Who.
        user: String,
        /// What is wrong with the id.
        problem: &'static str,
    },
    /// An address cannot be used.
    #[error("{url} cannot be used: {problem}")]
    BadUrl {
        /// Which, without what may be secret in it.
        url: String,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// Cookies are sent by browsers whoever asks.
    #[error(
        "a cookie is accepted only from pages of known origins: list them (https://chat.example.com), or let clients send \
             the Authorization header"
    )]
    CookieWithoutOrigins,
    /// A text has no certificate authority in it.
    #[error(
        "there is no certificate in it: name a file with those of the authority in PEM, which begin with -----BEGIN CERTIFICATE-----"
    )]
    NoAuthority,
    /// A certificate of an authority cannot be used.
    #[error("certificate {number} in it cannot be used: {why}")]
    BadAuthority {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing is there to take credentials from, or to check them with.
    #[error("{0}")]
    Incomplete(&'static str),
}

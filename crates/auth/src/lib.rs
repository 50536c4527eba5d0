//! Who may connect to an Outspoke hub: tokens, API keys, key sets over HTTP, and asking the application.
//!
//! The hub's [`Authenticator`](outspoke_hub::Authenticator) and [`Authorizer`](outspoke_hub::Authorizer) with all that needs
//! cryptography or an HTTP client, which the hub itself does without:
//!
//! ```
//! use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, TokenAuthenticator, VerificationKey};
//! use outspoke_hub::Hub;
//!
//! # let secret = [7; 32];
//! let key = VerificationKey::secret(Algorithm::HS256, &secret)?;
//! let verifier = JwtVerifier::new(vec![key], ClaimRules::default())?;
//! let hub = Hub::builder().authenticator(TokenAuthenticator::new(verifier));
//! # Ok::<(), outspoke_auth::SetupError>(())
//! ```
//!
//! A [`TokenAuthenticator`] finds the credential, a [`TokenVerifier`] judges it: [`JwtVerifier`] with keys of its own or a
//! published set ([`Jwks`]), [`ApiKeyVerifier`], a function, or the [first of several](FirstOf). What happens to a credential
//! after it was accepted (expiry, revocation, what it allows) is the hub's.

mod api_key;
mod authenticator;
mod authorities;
mod error;
mod hook;
mod http;
mod identity;
mod inspect;
mod jwks;
mod jwt;
mod permissions;
mod room;
mod verifier;

pub use crate::{
    api_key::{ApiKeyAuthenticator, ApiKeyVerifier, KEY_PREFIX, KeyHash, KeyRing, new_key},
    authenticator::{BEARER_SUBPROTOCOL, Sources, TokenAuthenticator},
    authorities::Authorities,
    error::{SetupError, TokenError},
    hook::{Hook, HookOptions},
    inspect::{Inspection, inspect},
    jwks::{Jwks, JwksOptions},
    jwt::{Algorithm, JwtVerifier, SigningKey, TOKEN_BYTES_MAX, claims::ClaimRules, key::VerificationKey},
    room::RoomAuthorizer,
    verifier::{FirstOf, TokenVerifier, Verification, token_verifier_fn},
};

/// Characters that nobody sees, or that reorder what others see, as the hub refuses them in names.
fn is_unprintable(c: char) -> bool {
    let hides =
        matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    c.is_control() || hides || matches!(c, '\u{feff}' | char::REPLACEMENT_CHARACTER)
}

//! From the text of a credential to an identity.
//!
//! [`TokenVerifier`] is what [`crate::TokenAuthenticator`] asks once it has found a credential, wherever that was.
//! [`FirstOf`] puts several behind each other.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use outspoke_hub::{AuthError, Identity};

/// The answer of a [`TokenVerifier`], in time.
pub type Verification<'a> = Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>>;

/// An answer that needed no waiting.
pub(crate) fn ready<'a>(answer: Result<Identity, AuthError>) -> Verification<'a> {
    Box::pin(std::future::ready(answer))
}

/// Decides whether the text of a credential is good, and whose it is.
///
/// Called concurrently, from any task. May wait (for keys, say), but must not block the thread. Must not put the credential
/// into an error or a log.
pub trait TokenVerifier: fmt::Debug + Send + Sync + 'static {
    /// Whose the credential is.
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a>;

    /// Whether the text is for this verifier to judge, where there are several.
    fn recognizes(&self, token: &str) -> bool {
        let _ = token;
        true
    }
}

/// Several verifiers: the first that recognizes a credential judges it, and the last one what nobody recognizes.
#[derive(Clone, Debug)]
pub struct FirstOf {
    verifiers: Vec<Arc<dyn TokenVerifier>>,
}

impl FirstOf {
    /// Verifiers in the order in which they are asked. Without any, nothing is accepted.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<dyn TokenVerifier>>) -> Self {
        Self { verifiers }
    }
}

impl TokenVerifier for FirstOf {
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a> {
        let recognizing = self.verifiers.iter().find(|verifier| verifier.recognizes(token));
        match recognizing.or(self.verifiers.last()) {
            Some(verifier) => verifier.verify(token),
            None => ready(Err(AuthError::unauthorized("no credentials are accepted here"))),
        }
    }

    fn recognizes(&self, token: &str) -> bool {
        self.verifiers.iter().any(|verifier| verifier.recognizes(token))
    }
}

/// A function as a [`TokenVerifier`], for answers that need no waiting.
///
/// ```
/// use outspoke_auth::{TokenAuthenticator, token_verifier_fn};
/// use outspoke_hub::{AuthError, Hub, Identity};
///
/// let verifier = token_verifier_fn(|token| match token {
///     "open sesame" => Ok(Identity::user("ali-baba")),
///     _ => Err(AuthError::unauthorized("the cave stays shut")),
/// });
/// let hub = Hub::builder().authenticator(TokenAuthenticator::new(verifier));
/// ```
pub fn token_verifier_fn<F>(identify: F) -> impl TokenVerifier
where
    F: Fn(&str) -> Result<Identity, AuthError> + Send + Sync + 'static,
{
    VerifierFn(identify)
}

struct VerifierFn<F>(F);

impl<F> fmt::Debug for VerifierFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifierFn")
    }
}

impl<F> TokenVerifier for VerifierFn<F>
where
    F: Fn(&str) -> Result<Identity, AuthError> + Send + Sync + 'static,
{
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a> {
        ready((self.0)(token))
    }
}

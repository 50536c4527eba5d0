//! Where the credential comes from.
//!
//! Asked by the client's own task: before it connects, before the credential ends, and after it was refused.
//! Invariant: a token is never in a log, a state or a `Debug` output.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenReason {
    /// A connection is about to be made; the token of the last one may still do.
    Connect,
    /// The connection's credential ends soon: a fresh one is shown over it.
    Expiring,
    /// The server did not accept the last one. Refused a second time in a row, the client closes.
    Rejected,
}

/// What a token provider may fail with.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

type Asked = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;
type Ask = dyn Fn(TokenReason) -> Asked + Send + Sync;

/// A fixed token, or who makes them.
#[derive(Clone)]
pub(crate) enum TokenSource {
    None,
    Fixed(Arc<str>),
    Provider(Arc<Ask>),
}

impl TokenSource {
    pub(crate) fn provider<F, A, E>(ask: F) -> Self
    where
        F: Fn(TokenReason) -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        Self::Provider(Arc::new(move |why| {
            let asked = ask(why);
            Box::pin(async move { asked.await.map_err(Into::into) })
        }))
    }

    /// Whether a refused token can be replaced.
    pub(crate) const fn can_renew(&self) -> bool {
        matches!(self, Self::Provider(_))
    }

    pub(crate) async fn token(&self, why: TokenReason) -> Result<Option<String>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.to_string())),
            Self::Provider(ask) => ask(why).await.map(Some),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed(..)",
            Self::Provider(_) => "Provider(..)",
        })
    }
}

//! Tokens for single rooms, and the application asked about joins and messages: the hub's [`Authorizer`].
//!
//! A token for a room is made with the same keys as tokens to connect, has the claim `room`, and counts only for the user and
//! the tenant it names. Invariants: it never lets anybody connect, and a token to connect opens no room; where a token is shown,
//! it alone decides, and the application is not asked.

use std::fmt;

use outspoke_hub::{Ask, Asks, Authorization, Authorizer, ErrorCode, Grant, Refusal};

use crate::error::TokenError;
use crate::hook::Hook;
use crate::jwt::JwtVerifier;

/// Decides joins and messages by tokens for rooms, and by asking the application.
#[derive(Default)]
pub struct RoomAuthorizer {
    tokens: Option<JwtVerifier>,
    hook: Option<Hook>,
}

impl fmt::Debug for RoomAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomAuthorizer").field("tokens", &self.tokens).field("hook", &self.hook).finish()
    }
}

impl RoomAuthorizer {
    /// Allows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts tokens for rooms, made with these keys.
    #[must_use]
    pub fn tokens(mut self, verifier: JwtVerifier) -> Self {
        self.tokens = Some(verifier);
        self
    }

    /// Asks the application where no token is shown.
    #[must_use]
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    async fn by_token(&self, verifier: &JwtVerifier, token: &str, ask: &Ask) -> Result<Grant, Refusal> {
        let grant = verifier.room_grant(token).await.map_err(|error| refusal(&error))?;
        let forbidden = |detail| Err(Refusal::new(ErrorCode::Forbidden, detail));
        if grant.user != ask.identity.user.as_str() || grant.tenant != ask.identity.tenant {
            return forbidden("the token is another user's");
        }
        if grant.room != ask.room.as_str() {
            return forbidden("the token is for another room");
        }
        if !grant.actions.contains(&ask.action) {
            return forbidden("the token does not allow this");
        }
        let mut allowed = Grant::default();
        allowed.actions = grant.actions;
        allowed.expires = Some(grant.expires);
        Ok(allowed)
    }
}

fn refusal(error: &TokenError) -> Refusal {
    let code = match error {
        TokenError::Unavailable => ErrorCode::Unavailable,
        TokenError::Expired => ErrorCode::TokenExpired,
        _ => ErrorCode::Unauthorized,
    };
    Refusal::new(code, error.to_string())
}

impl Authorizer for RoomAuthorizer {
    fn asks(&self) -> Asks {
        self.hook.as_ref().map(Hook::asks).unwrap_or_default()
    }

    fn authorize(&self, ask: Ask) -> Authorization<'_> {
        Box::pin(async move {
            match (&self.tokens, &ask.token, &self.hook) {
                (Some(verifier), Some(token), _) => self.by_token(verifier, token, &ask).await,
                (_, _, Some(hook)) => hook.ask(&ask).await,
                _ => Err(Refusal::new(ErrorCode::Unauthorized, "tokens for rooms are not accepted here")),
            }
        })
    }
}

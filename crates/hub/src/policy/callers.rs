//! What users may do who ask without a connection: over HTTP, with the token with which they connect.
//!
//! Exactly what a connection of theirs may. Over a connection whatever is done in a room is done by its members; without one, by
//! who might be one.

use std::sync::Arc;

use outspoke_protocol::{Body, ClientId, ErrorCode, Publisher, Refusal, RoomName};

use super::Action;
use super::check::{Who, check};
use crate::amend::Change;
use crate::auth::{Ask, AuthError, Grant, Identity};
use crate::direct::is_reserved;
use crate::error::PublishError;
use crate::hub::Hub;
use crate::peer::ClientAddress;
use crate::room::Published;

impl Hub {
    /// Whether a credential that was found good is accepted: neither it, nor its user or device, was revoked.
    ///
    /// # Errors
    /// It was revoked; or it is not known yet, because what was decided is still being read.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn check_credential(&self, identity: &Identity) -> Result<(), AuthError> {
        self.inner.admit_credential(identity).await
    }

    /// Who shows a token without connecting. Wrong ones count for the address like those of upgrades, and with too many of them
    /// nobody is asked any more.
    ///
    /// # Errors
    /// The token is not accepted, it or its user was revoked, or too many came from the address that were not.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn authenticate_from(&self, token: &str, address: ClientAddress) -> Result<Identity, Refusal> {
        self.inner.gate.may_show(address, &self.inner.config().rate).map_err(|wait| Refusal {
            retry_after: Some(wait),
            ..Refusal::new(
                ErrorCode::RateLimited,
                "too many wrong credentials came from this address; try again later",
            )
        })?;
        let refused = |error: AuthError| {
            self.inner.tell_auth_failure(Some(address), &error);
            Refusal::new(error.code, error.detail)
        };
        let identity = self.authenticator().authenticate_token(token).await.map_err(refused)?;
        self.check_credential(&identity).await.map_err(refused)?;
        Ok(identity)
    }

    /// Whether a user without a connection may do something to a room of this tenant (or, for [`Action::Direct`], to another
    /// user): what a connection of the user's may that first joins the room, also by the [`Authorizer`](crate::Authorizer),
    /// where that wants to be asked about joins.
    ///
    /// # Errors
    /// `forbidden`, naming the permission that is missing; or what the authorizer says; `timed_out` if it does not answer in time.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect here.
    pub async fn check_as_user(
        &self,
        identity: &Identity,
        action: Action,
        name: &str,
    ) -> Result<(), Refusal> {
        self.check_permitted_as_user(identity, action, name)?;
        let asked = self.inner.asks.join && action != Action::Direct && !is_reserved(name);
        if !asked {
            return Ok(());
        }
        let grant = self.ask_as_user(identity, Action::Join, name, None).await?;
        if grant.expires.is_some_and(|expires| expires <= self.inner.now()) {
            return Err(Refusal::new(ErrorCode::Forbidden, "the permission for this room has expired"));
        }
        // Something may have been decided while it was asked about.
        self.check_permitted_as_user(identity, action, name)
    }

    /// The part of [`check_as_user`](Self::check_as_user) that nobody else is asked about: what is looked at again and again while
    /// somebody goes on with what was allowed.
    ///
    /// # Errors
    /// `forbidden`, naming the permission that is missing.
    pub fn check_permitted_as_user(
        &self,
        identity: &Identity,
        action: Action,
        name: &str,
    ) -> Result<(), Refusal> {
        let who = Who::user(identity);
        if action == Action::Direct {
            return check(&self.inner, &who, action, &outspoke_protocol::UserId::new(name));
        }
        check(&self.inner, &who, Action::Join, name)?;
        check(&self.inner, &who, action, name)
    }

    /// Whether a user without a connection may say this in a room: also by the [`Authorizer`](crate::Authorizer), where that
    /// wants to be asked about joins or messages.
    ///
    /// # Errors
    /// As those of [`check_as_user`](Self::check_as_user).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect here.
    pub async fn authorize_as_user(
        &self,
        identity: &Identity,
        room: &str,
        body: &Body,
    ) -> Result<(), Refusal> {
        self.check_as_user(identity, Action::Publish, room).await?;
        if !self.inner.asks.publish {
            return Ok(());
        }
        self.ask_as_user(identity, Action::Publish, room, Some(body.clone())).await.map(drop)
    }

    /// Asks the authorizer, for as long as a handler may take.
    async fn ask_as_user(
        &self,
        identity: &Identity,
        action: Action,
        room: &str,
        body: Option<Body>,
    ) -> Result<Grant, Refusal> {
        let Some(authorizer) = &self.inner.authorizer else { return Ok(Grant::default()) };
        let invalid = |error: outspoke_protocol::InvalidRoomName| {
            Refusal::new(ErrorCode::InvalidRoom, ecow::eco_format!("{error}"))
        };
        let room: RoomName = self.inner.room_name(room).map_err(invalid)?;
        let ask = Ask { identity: Arc::new(identity.clone()), action, room, token: None, body };
        let patience = self.inner.config().handler_timeout;
        let answer = authorizer.authorize(ask);
        if patience.is_zero() {
            return answer.await;
        }
        let late =
            |_| Refusal::new(ErrorCode::TimedOut, "who decides about it took too long; try again later");
        tokio::time::timeout(patience, answer).await.map_err(late)?
    }

    /// Takes the body of an earlier message away in a user's name: one of the user's own, or anybody's where the user moderates.
    ///
    /// # Errors
    /// The user may not; otherwise as [`delete`](Self::delete).
    ///
    /// # Cancel safety
    /// As [`delete`](Self::delete).
    pub async fn delete_as_user(
        &self,
        room: &str,
        offset: u64,
        identity: &Identity,
    ) -> Result<Published, PublishError> {
        self.check_as_user(identity, Action::Publish, room).await.map_err(PublishError::Refused)?;
        let moderates = self.check_permitted_as_user(identity, Action::Moderate, room).is_ok();
        // No connection has this id.
        let client = ClientId::from_u128(0);
        let by = Publisher { user: identity.user.clone(), name: identity.name.clone(), client };
        self.amend(room, offset, Change::Delete, Some(by), moderates).await
    }
}

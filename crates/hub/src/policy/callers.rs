//! What users may do who ask without a connection: over HTTP, with the token with which they connect.
//!
//! Exactly what a connection of theirs may. Over a connection whatever is done in a room is done by its members; without one, by
//! who might be one.

use std::sync::Arc;

use outspoke_protocol::{Body, ClientId, ErrorCode, Publisher, Refusal, RoomName};

use super::Action;
use super::check::{Who, check};
use crate::amend::Change;
use crate::auth::{Ask, AuthError, Identity};
use crate::error::PublishError;
use crate::hub::Hub;
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

    /// Whether a user without a connection may do something to a room of this tenant (or, for [`Action::Direct`], to another
    /// user): what a connection of the user's may.
    ///
    /// # Errors
    /// `forbidden`, naming the permission that is missing.
    pub fn check_as_user(&self, identity: &Identity, action: Action, name: &str) -> Result<(), Refusal> {
        let who = Who::user(identity);
        if action == Action::Direct {
            return check(&self.inner, &who, action, &outspoke_protocol::UserId::new(name));
        }
        check(&self.inner, &who, Action::Join, name)?;
        check(&self.inner, &who, action, name)
    }

    /// Whether a user without a connection may say this in a room: also by the [`Authorizer`](crate::Authorizer), where that
    /// wants to be asked.
    ///
    /// # Errors
    /// `forbidden`, or what the authorizer says; `timed_out` if it does not answer in time.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect here.
    pub async fn authorize_as_user(
        &self,
        identity: &Identity,
        room: &str,
        body: &Body,
    ) -> Result<(), Refusal> {
        self.check_as_user(identity, Action::Publish, room)?;
        let Some(authorizer) = self.inner.authorizer.as_ref().filter(|authorizer| authorizer.asks().publish)
        else {
            return Ok(());
        };
        let invalid = |error: outspoke_protocol::InvalidRoomName| {
            Refusal::new(ErrorCode::InvalidRoom, ecow::eco_format!("{error}"))
        };
        let room: RoomName = self.inner.room_name(room).map_err(invalid)?;
        let ask = Ask {
            identity: Arc::new(identity.clone()),
            action: Action::Publish,
            room,
            token: None,
            body: Some(body.clone()),
        };
        let patience = self.inner.config().handler_timeout;
        let answer = authorizer.authorize(ask);
        if patience.is_zero() {
            return answer.await.map(drop);
        }
        let late =
            |_| Refusal::new(ErrorCode::TimedOut, "who decides about it took too long; try again later");
        tokio::time::timeout(patience, answer).await.map_err(late)?.map(drop)
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
        self.check_as_user(identity, Action::Publish, room).map_err(PublishError::Refused)?;
        let moderates = self.check_as_user(identity, Action::Moderate, room).is_ok();
        // No connection has this id.
        let client = ClientId::from_u128(0);
        let by = Publisher { user: identity.user.clone(), name: identity.name.clone(), client };
        self.amend(room, offset, Change::Delete, Some(by), moderates).await
    }
}

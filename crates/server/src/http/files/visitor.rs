//! Who wants something with files, and what they may.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use outspoke_files::{FilesError, Owner, Record};
use outspoke_hub::{Action, AuthError, Hub, Identity};

use super::Api;
use super::error::Refused;
use crate::http::api::error::ApiError;

/// Somebody who may connect.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Of the visitor's tenant.
    pub(super) hub: Hub,
    pub(super) identity: Identity,
    pub(super) owner: Owner,
}

impl FromRequestParts<Api> for Visitor {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let identified = api.endpoint.identify(parts).await;
        let (identity, hub) = identified.map_err(|refused| Refused::with(refused.map(Body::new)))?;
        if identity.anonymous {
            let error =
                AuthError::unauthorized("files belong to somebody: say who you are, as with ?userId=NAME");
            return Err(ApiError::new(error.code, error.detail).into());
        }
        let owner = Owner::new(identity.tenant.as_str(), identity.user.as_str());
        Ok(Self { hub, identity, owner })
    }
}

impl Visitor {
    /// A file of the visitor's own. Others' look as if they were not there.
    pub(super) fn own(&self, record: Record) -> Result<Record, FilesError> {
        if record.owner == self.owner { Ok(record) } else { Err(FilesError::NotFound) }
    }

    /// A whole file that the visitor may have: an own one, or one that was sent to a room whose history the visitor may read.
    pub(super) fn readable(&self, record: Record) -> Result<Record, FilesError> {
        let reads = |room: &str| self.may(Action::History, room);
        let may = record.owner == self.owner
            || record.owner.tenant == self.owner.tenant
                && record.attachments.iter().any(|attachment| reads(&attachment.room));
        match may {
            false => Err(FilesError::NotFound),
            true if record.facts().is_none() => Err(FilesError::Unfinished),
            true => Ok(record),
        }
    }

    /// A file that the visitor may take away: an own one, or one in rooms all of which the visitor moderates.
    pub(super) fn removable(&self, record: Record) -> Result<Record, FilesError> {
        let moderates = |room: &str| self.may(Action::Moderate, room);
        let may = record.owner == self.owner
            || record.owner.tenant == self.owner.tenant
                && !record.attachments.is_empty()
                && record.attachments.iter().all(|attachment| moderates(&attachment.room));
        if may { Ok(record) } else { Err(FilesError::NotFound) }
    }

    fn may(&self, action: Action, room: &str) -> bool {
        self.hub.check_as_user(&self.identity, action, room).is_ok()
    }
}

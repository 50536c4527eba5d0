//! Who wants something with files, and what they may.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use outspoke_files::{FilesError, Owner, Record};
use outspoke_hub::{Action, AuthError, ClientAddress, Deed, Hub, Identity};

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
    address: Option<ClientAddress>,
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
        Ok(Self { hub, identity, owner, address: parts.extensions.get().copied() })
    }
}

impl Visitor {
    /// A file of the visitor's own. Others' look as if they were not there.
    pub(super) fn own(&self, record: Record) -> Result<Record, FilesError> {
        if record.owner == self.owner { Ok(record) } else { Err(FilesError::NotFound) }
    }

    /// A whole file that the visitor may have: an own one, or one that was sent to a room whose history the visitor may read.
    pub(super) async fn readable(&self, record: Record) -> Result<Record, ApiError> {
        let mut may = record.owner == self.owner;
        if !may {
            self.count_look()?;
        }
        for room in self.rooms_of(&record) {
            may = may || self.may(Action::History, room).await?;
        }
        match may {
            false => Err(FilesError::NotFound.into()),
            true if record.facts().is_none() => Err(FilesError::Unfinished.into()),
            true => Ok(record),
        }
    }

    /// Whether the visitor may take a file away: an own one, or one in rooms all of which the visitor moderates.
    pub(super) async fn check_removable(&self, record: &Record) -> Result<(), ApiError> {
        if record.owner == self.owner {
            return Ok(());
        }
        self.count_look()?;
        let mut may = self.rooms_of(record).next().is_some();
        for room in self.rooms_of(record) {
            may = may && self.may(Action::Moderate, room).await?;
        }
        if may { Ok(()) } else { Err(FilesError::NotFound.into()) }
    }

    /// The rooms to which a file of the visitor's tenant was sent.
    fn rooms_of<'a>(&self, record: &'a Record) -> impl Iterator<Item = &'a str> + use<'a> {
        let here = record.owner.tenant == self.owner.tenant;
        record.attachments.iter().filter(move |_| here).map(|attachment| attachment.room.as_str())
    }

    /// Counts a question about rooms, as over a connection: somebody may have to be asked.
    pub(super) fn count_look(&self) -> Result<(), ApiError> {
        Ok(self.hub.count_as_user(&self.identity, self.address, Deed::Read)?)
    }

    /// Whether the visitor may do this; an error where who decides it does not answer.
    async fn may(&self, action: Action, room: &str) -> Result<bool, ApiError> {
        match self.hub.check_as_user(&self.identity, action, room).await {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.code.is_temporary() => Err(refusal.into()),
            Err(_) => Ok(false),
        }
    }
}

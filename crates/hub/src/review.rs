//! Messages of sorts that somebody wants to see before they are placed: because what they say of something outside the hub is to
//! be true.
//!
//! A [`Reviewer`] names the [sorts](Kind::Custom), is asked about each message of them that a user publishes, after everybody who
//! decides whether the user may, and answers with what the message is to say. Such messages are not edited afterwards, since nobody
//! would have seen that; they can be deleted, of which the reviewer hears. Messages in the application's own name are not shown
//! to it: the application asks by [`Hub::review`] where it speaks for a user.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ecow::{EcoString, eco_format};
use outspoke_protocol::{Body, ErrorCode, Kind, Message, Refusal, RoomName, UserId};

use crate::hub::{Hub, Inner};

/// A message that somebody is about to publish.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Proposal {
    /// Whose rooms these are; empty for the one tenant of a hub without tenants.
    pub tenant: EcoString,
    /// The user.
    pub user: UserId,
    /// Where.
    pub room: RoomName,
    /// What sort of message it is.
    pub kind: Kind,
    /// What it is to say.
    pub body: Body,
}

/// The answer of a [`Reviewer`], in time: what the message says, or why nobody is to hear it.
pub type Review<'a> = Pin<Box<dyn Future<Output = Result<Body, Refusal>> + Send + 'a>>;

/// Looks at messages of certain sorts before they are placed.
///
/// The connection that waits for the answer reads nothing meanwhile; the hub's `handler_timeout` bounds the wait. A message that is
/// sent again under its idempotency key is shown again. Implementations must not block the thread.
pub trait Reviewer: fmt::Debug + Send + Sync + 'static {
    /// The names of the sorts. Read once, when the hub starts.
    fn kinds(&self) -> Vec<EcoString>;

    /// What a message is to say.
    fn review(&self, proposal: Proposal) -> Review<'_>;

    /// A message of one of these sorts, as it was, has been deleted through this hub. Called in a thread of the hub's: it must not
    /// wait. Nothing is said of messages that are erased with their user, that a room's retention or clearing takes, or that go
    /// through another hub of a cluster.
    fn deleted(&self, tenant: &str, message: &Message) {
        let _ = (tenant, message);
    }
}

/// A reviewer, with the sorts that it wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Reviewing {
    pub(crate) reviewer: Arc<dyn Reviewer>,
    kinds: Vec<EcoString>,
}

impl Reviewing {
    pub(crate) fn new(reviewer: Arc<dyn Reviewer>) -> Self {
        let kinds = reviewer.kinds();
        Self { reviewer, kinds }
    }
}

impl Inner {
    /// Who wants to see messages of this sort.
    pub(crate) fn reviewer_of(&self, kind: &Kind) -> Option<&Arc<dyn Reviewer>> {
        let (Some(reviewing), Kind::Custom(name)) = (&self.reviewing, kind) else { return None };
        reviewing.kinds.contains(name).then_some(&reviewing.reviewer)
    }

    /// What was reviewed says what it says.
    pub(crate) fn check_editable(&self, kind: &Kind) -> Result<(), Refusal> {
        if self.reviewer_of(kind).is_none() {
            return Ok(());
        }
        let detail =
            eco_format!("a message of type {:?} is not edited: delete it, and send another", kind.name());
        Err(Refusal::new(ErrorCode::BadRequest, detail))
    }

    /// Tells the reviewer of a message that is no more.
    pub(crate) fn tell_deleted(&self, tenant: &str, message: &Message) {
        if let Some(reviewer) = self.reviewer_of(&message.kind) {
            reviewer.deleted(tenant, message);
        }
    }
}

impl Hub {
    /// What a message that the application is about to publish for a user is to say, if somebody wants to see messages of its
    /// sort; as it is otherwise.
    ///
    /// # Errors
    /// Why nobody is to hear it; `timed_out` if the reviewer does not answer in time.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect here.
    pub async fn review(&self, user: &UserId, room: &str, kind: &Kind, body: Body) -> Result<Body, Refusal> {
        let Some(reviewer) = self.inner.reviewer_of(kind) else { return Ok(body) };
        let room = self.inner.room_name(room);
        let room = room.map_err(|error| Refusal::new(ErrorCode::InvalidRoom, eco_format!("{error}")))?;
        let tenant = self.tenant.name.clone();
        let review = reviewer.review(Proposal { tenant, user: user.clone(), room, kind: kind.clone(), body });
        let answer = tokio::time::timeout(self.inner.config().handler_timeout, review).await;
        answer.unwrap_or_else(|_| {
            Err(Refusal::new(ErrorCode::TimedOut, "nobody knows in time whether this may be said; try again"))
        })
    }
}

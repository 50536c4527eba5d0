//! Receipts and conversations, asked for by the application.

use std::sync::Arc;

use ecow::eco_format;
use outspoke_protocol::{Conversations, Cursor, ErrorCode, Receipt, Receipts, Refusal, RoomName, UserId};
use tokio::sync::oneshot;

use crate::direct::{self, Wish};
use crate::error::PublishError;
use crate::facts;
use crate::hub::Hub;
use crate::room::Room;
use crate::room::load::Need;
use crate::room::receipts::{RECEIPTS_PAGE_MAX, Waiter};

impl Hub {
    /// Notes that a user has received, or read, everything in a room up to an offset; members are told. Returns where
    /// the user is then: further on, if the user was. In a stored room it is durable when this returns.
    ///
    /// # Errors
    /// The room keeps no receipts, has no such message yet, or what keeps it is full or away; nothing was noted.
    ///
    /// # Cancel safety
    /// The receipt is on its way when the room has been read; dropping the future gives up the news.
    pub async fn mark(
        &self,
        room: &str,
        user: &str,
        receipt: Receipt,
        offset: u64,
    ) -> Result<Cursor, PublishError> {
        self.check_open()?;
        let room = self.room_with_receipts(room).await?;
        if !facts::is_nameable(user) {
            let refusal = Refusal::new(ErrorCode::UserNotFound, "a user id has 1 to 256 bytes");
            return Err(PublishError::Refused(refusal));
        }
        let user = UserId::new(user);
        let (done, outcome) = oneshot::channel();
        let marked = room.mark(&self.inner, &user, receipt, offset, Some(Waiter::Api(done)));
        let marks = match marked.map_err(PublishError::Refused)? {
            Some(marks) => marks,
            None => match outcome.await {
                Ok(outcome) => outcome.map_err(|error| PublishError::from(&error))?,
                Err(_) => return Err(PublishError::Stopping),
            },
        };
        Ok(Cursor { user, delivered: marks.delivered, seen: marks.seen })
    }

    /// A page of who has received and read how much of a room: `limit` users (at most 500) after `after`, in the order of
    /// their ids.
    ///
    /// # Errors
    /// The room keeps no receipts, or cannot be read now.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn receipts(
        &self,
        room: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Receipts, PublishError> {
        let room = self.room_with_receipts(room).await?;
        let limit = limit.clamp(1, RECEIPTS_PAGE_MAX);
        let page = room.receipts_page(None, after.map(UserId::new), limit).await;
        page.map_err(|error| PublishError::from(&error))
    }

    /// A page of a user's private conversations: `limit` (at most 500) with users after `after`, in the order of their
    /// ids, and what the user has not read of each.
    ///
    /// # Errors
    /// What is stored cannot be read now.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn conversations(
        &self,
        user: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Conversations, PublishError> {
        let after = after.map(UserId::new);
        let wish = Wish { user: UserId::new(user), request: None, after, limit, news: false };
        direct::page(&self.inner, &self.tenant, wish).await.map_err(|error| PublishError::from(&error))
    }

    /// The room in which two users talk in private.
    ///
    /// # Errors
    /// Private messages are switched off, or an id is no user's.
    pub fn conversation(&self, user: &str, other: &str) -> Result<RoomName, PublishError> {
        direct::conversation(&self.inner, &UserId::new(user), other).map_err(PublishError::Refused)
    }

    async fn room_with_receipts(&self, room: &str) -> Result<Arc<Room>, PublishError> {
        let name = self.inner.room_name(room)?;
        let room = self.tenant.directory.open(&self.inner, &name)?;
        if room.members() == 0 {
            self.inner.idle.put(&room, room.lingers());
        }
        if !room.keeps_receipts() {
            let detail = eco_format!("the room \"{name}\" keeps no receipts");
            return Err(PublishError::Refused(Refusal::new(ErrorCode::Forbidden, detail)));
        }
        if !room.is_read() {
            room.prepare(&self.inner, Need::Cursors).await.map_err(|error| PublishError::from(&error))?;
        }
        Ok(room)
    }
}

//! Reading what was counted.

use std::ops::Range;

use ecow::EcoString;
use outspoke_protocol::{InvalidRoomName, RoomName, Timestamp};
use outspoke_store::StoreError;

use super::HOUR_MS;
use super::flush::{key, known};
use super::records::{RoomTotal, Top, Total};
use crate::hub::Hub;

/// The length of the spans that figures are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Kept for 14 days.
    Hour,
    /// Kept for 400 days.
    Day,
}

impl Grain {
    /// A span's length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => 24 * HOUR_MS,
        }
    }

    /// How many spans are kept, and may be asked for at once.
    #[must_use]
    pub const fn spans_max(self) -> usize {
        match self {
            Self::Hour => 14 * 24,
            Self::Day => 400,
        }
    }
}

/// What a tenant did in an hour or a day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// When the span begins.
    pub begin: Timestamp,
    /// Messages that were said, in rooms and in private.
    pub messages: u64,
    /// Users who said them.
    pub users: u64,
    /// Whether `users` is exact; otherwise its standard error is 1.6 %.
    pub users_exact: bool,
    /// Rooms in which something was said.
    pub rooms: u64,
    /// Messages in the busiest minute.
    pub minute_max: u64,
    /// Most connections at one time.
    pub connections_max: u64,
}

/// What happened in a room in an hour or a day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomFigures {
    /// When the span begins.
    pub begin: Timestamp,
    /// Messages that were said.
    pub messages: u64,
    /// Users who said them; for days only.
    pub users: Option<u64>,
    /// Whether `users` is exact; otherwise its standard error is 1.6 %.
    pub users_exact: bool,
}

/// Why there are no figures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyticsError {
    /// The hub does not count.
    #[error("analytics are switched off")]
    Off,
    /// The name is no room name.
    #[error(transparent)]
    InvalidRoom(#[from] InvalidRoomName),
    /// Where figures are kept cannot be reached now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// What the tenant did in every hour or day of a time, up to this moment. Spans with nothing in them are there too; at most
    /// [`Grain::spans_max`] come, the newest.
    ///
    /// # Errors
    /// See [`AnalyticsError`].
    pub async fn figures(
        &self,
        grain: Grain,
        time: Range<Timestamp>,
    ) -> Result<Vec<Figures>, AnalyticsError> {
        let tenant = self.settled().await?;
        let family = if grain == Grain::Hour { "h" } else { "d" };
        let spans = spans(grain, &time);
        let keys = spans.clone().map(|span| key(tenant, family, span, None)).collect();
        let facts = self.inner.analytics.shelf(&self.inner).facts(keys).await?;
        let figures = |(span, fact)| {
            let total = known(fact, Total::decode).unwrap_or_default();
            Figures {
                begin: Timestamp::from_millis(span * grain.millis()),
                messages: total.messages,
                users: total.users.count(),
                users_exact: total.users.is_exact(),
                rooms: total.rooms,
                minute_max: total.minute_max,
                connections_max: total.connections_max,
            }
        };
        Ok(spans.zip(facts).map(figures).collect())
    }

    /// What happened in a room in every hour or day of a time, as [`figures`](Self::figures).
    ///
    /// # Errors
    /// See [`AnalyticsError`].
    pub async fn room_figures(
        &self,
        room: &str,
        grain: Grain,
        time: Range<Timestamp>,
    ) -> Result<Vec<RoomFigures>, AnalyticsError> {
        let room = RoomName::new(room, self.inner.config.room_name_bytes_max)?;
        let tenant = self.settled().await?;
        let family = if grain == Grain::Hour { "rh" } else { "rd" };
        let spans = spans(grain, &time);
        let keys = spans.clone().map(|span| key(tenant, family, span, Some(room.as_str()))).collect();
        let facts = self.inner.analytics.shelf(&self.inner).facts(keys).await?;
        let figures = |(span, fact)| {
            let total = known(fact, RoomTotal::decode).unwrap_or_default();
            RoomFigures {
                begin: Timestamp::from_millis(span * grain.millis()),
                messages: total.messages,
                users: (grain == Grain::Day).then(|| total.users.count()),
                users_exact: total.users.is_exact(),
            }
        };
        Ok(spans.zip(facts).map(figures).collect())
    }

    /// The rooms in which most was said on the day (in UTC) that `day` is in, and how much: at most 100, the busiest
    /// first.
    ///
    /// # Errors
    /// See [`AnalyticsError`].
    pub async fn top_rooms(&self, day: Timestamp) -> Result<Vec<(EcoString, u64)>, AnalyticsError> {
        let tenant = self.settled().await?;
        let keys = vec![key(tenant, "top", day.as_millis().div_euclid(Grain::Day.millis()), None)];
        let facts = self.inner.analytics.shelf(&self.inner).facts(keys).await?;
        let top = facts.into_iter().next().flatten();
        Ok(known(top, Top::decode).unwrap_or_default().0)
    }

    async fn settled(&self) -> Result<&EcoString, AnalyticsError> {
        if !self.inner.config.analytics {
            return Err(AnalyticsError::Off);
        }
        self.inner.analytics.try_flush(&self.inner).await?;
        Ok(&self.tenant.name)
    }
}

fn spans(grain: Grain, time: &Range<Timestamp>) -> Range<i64> {
    let begin = time.start.as_millis().div_euclid(grain.millis());
    let end = -(-time.end.as_millis()).div_euclid(grain.millis());
    begin.max(end - grain.spans_max() as i64).max(0)..end.max(0)
}

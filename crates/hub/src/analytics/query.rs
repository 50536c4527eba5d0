//! Reading what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{InvalidRoomName, RoomName, Timestamp};
use outspoke_store::StoreError;

use super::HOUR_MS;
use super::flush::{key, known};
use super::records::{RoomTotal, Top, Total};
use crate::hub::Hub;

/// Facts read in one step: the largest have some 12 KB.
const PAGE: usize = 200;
/// What each life of a hub has of a span, by its name; without one, what the only hub of a store has.
type Lives = BTreeMap<Option<EcoString>, Bytes>;

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
        let mut lives = self.lives(tenant, family, spans.clone()).await?;
        let figures = |span| {
            let lives = lives.remove(&span).unwrap_or_default().into_values();
            let decode = |fact| known(Some(fact), Total::decode);
            let total = Total::of_all(lives.filter_map(decode).collect());
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
        Ok(spans.map(figures).collect())
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
        let room = RoomName::new(room, self.inner.config().room_name_bytes_max)?;
        let tenant = self.settled().await?;
        let (of_all, family) = if grain == Grain::Hour { ("h", "rh") } else { ("d", "rd") };
        let spans = spans(grain, &time);
        let lives = self.lives(tenant, of_all, spans.clone()).await?;
        let lives =
            lives.into_iter().flat_map(|(span, lives)| lives.into_keys().map(move |life| (span, life)));
        let lives: Vec<_> = lives.collect();
        let of_life = |(span, life): &(i64, Option<EcoString>)| {
            key(tenant, family, *span, Some(room.as_str()), life.as_deref())
        };
        let facts =
            self.inner.analytics.shelf(&self.inner).facts(lives.iter().map(of_life).collect()).await?;
        let mut totals: BTreeMap<i64, RoomTotal> = BTreeMap::new();
        for ((span, _), fact) in lives.into_iter().zip(facts) {
            let Some(of_life) = known(fact, RoomTotal::decode) else { continue };
            let total = totals.entry(span).or_default();
            total.messages += of_life.messages;
            total.users.merge(&of_life.users);
        }
        let figures = |span| {
            let total = totals.remove(&span).unwrap_or_default();
            RoomFigures {
                begin: Timestamp::from_millis(span * grain.millis()),
                messages: total.messages,
                users: (grain == Grain::Day).then(|| total.users.count()),
                users_exact: total.users.is_exact(),
            }
        };
        Ok(spans.map(figures).collect())
    }

    /// The rooms in which most was said on the day (in UTC) that `day` is in, and how much: at most 100, the busiest
    /// first. Where several hubs share a store, those among the busiest 100 of one of them at least.
    ///
    /// # Errors
    /// See [`AnalyticsError`].
    pub async fn top_rooms(&self, day: Timestamp) -> Result<Vec<(EcoString, u64)>, AnalyticsError> {
        let tenant = self.settled().await?;
        let day = day.as_millis().div_euclid(Grain::Day.millis());
        let lives = self.lives(tenant, "d", day..day + 1).await?.remove(&day).unwrap_or_default();
        let lives: Vec<_> = lives.into_keys().collect();
        let shelf = self.inner.analytics.shelf(&self.inner);
        let keys = lives.iter().map(|life| key(tenant, "top", day, None, life.as_deref())).collect();
        let facts = shelf.facts(keys).await?;
        let mut tops: Vec<Top> = facts.into_iter().filter_map(|fact| known(fact, Top::decode)).collect();
        if tops.len() < 2 {
            return Ok(tops.pop().unwrap_or_default().0);
        }
        let rooms: BTreeSet<EcoString> =
            tops.into_iter().flat_map(|top| top.0).map(|(room, _)| room).collect();
        let of_room = |room: &EcoString| {
            let of_life =
                |life: &Option<EcoString>| key(tenant, "rd", day, Some(room.as_str()), life.as_deref());
            lives.iter().map(of_life).collect::<Vec<_>>()
        };
        let facts = shelf.facts(rooms.iter().flat_map(of_room).collect()).await?;
        let mut top = Top::default();
        for (room, facts) in rooms.iter().zip(facts.chunks(lives.len())) {
            let totals = facts.iter().filter_map(|fact| known(fact.clone(), RoomTotal::decode));
            top.put(room, totals.map(|total| total.messages).sum());
        }
        Ok(top.0)
    }

    /// What there is of some spans.
    async fn lives(
        &self,
        tenant: &EcoString,
        family: &str,
        spans: Range<i64>,
    ) -> Result<BTreeMap<i64, Lives>, AnalyticsError> {
        let shelf = self.inner.analytics.shelf(&self.inner);
        let end = key(tenant, family, spans.end, None, None).name;
        let mut found: BTreeMap<i64, Lives> = BTreeMap::new();
        // No name lies between the last one of the span before and the first of this.
        let before = format!("{family}\0{:010}", spans.start).into_bytes();
        let mut after = before.split_last().map(|(last, head)| [head, &[last - 1, 0xff][..]].concat().into());
        loop {
            let page = shelf.scan(tenant, family, after, PAGE).await?;
            after = page.facts.last().map(|fact| fact.name.clone());
            let is_over = !page.more || page.facts.last().is_none_or(|fact| fact.name >= end);
            for fact in page.facts.into_iter().take_while(|fact| fact.name < end) {
                let Some((span, life)) = span_of(&fact.name, family) else { continue };
                found.entry(span).or_default().insert(life, fact.value);
            }
            if is_over {
                return Ok(found);
            }
        }
    }

    async fn settled(&self) -> Result<&EcoString, AnalyticsError> {
        if !self.inner.config().analytics {
            return Err(AnalyticsError::Off);
        }
        self.inner.analytics.try_flush(&self.inner).await?;
        Ok(&self.tenant.name)
    }
}

/// The span and the life in the name of a tenant's figure.
fn span_of(name: &[u8], family: &str) -> Option<(i64, Option<EcoString>)> {
    let mut parts = str::from_utf8(name).ok()?.strip_prefix(family)?.strip_prefix('\0')?.split('\0');
    Some((parts.next()?.parse().ok()?, parts.next().map(EcoString::from)))
}

fn spans(grain: Grain, time: &Range<Timestamp>) -> Range<i64> {
    let begin = time.start.as_millis().div_euclid(grain.millis());
    let end = -(-time.end.as_millis()).div_euclid(grain.millis());
    begin.max(end - grain.spans_max() as i64).max(0)..end.max(0)
}

//! From counts to facts: collected, added to what is there, written, in one place and one at a time.
//!
//! Reads what is kept, adds, and writes all of a chunk in one step; takes it out of memory when that is done. So the same
//! road serves the first count of an hour and the thousandth, and a restart in between. In a store that hubs share, each
//! life of a hub adds to facts of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use ecow::EcoString;
use outspoke_store::{Batch, FactKey, FactPage, FactWrite, Store, StoreError};

use super::distinct::{self, Distinct};
use super::records::{RoomTotal, Shares, Top, Total};
use super::tally::{Span, Whose};
use super::{Analytics, HOUR_MS, MINUTE_MS, ROOMS_MAX};
use crate::facts::ANALYTICS;
use crate::hub::Inner;
use crate::keeper::Keeper;

/// Rooms written in one step.
const CHUNK: usize = 256;
/// Rooms that wait by name for a store that is away; more count in their tenant only.
const WAITING_MAX: usize = 50_000;
/// How long hours and days are kept.
const KEPT: Kept = Kept { hours: 14 * 24, days: 400 };
/// Facts looked at and deleted in one step.
const TRIM_CHUNK: usize = 250;

struct Kept {
    hours: i64,
    days: i64,
}

/// What is not written yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    tenants: BTreeMap<EcoString, Waiting>,
    /// Rooms among them.
    rooms: usize,
    /// The day up to which old figures were dropped.
    trimmed: Option<i64>,
}

#[derive(Debug, Default)]
struct Waiting {
    hours: BTreeMap<i64, Delta>,
    rooms: BTreeMap<(EcoString, i64), RoomTotal>,
    /// Messages of the last minutes, complete.
    minutes: BTreeMap<i64, u64>,
    /// The greatest number of connections that was noted, and in which hour.
    peak: (i64, u64),
}

/// What an hour gets in addition.
#[derive(Debug, Default)]
struct Delta {
    messages: u64,
    users: Distinct,
    minute_max: u64,
    connections_max: u64,
    /// Messages by minutes since 1970.
    minutes: BTreeMap<i64, u64>,
}

/// A hub between its start and its end, in a store that others share.
#[derive(Clone, Copy, Debug)]
struct Life<'a> {
    name: &'a str,
    began: i64,
    /// When it ended, if this is its last writing.
    ended: Option<i64>,
}

impl Life<'_> {
    /// Notes that it was there from its beginning or the span's, and stays for the rest of the hour: if it crashes, it is
    /// missed only then.
    fn note(&self, total: &mut Total, span_begin: i64, hour: i64) {
        let begin = self.began.max(span_begin);
        let end = self.ended.unwrap_or(i64::MAX).min((hour + 1) * HOUR_MS);
        let new = || Box::new(Shares { alive: (begin, end), ..Shares::default() });
        let alive = &mut total.shares.get_or_insert_with(new).alive;
        alive.1 = if self.ended.is_some() { end } else { alive.1.max(end) };
    }
}

/// Where figures are kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shelf<'a> {
    /// In the order of everything else that is written.
    Keeper(&'a Keeper),
    Memory(&'a dyn Store),
}

impl Shelf<'_> {
    pub(super) async fn facts(self, keys: Vec<FactKey>) -> Result<Vec<Option<Bytes>>, StoreError> {
        match self {
            Self::Keeper(keeper) => keeper.facts(keys).await,
            Self::Memory(store) => store.facts(&keys).await,
        }
    }

    async fn write(self, facts: Vec<FactWrite>) -> Result<(), StoreError> {
        match self {
            Self::Keeper(keeper) => keeper.write(facts).await,
            Self::Memory(store) => store.commit(&Batch { facts, ..Batch::default() }).await.map(drop),
        }
    }

    /// Facts of a family after a name.
    pub(super) async fn scan(
        self,
        tenant: &EcoString,
        family: &str,
        after: Option<Bytes>,
        max: usize,
    ) -> Result<FactPage, StoreError> {
        let prefix = Bytes::from(format!("{family}\0"));
        match self {
            Self::Keeper(keeper) => keeper.scan(tenant.clone(), ANALYTICS, prefix, after, max).await,
            Self::Memory(store) => store.scan(tenant, ANALYTICS, &prefix, after.as_deref(), max).await,
        }
    }

    async fn names(self, tenant: &EcoString, family: &str) -> Result<Vec<Bytes>, StoreError> {
        let page = self.scan(tenant, family, None, TRIM_CHUNK).await?;
        Ok(page.facts.into_iter().map(|fact| fact.name).collect())
    }

    fn is_shared(self) -> bool {
        match self {
            Self::Keeper(keeper) => keeper.is_shared(),
            Self::Memory(_) => false,
        }
    }

    async fn tenants(self) -> Result<Vec<EcoString>, StoreError> {
        match self {
            Self::Keeper(keeper) => {
                keeper.read(|store: crate::sync::Arc<dyn Store>| async move { store.tenants().await }).await
            }
            Self::Memory(store) => store.tenants().await,
        }
    }
}

/// The name of a figure. Room names have no zero byte.
pub(super) fn key(
    tenant: &EcoString,
    family: &str,
    time: i64,
    room: Option<&str>,
    life: Option<&str>,
) -> FactKey {
    let mut name = format!("{family}\0{time:010}");
    for part in [room, life].into_iter().flatten() {
        name.push('\0');
        name.push_str(part);
    }
    FactKey { tenant: tenant.clone(), space: ANALYTICS, name: Bytes::from(name) }
}

impl Analytics {
    pub(super) fn shelf<'a>(&'a self, hub: &'a Inner) -> Shelf<'a> {
        match hub.keepers.first() {
            Some(keeper) => Shelf::Keeper(keeper),
            None => Shelf::Memory(&self.memory),
        }
    }

    /// Writes what was counted so far. What cannot be written waits.
    pub(super) async fn flush(&self, hub: &Inner) {
        if let Err(error) = self.try_flush(hub).await {
            tracing::warn!(%error, "figures were not written; they wait for the next time");
        }
    }

    /// As [`flush`](Self::flush), and says why not.
    pub(super) async fn try_flush(&self, hub: &Inner) -> Result<(), StoreError> {
        let shelf = self.shelf(hub);
        let mut pending = self.pending.lock().await;
        let hour = hub.now().as_millis().div_euclid(HOUR_MS);
        pending.take_in(self.desk.collect());
        for tenant in hub.tenants.all() {
            pending.note_connections(&tenant.name, hour, tenant.gauge.take_peak() as u64);
        }
        if self.has_ended() {
            pending.note_end(hour);
        }
        let life = shelf.is_shared().then_some(Life {
            name: &self.life,
            began: self.began,
            ended: self.has_ended().then_some(hub.now().as_millis()),
        });
        pending.write(shelf, life).await?;
        if pending.trimmed != Some(hour) {
            trim(shelf, hour).await?;
            pending.trimmed = Some(hour);
        }
        Ok(())
    }
}

impl Pending {
    fn take_in(&mut self, counted: HashMap<Whose, Vec<Span>>) {
        for (Whose { tenant, room }, spans) in counted {
            let waiting = self.tenants.entry(tenant).or_default();
            for span in spans {
                waiting.add(&span);
                let Some(room) = &room else { continue };
                let key = (room.clone(), span.minute.div_euclid(60));
                if !waiting.rooms.contains_key(&key) {
                    if self.rooms >= WAITING_MAX {
                        continue;
                    }
                    self.rooms += 1;
                }
                let total = waiting.rooms.entry(key).or_default();
                total.messages += span.messages;
                total.users.merge(&span.users);
            }
        }
        self.tenants.values_mut().for_each(Waiting::note_minutes);
    }

    fn note_connections(&mut self, tenant: &EcoString, hour: i64, peak: u64) {
        if peak == 0 && !self.tenants.contains_key(tenant) {
            return;
        }
        let waiting = self.tenants.entry(tenant.clone()).or_default();
        if waiting.peak.0 != hour {
            waiting.peak = (hour, 0);
        }
        if peak > waiting.peak.1 {
            waiting.peak.1 = peak;
            waiting.hours.entry(hour).or_default().connections_max = peak;
        }
    }

    /// Whoever had connections in this hour has none from now on.
    fn note_end(&mut self, hour: i64) {
        for waiting in self.tenants.values_mut().filter(|waiting| waiting.peak.0 == hour) {
            waiting.hours.entry(hour).or_default();
        }
    }

    async fn write(&mut self, shelf: Shelf<'_>, life: Option<Life<'_>>) -> Result<(), StoreError> {
        for (tenant, waiting) in &mut self.tenants {
            while !waiting.is_written() {
                self.rooms -= waiting.write_chunk(tenant, shelf, life).await?;
            }
        }
        Ok(())
    }
}

impl Waiting {
    fn add(&mut self, span: &Span) {
        let delta = self.hours.entry(span.minute.div_euclid(60)).or_default();
        delta.messages += span.messages;
        delta.users.merge(&span.users);
        *delta.minutes.entry(span.minute).or_default() += span.messages;
        *self.minutes.entry(span.minute).or_default() += span.messages;
    }

    /// A minute that is not over counts with what it has: it only grows, and the greatest stays.
    fn note_minutes(&mut self) {
        const REMEMBERED: i64 = 5;
        for (minute, messages) in &self.minutes {
            if let Some(delta) = self.hours.get_mut(&minute.div_euclid(60)) {
                delta.minute_max = delta.minute_max.max(*messages);
            }
        }
        if let Some(newest) = self.minutes.keys().next_back().copied() {
            self.minutes.retain(|minute, _| *minute > newest - REMEMBERED);
        }
    }

    fn is_written(&self) -> bool {
        self.hours.is_empty() && self.rooms.is_empty()
    }

    /// Writes some rooms, and everything of their tenant. Returns how many rooms.
    async fn write_chunk(
        &mut self,
        tenant: &EcoString,
        shelf: Shelf<'_>,
        life: Option<Life<'_>>,
    ) -> Result<usize, StoreError> {
        let rooms: Vec<_> = self.rooms.iter().take(CHUNK).collect();
        let hours: BTreeSet<i64> =
            self.hours.keys().copied().chain(rooms.iter().map(|((_, hour), _)| *hour)).collect();
        let mut sheet = Sheet::read(tenant, shelf, life, &hours, rooms.iter().map(|(key, _)| *key)).await?;
        for (hour, delta) in &self.hours {
            sheet.add(*hour, delta);
        }
        let rooms_max = if matches!(shelf, Shelf::Memory(_)) { ROOMS_MAX.1 } else { ROOMS_MAX.0 };
        for ((room, hour), total) in &rooms {
            sheet.add_room(room, *hour, total, rooms_max);
        }
        let written = rooms.len();
        let last = rooms.last().map(|(key, _)| (*key).clone());
        write_for_sure(shelf, sheet.into_writes()).await?;
        self.hours.clear();
        if let Some(last) = last {
            self.rooms = self.rooms.split_off(&last);
            self.rooms.remove(&last);
        }
        Ok(written)
    }
}

/// Writes, and if it cannot be known whether that was done, looks: nobody else writes the same.
async fn write_for_sure(shelf: Shelf<'_>, facts: Vec<FactWrite>) -> Result<(), StoreError> {
    let Err(error) = shelf.write(facts.clone()).await else { return Ok(()) };
    if !matches!(error, StoreError::InDoubt(_)) {
        return Err(error);
    }
    let (keys, values): (Vec<_>, Vec<_>) = facts
        .into_iter()
        .filter_map(|write| match write {
            FactWrite::Set(key, value) => Some((key, Some(value))),
            _ => None,
        })
        .unzip();
    if shelf.facts(keys).await? == values { Ok(()) } else { Err(error) }
}

/// The figures that a chunk changes.
struct Sheet<'a> {
    tenant: &'a EcoString,
    life: Option<Life<'a>>,
    hours: BTreeMap<i64, Total>,
    days: BTreeMap<i64, (Total, Top)>,
    room_hours: BTreeMap<(EcoString, i64), RoomTotal>,
    room_days: BTreeMap<(EcoString, i64), RoomTotal>,
}

impl<'a> Sheet<'a> {
    async fn read(
        tenant: &'a EcoString,
        shelf: Shelf<'_>,
        life: Option<Life<'a>>,
        hours: &BTreeSet<i64>,
        rooms: impl Iterator<Item = &(EcoString, i64)>,
    ) -> Result<Self, StoreError> {
        let hours: Vec<i64> = hours.iter().copied().collect();
        let days: BTreeSet<i64> = hours.iter().map(|hour| hour.div_euclid(24)).collect();
        let days: Vec<i64> = days.into_iter().collect();
        let room_hours: Vec<(EcoString, i64)> = rooms.cloned().collect();
        let room_days: BTreeSet<_> =
            room_hours.iter().map(|(room, hour)| (room.clone(), hour.div_euclid(24))).collect();
        let room_days: Vec<_> = room_days.into_iter().collect();
        let mut keys = Vec::new();
        let own = |family, time, room| key(tenant, family, time, room, life.map(|life| life.name));
        keys.extend(hours.iter().map(|hour| own("h", *hour, None)));
        keys.extend(days.iter().map(|day| own("d", *day, None)));
        keys.extend(days.iter().map(|day| own("top", *day, None)));
        keys.extend(room_hours.iter().map(|(room, hour)| own("rh", *hour, Some(room.as_str()))));
        keys.extend(room_days.iter().map(|(room, day)| own("rd", *day, Some(room.as_str()))));
        let mut facts = shelf.facts(keys).await?.into_iter();
        let mut next = || facts.next().flatten();
        let hours =
            hours.into_iter().map(|hour| (hour, known(next(), Total::decode).unwrap_or_default())).collect();
        let totals: Vec<_> = days.iter().map(|_| known(next(), Total::decode).unwrap_or_default()).collect();
        let tops = totals.into_iter().map(|total| (total, known(next(), Top::decode).unwrap_or_default()));
        let days = days.iter().copied().zip(tops).collect();
        let mut totals = |keys: Vec<(EcoString, i64)>| {
            let known = keys.into_iter().map(|key| Some((key, known(next(), RoomTotal::decode)?)));
            // Every key takes its fact; those that there are none of come into being when they are added to.
            known.collect::<Vec<_>>().into_iter().flatten().collect()
        };
        let room_hours = totals(room_hours);
        let room_days = totals(room_days);
        let mut sheet = Self { tenant, life, hours, days, room_hours, room_days };
        sheet.note_life();
        Ok(sheet)
    }

    fn note_life(&mut self) {
        let Some(life) = self.life else { return };
        for (hour, total) in &mut self.hours {
            life.note(total, hour * HOUR_MS, *hour);
            if let Some((day, _)) = self.days.get_mut(&hour.div_euclid(24)) {
                life.note(day, hour.div_euclid(24) * 24 * HOUR_MS, *hour);
            }
        }
    }

    fn add(&mut self, hour: i64, delta: &Delta) {
        let day = hour.div_euclid(24);
        let begins = [hour * HOUR_MS / MINUTE_MS, day * 24 * HOUR_MS / MINUTE_MS];
        let of_day = &mut self.days.entry(day).or_default().0;
        let of_hour = self.hours.entry(hour).or_default();
        for (total, begin) in [of_hour, of_day].into_iter().zip(begins) {
            if let Some(shares) = &mut total.shares {
                for (minute, messages) in &delta.minutes {
                    let minute = u16::try_from(minute - begin).unwrap_or_default();
                    *shares.minutes.entry(minute).or_default() += messages;
                }
            }
            total.messages += delta.messages;
            total.minute_max = total.minute_max.max(delta.minute_max);
            total.connections_max = total.connections_max.max(delta.connections_max);
            total.users.merge(&delta.users);
        }
    }

    fn add_room(&mut self, room: &EcoString, hour: i64, added: &RoomTotal, rooms_max: u64) {
        let day = hour.div_euclid(24);
        let of_hour = self.hours.entry(hour).or_default();
        if let Some(total) =
            in_bounds(&mut self.room_hours, (room.clone(), hour), &mut of_hour.rooms, rooms_max)
        {
            total.messages += added.messages;
            note_name(of_hour, room);
        }
        let (of_day, top) = self.days.entry(day).or_default();
        if let Some(total) = in_bounds(&mut self.room_days, (room.clone(), day), &mut of_day.rooms, rooms_max)
        {
            total.messages += added.messages;
            total.users.merge(&added.users);
            top.put(room, total.messages);
            note_name(of_day, room);
        }
    }

    fn into_writes(self) -> Vec<FactWrite> {
        let (tenant, life) = (self.tenant, self.life.map(|life| life.name));
        let set = |family, time, room: Option<&str>, value| {
            FactWrite::Set(key(tenant, family, time, room, life), value)
        };
        let mut writes = Vec::new();
        writes.extend(self.hours.iter().map(|(hour, total)| set("h", *hour, None, total.encode())));
        for (day, (total, top)) in &self.days {
            writes.push(set("d", *day, None, total.encode()));
            writes.push(set("top", *day, None, top.encode()));
        }
        let hours = self.room_hours.iter();
        writes.extend(hours.map(|((room, hour), total)| set("rh", *hour, Some(room), total.encode())));
        let days = self.room_days.iter();
        writes.extend(days.map(|((room, day), total)| set("rd", *day, Some(room), total.encode())));
        writes
    }
}

fn note_name(total: &mut Total, room: &EcoString) {
    if let Some(shares) = &mut total.shares {
        shares.names.insert(distinct::hash(room));
    }
}

/// The total of a room, which begins to exist unless there are too many.
fn in_bounds<'a>(
    totals: &'a mut BTreeMap<(EcoString, i64), RoomTotal>,
    key: (EcoString, i64),
    rooms: &mut u64,
    rooms_max: u64,
) -> Option<&'a mut RoomTotal> {
    if !totals.contains_key(&key) {
        if *rooms >= rooms_max {
            return None;
        }
        *rooms += 1;
    }
    Some(totals.entry(key).or_default())
}

/// What is kept, if it can be read. What cannot begins anew: figures are not worth refusing to count for.
pub(super) fn known<T>(fact: Option<Bytes>, decode: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let fact = fact?;
    let known = decode(&fact);
    if known.is_none() {
        tracing::warn!("a stored figure cannot be read: it begins anew");
    }
    known
}

/// Drops figures that are too old, of every tenant that has any.
async fn trim(shelf: Shelf<'_>, hour: i64) -> Result<(), StoreError> {
    let (oldest_hour, oldest_day) = (hour - KEPT.hours, hour.div_euclid(24) - KEPT.days);
    for tenant in shelf.tenants().await? {
        for (family, oldest) in [
            ("h", oldest_hour),
            ("rh", oldest_hour),
            ("d", oldest_day),
            ("rd", oldest_day),
            ("top", oldest_day),
        ] {
            let bound = key(&tenant, family, oldest, None, None).name;
            loop {
                let mut names = shelf.names(&tenant, family).await?;
                let full = names.len() == TRIM_CHUNK;
                names.retain(|name| *name < bound);
                let all_old = names.len() == TRIM_CHUNK;
                let delete =
                    |name| FactWrite::Delete(FactKey { tenant: tenant.clone(), space: ANALYTICS, name });
                if !names.is_empty() {
                    shelf.write(names.into_iter().map(delete).collect()).await?;
                }
                if !(full && all_old) {
                    break;
                }
            }
        }
    }
    Ok(())
}

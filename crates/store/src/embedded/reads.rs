//! Reading: each question is answered from one view, and nothing is served whose checksum does not match.

use bytes::Bytes;
use ecow::EcoString;

use super::engine::{Engine, View, hole, wrong, wrong_record};
use super::layout::{self, Family, Head, Kept, Past, Wrong};
use super::plan::{fact_value, read_fact};
use crate::{
    AuthoredPage, Direction, Fact, FactKey, FactPage, Log, LogKey, LogState, LogsPage, Page, Place, Range,
    Space, StoreError, VerifyReport,
};

/// How many records one call of [`authored`] looks at, so that it does not keep a reader for long.
const AUTHORED_LOOKS_MAX: usize = 50_000;
/// How many problems are worth listing.
const PROBLEMS_MAX: usize = 100;

fn decode(log: &LogKey, key: &[u8], value: &[u8]) -> Result<Kept, StoreError> {
    Kept::decode(key, value).map_err(|Wrong| match layout::offset_of(key) {
        Ok(offset) => wrong_record(log, offset),
        Err(Wrong) => wrong(&log.to_string()),
    })
}

pub(super) fn range(engine: &Engine, log: &LogKey, range: Range) -> Result<Page, StoreError> {
    let view = engine.snapshot();
    let Some(head) = view.head(log)? else { return Ok(Page::default()) };
    let LogState { first, head: last, .. } = head.state;
    let mut page = Page { state: head.state, records: Vec::new() };
    let (from, to) = match range.direction {
        Direction::After(offset) => (offset.saturating_add(1).max(first), last + 1),
        Direction::Before(offset) => (first, offset.min(last + 1)),
    };
    if from >= to || range.records_max == 0 {
        return Ok(page);
    }
    let at = |offset| layout::record_key(head.number, offset).to_vec();
    let records = view.range(Family::Records, at(from), Some(at(to)));
    match range.direction {
        Direction::After(_) => take(log, records, from..to, range, &mut page)?,
        Direction::Before(_) => take(log, records.rev(), (from..to).rev(), range, &mut page)?,
    }
    Ok(page)
}

/// Takes records that must have just these offsets, as far as the range's bounds go.
fn take(
    log: &LogKey,
    mut records: impl Iterator<Item = Result<(fjall::Slice, fjall::Slice), StoreError>>,
    offsets: impl Iterator<Item = u64>,
    range: Range,
    page: &mut Page,
) -> Result<(), StoreError> {
    let mut bytes = 0usize;
    for offset in offsets.take(range.records_max) {
        let (key, value) = records.next().ok_or_else(|| hole(log, offset))??;
        let stored = decode(log, &key, &value)?.stored;
        if stored.offset != offset {
            return Err(hole(log, offset));
        }
        bytes = bytes.saturating_add(stored.payload.len());
        if bytes > range.bytes_max && !page.records.is_empty() {
            break;
        }
        page.records.push(stored);
    }
    Ok(())
}

pub(super) fn states(engine: &Engine, logs: &[LogKey]) -> Result<Vec<Option<LogState>>, StoreError> {
    let view = engine.snapshot();
    logs.iter().map(|log| Ok(view.head(log)?.map(|head| head.state))).collect()
}

fn read_log(key: &[u8], value: &[u8]) -> Result<(LogKey, Head), StoreError> {
    let shown = || format!("the log {:?}", key.escape_ascii().to_string());
    let log = layout::log_of(key).map_err(|Wrong| wrong(&shown()))?;
    let head = Head::decode(key, value).map_err(|Wrong| wrong(&shown()))?;
    Ok((log, head))
}

/// Right behind a key.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

pub(super) fn logs(
    engine: &Engine,
    tenant: &str,
    after: Option<&str>,
    max: usize,
) -> Result<LogsPage, StoreError> {
    let view = engine.snapshot();
    let prefix = layout::tenant_prefix(tenant);
    let from = match after {
        Some(room) => behind(layout::log_key(&LogKey { tenant: tenant.into(), room: room.into() })),
        None => prefix.clone(),
    };
    let mut found = view.range(Family::Logs, from, layout::after_prefix(prefix));
    let mut page = LogsPage::default();
    for log in found.by_ref().take(max) {
        let (key, value) = log?;
        let (key, head) = read_log(&key, &value)?;
        page.logs.push(Log { key, state: head.state });
    }
    page.more = found.next().transpose()?.is_some();
    Ok(page)
}

pub(super) fn tenants(engine: &Engine) -> Result<Vec<EcoString>, StoreError> {
    let view = engine.snapshot();
    let mut tenants = Vec::new();
    for family in [Family::Logs, Family::Facts] {
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let Some(found) = view.range(family, start, None).next() else { break };
            let (key, _) = found?;
            let tenant = layout::tenant_of(&key).map_err(|Wrong| wrong("a tenant's name"))?;
            from = layout::after_prefix(layout::tenant_prefix(&tenant));
            tenants.push(tenant);
        }
    }
    tenants.sort();
    tenants.dedup();
    Ok(tenants)
}

pub(super) fn facts(engine: &Engine, keys: &[FactKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
    let view = engine.snapshot();
    keys.iter().map(|key| read_fact(&view, key)).collect()
}

pub(super) fn scan(
    engine: &Engine,
    tenant: &str,
    space: Space,
    prefix: &[u8],
    after: Option<&[u8]>,
    max: usize,
) -> Result<FactPage, StoreError> {
    let view = engine.snapshot();
    let family = layout::space_prefix(tenant, space.0);
    let named = |name: &[u8]| [&family, name].concat();
    let from = match after {
        Some(after) if after >= prefix => behind(named(after)),
        _ => named(prefix),
    };
    let mut found = view.range(Family::Facts, from, layout::after_prefix(named(prefix)));
    let mut page = FactPage::default();
    for fact in found.by_ref().take(max) {
        let (key, value) = fact?;
        let name = Bytes::copy_from_slice(&key[family.len()..]);
        page.facts.push(Fact { name, value: fact_value(&key, &value)? });
    }
    page.more = found.next().transpose()?.is_some();
    Ok(page)
}

pub(super) fn authored(
    engine: &Engine,
    tenant: &str,
    author: &str,
    from: Option<&Place>,
    max: usize,
) -> Result<AuthoredPage, StoreError> {
    let view = engine.snapshot();
    let prefix = layout::tenant_prefix(tenant);
    let start = match from {
        Some(place) => layout::log_key(&LogKey { tenant: tenant.into(), room: place.room.clone() }),
        None => prefix.clone(),
    };
    let mut page = AuthoredPage::default();
    let mut looks = 0;
    for log in view.range(Family::Logs, start, layout::after_prefix(prefix)) {
        let (key, value) = log?;
        let (log, head) = read_log(&key, &value)?;
        let offset = from.filter(|place| place.room == log.room).map_or(0, |place| place.offset);
        let at = |offset| layout::record_key(head.number, offset).to_vec();
        let (first, end) = (offset.max(head.state.first), head.state.head + 1);
        if first >= end {
            continue;
        }
        for record in view.range(Family::Records, at(first), Some(at(end))) {
            let (key, value) = record?;
            let stored = decode(&log, &key, &value)?.stored;
            if page.records.len() >= max || looks >= AUTHORED_LOOKS_MAX {
                page.next = Some(Place { room: log.room, offset: stored.offset });
                return Ok(page);
            }
            looks += 1;
            if stored.author == author {
                page.records.push((log.room.clone(), stored));
            }
        }
    }
    Ok(page)
}

/// Reads everything. What is wrong is noted, and reading goes on behind it.
pub(super) fn verify(engine: &Engine) -> VerifyReport {
    let view = engine.snapshot();
    let mut check = Check { view, report: VerifyReport::default(), numbers: Vec::new() };
    check.logs();
    check.families();
    check.report
}

struct Check<'a> {
    view: View<'a>,
    report: VerifyReport,
    /// Numbers of the logs there are.
    numbers: Vec<u64>,
}

impl Check<'_> {
    fn problem(&mut self, text: String) {
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(text);
        }
    }

    fn logs(&mut self) {
        let found: Vec<_> = self.view.range(Family::Logs, Vec::new(), None).collect();
        for log in found {
            if self.view.is_stopped() {
                self.problem("the store was closed before everything was looked at".to_owned());
                return;
            }
            self.report.logs += 1;
            match log.and_then(|(key, value)| read_log(&key, &value)) {
                Ok((log, head)) => {
                    self.numbers.push(head.number);
                    self.log(&log, &head);
                }
                Err(error) => self.problem(error.to_string()),
            }
        }
    }

    fn log(&mut self, log: &LogKey, head: &Head) {
        let LogState { first, head: last, .. } = head.state;
        let prefix = head.number.to_be_bytes().to_vec();
        let (mut expected, mut bytes, mut before) = (first, 0, None::<Kept>);
        let mut problems = Vec::new();
        let mut count = 0;
        for record in self.view.prefix(Family::Records, prefix) {
            count += 1;
            let kept = match record.and_then(|(key, value)| decode(log, &key, &value)) {
                Ok(kept) => kept,
                Err(error) => {
                    problems.push(error.to_string());
                    expected += 1;
                    continue;
                }
            };
            if kept.stored.offset != expected {
                problems.push(hole(log, expected).to_string());
            }
            if let Some(before) = &before
                && (kept.id_high < before.id_high || kept.stored.ordinal < before.stored.ordinal)
            {
                problems.push(format!(
                    "record {} of {log} does not follow the one before it",
                    kept.stored.offset
                ));
            }
            problems.extend(self.unremembered(log, head, &kept));
            bytes += kept.stored.payload.len() as u64;
            expected = kept.stored.offset + 1;
            before = Some(kept);
            if problems.len() > PROBLEMS_MAX {
                break;
            }
        }
        self.report.records += count;
        if expected != last + 1 {
            problems.push(format!("{log} ends at {} and should end at {last}", expected - 1));
        }
        if problems.is_empty() && bytes != head.state.bytes {
            problems.push(format!("{log} has {bytes} payload bytes and says {}", head.state.bytes));
        }
        if let Some(newest) = before
            && (newest.stored.ordinal != head.state.ordinal || Some(newest.id_high) != head.id_high)
        {
            problems.push(format!("{log} does not end as its state says"));
        }
        problems.into_iter().for_each(|problem| self.problem(problem));
    }

    /// What a record should have left among the keys and did not.
    fn unremembered(&self, log: &LogKey, head: &Head, kept: &Kept) -> Option<String> {
        if kept.stored.offset <= head.forgotten {
            return None;
        }
        let by_key = kept.key.as_ref().map(|key| layout::key_key(head.number, key));
        let by_id = (!kept.in_order()).then(|| layout::id_key(head.number, kept.stored.id));
        let wrong = by_key.into_iter().chain(by_id).any(|key| match self.view.get(Family::Keys, &key) {
            Ok(Some(value)) => layout::decode_outcome(&key, &value) != Ok(kept.outcome()),
            _ => true,
        });
        wrong.then(|| format!("a repeat of record {} of {log} would not be noticed", kept.stored.offset))
    }

    /// Everything that is not a log's record is looked at by itself.
    fn families(&mut self) {
        for family in [Family::Meta, Family::Keys, Family::Past, Family::Facts] {
            let mut problems = Vec::new();
            for entry in self.view.range(family, Vec::new(), None) {
                let checked = entry.and_then(|(key, value)| {
                    let shown = || format!("{family:?} {:?}", key.escape_ascii().to_string());
                    layout::opened(family, &key, &value).map_err(|Wrong| wrong(&shown()))?;
                    if family == Family::Past {
                        Past::decode(&key, &value).map_err(|Wrong| wrong(&shown()))?;
                    }
                    Ok(())
                });
                if family == Family::Facts {
                    self.report.facts += 1;
                }
                problems.extend(checked.err().map(|error| error.to_string()));
                if problems.len() > PROBLEMS_MAX {
                    break;
                }
            }
            problems.into_iter().for_each(|problem| self.problem(problem));
        }
        self.strays();
    }

    /// Records of a log that is not there, and was not dropped.
    fn strays(&mut self) {
        let doomed = self.view.prefix(Family::Meta, layout::DOOMED.to_vec());
        let doomed = doomed.filter_map(|entry| layout::doomed_of(&entry.ok()?.0).ok());
        self.numbers.extend(doomed);
        self.numbers.sort_unstable();
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let Some(Ok((key, _))) = self.view.range(Family::Records, start, None).next() else { break };
            let Some(number) = key.first_chunk::<8>() else { break };
            if self.numbers.binary_search(&u64::from_be_bytes(*number)).is_err() {
                self.problem(format!(
                    "records of a log that does not exist, number {}",
                    u64::from_be_bytes(*number)
                ));
            }
            from = layout::after_prefix(number.to_vec());
        }
    }
}

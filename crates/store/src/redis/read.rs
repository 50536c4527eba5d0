//! Reading logs and facts. A range comes from one script, so it shows one moment.

use ::redis::{ErrorKind, RedisError};
use bytes::Bytes;
use ecow::EcoString;

use super::link::Links;
use super::scripts::{Call, RANGE, SCAN};
use crate::remote::{successor, without_holes};
use crate::{
    Direction, Fact, FactKey, FactPage, Log, LogKey, LogState, LogsPage, Page, Range, StoreError, Stored,
};

/// How many texts a state is.
pub(super) const STATE: usize = 5;
/// How many texts a record is.
const RECORD: usize = 6;
/// How many names are asked for at once where an unknown number of them leads nowhere.
const CHUNK: usize = 256;
/// An answer that is not what a script of ours gives.
pub(super) fn not_understood() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "an answer that no script of ours gives"))
}

/// The state that an answer begins with; `None`: there is no log.
pub(super) fn state(answer: &[Vec<u8>]) -> Option<LogState> {
    Some(LogState {
        epoch: number(answer.first()?)?,
        first: number(answer.get(1)?)?,
        head: number(answer.get(2)?)?,
        ordinal: number(answer.get(3)?)?,
        bytes: number(answer.get(4)?)?,
    })
}

pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn stored(texts: &[Vec<u8>]) -> Option<Stored> {
    let [offset, id, ordinal, author, ts, payload] = texts else { return None };
    Some(Stored {
        offset: number(offset)?,
        ordinal: number(ordinal)?,
        id: u128::from_be_bytes(id.as_slice().try_into().ok()?),
        author: str::from_utf8(author).ok()?.into(),
        ts: number(ts)?,
        payload: Bytes::copy_from_slice(payload),
    })
}

pub(super) async fn range(links: &Links, log: &LogKey, range: Range) -> Result<Page, StoreError> {
    let keys = [links.keys.state(log), links.keys.stream(log), links.keys.replaced(log)];
    let (direction, offset) = match range.direction {
        Direction::After(offset) => ("after", offset),
        Direction::Before(offset) => ("before", offset),
    };
    let call = Call::script(&RANGE, &keys).arg(direction).arg(offset);
    let answer: Vec<Vec<u8>> = links.ask(&call.arg(range.records_max).arg(range.bytes_max)).await?;
    let Some(state) = state(&answer) else { return Ok(Page::default()) };
    let records: Option<Vec<_>> = answer[STATE..].chunks(RECORD).map(stored).collect();
    let records =
        records.ok_or_else(|| StoreError::Damaged(format!("a record in {log} is not one of ours")))?;
    without_holes(log, Page { state, records }, range)
}

pub(super) async fn states(links: &Links, logs: &[LogKey]) -> Result<Vec<Option<LogState>>, StoreError> {
    let call = |log: &LogKey| {
        let call = Call::command("HMGET").arg(links.keys.state(log));
        call.arg(&["epoch", "first", "head", "ordinal", "bytes"])
    };
    let calls: Vec<_> = logs.iter().map(call).collect();
    let answers: Vec<Vec<Option<Vec<u8>>>> = links.ask_all(&calls).await?;
    let state = |answer: Vec<Option<Vec<u8>>>| state(&answer.into_iter().collect::<Option<Vec<_>>>()?);
    Ok(answers.into_iter().map(state).collect())
}

pub(super) async fn logs(
    links: &Links,
    tenant: &str,
    after: Option<&str>,
    logs_max: usize,
) -> Result<LogsPage, StoreError> {
    let mut from = after.map_or_else(|| b"-".to_vec(), |after| [b"(", after.as_bytes()].concat());
    let mut logs: Vec<Log> = Vec::new();
    loop {
        let call = Call::command("ZRANGEBYLEX").arg(links.keys.rooms(tenant)).arg(&from[..]).arg("+");
        let rooms: Vec<Vec<u8>> = links.ask(&call.arg("LIMIT").arg(0).arg(CHUNK)).await?;
        let keys = rooms.iter().map(|room| {
            let room = String::from_utf8_lossy(room);
            LogKey { tenant: tenant.into(), room: room.as_ref().into() }
        });
        let keys: Vec<_> = keys.collect();
        let states = states(links, &keys).await?;
        // A room is noted before its log begins, and for a moment after it is dropped.
        let found = keys.into_iter().zip(states).filter_map(|(key, state)| Some(Log { key, state: state? }));
        logs.extend(found);
        let more = logs.len() > logs_max;
        match rooms.last() {
            Some(last) if !more && rooms.len() == CHUNK => from = [b"(", &last[..]].concat(),
            _ => {
                logs.truncate(logs_max);
                return Ok(LogsPage { logs, more });
            }
        }
    }
}

pub(super) async fn tenants(links: &Links) -> Result<Vec<EcoString>, StoreError> {
    let names: Vec<String> = links.ask(&Call::command("SMEMBERS").arg(links.keys.tenants())).await?;
    let mut tenants = Vec::new();
    for name in names {
        if has_facts(links, &name).await? || !logs(links, &name, None, 1).await?.logs.is_empty() {
            tenants.push(EcoString::from(name));
        }
    }
    tenants.sort();
    Ok(tenants)
}

/// A tenant's families of facts, those without any included.
pub(super) async fn spaces(links: &Links, tenant: &str) -> Result<Vec<String>, StoreError> {
    links.ask(&Call::command("SMEMBERS").arg(links.keys.spaces(tenant))).await
}

async fn has_facts(links: &Links, tenant: &str) -> Result<bool, StoreError> {
    let spaces = spaces(links, tenant).await?;
    let calls = spaces.iter().map(|space| {
        let [names, ..] = links.keys.facts((tenant, space));
        Call::command("EXISTS").arg(names)
    });
    let found: Vec<bool> = links.ask_all(&calls.collect::<Vec<_>>()).await?;
    Ok(found.contains(&true))
}

pub(super) async fn facts(links: &Links, keys: &[FactKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
    let calls = keys.iter().map(|key| {
        let [_, values, _] = links.keys.facts((&key.tenant, key.space.0));
        Call::command("HGET").arg(values).arg(&key.name[..])
    });
    let values: Vec<Option<Vec<u8>>> = links.ask_all(&calls.collect::<Vec<_>>()).await?;
    Ok(values.into_iter().map(|value| value.map(Bytes::from)).collect())
}

pub(super) async fn scan(
    links: &Links,
    family: (&str, &str),
    prefix: &[u8],
    after: Option<&[u8]>,
    facts_max: usize,
) -> Result<FactPage, StoreError> {
    let from = match after {
        Some(after) if after >= prefix => [b"(", after].concat(),
        _ => [b"[", prefix].concat(),
    };
    let to = successor(prefix).map_or_else(|| b"+".to_vec(), |next| [b"(", &next[..]].concat());
    let [names, values, _] = links.keys.facts(family);
    let call = Call::script(&SCAN, &[names, values]).arg(&from[..]).arg(&to[..]);
    let limit = i64::try_from(facts_max).unwrap_or(i64::MAX).saturating_add(1);
    let texts: Vec<Bytes> = links.ask(&call.arg(limit)).await?;
    let mut facts: Vec<_> =
        texts.chunks_exact(2).map(|fact| Fact { name: fact[0].clone(), value: fact[1].clone() }).collect();
    let more = facts.len() > facts_max;
    facts.truncate(facts_max);
    Ok(FactPage { facts, more })
}

//! Reading logs and facts. The state is read before the records, which are then those up to its head; what is being written
//! at this moment may be seen in part, and is then read again.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::Select;
use bytes::{Bytes, BytesMut};
use ecow::EcoString;

use super::client::Table;
use super::items::{self, Head, Item, Key};
use crate::remote::without_holes;
use crate::{
    Direction, Fact, FactKey, FactPage, Log, LogKey, LogState, LogsPage, Page, Range, StoreError, Stored,
};

/// How often a range is read before a hole in it is believed.
const TRIES_MAX: u32 = 5;
/// How many items a request asks for at most.
const PAGE: usize = 1_000;

pub(super) async fn head(table: &Table, log: &LogKey) -> Result<Option<Head>, StoreError> {
    let Some(item) = table.get(&items::log(log)).await? else { return Ok(None) };
    match Head::of(&item) {
        Some(head) => Ok(Some(head)),
        None => Err(StoreError::Damaged(format!("the state of {log} is not one of ours"))),
    }
}

/// A request for the items of a partition, as they are now.
pub(super) async fn query(table: &Table, partition: &[u8]) -> Result<QueryFluentBuilder, StoreError> {
    let query = table.ready().await?.query().table_name(table.name()).consistent_read(true);
    Ok(query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", items::blob(partition)))
}

/// A request for the records of a log from one offset to another, both included.
pub(super) async fn query_records(
    table: &Table,
    partition: &[u8],
    from: u64,
    to: u64,
) -> Result<QueryFluentBuilder, StoreError> {
    let query =
        query(table, partition).await?.key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to");
    let query = query.expression_attribute_values(":from", items::blob(&items::record_sort(from)));
    Ok(query.expression_attribute_values(":to", items::blob(&items::record_sort(to))))
}

/// One page of a request, and where the next begins.
pub(super) async fn page(
    table: &Table,
    query: &QueryFluentBuilder,
    items_max: usize,
    start: Option<Item>,
) -> Result<(Vec<Item>, Option<Item>), StoreError> {
    let limit = i32::try_from(items_max.clamp(1, PAGE)).unwrap_or(i32::MAX);
    let answer = query.clone().limit(limit).set_exclusive_start_key(start).send().await;
    let answer = answer.map_err(|error| table.unread(&error))?;
    Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
}

pub(super) async fn range(table: &Table, log: &LogKey, range: Range) -> Result<Page, StoreError> {
    let mut tries = 1;
    loop {
        let Some(head) = head(table, log).await? else { return Ok(Page::default()) };
        let records = records(table, log, &head, range).await?;
        match without_holes(log, Page { state: head.state, records }, range) {
            Err(StoreError::Damaged(_)) if tries < TRIES_MAX => {
                tokio::time::sleep(Duration::from_millis(10 << tries)).await;
                tries += 1;
            }
            result => return result,
        }
    }
}

async fn records(table: &Table, log: &LogKey, head: &Head, range: Range) -> Result<Vec<Stored>, StoreError> {
    let (from, to) = match range.direction {
        Direction::After(offset) => (offset.saturating_add(1).max(head.state.first), head.state.head),
        Direction::Before(offset) => (head.state.first, offset.saturating_sub(1).min(head.state.head)),
    };
    let (mut records, mut bytes) = (Vec::new(), 0_usize);
    if from > to || range.records_max == 0 {
        return Ok(records);
    }
    let partition = head.partition(log);
    let forward = matches!(range.direction, Direction::After(_));
    let query = query_records(table, &partition, from, to).await?.scan_index_forward(forward);
    let mut start = None;
    loop {
        let (items, next) = page(table, &query, range.records_max - records.len(), start).await?;
        for item in &items {
            // A record that is trimmed at this moment has no payload any more.
            let Some((stored, size)) = items::stored(item) else { return Ok(records) };
            bytes = bytes.saturating_add(size);
            if bytes > range.bytes_max && !records.is_empty() {
                return Ok(records);
            }
            records.push(whole(table, &partition, stored, size).await?);
        }
        start = next;
        if start.is_none() || records.len() >= range.records_max {
            return Ok(records);
        }
    }
}

/// The record with all of its payload.
pub(super) async fn whole(
    table: &Table,
    partition: &[u8],
    stored: Stored,
    size: usize,
) -> Result<Stored, StoreError> {
    let pieces = items::pieces_of(size);
    if pieces == 0 {
        return Ok(stored);
    }
    let keys = (1..=pieces).map(|piece| Key(partition.to_vec(), items::piece_sort(stored.offset, piece)));
    let pieces = table.get_all(&keys.collect::<Vec<_>>()).await?;
    let mut payload = BytesMut::from(&stored.payload[..]);
    for piece in pieces.iter().flatten() {
        payload.extend_from_slice(items::read_blob(piece, "p").unwrap_or_default());
    }
    if payload.len() != size {
        return Err(StoreError::Damaged(format!("a part of the record {} is missing", stored.offset)));
    }
    Ok(Stored { payload: payload.freeze(), ..stored })
}

pub(super) async fn states(table: &Table, logs: &[LogKey]) -> Result<Vec<Option<LogState>>, StoreError> {
    let keys: Vec<_> = logs.iter().map(items::log).collect();
    let items = table.get_all(&keys).await?;
    Ok(items.into_iter().map(|item| Head::of(&item?).map(|head| head.state)).collect())
}

/// The names in a list after another, and whether there are more.
async fn names(
    table: &Table,
    partition: Vec<u8>,
    after: Option<&str>,
    names_max: usize,
) -> Result<(Vec<String>, bool), StoreError> {
    let query = query(table, &partition).await?;
    let mut start = after.map(|after| Key(partition, items::listed(after)).item());
    let mut names = Vec::new();
    loop {
        let (items, next) = page(table, &query, names_max.saturating_sub(names.len()), start).await?;
        for item in &items {
            let name = items::read_blob(item, "sk").and_then(|sort| str::from_utf8(sort.get(1..)?).ok());
            names.extend(name.map(str::to_owned));
        }
        start = next;
        if start.is_none() || names.len() >= names_max {
            return Ok((names, start.is_some()));
        }
    }
}

pub(super) async fn logs(
    table: &Table,
    tenant: &str,
    after: Option<&str>,
    logs_max: usize,
) -> Result<LogsPage, StoreError> {
    let (mut logs, mut after) = (Vec::new(), after.map(str::to_owned));
    loop {
        let (rooms, more) =
            names(table, items::rooms(tenant), after.as_deref(), PAGE.min(logs_max.saturating_add(1)))
                .await?;
        after = rooms.last().cloned();
        let keys = rooms.into_iter().map(|room| LogKey { tenant: tenant.into(), room: room.into() });
        let keys: Vec<_> = keys.collect();
        let states = states(table, &keys).await?;
        // A room is noted before its log begins, and for a moment after it is dropped.
        logs.extend(keys.into_iter().zip(states).filter_map(|(key, state)| Some(Log { key, state: state? })));
        if logs.len() > logs_max || !more {
            let more = logs.len() > logs_max;
            logs.truncate(logs_max);
            return Ok(LogsPage { logs, more });
        }
    }
}

pub(super) async fn tenants(table: &Table) -> Result<Vec<EcoString>, StoreError> {
    let (names, _) = names(table, items::tenants(), None, usize::MAX).await?;
    let mut tenants = Vec::new();
    for name in names {
        if has_facts(table, &name).await? || !logs(table, &name, None, 1).await?.logs.is_empty() {
            tenants.push(EcoString::from(name));
        }
    }
    Ok(tenants)
}

/// A tenant's families of facts, those without any included.
pub(super) async fn spaces(table: &Table, tenant: &str) -> Result<Vec<String>, StoreError> {
    Ok(names(table, items::spaces(tenant), None, usize::MAX).await?.0)
}

async fn has_facts(table: &Table, tenant: &str) -> Result<bool, StoreError> {
    for space in spaces(table, tenant).await? {
        if !scan(table, (tenant, &space), b"", None, 1).await?.facts.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn value(item: &Item) -> Option<Bytes> {
    items::read_blob(item, "v").map(Bytes::copy_from_slice)
}

pub(super) async fn facts(table: &Table, keys: &[FactKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
    let keys = keys.iter().map(|key| items::fact((&key.tenant, key.space.0), &key.name));
    let items = table.get_all(&keys.collect::<Vec<_>>()).await?;
    Ok(items.into_iter().map(|item| value(&item?)).collect())
}

pub(super) async fn scan(
    table: &Table,
    family: (&str, &str),
    prefix: &[u8],
    after: Option<&[u8]>,
    facts_max: usize,
) -> Result<FactPage, StoreError> {
    let mut facts = Vec::new();
    let wanted = facts_max.saturating_add(1);
    if prefix.is_empty() && after.is_none() {
        let nameless = table.get(&items::fact(family, b"")).await?;
        let value = nameless.as_ref().and_then(value);
        facts.extend(value.map(|value| Fact { name: Bytes::new(), value }));
    }
    let partition = items::facts(family);
    let mut query = query(table, &partition).await?;
    if !prefix.is_empty() {
        query = query
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":prefix", items::blob(prefix));
    }
    // Before all with the prefix: from the beginning. Behind all of them: nothing.
    let after = after.filter(|after| !after.is_empty() && *after >= prefix);
    if after.is_some_and(|after| !after.starts_with(prefix)) {
        return Ok(FactPage::default());
    }
    let mut start = after.map(|after| Key(partition, after.to_vec()).item());
    while facts.len() < wanted {
        let (items, next) = page(table, &query, wanted - facts.len(), start).await?;
        facts.extend(items.iter().filter_map(|item| {
            Some(Fact { name: Bytes::copy_from_slice(items::read_blob(item, "sk")?), value: value(item)? })
        }));
        start = next;
        if start.is_none() {
            break;
        }
    }
    let more = facts.len() > facts_max;
    facts.truncate(facts_max);
    Ok(FactPage { facts, more })
}

pub(super) async fn count_facts(table: &Table, family: (&str, &str)) -> Result<u64, StoreError> {
    let nameless = table.get(&items::fact(family, b"")).await?.is_some();
    let query = query(table, &items::facts(family)).await?.select(Select::Count);
    let (mut count, mut start) = (u64::from(nameless), None);
    loop {
        let answer = query.clone().set_exclusive_start_key(start).send().await;
        let answer = answer.map_err(|error| table.unread(&error))?;
        count += u64::try_from(answer.count).unwrap_or_default();
        start = answer.last_evaluated_key;
        if start.is_none() {
            return Ok(count);
        }
    }
}

/// The bytes of a key, for those who delete what they find.
pub(super) fn sort_of(item: &Item) -> Option<Vec<u8>> {
    item.get("sk")?.as_b().ok().cloned().map(Blob::into_inner)
}

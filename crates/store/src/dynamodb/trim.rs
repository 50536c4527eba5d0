//! Trimming and dropping logs. What counts is the state: it is changed first, and what no reader asks for any more is
//! cleared away afterwards; if that is interrupted, the next trim goes on with it.

use super::client::{Failure, REQUESTS, Table};
use super::items::{self, Head, Item, Key};
use super::read;
use crate::limits::{REMEMBERED_RECORDS, is_forgotten};
use crate::{LogKey, LogState, Retention, StoreError};
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// How many records are looked at in one request.
const PAGE: usize = 1_000;

pub(super) async fn trim(
    table: &Table,
    log: &LogKey,
    keep: Retention,
    now: i64,
) -> Result<LogState, StoreError> {
    loop {
        let Some(mut head) = read::head(table, log).await? else { return Ok(LogState::default()) };
        let (first, bytes) = new_first(table, log, &head, keep, now).await?;
        if first > head.state.first {
            let before = head.version;
            head.version += 1;
            (head.state.first, head.state.bytes) = (first, bytes);
            match put(table, log, &head, before).await {
                Ok(()) => {}
                Err(Failure::Condition) => continue,
                Err(failure) => return Err(failure.into()),
            }
        }
        if head.swept < head.state.first {
            sweep(table, log, &head, now).await?;
        }
        return Ok(head.state);
    }
}

/// Where the log should begin, and the bytes it has then.
async fn new_first(
    table: &Table,
    log: &LogKey,
    head: &Head,
    keep: Retention,
    now: i64,
) -> Result<(u64, u64), StoreError> {
    let state = head.state;
    let (mut first, mut bytes) = (state.first, state.bytes);
    if keep == Retention::default() || first > state.head {
        return Ok((first, bytes));
    }
    let query = read::query_records(table, &head.partition(log), first, state.head).await?;
    let query = query.projection_expression("sk, t, z");
    let mut start = None;
    loop {
        let (items, next) = read::page(table, &query, PAGE, start).await?;
        for item in &items {
            let ts = items::read_number(item, "t").unwrap_or_default();
            if !keep.drops(state.head + 1 - first, bytes, ts, now) {
                return Ok((first, bytes));
            }
            first += 1;
            bytes = bytes.saturating_sub(items::read_number(item, "z").unwrap_or_default());
        }
        start = next;
        if start.is_none() {
            return Ok((first, bytes));
        }
    }
}

async fn put(table: &Table, log: &LogKey, head: &Head, before: u64) -> Result<(), Failure> {
    let put = Put::builder().table_name(table.name()).set_item(Some(head.item(log)));
    let put = put.condition_expression("version = :version");
    let put = put.expression_attribute_values(":version", items::number(before)).build();
    let put = put.map_err(|error| Failure::Refused(StoreError::Invalid(error.to_string())))?;
    table.transact(vec![TransactWriteItem::builder().put(put).build()]).await
}

/// Takes the payloads of what is trimmed, and the ids and keys of what is forgotten.
async fn sweep(table: &Table, log: &LogKey, head: &Head, now: i64) -> Result<(), StoreError> {
    let (partition, first) = (head.partition(log), head.state.first);
    let emptied = records(table, &partition, head.swept, first - 1).await?;
    let empties: Vec<_> = emptied.iter().map(|item| empty(table, &partition, item)).collect();
    stream::iter(empties).buffer_unordered(REQUESTS).try_collect::<Vec<_>>().await?;
    let far = (first - 1).min(head.state.head.saturating_sub(REMEMBERED_RECORDS + 1));
    let mut forgotten = head.forgotten;
    if far >= forgotten {
        for item in records(table, &partition, forgotten, far).await? {
            let Some(offset) = offset(&item) else { continue };
            if !is_forgotten(offset, items::read_number(&item, "t").unwrap_or_default(), head.state.head, now)
            {
                break;
            }
            let mut keys = vec![Key(partition.clone(), items::record_sort(offset))];
            let id = items::read_blob(&item, "i").and_then(|id| id.try_into().ok()).map(u128::from_be_bytes);
            keys.extend(id.map(|id| Key(partition.clone(), items::id_sort(id))));
            keys.extend(items::read_blob(&item, "k").map(|key| Key(partition.clone(), items::key_sort(key))));
            table.delete_all(&keys).await?;
            forgotten = offset + 1;
        }
    }
    let update = table.client().await.update_item().table_name(table.name());
    let update = update.set_key(Some(items::log(log).item()));
    // Without a condition on the version: an append in between only makes the next trim look once more.
    let update = update.update_expression("SET swept = :swept, forgotten = :forgotten");
    let update = update.condition_expression("life = :life");
    let update = update.expression_attribute_values(":swept", items::number(first));
    let update = update.expression_attribute_values(":forgotten", items::number(forgotten));
    let update = update.expression_attribute_values(":life", items::number(head.life));
    match update.send().await.map_err(|error| table.unwritten(&error)) {
        Ok(_) | Err(Failure::Condition) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// Everything about some records but their payloads.
async fn records(table: &Table, partition: &[u8], from: u64, to: u64) -> Result<Vec<Item>, StoreError> {
    let query = read::query_records(table, partition, from, to).await?;
    let query = query.projection_expression("sk, i, k, t, z");
    let (mut records, mut start) = (Vec::new(), None);
    loop {
        let (items, next) = read::page(table, &query, PAGE, start).await?;
        records.extend(items);
        start = next;
        if start.is_none() {
            return Ok(records);
        }
    }
}

fn offset(item: &Item) -> Option<u64> {
    Some(u64::from_be_bytes(items::read_blob(item, "sk")?.get(1..)?.try_into().ok()?))
}

async fn empty(table: &Table, partition: &[u8], item: &Item) -> Result<(), StoreError> {
    let Some(offset) = offset(item) else { return Ok(()) };
    let size = items::read_number(item, "z").unwrap_or_default();
    let pieces = 1..=items::pieces_of(size);
    let pieces: Vec<_> =
        pieces.map(|piece| Key(partition.to_vec(), items::piece_sort(offset, piece))).collect();
    table.delete_all(&pieces).await?;
    let update = table.client().await.update_item().table_name(table.name());
    let update = update.set_key(Some(Key(partition.to_vec(), items::record_sort(offset)).item()));
    let update = update.update_expression("REMOVE a, p").condition_expression("attribute_exists(pk)");
    match update.send().await.map_err(|error| table.unwritten(&error)) {
        Ok(_) | Err(Failure::Condition) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

pub(super) async fn drop_log(table: &Table, log: &LogKey) -> Result<(), StoreError> {
    loop {
        let Some(head) = read::head(table, log).await? else { return Ok(()) };
        let delete = Delete::builder().table_name(table.name()).set_key(Some(items::log(log).item()));
        let delete = delete.condition_expression("version = :version");
        let delete = delete.expression_attribute_values(":version", items::number(head.version)).build();
        let delete = delete.map_err(|error| StoreError::Invalid(error.to_string()))?;
        match table.transact(vec![TransactWriteItem::builder().delete(delete).build()]).await {
            Ok(()) => {}
            Err(Failure::Condition) => continue,
            Err(failure) => return Err(failure.into()),
        }
        let listed = Key(items::rooms(&log.tenant), items::listed(&log.room));
        table.delete_all(&[listed.clone()]).await?;
        // Another hub may have begun it anew in between.
        if read::head(table, log).await?.is_some() {
            table.put(listed.item()).await?;
        }
        return clear(table, &head.partition(log)).await;
    }
}

/// Deletes everything in a partition that no log leads to any more.
async fn clear(table: &Table, partition: &[u8]) -> Result<(), StoreError> {
    let query = read::query(table, partition).await?.projection_expression("sk");
    loop {
        let (items, next) = read::page(table, &query, PAGE, None).await?;
        let keys = items.iter().filter_map(|item| Some(Key(partition.to_vec(), read::sort_of(item)?)));
        table.delete_all(&keys.collect::<Vec<_>>()).await?;
        if next.is_none() {
            return Ok(());
        }
    }
}

//! Committing a batch.
//!
//! The appends to a log are done one after the other, those to different logs at the same time, the facts after all of them.
//! An append is planned first as if nothing of it were there; only if DynamoDB finds that something is, the ids and keys are
//! looked up, which repetitions are rare enough for.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout_at;

use super::client::{Failure, REQUESTS, Table};
use super::items::{self, Head, Item, Key};
use super::read;
use crate::limits::{check, check_restore, local_clock};
use crate::remote::plan::{Held, Planned};
use crate::remote::{Change, fold};
use crate::{Append, Appended, Batch, FactKey, LogKey, LogState, Outcome, Replace, StoreError, Stored};

/// How many items a transaction may have, that of the log's state not counted.
const ITEMS_MAX: usize = 99;
/// How many bytes of payload a transaction may have: a little less than the 4 MB of everything.
const BYTES_MAX: usize = 3_600_000;

pub(super) async fn commit(table: &Table, batch: &Batch) -> Result<Vec<Appended>, StoreError> {
    check(batch)?;
    let deadline = table.deadline();
    let mut writer = table.writer.lock().await;
    writer.turn += 1;
    let was_in_doubt = std::mem::replace(&mut writer.in_doubt, true);
    let turn = Turn { table, number: writer.turn, was_in_doubt };
    let failure = match timeout_at(deadline, turn.run(batch)).await {
        Ok(Ok(appended)) => {
            writer.in_doubt = false;
            return Ok(appended);
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure::InDoubt(table.too_slow()),
    };
    match failure {
        // While an earlier try may be written, "nothing was written" would be a lie, whatever became of this one.
        Failure::Refused(error)
            if was_in_doubt && !is_final(&error) && !matches!(error, StoreError::Invalid(_)) =>
        {
            Err(StoreError::InDoubt(error.to_string()))
        }
        Failure::InDoubt(text) => Err(StoreError::InDoubt(text)),
        failure => {
            writer.in_doubt = false;
            Err(failure.into())
        }
    }
}

/// One commit.
struct Turn<'a> {
    table: &'a Table,
    number: u64,
    /// Whether an earlier try may still be under way.
    was_in_doubt: bool,
}

impl Turn<'_> {
    async fn run(&self, batch: &Batch) -> Result<Vec<Appended>, Failure> {
        self.table.ready().await.map_err(Failure::Refused)?;
        let mut by_log: BTreeMap<&LogKey, Vec<usize>> = BTreeMap::new();
        for (place, append) in batch.appends.iter().enumerate() {
            by_log.entry(&append.log).or_default().push(place);
        }
        let chains: Vec<_> = by_log.values().map(|places| self.append_in_turn(batch, places)).collect();
        let chains: Vec<_> = stream::iter(chains).buffer_unordered(REQUESTS).collect().await;
        let mut found: BTreeMap<usize, Appended> = BTreeMap::new();
        let (mut written, mut failures) = (false, Vec::new());
        for (done, failure) in chains {
            written |= !done.is_empty();
            found.extend(done);
            failures.extend(failure);
        }
        // As long as something is unknown, only that counts.
        failures.sort_by_key(|failure| matches!(failure, Failure::Refused(error) if is_final(error)));
        if let Some(failure) = failures.into_iter().next() {
            return Err(judged(failure, written));
        }
        let now = local_clock();
        if batch.is_late(now) && !batch.facts.is_empty() {
            if !batch.has_records() {
                return Err(Failure::Refused(StoreError::TooLate { now }));
            }
            // They were done with the records, or are lost with the hub that was stopped in between.
            return Ok(found.into_values().collect());
        }
        let changes: Vec<_> = fold(&batch.facts).into_iter().collect();
        let facts: Vec<_> = changes.iter().map(|(key, change)| self.fact(key, change)).collect();
        let facts: Vec<_> = stream::iter(facts).buffer_unordered(REQUESTS).collect().await;
        let written = written || facts.iter().any(Result::is_ok);
        let failed = facts.into_iter().find_map(Result::err);
        match failed {
            Some(failure) => Err(judged(failure, written)),
            None => Ok(found.into_values().collect()),
        }
    }

    /// Appends to one log, as far as that works.
    async fn append_in_turn(
        &self,
        batch: &Batch,
        places: &[usize],
    ) -> (Vec<(usize, Appended)>, Option<Failure>) {
        let mut done = Vec::with_capacity(places.len());
        for &place in places {
            match self.append(batch, &batch.appends[place]).await {
                Ok(appended) => done.push((place, appended)),
                Err(failure) => return (done, Some(failure)),
            }
        }
        (done, None)
    }

    /// Appends, as often as it takes to be the only one.
    async fn append(&self, batch: &Batch, append: &Append) -> Result<Appended, Failure> {
        let table = self.table;
        let mut careful = false;
        loop {
            let head = read::head(table, &append.log).await.map_err(Failure::Refused)?;
            let state = head.map(|head| head.state).unwrap_or_default();
            if append.is_fenced_by(state.epoch) || (head.is_none() && append.records.is_empty()) {
                return Ok(Appended::undone(state));
            }
            let mut held = Held::new(state);
            if careful && let Some(head) = &head {
                look_up(table, append, head, &mut held).await.map_err(Failure::Refused)?;
            }
            let mut planned = held.plan(append);
            let now = local_clock();
            let result = if batch.is_late(now) && planned.writes() {
                Err(Failure::Refused(StoreError::TooLate { now }))
            } else {
                write(table, append, head, &mut planned).await
            };
            match result {
                Ok(()) => return Ok(planned.appended),
                Err(Failure::Condition) => careful = true,
                // Unless it was done before.
                Err(Failure::Refused(error)) if is_final(&error) && !careful => careful = true,
                Err(Failure::Refused(error)) if is_final(&error) && self.was_in_doubt => {
                    match shut_out(table, &append.log, head).await {
                        Ok(()) => return Err(Failure::Refused(error)),
                        Err(Failure::Condition) => {}
                        Err(failure) => return Err(failure),
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn fact(&self, key: &FactKey, change: &Change) -> Result<(), Failure> {
        let (table, family) = (self.table, (&*key.tenant, key.space.0));
        if *change != Change::Delete {
            table.list(items::tenants(), family.0).await?;
            table.list(items::spaces(family.0), family.1).await?;
        }
        let (client, item) = (table.client().await, items::fact(family, &key.name));
        let result = match change {
            Change::Set(value) => {
                // What waited in a broken connection must not undo what came after it.
                let newest = "attribute_not_exists(w) OR w <> :w OR n <= :n";
                let mut item = item.item();
                item.insert("v".to_owned(), items::blob(value));
                item.insert("w".to_owned(), items::number(table.name));
                item.insert("n".to_owned(), items::number(self.number));
                let put = client.put_item().table_name(table.name()).set_item(Some(item));
                let put = put.condition_expression(newest);
                let put = put.expression_attribute_values(":w", items::number(table.name));
                let put = put.expression_attribute_values(":n", items::number(self.number));
                put.send().await.map(drop).map_err(|error| table.unwritten(&error))
            }
            Change::Max(value) => {
                let update = client.update_item().table_name(table.name()).set_key(Some(item.item()));
                let update = update.update_expression("SET v = :v");
                let update = update.condition_expression("attribute_not_exists(v) OR v < :v");
                let update = update.expression_attribute_values(":v", items::blob(value));
                update.send().await.map(drop).map_err(|error| table.unwritten(&error))
            }
            Change::Delete => {
                let delete = client.delete_item().table_name(table.name()).set_key(Some(item.item()));
                delete.send().await.map(drop).map_err(|error| table.unwritten(&error))
            }
        };
        match result {
            // Something greater, or later, is there.
            Err(Failure::Condition) => Ok(()),
            result => result,
        }
    }
}

/// What the first failure of a batch means, if other parts of it may be written.
fn judged(failure: Failure, written: bool) -> Failure {
    match failure {
        Failure::Refused(error) if written && !is_final(&error) => Failure::InDoubt(error.to_string()),
        Failure::Condition => Failure::InDoubt("another hub writes the same all the time".into()),
        failure => failure,
    }
}

/// Whether it is the last word on a batch, also on one that was in doubt.
fn is_final(error: &StoreError) -> bool {
    matches!(error, StoreError::TooLate { .. } | StoreError::Conflict)
}

/// Makes an earlier try that is still under way find another version of the log than it expects. Where there is no log,
/// only its signature stops it, which holds for five minutes.
async fn shut_out(table: &Table, log: &LogKey, head: Option<Head>) -> Result<(), Failure> {
    let Some(head) = head else { return Ok(()) };
    let next = Head { version: head.version + 1, ..head };
    table.transact(vec![put_if(table, next.item(log), Some(head.version))?]).await
}

/// Finds what is there already.
async fn look_up(table: &Table, append: &Append, head: &Head, held: &mut Held) -> Result<(), StoreError> {
    let partition = head.partition(&append.log);
    let key = |sort: Vec<u8>| Key(partition.clone(), sort);
    let ids = append.records.iter().map(|record| key(items::id_sort(record.id)));
    let ids = table.get_all(&ids.collect::<Vec<_>>()).await?;
    let keys = append.records.iter().filter_map(|record| record.key.as_ref());
    let names: Vec<_> = keys.cloned().collect();
    let keys: Vec<_> = names.iter().map(|name| key(items::key_sort(name))).collect();
    let keys = table.get_all(&keys).await?;
    for outcome in ids.iter().flatten().filter_map(items::outcome) {
        held.remember(outcome.id, None, outcome);
    }
    for (name, item) in names.into_iter().zip(&keys) {
        if let Some(outcome) = item.as_ref().and_then(items::outcome) {
            held.remember_key(name, outcome);
        }
    }
    Ok(())
}

/// Items that must be written together, and what the log has then.
struct Group {
    items: Vec<TransactWriteItem>,
    bytes: usize,
    state: LogState,
}

/// Writes what is planned, in as few transactions as it fits into.
async fn write(
    table: &Table,
    append: &Append,
    head: Option<Head>,
    planned: &mut Planned<'_>,
) -> Result<(), Failure> {
    let begins = head.is_none();
    let mut head = head.unwrap_or_else(|| Head {
        state: LogState { epoch: append.epoch, first: 1, ..LogState::default() },
        life: fastrand::u64(..),
        swept: 1,
        forgotten: 1,
        ..Head::default()
    });
    if begins {
        table.list(items::tenants(), &append.log.tenant).await?;
        list_room(table, &append.log).await?;
    }
    let mut groups = Vec::new();
    let mut state = head.state;
    let replaces: BTreeMap<u64, &Replace> =
        planned.replaces.iter().map(|replace| (replace.offset, *replace)).collect();
    // Before the records: with the last of those, everything is done.
    for replace in replaces.values().filter(|replace| replace.offset <= head.state.head) {
        if let Some(group) = replaced(table, &append.log, &head, replace, &mut state).await? {
            groups.push(group);
        }
    }
    for new in &planned.new {
        let mut stored = Stored {
            offset: new.offset,
            ordinal: new.ordinal,
            id: new.record.id,
            author: new.record.author.clone(),
            ts: new.record.ts,
            payload: new.record.payload.clone(),
        };
        // One transaction cannot write an item twice.
        if let Some(replace) = replaces.get(&new.offset) {
            stored.author = replace.author.clone();
            stored.payload = replace.payload.clone();
        }
        state.head = new.offset;
        state.ordinal = new.ordinal;
        state.bytes += stored.payload.len() as u64;
        groups.push(added(table, &head.partition(&append.log), &stored, new.record.key.as_deref(), state)?);
    }
    planned.appended.state = state;
    let mut before = (!begins).then_some(head.version);
    for (place, group) in packed(groups).into_iter().enumerate() {
        head.state = group.state;
        head.version += 1;
        let mut items = group.items;
        items.push(put_if(table, head.item(&append.log), before)?);
        // With a part written, only a repetition of the whole can tell what there is.
        table.transact(items).await.map_err(|failure| judged_if(failure, place > 0))?;
        before = Some(head.version);
    }
    if begins {
        // Another hub may have dropped the log, and its name, in between.
        list_room(table, &append.log).await?;
    }
    Ok(())
}

fn judged_if(failure: Failure, written: bool) -> Failure {
    if written { judged(failure, true) } else { failure }
}

async fn list_room(table: &Table, log: &LogKey) -> Result<(), Failure> {
    table.put(Key(items::rooms(&log.tenant), items::listed(&log.room)).item()).await
}

/// A record that is new.
fn added(
    table: &Table,
    partition: &[u8],
    stored: &Stored,
    key: Option<&[u8]>,
    state: LogState,
) -> Result<Group, Failure> {
    if stored.payload.len() > BYTES_MAX {
        let text = format!("DynamoDB has no room for a payload of {} bytes", stored.payload.len());
        return Err(Failure::Refused(StoreError::Invalid(text)));
    }
    let outcome = Outcome {
        offset: stored.offset,
        ordinal: stored.ordinal,
        id: stored.id,
        ts: stored.ts,
        duplicate: false,
    };
    let mut items = vec![
        put(table, items::record(partition, stored, key))?,
        put_new(table, items::seen(partition, items::id_sort(stored.id), &outcome))?,
    ];
    if let Some(key) = key {
        items.push(put_new(table, items::seen(partition, items::key_sort(key), &outcome))?);
    }
    for piece in items::pieces(partition, stored) {
        items.push(put(table, piece)?);
    }
    Ok(Group { items, bytes: stored.payload.len(), state })
}

/// A record that is there and says something else; `None`: it is not there after all.
async fn replaced(
    table: &Table,
    log: &LogKey,
    head: &Head,
    replace: &Replace,
    state: &mut LogState,
) -> Result<Option<Group>, Failure> {
    let partition = head.partition(log);
    let item = table.get(&Key(partition.clone(), items::record_sort(replace.offset))).await;
    let Some(item) = item.map_err(Failure::Refused)? else { return Ok(None) };
    let Some((stored, size)) = items::stored(&item) else { return Ok(None) };
    if let Some(was) = &replace.was {
        let whole = read::whole(table, &partition, stored.clone(), size).await;
        // What does not fit together is being written at this moment.
        let whole = whole.map_err(|error| match error {
            StoreError::Damaged(_) => Failure::Condition,
            error => Failure::Refused(error),
        })?;
        if whole.payload != *was {
            return Err(Failure::Refused(StoreError::Conflict));
        }
    }
    let stored = Stored { author: replace.author.clone(), payload: replace.payload.clone(), ..stored };
    state.bytes = (state.bytes + stored.payload.len() as u64).saturating_sub(size as u64);
    let record = items::record(&partition, &stored, items::read_blob(&item, "k"));
    let mut group = Group { items: vec![put(table, record)?], bytes: stored.payload.len(), state: *state };
    for piece in items::pieces(&partition, &stored) {
        group.items.push(put(table, piece)?);
    }
    Ok(Some(group))
}

/// As few groups as fit into a transaction each, in the same order.
fn packed(groups: Vec<Group>) -> Vec<Group> {
    let mut packed: Vec<Group> = Vec::new();
    for group in groups {
        match packed.last_mut() {
            Some(last)
                if last.items.len() + group.items.len() <= ITEMS_MAX
                    && last.bytes + group.bytes <= BYTES_MAX =>
            {
                last.items.extend(group.items);
                last.bytes += group.bytes;
                last.state = group.state;
            }
            _ => packed.push(group),
        }
    }
    packed
}

fn put(table: &Table, item: Item) -> Result<TransactWriteItem, Failure> {
    built(Put::builder().table_name(table.name()).set_item(Some(item)))
}

fn put_new(table: &Table, item: Item) -> Result<TransactWriteItem, Failure> {
    let put = Put::builder().table_name(table.name()).set_item(Some(item));
    built(put.condition_expression("attribute_not_exists(pk)"))
}

/// A log's state, if it is still the version that was read.
fn put_if(table: &Table, item: Item, before: Option<u64>) -> Result<TransactWriteItem, Failure> {
    let put = Put::builder().table_name(table.name()).set_item(Some(item));
    built(match before {
        None => put.condition_expression("attribute_not_exists(pk)"),
        Some(version) => put
            .condition_expression("version = :version")
            .expression_attribute_values(":version", items::number(version)),
    })
}

fn built(put: aws_sdk_dynamodb::types::builders::PutBuilder) -> Result<TransactWriteItem, Failure> {
    let put = put.build().map_err(|error| Failure::Refused(StoreError::Invalid(error.to_string())))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

pub(super) async fn restore(
    table: &Table,
    log: &LogKey,
    start: LogState,
    records: &[Stored],
) -> Result<LogState, StoreError> {
    let found = read::head(table, log).await?;
    check_restore(found.map(|head| head.state), start, records)?;
    let begins = found.is_none();
    let mut head = found.unwrap_or_else(|| Head {
        state: LogState { first: start.head + 1, bytes: 0, ..start },
        life: fastrand::u64(..),
        swept: start.head + 1,
        forgotten: start.head + 1,
        ..Head::default()
    });
    let failed = |failure: Failure| match failure {
        Failure::InDoubt(text) => StoreError::InDoubt(text),
        failure => failure.into(),
    };
    table.list(items::tenants(), &log.tenant).await?;
    list_room(table, log).await?;
    let (mut state, partition) = (head.state, head.partition(log));
    let mut groups = Vec::with_capacity(records.len().max(1));
    for record in records {
        state.head = record.offset;
        state.ordinal = record.ordinal;
        state.bytes += record.payload.len() as u64;
        groups.push(added(table, &partition, record, None, state)?);
    }
    if groups.is_empty() {
        groups.push(Group { items: Vec::new(), bytes: 0, state });
    }
    let mut before = (!begins).then_some(head.version);
    for group in packed(groups) {
        head.state = group.state;
        head.version += 1;
        let mut items = group.items;
        items.push(put_if(table, head.item(log), before)?);
        table.transact(items).await.map_err(failed)?;
        before = Some(head.version);
    }
    Ok(head.state)
}

//! Committing a batch, and the other writes.
//!
//! The appends to a log are done one after the other, those to different logs at the same time, the facts after all of them.
//! Each append and each family of facts is one script, which Redis does as a whole or not at all; a batch of several
//! may be done in part when the server goes away in between, and is then in doubt as a whole.

use std::collections::{BTreeMap, HashMap};

use ::redis::RedisError;
use futures_util::future::join_all;
use tokio::time::timeout_at;

use super::link::{Link, Links};
use super::scripts::{APPEND, Call, DROP, FACTS, RESTORE, TRIM};
use super::{errors, read};
use crate::limits::{check, check_restore};
use crate::remote::{Change, fold};
use crate::{Append, Appended, Batch, FactKey, LogKey, LogState, Outcome, Retention, StoreError, Stored};

/// How many records one script drops at most: Redis does nothing else meanwhile.
const STEP: usize = 1_000;

/// What a script answers with instead of beginning a log or a family of facts.
const CREATE: &[u8] = b"CREATE";
/// ... when it is too late, followed by the server's time ...
const LATE: &[u8] = b"LATE";
/// ... and when a record says something else than is expected.
const CONFLICT: &[u8] = b"CONFLICT";

pub(super) async fn commit(links: &Links, batch: &Batch) -> Result<Vec<Appended>, StoreError> {
    check(batch)?;
    let deadline = links.deadline();
    let Ok(mut writer) = timeout_at(deadline, links.writer.lock()).await else {
        return Err(links.too_slow());
    };
    writer.turn += 1;
    // Taken out while it is used: if this future is dropped, so is the connection.
    let link = match writer.link.take() {
        Some(link) => link,
        None => match links.connect(deadline).await {
            Ok(link) => link,
            Err(StoreError::Unavailable(text)) if writer.in_doubt => return Err(StoreError::InDoubt(text)),
            Err(error) => return Err(error),
        },
    };
    let was_in_doubt = std::mem::replace(&mut writer.in_doubt, true);
    let turn = Turn { links, link: &link, number: writer.turn };
    match timeout_at(deadline, turn.run(batch)).await {
        Ok(Ok(appended)) => {
            writer.link = Some(link);
            writer.in_doubt = false;
            Ok(appended)
        }
        Ok(Err(Failure::Refused(error))) => {
            writer.link = Some(link);
            // Those are the last words on a batch: what of it is still under way comes too late as well, or stale.
            if was_in_doubt && !matches!(error, StoreError::TooLate { .. } | StoreError::Conflict) {
                return Err(StoreError::InDoubt(error.to_string()));
            }
            writer.in_doubt = false;
            Err(error)
        }
        Ok(Err(Failure::InDoubt { text, usable })) => {
            writer.link = usable.then_some(link);
            Err(StoreError::InDoubt(text))
        }
        Err(_) => Err(StoreError::InDoubt(links.too_slow_text())),
    }
}

/// Why a commit was not done, or not wholly.
enum Failure {
    /// Nothing was written.
    Refused(StoreError),
    /// Something may be written.
    InDoubt {
        text: String,
        /// Whether the connection is still in order.
        usable: bool,
    },
}

/// What became of one part of a batch.
type Done<T> = Result<T, Miss>;

/// Why a part of a batch was not done.
#[derive(Debug)]
enum Miss {
    /// The server's time, past the batch's last.
    Late(i64),
    Conflict,
    Error(RedisError),
}

impl From<RedisError> for Miss {
    fn from(error: RedisError) -> Self {
        Self::Error(error)
    }
}

/// One commit on one connection.
struct Turn<'a> {
    links: &'a Links,
    link: &'a Link,
    number: u64,
}

impl Turn<'_> {
    async fn run(&self, batch: &Batch) -> Result<Vec<Appended>, Failure> {
        let mut by_log: BTreeMap<&LogKey, Vec<usize>> = BTreeMap::new();
        for (place, append) in batch.appends.iter().enumerate() {
            by_log.entry(&append.log).or_default().push(place);
        }
        let chains = by_log.values().map(|places| self.append_in_turn(batch, places));
        let chains = join_all(chains).await;
        let mut found: HashMap<usize, Appended> = HashMap::new();
        let (mut written, mut misses) = (false, Vec::new());
        for (done, miss) in chains {
            written |= !done.is_empty();
            found.extend(done);
            misses.extend(miss);
        }
        worst(misses, written)?;
        let changes = fold(&batch.facts);
        let families = by_family(&changes);
        let families = families.into_iter().map(|(family, writes)| self.facts(batch, family, writes));
        let mut misses = Vec::new();
        for result in join_all(families).await {
            match result {
                Ok(()) => written = true,
                // They were done with the records, or are lost with the hub that was stopped in between.
                Err(Miss::Late(_)) if batch.has_records() => {}
                Err(miss) => misses.push(miss),
            }
        }
        worst(misses, written)?;
        self.replicate().await?;
        let appended =
            (0..batch.appends.len()).map(|place| found.remove(&place).expect("every append has its answer"));
        Ok(appended.collect())
    }

    /// Appends to one log, as far as that works.
    async fn append_in_turn(
        &self,
        batch: &Batch,
        places: &[usize],
    ) -> (Vec<(usize, Appended)>, Option<Miss>) {
        let mut done = Vec::with_capacity(places.len());
        for &place in places {
            match self.append(batch, &batch.appends[place]).await {
                Ok(appended) => done.push((place, appended)),
                Err(miss) => return (done, Some(miss)),
            }
        }
        (done, None)
    }

    async fn append(&self, batch: &Batch, append: &Append) -> Done<Appended> {
        let answer: Vec<Vec<u8>> = self.link.call(&self.append_call(batch, append, false)).await?;
        if !matches!(&answer[..], [only] if only == CREATE) {
            return appended(&answer);
        }
        // Before, so that a log that exists can be found; and after, as another hub may just have dropped it.
        self.list(&append.log).await?;
        let answer: Vec<Vec<u8>> = self.link.call(&self.append_call(batch, append, true)).await?;
        self.list(&append.log).await?;
        appended(&answer)
    }

    fn append_call(&self, batch: &Batch, append: &Append, may_create: bool) -> Call {
        let (keys, log) = (&self.links.keys, &append.log);
        let keys = [
            keys.state(log),
            keys.stream(log),
            keys.seen(log),
            keys.order(log),
            keys.replaced(log),
            keys.turn(log),
        ];
        let mut call = Call::script(&APPEND, &keys)
            .arg(self.number)
            .arg(u8::from(may_create))
            .arg(or_nothing(batch.not_after))
            .arg(or_nothing(append.fence))
            .arg(append.epoch)
            .arg(append.records.len());
        for record in &append.records {
            let key = record.key.as_ref().map(|key| [b"k", &key[..]].concat()).unwrap_or_default();
            call = call.arg(&record.id.to_be_bytes()[..]).arg(&key[..]).arg(&*record.author).arg(record.ts);
            call = call.arg(u8::from(record.counted)).arg(&record.payload[..]);
        }
        call = call.arg(append.replaces.len());
        for replace in &append.replaces {
            let was = replace.was.as_ref().map(|was| [b"w", &was[..]].concat()).unwrap_or_default();
            call = call.arg(replace.offset).arg(&*replace.author).arg(&replace.payload[..]).arg(was);
        }
        call
    }

    /// Notes a log where logs are looked for.
    async fn list(&self, log: &LogKey) -> Done<()> {
        let keys = &self.links.keys;
        let tenant = Call::command("SADD").arg(keys.tenants()).arg(&*log.tenant);
        let room = Call::command("ZADD").arg(keys.rooms(&log.tenant)).arg(0).arg(&*log.room);
        self.link.call::<()>(&tenant).await?;
        Ok(self.link.call::<()>(&room).await?)
    }

    async fn facts(&self, batch: &Batch, family: (&str, &str), writes: Vec<(&[u8], &Change)>) -> Done<()> {
        let keys = &self.links.keys;
        let call = |may_create: bool| {
            let call = Call::script(&FACTS, &keys.facts(family)).arg(self.number).arg(u8::from(may_create));
            let call = call.arg(or_nothing(batch.not_after));
            writes.iter().fold(call, |call, (name, change)| match change {
                Change::Set(value) => call.arg("S").arg(*name).arg(&value[..]),
                Change::Max(value) => call.arg("M").arg(*name).arg(&value[..]),
                Change::Delete => call.arg("D").arg(*name).arg(""),
            })
        };
        let answer: Vec<u8> = self.link.call(&call(false)).await?;
        if answer != CREATE {
            return written_in_time(&answer);
        }
        let tenant = Call::command("SADD").arg(keys.tenants()).arg(family.0);
        let space = Call::command("SADD").arg(keys.spaces(family.0)).arg(family.1);
        self.link.call::<()>(&tenant).await?;
        self.link.call::<()>(&space).await?;
        let answer: Vec<u8> = self.link.call(&call(true)).await?;
        written_in_time(&answer)
    }

    /// Waits until enough replicas have what was written.
    async fn replicate(&self) -> Result<(), Failure> {
        let target = self.links.target();
        if target.replicas_min == 0 {
            return Ok(());
        }
        // A little less than our own limit: its answer tells more than none.
        let limit = target.timeout.as_millis() as u64 * 3 / 4;
        let wait = Call::command("WAIT").arg(target.replicas_min).arg(limit);
        let have: usize = self.link.call(&wait).await.map_err(|error| judged(&error, true))?;
        if have < target.replicas_min {
            let text = format!("only {have} of {} replicas have it: see to the others", target.replicas_min);
            return Err(Failure::InDoubt { text, usable: true });
        }
        Ok(())
    }
}

fn or_nothing(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// What a script says that wrote facts, or came too late.
fn written_in_time(answer: &[u8]) -> Done<()> {
    match answer.strip_prefix(LATE) {
        Some(time) => Err(Miss::Late(read::number(time.trim_ascii()).ok_or_else(read::not_understood)?)),
        None => Ok(()),
    }
}

/// What the parts of a batch that were not done mean for all of it: as long as something is unknown, only that.
fn worst(misses: Vec<Miss>, written: bool) -> Result<(), Failure> {
    let (mut late, mut conflict) = (None, false);
    for miss in misses {
        match miss {
            Miss::Error(error) => return Err(judged(&error, written)),
            Miss::Late(now) => late = late.max(Some(now)),
            Miss::Conflict => conflict = true,
        }
    }
    match (late, conflict) {
        (Some(now), _) => Err(Failure::Refused(StoreError::TooLate { now })),
        (None, true) => Err(Failure::Refused(StoreError::Conflict)),
        (None, false) => Ok(()),
    }
}

/// What the first error of a batch means, if other parts of it may be written.
fn judged(error: &RedisError, written: bool) -> Failure {
    match (errors::is_answer(error), written) {
        (true, false) => Failure::Refused(errors::refused(error)),
        (usable, _) => Failure::InDoubt { text: error.to_string(), usable },
    }
}

/// The changes of each tenant and family, by name.
type Families<'a> = BTreeMap<(&'a str, &'a str), Vec<(&'a [u8], &'a Change)>>;

fn by_family<'a>(changes: &'a BTreeMap<&'a FactKey, Change>) -> Families<'a> {
    let mut families = Families::new();
    for (key, change) in changes {
        families.entry((&*key.tenant, key.space.0)).or_default().push((&key.name[..], change));
    }
    families
}

fn appended(answer: &[Vec<u8>]) -> Done<Appended> {
    match answer {
        [late, now] if late == LATE => {
            return Err(Miss::Late(read::number(now).ok_or_else(read::not_understood)?));
        }
        [conflict] if conflict == CONFLICT => return Err(Miss::Conflict),
        _ => {}
    }
    let Some(state) = read::state(answer) else {
        return Ok(Appended { epoch: 0, outcomes: Vec::new(), state: LogState::default() });
    };
    let outcomes: Option<Vec<_>> = answer[read::STATE..].iter().map(|text| outcome(text)).collect();
    let outcomes = outcomes.ok_or_else(read::not_understood)?;
    Ok(Appended { epoch: state.epoch, outcomes, state })
}

fn outcome(text: &[u8]) -> Option<Outcome> {
    let (duplicate, text) = text.split_first()?;
    let (id, text) = text.split_first_chunk::<16>()?;
    let mut numbers = str::from_utf8(text).ok()?.split(' ');
    Some(Outcome {
        offset: numbers.next()?.parse().ok()?,
        ordinal: numbers.next()?.parse().ok()?,
        id: u128::from_be_bytes(*id),
        ts: numbers.next()?.parse().ok()?,
        duplicate: *duplicate == b'1',
    })
}

pub(super) async fn trim(
    links: &Links,
    log: &LogKey,
    keep: Retention,
    now: i64,
) -> Result<LogState, StoreError> {
    let keys = [links.keys.state(log), links.keys.stream(log), links.keys.replaced(log)];
    let age_max = i64::try_from(keep.age_max.as_millis()).unwrap_or(i64::MAX);
    let oldest = if age_max > 0 { now.saturating_sub(age_max).to_string() } else { String::new() };
    loop {
        let call =
            Call::script(&TRIM, &keys).arg(keep.records_max).arg(keep.bytes_max).arg(&oldest).arg(STEP);
        let answer: Vec<Vec<u8>> = links.ask(&call).await?;
        let Some(state) = read::state(&answer) else { return Ok(LogState::default()) };
        if answer.last().is_none_or(|more| more != b"1") {
            return Ok(state);
        }
    }
}

pub(super) async fn drop_log(links: &Links, log: &LogKey) -> Result<(), StoreError> {
    let turn = {
        let mut writer = links.writer.lock().await;
        writer.turn += 1;
        writer.turn
    };
    let keys = &links.keys;
    let all = [
        keys.state(log),
        keys.stream(log),
        keys.seen(log),
        keys.order(log),
        keys.replaced(log),
        keys.turn(log),
    ];
    links.ask::<()>(&Call::script(&DROP, &all).arg(turn)).await?;
    links.ask::<()>(&Call::command("ZREM").arg(keys.rooms(&log.tenant)).arg(&*log.room)).await?;
    // Another hub may have begun it anew in between.
    let exists: bool = links.ask(&Call::command("EXISTS").arg(keys.state(log))).await?;
    if exists {
        links.ask::<()>(&Call::command("ZADD").arg(keys.rooms(&log.tenant)).arg(0).arg(&*log.room)).await?;
    }
    Ok(())
}

pub(super) async fn restore(
    links: &Links,
    log: &LogKey,
    start: LogState,
    records: &[Stored],
) -> Result<LogState, StoreError> {
    let found = read::states(links, std::slice::from_ref(log)).await?;
    check_restore(found.into_iter().next().flatten(), start, records)?;
    let keys = &links.keys;
    links.ask::<()>(&Call::command("SADD").arg(keys.tenants()).arg(&*log.tenant)).await?;
    links.ask::<()>(&Call::command("ZADD").arg(keys.rooms(&log.tenant)).arg(0).arg(&*log.room)).await?;
    let all = [keys.state(log), keys.stream(log), keys.seen(log), keys.order(log)];
    let mut call = Call::script(&RESTORE, &all).arg(start.epoch).arg(start.head).arg(start.ordinal);
    for record in records {
        call = call.arg(record.offset).arg(&record.id.to_be_bytes()[..]).arg(record.ordinal);
        call = call.arg(&*record.author).arg(record.ts).arg(&record.payload[..]);
    }
    // Not to be asked twice: the second would find the log moved by the first.
    let link = links.connect_reader().await?;
    let answer: Result<Vec<Vec<u8>>, _> = link.call(&call).await;
    let answer = answer.map_err(|error| match errors::is_answer(&error) {
        true => errors::refused(&error),
        false => StoreError::InDoubt(error.to_string()),
    })?;
    read::state(&answer)
        .ok_or_else(|| StoreError::Invalid("the log exists and does not end where the records begin".into()))
}

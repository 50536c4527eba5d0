//! The contract between the hub and whatever keeps its data.
//!
//! A **log** is the history of one room: records with offsets 1, 2, 3 ... without holes, under one epoch. It may lose
//! records at its old end (trimming), never elsewhere. A **fact** is a small value under a key, for everything that
//! is a state rather than a history: read cursors, conversations, topics, tenants, counters.
//!
//! What is committed survives whatever the back end promises to survive; [`Health::durability`] says in words what
//! that is.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;

/// A store's answer, in time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Which log: a tenant's room. Texts as they come; back ends encode them, none may be pasted into anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    /// Whose it is; empty for the one tenant of a hub without tenants.
    pub tenant: EcoString,
    /// The room's name.
    pub room: EcoString,
}

/// One thing to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The message's id, unique for ever.
    pub id: u128,
    /// The publisher's own name for it, if there is one, already made unique to the publisher: a second record with the
    /// same key appends nothing. At most 256 bytes.
    pub key: Option<Bytes>,
    /// Whose words these are: what [`Store::authored`] finds. Empty for nobody's.
    pub author: EcoString,
    /// When it was accepted, in milliseconds since 1970.
    pub ts: i64,
    /// Whether it counts as something said (see [`Stored::ordinal`]).
    pub counted: bool,
    /// What to keep.
    pub payload: Bytes,
}

/// A record in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place: 1 for the first record of the epoch.
    pub offset: u64,
    /// Counted records of the log up to here, this one included.
    pub ordinal: u64,
    /// As appended.
    pub id: u128,
    /// As appended.
    pub author: EcoString,
    /// As appended.
    pub ts: i64,
    /// As appended, or as last replaced.
    pub payload: Bytes,
}

/// Another payload for a record that exists, whose author may change with it (an erased user's becomes empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// Which record. One that is trimmed already is passed over.
    pub offset: u64,
    /// Whose words it has from now on.
    pub author: EcoString,
    /// What it says from now on.
    pub payload: Bytes,
    /// What it must say so far, or the whole batch is a [`StoreError::Conflict`]; `None`: whatever it says. Looked at
    /// before anything of the batch is done, and only if the replace is to be done. A batch without records that was in
    /// doubt may so find its own change.
    pub was: Option<Bytes>,
}

/// What to append to one log, all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Which log. It begins to exist with its first record.
    pub log: LogKey,
    /// The epoch that the log gets if it does not exist. One that exists keeps its own.
    pub epoch: u64,
    /// In their order.
    pub records: Vec<Record>,
    /// Done in the same step; not done when there are records and all of them are duplicates, since then they were
    /// done with the first ones.
    pub replaces: Vec<Replace>,
    /// The epoch that the log must have, never 0. If it has another or does not exist, this append is not done and is
    /// answered as [fenced](Appended::is_fenced); the others of the batch go on.
    pub fence: Option<u64>,
}

impl Append {
    /// Whether a log of this epoch (0: none) is not the one that is meant.
    #[must_use]
    pub fn is_fenced_by(&self, epoch: u64) -> bool {
        self.fence.is_some_and(|fence| fence != epoch)
    }

    /// Whether the replaces are to be done, given what became of the records.
    #[must_use]
    pub fn replaces_count(&self, outcomes: &[Outcome]) -> bool {
        outcomes.is_empty() || outcomes.iter().any(|outcome| !outcome.duplicate)
    }
}

/// What became of an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The log's epoch; 0 when there is no log.
    pub epoch: u64,
    /// For each record, in their order. None at all if the append was fenced.
    pub outcomes: Vec<Outcome>,
    /// The log now.
    pub state: LogState,
}

impl Appended {
    /// What an append is answered with that was not done: the log is as it was.
    #[must_use]
    pub fn undone(state: LogState) -> Self {
        Self { epoch: state.epoch, outcomes: Vec::new(), state }
    }

    /// Whether `append` was not done because the log is another than was meant.
    #[must_use]
    pub fn is_fenced(&self, append: &Append) -> bool {
        append.is_fenced_by(self.epoch)
    }
}

/// What became of a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its offset, or that of the record it repeats.
    pub offset: u64,
    /// Its ordinal, or that of the record it repeats.
    pub ordinal: u64,
    /// Its id, or that of the record it repeats.
    pub id: u128,
    /// Its time, or that of the record it repeats.
    pub ts: i64,
    /// It repeats an earlier record; nothing was appended.
    pub duplicate: bool,
}

/// What a log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Which history the offsets belong to. Never 0 for a log that exists.
    pub epoch: u64,
    /// Offset of the oldest record kept; `head + 1` when none is.
    pub first: u64,
    /// Offset of the newest record ever; 0 when there never was one.
    pub head: u64,
    /// Ordinal of the newest record ever.
    pub ordinal: u64,
    /// Payload bytes kept, about.
    pub bytes: u64,
}

/// A log and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Which.
    pub key: LogKey,
    /// What it has.
    pub state: LogState,
}

/// How much of a log is worth keeping. Zero: no limit of that kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Records.
    pub records_max: u64,
    /// Payload bytes.
    pub bytes_max: u64,
    /// Time since a record was accepted.
    pub age_max: Duration,
}

/// Which records of a log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From where, and in which direction.
    pub direction: Direction,
    /// At most so many records.
    pub records_max: usize,
    /// At most so many payload bytes; the first record comes however large it is.
    pub bytes_max: usize,
}

/// From where a log is read, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Records with a greater offset, the oldest first.
    After(u64),
    /// Records with a smaller offset, the newest first. `u64::MAX`: from the end.
    Before(u64),
}

/// Records read from a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The log at the moment of reading; all zero when it does not exist.
    pub state: LogState,
    /// The records in the direction asked for, without holes.
    pub records: Vec<Stored>,
}

/// A family of facts. The names are the hub's; they are part of what is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space(pub &'static str);

/// Which fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// Whose it is.
    pub tenant: EcoString,
    /// Which family.
    pub space: Space,
    /// Its name there; facts of a family are read in the byte order of their names. At most 1024 bytes.
    pub name: Bytes,
}

/// A fact that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its name in its family.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// What to do to a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactWrite {
    /// It is this from now on. At most 64 KiB.
    Set(FactKey, Bytes),
    /// It is the greater of what it was and this, by the order of the bytes: what moves only forward.
    Max(FactKey, Bytes),
    /// It is no more. One that never was is no error.
    Delete(FactKey),
}

/// Everything to make durable in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Appends. A log may come up more than once; they are done in their order.
    pub appends: Vec<Append>,
    /// Facts, done in their order, after the appends.
    pub facts: Vec<FactWrite>,
    /// Nothing of it is written when the store's own clock (milliseconds since 1970) is past this: the fence against a
    /// writer that was stopped for a while and does not know it. A batch keeps it when it is committed again. See
    /// [`StoreError::TooLate`].
    pub not_after: Option<i64>,
}

impl Batch {
    /// Whether it has records: if all of those are there already, its facts were done with the first ones.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.appends.iter().any(|append| !append.records.is_empty())
    }

    /// Whether it may no longer be written at `now` by the store's clock.
    #[must_use]
    pub fn is_late(&self, now: i64) -> bool {
        self.not_after.is_some_and(|not_after| now > not_after)
    }
}

/// Facts read from a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactPage {
    /// In the order of their names.
    pub facts: Vec<Fact>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// Logs read from a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsPage {
    /// In the order of their keys.
    pub logs: Vec<Log>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// A place in a tenant's logs, for walking through them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The room.
    pub room: EcoString,
    /// The record.
    pub offset: u64,
}

/// An author's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthoredPage {
    /// In the order of their places.
    pub records: Vec<(EcoString, Stored)>,
    /// Where to go on; `None`: that was all.
    pub next: Option<Place>,
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether a commit would be tried at all now.
    pub writable: bool,
    /// What is wrong, and what to do about it; empty when all is well.
    pub detail: String,
    /// What "committed" survives with this back end as it is configured, in a sentence for operators.
    pub durability: String,
}

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Logs looked at.
    pub logs: u64,
    /// Records looked at.
    pub records: u64,
    /// Facts looked at.
    pub facts: u64,
    /// What is not as it must be, in words; empty when all is well.
    pub problems: Vec<String>,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space is left. Nothing was written; the same again may work once there is space.
    #[error("storage is full: {0}")]
    Full(String),
    /// It cannot be reached, or cannot write (read-only, say). Nothing was written; the same again may work later.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// It went away in the middle: the batch may be written or not, as a whole per append. To know, commit *the same
    /// batch* again: what is there already is answered as a duplicate.
    #[error("storage went away in the middle of a write: {0}")]
    InDoubt(String),
    /// What is kept is not what was written. Nothing of it is served.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// [`Batch::not_after`] is over. What of the batch is not there yet was not written and never will be, not by an
    /// earlier try either, as long as ids are remembered. Where a batch takes several steps (Redis, DynamoDB) some of its
    /// appends may be there; committing one alone, with the same time, tells. Of facts and replaces without records nobody can tell
    /// whether an earlier try that was in doubt wrote them.
    #[error("the time to write this is over: the storage's clock says {now}")]
    TooLate {
        /// The store's clock, in milliseconds since 1970.
        now: i64,
    },
    /// A record that was to be replaced no longer says what [`Replace::was`] expects. Nothing of the batch was written (of that append,
    /// where a batch takes several steps): read it again.
    #[error("what was to be replaced has changed meanwhile")]
    Conflict,
    /// The request breaks a limit of the contract.
    #[error("the store refuses: {0}")]
    Invalid(String),
}

/// Keeps logs and facts.
///
/// Called by the hub's keeper, from its own thread's runtime: one [`commit`](Self::commit) at a time; the reading methods also
/// concurrently with it and with each other, by the keeper, the HTTP API and tools. No method blocks the thread for longer than a look at
/// memory. No method panics on what it reads.
///
/// # Cancel safety
/// A dropped `commit` may or may not have happened; a dropped read has no effect.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The back end's name, as configuration writes it.
    fn name(&self) -> &'static str;

    /// Whether several hubs may have the same data open at once, each with a store of its own kind and settings. What
    /// such a store promises, it promises to all of them together.
    fn is_shared(&self) -> bool {
        false
    }

    /// Makes a batch durable and answers when it is. Each [`Append`] is done as a whole or not at all.
    ///
    /// A record whose id or key is in its log already is a duplicate: it is not appended, and answered with the first
    /// one's outcome; the id is looked for before the key. Keys and ids are remembered for at least 5 minutes *and* 10,000 records of their log, across
    /// restarts, whether or not the record itself was trimmed meanwhile.
    ///
    /// After [`Batch::not_after`] a batch all of whose records are duplicates is still answered, its facts are passed over
    /// then; anything else that would write is [`StoreError::TooLate`].
    ///
    /// # Errors
    /// After [`StoreError::InDoubt`] the caller commits the same batch again until it knows. [`StoreError::TooLate`] and
    /// [`StoreError::Conflict`] say themselves what they mean after that. With any other error nothing of the batch was done.
    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>>;

    /// Reads a part of a log. What is not committed is not read.
    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page>;

    /// What each log has; `None` for those that do not exist.
    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>>;

    /// Drops what is older than is worth keeping at `now` (milliseconds since 1970), from the old end. Offsets and
    /// epoch go on as they are, also when nothing is left.
    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, now: i64) -> Answer<'a, LogState>;

    /// Puts records back where they were, for import: offsets, ordinals, ids and times stay as given.
    ///
    /// `start` is what the log was before `records`: its epoch, head and ordinal count, the rest is passed over. A log
    /// that does not exist begins as that, with nothing in it; one that exists must be exactly there, so that a long
    /// log comes in several calls. Offsets go on from `start.head` by one, ordinals by nothing or one. Answers when it
    /// is durable. Publishers' keys are no part of it; ids are remembered as if just appended.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the log is not there, the records do not follow it, or the back end cannot.
    fn restore<'a>(
        &'a self,
        log: &'a LogKey,
        start: LogState,
        records: &'a [Stored],
    ) -> Answer<'a, LogState> {
        let _ = (log, start, records);
        let name = self.name();
        Box::pin(std::future::ready(Err(StoreError::Invalid(format!("{name} cannot take an import")))))
    }

    /// Forgets a log altogether, its facts not included. Its next record begins a new epoch.
    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()>;

    /// A tenant's logs after `after`, in the order of their names.
    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage>;

    /// Tenants that have logs or facts, in the order of their names.
    fn tenants(&self) -> Answer<'_, Vec<EcoString>>;

    /// Facts by their keys; `None` for those that do not exist.
    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>>;

    /// Facts of a family whose names begin with `prefix`, after the name `after`.
    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage>;

    /// An author's records in a tenant's logs, from `from` on: for export and erasure. May be as slow as reading
    /// everything.
    fn authored<'a>(
        &'a self,
        tenant: &'a str,
        author: &'a str,
        from: Option<Place>,
        max: usize,
    ) -> Answer<'a, AuthoredPage>;

    /// How the store is, without writing.
    fn health(&self) -> Answer<'_, Health>;

    /// Reads everything and checks it against its checksums and the contract's invariants.
    fn verify(&self) -> Answer<'_, VerifyReport>;

    /// Gives space of what was trimmed back, as far as the back end can. Returns the bytes it won, about.
    fn compact(&self) -> Answer<'_, u64>;

    /// Finishes what is begun and lets go of files and connections. Nothing is called afterwards.
    fn close(&self) -> Answer<'_, ()>;
}

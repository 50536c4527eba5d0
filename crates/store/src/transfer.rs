//! Everything a store has as lines of JSON, out of one store and into another.
//!
//! ```text
//! {"outspoke_export":1}
//! {"log":{"tenant":"","room":"lobby","epoch":"00000000000000a7","head":500,"ordinal":480}}
//! {"record":{"offset":501,"ordinal":481,"id":"0190...","author":"ada","ts":1800000000000,"payload":{"text":"..."}}}
//! {"fact":{"tenant":"","space":"cursor","name":{"text":"..."},"value":{"base64":"..."}}}
//! {"end":{"logs":1,"records":1,"facts":1,"checksum":"..."}}
//! ```
//!
//! A log's line is its state *before* the records that follow it, so that one that was trimmed begins where it did.
//! Epochs, offsets, ordinals, ids, times and authors arrive as they were. What publishers called their records does
//! not travel: for the five minutes after a move a repeat is noticed by its id only. The checksum (XXH3) is over every
//! byte before the last line.
//!
//! These are for tools: they read and write with blocking calls. Which families of facts there are, a store does not
//! know; the caller says.

use std::collections::HashSet;
use std::io::{BufRead, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    Append, Batch, Direction, FactKey, FactWrite, Log, LogKey, LogState, Range, Record, Space, Store,
    StoreError, Stored,
};

/// The version of the lines that is written, and the newest that is read.
const VERSION: u32 = 1;
/// How many records, facts or logs are read or written at a time ...
const PAGE: usize = 1_000;
/// ... and how many payload bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Of one tenant only.
    pub tenant: Option<EcoString>,
    /// Of one room of that tenant only, and no facts.
    pub room: Option<EcoString>,
    /// The families of facts that there are.
    pub spaces: Vec<Space>,
}

/// What to do with what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Refuse, unless nothing is.
    Empty,
    /// Keep it. A log that does not exist comes as it was; to one that does the records are appended whose ids it does
    /// not have, with offsets of their own. Facts that exist stay as they are. The same import again changes nothing.
    Merge,
}

/// How much was exported or imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Logs.
    pub logs: u64,
    /// Records.
    pub records: u64,
    /// Facts.
    pub facts: u64,
}

/// Why an export or import ended early. What was written until then is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file could not be read or written.
    #[error("the export file: {0}")]
    Io(#[from] std::io::Error),
    /// The file is not a whole export.
    #[error("line {line} of the export: {what}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
    /// There is something in the store already.
    #[error("the store is not empty (tenant {0:?} has data); import into an empty one, or merge")]
    NotEmpty(EcoString),
    /// A log lost records while it was being exported.
    #[error("{0} was trimmed while it was exported; export again, with the hub stopped")]
    Trimmed(LogKey),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    OutspokeExport(u32),
    Log(LogLine),
    Record(RecordLine),
    Fact(FactLine),
    End(EndLine),
}

#[derive(Serialize, Deserialize)]
struct LogLine {
    tenant: EcoString,
    room: EcoString,
    epoch: String,
    head: u64,
    ordinal: u64,
}

#[derive(Serialize, Deserialize)]
struct RecordLine {
    offset: u64,
    ordinal: u64,
    id: String,
    author: EcoString,
    ts: i64,
    payload: Blob,
}

#[derive(Serialize, Deserialize)]
struct FactLine {
    tenant: EcoString,
    space: String,
    name: Blob,
    value: Blob,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    #[serde(flatten)]
    counts: Counts,
    checksum: String,
}

/// Bytes: as a text if they are one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Blob {
    Text(String),
    Base64(String),
}

impl Blob {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(BASE64.encode(bytes)),
        }
    }

    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Base64(text) => BASE64.decode(text).map(Bytes::from).map_err(|error| error.to_string()),
        }
    }
}

struct Output<W> {
    to: W,
    hash: Xxh3,
    counts: Counts,
}

impl<W: Write> Output<W> {
    fn line(&mut self, line: &Line) -> Result<(), TransferError> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::other)?;
        text.push(b'\n');
        self.hash.update(&text);
        Ok(self.to.write_all(&text)?)
    }
}

/// Writes what is in `scope` to `to`.
///
/// # Errors
/// [`TransferError`]; the file has no last line then, and no import takes it for whole.
pub async fn export<W: Write>(store: &dyn Store, scope: &Scope, to: W) -> Result<Counts, TransferError> {
    let mut output = Output { to, hash: Xxh3::new(), counts: Counts::default() };
    output.line(&Line::OutspokeExport(VERSION))?;
    let tenants = match &scope.tenant {
        Some(tenant) => vec![tenant.clone()],
        None => store.tenants().await?,
    };
    for tenant in tenants {
        export_logs(store, &tenant, scope.room.as_deref(), &mut output).await?;
        if scope.room.is_none() {
            for space in &scope.spaces {
                export_facts(store, &tenant, *space, &mut output).await?;
            }
        }
    }
    let (counts, checksum) = (output.counts, format!("{:016x}", output.hash.digest()));
    output.line(&Line::End(EndLine { counts, checksum }))?;
    output.to.flush()?;
    Ok(counts)
}

async fn export_logs<W: Write>(
    store: &dyn Store,
    tenant: &str,
    room: Option<&str>,
    output: &mut Output<W>,
) -> Result<(), TransferError> {
    if let Some(room) = room {
        let key = LogKey { tenant: tenant.into(), room: room.into() };
        if let Some(state) = store.states(std::slice::from_ref(&key)).await?.into_iter().flatten().next() {
            export_log(store, Log { key, state }, output).await?;
        }
        return Ok(());
    }
    let mut after: Option<EcoString> = None;
    loop {
        let page = store.logs(tenant, after.as_deref(), PAGE).await?;
        after = page.logs.last().map(|log| log.key.room.clone());
        for log in page.logs {
            export_log(store, log, output).await?;
        }
        if !page.more {
            return Ok(());
        }
    }
}

async fn export_log<W: Write>(
    store: &dyn Store,
    log: Log,
    output: &mut Output<W>,
) -> Result<(), TransferError> {
    let range =
        |after| Range { direction: Direction::After(after), records_max: PAGE, bytes_max: PAGE_BYTES };
    let mut page = store.range(&log.key, range(0)).await?;
    let state = page.state;
    let start = match page.records.first() {
        // Whether the first record was counted is not known any more; it may as well have been.
        Some(first) => (first.offset - 1, first.ordinal.saturating_sub(1)),
        None => (state.head, state.ordinal),
    };
    output.line(&Line::Log(LogLine {
        tenant: log.key.tenant.clone(),
        room: log.key.room.clone(),
        epoch: format!("{:016x}", state.epoch),
        head: start.0,
        ordinal: start.1,
    }))?;
    output.counts.logs += 1;
    let mut last = start.0;
    loop {
        for record in page.records {
            if record.offset != last + 1 {
                return Err(TransferError::Trimmed(log.key));
            }
            last = record.offset;
            output.line(&Line::Record(RecordLine {
                offset: record.offset,
                ordinal: record.ordinal,
                id: format!("{:032x}", record.id),
                author: record.author,
                ts: record.ts,
                payload: Blob::new(&record.payload),
            }))?;
            output.counts.records += 1;
        }
        if last >= state.head {
            return Ok(());
        }
        page = store.range(&log.key, range(last)).await?;
        if page.records.is_empty() {
            return Err(TransferError::Trimmed(log.key));
        }
    }
}

async fn export_facts<W: Write>(
    store: &dyn Store,
    tenant: &str,
    space: Space,
    output: &mut Output<W>,
) -> Result<(), TransferError> {
    let mut after: Option<Bytes> = None;
    loop {
        let page = store.scan(tenant, space, b"", after.as_deref(), PAGE).await?;
        after = page.facts.last().map(|fact| fact.name.clone());
        for fact in page.facts {
            output.line(&Line::Fact(FactLine {
                tenant: tenant.into(),
                space: space.0.to_owned(),
                name: Blob::new(&fact.name),
                value: Blob::new(&fact.value),
            }))?;
            output.counts.facts += 1;
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// Reads the lines of an export and holds the last against the others.
struct Input<R> {
    from: R,
    hash: Xxh3,
    line: u64,
    counts: Counts,
}

impl<R: BufRead> Input<R> {
    fn new(from: R) -> Result<Self, TransferError> {
        let mut input = Self { from, hash: Xxh3::new(), line: 0, counts: Counts::default() };
        match input.next()? {
            Some(Line::OutspokeExport(version)) if (1..=VERSION).contains(&version) => Ok(input),
            Some(Line::OutspokeExport(version)) => Err(input.malformed(format!(
                "version {version} was written by a newer Outspoke; this one reads up to {VERSION}"
            ))),
            _ => Err(input.malformed("not an export of Outspoke's store".to_owned())),
        }
    }

    fn malformed(&self, what: String) -> TransferError {
        TransferError::Malformed { line: self.line, what }
    }

    /// The next line; `None` behind a right last one.
    fn next(&mut self) -> Result<Option<Line>, TransferError> {
        let mut text = Vec::new();
        self.from.read_until(b'\n', &mut text)?;
        self.line += 1;
        if text.is_empty() {
            return Err(self.malformed("the file ends here; its last line is missing".to_owned()));
        }
        let line = serde_json::from_slice(&text).map_err(|error| self.malformed(error.to_string()))?;
        match &line {
            Line::OutspokeExport(_) => {}
            Line::Log(_) => self.counts.logs += 1,
            Line::Record(_) => self.counts.records += 1,
            Line::Fact(_) => self.counts.facts += 1,
            Line::End(end) => {
                if end.counts != self.counts || end.checksum != format!("{:016x}", self.hash.digest()) {
                    return Err(self.malformed("what precedes is not what was written".to_owned()));
                }
                return Ok(None);
            }
        }
        self.hash.update(&text);
        Ok(Some(line))
    }
}

/// Reads an export without importing it, to know beforehand that it is whole.
///
/// # Errors
/// [`TransferError::Malformed`] with the line, [`TransferError::Io`].
pub fn examine<R: BufRead>(from: R) -> Result<Counts, TransferError> {
    let mut input = Input::new(from)?;
    while input.next()?.is_some() {}
    Ok(input.counts)
}

/// Reads an export into a store. `spaces` are the families of facts that there are.
///
/// # Errors
/// [`TransferError`]. What was imported until then is there; [`Mode::Merge`] goes on from it.
pub async fn import<R: BufRead>(
    store: &dyn Store,
    spaces: &[Space],
    mode: Mode,
    from: R,
) -> Result<Counts, TransferError> {
    if mode == Mode::Empty
        && let Some(tenant) = store.tenants().await?.into_iter().next()
    {
        return Err(TransferError::NotEmpty(tenant));
    }
    let mut input = Input::new(from)?;
    let mut import = Import { store, spaces, log: None, records: Vec::new(), bytes: 0, facts: Vec::new() };
    while let Some(line) = input.next()? {
        import.line(line).await.map_err(|error| match error {
            Wrong::Line(what) => input.malformed(what),
            Wrong::Transfer(error) => error,
        })?;
    }
    import.finish_log().await?;
    import.write_facts().await?;
    Ok(input.counts)
}

enum Wrong {
    Line(String),
    Transfer(TransferError),
}

impl<E: Into<TransferError>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Transfer(error.into())
    }
}

/// The log whose records are coming.
struct Target {
    key: LogKey,
    /// Where it is in the store, as far as it was written.
    state: LogState,
    /// The ids it has, if it existed: then records are appended, not restored.
    known: Option<HashSet<u128>>,
    /// The ordinal of the record before.
    ordinal: u64,
}

struct Import<'a> {
    store: &'a dyn Store,
    spaces: &'a [Space],
    log: Option<Target>,
    records: Vec<Stored>,
    bytes: usize,
    facts: Vec<(FactKey, Bytes)>,
}

impl Import<'_> {
    async fn line(&mut self, line: Line) -> Result<(), Wrong> {
        match line {
            Line::OutspokeExport(_) | Line::End(_) => {
                Err(Wrong::Line("a first line inside the file".to_owned()))
            }
            Line::Log(log) => {
                self.finish_log().await?;
                self.begin_log(log).await
            }
            Line::Record(record) => self.record(record).await,
            Line::Fact(fact) => self.fact(fact).await,
        }
    }

    async fn begin_log(&mut self, line: LogLine) -> Result<(), Wrong> {
        let epoch = u64::from_str_radix(&line.epoch, 16).map_err(|error| Wrong::Line(error.to_string()))?;
        let key = LogKey { tenant: line.tenant, room: line.room };
        let start =
            LogState { epoch, head: line.head, first: line.head + 1, ordinal: line.ordinal, bytes: 0 };
        let found = self.store.states(std::slice::from_ref(&key)).await?.into_iter().flatten().next();
        let (state, known) = match found {
            None => (self.store.restore(&key, start, &[]).await?, None),
            Some(state) => (state, Some(self.ids(&key).await?)),
        };
        self.log = Some(Target { key, state, known, ordinal: line.ordinal });
        Ok(())
    }

    /// Every id that a log has.
    async fn ids(&self, log: &LogKey) -> Result<HashSet<u128>, TransferError> {
        let (mut ids, mut after) = (HashSet::new(), 0);
        loop {
            let range =
                Range { direction: Direction::After(after), records_max: PAGE, bytes_max: PAGE_BYTES };
            let page = self.store.range(log, range).await?;
            let Some(last) = page.records.last() else { return Ok(ids) };
            after = last.offset;
            ids.extend(page.records.iter().map(|record| record.id));
        }
    }

    async fn record(&mut self, line: RecordLine) -> Result<(), Wrong> {
        if self.log.is_none() {
            return Err(Wrong::Line("a record before any log".to_owned()));
        }
        let id = u128::from_str_radix(&line.id, 16).map_err(|error| Wrong::Line(error.to_string()))?;
        let payload = line.payload.bytes().map_err(Wrong::Line)?;
        self.bytes += payload.len();
        let RecordLine { offset, ordinal, author, ts, .. } = line;
        self.records.push(Stored { offset, ordinal, id, author, ts, payload });
        if self.records.len() >= PAGE || self.bytes >= PAGE_BYTES {
            self.write_records().await?;
        }
        Ok(())
    }

    async fn write_records(&mut self) -> Result<(), TransferError> {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let Some(target) = &mut self.log else { return Ok(()) };
        if records.is_empty() {
            return Ok(());
        }
        let Some(known) = &target.known else {
            target.state = self.store.restore(&target.key, target.state, &records).await?;
            return Ok(());
        };
        let mut new = Vec::new();
        for record in records {
            let counted = record.ordinal > target.ordinal;
            target.ordinal = record.ordinal;
            if !known.contains(&record.id) {
                let Stored { id, author, ts, payload, .. } = record;
                new.push(Record { id, key: None, author, ts, counted, payload });
            }
        }
        let append = Append {
            log: target.key.clone(),
            epoch: target.state.epoch,
            records: new,
            replaces: vec![],
            fence: None,
        };
        self.store.commit(&Batch { appends: vec![append], ..Batch::default() }).await?;
        Ok(())
    }

    async fn finish_log(&mut self) -> Result<(), TransferError> {
        self.write_records().await?;
        self.log = None;
        Ok(())
    }

    async fn fact(&mut self, line: FactLine) -> Result<(), Wrong> {
        let space = self.spaces.iter().find(|space| space.0 == line.space).copied();
        let unknown =
            || Wrong::Line(format!("facts of a family {:?} that this version does not know", line.space));
        let space = space.ok_or_else(unknown)?;
        let name = line.name.bytes().map_err(Wrong::Line)?;
        let value = line.value.bytes().map_err(Wrong::Line)?;
        self.bytes += value.len();
        self.facts.push((FactKey { tenant: line.tenant, space, name }, value));
        if self.facts.len() >= PAGE || self.bytes >= PAGE_BYTES {
            self.write_facts().await?;
        }
        Ok(())
    }

    async fn write_facts(&mut self) -> Result<(), TransferError> {
        let (keys, values): (Vec<_>, Vec<_>) = std::mem::take(&mut self.facts).into_iter().unzip();
        self.bytes = 0;
        let found = self.store.facts(&keys).await?;
        let missing = keys.into_iter().zip(values).zip(found).filter(|(_, found)| found.is_none());
        let facts = missing.map(|((key, value), _)| FactWrite::Set(key, value)).collect();
        self.store.commit(&Batch { facts, ..Batch::default() }).await?;
        Ok(())
    }
}

//! How logs and facts are written down: keys that sort as the contract orders, values with a checksum.
//!
//! A key never needs a separator that a name could contain: texts are escaped so that the order of the bytes is the
//! order of the texts, and numbers are big-endian. A value is eight bytes of XXH3 over its family, its key and itself,
//! then the fields, little-endian. A value that was changed, or turns up under another key, does not pass.
//!
//! The format is versioned as a whole, in the folder's marker file; nothing here is self-describing.

use bytes::Bytes;
use ecow::EcoString;
use xxhash_rust::xxh3::Xxh3;

use crate::{FactKey, LogKey, LogState, Outcome, Stored};

/// Families of keys; the numbers are part of the checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Family {
    Meta = 1,
    Logs = 2,
    Records = 3,
    Keys = 4,
    Past = 5,
    Facts = 6,
}

/// The bytes are not what was written, or not where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong;

/// Counts batches: see `journal`.
pub(super) const TURN: &[u8] = b"turn";
/// The number that the next log gets.
pub(super) const NEXT_LOG: &[u8] = b"next log";
/// Followed by the number of a log that was dropped and whose records are still to be removed.
pub(super) const DOOMED: &[u8] = b"doomed ";

fn checksum(family: Family, key: &[u8], body: &[u8]) -> u64 {
    let mut hash = Xxh3::with_seed(family as u64);
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(body);
    hash.digest()
}

/// Begins a value; [`seal`] ends it.
fn value(capacity: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + capacity);
    value.extend([0; 8]);
    value
}

fn seal(family: Family, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(family, key, &value[8..]);
    value[..8].copy_from_slice(&sum.to_le_bytes());
    value
}

/// A value as it is written: the body with its checksum.
pub(super) fn sealed(family: Family, key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = value(body.len());
    value.extend_from_slice(body);
    seal(family, key, value)
}

/// The body of a value, if it is what was written under this key.
pub(super) fn opened<'a>(family: Family, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Wrong> {
    let (sum, body) = value.split_first_chunk::<8>().ok_or(Wrong)?;
    if u64::from_le_bytes(*sum) == checksum(family, key, body) { Ok(body) } else { Err(Wrong) }
}

/// Appends a text so that no text is a prefix of another and the order stays: a zero is followed by 255, the end is
/// zero and one.
fn put_text(key: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 1]);
}

/// Takes a text off the front.
fn take_text(key: &[u8]) -> Result<(EcoString, &[u8]), Wrong> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match (key.get(at).ok_or(Wrong)?, key.get(at + 1)) {
            (0, Some(1)) => break,
            (0, Some(0xff)) => {
                text.push(0);
                at += 2;
            }
            (0, _) => return Err(Wrong),
            (byte, _) => {
                text.push(*byte);
                at += 1;
            }
        }
    }
    let text = std::str::from_utf8(&text).map_err(|_| Wrong)?;
    Ok((text.into(), &key[at + 2..]))
}

pub(super) fn tenant_prefix(tenant: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(tenant.len() + 2);
    put_text(&mut key, tenant.as_bytes());
    key
}

/// Sorts after everything that has this prefix, and before everything else that sorts after it.
pub(super) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

pub(super) fn log_key(log: &LogKey) -> Vec<u8> {
    let mut key = tenant_prefix(&log.tenant);
    put_text(&mut key, log.room.as_bytes());
    key
}

pub(super) fn log_of(key: &[u8]) -> Result<LogKey, Wrong> {
    let (tenant, rest) = take_text(key)?;
    let (room, rest) = take_text(rest)?;
    if rest.is_empty() { Ok(LogKey { tenant, room }) } else { Err(Wrong) }
}

pub(super) fn tenant_of(key: &[u8]) -> Result<EcoString, Wrong> {
    take_text(key).map(|(tenant, _)| tenant)
}

pub(super) fn space_prefix(tenant: &str, space: &str) -> Vec<u8> {
    let mut key = tenant_prefix(tenant);
    put_text(&mut key, space.as_bytes());
    key
}

pub(super) fn fact_key(fact: &FactKey) -> Vec<u8> {
    let mut key = space_prefix(&fact.tenant, fact.space.0);
    key.extend_from_slice(&fact.name);
    key
}

/// A log's number and an offset.
pub(super) fn record_key(log: u64, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&log.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn offset_of(key: &[u8]) -> Result<u64, Wrong> {
    let key: &[u8; 16] = key.try_into().map_err(|_| Wrong)?;
    let (_, offset) = key.split_last_chunk::<8>().ok_or(Wrong)?;
    Ok(u64::from_be_bytes(*offset))
}

/// Where a publisher's key is remembered.
pub(super) fn key_key(log: u64, key: &[u8]) -> Vec<u8> {
    [&log.to_be_bytes(), &[0][..], key].concat()
}

/// Where an id that was not greater than all before it is remembered.
pub(super) fn id_key(log: u64, id: u128) -> Vec<u8> {
    [&log.to_be_bytes(), &[1][..], &id.to_be_bytes()].concat()
}

/// Where trimmed records are remembered: see [`Past`].
pub(super) fn past_key(log: u64, id_high: u128, last: u64) -> Vec<u8> {
    [&log.to_be_bytes()[..], &id_high.to_be_bytes(), &last.to_be_bytes()].concat()
}

pub(super) fn doomed_key(log: u64) -> Vec<u8> {
    [DOOMED, &log.to_be_bytes()].concat()
}

pub(super) fn doomed_of(key: &[u8]) -> Result<u64, Wrong> {
    let number = key.strip_prefix(DOOMED).ok_or(Wrong)?;
    number.try_into().map(u64::from_be_bytes).map_err(|_| Wrong)
}

/// Takes fields off the front of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Wrong)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Wrong)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Wrong> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Wrong> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Wrong> {
        self.array().map(i64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128, Wrong> {
        self.array().map(u128::from_le_bytes)
    }

    /// Bytes with their length before them; at most 64 KiB, which the contract's limits keep.
    fn short(&mut self) -> Result<&'a [u8], Wrong> {
        let len = self.u16()?;
        self.bytes(len.into())
    }

    fn text(&mut self) -> Result<EcoString, Wrong> {
        std::str::from_utf8(self.short()?).map(EcoString::from).map_err(|_| Wrong)
    }

    fn end(&self) -> Result<(), Wrong> {
        if self.0.is_empty() { Ok(()) } else { Err(Wrong) }
    }
}

fn put_short(value: &mut Vec<u8>, bytes: &[u8]) {
    // The contract's limits are far below; `check` has seen every batch.
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    value.extend(len.to_le_bytes());
    value.extend_from_slice(&bytes[..len.into()]);
}

/// Everything about a log but its records: what opening a room costs is reading this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The log's number: what its records are under. Never used again.
    pub(super) number: u64,
    pub(super) state: LogState,
    /// The greatest id of any record up to the newest.
    pub(super) id_high: Option<u128>,
    /// Keys and ids of records up to here are forgotten.
    pub(super) forgotten: u64,
}

impl Head {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut value = value(80);
        let LogState { epoch, first, head, ordinal, bytes } = self.state;
        for field in [self.number, epoch, first, head, ordinal, bytes, self.forgotten] {
            value.extend(field.to_le_bytes());
        }
        if let Some(id) = self.id_high {
            value.extend(id.to_le_bytes());
        }
        seal(Family::Logs, key, value)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Wrong> {
        let mut fields = Fields(opened(Family::Logs, key, value)?);
        let number = fields.u64()?;
        let state = LogState {
            epoch: fields.u64()?,
            first: fields.u64()?,
            head: fields.u64()?,
            ordinal: fields.u64()?,
            bytes: fields.u64()?,
        };
        let forgotten = fields.u64()?;
        let id_high = if fields.0.is_empty() { None } else { Some(fields.u128()?) };
        fields.end()?;
        Ok(Self { number, state, id_high, forgotten })
    }
}

const IN_ORDER: u8 = 1;
const KEYED: u8 = 2;

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) stored: Stored,
    pub(super) key: Option<Bytes>,
    /// The greatest id of any record of the log up to this one: the record's own if it came in order.
    pub(super) id_high: u128,
}

impl Kept {
    /// Whether its id is greater than all before it, so that it is found by looking where ids grow past it.
    pub(super) fn in_order(&self) -> bool {
        self.id_high == self.stored.id
    }

    pub(super) fn outcome(&self) -> Outcome {
        let Stored { offset, ordinal, id, ts, .. } = self.stored;
        Outcome { offset, ordinal, id, ts, duplicate: true }
    }

    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let Stored { ordinal, id, ts, ref author, ref payload, .. } = self.stored;
        let mut value =
            value(64 + author.len() + payload.len() + self.key.as_ref().map_or(0, |key| key.len()));
        let keyed = if self.key.is_some() { KEYED } else { 0 };
        value.push(if self.in_order() { IN_ORDER } else { 0 } | keyed);
        value.extend(ordinal.to_le_bytes());
        value.extend(id.to_le_bytes());
        value.extend(ts.to_le_bytes());
        if !self.in_order() {
            value.extend(self.id_high.to_le_bytes());
        }
        put_short(&mut value, author.as_bytes());
        if let Some(key) = &self.key {
            put_short(&mut value, key);
        }
        value.extend_from_slice(payload);
        seal(Family::Records, key, value)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Wrong> {
        let mut fields = Fields(opened(Family::Records, key, value)?);
        let flags = fields.u8()?;
        let (ordinal, id, ts) = (fields.u64()?, fields.u128()?, fields.i64()?);
        let id_high = if flags & IN_ORDER != 0 { id } else { fields.u128()? };
        let author = fields.text()?;
        let key_of = (flags & KEYED != 0).then(|| fields.short().map(Bytes::copy_from_slice)).transpose()?;
        let payload = Bytes::copy_from_slice(fields.0);
        let stored = Stored { offset: offset_of(key)?, ordinal, id, author, ts, payload };
        Ok(Self { stored, key: key_of, id_high })
    }
}

pub(super) fn encode_outcome(key: &[u8], outcome: Outcome) -> Vec<u8> {
    let mut value = value(40);
    value.extend(outcome.offset.to_le_bytes());
    value.extend(outcome.ordinal.to_le_bytes());
    value.extend(outcome.id.to_le_bytes());
    value.extend(outcome.ts.to_le_bytes());
    seal(Family::Keys, key, value)
}

/// The outcome that a repeat gets.
pub(super) fn decode_outcome(key: &[u8], value: &[u8]) -> Result<Outcome, Wrong> {
    let mut fields = Fields(opened(Family::Keys, key, value)?);
    let (offset, ordinal, id, ts) = (fields.u64()?, fields.u64()?, fields.u128()?, fields.i64()?);
    fields.end()?;
    Ok(Outcome { offset, ordinal, id, ts, duplicate: true })
}

/// What is remembered of a record that was trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PastRecord {
    pub(super) outcome: Outcome,
    pub(super) in_order: bool,
    pub(super) key: Option<Bytes>,
}

/// What is remembered of records that were trimmed together, in the order of their offsets, without holes.
///
/// It is found by the greatest id up to its last record, which grows with the offsets: an id that came in order is in
/// the first block that is not below it, or in none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) records: Vec<PastRecord>,
}

impl Past {
    pub(super) fn last(&self) -> u64 {
        self.records.last().map_or(0, |record| record.outcome.offset)
    }

    /// When the youngest of them was accepted.
    pub(super) fn ts_max(&self) -> i64 {
        self.records.iter().map(|record| record.outcome.ts).max().unwrap_or(i64::MIN)
    }

    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut value = value(self.records.len() * 64);
        for record in &self.records {
            let keyed = if record.key.is_some() { KEYED } else { 0 };
            value.push(if record.in_order { IN_ORDER } else { 0 } | keyed);
            value.extend(record.outcome.offset.to_le_bytes());
            value.extend(record.outcome.ordinal.to_le_bytes());
            value.extend(record.outcome.id.to_le_bytes());
            value.extend(record.outcome.ts.to_le_bytes());
            if let Some(key) = &record.key {
                put_short(&mut value, key);
            }
        }
        seal(Family::Past, key, value)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Wrong> {
        let mut fields = Fields(opened(Family::Past, key, value)?);
        let mut past = Self::default();
        while !fields.0.is_empty() {
            let flags = fields.u8()?;
            let (offset, ordinal, id, ts) = (fields.u64()?, fields.u64()?, fields.u128()?, fields.i64()?);
            let key = (flags & KEYED != 0).then(|| fields.short().map(Bytes::copy_from_slice)).transpose()?;
            let outcome = Outcome { offset, ordinal, id, ts, duplicate: true };
            past.records.push(PastRecord { outcome, in_order: flags & IN_ORDER != 0, key });
        }
        Ok(past)
    }
}

/// A batch's number, and the number of the newest batch that was durable when it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) number: u64,
    pub(super) durable: u64,
}

impl Turn {
    pub(super) fn encode(self) -> Vec<u8> {
        let body = [self.number.to_le_bytes(), self.durable.to_le_bytes()].concat();
        sealed(Family::Meta, TURN, &body)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Wrong> {
        let mut fields = Fields(opened(Family::Meta, TURN, value)?);
        let turn = Self { number: fields.u64()?, durable: fields.u64()? };
        fields.end()?;
        Ok(turn)
    }
}

pub(super) fn encode_number(key: &[u8], number: u64) -> Vec<u8> {
    sealed(Family::Meta, key, &number.to_le_bytes())
}

pub(super) fn decode_number(key: &[u8], value: &[u8]) -> Result<u64, Wrong> {
    Fields(opened(Family::Meta, key, value)?).u64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn log(tenant: &str, room: &str) -> LogKey {
        LogKey { tenant: tenant.into(), room: room.into() }
    }

    fn kept(key: Option<&'static [u8]>, id_high: u128) -> Kept {
        let stored = Stored {
            offset: 5,
            ordinal: 4,
            id: 77,
            author: "ada".into(),
            ts: -3,
            payload: Bytes::from_static(b"payload"),
        };
        Kept { stored, key: key.map(Bytes::from_static), id_high }
    }

    /// Listings would come out of order, or one name inside another, if this failed.
    #[test]
    fn log_keys_sort_as_their_texts_and_come_back() {
        let mut logs = Vec::new();
        let texts = ["", "\0", "\0\0", "\0\u{1}", "\u{1}", "a", "a\0", "a\0b", "a\u{1}", "ab", "b", "\u{e9}"];
        for tenant in texts {
            logs.extend(texts.map(|room| log(tenant, room)));
        }
        let mut by_key = logs.clone();
        by_key.sort_by_key(log_key);
        logs.sort();
        assert_eq!(by_key, logs);
        for log in logs {
            assert_eq!(log_of(&log_key(&log)), Ok(log));
        }
    }

    #[test]
    fn records_come_back_with_and_without_key_in_and_out_of_order() {
        let at = record_key(1, 5);
        for kept in [kept(None, 77), kept(Some(b"key"), 77), kept(Some(b""), 99), kept(None, 99)] {
            assert_eq!(Kept::decode(&at, &kept.encode(&at)), Ok(kept));
        }
    }

    /// A flipped bit or a value under another key would be served as if it were right.
    #[test]
    fn a_changed_or_moved_value_is_wrong() {
        let at = record_key(1, 5);
        let value = kept(Some(b"key"), 99).encode(&at);
        for byte in 0..value.len() {
            let mut changed = value.clone();
            changed[byte] ^= 0x10;
            assert_eq!(Kept::decode(&at, &changed), Err(Wrong), "byte {byte}");
        }
        assert_eq!(Kept::decode(&record_key(1, 6), &value), Err(Wrong));
        assert_eq!(Kept::decode(&at, &value[..value.len() - 1]), Err(Wrong));
        assert_eq!(Kept::decode(&at, &[]), Err(Wrong));
        assert_eq!(opened(Family::Facts, &at, &value), Err(Wrong));
    }

    #[test]
    fn the_end_of_a_prefix_is_after_it_and_nothing_else() {
        assert_eq!(after_prefix(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(vec![1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(vec![255]), None);
        assert_eq!(after_prefix(vec![]), None);
    }
}

//! Keys and items of the table.
//!
//! Both keys are bytes. The first byte of a partition key is its kind; what follows are names, with the length of the first
//! where there are two. Sort keys are in the order in which things are read. Neither may be empty.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

use crate::{LogKey, LogState, Outcome, Stored};

/// An item, or the key of one.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The largest piece of a payload in one item: an item has at most 400 KB.
pub(super) const PIECE: usize = 350 * 1024;

/// Partition and sort key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) Vec<u8>, pub(super) Vec<u8>);

impl Key {
    pub(super) fn item(&self) -> Item {
        Item::from([("pk".to_owned(), blob(&self.0)), ("sk".to_owned(), blob(&self.1))])
    }
}

pub(super) fn blob(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

pub(super) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn two(kind: u8, first: &str, second: &str) -> Vec<u8> {
    let length = u16::try_from(first.len()).unwrap_or(u16::MAX);
    [&[kind], &length.to_be_bytes()[..], first.as_bytes(), second.as_bytes()].concat()
}

fn one(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], name.as_bytes()].concat()
}

/// The mark that says how the data is laid out.
pub(super) fn format() -> Key {
    Key(vec![b'v'], vec![0])
}

/// Where all tenants are listed.
pub(super) fn tenants() -> Vec<u8> {
    vec![b't']
}

/// Where a tenant's rooms are listed.
pub(super) fn rooms(tenant: &str) -> Vec<u8> {
    one(b'r', tenant)
}

/// Where a tenant's families of facts are listed.
pub(super) fn spaces(tenant: &str) -> Vec<u8> {
    one(b's', tenant)
}

/// A name in a list.
pub(super) fn listed(name: &str) -> Vec<u8> {
    one(b'n', name)
}

pub(super) fn log(log: &LogKey) -> Key {
    Key(two(b'l', &log.tenant, &log.room), vec![0])
}

/// A fact. A family's nameless fact is apart, as a sort key cannot be empty.
pub(super) fn fact((tenant, space): (&str, &str), name: &[u8]) -> Key {
    match name {
        [] => Key(two(b'e', tenant, space), vec![0]),
        name => Key(two(b'f', tenant, space), name.to_vec()),
    }
}

/// Where a family's facts with names are.
pub(super) fn facts((tenant, space): (&str, &str)) -> Vec<u8> {
    two(b'f', tenant, space)
}

/// A log's state and what else is to be known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) state: LogState,
    /// Grows by one with everything that is written under it.
    pub(super) version: u64,
    /// Tells a log from one of the same name that was dropped.
    pub(super) life: u64,
    /// What is before has lost its payload.
    pub(super) swept: u64,
    /// What is before is forgotten.
    pub(super) forgotten: u64,
}

impl Head {
    pub(super) fn item(&self, log: &LogKey) -> Item {
        let mut item = self::log(log).item();
        for (name, value) in [
            ("epoch", self.state.epoch),
            ("first", self.state.first),
            ("head", self.state.head),
            ("ordinal", self.state.ordinal),
            ("bytes", self.state.bytes),
            ("version", self.version),
            ("life", self.life),
            ("swept", self.swept),
            ("forgotten", self.forgotten),
        ] {
            item.insert(name.to_owned(), number(value));
        }
        item
    }

    pub(super) fn of(item: &Item) -> Option<Self> {
        let state = LogState {
            epoch: read_number(item, "epoch")?,
            first: read_number(item, "first")?,
            head: read_number(item, "head")?,
            ordinal: read_number(item, "ordinal")?,
            bytes: read_number(item, "bytes")?,
        };
        let (version, life) = (read_number(item, "version")?, read_number(item, "life")?);
        let (swept, forgotten) = (read_number(item, "swept")?, read_number(item, "forgotten")?);
        Some(Self { state, version, life, swept, forgotten })
    }

    /// Where everything else of the log is.
    pub(super) fn partition(&self, log: &LogKey) -> Vec<u8> {
        [&b"d"[..], &self.life.to_be_bytes()[..], &two(b'l', &log.tenant, &log.room)].concat()
    }
}

pub(super) fn record_sort(offset: u64) -> Vec<u8> {
    [&[1], &offset.to_be_bytes()[..]].concat()
}

pub(super) fn id_sort(id: u128) -> Vec<u8> {
    [&[2], &id.to_be_bytes()[..]].concat()
}

pub(super) fn key_sort(key: &[u8]) -> Vec<u8> {
    [&[3], key].concat()
}

/// A further piece of a payload.
pub(super) fn piece_sort(offset: u64, piece: u8) -> Vec<u8> {
    [&[4], &offset.to_be_bytes()[..], &[piece]].concat()
}

/// A record's item, with as much of its payload as it has room for.
pub(super) fn record(partition: &[u8], stored: &Stored, key: Option<&[u8]>) -> Item {
    let mut item = Key(partition.to_vec(), record_sort(stored.offset)).item();
    let payload = stored.payload.chunks(PIECE).next().unwrap_or_default();
    let mut set = |name: &str, value| item.insert(name.to_owned(), value);
    set("i", blob(&stored.id.to_be_bytes()));
    set("o", number(stored.ordinal));
    set("t", number(stored.ts));
    set("a", blob(stored.author.as_bytes()));
    set("p", blob(payload));
    set("z", number(stored.payload.len()));
    if let Some(key) = key {
        set("k", blob(key));
    }
    item
}

/// The items with the rest of its payload.
pub(super) fn pieces<'a>(partition: &'a [u8], stored: &'a Stored) -> impl Iterator<Item = Item> + 'a {
    (1_u8..).zip(stored.payload.chunks(PIECE).skip(1)).map(|(piece, payload)| {
        let mut item = Key(partition.to_vec(), piece_sort(stored.offset, piece)).item();
        item.insert("p".to_owned(), blob(payload));
        item
    })
}

/// How many items a payload of this size has beside the record's own.
pub(super) fn pieces_of(size: usize) -> u8 {
    u8::try_from(size.div_ceil(PIECE).saturating_sub(1)).unwrap_or(u8::MAX)
}

/// The record in an item, and how large its whole payload is.
pub(super) fn stored(item: &Item) -> Option<(Stored, usize)> {
    let sort = read_blob(item, "sk")?;
    let stored = Stored {
        offset: u64::from_be_bytes(sort.get(1..)?.try_into().ok()?),
        ordinal: read_number(item, "o")?,
        id: u128::from_be_bytes(read_blob(item, "i")?.try_into().ok()?),
        author: str::from_utf8(read_blob(item, "a")?).ok()?.into(),
        ts: read_number(item, "t")?,
        payload: Bytes::copy_from_slice(read_blob(item, "p")?),
    };
    Some((stored, read_number(item, "z")?))
}

/// What an id or a key was answered with.
pub(super) fn seen(partition: &[u8], sort: Vec<u8>, outcome: &Outcome) -> Item {
    let mut item = Key(partition.to_vec(), sort).item();
    item.insert("n".to_owned(), number(outcome.offset));
    item.insert("o".to_owned(), number(outcome.ordinal));
    item.insert("i".to_owned(), blob(&outcome.id.to_be_bytes()));
    item.insert("t".to_owned(), number(outcome.ts));
    item
}

pub(super) fn outcome(item: &Item) -> Option<Outcome> {
    Some(Outcome {
        offset: read_number(item, "n")?,
        ordinal: read_number(item, "o")?,
        id: u128::from_be_bytes(read_blob(item, "i")?.try_into().ok()?),
        ts: read_number(item, "t")?,
        duplicate: true,
    })
}

pub(super) fn read_number<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn read_blob<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    item.get(name)?.as_b().ok().map(Blob::as_ref)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_of_odd_names_are_told_apart() {
        let key = |tenant: &str, room: &str| log(&LogKey { tenant: tenant.into(), room: room.into() });
        assert_ne!(key("a", "bc"), key("ab", "c"));
        assert_ne!(fact(("", "s"), b""), fact(("", "s"), &[0]));
    }

    #[test]
    fn large_payload_is_cut_into_pieces_and_counted() {
        for (size, further) in [(0, 0), (PIECE, 0), (PIECE + 1, 1), (1 << 20, 2)] {
            let stored = Stored {
                offset: 1,
                ordinal: 1,
                id: 1,
                author: "a".into(),
                ts: -1,
                payload: vec![1; size].into(),
            };
            assert_eq!(pieces(b"d", &stored).count(), usize::from(further));
            assert_eq!(pieces_of(size), further);
            let (read, whole) = super::stored(&record(b"d", &stored, None)).unwrap();
            assert_eq!((whole, read.payload.len()), (size, size.min(PIECE)));
        }
    }
}

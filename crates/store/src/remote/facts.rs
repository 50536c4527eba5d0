//! A batch's facts, folded into one change for each key.
//!
//! Writes to a key are done in their order; as only the last state is seen, they can be folded before they are sent.
//! The keys come sorted, so that several writers lock them in the same order.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{FactKey, FactWrite};

/// What becomes of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is this.
    Set(Bytes),
    /// It is the greater of what it was and this.
    Max(Bytes),
    /// It is no more.
    Delete,
}

/// Folds writes into the change that they are together.
pub(crate) fn fold(writes: &[FactWrite]) -> BTreeMap<&FactKey, Change> {
    let mut changes = BTreeMap::new();
    for write in writes {
        match write {
            FactWrite::Set(key, value) => changes.insert(key, Change::Set(value.clone())),
            FactWrite::Delete(key) => changes.insert(key, Change::Delete),
            FactWrite::Max(key, value) => {
                let change = match changes.remove(key) {
                    None => Change::Max(value.clone()),
                    Some(Change::Max(before)) => Change::Max(before.max(value.clone())),
                    Some(Change::Set(before)) => Change::Set(before.max(value.clone())),
                    Some(Change::Delete) => Change::Set(value.clone()),
                };
                changes.insert(key, change)
            }
        };
    }
    changes
}

/// The first name after all that begin with `prefix`; `None` when there is no such name.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Space;

    #[test]
    fn fold_of_writes_is_what_they_do_one_after_the_other() {
        let key = FactKey { tenant: "t".into(), space: Space("s"), name: Bytes::from_static(b"n") };
        let set = |value: &'static [u8]| FactWrite::Set(key.clone(), Bytes::from_static(value));
        let max = |value: &'static [u8]| FactWrite::Max(key.clone(), Bytes::from_static(value));
        let delete = || FactWrite::Delete(key.clone());
        let folded = |writes: &[FactWrite]| fold(writes).remove(&key).expect("the key is written");

        assert_eq!(folded(&[max(b"1"), max(b"3"), max(b"2")]), Change::Max(Bytes::from_static(b"3")));
        assert_eq!(folded(&[set(b"5"), max(b"3")]), Change::Set(Bytes::from_static(b"5")));
        assert_eq!(folded(&[max(b"9"), set(b"5")]), Change::Set(Bytes::from_static(b"5")));
        assert_eq!(folded(&[set(b"5"), delete(), max(b"3")]), Change::Set(Bytes::from_static(b"3")));
        assert_eq!(folded(&[set(b"5"), delete()]), Change::Delete);
    }

    #[test]
    fn successor_follows_every_name_with_the_prefix() {
        assert_eq!(successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(successor(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(successor(b"\xff"), None);
        assert_eq!(successor(b""), None);
    }
}

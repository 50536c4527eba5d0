//! Rulings in the store: written, read at start, and looked after while the hub runs.
//!
//! Each ruling is a fact. Each life of each hub keeps one fact besides, its journal: how many rulings it has written, and the names of
//! the newest. So a look at the journals, one small read, tells which rulings other hubs have written since the last look,
//! whatever became of the bus. Whoever falls behind a journal reads everything again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::Timestamp;
use outspoke_store::{FactKey, FactWrite, StoreError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::record::{Entry, JOURNAL, RULING, key_of};
use super::{Book, RulingError};
use crate::facts::{self, RULINGS};
use crate::hub::Inner;
use crate::keeper::Keeper;

/// How often it is looked whether other hubs have written something. With the time of a read, a ruling is known everywhere
/// within five seconds.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait before what could not be read at start is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Facts read at once.
const PAGE: usize = 1000;
/// Bytes of names in a journal: with more, the oldest go.
const NAMES_BYTES_MAX: usize = 16 * 1024;
/// Journals of hubs that have not written for so long are removed.
const JOURNAL_LASTS_MILLIS: i64 = 2 * 24 * 3600 * 1000;
/// How long after a removal it is looked whether the same was decided anew at that moment.
const AFTERTHOUGHT: Duration = Duration::from_secs(10);

/// What this life of the hub has written, and what it has seen of the others.
#[derive(Debug, Default)]
pub(super) struct Journal {
    count: u64,
    names: VecDeque<Bytes>,
    bytes: usize,
}

/// A journal as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct JournalWord<'a> {
    /// When it was written, in milliseconds.
    at: i64,
    /// Rulings written in that life.
    count: u64,
    /// The names of the newest, the oldest of them first.
    #[serde(borrow)]
    names: Vec<&'a [u8]>,
}

impl Journal {
    fn note(&mut self, name: &Bytes) {
        self.count += 1;
        self.bytes += name.len();
        self.names.push_back(name.clone());
        while self.bytes > NAMES_BYTES_MAX {
            self.bytes -= self.names.pop_front().map_or(0, |name| name.len());
        }
    }

    fn encode(&self, at: i64) -> Bytes {
        let names = self.names.iter().map(|name| &name[..]).collect();
        let word = JournalWord { at, count: self.count, names };
        Bytes::from(postcard::to_allocvec(&word).expect("writing to memory does not fail"))
    }
}

impl Inner {
    /// Makes a ruling durable, however long that takes: what a store was given may be in it at any time, for all nodes
    /// to see, and then it must count here, too. Returns whether there is where.
    ///
    /// # Errors
    /// It is not in the store, and never will be.
    pub(super) async fn write_ruling(&self, entry: &Entry) -> Result<bool, RulingError> {
        let Some(keeper) = self.keepers.first() else { return Ok(false) };
        let patience = self.config().store_timeout;
        // One after the other: a journal must not tell of a ruling that is not there yet.
        let Ok(mut journal) = tokio::time::timeout(patience, self.rulings.journal.lock()).await else {
            return Err(RulingError::Unavailable("an earlier decision waits for it".to_owned()));
        };
        journal.note(&entry.name);
        let facts = vec![
            FactWrite::Max(entry.key(), entry.encode()),
            FactWrite::Set(self.own_journal(), journal.encode(self.now().as_millis())),
        ];
        let mut doubted = false;
        loop {
            match keeper.write(facts.clone()).await {
                Ok(()) => return Ok(true),
                // Only a write that succeeds settles it: an earlier one may be stored, or still be on its way. Other
                // nodes may see it, so to leave it at that is not safe here; to store the same twice is.
                Err(error) if doubted || matches!(error, StoreError::InDoubt(_)) => {
                    doubted = true;
                    tracing::warn!(%error, "a ruling may be stored or not: it is stored again");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn own_journal(&self) -> FactKey {
        key_of(facts::name(&[JOURNAL, &self.life.to_string()]))
    }

    /// Takes in what others have decided, and does it here. Returns how much of it was news.
    pub(super) fn hear_rulings<'a>(&self, records: impl Iterator<Item = &'a [u8]>) -> usize {
        let max = self.config().rulings_max.saturating_mul(2);
        let now = self.now();
        let mut news = Vec::new();
        for record in records {
            let Some(entry) = Entry::decode(record, now).map(Arc::new) else {
                self.rulings.garbage.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            match self.rulings.merge(Arc::clone(&entry), max) {
                Ok(true) => news.push(entry),
                Ok(false) => {}
                Err(_) => {
                    if self.rulings.garbage.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::error!(
                            max,
                            "there are more rulings than this hub remembers: raise rulings_max"
                        );
                    }
                }
            }
        }
        self.enforce(&news);
        news.len()
    }

    /// Forgets what has ended, here and in the store, when it is time to.
    pub(crate) fn sweep_rulings(self: &Arc<Self>, now: Instant) {
        if self.rulings.is_time_to_sweep(now) {
            self.forget_ended(now, self.now());
        }
    }

    /// Forgets what has ended if the wall clock, which may be wrong, says `wall`.
    fn forget_ended(self: &Arc<Self>, now: Instant, wall: Timestamp) {
        let ended = self.rulings.take_ended(self.rulings.clock.follow(now, wall));
        let Some(keeper) = self.keepers.first().filter(|_| !ended.is_empty()) else { return };
        let (hub, keeper_of) = (Arc::downgrade(self), Arc::clone(keeper));
        keeper.spawn(async move {
            for names in ended.keys().collect::<Vec<_>>().chunks(PAGE) {
                let deletes = names.iter().map(|name| FactWrite::Delete(key_of(Bytes::clone(name)))).collect();
                if let Err(error) = keeper_of.write(deletes).await {
                    tracing::warn!(%error, "rulings that have ended were not removed: they are at the next start");
                    return;
                }
            }
            tokio::time::sleep(AFTERTHOUGHT).await;
            let Some(hub) = hub.upgrade() else { return };
            let anew = ended.values().filter_map(|entry| hub.rulings.find(entry));
            let writes: Vec<_> = anew.map(|entry| FactWrite::Max(entry.key(), entry.encode())).collect();
            if !writes.is_empty() {
                keeper_of.write_soon(writes);
            }
        });
    }
}

/// Reads the stored rulings beside everything else, then looks for what other hubs write.
pub(crate) fn begin(hub: &Arc<Inner>) {
    let Some(keeper) = hub.keepers.first() else { return };
    hub.rulings.read.send_replace(false);
    let (me, with) = (Arc::downgrade(hub), Arc::clone(keeper));
    keeper.spawn(async move { Reader { hub: me, keeper: with, seen: HashMap::new() }.run().await });
}

/// What reads the store.
struct Reader {
    hub: Weak<Inner>,
    keeper: Arc<Keeper>,
    /// How many rulings each life of each hub had written when last looked.
    seen: HashMap<Bytes, u64>,
}

/// One journal, as far as it was news.
struct News {
    /// `None`: more than the journal tells.
    names: Option<Vec<Bytes>>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            let Some(hub) = self.running() else { return };
            match self.read_all(&hub).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "the rulings were not read; trying again"),
            }
            drop(hub);
            tokio::time::sleep(RETRY).await;
        }
        let Some(hub) = self.running() else { return };
        hub.rulings.read.send_replace(true);
        drop(hub);
        if !self.keeper.is_shared() {
            return;
        }
        let mut away = false;
        while let Some(hub) = self.running() {
            let looked = match tokio::time::timeout(hub.config().store_timeout, self.look(&hub)).await {
                Ok(looked) => looked,
                Err(_) => Err(StoreError::Unavailable("it took too long".to_owned())),
            };
            match looked {
                Ok(()) => away = false,
                // Said once: the store is told of elsewhere, too.
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(%error, "it cannot be seen what other nodes have decided");
                }
                Err(_) => {}
            }
            wait(hub).await;
        }
    }

    fn running(&self) -> Option<Arc<Inner>> {
        self.hub.upgrade().filter(|hub| !hub.stopping.load(Ordering::Acquire))
    }

    /// Reads what the journals tell of since the last look.
    async fn look(&mut self, hub: &Arc<Inner>) -> Result<(), StoreError> {
        let mut seen = self.seen.clone();
        let news = self.journals(hub, &mut seen).await?;
        let mut names = Vec::new();
        for journal in news {
            match journal.names {
                Some(newest) => names.extend(newest),
                None => {
                    self.read_rulings(hub).await?;
                    names.clear();
                    break;
                }
            }
        }
        for names in names.chunks(PAGE) {
            let records = self.keeper.facts(names.iter().cloned().map(key_of).collect()).await?;
            hub.hear_rulings(records.iter().flatten().map(|record| &record[..]));
        }
        // Not before everything is read: the next look would think that it is.
        self.seen = seen;
        Ok(())
    }

    /// Looks at the journals, and takes note of where they are.
    async fn journals(
        &self,
        hub: &Arc<Inner>,
        seen: &mut HashMap<Bytes, u64>,
    ) -> Result<Vec<News>, StoreError> {
        let (own, mut after, mut news) = (hub.own_journal().name, None, Vec::new());
        let (mut old, mut there) = (Vec::new(), HashMap::new());
        let now = hub.rulings.clock.follow(Instant::now(), hub.now());
        loop {
            let prefix = facts::prefix(&[JOURNAL]);
            let page = self.keeper.scan(EcoString::new(), RULINGS, prefix, after, PAGE).await?;
            after = page.facts.last().map(|fact| fact.name.clone());
            for fact in page.facts.iter().filter(|fact| fact.name != own) {
                let Ok(word) = postcard::from_bytes::<JournalWord<'_>>(&fact.value) else {
                    hub.rulings.garbage.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let before = seen.get(&fact.name).copied().unwrap_or(0);
                if word.count > before {
                    let missed = usize::try_from(word.count - before).unwrap_or(usize::MAX);
                    let newest = word.names.len().checked_sub(missed).map(|from| &word.names[from..]);
                    let names =
                        newest.map(|names| names.iter().map(|name| Bytes::copy_from_slice(name)).collect());
                    news.push(News { names });
                }
                there.insert(fact.name.clone(), word.count.max(before));
                if word.at.saturating_add(JOURNAL_LASTS_MILLIS) < now.as_millis() {
                    old.push(FactWrite::Delete(key_of(fact.name.clone())));
                }
            }
            if !page.more || after.is_none() {
                break;
            }
        }
        if !old.is_empty() {
            self.keeper.write_soon(old);
        }
        *seen = there;
        Ok(news)
    }

    /// Reads everything. The journals first: what is written meanwhile is found by the next look.
    async fn read_all(&mut self, hub: &Arc<Inner>) -> Result<(), StoreError> {
        let mut seen = HashMap::new();
        self.journals(hub, &mut seen).await?;
        self.read_rulings(hub).await?;
        self.seen = seen;
        Ok(())
    }

    async fn read_rulings(&self, hub: &Arc<Inner>) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let prefix = facts::prefix(&[RULING]);
            let page = self.keeper.scan(EcoString::new(), RULINGS, prefix, after, PAGE).await?;
            after = page.facts.last().map(|fact| fact.name.clone());
            hub.hear_rulings(page.facts.iter().map(|fact| &fact.value[..]));
            if !page.more || after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Waits for the next look: a while, or until there is doubt.
async fn wait(hub: Arc<Inner>) {
    let doubted = tokio::time::timeout(LOOK, hub.rulings.doubt.notified()).await.is_ok();
    if doubted {
        // Doubts come in crowds.
        tokio::time::sleep(LOOK / 20).await;
    }
}

impl Book {
    /// Something that was told may not have been heard.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use outspoke_store::{MemoryStore, Store};

    use super::*;
    use crate::{Hub, Identity};

    /// The store is everybody's, the clock only this node's.
    #[tokio::test(start_paused = true)]
    async fn clock_that_leaps_ahead_and_back_makes_nobody_forget_what_holds() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
        let start = || Hub::builder().store("shared", Arc::clone(&store)).start_on_this_runtime().unwrap();
        let first = start();
        let after = |minutes: i64| Timestamp::from_millis(first.inner.now().as_millis() + minutes * 60_000);
        first.revoke_token("t-1", Some(after(60))).await.unwrap();
        for wall in [after(125), after(126), after(0)] {
            tokio::time::sleep(Duration::from_secs(30)).await;
            first.inner.forget_ended(Instant::now(), wall);
        }
        let second = start();
        let mut identity = Identity::user("ana");
        identity.credential = "t-1".into();
        for hub in [&first, &second] {
            assert!(hub.check_credential(&identity).await.is_err());
            assert_eq!(hub.rulings(None, 10).items.len(), 1);
        }
    }

    #[test]
    fn journal_tells_of_the_newest_and_stays_small() {
        let mut journal = Journal::default();
        for index in 0..5000 {
            journal.note(&Bytes::from(format!("ruling-{index:04}")));
        }
        let bytes = journal.encode(7);
        assert!(bytes.len() < 20 * 1024, "{}", bytes.len());
        let word: JournalWord<'_> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((word.at, word.count, *word.names.last().unwrap()), (7, 5000, &b"ruling-4999"[..]));
        assert!(word.names.len() > 1000);
        let name = Bytes::from(vec![b'x'; 1024]);
        (0..100).for_each(|_| journal.note(&name));
        assert!(journal.encode(7).len() < 20 * 1024);
    }
}

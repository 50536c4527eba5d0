//! A publisher that repeats what was not answered, with the same key, until it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outspoke_testkit::pace;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::connection::{Connection, Heard, REFUSED_PAUSE, Way};
use crate::words::Words;

/// What publishers have been told so far, all together.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// What each server has acknowledged.
    servers: Vec<AtomicU64>,
    /// How often each server has refused something, by the name of its reason.
    refusals: Mutex<BTreeMap<(usize, String), u64>>,
    /// Milliseconds: the longest that a publisher was without an acknowledgement, and without a connection.
    longest: [AtomicU64; 2],
}

impl Progress {
    /// Of publishers at so many servers.
    pub(crate) fn at(servers: usize) -> Self {
        Self { servers: (0..servers).map(|_| AtomicU64::default()).collect(), ..Self::default() }
    }

    /// What a server has acknowledged.
    pub(crate) fn acknowledged_by(&self, server: usize) -> u64 {
        self.servers[server].load(Ordering::Relaxed)
    }

    /// How often a server has refused something, by the name of its reason.
    pub(crate) fn refused_by(&self, server: usize) -> BTreeMap<String, u64> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let own = refusals.iter().filter(|((by, _), _)| *by == server);
        own.map(|((_, reason), count)| (reason.clone(), *count)).collect()
    }

    fn refuse(&self, server: usize, event: &Value) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let reason = event["error"].as_str().unwrap_or_default().to_owned();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry((server, reason)).or_default() += 1;
    }

    /// The longest that a publisher was without an acknowledgement, and without a connection, of the time in which the machine ran.
    pub(crate) fn waited(&self) -> (Duration, Duration) {
        let of = |longest: &AtomicU64| Duration::from_millis(longest.load(Ordering::Relaxed));
        (of(&self.longest[0]), of(&self.longest[1]))
    }

    fn note(&self, which: usize, waited: Duration) {
        self.longest[which].fetch_max(waited.as_millis() as u64, Ordering::Relaxed);
    }
}

/// One who publishes to one room.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) way: Way,
    pub(crate) room: String,
    pub(crate) number: usize,
    /// Messages in flight at most.
    pub(crate) window: usize,
    pub(crate) progress: Arc<Progress>,
    /// Says when nothing new is to be published.
    pub(crate) enough: watch::Receiver<bool>,
}

/// Where a message is, as its publisher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) id: String,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// One message and what became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Places of its first and last attempt among all attempts of its publisher.
    pub(crate) attempts: (u64, u64),
    /// Attempts that nobody answered, and those that were refused.
    pub(crate) unanswered: u32,
    pub(crate) refused: u32,
    pub(crate) receipt: Option<Receipt>,
}

/// Everything that a publisher did.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) room: String,
    pub(crate) publisher: usize,
    pub(crate) sent: Vec<Sent>,
    pub(crate) connections: u32,
    pub(crate) duplicates: u32,
    /// What it was told that cannot be.
    pub(crate) faults: Vec<String>,
}

/// Messages without a receipt, and which of them are on their way.
#[derive(Default)]
struct Open {
    unreceipted: BTreeSet<u64>,
    in_flight: BTreeSet<u64>,
    attempts: u64,
    /// The [`pace`] at which it was last acknowledged something.
    acknowledged: Option<Duration>,
}

impl Publisher {
    /// Publishes until it is enough and everything is acknowledged.
    pub(crate) async fn run(mut self) -> Account {
        let mut account = Account { room: self.room.clone(), publisher: self.number, ..Account::default() };
        let mut open = Open::default();
        loop {
            let begin = pace();
            let (mut connection, _) = self.way.join(&self.room, None).await;
            self.progress.note(1, pace().saturating_sub(begin));
            account.connections += 1;
            let done = self.talk(&mut connection, &mut account, &mut open).await;
            for number in std::mem::take(&mut open.in_flight) {
                account.sent[number as usize].unanswered += 1;
            }
            if done {
                return account;
            }
        }
    }

    /// Publishes over one connection. Returns whether everything is done; otherwise the connection is gone.
    async fn talk(&mut self, connection: &mut Connection, account: &mut Account, open: &mut Open) -> bool {
        loop {
            if open.in_flight.is_empty() {
                // What was unanswered or refused, in its order, before anything new.
                for number in open.unreceipted.clone() {
                    self.send(connection, account, open, number).await;
                }
            }
            let enough = *self.enough.borrow_and_update();
            // While something refused waits for its next turn, nothing new may overtake it.
            while !enough && open.unreceipted.len() < self.window && open.unreceipted == open.in_flight {
                let number = account.sent.len() as u64;
                account.sent.push(Sent { attempts: (open.attempts, open.attempts), ..Sent::default() });
                open.unreceipted.insert(number);
                self.send(connection, account, open, number).await;
            }
            if enough && open.unreceipted.is_empty() {
                return true;
            }
            let heard = tokio::select! {
                heard = connection.next() => heard,
                _ = self.enough.changed(), if !enough => continue,
            };
            match heard {
                Heard::Gone => return false,
                Heard::Event(event) => self.hear(account, open, &event),
            }
            if open.in_flight.is_empty() && !open.unreceipted.is_empty() {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }

    async fn send(&self, connection: &mut Connection, account: &mut Account, open: &mut Open, number: u64) {
        let words = Words { publisher: self.number, number };
        account.sent[number as usize].attempts.1 = open.attempts;
        open.attempts += 1;
        open.in_flight.insert(number);
        let request = json!({
            "type": "publish", "id": number, "room": self.room, "data": words.text(), "idempotencyKey": words.key(),
        });
        connection.send(&request).await;
    }

    fn hear(&self, account: &mut Account, open: &mut Open, event: &Value) {
        let kind = event["type"].as_str().unwrap_or_default();
        if !matches!(kind, "ack" | "error") {
            return;
        }
        let Some(number) = event["id"].as_u64().filter(|number| open.in_flight.remove(number)) else {
            account.faults.push(format!("publisher {}: an answer to nothing: {event}", self.number));
            return;
        };
        let sent = &mut account.sent[number as usize];
        if kind == "error" {
            sent.refused += 1;
            self.progress.refuse(self.way.server(), event);
            if event["temporary"] != true {
                account.faults.push(format!("publisher {}: {event}", self.number));
            }
            return;
        }
        open.unreceipted.remove(&number);
        let now = pace();
        if let Some(before) = open.acknowledged.replace(now) {
            self.progress.note(0, now.saturating_sub(before));
        }
        if event["duplicate"] == true {
            account.duplicates += 1;
            if sent.unanswered == 0 {
                let refused = sent.refused;
                let fault =
                    format!("accepted before, though all {refused} attempts before were refused: {event}");
                account.faults.push(format!("publisher {}: {fault}", self.number));
            }
        }
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let offset = event["offset"].as_u64().unwrap_or_default();
        sent.receipt = Some(Receipt { id: text("messageId"), epoch: text("epoch"), offset });
        self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.progress.servers[self.way.server()].fetch_add(1, Ordering::Relaxed);
    }
}

//! Publishers and members of several rooms, set going, and called to account.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::Way;
use crate::host::Host;
use crate::judge::Evidence;
use crate::log::Log;
use crate::member::{Diary, Member};
use crate::publisher::{Account, Progress, Publisher};
use crate::receipts::Receipts;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages in flight of a room's publishers: one that waits for each answer, and such as do not.
const WINDOWS: [usize; 3] = [1, 4, 16];
/// After how many messages a room's members let go of their connections.
const RESTLESS: [Option<u64>; 3] = [None, None, Some(400)];

/// A crowd that talks.
#[derive(Debug)]
pub(crate) struct Crowd {
    rooms: Vec<String>,
    publishers: JoinSet<Account>,
    members: JoinSet<Diary>,
    pub(crate) progress: Arc<Progress>,
    receipts: Arc<Receipts>,
    enough: watch::Sender<bool>,
    ends: watch::Sender<Option<Arc<BTreeMap<String, u64>>>>,
    way: Way,
}

impl Crowd {
    /// Three publishers and three members in each room.
    pub(crate) fn gather(host: &Host, rooms: &[&str]) -> Self {
        Self::gather_at(&[host.address()], rooms, &RESTLESS)
    }

    /// Three publishers in each room, and such members; each begins at another one of the servers.
    pub(crate) fn gather_at(
        addresses: &[watch::Receiver<Option<SocketAddr>>],
        rooms: &[&str],
        restless: &[Option<u64>],
    ) -> Self {
        let (progress, receipts) = (Arc::new(Progress::at(addresses.len())), Arc::new(Receipts::default()));
        let (enough, ends) = (watch::Sender::new(false), watch::Sender::new(None));
        let mut turn = 0;
        let mut way = |user: String| {
            turn += 1;
            Way { addresses: addresses.to_vec(), next: turn, user }
        };
        let (mut publishers, mut members) = (JoinSet::new(), JoinSet::new());
        for (index, room) in rooms.iter().enumerate() {
            for (which, &restless_after) in restless.iter().enumerate() {
                let member = Member {
                    way: way(format!("member-{index}-{which}")),
                    room: (*room).to_owned(),
                    restless_after,
                    receipts: Arc::clone(&receipts),
                    ends: ends.subscribe(),
                };
                members.spawn(member.run());
            }
            for (which, window) in WINDOWS.into_iter().enumerate() {
                let number = index * WINDOWS.len() + which;
                let publisher = Publisher {
                    way: way(format!("publisher-{number}")),
                    room: (*room).to_owned(),
                    number,
                    window,
                    progress: Arc::clone(&progress),
                    enough: enough.subscribe(),
                };
                publishers.spawn(publisher.run());
            }
        }
        let rooms = rooms.iter().map(|&room| room.to_owned()).collect();
        let way = way("auditor".to_owned());
        Self { rooms, publishers, members, progress, receipts, enough, ends, way }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.progress.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more messages have been acknowledged.
    pub(crate) async fn acknowledge(&mut self, more: u64) {
        let target = self.acknowledged() + more;
        let reached = async {
            while self.acknowledged() < target {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{} of {target} messages were acknowledged", self.acknowledged());
    }

    /// Lets everybody finish, reads the logs, and returns what all of them say.
    pub(crate) async fn account(mut self) -> Evidence {
        self.enough.send_replace(true);
        let accounts = tokio::time::timeout(PATIENCE, self.publishers.join_all()).await;
        let accounts = accounts.expect("everything is acknowledged in the end");
        let mut logs = Vec::new();
        for room in &self.rooms {
            let read = tokio::time::timeout(PATIENCE, Log::read(&mut self.way, room)).await;
            logs.push(read.expect("the log can be read"));
        }
        let ends = logs.iter().map(|log| (log.room.clone(), log.head)).collect();
        self.ends.send_replace(Some(Arc::new(ends)));
        let diaries = tokio::time::timeout(PATIENCE, self.members.join_all()).await;
        let diaries = diaries.expect("every member gets everything in the end");
        let mut stepped_back = Vec::new();
        for room in &self.rooms {
            stepped_back.extend(self.receipts.compare(&mut self.way, room).await);
        }
        Evidence { accounts, diaries, logs, stepped_back, places: self.receipts.len() }
    }
}

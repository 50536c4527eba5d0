//! A member that reads, loses its connection, and comes back with its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::connection::{Heard, Way};
use crate::receipts::Receipts;

/// Where everybody's log ends, by room; said when nothing is published any more.
pub(crate) type Ends = watch::Receiver<Option<Arc<BTreeMap<String, u64>>>>;

/// After how many messages a member says that it has them, and that it has read them.
const DELIVERED_EVERY: u64 = 7;
const SEEN_EVERY: u64 = 20;

/// One who reads one room.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) way: Way,
    pub(crate) room: String,
    /// Lets go of its connection by itself after so many messages.
    pub(crate) restless_after: Option<u64>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) ends: Ends,
}

/// A message as a member got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: u64,
    pub(crate) id: String,
    pub(crate) text: String,
}

/// Everything that a member got.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    pub(crate) room: String,
    pub(crate) user: String,
    pub(crate) seen: Vec<Seen>,
    /// The offset that its first message follows.
    pub(crate) from: u64,
    pub(crate) epoch: String,
    /// From where to where it was told that it could not recover.
    pub(crate) told_losses: Vec<(u64, u64)>,
    pub(crate) recoveries: u32,
    /// What it was told that cannot be.
    pub(crate) faults: Vec<String>,
}

impl Member {
    /// Reads until it has everything.
    pub(crate) async fn run(mut self) -> Diary {
        let mut diary = Diary { room: self.room.clone(), user: self.way.user.clone(), ..Diary::default() };
        let mut place: Option<(String, u64)> = None;
        loop {
            let told = ["delivered", "seen"].map(|kind| self.receipts.told(&self.room, &self.way.user, kind));
            let (mut connection, subscribed) = self.way.join(&self.room, place.as_ref()).await;
            diary.compare(&subscribed, told);
            place = Some(diary.come(&subscribed, place.take()));
            let mut since = 0;
            let mut heard_places = BTreeMap::new();
            loop {
                let at = place.as_mut().expect("it is in the room");
                let end = self.ends.borrow_and_update().as_ref().map(|ends| ends[&self.room]);
                if end.is_some_and(|end| at.1 >= end) {
                    return diary;
                }
                if self.restless_after.is_some_and(|most| since >= most) && end.is_none() {
                    break;
                }
                let heard = tokio::select! {
                    heard = connection.next() => heard,
                    _ = self.ends.changed(), if end.is_none() => continue,
                };
                match heard {
                    Heard::Event(event) if event["type"] == "message" => {
                        diary.hear(&event, at);
                        since += 1;
                        for (kind, every) in [("delivered", DELIVERED_EVERY), ("seen", SEEN_EVERY)] {
                            if at.1.is_multiple_of(every) {
                                let request = json!({ "type": kind, "room": self.room, "offset": at.1 });
                                connection.send(&request).await;
                            }
                        }
                    }
                    Heard::Event(event) if event["type"] == "receipt" => {
                        self.receipts.hear(&event);
                        diary.follow(&event, &mut heard_places);
                    }
                    Heard::Event(_) => {}
                    Heard::Gone => break,
                }
            }
        }
    }
}

impl Diary {
    /// Notes what the server made of the place, and returns the one from which messages follow.
    fn come(&mut self, subscribed: &Value, place: Option<(String, u64)>) -> (String, u64) {
        let epoch = subscribed["epoch"].as_str().unwrap_or_default().to_owned();
        let offset = subscribed["offset"].as_u64().unwrap_or(u64::MAX);
        match (place, subscribed["recovered"].as_bool()) {
            (None, None) => (self.from, self.epoch) = (offset, epoch.clone()),
            (Some(place), Some(true)) => {
                self.recoveries += 1;
                if place != (epoch.clone(), offset) {
                    self.faults
                        .push(format!("{}: recovered from {place:?}, it says: {subscribed}", self.user));
                }
            }
            (Some(place), Some(false)) if place.0 == epoch && place.1 <= offset => {
                self.told_losses.push((place.1, offset));
            }
            (place, _) => self.faults.push(format!("{}: came from {place:?}: {subscribed}", self.user)),
        }
        (epoch, offset)
    }

    /// What the server says of one's own places, against what it had told anybody before.
    fn compare(&mut self, subscribed: &Value, told: [u64; 2]) {
        for (kind, told) in ["delivered", "seen"].into_iter().zip(told) {
            if subscribed[kind].as_u64().is_none_or(|place| place < told) {
                self.faults
                    .push(format!("{}: {kind} was told as {told}, and is now: {subscribed}", self.user));
            }
        }
    }

    /// A connection is told places in their order.
    fn follow(&mut self, event: &Value, places: &mut BTreeMap<(String, String), u64>) {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let offset = event["offset"].as_u64().unwrap_or_default();
        let before = places.insert((text("userId"), text("receipt")), offset);
        if before.is_some_and(|before| before >= offset) {
            self.faults.push(format!("{}: after {before:?} came {event}", self.user));
        }
    }

    fn hear(&mut self, event: &Value, at: &mut (String, u64)) {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let offset = event["offset"].as_u64().unwrap_or_default();
        if event["epoch"] != at.0.as_str() || offset != at.1 + 1 {
            self.faults.push(format!("{}: after {at:?} came {event}", self.user));
        }
        at.1 = offset;
        self.seen.push(Seen { offset, id: text("id"), text: text("data") });
    }
}

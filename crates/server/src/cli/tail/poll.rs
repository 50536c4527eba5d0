//! Rooms followed through the HTTP API: their history, asked for again and again.
//!
//! For API keys, which may read every room without being in it. Only what a room keeps can be followed so; the answer to
//! every question says where the room's log stands, so nothing is passed over in silence.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Heard, Start};
use crate::cli::api::{Api, ApiError, encoded};
use crate::cli::history::not_kept;
use crate::cli::reach::Reach;

/// The shortest and the longest pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest while the server is away.
const AWAY_MAX: Duration = Duration::from_secs(5);
/// Messages asked for at once.
const PAGE: u64 = 1000;

/// A page of a room's log.
#[derive(Debug, Deserialize)]
struct Page {
    epoch: String,
    first: u64,
    head: u64,
    messages: Vec<Value>,
    more: bool,
}

/// Where a room was when it was last asked about.
#[derive(Clone, Debug, Default)]
struct Place {
    /// None: the room was not there.
    epoch: Option<String>,
    offset: u64,
}

/// Follows rooms, each in a task of its own. The first question decides whether it can be done at all.
pub(super) async fn begin(
    reach: Reach,
    rooms: Vec<String>,
    from: Start,
    heard: mpsc::Sender<Heard>,
) -> Result<(), ApiError> {
    let api = Arc::new(Api::at(reach));
    for room in rooms {
        let Past { messages, place, missed } = past(&api, &room, from).await?;
        let follower = Follower { api: Arc::clone(&api), room, place, heard: heard.clone() };
        tokio::spawn(follower.run(messages, missed));
    }
    Ok(())
}

/// What is wanted of what was said before, and where the room is.
#[derive(Debug, Default)]
struct Past {
    messages: Vec<Value>,
    place: Place,
    /// How many messages are wanted and gone.
    missed: u64,
}

async fn past(api: &Arc<Api>, room: &str, from: Start) -> Result<Past, ApiError> {
    let newest = match ask(api, room, format!("limit={}", from.count().clamp(1, PAGE))).await {
        Err(error) if error.is_not_found() => return Ok(Past::default()),
        page => page?,
    };
    let place = Place { epoch: Some(newest.epoch.clone()), offset: newest.head };
    let (mut pages, mut left, mut page) = (Vec::new(), from.count(), newest);
    loop {
        let wanted = page.messages.len()
            - page.messages.iter().rposition(|message| from.is_past(message)).map_or(0, |at| at + 1);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
        let ended = !page.more || wanted < page.messages.len();
        left -= wanted as u64;
        let before = page.messages.first().and_then(|first| first["offset"].as_u64());
        pages.push(page.messages.split_off(page.messages.len() - wanted));
        match before {
            Some(before) if !ended && left > 0 => {
                page = ask(api, room, format!("limit={}&before={before}", left.min(PAGE))).await?;
            }
            _ => {
                let messages: Vec<_> = pages.into_iter().rev().flatten().collect();
                let missed = from.missed(messages.len(), page.first);
                return Ok(Past { messages, place, missed });
            }
        }
    }
}

async fn ask(api: &Arc<Api>, room: &str, query: String) -> Result<Page, ApiError> {
    let (api, path) = (Arc::clone(api), format!("/rooms/{}/history?{query}", encoded(room)));
    let answer = tokio::task::spawn_blocking(move || api.get(&path)).await;
    answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Who asks about one room.
struct Follower {
    api: Arc<Api>,
    room: String,
    place: Place,
    heard: mpsc::Sender<Heard>,
}

impl Follower {
    async fn run(mut self, past: Vec<Value>, missed: u64) {
        if missed > 0 {
            self.tell(Heard::Remark(format!("{:?}: {}", self.room, not_kept(missed)))).await;
        }
        for message in past {
            if self.heard.send(Heard::Message { message, replayed: true }).await.is_err() {
                return;
            }
        }
        let _ = self.heard.send(Heard::Begun).await;
        let (mut pause, mut away) = (PAUSE, false);
        // Until nobody listens any more.
        while !self.heard.is_closed() {
            let query = format!("limit={PAGE}&after={}", self.place.offset);
            match ask(&self.api, &self.room, query).await {
                Ok(page) => {
                    if std::mem::take(&mut away) {
                        self.tell(Heard::Remark("the server is back".to_owned())).await;
                    }
                    let more = page.more;
                    pause = if self.page(page).await { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
                    if more {
                        continue;
                    }
                }
                // Nobody has said anything there yet, or all of it is gone.
                Err(error) if error.is_not_found() => pause = (pause * 2).min(PAUSE_MAX),
                Err(error) if error.is_temporary() => {
                    if !std::mem::replace(&mut away, true) {
                        self.tell(Heard::Remark(format!("{error}; trying again"))).await;
                    }
                    pause = (pause * 2).min(AWAY_MAX);
                }
                Err(error) => return self.tell(Heard::Failed(error.into())).await,
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn tell(&self, heard: Heard) {
        // Whoever does not listen any more has what was wanted.
        let _ = self.heard.send(heard).await;
    }

    /// Tells what is new; whether there was something.
    async fn page(&mut self, page: Page) -> bool {
        let room = self.room.clone();
        match self.place.epoch.replace(page.epoch.clone()) {
            Some(before) if before != page.epoch => {
                let what = "the room's log was lost, and another one has begun".to_owned();
                self.tell(Heard::Gap { room, what }).await;
                // What this page has was asked for by an offset of the other log.
                self.place.offset = 0;
                return true;
            }
            _ => {}
        }
        if page.first > self.place.offset + 1 && page.head > self.place.offset {
            let missed = page.first - self.place.offset - 1;
            self.tell(Heard::Gap { room, what: not_kept(missed) }).await;
            self.place.offset = page.first - 1;
        }
        let news = !page.messages.is_empty();
        for message in page.messages {
            self.place.offset = message["offset"].as_u64().unwrap_or(self.place.offset);
            self.tell(Heard::Message { message, replayed: false }).await;
        }
        news
    }
}

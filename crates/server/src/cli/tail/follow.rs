//! Rooms followed over a connection of its own.
//!
//! The client comes back by itself and goes on where it was. What was said before is read from the room's history; a stream
//! is there before that, so that nothing falls between the two; from the place where it begins, all is the stream's to tell, in
//! its order among the comings and goings.

use futures_util::StreamExt as _;
use outspoke_client::{Author, Client, ConnectionState, Error, Event, Gap, GapReason, Room, Subscription};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Heard, Start};
use crate::cli::history::not_kept;
use crate::cli::reach::Reach;
use crate::cli::socket::{SocketError, connect};

/// Follows rooms, each in a task of its own. The first attempt decides whether it can be done at all.
pub(super) async fn begin(
    reach: Reach,
    user: &str,
    rooms: Vec<String>,
    from: Start,
    heard: mpsc::Sender<Heard>,
) -> Result<(), SocketError> {
    let client = connect(&reach, user).await?;
    watch(&client, heard.clone());
    for name in rooms {
        let room: Room<Value> = client.room(&name);
        let stream = room.subscribe().await?;
        let follower = Follower { room, name, heard: heard.clone(), told: 0 };
        tokio::spawn(follower.run(stream, from));
    }
    Ok(())
}

/// Tells what becomes of the connection.
fn watch(client: &Client, heard: mpsc::Sender<Heard>) {
    let mut states = client.state();
    tokio::spawn(async move {
        let mut away = false;
        loop {
            let remark = match &*states.borrow_and_update() {
                ConnectionState::Offline { error, .. } if !away => {
                    away = true;
                    Some(format!("{error}; trying again"))
                }
                ConnectionState::Online(_) if away => {
                    away = false;
                    Some("the server is back".to_owned())
                }
                _ => None,
            };
            if let Some(remark) = remark
                && heard.send(Heard::Remark(remark)).await.is_err()
            {
                return;
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Who listens to one room.
struct Follower {
    room: Room<Value>,
    name: String,
    heard: mpsc::Sender<Heard>,
    /// Messages up to this offset are told.
    told: u64,
}

impl Follower {
    async fn run(mut self, mut stream: Subscription<Value>, from: Start) {
        let (begins, first) = match stream.next().await {
            Some(Ok(Event::Joined(joined))) => (joined.position.offset, joined.first),
            Some(Err(error)) => return self.tell(Heard::Failed(SocketError::from(error).into())).await,
            // It always begins so.
            _ => (u64::MAX, 1),
        };
        match self.past(from, begins).await {
            Ok(past) => {
                let whole = past.last().is_none_or(|oldest| oldest["offset"].as_u64() <= Some(first));
                let missed = if whole { from.missed(past.len(), first) } else { 0 };
                if missed > 0 {
                    self.tell(Heard::Remark(format!("{:?}: {}", self.name, not_kept(missed)))).await;
                }
                for message in past.into_iter().rev() {
                    self.told = self.told.max(message["offset"].as_u64().unwrap_or(0));
                    self.tell(Heard::Message { message, replayed: true }).await;
                }
            }
            Err(error) => {
                let remark = format!("{:?}: no earlier messages: {error}", self.name);
                self.tell(Heard::Remark(remark)).await;
            }
        }
        self.tell(Heard::Begun).await;
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    if let Some(heard) = self.heard_of(&event) {
                        self.tell(heard).await;
                    }
                }
                // Any JSON is what this stream expects.
                Err(Error::Decode { .. }) => {}
                Err(error) => return self.tell(Heard::Failed(SocketError::from(error).into())).await,
            }
            if self.heard.is_closed() {
                return;
            }
        }
    }

    async fn tell(&self, heard: Heard) {
        // Whoever does not listen any more has what was wanted.
        let _ = self.heard.send(heard).await;
    }

    /// What was said up to where the stream begins, the newest first.
    async fn past(&self, from: Start, begins: u64) -> Result<Vec<Value>, Error> {
        let count = usize::try_from(from.count()).unwrap_or(usize::MAX);
        let (mut history, mut past) = (self.room.history(count), Vec::new());
        while let Some(event) = history.next().await {
            let event = match event {
                Err(Error::Decode { .. }) => continue,
                event => event?,
            };
            let Some(message) = json_of(&event) else { continue };
            if message["offset"].as_u64().is_some_and(|offset| offset > begins) {
                continue;
            }
            if from.is_past(&message) {
                break;
            }
            past.push(message);
        }
        Ok(past)
    }

    fn heard_of(&mut self, event: &Event<Value>) -> Option<Heard> {
        if let Event::Gap(gap) = event {
            if gap.reason == GapReason::Epoch {
                self.told = 0;
            }
            return Some(Heard::Gap { room: self.name.clone(), what: missed(gap) });
        }
        let mut message = match event {
            Event::Join(member) => someone("join", &member.user, &member.timestamp),
            Event::Leave(member) => someone("leave", &member.user, &member.timestamp),
            event => json_of(event)?,
        };
        if let Some(offset) = message["offset"].as_u64() {
            if offset <= self.told {
                return None;
            }
            self.told = offset;
        }
        if message["room"].is_null() {
            message["room"] = self.name.as_str().into();
        }
        Some(Heard::Message { message, replayed: false })
    }
}

/// A message as it came.
fn json_of(event: &Event<Value>) -> Option<Value> {
    let json = match event {
        Event::Message(message) => message.json(),
        Event::Chat(message) | Event::System(message) | Event::Topic(message) | Event::Renamed(message) => {
            message.json()
        }
        Event::Deleted(message) => message.json(),
        Event::Changed(message) => message.json(),
        Event::Bytes(message) => {
            let mut json: Value = serde_json::from_str(message.json()).ok()?;
            json["base64"] =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &message.body).into();
            return Some(json);
        }
        _ => return None,
    };
    serde_json::from_str(json).ok()
}

fn someone(what: &str, who: &Author, at: &outspoke_client::Timestamp) -> Value {
    let at = String::from_utf8_lossy(&at.to_rfc3339()).into_owned();
    json!({ "type": what, "userId": &*who.user, "username": &*who.name, "timestamp": at })
}

fn missed(gap: &Gap) -> String {
    let missed = match gap.from {
        Some(from) if from.epoch == gap.to.epoch => gap.to.offset.saturating_sub(from.offset),
        _ => gap.to.offset,
    };
    match gap.reason {
        GapReason::Epoch => "the room's log was lost, and another one has begun".to_owned(),
        GapReason::Overflow => format!("{missed} messages were passed over: this reader is too slow"),
        _ => not_kept(missed),
    }
}

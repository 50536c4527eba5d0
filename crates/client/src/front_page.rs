//! Says something in a room, and hears it.

use futures_util::StreamExt as _;
use outspoke_client::{Client, Error, Event};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
pub struct Build {
    commit: String,
    passed: bool,
}

pub async fn say_and_hear(url: &str) -> Result<Build, Error> {
    let client = Client::builder(url).user("ci", "CI").connect().await?;
    let room = client.room::<Build>("builds");
    let mut events = room.subscribe().await?;
    let ack = room.publish(&Build { commit: "9fceb02".into(), passed: true }).await?;
    println!("published as {}", ack.message);
    while let Some(event) = events.next().await {
        match event? {
            Event::Message(message) => return Ok(message.body),
            Event::Gap(gap) => println!("messages up to {:?} are lost: {:?}", gap.to, gap.reason),
            _ => {}
        }
    }
    Err(Error::Closed)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    say_and_hear("ws://localhost:8080/ws").await.map(|build| println!("{build:?}"))
}

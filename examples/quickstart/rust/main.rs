//! Listens to the room `deploys`, and tells it of a deploy: `cargo run -- VERSION`

#![allow(clippy::print_stdout)] // A program for a terminal.

use futures_util::StreamExt as _;
use outspoke_client::{Client, Event};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Deploy {
    version: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let hub = std::env::var("HUB").unwrap_or_else(|_| "http://localhost:8080".to_owned());
    let url = format!("{}/ws", hub.replacen("http", "ws", 1));
    let client = Client::builder(&url).user("rust", "Rust").connect().await?;

    let deploys = client.room::<Deploy>("deploys");
    let mut events = deploys.subscribe().await?;
    if let Some(version) = std::env::args().nth(1) {
        let ack = deploys.publish(&Deploy { version }).await?;
        println!("published as message {}", ack.position.map_or(0, |position| position.offset));
    }
    // The stream outlives the connection: after a cut it goes on behind the last message it had.
    while let Some(event) = events.next().await {
        match event? {
            Event::Joined(joined) => println!("in deploys, members: {}", joined.members),
            Event::Message(message) => {
                let from = message.from.as_ref().map_or("the server", |author| &*author.user);
                println!("{} from {from}: {}", message.kind, message.body.version);
            }
            Event::Gap(gap) => println!("missed, and not kept any more: {gap:?}"),
            _ => {}
        }
    }
    Ok(())
}

//! The documentation's conversations, held with a real server.

use std::collections::HashMap;

use outspoke_protocol::transcript::{self, Captures, Step};
use outspoke_testkit::{Connect, Received, TcpClient};

use crate::support::{Server, Settings};

async fn connect(server: &Server, dialect: &str, query: &str) -> TcpClient {
    let connect = Connect::to(server.addr, &format!("/ws?{query}"));
    let connect = if dialect == "gohub" { connect.protocol("gohub") } else { connect };
    connect.open().await.unwrap()
}

async fn replay(name: &str, text: &str) {
    // Receipts add to what `subscribed` says; most conversations are about something else.
    let receipts = transcript::needs(text).contains(&"receipts");
    let settings = Settings::default().set("rooms.receipts", if receipts { "true" } else { "false" });
    let server = settings.start().await;
    let mut captures = Captures::default();
    let mut clients: HashMap<String, TcpClient> = HashMap::new();
    for step in transcript::parse(text).unwrap() {
        match step {
            Step::Connect { client, dialect, query } => {
                let connection = connect(&server, &dialect, &query).await;
                clients.insert(client, connection);
            }
            Step::Close { client } => {
                let mut connection = clients.remove(&client).unwrap();
                connection.close(1000, "").await;
                assert_eq!(connection.closed().await, Some(1000));
            }
            Step::Send { client, text } => {
                let text = captures.fill(&text).unwrap();
                clients.get_mut(&client).unwrap().send_text(&text).await;
            }
            Step::Expect { client, group } => {
                let connection = clients.get_mut(&client).unwrap();
                let mut received = Vec::new();
                for _ in 0..group.len() {
                    received.push(connection.next_text().await);
                }
                if let Err(mismatch) = group.verify(&received, &mut captures) {
                    panic!("{name}, {client}: {mismatch}");
                }
            }
        }
    }
    for (client, connection) in &mut clients {
        // The pong comes next: nothing more was on its way.
        connection.ping(b"end").await;
        let rest = connection.next().await;
        assert_eq!(rest, Received::Pong(b"end"[..].into()), "{name}: {client} received more than written");
    }
}

/// Whoever types these lines gets these answers, from the binary too.
#[tokio::test]
async fn transcripts_are_what_the_server_says() {
    for (name, text) in transcript::SHIPPED.iter().chain(transcript::REMEMBERING) {
        replay(name, text).await;
    }
}

//! Malformed input of every sort, over real sockets, each followed by a healthy exchange on another connection.
//!
//! The cases come from the codec's corpus, from the dialects' corpus, and from the tables of HTTP in here. The one
//! test at the end plays them all against one server, which must then be as it was: the same process, no clients,
//! no memory gone.

mod dialect;
mod frames;
mod head;

use outspoke_testkit::TcpClient;
use serde_json::json;

use crate::support::{Server, Settings};

/// The codec's own corpus, where its tests find it too.
#[path = "../../../websocket/tests/corpus/mod.rs"]
#[allow(unused_qualifications)]
mod codec;

/// What a corpus of so much hostile input may leave in the process, allocator included.
const GROWTH_MAX: u64 = 64 << 20;

/// Two people who chat all the while, and notice whatever disturbs the server.
#[derive(Debug)]
struct Bystanders<'a> {
    server: &'a Server,
    ann: TcpClient,
    ben: TcpClient,
    exchanges: u64,
}

impl<'a> Bystanders<'a> {
    async fn of(server: &'a Server) -> Self {
        let (mut ann, mut ben) = (server.client("ann").await, server.client("ben").await);
        ann.join("garden").await;
        ben.join("garden").await;
        ann.expect("join").await;
        Self { server, ann, ben, exchanges: 0 }
    }

    /// A message from one to the other over connections that were there before, and a whole life of a new one.
    async fn are_well(&mut self, case: &str) {
        self.exchanges += 1;
        self.ann.say("garden", case).await;
        for client in [&mut self.ann, &mut self.ben] {
            let chat = client.expect("chat").await;
            assert_eq!(
                (&chat["content"], &chat["offset"]),
                (&json!(case), &json!(self.exchanges)),
                "after {case}"
            );
        }
        self.server.serves().await;
    }
}

/// A server with the limits for which the corpora are written.
async fn server() -> Server {
    Settings::default()
        .set("limits.message_bytes_max", &codec::MESSAGE_BYTES_MAX.to_string())
        .set("server.header_timeout", "10s")
        // The bystanders would be told that they talk too fast.
        .set("rate.enabled", "false")
        .start()
        .await
}

#[tokio::test]
async fn malformed_input_gets_its_documented_answer_and_harms_nobody() {
    let mut server = server().await;
    let mut bystanders = Bystanders::of(&server).await;
    // What the first use of everything takes is no growth.
    bystanders.are_well("before").await;
    let before = server.usage();
    let cases = [
        frames::play(&server, &mut bystanders).await,
        dialect::play(&server, &mut bystanders).await,
        head::play(&server, &mut bystanders).await,
    ];
    // Nobody but the bystanders is left.
    server.has_clients(2).await;
    drop(bystanders);
    server.has_clients(0).await;
    let after = server.usage();
    let growth = after.resident_bytes.saturating_sub(before.resident_bytes);
    let total: usize = cases.iter().sum();
    println!(
        "{total} cases ({cases:?}: frames, dialects, HTTP); resident memory grew by {} KiB",
        growth >> 10
    );
    assert!(total >= 300, "{cases:?}");
    assert!(growth < GROWTH_MAX, "{before:?}, then {after:?}");
    // The store may have let an idle thread go.
    assert!(after.threads <= before.threads, "{before:?}, then {after:?}");
    assert!(server.process().is_running());
    let log = server.process().log();
    assert!(!log.iter().any(|line| line.contains("panick")), "{log:#?}");
}

//! Coming and going: however many have been here, nothing of them stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use outspoke_testkit::{Received, TcpClient, Usage};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Server, Settings, raw};

/// Cycles in the everyday suite; `OUTSPOKE_CHURN_CYCLES=100000` for the long run.
const CYCLES: usize = 10_000;
/// What goes in before measuring: buffers that grow once, threads that start late, the allocator's own.
const WARM_UP: usize = 1000;
const WORKERS: usize = 64;
/// The allocator keeps pages for the next storm; a leak of 1 KiB per connection would be 100 MiB in the long run.
const GROWTH_MAX: u64 = 24 << 20;

fn cycles() -> usize {
    std::env::var("OUTSPOKE_CHURN_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(CYCLES)
}

/// One life: upgrade, two rooms, a message; then one of the ways to go.
async fn live(server: &Server, number: usize) {
    let target = format!("/ws?userId=user-{number}&username=U&join=crowd");
    let mut client = raw::upgrade(server.addr, &target).await.expect("a place is free");
    client.expect("welcome").await;
    client.find("subscribed").await;
    let room = format!("room-{number}");
    client.send(json!({ "type": "subscribe", "room": room })).await;
    let subscribed = client.find("subscribed").await;
    assert_eq!((&subscribed["members"], &subscribed["offset"]), (&json!(1), &json!(0)), "{subscribed}");
    client.send(json!({ "type": "publish", "id": 1, "room": room, "data": number })).await;
    client.find("ack").await;
    match number % 4 {
        // In good order.
        0 => {
            client.send(json!({ "type": "unsubscribe", "room": room })).await;
            client.find("unsubscribed").await;
            goodbye(&mut client).await;
        }
        1 => goodbye(&mut client).await,
        // Without a word, in the middle of one, or with a bad one.
        2 => drop(client.send_raw(&[0x81, 0xfe, 0x10]).await),
        _ => drop(client.send_raw(b"\x81\x05Hello").await),
    }
}

async fn goodbye(client: &mut TcpClient) {
    client.close(1000, "").await;
    loop {
        match client.next_but_pings().await {
            Received::Close { code, .. } => return assert_eq!(code, Some(1000)),
            Received::Json(_) => {}
            other => panic!("expected the close frame, and there came {other:?}"),
        }
    }
}

async fn churn(server: &Arc<Server>, from: usize, to: usize) {
    let next = Arc::new(AtomicUsize::new(from));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (server, next) = (Arc::clone(server), Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return;
                }
                live(&server, number).await;
            }
        });
    }
    workers.join_all().await;
    server.has_clients(0).await;
}

/// Waits until the requests that asked for the count are closed as well.
async fn at_rest(server: &Server, descriptors_max: usize) -> Usage {
    let settled = async {
        loop {
            let usage = server.usage();
            if usage.descriptors <= descriptors_max {
                return usage;
            }
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await;
    settled.unwrap_or_else(|_| panic!("{:?} with {descriptors_max} descriptors at rest", server.usage()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_thousands_of_lives_the_server_is_as_it_was() {
    // A room that is not freed is missing soon. The store on disk opens its files when it sees fit.
    let settings = Settings::default()
        .set("limits.rooms_max", &(WORKERS * 4).to_string())
        .set("rooms.durability", "none")
        .set("rooms.leave_grace", "0s")
        .set("store.backend", "memory");
    let server = Arc::new(settings.start().await);
    let descriptors = server.usage().descriptors;
    churn(&server, 0, WARM_UP).await;
    let before = at_rest(&server, descriptors).await;
    let cycles = cycles();
    let begun = Instant::now();
    churn(&server, WARM_UP, WARM_UP + cycles).await;
    let took = begun.elapsed();
    let after = at_rest(&server, descriptors).await;
    let growth = after.resident_bytes.saturating_sub(before.resident_bytes);
    println!("{cycles} lives in {took:?}: {before:?}, then {after:?}");
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    assert!(growth < GROWTH_MAX, "resident memory grew by {} KiB", growth >> 10);
    // Rooms and members, too: whoever comes next is the first.
    let mut client = server.client("last").await;
    for room in ["crowd", "room-0", "room-5000"] {
        let subscribed = client.join(room).await;
        assert_eq!((&subscribed["members"], &subscribed["offset"]), (&json!(1), &json!(0)));
    }
    assert_eq!(server.clients().await, 1);
}

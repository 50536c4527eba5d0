//! What is left of connections that have come and gone: nothing (B7).
//!
//! Its own program, since its allocator counts.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use outspoke_hub::{Attach, Disconnect, Frame, Hub, HubConfig, Identity, Refusal, Reply};
use outspoke_testkit::{attach_with, settle};
use serde_json::json;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that may be left: tables that have grown and keep a little, hashers, the runtime's own.
const LEFT_BYTES_MAX: isize = 64 * 1024;

/// A client that does a bit of everything and goes, in one of the ways there are.
async fn live_and_go(hub: &Hub, number: usize) {
    let identity = match number % 3 {
        0 => Identity::anonymous(),
        // Some are replaced by the next one of the same name.
        1 => Identity::user(format!("user{}", number % 50)).named("a name that does not fit in place"),
        _ => Identity::user(format!("user{number}")).on_device("phone"),
    };
    let pipe_bytes = if number.is_multiple_of(7) { 300 } else { 64 * 1024 };
    let (mut client, handle) = attach_with(hub, Attach::new(identity), pipe_bytes);
    for room in 0..number % 5 {
        client
            .send(json!({ "type": "subscribe", "room": format!("room {}", (number + room * 31) % 97) }))
            .await;
    }
    client
        .send(json!({ "type": "publish", "room": format!("room {}", number % 97), "id": 1, "data": [] }))
        .await;
    if number.is_multiple_of(11) {
        client.send(json!({ "type": "wait" })).await;
    }
    tokio::task::yield_now().await;
    let _ = hub.push(handle.id(), &Frame::binary(vec![0; 500]));
    match number % 6 {
        0 => client.close(1000, "").await,
        1 => drop(client.send_raw(&[0xff; 10]).await),
        2 => drop(hub.disconnect(handle.id(), Disconnect::Kicked)),
        // Half a frame.
        3 => drop(client.send_raw(&[0x81, 0xfe, 4, 0, 0, 0, 0, 0, 1, 2, 3]).await),
        4 => drop(hub.leave(handle.id(), "room 1").await),
        _ => {}
    }
    if number.is_multiple_of(2) {
        tokio::task::yield_now().await;
    }
}

/// 10,000 clients in waves of 500 that overlap; afterwards counts and memory are back where they were.
#[tokio::test(start_paused = true)]
async fn clients_that_have_gone_leave_nothing_behind() {
    let builder =
        Hub::builder().on("wait", |_context, _data| std::future::pending::<Result<Option<Reply>, Refusal>>());
    // What is counted and remembered for operators is meant to stay; its own tests are about its bounds.
    let config = HubConfig {
        analytics: false,
        remembered_messages_max: 0,
        remembered_events_max: 0,
        ..HubConfig::default()
    };
    let hub = builder.config(config).start_on_this_runtime().unwrap();
    // Once without counting: buffers and tables are made when first needed.
    wave(&hub, 0).await;
    all_gone(&hub).await;
    let before = LIVE.load(Ordering::Relaxed);
    for number in 0..20 {
        wave(&hub, number).await;
    }
    all_gone(&hub).await;
    let left = LIVE.load(Ordering::Relaxed) - before;
    assert!(left < LEFT_BYTES_MAX, "{left} bytes are left of 10,000 clients");
    let stats = hub.stats();
    assert_eq!(stats.connections_opened, stats.connections_closed);
    assert_eq!((stats.connections_opened, stats.panics), (21 * 500, 0));
}

async fn wave(hub: &Hub, wave: usize) {
    for number in 0..500 {
        live_and_go(hub, wave * 500 + number).await;
    }
}

async fn all_gone(hub: &Hub) {
    // Past every time-out, and once around the timer wheel.
    for _ in 0..700 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        settle().await;
    }
    assert_eq!((hub.client_count(), hub.clients().len(), hub.room_count()), (0, 0, 0));
}

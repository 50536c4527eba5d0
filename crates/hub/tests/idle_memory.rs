//! How much heap an idle connection takes: counted, not sampled.

#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicIsize, Ordering};

use outspoke_hub::{Attach, Hub, HubConfig, Identity, RoomName, TcpConn};

struct Counting;

/// Live blocks by their size in units of [`UNIT`] bytes, and beyond the last, bytes.
static BLOCKS: [AtomicIsize; 256] = [const { AtomicIsize::new(0) }; 256];
static LARGE: AtomicIsize = AtomicIsize::new(0);
const UNIT: usize = 8;

fn count(size: usize, sign: isize) {
    match BLOCKS.get(size.div_ceil(UNIT)) {
        Some(blocks) => blocks.fetch_add(sign, Ordering::Relaxed),
        None => LARGE.fetch_add(sign * size as isize, Ordering::Relaxed),
    };
}

/// Live blocks by size, then the bytes of those that are larger.
fn live() -> Vec<isize> {
    BLOCKS.iter().chain([&LARGE]).map(|blocks| blocks.load(Ordering::Relaxed)).collect()
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Hold what is, so that it does not grow unseen; process memory, of which the bar is 2 KiB, has the allocator's and the server's
/// share besides. What each connection has of its own differs little between runs (1,056 to 1,098 bytes in 25 of them). Of the tables that
/// all share it depends on the seeds of their hashes which have doubled when the last connection comes: 176 to 289 bytes.
const OWN_BYTES_MAX: isize = 1140;
const SHARED_BYTES_MAX: isize = 360;
const CONNECTIONS: usize = 1900;

#[tokio::test]
async fn idle_connection_in_its_own_room_takes_little_heap() {
    let config = HubConfig { shards: 1, ..HubConfig::default() };
    let hub = Hub::builder().config(config).start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut peers = Vec::with_capacity(2000);
    let mut attach = |index: usize| {
        let peer = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let conn = TcpConn::new(stream, &hub.config().tcp).unwrap();
        let room = RoomName::new(&format!("room-{index}"), 128).unwrap();
        let identity = Identity::user(format!("user-{index}")).named("somebody");
        peers.push(peer);
        hub.attach(conn, Attach::new(identity).into_room(room)).unwrap();
    };
    // The first ones pay for buffers and tables.
    (0..100).for_each(&mut attach);
    quiet(&hub, 100).await;
    let before = live();
    (100..100 + CONNECTIONS).for_each(&mut attach);
    quiet(&hub, 100 + CONNECTIONS).await;
    let grown: Vec<isize> = live().into_iter().zip(before).map(|(after, before)| after - before).collect();
    let (mut own, mut shared) = (0, grown[BLOCKS.len()]);
    println!("for each idle connection: {:.0} bytes in large blocks", shared as f64 / CONNECTIONS as f64);
    for (size, &blocks) in grown[..BLOCKS.len()].iter().enumerate().filter(|(_, blocks)| **blocks != 0) {
        let each = blocks as f64 / CONNECTIONS as f64;
        *(if each > 0.5 { &mut own } else { &mut shared }) += blocks * (size * UNIT) as isize;
        println!("{each:8.2} blocks of {:4} bytes: {:.0}", size * UNIT, each * (size * UNIT) as f64);
    }
    let [own, shared] = [own, shared].map(|bytes| bytes / CONNECTIONS as isize);
    println!("{} bytes of heap for each idle connection: {own} of its own, {shared} of tables", own + shared);
    assert!(own <= OWN_BYTES_MAX, "{own} bytes, more than {OWN_BYTES_MAX}");
    assert!(shared <= SHARED_BYTES_MAX, "{shared} bytes of tables, more than {SHARED_BYTES_MAX}");
    assert!(hub.shutdown(std::time::Duration::from_secs(20)).await);
}

/// Waits until every connection has its room and has been told so.
async fn quiet(hub: &Hub, rooms: usize) {
    let busy = || hub.clients().iter().any(|client| client.queued_bytes() > 0);
    while hub.room_count() < rooms || busy() {
        tokio::task::yield_now().await;
    }
}

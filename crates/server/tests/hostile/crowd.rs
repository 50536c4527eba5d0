//! Two hundred hostile connections at once beside two hundred healthy ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Barrier;

use crate::alone::{impatient, may_end};
use crate::attacks::Attack;
use crate::chat::{Part, chat};

const HEALTHY: usize = 200;
const HOSTILE: usize = 200;
/// What all of them together may cost.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

/// Memory and order are kept, nobody healthy is closed or misses anything, and afterwards nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hostile_clients_cost_little_and_harm_nobody() {
    let server = impatient()
        .set("limits.message_timeout", "5s")
        .set("server.header_timeout", "5s")
        .set("server.request_timeout", "10s")
        .start()
        .await;
    let addr = server.addr;
    let everybody = Arc::new(Barrier::new(HEALTHY + 1));
    let healthy: Vec<_> = (0..HEALTHY)
        .map(|number| {
            let everybody = Arc::clone(&everybody);
            let part = Part { number, room_size: 10, messages: 24 };
            tokio::spawn(async move { chat(addr, part, &everybody).await })
        })
        .collect();
    everybody.wait().await;
    let before = server.usage().resident_bytes;

    let over = Arc::new(AtomicBool::new(false));
    let hostile: Vec<_> = (0..HOSTILE)
        .map(|number| {
            let over = Arc::clone(&over);
            let attack = Attack::ALL[number % Attack::ALL.len()];
            tokio::spawn(async move {
                let mut times = 0;
                while !over.load(Ordering::Relaxed) {
                    let end = attack.run(addr, number).await;
                    assert!(may_end(attack, end), "{attack:?}: {end:?}");
                    times += 1;
                }
                (attack, times)
            })
        })
        .collect();
    let mut peak = before;
    let talking = async {
        for client in healthy {
            client.await.unwrap();
        }
    };
    let mut talking = std::pin::pin!(talking);
    loop {
        peak = peak.max(server.usage().resident_bytes);
        if tokio::time::timeout(Duration::from_millis(20), talking.as_mut()).await.is_ok() {
            break;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for hostile in hostile {
        let (attack, count) = hostile.await.unwrap();
        *times.entry(format!("{attack:?}")).or_default() += count;
    }
    println!("before {} KiB, peak {} KiB; attacks: {times:?}", before / 1024, peak / 1024);
    assert!(times.values().all(|count| *count > 0), "{times:?}");
    assert!(peak <= before + MEMORY_MAX, "{} MiB more than before", (peak - before) >> 20);
    server.has_clients(0).await;
    server.serves().await;
}

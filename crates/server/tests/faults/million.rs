//! A start with a million stored messages.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use outspoke_protocol::{Body, Kind, Message, MessageId, Timestamp, encode_record};
use outspoke_store::embedded::Options;
use outspoke_store::{Append, Batch, EmbeddedStore, LogKey, Record, Store as _};

use crate::connection::Way;
use crate::host::Host;

const MESSAGES: u64 = 1_000_000;
/// Messages in the largest room; the others have a thousand each.
const LARGEST: u64 = 500_000;
const OTHERS: u64 = 1_000;
/// Records committed at once.
const BATCH: u64 = 5_000;
/// What operators are promised of a release build.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// What a build without optimisation on a busy machine may take more.
const FACTOR: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_with_a_million_messages_is_ready_at_once() {
    let mut host = Host::new("");
    let begin = Instant::now();
    seed(&host.data.join("store")).await;
    println!("stored {MESSAGES} messages in {:.1?}", begin.elapsed());
    let ready = host.start().await;
    let (resident, cpu) = (host.usage().resident_bytes >> 20, cpu_time(host.process().id()));
    println!(
        "ready {ready:.1?} after the start with {MESSAGES} messages, {cpu:?} of it on a core, {resident} MiB resident"
    );
    assert!(ready < READY_WITHIN * FACTOR, "ready after {ready:?}");

    // They are there.
    let mut way = Way::to(host.address(), "auditor");
    for (room, head) in [("room-0", LARGEST), ("room-500", OTHERS)] {
        let (_, subscribed) = way.join(room, None).await;
        assert_eq!(subscribed["head"], head, "{subscribed}");
    }
    println!("{} MiB resident with two rooms in use", host.usage().resident_bytes >> 20);
}

/// What a process has had of the cores.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the program's name in parentheses; times are the 14th and 15th, in hundredths of a second.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

/// Rooms as a server would have written them: 128 bytes of text in each message, and its key.
async fn seed(folder: &Path) {
    let store = EmbeddedStore::open(folder, Options::default()).unwrap();
    let rooms = 1 + (MESSAGES - LARGEST) / OTHERS;
    let mut batch = Batch::default();
    let mut waiting = 0;
    for room in 0..rooms {
        let messages = if room == 0 { LARGEST } else { OTHERS };
        for part in (1..=messages).step_by(BATCH as usize) {
            let records: Vec<_> = (part..=messages).take(BATCH as usize).map(|n| record(room, n)).collect();
            waiting += records.len() as u64;
            let log = LogKey { tenant: "".into(), room: format!("room-{room}").into() };
            batch.appends.push(Append { log, epoch: room + 1, records, replaces: Vec::new(), fence: None });
            if waiting >= BATCH {
                store.commit(&std::mem::take(&mut batch)).await.unwrap();
                waiting = 0;
            }
        }
    }
    if waiting > 0 {
        store.commit(&batch).await.unwrap();
    }
    store.close().await.unwrap();
}

fn record(room: u64, number: u64) -> Record {
    let id = u128::from(room) << 64 | u128::from(number);
    let ts = Timestamp::from_system_time(SystemTime::now());
    let message = Message {
        id: MessageId::from_u128(id),
        room: None,
        position: None,
        kind: Kind::Chat,
        from: None,
        ts,
        body: Body::Text(format!("{number:0>128}").into()),
        details: None,
    };
    let mut payload = Vec::new();
    encode_record(&message, &mut payload);
    Record {
        id,
        key: Some(Bytes::from(format!("ada/{room}-{number}"))),
        author: "ada".into(),
        ts: ts.as_millis(),
        counted: true,
        payload: payload.into(),
    }
}

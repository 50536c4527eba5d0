//! The process is killed, under load and while it starts.

use std::time::Duration;

use crate::crowd::Crowd;
use crate::host::Host;
use crate::{randomness, rounds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_killed_twenty_times_under_load_loses_repeats_and_reorders_nothing() {
    let mut rng = randomness("kills");
    let mut host = Host::new("");
    host.start().await;
    let mut crowd = Crowd::gather(&host, &["one", "two", "three", "four"]);
    for round in 1..=rounds(20) {
        crowd.acknowledge(rng.u64(1..1_500)).await;
        // Between two answers as well as just behind one.
        tokio::time::sleep(Duration::from_micros(rng.u64(..5_000))).await;
        host.kill().await;
        if round % 5 == 0 {
            // Also in the middle of coming back.
            host.spawn(host.command());
            tokio::time::sleep(Duration::from_millis(rng.u64(..80))).await;
            host.kill().await;
        }
        host.start().await;
    }
    crowd.acknowledge(100).await;
    let evidence = crowd.account().await;
    evidence.judge(&format!("{} kills", rounds(20)));
    assert!(
        evidence.accounts.iter().any(|account| account.duplicates > 0),
        "no kill came between commit and answer"
    );
}

//! The power goes: what was not synced is gone, or not, as a disk pleases.

use std::fs;

use outspoke_store::suite::powerloss::{Rest, Shim, lose_power};

use crate::crowd::Crowd;
use crate::host::Host;
use crate::{randomness, rounds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_after_power_losses_has_lost_repeated_and_reordered_nothing() {
    let mut rng = randomness("power losses");
    let mut host = Host::new("");
    let shim = Shim::build(host.folder());
    let mut crowd = None;
    for round in 1..=rounds(6) {
        let mirror = host.folder().join(format!("mirror {round}"));
        fs::create_dir(&mirror).unwrap();
        let mut command = host.command();
        shim.watch(command.as_std_mut(), &host.data, &mirror);
        host.start_as(command).await;
        let crowd = crowd.get_or_insert_with(|| Crowd::gather(&host, &["one", "two", "three"]));
        crowd.acknowledge(rng.u64(1..600)).await;
        host.kill().await;

        let rest = if round % 3 == 1 { Rest::Lost } else { Rest::Scattered(rng.u64(..)) };
        let after = host.folder().join(format!("data {round}"));
        lose_power(&host.data, &mirror, &after, rest).unwrap();
        fs::remove_dir_all(&host.data).unwrap();
        fs::remove_dir_all(&mirror).unwrap();
        host.data = after;
    }
    host.start().await;
    let mut crowd = crowd.expect("there were rounds");
    crowd.acknowledge(100).await;
    crowd.account().await.judge(&format!("{} power losses", rounds(6)));
}

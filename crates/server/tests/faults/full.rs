//! The disk is full: stored rooms say so, everything else goes on, and space is all it takes to go on.
//!
//! The data lies on a small file system in memory, mounted in a namespace of the server's own: it goes with the
//! process, and is reached from here through `/proc`. Where the system allows no such thing, the test says so and
//! proves nothing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::connection::{Connection, REFUSED_PAUSE, Way};
use crate::host::{Host, binary};

/// Has the data folder be a file system of 192 MiB, and becomes the server.
const MOUNT: &str = r#"mount -t tmpfs -o size=192m tmpfs "$DATA" && exec "$@""#;

/// A server whose data folder can be filled.
struct Small {
    host: Host,
    /// The data folder, as this process reaches it.
    data: PathBuf,
}

impl Small {
    /// `None` where nobody may mount anything.
    async fn start(reserve: &str) -> Option<Self> {
        let sections = format!("store:\n  embedded:\n    reserve_bytes: {reserve}\n");
        let mut host = Host::new(&sections);
        if !may_mount().await {
            println!("SKIPPED: this system does not let us mount a file system of our own (unshare --mount)");
            return None;
        }
        let mut command = unshare();
        command.args(["sh", "-c", MOUNT, "sh"]).arg(binary());
        let mut command = host.command_of(command);
        command.env("DATA", &host.data).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        host.start_as(command).await;
        let inside = format!("/proc/{}/root{}", host.process().id(), host.data.display());
        Some(Self { host, data: inside.into() })
    }

    fn way(&self, user: &str) -> Way {
        Way::to(self.host.address(), user)
    }

    /// Takes all the space there is.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let block = vec![1; 64 * 1024];
        // Smaller and smaller pieces: to the last byte.
        for size in [block.len(), 4096, 512, 1] {
            while ballast.write_all(&block[..size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.data.join("ballast")
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
}

async fn may_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mount = |folder: &Path| {
        let mut command = unshare();
        command.args(["mount", "-t", "tmpfs", "tmpfs"]).arg(folder);
        command
    };
    mount(folder.path()).output().await.is_ok_and(|output| output.status.success())
}

async fn publish(connection: &mut Connection, room: &str, number: u64) -> Value {
    // As long as messages may be, so that what is free is soon used.
    let data = format!("{number:0>6000}");
    let request = json!({ "type": "publish", "id": format!("n{number}"), "room": room, "data": data });
    connection.send(&request).await;
    connection.answer(&format!("n{number}")).await.expect("the connection stays")
}

async fn full_disk(reserve: &str) {
    let Some(mut small) = Small::start(reserve).await else { return };
    let pid = small.host.process().id();
    let (mut stored, _) = small.way("ada").join("stored", None).await;
    let (mut memory, _) = small.way("bob").join("mem:other", None).await;
    let mut number = 0;
    let mut kept = Vec::new();
    for _ in 0..2 {
        number += 1;
        assert_eq!(publish(&mut stored, "stored", number).await["type"], "ack");
        kept.push(number);
        small.fill();
        // A journal may have space left that it took before.
        let refusal = loop {
            number += 1;
            let answer = publish(&mut stored, "stored", number).await;
            if answer["type"] != "ack" {
                break answer;
            }
            kept.push(number);
        };
        assert_eq!(
            (&refusal["error"], &refusal["temporary"]),
            (&json!("storage_full"), &json!(true)),
            "{refusal}"
        );
        for _ in 0..100 {
            number += 1;
            assert_eq!(publish(&mut memory, "mem:other", number).await["type"], "ack", "other rooms go on");
            // Without a reserve a refused write gives back the space that it had begun to use.
            let answer = publish(&mut stored, "stored", number).await;
            if answer["type"] == "ack" && reserve == "0" {
                kept.push(number);
            } else {
                // Without a reserve there may be no space even to open the store again after a failed write.
                let refused = answer["error"] == "storage_full";
                assert!(refused || (reserve == "0" && answer["error"] == "unavailable"), "{answer}");
            }
        }
        small.free();
        // Without a restart, and without anybody's help.
        let mut refused = 0;
        loop {
            number += 1;
            let answer = publish(&mut stored, "stored", number).await;
            if answer["type"] == "ack" {
                kept.push(number);
                break;
            }
            refused += 1;
            assert!(refused < 100, "still refused after there was space again: {answer}");
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }
    assert_eq!(small.host.process().id(), pid, "it is the same process");
    assert!(small.host.process().is_running());

    // What was refused is not there, what was acknowledged is.
    let log = crate::log::Log::read(&mut small.way("auditor"), "stored").await;
    let there: Vec<u64> = log.messages.iter().map(|message| message.text.parse().unwrap()).collect();
    assert_eq!(there, kept);
    println!("disk full, {reserve} left to others: {} messages kept of {number}", kept.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_is_told_as_storage_full_and_other_rooms_go_on() {
    full_disk("64MiB").await;
}

/// The system itself says that nothing more can be written, in the middle of whatever the store is doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_without_a_reserve_is_told_as_storage_full_and_other_rooms_go_on() {
    full_disk("0").await;
}

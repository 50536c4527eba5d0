//! Stores in databases, from the settings to the database and back: real servers, the real binary.

#![cfg(all(feature = "postgres", feature = "redis"))]
#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use outspoke_store::{LogKey, LogState, MemoryStore, Store as _, Stored, transfer};
use outspoke_testkit::Process;
use outspoke_testkit::services::{Postgres, Redis};
use serde_json::Value;
use tokio::process::Command;

fn outspoke(verb: &[&str], settings: &[String]) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.args(verb).current_dir(folder.path()).env_clear().stdin(Stdio::null());
    command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    for setting in settings {
        command.args(["--set", setting]);
    }
    (command, folder)
}

async fn run(verb: &[&str], settings: &[String]) -> (i32, String, String) {
    let (mut command, _folder) = outspoke(verb, settings);
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn postgresql(url: &str) -> Vec<String> {
    vec!["store.backend=postgresql".to_owned(), format!("store.postgresql.url={url}")]
}

fn redis(url: &str) -> Vec<String> {
    vec!["store.backend=redis".to_owned(), format!("store.redis.url={url}")]
}

/// The log event of a server that has opened its stores.
async fn opened(settings: &[String]) -> Value {
    let (mut command, _folder) = outspoke(&["serve", "--set", "server.addr=127.0.0.1:0"], settings);
    command.kill_on_drop(true);
    let mut process = Process::spawn(command);
    process
        .wait_for(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["message"] == "store opened").then_some(event)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn server_starts_on_a_database_and_says_what_it_survives() {
    let (database, cache) = tokio::join!(Postgres::start(), Redis::start());
    let event = opened(&postgresql(&database.url())).await;
    assert_eq!((&event["store"], &event["backend"]), (&"default".into(), &"postgresql".into()));
    assert!(event["durability"].as_str().is_some_and(|text| text.len() > 20), "{event}");
    assert!(!event.to_string().contains(Postgres::PASSWORD), "{event}");

    let event = opened(&redis(&cache.url())).await;
    assert_eq!(event["backend"], "redis");
    assert!(event["durability"].as_str().is_some_and(|text| text.len() > 20), "{event}");
    assert!(!event.to_string().contains(Redis::PASSWORD), "{event}");

    for settings in [postgresql(&database.url()), redis(&cache.url())] {
        let (code, stdout, stderr) = run(&["store", "verify"], &settings).await;
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.starts_with("ok: store default ("), "{stdout}");
        assert!(!stdout.contains(Postgres::PASSWORD), "{stdout}");
    }
}

/// Who outgrows one back end moves to another, and its clients recover as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn export_moves_from_one_back_end_to_another() {
    let (database, cache) = tokio::join!(Postgres::start(), Redis::start());
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] = ["1.jsonl", "2.jsonl", "3.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&first, exported().await).unwrap();

    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for (settings, from, to) in
        [(postgresql(&database.url()), &first, &second), (redis(&cache.url()), &second, &third)]
    {
        let (code, stdout, stderr) = run(&["store", "import", &path(from)], &settings).await;
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(": 1 rooms, 1 records, 0 facts from "), "{stdout}");
        let (code, _, stderr) = run(&["store", "export", &path(to)], &settings).await;
        assert_eq!(code, 0, "{stderr}");
    }
    assert_eq!(std::fs::read_to_string(&third).unwrap(), std::fs::read_to_string(&first).unwrap());
}

/// An export of one room that was trimmed before.
async fn exported() -> Vec<u8> {
    let store = MemoryStore::new();
    let log = LogKey { tenant: "acme".into(), room: "lobby".into() };
    let start = LogState { epoch: 0xa7, first: 42, head: 41, ordinal: 40, bytes: 0 };
    let record = Stored {
        offset: 42,
        ordinal: 41,
        id: 7,
        author: "ada".into(),
        ts: 1_800_000_000_000,
        payload: "hello".into(),
    };
    store.restore(&log, start, &[record]).await.unwrap();
    let mut file = Vec::new();
    transfer::export(&store, &transfer::Scope::default(), &mut file).await.unwrap();
    file
}

/// A database that is away is told apart from one that is badly configured: a supervisor may try the first again.
#[tokio::test(flavor = "multi_thread")]
async fn database_that_is_away_ends_the_start_with_69() {
    // Bound but not listening: the port is ours for the time of the test and refuses everybody.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = silent.local_addr().unwrap().as_socket().unwrap();
    let cases = [
        (postgresql(&format!("postgresql://chat:hunter2@{addr}/chat")), "postgresql", "store.postgresql.url"),
        (redis(&format!("redis://:hunter2@{addr}/0")), "redis", "store.redis.url"),
    ];
    for (settings, backend, key) in cases {
        for verb in [&["serve", "--set", "server.addr=127.0.0.1:0"][..], &["store", "verify"]] {
            let (code, stdout, stderr) = run(verb, &settings).await;
            assert_eq!((code, stdout.as_str()), (69, ""), "{stderr}");
            let wanted = format!("error: cannot open the store default ({backend} in {backend}://***@{addr}");
            assert!(stderr.contains(&wanted), "{stderr}");
            let hint =
                format!("hint: see that the server is up and lets this machine in, or correct {key}\n");
            assert!(stderr.ends_with(&hint), "{stderr}");
            assert!(!stderr.contains("hunter2"), "{stderr}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_address_of_a_database_names_the_section() {
    let (code, _, stderr) =
        run(&["store", "verify"], &postgresql("postgresql://host-without-user/chat")).await;
    assert_eq!(code, 1);
    assert!(stderr.ends_with("hint: correct the settings under store.postgresql\n"), "{stderr}");
}

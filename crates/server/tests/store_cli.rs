//! `outspoke store` as operators meet it: what it finds, what it refuses, and what it says.

#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bytes::Bytes;
use outspoke_store::embedded::Options;
use outspoke_store::{Append, Batch, EmbeddedStore, LogKey, Record, Store as _};

/// A folder in which `outspoke` works, with or without something kept.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With `records` messages in each of two rooms.
    async fn with_records(records: u32) -> Self {
        let place = Self::empty();
        let store = place.open("data/store");
        let appends = ["lobby", "chat:rust"].map(|room| append(room, records)).into();
        store.commit(&Batch { appends, ..Batch::default() }).await.unwrap();
        store.close().await.unwrap();
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn open(&self, path: &str) -> EmbeddedStore {
        EmbeddedStore::open(self.path(path), Options::default()).unwrap()
    }

    /// Exit code, output and complaints of `outspoke store ...`, the folder's name left out.
    fn store(&self, args: &[&str]) -> (i32, String, String) {
        self.run(&[&["store"], args].concat())
    }

    /// As [`Place::store`], of a server that must not start.
    fn serve(&self) -> (i32, String, String) {
        self.run(&["serve", "--set", "server.addr=127.0.0.1:0", "--set", "log.level=off"])
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        let output = command.output().unwrap();
        let folder = self.folder.path().canonicalize().unwrap();
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder.to_str().unwrap(), "/srv");
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn append(room: &str, records: u32) -> Append {
    let record = |number: u32| Record {
        id: u128::from(number) << 64 | room.len() as u128,
        key: None,
        author: "alice".into(),
        ts: 1_766_000_000_000 + i64::from(number),
        counted: true,
        payload: Bytes::from(format!("message {number}")),
    };
    Append {
        log: LogKey { tenant: "".into(), room: room.into() },
        epoch: 7,
        records: (1..=records).map(record).collect(),
        replaces: Vec::new(),
        fence: None,
    }
}

#[tokio::test]
async fn good_store_is_verified_and_compacted() {
    let place = Place::with_records(10).await;
    assert_eq!(
        place.store(&["verify"]),
        (
            0,
            "ok: store default (embedded in /srv/data/store): 2 rooms, 20 records, 0 facts\n".to_owned(),
            "verifying store default (embedded in /srv/data/store)\n".to_owned()
        )
    );
    let (code, stdout, stderr) = place.store(&["verify", "--json"]);
    assert_eq!((code, stderr.lines().count()), (0, 1));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap(),
        serde_json::json!({ "ok": true, "stores": [{
            "store": "default", "backend": "embedded", "place": "/srv/data/store",
            "logs": 2, "records": 20, "facts": 0, "problems": [],
        }]})
    );
    let (code, stdout, _) = place.store(&["compact"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("ok: store default (embedded in /srv/data/store): about "), "{stdout}");
    assert_eq!(place.store(&["verify"]).0, 0, "nothing was lost by it");
}

#[tokio::test]
async fn named_store_and_data_folder_are_found() {
    let place = Place::with_records(3).await;
    fs::rename(place.path("data"), place.path("elsewhere")).unwrap();
    let data = place.path("elsewhere");
    let (code, stdout, _) = place.store(&["verify", "--data", data.to_str().unwrap()]);
    assert_eq!((code, stdout.contains("6 records")), (0, true), "{stdout}");

    place.open("data/stores/archive").close().await.unwrap();
    let stores = "stores=[{name: archive, backend: embedded}, {name: scratch, backend: memory}]";
    let (code, stdout, _) = place.store(&["verify", "--store", "archive", "--set", stores]);
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "ok: store archive (embedded in /srv/data/stores/archive): 0 rooms, 0 records, 0 facts\n"
    );
    let (code, stdout, _) = place.store(&["verify", "--data", "elsewhere", "--set", "store.backend=memory"]);
    assert_eq!((code, stdout.as_str()), (0, ""), "what was in memory is not looked for");

    let (code, _, stderr) = place.store(&["verify", "--store", "achive", "--set", stores]);
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "error: there is no store \"achive\"; the settings describe default, archive, scratch\n"
    );
}

/// Two processes in one folder would each write over what the other wrote.
#[tokio::test]
async fn folder_that_a_running_server_has_is_refused_with_its_process() {
    let place = Place::with_records(1).await;
    let _held = place.open("data/store");
    for args in [&["verify"][..], &["compact"], &["export", "all.jsonl"]] {
        let (code, stdout, stderr) = place.store(args);
        assert_eq!((code, stdout.as_str()), (1, ""), "{args:?}");
        let wanted = "error: cannot open the store default (embedded in /srv/data/store): storage is unavailable: \
                      the folder ./data/store is in use by another process";
        assert!(stderr.starts_with(wanted), "{stderr}");
        if cfg!(target_os = "linux") {
            let hint = format!("hint: process {} (", std::process::id());
            assert!(stderr.contains(&hint), "{stderr}");
        }
    }
}

#[tokio::test]
async fn export_arrives_whole_in_another_store() {
    let place = Place::with_records(10).await;
    let (code, stdout, stderr) = place.store(&["export", "all.jsonl"]);
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (
            0,
            "ok: store default (embedded in /srv/data/store): 2 rooms, 20 records, 0 facts to all.jsonl\n",
            "exporting store default (embedded in /srv/data/store)\n"
        )
    );
    assert!(!place.path("all.jsonl.part").exists());

    let (code, stdout, stderr) = place.store(&["import", "all.jsonl", "--data", "other", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stderr, "checking all.jsonl\nimporting into store default (embedded in /srv/other/store)\n");
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let counts = [&json["stores"][0]["logs"], &json["stores"][0]["records"], &json["ok"]];
    assert_eq!(counts, [&serde_json::json!(2), &serde_json::json!(20), &serde_json::json!(true)]);
    let (_, stdout, _) = place.store(&["verify", "--data", "other"]);
    assert_eq!(stdout, "ok: store default (embedded in /srv/other/store): 2 rooms, 20 records, 0 facts\n");
    assert_eq!(place.store(&["export", "again.jsonl", "--data", "other"]).0, 0);
    let [first, second] = ["all.jsonl", "again.jsonl"].map(|file| fs::read(place.path(file)).unwrap());
    assert!(first == second, "epochs, offsets, ids and times arrive as they were");
}

#[tokio::test]
async fn export_of_one_room_goes_to_standard_output() {
    let place = Place::with_records(2).await;
    let (code, stdout, _) = place.store(&["export", "-", "--room", "chat:rust"]);
    assert_eq!(code, 0);
    assert_eq!(stdout.lines().count(), 5, "head, room, two records, end: {stdout}");
    assert!(stdout.contains("chat:rust") && !stdout.contains("lobby"), "{stdout}");
}

/// Half of an export is worse than none: it looks like everything.
#[tokio::test]
async fn damaged_export_is_refused_before_anything_is_written() {
    let place = Place::with_records(5).await;
    assert_eq!(place.store(&["export", "all.jsonl"]).0, 0);
    let whole = fs::read_to_string(place.path("all.jsonl")).unwrap();
    let torn = whole.rsplitn(3, '\n').last().unwrap();
    for bad in [torn, &whole.replace("message 3", "message 4"), "{}\n"] {
        fs::write(place.path("bad.jsonl"), bad).unwrap();
        let (code, stdout, stderr) = place.store(&["import", "bad.jsonl", "--data", "other"]);
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(stderr.contains("error: cannot read bad.jsonl: line "), "{stderr}");
        assert!(!place.path("other").exists());
    }
    let (code, _, stderr) = place.store(&["import", "missing.jsonl", "--data", "other"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: cannot read missing.jsonl: No such file"), "{stderr}");
}

#[tokio::test]
async fn import_into_a_store_with_data_needs_to_be_told_so() {
    let place = Place::with_records(5).await;
    assert_eq!(place.store(&["export", "all.jsonl"]).0, 0);
    let (code, _, stderr) = place.store(&["import", "all.jsonl"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the store is not empty"), "{stderr}");
    assert!(
        stderr.ends_with("hint: import into an empty store, or add to this one with --merge\n"),
        "{stderr}"
    );
    let (code, _, _) = place.store(&["import", "all.jsonl", "--merge"]);
    assert_eq!(code, 0);
    assert!(place.store(&["verify"]).1.contains(" 10 records"), "a repeated import changes nothing");
    let (code, _, stderr) = place.store(&["import", "all.jsonl", "--set", "store.backend=memory"]);
    assert_eq!(code, 1);
    assert!(
        stderr.ends_with(
            "hint: what is in memory ends with the server that has it; choose a store that keeps\n"
        )
    );
}

#[test]
fn looking_begins_nothing_new() {
    let place = Place::empty();
    let (code, stdout, stderr) = place.store(&["verify"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "error: there is no store default in /srv/data/store\n  hint: run the command where the server runs, with \
         the same settings, or name the folder of its data with --data\n"
    );
    assert!(!place.path("data").exists());
}

#[tokio::test]
async fn damage_is_named_and_ends_with_1() {
    let place = Place::with_records(5).await;
    fs::write(place.path("data/store/outspoke.format"), "something else\n").unwrap();
    let (code, stdout, _) = place.store(&["verify"]);
    assert_eq!(code, 1);
    let wanted =
        "DAMAGED: store default (embedded in /srv/data/store): 0 rooms, 0 records, 0 facts\n  problem: ";
    assert!(stdout.starts_with(wanted), "{stdout}");
    assert!(stdout.contains("outspoke.format is not what Outspoke writes there"), "{stdout}");
    let (code, stdout, _) = place.store(&["verify", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &json["ok"]), (1, &serde_json::json!(false)));

    let (code, _, stderr) = place.store(&["compact"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("hint: keep a copy of /srv/data/store, then look it over"), "{stderr}");
}

#[test]
fn settings_are_checked_and_help_names_the_exit_codes() {
    let place = Place::empty();
    assert_eq!(place.store(&["verify", "--set", "store.backend=floppy"]).0, 78);
    assert_eq!(place.store(&["verify", "--data", ""]).0, 2);
    assert_eq!(place.store(&["frobnicate"]).0, 2);
    let (code, help, _) = place.store(&["--help"]);
    assert_eq!(code, 0);
    for text in ["verify", "compact", "export", "import", "  78  the configuration, or a context, is wrong"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    let (_, help, _) = place.store(&["verify", "--help"]);
    assert!(help.contains("--store <NAME>") && !help.contains("--addr"), "{help}");
}

#[test]
fn folder_that_cannot_be_used_says_which_setting_chooses_another() {
    let place = Place::empty();
    fs::write(place.path("data"), "a file where the folder should be").unwrap();
    let (code, _, stderr) = place.serve();
    assert_eq!(code, 1);
    assert!(
        stderr.contains("error: cannot open the store default (embedded in /srv/data/store): "),
        "{stderr}"
    );
    assert!(
        stderr.ends_with("hint: let this user write there, or choose another folder in data.dir\n"),
        "{stderr}"
    );
}

/// Whatever `serve` would refuse at the start, it refuses with the same words.
#[tokio::test]
async fn serve_says_who_has_its_folder() {
    let place = Place::with_records(1).await;
    let _held = place.open("data/store");
    let (code, _, stderr) = place.serve();
    assert_eq!(code, 1);
    assert!(
        stderr.contains("error: cannot open the store default (embedded in /srv/data/store)"),
        "{stderr}"
    );
}

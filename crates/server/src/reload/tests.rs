//! All of it or nothing, told setting by setting, with secrets masked; and files that are looked at.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc;

use arc_swap::ArcSwap;

use super::*;
use crate::config::FlagValue;

/// A configuration file, and a reloader of what it says.
struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new(text: &str) -> (Self, Reloader) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        let flag = FlagValue { flag: "--set".into(), key: "log.level".into(), value: "debug".into() };
        let sources =
            Sources { file: FileChoice::Named(path.clone()), flags: vec![flag], ..Sources::default() };
        let loaded = load(&sources).unwrap();
        (Self { _folder: folder, path }, Reloader::new(sources, loaded))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}

/// A part that keeps `limits.rooms_max`.
fn rooms_max(reloader: &mut Reloader) -> Arc<ArcSwap<usize>> {
    let in_force = Arc::new(ArcSwap::from_pointee(reloader.loaded().config.limits.rooms_max));
    let kept = Arc::clone(&in_force);
    reloader.part("rooms", move |next| Ok(Step::swap(&kept, next.config.limits.rooms_max)));
    in_force
}

fn keys(differences: &[Difference]) -> Vec<&str> {
    differences.iter().map(|difference| difference.key).collect()
}

#[test]
fn changes_are_told_setting_by_setting_and_put_in_force() {
    let (file, mut reloader) = Fixture::new("limits: { rooms_max: 10 }\n");
    let in_force = rooms_max(&mut reloader);
    assert_eq!(reloader.reload(&Asker::Signal, false).unwrap(), Report::default());
    file.write("limits: { rooms_max: 20 }\nserver: { shards: 3 }\nlog: { level: warn }\n");
    let report = reloader.reload(&Asker::Signal, true).unwrap();
    assert!(report.dry_run && **in_force.load() == 10);
    assert_eq!(reloader.reload(&Asker::Signal, false).unwrap(), Report { dry_run: false, ..report.clone() });
    assert_eq!(**in_force.load(), 20);
    assert_eq!(report.changed.len(), 1, "the flag still wins over the file: {report:?}");
    let Difference { key, old, new, source, counts } = &report.changed[0];
    assert_eq!((*key, old.as_str(), new.as_str(), *counts), ("limits.rooms_max", "10", "20", "at_once"));
    assert!(source.ends_with("config.yaml:1:22"), "{source}");
    // What waits for a restart is named until then, also when the rest is in force.
    assert_eq!(keys(&report.waiting), ["server.shards"]);
    let again = reloader.reload(&Asker::Signal, false).unwrap();
    assert_eq!((keys(&again.changed), keys(&again.waiting)), (vec![], vec!["server.shards"]));
    file.write("limits: { rooms_max: 20 }\n");
    assert_eq!(reloader.reload(&Asker::Signal, false).unwrap(), Report::default());
}

#[test]
fn secrets_differ_without_being_shown() {
    let (file, reloader) = Fixture::new("api: { keys: [mark-one-mark-one] }\n");
    file.write("api: { keys: [mark-two-mark-two] }\n");
    let report = reloader.reload(&Asker::Signal, false).unwrap();
    assert_eq!(keys(&report.changed), ["api.keys"]);
    let shown = format!("{report:?} {} {reloader:?}", serde_json::to_string(&report).unwrap());
    assert!(!shown.contains("mark-"), "{shown}");
    file.write("stores: [{name: a, backend: postgresql, url: \"postgresql://u:mark-a@h/d\"}]\n");
    reloader.reload(&Asker::Signal, false).unwrap();
    file.write("stores: [{name: a, backend: postgresql, url: \"postgresql://u:mark-b@h/d\"}]\n");
    let report = reloader.reload(&Asker::Signal, false).unwrap();
    assert_eq!(keys(&report.waiting), ["stores"]);
    let shown = format!("{report:?} {reloader:?}");
    assert!(!shown.contains("mark-"), "{shown}");
}

#[test]
fn wrong_file_changes_nothing_and_is_told_with_its_line() {
    let (file, mut reloader) = Fixture::new("limits: { rooms_max: 10 }\n");
    let in_force = rooms_max(&mut reloader);
    for (text, place) in [
        ("limits:\n  rooms_max: 20\n  content_chars_max: many\n", "config.yaml:3:22"),
        ("limits:\n  rooms_max: 20\n  colour: red\n", "config.yaml:3:3"),
        ("limits: [\n", "config.yaml:"),
    ] {
        file.write(text);
        let error = reloader.reload(&Asker::Signal, false).unwrap_err();
        assert!(error.to_string().contains(place), "{error}");
        assert_eq!((**in_force.load(), reloader.loaded().config.limits.rooms_max), (10, 10));
    }
    std::fs::remove_file(&file.path).unwrap();
    assert!(matches!(reloader.reload(&Asker::Signal, false), Err(ReloadError::Config(_))));
    file.write("limits: { rooms_max: 30 }\n");
    reloader.reload(&Asker::Signal, false).unwrap();
    assert_eq!(**in_force.load(), 30);
}

#[test]
fn standard_input_cannot_be_read_again() {
    let sources = Sources { file: FileChoice::None, ..Sources::default() };
    let loaded = load(&sources).unwrap();
    let reloader = Reloader::new(Sources { file: FileChoice::Named("-".into()), ..sources }, loaded);
    assert!(matches!(reloader.reload(&Asker::Signal, true), Err(ReloadError::StandardInput)));
}

/// A part that cannot be prepared comes before any that is put in force; one that fails then undoes those before it.
#[test]
fn part_that_fails_leaves_everything_as_it_was() {
    let (file, mut reloader) = Fixture::new("limits: { rooms_max: 10 }\n");
    let (said, heard) = mpsc::sync_channel(16);
    let in_force = rooms_max(&mut reloader);
    let second = said.clone();
    reloader.part("second", move |_| {
        let said = second.clone();
        Ok(Step::new(move || {
            said.send("done").unwrap();
            Ok(Box::new(move || said.send("undone").unwrap()))
        }))
    });
    reloader.part("third", move |next| match next.config.limits.rooms_max {
        20 => anyhow::bail!("20 is unlucky"),
        30 => Ok(Step::new(|| anyhow::bail!("30 is worse"))),
        _ => Ok(Step::new(|| Ok(Box::new(|| {})))),
    });
    file.write("limits: { rooms_max: 20 }\n");
    let refused = reloader.reload(&Asker::Watch, false).unwrap_err();
    assert_eq!(refused.to_string(), "third: 20 is unlucky; nothing was changed");
    assert_eq!((**in_force.load(), heard.try_recv().ok()), (10, None));
    file.write("limits: { rooms_max: 30 }\n");
    let failed = reloader.reload(&Asker::Watch, false).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "third: 30 is worse; what had changed before (rooms, second) was rolled back"
    );
    assert_eq!(**in_force.load(), 10);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["done", "undone"]);
    assert_eq!(reloader.loaded().config.limits.rooms_max, 10);
    file.write("limits: { rooms_max: 40 }\n");
    let report = reloader.reload(&Asker::Watch, false).unwrap();
    assert_eq!((report.changed[0].old.as_str(), **in_force.load()), ("10", 40));
}

/// The files of parts are looked at as the configuration is; what is read is what they said when they had settled.
#[tokio::test(start_paused = true)]
async fn changed_file_is_read_once_it_has_settled() {
    let (file, mut reloader) = Fixture::new("limits: { rooms_max: 10 }\nreload: { watch: 1s }\n");
    let in_force = rooms_max(&mut reloader);
    let certificate = file.path.with_file_name("certificate");
    std::fs::write(&certificate, "one").unwrap();
    let (reads, watched) = (Arc::new(ArcSwap::from_pointee(0)), certificate.clone());
    let count = Arc::clone(&reads);
    reloader.part_with_files(
        "certificates",
        move |_| vec![watched.clone()],
        move |_| Ok(Step::swap(&count, **count.load() + 1).noting("the certificate is another")),
    );
    let reloader = Arc::new(reloader);
    let watching = tokio::spawn(watch::Watch::new(Arc::clone(&reloader)).run());
    let pass = async |seconds: u64| {
        for _ in 0..seconds * 10 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            // The look itself is done by a thread.
            tokio::task::spawn_blocking(|| {}).await.unwrap();
        }
    };
    pass(5).await;
    assert_eq!(**reads.load(), 0, "nothing has changed");
    file.write("limits: { rooms_max: 20 }\nreload: { watch: 1s }\n");
    pass(5).await;
    assert_eq!((**in_force.load(), **reads.load()), (20, 1));
    std::fs::write(&certificate, "two").unwrap();
    pass(5).await;
    assert_eq!(**reads.load(), 2);
    file.write("limits: { rooms_max: none }\n");
    pass(5).await;
    assert_eq!((**in_force.load(), **reads.load()), (20, 2), "what is wrong is refused, and stays so");
    file.write("limits: { rooms_max: 30 }\n");
    pass(5).await;
    assert_eq!(**in_force.load(), 30);
    file.write("limits: { rooms_max: 40 }\n");
    pass(20).await;
    assert_eq!(**in_force.load(), 30, "it does not look any more");
    watching.abort();
}

//! Facts about walking through everything, and about reading while others write.

use super::*;
use crate::{Place, Replace, Retention};

/// Pages of logs join without gap or repeat, in the order of the names.
pub async fn logs_are_listed_page_by_page(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let expected: Vec<_> = (0..17).map(|n| format!("room {n:02}")).collect();
    let other = [append(&log_of("s", "x"), records(1..=1)), append(&log_of("tt", "x"), records(1..=1))];
    let ours = expected.iter().rev().map(|room| append(&log_of("t", room), records(1..=2)));
    store.commit(&appends(ours.chain(other).collect())).await.unwrap();
    for size in [1, 4, 17, 100] {
        let (mut read, mut after) = (Vec::new(), None::<EcoString>);
        loop {
            let page = store.logs("t", after.as_deref(), size).await.unwrap();
            assert!(page.logs.len() <= size);
            for log in &page.logs {
                assert_eq!((&*log.key.tenant, log.state.head), ("t", 2));
            }
            read.extend(page.logs.iter().map(|log| log.key.room.to_string()));
            after = page.logs.last().map(|log| log.key.room.clone());
            if !page.more {
                break;
            }
        }
        assert_eq!(read, expected, "pages of {size}");
    }
    assert_eq!(store.logs("t", Some("room 15"), 9).await.unwrap().logs.len(), 1);
    assert_eq!(store.logs("t", Some("room 155"), 9).await.unwrap().logs.len(), 1);
    assert_eq!(store.logs("t", Some("z"), 9).await.unwrap().logs, []);
}

/// A tenant is there as long as it has a log or a fact.
pub async fn tenants_are_listed(stage: &dyn Stage) {
    let store = stage.fresh().await;
    assert_eq!(store.tenants().await.unwrap(), texts(&[]));
    put(&*store, &log_of("b", "room"), records(1..=1)).await;
    put(&*store, &log_of("b", "room2"), records(1..=1)).await;
    put(&*store, &log("room"), records(1..=1)).await;
    let only_fact = fact("a", SPACE, "name");
    set(&*store, vec![FactWrite::Set(only_fact.clone(), text("x"))]).await;
    set(&*store, vec![FactWrite::Set(fact("b", SPACE, "name"), text("x"))]).await;
    assert_eq!(store.tenants().await.unwrap(), texts(&["", "a", "b"]));
    store.drop_log(&log("room")).await.unwrap();
    set(&*store, vec![FactWrite::Delete(only_fact)]).await;
    assert_eq!(store.tenants().await.unwrap(), texts(&["b"]));
}

/// Every place of an author's records, page by page.
async fn places_of(store: &dyn Store, tenant: &str, author: &str, size: usize) -> Vec<(String, u64)> {
    let (mut places, mut from) = (Vec::new(), None::<Place>);
    loop {
        let page = store.authored(tenant, author, from.clone(), size).await.unwrap();
        assert!(page.records.len() <= size);
        assert!(page.records.iter().all(|(_, record)| record.author == author));
        places.extend(page.records.iter().map(|(room, record)| (room.to_string(), record.offset)));
        let Some(next) = page.next else { break };
        assert!(from.is_none_or(|from| from < next), "a walk must get on");
        from = Some(next);
    }
    places
}

/// All of an author's records and no others are found, in the order of their places, whatever the size of a page.
pub async fn authored_finds_an_authors_records_page_by_page(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let by = |n: u64, author: &str| Record { author: author.into(), ..record(n) };
    let mut expected = Vec::new();
    for room in ["c", "a", "b", "b2"] {
        let records: Vec<_> =
            (1..=10).map(|n| by(n, if n.is_multiple_of(3) { "eve" } else { "evelyn" })).collect();
        put(&*store, &log_of("t", room), records).await;
        expected.extend([3, 6, 9].map(|offset| (room.to_owned(), offset)));
    }
    put(&*store, &log_of("other", "a"), vec![by(1, "eve")]).await;
    store.trim(&log_of("t", "b"), Retention { records_max: 5, ..Retention::default() }, START).await.unwrap();
    expected.retain(|place| *place != ("b".to_owned(), 3));
    expected.sort();
    for size in [1, 2, 3, 100] {
        assert_eq!(places_of(&*store, "t", "eve", size).await, expected, "pages of {size}");
    }
    let from = Some(Place { room: "b".into(), offset: 7 });
    let page = store.authored("t", "eve", from, 100).await.unwrap();
    let places: Vec<_> = page.records.iter().map(|(room, record)| (&**room, record.offset)).collect();
    assert_eq!(places, [("b", 9), ("b2", 3), ("b2", 6), ("b2", 9), ("c", 3), ("c", 6), ("c", 9)]);
    assert_eq!(places_of(&*store, "t", "nobody", 10).await, []);
}

/// What was replaced with nobody as its author is not found again; the others are.
pub async fn authored_finds_nothing_after_erasure(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let by = |n: u64, author: &str| Record { author: author.into(), ..record(n) };
    for room in ["a", "b"] {
        put(&*store, &log(room), (1..=6).map(|n| by(n, if n > 3 { "eve" } else { "ada" })).collect()).await;
    }
    let found = store.authored("", "eve", None, 100).await.unwrap();
    assert_eq!(found.records.len(), 6);
    let erased = found.records.iter().map(|(room, record)| Append {
        replaces: vec![Replace {
            offset: record.offset,
            author: EcoString::new(),
            payload: text("erased"),
            was: None,
        }],
        ..append(&log(room), Vec::new())
    });
    store.commit(&appends(erased.collect())).await.unwrap();
    let store = stage.reopen(store).await;
    assert_eq!(places_of(&*store, "", "eve", 100).await, []);
    assert_eq!(places_of(&*store, "", "ada", 100).await.len(), 6);
    let payloads: Vec<_> = all(&*store, &log("a")).await.into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads[3..], [text("erased"), text("erased"), text("erased")]);
}

/// Each batch appends three records and moves a fact; no reader sees less than that, a hole, or a step back.
pub async fn readers_never_see_a_part_of_a_batch(stage: &dyn Stage) {
    const BATCHES: u64 = 60;
    let (store, log) = (stage.fresh().await, log("room"));
    let reader = |store: Arc<dyn Store>, log: LogKey| async move {
        let mut seen = 0;
        while seen < BATCHES * 3 {
            let page = read(&*store, &log, whole(Direction::After(0))).await;
            let expected: Vec<_> = (1..=page.state.head).collect();
            assert_eq!(offsets(&page.records), expected, "the state and the records are of one moment");
            assert_eq!(page.state.head % 3, 0, "a part of a batch was read");
            assert!(page.state.head >= seen, "a read went back");
            seen = page.state.head;
            tokio::task::yield_now().await;
        }
    };
    let readers: Vec<_> = (0..3).map(|_| tokio::spawn(reader(store.clone(), log.clone()))).collect();
    for n in 0..BATCHES {
        put(&*store, &log, records(n * 3 + 1..=n * 3 + 3)).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

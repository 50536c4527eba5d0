//! Facts about names: whatever they are, they are told apart.

use super::*;
use crate::FactPage;
use crate::limits::NAME_BYTES_MAX;

/// Pairs of tenant and room that a careless encoding takes for each other or for something else.
const ODD: [(&str, &str); 40] = [
    ("", ""),
    ("", "a"),
    ("a", ""),
    ("a", "a"),
    ("a", "b/c"),
    ("a/b", "c"),
    ("a/", "b/c"),
    ("a", "/b/c"),
    ("a:b", "c"),
    ("a", "b:c"),
    ("a", "b"),
    ("ab", ""),
    ("", "ab"),
    ("a", "b\u{1}"),
    ("a\u{1}", "b"),
    ("a", "b\u{10FFFF}"),
    ("a", "\u{FFFF}"),
    ("", "%"),
    ("", "%%"),
    ("", "_"),
    ("", "*"),
    ("", "?"),
    ("", "["),
    ("", "a*"),
    ("", ".."),
    ("", "../.."),
    ("", "."),
    ("", "/"),
    ("", "{a}"),
    ("", "{a}b"),
    ("", "'; drop table logs; --"),
    ("", "\"\\\r\n\t"),
    ("", " "),
    ("", "A"),
    ("", "a "),
    ("", "\u{e9}"),
    ("", "e\u{301}"),
    ("", "\u{1F980}\u{200D}\u{FE0F}"),
    ("*", "a"),
    ("%", "a"),
];

/// Every odd name is its own log and its own fact, with its own keys, and is listed as it is.
pub async fn odd_names_are_told_apart(stage: &dyn Stage) {
    let store = stage.fresh().await;
    for (n, (tenant, room)) in (1..).zip(ODD) {
        let log = log_of(tenant, room);
        let record = Record { author: room.into(), ..keyed(n, "same key") };
        let answer = put(&*store, &log, vec![record]).await;
        assert!(!answer.outcomes[0].duplicate, "{log} was taken for another");
        set(&*store, vec![FactWrite::Set(fact(tenant, SPACE, room), text(&n.to_string()))]).await;
    }
    let store = stage.reopen(store).await;
    for (n, (tenant, room)) in (1..).zip(ODD) {
        let log = log_of(tenant, room);
        let records = all(&*store, &log).await;
        assert_eq!(records.len(), 1, "{log}");
        assert_eq!(records[0].id, record(n).id, "{log}");
        assert_eq!(records[0].author, room, "{log}");
        let value = store.facts(&[fact(tenant, SPACE, room)]).await.unwrap();
        assert_eq!(value, [Some(text(&n.to_string()))], "{log}");
        let found = store.authored(tenant, room, None, 1_000).await.unwrap();
        assert_eq!(found.records.len(), 1, "{log}");
    }
    let mut tenants: Vec<_> = ODD.iter().map(|(tenant, _)| *tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    assert_eq!(store.tenants().await.unwrap(), texts(&tenants));
    for tenant in tenants {
        let mut rooms: Vec<_> = ODD.iter().filter(|odd| odd.0 == tenant).map(|odd| odd.1).collect();
        rooms.sort_unstable();
        let listed = store.logs(tenant, None, 1_000).await.unwrap().logs;
        let listed: Vec<_> = listed.into_iter().map(|log| log.key).collect();
        let expected: Vec<_> = rooms.iter().map(|room| log_of(tenant, room)).collect();
        assert_eq!(listed, expected, "logs of {tenant:?}");
        let scanned = store.scan(tenant, SPACE, b"", None, 1_000).await.unwrap();
        assert_eq!(scanned.facts.len(), rooms.len(), "facts of {tenant:?}");
    }
    store.drop_log(&log_of("a", "b/c")).await.unwrap();
    assert_eq!(state(&*store, &log_of("a/b", "c")).await.map(|state| state.head), Some(1));
}

/// Nothing of a tenant is seen, found, trimmed or dropped through another.
pub async fn tenants_are_separated(stage: &dyn Stage) {
    let store = stage.fresh().await;
    put(&*store, &log_of("one", "room"), records(1..=3)).await;
    put(&*store, &log_of("two", "room"), records(1..=2)).await;
    set(&*store, vec![FactWrite::Set(fact("one", SPACE, "name"), text("1"))]).await;
    assert_eq!(state(&*store, &log("room")).await, None);
    assert_eq!(store.facts(&[fact("two", SPACE, "name")]).await.unwrap(), [None]);
    assert_eq!(store.facts(&[fact("one", OTHER_SPACE, "name")]).await.unwrap(), [None]);
    assert_eq!(store.scan("two", SPACE, b"", None, 9).await.unwrap(), FactPage::default());
    assert_eq!(store.scan("on", SPACE, b"", None, 9).await.unwrap(), FactPage::default());
    assert_eq!(store.logs("", None, 9).await.unwrap().logs, []);
    assert_eq!(store.logs("on", None, 9).await.unwrap().logs, []);
    assert_eq!(store.authored("one", "ada", None, 9).await.unwrap().records.len(), 3);
    assert_eq!(store.authored("", "ada", None, 9).await.unwrap().records, []);
    store.drop_log(&log_of("one", "room")).await.unwrap();
    set(&*store, vec![FactWrite::Delete(fact("two", SPACE, "name"))]).await;
    assert_eq!(all(&*store, &log_of("two", "room")).await.len(), 2);
    assert_eq!(store.facts(&[fact("one", SPACE, "name")]).await.unwrap(), [Some(text("1"))]);
}

/// Names up to the limit are kept whole, also when they differ only in the last byte.
pub async fn long_names_are_kept(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let long = |last: char| format!("{}{last}", "\u{e9}".repeat((NAME_BYTES_MAX - 1) / 2));
    let logs =
        [log_of(&long('a'), &long('b')), log_of(&long('a'), &long('c')), log_of(&long('b'), &long('b'))];
    for (log, n) in logs.iter().zip(1..) {
        let key = Some(vec![n as u8; crate::limits::KEY_BYTES_MAX].into());
        let record = Record { author: long('d').into(), key, ..record(n) };
        put(&*store, log, vec![record.clone()]).await;
        assert!(put(&*store, log, vec![record]).await.outcomes[0].duplicate);
    }
    for (log, n) in logs.iter().zip(1..) {
        let records = all(&*store, log).await;
        assert_eq!((records.len(), records[0].id, &*records[0].author), (1, record(n).id, &*long('d')));
    }
    assert_eq!(store.logs(&long('a'), None, 9).await.unwrap().logs.len(), 2);
}

//! Facts about facts: setting, moving forward, deleting, scanning.

use bytes::Bytes;

use super::*;
use crate::limits::{FACT_NAME_BYTES_MAX, FACT_VALUE_BYTES_MAX};
use crate::{Fact, FactPage};

fn set_to(name: &str, value: &str) -> FactWrite {
    FactWrite::Set(fact("", SPACE, name), text(value))
}

fn max_of(name: &str, value: &[u8]) -> FactWrite {
    FactWrite::Max(fact("", SPACE, name), Bytes::copy_from_slice(value))
}

async fn value(store: &dyn Store, name: &str) -> Option<Bytes> {
    store.facts(&[fact("", SPACE, name)]).await.unwrap().remove(0)
}

async fn scan(store: &dyn Store, prefix: &[u8], after: Option<&[u8]>, max: usize) -> FactPage {
    store.scan("", SPACE, prefix, after, max).await.unwrap()
}

fn names(page: &FactPage) -> Vec<&[u8]> {
    page.facts.iter().map(|fact| &fact.name[..]).collect()
}

/// A fact is what it was last set to; what was never set is nothing. An empty value is a value.
pub async fn facts_are_set_and_read(stage: &dyn Stage) {
    let store = stage.fresh().await;
    set(&*store, vec![set_to("a", "1"), set_to("b", ""), set_to("a", "2")]).await;
    let keys = ["b", "none", "a", "b"].map(|name| fact("", SPACE, name));
    let expected = [Some(Bytes::new()), None, Some(text("2")), Some(Bytes::new())];
    assert_eq!(store.facts(&keys).await.unwrap(), expected);
    assert_eq!(store.facts(&[]).await.unwrap(), []);
    let store = stage.reopen(store).await;
    assert_eq!(store.facts(&keys).await.unwrap(), expected);
}

/// A maximum never steps back, by the order of the bytes, and begins as what it is first told.
pub async fn facts_max_moves_only_forward(stage: &dyn Stage) {
    let store = stage.fresh().await;
    for (told, expected) in [
        (&[0, 0, 5][..], &[0, 0, 5][..]),
        (&[0, 0, 4], &[0, 0, 5]),
        (&[0, 0], &[0, 0, 5]),
        (&[0, 0, 5, 0], &[0, 0, 5, 0]),
        (&[0, 255], &[0, 255]),
        (&[128, 0], &[128, 0]),
        (&[127, 255], &[128, 0]),
    ] {
        set(&*store, vec![max_of("cursor", told)]).await;
        assert_eq!(value(&*store, "cursor").await.as_deref(), Some(expected), "told {told:?}");
    }
    let store = stage.reopen(store).await;
    set(&*store, vec![max_of("cursor", &[1]), max_of("empty", b"")]).await;
    assert_eq!(value(&*store, "cursor").await.as_deref(), Some(&[128, 0][..]));
    assert_eq!(value(&*store, "empty").await, Some(Bytes::new()));
}

/// A deleted fact is no more; deleting nothing is fine.
pub async fn facts_are_deleted(stage: &dyn Stage) {
    let store = stage.fresh().await;
    set(&*store, vec![set_to("a", "1"), set_to("b", "2")]).await;
    let delete = |name| FactWrite::Delete(fact("", SPACE, name));
    set(&*store, vec![delete("a"), delete("none")]).await;
    assert_eq!((value(&*store, "a").await, value(&*store, "b").await), (None, Some(text("2"))));
    assert_eq!(names(&scan(&*store, b"", None, 10).await), [b"b"]);
    set(&*store, vec![max_of("a", b"0")]).await;
    assert_eq!(value(&*store, "a").await, Some(text("0")));
}

/// Each write of a batch sees those before it.
pub async fn facts_of_one_batch_are_done_in_their_order(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let delete = |name| FactWrite::Delete(fact("", SPACE, name));
    set(
        &*store,
        vec![
            set_to("a", "5"),
            max_of("a", b"3"),
            max_of("b", b"3"),
            max_of("b", b"5"),
            set_to("b", "4"),
            set_to("c", "9"),
            delete("c"),
            max_of("c", b"1"),
            set_to("d", "1"),
            delete("d"),
        ],
    )
    .await;
    let keys = ["a", "b", "c", "d"].map(|name| fact("", SPACE, name));
    let expected = [Some(text("5")), Some(text("4")), Some(text("1")), None];
    assert_eq!(store.facts(&keys).await.unwrap(), expected);
}

/// The limits are inclusive.
pub async fn facts_have_their_largest_sizes(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let name: Bytes = (0..FACT_NAME_BYTES_MAX).map(|n| (n % 256) as u8).collect();
    let key = FactKey { tenant: "tenant".into(), space: SPACE, name: name.clone() };
    let large: Bytes = (0..FACT_VALUE_BYTES_MAX).map(|n| (n % 251) as u8).collect();
    set(&*store, vec![FactWrite::Set(key.clone(), large.clone())]).await;
    assert_eq!(store.facts(&[key]).await.unwrap(), [Some(large.clone())]);
    let page = store.scan("tenant", SPACE, &name[..100], None, 10).await.unwrap();
    assert_eq!(page.facts, [Fact { name, value: large }]);
}

/// A family is read in the byte order of its names, which may be any bytes.
pub async fn facts_are_scanned_in_the_order_of_their_bytes(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let sorted: [&[u8]; 11] =
        [b"", &[0], &[0, 0], &[0, 1], &[0, 255], &[1], b"A", b"a", b"aa", &[255], &[255, 255]];
    let key = |name: &[u8]| FactKey { name: Bytes::copy_from_slice(name), ..fact("", SPACE, "") };
    for name in [5, 2, 9, 0, 10, 7, 1, 3, 8, 4, 6].map(|index: usize| sorted[index]) {
        set(&*store, vec![FactWrite::Set(key(name), Bytes::copy_from_slice(name))]).await;
    }
    let page = scan(&*store, b"", None, 100).await;
    assert_eq!(names(&page), sorted);
    assert!(!page.more);
    assert!(page.facts.iter().all(|fact| fact.name == fact.value));
    for (index, name) in sorted.iter().enumerate() {
        let rest = scan(&*store, b"", Some(name), 100).await;
        assert_eq!(names(&rest), sorted[index + 1..], "after {name:?}");
    }
}

/// A prefix is bytes, not a pattern, and the last byte of it may be 255.
pub async fn facts_are_scanned_by_prefix(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let all: [&[u8]; 9] = [b"a", b"a%", b"a%b", b"a*", b"ab", b"b", &[254, 255], &[255, 255], &[255, 255, 0]];
    let key = |name: &[u8]| FactKey { name: Bytes::copy_from_slice(name), ..fact("", SPACE, "") };
    set(&*store, all.iter().map(|name| FactWrite::Set(key(name), text("x"))).collect()).await;
    for (prefix, expected) in [
        (&b"a"[..], &all[..5]),
        (b"a%", &all[1..3]),
        (b"a*", &all[3..4]),
        (b"c", &[]),
        (&[254], &all[6..7]),
        (&[255], &all[7..]),
        (&[255, 255], &all[7..]),
        (&[255, 255, 0], &all[8..]),
    ] {
        assert_eq!(names(&scan(&*store, prefix, None, 100).await), expected, "prefix {prefix:?}");
    }
    assert_eq!(names(&scan(&*store, b"a", Some(b"a%"), 100).await), all[2..5]);
    assert_eq!(names(&scan(&*store, b"b", Some(b"a"), 100).await), [b"b"]);
    assert_eq!(scan(&*store, b"a", Some(b"b"), 100).await, FactPage::default());
}

/// Pages join without gap or repeat, and the last one says that it is the last.
pub async fn facts_are_scanned_page_by_page(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let expected: Vec<_> = (0..25).map(|n| format!("p{n:03}")).collect();
    let other = |space, tenant| FactWrite::Set(fact(tenant, space, "p999"), text("x"));
    let mut writes: Vec<_> = expected.iter().map(|name| set_to(name, "x")).collect();
    writes.extend([other(OTHER_SPACE, ""), other(SPACE, "t"), set_to("q", "x")]);
    set(&*store, writes).await;
    for (size, pages) in [(1, 25), (5, 5), (10, 3), (25, 1), (100, 1)] {
        let (mut read, mut after, mut count) = (Vec::new(), None::<Bytes>, 0);
        loop {
            let page = scan(&*store, b"p", after.as_deref(), size).await;
            count += 1;
            assert!(page.facts.len() <= size);
            after = page.facts.last().map(|fact| fact.name.clone());
            read.extend(page.facts.into_iter().map(|fact| String::from_utf8(fact.name.to_vec()).unwrap()));
            if !page.more {
                break;
            }
        }
        assert_eq!((read, count), (expected.clone(), pages), "pages of {size}");
    }
}

/// A log and the facts beside it are two things.
pub async fn facts_stay_when_their_log_is_dropped(stage: &dyn Stage) {
    let store = stage.fresh().await;
    put(&*store, &log("room"), records(1..=1)).await;
    set(&*store, vec![set_to("room", "topic")]).await;
    store.drop_log(&log("room")).await.unwrap();
    assert_eq!(value(&*store, "room").await, Some(text("topic")));
}

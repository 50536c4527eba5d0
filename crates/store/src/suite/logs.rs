//! Facts about logs: appending, reading, replacing, trimming, dropping, restoring.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::limits::{FACT_NAME_BYTES_MAX, FACT_VALUE_BYTES_MAX, KEY_BYTES_MAX};
use crate::{Replace, Retention, StoreError};

fn stored(offset: u64, ordinal: u64, record: &Record) -> Stored {
    Stored {
        offset,
        ordinal,
        id: record.id,
        author: record.author.clone(),
        ts: record.ts,
        payload: record.payload.clone(),
    }
}

fn replacing(log: &LogKey, replaces: Vec<Replace>) -> Append {
    Append { log: log.clone(), epoch: EPOCH, records: Vec::new(), replaces, fence: None }
}

fn replace(offset: u64, author: &str, payload: &str) -> Replace {
    Replace { offset, author: author.into(), payload: text(payload), was: None }
}

/// Offsets begin at one and have no holes, within a batch and from one to the next.
pub async fn offsets_begin_at_one_and_have_no_holes(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let first = put(&*store, &log, records(1..=3)).await;
    let outcomes: Vec<_> = (1..=3).map(|n| first_outcome(n, &record(n))).collect();
    assert_eq!(first.outcomes, outcomes);
    assert_eq!((first.epoch, first.state.first, first.state.head, first.state.ordinal), (EPOCH, 1, 3, 3));
    let second = put(&*store, &log, records(4..=5)).await;
    assert_eq!(second.outcomes.iter().map(|outcome| outcome.offset).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(offsets(&all(&*store, &log).await), [1, 2, 3, 4, 5]);
    assert_eq!(state(&*store, &log).await, Some(second.state));
}

/// Several appends to one log in one batch are done in their order, also between appends to others.
pub async fn several_appends_to_one_log_in_one_batch_follow_each_other(stage: &dyn Stage) {
    let (store, log, other) = (stage.fresh().await, log("room"), log("other"));
    let batch = appends(vec![
        append(&log, records(1..=2)),
        append(&other, records(10..=10)),
        append(&log, records(3..=4)),
        append(&log, records(5..=5)),
    ]);
    let answers = store.commit(&batch).await.unwrap();
    let heads: Vec<_> = answers.iter().map(|answer| answer.state.head).collect();
    assert_eq!(answers.iter().map(|answer| answer.outcomes.len()).collect::<Vec<_>>(), [2, 1, 2, 1]);
    assert_eq!(heads, [2, 1, 4, 5]);
    let expected: Vec<_> = (1..=5).map(|n| stored(n, n, &record(n))).collect();
    assert_eq!(all(&*store, &log).await, expected);
}

/// Each log of a batch has its own offsets.
pub async fn logs_of_one_batch_are_independent(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let rooms: Vec<_> = (0..40).map(|n| log(&format!("room {n}"))).collect();
    let batch = appends(rooms.iter().map(|log| append(log, records(1..=2))).collect());
    for (answer, log) in store.commit(&batch).await.unwrap().iter().zip(&rooms) {
        assert_eq!(answer.state.head, 2, "{log}");
        assert_eq!(offsets(&all(&*store, log).await), [1, 2], "{log}");
    }
}

/// Every field of a record is read as it was appended: odd bytes, no bytes, times before 1970, any id.
pub async fn records_come_back_as_they_were(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let odd = vec![
        Record { payload: Bytes::from_static(&[0, 255, 10, 13, 0, 128]), ..record(1) },
        Record { payload: Bytes::new(), author: EcoString::new(), ..record(2) },
        Record { id: u128::MAX, author: "Ünïcode \u{1F980} %*'\"\\".into(), ..record(3) },
        Record { id: 0, ts: -1, ..record(4) },
        Record { ts: i64::MAX / 2, counted: false, key: Some(Bytes::from_static(&[0, 255, 0])), ..record(5) },
    ];
    put(&*store, &log, odd.clone()).await;
    let ordinals = [1, 2, 3, 4, 4];
    let expected: Vec<_> =
        odd.iter().zip(1..).map(|(record, n)| stored(n, ordinals[n as usize - 1], record)).collect();
    assert_eq!(all(&*store, &log).await, expected);
}

/// An ordinal is the number of counted records up to the record, itself included.
pub async fn ordinals_count_only_what_counts(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let counted = |n: u64| Record { counted: n.is_multiple_of(2), ..record(n) };
    let first = put(&*store, &log, (1..=5).map(counted).collect()).await;
    assert_eq!(first.outcomes.iter().map(|outcome| outcome.ordinal).collect::<Vec<_>>(), [0, 1, 1, 2, 2]);
    let second = put(&*store, &log, (6..=7).map(counted).collect()).await;
    assert_eq!(second.state.ordinal, 3);
    let read: Vec<_> = all(&*store, &log).await.iter().map(|record| record.ordinal).collect();
    assert_eq!(read, [0, 1, 1, 2, 2, 3, 3]);
}

/// The first append gives a log its epoch; what later ones say is passed over.
pub async fn epoch_is_given_by_the_first_append_and_kept(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let with_epoch = |epoch, n| appends(vec![Append { epoch, ..append(&log, records(n..=n)) }]);
    let large = u64::MAX - 1;
    for (epoch, n) in [(large, 1), (5, 2), (0xffff, 3)] {
        let answer = store.commit(&with_epoch(epoch, n)).await.unwrap();
        assert_eq!((answer[0].epoch, answer[0].state.epoch, answer[0].state.head), (large, large, n));
    }
    assert_eq!(read(&*store, &log, whole(Direction::After(0))).await.state.epoch, large);
}

/// A log begins to exist with its first record, not with an append of none.
pub async fn append_without_records_makes_no_log(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    assert_eq!(store.commit(&Batch::default()).await.unwrap(), Vec::new());
    let answer = store.commit(&appends(vec![replacing(&log, vec![replace(1, "bob", "x")])])).await.unwrap();
    assert_eq!((answer[0].epoch, answer[0].state, answer[0].outcomes.len()), (0, LogState::default(), 0));
    assert_eq!(state(&*store, &log).await, None);
    assert_eq!(store.tenants().await.unwrap(), texts(&[]));
    let first = put(&*store, &log, records(1..=1)).await;
    let none = store.commit(&appends(vec![append(&log, Vec::new())])).await.unwrap();
    assert_eq!((none[0].epoch, none[0].state), (first.epoch, first.state));
}

/// A batch that breaks a limit anywhere does nothing at all.
pub async fn an_invalid_part_refuses_the_whole_batch(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let long_key = Record { key: Some(Bytes::from(vec![1; KEY_BYTES_MAX + 1])), ..record(2) };
    let long_name = FactKey { name: vec![1; FACT_NAME_BYTES_MAX + 1].into(), ..fact("", SPACE, "") };
    let long_value = Bytes::from(vec![1; FACT_VALUE_BYTES_MAX + 1]);
    let good = || append(&log, records(1..=1));
    let good_fact = FactWrite::Set(fact("", SPACE, "good"), text("good"));
    let bad = [
        appends(vec![good(), append(&log, vec![long_key])]),
        appends(vec![good(), Append { epoch: 0, ..append(&super::log("new"), records(2..=2)) }]),
        Batch {
            appends: vec![good()],
            facts: vec![good_fact.clone(), FactWrite::Delete(long_name)],
            not_after: None,
        },
        Batch {
            appends: vec![good()],
            facts: vec![good_fact, FactWrite::Set(fact("", SPACE, "x"), long_value)],
            not_after: None,
        },
        appends(vec![good(), Append { fence: Some(0), ..append(&log, records(2..=2)) }]),
    ];
    for batch in &bad {
        let answer = store.commit(batch).await;
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
    }
    assert_eq!(state(&*store, &log).await, None);
    assert_eq!(store.facts(&[fact("", SPACE, "good")]).await.unwrap(), [None]);
}

/// Forwards: what has a greater offset, the oldest first.
pub async fn ranges_go_forwards(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=6)).await;
    for (after, expected) in
        [(0, &[1, 2, 3, 4, 5, 6][..]), (3, &[4, 5, 6]), (5, &[6]), (6, &[]), (7, &[]), (u64::MAX, &[])]
    {
        let page = read(&*store, &log, whole(Direction::After(after))).await;
        assert_eq!(offsets(&page.records), expected, "after {after}");
        assert_eq!(page.state.head, 6);
    }
}

/// Backwards: what has a smaller offset, the newest first.
pub async fn ranges_go_backwards(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=6)).await;
    for (before, expected) in [
        (u64::MAX, &[6, 5, 4, 3, 2, 1][..]),
        (7, &[6, 5, 4, 3, 2, 1]),
        (6, &[5, 4, 3, 2, 1]),
        (2, &[1]),
        (1, &[]),
        (0, &[]),
    ] {
        let page = read(&*store, &log, whole(Direction::Before(before))).await;
        assert_eq!(offsets(&page.records), expected, "before {before}");
    }
}

/// At most so many records come.
pub async fn ranges_keep_their_record_bound(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=9)).await;
    let bounded = |direction, records_max| Range { records_max, ..whole(direction) };
    let forwards = read(&*store, &log, bounded(Direction::After(2), 3)).await;
    assert_eq!(offsets(&forwards.records), [3, 4, 5]);
    let backwards = read(&*store, &log, bounded(Direction::Before(u64::MAX), 3)).await;
    assert_eq!(offsets(&backwards.records), [9, 8, 7]);
    let none = read(&*store, &log, bounded(Direction::After(0), 0)).await;
    assert_eq!((none.records.len(), none.state.head), (0, 9));
}

/// At most so many payload bytes come, but the first record always does: a reader gets on.
pub async fn ranges_keep_their_byte_bound_but_give_the_first_record(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let sized = |n: u64| Record { payload: vec![n as u8; 100].into(), ..record(n) };
    put(&*store, &log, (1..=9).map(sized).collect()).await;
    let bounded = |direction, bytes_max| Range { bytes_max, ..whole(direction) };
    for (bytes_max, expected) in [(0, 1), (99, 1), (100, 1), (199, 1), (200, 2), (350, 3), (10_000, 9)] {
        let forwards = read(&*store, &log, bounded(Direction::After(0), bytes_max)).await;
        assert_eq!(offsets(&forwards.records), (1..=expected).collect::<Vec<_>>(), "{bytes_max} bytes");
        let backwards = read(&*store, &log, bounded(Direction::Before(u64::MAX), bytes_max)).await;
        assert_eq!(offsets(&backwards.records), (10 - expected..=9).rev().collect::<Vec<_>>());
    }
}

/// What does not exist is empty, and reading it does not make it.
pub async fn range_of_an_unknown_log_is_empty(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    assert_eq!(read(&*store, &log, whole(Direction::After(0))).await, Page::default());
    assert_eq!(read(&*store, &log, whole(Direction::Before(u64::MAX))).await, Page::default());
    assert_eq!(state(&*store, &log).await, None);
}

/// States answer the question at the same place.
pub async fn states_come_in_the_order_asked(stage: &dyn Stage) {
    let store = stage.fresh().await;
    put(&*store, &log("b"), records(1..=2)).await;
    put(&*store, &log("a"), records(3..=3)).await;
    let asked = [log("a"), log("none"), log("b"), log("a")];
    let heads: Vec<_> =
        store.states(&asked).await.unwrap().iter().map(|state| state.map(|state| state.head)).collect();
    assert_eq!(heads, [Some(1), None, Some(2), Some(1)]);
    assert_eq!(store.states(&[]).await.unwrap(), []);
}

/// A replaced record has another payload and author, and else is what it was; also one of the same append.
pub async fn replaces_change_payload_and_author_only(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=3)).await;
    let both = Append {
        records: records(4..=4),
        replaces: vec![replace(2, "", "gone"), replace(4, "bob", "four"), replace(2, "eve", "again")],
        ..append(&log, Vec::new())
    };
    let answer = store.commit(&appends(vec![both])).await.unwrap();
    assert_eq!((answer[0].outcomes.len(), answer[0].state.head, answer[0].state.ordinal), (1, 4, 4));
    let read = all(&*store, &log).await;
    let expected = |n: u64, author: &str, payload: &str| Stored {
        author: author.into(),
        payload: text(payload),
        ..stored(n, n, &record(n))
    };
    assert_eq!(read[0], stored(1, 1, &record(1)));
    assert_eq!(read[1], expected(2, "eve", "again"));
    assert_eq!(read[2], stored(3, 3, &record(3)));
    assert_eq!(read[3], expected(4, "bob", "four"));
}

/// A batch that is repeated does not undo what came after its first time.
pub async fn replaces_of_a_repeated_append_are_not_done_again(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=1)).await;
    let change = |n: u64, payload: &str| {
        let replaces = vec![replace(1, "eve", payload)];
        appends(vec![Append { records: records(n..=n), replaces, ..append(&log, Vec::new()) }])
    };
    store.commit(&change(2, "first")).await.unwrap();
    store.commit(&change(3, "second")).await.unwrap();
    let repeated = store.commit(&change(2, "first")).await.unwrap();
    assert!(repeated[0].outcomes[0].duplicate);
    assert_eq!(all(&*store, &log).await[0].payload, text("second"));
}

/// A replace of what is gone, or was never there, changes nothing and makes nothing.
pub async fn replaces_of_what_is_trimmed_or_not_yet_there_are_passed_over(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=4)).await;
    let before = store.trim(&log, Retention { records_max: 2, ..Retention::default() }, START).await.unwrap();
    let replaces = [0, 1, 2, 5, u64::MAX].map(|offset| replace(offset, "eve", "wrong")).to_vec();
    let answer = store.commit(&appends(vec![replacing(&log, replaces)])).await.unwrap();
    assert_eq!(answer[0].state, before);
    let expected: Vec<_> = (3..=4).map(|n| stored(n, n, &record(n))).collect();
    assert_eq!(all(&*store, &log).await, expected);
    put(&*store, &log, records(5..=5)).await;
    assert_eq!(all(&*store, &log).await[2], stored(5, 5, &record(5)));
}

/// Of too many records the oldest go.
pub async fn trim_by_count_keeps_the_newest(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=10)).await;
    let keep = Retention { records_max: 4, ..Retention::default() };
    let trimmed = store.trim(&log, keep, START).await.unwrap();
    assert_eq!((trimmed.epoch, trimmed.first, trimmed.head, trimmed.ordinal), (EPOCH, 7, 10, 10));
    assert_eq!(state(&*store, &log).await, Some(trimmed));
    assert_eq!(offsets(&all(&*store, &log).await), [7, 8, 9, 10]);
    let backwards = read(&*store, &log, whole(Direction::Before(9))).await;
    assert_eq!(offsets(&backwards.records), [8, 7]);
    assert_eq!(store.trim(&log, keep, START).await.unwrap(), trimmed);
    put(&*store, &log, records(11..=11)).await;
    assert_eq!(offsets(&all(&*store, &log).await), [7, 8, 9, 10, 11]);
}

/// Of too many bytes the oldest records go. Bytes are kept "about", so the bound has a margin here.
pub async fn trim_by_bytes_keeps_the_newest(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let sized = |n: u64| Record { payload: vec![b'x'; 10_000].into(), ..record(n) };
    let answer = put(&*store, &log, (1..=10).map(sized).collect()).await;
    assert!((100_000..110_000).contains(&answer.state.bytes), "{} bytes", answer.state.bytes);
    let keep = Retention { bytes_max: 35_000, ..Retention::default() };
    let trimmed = store.trim(&log, keep, START).await.unwrap();
    assert_eq!((trimmed.first, trimmed.head), (8, 10));
    assert!((30_000..=35_000).contains(&trimmed.bytes), "{} bytes", trimmed.bytes);
    let smaller = Append { replaces: (8..=10).map(|n| replace(n, "", "")).collect(), ..append(&log, vec![]) };
    let answer = store.commit(&appends(vec![smaller])).await.unwrap();
    assert!(answer[0].state.bytes < 5_000, "replaced payloads count as they are now");
}

/// What is older than the limit goes; what is exactly that old stays. A young record keeps what is behind it.
pub async fn trim_by_age_keeps_what_is_exactly_that_old(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=10)).await;
    let keep = Retention { age_max: Duration::from_millis(100), ..Retention::default() };
    assert_eq!(store.trim(&log, keep, START + 50).await.unwrap().first, 1);
    assert_eq!(store.trim(&log, keep, START + 103).await.unwrap().first, 3);
    assert_eq!(offsets(&all(&*store, &log).await), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(store.trim(&log, keep, START + 50).await.unwrap().first, 3);
}

/// Zero is no limit.
pub async fn trim_without_limits_keeps_everything(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let answer = put(&*store, &log, records(1..=3)).await;
    let trimmed = store.trim(&log, Retention::default(), i64::MAX).await.unwrap();
    assert_eq!(trimmed, answer.state);
    assert_eq!(all(&*store, &log).await.len(), 3);
}

/// A log without records is still that log: epoch, offsets and ordinals go on, also after reopening.
pub async fn trim_to_nothing_then_append_goes_on(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=5)).await;
    let keep = Retention { age_max: Duration::from_millis(1), ..Retention::default() };
    let empty = store.trim(&log, keep, START + 1_000_000).await.unwrap();
    assert_eq!(empty, LogState { epoch: EPOCH, first: 6, head: 5, ordinal: 5, bytes: 0 });
    assert_eq!(read(&*store, &log, whole(Direction::After(0))).await, Page { state: empty, records: vec![] });
    assert_eq!(read(&*store, &log, whole(Direction::Before(u64::MAX))).await.records, []);
    let store = stage.reopen(store).await;
    assert_eq!(state(&*store, &log).await, Some(empty));
    let other_epoch = Append { epoch: 99, ..append(&log, records(6..=6)) };
    let answer = store.commit(&appends(vec![other_epoch])).await.unwrap();
    assert_eq!(answer[0].outcomes, [first_outcome(6, &record(6))]);
    assert_eq!((answer[0].state.epoch, answer[0].state.first, answer[0].state.head), (EPOCH, 6, 6));
    assert_eq!(offsets(&all(&*store, &log).await), [6]);
}

/// Trimming what does not exist makes nothing.
pub async fn trim_of_an_unknown_log_makes_none(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let keep = Retention { records_max: 1, ..Retention::default() };
    assert_eq!(store.trim(&log, keep, START).await.unwrap(), LogState::default());
    assert_eq!(state(&*store, &log).await, None);
}

/// A dropped log does not exist; the next record begins another one, and nothing of the first shows through.
pub async fn drop_log_begins_a_new_epoch(stage: &dyn Stage) {
    let (store, log, other) = (stage.fresh().await, log("room"), log("room2"));
    put(&*store, &log, records(1..=5)).await;
    put(&*store, &other, records(1..=2)).await;
    store.drop_log(&log).await.unwrap();
    store.drop_log(&super::log("never was")).await.unwrap();
    assert_eq!(state(&*store, &log).await, None);
    assert_eq!(all(&*store, &log).await, []);
    let store = stage.reopen(store).await;
    let again = Append { epoch: 8, ..append(&log, records(9..=9)) };
    let answer = store.commit(&appends(vec![again])).await.unwrap();
    let outcome = Outcome { ordinal: 1, ..first_outcome(1, &record(9)) };
    assert_eq!((answer[0].epoch, &answer[0].outcomes), (8, &vec![outcome]));
    assert_eq!(all(&*store, &log).await, [stored(1, 1, &record(9))]);
    assert_eq!(offsets(&all(&*store, &other).await), [1, 2]);
}

/// A payload of a mebibyte is one like any other.
pub async fn large_payloads_come_back_whole(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let mut random = fastrand::Rng::with_seed(1);
    let mut large = |n: u64| {
        let payload: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
        Record { payload: payload.into(), ..record(n) }
    };
    let records: Vec<_> = (1..=3).map(&mut large).collect();
    put(&*store, &log, records.clone()).await;
    let store = stage.reopen(store).await;
    let expected: Vec<_> = records.iter().zip(1..).map(|(record, n)| stored(n, n, record)).collect();
    assert!(all(&*store, &log).await == expected, "a large payload changed");
}

/// What was committed is there after closing and opening, and so is what was trimmed away not.
pub async fn everything_is_there_after_reopening(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=20)).await;
    let keep = Retention { records_max: 15, ..Retention::default() };
    let trimmed = store.trim(&log, keep, START).await.unwrap();
    set(&*store, vec![FactWrite::Set(fact("t", SPACE, "name"), text("value"))]).await;
    let records = all(&*store, &log).await;
    let store = stage.reopen(store).await;
    assert_eq!(state(&*store, &log).await, Some(trimmed));
    assert_eq!(all(&*store, &log).await, records);
    assert_eq!(store.facts(&[fact("t", SPACE, "name")]).await.unwrap(), [Some(text("value"))]);
    assert_eq!(put(&*store, &log, super::records(21..=21)).await.state.head, 21);
}

/// A store that is well says so, and what it survives.
pub async fn health_is_writable_and_says_what_it_survives(stage: &dyn Stage) {
    let health = stage.fresh().await.health().await.unwrap();
    assert!(health.writable, "{health:?}");
    assert!(!health.durability.is_empty());
}

/// A store that was only used well has no problems, and everything is counted.
pub async fn verify_finds_nothing_wrong(stage: &dyn Stage) {
    let store = stage.fresh().await;
    put(&*store, &log("a"), vec![keyed(1, "k1"), keyed(2, "k2"), record(3)]).await;
    put(&*store, &log_of("t", "b"), records(4..=8)).await;
    set(&*store, vec![FactWrite::Set(fact("t", SPACE, "name"), text("value"))]).await;
    let keep = Retention { records_max: 2, ..Retention::default() };
    store.trim(&log("a"), keep, START).await.unwrap();
    let report = store.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.logs, report.records, report.facts), (2, 7, 1));
}

/// Giving space back gives nothing away.
pub async fn compact_loses_nothing(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    fill(&*store, &log, 1..=2_000).await;
    let keep = Retention { records_max: 500, ..Retention::default() };
    store.trim(&log, keep, START).await.unwrap();
    let before = all(&*store, &log).await;
    store.compact().await.unwrap();
    assert_eq!(all(&*store, &log).await, before);
    assert_eq!(put(&*store, &log, vec![record(1), record(2_001)]).await.outcomes[0].offset, 1);
    assert_eq!(all(&*store, &log).await.len(), 501);
}

/// An imported log is the exported one: offsets, ordinals, ids and times, and it goes on from there.
pub async fn restore_puts_records_back_where_they_were(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let start = LogState { epoch: 42, first: 0, head: 100, ordinal: 60, bytes: 0 };
    let old: Vec<_> = (101..=106).map(|n| stored(n, 60 + (n - 99) / 2, &record(n))).collect();
    let middle = store.restore(&log, start, &old[..4]).await.unwrap();
    assert_eq!((middle.epoch, middle.first, middle.head, middle.ordinal), (42, 101, 104, 62));
    let end = store.restore(&log, middle, &old[4..]).await.unwrap();
    assert_eq!((end.epoch, end.first, end.head, end.ordinal), (42, 101, 106, 63));
    let store = stage.reopen(store).await;
    assert_eq!(all(&*store, &log).await, old);
    let answer = put(&*store, &log, vec![record(103), record(107)]).await;
    let repeat = Outcome { ordinal: 62, duplicate: true, ..first_outcome(103, &record(103)) };
    let new = Outcome { ordinal: 64, ..first_outcome(107, &record(107)) };
    assert_eq!(answer.outcomes, [repeat, new]);
}

/// A log that was trimmed to nothing is imported as that.
pub async fn restore_of_an_empty_log_keeps_its_place(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let start = LogState { epoch: 42, first: 101, head: 100, ordinal: 60, bytes: 0 };
    assert_eq!(store.restore(&log, start, &[]).await.unwrap(), start);
    assert_eq!(state(&*store, &log).await, Some(start));
    let answer = put(&*store, &log, records(1..=1)).await;
    assert_eq!((answer.state.epoch, answer.state.head, answer.state.ordinal), (42, 101, 61));
}

/// An import into a log that is elsewhere, or with holes, is refused and changes nothing.
pub async fn restore_refuses_what_does_not_follow(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let there = put(&*store, &log, records(1..=2)).await.state;
    let next = |offset, ordinal| stored(offset, ordinal, &record(3));
    let wrong = [
        (LogState { epoch: 9, ..there }, vec![next(3, 3)]),
        (LogState { head: 1, ..there }, vec![next(2, 3)]),
        (there, vec![next(4, 3)]),
        (there, vec![next(3, 5)]),
        (there, vec![next(3, 1)]),
        (there, vec![next(3, 3), next(5, 4)]),
        (LogState { epoch: 0, ..there }, vec![]),
    ];
    for (start, records) in wrong {
        let answer = store.restore(&log, start, &records).await;
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
    }
    assert_eq!(state(&*store, &log).await, Some(there));
}

//! Facts about records that come twice.

use std::time::Duration;

use super::*;
use crate::Retention;
use crate::limits::{REMEMBERED_MS, REMEMBERED_RECORDS};

fn keep_nothing() -> Retention {
    Retention { age_max: Duration::from_millis(1), ..Retention::default() }
}

/// A key that is in its log appends nothing and is answered with the first record's outcome.
pub async fn a_repeated_key_appends_nothing(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let first = put(&*store, &log, vec![keyed(1, "k"), keyed(2, "other")]).await;
    let again = put(&*store, &log, vec![keyed(3, "k"), keyed(4, "third")]).await;
    assert_eq!(again.outcomes[0], repeated(&first.outcomes)[0]);
    assert_eq!((again.outcomes[1].offset, again.outcomes[1].duplicate), (3, false));
    assert_eq!(all(&*store, &log).await.len(), 3);
}

/// An id that is in its log appends nothing, whatever the key says.
pub async fn a_repeated_id_appends_nothing(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let first = put(&*store, &log, vec![record(1), keyed(2, "k")]).await;
    let again = put(&*store, &log, vec![keyed(1, "new key"), record(2)]).await;
    assert_eq!(again.outcomes, repeated(&first.outcomes));
    assert_eq!(again.state, first.state);
}

/// The same holds between the records of one append and the appends of one batch.
pub async fn repeats_within_one_batch_append_nothing(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let batch = appends(vec![
        append(&log, vec![keyed(1, "a"), keyed(2, "a"), record(1), record(3)]),
        append(&log, vec![record(3), keyed(4, "a"), keyed(5, "b")]),
    ]);
    let answers = store.commit(&batch).await.unwrap();
    let shown = |index: usize| -> Vec<(u64, bool)> {
        answers[index].outcomes.iter().map(|outcome| (outcome.offset, outcome.duplicate)).collect()
    };
    assert_eq!(shown(0), [(1, false), (1, true), (1, true), (2, false)]);
    assert_eq!(shown(1), [(2, true), (1, true), (3, false)]);
    assert_eq!(answers[0].outcomes[1].id, record(1).id);
    assert_eq!(offsets(&all(&*store, &log).await), [1, 2, 3]);
}

/// Another log, of the same tenant or another, knows nothing of a key or an id.
pub async fn repeats_are_known_across_logs_only_by_their_own_log(stage: &dyn Stage) {
    let store = stage.fresh().await;
    for log in [log("a"), log("b"), log_of("a", "a"), log_of("a", "b")] {
        let answer = put(&*store, &log, vec![keyed(1, "k")]).await;
        assert_eq!(answer.outcomes, [first_outcome(1, &record(1))], "{log}");
    }
}

/// Reopening forgets nothing.
pub async fn repeats_are_known_after_reopening(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let first = put(&*store, &log, vec![keyed(1, "k"), record(2)]).await;
    let store = stage.reopen(store).await;
    let again = put(&*store, &log, vec![keyed(3, "k"), record(2)]).await;
    assert_eq!(again.outcomes, repeated(&first.outcomes));
}

/// Trimming forgets the record, not that it was there; also after reopening and compacting.
pub async fn repeats_are_known_after_trimming(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let uncounted = Record { counted: false, ..keyed(4, "uncounted") };
    let first = put(&*store, &log, vec![keyed(1, "k"), record(2), record(3), uncounted.clone()]).await;
    store.trim(&log, Retention { records_max: 3, ..Retention::default() }, START).await.unwrap();
    store.trim(&log, keep_nothing(), START + 1_000).await.unwrap();
    let again = vec![keyed(9, "k"), record(2), record(3), uncounted];
    assert_eq!(put(&*store, &log, again.clone()).await.outcomes, repeated(&first.outcomes));
    store.compact().await.unwrap();
    let store = stage.reopen(store).await;
    let answer = put(&*store, &log, again).await;
    assert_eq!(answer.outcomes, repeated(&first.outcomes));
    assert_eq!((answer.state.first, answer.state.head), (5, 4));
}

/// Ten thousand records back is remembered however long ago that was, trimmed or not.
pub async fn repeats_are_known_ten_thousand_records_later(stage: &dyn Stage) {
    for trimmed in [false, true] {
        let (store, log) = (stage.fresh().await, log("room"));
        let old = START - 30 * REMEMBERED_MS;
        let oldest = [Record { ts: old, ..keyed(1, "k") }, Record { ts: old, ..keyed(2, "k2") }];
        let first = put(&*store, &log, oldest.to_vec()).await;
        fill(&*store, &log, 3..=REMEMBERED_RECORDS + 1).await;
        if trimmed {
            let keep = Retention { records_max: 100, ..Retention::default() };
            store.trim(&log, keep, START).await.unwrap();
        }
        let again = vec![keyed(900_000, "k"), record(2), record(REMEMBERED_RECORDS)];
        let answer = put(&*store, &log, again).await;
        assert_eq!(answer.outcomes[..2], repeated(&first.outcomes), "trimmed: {trimmed}");
        assert_eq!(answer.outcomes[2].offset, REMEMBERED_RECORDS);
        assert_eq!(answer.state.head, REMEMBERED_RECORDS + 1);
    }
}

/// Five minutes ago is remembered however many records came since, trimmed or not.
pub async fn repeats_are_known_five_minutes_later(stage: &dyn Stage) {
    let last = REMEMBERED_RECORDS + 2_500;
    for trimmed in [false, true] {
        let (store, log) = (stage.fresh().await, log("room"));
        let first = put(&*store, &log, vec![keyed(1, "k"), Record { ts: START + 1, ..record(2) }]).await;
        fill(&*store, &log, 3..=last).await;
        if trimmed {
            let keep = Retention { records_max: 1, ..Retention::default() };
            store.trim(&log, keep, START).await.unwrap();
        }
        let late = START + 1 + REMEMBERED_MS;
        let new = Record { ts: late, ..record(last + 1) };
        let again = vec![
            new,
            Record { ts: late, ..keyed(900_000, "k") },
            Record { ts: late, ..record(2) },
            Record { ts: late, ..record(2_000) },
        ];
        let answer = put(&*store, &log, again).await;
        assert_eq!(answer.outcomes[1..3], repeated(&first.outcomes), "trimmed: {trimmed}");
        assert_eq!((answer.outcomes[3].offset, answer.outcomes[3].duplicate), (2_000, true));
        assert_eq!(answer.state.head, last + 1);
    }
}

/// Ids need not grow with the offsets: clocks of several nodes differ, and step back.
pub async fn repeats_are_known_when_ids_come_in_any_order(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let ids = [500, 400, 600, 100, 601, 599, 0, 700, 650, u64::MAX >> 1, 5, 710];
    let with_id = |id: u64| Record { id: u128::from(id), ..record(1) };
    let mut first = Vec::new();
    for id in ids {
        first.extend(put(&*store, &log, vec![with_id(id)]).await.outcomes);
    }
    assert_eq!(first.iter().map(|outcome| outcome.offset).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    let again: Vec<_> = ids.into_iter().map(with_id).collect();
    assert_eq!(put(&*store, &log, again.clone()).await.outcomes, repeated(&first));
    store.trim(&log, Retention { records_max: 4, ..Retention::default() }, START).await.unwrap();
    let store = stage.reopen(store).await;
    assert_eq!(put(&*store, &log, again.clone()).await.outcomes, repeated(&first));
    store.trim(&log, keep_nothing(), START + 1_000).await.unwrap();
    assert_eq!(put(&*store, &log, again).await.outcomes, repeated(&first));
    let between = put(&*store, &log, [450, 1, 605, 705].map(with_id).to_vec()).await;
    assert_eq!(between.outcomes.iter().filter(|outcome| outcome.duplicate).count(), 0);
    assert_eq!(between.state.head, 16);
}

/// A batch that was in doubt and is committed again is answered as a whole as it was the first time.
pub async fn a_repeated_batch_is_answered_as_the_first_time(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let batch = Batch {
        appends: vec![
            append(&log("a"), vec![keyed(1, "x"), record(2)]),
            append(&log("b"), vec![Record { counted: false, ..keyed(3, "x") }]),
            append(&log("a"), vec![keyed(4, "y")]),
        ],
        facts: vec![FactWrite::Max(fact("", SPACE, "cursor"), text("5"))],
        not_after: None,
    };
    let first = store.commit(&batch).await.unwrap();
    for reopened in [false, true] {
        let store = if reopened { stage.reopen(store.clone()).await } else { store.clone() };
        let again = store.commit(&batch).await.unwrap();
        for (first, again) in first.iter().zip(&again) {
            assert_eq!(again.epoch, first.epoch);
            assert_eq!(again.outcomes, repeated(&first.outcomes));
        }
        let heads = store.states(&[log("a"), log("b")]).await.unwrap();
        assert_eq!(heads.iter().map(|state| state.unwrap().head).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(store.facts(&[fact("", SPACE, "cursor")]).await.unwrap(), [Some(text("5"))]);
        if reopened {
            break;
        }
    }
}

/// When only a part of a batch was done, the same batch again does the rest.
pub async fn a_partly_repeated_batch_appends_the_rest(stage: &dyn Stage) {
    let store = stage.fresh().await;
    let part = append(&log("a"), vec![keyed(1, "x"), record(2)]);
    let first = store.commit(&appends(vec![part.clone()])).await.unwrap();
    let answer = store.commit(&appends(vec![part, append(&log("b"), records(3..=4))])).await.unwrap();
    assert_eq!(answer[0].outcomes, repeated(&first[0].outcomes));
    assert_eq!(
        answer[1].outcomes.iter().map(|o| (o.offset, o.duplicate)).collect::<Vec<_>>(),
        [(1, false), (2, false)]
    );
}

/// A dropped log takes its memory with it.
pub async fn repeats_of_a_dropped_log_are_new(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, vec![keyed(1, "k"), record(2)]).await;
    store.drop_log(&log).await.unwrap();
    let answer = put(&*store, &log, vec![keyed(1, "k"), record(2)]).await;
    assert_eq!(answer.outcomes, [first_outcome(1, &record(1)), first_outcome(2, &record(2))]);
}

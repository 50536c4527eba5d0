//! Facts about several writers: the fence in time, conditions, and writing at the same time.

use super::*;
use crate::{Replace, Retention, StoreError};

/// Long before any store's clock.
const LONG_AGO: i64 = 1_000;

/// What the store's clock says, as it tells whoever is too late.
async fn clock(store: &dyn Store) -> i64 {
    let late = Batch {
        facts: vec![FactWrite::Delete(fact("", SPACE, "clock"))],
        not_after: Some(LONG_AGO),
        ..Batch::default()
    };
    match store.commit(&late).await {
        Err(StoreError::TooLate { now }) => now,
        other => panic!("it was written long after its time: {other:?}"),
    }
}

fn replacing(log: &LogKey, offset: u64, payload: &str, was: &Bytes) -> Append {
    let replace = Replace { offset, author: "eve".into(), payload: text(payload), was: Some(was.clone()) };
    Append { replaces: vec![replace], ..append(log, Vec::new()) }
}

fn note(value: &str) -> FactWrite {
    FactWrite::Set(fact("", SPACE, "note"), text(value))
}

async fn noted(store: &dyn Store) -> Option<Bytes> {
    store.facts(&[fact("", SPACE, "note")]).await.unwrap().remove(0)
}

/// Nothing is written after its time: no record beside repeated ones either, no replace, no fact, no log.
pub async fn batch_after_its_time_writes_nothing(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=2)).await;
    let was = record(1).payload;
    let late = [
        appends(vec![append(&log, records(3..=3))]),
        appends(vec![append(&log, records(2..=3))]),
        appends(vec![append(&log, records(1..=2)), append(&log, records(3..=3))]),
        appends(vec![append(&super::log("new"), records(1..=1))]),
        appends(vec![replacing(&log, 1, "changed", &was)]),
        facts_batch(vec![note("late")]),
        Batch { facts: vec![note("late")], ..appends(vec![append(&log, records(3..=3))]) },
    ];
    let before = clock(&*store).await;
    for batch in late {
        let batch = Batch { not_after: Some(LONG_AGO), ..batch };
        match store.commit(&batch).await {
            Err(StoreError::TooLate { now }) => assert!(now > LONG_AGO && now >= before - 1),
            other => panic!("{batch:?} was answered with {other:?}"),
        }
    }
    assert_eq!(all(&*store, &log).await.len(), 2);
    assert_eq!(all(&*store, &log).await[0].payload, was);
    assert_eq!(state(&*store, &super::log("new")).await, None);
    assert_eq!(noted(&*store).await, None);
    assert_eq!(store.logs("", None, 10).await.unwrap().logs.len(), 1);
}

/// The time is that of the store's own clock, which it tells.
pub async fn batch_in_its_time_is_written(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let not_after = Some(clock(&*store).await + 3_600_000);
    let batch =
        Batch { facts: vec![note("in time")], not_after, ..appends(vec![append(&log, records(1..=2))]) };
    let first = store.commit(&batch).await.unwrap();
    assert_eq!(first[0].state.head, 2);
    let was = record(1).payload;
    let change = Batch { not_after, ..appends(vec![replacing(&log, 1, "changed", &was)]) };
    store.commit(&change).await.unwrap();
    store.commit(&Batch { not_after, ..facts_batch(vec![note("again")]) }).await.unwrap();
    assert_eq!(all(&*store, &log).await[0].payload, text("changed"));
    assert_eq!(noted(&*store).await, Some(text("again")));
}

/// Whoever asks late what became of a batch is told, and nothing is done again.
pub async fn repeats_are_answered_after_their_time(stage: &dyn Stage) {
    let (store, log, other) = (stage.fresh().await, log("room"), log("other"));
    let replace = Replace { offset: 1, author: "eve".into(), payload: text("first"), was: None };
    let changing = Append { replaces: vec![replace], ..append(&log, vec![keyed(2, "k")]) };
    put(&*store, &log, records(1..=1)).await;
    let batch =
        Batch { facts: vec![note("first")], ..appends(vec![changing, append(&other, records(5..=6))]) };
    let first = store.commit(&batch).await.unwrap();
    let newer = Replace { offset: 1, author: "eve".into(), payload: text("newer"), was: None };
    let newer = Append { replaces: vec![newer], ..append(&log, Vec::new()) };
    store.commit(&Batch { facts: vec![note("newer")], ..appends(vec![newer]) }).await.unwrap();
    let late = Batch { not_after: Some(LONG_AGO), ..batch };
    let again = store.commit(&late).await.unwrap();
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((again.epoch, &again.outcomes), (first.epoch, &repeated(&first.outcomes)));
    }
    assert_eq!(all(&*store, &log).await[0].payload, text("newer"));
    assert_eq!(noted(&*store).await, Some(text("newer")));
    // By its key as well.
    let late = Batch { not_after: Some(LONG_AGO), ..appends(vec![append(&log, vec![keyed(9, "k")])]) };
    assert_eq!(store.commit(&late).await.unwrap()[0].outcomes, repeated(&first[0].outcomes));
}

/// Nothing at all is done where a record says something else than is expected.
pub async fn replace_of_what_says_otherwise_is_a_conflict(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let large = Record { payload: vec![7; 500_000].into(), ..record(3) };
    put(&*store, &log, vec![record(1), record(2), large]).await;
    let almost = Bytes::from([vec![7; 499_999], vec![8]].concat());
    for (offset, was) in [(1, &text("other")), (1, &Bytes::new()), (3, &almost)] {
        let change = Append { records: records(4..=4), ..replacing(&log, offset, "changed", was) };
        let batch = Batch { facts: vec![note("changed")], ..appends(vec![change]) };
        assert_eq!(store.commit(&batch).await, Err(StoreError::Conflict));
    }
    let right = record(2).payload;
    let mut both = replacing(&log, 2, "changed", &right);
    both.replaces.extend(replacing(&log, 1, "changed", &text("other")).replaces);
    assert_eq!(store.commit(&appends(vec![both])).await, Err(StoreError::Conflict));
    let read = all(&*store, &log).await;
    assert_eq!((read.len(), &read[0].payload, &read[1].payload), (3, &record(1).payload, &right));
    assert_eq!(noted(&*store).await, None);
    assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
}

/// A condition that holds holds up nothing, nor does one on a record that is trimmed; each is on what the record says now.
pub async fn replace_of_what_says_as_expected_is_done(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    let large = Record { payload: vec![7; 500_000].into(), ..record(3) };
    put(&*store, &log, vec![record(1), record(2), large.clone()]).await;
    for (offset, payload, was) in [
        (3, "third", large.payload.clone()),
        (2, "second", record(2).payload),
        (2, "", text("second")),
        (2, "again", Bytes::new()),
    ] {
        let change = replacing(&log, offset, payload, &was);
        let answer = store.commit(&appends(vec![change])).await.unwrap();
        assert_eq!(answer[0].state.head, 3);
    }
    store.trim(&log, Retention { records_max: 2, ..Retention::default() }, START).await.unwrap();
    let gone =
        Append { records: records(4..=4), ..replacing(&log, 1, "changed", &text("what it never said")) };
    assert_eq!(store.commit(&appends(vec![gone])).await.unwrap()[0].state.head, 4);
    let read: Vec<_> = all(&*store, &log).await.into_iter().map(|record| record.payload).collect();
    assert_eq!(read, [text("again"), text("third"), record(4).payload]);
    assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
}

/// A batch that was in doubt and is committed again finds what it replaced itself.
pub async fn replace_of_a_repeated_append_is_no_conflict(stage: &dyn Stage) {
    let (store, log) = (stage.fresh().await, log("room"));
    put(&*store, &log, records(1..=1)).await;
    let change = Append { records: records(2..=2), ..replacing(&log, 1, "changed", &record(1).payload) };
    let batch = appends(vec![change]);
    let first = store.commit(&batch).await.unwrap();
    assert_eq!(store.commit(&batch).await.unwrap()[0].outcomes, repeated(&first[0].outcomes));
    assert_eq!(all(&*store, &log).await[0].payload, text("changed"));
}

/// What is meant for one history is not done to another, and the rest of the batch goes on.
pub async fn append_to_a_log_of_another_epoch_is_fenced(stage: &dyn Stage) {
    let (store, log, other) = (stage.fresh().await, log("room"), log("other"));
    put(&*store, &log, records(1..=2)).await;
    let change = |fence| Append {
        fence: Some(fence),
        records: records(3..=3),
        ..replacing(&log, 1, "changed", &text("not what it says"))
    };
    let batch = Batch {
        facts: vec![note("goes on")],
        ..appends(vec![change(EPOCH + 1), append(&other, records(1..=1))])
    };
    let answers = store.commit(&batch).await.unwrap();
    assert!(answers[0].is_fenced(&batch.appends[0]) && !answers[1].is_fenced(&batch.appends[1]));
    assert_eq!((answers[0].epoch, answers[0].outcomes.len(), answers[0].state.head), (EPOCH, 0, 2));
    assert_eq!((answers[1].outcomes.len(), noted(&*store).await), (1, Some(text("goes on"))));
    assert_eq!(all(&*store, &log).await.len(), 2);

    store.drop_log(&log).await.unwrap();
    let answers = store.commit(&appends(vec![change(EPOCH)])).await.unwrap();
    assert_eq!(answers, [Appended::undone(LogState::default())]);
    assert_eq!(state(&*store, &log).await, None);

    put(&*store, &log, records(1..=1)).await;
    let known = Append { fence: Some(EPOCH), ..append(&log, records(2..=2)) };
    let answers = store.commit(&appends(vec![known.clone()])).await.unwrap();
    assert_eq!((answers[0].is_fenced(&known), answers[0].state.head), (false, 2));
    // Late or not: it writes nothing.
    let late = Batch { not_after: Some(LONG_AGO), ..appends(vec![change(EPOCH + 1)]) };
    assert!(store.commit(&late).await.unwrap()[0].is_fenced(&late.appends[0]));
}

/// Two stores of one place write to the same logs and facts, in opposite orders, and trim one of them meanwhile: each
/// commit is done, the offsets have no holes, and what one was answered nobody else was.
pub async fn two_writers_at_once_leave_no_hole(stage: &dyn Stage) {
    const BATCHES: u64 = 30;
    const ROOMS: [&str; 4] = ["a", "b", "c", "trimmed"];
    let store = stage.fresh().await;
    let Some(second) = stage.second(&store).await else { return };
    let writer = |store: Arc<dyn Store>, from: u64, backwards: bool| async move {
        let mut placed = Vec::new();
        for n in 0..BATCHES {
            let number = from + 2 * n;
            let mut rooms = ROOMS;
            if backwards {
                rooms.reverse();
            }
            let batch = Batch {
                appends: rooms.map(|room| append(&log(room), records(number..=number + 1))).to_vec(),
                facts: rooms
                    .map(|room| FactWrite::Max(fact("", SPACE, room), number.to_be_bytes().to_vec().into()))
                    .to_vec(),
                not_after: None,
            };
            let answers = store.commit(&batch).await.unwrap();
            for (room, answer) in rooms.iter().zip(answers) {
                placed.extend(answer.outcomes.iter().map(|outcome| {
                    assert!(!outcome.duplicate);
                    (*room, outcome.offset, outcome.id)
                }));
            }
            if n % 5 == 4 {
                let keep = Retention { records_max: 10, ..Retention::default() };
                store.trim(&log("trimmed"), keep, START).await.unwrap();
            }
        }
        placed
    };
    let writers = [writer(store.clone(), 1_000, false), writer(second.clone(), 2_000, true)];
    let writers = writers.map(tokio::spawn);
    let mut placed = Vec::new();
    for writer in writers {
        placed.extend(writer.await.unwrap());
    }
    placed.sort_unstable();
    let expected = ROOMS.iter().flat_map(|room| (1..=4 * BATCHES).map(move |offset| (*room, offset)));
    assert_eq!(
        placed.iter().map(|(room, offset, _)| (*room, *offset)).collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    for room in &ROOMS[..3] {
        let read: Vec<_> =
            all(&*second, &log(room)).await.iter().map(|record| (*room, record.offset, record.id)).collect();
        let answered: Vec<_> = placed.iter().filter(|(of, ..)| of == room).copied().collect();
        assert_eq!(read, answered);
    }
    let newest = 2_000 + 2 * (BATCHES - 1);
    assert_eq!(
        store.facts(&[fact("", SPACE, "a")]).await.unwrap(),
        [Some(newest.to_be_bytes().to_vec().into())]
    );
    assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
}

/// Each of two writers reads a record, adds a letter to it and writes it back unless it changed meanwhile: no letter is
/// lost.
pub async fn two_writers_that_change_one_record_lose_no_change(stage: &dyn Stage) {
    const CHANGES: usize = 25;
    let (store, room) = (stage.fresh().await, log("room"));
    let Some(second) = stage.second(&store).await else { return };
    put(&*store, &room, records(1..=1)).await;
    let writer = |store: Arc<dyn Store>, room: LogKey, letter: &'static str| async move {
        let mut left = CHANGES;
        while left > 0 {
            let was = all(&*store, &room).await.remove(0).payload;
            let becomes = format!("{}{letter}", str::from_utf8(&was).unwrap());
            match store.commit(&appends(vec![replacing(&room, 1, &becomes, &was)])).await {
                Ok(_) => left -= 1,
                Err(error) => assert_eq!(error, StoreError::Conflict),
            }
        }
    };
    let writers = [writer(store.clone(), room.clone(), "A"), writer(second, room.clone(), "B")];
    for writer in writers.map(tokio::spawn) {
        writer.await.unwrap();
    }
    let read = all(&*store, &room).await.remove(0).payload;
    for letter in [b'A', b'B'] {
        assert_eq!(read.iter().filter(|byte| **byte == letter).count(), CHANGES);
    }
}

//! What comes, whole and in which order.

use bytes::Bytes;

use super::{Follower, Stage, connected, expect_numbers, message, number, numbered, outgoing, publish};
use super::{to_number, topic, until, within};
use crate::contract::FEED_LEN;
use crate::{Arrival, BusError, Outgoing, feed};

/// Somebody edits a message, and the old text stays on half of the screens.
pub async fn messages_of_one_topic_come_in_their_order(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(std::slice::from_ref(&room), &outlet)).await.unwrap();
    for n in 0..100 {
        publish(&*here, &numbered(&room, n * 10..n * 10 + 1 + n % 10)).await;
        expect_numbers(&mut feed, &room, n * 10..n * 10 + 1 + n % 10).await;
    }
}

/// Two nodes write to a room at once.
pub async fn messages_of_two_publishers_come_each_in_their_order(stage: &mut dyn Stage) {
    let (there, (outlet, mut feed)) = (connected(stage).await, feed());
    let room = topic("room/x");
    within("subscribed", there.subscribe(std::slice::from_ref(&room), &outlet)).await.unwrap();
    let mut publishing = Vec::new();
    for publisher in 0..3_u64 {
        let (bus, room) = (connected(stage).await, room.clone());
        publishing.push(tokio::spawn(async move {
            for batch in 0..20 {
                let first = publisher * 1_000_000 + batch * 50;
                publish(&*bus, &numbered(&room, first..first + 50)).await;
            }
        }));
    }
    let mut next = [0, 1_000_000, 2_000_000];
    for _ in 0..3000 {
        let got = to_number(&message(&mut feed).await.1);
        let expected = &mut next[(got / 1_000_000) as usize];
        assert_eq!(got, *expected);
        *expected += 1;
    }
    for publishing in publishing {
        publishing.await.unwrap();
    }
}

/// A batch is larger than what the service takes at once, and has topics that come again and topics that do not.
pub async fn batches_of_thousands_come_in_their_order(stage: &mut dyn Stage) {
    const TOPICS: u64 = 7;
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let topics: Vec<_> = (0..TOPICS).map(|n| topic(format!("room/{n}"))).collect();
    within("subscribed", there.subscribe(&topics, &outlet)).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let batch: Vec<Outgoing> =
        (0..5000).map(|n| outgoing(&topics[random.usize(..topics.len())], number(n))).collect();
    let publishing = tokio::spawn({
        let batch = batch.clone();
        async move { publish(&*here, &batch).await }
    });
    let mut last = [None; TOPICS as usize];
    for _ in 0..batch.len() {
        let (from, payload) = message(&mut feed).await;
        let got = to_number(&payload);
        assert_eq!(batch[got as usize].topic, from);
        let last = &mut last[topics.iter().position(|topic| *topic == from).unwrap()];
        assert!(*last < Some(got), "{from}: {got} after {last:?}");
        *last = Some(got);
    }
    publishing.await.unwrap();
}

/// Nothing is a batch, too.
pub async fn an_empty_batch_is_published(stage: &mut dyn Stage) {
    publish(&*connected(stage).await, &[]).await;
}

/// A message of no bytes is one; so is one of as many as may be.
pub async fn empty_and_large_payloads_come_as_they_were(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(std::slice::from_ref(&room), &outlet)).await.unwrap();
    let max = here.payload_bytes_max();
    assert!(max >= 64 * 1024, "{max} bytes are too few");
    let mut random = fastrand::Rng::with_seed(3);
    for len in [0, 1, 64 * 1024, max - 1, max] {
        let mut payload = vec![0; len];
        random.fill(&mut payload);
        publish(&*here, &[outgoing(&room, payload.clone())]).await;
        let (_, got) = message(&mut feed).await;
        assert!(got == payload, "{len} bytes came as {}, or bent", got.len());
    }
}

/// Many large messages in one batch are more than a service takes in one request.
pub async fn batches_larger_than_a_message_may_be_come_whole(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let topics = [topic("room/x"), topic("room/y")];
    within("subscribed", there.subscribe(&topics, &outlet)).await.unwrap();
    let len = here.payload_bytes_max().min(1024 * 1024) / 3;
    let batch: Vec<Outgoing> =
        (0..20_u8).map(|n| outgoing(&topics[usize::from(n % 2)], vec![n; len])).collect();
    let publishing = tokio::spawn({
        let batch = batch.clone();
        async move { publish(&*here, &batch).await }
    });
    let mut came = [Vec::new(), Vec::new()];
    for _ in 0..batch.len() {
        let (from, payload) = message(&mut feed).await;
        assert!(payload.len() == len && payload.iter().all(|byte| *byte == payload[0]));
        came[topics.iter().position(|topic| *topic == from).unwrap()].push(payload[0]);
    }
    let of = |first: u8| (0..10).map(|n| n * 2 + first).collect::<Vec<u8>>();
    assert_eq!(came, [of(0), of(1)]);
    publishing.await.unwrap();
}

/// Half of a batch would be the worst answer.
pub async fn a_payload_that_is_too_large_refuses_its_whole_batch(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(std::slice::from_ref(&room), &outlet)).await.unwrap();
    let max = here.payload_bytes_max();
    let batch = [outgoing(&room, "before"), outgoing(&room, vec![0; max + 1]), outgoing(&room, "after")];
    let refused = within("refused", here.publish(&batch)).await.unwrap_err();
    assert_eq!(refused, BusError::TooLarge { bytes: max + 1, max });
    publish(&*here, &[outgoing(&room, "next")]).await;
    assert_eq!(message(&mut feed).await, (room, Bytes::from("next")));
}

/// A node is busy for a moment. It may be told that it was too slow; it may not be left in the belief that it has heard everything.
pub async fn a_reader_that_stops_for_a_while_misses_nothing_unsaid(stage: &mut dyn Stage) {
    const MESSAGES: u64 = 5 * FEED_LEN as u64;
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(std::slice::from_ref(&room), &outlet)).await.unwrap();
    let publishing = tokio::spawn({
        let room = room.clone();
        async move {
            for batch in 0..MESSAGES / 512 {
                publish(&*here, &numbered(&room, batch * 512..(batch + 1) * 512)).await;
            }
            here
        }
    });
    // A bus either makes the publisher wait or lets it go on.
    until("the feed is full", || outlet.is_full() || publishing.is_finished()).await;
    let mut follower = Follower::default();
    // If the reader was cut off, the last ones may be missing: what comes after that must not.
    let reading = tokio::spawn(async move {
        while follower.next < MESSAGES {
            match feed.next().await.unwrap() {
                Arrival::Message { payload, .. } => follower.message(to_number(&payload)),
                Arrival::Interrupted => follower.interrupted = true,
            }
        }
    });
    let here = within("all is published", publishing).await.unwrap();
    let told = async {
        for n in MESSAGES.. {
            if reading.is_finished() {
                break;
            }
            publish(&*here, &numbered(&room, n..n + 1)).await;
            tokio::task::yield_now().await;
        }
    };
    within("the reader is at the end", told).await;
    reading.await.unwrap();
}

/// Each interruption costs every node a look into its store.
pub async fn a_quiet_service_never_interrupts(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(std::slice::from_ref(&room), &outlet)).await.unwrap();
    for n in 0..200 {
        publish(&*here, &numbered(&room, n..n + 1)).await;
        let arrival = within("a message comes", feed.next()).await.unwrap();
        assert_eq!(arrival, Arrival::Message { topic: room.clone(), payload: number(n) });
    }
}

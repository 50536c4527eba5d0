//! Who hears what, from when, until when.

use std::collections::HashSet;
use std::slice::from_ref;

use bytes::Bytes;

use super::{Stage, connected, expect_numbers, message, number, numbered, outgoing, publish, topic, within};
use crate::{Arrival, BusError, Outgoing, Topic, feed};

/// A room has members on every node.
pub async fn every_subscriber_gets_everything(stage: &mut dyn Stage) {
    let room = topic("room/x");
    let mut feeds = Vec::new();
    let mut buses = Vec::new();
    for _ in 0..4 {
        let (bus, (outlet, feed)) = (connected(stage).await, feed());
        within("subscribed", bus.subscribe(from_ref(&room), &outlet)).await.unwrap();
        feeds.push(feed);
        buses.push(bus);
    }
    for n in 0..100 {
        // Also the publisher itself is a subscriber.
        publish(&*buses[n as usize % 4], &numbered(&room, n..n + 1)).await;
        for feed in &mut feeds {
            expect_numbers(feed, &room, n..n + 1).await;
        }
    }
}

/// What a node need not know it should not be sent.
pub async fn topics_not_subscribed_to_are_not_heard(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let (ours, other) = (topic("room/x"), topic("room/y"));
    within("subscribed", there.subscribe(from_ref(&ours), &outlet)).await.unwrap();
    assert!(there.is_subscribed(&ours, &outlet));
    assert!(!there.is_subscribed(&other, &outlet));
    for n in 0..100 {
        let batch = [numbered(&other, n..n + 1), numbered(&ours, n..n + 1)].concat();
        publish(&*here, &batch).await;
        expect_numbers(&mut feed, &ours, n..n + 1).await;
    }
    assert_eq!(feed.try_next(), None);
}

/// Who joins a room and is told so gets what is said after that, wherever it is said.
pub async fn a_confirmed_subscription_misses_nothing(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    for n in 0..200 {
        let room = topic(format!("room/{n}"));
        within("subscribed", there.subscribe(from_ref(&room), &outlet)).await.unwrap();
        publish(&*here, &[outgoing(&room, number(n))]).await;
        assert_eq!(message(&mut feed).await, (room, number(n)));
    }
}

/// A node with many rooms reconnects.
pub async fn thousands_of_topics_are_subscribed_at_once(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let topics: Vec<Topic> = (0..4000).map(|n| topic(format!("unicast/{n}"))).collect();
    within("subscribed", there.subscribe(&topics, &outlet)).await.unwrap();
    let batch: Vec<Outgoing> =
        topics.iter().map(|topic| outgoing(topic, topic.as_str().to_owned())).collect();
    let publishing = tokio::spawn(async move { publish(&*here, &batch).await });
    let mut missing: HashSet<Topic> = topics.into_iter().collect();
    while !missing.is_empty() {
        let (topic, payload) = message(&mut feed).await;
        assert_eq!(topic.as_str().as_bytes(), payload);
        assert!(missing.remove(&topic), "{topic} came twice");
    }
    publishing.await.unwrap();
}

/// The last member has left.
pub async fn unsubscribed_topics_end(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let (left, kept) = (topic("room/left"), topic("room/kept"));
    let never = topic("room/never");
    within("subscribed", there.subscribe(&[left.clone(), kept.clone()], &outlet)).await.unwrap();
    within("unsubscribed", there.unsubscribe(&[left.clone(), never], &outlet)).await.unwrap();
    assert!(!there.is_subscribed(&left, &outlet));
    assert!(there.is_subscribed(&kept, &outlet));
    // What is on its way may come; after that nothing may.
    for round in 0..100 {
        let batch = [numbered(&left, round..round + 1), numbered(&kept, round..round + 1)].concat();
        publish(&*here, &batch).await;
        let mut came = false;
        while message(&mut feed).await.0 != kept {
            came = true;
        }
        if !came {
            return;
        }
    }
    panic!("{left} still comes");
}

/// Somebody leaves and comes back.
pub async fn a_topic_subscribed_again_is_heard_again(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    for n in 0..50 {
        within("subscribed", there.subscribe(from_ref(&room), &outlet)).await.unwrap();
        publish(&*here, &[outgoing(&room, number(n))]).await;
        assert_eq!(message(&mut feed).await, (room.clone(), number(n)));
        within("unsubscribed", there.unsubscribe(from_ref(&room), &outlet)).await.unwrap();
    }
}

/// A message that is shown twice.
pub async fn subscribing_twice_gives_one_copy(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(&[room.clone(), room.clone()], &outlet)).await.unwrap();
    within("subscribed again", there.subscribe(from_ref(&room), &outlet.clone())).await.unwrap();
    for n in 0..50 {
        publish(&*here, &numbered(&room, n..n + 1)).await;
        expect_numbers(&mut feed, &room, n..n + 1).await;
    }
    assert_eq!(feed.try_next(), None);
}

/// Two parts of a node are interested; one loses its interest.
pub async fn two_outlets_get_a_copy_each(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let ((one, mut ones), (two, mut twos)) = (feed(), feed());
    let (both, single) = (topic("room/both"), topic("room/one"));
    within("subscribed", there.subscribe(&[both.clone(), single.clone()], &one)).await.unwrap();
    within("subscribed", there.subscribe(from_ref(&both), &two)).await.unwrap();
    assert!(!there.is_subscribed(&single, &two));
    publish(&*here, &[outgoing(&single, number(0)), outgoing(&both, number(1))]).await;
    let mut came = [message(&mut ones).await, message(&mut ones).await];
    came.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(came, [(single, number(0)), (both.clone(), number(1))]);
    assert_eq!(message(&mut twos).await, (both.clone(), number(1)));
    within("unsubscribed", there.unsubscribe(from_ref(&both), &one)).await.unwrap();
    publish(&*here, &numbered(&both, 2..3)).await;
    expect_numbers(&mut twos, &both, 2..3).await;
}

/// A part of a node has ended without a word.
pub async fn an_outlet_that_nobody_listens_to_harms_nobody(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let ((left, lefts), (kept, mut kepts)) = (feed(), feed());
    let room = topic("room/x");
    within("subscribed", there.subscribe(from_ref(&room), &left)).await.unwrap();
    within("subscribed", there.subscribe(from_ref(&room), &kept)).await.unwrap();
    drop(lefts);
    for n in 0..10 {
        publish(&*here, &numbered(&room, n..n + 1)).await;
        expect_numbers(&mut kepts, &room, n..n + 1).await;
    }
}

/// A node goes.
pub async fn a_closed_bus_ends_its_feeds_and_refuses(stage: &mut dyn Stage) {
    let bus = connected(stage).await;
    let (outlet, mut events) = feed();
    let room = topic("room/x");
    within("subscribed", bus.subscribe(from_ref(&room), &outlet)).await.unwrap();
    within("closed", bus.close()).await.unwrap();
    let batch = [outgoing(&room, Bytes::new())];
    assert_eq!(within("refused", bus.publish(&batch)).await, Err(BusError::Closed));
    assert_eq!(within("refused", bus.subscribe(from_ref(&room), &outlet)).await, Err(BusError::Closed));
    assert_eq!(within("refused", bus.unsubscribe(from_ref(&room), &outlet)).await, Err(BusError::Closed));
    assert!(!bus.is_subscribed(&room, &outlet));
    assert!(!bus.state().borrow().connected);
    drop(outlet);
    let ended =
        async { while let Some(Arrival::Message { .. } | Arrival::Interrupted) = events.next().await {} };
    within("the feed ends", ended).await;
    within("closed again", bus.close()).await.unwrap();
}

/// A node goes, and the others stay.
pub async fn closing_one_bus_leaves_the_others(stage: &mut dyn Stage) {
    let (here, there, gone) = (connected(stage).await, connected(stage).await, connected(stage).await);
    let ((outlet, mut events), (gone_outlet, _gone_feed)) = (feed(), feed());
    let room = topic("room/x");
    within("subscribed", there.subscribe(from_ref(&room), &outlet)).await.unwrap();
    within("subscribed", gone.subscribe(from_ref(&room), &gone_outlet)).await.unwrap();
    within("closed", gone.close()).await.unwrap();
    publish(&*here, &numbered(&room, 0..10)).await;
    expect_numbers(&mut events, &room, 0..10).await;
}

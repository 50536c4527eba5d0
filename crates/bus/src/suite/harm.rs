//! A service that is away, killed and started again.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Follower, Stage, connected, message, number, numbered, outgoing, publish, publish_until_taken};
use super::{topic, until, until_connected, within};
use crate::{BusError, MessageBus, Outlet, Topic, feed};

/// A subscription that nobody waits for here.
fn subscribe(
    bus: &Arc<dyn MessageBus>,
    room: &Topic,
    outlet: &Outlet,
) -> tokio::task::JoinHandle<Result<(), BusError>> {
    let (bus, room, outlet) = (bus.clone(), room.clone(), outlet.clone());
    tokio::spawn(async move { bus.subscribe(from_ref(&room), &outlet).await })
}

/// Waits until a subscription is noted.
async fn until_noted(bus: &dyn MessageBus, room: &Topic, outlet: &Outlet) {
    until("the subscription is noted", || bus.is_subscribed(room, outlet)).await;
}

/// Everything starts at once after the power was off, the hub first.
pub async fn subscriptions_wait_for_a_service_that_comes_later(stage: &mut dyn Stage) {
    stage.kill().await;
    let (here, there) = (stage.connect(), stage.connect());
    let (outlet, mut feed) = feed();
    let (waited, dropped) = (topic("room/waited"), topic("room/dropped"));
    let waiting = subscribe(&there, &waited, &outlet);
    let given_up = subscribe(&there, &dropped, &outlet);
    until_noted(&*there, &waited, &outlet).await;
    until_noted(&*there, &dropped, &outlet).await;
    given_up.abort();
    assert!(!there.state().borrow().connected);
    stage.restart().await;
    within("subscribed", waiting).await.unwrap().unwrap();
    until_connected(&*here, true).await;
    until_connected(&*there, true).await;
    publish_until_taken(&*here, &[outgoing(&waited, number(0))]).await;
    assert_eq!(message(&mut feed).await, (waited, number(0)));
    publish_until_taken(&*here, &[outgoing(&dropped, number(1))]).await;
    loop {
        let (room, _) = message(&mut feed).await;
        if room == dropped {
            break;
        }
    }
    assert!(there.state().borrow().connected);
}

/// The hub is stopped while it still waits for its bus.
pub async fn a_subscription_that_waits_ends_with_its_bus(stage: &mut dyn Stage) {
    stage.kill().await;
    let (bus, (outlet, _feed)) = (stage.connect(), feed());
    let room = topic("room/x");
    let waiting = subscribe(&bus, &room, &outlet);
    until_noted(&*bus, &room, &outlet).await;
    within("closed", bus.close()).await.unwrap();
    let waited = within("the subscription ends", waiting).await.unwrap();
    assert_eq!(waited, Err(BusError::Closed));
}

/// Who publishes to nobody must know soon, and without harm.
pub async fn publishing_to_a_service_that_is_away_fails_in_time(stage: &mut dyn Stage) {
    let bus = connected(stage).await;
    let room = topic("room/x");
    publish(&*bus, &[outgoing(&room, number(0))]).await;
    stage.kill().await;
    for n in 0..3 {
        let failed =
            within("publishing fails", bus.publish(&[outgoing(&room, number(n))])).await.unwrap_err();
        assert!(matches!(failed, BusError::Unavailable(_)), "{failed}");
    }
    until_connected(&*bus, false).await;
    assert_ne!(bus.state().borrow().detail, "", "the state says what is wrong");
    stage.restart().await;
    until_connected(&*bus, true).await;
    assert_eq!(bus.state().borrow().detail, "", "the state says that all is well");
    publish_until_taken(&*bus, &[outgoing(&room, number(0))]).await;
}

/// The service is replaced by its operator in the night.
pub async fn subscriptions_live_again_by_themselves_after_the_service_was_killed(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let rooms = [topic("room/x"), topic("room/y")];
    let ((one, mut ones), (two, mut twos)) = (feed(), feed());
    within("subscribed", there.subscribe(&rooms[..1], &one)).await.unwrap();
    within("subscribed", there.subscribe(&rooms[1..], &two)).await.unwrap();
    let (mut first, mut second) = (Follower::default(), Follower::default());
    for life in 0..2 {
        let n = life * 10;
        let batch = [numbered(&rooms[0], n..n + 5), numbered(&rooms[1], n..n + 5)].concat();
        publish_until_taken(&*here, &batch).await;
        first.read(&mut ones, n + 4).await;
        second.read(&mut twos, n + 4).await;
        stage.kill().await;
        until_connected(&*here, false).await;
        until_connected(&*there, false).await;
        stage.restart().await;
        until_connected(&*here, true).await;
        until_connected(&*there, true).await;
        let batch = [numbered(&rooms[0], n + 5..n + 10), numbered(&rooms[1], n + 5..n + 10)].concat();
        publish_until_taken(&*here, &batch).await;
        first.read(&mut ones, n + 9).await;
        second.read(&mut twos, n + 9).await;
    }
}

/// What was acknowledged has arrived, or the node knows that it may be missing.
pub async fn nothing_is_missing_unsaid_while_the_service_is_killed_again_and_again(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let room = topic("room/x");
    within("subscribed", there.subscribe(from_ref(&room), &outlet)).await.unwrap();
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishing = tokio::spawn({
        let (stop, taken, room) = (stop.clone(), taken.clone(), room.clone());
        async move {
            for first in (0..).step_by(10) {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                publish_until_taken(&*here, &numbered(&room, first..first + 10)).await;
                taken.store(first + 9, Ordering::Release);
                tokio::task::yield_now().await;
            }
        }
    });
    let mut follower = Follower::default();
    for _ in 0..3 {
        let some = follower.next + 100;
        follower.read(&mut feed, some).await;
        stage.kill().await;
        until_connected(&*there, false).await;
        stage.restart().await;
        until_connected(&*there, true).await;
    }
    // Publishing goes on meanwhile: a reader that was still busy with the time before the harm learns of it afterwards.
    follower.read(&mut feed, taken.load(Ordering::Acquire)).await;
    stop.store(true, Ordering::Release);
    within("all is published", publishing).await.unwrap();
}

/// A room was left while the service was away: it is not subscribed to when it comes back.
pub async fn unsubscribing_while_the_service_is_away_is_not_forgotten(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let (outlet, mut feed) = feed();
    let (left, kept) = (topic("room/left"), topic("room/kept"));
    within("subscribed", there.subscribe(&[left.clone(), kept.clone()], &outlet)).await.unwrap();
    stage.kill().await;
    until_connected(&*there, false).await;
    within("unsubscribed", there.unsubscribe(from_ref(&left), &outlet)).await.unwrap();
    stage.restart().await;
    until_connected(&*there, true).await;
    until_connected(&*here, true).await;
    for n in 0..10 {
        publish_until_taken(&*here, &[outgoing(&left, number(n)), outgoing(&kept, number(n))]).await;
        assert_eq!(message(&mut feed).await.0, kept);
    }
}

//! What every back end must do, as tests: one function per fact, run over a [`Stage`] that makes ends of one service.
//!
//! A back end's test file has one line, [`bus_suite!`](crate::bus_suite), which makes a test of each fact. The facts panic when
//! they do not hold; they rely on nothing but the contract. They wait for what must happen, for at most half a minute, and
//! never for time to pass. What a back end promises beyond the contract is in its own tests.

#![allow(clippy::unwrap_used, reason = "a fact fails by panicking")]

mod harm;
mod links;
mod names;
mod order;
mod subscriptions;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Arrival, BusError, Feed, MessageBus, Outgoing, Topic};

pub use harm::*;
pub use links::*;
pub use names::*;
pub use order::*;
pub use subscriptions::*;

/// Something done, in time.
pub type Doing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where the facts get their buses from: a service, or a part of one, that shares nothing with any other stage.
pub trait Stage: Send + Sync {
    /// Another node's end of the service, which may not be there. It connects by itself.
    fn connect(&self) -> Arc<dyn MessageBus>;

    /// Ends the service in the middle of what it does.
    fn kill(&mut self) -> Doing<'_>;

    /// Starts it again where it was, with what it keeps.
    fn restart(&mut self) -> Doing<'_>;
}

/// Makes a test of each fact of the contract: `bus_suite!(shared, own);`.
///
/// Both are expressions of a [`Stage`], evaluated per test in an async function. Of the second one the service is killed, so that it must
/// be the test's own; the first may be a part of a service that all tests use. With only one expression it is both. The tests are
/// `#[tokio::test]`s on two threads.
#[macro_export]
macro_rules! bus_suite {
    ($stage:expr $(,)?) => {
        $crate::bus_suite!($stage, $stage);
    };
    ($shared:expr, $own:expr $(,)?) => {
        $crate::bus_suite! { @facts ($shared)
            messages_of_one_topic_come_in_their_order
            messages_of_two_publishers_come_each_in_their_order
            batches_of_thousands_come_in_their_order
            an_empty_batch_is_published
            empty_and_large_payloads_come_as_they_were
            batches_larger_than_a_message_may_be_come_whole
            a_payload_that_is_too_large_refuses_its_whole_batch
            a_reader_that_stops_for_a_while_misses_nothing_unsaid
            a_quiet_service_never_interrupts
            every_subscriber_gets_everything
            topics_not_subscribed_to_are_not_heard
            a_confirmed_subscription_misses_nothing
            thousands_of_topics_are_subscribed_at_once
            unsubscribed_topics_end
            a_topic_subscribed_again_is_heard_again
            subscribing_twice_gives_one_copy
            two_outlets_get_a_copy_each
            an_outlet_that_nobody_listens_to_harms_nobody
            a_closed_bus_ends_its_feeds_and_refuses
            closing_one_bus_leaves_the_others
            odd_names_are_told_apart
            names_of_any_characters_are_told_apart
            names_that_look_like_patterns_match_only_themselves
            links_hear_each_other_in_order_and_never_themselves
            links_drop_what_comes_twice
            links_hear_nothing_that_is_no_frame_of_theirs
            links_tell_of_holes_at_once
            links_tell_of_a_lost_last_frame_with_the_second_beat
        }
        $crate::bus_suite! { @facts ($own)
            subscriptions_wait_for_a_service_that_comes_later
            a_subscription_that_waits_ends_with_its_bus
            publishing_to_a_service_that_is_away_fails_in_time
            subscriptions_live_again_by_themselves_after_the_service_was_killed
            nothing_is_missing_unsaid_while_the_service_is_killed_again_and_again
            unsubscribing_while_the_service_is_away_is_not_forgotten
            links_over_a_killed_service_go_on_and_tell_every_hole
        }
    };
    (@facts $stage:tt $($fact:ident)*) => {
        $( $crate::bus_suite! { @fact $stage $fact } )*
    };
    (@fact ($stage:expr) $fact:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fact() {
            let mut stage = $stage;
            $crate::suite::$fact(&mut stage).await;
        }
    };
}

/// How long anything may take before it counts as not done.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must happen.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits until something is so that nobody tells of.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let looking = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, looking).await;
}

/// Another node's end of a service that is there.
async fn connected(stage: &dyn Stage) -> Arc<dyn MessageBus> {
    let bus = stage.connect();
    until_connected(&*bus, true).await;
    bus
}

async fn until_connected(bus: &dyn MessageBus, connected: bool) {
    let mut state = bus.state();
    let what = if connected { "the state says connected" } else { "the state says disconnected" };
    within(what, state.wait_for(|state| state.connected == connected)).await.unwrap();
}

fn topic(name: impl AsRef<str>) -> Topic {
    Topic::new(name.as_ref()).unwrap()
}

fn outgoing(topic: &Topic, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { topic: topic.clone(), payload: payload.into() }
}

fn numbered(topic: &Topic, numbers: std::ops::Range<u64>) -> Vec<Outgoing> {
    numbers.map(|n| outgoing(topic, number(n))).collect()
}

fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

fn to_number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().unwrap())
}

async fn publish(bus: &dyn MessageBus, batch: &[Outgoing]) {
    within("a batch is published", bus.publish(batch)).await.unwrap();
}

/// Publishes a batch, and again until the service has taken it.
async fn publish_until_taken(bus: &dyn MessageBus, batch: &[Outgoing]) {
    let trying = async {
        loop {
            match bus.publish(batch).await {
                Ok(()) => return,
                Err(BusError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("publishing: {error}"),
            }
        }
    };
    within("the service takes a batch", trying).await;
}

/// The next message; interruptions are passed over.
async fn message(feed: &mut Feed) -> (Topic, Bytes) {
    loop {
        match within("a message comes", feed.next()).await.expect("the feed goes on") {
            Arrival::Message { topic, payload } => return (topic, payload),
            Arrival::Interrupted => {}
        }
    }
}

/// Reads messages of one topic that carry exactly these numbers.
async fn expect_numbers(feed: &mut Feed, on: &Topic, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        let (topic, payload) = message(feed).await;
        assert_eq!((&topic, to_number(&payload)), (on, expected));
    }
}

/// Follows numbered messages of a service that harm is done to: holes must be told before, repetitions may be.
#[derive(Debug, Default)]
struct Follower {
    next: u64,
    interrupted: bool,
}

impl Follower {
    fn message(&mut self, number: u64) {
        let hole = number > self.next;
        assert!(!hole || self.interrupted, "{} to {number} are missing, and nothing said so", self.next);
        if number >= self.next {
            self.next = number + 1;
            self.interrupted = false;
        }
    }

    /// Reads until message `last` has come.
    async fn read(&mut self, feed: &mut Feed, last: u64) {
        while self.next <= last {
            match within(&format!("message {last} comes"), feed.next()).await.expect("the feed goes on") {
                Arrival::Message { payload, .. } => self.message(to_number(&payload)),
                Arrival::Interrupted => self.interrupted = true,
            }
        }
    }
}

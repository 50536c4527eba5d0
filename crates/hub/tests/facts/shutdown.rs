//! The end: everybody is told, nobody is waited for too long (B6, C5, D1).

use std::time::Duration;

use outspoke_hub::{AttachError, Frame, Hub, MemoryConn, NotWritten, PublishError, PushError};
use outspoke_testkit::{Received, attach_with, settle};
use tokio::time::Instant;

use crate::support::{PATIENCE, hub, member, number_body, threaded_hub, user, welcomed};

const PATIENT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn shutdown_tells_every_client_and_ends_when_they_have_answered() {
    let hub = hub(|_| {});
    let mut clients = vec![welcomed(&hub, "a").await, member(&hub, "b", "x").await];
    clients.push(member(&hub, "c", "x").await);
    let stopping = hub.clone();
    let stopped = tokio::spawn(async move { stopping.shutdown(PATIENT).await });
    for client in &mut clients {
        let Received::Close { code, reason } = client.next().await else { panic!("no close frame") };
        assert_eq!(code, Some(1001));
        assert!(reason.contains("reconnect"), "{reason}");
    }
    settle().await;
    assert!(!stopped.is_finished(), "it waits for the answers");
    for client in &mut clients {
        client.close(1001, "").await;
        assert_eq!(client.next().await, Received::End);
        client.stream().close();
    }
    assert!(stopped.await.unwrap());
    assert_eq!((hub.client_count(), hub.room_count()), (0, 0));
}

/// One client that does not answer must not hold up an update of the server.
#[tokio::test(start_paused = true)]
async fn shutdown_cuts_clients_that_do_not_answer_at_the_close_timeout() {
    let hub = hub(|config| config.close_timeout = Duration::from_secs(5));
    let _silent = welcomed(&hub, "silent").await;
    let (mut stuck, handle) = attach_with(&hub, user("stuck"), 400);
    stuck.expect("welcome").await;
    hub.push(handle.id(), &Frame::binary(vec![0; 5000])).unwrap();
    settle().await;
    let begun = Instant::now();
    assert!(hub.shutdown(PATIENT).await);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(hub.client_count(), 0);
}

/// A client that was being closed already, with a longer time-out, is cut with the others.
#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_longer_for_clients_that_were_closing_before() {
    let hub = hub(|config| config.write_timeout = Duration::from_secs(1000));
    let (mut stuck, handle) = attach_with(&hub, user("stuck"), 400);
    stuck.expect("welcome").await;
    hub.push(handle.id(), &Frame::binary(vec![0; 5000])).unwrap();
    hub.disconnect(handle.id(), outspoke_hub::Disconnect::Kicked);
    settle().await;
    let begun = Instant::now();
    assert!(hub.shutdown(PATIENT).await);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutdown_that_loses_patience_says_so_and_goes_on() {
    let hub = hub(|_| {});
    let _silent = welcomed(&hub, "silent").await;
    assert!(!hub.shutdown(Duration::from_secs(1)).await);
    assert!(hub.shutdown(PATIENT).await, "a second call waits for the same end");
    assert!(hub.shutdown(Duration::ZERO).await, "so does a call after it");
}

#[tokio::test(start_paused = true)]
async fn hub_that_stops_takes_nothing_new() {
    let hub = hub(|_| {});
    let (client, handle) = attach_with(&hub, user("a"), 4096);
    settle().await;
    assert!(hub.is_accepting());
    assert!(!hub.shutdown(Duration::ZERO).await);
    assert!(!hub.is_accepting());
    let (conn, _peer) = MemoryConn::pair(100);
    assert_eq!(hub.attach(conn, user("b")).unwrap_err(), AttachError::Stopping);
    assert_eq!(
        hub.publish("x", outspoke_hub::Kind::Data, number_body(1)).unwrap_err(),
        PublishError::Stopping
    );
    assert_eq!(hub.broadcast(&Frame::text("x")), Err(PublishError::Stopping));
    drop(client);
    assert!(hub.shutdown(PATIENT).await);
    assert_eq!(hub.push(handle.id(), &Frame::text("x")), Err(PushError::ClientNotFound));
}

/// Whoever came a moment too late gets the close frame too, not a cut.
#[tokio::test(start_paused = true)]
async fn client_whose_attach_meets_the_stop_gets_its_close_frame() {
    let hub = hub(|_| {});
    let _other = welcomed(&hub, "other").await;
    let mut late = outspoke_testkit::attach(&hub, "late");
    let mut stopping = Box::pin(hub.shutdown(PATIENT));
    // The order is in the inbox, behind the arrival; a second arrival comes behind both.
    assert!(tokio::time::timeout(Duration::ZERO, &mut stopping).await.is_err());
    assert_eq!(late.closed().await, Some(1001));
}

/// What was accepted before the stop is written before the close frame.
#[tokio::test(start_paused = true)]
async fn messages_accepted_before_the_stop_are_delivered_before_the_close() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "x").await;
    for number in 0..100 {
        crate::support::publish(&hub, "x", number);
    }
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(PATIENT).await }
    });
    for number in 0..100 {
        assert_eq!(client.expect("message").await["data"], number);
    }
    assert_eq!(client.closed().await, Some(1001));
    drop(client);
    assert!(stopping.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn push_that_waits_learns_that_the_hub_has_ended() {
    let hub = hub(|_| {});
    let (mut stuck, handle) = attach_with(&hub, user("stuck"), 400);
    stuck.expect("welcome").await;
    let waiting = hub.push_and_wait(handle.id(), &Frame::binary(vec![0; 5000])).unwrap();
    assert!(hub.shutdown(PATIENT).await);
    assert_eq!(waiting.await, Err(NotWritten));
}

#[tokio::test(start_paused = true)]
async fn run_until_ends_the_hub_when_told() {
    let hub = hub(|_| {});
    let mut client = welcomed(&hub, "a").await;
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { hub.run_until(async { told.await.unwrap() }, PATIENT).await }
    });
    settle().await;
    assert_eq!(client.received(), []);
    tell.send(()).unwrap();
    assert_eq!(client.closed().await, Some(1001));
    drop(client);
    assert!(running.await.unwrap());
}

/// With threads: every thread has ended when the call returns.
#[tokio::test]
async fn shutdown_of_a_hub_with_threads_ends_them() {
    let hub: Hub = threaded_hub(3, |_| {});
    let mut clients = Vec::new();
    for number in 0..30 {
        clients.push(member(&hub, &format!("user{number}"), "x").await);
    }
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(PATIENCE).await }
    });
    for mut client in clients {
        assert_eq!(client.closed().await, Some(1001));
        client.close(1001, "").await;
        assert_eq!(client.next().await, Received::End);
    }
    assert!(stopping.await.unwrap());
    assert_eq!((hub.client_count(), hub.room_count()), (0, 0));
}

/// The moment and the code of every client's going.
async fn told(clients: Vec<outspoke_testkit::ScriptedClient>) -> Vec<(Duration, u64, Option<u16>)> {
    let began = Instant::now();
    let mut going = tokio::task::JoinSet::new();
    for mut client in clients {
        going.spawn(async move {
            let after = client.expect("going_away").await["reconnectAfter"].as_u64().unwrap();
            let at = began.elapsed();
            let code = client.closed().await;
            client.close(1001, "").await;
            (at, after, code)
        });
    }
    going.join_all().await
}

/// All at once they would all be back at once, on nodes that have others to serve.
#[tokio::test(start_paused = true)]
async fn drain_tells_clients_in_batches_when_to_come_back_and_ends_with_the_last() {
    let hub = hub(|config| config.drain.batch = 10);
    let mut clients = Vec::new();
    for number in 0..95 {
        clients.push(welcomed(&hub, &format!("user-{number}")).await);
    }
    let draining = hub.clone();
    let drained = tokio::spawn(async move { draining.drain_within(PATIENT).await });
    let mut told = told(clients).await;
    told.sort();
    for (place, (at, after, code)) in told.iter().enumerate() {
        assert_eq!(at.as_millis() / 100, place as u128 / 10, "the batch of {place}");
        assert!((1000..=2000).contains(after), "{after}");
        assert_eq!(*code, Some(1001));
    }
    let afters: std::collections::BTreeSet<_> = told.iter().map(|(_, after, _)| after).collect();
    assert!(afters.len() > 30, "they come back at moments of their own: {afters:?}");
    let drained = drained.await.unwrap();
    assert_eq!((drained.told, drained.batches, drained.left), (95, 10, 0));
    assert!(drained.took < Duration::from_secs(2), "{drained:?}");
    assert!(!hub.is_accepting() && hub.is_draining());
}

/// An operator's patience is a promise to whoever waits for the node.
#[tokio::test(start_paused = true)]
async fn drain_within_a_short_time_takes_larger_batches() {
    let hub = hub(|config| config.drain.batch = 1);
    let mut clients = Vec::new();
    for number in 0..200 {
        clients.push(welcomed(&hub, &format!("user-{number}")).await);
    }
    let draining = hub.clone();
    let drained = tokio::spawn(async move { draining.drain_within(Duration::from_secs(2)).await });
    assert!(told(clients).await.iter().all(|(at, ..)| *at <= Duration::from_secs(1)));
    assert_eq!(drained.await.unwrap().left, 0);
}

/// A node that is drained for a repair is to be empty, whoever does not answer.
#[tokio::test(start_paused = true)]
async fn drain_cuts_clients_that_never_read_after_the_grace() {
    let hub = hub(|config| config.close_timeout = Duration::from_secs(1000));
    let _silent = welcomed(&hub, "silent").await;
    let (mut stuck, handle) = attach_with(&hub, user("stuck"), 400);
    stuck.expect("welcome").await;
    hub.push(handle.id(), &Frame::binary(vec![0; 5000])).unwrap();
    settle().await;
    hub.drain(true);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(hub.client_count(), 2, "they have time to go");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(hub.client_count(), 0);
    hub.drain(false);
    welcomed(&hub, "back").await;
}

/// A second order, of somebody who is in a hurry, is obeyed; nobody is told twice.
#[tokio::test(start_paused = true)]
async fn newer_order_to_drain_replaces_the_older() {
    let hub = hub(|_| {});
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(welcomed(&hub, &format!("user-{number}")).await);
    }
    let order = |batch, interval| {
        let mut order = outspoke_hub::DrainOrder::default();
        (order.batch, order.interval) = (Some(batch), Some(Duration::from_secs(interval)));
        order.target = Some("wss://green.example.com/ws".into());
        order
    };
    hub.drain_as(&order(1, 3600));
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.drain_as(&order(10, 1));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for client in &mut clients {
        assert_eq!(client.expect("going_away").await["url"], "wss://green.example.com/ws");
        assert_eq!(client.next().await.kind(), None, "only once");
    }
}

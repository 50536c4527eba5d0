//! Frames for one client: the outcome is an answer, not a guess (T5, A8, A11).

use std::time::Duration;

use outspoke_hub::{ClientId, Disconnect, Frame, Kind, NotWritten, PushError};
use outspoke_testkit::{Received, attach_with, settle};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{hub, number_body, user, welcomed};

#[tokio::test(start_paused = true)]
async fn push_to_unknown_client_is_not_found() {
    let hub = hub(|_| {});
    let frame = Frame::text("x");
    assert_eq!(hub.push(ClientId::random(), &frame), Err(PushError::ClientNotFound));
    let (client, handle) = attach_with(&hub, user("a"), 4096);
    settle().await;
    drop(client);
    settle().await;
    assert_eq!(hub.push(handle.id(), &frame), Err(PushError::ClientNotFound));
}

/// Calls from one thread keep their order, also when some have to wait.
#[tokio::test(start_paused = true)]
async fn pushes_arrive_in_order() {
    let hub = hub(|_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 100);
    client.expect("welcome").await;
    for number in 0..200 {
        hub.push(handle.id(), &Frame::text(number.to_string())).unwrap();
        if number % 7 == 0 {
            settle().await;
        }
    }
    for number in 0..200 {
        assert_eq!(client.next().await, Received::Json(json!(number)));
    }
}

/// The caller decides what to do about a client that does not read (T5), so it must learn it at once; and the
/// refused frame must leave no trace.
#[tokio::test(start_paused = true)]
async fn push_to_a_full_buffer_is_refused_and_the_bytes_come_back_when_the_client_reads() {
    let hub = hub(|config| {
        config.message_bytes_max = 1000;
        config.outbox_bytes_max = 4000;
        config.write_timeout = Duration::ZERO;
    });
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    let frame = Frame::binary(vec![7; 497]);
    let mut accepted = 0;
    let queued = loop {
        match hub.push(handle.id(), &frame) {
            Ok(()) => accepted += 1,
            Err(PushError::SendBufferFull { queued }) => break queued,
            Err(other) => panic!("{other}"),
        }
        settle().await;
    };
    // 1000 bytes in the pipe, up to 4000 in the hub, 501 bytes each.
    assert_eq!(accepted, 9);
    assert_eq!(queued, 9 * 501 - 1000);
    assert_eq!(handle.queued_bytes(), queued);
    assert_eq!(hub.stats().slow_clients_closed, 0, "a refused push is the caller's business");
    for _ in 0..accepted {
        assert_eq!(client.next().await, Received::Binary(vec![7; 497].into()));
    }
    settle().await;
    assert_eq!(handle.queued_bytes(), 0);
    assert_eq!(hub.push(handle.id(), &frame), Ok(()));
    assert_eq!(client.next().await, Received::Binary(vec![7; 497].into()));
}

/// A push races only with the bytes that are there: many at once may not overrun the bound together.
#[tokio::test(start_paused = true)]
async fn pushes_of_one_turn_stay_within_the_bound() {
    let hub = hub(|config| {
        config.message_bytes_max = 1000;
        config.outbox_bytes_max = 4000;
    });
    let (mut client, handle) = attach_with(&hub, user("a"), 100_000);
    client.expect("welcome").await;
    let frame = Frame::binary(vec![7; 497]);
    let accepted = (0..100).filter(|_| hub.push(handle.id(), &frame).is_ok()).count();
    assert_eq!(accepted, 7);
    settle().await;
    assert_eq!((client.received().len(), handle.queued_bytes()), (7, 0));
}

/// "Written" means the last byte has left, not that it was queued.
#[tokio::test(start_paused = true)]
async fn push_and_wait_resolves_when_the_last_byte_is_written() {
    let hub = hub(|_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    let wait = hub.push_and_wait(handle.id(), &Frame::binary(vec![1; 1500])).unwrap();
    let mut waiting = tokio::spawn(wait);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
    assert_eq!(client.next().await, Received::Binary(vec![1; 1500].into()));
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn push_and_wait_fails_when_the_connection_ends_first() {
    let hub = hub(|_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    let stuck = hub.push_and_wait(handle.id(), &Frame::binary(vec![1; 1500])).unwrap();
    settle().await;
    let late = hub.push_and_wait(handle.id(), &Frame::text("behind it")).unwrap();
    drop(client);
    assert_eq!(stuck.await, Err(NotWritten));
    assert_eq!(late.await, Err(NotWritten));
    settle().await;
    assert_eq!(handle.queued_bytes(), 0, "nothing waits for a client that has gone");
}

/// A frame pushed while the connection is closing is not written, and says so.
#[tokio::test(start_paused = true)]
async fn push_and_wait_to_a_client_being_closed_fails() {
    let hub = hub(|_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    assert!(hub.disconnect(handle.id(), Disconnect::Kicked));
    let wait = hub.push_and_wait(handle.id(), &Frame::text("too late")).unwrap();
    assert_eq!(wait.await, Err(NotWritten));
    assert_eq!(client.closed().await, Some(4501));
    assert!(!hub.disconnect(handle.id(), Disconnect::Kicked));
    assert_eq!(handle.queued_bytes(), 0);
}

/// Bytes that nobody reads are not kept for ever (A11).
#[tokio::test(start_paused = true)]
async fn write_timeout_closes_with_4001_and_the_frame_can_be_read_afterwards() {
    let hub = hub(|_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    let begun = hub.push_and_wait(handle.id(), &Frame::binary(vec![1; 1500])).unwrap();
    let unbegun = hub.push_and_wait(handle.id(), &Frame::binary(vec![2; 1500])).unwrap();
    assert_eq!(unbegun.await, Err(NotWritten));
    assert_eq!(hub.client(handle.id()).map(|client| client.id()), None);
    // What is begun is finished, then comes the code, then the end.
    assert_eq!(client.next().await, Received::Binary(vec![1; 1500].into()));
    assert_eq!(begun.await, Ok(()));
    assert!(matches!(client.next().await, Received::Close { code: Some(4001), .. }));
    client.close(4001, "").await;
    assert_eq!(client.next().await, Received::End);
    assert_eq!(hub.stats().slow_clients_closed, 1);
    settle().await;
    assert_eq!(handle.queued_bytes(), 0);
}

/// A slow reader is no dead one: as long as bytes leave, the time-out starts anew.
#[tokio::test(start_paused = true)]
async fn client_that_reads_a_little_now_and_then_is_not_timed_out() {
    let hub = hub(|config| {
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    hub.push(handle.id(), &Frame::binary(vec![1; 8000])).unwrap();
    for _ in 0..8 {
        sleep(Duration::from_secs(7)).await;
        assert_eq!(client.received(), []);
    }
    sleep(Duration::from_secs(7)).await;
    assert!(client.received() == [Received::Binary(vec![1; 8000].into())]);
}

#[tokio::test(start_paused = true)]
async fn message_to_one_client_is_in_its_dialect_and_in_no_room() {
    let hub = hub(|_| {});
    let mut other = welcomed(&hub, "other").await;
    let (mut client, handle) = attach_with(&hub, user("a"), 1000);
    client.expect("welcome").await;
    let id = hub.send(handle.id(), Kind::Custom("greeting".into()), number_body(5)).unwrap();
    let message = client.expect("greeting").await;
    assert_eq!(message["data"], 5);
    assert_eq!(message["id"], id.to_string());
    assert!(message.get("room").is_none() && message.get("offset").is_none(), "{message}");
    settle().await;
    assert_eq!(other.received(), []);
}

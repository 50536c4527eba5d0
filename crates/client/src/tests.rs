//! The client as its users see it, with paused time and a server in memory: what the conformance suite has no words for.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use outspoke_websocket::Opcode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::peer::{FromClient, Lan, Peer};
use crate::{Builder, Cause, Client, ConnectionState, Error, Event, GapReason, Overflow, Subscription};

const EPOCH: &str = "5ac1d54f0b7c9e21";

fn builder() -> (Builder, Lan) {
    let (dialer, lan) = Lan::new();
    (Client::builder("ws://h/ws").dialer(dialer).random(|| 0), lan)
}

/// A client, online, and the server's end.
async fn online(builder: Builder, lan: &mut Lan) -> (Client, Peer) {
    let client = builder.build().unwrap();
    let ready = client.ready();
    let (ready, peer) = tokio::join!(ready, welcome(lan));
    ready.unwrap();
    (client, peer)
}

async fn welcome(lan: &mut Lan) -> Peer {
    let mut peer = lan.accept().await;
    send(
        &mut peer,
        json!({
            "type": "welcome", "clientId": "c1", "userId": "me", "username": "Me", "pingInterval": 0,
            "timestamp": "2026-01-01T00:00:00.000Z", "maxMessageBytes": 8192, "openMode": true,
        }),
    )
    .await;
    peer
}

async fn send(peer: &mut Peer, frame: Value) {
    peer.send(Opcode::Text, frame.to_string().as_bytes()).await;
}

/// The next frame of the client, which must be of this type.
async fn expect(peer: &mut Peer, kind: &str) -> Value {
    let frame: Value = serde_json::from_str(&peer.text().await).unwrap();
    assert_eq!(frame["type"], kind, "{frame}");
    frame
}

fn message(offset: u64) -> Value {
    json!({
        "type": "message", "room": "r", "data": offset, "userId": "ann", "username": "Ann", "id": format!("i{offset}"),
        "timestamp": "2026-01-01T00:00:00.000Z", "epoch": EPOCH, "offset": offset,
    })
}

/// Answers a request to come into the room `r`, whose newest message is at `head`.
async fn let_in(peer: &mut Peer, head: u64) -> Value {
    let asked = expect(peer, "subscribe").await;
    let offset = asked["offset"].as_u64().unwrap_or(head);
    let recovered = asked.get("offset").map(|_| true);
    send(
        peer,
        json!({
            "type": "subscribed", "id": asked["id"], "room": "r", "epoch": EPOCH, "offset": offset, "members": 1,
            "head": head, "first": 1, "durability": "stored", "recovered": recovered,
        }),
    )
    .await;
    asked
}

async fn acknowledge(peer: &mut Peer, request: &Value, offset: u64) {
    send(
        peer,
        json!({
            "type": "ack", "id": request["id"], "room": "r", "messageId": format!("i{offset}"), "epoch": EPOCH,
            "offset": offset, "timestamp": "2026-01-01T00:00:00.000Z",
        }),
    )
    .await;
}

/// A stream of the room `r`, which is empty.
async fn listening(client: &Client, peer: &mut Peer, buffer: usize) -> Subscription<u64> {
    let room = client.room::<u64>("r");
    let (stream, _) = tokio::join!(async { room.subscribe().buffer(buffer).await }, let_in(peer, 0));
    let mut stream = stream.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Event::Joined(_)))));
    stream
}

async fn body(stream: &mut Subscription<u64>) -> u64 {
    match stream.next().await {
        Some(Ok(Event::Message(message))) => message.body,
        other => panic!("expected a message, and there came {other:?}"),
    }
}

fn publishing(client: &Client, message: u64) -> JoinHandle<Result<crate::Ack, Error>> {
    let publish = client.room::<u64>("r").publish(&message);
    tokio::spawn(publish.into_future())
}

/// A consumer that stops reading costs the connection nothing, and gets everything once it reads again.
#[tokio::test(start_paused = true)]
async fn stream_that_is_polled_slowly_is_fed_from_history() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let mut stream = listening(&client, &mut peer, 4).await;
    for offset in 1..=20 {
        send(&mut peer, message(offset)).await;
    }
    // Others are served meanwhile.
    let ack = publishing(&client, 7);
    let published = expect(&mut peer, "publish").await;
    acknowledge(&mut peer, &published, 99).await;
    ack.await.unwrap().unwrap();

    let mut head = 20;
    let server = tokio::spawn(async move {
        loop {
            let FromClient::Text(text) = peer.next().await else { continue };
            let asked: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(asked["type"], "history");
            let (after, limit) = (asked["after"].as_u64().unwrap(), asked["limit"].as_u64().unwrap());
            let page: Vec<Value> = (after + 1..=head).take(limit.try_into().unwrap()).map(message).collect();
            let more = after + limit < head;
            let answer = json!({
                "type": "history", "id": asked["id"], "room": "r", "epoch": EPOCH, "first": 1, "head": head,
                "more": more, "messages": page,
            });
            send(&mut peer, answer).await;
            if !more && head == 20 {
                head = 21;
                send(&mut peer, message(head)).await;
            }
        }
    });
    for offset in 1..=21 {
        assert_eq!(body(&mut stream).await, offset);
    }
    server.abort();
}

/// The server says once a second at most that it ignores something: who asked meanwhile would not even learn of it.
#[tokio::test(start_paused = true)]
async fn nothing_new_is_asked_for_while_the_server_ignores_frames() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let since = Instant::now();
    let ignored = json!({
        "type": "error", "code": 162, "error": "rate_limited", "message": "", "temporary": true, "retryAfter": 5000,
    });
    send(&mut peer, ignored).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _stream = listening(&client, &mut peer, 4).await;
    assert_eq!(since.elapsed().as_secs(), 5);
}

/// What has no answer, for whatever reason, is asked again.
#[tokio::test(start_paused = true)]
async fn room_and_page_that_have_no_answer_are_asked_for_again() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let room = client.room::<u64>("r");
    let stream = tokio::spawn(async move { room.subscribe().buffer(4).await });
    let (asked, since) = (expect(&mut peer, "subscribe").await, Instant::now());
    assert_eq!(let_in(&mut peer, 0).await, asked);
    assert_eq!(since.elapsed().as_secs(), 20);
    let mut stream = stream.await.unwrap().unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Event::Joined(_)))));
    for offset in 1..=6 {
        send(&mut peer, message(offset)).await;
    }
    for offset in 1..=4 {
        assert_eq!(body(&mut stream).await, offset);
    }
    let (asked, since) = (expect(&mut peer, "history").await, Instant::now());
    assert_eq!(expect(&mut peer, "history").await, asked);
    assert_eq!(since.elapsed().as_secs(), 20);
    let page = json!({
        "type": "history", "id": asked["id"], "room": "r", "epoch": EPOCH, "first": 1, "head": 6, "more": false,
        "messages": [message(5), message(6)],
    });
    send(&mut peer, page).await;
    assert_eq!((body(&mut stream).await, body(&mut stream).await), (5, 6));
}

#[tokio::test(start_paused = true)]
async fn stream_dropped_leaves_the_room_and_the_next_comes_anew() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let stream = listening(&client, &mut peer, 4).await;
    let second = client.room::<u64>("r").subscribe().await.unwrap();
    drop(stream);
    drop(second);
    assert_eq!(expect(&mut peer, "unsubscribe").await["room"], "r");
    let again = listening(&client, &mut peer, 4).await;
    assert_eq!(again.position().unwrap().offset, 0);
}

/// What is not of the room's type is an error of its own, and not the end.
#[tokio::test(start_paused = true)]
async fn stream_goes_on_behind_what_is_not_of_its_type() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let mut stream = listening(&client, &mut peer, 4).await;
    let mut odd = message(1);
    odd["data"] = json!("no number");
    send(&mut peer, odd).await;
    send(&mut peer, message(2)).await;
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Decode { json, .. } if json.contains("no number")), "{error}");
    assert_eq!(body(&mut stream).await, 2);
    assert_eq!(stream.position().unwrap().offset, 2);
}

#[tokio::test(start_paused = true)]
async fn close_sends_what_waits_and_then_says_goodbye() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let ack = publishing(&client, 1);
    let_in(&mut peer, 0).await;
    let published = expect(&mut peer, "publish").await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::task::yield_now().await;
    assert!(matches!(client.room::<u64>("r").publish(&2).await, Err(Error::Closed)));
    assert!(!closing.is_finished());
    acknowledge(&mut peer, &published, 1).await;
    assert_eq!(peer.closed().await, Some(1000));
    drop(peer);
    assert_eq!(ack.await.unwrap().unwrap().position.unwrap().offset, 1);
    closing.await.unwrap().unwrap();
    assert!(matches!(&*client.state().borrow(), ConnectionState::Closed { error: None }));
}

#[tokio::test(start_paused = true)]
async fn close_without_a_server_says_what_is_lost() {
    let (builder, mut lan) = builder();
    let client = builder.close_timeout(Duration::from_secs(3)).build().unwrap();
    let ack = publishing(&client, 1);
    tokio::spawn(async move {
        loop {
            lan.refuse().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    tokio::task::yield_now().await;
    assert!(matches!(client.close().await, Err(Error::Unsent { messages: 1 })));
    assert!(matches!(ack.await.unwrap(), Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn last_handle_dropped_ends_the_connection() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let stream = listening(&client, &mut peer, 4).await;
    drop(client);
    assert_eq!(peer.now(), None, "the stream is a handle");
    drop(stream);
    assert_eq!(peer.closed().await, Some(1000));
}

/// Whoever waits for the outbox's room gets it in the order of asking.
#[tokio::test(start_paused = true)]
async fn publishes_that_wait_for_room_keep_their_order() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder.outbox(2, Overflow::Wait), &mut lan).await;
    let acks: Vec<_> = (1..=50).map(|number| publishing(&client, number)).collect();
    let_in(&mut peer, 0).await;
    for number in 1..=50 {
        let published = expect(&mut peer, "publish").await;
        assert_eq!(published["data"], number);
        acknowledge(&mut peer, &published, number).await;
    }
    for ack in acks {
        ack.await.unwrap().unwrap();
    }
}

/// A message has one time for all that it waits for: room, a connection, the acknowledgement.
#[tokio::test(start_paused = true)]
async fn publish_that_waited_for_room_ends_when_its_time_is_over() {
    let (builder, _lan) = builder();
    let client = builder.outbox(1, Overflow::Wait).build().unwrap();
    let since = Instant::now();
    let within = |message: u64, seconds| {
        let publish = client.room::<u64>("r").publish(&message).timeout(Duration::from_secs(seconds));
        tokio::spawn(publish.into_future())
    };
    let (first, second) = (within(1, 3), within(2, 5));
    assert!(matches!(first.await.unwrap(), Err(Error::TimedOut { sent: false })));
    assert_eq!(since.elapsed().as_secs(), 3);
    assert!(matches!(second.await.unwrap(), Err(Error::TimedOut { sent: false })));
    assert_eq!(since.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn publish_that_is_dropped_while_it_waits_for_room_is_not_sent() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder.outbox(1, Overflow::Wait), &mut lan).await;
    let room = client.room::<u64>("r");
    let first = publishing(&client, 1);
    let_in(&mut peer, 0).await;
    let published = expect(&mut peer, "publish").await;
    let second = room.publish(&2).into_future();
    assert!(tokio::time::timeout(Duration::from_secs(1), second).await.is_err(), "there is no room");
    let third = publishing(&client, 3);
    acknowledge(&mut peer, &published, 1).await;
    first.await.unwrap().unwrap();
    let published = expect(&mut peer, "publish").await;
    assert_eq!(published["data"], 3);
    acknowledge(&mut peer, &published, 2).await;
    third.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn sink_publishes_in_order_and_flushes_to_the_last_acknowledgement() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder.outbox(4, Overflow::Reject), &mut lan).await;
    let server = tokio::spawn(async move {
        let_in(&mut peer, 0).await;
        for number in 1..=30 {
            let published = expect(&mut peer, "publish").await;
            assert_eq!(published["data"], number);
            acknowledge(&mut peer, &published, number).await;
        }
        peer
    });
    let mut sink = client.room::<u64>("r").sink();
    for number in 1..=30 {
        sink.feed(number).await.unwrap();
    }
    sink.close().await.unwrap();
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn history_turns_its_pages_and_stops_where_it_is_told() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let server = tokio::spawn(async move {
        let_in(&mut peer, 0).await;
        for (before, page) in [(None, [7, 8]), (Some(7), [5, 6])] {
            let asked = expect(&mut peer, "history").await;
            assert_eq!(asked["before"].as_u64(), before);
            let page: Vec<Value> = page.into_iter().map(message).collect();
            let answer = json!({
                "type": "history", "id": asked["id"], "room": "r", "epoch": EPOCH, "first": 1, "head": 8,
                "more": true, "messages": page,
            });
            send(&mut peer, answer).await;
        }
        peer
    });
    let room = client.room::<u64>("r");
    let bodies: Vec<u64> = room
        .history(3)
        .map(|event| match event.unwrap() {
            Event::Message(message) => {
                assert!(message.replayed);
                message.body
            }
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(bodies, [8, 7, 6]);
    server.await.unwrap();
}

/// Two streams of one room, one of them slow, through a reconnect: each has every message once.
#[tokio::test(start_paused = true)]
async fn streams_of_one_room_have_places_of_their_own() {
    let (builder, mut lan) = builder();
    let (client, mut peer) = online(builder, &mut lan).await;
    let mut quick = listening(&client, &mut peer, 100).await;
    let mut slow = client.room::<u64>("r").subscribe().buffer(1).await.unwrap();
    send(&mut peer, message(1)).await;
    send(&mut peer, message(2)).await;
    assert_eq!((body(&mut quick).await, body(&mut quick).await), (1, 2));
    drop(peer);

    let mut peer = welcome(&mut lan).await;
    assert_eq!(let_in(&mut peer, 3).await["offset"], 2);
    send(&mut peer, message(3)).await;
    assert!(matches!(quick.next().await, Some(Ok(Event::Joined(_)))));
    assert_eq!(body(&mut quick).await, 3);
    assert_eq!(body(&mut slow).await, 1);
    assert!(matches!(slow.next().await, Some(Ok(Event::Joined(_)))));
    let asked = expect(&mut peer, "history").await;
    assert_eq!(asked["after"], 1);
    let answer = json!({
        "type": "history", "id": asked["id"], "room": "r", "epoch": EPOCH, "first": 3, "head": 3, "more": false,
        "messages": [message(3)],
    });
    send(&mut peer, answer).await;
    // The second is not kept any more, and that is said.
    match slow.next().await {
        Some(Ok(Event::Gap(gap))) => assert_eq!((gap.reason, gap.missed), (GapReason::Expired, Some(1))),
        other => panic!("{other:?}"),
    }
    assert_eq!(body(&mut slow).await, 3);
}

#[tokio::test(start_paused = true)]
async fn connect_fails_with_the_first_attempt_and_ready_does_not() {
    let (first, mut lan) = builder();
    let (connected, ()) = tokio::join!(first.connect(), lan.refuse());
    assert!(matches!(connected, Err(Error::Network(_))));

    let (second, mut lan) = builder();
    let client = second.build().unwrap();
    assert!(matches!(&*client.state().borrow(), ConnectionState::Idle));
    let (ready, _peer) = tokio::join!(client.ready(), async {
        lan.refuse().await;
        welcome(&mut lan).await
    });
    ready.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wrong_token_is_no_secret_and_ends_the_client() {
    let (builder, mut lan) = builder();
    let builder = builder.token("s3cret").header("x-key", "s3cret");
    assert!(!format!("{builder:?}").contains("s3cret"));
    let client = builder.build().unwrap();
    let (ready, ()) = tokio::join!(client.ready(), async {
        let caller = lan.pick_up().await;
        assert_eq!(caller.request.headers()["authorization"], "Bearer s3cret");
        caller.reject(401).await;
    });
    let error = ready.unwrap_err();
    assert!(error.is_unauthorized() && error.hint().is_some());
    assert!(!format!("{client:?} {error} {error:?}").contains("s3cret"));
}

#[tokio::test(start_paused = true)]
async fn offline_state_has_what_a_banner_needs() {
    let (builder, mut lan) = builder();
    let (client, peer) = online(builder.random(|| u64::MAX), &mut lan).await;
    let mut states = client.state();
    drop(peer);
    states.wait_for(|state| matches!(state, ConnectionState::Offline { .. })).await.unwrap();
    let _ack = publishing(&client, 1);
    let told =
        states.wait_for(|state| matches!(state, ConnectionState::Offline { queued: 1, .. })).await.unwrap();
    match &*told {
        ConnectionState::Offline { cause, attempt, retry_at, .. } => {
            assert_eq!((*cause, *attempt), (Cause::Network, 1));
            assert!(*retry_at > Instant::now());
        }
        other => panic!("{other:?}"),
    }
    drop(told);
    client.retry_now();
    let _peer = welcome(&mut lan).await;
    client.ready().await.unwrap();
}

#[test]
fn client_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: T) {}
    shared::<Client>();
    shared::<crate::Room<u64>>();
    shared::<crate::reconnecting::ReconnectingClient>();
    let _ = |client: Client, raw: crate::reconnecting::ReconnectingClient| {
        sent(client.room::<u64>("r").publish(&1).into_future());
        sent(client.room::<u64>("r").subscribe().into_future());
        sent(client.room::<u64>("r").history(1));
        sent(async move { raw.connect().await });
    };
}

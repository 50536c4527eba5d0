//! Who gets what: broadcasts, announcements, rooms.

use outspoke_hub::{Attach, Frame, Hub, Identity, Kind};
use outspoke_testkit::{Received, attach_with, settle};
use serde_json::{Value, json};

use crate::support::{hub, member, number_body, offsets, publish, threaded_hub, user, welcomed};

/// A broadcast that misses somebody is no broadcast (T1).
#[tokio::test(start_paused = true)]
async fn broadcast_reaches_every_client_in_a_room_or_not() {
    let hub = hub(|_| {});
    let mut clients = vec![welcomed(&hub, "a").await, member(&hub, "b", "x").await];
    clients.push(member(&hub, "c", "y").await);
    hub.broadcast(&Frame::text("to all")).unwrap();
    hub.broadcast(&Frame::binary(vec![0, 255])).unwrap();
    for client in &mut clients {
        assert_eq!(client.next().await, Received::Text("to all".into()));
        assert_eq!(client.next().await, Received::Binary(vec![0, 255].into()));
    }
}

/// The same over real threads: a shard left out of the mask would lose a part of the clients.
#[tokio::test]
async fn broadcast_reaches_the_clients_of_every_shard_once() {
    let hub = threaded_hub(4, |_| {});
    let mut clients = Vec::new();
    for number in 0..23 {
        clients.push(welcomed(&hub, &format!("user{number}")).await);
    }
    for number in 0..50 {
        hub.broadcast(&Frame::text(number.to_string())).unwrap();
    }
    for client in &mut clients {
        for number in 0..50 {
            assert_eq!(client.next().await, Received::Json(json!(number)));
        }
    }
}

/// A broadcast frame is sent as it is; an announcement must be understood by every client.
#[tokio::test(start_paused = true)]
async fn announcement_reaches_every_client_in_its_own_dialect() {
    let hub = hub(|_| {});
    let mut native = welcomed(&hub, "native").await;
    let attach = Attach::new(Identity::user("gohub")).speaking("gohub");
    let (mut gohub, _) = attach_with(&hub, attach, 4096);
    settle().await;
    gohub.received();
    hub.announce(Kind::System, outspoke_hub::Body::Text("going down".into())).unwrap();
    assert_eq!(native.expect("system").await["content"], "going down");
    let Received::Json(envelope) = gohub.next().await else { panic!("no JSON") };
    assert_eq!(envelope["message_type"], "system", "{envelope}");
}

/// A room is isolation: what is said in it stays in it.
#[tokio::test(start_paused = true)]
async fn publish_reaches_the_members_of_its_room_only() {
    let hub = hub(|_| {});
    let (mut member_of_x, mut member_of_y) = (member(&hub, "a", "x").await, member(&hub, "b", "y").await);
    let mut of_none = welcomed(&hub, "c").await;
    publish(&hub, "x", 7);
    assert_eq!(member_of_x.expect("message").await["data"], 7);
    settle().await;
    assert_eq!((member_of_y.received(), of_none.received()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn publish_to_a_room_without_members_has_no_place_and_keeps_nothing() {
    let hub = hub(|_| {});
    let published = hub.publish("empty", Kind::Data, number_body(1)).unwrap().await.unwrap();
    assert_eq!((published.position, published.members), (None, 0));
    assert_eq!(hub.room_count(), 0);
    assert!(hub.publish("", Kind::Data, number_body(1)).is_err());
}

/// Who was in the room before must not be mistaken for the member of a later room of the same name.
#[tokio::test(start_paused = true)]
async fn room_that_ended_begins_a_new_epoch() {
    let hub = hub(|_| {});
    let mut client = welcomed(&hub, "a").await;
    let first = client.join("x").await;
    publish(&hub, "x", 1);
    client.find("message").await;
    client.send(json!({ "type": "unsubscribe", "room": "x" })).await;
    client.expect("unsubscribed").await;
    assert_eq!(hub.room_count(), 0);
    let second = client.join("x").await;
    assert_ne!(first["epoch"], second["epoch"]);
    assert_eq!(second["offset"], 0);
}

/// The sender is a member too, and one write carries everything of a turn.
#[tokio::test(start_paused = true)]
async fn messages_of_one_turn_leave_in_one_write_per_member() {
    let hub = hub(|_| {});
    let mut clients = vec![member(&hub, "a", "x").await, member(&hub, "b", "x").await];
    let before = hub.stats().delivery_writes;
    for number in 1..=16 {
        publish(&hub, "x", number);
    }
    for client in &mut clients {
        for number in 1..=16 {
            assert_eq!(client.expect("message").await["data"], number);
        }
    }
    assert_eq!(hub.stats().delivery_writes - before, 2);
}

/// A client in many rooms gets one write too, and no room's order suffers.
#[tokio::test(start_paused = true)]
async fn member_of_several_rooms_gets_each_room_in_order() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "r0").await;
    for room in 1..5 {
        client.join(&format!("r{room}")).await;
    }
    let _others = [member(&hub, "b", "r1").await, member(&hub, "c", "r2").await];
    for number in 0..100 {
        publish(&hub, &format!("r{}", number % 5), number);
    }
    settle().await;
    let received = client.received();
    for room in 0..5 {
        let of_room: Vec<_> = received
            .iter()
            .filter(
                |received| matches!(received, Received::Json(value) if value["room"] == format!("r{room}")),
            )
            .cloned()
            .collect();
        assert_eq!(offsets(&of_room), (1..=20).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn hub_counts_clients_and_members() {
    let hub: Hub = hub(|_| {});
    let _clients = [member(&hub, "a", "x").await, member(&hub, "b", "x").await, welcomed(&hub, "c").await];
    assert_eq!((hub.client_count(), hub.room_count(), hub.member_count("x")), (3, 1, 2));
    assert_eq!(hub.member_count("nowhere"), 0);
    assert_eq!(hub.clients().len(), 3);
    assert_eq!(hub.stats().connections_opened, 3);
}

/// Bytes reach those who asked for binary frames as they are, and everybody else as text, in one order.
#[tokio::test(start_paused = true)]
async fn bytes_and_texts_mix_in_a_room_of_both_sorts_of_clients() {
    let hub = hub(|_| {});
    let mut texts = member(&hub, "a", "x").await;
    let attach = user("b").speaking("native-binary");
    let (mut bytes, _) = attach_with(&hub, attach, 64 * 1024);
    bytes.expect("welcome").await;
    bytes.join("x").await;
    settle().await;
    texts.received();
    let header = br#"{"type":"publish","id":1,"room":"x","event":"shot"}"#;
    bytes.send_binary(&[&[0, header.len() as u8], &header[..], b"\x00\xff"].concat()).await;
    let shot = texts.expect("shot").await;
    assert_eq!((&shot["base64"], &shot["userId"]), (&json!("AP8="), &json!("b")));
    assert_eq!(bytes.expect("ack").await["offset"], 1);
    let Received::Binary(frame) = bytes.next().await else { panic!("no binary frame") };
    let (header, payload) = frame[2..].split_at(usize::from(u16::from_be_bytes([frame[0], frame[1]])));
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!((&header["type"], &header["offset"], payload), (&json!("shot"), &json!(1), &b"\x00\xff"[..]));
    texts.send(json!({ "type": "publish", "room": "x", "data": 2 })).await;
    assert_eq!(bytes.expect("message").await["offset"], 2);
}

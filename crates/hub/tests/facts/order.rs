//! One order for everybody, whoever publishes from wherever.

use std::collections::HashMap;

use outspoke_hub::{Hub, Kind};
use outspoke_testkit::ScriptedClient;
use serde_json::{Value, json};

use crate::support::{hub, member, number_body, offset, threaded_hub};

/// The promise that everything else in a chat rests on: two people never see two answers in two orders.
#[tokio::test]
async fn members_on_every_shard_see_one_sequence_without_holes() {
    const EACH: u64 = 500;
    let hub = threaded_hub(4, |_| {});
    let mut members = Vec::new();
    for number in 0..8 {
        members.push(member(&hub, &format!("user{number}"), "x").await);
    }
    let applications: Vec<_> = (0..2)
        .map(|number| {
            let hub = hub.clone();
            std::thread::spawn(move || publish_all(&hub, number, EACH))
        })
        .collect();
    let mut running = Vec::new();
    for (number, client) in members.into_iter().enumerate() {
        running.push(tokio::spawn(talk_and_listen(client, number, EACH, 10 * EACH)));
    }
    let mut seen: Option<Vec<(u64, Value)>> = None;
    for task in running {
        let sequence = task.await.unwrap();
        let offsets: Vec<u64> = sequence.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (1..=10 * EACH).collect::<Vec<_>>());
        match &seen {
            None => seen = Some(sequence),
            Some(seen) => assert!(*seen == sequence, "two members saw two orders"),
        }
    }
    applications.into_iter().for_each(|thread| thread.join().unwrap());
    each_publisher_in_order(&seen.unwrap());
}

fn publish_all(hub: &Hub, number: u64, count: u64) {
    for message in 0..count {
        hub.publish("x", Kind::Data, number_body((100 + number) * 1_000_000 + message)).unwrap();
        if message % 16 == 0 {
            std::thread::yield_now();
        }
    }
}

/// Publishes its own while it reads everybody's; returns offset and content of all, in the order received.
async fn talk_and_listen(mut client: ScriptedClient, number: usize, own: u64, all: u64) -> Vec<(u64, Value)> {
    let mut sequence = Vec::new();
    let mut acks = Vec::new();
    let mut sent = 0;
    while (sequence.len() as u64) < all {
        // A few at a time, or the pipe would fill in both directions.
        while sent < own && sent < acks.len() as u64 + 20 {
            let data = number as u64 * 1_000_000 + sent;
            client.send(json!({ "type": "publish", "room": "x", "id": sent, "data": data })).await;
            sent += 1;
        }
        let outspoke_testkit::Received::Json(message) = client.next_but_pings().await else {
            panic!("no JSON")
        };
        match message["type"].as_str().unwrap() {
            "ack" => acks.push((message["id"].as_u64().unwrap(), offset(&message))),
            "message" => sequence.push((offset(&message), message["data"].clone())),
            other => panic!("{other}"),
        }
    }
    // Acknowledgements come in order, and say where the message is.
    assert!(acks.iter().map(|(id, _)| *id).eq(0..own), "each publish is answered once, in order");
    for (id, place) in acks {
        assert_eq!(sequence[place as usize - 1].1, number as u64 * 1_000_000 + id);
    }
    sequence
}

fn each_publisher_in_order(sequence: &[(u64, Value)]) {
    let mut last: HashMap<u64, u64> = HashMap::new();
    for (_, content) in sequence {
        let content = content.as_u64().unwrap();
        if let Some(before) = last.insert(content / 1_000_000, content) {
            assert_eq!(content, before + 1);
        }
    }
}

/// What one connection publishes keeps its order, across rooms as well.
#[tokio::test(start_paused = true)]
async fn publishes_of_one_connection_are_acknowledged_in_order() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "x").await;
    client.join("y").await;
    for id in 0..50 {
        let room = if id % 3 == 0 { "x" } else { "y" };
        client.send(json!({ "type": "chat", "room": room, "id": id, "content": id.to_string() })).await;
    }
    let mut acknowledged = 0;
    let mut heard = HashMap::<String, u64>::new();
    while acknowledged < 50 || heard.values().sum::<u64>() < 50 {
        let outspoke_testkit::Received::Json(message) = client.next().await else { panic!("no JSON") };
        if message["type"] == "ack" {
            assert_eq!(message["id"], acknowledged);
            acknowledged += 1;
        } else {
            let count = heard.entry(message["room"].as_str().unwrap().to_owned()).or_default();
            *count += 1;
            assert_eq!(offset(&message), *count);
        }
    }
}

/// A refused message takes no place: the next one gets the offset.
#[tokio::test(start_paused = true)]
async fn refused_publishes_leave_no_hole() {
    let hub = hub(|config| config.content_chars_max = 5);
    let mut client = member(&hub, "a", "x").await;
    for (content, code) in
        [("", "content_required"), ("   ", "content_required"), ("123456", "content_too_long")]
    {
        client.say("x", content).await;
        assert_eq!(client.expect("error").await["error"], code);
    }
    client.say("elsewhere", "hi").await;
    assert_eq!(client.expect("error").await["error"], "not_subscribed");
    client.send(json!({ "type": "chat", "content": "hi" })).await;
    assert_eq!(client.expect("error").await["error"], "room_required");
    client.say("x", "äöüß€").await;
    assert_eq!(client.expect("chat").await["offset"], 1);
}

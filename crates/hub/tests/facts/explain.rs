//! What became of a message, said truthfully: for each connection, on each node, and "not known" where it is not.

use std::time::Duration;

use outspoke_hub::{
    Attach, Body, ConnectionAccount, Disconnect, Durability, Explanation, Heard, Hub, HubConfig, Identity,
    Kind, MessageId, Outcome, RoomName, SlowClient, UserId, Which,
};
use outspoke_testkit::{ScriptedClient, attach_with, settle};
use serde_json::json;

use crate::cluster::{Nodes, moment};
use crate::support::{hub, member, publish, user, welcomed};

fn at(room: &str, offset: u64) -> Which {
    Which::At(RoomName::new(room, 128).unwrap(), offset)
}

async fn explain(hub: &Hub, which: &Which, user: &str) -> Explanation {
    hub.explain(which, Some(&UserId::new(user))).await.unwrap().expect("the message is known")
}

fn connections(explanation: &Explanation) -> Vec<&ConnectionAccount> {
    explanation
        .nodes
        .iter()
        .filter_map(|node| node.account.as_ref())
        .flat_map(|account| &account.connections)
        .collect()
}

/// What became of the message at an offset of `x` for a user with one connection.
async fn outcome(hub: &Hub, offset: u64, user: &str) -> ConnectionAccount {
    let explanation = explain(hub, &at("x", offset), user).await;
    let connections = connections(&explanation);
    assert_eq!(connections.len(), 1, "{explanation:?}");
    connections[0].clone()
}

#[tokio::test(start_paused = true)]
async fn message_that_was_read_is_explained_as_written_with_its_publisher_and_its_hand_out() {
    let hub = hub(|_| {});
    let mut ana = member(&hub, "ana", "x").await;
    let mut ben = member(&hub, "ben", "x").await;
    ben.say("x", "hello").await;
    let said = ana.expect("chat").await;
    let id: MessageId = said["id"].as_str().unwrap().parse().unwrap();
    for which in [at("x", 1), Which::Id(None, id), Which::Id(Some(RoomName::new("x", 9).unwrap()), id)] {
        let explanation = explain(&hub, &which, "ana").await;
        assert_eq!((explanation.position.offset, explanation.id), (1, Some(id)));
        assert_eq!(explanation.from.as_ref().unwrap().user.as_str(), "ben");
        let node = explanation.nodes[0].account.as_ref().unwrap();
        assert_eq!(node.heard.as_ref().unwrap().how, Heard::Published);
        assert!(node.heard.as_ref().unwrap().stored_micros.is_none(), "nothing is stored here");
        assert_eq!(node.handed_out.iter().map(|handed| handed.members).collect::<Vec<_>>(), [2]);
        assert_eq!(node.connections[0].outcome, Outcome::Written, "{:?}", node.connections);
        assert!(
            node.connections[0].at.is_some() && node.unknown.is_empty() && explanation.unknown.is_empty()
        );
    }
    let nothing = [at("x", 2), at("y", 1), Which::Id(None, MessageId::from_u128(7))];
    for which in nothing {
        assert!(hub.explain(&which, None).await.unwrap().is_none(), "{which:?}");
    }
}

/// Being connected is not being there: each way of not being in the room has a name of its own.
#[tokio::test(start_paused = true)]
async fn who_was_not_in_the_room_is_told_apart_by_why() {
    let hub = hub(|config| config.rooms.default_mut().members_max = 4);
    let _witness = member(&hub, "witness", "x").await;
    let mut left = member(&hub, "left", "x").await;
    left.send(json!({ "type": "unsubscribe", "room": "x" })).await;
    left.expect("unsubscribed").await;
    let _removed = member(&hub, "removed", "x").await;
    hub.remove_from_room("x", &UserId::new("removed"), Duration::from_secs(60)).await.unwrap();
    let gone = member(&hub, "gone", "x").await;
    hub.disconnect_everywhere(&UserId::new("gone"), Disconnect::Kicked, "").await;
    settle().await;
    let _never = welcomed(&hub, "never").await;
    publish(&hub, "x", 1);
    settle().await;
    let _later = member(&hub, "later", "x").await;
    publish(&hub, "x", 2);
    settle().await;
    let of = async |user: &str| outcome(&hub, 1, user).await;
    assert_eq!(of("witness").await.outcome, Outcome::Written);
    assert_eq!(of("left").await.outcome, Outcome::Left);
    assert_eq!(of("removed").await.outcome, Outcome::Removed);
    let ended = of("gone").await;
    assert_eq!(
        (ended.outcome, ended.code, ended.connected),
        (Outcome::Ended, Some(4501), false),
        "{ended:?}"
    );
    assert_eq!(of("never").await.outcome, Outcome::NotMember);
    let later = of("later").await;
    assert_eq!((later.outcome, later.joined), (Outcome::JoinedLater, Some(1)));
    assert_eq!(outcome(&hub, 2, "later").await.outcome, Outcome::Written);
    let nobody = explain(&hub, &at("x", 1), "nobody").await;
    assert!(connections(&nobody).is_empty());
    drop(gone);
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_the_room_is_told_with_the_refusal() {
    let hub = hub(|config| config.rooms.default_mut().members_max = 1);
    let _first = member(&hub, "first", "x").await;
    let mut second = welcomed(&hub, "second").await;
    second.send(json!({ "type": "subscribe", "room": "x" })).await;
    second.expect("error").await;
    publish(&hub, "x", 1);
    settle().await;
    let refused = outcome(&hub, 1, "second").await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert!(refused.reason.unwrap().contains('1') && refused.code.is_some());
}

/// A client that stops reading.
async fn slow_scene(policy: SlowClient) -> (Hub, ScriptedClient, ScriptedClient) {
    let hub = hub(|config: &mut HubConfig| {
        config.rooms.default_mut().slow_client = policy;
        config.message_bytes_max = 1000;
        config.outbox_bytes_max = 4000;
        config.write_timeout = Duration::ZERO;
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let fast = member(&hub, "fast", "x").await;
    let (mut slow, _) = attach_with(&hub, Attach::new(Identity::user("slow")), 1500);
    slow.expect("welcome").await;
    slow.join("x").await;
    (hub, fast, slow)
}

async fn publish_each_in_its_turn(hub: &Hub, fast: &mut ScriptedClient, count: u64) {
    for _ in 0..count {
        let body = Body::json(&"x".repeat(100)).unwrap();
        hub.publish("x", Kind::Data, body).unwrap();
        fast.expect("message").await;
    }
    settle().await;
}

/// What slow clients got, by what they are told and by what they read: both must agree.
#[tokio::test(start_paused = true)]
async fn slow_client_waits_or_misses_what_it_is_said_to_wait_for_and_to_miss() {
    for policy in [SlowClient::DropNewest, SlowClient::DropOldest, SlowClient::Resync] {
        let (hub, mut fast, mut slow) = slow_scene(policy).await;
        publish_each_in_its_turn(&hub, &mut fast, 100).await;
        let mut before = Vec::new();
        for offset in 1..=100 {
            before.push(outcome(&hub, offset, "slow").await.outcome);
        }
        assert!(before.contains(&Outcome::Skipped), "{policy:?} {before:?}");
        if policy != SlowClient::Resync {
            assert!(before.contains(&Outcome::Queued), "{policy:?} {before:?}");
        }
        let mut read = Vec::new();
        loop {
            settle().await;
            match slow.received() {
                more if more.is_empty() => break,
                more => read.extend(crate::support::offsets(&more)),
            }
        }
        for offset in 1..=100 {
            let account = outcome(&hub, offset, "slow").await;
            let got = read.contains(&offset);
            assert_eq!(account.outcome == Outcome::Written, got, "{policy:?} {offset} {account:?}");
            assert_eq!(account.outcome == Outcome::Skipped, !got, "{policy:?} {offset} {account:?}");
            assert_eq!(before[offset as usize - 1] == Outcome::Skipped, !got, "{policy:?} {offset}");
        }
        assert_eq!(outcome(&hub, 1, "fast").await.outcome, Outcome::Written);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_client_that_was_let_go_is_told_to_have_ended_before_it_read() {
    let (hub, mut fast, slow) = slow_scene(SlowClient::Disconnect).await;
    publish_each_in_its_turn(&hub, &mut fast, 60).await;
    let last = outcome(&hub, 60, "slow").await;
    assert_eq!((last.outcome, last.code), (Outcome::Ended, Some(4000)), "{last:?}");
    assert_eq!(outcome(&hub, 1, "slow").await.outcome, Outcome::Written);
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn who_came_back_and_was_given_what_it_missed_is_said_to_have_recovered() {
    let hub = hub(|config| config.rooms.default_mut().durability = Durability::Memory);
    let mut ana = welcomed(&hub, "ana").await;
    let epoch = ana.join("x").await["epoch"].clone();
    publish(&hub, "x", 1);
    ana.expect("message").await;
    drop(ana);
    settle().await;
    publish(&hub, "x", 2);
    settle().await;
    let gone = outcome(&hub, 2, "ana").await;
    assert_eq!((gone.outcome, gone.connected), (Outcome::Ended, false), "{gone:?}");
    let mut ana = welcomed(&hub, "ana").await;
    ana.send(json!({ "type": "subscribe", "room": "x", "epoch": epoch, "offset": 1 })).await;
    ana.expect("subscribed").await;
    let explanation = explain(&hub, &at("x", 2), "ana").await;
    let outcomes: Vec<_> =
        connections(&explanation).iter().map(|account| (account.connected, account.outcome)).collect();
    assert_eq!(outcomes, [(true, Outcome::Recovered), (false, Outcome::Ended)]);
}

/// Of what was pushed out of memory nothing is claimed.
#[tokio::test(start_paused = true)]
async fn what_is_not_remembered_any_more_is_said_not_to_be_known() {
    let hub = hub(|config| {
        (config.remembered_messages_max, config.remembered_events_max) = (256 * 4, 2);
        config.rooms.default_mut().durability = Durability::Memory;
    });
    let _ana = member(&hub, "ana", "x").await;
    for number in 1..=10 {
        publish(&hub, "x", number);
        settle().await;
    }
    assert_eq!(outcome(&hub, 10, "ana").await.outcome, Outcome::Written);
    let forgotten = explain(&hub, &at("x", 1), "ana").await;
    assert!(forgotten.nodes[0].account.as_ref().unwrap().heard.is_none());
    assert_eq!(connections(&forgotten)[0].outcome, Outcome::Unknown);
    assert!(forgotten.unknown[0].contains("history"), "{:?}", forgotten.unknown);
    for number in 0..3 {
        drop(member(&hub, &format!("guest{number}"), "x").await);
        settle().await;
    }
    let later = member(&hub, "later", "x").await;
    let account = outcome(&hub, 10, "later").await;
    assert!(account.why.contains("not remembered"), "{account:?}");
    drop(later);
    let none = crate::support::hub(|config| {
        (config.remembered_messages_max, config.remembered_events_max) = (0, 0);
        config.rooms.default_mut().durability = Durability::Memory;
    });
    let _ana = member(&none, "ana", "x").await;
    publish(&none, "x", 1);
    settle().await;
    let nothing = explain(&none, &at("x", 1), "ana").await;
    assert_eq!(connections(&nothing)[0].outcome, Outcome::Unknown);
    assert!(nothing.unknown.iter().any(|what| what.contains("remembers no messages")));
}

/// Both sorts of rooms, each node asked, the other one's connections told.
#[tokio::test(start_paused = true)]
async fn both_nodes_say_what_they_know_of_a_message_and_of_a_users_connections() {
    let nodes = Nodes::start(2);
    moment().await;
    for room in ["x", "s"] {
        let mut ana = member(&nodes.hubs[0], "ana", room).await;
        let mut other = user("ana");
        other.identity.device = "phone".into();
        let (mut phone, _) = attach_with(&nodes.hubs[1], other, 4096);
        phone.expect("welcome").await;
        phone.join(room).await;
        // So that offsets of a room that is not stored differ from node to node.
        ana.say(room, "hello").await;
        let id: MessageId = phone.expect("chat").await["id"].as_str().unwrap().parse().unwrap();
        moment().await;
        for asked in &nodes.hubs {
            let explanation = explain(asked, &Which::Id(None, id), "ana").await;
            let heard: Vec<_> = explanation
                .nodes
                .iter()
                .map(|node| node.account.as_ref().unwrap().heard.as_ref().unwrap().how)
                .collect();
            let first = std::ptr::eq(asked, &nodes.hubs[0]);
            let (one, two) = if first { (0, 1) } else { (1, 0) };
            assert_eq!((heard[one], heard[two]), (Heard::Published, Heard::Bus), "{room}");
            let published = explanation.nodes[one].account.as_ref().unwrap().heard.as_ref().unwrap();
            assert!(published.told);
            assert_eq!(published.stored_micros.is_some(), room == "s");
            let outcomes: Vec<_> = connections(&explanation).iter().map(|account| account.outcome).collect();
            assert_eq!(outcomes, [Outcome::Written, Outcome::Written], "{room} {explanation:?}");
        }
        drop((ana, phone));
        moment().await;
    }
}

/// A node that cannot be asked is named, and nothing is claimed for it.
#[tokio::test(start_paused = true)]
async fn node_that_does_not_answer_is_said_not_to_have_answered() {
    let nodes = Nodes::start(2);
    moment().await;
    let mut ana = member(&nodes.hubs[0], "ana", "x").await;
    ana.say("x", "hello").await;
    ana.expect("chat").await;
    nodes.bus.go_away();
    let explanation = explain(&nodes.hubs[0], &at("x", 1), "ana").await;
    let answered: Vec<_> = explanation.nodes.iter().map(|node| node.account.is_some()).collect();
    assert_eq!(answered, [true, false]);
    assert_eq!(connections(&explanation)[0].outcome, Outcome::Written);
}

/// Nobody hears of another tenant's rooms or users.
#[tokio::test(start_paused = true)]
async fn messages_of_other_tenants_are_not_known() {
    let hub = hub(|_| {});
    let other = hub.in_tenant("other");
    let (mut ana, _) =
        attach_with(&other, Attach::new(Identity::user("ana").named("ana").of_tenant("other")), 4096);
    ana.expect("welcome").await;
    ana.join("x").await;
    let _same_name = attach_with(&hub, user("ana"), 4096);
    ana.say("x", "hello").await;
    let id: MessageId = ana.expect("chat").await["id"].as_str().unwrap().parse().unwrap();
    assert!(hub.explain(&at("x", 1), None).await.unwrap().is_none());
    assert!(hub.explain(&Which::Id(None, id), None).await.unwrap().is_none());
    let explanation = explain(&other, &at("x", 1), "ana").await;
    assert_eq!(connections(&explanation).len(), 1);
}

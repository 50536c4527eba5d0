//! Who a client says it is: checked before the upgrade, and one place per identity.

use std::sync::Arc;

use outspoke_testkit::{Refused, TcpClient};
use serde_json::{Value, json};

use crate::support::{Server, Settings};

fn assert_refused(refused: &Refused, status: u16, code: &str) {
    assert_eq!(refused.status, status, "{refused:?}");
    assert_eq!(refused.headers["content-type"], "application/json");
    let error: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((&error["type"], &error["error"]), (&json!("error"), &json!(code)), "{error}");
    assert!(error["code"].is_u64() && error["temporary"].is_boolean(), "{error}");
    assert!(error["message"].as_str().unwrap().len() > 15, "{error}");
}

/// Nothing is upgraded that would have to be thrown out at once.
#[tokio::test]
async fn names_and_ids_that_are_wrong_are_refused_before_the_upgrade() {
    let server = Server::start().await;
    let at_50 = "ü".repeat(50).replace('ü', "%C3%BC");
    let at_51 = format!("{at_50}%C3%BC");
    let id_128 = "i".repeat(128);
    for (query, code) in [
        (String::new(), "username_required"),
        ("?userId=u1".into(), "username_required"),
        ("?userId=u1&username=".into(), "username_required"),
        ("?userId=u1&username=%20%20".into(), "username_required"),
        ("?username=&join=kitchen".into(), "username_required"),
        (format!("?username={at_51}"), "username_too_long"),
        (format!("?username={at_51}&join=none"), "username_too_long"),
        ("?username=A%00B".into(), "invalid_identity"),
        ("?username=A%0AB".into(), "invalid_identity"),
        ("?username=%1B%5B2JAnn".into(), "invalid_identity"),
        ("?username=A%C2%85B".into(), "invalid_identity"),
        ("?username=%E2%80%AEecilA".into(), "invalid_identity"),
        ("?username=Alice%E2%80%8B".into(), "invalid_identity"),
        ("?username=%FF%FE".into(), "invalid_identity"),
        ("?username=Ann&userId=%FF".into(), "invalid_identity"),
        ("?username=Ann&userId=a%07".into(), "invalid_identity"),
        (format!("?username=Ann&userId={id_128}i"), "invalid_identity"),
        (format!("?username=Ann&device={id_128}i"), "invalid_identity"),
        ("?username=Ann&join=".into(), "invalid_room"),
        ("?username=Ann&join=a%0Ab".into(), "invalid_room"),
        (format!("?username=Ann&join={id_128}i"), "invalid_room"),
        ("?username=Ann&dialect=morse".into(), "bad_request"),
    ] {
        let refused = server.try_open(&format!("/ws{query}")).await.expect_err(&query);
        assert_refused(&refused, 400, code);
    }
    for (query, user, name) in [
        (format!("?userId={id_128}&username={at_50}"), id_128.as_str(), "ü".repeat(50)),
        ("?userId=a%20b%2Fc%26d%3De&username=Zo%C3%AB+X".into(), "a b/c&d=e", "Zoë X".into()),
        ("?username=%F0%9F%98%80&userId=u".into(), "u", "😀".into()),
        ("?username=%D9%85%DB%8C%E2%80%8C%D8%B1&userId=u".into(), "u", "می\u{200c}ر".into()),
        ("?username=%20Ann%20&userId=u".into(), "u", "Ann".into()),
        ("?userId=u&join=none".into(), "u", String::new()),
    ] {
        let mut client = server.open(&format!("/ws{query}")).await;
        let welcome = client.expect("welcome").await;
        assert_eq!((&welcome["userId"], &welcome["username"]), (&json!(user), &json!(name)), "{query}");
        assert_eq!(welcome["openMode"], true);
    }
    server.has_clients(0).await;
}

#[tokio::test]
async fn without_a_user_id_everybody_is_somebody_else() {
    let server = Server::start().await;
    let mut first = server.open("/ws?username=Ann").await;
    let mut second = server.open("/ws?username=Ann").await;
    let (one, two) = (first.expect("welcome").await, second.expect("welcome").await);
    assert_ne!(one["userId"], two["userId"]);
    assert_eq!(server.clients().await, 2);
}

/// The lobby is for people with names; whoever joins nothing may listen and publish data.
#[tokio::test]
async fn nameless_client_without_a_room_may_publish_and_not_chat() {
    let server = Server::start().await;
    let mut nameless = server.open("/ws?userId=sensor&join=none").await;
    nameless.expect("welcome").await;
    let mut ann = server.client("ann").await;
    ann.join("lab").await;
    nameless.join("lab").await;
    nameless.send(json!({ "type": "chat", "id": 1, "room": "lab", "content": "hello" })).await;
    let error = nameless.expect("error").await;
    assert_eq!((&error["id"], &error["error"]), (&json!(1), &json!("username_required")));
    nameless.send(json!({ "type": "publish", "room": "lab", "data": 21.5 })).await;
    let message = ann.expect("message").await;
    assert_eq!((&message["data"], &message["username"]), (&json!(21.5), &json!("")));
}

/// Two connections with one identity are one client that came back: nothing may go to the dead one.
#[tokio::test]
async fn newer_connection_replaces_the_older_one_with_the_same_identity() {
    let server = Server::start().await;
    let mut bob = server.in_lobby("bob").await;
    let mut old = server.in_lobby("ann").await;
    bob.expect("join").await;
    let mut new = server.in_lobby("ann").await;
    assert_eq!(old.closed().await, Some(4500));
    // Ann was there all the time: nobody is told that she left and came.
    bob.say("lobby", "still there?").await;
    assert_eq!(bob.expect("chat").await["content"], "still there?");
    assert_eq!(new.find("chat").await["content"], "still there?");
    drop(old);
    server.has_clients(2).await;
}

#[tokio::test]
async fn devices_of_one_user_stay_side_by_side() {
    let server = Server::start().await;
    let mut clients: Vec<TcpClient> = Vec::new();
    for query in ["&device=tab-1", "&device=tab-2", ""] {
        let mut client = server.open(&format!("/ws?userId=ann&username=Ann{query}")).await;
        client.find("subscribed").await;
        clients.push(client);
    }
    assert_eq!(server.clients().await, 3);
    let mut again = server.open("/ws?userId=ann&username=Ann&device=tab-2").await;
    again.find("subscribed").await;
    assert_eq!(clients[1].closed().await, Some(4500));
    crate::chat::quiet_but_announcements(&mut clients[0]).await;
    crate::chat::quiet_but_announcements(&mut clients[2]).await;
}

/// A storm of connections with one identity leaves exactly one, whatever shard each landed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_simultaneous_connections_with_one_identity_one_is_left() {
    let server = Arc::new(Settings::default().set("server.shards", "4").start().await);
    let storm: Vec<_> = (0..40)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.open("/ws?userId=ann&username=Ann").await })
        })
        .collect();
    let mut ends = tokio::task::JoinSet::new();
    for client in storm {
        let mut client = client.await.unwrap();
        ends.spawn(async move { client.closed().await });
    }
    for _ in 0..39 {
        assert_eq!(ends.join_next().await.unwrap().unwrap(), Some(4500));
    }
    server.has_clients(1).await;
    let mut bob = server.in_lobby("bob").await;
    bob.send(json!({ "type": "subscribe", "room": "lobby" })).await;
    assert_eq!(bob.expect("subscribed").await["members"], 2);
}

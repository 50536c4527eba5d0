//! `tail`: what is said in rooms, as it is said.

use outspoke_testkit::services::{Postgres, Redis};
use serde_json::json;

use crate::exec::STORED;
use crate::support::{PATIENCE, Server, json_lines};

#[tokio::test]
async fn what_is_said_is_printed_with_a_key_and_without() {
    let server = Server::start(STORED).await;
    let cli = server.cli();
    for number in 0..30 {
        cli.ok(&["pub", "news", &format!("old {number}")]).await;
    }
    for (den, follower) in [("one", server.cli()), ("two", server.open_cli())] {
        // What was said before, the newest ten or as many as are wanted.
        let old = follower.ok(&["tail", "news", "--count", "10", "--raw", "--event", "chat"]).await;
        assert_eq!(old, (20..30).map(|number| format!("old {number}\n")).collect::<String>());
        let old = follower.ok(&["tail", "news", "--last", "3", "--count", "3", "--json"]).await;
        assert_eq!(json_lines(&old)[2]["content"], "old 29");
        let old = follower.ok(&["tail", "news", "--since", "1h", "--count", "30", "--raw"]).await;
        assert_eq!(old.lines().count(), 30);
        // And what is said from then on, once however often a room is named.
        let mut tail = follower.start(&[
            "tail", "news", den, "news", "--last", "1", "--count", "3", "--event", "chat", "--event", "vote",
        ]);
        tail.wait_for(|line| line.ends_with("server: old 29").then_some(())).await;
        cli.ok(&["pub", den, "--data", "{\"yes\":1}", "--event", "vote"]).await;
        tail.wait_for(|line| {
            (line.starts_with(&format!("[{den}] ")) && line.ends_with("server vote: {\"yes\":1}"))
                .then_some(())
        })
        .await;
        cli.ok(&["pub", "news", "--event", "system", "not this"]).await;
        cli.ok(&["pub", "news", "new \x1b[2J"]).await;
        assert_eq!(tail.ended(PATIENCE).await.code(), Some(0));
        let log = tail.log();
        assert!(log.last().unwrap().ends_with("server: new \\u{1b}[2J"), "{log:?}");
        assert!(!log.iter().any(|line| line.contains("not this")), "{log:?}");
        cli.ok(&["pub", "news", "--event", "system", "for the next round"]).await;
        for number in 20..30 {
            cli.ok(&["pub", "news", &format!("old {number}")]).await;
        }
    }
}

#[tokio::test]
async fn end_by_time_is_a_failure_only_if_something_was_still_wanted() {
    let server = Server::start(STORED).await;
    for cli in [server.cli(), server.open_cli()] {
        assert_eq!(cli.run(&["tail", "quiet", "--for", "50ms"]).await.code, 0);
        assert_eq!(
            cli.run(&["tail", "quiet", "--for", "50ms", "--count", "1", "--event", "chat"]).await.code,
            1
        );
        cli.fails(69, &["tail", "quiet", "--server", "http://127.0.0.1:1"], "cannot reach").await;
        assert_eq!(cli.run(&["tail"]).await.code, 2);
    }
    server.cli().fails(77, &["tail", "x", "--key", "guess"], "refuses this key").await;
}

/// A log that has not been seen whole is no success, whatever the program says; what is asked of the past is told apart.
#[tokio::test]
async fn lines_that_are_not_kept_any_more_are_told_and_no_success() {
    let server = Server::start(&[]).await;
    let cli = server.cli();
    cli.ok(&["pub", "build", "begin"]).await;
    let mut tail = cli.start(&["tail", "build", "--exit-code"]);
    tail.wait_for(|line| line.ends_with("begin").then_some(())).await;
    let exec = cli.run(&["exec", "build", "--quiet", "--", "seq", "1", "1000"]).await;
    assert_eq!(exec.code, 0, "{exec:?}");
    let code = tail.ended(PATIENCE).await.code();
    let log = tail.log().join("\n");
    assert!(code == Some(1) && log.contains("messages are not kept any more"), "{code:?}: {log}");
    assert!(log.contains("the program ended with 0") && log.contains("was not seen whole"), "{log}");
    for follower in [server.cli(), server.open_cli()] {
        let args = ["tail", "build", "--last", "500", "--exit-code", "--raw", "--event", "none"];
        let said = follower.run(&args).await;
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
        assert_eq!(said.err, "outspoke: \"build\": 400 messages are not kept any more\n");
        assert_eq!(follower.ok(&["tail", "build", "--exit-code"]).await.lines().count(), 10);
    }
}

#[tokio::test]
async fn people_who_come_and_talk_are_seen_over_a_connection() {
    let server = Server::start(&[]).await;
    let mut tail = server.open_cli().start(&[
        "tail", "den", "--json", "--user", "watcher", "--count", "2", "--event", "join", "--event", "chat",
    ]);
    let mut ann = server.client("ann").await;
    // The follower is there as soon as the room has a member.
    let there = async { while server.cli().run(&["presence", "den"]).await.code != 0 {} };
    tokio::time::timeout(PATIENCE, there).await.unwrap();
    ann.send(json!({ "type": "subscribe", "room": "den" })).await;
    ann.expect("subscribed").await;
    ann.send(json!({ "type": "chat", "room": "den", "content": "hi" })).await;
    assert_eq!(tail.ended(PATIENCE).await.code(), Some(0));
    let seen = json_lines(&tail.log().join("\n"));
    assert_eq!(
        (&seen[0]["type"], &seen[0]["userId"], &seen[1]["content"]),
        (&json!("join"), &json!("ann"), &json!("hi"))
    );
}

/// Two servers that act as one, over Redis and with a store that they share.
async fn two_servers(store: [(&str, String); 2], redis: &Redis) -> (Server, Server) {
    let url = redis.url();
    let [backend, place] = &store;
    let node = async |name: &str| {
        let settings = [
            ("cluster.enabled", "true"),
            ("cluster.bus", "redis"),
            ("cluster.redis.url", &url),
            ("cluster.name", name),
            ("cluster.heartbeat", "1s"),
            ("cluster.secret", "battery staple"),
            (backend.0, &backend.1),
            (place.0, &place.1),
        ];
        Server::start(&[STORED, &settings].concat()).await
    };
    (node("hub-1").await, node("hub-2").await)
}

/// Whoever listens before anything was said loses nothing with the first word, wherever it is said, and is not told so.
async fn first_word_elsewhere_is_no_loss(store: [(&str, String); 2], redis: &Redis) {
    let (here, there) = two_servers(store, redis).await;
    for (room, follower) in [("den", here.open_cli()), ("hall", here.cli())] {
        // Somebody is in the room, so that the room is there before anything was said.
        let mut member = here.client("ana").await;
        let joined = member.join(room).await;
        let mut tail = follower.start(&["tail", room, "--count", "2", "--event", "chat", "--json"]);
        if room == "den" {
            member.expect("join").await;
        }
        there.cli().ok(&["pub", room, "first"]).await;
        assert_eq!(member.find("chat").await["epoch"], joined["epoch"], "{room}");
        there.cli().ok(&["pub", room, "second"]).await;
        assert_eq!(tail.ended(PATIENCE).await.code(), Some(0));
        let told = json_lines(&tail.log().join("\n"));
        let told: Vec<_> = told.iter().map(|line| (&line["type"], &line["content"])).collect();
        let chat = json!("chat");
        assert_eq!(told, [(&chat, &json!("first")), (&chat, &json!("second"))], "{room}");
    }
}

#[tokio::test]
async fn first_word_on_the_other_server_is_no_loss_on_redis() {
    let redis = Redis::start().await;
    let store = [("store.backend", "redis".to_owned()), ("store.redis.url", redis.url())];
    first_word_elsewhere_is_no_loss(store, &redis).await;
}

#[tokio::test]
async fn first_word_on_the_other_server_is_no_loss_on_postgresql() {
    let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    let store = [("store.backend", "postgresql".to_owned()), ("store.postgresql.url", postgres.url())];
    first_word_elsewhere_is_no_loss(store, &redis).await;
}

//! Heartbeats: dead connections are found, living ones stay.

use outspoke_testkit::Received;

use crate::support::Settings;

#[tokio::test]
async fn client_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let settings = Settings::default().set("heartbeat.ping_interval", "500ms");
    let server = settings.set("heartbeat.pong_timeout", "4s").start().await;
    let mut living = server.client("living").await;
    let mut dead = server.client("dead").await;
    let kept = tokio::spawn(async move {
        for _ in 0..12 {
            let Received::Ping(payload) = living.next().await else { panic!("only pings are expected") };
            living.pong(&payload).await;
        }
        living
    });
    let mut pings = 0;
    let code = loop {
        match dead.next().await {
            Received::Ping(_) => pings += 1,
            Received::Close { code, .. } => break code,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(code, Some(4002));
    assert!(pings >= 1);
    drop(dead);
    let _living = kept.await.unwrap();
    server.has_clients(1).await;
}

/// Proxies and pages see only messages: the application's ping is a sign of life, too.
#[tokio::test]
async fn messages_count_as_signs_of_life() {
    let settings = Settings::default().set("heartbeat.ping_interval", "0");
    let server = settings.set("server.read_timeout", "4s").start().await;
    let mut talking = server.client("talking").await;
    let mut silent = server.client("silent").await;
    let talk = tokio::spawn(async move {
        let mut interval = tokio::time::interval(std::time::Duration::from_millis(500));
        for _ in 0..12 {
            interval.tick().await;
            crate::chat::quiet(&mut talking).await;
        }
        talking
    });
    assert_eq!(silent.closed().await, Some(4002));
    drop(silent);
    let _talking = talk.await.unwrap();
    server.has_clients(1).await;
}

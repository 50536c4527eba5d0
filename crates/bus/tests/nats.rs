//! The bus over NATS does what a bus must, and what NATS makes of it.
#![cfg(feature = "nats")]
#![allow(clippy::unwrap_used)]

mod harm;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outspoke_bus::nats::{NatsBus, NatsOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{BusError, MessageBus, bus_suite, feed};
use outspoke_testkit::services::Nats;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

struct Service(Nats);

impl Stage for Service {
    fn connect(&self) -> Arc<dyn MessageBus> {
        Arc::new(NatsBus::new(&NatsOptions::new(self.0.url())).unwrap())
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.kill();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.restart())
    }
}

bus_suite!(Service(Nats::start().await));

fn impatient(url: String) -> NatsOptions {
    NatsOptions { timeout: Duration::from_secs(1), ..NatsOptions::new(url) }
}

fn two(options: &NatsOptions) -> [Arc<dyn MessageBus>; 2] {
    [bus(options), bus(options)]
}

fn bus(options: &NatsOptions) -> Arc<dyn MessageBus> {
    Arc::new(NatsBus::new(options).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_stands_still_is_noticed_and_found_again() {
    let server = Nats::start().await;
    let buses = two(&impatient(server.url()));
    harm::a_server_that_stands_still_is_noticed_and_found_again(buses, || server.pause(), || server.resume())
        .await;
}

/// NATS's slow consumer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_cuts_a_reader_off_that_takes_nothing_and_it_is_told() {
    let server = Nats::start_with("max_pending: 1MB\nwrite_deadline: \"1s\"").await;
    harm::a_reader_that_takes_nothing_is_cut_off_and_told(two(&NatsOptions::new(server.url()))).await;
}

#[tokio::test]
async fn nats_lets_in_by_password_token_and_key_and_says_when_it_does_not() {
    let password = "authorization { user: me, password: \"c/d e\" }";
    let server = Nats::start_with(password).await;
    harm::a_message_comes(two(&NatsOptions::new(server.url_as("me:c%2Fd%20e")))).await;
    for wrong in ["me:hunter2", "hunter2"] {
        let bus = bus(&NatsOptions::new(server.url_as(wrong)));
        let words = [&*server.addr().to_string(), "Authorization Violation", "`url`", "`credentials_file`"];
        harm::a_login_that_is_refused_is_said_without_the_password(bus, &words).await;
    }
    let server = Nats::start_with("authorization { token: s3cret }").await;
    harm::a_message_comes(two(&NatsOptions::new(server.url_as("s3cret")))).await;
    // The pair of NATS's own documentation.
    let key =
        "authorization { users: [ { nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4 } ] }";
    let server = Nats::start_with(key).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("user.nk");
    fs::write(&file, "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n").unwrap();
    let options = NatsOptions { credentials_file: Some(file), ..NatsOptions::new(server.url()) };
    harm::a_message_comes(two(&options)).await;
}

#[tokio::test]
async fn nats_with_tls_is_trusted_only_with_its_authority() {
    let pem =
        |name: &str| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../store/tests/tls")).join(name);
    let (cert, key) = (pem("server.pem"), pem("server.key"));
    let server = Nats::start_with(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}")).await;
    let url = format!("nats://localhost:{}", server.addr().port());
    let trusting = NatsOptions { ca_file: Some(pem("ca.pem")), ..NatsOptions::new(url.clone()) };
    harm::a_message_comes(two(&trusting)).await;
    let bus = bus(&NatsOptions::new(url));
    harm::until_it_says(&*bus, &["does not speak TLS with us", "`ca_file`"]).await;
}

/// A user who may do less than a bus needs finds out at once, not when the first room stays silent.
#[tokio::test]
async fn nats_that_forbids_a_subject_is_said() {
    let server = Nats::start_with(
        "authorization { users: [
            { user: deaf, password: x, permissions: { publish: \">\", subscribe: \"other.>\" } }
            { user: mute, password: x, permissions: { publish: \"other.>\", subscribe: \">\" } } ] }",
    )
    .await;
    let (outlet, _feed) = feed();
    let room = harm::topic("room/x");
    let deaf = bus(&NatsOptions::new(server.url_as("deaf:x")));
    harm::until_connected(&*deaf, true).await;
    let subscribing = tokio::spawn({
        let (deaf, room) = (deaf.clone(), room.clone());
        async move { deaf.subscribe(&[room], &outlet).await }
    });
    harm::until_it_says(&*deaf, &["Permissions Violation for Subscription", "below the prefix"]).await;
    deaf.close().await.unwrap();
    assert_eq!(subscribing.await.unwrap(), Err(BusError::Closed));
    let mute = bus(&NatsOptions::new(server.url_as("mute:x")));
    harm::until_connected(&*mute, true).await;
    let refused = mute.publish(&[harm::outgoing(&room, 0, 0)]).await.unwrap_err().to_string();
    assert!(refused.contains("Permissions Violation for Publish"), "{refused}");
}

#[tokio::test]
async fn nats_that_takes_too_little_at_once_is_said() {
    let server = Nats::start_with("max_payload: 10KB").await;
    harm::until_it_says(&*bus(&NatsOptions::new(server.url())), &["`max_payload`", "65536"]).await;
}

/// Who listens to everything sees one token below the prefix, whatever the topic.
#[tokio::test]
async fn nats_odd_names_stay_below_the_prefix() {
    let server = Nats::start().await;
    let mut socket = BufReader::new(TcpStream::connect(server.addr()).await.unwrap());
    socket.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n").await.unwrap();
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        socket.read_line(&mut line).await.unwrap();
    }
    let bus = bus(&NatsOptions { prefix: "chat.eu".to_owned(), ..NatsOptions::new(server.url()) });
    let longest = "漢".repeat(400);
    let topics: Vec<_> = harm::ODD_NAMES.iter().copied().chain([longest.as_str()]).map(harm::topic).collect();
    let batch: Vec<_> = topics.iter().map(|topic| harm::outgoing(topic, 0, 0)).collect();
    harm::publish(&*bus, &batch).await;
    let mut subjects = BTreeSet::new();
    while subjects.len() < topics.len() {
        line.clear();
        harm::within("a message", socket.read_line(&mut line)).await.unwrap();
        let Some(head) = line.strip_prefix("MSG ") else { continue };
        let (subject, _) = head.split_once(' ').unwrap();
        let token = subject.strip_prefix("chat.eu.").unwrap();
        assert!(
            token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=-_".contains(&byte)),
            "{subject}"
        );
        subjects.insert(subject.to_owned());
    }
}

/// Of several servers, one that answers will do.
#[tokio::test]
async fn nats_servers_that_are_away_are_passed_over() {
    let mut away = Nats::start().await;
    away.kill();
    let server = Nats::start().await;
    let urls = format!("{},{}", away.url(), server.url());
    for _ in 0..4 {
        harm::a_message_comes(two(&NatsOptions::new(urls.clone()))).await;
    }
}

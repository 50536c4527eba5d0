//! The bus over Redis does what a bus must, and what Redis makes of it.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

mod harm;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use outspoke_bus::redis::{RedisBus, RedisOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{MessageBus, bus_suite};
use outspoke_testkit::services::{Redis, RedisSentinel};

struct Service(Redis);

impl Stage for Service {
    fn connect(&self) -> Arc<dyn MessageBus> {
        Arc::new(RedisBus::new(&RedisOptions::new(self.0.url())).unwrap())
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.kill();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.restart())
    }
}

bus_suite!(Service(Redis::start_with(&[]).await));

fn impatient(url: String) -> RedisOptions {
    RedisOptions { timeout: Duration::from_secs(1), ..RedisOptions::new(url) }
}

fn two(options: &RedisOptions) -> [Arc<dyn MessageBus>; 2] {
    [bus(options), bus(options)]
}

fn bus(options: &RedisOptions) -> Arc<dyn MessageBus> {
    Arc::new(RedisBus::new(options).unwrap())
}

/// A second way in, for what no bus does.
async fn command<T: redis::FromRedisValue>(server: &Redis, words: &[&str]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_stands_still_is_noticed_and_found_again() {
    let server = Redis::start_with(&[]).await;
    let buses = two(&impatient(server.url()));
    harm::a_server_that_stands_still_is_noticed_and_found_again(buses, || server.pause(), || server.resume())
        .await;
}

/// Redis's limit for what it keeps for a subscriber.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cuts_a_reader_off_that_takes_nothing_and_it_is_told() {
    let server = Redis::start_with(&["--client-output-buffer-limit", "pubsub", "1mb", "1mb", "1"]).await;
    harm::a_reader_that_takes_nothing_is_cut_off_and_told(two(&RedisOptions::new(server.url()))).await;
}

#[tokio::test]
async fn redis_that_refuses_a_login_is_said_without_the_password() {
    let server = Redis::start_with(&[]).await;
    let place = server.addr().to_string();
    for wrong in [":hunter2@", "nobody:hunter2@", ""] {
        let bus = bus(&RedisOptions::new(format!("redis://{wrong}{place}")));
        harm::a_login_that_is_refused_is_said_without_the_password(bus, &[&place, "correct", "`url`"]).await;
    }
}

/// What is right of a user may be less than a bus needs.
#[tokio::test]
async fn redis_users_need_few_rights_and_are_told_which_are_missing() {
    let server = Redis::start_with(&[]).await;
    let rights =
        ["ACL", "SETUSER", "me", "on", ">correct", "resetchannels", "&outspoke|*", "+@pubsub", "+ping"];
    command::<()>(&server, &rights).await;
    let url = format!("redis://me:correct@{}", server.addr());
    harm::a_message_comes(two(&RedisOptions::new(url.clone()))).await;
    let other = RedisOptions { prefix: "other".to_owned(), ..RedisOptions::new(url) };
    let forbidden = bus(&other);
    harm::until_connected(&*forbidden, true).await;
    let refused =
        forbidden.publish(&[harm::outgoing(&harm::topic("room/x"), 0, 0)]).await.unwrap_err().to_string();
    assert!(refused.contains("NOPERM") && refused.contains("the prefix"), "{refused}");
}

#[tokio::test]
async fn redis_with_tls_is_trusted_only_with_its_authority() {
    let pem = |name: &str| format!("{}/../store/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (cert, key, ca) = (pem("server.pem"), pem("server.key"), pem("ca.pem"));
    let tls = [
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ];
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let _server = Redis::start_with(&[&tls[..], &["--tls-port", &port]].concat()).await;
    let url = format!("rediss://:{}@localhost:{port}", Redis::PASSWORD);
    let trusting = RedisOptions { ca_file: Some(ca.into()), ..RedisOptions::new(url.clone()) };
    harm::a_message_comes(two(&trusting)).await;
    let suspicious = bus(&RedisOptions::new(url));
    harm::until_it_says(&*suspicious, &["does not speak TLS with us", "`ca_file`"]).await;
}

/// What is published at a replica reaches nobody at the master.
#[tokio::test]
async fn redis_that_becomes_a_replica_is_not_published_to_until_it_is_none() {
    let server = Redis::start_with(&[]).await;
    let [here, there] = two(&impatient(server.url()));
    let mut reader = harm::Reader::of(&*there, "room/x").await;
    command::<()>(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    harm::until_it_says(&*here, &["replica", "`url`", "`sentinel_master`"]).await;
    here.publish(&[harm::outgoing(&reader.topic, 0, 0)]).await.unwrap_err();
    command::<()>(&server, &["REPLICAOF", "NO", "ONE"]).await;
    harm::until_connected(&*here, true).await;
    harm::publish(&*here, &[harm::outgoing(&reader.topic, 0, 0)]).await;
    reader.read(0).await;
}

/// Who listens to everything sees the prefix before every name, and every name as it is.
#[tokio::test]
async fn redis_odd_names_stay_below_the_prefix() {
    let server = Redis::start_with(&[]).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut everything = client.get_async_pubsub().await.unwrap();
    everything.psubscribe("*").await.unwrap();
    let bus = bus(&RedisOptions { prefix: "chat".to_owned(), ..RedisOptions::new(server.url()) });
    for name in harm::ODD_NAMES {
        harm::publish(&*bus, &[harm::outgoing(&harm::topic(name), 0, 0)]).await;
        let message = harm::within("a message", everything.on_message().next()).await.unwrap();
        assert_eq!(message.get_channel_name(), format!("chat|{name}"));
    }
}

/// The sentinels name another master: everything goes on there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_sentinels_are_followed_to_the_next_master() {
    let mut servers = RedisSentinel::start().await;
    let options = RedisOptions {
        sentinel_master: Some(RedisSentinel::MASTER.to_owned()),
        sentinel_password: Some(RedisSentinel::PASSWORD.to_owned()),
        ..impatient(servers.url())
    };
    let [here, there] = two(&options);
    let mut reader = harm::Reader::of(&*there, "room/x").await;
    for n in 0..100 {
        harm::publish(
            &*here,
            &[harm::outgoing(&reader.topic, n * 2, 0), harm::outgoing(&reader.topic, n * 2 + 1, 0)],
        )
        .await;
    }
    reader.read(199).await;
    assert_eq!(reader.interruptions, 0);
    servers.server(0).kill();
    harm::until_connected(&*there, false).await;
    harm::until_connected(&*there, true).await;
    harm::publish(&*here, &[harm::outgoing(&reader.topic, 200, 0)]).await;
    reader.read(200).await;
    assert_eq!(reader.interruptions, 1);
    let role: (String, redis::Value, redis::Value) = command(&servers.servers()[1], &["ROLE"]).await;
    assert_eq!(role.0, "master");
    // The old one comes back, as a replica; nobody goes there.
    servers.server(0).restart().await;
    harm::publish(&*here, &[harm::outgoing(&reader.topic, 201, 0)]).await;
    reader.read(201).await;
}

/// A failover that somebody asked for: both servers live on, and the old master's connections do too, for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_sentinels_that_change_the_master_are_followed() {
    let servers = RedisSentinel::start().await;
    let options = RedisOptions {
        sentinel_master: Some(RedisSentinel::MASTER.to_owned()),
        sentinel_password: Some(RedisSentinel::PASSWORD.to_owned()),
        ..impatient(servers.url())
    };
    let [here, there] = two(&options);
    let mut reader = harm::Reader::of(&*there, "room/x").await;
    let url = servers.url().replace(Redis::PASSWORD, RedisSentinel::PASSWORD);
    let client = redis::Client::open(url).unwrap();
    let mut sentinel = client.get_multiplexed_async_connection().await.unwrap();
    let failover = ["SENTINEL", "FAILOVER", RedisSentinel::MASTER];
    // At first it has not looked closely enough at the replica.
    harm::within("a failover begins", async {
        while redis::cmd(failover[0]).arg(&failover[1..]).exec_async(&mut sentinel).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let publishing = harm::Publishing::start(here, &reader.topic, 0);
    while reader.interruptions == 0 {
        reader.read(reader.next).await;
    }
    // The replica has become the master before anybody was sent there.
    let client = redis::Client::open(servers.servers()[1].url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let role: (String, redis::Value, redis::Value) =
        redis::cmd("ROLE").query_async(&mut connection).await.unwrap();
    assert_eq!(role.0, "master");
    // Publishing has moved there, too, or will; what went astray meanwhile was told.
    let interrupted = reader.next;
    while reader.next < interrupted + 1000 {
        reader.read(reader.next).await;
    }
    publishing.end().await;
}

#[tokio::test]
async fn redis_sentinels_that_know_no_such_master_or_us_are_said() {
    let servers = RedisSentinel::start().await;
    let named = |master: &str, password: &str| RedisOptions {
        sentinel_master: Some(master.to_owned()),
        sentinel_password: Some(password.to_owned()),
        ..RedisOptions::new(servers.url())
    };
    let unknown = bus(&named("other", RedisSentinel::PASSWORD));
    harm::until_it_says(&*unknown, &["`other`", "`sentinel_master`"]).await;
    // Without a password of their own they are given that of the servers; here only they take it.
    let common = RedisOptions {
        sentinel_master: Some(RedisSentinel::MASTER.to_owned()),
        ..RedisOptions::new(servers.url().replace(Redis::PASSWORD, RedisSentinel::PASSWORD))
    };
    let master = servers.servers()[0].addr().to_string();
    harm::until_it_says(&*bus(&common), &[&master, "WRONGPASS"]).await;
    let refused = bus(&named(RedisSentinel::MASTER, "hunter2"));
    let words = ["the sentinel at", "`sentinel_password`"];
    harm::a_login_that_is_refused_is_said_without_the_password(refused, &words).await;
}

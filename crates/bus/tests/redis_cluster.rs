//! The bus over a cluster of Redis servers does what a bus must, and follows where slots go.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

mod harm;

use std::sync::{Arc, Weak};
use std::time::Duration;

use outspoke_bus::redis::{RedisBus, RedisOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{Arrival, MessageBus, Topic, bus_suite};
use outspoke_testkit::services::{Redis, RedisCluster, Shared, Slot};

static CLUSTER: Slot<RedisCluster> = Slot::const_new(Weak::new());

/// A cluster that is this test's own.
struct Own(RedisCluster);

/// Names of this test's own in a cluster that all have.
struct Part {
    cluster: Arc<Shared<RedisCluster>>,
    prefix: String,
}

impl Part {
    async fn new() -> Self {
        let cluster = Shared::get(&CLUSTER, RedisCluster::start).await;
        Self { cluster, prefix: fastrand::u64(..).to_string() }
    }
}

fn connect(cluster: &RedisCluster, prefix: &str) -> Arc<dyn MessageBus> {
    let prefix = prefix.to_owned();
    bus(&RedisOptions { cluster: true, prefix, ..RedisOptions::new(cluster.url()) })
}

impl Stage for Own {
    fn connect(&self) -> Arc<dyn MessageBus> {
        connect(&self.0, "own")
    }

    fn kill(&mut self) -> Doing<'_> {
        (0..3).for_each(|node| self.0.node(node).kill());
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(async move {
            for node in 0..3 {
                self.0.node(node).restart().await;
            }
        })
    }
}

impl Stage for Part {
    fn connect(&self) -> Arc<dyn MessageBus> {
        connect(&self.cluster, &self.prefix)
    }

    fn kill(&mut self) -> Doing<'_> {
        unreachable!("others use it")
    }

    fn restart(&mut self) -> Doing<'_> {
        unreachable!("others use it")
    }
}

bus_suite!(Part::new().await, Own(RedisCluster::start().await));

fn impatient(cluster: &RedisCluster) -> RedisOptions {
    RedisOptions { cluster: true, timeout: Duration::from_secs(1), ..RedisOptions::new(cluster.url()) }
}

fn two(options: &RedisOptions) -> [Arc<dyn MessageBus>; 2] {
    [bus(options), bus(options)]
}

fn bus(options: &RedisOptions) -> Arc<dyn MessageBus> {
    Arc::new(RedisBus::new(options).unwrap())
}

async fn command<T: redis::FromRedisValue>(server: &Redis, words: &[&str]) -> redis::RedisResult<T> {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
}

/// Which of the nodes has a topic's slot, by what they say themselves, and which slot that is.
async fn owner(cluster: &RedisCluster, topic: &Topic) -> (usize, u16) {
    let channel = format!("outspoke|{topic}");
    let slot: u16 = command(&cluster.nodes()[0], &["CLUSTER", "KEYSLOT", &channel]).await.unwrap();
    for (index, node) in cluster.nodes().iter().enumerate() {
        // Whoever takes it, has it.
        if command::<i64>(node, &["SPUBLISH", &channel, "\0\0\0\0\0\0\0\0"]).await.is_ok() {
            return (index, slot);
        }
    }
    panic!("nobody has slot {slot}");
}

async fn move_slot(cluster: &RedisCluster, slot: u16, to: usize) {
    let id: String = command(&cluster.nodes()[to], &["CLUSTER", "MYID"]).await.unwrap();
    // The new owner first, so that it knows before the others send there.
    for index in [to, 0, 1, 2] {
        command::<()>(&cluster.nodes()[index], &["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id])
            .await
            .unwrap();
    }
}

/// Somebody moves slots from node to node, there and back again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_topics_follow_their_slot_and_are_told() {
    let cluster = RedisCluster::start().await;
    let [here, there] = two(&impatient(&cluster));
    let (from, slot) = owner(&cluster, &harm::topic("room/x")).await;
    let mut reader = harm::Reader::of(&*there, "room/x").await;
    for (life, to) in [(from + 1) % 3, (from + 2) % 3, from].into_iter().enumerate() {
        let n = life as u64 * 2;
        harm::publish(&*here, &[harm::outgoing(&reader.topic, n, 0)]).await;
        reader.read(n).await;
        move_slot(&cluster, slot, to).await;
        // It may be lost, and then that is told: until it is told, publishing shows nothing.
        let interruptions = reader.interruptions;
        harm::within("the move is told", async {
            while reader.interruptions == interruptions {
                match reader.feed.next().await.unwrap() {
                    Arrival::Interrupted => reader.interruptions += 1,
                    Arrival::Message { .. } => panic!("nothing was published"),
                }
            }
        })
        .await;
        harm::publish(&*here, &[harm::outgoing(&reader.topic, n + 1, 0)]).await;
        reader.read(n + 1).await;
    }
}

/// One master stands still: its topics stop and come back, the others' go on as if nothing was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_node_that_stands_still_stops_only_its_own_topics() {
    let cluster = RedisCluster::start().await;
    let [here, there] = two(&impatient(&cluster));
    let mut readers = Vec::new();
    let mut owners = Vec::new();
    for n in 0..12 {
        let name = format!("room/{n}");
        owners.push(owner(&cluster, &harm::topic(&name)).await.0);
        readers.push(harm::Reader::of(&*there, &name).await);
    }
    assert!((0..3).all(|node| owners.contains(&node)), "every node has some: {owners:?}");
    for node in cluster.nodes() {
        // Otherwise all refuse when one is away: that is a cluster's own decision.
        command::<()>(node, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await.unwrap();
    }
    cluster.nodes()[0].pause();
    harm::until_connected(&*here, false).await;
    harm::until_connected(&*there, false).await;
    for (reader, _) in readers.iter_mut().zip(&owners).filter(|(_, owner)| **owner != 0) {
        harm::publish(&*here, &[harm::outgoing(&reader.topic, 0, 0)]).await;
        reader.read(0).await;
        assert_eq!(reader.interruptions, 0);
    }
    cluster.nodes()[0].resume();
    harm::until_connected(&*here, true).await;
    harm::until_connected(&*there, true).await;
    for (reader, owner) in readers.iter_mut().zip(&owners) {
        let next = u64::from(*owner != 0);
        harm::publish(&*here, &[harm::outgoing(&reader.topic, next, 0)]).await;
        reader.read(next).await;
    }
}

/// A master dies and its replica takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_replica_that_takes_over_is_followed() {
    let mut cluster = RedisCluster::start_with_replicas().await;
    let [here, there] = two(&impatient(&cluster));
    let (owner, _) = owner(&cluster, &harm::topic("room/x")).await;
    let mut reader = harm::Reader::of(&*there, "room/x").await;
    harm::publish(&*here, &[harm::outgoing(&reader.topic, 0, 0)]).await;
    reader.read(0).await;
    cluster.node(owner).kill();
    harm::until_connected(&*there, false).await;
    harm::until_connected(&*there, true).await;
    harm::publish(&*here, &[harm::outgoing(&reader.topic, 1, 0)]).await;
    reader.read(1).await;
    assert_eq!(reader.interruptions, 1);
    // The dead one comes back as a replica of the other; nobody goes there.
    cluster.node(owner).restart().await;
    harm::publish(&*here, &[harm::outgoing(&reader.topic, 2, 0)]).await;
    reader.read(2).await;
}

#[tokio::test]
async fn cluster_setting_for_a_server_that_is_none_is_said() {
    let server = Redis::start_with(&[]).await;
    let options = RedisOptions { cluster: true, ..RedisOptions::new(server.url()) };
    harm::until_it_says(&*bus(&options), &["it is no cluster", "`cluster`"]).await;
}

#[tokio::test]
async fn cluster_that_refuses_a_login_is_said_without_the_password() {
    let cluster = RedisCluster::start().await;
    let place = cluster.nodes()[0].addr().to_string();
    let options = RedisOptions { cluster: true, ..RedisOptions::new(format!("redis://:hunter2@{place}")) };
    harm::a_login_that_is_refused_is_said_without_the_password(bus(&options), &[&place, "`url`"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_node_cuts_a_reader_off_that_takes_nothing_and_it_is_told() {
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1"];
        command::<()>(node, &limit).await.unwrap();
    }
    let options = RedisOptions { cluster: true, ..RedisOptions::new(cluster.url()) };
    harm::a_reader_that_takes_nothing_is_cut_off_and_told(two(&options)).await;
}

//! Load balancers with the shipped configurations in front of several servers: who is brought to which node.
//!
//! Every node puts its clients into a room that is called like the node, so each client is told by the node itself
//! where it is. The nodes do not know each other, which the balancers need not know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outspoke_testkit::services::{Envoy, Haproxy, Nginx, Upstream};
use outspoke_testkit::{Refused, Signal, TcpClient};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::support::{Server, Settings};

/// Users of whom it is measured how many move.
const USERS: usize = 2000;
/// Users of whom it is asked where they are.
const FEW: usize = 60;
/// Handshakes at the same time.
const AT_ONCE: usize = 16;

/// The node of each user.
type Places = BTreeMap<String, String>;

/// A load balancer.
enum Balancer {
    Nginx(Nginx),
    Haproxy(Haproxy),
    Envoy(Envoy),
}

impl Balancer {
    fn addr(&self) -> SocketAddr {
        match self {
            Self::Nginx(nginx) => nginx.addr(),
            Self::Haproxy(haproxy) => haproxy.addr(),
            Self::Envoy(envoy) => envoy.addr(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Nginx(_) => "nginx",
            Self::Haproxy(_) => "HAProxy",
            Self::Envoy(_) => "Envoy",
        }
    }

    /// How many of so many users may move although neither their old node nor their new one came or went. On a ring of
    /// hashes that is nobody; Envoy's Maglev table is nearly as good.
    fn strays_max(&self, users: usize) -> usize {
        match self {
            Self::Nginx(_) | Self::Haproxy(_) => 0,
            Self::Envoy(_) => users / 50,
        }
    }

    /// Another one, of the same kind.
    async fn twin(&self, nodes: &[Upstream]) -> Self {
        match self {
            Self::Nginx(_) => Self::Nginx(Nginx::start(nodes).await),
            Self::Haproxy(_) => Self::Haproxy(Haproxy::start(nodes).await),
            Self::Envoy(_) => Self::Envoy(Envoy::start(nodes).await),
        }
    }

    async fn set_nodes(&mut self, nodes: &[Upstream]) {
        match self {
            Self::Nginx(nginx) => nginx.set_nodes(nodes).await,
            Self::Haproxy(haproxy) => haproxy.set_nodes(nodes).await,
            Self::Envoy(envoy) => envoy.set_nodes(nodes).await,
        }
    }

    /// Waits until it knows that a node is not well, if it is of those that ask.
    async fn has_lost(&mut self, node: &str) {
        match self {
            Self::Nginx(_) => {}
            Self::Haproxy(haproxy) => haproxy.has_lost(node).await,
            Self::Envoy(envoy) => envoy.has_lost(node).await,
        }
    }

    /// The node that a client with this query gets; the client stays.
    async fn open(&self, query: &str) -> (String, TcpClient) {
        let opened = open(self.addr(), query).await;
        opened.unwrap_or_else(|refused| panic!("{} for {query}: {refused:?}", self.name()))
    }

    /// The node of each of so many users, each with a connection of its own; `more` goes into their query.
    async fn places(&self, users: usize, more: &str) -> Places {
        let mut tasks = JoinSet::new();
        for first in 0..AT_ONCE.min(users) {
            let (addr, more) = (self.addr(), more.to_owned());
            tasks.spawn(async move {
                let mut places = Vec::new();
                for number in (first..users).step_by(AT_ONCE) {
                    let user = format!("user-{number}");
                    let opened = open(addr, &format!("userId={user}&username={user}{more}")).await;
                    let (node, mut client) = opened.expect("every user is let in");
                    client.close(1000, "").await;
                    assert_eq!(client.closed().await, Some(1000));
                    places.push((user, node));
                }
                places
            });
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// A client, and the node that let it in.
async fn open(addr: SocketAddr, query: &str) -> Result<(String, TcpClient), Refused> {
    let mut client = TcpClient::connect(addr, &format!("/ws?{query}"), &[]).await?;
    client.expect("welcome").await;
    let node = client.expect("subscribed").await["room"].as_str().expect("it is in a room").to_owned();
    Ok((node, client))
}

/// What a node is started with.
fn node(name: &str) -> Settings {
    Settings::default().set("rooms.default", name).set("store.backend", "memory").set("server.shards", "1")
}

/// So many nodes, `hub-1` and so on.
async fn nodes(count: usize) -> (Vec<Server>, Vec<Upstream>) {
    let (mut servers, mut upstreams) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let name = format!("hub-{number}");
        let server = node(&name).start().await;
        upstreams.push(Upstream::new(&name, server.addr));
        servers.push(server);
    }
    (servers, upstreams)
}

async fn answers(client: &mut TcpClient) {
    client.send(json!({ "type": "ping", "id": "still there" })).await;
    assert_eq!(client.find("pong").await["id"], "still there");
}

fn moved(before: &Places, after: &Places) -> usize {
    before.iter().filter(|(user, node)| after[*user] != **node).count()
}

/// The smallest and the greatest share of a node, in per cent of a fair one.
fn shares(places: &Places) -> (usize, usize) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in places.values() {
        *counts.entry(node).or_default() += 1;
    }
    let per_cent = |count: usize| count * 100 * counts.len() / places.len();
    let least = counts.values().copied().min().expect("there are nodes");
    let most = counts.values().copied().max().expect("there are nodes");
    (per_cent(least), per_cent(most))
}

/// Three nodes become four, and three again.
async fn node_comes_and_goes(mut balancer: Balancer, upstreams: &[Upstream]) {
    let name = balancer.name();
    let before = balancer.places(USERS, "").await;
    assert_eq!(before, balancer.places(USERS, "").await, "{name}: a user's node changes by itself");
    let twin = balancer.twin(&upstreams[..3]).await;
    assert_eq!(before, twin.places(USERS, "").await, "{name}: another one has another opinion");

    let mut here = Vec::new();
    for number in 0..8 {
        here.push(balancer.open(&format!("userId=here-{number}&username=here")).await.1);
    }
    balancer.set_nodes(upstreams).await;
    let after = balancer.places(USERS, "").await;
    for client in &mut here {
        answers(client).await;
    }
    let count = moved(&before, &after);
    let (least, most) = shares(&before);
    println!(
        "{name}: {count} of {USERS} users moved when a fourth node came, a fair share being {}; of three nodes the least \
         had {least} %, the most {most} % of a fair share",
        USERS / 4
    );
    assert!(count > 0 && count <= USERS / 4 + USERS / 20, "{name}: {count} of {USERS} users moved");
    let strays =
        before.iter().filter(|(user, node)| after[*user] != **node && after[*user] != "hub-4").count();
    assert!(
        strays <= balancer.strays_max(USERS),
        "{name}: {strays} users moved between nodes that were there before"
    );

    balancer.set_nodes(&upstreams[..3]).await;
    assert_eq!(before, balancer.places(USERS, "").await, "{name}: without the fourth node all is as it was");
}

// Each added node would make far more users reconnect elsewhere than it takes.
#[tokio::test]
async fn affinity_nginx_moves_one_share_of_the_users_to_a_new_node() {
    let (_servers, upstreams) = nodes(4).await;
    node_comes_and_goes(Balancer::Nginx(Nginx::start(&upstreams[..3]).await), &upstreams).await;
}

// As above.
#[tokio::test]
async fn affinity_haproxy_moves_one_share_of_the_users_to_a_new_node() {
    let (_servers, upstreams) = nodes(4).await;
    node_comes_and_goes(Balancer::Haproxy(Haproxy::start(&upstreams[..3]).await), &upstreams).await;
}

// As above.
#[tokio::test]
#[ignore = "needs Envoy, which Debian does not have: see docs/operating/affinity.md"]
async fn affinity_envoy_moves_one_share_of_the_users_to_a_new_node() {
    let (_servers, upstreams) = nodes(4).await;
    node_comes_and_goes(Balancer::Envoy(Envoy::start(&upstreams[..3]).await), &upstreams).await;
}

/// A node that is asked for, dies, and comes back.
async fn asked_node_dies(mut balancer: Balancer, mut servers: Vec<Server>) {
    let name = balancer.name();
    let by_key = balancer.places(FEW, "").await;
    for asked in ["hub-1", "hub-2", "hub-3"] {
        let places = balancer.places(FEW, &format!("&node={asked}")).await;
        assert!(places.values().all(|node| node == asked), "{name}, {asked}: {places:?}");
    }
    assert_eq!(by_key, balancer.places(FEW, "&node=hub-9").await, "{name}: no node has that name");
    assert_eq!(by_key, balancer.places(FEW, "&node=").await, "{name}: no node was named");

    let addr = servers[1].addr.to_string();
    servers[1].signal(Signal::KILL);
    servers[1].process().ended(super::support::PATIENCE).await;
    // At once: nobody may have to wait for a check.
    let asked = balancer.places(FEW, "&node=hub-2").await;
    assert!(asked.values().all(|node| node != "hub-2"), "{name}: {asked:?}");
    balancer.has_lost("hub-2").await;
    let without = balancer.places(FEW, "").await;
    assert_eq!(without, balancer.places(FEW, "&node=hub-2").await, "{name}: not by key");
    let strays = by_key.iter().filter(|(user, node)| *node != "hub-2" && without[*user] != **node).count();
    assert!(strays <= balancer.strays_max(FEW), "{name}: {strays} users of other nodes moved");

    servers[1] = node("hub-2").set("server.addr", &addr).start().await;
    let of_node = by_key.iter().find(|(_, node)| *node == "hub-2").expect("60 users are on all nodes").0;
    // Those that ask may need a moment to know.
    for query in ["userId=a&username=a&node=hub-2".to_owned(), format!("userId={of_node}&username=a")] {
        while balancer.open(&query).await.0 != "hub-2" {}
    }
    assert_eq!(by_key, balancer.places(FEW, "").await, "{name}: with the node back all is as it was");
}

// Clients that follow a hint would be left outside while that node is away.
#[tokio::test]
async fn affinity_nginx_obeys_the_hint_while_that_node_is_up() {
    let (servers, upstreams) = nodes(3).await;
    asked_node_dies(Balancer::Nginx(Nginx::start(&upstreams).await), servers).await;
}

// As above.
#[tokio::test]
async fn affinity_haproxy_obeys_the_hint_while_that_node_is_up() {
    let (servers, upstreams) = nodes(3).await;
    asked_node_dies(Balancer::Haproxy(Haproxy::start(&upstreams).await), servers).await;
}

// As above.
#[tokio::test]
#[ignore = "needs Envoy, which Debian does not have: see docs/operating/affinity.md"]
async fn affinity_envoy_obeys_the_hint_while_that_node_is_up() {
    let (servers, upstreams) = nodes(3).await;
    asked_node_dies(Balancer::Envoy(Envoy::start(&upstreams).await), servers).await;
}

/// The door of a node: once it is shut, who comes is told what a node says that takes no more clients; who is in, stays.
struct Door {
    addr: SocketAddr,
    shut: Arc<AtomicBool>,
}

impl Door {
    async fn before(inside: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shut = Arc::new(AtomicBool::new(false));
        let looks = Arc::clone(&shut);
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                tokio::spawn(pass(outside, inside, Arc::clone(&looks)));
            }
        });
        Self { addr, shut }
    }

    fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }
}

/// One connection through the door; that it ends is no news.
async fn pass(mut outside: TcpStream, inside: SocketAddr, shut: Arc<AtomicBool>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match outside.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let shut = shut.load(Ordering::SeqCst);
    // Also when all is well, so that each question comes in a connection of its own.
    if shut || head.starts_with(b"GET /readyz ") {
        let status = if shut { "503 Service Unavailable" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = outside.write_all(answer.as_bytes()).await;
        return;
    }
    let mut inside = TcpStream::connect(inside).await.unwrap();
    inside.write_all(&head).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
}

/// A node that says at `/readyz` that it wants no more clients, and refuses them with 503.
async fn node_is_drained(mut balancer: Balancer, door: &Door) {
    let name = balancer.name();
    let (node, mut inside) = balancer.open("userId=inside&username=inside&node=hub-2").await;
    assert_eq!(node, "hub-2");
    door.shut();
    // Before and after those that ask have been told.
    for _ in 0..2 {
        for more in ["", "&node=hub-2"] {
            let places = balancer.places(FEW, more).await;
            assert!(places.values().all(|node| node != "hub-2"), "{name}, `{more}`: {places:?}");
        }
        balancer.has_lost("hub-2").await;
    }
    answers(&mut inside).await;
}

/// Three nodes of which the second has a door.
async fn nodes_with_door() -> (Vec<Server>, Vec<Upstream>, Door) {
    let (servers, mut upstreams) = nodes(3).await;
    let door = Door::before(servers[1].addr).await;
    upstreams[1] = Upstream::new("hub-2", door.addr);
    (servers, upstreams, door)
}

// A node could not be emptied while the balancer keeps filling it.
#[tokio::test]
async fn affinity_nginx_brings_nobody_new_to_a_drained_node() {
    let (_servers, upstreams, door) = nodes_with_door().await;
    node_is_drained(Balancer::Nginx(Nginx::start(&upstreams).await), &door).await;
}

// As above.
#[tokio::test]
async fn affinity_haproxy_brings_nobody_new_to_a_drained_node() {
    let (_servers, upstreams, door) = nodes_with_door().await;
    node_is_drained(Balancer::Haproxy(Haproxy::start(&upstreams).await), &door).await;
}

// As above.
#[tokio::test]
#[ignore = "needs Envoy, which Debian does not have: see docs/operating/affinity.md"]
async fn affinity_envoy_brings_nobody_new_to_a_drained_node() {
    let (_servers, upstreams, door) = nodes_with_door().await;
    node_is_drained(Balancer::Envoy(Envoy::start(&upstreams).await), &door).await;
}

/// A node that takes connections and answers nothing, once the balancer has noticed.
async fn node_hangs(mut balancer: Balancer, servers: &[Server]) {
    servers[1].signal(Signal::STOP);
    balancer.has_lost("hub-2").await;
    for more in ["", "&node=hub-2"] {
        let places = balancer.places(FEW, more).await;
        assert!(places.values().all(|node| node != "hub-2"), "{}, `{more}`: {places:?}", balancer.name());
    }
}

// Users of that node would wait for nothing until somebody restarts it.
#[tokio::test]
async fn affinity_haproxy_brings_nobody_to_a_node_that_hangs() {
    let (servers, upstreams) = nodes(3).await;
    node_hangs(Balancer::Haproxy(Haproxy::start(&upstreams).await), &servers).await;
}

// As above.
#[tokio::test]
#[ignore = "needs Envoy, which Debian does not have: see docs/operating/affinity.md"]
async fn affinity_envoy_brings_nobody_to_a_node_that_hangs() {
    let (servers, upstreams) = nodes(3).await;
    node_hangs(Balancer::Envoy(Envoy::start(&upstreams).await), &servers).await;
}

/// A node that has all the connections it may have, and everybody asks for it.
async fn node_is_full(start: impl AsyncFnOnce(Vec<Upstream>) -> Balancer) {
    let (_servers, mut upstreams) = nodes(3).await;
    let full = node("hub-2").set("server.connections_max", "5").start().await;
    upstreams[1] = Upstream::new("hub-2", full.addr);
    let balancer = start(upstreams).await;
    let mut clients = Vec::new();
    for number in 0..FEW {
        clients.push(balancer.open(&format!("userId=user-{number}&username=user&node=hub-2")).await);
    }
    let there = clients.iter().filter(|(node, _)| node == "hub-2").count();
    // Where the balancer asks how it is, that may need one of them.
    assert!((1..=5).contains(&there), "{}: {there} are there", balancer.name());
    for (_, client) in &mut clients {
        answers(client).await;
    }
}

// Users would be refused by one node although others have space.
#[tokio::test]
async fn affinity_nginx_passes_users_on_from_a_full_node() {
    node_is_full(async |nodes| Balancer::Nginx(Nginx::start(&nodes).await)).await;
}

// As above.
#[tokio::test]
async fn affinity_haproxy_passes_users_on_from_a_full_node() {
    node_is_full(async |nodes| Balancer::Haproxy(Haproxy::start(&nodes).await)).await;
}

// As above.
#[tokio::test]
#[ignore = "needs Envoy, which Debian does not have: see docs/operating/affinity.md"]
async fn affinity_envoy_passes_users_on_from_a_full_node() {
    node_is_full(async |nodes| Balancer::Envoy(Envoy::start(&nodes).await)).await;
}

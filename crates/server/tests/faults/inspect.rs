//! What operators see of two servers over each bus: connections and what was done on both, and what a user does on the other
//! one, as it happens; and, when one is killed, which is missing.

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::services::{Etcd, Nats, Redis};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::cluster::{Bus, KEY, Servers, Store};
use crate::connection::Way;

const PATIENCE: Duration = Duration::from_secs(60);

async fn ask(server: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = outspoke_testkit::exchange(server, request.as_bytes()).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

async fn get(server: SocketAddr, path: &str) -> Value {
    let (status, answer) = ask(server, "GET", path, "").await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Two fields of each row, in the order of the rows.
fn pairs(rows: &Value, first: &str, second: &str) -> Vec<(String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(row, first), text(row, second))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(first, second)| ((*first).to_owned(), (*second).to_owned())).collect()
}

/// Events of `/follow`, one by one. Asked for as HTTP/1.0, whose answer comes in one piece.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn of(server: SocketAddr, query: &str) -> Self {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let request = format!(
            "GET /api/v1/follow?{query} HTTP/1.0\r\nHost: {server}\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// The next event of that name; others are passed over.
    async fn find(&mut self, name: &str) -> Value {
        let mut event = String::new();
        let found = async {
            loop {
                let mut line = String::new();
                assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "the stream goes on");
                match line.trim_end().split_once(": ") {
                    Some(("event", kind)) => kind.clone_into(&mut event),
                    Some(("data", data)) if event == name => return serde_json::from_str(data).unwrap(),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no event {name} comes"))
    }
}

async fn both_are_seen_from_one(bus: Bus) {
    let store = Store::Redis(Redis::start().await);
    let mut servers = Servers::start(2, &bus, &store).await;
    let [first, second] = [0, 1].map(|at: usize| servers.hosts[at].address().borrow().expect("it runs"));
    let (_ana, _) = Way::to(servers.hosts[0].address(), "ana").connect_as().await;
    let (mut ben, id) = Way::to(servers.hosts[1].address(), "ben").connect_as().await;
    let both = owned(&[("ana", "hub-1"), ("ben", "hub-2")]);
    // They hear of each other within a beat or so.
    let met = async {
        while pairs(&get(first, "/clients").await["clients"], "userId", "node") != both {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.expect("the servers meet");
    for server in [first, second] {
        let list = get(server, "/clients?limit=1").await;
        assert_eq!(pairs(&list["clients"], "userId", "node"), both[..1], "over {}: {list}", bus.name());
        let behind = get(server, &format!("/clients?after={}", list["next"].as_str().unwrap())).await;
        assert_eq!(pairs(&behind["clients"], "userId", "node"), both[1..], "over {}: {behind}", bus.name());
    }
    let one = format!("/clients/{id}");
    let close = get(first, &one).await;
    assert_eq!((&close["node"], &close["userId"]), (&json!("hub-2"), &json!("ben")), "{close}");
    // The other server permits no slowing down, which is its to say; both note what they were asked.
    let (status, refused) = ask(first, "POST", &format!("{one}/slow"), r#"{"seconds":1}"#).await;
    assert!(status == 403 && refused["message"].as_str().unwrap().contains("hub-2"), "{status}: {refused}");
    assert_eq!(ask(second, "POST", "/disconnect", r#"{"user":"nobody"}"#).await.0, 200);
    for server in [first, second] {
        let audit = get(server, "/audit").await;
        let expected = owned(&[("POST /disconnect", "hub-2"), ("POST /clients/{client}/slow", "hub-1")]);
        assert_eq!(pairs(&audit["entries"], "action", "node"), expected, "over {}: {audit}", bus.name());
    }
    let mut events = Events::of(first, "user=ben").await;
    let begun = events.find("following").await;
    assert_eq!((&begun["nodes"], &begun["silent"]), (&json!(["hub-1", "hub-2"]), &json!([])), "{begun}");
    ben.send(&json!({ "type": "subscribe", "id": "s", "room": "den" })).await;
    assert!(ben.answer("s").await.is_some());
    let joined = events.find("joined").await;
    assert_eq!((&joined["node"], &joined["room"]), (&json!("hub-2"), &json!("den")), "{joined}");
    servers.hosts[1].kill().await;
    let list = get(first, "/clients").await;
    assert_eq!(pairs(&list["clients"], "userId", "node"), both[..1], "{list}");
    let silent = json!([{ "node": "hub-2", "why": "it did not answer within two seconds" }]);
    assert_eq!(list["silent"], silent, "over {}: {list}", bus.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_deeds_of_both_servers_are_seen_from_one_over_etcd() {
    both_are_seen_from_one(Bus::Etcd(Etcd::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_deeds_of_both_servers_are_seen_from_one_over_redis() {
    both_are_seen_from_one(Bus::Redis(Redis::start_with(&[]).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_deeds_of_both_servers_are_seen_from_one_over_nats() {
    both_are_seen_from_one(Bus::Nats(Nats::start().await)).await;
}

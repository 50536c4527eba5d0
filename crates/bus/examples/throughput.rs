//! How many messages a second go from one node to another over a bus, beside what the bus's service takes by itself.
//!
//! `cargo run --release -p outspoke-bus --features etcd --example throughput -- --bus etcd://127.0.0.1:2379`; with `nats` or `redis`
//! in both places for those.
//!
//! A round sends messages over one node's link until another node's link has heard all of them, in order, and after that publishes
//! as many of the same size to the service, with many requests at once and without our code. Rounds of both alternate, so that
//! whatever else the machine does meets both alike; the last line has the medians.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use outspoke_bus::{Link, LinkEvent, LinkEvents, LinkOptions, MemoryHub, MessageBus, Secret, Topic};

/// Bytes that wait for the bus before the sender waits for it.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the listener waits for a message before the measurement has failed.
const SILENCE_MAX: Duration = Duration::from_secs(20);

struct Arguments {
    bus: String,
    messages: u64,
    topics: usize,
    payload: usize,
    rounds: usize,
    /// Requests at once when the service is measured by itself.
    concurrency: usize,
}

impl Arguments {
    fn read() -> Self {
        let mut arguments = Self {
            bus: "memory".to_owned(),
            messages: 50_000,
            topics: 100,
            payload: 200,
            rounds: 5,
            concurrency: 256,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{word} wants a value"));
            match word.as_str() {
                "--bus" => arguments.bus = value,
                "--messages" => arguments.messages = value.parse().unwrap(),
                "--topics" => arguments.topics = value.parse().unwrap(),
                "--payload" => arguments.payload = value.parse().unwrap(),
                "--rounds" => arguments.rounds = value.parse().unwrap(),
                "--concurrency" => arguments.concurrency = value.parse().unwrap(),
                _ => panic!("{word}: --bus, --messages, --topics, --payload, --rounds or --concurrency"),
            }
        }
        arguments
    }
}

/// Two nodes' ends of the service that an address names.
fn connect(address: &str) -> [Arc<dyn MessageBus>; 2] {
    match address.split("://").next() {
        Some("memory") => {
            let hub = MemoryHub::new();
            [(); 2].map(|()| Arc::new(hub.connect()) as Arc<dyn MessageBus>)
        }
        #[cfg(feature = "etcd")]
        Some("etcd") => [(); 2].map(|()| {
            let options = outspoke_bus::etcd::EtcdOptions::new([etcd::url(address)]);
            Arc::new(outspoke_bus::etcd::EtcdBus::new(options).unwrap()) as Arc<dyn MessageBus>
        }),
        #[cfg(feature = "nats")]
        Some("nats") => [(); 2].map(|()| {
            let options = outspoke_bus::nats::NatsOptions::new(address);
            Arc::new(outspoke_bus::nats::NatsBus::new(&options).unwrap()) as Arc<dyn MessageBus>
        }),
        #[cfg(feature = "redis")]
        Some("redis") => [(); 2].map(|()| {
            let options = outspoke_bus::redis::RedisOptions::new(address);
            Arc::new(outspoke_bus::redis::RedisBus::new(&options).unwrap()) as Arc<dyn MessageBus>
        }),
        _ => panic!("{address}: not a bus that this was built with"),
    }
}

/// Messages a second that the service takes of whoever publishes as it likes it best; `None`: it is no service.
async fn raw(arguments: &Arguments) -> Option<f64> {
    match arguments.bus.split("://").next() {
        #[cfg(feature = "etcd")]
        Some("etcd") => Some(etcd::raw(arguments).await),
        #[cfg(feature = "nats")]
        Some("nats") => Some(text::raw(arguments, &text::NATS).await),
        #[cfg(feature = "redis")]
        Some("redis") => Some(text::raw(arguments, &text::REDIS).await),
        _ => None,
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::read();
    let [here, there] = connect(&arguments.bus);
    let options = || LinkOptions { secret: Some(Secret::new("a secret")), ..LinkOptions::default() };
    let ((sender, _), (listener, mut events)) = (Link::new(here, options()), Link::new(there, options()));
    let topics: Vec<Topic> =
        (0..arguments.topics).map(|n| Topic::new(format!("room/{n}")).unwrap()).collect();
    listener.subscribe(&topics).await.unwrap();
    sender.bus().state().wait_for(|state| state.connected).await.unwrap();
    tokio::spawn({
        let sender = sender.clone();
        async move { sender.run().await }
    });
    println!(
        "{}: {} messages of {} bytes on {} topics, {} rounds",
        arguments.bus, arguments.messages, arguments.payload, arguments.topics, arguments.rounds
    );
    let (mut links, mut raws) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let link = linked(&arguments, &sender, &mut events, &topics).await;
        links.push(link);
        let raw = raw(&arguments).await;
        raws.extend(raw);
        let raw =
            raw.map_or_else(String::new, |raw| format!(", by itself {raw:8.0}, ratio {:.2}", link / raw));
        println!("round {round}: over links {link:8.0} messages/s{raw}");
    }
    let counts = listener.counts();
    assert_eq!((counts.missed, counts.repeated), (0, 0), "nothing is missing, nothing came twice");
    let link = median(links);
    match raws.is_empty() {
        true => println!("median: over links {link:.0} messages/s"),
        false => {
            let raw = median(raws);
            println!("median: over links {link:.0} messages/s, by itself {raw:.0}, ratio {:.2}", link / raw);
        }
    }
}

/// Messages a second from one link to the other.
async fn linked(arguments: &Arguments, sender: &Link, events: &mut LinkEvents, topics: &[Topic]) -> f64 {
    let begin = Instant::now();
    let sending = tokio::spawn({
        let (sender, topics) = (sender.clone(), topics.to_vec());
        let (payload, messages) = (vec![b'x'; arguments.payload], arguments.messages);
        async move {
            for topic in topics.iter().cycle().take(messages as usize) {
                while sender.queued_bytes() > WAITING_BYTES_MAX {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                sender.send(topic, &payload).unwrap();
            }
        }
    });
    for _ in 0..arguments.messages {
        // A service that takes nothing more (etcd, when its database is full) has no rate.
        let heard = tokio::time::timeout(SILENCE_MAX, events.next()).await;
        let heard = heard.expect("the bus carries messages").unwrap();
        assert!(matches!(heard, LinkEvent::Message { .. }), "{heard:?}");
    }
    sending.await.unwrap();
    arguments.messages as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// etcd as its own benchmark uses it: many clients that put a key each, over several connections.
#[cfg(feature = "etcd")]
mod etcd {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use http::uri::PathAndQuery;
    use tonic::Request;
    use tonic::client::Grpc;
    use tonic::transport::Endpoint;
    use tonic_prost::ProstCodec;

    use super::Arguments;

    const CONNECTIONS: usize = 8;

    #[derive(Clone, PartialEq, prost::Message)]
    struct PutRequest {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct PutResponse {}

    pub(super) fn url(address: &str) -> String {
        address.replacen("etcd://", "http://", 1)
    }

    pub(super) async fn raw(arguments: &Arguments) -> f64 {
        let endpoint = Endpoint::from_shared(url(&arguments.bus)).unwrap();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Grpc::new(endpoint.connect().await.unwrap()));
        }
        let next = Arc::new(AtomicU64::new(0));
        let value = vec![b'x'; arguments.payload];
        let (begin, messages) = (Instant::now(), arguments.messages);
        let clients = (0..arguments.concurrency).map(|client| {
            let (mut grpc, next) = (connections[client % CONNECTIONS].clone(), next.clone());
            let put = PutRequest { key: format!("/raw/{client}").into_bytes(), value: value.clone() };
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < messages {
                    grpc.ready().await.unwrap();
                    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
                    let codec = ProstCodec::<PutRequest, PutResponse>::default();
                    grpc.unary(Request::new(put.clone()), path, codec).await.unwrap();
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        messages as f64 / begin.elapsed().as_secs_f64()
    }
}

/// NATS and Redis as their own benchmarks use them: one client that publishes as much as it can write at once, and one that is
/// subscribed and counts bytes.
#[cfg(any(feature = "nats", feature = "redis"))]
mod text {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::Arguments;

    /// What one of them speaks.
    pub(super) struct Words {
        /// Logs in, given user and password.
        login: fn(&str) -> String,
        subscribe: fn(&str) -> String,
        publish: fn(&str, &str) -> String,
        /// A message as a subscriber gets it.
        message: fn(&str, &str) -> String,
        ping: &'static str,
        pong: &'static str,
    }

    #[cfg(feature = "nats")]
    pub(super) const NATS: Words = Words {
        login: |_| "CONNECT {\"verbose\":false}\r\n".to_owned(),
        subscribe: |name| format!("SUB {name} {name}\r\n"),
        publish: |name, payload| format!("PUB {name} {}\r\n{payload}\r\n", payload.len()),
        message: |name, payload| format!("MSG {name} {name} {}\r\n{payload}\r\n", payload.len()),
        ping: "PING\r\n",
        pong: "PONG\r\n",
    };

    #[cfg(feature = "redis")]
    pub(super) const REDIS: Words = Words {
        login: |password| if password.is_empty() { String::new() } else { command(&["AUTH", password]) },
        subscribe: |name| command(&["SUBSCRIBE", name]),
        publish: |name, payload| command(&["PUBLISH", name, payload]),
        message: |name, payload| command(&["message", name, payload]),
        ping: "*1\r\n$4\r\nPING\r\n",
        pong: "PONG\r\n",
    };

    #[cfg(feature = "redis")]
    fn command(words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    }

    pub(super) async fn raw(arguments: &Arguments, words: &Words) -> f64 {
        let (_, rest) = arguments.bus.split_once("://").unwrap();
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let login = (words.login)(login.rsplit(':').next().unwrap());
        let place = place.trim_end_matches(|end: char| end != ':' && !end.is_ascii_digit()).to_owned();
        let payload = "x".repeat(arguments.payload);
        let names: Vec<_> = (0..arguments.topics).map(|n| format!("raw-{n}")).collect();
        let mut subscriber = connected(&place, &login).await;
        let subscribed: String = names.iter().map(|name| (words.subscribe)(name)).collect();
        subscriber.write_all(format!("{subscribed}{}", words.ping).as_bytes()).await.unwrap();
        until(&mut subscriber, if words.ping.len() > 6 { "pong" } else { words.pong }).await;
        let messages = arguments.messages as usize;
        let expected: usize =
            names.iter().cycle().take(messages).map(|name| (words.message)(name, &payload).len()).sum();
        let batches: Vec<String> = (0..messages)
            .step_by(arguments.concurrency)
            .map(|first| {
                let of = |n: usize| (words.publish)(&names[n % names.len()], &payload);
                (first..messages.min(first + arguments.concurrency)).map(of).collect()
            })
            .collect();
        let mut publisher = connected(&place, &login).await;
        let begin = Instant::now();
        let publishing = tokio::spawn(async move {
            let (mut read, mut write) = publisher.split();
            let reading = async {
                let mut said = vec![0; 64 * 1024];
                // Answers are read, as any client does, and not looked at.
                while read.read(&mut said).await.unwrap() > 0 {}
            };
            let writing = async {
                for batch in batches {
                    write.write_all(batch.as_bytes()).await.unwrap();
                }
                std::future::pending::<()>().await;
            };
            tokio::join!(reading, writing);
        });
        let (mut heard, mut said) = (0, vec![0; 64 * 1024]);
        while heard < expected {
            heard += subscriber.read(&mut said).await.unwrap();
        }
        let elapsed = begin.elapsed();
        publishing.abort();
        messages as f64 / elapsed.as_secs_f64()
    }

    async fn connected(place: &str, login: &str) -> TcpStream {
        let mut stream = TcpStream::connect(place).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(format!("{login}PING\r\n").as_bytes()).await.unwrap();
        until(&mut stream, "PONG\r\n").await;
        stream
    }

    async fn until(stream: &mut TcpStream, word: &str) {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(word) {
            stream.read_buf(&mut said).await.unwrap();
        }
    }
}

//! Traces, as a collector gets them: OTLP over HTTP, decoded from its protobuf.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use outspoke_testkit::exchange;
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::Settings;

/// The parts of opentelemetry/proto/collector/trace/v1/trace_service.proto that are looked at.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Export {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(fixed64, tag = "7")]
        pub(super) start: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(string, optional, tag = "1")]
        pub(super) string: Option<String>,
        #[prost(int64, optional, tag = "3")]
        pub(super) int: Option<i64>,
    }
}

/// A delivery to the collector: what was asked for, and what it brought.
struct Delivery {
    head: String,
    export: proto::Export,
}

/// A collector that accepts everything.
struct Collector {
    address: SocketAddr,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, deliveries) = mpsc::channel(1000);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, sender.clone()));
            }
        });
        Self { address, deliveries }
    }

    /// Everything that comes until the server has gone.
    async fn rest(mut self) -> Vec<Delivery> {
        let mut all = Vec::new();
        while let Ok(delivery) = self.deliveries.try_recv() {
            all.push(delivery);
        }
        all
    }
}

/// Requests of one connection, as RFC 9112 has them, each with its length.
async fn take(stream: TcpStream, sender: mpsc::Sender<Delivery>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        let export = proto::Export::decode(Bytes::from(body)).unwrap();
        // Told before it is answered: what is answered was told.
        sender.send(Delivery { head, export }).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn text<'a>(attributes: &'a [proto::KeyValue], key: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.string.as_deref()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn publish(trace: &str) -> Vec<u8> {
    let body = r#"{"room":"lobby","type":"chat","content":"hello"}"#;
    let traceparent = if trace.is_empty() { String::new() } else { format!("traceparent: {trace}\r\n") };
    format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{traceparent}\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What was sent and when it ended, once the server has: it sends the rest before.
async fn spans_of(
    settings: Settings,
    act: impl AsyncFnOnce(&crate::support::Server),
) -> (Vec<proto::Span>, String) {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let settings = settings
        .set("otel.endpoint", &endpoint)
        .set("otel.headers", "x-key=s3cret")
        .set("api.open_on_loopback", "true");
    let mut server = settings.start().await;
    act(&server).await;
    server.signal(outspoke_testkit::Signal::TERM);
    server.process().ended(Duration::from_secs(60)).await;
    let deliveries = collector.rest().await;
    let mut spans = Vec::new();
    let mut head = String::new();
    for delivery in deliveries {
        head = delivery.head;
        for of in delivery.export.resource_spans {
            let attributes = of.resource.unwrap().attributes;
            assert_eq!(text(&attributes, "service.name"), Some("outspoke"));
            spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    (spans, head)
}

#[tokio::test]
async fn trace_of_a_caller_goes_on_through_publish_and_store() {
    let settings = Settings::default().set("otel.sample_one_in", "0");
    let (spans, head) = spans_of(settings, async |server| {
        let sampled = exchange(server.addr, &publish(&format!("00-{TRACE}-{CALLER}-01"))).await;
        assert_eq!(sampled.status, 200, "{}", sampled.body);
        // Its caller has decided that it is not traced, and here nobody has.
        let other = format!("00-{}-{CALLER}-00", TRACE.replace('0', "1"));
        assert_eq!(exchange(server.addr, &publish(&other)).await.status, 200);
        assert_eq!(exchange(server.addr, &publish("")).await.status, 200);
    })
    .await;
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf") && head.contains("x-key: s3cret"),
        "{head}"
    );
    let named: HashMap<&str, &proto::Span> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.end >= span.start));
    let (request, said, stored) = (named["request"], named["publish"], named["store append"]);
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(text(&request.attributes, "http.route"), Some("/api/v1/publish"));
    assert_eq!(said.parent_span_id, request.span_id);
    assert_eq!(stored.parent_span_id, said.span_id);
    assert_eq!(text(&stored.attributes, "store"), Some("default"));
}

#[tokio::test]
async fn connection_is_traced_from_request_to_identity_and_its_messages_are_too() {
    let settings = Settings::default().set("otel.sample_one_in", "1");
    let (spans, _) = spans_of(settings, async |server| {
        let mut client = server.in_lobby("ana").await;
        client.send(json!({ "type": "chat", "id": 1, "content": "hello" })).await;
        client.find("ack").await;
    })
    .await;
    let of = |name: &str| {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"))
    };
    assert_eq!(of("upgrade").parent_span_id, of("request").span_id);
    assert_eq!(of("authenticate").parent_span_id, of("upgrade").span_id);
    assert_eq!(of("store append").parent_span_id, of("publish").span_id);
    assert_ne!(
        of("publish").trace_id,
        of("request").trace_id,
        "a message is no part of the request that has connected"
    );
    // Nothing is traced of members and deliveries.
    let names: HashSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, HashSet::from(["request", "upgrade", "authenticate", "publish", "store append"]));
}

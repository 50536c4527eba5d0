//! Connections that are no pipes in memory: half-closed, buffered, sockets.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use outspoke_hub::{Attach, Frame, Hub, HubConfig, Identity, Refusal, Reply, StreamConn, TcpConfig, TcpConn};
use outspoke_testkit::{ByteStream, Received, TcpClient, WsClient, settle};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::support::{PATIENCE, eventually, hub, member, publish, threaded_hub, welcomed};

/// The client's end of a duplex stream.
struct Duplex(DuplexStream);

impl ByteStream for Duplex {
    async fn read(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let count = self.0.read(&mut buffer).await.unwrap_or(0);
        buffer.truncate(count);
        buffer
    }

    fn read_now(&mut self) -> Option<Vec<u8>> {
        None
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }
}

fn attach_stream<S>(hub: &Hub, stream: S, peer: DuplexStream) -> WsClient<Duplex>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let attach = Attach::new(Identity::user("stream").named("Stream"));
    hub.attach(StreamConn::new(stream), attach).unwrap();
    WsClient::new(Duplex(peer), None, Vec::new(), PATIENCE)
}

/// TLS and HTTP/2 come this way.
#[tokio::test(start_paused = true)]
async fn connection_over_any_stream_works_and_closes() {
    let hub = hub(|_| {});
    let (stream, peer) = tokio::io::duplex(64);
    let mut client = attach_stream(&hub, stream, peer);
    client.expect("welcome").await;
    client.join("x").await;
    let mut other = member(&hub, "other", "x").await;
    for number in 0..100 {
        publish(&hub, "x", number);
        client.send(json!({ "type": "chat", "room": "x", "content": "x".repeat(500) })).await;
        client.expect("message").await;
        client.expect("chat").await;
        other.expect("message").await;
        other.expect("chat").await;
    }
    client.close(1000, "").await;
    assert_eq!(client.closed().await, Some(1000));
    assert_eq!(client.next().await, Received::End);
    drop(client);
    settle().await;
    assert_eq!(hub.client_count(), 1);
}

/// A layer that takes bytes and holds them back until it is flushed, as TLS does.
struct Holding<S> {
    inner: S,
    held: Vec<u8>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Holding<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Holding<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() >= 1000 {
            std::task::ready!(self.as_mut().poll_flush(context))?;
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.held.is_empty() {
            let count = std::task::ready!(Pin::new(&mut this.inner).poll_write(context, &this.held))?;
            this.held.drain(..count);
        }
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// What a layer took is not written yet: when the peer reads again it must be flushed on, though nothing new is sent.
#[tokio::test(start_paused = true)]
async fn bytes_that_a_layer_holds_back_are_flushed_when_the_peer_reads() {
    let hub = hub(|_| {});
    let (stream, peer) = tokio::io::duplex(300);
    let stream = Holding { inner: stream, held: Vec::new() };
    let attach = Attach::new(Identity::user("stream"));
    let handle = hub.attach(StreamConn::new(stream), attach).unwrap();
    let mut client = WsClient::new(Duplex(peer), None, Vec::new(), Duration::from_secs(5));
    client.expect("welcome").await;
    let wait = hub.push_and_wait(handle.id(), &Frame::binary(vec![7; 900])).unwrap();
    settle().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(client.next().await, Received::Binary(vec![7; 900].into()));
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(wait.await, Ok(()));
    // The same for the close frame and the end of the stream.
    hub.push(handle.id(), &Frame::binary(vec![7; 900])).unwrap();
    settle().await;
    client.close(1000, "").await;
    settle().await;
    assert_eq!(client.closed().await, Some(1000));
    assert_eq!(client.next().await, Received::End);
}

/// Bytes held back below count as waiting: the write time-out runs for them too.
#[tokio::test(start_paused = true)]
async fn write_timeout_runs_for_bytes_that_a_layer_holds_back() {
    let hub = hub(|_| {});
    let (stream, peer) = tokio::io::duplex(300);
    let stream = Holding { inner: stream, held: Vec::new() };
    let handle = hub.attach(StreamConn::new(stream), Attach::new(Identity::user("stream"))).unwrap();
    let mut client = WsClient::new(Duplex(peer), None, Vec::new(), PATIENCE);
    client.expect("welcome").await;
    hub.push(handle.id(), &Frame::binary(vec![7; 900])).unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(hub.client(handle.id()).map(|client| client.id()), None);
    assert_eq!(client.closed().await, Some(4001));
}

/// A client that ends its half without a goodbye is gone: it could not even answer a ping.
#[tokio::test(start_paused = true)]
async fn end_of_the_stream_without_a_close_frame_is_a_loss() {
    let departures = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&departures);
    let builder = Hub::builder().on_disconnect(move |_, departure| seen.lock().unwrap().push(departure));
    let hub = crate::support::hub_of(builder, |_| {});
    let mut other = member(&hub, "other", "x").await;
    let mut client = member(&hub, "a", "x").await;
    // The last message is complete and counts; the one behind it is not.
    client.say("x", "last words").await;
    client.send_raw(&[0x81, 0x85, 0, 0]).await;
    client.stream().close();
    assert_eq!(other.expect("chat").await["content"], "last words");
    settle().await;
    assert_eq!(hub.client_count(), 1);
    assert_eq!(*departures.lock().unwrap(), [outspoke_hub::Departure::Lost]);
    let received = client.received();
    assert_eq!(received.last(), Some(&Received::End));
}

/// A hub with one shard and a listener on loopback; returns clients over real sockets.
struct Sockets {
    hub: Hub,
    listener: std::net::TcpListener,
    tcp: TcpConfig,
}

impl Sockets {
    fn new(hub: Hub, send_buffer_bytes: usize) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { hub, listener, tcp: TcpConfig { send_buffer_bytes, nodelay: true } }
    }

    /// A socket pair: the hub's end is attached, the other returned.
    fn connect(&self, user: &str) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = self.listener.accept().unwrap();
        let conn = TcpConn::new(accepted, &self.tcp).unwrap();
        self.hub.attach(conn, Attach::new(Identity::user(user))).unwrap();
        stream
    }

    async fn client(&self, user: &str) -> TcpClient {
        let mut client = self.unwelcomed(user);
        client.expect("welcome").await;
        client
    }

    fn unwelcomed(&self, user: &str) -> TcpClient {
        let stream = self.connect(user);
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        WsClient::new(outspoke_testkit::TcpPipe::new(stream), None, Vec::new(), PATIENCE)
    }
}

/// Large messages through tiny buffers: every write is partial, and the order must hold.
#[tokio::test]
async fn large_messages_pass_through_tiny_socket_buffers_whole_and_in_order() {
    let hub = threaded_hub(2, |config| {
        config.message_bytes_max = 2 * 1024 * 1024;
        config.outbox_bytes_max = 64 * 1024 * 1024;
    });
    let sockets = Sockets::new(hub.clone(), 4096);
    let (mut a, mut b) = (sockets.client("a").await, sockets.client("b").await);
    a.join("x").await;
    b.join("x").await;
    let reading = tokio::spawn(async move {
        for number in 0..20 {
            let message = b.expect("message").await;
            assert_eq!(message["offset"], number + 1);
            assert_eq!(message["data"].as_str().unwrap().len(), if number % 2 == 0 { 1 << 20 } else { 10 });
        }
    });
    let writing = tokio::spawn(async move {
        for number in 0..20 {
            let data = "x".repeat(if number % 2 == 0 { 1 << 20 } else { 10 });
            a.send(json!({ "type": "publish", "room": "x", "data": data })).await;
            assert_eq!(a.expect("message").await["offset"], number + 1);
        }
    });
    writing.await.unwrap();
    reading.await.unwrap();
}

/// The kernel's buffers are full, the client reads in its own time: pushes report exactly, bytes go back to zero.
#[tokio::test]
async fn pushes_over_a_full_socket_are_refused_and_arrive_in_order_later() {
    let hub = threaded_hub(1, |config| {
        config.outbox_bytes_max = 128 * 1024;
        config.write_timeout = Duration::ZERO;
    });
    let sockets = Sockets::new(hub.clone(), 4096);
    let mut client = sockets.client("a").await;
    let handle = hub.clients().pop().unwrap();
    let mut sent = 0_u32;
    // Full for good: the shard has nothing left to do, and still there is no space.
    let mut refused = 0;
    while refused < 100 {
        let mut payload = vec![0; 5000];
        payload[..4].copy_from_slice(&sent.to_be_bytes());
        match hub.push(handle.id(), &Frame::binary(payload)) {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(handle.queued_bytes() <= 128 * 1024);
    }
    for number in 0..sent {
        let Received::Binary(payload) = client.next().await else { panic!("no frame") };
        assert_eq!(payload[..4], number.to_be_bytes());
    }
    eventually("everything is written", || handle.queued_bytes() == 0).await;
}

/// A member that stops reading its socket is let go; the other members and the kernel's events are not disturbed.
#[tokio::test]
async fn slow_socket_is_disconnected_with_4000_and_the_others_get_everything() {
    let hub = threaded_hub(2, |config| {
        config.outbox_bytes_max = 64 * 1024;
    });
    let sockets = Sockets::new(hub.clone(), 4096);
    let mut slow = sockets.client("slow").await;
    slow.join("x").await;
    let mut fast = sockets.client("fast").await;
    fast.join("x").await;
    let mut published = 0;
    while hub.stats().slow_clients_closed == 0 {
        hub.publish("x", outspoke_hub::Kind::Data, outspoke_hub::Body::json(&"x".repeat(10_000)).unwrap())
            .unwrap();
        published += 1;
        assert_eq!(fast.expect("message").await["offset"], published);
    }
    let received = {
        let mut received = Vec::new();
        loop {
            match slow.next().await {
                Received::Close { code, .. } => break assert_eq!(code, Some(4000)),
                other => received.push(other),
            }
        }
        received
    };
    let offsets = crate::support::offsets(&received);
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
    slow.close(4000, "").await;
    assert_eq!(slow.next().await, Received::End);
    drop(slow);
    eventually("it is gone", || hub.client_count() == 1).await;
}

/// Data and the end of the stream in one event: the data counts, and the connection ends at once.
#[tokio::test]
async fn socket_that_ends_right_after_its_last_message_is_read_to_the_end() {
    let hub = threaded_hub(2, |_| {});
    let sockets = Sockets::new(hub.clone(), 0);
    let mut other = member(&hub, "other", "x").await;
    for round in 0..50 {
        let mut client = sockets.client("a").await;
        client.join("x").await;
        let text = format!(r#"{{"type":"publish","room":"x","data":{round}}}"#);
        let frame = client.frame(outspoke_websocket::Opcode::Text, text.as_bytes());
        client.send_raw(&frame).await;
        if round % 2 == 0 {
            client.stream().shut_down().unwrap();
            client.to_the_end().await;
        } else {
            drop(client);
        }
        assert_eq!(other.expect("message").await["data"], round);
        eventually("it is gone", || hub.client_count() == 1).await;
    }
}

/// Many sockets at once, each a conversation: an event that is lost or taken for another's would stop one of them.
#[tokio::test]
async fn many_sockets_on_several_shards_all_make_progress() {
    let hub = threaded_hub(3, |_| {});
    let sockets = Sockets::new(hub.clone(), 0);
    let mut tasks = Vec::new();
    for number in 0..60 {
        let mut client = sockets.client(&format!("user{number}")).await;
        tasks.push(tokio::spawn(async move {
            client.join(&format!("room{}", number % 7)).await;
            for id in 0..50 {
                client.send(json!({ "type": "ping", "id": id })).await;
                assert_eq!(client.expect("pong").await["id"], id);
            }
            client.close(1000, "").await;
            assert_eq!(client.closed().await, Some(1000));
            assert_eq!(client.next().await, Received::End);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    eventually("all are gone", || hub.client_count() == 0 && hub.room_count() == 0).await;
}

/// A peer that resets its connection in the middle of everything ends only itself.
#[tokio::test]
async fn socket_that_is_reset_ends_alone() {
    let hub = threaded_hub(1, |_| {});
    let sockets = Sockets::new(hub.clone(), 4096);
    let mut other = sockets.client("other").await;
    other.join("x").await;
    for round in 0..20 {
        let stream = sockets.connect("reset");
        eventually("it is there", || hub.clients().len() == 2).await;
        let id = hub.clients().iter().find(|client| client.user().as_str() == "reset").unwrap().id();
        hub.join(id, "x").await.unwrap();
        // Closing with unread bytes makes the kernel send a reset.
        publish(&hub, "x", round);
        drop(stream);
        publish(&hub, "x", round);
        other.expect("message").await;
        other.expect("message").await;
        eventually("it is gone", || hub.client_count() == 1).await;
    }
    let mut unread = welcomed(&hub, "still").await;
    unread.send(json!({ "type": "ping" })).await;
    unread.expect("pong").await;
}

/// The handler of a client that has vanished works for nobody: it goes with the connection, not with its time-out.
#[tokio::test]
async fn socket_that_is_reset_while_its_handler_waits_is_lost_at_once() {
    let builder = Hub::builder()
        .config(HubConfig { shards: 1, handler_timeout: Duration::ZERO, ..HubConfig::default() })
        .on("wait", |_context, _data| std::future::pending::<Result<Option<Reply>, Refusal>>());
    let hub = builder.start().unwrap();
    let sockets = Sockets::new(hub.clone(), 0);
    let mut client = sockets.client("a").await;
    client.send(json!({ "type": "wait" })).await;
    // The answer to the next request proves nothing: it is behind the handler. What is read, is counted.
    eventually("the request has been read", || hub.stats().frames_read == 1).await;
    socket2::SockRef::from(client.stream().socket()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually("it is gone", || hub.client_count() == 0).await;
}

/// A peer that floods must let its neighbours on the same shard have their turn.
#[tokio::test]
async fn flood_from_one_socket_does_not_starve_another() {
    let hub = threaded_hub(1, |_| {});
    let sockets = Sockets::new(hub.clone(), 0);
    let mut flood = sockets.client("flood").await;
    let mut polite = sockets.client("polite").await;
    let flooding = tokio::spawn(async move {
        let mut frames = Vec::new();
        while frames.len() < 1 << 20 {
            frames.extend(flood.frame(outspoke_websocket::Opcode::Pong, b"nothing"));
        }
        for _ in 0..50 {
            flood.send_raw(&frames).await;
        }
        flood.close(1000, "").await;
        flood.closed().await
    });
    for id in 0..100 {
        polite.send(json!({ "type": "ping", "id": id })).await;
        assert_eq!(polite.expect("pong").await["id"], id);
    }
    assert_eq!(flooding.await.unwrap(), Some(1000));
}

#[tokio::test]
async fn tcp_conn_can_be_driven_without_a_shard() {
    use outspoke_hub::WsConn;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let mut conn = TcpConn::new(accepted, &TcpConfig { send_buffer_bytes: 0, nodelay: true }).unwrap();
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut buffer = [0; 8];
    assert!(conn.poll_read(&mut context, &mut buffer).is_pending());
    assert!(matches!(conn.poll_write(&mut context, &[IoSlice::new(b"ab")]), Poll::Ready(Ok(2))));
    assert!(matches!(conn.poll_flush(&mut context), Poll::Ready(Ok(()))));
    assert!(matches!(conn.poll_shutdown(&mut context), Poll::Ready(Ok(()))));
    let mut all = Vec::new();
    io::Read::read_to_end(&mut peer, &mut all).unwrap();
    assert_eq!(all, b"ab");
    drop(peer);
    let count = std::future::poll_fn(|context| conn.poll_read(context, &mut buffer)).await;
    assert_eq!(count.unwrap(), 0);
}

//! Upgrades whose socket the server has in its own hands.

use http::{Request, Response};
use http_body_util::Full;
use outspoke_hub::{
    Admitted, AuthError, Authentication, Authenticator, Disconnect, Hub, HubConfig, Identity, SocketInHand,
    UpgradeOptions, UpgradeService,
};
use outspoke_testkit::{Received, TcpClient, TcpPipe};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::support::{PATIENCE, eventually};

type Answer = Response<Full<bytes::Bytes>>;

async fn asked(service: &UpgradeService, target: &str) -> Answer {
    let request = Request::get(target)
        .header("host", "h")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .extension(SocketInHand)
        .body(())
        .unwrap();
    service.clone().oneshot(request).await.unwrap()
}

/// Attaches a socket, and returns the client's end behind the head of the answer.
async fn attached(mut answer: Answer) -> TcpClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let admitted = Admitted::of(&mut answer).expect("somebody was let in");
    answer.headers_mut().insert("x-added", "by the server".parse().unwrap());
    admitted.clone().attach(socket.into_std().unwrap(), answer.map(drop)).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for field in ["sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "x-added: by the server\r\n"] {
        assert!(head.contains(field), "{head}");
    }
    TcpClient::new(TcpPipe::new(client), None, Vec::new(), PATIENCE)
}

fn hub(change: impl FnOnce(&mut HubConfig)) -> Hub {
    let mut config = HubConfig { shards: 2, ..HubConfig::default() };
    change(&mut config);
    Hub::builder().config(config).start().unwrap()
}

#[tokio::test]
async fn answer_goes_before_the_welcome_and_the_connection_is_like_any_other() {
    let hub = hub(|_| {});
    let answer = asked(&hub.service(), "/?username=ann&userId=ann&join=kitchen").await;
    assert_eq!(hub.client_count(), 1, "its place is taken");
    let mut client = attached(answer).await;
    assert_eq!(client.expect("welcome").await["userId"], "ann");
    assert_eq!(client.expect("subscribed").await["room"], "kitchen");
    client.send(json!({ "type": "chat", "room": "kitchen", "content": "hi" })).await;
    assert_eq!(client.expect("chat").await["content"], "hi");
    let mut echoing =
        attached(asked(&hub.service_with(UpgradeOptions::default().echoing()), "/").await).await;
    echoing.send_text("as it is").await;
    assert_eq!(echoing.next().await, Received::Text("as it is".to_owned()));
}

#[tokio::test]
async fn many_at_once_are_all_attached() {
    let hub = hub(|_| {});
    let service = hub.service();
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { attached(asked(&service, "/?join=none").await).await })
        })
        .collect();
    for client in clients {
        client.await.unwrap().expect("welcome").await;
    }
}

#[tokio::test]
async fn place_is_given_back_with_the_answer_and_refusals_let_nobody_in() {
    let hub = hub(|config| config.connections_max = 1);
    let mut answer = asked(&hub.service(), "/").await;
    let mut full = asked(&hub.service(), "/").await;
    assert_eq!((full.status().as_u16(), Admitted::of(&mut full).is_none()), (503, true));
    let admitted = Admitted::of(&mut answer);
    assert!(admitted.is_some() && Admitted::of(&mut answer).is_none());
    drop(admitted);
    assert_eq!(hub.client_count(), 0);
    let mut answer = asked(&hub.service(), "/?dialect=none").await;
    assert_eq!((answer.status().as_u16(), Admitted::of(&mut answer).is_none()), (400, true));
}

/// Who stops being welcome between the answer and the shard reads both: the answer, and why.
#[tokio::test]
async fn answer_is_written_before_a_farewell_too() {
    let hub = hub(|_| {});
    let answer = asked(&hub.service(), "/?userId=ann&join=none").await;
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(PATIENCE).await }
    });
    eventually("it stops", || !hub.is_accepting()).await;
    let mut client = attached(answer).await;
    assert_eq!(client.closed().await, Some(Disconnect::GoingAway.code()));
    client.close(1001, "").await;
    drop(client);
    assert!(stopping.await.unwrap());
}

/// Knows nobody by a request, and everybody by a token.
#[derive(Debug)]
struct Door;

impl Authenticator for Door {
    fn authenticate<'a>(&'a self, _: &'a http::request::Parts) -> Authentication<'a> {
        Box::pin(std::future::ready(Err(AuthError::missing("a token is needed"))))
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        Box::pin(std::future::ready(Ok(Identity::user(token))))
    }
}

#[tokio::test]
async fn credential_may_come_in_the_first_message() {
    let hub = Hub::builder().authenticator(Door).start().unwrap();
    let service = hub.service_with(UpgradeOptions::default().with_first_message(PATIENCE));
    let mut client = attached(asked(&service, "/?join=none").await).await;
    eventually("it waits outside", || hub.unauthenticated_count() == 1).await;
    client.send(json!({ "type": "auth", "token": "ann" })).await;
    assert_eq!(client.expect("welcome").await["userId"], "ann");
    eventually("nobody waits", || hub.unauthenticated_count() == 0).await;
}

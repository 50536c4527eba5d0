//! Users over HTTP, with their tokens: judged by the same people, held by the same limits and cut off as soon as over a connection.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::body::{Body, BodyDataStream, to_bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use futures_util::StreamExt as _;
use outspoke_hub::{
    Action, Ask, Asks, AuthError, Authentication, Authenticator, Authorization, Authorizer, Durability,
    ErrorCode, Grant, Hub, HubConfig, Identity, Kind, Permissions, Rate, RateConfig, Refusal, Ruling,
    Subject, Timestamp, UserId, Verdict,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Api, Kept, routes};
use crate::config::{FileChoice, FlagValue, Sources, load};

const KEY: &str = "a-key-for-tests-0123456789";

/// Accepts the token `of-USER`, which permits everything, and `soon-USER`, which ends in two seconds.
#[derive(Debug)]
struct Tokens;

impl Authenticator for Tokens {
    fn authenticate<'a>(&'a self, _: &'a Parts) -> Authentication<'a> {
        Box::pin(async { Err(AuthError::unauthorized("no")) })
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        Box::pin(async move {
            let (sort, user) =
                token.split_once('-').ok_or_else(|| AuthError::unauthorized("this is no token"))?;
            let mut identity = Identity::user(user).named(user);
            identity.permissions = Permissions::everything();
            let soon = SystemTime::now() + Duration::from_secs(2);
            identity.expires = (sort == "soon").then(|| Timestamp::from_system_time(soon));
            Ok(identity)
        })
    }
}

/// Lets nobody into the room `secret`.
#[derive(Clone, Debug, Default)]
struct Doorkeeper(Arc<AtomicUsize>);

impl Authorizer for Doorkeeper {
    fn asks(&self) -> Asks {
        let mut asks = Asks::default();
        asks.join = true;
        asks
    }

    fn authorize(&self, ask: Ask) -> Authorization<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let refused = ask.action == Action::Join && ask.room.as_str() == "secret";
        let refusal = || Refusal::new(ErrorCode::Forbidden, "not in there");
        Box::pin(std::future::ready(if refused { Err(refusal()) } else { Ok(Grant::default()) }))
    }
}

/// Rooms that remember what was said, and by whom it was read.
fn config() -> HubConfig {
    let mut config = HubConfig::default();
    let class = config.rooms.default_mut();
    (class.durability, class.presence, class.receipts) = (Durability::Memory, true, true);
    config
}

/// A hub and its API.
struct Stage {
    hub: Hub,
    kept: Kept,
}

impl Stage {
    fn new(hub: Hub) -> Self {
        Self { hub, kept: Kept::default() }
    }

    fn limited(limit: impl FnOnce(&mut RateConfig)) -> Self {
        let mut config = config();
        limit(&mut config.rate);
        Self::new(Hub::builder().config(config).authenticator(Tokens).start_on_this_runtime().unwrap())
    }

    /// What is answered; `tenant` is the header's.
    async fn answer(
        &self,
        credential: &str,
        tenant: Option<&str>,
        (method, path): (&str, &str),
        body: &Value,
    ) -> Response {
        let flags = [("api.keys", KEY), ("tenants.enabled", "true")];
        let flags = flags.map(|(key, value)| FlagValue {
            flag: "--set".into(),
            key: key.into(),
            value: value.into(),
        });
        let sources = Sources { file: FileChoice::None, flags: flags.into(), ..Sources::default() };
        let config = load(&sources).unwrap().config;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {credential}"))
            .header("content-type", "application/json");
        if let Some(tenant) = tenant {
            request = request.header("x-tenant", tenant);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let api = Api::new(&self.hub, &config.api, &config.tenants, "machine:8080", &self.kept);
        routes(api).oneshot(request.body(body).unwrap()).await.unwrap()
    }

    /// The status, and the answer.
    async fn ask(&self, credential: &str, what: (&str, &str), body: Value) -> (u16, Value) {
        let answer = self.answer(credential, None, what, &body).await;
        let status = answer.status().as_u16();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// A stream of events, of which the first has been read.
    async fn follow(&self, credential: &str) -> BodyDataStream {
        let path = "/follow?room=room&payload=true";
        let answer = self.answer(credential, None, ("GET", path), &Value::Null).await;
        assert_eq!(answer.status(), 200);
        let mut events = answer.into_body().into_data_stream();
        assert!(next(&mut events).await.unwrap().contains("event: following"));
        events
    }

    async fn say(&self, room: &str, what: &str) {
        let said = outspoke_hub::Body::Text(what.into());
        self.hub.publish(room, Kind::Chat, said).unwrap().await.unwrap();
    }
}

async fn next(events: &mut BodyDataStream) -> Option<String> {
    events.next().await.map(|event| String::from_utf8_lossy(&event.unwrap()).into_owned())
}

fn chat(room: &str) -> Value {
    json!({ "room": room, "type": "chat", "content": "hello" })
}

#[tokio::test(start_paused = true)]
async fn room_that_the_application_refuses_is_closed_over_http_too() {
    let doorkeeper = Doorkeeper::default();
    let asked = Arc::clone(&doorkeeper.0);
    let hub = Hub::builder().config(config()).authenticator(Tokens).authorizer(doorkeeper);
    let stage = Stage::new(hub.start_on_this_runtime().unwrap());
    stage.say("secret", "psst").await;
    stage.say("open", "hello").await;
    let requests = |room: &str| {
        [
            ("GET", format!("/rooms/{room}"), Value::Null),
            ("GET", format!("/rooms/{room}/history"), Value::Null),
            ("GET", format!("/rooms/{room}/presence"), Value::Null),
            ("GET", format!("/rooms/{room}/receipts"), Value::Null),
            ("GET", format!("/explain?room={room}&offset=1"), Value::Null),
            ("GET", format!("/follow?room={room}"), Value::Null),
            ("POST", "/publish".to_owned(), chat(room)),
            ("POST", "/publish/batch".to_owned(), json!({ "messages": [chat(room)] })),
            ("POST", format!("/rooms/{room}/members/bob/remove"), json!({})),
            ("POST", format!("/rooms/{room}/members/bob/readmit"), Value::Null),
            ("DELETE", format!("/rooms/{room}/messages/1"), Value::Null),
        ]
    };
    for (method, path, body) in requests("secret") {
        let before = asked.load(Ordering::Relaxed);
        let answer = stage.answer("of-mallory", None, (method, &path), &body).await;
        assert_eq!(answer.status(), 403, "{method} {path}");
        assert_eq!(asked.load(Ordering::Relaxed), before + 1, "{method} {path}");
    }
    for (method, path, body) in requests("open") {
        let answer = stage.answer("of-mallory", None, (method, &path), &body).await;
        assert!(answer.status().is_success(), "{method} {path}: {answer:?}");
    }
    let before = asked.load(Ordering::Relaxed);
    let (status, answer) =
        stage.ask("of-mallory", ("POST", "/users/bob/messages"), json!({ "content": "x" })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(asked.load(Ordering::Relaxed), before, "a conversation is its two users' own");
}

#[tokio::test(start_paused = true)]
async fn follower_is_told_nothing_that_happens_after_the_credential_was_taken_back() {
    for lowered in [false, true] {
        let stage = Stage::limited(|_| ());
        stage.say("room", "first").await;
        let mut events = stage.follow("of-mia").await;
        stage.say("room", "before").await;
        assert!(next(&mut events).await.unwrap().contains("before"));
        let mia = UserId::new("mia");
        match lowered {
            false => stage.hub.revoke_user(&mia, false).await.unwrap(),
            true => {
                let nothing = Verdict::Permissions(Permissions::nothing());
                stage.hub.rule(Ruling::new(Subject::User(mia), nothing)).await.unwrap()
            }
        };
        stage.say("room", "after").await;
        assert_eq!(next(&mut events).await, None, "lowered: {lowered}");
    }
}

#[tokio::test(start_paused = true)]
async fn follower_of_a_silent_room_ends_within_five_seconds_too() {
    let stage = Stage::limited(|_| ());
    let mut events = stage.follow("of-mia").await;
    stage.hub.revoke_user(&UserId::new("mia"), false).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), next(&mut events)).await;
    assert_eq!(end.unwrap(), None);
}

#[tokio::test]
async fn follower_of_a_busy_room_ends_with_its_token() {
    let stage = Stage::limited(|_| ());
    let mut events = stage.follow("soon-mia").await;
    let busy = async {
        loop {
            stage.say("room", "hello").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = async {
        let mut told = 0;
        while next(&mut events).await.is_some() {
            told += 1;
        }
        told
    };
    tokio::select! {
        () = busy => {}
        () = tokio::time::sleep(Duration::from_secs(7)) => panic!("the token has ended and the stream has not"),
        told = ended => assert!(told > 0),
    }
}

/// Two in a minute, both at once.
fn two() -> Rate {
    Rate::per(2, Duration::from_secs(60), 2)
}

/// How many of a batch were accepted.
fn accepted(answer: &Value) -> usize {
    answer["results"].as_array().into_iter().flatten().filter(|result| result["id"].is_string()).count()
}

#[tokio::test(start_paused = true)]
async fn messages_over_http_count_as_messages_over_a_connection_do() {
    let limits: [fn(&mut RateConfig); 4] = [
        |rate| rate.user = two(),
        |rate| rate.tenant = two(),
        |rate| rate.room = two(),
        |rate| rate.actions.publish = two(),
    ];
    for (which, limit) in limits.into_iter().enumerate() {
        let stage = Stage::limited(limit);
        let batch = json!({ "messages": vec![chat("room"); 100] });
        let mut count = 0;
        for turn in 0..3 {
            let (status, answer) = stage.ask("of-mia", ("POST", "/publish/batch"), batch.clone()).await;
            assert_eq!(status, if turn == 0 { 200 } else { 429 }, "{which}: {answer}");
            count += accepted(&answer);
        }
        assert_eq!(count, 2, "{which}");
        let answer = stage.answer("of-mia", None, ("POST", "/publish"), &chat("room")).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &"30".parse().unwrap())
        );
        let (status, answer) = stage.ask(KEY, ("POST", "/publish/batch"), batch).await;
        assert_eq!((status, accepted(&answer)), (200, 100), "the application's own are not limited");
    }
}

#[tokio::test(start_paused = true)]
async fn looks_deletions_and_private_messages_over_http_are_limited_as_over_a_connection() {
    let stage = Stage::limited(|rate| {
        (rate.actions.read, rate.actions.direct) = (two(), two());
        rate.actions.publish = Rate::per(3, Duration::from_secs(60), 3);
    });
    stage.say("room", "hello").await;
    let statuses = async |method: &str, path: &str, body: Value| {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(stage.ask("of-mia", (method, path), body.clone()).await.0);
        }
        statuses
    };
    assert_eq!(statuses("GET", "/rooms/room/history", Value::Null).await, [200, 200, 429]);
    for path in ["/rooms/room/presence", "/rooms/room/receipts", "/rooms/room", "/explain?room=room&offset=1"]
    {
        assert_eq!(stage.ask("of-mia", ("GET", path), Value::Null).await.0, 429, "{path}");
    }
    let said = json!({ "content": "psst" });
    assert_eq!(statuses("POST", "/users/bob/messages", said).await, [200, 200, 429]);
    let deleted = statuses("DELETE", "/rooms/room/messages/1", Value::Null).await;
    assert_eq!(deleted, [200, 429, 429], "private messages were two of the three");
    assert_eq!(stage.ask("of-ben", ("GET", "/rooms/room/history"), Value::Null).await.0, 200);
}

/// Who did what, and for which tenant, as the audit has it.
async fn audited(stage: &Stage) -> Vec<(String, String)> {
    let (_, audit) = stage.ask(KEY, ("GET", "/audit?limit=1000"), Value::Null).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = audit["entries"].as_array().unwrap();
    entries.iter().map(|entry| (text(&entry["who"]), text(&entry["tenant"]))).collect()
}

#[tokio::test(start_paused = true)]
async fn users_push_nothing_out_of_the_audit_and_write_into_no_other_tenants() {
    let stage = Stage::limited(|_| ());
    stage.say("room", "hello").await;
    assert_eq!(stage.ask(KEY, ("POST", "/disconnect"), json!({ "user": "ana" })).await.0, 200);
    for _ in 0..1030 {
        let refused = stage.answer("of-mia", Some("other"), ("DELETE", "/tenants/x"), &Value::Null).await;
        assert_eq!(refused.status(), 403);
    }
    let operators = ("key:1".to_owned(), String::new());
    assert_eq!(audited(&stage).await, std::slice::from_ref(&operators));
    for _ in 0..1030 {
        let (status, _) = stage.ask("of-mia", ("DELETE", "/rooms/room/messages/1"), Value::Null).await;
        assert_eq!(status, 200);
    }
    let done = audited(&stage).await;
    assert!(
        done.iter().all(|entry| entry.0 == "user:mia"),
        "what moderators do is there: {:?}",
        done.first()
    );
    let (_, first) = stage.ask(KEY, ("GET", "/audit?limit=1000"), Value::Null).await;
    let (_, rest) = stage
        .ask(KEY, ("GET", &format!("/audit?before={}", first["next"].as_str().unwrap())), Value::Null)
        .await;
    let last = rest["entries"].as_array().unwrap().last().unwrap();
    assert_eq!(last["who"], "key:1", "what operators did has stayed");
}

#[tokio::test(start_paused = true)]
async fn users_who_follow_leave_places_to_the_application() {
    let stage = Stage::limited(|_| ());
    let mut streams = Vec::new();
    let mut follow = async |credential: &str| {
        let answer = stage.answer(credential, None, ("GET", "/follow?room=room"), &Value::Null).await;
        let status = answer.status().as_u16();
        streams.push(answer);
        status
    };
    let mut statuses = Vec::new();
    for _ in 0..34 {
        statuses.push(follow("of-mia").await);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 4, "{statuses:?}");
    assert!(statuses[4..].iter().all(|status| *status == 503), "{statuses:?}");
    for user in 0..10 {
        for _ in 0..4 {
            follow(&format!("of-u{user}")).await;
        }
    }
    assert_eq!(follow("of-last").await, 503);
    assert_eq!(follow(KEY).await, 200);
}

//! Who may do what: every cell of the table in `docs/operating/authorization.md`, over a connection, over HTTP, and over a
//! connection to a second node. The table is read from the document, so that it cannot say anything else.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, SigningKey, TokenAuthenticator, VerificationKey};
use outspoke_hub::bus::MemoryHub;
use outspoke_hub::store::{MemoryStore, Store};
use outspoke_hub::{
    Action, Attach, ClusterOptions, Durability, Hub, HubConfig, Identity, Kind, Permissions, Publication,
    Quotas, UserId,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Api, Kept, routes};
use crate::config::{FileChoice, FlagValue, Sources, load};

const DOCUMENT: &str = include_str!("../../../../../docs/operating/authorization.md");
const KEY: &str = "a-key-for-tests-0123456789";
/// What tokens are signed with here.
const SECRET: &[u8] = b"7Jx2mQ9vT4kR8wZ1nB6yC3hL5pD0sF-matrix";
const ROLES: [&str; 5] = ["server key", "moderator", "member", "reader", "stranger"];

/// The rows of the document's table: the operation, the way, and what each role may.
fn table() -> Vec<(String, String, Vec<String>)> {
    let (_, rest) = DOCUMENT.split_once("| operation | permission | by |").unwrap();
    let mut lines = rest.lines().map(str::trim);
    let heads: Vec<&str> =
        lines.next().unwrap().split('|').map(str::trim).filter(|head| !head.is_empty()).collect();
    assert_eq!(heads, ROLES);
    let mut rows = Vec::new();
    let mut operation = String::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3 + ROLES.len(), "{line}");
        if !cells[0].is_empty() {
            operation = cells[0].to_owned();
        }
        let words = cells[3..].iter().map(|cell| (*cell).to_owned()).collect();
        rows.push((operation.clone(), cells[2].to_owned(), words));
    }
    rows
}

/// The operations in the order in which they are tried: how, over a connection and over HTTP.
fn operations() -> Vec<(&'static str, Value, (&'static str, &'static str, Value))> {
    let none = || Value::Null;
    vec![
        (
            "come into a room; look at it",
            json!({ "type": "subscribe", "room": "room" }),
            ("GET", "/rooms/room", none()),
        ),
        (
            "publish",
            json!({ "type": "publish", "room": "room", "data": 1 }),
            ("POST", "/publish", json!({ "room": "room", "data": 1 })),
        ),
        (
            "read the history",
            json!({ "type": "history", "room": "room" }),
            ("GET", "/rooms/room/history", none()),
        ),
        (
            "see who is there",
            json!({ "type": "presence", "room": "room" }),
            ("GET", "/rooms/room/presence", none()),
        ),
        (
            "see who has read how much",
            json!({ "type": "receipts", "room": "room" }),
            ("GET", "/rooms/room/receipts", none()),
        ),
        (
            "say how far one has read",
            json!({ "type": "seen", "room": "room", "offset": 1 }),
            ("PUT", "/rooms/room/receipts", json!({ "seen": 1 })),
        ),
        (
            "change one's own message",
            json!({ "type": "edit", "room": "room", "offset": 3, "content": "changed" }),
            ("PATCH", "/rooms/room/messages/3", json!({ "content": "changed" })),
        ),
        (
            "delete one's own message",
            json!({ "type": "delete", "room": "room", "offset": 1 }),
            ("DELETE", "/rooms/room/messages/1", none()),
        ),
        (
            "delete another's message",
            json!({ "type": "delete", "room": "room", "offset": 2 }),
            ("DELETE", "/rooms/room/messages/2", none()),
        ),
        (
            "write to a user privately",
            json!({ "type": "direct", "to": "bob", "content": "psst" }),
            ("POST", "/users/bob/messages", json!({ "content": "psst" })),
        ),
        (
            "remove a user from a room",
            json!({ "type": "kick", "room": "room", "user": "bob", "seconds": 60 }),
            ("POST", "/rooms/room/members/bob/remove", json!({ "seconds": 60 })),
        ),
        (
            "revoke a user's credentials",
            json!({ "type": "revoke", "user": "bob" }),
            ("POST", "/users/bob/revoke", json!({})),
        ),
    ]
}

/// What each role's token permits; `None`: it does not say.
fn permissions(role: &str) -> Option<Permissions> {
    let allow = |actions: &[Action], room: &str| {
        let none = Permissions::nothing();
        Some(actions.iter().fold(none, |permissions, action| permissions.allow(*action, room)))
    };
    match role {
        "server-key" => Some(Permissions::everything()),
        "moderator" => allow(&Action::ALL, "*"),
        "member" => None,
        "reader" => allow(&[Action::Join, Action::History, Action::Presence], "room"),
        "stranger" => allow(&Action::ALL, "elsewhere*"),
        other => panic!("there is no role {other}"),
    }
}

/// A token of that role's, good for an hour.
fn token(role: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "sub": role, "name": role, "jti": role, "iat": now, "exp": now + 3600 });
    if let Some(permissions) = permissions(role) {
        claims["rooms"] = serde_json::to_value(permissions).unwrap();
    }
    let key = SigningKey::secret(Algorithm::HS256, SECRET).unwrap();
    key.sign(claims.as_object().unwrap())
}

fn authenticator() -> TokenAuthenticator {
    let key = VerificationKey::secret(Algorithm::HS256, SECRET).unwrap();
    TokenAuthenticator::new(JwtVerifier::new(vec![key], ClaimRules::default()).unwrap())
}

/// Where a role tries its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Connection,
    SecondNode,
    Http,
}

/// Two nodes, with what there is to look at and to change.
struct Stage {
    nodes: Vec<Hub>,
    /// Held for being there.
    _bob: ScriptedClient,
}

impl Stage {
    async fn set(user: &str) -> Self {
        let (bus, store) = (MemoryHub::new(), Arc::new(MemoryStore::shared()));
        let node = |number: usize| {
            let mut config = HubConfig::default();
            let class = config.rooms.default_mut();
            (class.announce, class.durability, class.receipts) = (false, Durability::Stored, true);
            Arc::make_mut(&mut config.rooms.direct).durability = Durability::Stored;
            let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
            Hub::builder()
                .config(config)
                .authenticator(authenticator())
                .store("shared", store)
                .cluster(Arc::new(bus.connect()), ClusterOptions::new(format!("node-{number}")))
                .start_on_this_runtime()
                .unwrap()
        };
        let nodes: Vec<Hub> = (1..=2).map(node).collect();
        let (mut bob, _) =
            attach_with(&nodes[0], Attach::new(Identity::user("bob").named("bob")), 1024 * 1024);
        bob.expect("welcome").await;
        bob.join("room").await;
        for author in [user, "bob", user] {
            let said = Publication::new(Kind::Chat, outspoke_hub::Body::Text("said".into()));
            let said = said.by(UserId::new(author), author);
            nodes[0].publish_once("room", said).unwrap().await.unwrap();
        }
        // What is told over the bus is heard.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self { nodes, _bob: bob }
    }

    async fn connect(&self, node: usize, token: &str) -> ScriptedClient {
        let identity = self.nodes[node].authenticator().authenticate_token(token).await.unwrap();
        let (mut client, _) = attach_with(&self.nodes[node], Attach::new(identity), 1024 * 1024);
        client.expect("welcome").await;
        client
    }

    /// What comes of a request of the application's, or of a user's.
    async fn http(&self, role: &str, (method, path, body): (&str, &str, Value)) -> &'static str {
        let credential = if role == "server-key" { KEY.to_owned() } else { token(role) };
        let status = request(&self.nodes[0], &credential, method, path, &body).await;
        match status {
            200 => "yes",
            403 => "no",
            404 | 405 => "–",
            other => panic!("{role}: {method} {path} is answered with {other}"),
        }
    }
}

async fn request(hub: &Hub, credential: &str, method: &str, path: &str, body: &Value) -> u16 {
    let flag = FlagValue { flag: "--set".into(), key: "api.keys".into(), value: KEY.into() };
    let sources = Sources { file: FileChoice::None, flags: vec![flag], ..Sources::default() };
    let config = load(&sources).unwrap().config;
    let api = routes(Api::new(hub, &config.api, &config.tenants, "machine:8080", &Kept::default()));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {credential}"))
        .header("content-type", "application/json")
        .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
        .unwrap();
    let answer = api.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    if status >= 400 && status != 403 && status != 404 && status != 405 {
        panic!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
    }
    status
}

/// What comes of a request over a connection.
async fn ask(client: &mut ScriptedClient, mut request: Value) -> &'static str {
    request["id"] = json!("asked");
    client.send(request.clone()).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(answer) if answer["id"] == "asked" => {
                return match (answer["type"].as_str().unwrap(), answer["error"].as_str()) {
                    ("error", Some("unknown_type")) => "–",
                    ("error", Some("forbidden" | "not_subscribed")) => "no",
                    ("error", _) => panic!("{request}: {answer}"),
                    _ => "yes",
                };
            }
            Received::Json(_) => {}
            other => panic!("{request}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_may_what_the_table_says_and_nothing_else() {
    let table = table();
    let operations = operations();
    assert_eq!(table.len(), 2 * operations.len(), "two rows for each of the operations");
    let mut tried = 0;
    for (column, role) in ROLES.iter().enumerate() {
        let user = role.replace(' ', "-");
        for way in [Way::Connection, Way::SecondNode, Way::Http] {
            let stage = Stage::set(&user).await;
            let mut client = match way {
                Way::Connection => Some(stage.connect(0, &token(&user)).await),
                Way::SecondNode => Some(stage.connect(1, &token(&user)).await),
                Way::Http => None,
            };
            for (operation, over_connection, over_http) in &operations {
                let by = if way == Way::Http { "HTTP" } else { "connection" };
                let row = table.iter().find(|(named, how, _)| named == operation && how == by);
                let (.., words) = row.unwrap_or_else(|| panic!("no row for {operation}, {by}"));
                let done = match &mut client {
                    Some(client) => ask(client, over_connection.clone()).await,
                    None => stage.http(&user, over_http.clone()).await,
                };
                // Who asks for what there is not, and is not the application, is told only that.
                let said = if words[column] == "–" && done == "no" { "no" } else { &words[column] };
                assert_eq!(done, said, "{role}, {way:?}: {operation}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 12 * 5 * 3);
}

/// Without a credential, or with one that nobody knows, nothing is to be had, not even what there is.
#[tokio::test(start_paused = true)]
async fn nobody_may_anything() {
    let stage = Stage::set("member").await;
    for (_, _, (method, path, body)) in operations() {
        for credential in ["nobody", "", "a-key-for-tests-012345678"] {
            let flag = FlagValue { flag: "--set".into(), key: "api.keys".into(), value: KEY.into() };
            let sources = Sources { file: FileChoice::None, flags: vec![flag], ..Sources::default() };
            let config = load(&sources).unwrap().config;
            let api = routes(Api::new(
                &stage.nodes[0],
                &config.api,
                &config.tenants,
                "machine:8080",
                &Kept::default(),
            ));
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("authorization", format!("Bearer {credential}"))
                .header("content-type", "application/json")
                .body(Body::from(body.to_string()))
                .unwrap();
            assert_eq!(api.oneshot(request).await.unwrap().status(), 401, "{method} {path} {credential:?}");
        }
    }
}

/// A key that is limited opens its tenant, and there what its patterns say; it publishes in any user's name.
/// Tenants, the key that may everything, and these scoped ones.
fn config_with(scoped_keys: &str) -> crate::config::settings::Config {
    let flags = [("api.keys", KEY), ("tenants.enabled", "true"), ("api.scoped_keys", scoped_keys)];
    let flags =
        flags.map(|(key, value)| FlagValue { flag: "--set".into(), key: key.into(), value: value.into() });
    let sources = Sources { file: FileChoice::None, flags: flags.into(), ..Sources::default() };
    load(&sources).unwrap().config
}

#[tokio::test(start_paused = true)]
async fn limited_key_may_what_its_patterns_say() {
    let hub = Hub::builder().start_on_this_runtime().unwrap();
    let scoped = r#"[{name: builds, key: scoped-0123456789abcdef, tenant: acme, join: "b:*", publish: "b:*,c", moderate: c}]"#;
    let api = |hub: &Hub| {
        let config = config_with(scoped);
        routes(Api::new(hub, &config.api, &config.tenants, "machine:8080", &Kept::default()))
    };
    let ask = async |method: &str, path: &str, tenant: Option<&str>, body: Value| {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", "Bearer scoped-0123456789abcdef")
            .header("content-type", "application/json");
        if let Some(tenant) = tenant {
            request = request.header("x-tenant", tenant);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        api(&hub).oneshot(request).await.unwrap().status().as_u16()
    };
    let by_bot = |room: &str| json!({ "room": room, "data": 1, "user": { "id": "bot" } });
    assert_eq!(ask("POST", "/publish", None, by_bot("b:1")).await, 200);
    assert_eq!(ask("POST", "/publish", Some("acme"), by_bot("c")).await, 200);
    assert_eq!(ask("POST", "/publish", Some("other"), by_bot("c")).await, 403);
    assert_eq!(ask("POST", "/publish", None, by_bot("d")).await, 403);
    let batch = json!({ "messages": [by_bot("c"), by_bot("d")] });
    assert_eq!(ask("POST", "/publish/batch", None, batch).await, 403);
    assert_eq!(ask("GET", "/rooms/c", None, Value::Null).await, 403);
    let remove = ask("POST", "/rooms/c/members/ana/remove", None, json!({})).await;
    assert_eq!(remove, 200);
    assert_eq!(hub.in_tenant("acme").rulings(None, 10).items.len(), 1, "in its own tenant");
    assert!(hub.rulings(None, 10).items.is_empty());
    for (method, path) in [
        ("POST", "/broadcast"),
        ("GET", "/rooms"),
        ("GET", "/clients"),
        ("GET", "/users"),
        ("GET", "/tenants"),
        ("GET", "/rulings"),
        ("POST", "/users/ana/revoke"),
        ("PUT", "/users/ana/permissions"),
        ("POST", "/tokens/x/revoke"),
        ("DELETE", "/rooms/c/history"),
        ("DELETE", "/users/ana/data"),
        ("POST", "/disconnect"),
        ("GET", "/nodes"),
    ] {
        assert_eq!(ask(method, path, None, json!({})).await, 403, "{method} {path}");
    }
    hub.in_tenant("acme").revoke_token("key:builds", None).await.unwrap();
    assert_eq!(ask("POST", "/publish", None, by_bot("c")).await, 401);
}

/// Asks with one of these keys; the status, and the answer.
async fn ask_with(keys: &str, key: &str, method: &str, path: &str, tenant: Option<&str>) -> (u16, Value) {
    let hub = Hub::builder().start_on_this_runtime().unwrap();
    hub.put_tenant("acme", Quotas::default()).await.unwrap();
    let flags = [("api.keys", KEY), ("tenants.enabled", "true"), ("api.scoped_keys", keys)];
    let flag = |(key, value): &(&str, &str)| FlagValue {
        flag: "--set".into(),
        key: (*key).into(),
        value: (*value).into(),
    };
    let sources =
        Sources { file: FileChoice::None, flags: flags.iter().map(flag).collect(), ..Sources::default() };
    let config = load(&sources).unwrap().config;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    if let Some(tenant) = tenant {
        request = request.header("x-tenant", tenant);
    }
    let api = Api::new(&hub, &config.api, &config.tenants, "machine:8080", &Kept::default());
    let answer = routes(api).oneshot(request.body(Body::from("{}")).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    (
        status,
        serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap_or_default(),
    )
}

const LOOKING: &str = "[{name: all, key: looks-at-all-0123456789, look: true}, \
    {name: one, key: looks-at-acme-0123456789, tenant: acme, look: true, history: \"b:*\"}, \
    {name: book, key: audits-all-0123456789, audit: true}, \
    {name: page, key: audits-acme-0123456789, tenant: acme, audit: true}]";

/// Looking changes nothing, and a key of one tenant sees nothing of others, nor what all have in common.
#[tokio::test(start_paused = true)]
async fn key_that_may_look_sees_what_operators_see_and_changes_nothing() {
    let ask = |key, method, path, tenant| ask_with(LOOKING, key, method, path, tenant);
    let (all, one) = ("looks-at-all-0123456789", "looks-at-acme-0123456789");
    for path in ["/rooms", "/clients", "/users", "/affinity?user=ana", "/analytics", "/analytics/rooms"] {
        for (key, tenant, status) in
            [(all, None, 200), (all, Some("acme"), 200), (one, None, 200), (one, Some("other"), 403)]
        {
            assert_eq!(ask(key, "GET", path, tenant).await.0, status, "{key} {path} {tenant:?}");
        }
    }
    for (path, of_one) in [("/nodes", 403), ("/tenants", 403), ("/tenants/acme", 403), ("/metrics", 403)] {
        assert_eq!((ask(all, "GET", path, None).await.0, ask(one, "GET", path, None).await.0), (200, of_one));
    }
    // There is neither configuration nor log here: it was not started from one.
    for path in ["/config", "/log-level"] {
        let seen = (ask(all, "GET", path, None).await.0, ask(one, "GET", path, None).await.0);
        assert_eq!(seen, (501, 403), "{path}");
    }
    // Seen, and not there.
    let nobody = "/clients/00000000-0000-0000-0000-000000000000";
    assert_eq!((ask(all, "GET", nobody, None).await.0, ask(one, "GET", nobody, None).await.0), (404, 404));
    assert_eq!(
        (ask(all, "GET", "/audit", None).await.0, ask(one, "GET", "/audit", None).await.0),
        (403, 403)
    );
    for (method, path) in [
        ("POST", "/broadcast"),
        ("POST", "/publish"),
        ("POST", "/disconnect"),
        ("POST", "/reload"),
        ("POST", "/nodes/x/drain"),
        ("PUT", "/tenants/acme"),
        ("DELETE", "/rulings/x"),
        ("DELETE", "/rooms/c/history"),
        ("PUT", "/log-level"),
        ("POST", "/clients/00000000-0000-0000-0000-000000000000/slow"),
        ("POST", "/clients/00000000-0000-0000-0000-000000000000/disconnect"),
        ("GET", "/users/ana/data"),
        ("GET", "/rooms/c/history"),
    ] {
        let status = ask(all, method, path, None).await.0;
        assert!(matches!(status, 400 | 403), "{method} {path}: {status}");
    }
}

/// Connections and what operators did: of a key's own tenant only, and what operators did only with a permission of its own.
#[tokio::test(start_paused = true)]
async fn keys_of_a_tenant_see_its_connections_and_what_was_done_to_it_and_no_others() {
    let hub = Hub::builder().start_on_this_runtime().unwrap();
    hub.put_tenant("acme", Quotas::default()).await.unwrap();
    hub.put_tenant("other", Quotas::default()).await.unwrap();
    let kept = Kept::default();
    let config = config_with(LOOKING);
    let ask = async |key: &str, method: &str, path: &str, tenant: Option<&str>| {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        if let Some(tenant) = tenant {
            request = request.header("x-tenant", tenant);
        }
        let api = routes(Api::new(&hub, &config.api, &config.tenants, "machine:8080", &kept));
        let answer = api.oneshot(request.body(Body::from("{}")).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (look_all, look_one) = ("looks-at-all-0123456789", "looks-at-acme-0123456789");
    for tenant in ["acme", "other"] {
        let (mut client, known) =
            attach_with(&hub, Attach::new(Identity::user("ana").of_tenant(tenant)), 65536);
        client.expect("welcome").await;
        let path = format!("/clients/{}", known.id());
        assert_eq!(ask(look_all, "GET", &path, Some(tenant)).await.0, 200);
        let of_one = ask(look_one, "GET", &path, None).await.0;
        assert_eq!(of_one, if tenant == "acme" { 200 } else { 404 }, "{tenant}");
        assert_eq!(ask("audits-all-0123456789", "GET", &path, None).await.0, 403);
        ask(KEY, "POST", &format!("{path}/disconnect"), Some(tenant)).await;
    }
    ask(KEY, "POST", "/cluster/check", None).await;
    let done = async |key: &str| {
        let (status, answer) = ask(key, "GET", "/audit?limit=10", None).await;
        assert_eq!(status, 200, "{answer}");
        let entries = answer["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["tenant"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(done("audits-all-0123456789").await, ["", "other", "acme"]);
    assert_eq!(done("audits-acme-0123456789").await, ["acme"]);
    assert_eq!(ask("audits-acme-0123456789", "GET", "/rooms", None).await.0, 403, "it does not look");
    let whoami = ask("audits-acme-0123456789", "GET", "/whoami", None).await.1;
    assert_eq!(whoami["operations"], json!(["GET /whoami", "GET /audit"]));
}

/// A page that offers what is not listed here offers what would be refused.
#[tokio::test(start_paused = true)]
async fn whoever_asks_is_told_what_for() {
    let whoami = async |key| {
        let (status, answer) = ask_with(LOOKING, key, "GET", "/whoami", None).await;
        assert_eq!(status, 200);
        answer
    };
    let operations = |answer: &Value| -> Vec<String> {
        let operations = answer["operations"].as_array().unwrap().iter();
        operations.map(|operation| operation.as_str().unwrap().to_owned()).collect()
    };
    let application = whoami(KEY).await;
    assert_eq!((&application["name"], &application["kind"]), (&json!("key:1"), &json!("application")));
    assert_eq!(application["server"]["tenants"], true);
    assert!(application.get("tenant").is_none() && application.get("permissions").is_none());
    let every: usize = super::table().iter().map(|route| route.methods.len()).sum();
    assert_eq!(operations(&application).len(), every);
    let all = whoami("looks-at-all-0123456789").await;
    assert_eq!((&all["name"], &all["kind"]), (&json!("key:all"), &json!("limited")));
    assert!(all.get("tenant").is_none());
    for operation in ["GET /nodes", "GET /log-level", "GET /clients/{client}"] {
        assert!(operations(&all).contains(&operation.to_owned()), "{operation}");
    }
    assert!(!operations(&all).contains(&"GET /audit".to_owned()));
    assert!(operations(&all).iter().all(|operation| operation.starts_with("GET ")), "{all}");
    let one = whoami("looks-at-acme-0123456789").await;
    assert_eq!((&one["tenant"], &one["permissions"]), (&json!("acme"), &json!({ "history": ["b:*"] })));
    assert!(operations(&one).contains(&"GET /rooms/{room}/history".to_owned()));
    assert!(!operations(&one).contains(&"GET /nodes".to_owned()), "{one}");
    assert_eq!(ask_with(LOOKING, "no-key", "GET", "/whoami", None).await.0, 401);
}

/// Users say what they could say over a connection, as themselves.
#[tokio::test(start_paused = true)]
async fn users_speak_for_themselves_only() {
    let stage = Stage::set("member").await;
    let hub = &stage.nodes[0];
    let publish = async |body: Value| request(hub, &token("member"), "POST", "/publish", &body).await;
    assert_eq!(publish(json!({ "room": "room", "content": "I", "user": { "id": "member" } })).await, 200);
    assert_eq!(publish(json!({ "room": "room", "content": "He", "user": { "id": "bob" } })).await, 403);
    assert_eq!(publish(json!({ "room": "room", "type": "system", "content": "It" })).await, 403);
    assert_eq!(publish(json!({ "room": "room", "type": "own", "data": 1 })).await, 403);
    let history = hub.history("room", outspoke_hub::protocol::PageFrom::Newest, 1).await.unwrap();
    let newest = history.messages.last().unwrap();
    assert_eq!(newest.from.as_ref().unwrap().user.as_str(), "member");
    assert_eq!(request(hub, &token("member"), "DELETE", "/rooms/room/messages/4", &Value::Null).await, 200);
}

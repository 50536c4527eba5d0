//! The HTTP API, over real sockets: what it does, and what it refuses and how.

use outspoke_testkit::{Refused, Signal, exchange};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{PATIENCE, Server, Settings};

const KEY: &str = "a-key-for-tests-0123456789";

fn keyed() -> Settings {
    Settings::default().set("api.keys", KEY)
}

/// A request with further headers, each with its line end.
async fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Refused {
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        server.addr,
        body.len()
    );
    exchange(server.addr, request.as_bytes()).await
}

/// A request as it should be; the status, and the answer if it is JSON.
async fn call(server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let headers = format!("Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let answer = ask(server, method, path, &headers, &body).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body)))
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, answer) = call(server, "GET", path, None).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn post(server: &Server, path: &str, body: Value) -> Value {
    let (status, answer) = call(server, "POST", path, Some(body)).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// An export, which comes in chunks and says at its end that it is one.
async fn export(server: &Server, user: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/users/{user}/data HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/jsonl"), "{head}");
    assert!(body.ends_with("\r\n0\r\n\r\n"), "{body}");
    // Without the sizes of the chunks, which are lines of their own.
    body.split("\r\n").skip(1).step_by(2).collect()
}

fn chat(room: &str, content: &str) -> Value {
    json!({ "room": room, "type": "chat", "content": content })
}

#[tokio::test]
async fn api_without_a_key_is_closed_and_says_what_to_do() {
    let server = Server::start().await;
    let refused = ask(&server, "GET", "/rooms", "Authorization: Bearer guess\r\n", "").await;
    let error: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((refused.status, &error["type"], &error["code"]), (403, &json!("error"), &json!(131)));
    assert!(error["message"].as_str().unwrap().contains("api.keys"), "{error}");
    let server = keyed().start().await;
    for headers in ["", "Authorization: Bearer guess\r\n", "Authorization: Basic YTpi\r\n"] {
        for path in ["/rooms", "/nothing"] {
            let refused = ask(&server, "GET", path, headers, "").await;
            assert_eq!(refused.status, 401, "{path} {headers}");
            assert_eq!(refused.headers["www-authenticate"], "Bearer realm=\"outspoke\"");
        }
    }
    assert_eq!(ask(&server, "GET", "/openapi.json", "", "").await.status, 200);
    let server = Settings::default().set("api.enabled", "false").start().await;
    assert_eq!(ask(&server, "GET", "/rooms", "", "").await.status, 404);
}

#[tokio::test]
async fn api_that_is_open_serves_this_machine_and_no_other_sites_pages() {
    let server = Settings::default().set("api.open_on_loopback", "true").start().await;
    assert_eq!(ask(&server, "GET", "/rooms", "", "").await.status, 200);
    assert_eq!(ask(&server, "GET", "/rooms", "Origin: https://evil.example\r\n", "").await.status, 403);
    let request = "GET /api/v1/rooms HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(server.addr, request.as_bytes()).await.status, 403);
    let settings = Settings::bare().set("api.open_on_loopback", "true").set("server.addr", "0.0.0.0:0");
    let (mut process, _folder) = settings.spawn();
    assert!(!process.ended(PATIENCE).await.success());
}

#[tokio::test]
async fn requests_that_are_wrong_are_refused_precisely() {
    let server = keyed().set("api.body_bytes_max", "2KiB").start().await;
    let too_large = json!({ "room": "x", "data": "x".repeat(3000) });
    for (method, path, body, status, error, hint) in [
        ("GET", "/nothing", None, 404, "not_found", "openapi.json"),
        ("PUT", "/rooms", None, 405, "method_not_allowed", "Allow"),
        ("GET", "/rooms?limit=0", None, 400, "bad_request", "1 to 1000"),
        ("GET", "/rooms?limti=5", None, 400, "bad_request", "did you mean `limit`?"),
        ("GET", "/rooms?limit=5&limit=6", None, 400, "bad_request", "twice"),
        ("GET", "/rooms/nowhere", None, 404, "not_found", "no such room"),
        ("GET", "/follow", None, 400, "bad_request", "`room` or `user`"),
        ("GET", "/follow?room=x&user=ana", None, 400, "bad_request", "one of them"),
        ("GET", "/follow?room=x&payload=yes", None, 400, "bad_request", "true or false"),
        ("GET", "/clients/x", None, 404, "client_not_found", "an id like this"),
        ("GET", "/clients/00000000-0000-0000-0000-000000000000", None, 404, "client_not_found", "no node"),
        (
            "POST",
            "/clients/00000000-0000-0000-0000-000000000000/disconnect",
            Some(json!({})),
            404,
            "client_not_found",
            "no node",
        ),
        (
            "POST",
            "/clients/00000000-0000-0000-0000-000000000000/slow",
            Some(json!({ "seconds": 61 })),
            400,
            "bad_request",
            "1 to 60",
        ),
        (
            "POST",
            "/clients/00000000-0000-0000-0000-000000000000/slow",
            Some(json!({ "seconds": 1 })),
            403,
            "forbidden",
            "inspect.slow",
        ),
        ("GET", "/audit?limit=0", None, 400, "bad_request", "1 to 1000"),
        ("GET", "/audit?before=7", None, 400, "bad_request", "`next`"),
        ("PUT", "/log-level", Some(json!({})), 400, "bad_request", "`directives` is missing"),
        (
            "PUT",
            "/log-level",
            Some(json!({ "directives": "loud" })),
            400,
            "bad_request",
            "is not a log level",
        ),
        (
            "PUT",
            "/log-level",
            Some(json!({ "directives": "info,x" })),
            400,
            "bad_request",
            "is not a log level",
        ),
        (
            "PUT",
            "/log-level",
            Some(json!({ "directives": "info", "seconds": 0 })),
            400,
            "bad_request",
            "from 1 to 86400",
        ),
        (
            "PUT",
            "/log-level",
            Some(json!({ "directives": null, "seconds": 5 })),
            400,
            "bad_request",
            "leave `seconds` out",
        ),
        ("GET", "/explain", None, 400, "bad_request", "say which message"),
        ("GET", "/explain?room=x", None, 400, "bad_request", "say which message"),
        ("GET", "/explain?offset=1", None, 400, "bad_request", "say which message"),
        ("GET", "/explain?room=x&offset=-1", None, 400, "bad_request", "an offset"),
        ("GET", "/explain?message=7", None, 400, "bad_request", "a message's id"),
        ("GET", "/explain?room=x&offset=1&usr=a", None, 400, "bad_request", "did you mean `user`?"),
        ("GET", "/explain?room=%20&offset=1", None, 400, "invalid_room", "blank"),
        ("GET", "/explain?room=x&offset=1", None, 404, "message_not_found", "no node knows"),
        ("GET", "/rooms/%ff", None, 400, "bad_request", "UTF-8"),
        ("GET", "/rooms/%20x", None, 400, "invalid_room", "blank"),
        ("POST", "/publish", None, 400, "bad_request", "JSON object"),
        ("POST", "/publish", Some(json!([])), 400, "bad_request", "an object"),
        ("POST", "/publish", Some(json!({ "content": "x" })), 400, "bad_request", "`room` is missing"),
        (
            "POST",
            "/publish",
            Some(json!({ "room": 5, "content": "x" })),
            400,
            "bad_request",
            "`room` must be a string",
        ),
        (
            "POST",
            "/publish",
            Some(json!({ "room": null, "content": "x" })),
            400,
            "bad_request",
            "must be a string",
        ),
        (
            "POST",
            "/publish",
            Some(json!({ "rom": "x", "content": "x" })),
            400,
            "bad_request",
            "did you mean `room`?",
        ),
        ("POST", "/publish", Some(json!({ "room": "x" })), 400, "content_required", "nothing to say"),
        ("POST", "/publish", Some(chat("x", " ")), 400, "content_required", "empty"),
        ("POST", "/publish", Some(chat("x", &"é".repeat(1001))), 400, "content_too_long", "1001 characters"),
        (
            "POST",
            "/publish",
            Some(json!({ "room": "x", "type": "join", "data": 1 })),
            400,
            "bad_request",
            "of the protocol's own",
        ),
        ("POST", "/publish", Some(too_large), 413, "content_too_large", "2048 bytes"),
        (
            "POST",
            "/publish/batch",
            Some(json!({ "messages": [chat("x", "a"), chat("", "b")] })),
            400,
            "invalid_room",
            "messages[1]",
        ),
        ("POST", "/publish/batch", Some(json!({ "messages": [] })), 400, "bad_request", "1 to 1000"),
        (
            "POST",
            "/users/nobody/messages",
            Some(json!({ "content": "x" })),
            404,
            "user_not_found",
            "not connected",
        ),
        (
            "POST",
            "/clients/x/messages",
            Some(json!({ "content": "x" })),
            404,
            "client_not_found",
            "no client",
        ),
        ("POST", "/disconnect", Some(json!({})), 400, "bad_request", "say whom"),
        ("GET", "/analytics?by=minute", None, 400, "bad_request", "hour or day"),
        ("GET", "/analytics/rooms?day=tomorrow", None, 400, "bad_request", "a date"),
    ] {
        let (got, answer) = call(&server, method, path, body.clone()).await;
        assert_eq!((got, &answer["error"]), (status, &json!(error)), "{method} {path} {body:?}: {answer}");
        assert_eq!(answer["type"], "error");
        assert!(answer["message"].as_str().unwrap().contains(hint), "{hint}: {answer}");
        assert!(answer["temporary"].is_boolean() && answer["code"].is_number());
    }
    let key = format!("Authorization: Bearer {KEY}\r\n");
    for content_type in ["", "Content-Type: text/plain\r\n", "Content-Type: application/jsonp\r\n"] {
        let refused =
            ask(&server, "POST", "/publish", &format!("{key}{content_type}"), r#"{"room":"x"}"#).await;
        assert_eq!(refused.status, 415, "{content_type}");
    }
    let json = format!("{key}Content-Type: application/json; charset=utf-8\r\n");
    for body in [
        "{",
        r#"{"room":"x","room":"x","content":"x"}"#,
        r#"{"room":"x","content":"\ud800"}"#,
        "{\"room\":\"x\",\"content\":\"x\"} x",
    ] {
        assert_eq!(ask(&server, "POST", "/publish", &json, body).await.status, 400, "{body}");
    }
    let refused = ask(&server, "PUT", "/rooms/x/history", &key, "").await;
    assert_eq!((refused.status, &refused.headers["allow"]), (405, &"GET,HEAD,DELETE".parse().unwrap()));
    let chunked = format!("{key}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
    let request = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{chunked}\r\nc00\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0xc00)
    );
    assert_eq!(exchange(server.addr, request.as_bytes()).await.status, 413);
}

#[tokio::test]
async fn head_is_a_get_without_a_body() {
    let server = keyed().start().await;
    let answer = ask(&server, "HEAD", "/rooms", &format!("Authorization: Bearer {KEY}\r\n"), "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn published_message_is_kept_delivered_and_answered_with_its_place() {
    let server = keyed().start().await;
    let mut ann = server.in_lobby("ann").await;
    let first = post(&server, "/publish", chat("lobby", "hello")).await;
    let told = ann.expect("chat").await;
    assert_eq!(
        (&told["content"], &told["offset"], &told["id"]),
        (&json!("hello"), &first["offset"], &first["id"])
    );
    assert_eq!(
        (&first["offset"], &first["duplicate"], &first["members"]),
        (&json!(1), &json!(false), &json!(1))
    );
    let data =
        json!({ "room": "lobby", "data": { "state": "green" }, "user": { "id": "bot", "name": "Bot" } });
    post(&server, "/publish", data).await;
    let told = ann.expect("message").await;
    assert_eq!(
        (&told["data"], &told["userId"], &told["username"]),
        (&json!({ "state": "green" }), &json!("bot"), &json!("Bot"))
    );
    let own = json!({ "room": "lobby", "type": "build.done", "data": 1, "idempotencyKey": "build-7" });
    let once = post(&server, "/publish", own.clone()).await;
    let again = post(&server, "/publish", own).await;
    assert_eq!((&again["offset"], &again["duplicate"]), (&once["offset"], &json!(true)));
    assert_eq!(ann.expect("build.done").await["offset"], once["offset"]);
    let history = get(&server, "/rooms/lobby/history?limit=2").await;
    assert_eq!((&history["head"], &history["more"]), (&json!(3), &json!(true)));
    assert_eq!(history["messages"][1]["type"], "build.done");
    let between = get(&server, "/rooms/lobby/history?after=0&before=2").await;
    assert_eq!(between["messages"].as_array().unwrap().len(), 1, "{between}");
    // It outlives the server, and can be forgotten.
    let room = get(&server, "/rooms/lobby").await;
    assert_eq!(
        (&room["members"], &room["head"], &room["durability"]),
        (&json!(1), &json!(3), &json!("stored"))
    );
    assert_eq!(call(&server, "DELETE", "/rooms/lobby/history", None).await.0, 200);
    let room = get(&server, "/rooms/lobby").await;
    assert_eq!((&room["first"], &room["head"]), (&json!(4), &json!(3)));
    assert_eq!(get(&server, "/rooms/lobby/history").await["messages"], json!([]));
    assert_eq!(post(&server, "/publish", chat("lobby", "goes on")).await["offset"], 4);
}

#[tokio::test]
async fn batch_keeps_its_order_and_tells_each_result() {
    let server = keyed().start().await;
    let mut ann = server.in_lobby("ann").await;
    let messages: Vec<Value> = (0..200)
        .map(|number| chat(if number % 3 == 0 { "other" } else { "lobby" }, &number.to_string()))
        .collect();
    let answer = post(&server, "/publish/batch", json!({ "messages": messages })).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 200);
    let mut offset = 0;
    for (number, result) in results.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        offset += 1;
        assert_eq!((&result["room"], &result["offset"]), (&json!("lobby"), &json!(offset)));
        let told = ann.expect("chat").await;
        assert_eq!((&told["content"], &told["offset"]), (&json!(number.to_string()), &json!(offset)));
    }
}

#[tokio::test]
async fn messages_outside_rooms_reach_everybody_a_user_or_a_client() {
    let server = keyed().start().await;
    let (mut ann, mut ben) = (server.client("ann").await, server.client("ben").await);
    let mut ann_too = server.open("/ws?userId=ann&username=ann&device=phone&join=none").await;
    let phone = ann_too.expect("welcome").await["clientId"].as_str().unwrap().to_owned();
    post(&server, "/broadcast", json!({ "type": "system", "content": "soon" })).await;
    for client in [&mut ann, &mut ben, &mut ann_too] {
        assert_eq!(client.expect("system").await["content"], "soon");
    }
    let sent = post(&server, "/users/ann/messages", json!({ "data": 5 })).await;
    assert_eq!(sent["clients"].as_array().unwrap().len(), 2, "{sent}");
    assert_eq!(
        (ann.expect("message").await["data"].clone(), ann_too.expect("message").await["data"].clone()),
        (json!(5), json!(5))
    );
    let sent =
        post(&server, &format!("/clients/{phone}/messages"), json!({ "type": "beep", "data": null })).await;
    assert_eq!(sent["clientId"], json!(phone));
    ann_too.expect("beep").await;
    let clients = get(&server, "/clients?user=ann").await;
    let devices: Vec<_> =
        clients["clients"].as_array().unwrap().iter().map(|client| client["device"].clone()).collect();
    assert_eq!(devices, [Value::Null, json!("phone")]);
    let here = &clients["clients"][0]["node"];
    assert_eq!(
        get(&server, "/users").await["users"],
        json!([{ "userId": "ann", "clients": 2, "nodes": [here] }, { "userId": "ben", "clients": 1, "nodes": [here] }])
    );
    let page = get(&server, "/clients?limit=2").await;
    let rest = get(&server, &format!("/clients?limit=2&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!((rest["clients"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
}

#[tokio::test]
async fn disconnect_says_whether_to_come_back_and_why() {
    let server = keyed().start().await;
    let (mut ann, mut ben) = (server.client("ann").await, server.client("ben").await);
    let answer = post(&server, "/disconnect", json!({ "user": "ann", "reason": "enough" })).await;
    assert_eq!((answer["disconnected"].clone(), ann.closed().await), (json!(1), Some(4501)));
    let answer = post(&server, "/disconnect", json!({ "user": "ben", "device": "phone" })).await;
    assert_eq!(answer["disconnected"], 0);
    let answer = post(&server, "/disconnect", json!({ "user": "ben", "reconnect": true })).await;
    assert_eq!((answer["disconnected"].clone(), ben.closed().await), (json!(1), Some(4003)));
}

#[tokio::test]
async fn rooms_are_listed_in_pages_by_prefix_wherever_they_are() {
    let server = keyed().set("rooms.durability", "stored").start().await;
    for room in ["a:1", "a:2", "a:3", "b:1", "b/ü"] {
        post(&server, "/publish", chat(room, "hello")).await;
    }
    let mut ann = server.client("ann").await;
    ann.join("a:15").await;
    let names = |page: &Value| -> Vec<String> {
        page["rooms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|room| room["room"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = get(&server, "/rooms?prefix=a:&limit=3").await;
    assert_eq!(
        (names(&page), &page["next"]),
        (vec!["a:1".into(), "a:15".into(), "a:2".into()], &json!("a:2"))
    );
    let page = get(&server, "/rooms?prefix=a:&limit=3&after=a:2").await;
    assert_eq!((names(&page), &page["next"]), (vec!["a:3".into()], &Value::Null));
    assert_eq!(names(&get(&server, "/rooms").await).len(), 6);
    assert_eq!(names(&get(&server, "/rooms?prefix=a:1").await), ["a:1", "a:15"]);
    assert_eq!(get(&server, "/rooms/b%2F%C3%BC").await["head"], 1);
}

#[tokio::test]
async fn users_data_is_exported_whole_and_erased_everywhere_however_often() {
    let server = keyed().start().await;
    let (mut ann, mut ben) = (server.in_lobby("ann").await, server.in_lobby("ben").await);
    ann.find("join").await;
    ann.join("memo").await;
    for (author, room, content) in
        [("ann", "lobby", "mine"), ("ann", "memo", "mine too"), ("ben", "lobby", "not hers")]
    {
        let client = if author == "ann" { &mut ann } else { &mut ben };
        client.send(json!({ "type": "chat", "room": room, "content": content, "id": content })).await;
        client.find("ack").await;
    }
    ann.send(json!({ "type": "react", "room": "lobby", "offset": 2, "reaction": "x", "id": 9 })).await;
    // What is on its way comes behind the erasing.
    ann.find("ack").await;
    let exported = export(&server, "ann").await;
    assert!(
        exported.contains("mine") && exported.contains("mine too") && !exported.contains("not hers"),
        "{}",
        exported
    );
    assert!(exported.lines().last().unwrap().contains("\"end\""), "{}", exported);
    let (status, erased) = call(&server, "DELETE", "/users/ann/data", None).await;
    assert_eq!(status, 200, "{erased}");
    assert!(erased["messages"].as_u64().unwrap() >= 2, "{erased}");
    let (_, again) = call(&server, "DELETE", "/users/ann/data", None).await;
    assert_eq!(again["messages"], 0);
    for room in ["lobby", "memo"] {
        let history = get(&server, &format!("/rooms/{room}/history")).await.to_string();
        assert!(!history.contains("mine") && !history.contains("ann"), "{history}");
        assert!(room == "memo" || history.contains("not hers"), "{history}");
    }
    let exported = export(&server, "ann").await;
    assert_eq!(exported.lines().count(), 1, "{}", exported);
}

#[tokio::test]
async fn figures_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || keyed().set("data.dir", folder.path().to_str().unwrap());
    let sum = |series: &Value, name: &str| -> u64 {
        series["spans"].as_array().unwrap().iter().map(|span| span[name].as_u64().unwrap()).sum()
    };
    for round in 1..=2 {
        let mut server = settings().start().await;
        let mut ann = server.in_lobby("ann").await;
        ann.send(json!({ "type": "chat", "content": "hello" })).await;
        ann.find("chat").await;
        post(&server, "/publish", chat("builds", "done")).await;
        if round == 2 {
            let hours = get(&server, "/analytics").await;
            assert_eq!((sum(&hours, "messages"), &hours["by"]), (4, &json!("hour")));
            let days = get(&server, "/analytics?by=day").await;
            assert_eq!((sum(&days, "messages"), days["spans"].as_array().unwrap().len()), (4, 30));
            let lobby = get(&server, "/analytics/rooms/lobby?by=day").await;
            assert_eq!((sum(&lobby, "messages"), sum(&lobby, "users")), (2, 1));
            let top = get(&server, "/analytics/rooms").await;
            assert_eq!(top["rooms"].as_array().unwrap().len(), 2, "{top}");
        }
        server.signal(Signal::TERM);
        assert!(server.process().ended(PATIENCE).await.success());
    }
}

#[tokio::test]
async fn requests_are_for_the_tenant_that_the_header_names() {
    let server = keyed().set("tenants.enabled", "true").start().await;
    let with = |tenant: &str| {
        format!("Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nX-Tenant: {tenant}\r\n")
    };
    assert_eq!(ask(&server, "GET", "/rooms", &with("acme"), "").await.status, 404);
    for tenant in ["acme", "umbrella"] {
        let quotas = json!({ "messagesPerSecond": 5, "storedBytesMax": 1 << 20 });
        let (status, made) = call(&server, "PUT", &format!("/tenants/{tenant}"), Some(quotas)).await;
        assert_eq!(
            (status, &made["known"], &made["quotas"]["messagesPerSecond"]),
            (200, &json!(true), &json!(5))
        );
    }
    let body = chat("lobby", "to acme").to_string();
    assert_eq!(ask(&server, "POST", "/publish", &with("acme"), &body).await.status, 200);
    let rooms = |answer: Refused| {
        serde_json::from_str::<Value>(&answer.body).unwrap()["rooms"].as_array().unwrap().len()
    };
    assert_eq!(rooms(ask(&server, "GET", "/rooms", &with("acme"), "").await), 1);
    assert_eq!(rooms(ask(&server, "GET", "/rooms", &with("umbrella"), "").await), 0);
    assert_eq!(get(&server, "/rooms").await["rooms"], json!([]));
    assert_eq!(ask(&server, "GET", "/rooms", &with("no/name"), "").await.status, 400);
    let server = keyed().start().await;
    assert_eq!(ask(&server, "GET", "/rooms", &with("acme"), "").await.status, 400);
}

#[tokio::test]
async fn tenants_are_made_limited_and_removed_while_the_server_runs() {
    let server = keyed().set("tenants.enabled", "true").start().await;
    let (status, refused) = call(&server, "PUT", "/tenants/acme", Some(json!({ "conectionsMax": 1 }))).await;
    assert_eq!(
        (status, refused["message"].as_str().unwrap().contains("`connectionsMax`")),
        (400, true),
        "{refused}"
    );
    assert_eq!(call(&server, "PUT", "/tenants/acme", Some(json!({ "connectionsMax": 1 }))).await.0, 200);
    let mut ann = server.open("/t/acme/ws?userId=ann&username=ann").await;
    ann.expect("welcome").await;
    assert_eq!(server.try_open("/t/acme/ws?userId=ben&username=ben").await.unwrap_err().status, 503);
    let acme = get(&server, "/tenants/acme").await;
    assert_eq!((&acme["usage"]["connections"], &acme["quotas"]["connectionsMax"]), (&json!(1), &json!(1)));
    let names: Vec<Value> = get(&server, "/tenants").await["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["tenant"].clone())
        .collect();
    assert_eq!(names, [json!(""), json!("acme")]);
    assert_eq!(call(&server, "DELETE", "/tenants/acme?data=erase", None).await.0, 200);
    assert_eq!(ann.closed().await, Some(4502));
    assert_eq!(call(&server, "GET", "/tenants/nobody", None).await.1["error"], "tenant_not_found");
    assert_eq!(call(&server, "DELETE", "/tenants/nobody", None).await.0, 404);
    assert_eq!(server.try_open("/t/acme/ws?userId=ben&username=ben").await.unwrap_err().status, 404);
    let server = keyed().start().await;
    assert_eq!(call(&server, "GET", "/tenants", None).await.0, 400);
}

#[tokio::test]
async fn presence_tells_who_is_in_a_room() {
    let server = keyed().start().await;
    let _clients = [server.in_lobby("ann").await, server.in_lobby("ben").await];
    let page = get(&server, "/rooms/lobby/presence?limit=1").await;
    assert_eq!(
        (&page["type"], &page["room"], &page["members"]),
        (&json!("presence"), &json!("lobby"), &json!(2)),
        "{page}"
    );
    let rest = get(&server, "/rooms/lobby/presence?after=ann").await.to_string();
    assert!(rest.contains("ben") && !rest.contains("\"ann\""), "{rest}");
    post(&server, "/publish", chat("empty", "hello")).await;
    assert_eq!(get(&server, "/rooms/empty/presence").await["members"], 0);
    assert_eq!(call(&server, "GET", "/rooms/nowhere/presence", None).await.0, 404);
}

/// Reads a stream of events until there are so many of them.
async fn events(
    server: &Server,
    path: &str,
    begun: impl AsyncFnOnce(),
    count: usize,
) -> Vec<(String, Value)> {
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut begun) = (String::new(), Some(begun));
    loop {
        let told: Vec<(String, Value)> = text
            .split("event: ")
            .skip(1)
            .filter_map(|event| {
                let (name, rest) = event.split_once("\ndata: ")?;
                let (data, _) = rest.split_once("\n\n")?;
                Some((name.to_owned(), serde_json::from_str(data).unwrap()))
            })
            .collect();
        if !told.is_empty()
            && let Some(begun) = begun.take()
        {
            begun().await;
        }
        if told.len() >= count {
            assert!(
                text.starts_with("HTTP/1.1 200 ") && text.contains("content-type: text/event-stream"),
                "{text}"
            );
            return told;
        }
        let mut chunk = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
}

#[tokio::test]
async fn followers_are_sent_events_without_what_was_said_unless_they_ask_for_it() {
    let server = keyed().start().await;
    let said = async || {
        post(&server, "/publish", chat("news", "a secret")).await;
    };
    let mut ana = server.client("ana").await;
    ana.join("news").await;
    let told = events(&server, "/follow?room=news", said, 2).await;
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["following", "published"]);
    let published = &told[1].1;
    assert_eq!(
        (&published["room"], &published["offset"], &published["bytes"]),
        (&json!("news"), &json!(1), &json!(8))
    );
    assert!(!published.to_string().contains("secret"), "{published}");
    let said = async || {
        post(&server, "/publish", chat("news", "a secret")).await;
    };
    let told = events(&server, "/follow?room=news&payload=true", said, 2).await;
    assert_eq!(told[1].1["message"]["content"], "a secret");
}

#[tokio::test]
async fn connection_is_looked_at_slowed_down_and_ended() {
    let server = keyed().set("inspect.slow", "true").start().await;
    let mut ana = server.client("ana").await;
    ana.join("news").await;
    post(&server, "/publish", chat("news", "hello")).await;
    ana.find("chat").await;
    let list = get(&server, "/clients?user=ana").await;
    let id = list["clients"][0]["clientId"].as_str().unwrap().to_owned();
    let one = get(&server, &format!("/clients/{id}")).await;
    let news = one["rooms"].as_array().unwrap().iter().find(|room| room["room"] == "news").unwrap();
    assert_eq!((&one["userId"], &news["offset"], &news["behind"]), (&json!("ana"), &json!(1), &json!(0)));
    post(&server, &format!("/clients/{id}/slow"), json!({ "seconds": 60 })).await;
    post(&server, "/publish", chat("news", "later")).await;
    let slow = loop {
        let slow = get(&server, &format!("/clients/{id}")).await;
        if slow["oldestQueuedMs"].is_u64() {
            break slow;
        }
    };
    let news = slow["rooms"].as_array().unwrap().iter().find(|room| room["room"] == "news").unwrap();
    assert_eq!((&slow["slowed"], &news["behind"]), (&json!(true), &json!(1)), "{slow}");
    let ended = post(&server, &format!("/clients/{id}/disconnect"), json!({ "reason": "enough" })).await;
    assert_eq!(ended["disconnected"], 1);
    assert_eq!(ana.closed().await, Some(4501));
}

/// Whoever changes something leaves a line, without secrets; whoever is nobody leaves none here.
#[tokio::test]
async fn what_operators_do_is_in_the_log_and_in_the_audit_with_who_and_what() {
    let mut server = keyed().start().await;
    post(&server, "/disconnect", json!({ "user": "ana", "reason": "enough" })).await;
    post(&server, "/publish", chat("news", "a secret")).await;
    assert_eq!(call(&server, "DELETE", "/rulings/x", None).await.0, 404);
    assert_eq!(call(&server, "POST", "/publish", Some(json!({ "room": "" }))).await.0, 400);
    assert_eq!(ask(&server, "POST", "/disconnect", "Authorization: Bearer guess\r\n", "").await.status, 401);
    get(&server, "/rooms").await;
    let audit = get(&server, "/audit").await;
    let entries = audit["entries"].as_array().unwrap();
    let told: Vec<_> =
        entries.iter().map(|entry| (entry["action"].as_str().unwrap(), &entry["status"])).collect();
    let expected = [
        ("POST /publish", &json!(400)),
        ("DELETE /rulings/{ruling}", &json!(404)),
        ("POST /disconnect", &json!(200)),
    ];
    assert_eq!(told, expected);
    let first = &entries[2];
    assert_eq!(
        (&first["who"], &first["from"], &first["result"]),
        (&json!("key:1"), &json!("127.0.0.1"), &json!("done"))
    );
    assert_eq!(first["details"], json!({ "user": "ana", "reason": "enough" }));
    let page = get(&server, "/audit?limit=1").await;
    let next = page["next"].as_str().unwrap();
    let behind = get(&server, &format!("/audit?before={next}")).await;
    assert_eq!(behind["entries"], json!(entries[1..]), "{behind}");
    assert!(behind.get("next").is_none() && behind.get("silent").is_none(), "{behind}");
    let nodes = get(&server, "/nodes").await;
    assert!(entries.iter().all(|entry| entry["node"] == nodes["nodes"][0]["name"]), "{audit}");
    let log = server.process().log().join("\n");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"target\":\"audit\"")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].contains("key:1") && lines[0].contains("ana"), "{}", lines[0]);
    assert!(!log.contains(KEY) && !log.contains("secret"));
}

#[tokio::test]
async fn log_level_is_changed_for_a_while_and_falls_back() {
    let server = keyed().start().await;
    let put = async |body: Value| {
        let (status, answer) = call(&server, "PUT", "/log-level", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let configured = get(&server, "/log-level").await;
    assert_eq!((&configured["directives"], configured.get("secondsLeft")), (&configured["configured"], None));
    let asked = put(json!({ "directives": "warn,outspoke_hub=debug", "seconds": 3600 })).await;
    assert_eq!(
        (&asked["directives"], &asked["configured"]),
        (&json!("warn,outspoke_hub=debug"), &configured["directives"])
    );
    assert!((3500..=3600).contains(&asked["secondsLeft"].as_u64().unwrap()));
    let forever = put(json!({ "directives": "error" })).await;
    assert!(forever.get("secondsLeft").is_none());
    put(json!({ "directives": "debug", "seconds": 1 })).await;
    while get(&server, "/log-level").await["directives"] == "debug" {}
    assert_eq!(get(&server, "/log-level").await, configured);
    put(json!({ "directives": "error" })).await;
    assert_eq!(put(json!({ "directives": null })).await, configured);
}

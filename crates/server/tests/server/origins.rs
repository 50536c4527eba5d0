//! Which web pages may connect and use the HTTP API, and what every response tells browsers.

use outspoke_testkit::{Connect, Refused, exchange};
use serde_json::Value;

use crate::support::{Server, Settings};

async fn open_from(server: &Server, origins: &[&str]) -> Result<(), Refused> {
    let connect = Connect::to(server.addr, "/ws?userId=ann&username=Ann");
    let connect = origins.iter().fold(connect, |connect, origin| connect.header("Origin", origin));
    connect.open().await.map(drop)
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_before_anybody_asks_who_it_is() {
    let server = Server::start().await;
    let own = format!("http://{}", server.addr);
    assert!(open_from(&server, &[]).await.is_ok());
    assert!(open_from(&server, &[&own]).await.is_ok());
    let other_port = format!("http://127.0.0.1:{}", server.addr.port() ^ 1);
    let doubled = [own.as_str(), own.as_str()];
    for origins in [&["https://evil.example"][..], &[&other_port], &["null"], &doubled, &["garbage"]] {
        let refused = open_from(&server, origins).await.unwrap_err();
        assert_eq!(refused.status, 403, "{origins:?}");
        let body: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!((&body["type"], &body["error"]), (&"error".into(), &"forbidden".into()), "{body}");
        assert!(body["message"].as_str().unwrap().contains("rigin"), "{body}");
    }
    // Not even the name that is missing is asked for.
    let refused = Connect::to(server.addr, "/ws").header("Origin", "https://evil.example").open().await;
    assert_eq!(refused.unwrap_err().status, 403);
}

#[tokio::test]
async fn listed_null_and_absent_origins_are_as_configured() {
    let settings = Settings::default()
        .set("origins.allowed", "https://app.example,http://localhost:3000")
        .set("origins.null", "true")
        .set("origins.absent", "false");
    let server = settings.start().await;
    for origin in ["https://app.example", "http://localhost:3000", "null"] {
        assert!(open_from(&server, &[origin]).await.is_ok(), "{origin}");
    }
    for origin in ["http://app.example", "https://app.example:8443", "http://localhost:3001"] {
        assert_eq!(open_from(&server, &[origin]).await.unwrap_err().status, 403, "{origin}");
    }
    let refused = open_from(&server, &[]).await.unwrap_err();
    assert!(refused.status == 403 && refused.body.contains("Origin header is required"), "{}", refused.body);
}

async fn ask(server: &Server, request: &str) -> Refused {
    let request = request.replace('\n', "\r\n");
    exchange(
        server.addr,
        format!("{request}\r\nHost: {}\r\nConnection: close\r\n\r\n", server.addr).as_bytes(),
    )
    .await
}

#[tokio::test]
async fn listed_pages_may_use_the_api_with_a_key_and_others_may_not() {
    let settings =
        Settings::default().set("api.keys", "a-key-for-tests").set("origins.allowed", "https://app.example");
    let server = settings.start().await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /api/v1/rooms HTTP/1.1\nOrigin: {origin}\nAccess-Control-Request-Method: POST\n\
             Access-Control-Request-Headers: authorization,content-type,x-tenant"
        )
    };
    let allowed = ask(&server, &preflight("https://app.example")).await;
    assert_eq!(allowed.status, 200, "{}", allowed.body);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example");
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"));
    let headers = allowed.headers["access-control-allow-headers"].to_str().unwrap().to_ascii_lowercase();
    assert!(
        ["authorization", "content-type", "x-tenant"].iter().all(|name| headers.contains(name)),
        "{headers}"
    );
    for origin in ["https://evil.example", "http://app.example", "null"] {
        let refused = ask(&server, &preflight(origin)).await;
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    let get = "GET /api/v1/rooms HTTP/1.1\nOrigin: https://app.example";
    let with_key = ask(&server, &format!("{get}\nAuthorization: Bearer a-key-for-tests")).await;
    assert_eq!(with_key.status, 200, "{}", with_key.body);
    assert_eq!(with_key.headers["access-control-allow-origin"], "https://app.example");
    // What went wrong the page may read as well.
    let without = ask(&server, get).await;
    assert_eq!(without.status, 401);
    assert_eq!(without.headers["access-control-allow-origin"], "https://app.example");
}

/// One per kind of answer that the server has; a new route comes under the same layer.
#[tokio::test]
async fn every_response_says_what_browsers_must_not_do_with_it() {
    let settings = Settings::default().set("api.keys", "a-key-for-tests").set("tenants.enabled", "true");
    let server = settings.set("server.conformance_echo", "true").start().await;
    let api = "Authorization: Bearer a-key-for-tests";
    for (request, status) in [
        ("GET / HTTP/1.1".to_owned(), 200),
        ("GET /analytics HTTP/1.1".to_owned(), 200),
        ("GET /nodes HTTP/1.1".to_owned(), 200),
        ("GET /assets/nothing.js HTTP/1.1".to_owned(), 404),
        ("GET /health HTTP/1.1".to_owned(), 200),
        ("GET /healthz HTTP/1.1".to_owned(), 200),
        ("GET /readyz HTTP/1.1".to_owned(), 200),
        ("POST /health HTTP/1.1\nContent-Length: 0".to_owned(), 405),
        ("GET /nothing HTTP/1.1".to_owned(), 404),
        ("GET /ws HTTP/1.1".to_owned(), 426),
        ("GET /gohub HTTP/1.1".to_owned(), 426),
        ("GET /t/acme/ws HTTP/1.1".to_owned(), 426),
        ("GET /t/acme/gohub HTTP/1.1".to_owned(), 426),
        ("GET /conformance/echo HTTP/1.1".to_owned(), 426),
        (upgrade("/ws?username=a", "https://evil.example"), 403),
        (upgrade("/ws", ""), 400),
        ("GET /api/v1/openapi.json HTTP/1.1".to_owned(), 200),
        ("GET /api/v1/rooms HTTP/1.1".to_owned(), 401),
        (format!("GET /api/v1/rooms HTTP/1.1\n{api}"), 200),
        (format!("GET /api/v1/nothing HTTP/1.1\n{api}"), 404),
        (format!("DELETE /api/v1/rooms HTTP/1.1\n{api}"), 405),
        (
            "OPTIONS /api/v1/rooms HTTP/1.1\nOrigin: https://a.example\nAccess-Control-Request-Method: GET"
                .to_owned(),
            200,
        ),
    ] {
        let answer = ask(&server, &request).await;
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        for (name, words) in [
            ("content-security-policy", "default-src 'none'"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            let values: Vec<_> = answer.headers.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{request}: {name}: {values:?}");
            assert!(values[0].to_str().unwrap().contains(words), "{request}: {name}: {values:?}");
        }
        assert!(!answer.headers.contains_key("strict-transport-security"), "{request}");
    }
}

fn upgrade(target: &str, origin: &str) -> String {
    let origin = if origin.is_empty() { String::new() } else { format!("\nOrigin: {origin}") };
    format!(
        "GET {target} HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=={origin}"
    )
}

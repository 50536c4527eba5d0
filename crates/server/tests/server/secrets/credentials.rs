//! Marks in what lets clients in: tokens in every place that takes one, keys, the secrets that sign, the application that is
//! asked, and the private key of a certificate.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Json;
use axum::http::HeaderMap;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outspoke_auth::{Algorithm, KeyHash, SigningKey, new_key};
use outspoke_testkit::{Connect, Received, Signal, TcpClient, exchange_over};
use serde_json::{Map, Value, json};

use super::{Evidence, api, ask_everywhere, command, hex, log_of, start, tell_frames};
use crate::support::tls::{Authority, Dialer};
use crate::support::{Server, Settings};

const ORIGIN: &str = "https://chat.example.com";
/// A claim that is the application's: it may be told, and nobody else.
const NOTE: &str = "note";

/// Signs tokens of which each part is a mark, and remembers those.
struct Mint {
    key: SigningKey,
}

impl Mint {
    fn of(secret: &str) -> Self {
        Self { key: SigningKey::secret(Algorithm::HS256, secret.as_bytes()).unwrap() }
    }

    fn token(&self, evidence: &mut Evidence, what: &str, claims: Value) -> String {
        let note = evidence.mark(&format!("a claim of {what}"));
        self.sign(evidence, what, json!({ NOTE: note }), &claims)
    }

    /// A token that may be shown to who asks what it says.
    fn readable(&self, evidence: &mut Evidence, what: &str, claims: &Value) -> String {
        self.sign(evidence, what, json!({}), claims)
    }

    fn sign(&self, evidence: &mut Evidence, what: &str, own: Value, claims: &Value) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut all: Map<String, Value> =
            json!({ "sub": "anna", "exp": now + 600, "jti": format!("t{}", fastrand::u64(..)) })
                .as_object()
                .unwrap()
                .clone();
        for more in [&own, claims] {
            all.extend(more.as_object().unwrap().clone());
        }
        let token = self.key.sign(&all);
        let mut parts = token.split('.').skip(1);
        evidence.known(&format!("the claims as they are in {what}"), parts.next().unwrap());
        evidence.known(&format!("the signature of {what}"), parts.next().unwrap());
        token
    }
}

/// An application that remembers everything that it is sent.
async fn application(lets_in: &str, heard: &Arc<Mutex<Vec<String>>>) -> String {
    let remember = |heard: &Arc<Mutex<Vec<String>>>, headers: &HeaderMap, body: &Value| {
        assert!(headers.contains_key("outspoke-signature"), "{headers:?}");
        heard.lock().unwrap().push(format!("{headers:?}\n{body}"));
    };
    let (heard, lets_in) = (Arc::clone(heard), lets_in.to_owned());
    let answer = move |headers: HeaderMap, Json(question): Json<Value>| {
        remember(&heard, &headers, &question);
        let token = question["token"].clone();
        let answer = match question["event"].as_str() {
            Some("connect") if token == lets_in.as_str() => json!({ "user": "from-app" }),
            // An answer that repeats the question where it must not.
            Some("connect") if token.is_string() => json!({ "user": "x", "expires": token, "rooms": token }),
            Some("connect") => json!({ "allow": false, "reason": "log in first" }),
            _ => json!({ "allow": true }),
        };
        std::future::ready(Json(answer))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = axum::Router::new().route("/hook", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

/// What a server with every sort of credential has in its configuration.
struct Planted {
    /// Signs tokens without a key's id.
    secret: String,
    /// Signs those with the id "filed".
    filed: String,
    hook: String,
    api: String,
    scoped: String,
    /// Its hash is configured, and nothing else of it.
    client: String,
}

impl Planted {
    fn new(evidence: &mut Evidence) -> Self {
        let client = new_key();
        evidence.known("the key of a client", &client);
        Self {
            secret: evidence.mark("the secret of tokens").repeat(2),
            filed: evidence.mark("the secret of tokens in a file").repeat(2),
            hook: evidence.mark("the secret of the hook"),
            api: evidence.mark("the API key"),
            scoped: evidence.mark("a limited API key"),
            client,
        }
    }

    /// Puts it into a folder as its configuration.
    fn write(&self, folder: &Path, url: &str, asked: &str) {
        std::fs::write(folder.join("jwt.key"), &self.filed).unwrap();
        let hash = KeyHash::of(&self.client).unwrap();
        let text = format!(
            "api:\n  keys: [{}]\n  scoped_keys: [{{ name: builds, key: {}, publish: \"b:*\" }}]\n\
             log: {{ level: trace }}\n\
             rate: {{ enabled: false }}\n\
             auth:\n  first_message: true\n  query: true\n  cookie: session\n  cookie_origins: [\"{ORIGIN}\"]\n  \
             keys: [{{ name: ci, user: anna, hash: \"{hash}\" }}]\n  \
             jwt:\n    secret: {}\n    keys: [{{ id: filed, algorithm: HS256, file: jwt.key }}]\n  \
             hook: {{ secret: {}, {asked} }}\n\
             origins: {{ allowed: [\"{ORIGIN}\"] }}\n",
            self.api,
            self.scoped,
            self.secret,
            self.hook,
            asked = asked.replace("URL", &format!("\"{url}/hook\"")),
        );
        std::fs::write(folder.join("config.yaml"), text).unwrap();
    }
}

/// Every way of showing a credential with the request.
fn shown(server: &Server, token: &str) -> [(&'static str, Connect); 5] {
    let to = |target: &str| Connect::to(server.addr, target);
    [
        ("header", to("/ws?join=none").header("Authorization", &format!("Bearer {token}"))),
        ("subprotocol", to("/ws?join=none").protocol(&format!("outspoke.bearer.{token}"))),
        (
            "subprotocol beside the dialect",
            to("/ws?join=none").protocol("outspoke.v1").protocol(&format!("outspoke.bearer.{token}")),
        ),
        (
            "cookie",
            to("/ws?join=none").header("Origin", ORIGIN).header("Cookie", &format!("a=b; session={token}")),
        ),
        ("query", to(&format!("/ws?join=none&token={token}"))),
    ]
}

/// The answer to a frame with an id, or whatever ends the connection.
async fn ask(evidence: &mut Evidence, client: &mut TcpClient, frame: Value) -> Option<Value> {
    let id = frame["id"].clone();
    client.send(frame).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(value) => {
                evidence.said("a frame", value.to_string());
                if value["id"] == id || value["type"] == "welcome" {
                    return Some(value);
                }
            }
            other => {
                evidence.said("the end of a connection", format!("{other:?}"));
                return None;
            }
        }
    }
}

/// Each place with a token that is let in and with one that is not.
async fn show_everywhere(evidence: &mut Evidence, server: &Server, good: &Mint, bad: &Mint) {
    for number in 0..5 {
        let token = good.token(evidence, "an accepted token", json!({}));
        let (place, connect) = shown(server, &token).into_iter().nth(number).unwrap();
        let (mut client, established) =
            connect.establish().await.unwrap_or_else(|refused| panic!("{place}: {refused:?}"));
        evidence.said(place, format!("{:?}", established.protocol));
        let welcome = client.expect("welcome").await;
        assert_eq!(welcome["userId"], "anna", "{place}");
        evidence.said(place, welcome.to_string());
        refresh(evidence, &mut client, good, bad).await;

        for claims in
            [json!({}), json!({ "exp": 1 }), json!({ "sub": [1] }), json!({ "nbf": 9_999_999_999_u64 })]
        {
            let by = if claims == json!({}) { bad } else { good };
            let wrong = by.token(evidence, "a refused token", claims.clone());
            let (place, connect) = shown(server, &wrong).into_iter().nth(number).unwrap();
            let Err(refused) = connect.open().await else { panic!("{place}: {claims} is let in") };
            evidence.answered(place, &refused);
        }
    }
    for mint in [good, bad] {
        let token = mint.token(evidence, "a token in the first message", json!({}));
        let mut client = server.open("/ws?join=none").await;
        let answer = ask(evidence, &mut client, json!({ "type": "auth", "id": 1, "token": token })).await;
        let welcomed = answer.is_some_and(|answer| answer["type"] == "welcome");
        assert_eq!(welcomed, std::ptr::eq(mint, good));
        // What follows a refusal is not answered any more.
        client.send(json!({ "type": "auth", "token": token })).await;
        drop(client);
        // Users speak for themselves at the API, and do nothing for everybody.
        let said = json!({ "room": "x", "data": 1 }).to_string();
        let answer = api(evidence, server, "POST", "/publish", &token, &said).await;
        assert_eq!(answer.status == 401, std::ptr::eq(mint, bad), "{}", answer.body);
        let answer = api(evidence, server, "GET", "/rooms", &token, "").await;
        assert_eq!(answer.status, if std::ptr::eq(mint, bad) { 401 } else { 403 }, "{}", answer.body);
        ask_everywhere(evidence, server, &format!("{token}x")).await;
    }
}

/// Tokens that are shown on a connection.
async fn refresh(evidence: &mut Evidence, client: &mut TcpClient, good: &Mint, bad: &Mint) {
    let room = json!({ "room": "vip", "allow": ["join", "publish"] });
    for (mint, answer) in [(good, "subscribed"), (bad, "error")] {
        let token = mint.token(evidence, "a token for a room", room.clone());
        let frame = json!({ "type": "subscribe", "room": "vip", "id": answer, "token": token });
        assert_eq!(ask(evidence, client, frame).await.unwrap()["type"], answer);
        let frame = json!({ "type": "unsubscribe", "room": "vip", "id": "left" });
        ask(evidence, client, frame).await;
    }
    // By the application, without a token.
    ask(evidence, client, json!({ "type": "subscribe", "room": "x", "id": "joined" })).await;
    ask(evidence, client, json!({ "type": "publish", "room": "x", "id": "said", "data": 1 })).await;
    for (mint, answer) in [(good, "authenticated"), (bad, "error")] {
        let token = mint.token(evidence, "a fresh token", json!({}));
        let frame = json!({ "type": "auth", "id": answer, "token": token });
        assert_eq!(ask(evidence, client, frame).await.unwrap()["type"], answer);
    }
}

/// Configurations in which a secret stands where it is wrong, or in which it is wrong itself.
fn wrong_configurations(bad: &str) -> Vec<String> {
    let wrong = [
        format!("jwt: {{ secret: {bad} }}"),
        format!("jwt: {{ secret: {{ x: {bad} }} }}"),
        format!("jwt: {{ secret: [{bad}] }}"),
        format!("jwt: {bad}"),
        format!("jwt: {{ keys: {bad} }}"),
        format!("jwt: {{ keys: [{bad}] }}"),
        format!("jwt: {{ keys: [{{ algorithm: HS256, key: {bad} }}] }}"),
        format!("jwt: {{ keys: [{{ algorithm: ES256, key: {bad}{bad} }}] }}"),
        format!("jwt: {{ keys: [{{ algorithm: HS512, key: {bad}, file: jwt.key }}] }}"),
        format!("jwt: {{ keys: [{{ id: a, algorithm: HS256, secret: {bad} }}] }}"),
        format!("keys: [{{ name: a, user: b, hash: {bad} }}]"),
        format!("keys: [{{ name: a, user: b, hash: \"sha256:{bad}\" }}]"),
        format!("keys: [{{ name: a, user: b, key: {bad} }}]"),
        format!("hook: {{ secret: [{bad}], connect: \"http://127.0.0.1:1/\" }}"),
        format!("hook: {{ connect: \"http://u:{bad}@127.0.0.1:1/ x\" }}"),
        format!("hook: {{ connect: \"http://u:{bad}@app.example/\" }}"),
        format!("jwks: {{ url: \"http://u:{bad}@id.example/keys\" }}"),
        format!("jwks: {{ url: \"ftp://u:{bad}@id.example/keys\" }}"),
    ];
    wrong.map(|auth| format!("auth: {{ {auth} }}\n")).into()
}

/// The commands of who looks after the server.
async fn look_after(evidence: &mut Evidence, server: &Server, folder: &Path, planted: &Planted, bad: &str) {
    let url = format!("http://{}", server.addr);
    let garbage = format!("{}.{}", evidence.mark("what is no token"), evidence.mark("nor this"));
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["config", "diff", "--server", &url, "--key", &planted.api],
        &["config", "diff", "--server", &url, "--key", &planted.scoped],
        &["config", "reload", "--server", &url, "--key", &planted.api],
        &["cluster", "nodes", "--server", &url, "--key", &planted.scoped],
        &["token", "create", "--user", "x", "--claim", "level=3"],
        &["token", "create", "--user", "x", "--kid", "filed"],
        &["token", "create", "--user", "x", "--kid", "nobody"],
        &["token", "create", "--user", "x", "--key", "jwt.key", "--algorithm", "ES256"],
        &["token", "create", "--user", "x", "--key", "jwt.key", "--algorithm", "HS256"],
        &["token", "inspect", bad],
        &["token", "inspect", &bad[..bad.len() - 3]],
        &["token", "inspect", &garbage],
        &["token", "inspect", &planted.client],
        &["key", "create"],
    ] {
        let code = command(evidence, folder, &[], arguments).await;
        assert_ne!(code, Some(2), "the command is there: {arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_clients_and_what_checks_them_are_said_nowhere() {
    for format in ["human", "json"] {
        let mut evidence = Evidence::default();
        let planted = Planted::new(&mut evidence);
        let lets_in = evidence.mark("a credential that the application knows");
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let url = application(&lets_in, &heard).await;
        let settings = Settings::default().set("log.format", format).env("RUST_BACKTRACE", "1");
        let folder = settings.folder().to_owned();
        planted.write(&folder, &url, "subscribe: URL, publish: URL");
        let server = start(settings, format).await;

        let (good, bad) = (Mint::of(&planted.secret), Mint::of("another secret, of which nobody here knows"));
        show_everywhere(&mut evidence, &server, &good, &bad).await;
        let filed = Mint::of(&planted.filed);
        let filed = Mint { key: filed.key.named("filed") };
        show_everywhere(&mut evidence, &server, &filed, &bad).await;
        for (place, connect) in shown(&server, &planted.client) {
            let (mut client, _) = connect.establish().await.unwrap_or_else(|no| panic!("{place}: {no:?}"));
            evidence.said(place, client.expect("welcome").await.to_string());
        }
        let stranger = new_key();
        evidence.known("a key that nobody has", &stranger);
        for (place, connect) in shown(&server, &stranger) {
            evidence.answered(place, &connect.open().await.unwrap_err());
        }
        let said = json!({ "room": "b:1", "data": 1, "user": { "id": "bot" } }).to_string();
        let answer = api(&mut evidence, &server, "POST", "/publish", &planted.scoped, &said).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        for path in ["/rooms", "/rooms/c", "/nodes", "/revocations", "/nowhere"] {
            api(&mut evidence, &server, "GET", path, &planted.scoped, "").await;
            api(&mut evidence, &server, "POST", path, &planted.scoped, "{}").await;
        }
        // The application was asked by somebody who could sign, and told what the claims say and nothing else.
        let asked = std::mem::take(&mut *heard.lock().unwrap());
        assert!(asked.len() > 10, "{asked:?}");
        for (what, mark) in evidence.marks.iter().filter(|(what, _)| !what.starts_with("a claim of ")) {
            let told = asked.iter().find(|question| question.contains(mark));
            assert_eq!(told, None, "{what}");
        }
        let token = bad.readable(&mut evidence, "a token to look at", &json!({}));
        look_after(&mut evidence, &server, &folder, &planted, &token).await;

        // Other secrets, and the application asked about those who are not known here.
        let next = Planted::new(&mut evidence);
        let next = Planted { api: planted.api.clone(), ..next };
        next.write(&folder, &url, "connect: URL, subscribe: URL, publish: URL");
        for path in ["/reload?dry_run=true", "/reload"] {
            let answer = api(&mut evidence, &server, "POST", path, &planted.api, "").await;
            assert!(answer.status == 200 && answer.body.contains("auth.jwt.secret"), "{}", answer.body);
        }
        look_after(&mut evidence, &server, &folder, &next, &token).await;
        let fresh = Mint::of(&next.secret).token(&mut evidence, "a token of the next secret", json!({}));
        for (place, connect) in shown(&server, &fresh) {
            connect.open().await.unwrap_or_else(|refused| panic!("{place}: {refused:?}"));
        }
        // These it must be told to know them; it repeats some where they are wrong.
        for credential in [&lets_in, &stranger] {
            for (place, connect) in shown(&server, credential) {
                match connect.establish().await {
                    Ok((mut client, _)) => evidence.said(place, client.expect("welcome").await.to_string()),
                    Err(refused) => evidence.answered(place, &refused),
                }
            }
        }
        let secrets =
            [&next.hook, &next.secret, &next.filed, &next.api, &planted.hook, &planted.secret, &fresh];
        for question in heard.lock().unwrap().iter() {
            assert!(!secrets.iter().any(|secret| question.contains(secret.as_str())), "{question}");
        }
        assert!(heard.lock().unwrap().iter().any(|question| question.contains(&lets_in)));
        tell_frames_as(&mut evidence, &server, &fresh).await;

        let bad = evidence.mark("a secret in a wrong place");
        for text in wrong_configurations(&bad) {
            let text = format!("api: {{ keys: [{}] }}\n{text}", planted.api);
            std::fs::write(folder.join("config.yaml"), &text).unwrap();
            let answer = api(&mut evidence, &server, "POST", "/reload", &planted.api, "").await;
            assert_eq!(answer.status, 422, "{text}: {}", answer.body);
            server.signal(Signal::HUP);
            for arguments in [&["config", "check"][..], &["token", "create", "--user", "x"]] {
                command(&mut evidence, &folder, &[], arguments).await;
            }
            let serve = ["serve", "--addr", "127.0.0.1:0"];
            assert_eq!(command(&mut evidence, &folder, &[], &serve).await, Some(78), "{text}");
        }
        log_of(&mut evidence, server).await;
        evidence.acquit();
    }
}

/// Frames with tokens in places that have none, from a client that is known.
async fn tell_frames_as(evidence: &mut Evidence, server: &Server, token: &str) {
    let authorization = format!("Bearer {token}");
    let open = TcpClient::connect(server.addr, "/ws?join=none", &[("Authorization", &authorization)]).await;
    tell_frames(evidence, open.unwrap(), token).await;
}

/// The server's own key, in what TLS and its files can say about it.
fn mark_key(evidence: &mut Evidence, what: &str, pem: &str) {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    for line in &lines {
        evidence.known(&format!("{what}, line {line:.4}"), line);
    }
    let der = STANDARD.decode(lines.concat()).unwrap();
    // The number itself, behind what says of which curve it is (RFC 5958, RFC 5915).
    let number = &der[36..68];
    evidence.known(&format!("{what}, in hexadecimal digits"), &hex(number));
    let list: Vec<String> = number.iter().map(u8::to_string).collect();
    evidence.known(&format!("{what}, as a list"), &list.join(", "));
}

#[test]
fn search_finds_a_private_key_in_every_form() {
    let key = Authority::new().issue(&["localhost"]).key;
    let lines: Vec<&str> = key.lines().collect();
    let der = STANDARD.decode(lines[1..lines.len() - 1].concat()).unwrap();
    for leak in [key.clone(), lines[2].to_owned(), format!("{key:?}"), hex(&der), format!("{der:?}")] {
        let mut evidence = Evidence::default();
        mark_key(&mut evidence, "the private key", &key);
        evidence.said("a log", lines[0]);
        evidence.acquit();
        evidence.said("a log", leak);
        assert!(std::panic::catch_unwind(|| evidence.acquit()).is_err());
    }
}

async fn api_over(evidence: &mut Evidence, dialer: &Dialer, server: &Server, path: &str, key: &str) -> u16 {
    let pipe = dialer.dial(server.addr).await.unwrap();
    let request = format!(
        "POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    let answer = exchange_over(pipe, request.as_bytes()).await;
    evidence.answered(path, &answer);
    answer.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_keys_of_certificates_are_said_nowhere() {
    for format in ["human", "json"] {
        let mut evidence = Evidence::default();
        let authority = Authority::new();
        let (first, second) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
        mark_key(&mut evidence, "the private key", &first.key);
        mark_key(&mut evidence, "another private key", &second.key);
        let key = evidence.mark("the API key");
        let settings = Settings::default()
            .set("log.format", format)
            .set("log.level", "trace")
            .set("api.keys", &key)
            .tls(&first);
        let folder = settings.folder().to_owned();
        let server = start(settings, format).await;
        let client = authority.client();
        let mut ann = client.open(server.addr, "/ws?userId=ann&username=Ann").await;
        evidence.said("a frame", ann.expect("welcome").await.to_string());
        // Handshakes that are none, and one that trusts nobody here.
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff"] {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            evidence.said("an answer to no handshake", String::from_utf8_lossy(&answer));
        }
        assert!(Authority::new().client().dial(server.addr).await.is_err());

        let set = [
            "--set",
            "tls.certificate=server.pem",
            "--set",
            "tls.key=server.key",
            "--set",
            "log.level=trace",
        ];
        let serve = [&["serve", "--addr", "127.0.0.1:0"][..], &set].concat();
        for (certificate, private) in [
            (&second.certificate, second.key.clone()),
            (&second.certificate, first.key.clone()),
            (&second.key, second.certificate.clone()),
            (&second.certificate, second.key[..second.key.len() / 2].to_owned()),
            (&second.certificate, second.key.replace('\n', "")),
            (&second.certificate, second.key.replacen("PRIVATE", "RSA PRIVATE", 2)),
            (&second.certificate, second.key.replacen('M', "!", 1)),
            (&second.certificate, format!("{}{}", second.key, first.key)),
            (&format!("{}{}", second.key, second.certificate), String::new()),
        ] {
            std::fs::write(folder.join("server.pem"), certificate).unwrap();
            std::fs::write(folder.join("server.key"), &private).unwrap();
            api_over(&mut evidence, &client, &server, "/reload?dry_run=true", &key).await;
            api_over(&mut evidence, &client, &server, "/reload", &key).await;
            server.signal(Signal::HUP);
            for what in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"]] {
                command(&mut evidence, &folder, &[], &[what, &set].concat()).await;
            }
            // With what fits it would serve for ever.
            if private != second.key && !private.starts_with(&second.key) {
                let code = command(&mut evidence, &folder, &[], &serve).await;
                assert!(matches!(code, Some(1 | 78)), "{code:?}");
            }
        }
        let url = format!("https://localhost:{}", server.addr.port());
        command(&mut evidence, &folder, &[], &["config", "diff", "--server", &url, "--key", &key]).await;
        command(&mut evidence, &folder, &[], &["healthcheck", "--url", &url]).await;
        drop(ann);
        log_of(&mut evidence, server).await;
        evidence.acquit();
    }
}

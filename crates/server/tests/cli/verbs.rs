//! The verbs over the HTTP API, and those that need no server.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{Cli, KEY, PATIENCE, Server};

/// Rooms that remember.
const KEEPING: &[(&str, &str)] =
    &[("rooms.classes", "[{pattern: '*', durability: memory, history_messages: 5000}]")];

#[tokio::test]
async fn what_is_published_is_in_the_history_in_every_form() {
    let server = Server::start(KEEPING).await;
    let cli = server.cli();
    assert_eq!(cli.ok(&["pub", "news", "Hello \x1b[2Jall"]).await, "ok: 1 message published in \"news\"\n");
    let told = cli
        .json(&[
            "pub",
            "news",
            "--data",
            "{\"a\":[1]}",
            "--event",
            "build.done",
            "--json",
            "--idempotency-key",
            "k",
        ])
        .await;
    assert_eq!((&told[0]["offset"], &told[0]["duplicate"]), (&json!(2), &json!(false)));
    let again = cli
        .ok(&["publish", "news", "--data", "{\"a\":[1]}", "--event", "build.done", "--idempotency-key", "k"])
        .await;
    assert_eq!(again, "ok: 0 messages published in \"news\", 1 was there before under this key\n");
    assert_eq!(cli.run_with(&["pub", "news", "-"], "from a\npipe\n").await.code, 0);
    cli.ok(&["pub", "news", "as ann", "--user", "ann", "--username", "Ann", "--count", "3"]).await;
    let all = cli.json(&["history", "news", "--json"]).await;
    assert_eq!(all.len(), 6);
    assert_eq!((&all[0]["content"], &all[1]["type"]), (&json!("Hello \x1b[2Jall"), &json!("build.done")));
    assert_eq!((&all[2]["content"], &all[5]["userId"]), (&json!("from a\npipe"), &json!("ann")));
    let raw = cli.ok(&["history", "news", "--raw", "--last", "5", "--before", "4"]).await;
    assert_eq!(raw, "Hello \x1b[2Jall\n{\"a\":[1]}\nfrom a\npipe\n");
    let seen = cli.ok(&["history", "news", "--after", "0", "--before", "4"]).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].ends_with("Z server: Hello \\u{1b}[2Jall"), "{seen}");
    assert!(lines[1].ends_with("Z server build.done: {\"a\":[1]}"), "{seen}");
    assert!(lines[2].ends_with("server: from a") && lines[3] == "    pipe", "{seen}");
    assert_eq!(cli.ok(&["history", "news", "--after", "5", "--raw"]).await, "as ann\n");
}

/// Every line once, in order, in more than one request; the pages of history are put together again.
#[tokio::test]
async fn lines_are_published_in_their_order() {
    let server = Server::start(KEEPING).await;
    let cli = server.cli();
    let lines: Vec<String> = (0..2500).map(|number| format!("line {number}")).collect();
    let said = cli.run_with(&["pub", "log", "--lines"], &format!("{}\n\n", lines.join("\n"))).await;
    assert_eq!((said.code, said.out.as_str()), (0, "ok: 2500 messages published in \"log\"\n"), "{said:?}");
    let read = cli.ok(&["history", "log", "--last", "9999", "--raw"]).await;
    assert_eq!(read.lines().collect::<Vec<_>>(), lines);
    assert_eq!(cli.ok(&["history", "log", "--after", "0", "--raw"]).await, read);
    let said = cli.run_with(&["pub", "log", "--lines", "--json-lines"], "{\"n\":1}\n{\n").await;
    assert!(said.code == 1 && said.err.contains("line 2 is no JSON"), "{said:?}");
    let said = cli.run_with(&["pub", "log", "--lines"], &format!("fits\n{}\n", "x".repeat(2000))).await;
    assert!(
        said.code == 1 && said.err.contains("content_too_long") | said.err.contains("2000 characters"),
        "{said:?}"
    );
}

/// What stands before a line that cannot be said is said, and the line is named by its place in the input.
#[tokio::test]
async fn lines_before_a_bad_one_are_published() {
    let server = Server::start(KEEPING).await;
    let cli = server.cli();
    let json = ["pub", "jl", "--lines", "--json-lines"];
    let said = cli.run_with(&json, "{\"a\":1}\n\n{\"a\":2}\nbad\n{\"a\":3}\n").await;
    let told = said.err.contains("line 4 is no JSON") && said.err.contains("2 messages published before it");
    assert!(said.code == 1 && told, "{said:?}");
    assert_eq!(cli.ok(&["history", "jl", "--raw"]).await, "{\"a\":1}\n{\"a\":2}\n");
    let many = (0..70).map(|number| format!("line {number}\n")).collect::<String>();
    let long = "z".repeat(1500);
    for (room, good) in [("few", "one\n\ntwo\n"), ("none", ""), ("many", &many)] {
        let said = cli.run_with(&["pub", room, "--lines"], &format!("{good}{long}\nthree\n")).await;
        let published: Vec<_> = good.lines().filter(|line| !line.is_empty()).collect();
        let told = [
            format!("line {} is refused: ", good.lines().count() + 1),
            "content has 1500 characters".to_owned(),
            format!("{} messages published before it", published.len()),
        ];
        assert!(said.code == 1 && told.iter().all(|told| said.err.contains(told)), "{told:?}: {said:?}");
        assert!(!said.err.contains("messages["), "{said:?}");
        if room != "none" {
            let kept = cli.ok(&["history", room, "--raw", "--last", "500"]).await;
            assert_eq!(kept.lines().collect::<Vec<_>>(), published);
        }
    }
}

/// What is asked for and not kept any more is told, apart from what is printed.
#[tokio::test]
async fn history_says_what_is_not_kept_any_more() {
    let server = Server::start(&[("rooms.history_messages", "10")]).await;
    let cli = server.cli();
    cli.ok(&["pub", "late", "hi", "--count", "30"]).await;
    for (args, lines, missed) in [
        (&["--after", "0"][..], 10, "20 messages are not kept any more"),
        (&["--last", "1000"], 10, "20 messages are not kept any more"),
        (&["--last", "11"], 10, "1 message is not kept any more"),
        (&["--after", "5", "--before", "10"], 0, "4 messages are not kept any more"),
        (&["--last", "10"], 10, ""),
        (&["--after", "20"], 10, ""),
        (&[], 10, ""),
    ] {
        let said = cli.run(&[&["history", "late", "--raw"], args].concat()).await;
        assert_eq!((said.code, said.out.lines().count()), (0, lines), "{args:?}: {said:?}");
        let told = if missed.is_empty() { String::new() } else { format!("outspoke: \"late\": {missed}\n") };
        assert_eq!(said.err, told, "{args:?}");
    }
}

#[tokio::test]
async fn rooms_and_their_members_are_listed_and_sent_away() {
    let server = Server::start(&[]).await;
    let cli = server.cli();
    let mut ann = server.client("ann").await;
    let mut ben = server.client("ben").await;
    for client in [&mut ann, &mut ben] {
        client.send(json!({ "type": "subscribe", "room": "den" })).await;
        client.expect("subscribed").await;
    }
    let rooms = cli.ok(&["rooms", "--prefix", "de"]).await;
    assert!(rooms.starts_with("ROOM  MEMBERS  MESSAGES  KEPT") && rooms.contains("\nden   2 "), "{rooms}");
    assert_eq!(cli.json(&["rooms", "--json", "--prefix", "de"]).await[0]["members"], 2);
    let there = cli.ok(&["presence", "den"]).await;
    assert!(
        there.contains("\nann   ann   online  ") && there.ends_with("2 users, 2 connections\n"),
        "{there}"
    );
    let users = cli.json(&["presence", "den", "--json"]).await;
    assert_eq!(users.iter().map(|user| user["userId"].as_str().unwrap()).collect::<Vec<_>>(), ["ann", "ben"]);
    let told = cli.ok(&["kick", "ben", "--room", "den", "--seconds", "60"]).await;
    assert_eq!(told, "ok: \"ben\" is out of \"den\" and kept out for 60 s\n");
    assert_eq!(ben.expect("unsubscribed").await["room"], "den");
    assert_eq!(cli.ok(&["kick", "ann", "--reason", "enough"]).await, "ok: 1 connection of \"ann\" ended\n");
    assert_eq!(ann.closed().await, Some(4501));
    assert_eq!(cli.json(&["kick", "ann", "--json"]).await[0]["disconnected"], 0);
}

#[tokio::test]
async fn figures_are_printed_once_and_rates_are_between_two_looks() {
    let server = Server::start(KEEPING).await;
    let cli = server.cli();
    cli.ok(&["pub", "busy", "hi", "--count", "50"]).await;
    let mut top = cli.start(&["top", "--once", "--json", "--interval", "1s"]);
    while top.is_running() {
        cli.ok(&["pub", "busy", "hi"]).await;
    }
    top.ended(PATIENCE).await;
    let seen: Value = serde_json::from_str(&top.log()[0]).unwrap();
    assert_eq!((&seen["nodes"][0]["connections"], &seen["rooms"][0]["room"]), (&json!(0), &json!("busy")));
    assert!(seen["rooms"][0]["messagesPerSecond"].as_f64().unwrap() > 0.0, "{seen}");
    assert!(seen["rooms"][0]["head"].as_u64().unwrap() > 50, "{seen}");
    let seen = cli.ok(&["top", "--once", "--interval", "1ms", "--sort", "name"]).await;
    assert!(
        seen.starts_with("NODE") && seen.contains("\nROOM  MESSAGES/S") && seen.contains("\nbusy "),
        "{seen}"
    );
    cli.fails(1, &["top"], "use --once").await;
    assert_eq!(cli.run(&["top", "--json"]).await.code, 2);
}

#[tokio::test]
async fn token_is_revoked_on_the_server() {
    let server = Server::start(&[]).await;
    let cli = server.cli();
    let told = cli.ok(&["token", "revoke", "3f9c2e", "--for", "1h"]).await;
    assert!(told.starts_with("ok: token \"3f9c2e\" is revoked until 2"), "{told}");
    let ruled = cli.json(&["token", "revoke", "a/b c", "--json"]).await;
    assert!(ruled[0]["ruling"].is_string(), "{ruled:?}");
}

/// Whoever is refused learns why, whichever way the verb went.
#[tokio::test]
async fn reason_for_which_a_token_is_refused_is_told() {
    let secret = ("auth.jwt.secret", "a-secret-for-tests-of-32-bytes-or-more");
    let server = Server::start(&[secret]).await;
    let set = format!("{}={}", secret.0, secret.1);
    let create = ["token", "create", "--user", "ann", "--id", "3f9c2e", "--no-config", "--set", &set];
    let token = Cli::new().run(&create).await.out.trim().to_owned();
    let cli = server.open_cli();
    cli.ok(&["pub", "lobby", "hi", "--token", &token]).await;
    server.cli().ok(&["token", "revoke", "3f9c2e"]).await;
    for verb in [&["pub", "lobby", "hi"][..], &["history", "lobby"], &["tail", "lobby"]] {
        let said = cli.run(&[verb, &["--token", &token]].concat()).await;
        let told = said.err.contains("the credential was revoked") && !said.err.contains("with --key,");
        assert!(said.code == 77 && told, "{verb:?}: {said:?}");
    }
}

/// Every verb that talks to a server says the same about the same trouble, with the same exit code.
#[tokio::test]
async fn trouble_has_a_code_of_its_own_and_a_cure() {
    let server = Server::start(&[]).await;
    let url = server.url();
    let verbs: [&[&str]; 7] = [
        &["top", "--once"],
        &["rooms"],
        &["presence", "lobby"],
        &["history", "lobby"],
        &["kick", "ann"],
        &["pub", "lobby", "hi"],
        &["token", "revoke", "x"],
    ];
    let cli = Cli::new();
    let with = |verb: &[&'static str], more: &[&'static str]| [verb, more].concat();
    for verb in verbs {
        cli.fails(69, &with(verb, &["--server", "http://127.0.0.1:1"]), "cannot reach 127.0.0.1:1").await;
        cli.fails(69, &with(verb, &["--server", "wss://127.0.0.1:1/ws"]), "cannot reach 127.0.0.1:1").await;
        let here: Vec<&str> = verb.iter().copied().chain(["--server", url.as_str()]).collect();
        cli.fails(77, &here, "refuses requests without a key").await;
        cli.fails(77, &[&here[..], &["--key", "guess"]].concat(), "refuses this key").await;
        cli.fails(78, &with(verb, &["--context", "nope"]), "no context \"nope\"").await;
        cli.fails(78, &with(verb, &["--set", "no.such=1"]), "no.such").await;
        let said = cli.run(&with(verb, &["--frobnicate"])).await;
        assert_eq!(said.code, 2, "{said:?}");
    }
    let cli = server.cli();
    cli.fails(1, &["presence", "nobody-was-here"], "hint: check the name").await;
    cli.fails(1, &["pub", "lobby", ""], "say something").await;
    cli.fails(1, &["pub", "a\u{1}b", "hi"], "refuses").await;
    assert_eq!(cli.run(&["pub", "lobby", "--data", "{"]).await.code, 2);
    assert_eq!(cli.run(&["rooms", "--server", "localhost:8080"]).await.code, 2);
    let elsewhere = Server::start(&[("api.enabled", "false")]).await;
    Cli::new().fails(1, &["rooms", "--server", &elsewhere.url()], "has no API").await;
}

#[tokio::test]
async fn contexts_are_kept_for_their_owner_and_used() {
    let server = Server::start(&[]).await;
    let cli = Cli::new();
    let url = server.url();
    let said =
        cli.run_with(&["context", "add", "here", "--server", &url, "--key", "-"], &format!("{KEY}\n")).await;
    assert_eq!((said.code, said.out.as_str()), (0, "ok: here is added, and used from now on\n"), "{said:?}");
    let path = cli.home().join(".config/outspoke/contexts.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    cli.ok(&["pub", "lobby", "through a context"]).await;
    cli.ok(&["context", "add", "away", "--server", "wss://127.0.0.1:1/ws", "--tenant", "acme"]).await;
    cli.ok(&["rooms"]).await;
    cli.fails(69, &["rooms", "--context", "away"], "cannot reach 127.0.0.1:1").await;
    cli.ok(&["context", "use", "away"]).await;
    cli.fails(69, &["rooms"], "cannot reach 127.0.0.1:1").await;
    cli.ok(&["rooms", "--context", "here"]).await;
    let list = cli.ok(&["context", "ls"]).await;
    assert!(list.contains("* away  https://127.0.0.1:1") && list.contains("  here  http://"), "{list}");
    let shown: Vec<Value> = cli.json(&["context", "ls", "--json"]).await;
    assert_eq!((&shown[1]["name"], &shown[1]["credential"]), (&json!("here"), &json!("key")));
    assert!(cli.ok(&["context", "show", "here"]).await.contains("credential: key\n"));
    cli.ok(&["context", "rm", "away"]).await;
    cli.fails(78, &["context", "show"], "no context is in use").await;
    cli.fails(78, &["context", "rm", "away"], "no context \"away\"").await;
    cli.fails(78, &["context", "add", "../x", "--server", &url], "not a name").await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    cli.fails(78, &["rooms", "--context", "here"], "chmod 600").await;
}

/// The same verb for errors and for messages: what is which is plain from its form.
#[tokio::test]
async fn explain_tells_what_became_of_a_message_for_a_user() {
    let server = Server::start(&[]).await;
    let cli = server.cli();
    let mut ana = server.client("ana").await;
    ana.join("news").await;
    cli.ok(&["pub", "news", "hello"]).await;
    let id = ana.expect("chat").await["id"].as_str().unwrap().to_owned();
    for message in ["news@1", &id] {
        let told = cli.ok(&["explain", message, "ana"]).await;
        assert!(told.starts_with("ana was sent it: on 1 of 1 connections\n"), "{told}");
        assert!(
            told.contains("news@1 chat") && told.contains("over api") && told.contains("written"),
            "{told}"
        );
    }
    let json = cli.json(&["explain", "news@1", "ana", "--json"]).await;
    assert_eq!(json[0]["user"]["connections"][0]["outcome"], "written");
    assert!(cli.ok(&["explain", "news@1"]).await.starts_with("it was handed out to 1 members\n"));
    let nobody = cli.ok(&["explain", "news@1", "ben"]).await;
    assert!(nobody.starts_with("ben is not connected"), "{nobody}");
    cli.fails(1, &["explain", "news@2", "ana"], "no node knows such a message").await;
    cli.fails(1, &["explain", "news", "ana"], "\"news\" is no message").await;
}

#[tokio::test]
async fn words_about_itself_need_no_server() {
    let cli = Cli::new();
    let text = cli.ok(&["explain", "rate_limited"]).await;
    assert!(
        text.starts_with("error 162 rate_limited\n") && text.contains("\nclose code 4005 rate_limited\n"),
        "{text}"
    );
    assert_eq!(cli.json(&["explain", "4500", "--json"]).await[0]["reconnect"], false);
    assert!(cli.ok(&["explain"]).await.lines().count() > 60);
    cli.fails(1, &["explain", "rate_limitd"], "did you mean rate_limited?").await;
    let version = cli.json(&["version", "--json"]).await;
    assert_eq!(version[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(cli.ok(&["version"]).await, format!("outspoke {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(cli.ok(&["completions", shell]).await.contains("presence"), "{shell}");
    }
    assert!(cli.ok(&["man"]).await.contains(".TH outspoke 1"));
    cli.ok(&["man", "--dir", "pages"]).await;
    let page = std::fs::read_to_string(cli.home().join("pages/outspoke-context-add.1")).unwrap();
    assert!(page.contains("outspoke\\-context\\-add") && page.contains("\\-\\-server"), "{page}");
}

/// A server whose certificate is from an authority of its own, and the file of that authority.
async fn private_server() -> (Server, String) {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap().pem();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, text) in [("ca.pem", authority), ("own.pem", certificate), ("own.key", own.serialize_pem())] {
        std::fs::write(path(name), text).unwrap();
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (cert, key, ca) = (path("own.pem"), path("own.key"), path("ca.pem"));
    let settings = [KEEPING[0], ("tls.certificate", cert.as_str()), ("tls.key", key.as_str())];
    (Server::start_at("127.0.0.1:0", folder, &settings).await, ca)
}

/// An authority that browsers do not know is trusted where it is named, by the API's verbs and by those that listen.
#[tokio::test]
async fn server_with_an_authority_of_its_own_is_trusted_where_that_is_named() {
    let (server, ca) = private_server().await;
    let url = format!("https://{}", server.addr);
    let cli = Cli::new().env("OUTSPOKE_SERVER", &url).env("OUTSPOKE_KEY", KEY);
    let said = cli.run(&["rooms"]).await;
    assert_eq!(said.code, 69, "{said:?}");
    assert!(said.err.contains("--ca"), "the cure is said: {said:?}");
    cli.ok(&["pub", "news", "hello", "--ca", &ca]).await;
    let knowing = Cli::new().env("OUTSPOKE_SERVER", &url).env("OUTSPOKE_CA", &ca);
    let tail = ["tail", "news", "--user", "ann", "--last", "1", "--count", "1", "--raw", "--for", "60s"];
    assert_eq!(knowing.ok(&tail).await, "hello\n");
    let add = ["context", "add", "own", "--server", &url, "--ca", &ca, "--key", KEY];
    let remembering = Cli::new();
    remembering.ok(&add).await;
    remembering.ok(&["rooms"]).await;
    let said = cli.run(&["rooms", "--ca", "/etc/hostname"]).await;
    assert_eq!((said.code, said.err.contains("no certificate in it")), (78, true), "{said:?}");
}

/// Whichever verb finds nobody says so with the cause, and says the cause once.
#[tokio::test]
async fn cause_is_said_once_by_every_verb_that_finds_no_server() {
    let home = Cli::new();
    for verb in [
        &["rooms"][..],
        &["presence", "den"],
        &["history", "den"],
        &["pub", "den", "hello"],
        &["tail", "den"],
        &["kick", "ann"],
        &["explain", "den@1", "ann"],
        &["exec", "den", "--", "true"],
        &["cluster", "nodes"],
        &["cluster", "check"],
        &["cluster", "drain", "a"],
        &["cluster", "resume", "a"],
        &["config", "reload"],
        &["token", "revoke", "some-token"],
    ] {
        for way in
            [&["--server", "http://127.0.0.1:1"][..], &["--server", "https://127.0.0.1:1", "--key", KEY]]
        {
            let at = verb.iter().position(|word| *word == "--").unwrap_or(verb.len());
            let args = [&verb[..at], way, &verb[at..]].concat();
            let said = home.run(&args).await;
            let once = said.err.to_lowercase().matches("connection refused").count() == 1;
            assert!(said.code == 69 && once && said.err.contains("hint: "), "{args:?}: {said:?}");
        }
    }
    let said = home.run(&["healthcheck", "--url", "http://127.0.0.1:1"]).await;
    assert!(said.code == 1 && said.err.to_lowercase().matches("connection refused").count() == 1, "{said:?}");
}

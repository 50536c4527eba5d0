//! The application asked over real HTTP: what it is told, what its answers mean, and what happens when there are none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use http::request::Parts;
use outspoke_auth::{Hook, HookOptions, RoomAuthorizer, SetupError, TokenAuthenticator, token_verifier_fn};
use outspoke_hub::{
    Action, Ask, AuthError, Authenticator as _, Authorizer as _, Body, ClientAddress, ErrorCode, Identity,
    RoomName,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::provider::{Provider, Received, answer, json};

fn options(provider: &Provider) -> HookOptions {
    let mut options = HookOptions::default();
    let url = Some(provider.url().to_owned());
    (options.connect, options.subscribe, options.publish) = (url.clone(), url.clone(), url);
    options
}

fn request(headers: &[(&str, &str)]) -> Parts {
    let request = headers
        .iter()
        .fold(http::Request::get("/ws?x=1"), |request, (name, value)| request.header(*name, *value));
    let mut parts = request.body(()).unwrap().into_parts().0;
    parts.extensions.insert(ClientAddress::new([192, 0, 2, 7].into()));
    parts
}

fn ask(action: Action) -> Ask {
    let identity =
        Identity::user("anna").named("Anna").of_tenant("acme").with_claims(json!({ "role": "admin" }));
    Ask::new(Arc::new(identity), action, RoomName::new("chat:1", 128).unwrap())
}

/// A provider that remembers what it was asked.
async fn remembering(reply: Value) -> (Provider, Arc<Mutex<Vec<Received>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remembered = Arc::clone(&asked);
    let provider = Provider::start(move |received| {
        remembered.lock().unwrap().push(received);
        std::future::ready(json(&reply))
    })
    .await;
    (provider, asked)
}

#[tokio::test]
async fn application_is_told_who_connects_and_says_who_it_is() {
    let reply = json!({
        "user": "anna", "name": "Anna", "tenant": "acme", "device": "phone", "expires": 1_900_000_000, "credential": "session-1",
        "rooms": { "join": ["inbox:{user}"] }, "info": { "role": "admin" }, "unknown": [1],
    });
    let (provider, asked) = remembering(reply).await;
    let mut options = options(&provider);
    options.headers = vec!["cookie".to_owned(), "x-request-id".to_owned(), "x-absent".to_owned()];
    let hook = Hook::new(options).unwrap();
    let request = request(&[
        ("authorization", "Bearer t0ken"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-request-id", "7"),
        ("x-other", "8"),
    ]);
    let identity = hook.authenticate(&request).await.unwrap();
    let said = (
        identity.user.as_str(),
        &*identity.name,
        &*identity.tenant,
        &*identity.device,
        &*identity.credential,
    );
    assert_eq!(said, ("anna", "Anna", "acme", "phone", "session-1"));
    assert_eq!(identity.expires.unwrap().as_millis(), 1_900_000_000_000);
    assert_eq!(identity.claims.as_deref(), Some(&json!({ "role": "admin" })));
    assert!(
        identity.permissions.allows(Action::Join, "inbox:anna")
            && !identity.permissions.allows(Action::Publish, "inbox:anna")
    );
    hook.authenticate_token("first-message").await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(
        asked[0].json(),
        json!({ "event": "connect", "address": "192.0.2.7", "token": "t0ken", "headers": { "cookie": "a=1; b=2", "x-request-id": "7" } })
    );
    assert_eq!(asked[1].json(), json!({ "event": "connect", "token": "first-message", "headers": {} }));
    assert!(!asked[0].headers.contains_key("outspoke-signature"));
}

#[tokio::test]
async fn application_is_told_what_is_to_be_said_where() {
    let (provider, asked) =
        remembering(json!({ "allow": true, "actions": ["join", "history"], "expires": 1_900_000_000 })).await;
    let authorizer = RoomAuthorizer::new().hook(Hook::new(options(&provider)).unwrap());
    assert!(authorizer.asks().join && authorizer.asks().publish);
    let grant = authorizer.authorize(ask(Action::Join)).await.unwrap();
    assert_eq!(grant.actions, [Action::Join, Action::History]);
    assert_eq!(grant.expires.unwrap().as_millis(), 1_900_000_000_000);
    for body in [
        Body::Text("hello".into()),
        Body::json(&json!({ "a": [1] })).unwrap(),
        Body::Binary(vec![1, 2].into()),
        Body::Empty,
    ] {
        let mut ask = ask(Action::Publish);
        ask.body = Some(body);
        authorizer.authorize(ask).await.unwrap();
    }
    let asked = asked.lock().unwrap();
    let of = |event: &str, said: Value| {
        let mut question = json!({
            "event": event, "tenant": "acme", "user": "anna", "name": "Anna", "room": "chat:1", "info": { "role": "admin" },
        });
        question.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        question
    };
    let expected = [
        of("subscribe", json!({})),
        of("publish", json!({ "text": "hello" })),
        of("publish", json!({ "data": { "a": [1] } })),
        of("publish", json!({ "binary": "AQI=" })),
        of("publish", json!({})),
    ];
    assert_eq!(asked.iter().map(Received::json).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn questions_are_signed_so_that_the_application_knows_who_asks() {
    let (provider, asked) = remembering(json!({ "user": "anna" })).await;
    let mut options = options(&provider);
    options.secret = Some("a secret of the hook's own".to_owned());
    assert!(!format!("{options:?}").contains("secret of"));
    Hook::new(options.clone()).unwrap().authenticate(&request(&[])).await.unwrap();
    let asked = asked.lock().unwrap();
    let text = |name: &str| asked[0].headers[name].to_str().unwrap();
    let message = [text("outspoke-timestamp").as_bytes(), b".", &asked[0].body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of the hook's own");
    let expected: String =
        hmac::sign(&key, &message).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text("outspoke-signature"), format!("v1={expected}"));
    options.secret = Some("short".to_owned());
    assert!(matches!(Hook::new(options), Err(SetupError::SecretTooShort { .. })));
}

#[tokio::test]
async fn no_of_the_application_is_a_no_with_its_reason() {
    for (status, body, code, said) in [
        (200, json!({ "allow": false }), ErrorCode::Forbidden, "the application does not allow it"),
        (
            200,
            json!({ "allow": false, "reason": "banned\u{202e}\n", "user": "anna" }),
            ErrorCode::Forbidden,
            "banned",
        ),
        (401, json!({ "reason": "who?" }), ErrorCode::Unauthorized, "who?"),
        (403, json!({ "reason": "no" }), ErrorCode::Forbidden, "no"),
        (403, json!("<html>"), ErrorCode::Forbidden, "the application does not allow it"),
    ] {
        let provider = Provider::always(status, body.to_string()).await;
        let hook = Hook::new(options(&provider)).unwrap();
        let refused = hook.authenticate(&request(&[])).await.unwrap_err();
        assert_eq!((refused.code, refused.detail.as_str()), (code, said), "{body}");
        // Who showed nothing may do so in the first message.
        assert_eq!(refused.missing, status == 401, "{body}");
        let authorizer = RoomAuthorizer::new().hook(hook);
        let refused = authorizer.authorize(ask(Action::Join)).await.unwrap_err();
        assert_eq!((refused.code, refused.detail.as_str()), (ErrorCode::Forbidden, said), "{body}");
    }
}

/// Anything that is not a clear yes is a no; a mistake of the application must not open the door.
#[tokio::test]
async fn answers_that_are_none_are_refused_as_unavailable() {
    for (status, body) in [
        (200, String::new()),
        (200, "true".to_owned()),
        (200, "{}".to_owned()),
        (200, json!({ "user": "" }).to_string()),
        (200, json!({ "user": 1, "allow": "yes" }).to_string()),
        (200, json!({ "user": "anna\u{7}", "allow": 1 }).to_string()),
        (200, json!({ "user": "anna", "allow": null, "rooms": [] }).to_string()),
        (
            200,
            json!({ "user": "anna", "allow": true, "name": "n".repeat(51), "actions": ["fly"] }).to_string(),
        ),
        (200, json!({ "user": "*", "rooms": { "join": ["inbox:{user}"] } }).to_string()),
        (200, json!({ "user": "anna", "allow": true, "padding": "x".repeat(65 * 1024) }).to_string()),
        (201, json!({ "user": "anna", "allow": true }).to_string()),
        (204, String::new()),
        (302, json!({ "user": "anna", "allow": true }).to_string()),
        (400, json!({ "user": "anna", "allow": true }).to_string()),
        (404, json!({ "user": "anna", "allow": true }).to_string()),
        (500, json!({ "user": "anna", "allow": true }).to_string()),
    ] {
        let provider = Provider::always(status, body.clone()).await;
        let hook = Hook::new(options(&provider)).unwrap();
        let refused = hook.authenticate(&request(&[])).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unavailable, "{status} {body:.60}");
        let said = RoomAuthorizer::new().hook(hook).authorize(ask(Action::Publish)).await.unwrap_err();
        assert_eq!(said.code, ErrorCode::Unavailable, "{status} {body:.60}");
    }
}

#[tokio::test]
async fn application_that_is_slow_is_not_waited_for_and_soon_not_asked() {
    let provider = Provider::start(|_| std::future::pending()).await;
    let mut options = options(&provider);
    options.timeout = Duration::from_millis(20);
    options.failures_max = 2;
    options.pause = Duration::from_secs(3600);
    let hook = Hook::new(options).unwrap();
    for _ in 0..10 {
        assert_eq!(hook.authenticate(&request(&[])).await.unwrap_err().code, ErrorCode::Unavailable);
    }
    assert_eq!(provider.requests(), 2);
    let refused = RoomAuthorizer::new().hook(hook).authorize(ask(Action::Join)).await.unwrap_err();
    assert!(refused.retry_after.is_some_and(|pause| pause > Duration::from_secs(3000)), "{refused:?}");
}

#[tokio::test]
async fn application_that_is_back_is_asked_again() {
    let down = Arc::new(Mutex::new(true));
    let is_down = Arc::clone(&down);
    let provider = Provider::start(move |_| {
        std::future::ready(if *is_down.lock().unwrap() {
            answer(500, "")
        } else {
            json(&json!({ "user": "anna" }))
        })
    })
    .await;
    let mut options = options(&provider);
    options.failures_max = 1;
    options.pause = Duration::ZERO;
    let hook = Hook::new(options).unwrap();
    assert!(hook.authenticate(&request(&[])).await.is_err());
    *down.lock().unwrap() = false;
    assert!(hook.authenticate(&request(&[])).await.is_ok());
    assert!(hook.authenticate(&request(&[])).await.is_ok());
    assert_eq!(provider.requests(), 3);
}

#[tokio::test]
async fn only_so_many_questions_are_on_their_way_and_only_so_many_wait() {
    let (gate, now, most) =
        (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waiting, running, peak) = (Arc::clone(&gate), Arc::clone(&now), Arc::clone(&most));
    let provider = Provider::start(move |_| {
        let (gate, now, most) = (Arc::clone(&waiting), Arc::clone(&running), Arc::clone(&peak));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            json(&json!({ "user": "anna" }))
        }
    })
    .await;
    let mut options = options(&provider);
    options.concurrency_max = 3;
    options.waiting_max = 7;
    options.timeout = Duration::from_secs(60);
    let hook = Hook::new(options).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let hook = hook.clone();
        tasks.spawn(async move { hook.authenticate(&request(&[])).await.map_err(|error| error.code) });
    }
    // The twenty that had no place are refused before anybody is answered.
    let mut refused = 0;
    while refused < 20 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap().unwrap_err(), ErrorCode::Unavailable);
        refused += 1;
    }
    provider.has_requests(3).await;
    gate.add_permits(100);
    let mut passed = 0;
    while let Some(answer) = tasks.join_next().await {
        passed += usize::from(answer.unwrap().is_ok());
    }
    assert_eq!((passed, provider.requests(), most.load(Ordering::SeqCst)), (10, 10, 3));
}

#[tokio::test]
async fn question_nobody_waits_for_is_given_up_and_gives_its_place_back() {
    let provider = Provider::start(|received: Received| async move {
        match received.json()["token"].as_str() {
            Some("wait") => std::future::pending().await,
            _ => json(&json!({ "user": "anna" })),
        }
    })
    .await;
    let mut options = options(&provider);
    options.concurrency_max = 1;
    options.timeout = Duration::from_secs(60);
    let hook = Hook::new(options).unwrap();
    let waiting = tokio::spawn({
        let hook = hook.clone();
        async move { hook.authenticate_token("wait").await.is_ok() }
    });
    provider.has_requests(1).await;
    waiting.abort();
    assert!(hook.authenticate_token("go").await.is_ok());
}

/// Both roads to a user in one hub: tokens are judged here, everything else by the application.
#[tokio::test]
async fn application_is_asked_about_what_nobody_here_recognizes() {
    let (provider, asked) = remembering(json!({ "user": "from-hook" })).await;
    #[derive(Debug)]
    struct Dotted;
    impl outspoke_auth::TokenVerifier for Dotted {
        fn verify<'a>(&'a self, token: &'a str) -> outspoke_auth::Verification<'a> {
            Box::pin(std::future::ready(match token {
                "a.b" => Ok(Identity::user("from-token")),
                _ => Err(AuthError::unauthorized("no")),
            }))
        }

        fn recognizes(&self, token: &str) -> bool {
            token.contains('.')
        }
    }
    let hook: Arc<Hook> = Arc::new(Hook::new(options(&provider)).unwrap());
    let authenticator = TokenAuthenticator::new(Dotted).or_else(hook);
    for (header, user) in [
        (Some("Bearer a.b"), Some("from-token")),
        (Some("Bearer c.d"), None),
        (Some("Bearer cookie"), Some("from-hook")),
        (None, Some("from-hook")),
    ] {
        let headers: Vec<_> = header.iter().map(|value| ("authorization", *value)).collect();
        let identity = authenticator.authenticate(&request(&headers)).await.ok();
        assert_eq!(identity.as_ref().map(|identity| identity.user.as_str()), user, "{header:?}");
    }
    assert_eq!(authenticator.authenticate_token("x").await.unwrap().user.as_str(), "from-hook");
    assert_eq!(asked.lock().unwrap().len(), 3);
    let without = TokenAuthenticator::new(token_verifier_fn(|_| Ok(Identity::user("u"))));
    assert_eq!(without.authenticate(&request(&[])).await.unwrap_err().code, ErrorCode::Unauthorized);
}

#[tokio::test]
async fn only_what_is_configured_is_asked() {
    let provider = Provider::always(200, "{}").await;
    let mut options = HookOptions::default();
    options.subscribe = Some(provider.url().to_owned());
    let hook = Hook::new(options.clone()).unwrap();
    assert!(hook.asks().join && !hook.asks().publish);
    assert_eq!(hook.authenticate(&request(&[])).await.unwrap_err().code, ErrorCode::Unauthorized);
    assert_eq!(provider.requests(), 0);
    options.connect = Some("http://app.example/hook".to_owned());
    assert!(matches!(Hook::new(options.clone()), Err(SetupError::BadUrl { .. })));
    options.plain_http = true;
    assert!(Hook::new(options.clone()).is_ok());
    options.headers = vec!["a b".to_owned()];
    assert!(Hook::new(options).is_err());
}

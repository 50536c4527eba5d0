//! Key sets over real HTTP: rotation, outage, slow and oversized answers, and one request however many wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature;
use outspoke_auth::{ClaimRules, Jwks, JwksOptions, JwtVerifier, SetupError, TokenError};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::forge::*;
use crate::provider::{Provider, answer, json};

const LONG: Duration = Duration::from_secs(3600);

fn options() -> JwksOptions {
    let mut options = JwksOptions::default();
    options.refresh_interval_min = Duration::ZERO;
    options
}

fn verifier_of(provider: &Provider, options: JwksOptions) -> JwtVerifier {
    let jwks = Jwks::new(provider.url(), options).unwrap();
    now(JwtVerifier::new(Vec::new(), ClaimRules::default()).unwrap().with_jwks(jwks))
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn token(pair: &Pair, alg: &str, kid: &str) -> String {
    forge(&json!({ "alg": alg, "kid": kid }).to_string(), claims().to_string().as_bytes(), |message| {
        pair.sign(message)
    })
}

#[tokio::test]
async fn published_keys_of_every_kind_check_tokens() {
    let (p384, pss) = (ec_pair(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"), rsa_pss());
    let mut ps256 = pss.jwk_named("ps");
    ps256["alg"] = "PS256".into();
    ps256["use"] = "sig".into();
    let keys = [RSA.jwk_named("rs"), EC.jwk_named("es"), ED.jwk_named("ed"), p384.jwk_named("es3"), ps256];
    let provider = Provider::always(200, set(&keys)).await;
    let verifier = verifier_of(&provider, options());
    for (pair, alg, kid) in [
        (&*RSA, "RS256", "rs"),
        (&*EC, "ES256", "es"),
        (&*ED, "EdDSA", "ed"),
        (&p384, "ES384", "es3"),
        (&pss, "PS256", "ps"),
    ] {
        assert_eq!(verifier.identify(&token(pair, alg, kid)).await.unwrap().user.as_str(), "anna", "{kid}");
    }
    for (pair, alg, kid) in
        [(&*RSA, "RS256", "es"), (&*RSA, "RS256", "ps"), (&*RSA, "RS512", "rs"), (&pss, "PS256", "rs")]
    {
        assert_eq!(refused(&verifier, &token(pair, alg, kid)).await, TokenError::Algorithm, "{alg} {kid}");
    }
    assert_eq!(refused(&verifier, &token(&ed_pair(), "EdDSA", "ed")).await, TokenError::Signature);
    assert_eq!(provider.requests(), 1);
}

fn rsa_pss() -> Pair {
    rsa_pair(aws_lc_rs::rsa::KeySize::Rsa2048, &signature::RSA_PSS_SHA256)
}

/// The keys of a set are everybody's; so is whatever could be made of them as a secret.
#[tokio::test]
async fn tokens_with_secrets_are_refused_without_asking_the_provider() {
    let provider = Provider::always(200, set(&[RSA.jwk_named("rs")])).await;
    let verifier = verifier_of(&provider, options());
    for (_, secret) in crate::refused_tokens::spellings(&RSA) {
        for alg in ["HS256", "none", "ES256K"] {
            let header = json!({ "alg": alg, "kid": "rs" }).to_string();
            let token = forge(&header, claims().to_string().as_bytes(), |message| hs256(&secret, message));
            assert_eq!(refused(&verifier, &token).await, TokenError::UnknownKey);
        }
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn many_who_need_the_keys_wait_for_one_request() {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let provider = Provider::start(move |_| {
        let gate = Arc::clone(&waiting);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, set(&[ED.jwk_named("ed")]))
        }
    })
    .await;
    let verifier = verifier_of(&provider, JwksOptions::default());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let verifier = verifier.clone();
        tasks.spawn(async move { verifier.identify(&token(&ED, "EdDSA", "ed")).await.is_ok() });
    }
    provider.has_requests(1).await;
    // Whoever gives up does not take the request along.
    let mut impatient = Box::pin(verifier.identify("e30.e30.e30"));
    let _ = futures_poll(&mut impatient);
    drop(impatient);
    gate.add_permits(10);
    while let Some(passed) = tasks.join_next().await {
        assert!(passed.unwrap());
    }
    assert_eq!(provider.requests(), 1);
}

/// Polls once.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn one_who_gives_up_does_not_end_the_request_of_others() {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let provider = Provider::start(move |_| {
        let gate = Arc::clone(&waiting);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, set(&[ED.jwk_named("ed")]))
        }
    })
    .await;
    let verifier = verifier_of(&provider, JwksOptions::default());
    let good = token(&ED, "EdDSA", "ed");
    let mut first = Box::pin(verifier.identify(&good));
    assert!(futures_poll(&mut first).is_pending());
    provider.has_requests(1).await;
    drop(first);
    gate.add_permits(1);
    assert!(verifier.identify(&good).await.is_ok());
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn new_key_is_fetched_when_a_token_names_it_and_the_old_one_goes() {
    let published = Arc::new(Mutex::new(set(&[ED.jwk_named("2026-10")])));
    let serving = Arc::clone(&published);
    let provider =
        Provider::start(move |_| std::future::ready(answer(200, serving.lock().unwrap().clone()))).await;
    let verifier = verifier_of(&provider, options());
    let (old, new) = (token(&ED, "EdDSA", "2026-10"), token(&EC, "ES256", "2026-11"));
    assert!(verifier.identify(&old).await.is_ok());
    *published.lock().unwrap() = set(&[ED.jwk_named("2026-10"), EC.jwk_named("2026-11")]);
    assert!(verifier.identify(&new).await.is_ok() && verifier.identify(&old).await.is_ok());
    assert_eq!(provider.requests(), 2);
    *published.lock().unwrap() = set(&[EC.jwk_named("2026-11")]);
    assert_eq!(refused(&verifier, &token(&ED, "EdDSA", "2026-12")).await, TokenError::UnknownKey);
    assert_eq!(refused(&verifier, &old).await, TokenError::UnknownKey);
    assert!(verifier.identify(&new).await.is_ok());
}

/// Whoever sends made-up key ids must not make us send requests.
#[tokio::test]
async fn unknown_keys_are_asked_for_no_more_often_than_configured() {
    let provider = Provider::always(200, set(&[ED.jwk_named("ed")])).await;
    let mut options = options();
    options.refresh_interval_min = LONG;
    let verifier = verifier_of(&provider, options);
    for number in 0..100 {
        let token = token(&ED, "EdDSA", &format!("made-up-{number}"));
        assert_eq!(refused(&verifier, &token).await, TokenError::UnknownKey);
    }
    assert!(verifier.identify(&token(&ED, "EdDSA", "ed")).await.is_ok());
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn keys_of_an_unreachable_provider_are_used_for_a_bounded_time() {
    let down = Arc::new(Mutex::new(false));
    let is_down = Arc::clone(&down);
    let provider = Provider::start(move |_| {
        let body = set(&[ED.jwk_named("ed")]);
        std::future::ready(if *is_down.lock().unwrap() { answer(503, "") } else { answer(200, body) })
    })
    .await;
    let good = token(&ED, "EdDSA", "ed");
    let mut always_old = options();
    always_old.refresh_interval = Duration::ZERO;
    let verifier = verifier_of(&provider, always_old.clone());
    assert!(verifier.identify(&good).await.is_ok());
    *down.lock().unwrap() = true;
    for _ in 0..20 {
        assert!(verifier.identify(&good).await.is_ok());
    }
    assert_eq!(refused(&verifier, &token(&ED, "EdDSA", "other")).await, TokenError::UnknownKey);
    // The time is up at once: nothing is known any more, and that is no fault of the token.
    *down.lock().unwrap() = false;
    let mut never_stale = always_old;
    never_stale.stale_max = Duration::ZERO;
    let forgetful = verifier_of(&provider, never_stale);
    assert_eq!(refused(&forgetful, &good).await, TokenError::Unavailable);
}

#[tokio::test]
async fn provider_that_answers_badly_is_no_provider_and_tokens_wait_for_better_days() {
    let elsewhere = Provider::always(200, set(&[ED.jwk_named("ed")])).await;
    let good = set(&[ED.jwk_named("ed")]);
    let large = json!({ "keys": [ED.jwk_named("ed")], "padding": "x".repeat(300 * 1024) }).to_string();
    let to = elsewhere.url().to_owned();
    for (status, body, location) in [
        (200, "".to_owned(), None),
        (200, "<html>".to_owned(), None),
        (200, json!({ "keys": [] }).to_string(), None),
        (200, set(&[json!({ "kty": "oct", "kid": "ed", "k": "AAAA" })]), None),
        (200, large, None),
        (404, good.clone(), None),
        (500, good.clone(), None),
        (204, String::new(), None),
        (302, good.clone(), Some(to.clone())),
        (307, good, Some(to)),
    ] {
        let (sent, location) = (body.clone(), location.clone());
        let provider = Provider::start(move |_| {
            let mut answer = answer(status, sent.clone());
            if let Some(location) = &location {
                answer.headers_mut().insert(http::header::LOCATION, location.parse().unwrap());
            }
            std::future::ready(answer)
        })
        .await;
        let verifier = verifier_of(&provider, JwksOptions::default());
        let refused = refused(&verifier, &token(&ED, "EdDSA", "ed")).await;
        assert_eq!(refused, TokenError::Unavailable, "{status} {body:.40}");
        assert_eq!(provider.requests(), 1);
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn provider_that_does_not_answer_is_given_up_and_asked_again_later() {
    let provider = Provider::start(|_| std::future::pending()).await;
    let mut impatient = options();
    impatient.timeout = Duration::from_millis(20);
    impatient.refresh_interval_min = LONG;
    let verifier = verifier_of(&provider, impatient);
    for _ in 0..3 {
        assert_eq!(refused(&verifier, &token(&ED, "EdDSA", "ed")).await, TokenError::Unavailable);
    }
    // The second and third did not ask: it is too early.
    assert_eq!(provider.requests(), 1);
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let jwks = Jwks::new(&format!("http://{nobody}/"), JwksOptions::default()).unwrap();
    assert!(!jwks.prefetch().await);
}

#[tokio::test]
async fn own_keys_come_before_published_ones() {
    let provider = Provider::start(|_| {
        std::future::ready(json(&json!({ "keys": [ED.jwk_named("hs"), EC.jwk_named("es2")] })))
    })
    .await;
    let jwks = Jwks::new(provider.url(), options()).unwrap();
    assert!(jwks.prefetch().await);
    let verifier = verifier().with_jwks(jwks);
    assert!(verifier.identify(&signed(&claims())).await.is_ok());
    assert_eq!(refused(&verifier, &token(&ED, "EdDSA", "hs")).await, TokenError::Algorithm);
    assert!(verifier.identify(&token(&EC, "ES256", "es2")).await.is_ok());
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn key_sets_are_not_fetched_over_plain_http_from_elsewhere() {
    for url in ["http://id.example/keys", "ftp://localhost/", "id.example", "https://user:s3cret@id.example/"]
    {
        let refused = Jwks::new(url, JwksOptions::default()).unwrap_err();
        assert!(
            matches!(refused, SetupError::BadUrl { .. }) && !refused.to_string().contains("s3cret"),
            "{refused}"
        );
    }
}

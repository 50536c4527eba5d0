//! Tokens that must pass, and what they make of whoever shows them.

use std::time::Duration;

use aws_lc_rs::signature;
use jsonwebtoken::{EncodingKey, Header};
use outspoke_auth::{
    Algorithm, ApiKeyVerifier, ClaimRules, FirstOf, JwtVerifier, KeyHash, SigningKey, TokenError,
    TokenVerifier as _, VerificationKey, inspect, new_key,
};
use outspoke_hub::protocol::Timestamp;
use outspoke_hub::{Action, ErrorCode, Identity, Permissions};
use serde_json::{Value, json};

use crate::forge::*;

/// Both halves of a key for an algorithm, and the other maker's form of the private one.
fn keys(algorithm: Algorithm) -> (SigningKey, VerificationKey, EncodingKey) {
    if algorithm.is_symmetric() {
        let signing = SigningKey::secret(algorithm, SECRET).unwrap();
        return (
            signing,
            VerificationKey::secret(algorithm, SECRET).unwrap(),
            EncodingKey::from_secret(SECRET),
        );
    }
    let pair = match algorithm {
        Algorithm::ES256 => EC.clone(),
        Algorithm::ES384 => ec_pair(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        Algorithm::EdDSA => ED.clone(),
        _ => RSA.clone(),
    };
    let other = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&pair.private),
        Algorithm::EdDSA => EncodingKey::from_ed_der(&pair.private),
        // The key itself (RFC 8017) behind the 26 bytes that PKCS#8 puts before it.
        _ => EncodingKey::from_rsa_der(&pair.private[26..]),
    };
    let private = pem("PRIVATE KEY", &pair.private);
    let signing = SigningKey::private(algorithm, private.as_bytes()).unwrap();
    assert!(SigningKey::private(algorithm, &pair.private).is_ok());
    (signing, VerificationKey::public(algorithm, pair.pem().as_bytes()).unwrap(), other)
}

/// Two makers, one reader: what others sign passes, and what we sign.
#[tokio::test]
async fn tokens_of_every_algorithm_pass_whoever_made_them() {
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().unwrap();
    for algorithm in Algorithm::ALL {
        let (signing, verification, other) = keys(algorithm);
        let verifier = now(JwtVerifier::new(vec![verification.named("k")], ClaimRules::default()).unwrap());
        let mut header = Header::new(algorithm.name().parse().unwrap());
        for kid in [None, Some("k".to_owned())] {
            header.kid = kid;
            let token = jsonwebtoken::encode(&header, &claims(), &other).unwrap();
            let identity =
                verifier.identify(&token).await.unwrap_or_else(|error| panic!("{algorithm}: {error}"));
            assert_eq!(identity.user.as_str(), "anna");
        }
        let ours = signing.named("k").sign(claims().as_object().unwrap());
        assert_eq!(verifier.identify(&ours).await.unwrap().user.as_str(), "anna", "{algorithm}");
        assert_eq!(inspect(&ours).header.unwrap()["alg"], algorithm.name());
        assert_eq!(inspect(&ours).claims.unwrap(), claims());
    }
}

#[tokio::test]
async fn claims_become_the_identity() {
    let token = signed(&claims_with(json!({
        "name": " Anna Ø ", "device": "phone", "tenant": "acme", "jti": "token-1", "info": { "role": "admin" },
        "rooms": { "join": ["chat:*", "inbox:{user}"], "moderate": ["chat:anna"] },
    })));
    let identity = verifier().identify(&token).await.unwrap();
    let said = (
        identity.name.as_str(),
        identity.device.as_str(),
        identity.tenant.as_str(),
        identity.credential.as_str(),
    );
    assert_eq!(said, ("Anna Ø", "phone", "acme", "token-1"));
    assert_eq!(identity.expires.unwrap().as_millis(), (NOW + 3600) * 1000);
    assert_eq!(identity.issued.unwrap().as_millis(), NOW * 1000);
    assert!(!identity.anonymous);
    let may = |action, room| identity.permissions.allows(action, room);
    assert!(
        may(Action::Join, "chat:x") && may(Action::Join, "inbox:anna") && may(Action::Moderate, "chat:anna")
    );
    assert!(
        !may(Action::Join, "inbox:bert")
            && !may(Action::Publish, "chat:x")
            && !may(Action::Moderate, "chat:x")
    );
    assert_eq!(identity.claims.unwrap()["info"]["role"], "admin");
}

#[tokio::test]
async fn what_a_token_does_not_say_is_as_configured() {
    let token = signed(&claims_with(json!({ "iat": null })));
    let identity = verifier().identify(&token).await.unwrap();
    assert_eq!((identity.name.as_str(), identity.issued, &*identity.credential), ("anna", None, ""));
    assert_eq!(identity.permissions, Permissions::default());
    let own = Permissions::nothing().allow(Action::Join, "u/{user}/*");
    let mut rules = ClaimRules::default();
    rules.permissions = own;
    rules.user_claim = "uid".to_owned();
    rules.name_claim = "https://example.com/nick".to_owned();
    rules.tenant_claim = "org".to_owned();
    let token = signed(&claims_with(
        json!({ "uid": "u1", "org": "acme", "https://example.com/nick": "Ann", "name": 1 }),
    ));
    let identity = verifier_with(rules.clone()).identify(&token).await.unwrap();
    assert_eq!((identity.user.as_str(), &*identity.name, &*identity.tenant), ("u1", "Ann", "acme"));
    assert!(
        identity.permissions.allows(Action::Join, "u/u1/x")
            && !identity.permissions.allows(Action::Join, "u/u2/x")
    );
    let without = refused(&verifier_with(rules), &signed(&claims())).await;
    assert_eq!(without, TokenError::Missing { claim: "uid".to_owned() });
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_and_not_by_more() {
    for (good, leeway) in [
        (json!({ "exp": NOW - 29, "iat": NOW - 60 }), 30),
        (json!({ "nbf": NOW + 30 }), 30),
        (json!({ "iat": NOW + 30 }), 30),
        (json!({ "exp": NOW + 1 }), 0),
        (json!({ "nbf": NOW, "iat": NOW }), 0),
    ] {
        let mut rules = ClaimRules::default();
        rules.leeway = Duration::from_secs(leeway);
        assert!(verifier_with(rules).identify(&signed(&claims_with(good.clone()))).await.is_ok(), "{good}");
    }
    let mut rules = ClaimRules::default();
    rules.leeway = Duration::ZERO;
    let strict = verifier_with(rules);
    assert_eq!(refused(&strict, &signed(&claims_with(json!({ "exp": NOW })))).await, TokenError::Expired);
    assert_eq!(refused(&strict, &signed(&claims_with(json!({ "nbf": NOW + 1 })))).await, TokenError::NotYet);
    assert_eq!(
        refused(&strict, &signed(&claims_with(json!({ "iat": NOW + 1 })))).await,
        TokenError::FromTheFuture
    );
}

/// Who is let in is not closed in the same moment.
#[tokio::test]
async fn token_that_is_let_in_late_holds_until_the_leeway_ends() {
    for (exp, holds_until) in
        [(NOW - 29, NOW + 1), (NOW, NOW + 30), (NOW + 1, NOW + 1), (NOW + 600, NOW + 600)]
    {
        let identity =
            verifier().identify(&signed(&claims_with(json!({ "exp": exp, "iat": NOW - 60 })))).await;
        assert_eq!(identity.unwrap().expires, Some(Timestamp::from_millis(holds_until * 1000)), "{exp}");
    }
}

#[tokio::test]
async fn lifetime_counts_from_issue_or_from_now() {
    let mut rules = ClaimRules::default();
    rules.lifetime_max = Some(Duration::from_secs(3600));
    let verifier = verifier_with(rules);
    for (claims, good) in [
        (json!({}), true),
        (json!({ "iat": null }), true),
        (json!({ "exp": NOW + 3601 }), false),
        (json!({ "exp": NOW + 3601, "iat": null }), false),
        (json!({ "iat": NOW - 1 }), false),
        (json!({ "iat": NOW - 3000, "exp": NOW + 600 }), true),
    ] {
        let answer = verifier.identify(&signed(&claims_with(claims.clone()))).await;
        assert_eq!(answer.is_ok(), good, "{claims}");
        assert!(good || matches!(answer, Err(TokenError::TooLasting { max_seconds: 3600 })));
    }
}

#[tokio::test]
async fn issuer_and_audience_must_be_ours_where_they_are_named() {
    let mut rules = ClaimRules::default();
    rules.issuers = vec!["https://id.example/".to_owned(), "backup".to_owned()];
    rules.audiences = vec!["chat".to_owned()];
    let verifier = verifier_with(rules);
    let with = |changes: Value| signed(&claims_with(changes));
    for good in [
        json!({ "iss": "https://id.example/", "aud": "chat" }),
        json!({ "iss": "backup", "aud": ["shop", "chat"] }),
    ] {
        assert!(verifier.identify(&with(good.clone())).await.is_ok(), "{good}");
    }
    let missing = |claim: &str| TokenError::Missing { claim: claim.to_owned() };
    for (bad, why) in [
        (json!({ "aud": "chat" }), missing("iss")),
        (json!({ "iss": "backup" }), missing("aud")),
        (json!({ "iss": "https://id.example", "aud": "chat" }), TokenError::Issuer),
        (json!({ "iss": "HTTPS://ID.EXAMPLE/", "aud": "chat" }), TokenError::Issuer),
        (json!({ "iss": "", "aud": "chat" }), TokenError::Issuer),
        (json!({ "iss": "backup", "aud": "chats" }), TokenError::Audience),
        (json!({ "iss": "backup", "aud": "Chat" }), TokenError::Audience),
        (json!({ "iss": "backup", "aud": ["cha", "t"] }), TokenError::Audience),
        (json!({ "iss": "backup", "aud": [] }), TokenError::Audience),
    ] {
        assert_eq!(refused(&verifier, &with(bad.clone())).await, why, "{bad}");
    }
}

#[tokio::test]
async fn token_without_kid_is_for_the_nameless_key_or_the_only_one() {
    let bare = forge(r#"{"alg":"HS256"}"#, claims().to_string().as_bytes(), |message| hs256(SECRET, message));
    let secret = || VerificationKey::secret(Algorithm::HS256, SECRET).unwrap();
    let other = || VerificationKey::public(Algorithm::EdDSA, &ED.public).unwrap();
    for (keys, good) in [
        (vec![secret()], true),
        (vec![secret().named("only")], true),
        (vec![secret(), other().named("ed")], true),
        (vec![secret().named("hs"), other().named("ed")], false),
        (vec![], false),
    ] {
        let named = format!("{keys:?}");
        let verifier = now(JwtVerifier::new(keys, ClaimRules::default()).unwrap());
        assert_eq!(verifier.identify(&bare).await.is_ok(), good, "{named}");
    }
    let nameless = now(JwtVerifier::new(vec![other(), secret().named("hs")], ClaimRules::default()).unwrap());
    assert_eq!(refused(&nameless, &bare).await, TokenError::Algorithm);
}

#[tokio::test]
async fn first_that_recognizes_a_credential_judges_it() {
    let key = new_key();
    let keys = ApiKeyVerifier::new().key("ci", KeyHash::of(&key).unwrap(), Identity::user("build-server"));
    let keys = keys.unwrap();
    let both = FirstOf::new(vec![std::sync::Arc::new(verifier()), std::sync::Arc::new(keys)]);
    let identity = both.verify(&key).await.unwrap();
    assert_eq!((identity.user.as_str(), &*identity.credential), ("build-server", "ci"));
    assert_eq!(both.verify(&signed(&claims())).await.unwrap().user.as_str(), "anna");
    for wrong in ["", "x", &key[..46], &format!("{key}.a.b"), &new_key()] {
        let error = both.verify(wrong).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unauthorized, "{wrong}");
    }
    assert!(FirstOf::new(Vec::new()).verify(&key).await.is_err());
}

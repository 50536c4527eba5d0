//! Tokens for single rooms: for whom and for what they count, and that they are no tokens to connect.

use std::sync::Arc;

use outspoke_auth::{Hook, HookOptions, RoomAuthorizer, TokenError};
use outspoke_hub::{Action, Ask, Authorizer as _, ErrorCode, Grant, Identity, Refusal, RoomName};
use serde_json::{Value, json};

use crate::forge::*;
use crate::provider::Provider;

async fn show(token: &str, action: Action, room: &str, identity: Identity) -> Result<Grant, Refusal> {
    let mut ask = Ask::new(Arc::new(identity), action, RoomName::new(room, 128).unwrap());
    ask.token = Some(token.into());
    RoomAuthorizer::new().tokens(verifier()).authorize(ask).await
}

fn anna() -> Identity {
    Identity::user("anna")
}

fn room_token(changes: Value) -> String {
    let mut claims = claims_with(json!({ "room": "vip" }));
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    signed(&claims)
}

#[tokio::test]
async fn token_for_a_room_allows_what_it_says_there() {
    let grant = show(&room_token(json!({})), Action::Join, "vip", anna()).await.unwrap();
    assert_eq!(grant.actions, [Action::Join]);
    assert_eq!(grant.expires.unwrap().as_millis(), (NOW + 3600) * 1000);
    let more = room_token(json!({ "allow": ["join", "publish", "history"] }));
    let grant = show(&more, Action::Publish, "vip", anna()).await.unwrap();
    assert_eq!(grant.actions, [Action::Join, Action::Publish, Action::History]);
    let acme = room_token(json!({ "tenant": "acme" }));
    assert!(show(&acme, Action::Join, "vip", anna().of_tenant("acme")).await.is_ok());
}

#[tokio::test]
async fn token_for_a_room_is_for_that_room_that_user_that_tenant_and_that_action() {
    let plain = room_token(json!({}));
    let acme = room_token(json!({ "tenant": "acme" }));
    for (token, action, room, identity) in [
        (&plain, Action::Join, "vip2", anna()),
        (&plain, Action::Join, "VIP", anna()),
        (&plain, Action::Publish, "vip", anna()),
        (&plain, Action::Join, "vip", Identity::user("bert")),
        (&plain, Action::Join, "vip", anna().of_tenant("acme")),
        (&acme, Action::Join, "vip", anna()),
        (&room_token(json!({ "allow": [] })), Action::Join, "vip", anna()),
        (&room_token(json!({ "allow": ["publish"] })), Action::Join, "vip", anna()),
    ] {
        let refused = show(token, action, room, identity.clone()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden, "{action:?} {room} {identity:?}");
    }
}

#[tokio::test]
async fn token_for_a_room_that_is_wrong_is_refused() {
    for (changes, code) in [
        (json!({ "exp": NOW - 60 }), ErrorCode::TokenExpired),
        (json!({ "room": "*" }), ErrorCode::Unauthorized),
        (json!({ "room": "vi*" }), ErrorCode::Unauthorized),
        (json!({ "room": "" }), ErrorCode::Unauthorized),
        (json!({ "room": ["vip"] }), ErrorCode::Unauthorized),
        (json!({ "room": null }), ErrorCode::Unauthorized),
        (json!({ "allow": "join" }), ErrorCode::Unauthorized),
        (json!({ "allow": ["fly"] }), ErrorCode::Unauthorized),
        (json!({ "allow": { "join": true } }), ErrorCode::Unauthorized),
        (json!({ "sub": 1 }), ErrorCode::Unauthorized),
        (json!({ "sub": "" }), ErrorCode::Unauthorized),
    ] {
        let refused = show(&room_token(changes.clone()), Action::Join, "vip", anna()).await.unwrap_err();
        assert_eq!(refused.code, code, "{changes}");
    }
    // One to connect opens no room, and one for a room lets nobody connect.
    let connecting = signed(&claims());
    assert_eq!(
        show(&connecting, Action::Join, "vip", anna()).await.unwrap_err().code,
        ErrorCode::Unauthorized
    );
    assert!(matches!(refused(&verifier(), &room_token(json!({}))).await, TokenError::Purpose(_)));
    let unsigned = room_token(json!({})).rsplit_once('.').unwrap().0.to_owned() + ".";
    assert!(show(&unsigned, Action::Join, "vip", anna()).await.is_err());
}

#[tokio::test]
async fn where_a_token_is_shown_the_application_is_not_asked_and_otherwise_it_is() {
    let provider = Provider::always(200, json!({ "allow": true }).to_string()).await;
    let mut options = HookOptions::default();
    options.subscribe = Some(provider.url().to_owned());
    let hook = Hook::new(options).unwrap();
    let both = RoomAuthorizer::new().tokens(verifier()).hook(hook.clone());
    let ask = |token: Option<String>| {
        let mut ask = Ask::new(Arc::new(anna()), Action::Join, RoomName::new("vip", 128).unwrap());
        ask.token = token.map(Into::into);
        ask
    };
    assert!(both.authorize(ask(Some(room_token(json!({}))))).await.is_ok());
    assert!(both.authorize(ask(Some(room_token(json!({ "room": "other" }))))).await.is_err());
    assert_eq!(provider.requests(), 0);
    assert!(both.authorize(ask(None)).await.is_ok());
    assert_eq!(provider.requests(), 1);
    // Without keys of our own the application may read the token itself.
    assert!(RoomAuthorizer::new().hook(hook).authorize(ask(Some("theirs".to_owned()))).await.is_ok());
    assert_eq!(
        RoomAuthorizer::new().authorize(ask(Some("any".to_owned()))).await.unwrap_err().code,
        ErrorCode::Unauthorized
    );
}

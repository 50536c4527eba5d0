//! Messages of sorts that a reviewer wants to see: it waits, refuses, and says what they say.

use std::sync::{Arc, Mutex};

use ecow::EcoString;
use outspoke_hub::store::MemoryStore;
use outspoke_hub::{
    Body, Durability, ErrorCode, Hub, HubConfig, Kind, Message, Proposal, Refusal, Review, Reviewer, UserId,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::authority::ask;
use crate::support::{eventually, hub_of, member, welcomed};

/// Of parcels: refuses those that say "no", and says who sent them to which room.
#[derive(Clone, Debug)]
struct Clerk {
    turns: Arc<Semaphore>,
    deleted: Arc<Mutex<Vec<String>>>,
}

impl Reviewer for Clerk {
    fn kinds(&self) -> Vec<EcoString> {
        vec!["parcel".into()]
    }

    fn review(&self, proposal: Proposal) -> Review<'_> {
        Box::pin(async move {
            self.turns.acquire().await.unwrap().forget();
            let Body::Json(data) = &proposal.body else {
                return Err(Refusal::new(ErrorCode::BadRequest, "a parcel has data"));
            };
            let said: Value = serde_json::from_slice(data).unwrap();
            if said == "no" {
                return Err(Refusal::new(ErrorCode::Forbidden, "not that parcel"));
            }
            let seen = json!({ "said": said, "by": proposal.user.as_str(), "in": proposal.room.as_str() });
            Ok(Body::json(&seen).unwrap())
        })
    }

    fn deleted(&self, tenant: &str, message: &Message) {
        let Body::Json(data) = &message.body else { return };
        self.deleted.lock().unwrap().push(format!("{tenant}:{}", String::from_utf8_lossy(data)));
    }
}

fn office(durability: Durability) -> (Hub, Clerk) {
    let clerk = Clerk { turns: Arc::new(Semaphore::new(0)), deleted: Arc::default() };
    let builder = Hub::builder().reviewer(clerk.clone()).store("memory", Arc::new(MemoryStore::new()));
    let keeping = |config: &mut HubConfig| config.rooms.default_mut().durability = durability;
    (hub_of(builder, keeping), clerk)
}

fn parcel(id: &str, data: Value) -> Value {
    json!({ "type": "publish", "event": "parcel", "id": id, "room": "room", "data": data })
}

#[tokio::test(start_paused = true)]
async fn message_waits_for_its_reviewer_and_says_what_that_says() {
    let (hub, clerk) = office(Durability::Memory);
    let mut bob = member(&hub, "bob", "room").await;
    let mut alice = member(&hub, "alice", "room").await;
    alice.send(parcel("1", json!("x"))).await;
    alice.send(json!({ "type": "chat", "id": "2", "room": "room", "content": "after it" })).await;
    clerk.turns.add_permits(1);
    let got = bob.find("parcel").await;
    assert_eq!(got["data"], json!({ "said": "x", "by": "alice", "in": "room" }));
    assert_eq!(bob.find("chat").await["content"], "after it");
    clerk.turns.add_permits(1);
    let refused = ask(&mut bob, parcel("3", json!("no"))).await;
    assert_eq!((&refused["error"], &refused["message"]), (&json!("forbidden"), &json!("not that parcel")));
    // Other sorts are nobody's business.
    bob.send(json!({ "type": "publish", "event": "letter", "room": "room", "data": "no" })).await;
    assert_eq!(bob.find("letter").await["data"], "no");
}

#[tokio::test(start_paused = true)]
async fn reviewed_message_is_not_edited_and_its_deletion_is_told_with_what_it_said() {
    for durability in [Durability::Memory, Durability::Stored] {
        let (hub, clerk) = office(durability);
        clerk.turns.add_permits(10);
        let mut alice = member(&hub, "alice", "room").await;
        alice.send(parcel("1", json!("x"))).await;
        let offset = alice.find("parcel").await["offset"].clone();
        let edit = json!({ "type": "edit", "id": "2", "room": "room", "offset": offset, "data": { "forged": true } });
        let refused = ask(&mut alice, edit).await;
        assert_eq!(refused["error"], "bad_request", "{refused}");
        alice.send(json!({ "type": "delete", "id": "3", "room": "room", "offset": offset })).await;
        alice.find("delete").await;
        let told = r#":{"by":"alice","in":"room","said":"x"}"#;
        eventually("the reviewer hears of it", || clerk.deleted.lock().unwrap().as_slice() == [told]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn member_who_left_meanwhile_says_nothing() {
    let (hub, clerk) = office(Durability::Memory);
    let mut alice = member(&hub, "alice", "room").await;
    alice.send(parcel("1", json!("x"))).await;
    let mut admin = welcomed(&hub, "admin").await;
    hub.put_out_of_room("room", &UserId::new("alice")).await.unwrap();
    clerk.turns.add_permits(1);
    let refused = alice.find("error").await;
    assert_eq!(refused["error"], "not_subscribed", "{refused}");
    admin.send(json!({ "type": "ping" })).await;
    admin.find("pong").await;
}

#[tokio::test(start_paused = true)]
async fn application_asks_for_those_it_speaks_for() {
    let (hub, clerk) = office(Durability::Memory);
    clerk.turns.add_permits(2);
    let (alice, kind) = (UserId::new("alice"), Kind::Custom("parcel".into()));
    let body = |text: &str| Body::json(&json!(text)).unwrap();
    let reviewed = hub.review(&alice, "room", &kind, body("x")).await.unwrap();
    assert_eq!(reviewed, Body::json(&json!({ "said": "x", "by": "alice", "in": "room" })).unwrap());
    assert_eq!(hub.review(&alice, "room", &kind, body("no")).await.unwrap_err().code, ErrorCode::Forbidden);
    assert_eq!(hub.review(&alice, "room", &Kind::Data, body("no")).await.unwrap(), body("no"));
    // Nobody answers.
    assert_eq!(hub.review(&alice, "room", &kind, body("x")).await.unwrap_err().code, ErrorCode::TimedOut);
}

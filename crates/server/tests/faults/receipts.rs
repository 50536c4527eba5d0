//! How far everybody has received and read, as far as anybody was told: never less later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::connection::Way;

/// Which place: of a user in a room, `delivered` or `seen`.
type Which = (String, String, String);

/// The furthest places that anybody was told.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    told: Mutex<BTreeMap<Which, u64>>,
}

impl Receipts {
    /// Notes what a `receipt` tells.
    pub(crate) fn hear(&self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let which = (text("room"), text("userId"), text("receipt"));
        let offset = event["offset"].as_u64().unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let furthest = told.entry(which).or_default();
        *furthest = offset.max(*furthest);
    }

    /// The furthest that anybody was told by now.
    pub(crate) fn told(&self, room: &str, user: &str, kind: &str) -> u64 {
        let which = (room.to_owned(), user.to_owned(), kind.to_owned());
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(&which).copied().unwrap_or_default()
    }

    /// Holds what the server has in the end against what was told before. Returns what stepped back, in words.
    pub(crate) async fn compare(&self, way: &mut Way, room: &str) -> Vec<String> {
        let (mut connection, _) = way.join(room, None).await;
        connection.send(&json!({ "type": "receipts", "id": "receipts", "room": room })).await;
        let answer = connection.answer("receipts").await.expect("the server stays");
        let users = answer["users"].as_array().unwrap_or_else(|| panic!("no receipts: {answer}"));
        let place = |user: &str, kind: &str| {
            users
                .iter()
                .find(|entry| entry["userId"] == user)
                .and_then(|entry| entry[kind].as_u64())
                .unwrap_or(0)
        };
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let of_room = told.iter().filter(|((of, _, _), _)| of == room);
        let stepped = of_room.filter(|((_, user, kind), offset)| place(user, kind) < **offset);
        stepped.map(|(which, offset)| format!("{which:?} stepped back from {offset}: {answer}")).collect()
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

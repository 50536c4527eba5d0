//! What operators ask: lists in pages, what is forgotten, and what is kept of a user.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::protocol::{Disconnect, PageFrom};
use outspoke_hub::store::StoreError;
use outspoke_hub::{Body, Durability, Hub, Kind, Publication, RoomClass, UserDatum, UserId};
use outspoke_testkit::settle;
use serde_json::json;

use crate::shelf::{Mood, Shelf};
use crate::stored::storing;
use crate::support::{hub, member, number_body, welcomed};

/// Rooms named `s...` are stored, `m...` are kept in memory.
fn keeping(shelf: &Arc<Shelf>) -> Hub {
    storing(shelf, |config| {
        let class = RoomClass { durability: Durability::Memory, announce: false, ..RoomClass::new("m*") };
        config.rooms.classes.push(Arc::new(class));
    })
}

async fn say(hub: &Hub, room: &str, user: &str, content: &str) -> u64 {
    let publication = Publication::new(Kind::Chat, Body::Text(content.into())).by(UserId::new(user), user);
    hub.publish_once(room, publication).unwrap().await.unwrap().position.unwrap().offset
}

async fn contents(hub: &Hub, room: &str) -> Vec<(u64, String, bool)> {
    let history = hub.history(room, PageFrom::Newest, 100).await.unwrap();
    let content = |message: &outspoke_hub::Message| {
        let text = if let Body::Text(text) = &message.body { text.to_string() } else { String::new() };
        (message.position.unwrap().offset, text, message.from.is_some())
    };
    history.messages.iter().map(content).collect()
}

async fn messages_of(hub: &Hub, user: &str) -> usize {
    let (mut count, mut place) = (0, None);
    loop {
        let (data, next) = hub.user_data(user, place).await.unwrap();
        count += data.iter().filter(|datum| matches!(datum, UserDatum::Message(_))).count();
        match next {
            Some(next) => place = Some(next),
            None => return count,
        }
    }
}

/// Every page size gives the same rooms, each once, whether they are in memory, in the store or in both.
#[tokio::test(start_paused = true)]
async fn rooms_are_listed_once_in_their_order_whatever_the_page() {
    let shelf = Shelf::new();
    let first = keeping(&shelf);
    for number in 0..20 {
        say(&first, &format!("s{number:02}"), "ann", "hello").await;
    }
    first.shutdown(Duration::from_secs(60)).await;
    let hub = keeping(&shelf);
    let _member = member(&hub, "ann", "s05").await;
    let _elsewhere = member(&hub, "ben", "x").await;
    say(&hub, "m1", "ann", "hello").await;
    let mut expected: Vec<String> = vec!["m1".into()];
    expected.extend((0..20).map(|number| format!("s{number:02}")));
    expected.push("x".into());
    for max in [1, 2, 7, 21, 22, 100] {
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = hub.list_rooms("", after.as_deref(), max).await.unwrap();
            assert!(page.items.len() <= max);
            names.extend(page.items.iter().map(|room| room.name.to_string()));
            after = names.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(names, expected, "{max}");
    }
    let with_prefix = hub.list_rooms("s1", None, 100).await.unwrap();
    assert_eq!((with_prefix.items.len(), with_prefix.more), (10, false));
    let room = hub.room("s05").await.unwrap().unwrap();
    assert_eq!((room.members, room.head, room.durability), (1, 1, Durability::Stored));
    assert_eq!(hub.room("s99").await, Ok(None));
    assert_eq!(hub.room("nowhere").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn cleared_history_is_gone_for_everybody_and_offsets_go_on() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf);
    for room in ["s1", "m1"] {
        for number in 0..5 {
            say(&hub, room, "ann", &number.to_string()).await;
        }
        let before = hub.room(room).await.unwrap().unwrap();
        assert_eq!(hub.clear_history(room).await, Ok(true));
        assert_eq!(contents(&hub, room).await, []);
        let after = hub.room(room).await.unwrap().unwrap();
        assert_eq!((after.epoch, after.first, after.head), (before.epoch, 6, 5), "{room}");
        assert_eq!(say(&hub, room, "ann", "goes on").await, 6);
        assert_eq!(contents(&hub, room).await, [(6, "goes on".to_owned(), true)]);
    }
    assert_eq!(hub.clear_history("x").await, Ok(false));
    assert_eq!(hub.clear_history("s-never").await, Ok(true));
    hub.shutdown(Duration::from_secs(60)).await;
    let hub = keeping(&shelf);
    assert_eq!(contents(&hub, "s1").await, [(6, "goes on".to_owned(), true)]);
}

/// In memory, in the store, in a room that nobody has looked at since the start; with reactions; and only of that user.
#[tokio::test(start_paused = true)]
async fn erased_user_has_said_nothing_and_others_have_said_what_they_said() {
    let shelf = Shelf::new();
    let first = keeping(&shelf);
    for number in 0..150 {
        say(&first, "s-old", if number % 2 == 0 { "ann" } else { "ben" }, &number.to_string()).await;
    }
    first.shutdown(Duration::from_secs(60)).await;
    let hub = keeping(&shelf);
    let mut ann = member(&hub, "ann", "s1").await;
    ann.join("m1").await;
    for room in ["s1", "m1"] {
        say(&hub, room, "ben", "mine").await;
        say(&hub, room, "ann", "hers").await;
        ann.send(json!({ "type": "react", "room": room, "offset": 1, "reaction": "+1", "id": room })).await;
        ann.find("ack").await;
    }
    assert_eq!(messages_of(&hub, "ann").await, 75 + 4);
    let erased = hub.erase_user("ann").await.unwrap();
    assert_eq!(erased.messages, 75 + 4);
    assert_eq!((messages_of(&hub, "ann").await, messages_of(&hub, "ben").await), (0, 75 + 2));
    for (number, (offset, text, has_author)) in contents(&hub, "s-old").await.into_iter().enumerate() {
        assert_eq!(offset, number as u64 + 51);
        let bens = offset % 2 == 0;
        assert_eq!((text.is_empty(), has_author), (!bens, bens), "{offset}");
    }
    for room in ["s1", "m1"] {
        let history = hub.history(room, PageFrom::Newest, 100).await.unwrap();
        let told = format!("{history:?}");
        assert!(!told.contains("ann") && !told.contains("hers") && !told.contains("+1"), "{told}");
        assert!(told.contains("mine") && told.contains("ben"), "{told}");
        assert_eq!(history.messages.len(), 3);
    }
    assert_eq!(hub.erase_user("ann").await.unwrap().messages, 0);
    hub.shutdown(Duration::from_secs(60)).await;
    assert_eq!(messages_of(&keeping(&shelf), "ann").await, 0);
}

/// A store that goes away in the middle: what was erased stays erased, the same call does the rest.
#[tokio::test(start_paused = true)]
async fn erasure_that_was_broken_off_goes_on() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf);
    for number in 0..10 {
        say(&hub, &format!("s{number}"), "ann", "hers").await;
    }
    shelf.set(Mood::Refuses(StoreError::Unavailable("gone".to_owned())));
    assert!(hub.erase_user("ann").await.is_err());
    shelf.set(Mood::Doubts { times: 3, written: true });
    hub.erase_user("ann").await.unwrap();
    assert_eq!(messages_of(&hub, "ann").await, 0);
    for number in 0..10 {
        assert_eq!(contents(&hub, &format!("s{number}")).await, [(1, String::new(), false)]);
    }
}

#[tokio::test(start_paused = true)]
async fn clients_and_users_are_listed_in_pages_and_by_tenant() {
    let hub = hub(|_| {});
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(welcomed(&hub, &format!("user{}", number % 3)).await);
        settle().await;
    }
    // The same user without a device replaces the former connection.
    let users = hub.list_users(None, 2);
    let names: Vec<_> = users.items.iter().map(|(user, count)| (user.to_string(), *count)).collect();
    assert_eq!((names, users.more), (vec![("user0".into(), 1), ("user1".into(), 1)], true));
    assert_eq!(hub.list_users(Some("user1"), 2).items.len(), 1);
    let page = hub.list_clients(None, None, 2);
    assert_eq!((page.items.len(), page.more), (2, true));
    let rest = hub.list_clients(None, Some(page.items[1].id()), 2);
    assert_eq!((rest.items.len(), rest.more), (1, false));
    assert_eq!(hub.list_clients(Some("user2"), None, 9).items.len(), 1);
    assert!(hub.in_tenant("acme").list_clients(None, None, 9).items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn disconnected_client_is_told_why_in_the_operators_words() {
    let hub = hub(|_| {});
    let mut ann = welcomed(&hub, "ann").await;
    let id = hub.list_clients(None, None, 1).items[0].id();
    assert!(hub.disconnect_because(id, Disconnect::ReconnectRequested, &"größer ".repeat(40)));
    assert_eq!(ann.closed().await, Some(4003));
    settle().await;
    assert!(!hub.disconnect_because(id, Disconnect::Kicked, "again"));
}

#[tokio::test(start_paused = true)]
async fn message_in_a_users_name_is_the_users() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf);
    let mut ben = member(&hub, "ben", "s1").await;
    say(&hub, "s1", "ann", "hello").await;
    let told = ben.expect("chat").await;
    assert_eq!((&told["userId"], &told["username"]), (&json!("ann"), &json!("ann")));
    hub.publish("s1", Kind::Data, number_body(1)).unwrap().await.unwrap();
    assert_eq!(ben.expect("message").await.get("userId"), None);
}

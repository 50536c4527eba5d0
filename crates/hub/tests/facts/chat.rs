//! The road of a message, end to end.

use outspoke_hub::{Hub, RoomName};
use outspoke_testkit::{attach, settle};
use serde_json::json;

/// The whole road in one go: if this fails, nothing else here means anything.
#[tokio::test(start_paused = true)]
async fn chat_in_a_room_reaches_every_member_with_the_documented_fields() {
    let hub = Hub::builder().start_on_this_runtime().unwrap();
    let (mut alice, mut bob) = (attach(&hub, "alice"), attach(&hub, "bob"));
    assert_eq!(alice.expect("welcome").await["userId"], "alice");
    bob.expect("welcome").await;
    assert_eq!(alice.join("kitchen").await["members"], 1);
    assert_eq!(bob.join("kitchen").await["members"], 2);
    assert_eq!(alice.expect("join").await["userId"], "bob");
    alice.say("kitchen", "Hello everyone!").await;
    let mut offsets = Vec::new();
    for client in [&mut alice, &mut bob] {
        let chat = client.expect("chat").await;
        for (key, value) in
            [("userId", "alice"), ("username", "alice"), ("content", "Hello everyone!"), ("room", "kitchen")]
        {
            assert_eq!(chat[key], value, "{chat}");
        }
        assert!(chat["timestamp"].as_str().unwrap().ends_with('Z'), "{chat}");
        offsets.push((chat["epoch"].clone(), chat["offset"].clone()));
    }
    assert_eq!(offsets[0], offsets[1]);
    assert_eq!(offsets[0].1, json!(1));
    settle().await;
    assert_eq!((alice.received(), bob.received()), (vec![], vec![]));
    assert_eq!(hub.rooms(), [(RoomName::new("kitchen", 64).unwrap(), 2)]);
}

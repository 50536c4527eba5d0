//! Names, of which none may be taken for another, for a pattern, or for two.

use std::collections::BTreeSet;

use super::{Stage, connected, message, outgoing, publish, topic, within};
use crate::{Outgoing, Topic, feed};

/// Characters that mean something to some service, or to some encoding, and some that do not.
const ALPHABET: [char; 24] = [
    'a', 'A', '0', ' ', '.', '*', '>', '/', '%', '\\', '?', '[', ']', '{', '}', '$', '_', '-', '~', '"', ':',
    'é', 'ß', '🙂',
];

/// Subscribes to every second name with one outlet and to the others with another, and publishes on all.
async fn tell_apart(stage: &dyn Stage, names: &BTreeSet<String>) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let topics: Vec<Topic> = names.iter().map(topic).collect();
    let even: Vec<Topic> = topics.iter().step_by(2).cloned().collect();
    let odd: Vec<Topic> = topics.iter().skip(1).step_by(2).cloned().collect();
    let ((evens, even_feed), (odds, odd_feed)) = (feed(), feed());
    within("subscribed", there.subscribe(&even, &evens)).await.unwrap();
    within("subscribed", there.subscribe(&odd, &odds)).await.unwrap();
    let end = topic("the end of the names");
    within("subscribed", there.subscribe(std::slice::from_ref(&end), &evens)).await.unwrap();
    within("subscribed", there.subscribe(std::slice::from_ref(&end), &odds)).await.unwrap();
    let batch: Vec<Outgoing> =
        topics.iter().map(|topic| outgoing(topic, topic.as_str().to_owned())).collect();
    publish(&*here, &batch).await;
    publish(&*here, &[outgoing(&end, "")]).await;
    for (mut feed, topics) in [(even_feed, even), (odd_feed, odd)] {
        let mut missing: BTreeSet<Topic> = topics.iter().cloned().chain([end.clone()]).collect();
        while !missing.is_empty() {
            let (topic, payload) = message(&mut feed).await;
            assert!(missing.remove(&topic), "{topic:?} came twice, or to the wrong outlet");
            assert!(topic == end || topic.as_str().as_bytes() == payload, "{topic:?} has what is another's");
        }
        assert_eq!(feed.try_next(), None);
    }
}

/// Names that people give, or make up to do harm.
pub async fn odd_names_are_told_apart(stage: &mut dyn Stage) {
    let short = [
        "broadcast",
        "broadcast/",
        "/broadcast",
        "Broadcast",
        "BROADCAST",
        "broad",
        "broadcast2",
        "unicast",
        "unicast/",
        "unicast/1",
        "unicast/10",
        "unicast//1",
        "unicast/1/",
        "/",
        "//",
        "a",
        "A",
        "a/b",
        "a//b",
        "a%2Fb",
        "a%2fb",
        "a%252Fb",
        "%",
        "%%",
        "%2",
        ".",
        "..",
        "../broadcast",
        "a.b",
        "a..b",
        "a b",
        " a",
        "a ",
        " ",
        "*",
        ">",
        "a.*",
        "a.>",
        "a/*",
        "?",
        "[a]",
        "{a}",
        "$SYS",
        "$JS.API",
        "_INBOX.1",
        "é",
        "e\u{301}",
        "É",
        "ß",
        "SS",
        "ẞ",
        "🙂",
        "👩‍👩‍👧",
        "日本語",
        "\u{202e}a",
        "a\u{200b}",
        "a\\b",
        "a\"b",
        "a'b",
        "a;b",
        "a:b",
        "a,b",
        "a=b",
        "a&b",
        "a+b",
        "a#b",
        "a~b",
        "-",
        "--help",
        "null",
    ];
    let long =
        ["x".repeat(Topic::BYTES_MAX), "%".repeat(Topic::BYTES_MAX), "🙂".repeat(Topic::BYTES_MAX / 4)];
    let almost = ["x".repeat(Topic::BYTES_MAX - 1), format!("{}y", "x".repeat(Topic::BYTES_MAX - 1))];
    let names = short.into_iter().map(str::to_owned).chain(long).chain(almost).collect();
    tell_apart(stage, &names).await;
}

/// Names that nobody has thought of.
pub async fn names_of_any_characters_are_told_apart(stage: &mut dyn Stage) {
    let mut random = fastrand::Rng::with_seed(11);
    let name = |_| (0..random.usize(1..6)).map(|_| ALPHABET[random.usize(..ALPHABET.len())]).collect();
    let names: BTreeSet<String> = (0..600).map(name).collect();
    tell_apart(stage, &names).await;
}

/// A room named `*` would hear everybody's rooms.
pub async fn names_that_look_like_patterns_match_only_themselves(stage: &mut dyn Stage) {
    let (here, there) = (connected(stage).await, connected(stage).await);
    let patterns =
        ["*", ">", "room/*", "room.>", "room.*", "ro?m/x", "room/[x]", "room/", "%", "r*"].map(topic);
    let others = ["room/x", "room.x", "room", "r", "roam/x"].map(topic);
    let (outlet, mut feed) = feed();
    within("subscribed", there.subscribe(&patterns, &outlet)).await.unwrap();
    for pattern in &patterns {
        let others = others.iter().map(|other| outgoing(other, "not for you"));
        publish(&*here, &others.chain([outgoing(pattern, "for you")]).collect::<Vec<_>>()).await;
        assert_eq!(message(&mut feed).await, (pattern.clone(), "for you".into()));
    }
    assert_eq!(feed.try_next(), None);
}

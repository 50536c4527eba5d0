//! Lists that every node has a part of, over several nodes in one process.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::cluster_tests::{Nodes, connect, expect};

const NOBODY: &str = "/clients/00000000-0000-0000-0000-000000000000";

fn texts(rows: &Value, name: &str) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap().to_owned()).collect()
}

/// All pages of a list, of so many rows each.
async fn pages(
    nodes: &Nodes,
    at: usize,
    path: &str,
    (list, behind): (&str, &str),
    limit: usize,
) -> Vec<Value> {
    let (mut rows, mut from) = (Vec::new(), String::new());
    loop {
        let page = nodes.get(at, &format!("{path}?limit={limit}{from}")).await;
        let found = page[list].as_array().unwrap();
        assert!(found.len() <= limit, "{page}");
        rows.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => from = format!("&{behind}={next}"),
            None => return rows,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connections_of_all_nodes_are_listed_in_one_order_whichever_is_asked() {
    let nodes = Nodes::start(3).await;
    let mut here = Vec::new();
    for number in 0..20 {
        let at = number % 3;
        let (client, known) =
            connect(&nodes.hubs[at], &format!("user-{}", number % 4), &format!("device-{number}")).await;
        here.push((client, known.id().to_string(), format!("node-{}", at + 1)));
    }
    let mut expected: Vec<_> = here.iter().map(|(_, id, node)| (id.clone(), node.clone())).collect();
    expected.sort();
    for (at, limit) in [(0, 1000), (1, 7), (2, 1)] {
        let rows = json!(pages(&nodes, at, "/clients", ("clients", "after"), limit).await);
        let found: Vec<_> = texts(&rows, "clientId").into_iter().zip(texts(&rows, "node")).collect();
        assert_eq!(found, expected, "by node-{} in pages of {limit}", at + 1);
        assert!(rows[0]["connectedSeconds"].is_u64() && rows[0]["slowed"].is_null(), "{rows}");
    }
    let of_one = nodes.get(0, "/clients?user=user-1").await;
    assert_eq!(texts(&of_one["clients"], "userId"), ["user-1"; 5]);
    let on: BTreeSet<String> = texts(&of_one["clients"], "node").into_iter().collect();
    assert_eq!(on.len(), 3, "{of_one}");
    assert!(of_one.get("silent").is_none() && of_one.get("next").is_none(), "{of_one}");
}

#[tokio::test(start_paused = true)]
async fn users_of_all_nodes_are_listed_once_each_with_the_nodes_they_are_on() {
    let nodes = Nodes::start(3).await;
    let mut here = Vec::new();
    for number in 0..20 {
        // The first four users come to all nodes, `user-4` to the second one only.
        let (at, user) = if number % 5 == 4 { (1, 4) } else { (number % 3, number % 4) };
        here.push(connect(&nodes.hubs[at], &format!("user-{user}"), &format!("device-{number}")).await);
    }
    let all = ["node-1", "node-2", "node-3"];
    for (at, limit) in [(0, 100), (1, 2), (2, 1)] {
        let rows = json!(pages(&nodes, at, "/users", ("users", "after"), limit).await);
        let expected: Vec<_> = (0..5).map(|user| format!("user-{user}")).collect();
        assert_eq!(texts(&rows, "userId"), expected, "by node-{} in pages of {limit}", at + 1);
        let clients: u64 = rows.as_array().unwrap().iter().map(|row| row["clients"].as_u64().unwrap()).sum();
        assert_eq!(clients, 20, "{rows}");
        assert_eq!((&rows[0]["nodes"], &rows[4]["nodes"]), (&json!(all), &json!(["node-2"])), "{rows}");
    }
    let from_the_last = nodes.get(0, "/users?after=user-4").await;
    assert_eq!(from_the_last, json!({ "users": [] }));
}

/// What a node answers is bounded in bytes, and a page that it cuts short leaves nothing out.
#[tokio::test(start_paused = true)]
async fn more_connections_than_one_answer_carries_come_in_more_pages() {
    const EACH: usize = 400;
    let nodes = Nodes::start(2).await;
    let device = "d".repeat(300);
    let mut here = Vec::new();
    for number in 0..2 * EACH {
        here.push(connect(&nodes.hubs[number % 2], "ana", &format!("{device}{number}")).await);
    }
    let first = nodes.get(0, "/clients?limit=1000").await;
    let count = first["clients"].as_array().unwrap().len();
    assert!((EACH / 2..2 * EACH).contains(&count) && first["next"].is_string(), "{count} rows");
    let rows = json!(pages(&nodes, 0, "/clients", ("clients", "after"), 1000).await);
    let found = texts(&rows, "clientId");
    let expected: BTreeSet<String> = here.iter().map(|(_, known)| known.id().to_string()).collect();
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (2 * EACH, expected));
}

#[tokio::test(start_paused = true)]
async fn connection_is_looked_at_closely_on_whichever_node_it_is() {
    let nodes = Nodes::start(3).await;
    let (mut ben, known) = connect(&nodes.hubs[2], "ben", "phone").await;
    ben.join("x").await;
    let path = format!("/clients/{}", known.id());
    for at in 0..3 {
        let seen = nodes.get(at, &path).await;
        assert_eq!((&seen["node"], &seen["userId"]), (&json!("node-3"), &json!("ben")), "{seen}");
        assert_eq!((&seen["rooms"][0]["room"], &seen["queuedBytes"]), (&json!("x"), &json!(0)), "{seen}");
    }
    let refused = expect(&nodes.hubs[0], "GET", NOBODY, None, 404).await;
    assert_eq!(refused["message"], "no node has such a connection");
}

#[tokio::test(start_paused = true)]
async fn what_operators_did_on_all_nodes_is_one_list_the_newest_first() {
    let nodes = Nodes::start(3).await;
    for number in 0..9 {
        let body = json!({ "user": format!("user-{number}") });
        nodes.post(number % 3, "/disconnect", Some(body)).await;
        // Places are in milliseconds, and nodes in one of them in no order that means anything.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for (at, limit) in [(0, 100), (1, 4), (2, 1)] {
        let rows = json!(pages(&nodes, at, "/audit", ("entries", "before"), limit).await);
        let found: Vec<_> =
            rows.as_array().unwrap().iter().map(|row| row["details"]["user"].clone()).collect();
        let expected: Vec<Value> = (0..9).rev().map(|number| json!(format!("user-{number}"))).collect();
        assert_eq!(found, expected, "by node-{} in pages of {limit}", at + 1);
        assert_eq!(rows[0]["node"], "node-3", "{rows}");
    }
    let refused = expect(&nodes.hubs[0], "GET", "/audit?before=7", None, 400).await;
    assert!(refused["message"].as_str().unwrap().contains("`next`"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn node_that_does_not_answer_is_named_and_the_others_are_listed() {
    let nodes = Nodes::start(2).await;
    let (_ana, _) = connect(&nodes.hubs[0], "ana", "").await;
    let (_ben, far) = connect(&nodes.hubs[1], "ben", "").await;
    nodes.post(0, "/disconnect", Some(json!({ "user": "eve" }))).await;
    nodes.bus.go_away();
    let silent = json!([{ "node": "node-2", "why": "it did not answer within two seconds" }]);
    let begun = tokio::time::Instant::now();
    let list = nodes.get(0, "/clients").await;
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!(
        (texts(&list["clients"], "userId"), &list["silent"]),
        (vec!["ana".to_owned()], &silent),
        "{list}"
    );
    let users = nodes.get(0, "/users").await;
    assert_eq!((texts(&users["users"], "userId"), &users["silent"]), (vec!["ana".to_owned()], &silent));
    let audit = nodes.get(0, "/audit").await;
    assert_eq!((texts(&audit["entries"], "node"), &audit["silent"]), (vec!["node-1".to_owned()], &silent));
    let refused = expect(&nodes.hubs[0], "GET", &format!("/clients/{}", far.id()), None, 503).await;
    assert_eq!((&refused["error"], &refused["temporary"]), (&json!("unavailable"), &json!(true)));
    assert!(refused["message"].as_str().unwrap().contains("node-2"), "{refused}");
    nodes.bus.come_back().await;
    super::cluster_tests::beats(1).await;
    let list = nodes.get(0, "/clients").await;
    assert!(list["clients"].as_array().unwrap().len() == 2 && list.get("silent").is_none(), "{list}");
}

//! What applications tell about their processes (D3): in the process's room, in order, with the names that clients know.

use outspoke_hub::{Body, Kind, ProcessStatus, ProcessStream, process_room};
use outspoke_testkit::attach_with;
use serde_json::json;

use crate::support::{hub, user};

#[tokio::test(start_paused = true)]
async fn process_output_and_status_arrive_in_the_room_of_the_process_in_order() {
    let hub = hub(|_| {});
    let (mut client, _handle) = attach_with(&hub, user("a"), 4096);
    client.expect("welcome").await;
    client.send(json!({ "type": "subscribe", "data": process_room("build-17") })).await;
    client.expect("subscribed").await;
    hub.send_process_status("build-17", ProcessStatus::Running, None).unwrap().await.unwrap();
    hub.send_process_output("build-17", "   Compiling \"x\"\t✓").unwrap().await.unwrap();
    hub.send_process_stream("build-17", ProcessStream::Stderr, "warning").unwrap().await.unwrap();
    hub.send_process_output("build-18", "of another").unwrap().await.unwrap();
    hub.send_process_status("build-17", ProcessStatus::Exited, Some(101)).unwrap().await.unwrap();
    hub.send_process_status("build-17", ProcessStatus::Signaled(Some("SIGTERM")), None)
        .unwrap()
        .await
        .unwrap();
    let status = |status: &str, code: Option<i32>, signal: Option<&str>| json!({ "processId": "build-17", "status": status, "exitCode": code, "signal": signal });
    let line = |stream: &str, line: &str| json!({ "processId": "build-17", "stream": stream, "line": line });
    let wanted = [
        ("process_status", status("running", None, None)),
        ("process_output", line("stdout", "   Compiling \"x\"\t✓")),
        ("process_output", line("stderr", "warning")),
        ("process_status", status("exited", Some(101), None)),
        ("process_status", status("signaled", None, Some("SIGTERM"))),
    ];
    for (sort, data) in wanted {
        let message = client.expect(sort).await;
        assert_eq!((&message["room"], &message["data"]), (&json!("process:build-17"), &data));
    }
}

#[tokio::test(start_paused = true)]
async fn message_to_a_channel_is_a_message_to_the_room_of_that_name() {
    let hub = hub(|_| {});
    let (mut client, _handle) = attach_with(&hub, user("a"), 4096);
    client.expect("welcome").await;
    client.send(json!({ "type": "subscribe", "channel": "builds" })).await;
    client.expect("subscribed").await;
    let body = Body::json(&json!({ "state": "green" })).unwrap();
    hub.send_to_channel("builds", Kind::Data, body).unwrap().await.unwrap();
    assert_eq!(client.expect("message").await["data"], json!({ "state": "green" }));
    assert!(hub.send_process_output("no\nid", "x").is_err(), "a room's name has no line break");
}

//! Tenants by the settings: the path and the host name say whose a client is, and each has its quotas.

use outspoke_testkit::{Connect, TcpClient};
use serde_json::{Value, json};

use crate::support::Settings;

const SETTINGS: &str = "\
tenants:
  enabled: true
  rooms_max: 2
  hosts:
    - {host: 127.0.0.1, tenant: by-host}
  list:
    - {name: acme, connections_max: 1}
    - {name: globex, messages_per_second: 1}
";

async fn connected(target: &str, addr: std::net::SocketAddr) -> TcpClient {
    let mut client = Connect::to(addr, target).open().await.unwrap();
    client.expect("welcome").await;
    client.expect("subscribed").await;
    client
}

#[tokio::test]
async fn tenants_of_the_settings_are_separate_and_have_their_quotas() {
    let settings = Settings::default();
    std::fs::write(settings.folder().join("config.yaml"), SETTINGS).unwrap();
    let server = settings.start().await;
    let mut acme = connected("/t/acme/ws?userId=u&username=U", server.addr).await;
    let mut globex = connected("/t/globex/ws?userId=u&username=U", server.addr).await;
    let mut by_host = connected("/ws?userId=u&username=U", server.addr).await;
    acme.send(json!({ "type": "chat", "content": "for acme", "id": 1 })).await;
    assert_eq!(acme.find("chat").await["content"], "for acme");
    for (number, kind) in [(1, "ack"), (2, "error")] {
        globex.send(json!({ "type": "chat", "content": "for globex", "id": number })).await;
        let answer = globex.find(kind).await;
        assert_eq!(answer["id"], number, "{answer}");
    }
    by_host.send(json!({ "type": "subscribe", "room": "second" })).await;
    by_host.expect("subscribed").await;
    by_host.send(json!({ "type": "subscribe", "room": "third" })).await;
    assert_eq!(by_host.expect("error").await["error"], "quota_exceeded");
    for (target, status, code) in [
        ("/t/acme/ws?userId=v&username=V", 503, "quota_exceeded"),
        ("/t/nobody/ws?userId=v&username=V", 404, "tenant_not_found"),
        ("/t/a%2Fb/ws?userId=v&username=V", 404, "tenant_not_found"),
    ] {
        let refused = Connect::to(server.addr, target).open().await.unwrap_err();
        let body: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!((refused.status, &body["error"]), (status, &json!(code)), "{target}");
    }
}

#[tokio::test]
async fn server_without_tenants_has_no_paths_for_them() {
    let server = Settings::default().start().await;
    let refused = Connect::to(server.addr, "/t/acme/ws?username=U").open().await.unwrap_err();
    assert_eq!(refused.status, 404);
    connected("/ws?userId=u&username=U", server.addr).await;
}

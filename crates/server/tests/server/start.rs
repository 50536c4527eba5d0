//! Starting: where the server listens, and what it says when it cannot.

use std::net::TcpListener;

use outspoke_testkit::Process;

use crate::support::{PATIENCE, Server, Settings};

async fn fails(settings: Settings) -> (Option<i32>, String) {
    let (mut process, _folder) = settings.spawn();
    let status = process.ended(PATIENCE).await;
    (status.code(), process.log().join("\n"))
}

#[tokio::test]
async fn port_in_use_is_one_message_with_the_holder_and_the_cure_and_code_1() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = held.local_addr().unwrap();
    let (code, said) = fails(Settings::bare().set("server.addr", &addr.to_string())).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("error: address {addr} is already in use")), "{said}");
    if cfg!(target_os = "linux") {
        assert!(said.contains(&format!("by process {}", std::process::id())), "{said}");
    }
    assert!(said.contains("hint: ") && said.contains("--addr"), "{said}");
    assert!(!said.contains("panicked") && said.lines().count() <= 3, "{said}");
}

#[tokio::test]
async fn bad_configuration_file_is_code_78_with_file_line_and_column() {
    let settings = Settings::bare();
    std::fs::write(settings.folder().join("config.yaml"), "server:\n  adr: \":9000\"\n").unwrap();
    let (code, said) = fails(settings).await;
    assert_eq!(code, Some(78), "{said}");
    for words in ["config.yaml", "2:3", "adr", "addr"] {
        assert!(said.contains(words), "{said} does not say {words}");
    }
}

#[tokio::test]
async fn too_few_descriptors_are_code_1_and_say_how_to_get_more() {
    let (code, said) = fails(Settings::default().descriptors(100)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the limit of 100 file descriptors") && said.contains("ulimit -n"), "{said}");
}

/// PORT replaces the port and keeps the host, as hosting platforms expect.
#[tokio::test]
async fn port_variable_sets_the_port_alone() {
    let settings = Settings::bare().env("PORT", "0");
    std::fs::write(settings.folder().join("config.yaml"), "server:\n  addr: \"127.0.0.1:1\"\n").unwrap();
    let server = settings.start().await;
    assert!(server.addr.ip().is_loopback());
    server.serves().await;
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let settings = Settings::bare().env("PORT", &port.to_string());
    let (mut process, _folder) = settings.spawn();
    let text = format!(":{port}\"");
    process.wait_for(|line| (line.contains("ready") && line.contains(&text)).then_some(())).await;
}

/// The whole first minute: a folder with nothing in it, and no setting but the port.
#[tokio::test]
async fn empty_folder_and_no_settings_are_enough() {
    let server = Settings::bare().env("PORT", "0").start().await;
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], server.addr.port()));
    assert!(server.addr.ip().is_unspecified(), "{}", server.addr);
    let mut client =
        outspoke_testkit::TcpClient::connect(local, "/ws?userId=u&username=U", &[]).await.unwrap();
    client.expect("welcome").await;
    assert_eq!(client.expect("subscribed").await["room"], "lobby");
    // Both families on one port, where the machine has both.
    if TcpListener::bind("[::1]:0").is_ok() {
        let local = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, server.addr.port()));
        let mut client =
            outspoke_testkit::TcpClient::connect(local, "/ws?userId=v&username=V", &[]).await.unwrap();
        client.expect("welcome").await;
    }
}

#[tokio::test]
async fn healthcheck_asks_the_running_server() {
    let mut server = Server::start().await;
    let check = |addr: std::net::SocketAddr| async move {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(["healthcheck", "--url", &format!("http://{addr}/health")]).env_clear();
        Process::spawn(command).ended(PATIENCE).await.code()
    };
    assert_eq!(check(server.addr).await, Some(0));
    server.signal(outspoke_testkit::Signal::TERM);
    assert!(server.process().ended(PATIENCE).await.success());
    assert_eq!(check(server.addr).await, Some(1));
}

/// Whoever runs an open server must have been told.
#[tokio::test]
async fn ready_event_says_open_mode_the_folder_and_the_capacity() {
    let settings = Settings::default();
    let data = std::fs::canonicalize(settings.folder()).unwrap().join("data");
    let mut server = settings.start().await;
    let ready: serde_json::Value = server
        .process()
        .wait_for(|line| line.contains("ready").then(|| serde_json::from_str(line).unwrap()))
        .await;
    assert_eq!(ready["open_mode"], true, "{ready}");
    assert!(ready["message"].as_str().unwrap().contains("OPEN MODE"), "{ready}");
    assert_eq!(ready["data_dir"].as_str().map(std::path::PathBuf::from), Some(data));
    assert!(
        ready["connections_max"].as_u64().unwrap() > 0 && ready["shards"].as_u64().unwrap() > 0,
        "{ready}"
    );
}

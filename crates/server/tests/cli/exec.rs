//! `exec`, and `tail` behind it: every line once, in order, and the program's own exit code.

use std::path::Path;
use std::time::Duration;

use outspoke_testkit::Signal;
use serde_json::{Value, json};

use crate::support::{Cli, PATIENCE, Server, json_lines};

/// Rooms whose messages outlive the server, and as many messages as somebody likes.
pub(crate) const STORED: &[(&str, &str)] = &[
    ("rooms.classes", "[{pattern: '*', durability: stored, history_messages: 100000}]"),
    ("rate.enabled", "false"),
];

/// What there is of processes in a room.
async fn log(cli: &Cli, room: &str) -> Vec<Value> {
    let all = cli.json(&["history", room, "--after", "0", "--json"]).await;
    all.into_iter().filter(|message| message["type"].as_str().unwrap().starts_with("process_")).collect()
}

fn lines(log: &[Value]) -> Vec<&str> {
    log.iter().filter_map(|message| message["data"]["line"].as_str()).collect()
}

/// Waits until the program of a test has come so far.
pub(crate) async fn appears(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, there).await;
    assert!(in_time.is_ok(), "{} does not appear", path.display());
}

const TALK: &str = "echo one; echo two >&2; printf 'no end'; exit 3";

#[tokio::test]
async fn output_status_and_exit_code_arrive_with_a_key_and_without() {
    let server = Server::start(STORED).await;
    for (room, cli) in [("keyed", server.cli()), ("open", server.open_cli())] {
        let said = cli.run(&["exec", room, "--id", "p1", "--title", "a talk", "--", "sh", "-c", TALK]).await;
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (3, "one\nno end", "two\n"));
        let log = log(&server.cli(), room).await;
        assert_eq!(
            log[0]["data"],
            json!({ "processId": "p1", "status": "running", "exitCode": null, "signal": null, "title": "a talk" })
        );
        let mut said: Vec<_> =
            log[1..4].iter().map(|line| (&line["data"]["stream"], &line["data"]["line"])).collect();
        said.sort_by_key(|(_, line)| line.to_string());
        assert_eq!(
            said,
            [
                (&json!("stdout"), &json!("no end")),
                (&json!("stdout"), &json!("one")),
                (&json!("stderr"), &json!("two"))
            ]
        );
        assert_eq!(
            log[4]["data"],
            json!({ "processId": "p1", "status": "exited", "exitCode": 3, "signal": null, "seq": 4 })
        );
        assert_eq!((log.len(), &log[3]["data"]["seq"]), (5, &json!(3)));
        let followed = cli.run(&["tail", room, "--exit-code", "--event", "process_output"]).await;
        assert_eq!(followed.code, 3, "{followed:?}");
        assert_eq!(followed.out.lines().count(), 3, "{followed:?}");
        assert_eq!(
            cli.run(&["tail", room, "--exit-code", "--process", "p1", "--raw", "--event", "none"]).await.code,
            3
        );
    }
    let quiet = server.cli().run(&["exec", "keyed", "-q", "--", "sh", "-c", TALK]).await;
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (3, "", ""));
}

/// With the rates that a server has by default nothing is refused, so that nothing changes places.
#[tokio::test]
async fn lines_keep_their_order_within_the_rates_of_a_server() {
    let settings = [("rooms.classes", "[{pattern: '*', durability: memory, history_messages: 9999}]")];
    let server = Server::start(&settings).await;
    let many = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); done";
    server.open_cli().ok(&["exec", "many", "-q", "--", "sh", "-c", many]).await;
    let log = log(&server.cli(), "many").await;
    assert_eq!(lines(&log), (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn signals_are_passed_on_and_told() {
    let server = Server::start(STORED).await;
    for (room, cli) in [("keyed", server.cli()), ("open", server.open_cli())] {
        let mut exec = cli.start(&["exec", room, "--", "sh", "-c", "echo ready; sleep 600 & wait"]);
        exec.wait_for(|line| (line == "ready").then_some(())).await;
        exec.signal(Signal::TERM).unwrap();
        assert_eq!(exec.ended(PATIENCE).await.code(), Some(143));
        let log = log(&server.cli(), room).await;
        let end = &log.last().unwrap()["data"];
        assert_eq!(
            (&end["status"], &end["exitCode"], &end["signal"]),
            (&json!("signaled"), &json!(null), &json!("SIGTERM"))
        );
        assert_eq!(cli.run(&["tail", room, "--exit-code"]).await.code, 143);
        // A handler of the program's own.
        let trapping = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let mut exec = cli.start(&["exec", room, "--", "sh", "-c", trapping]);
        exec.wait_for(|line| (line == "ready").then_some(())).await;
        exec.signal(Signal::INT).unwrap();
        assert_eq!(exec.ended(PATIENCE).await.code(), Some(5));
        assert_eq!(exec.log(), ["ready", "caught"]);
    }
}

#[tokio::test]
async fn what_cannot_run_or_be_told_has_the_codes_of_shells_and_services() {
    let server = Server::start(STORED).await;
    let cli = server.cli();
    let said = cli.run(&["exec", "x", "--", "no-such-program-here"]).await;
    assert!(said.code == 127 && said.err.starts_with("error: cannot run no-such-program-here: "), "{said:?}");
    assert_eq!(log(&cli, "x").await[1]["data"]["status"], "failed");
    let folder = cli.home().to_str().unwrap().to_owned();
    assert_eq!(cli.run(&["exec", "x", "--", &folder]).await.code, 126);
    let nobody = "http://127.0.0.1:1";
    for cli in [server.cli(), server.open_cli()] {
        cli.fails(69, &["exec", "x", "--server", nobody, "--", "true"], "cannot reach").await;
        let said = cli
            .run(&[
                "exec",
                "x",
                "--server",
                nobody,
                "--best-effort",
                "--patience",
                "1s",
                "--",
                "sh",
                "-c",
                "echo ran; exit 4",
            ])
            .await;
        assert_eq!((said.code, said.out.as_str()), (4, "ran\n"), "{said:?}");
    }
    cli.fails(77, &["exec", "x", "--key", "guess", "--", "true"], "refuses this key").await;
    assert_eq!(cli.run(&["exec", "x"]).await.code, 2);
    assert_eq!(cli.run(&["exec", "x", "--id", "a b", "--", "true"]).await.code, 2);
    let closed = Server::start(&[("auth.jwt.secret", "0123456789abcdef0123456789abcdef")]).await;
    closed.open_cli().fails(77, &["exec", "x", "--", "true"], "401").await;
    closed.open_cli().fails(77, &["tail", "x"], "401").await;
}

#[tokio::test]
async fn colors_are_kept_if_wanted_and_nothing_else_passes() {
    let server = Server::start(STORED).await;
    let cli = server.cli();
    let hostile = r"printf '\033[31mred\033[0m\033]0;title\007\033[2J\001\n\377\376\n'; printf '%5000s' x; echo $CLICOLOR_FORCE";
    cli.ok(&["exec", "plain", "-q", "--", "sh", "-c", hostile]).await;
    cli.ok(&["exec", "color", "-q", "--color", "always", "--", "sh", "-c", hostile]).await;
    let plain = log(&cli, "plain").await;
    assert_eq!(lines(&plain)[..2], ["red\\u{1}", "\u{fffd}\u{fffd}"]);
    let pieces: Vec<_> = plain[3..5]
        .iter()
        .map(|piece| (piece["data"]["line"].as_str().unwrap().len(), &piece["data"]["partial"]))
        .collect();
    assert_eq!(pieces, [(4000, &json!(true)), (1000, &json!(null))]);
    let color = log(&cli, "color").await;
    assert_eq!(lines(&color)[0], "\u{1b}[31mred\u{1b}[0m\\u{1}");
    assert!(lines(&color).last().unwrap().ends_with("x1"), "the program is asked for colours");
    let shown = cli.ok(&["tail", "color", "--event", "process_output", "--count", "2"]).await;
    assert_eq!(shown, "red\\u{1}\n\u{fffd}\u{fffd}\n");
    let shown =
        cli.ok(&["tail", "color", "--event", "process_output", "--count", "1", "--color", "always"]).await;
    assert_eq!(shown, "\u{1b}[31mred\u{1b}[0m\\u{1}\n");
}

/// A package that the build in the middle of the restart compiles.
fn package(folder: &Path) {
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let manifest =
        "[package]\nname = \"built-on-the-way\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/main.rs"), "fn main() { let unused = 1; println!(\"built\"); }\n")
        .unwrap();
}

/// The server dies in the middle of a build, with lines on their way, and comes back: whoever follows sees every line once,
/// in order, and so does whoever looks later.
async fn build_through_a_restart(keyed: bool) {
    let server = Server::start(STORED).await;
    let cli = |server: &Server| if keyed { server.cli() } else { server.open_cli() };
    let (executing, following) = (cli(&server), cli(&server));
    package(executing.home());
    let script = r#"
        i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); [ $i = 1000 ] && touch half; done
        while [ ! -e go ]; do sleep 0.02; done
        "$CARGO" run --offline 2>&1
        while [ $i -lt 4000 ]; do echo "line $i"; i=$((i+1)); done
        exit 7"#;
    let mut tail = following.start(&["tail", "build", "--exit-code", "--json", "--last", "9999"]);
    let mut command = executing.command(&["exec", "build", "--rate", "0", "--", "sh", "-c", script]);
    command.env("CARGO", env!("CARGO")).env("CARGO_TARGET_DIR", "target");
    for name in ["PATH", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    if let Some(home) = std::env::var_os("HOME") {
        // Rust's own tools are found through it.
        command.env("HOME", home);
    }
    let mut exec = outspoke_testkit::Process::spawn(command);
    appears(&executing.home().join("half")).await;
    let (addr, folder) = server.killed().await;
    std::fs::write(executing.home().join("go"), "").unwrap();
    let server = Server::start_at(&addr, folder, STORED).await;
    assert_eq!(exec.ended(PATIENCE).await.code(), Some(7));
    assert_eq!(tail.ended(PATIENCE).await.code(), Some(7));
    let kept = log(&server.cli(), "build").await;
    let said = lines(&kept);
    let numbered: Vec<_> =
        said.iter().filter(|line| line.starts_with("line ")).map(|line| line.to_string()).collect();
    assert_eq!(numbered, (0..4000).map(|number| format!("line {number}")).collect::<Vec<_>>());
    assert!(said.iter().any(|line| line.contains("Compiling built-on-the-way")), "the build is in it");
    assert!(said.contains(&"built"), "the program that was built is in it");
    let numbers: Vec<_> = kept[1..].iter().map(|message| message["data"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(kept.last().unwrap()["data"]["exitCode"], 7);
    // What the follower printed are the same messages.
    let seen: String =
        tail.log().iter().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    let seen = json_lines(&seen);
    let seen: Vec<_> =
        seen.iter().filter(|message| message["type"].as_str().unwrap().starts_with("process_")).collect();
    assert_eq!(
        seen.iter().map(|message| &message["offset"]).collect::<Vec<_>>(),
        kept.iter().map(|message| &message["offset"]).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn build_is_followed_through_a_restart_over_a_connection() {
    build_through_a_restart(false).await;
}

#[tokio::test]
async fn build_is_followed_through_a_restart_over_the_api() {
    build_through_a_restart(true).await;
}

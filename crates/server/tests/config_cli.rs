//! The binary as its users meet it: output, exit codes, and which file it picks up.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

/// The binary in an empty folder with an empty environment.
fn outspoke(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null());
    // Where a binary measured for coverage counts.
    command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    command
}

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    told(outspoke(folder, args).output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn config_in_the_working_directory_is_used_and_can_be_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let none = "ok: no file: 0 settings from the file, 0 from the environment, 0 from flags";
    assert!(run(folder.path(), &["config", "check"]).1.starts_with(none));

    fs::write(folder.path().join("config.yaml"), "server:\n  shards: 2\n").unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["config", "check", "--set", "log.level=debug"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.starts_with("ok: config.yaml: 1 settings from the file, 0 from the environment, 1 from flags")
    );
    assert!(run(folder.path(), &["config", "check", "--no-config"]).1.starts_with(none));

    fs::write(folder.path().join("config.yaml"), "somebody: else's\n").unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["config", "check"]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert_eq!(
        stderr,
        "\
error: config.yaml:1:1: unknown key somebody
  hint: `outspoke config default` prints every key
note: config.yaml was read because it is in the working directory; --no-config ignores it
1 problem in the configuration
"
    );

    fs::write(folder.path().join("config.yaml"), "server: {}\n").unwrap();
    let (_, _, stderr) = run(folder.path(), &["config", "check", "--set", "a.b=c"]);
    assert!(!stderr.contains("note:"), "the file is not to blame: {stderr}");
}

#[test]
fn bad_configuration_ends_every_verb_that_needs_it_with_78() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--config", "x"][..], &["serve", "--config", "x"], &["config", "show", "--config", "x"]] {
        let (code, stdout, stderr) = run(folder.path(), args);
        assert_eq!((code, stdout.as_str()), (78, ""), "{args:?}");
        assert!(
            stderr.starts_with("error: x: does not exist\n  hint: correct --config, or create"),
            "{stderr}"
        );
    }
    let mut command = outspoke(folder.path(), &["serve"]);
    let (code, _, stderr) = told(command.env("OUTSPOKE_CONFIG", "y").output().unwrap());
    assert_eq!(code, 78);
    assert!(
        stderr.starts_with("error: y: does not exist\n  hint: correct OUTSPOKE_CONFIG, or create"),
        "{stderr}"
    );
}

#[test]
fn config_default_begins_a_file_that_checks_and_shows_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (code, default, _) = run(folder.path(), &["config", "default"]);
    assert_eq!(code, 0);
    fs::write(folder.path().join("config.yaml"), default).unwrap();
    let (code, verdict, _) = run(folder.path(), &["config", "check"]);
    assert_eq!(code, 0);
    assert!(verdict.ends_with(" 0 defaults\n"), "{verdict}");
}

#[test]
fn config_check_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = outspoke(folder.path(), &["config", "check", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"server:\n  adr: x\n").unwrap();
    let (code, _, stderr) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 78);
    assert!(
        stderr.starts_with("error: <stdin>:2:3: unknown key server.adr\n  hint: did you mean server.addr?\n")
    );
}

/// What works is used, and what it leads to is said.
#[test]
fn config_check_warns_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), "limits:\n  room_members_max: 5\n").unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["config", "check"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("ok: config.yaml: 1 settings from the file"), "{stdout}");
    assert_eq!(
        stderr,
        "warning: config.yaml:2:3: limits.room_members_max is now called rooms.members_max\n  \
         hint: rename it; the old name works for now\n"
    );
}

#[test]
fn config_show_names_the_source_of_each_value() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), "server:\n  addr: \"127.0.0.1:1\"\n  shards: 2\n").unwrap();
    let mut command = outspoke(folder.path(), &["config", "show", "--set", "server.shards=3"]);
    let (code, stdout, _) = told(command.env("PORT", "9").output().unwrap());
    assert_eq!(code, 0);
    let line = |key: &str| {
        let line = stdout.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("addr:"), r#"addr: "127.0.0.1:9" # env PORT (over config.yaml:2:9, default :8080)"#);
    assert_eq!(line("shards:"), "shards: 3 # flag --set (over config.yaml:3:11, default 0)");
    assert_eq!(line("page:"), "page: true # default");

    let (_, json, _) = run(folder.path(), &["config", "show", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["file"], "config.yaml");
}

/// `outspoke config show | head -1`: the reader leaves early, and nobody is bothered.
#[test]
fn closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = outspoke(folder.path(), &["config", "default"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (code, _, stderr) = told(command.stdout(writer).stderr(Stdio::piped()).output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn wrong_use_ends_with_2_and_help_names_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["frobnicate"]).0, 2);
    assert_eq!(run(folder.path(), &["--set", "novalue"]).0, 2);
    let (code, help, _) = run(folder.path(), &["--help"]);
    assert_eq!(code, 0);
    for text in [
        "serve",
        "config",
        "store",
        "healthcheck",
        "bench",
        "version",
        "  78  the configuration, or a context, is wrong",
    ] {
        assert!(help.contains(text), "{text}: {help}");
    }
    assert_eq!(run(folder.path(), &["version"]).1, format!("outspoke {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn healthcheck_ends_with_0_or_1() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answers = ["200 OK", "503 Service Unavailable"];
    let server = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    let check = |args: &[&str]| told(outspoke(folder.path(), args).env("PORT", &port).output().unwrap());

    let (code, stdout, _) = check(&["healthcheck", "--timeout", "30s"]);
    assert_eq!((code, stdout), (0, format!("ok: http://localhost:{port}/health\n")));
    let url = format!("http://127.0.0.1:{port}/readyz");
    let (code, _, stderr) = check(&["healthcheck", "--timeout", "30s", "--url", &url]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with(&format!("error: {url} answers with status 503\n  hint: ")), "{stderr}");
    server.join().unwrap();

    // Bound but not listening: the port is ours for the time of the test and refuses everybody.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap().as_socket().unwrap());
    let (code, _, stderr) = check(&["healthcheck", "--url", &url]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with(&format!("error: cannot reach {}: ", &url["http://".len()..])), "{stderr}");
    let (code, _, stderr) = check(&["healthcheck", "--config", "missing"]);
    assert_eq!(code, 1, "a health check answers 0 or 1");
    assert!(
        stderr.starts_with("error: cannot tell where the server listens\nerror: missing: does not exist")
    );
    assert!(
        stderr.ends_with("hint: correct the settings, or name the server's address with --url\n"),
        "{stderr}"
    );
}

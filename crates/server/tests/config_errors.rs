//! The exact words of every complaint: each says where, what, and what to write instead.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use outspoke::config::{ConfigError, FileChoice, FlagValue, Sources, load};

fn error(sources: &Sources) -> ConfigError {
    load(sources).expect_err("the configuration must be refused")
}

/// Problems of a file's text, the file called `chat.yaml`.
fn complaint(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("chat.yaml"), text).unwrap();
    complaint_of(&folder.path().join("chat.yaml"))
}

fn complaint_of(path: &Path) -> String {
    let sources = Sources { file: FileChoice::Named(path.to_owned()), ..Sources::default() };
    let folder = format!("{}/", path.parent().unwrap().display());
    error(&sources).to_string().replace(&folder, "")
}

fn complaint_of_env(name: &str, value: &str) -> String {
    let env = vec![(OsString::from(name), OsString::from(value))];
    error(&Sources { file: FileChoice::None, env, flags: Vec::new() }).to_string()
}

fn complaint_of_set(key: &str, value: &str) -> String {
    let flags = vec![FlagValue { flag: "--set".into(), key: key.into(), value: value.into() }];
    error(&Sources { file: FileChoice::None, env: Vec::new(), flags }).to_string()
}

#[test]
fn all_problems_of_a_file_are_reported_together_in_order() {
    let text = "\
server:
  addr: 8080
  wirte_timeout: 3m
  read_timeout: 30
  write_timeout: 3 parsecs
  header_timeout:
  shards: [1, 2]
  backlog: {a: 1}
  addr: \":1\"
servr:
  addr: x
log: info
port: 80
server.page: false
compression:
  enabled: yes
  level: 10
  min_bytes: 8kB
rooms:
  slow_client: drop
  default: ~
limits:
  rooms_max: -1
  content_chars_max: 0
  nonsense: 1
data:
  dir: ''
";
    assert_eq!(
        complaint(text),
        "\
error: chat.yaml:2:9: server.addr: \"8080\" has no port
  hint: write \":8080\" for this port on all interfaces
error: chat.yaml:3:3: unknown key server.wirte_timeout
  hint: did you mean server.write_timeout?
error: chat.yaml:4:17: server.read_timeout: \"30\" has no unit
  hint: write 30s for seconds or 30ms
error: chat.yaml:5:18: server.write_timeout: \"3 parsecs\" is not a duration
  hint: write a duration such as 54s, 1m30s, 500ms or 2h, from 100ms to 1d (0: for ever; only limits.outbox_bytes_max ends such a client)
error: chat.yaml:6:17: server.header_timeout has no value
  hint: write a value after the colon, or delete the line to get the default
error: chat.yaml:7:11: server.shards is a list, but takes one value
  hint: write a whole number such as 128 or 1_000_000, from 1 to 64 (0: one per core)
error: chat.yaml:8:12: server.backlog is a block, but takes one value
  hint: write a whole number such as 128 or 1_000_000, from 1 to 65535
error: chat.yaml:9:3: server.addr is set twice, first on line 2
  hint: keep one of the two; YAML does not say which would count
error: chat.yaml:10:1: unknown key servr
  hint: did you mean the section server?
error: chat.yaml:12:6: log is a section, not a value
  hint: put its keys on indented lines below log:
error: chat.yaml:13:1: unknown key port
  hint: did you mean server.addr?
error: chat.yaml:14:1: unknown key server.page
  hint: a dot does not nest in YAML; write page on an indented line below server:
error: chat.yaml:16:12: compression.enabled: \"yes\" is neither true nor false
  hint: write true or false
error: chat.yaml:17:10: compression.level: \"10\" is above the maximum of 9
  hint: write a whole number such as 128 or 1_000_000, from 1 to 9
error: chat.yaml:18:14: compression.min_bytes: \"8kB\" has an ambiguous unit
  hint: write 8KiB (units of 1024)
error: chat.yaml:20:16: rooms.slow_client: \"drop\" is not a policy
  hint: write disconnect, drop_oldest, drop_newest, conflate or resync
error: chat.yaml:21:12: rooms.default has no value
  hint: write \"\" if you mean the empty text
error: chat.yaml:23:14: limits.rooms_max: \"-1\" is not a whole number
  hint: write a whole number such as 128 or 1_000_000, from 1 to 100_000_000
error: chat.yaml:24:22: limits.content_chars_max: \"0\" is below the minimum of 1
  hint: write a whole number such as 128 or 1_000_000, from 1 to 10_000_000
error: chat.yaml:25:3: unknown key limits.nonsense
  hint: `outspoke config default` prints every key
error: chat.yaml:27:8: data.dir: \"\" is empty
  hint: write a path such as ./data or /var/lib/outspoke
21 problems in the configuration"
    );
}

#[test]
fn cluster_needs_a_store_that_all_servers_share_and_the_address_of_its_bus() {
    assert_eq!(
        complaint("cluster:\n  enabled: true\n"),
        "\
error: chat.yaml:2:12: cluster.enabled is true, but store.backend is embedded, which one server has for itself
  hint: set it to postgresql or redis, which all servers of a cluster share, or set cluster.enabled to false
1 problem in the configuration"
    );
    let shared = "store:\n  backend: redis\n  redis:\n    url: redis://cache\n";
    assert_eq!(
        complaint(&format!("{shared}cluster:\n  enabled: true\n  bus: nats\n")),
        "\
error: chat.yaml:7:8: cluster.bus is nats, but cluster.nats.url is empty
  hint: write the address of the server: nats://user:password@host:4222
1 problem in the configuration"
    );
}

#[test]
fn settings_that_do_not_fit_together_are_all_named() {
    let text = "\
heartbeat:
  ping_interval: 60s
server:
  read_timeout: 30s
limits:
  message_bytes_max: 2MiB
  room_name_bytes_max: 3
";
    assert_eq!(
        complaint(text),
        "\
error: chat.yaml:2:18: heartbeat.pong_timeout (60s, default) must be longer than heartbeat.ping_interval (60s, chat.yaml:2:18)
  hint: otherwise clients are closed before they can answer the ping
error: chat.yaml:4:17: server.read_timeout (30s, chat.yaml:4:17) must be longer than heartbeat.ping_interval (60s, chat.yaml:2:18)
  hint: otherwise quiet clients are closed before they are pinged
error: chat.yaml:6:22: limits.outbox_bytes_max (1MiB, default) must be at least limits.message_bytes_max (2MiB, chat.yaml:6:22)
  hint: otherwise a message of the permitted size fits in no queue
error: chat.yaml:7:24: rooms.default is longer than limits.room_name_bytes_max (3, chat.yaml:7:24)
  hint: choose a shorter name or raise the limit
4 problems in the configuration"
    );
}

#[test]
fn rules_are_silent_about_settings_that_are_themselves_wrong() {
    let text = complaint("heartbeat:\n  ping_interval: 70s\n  pong_timeout: soon\n");
    assert!(text.ends_with("1 problem in the configuration"), "{text}");
}

#[test]
fn heartbeat_rules_do_not_bind_what_is_switched_off() {
    let no_pings = "heartbeat:\n  ping_interval: 0\n  pong_timeout: 1s\nserver:\n  read_timeout: 5s\n";
    let no_timeouts = "heartbeat:\n  ping_interval: 1m\n  pong_timeout: 0\nserver:\n  read_timeout: 0\n";
    for text in [no_pings, no_timeouts] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.yaml");
        fs::write(&path, text).unwrap();
        assert!(load(&Sources { file: FileChoice::Named(path), ..Sources::default() }).is_ok(), "{text}");
    }
}

#[test]
fn unknown_variables_are_errors_with_the_nearest_name() {
    let cases = [
        ("OUTSPOKE_SERVER_ADDR", "did you mean OUTSPOKE_SERVER__ADDR?"),
        ("OUTSPOKE_SERVER__ADRR", "did you mean OUTSPOKE_SERVER__ADDR?"),
        ("OUTSPOKE_server__addr", "did you mean OUTSPOKE_SERVER__ADDR?"),
        ("OUTSPOKE_CLUSTER_ETCD_DIAL_TIMEOUT", "did you mean OUTSPOKE_CLUSTER__ETCD__DIAL_TIMEOUT?"),
        ("OUTSPOKE_LOGLEVEL", "did you mean OUTSPOKE_LOG__LEVEL?"),
        ("OUTSPOKE_TELEPATHY", "unset it, or name section and key: OUTSPOKE_SERVER__ADDR"),
    ];
    for (name, hint) in cases {
        assert_eq!(
            complaint_of_env(name, "x"),
            format!(
                "error: env {name}: no setting has this variable\n  hint: {hint}\n1 problem in the configuration"
            )
        );
    }
}

#[test]
fn bad_values_in_variables_and_flags_name_them() {
    assert_eq!(
        complaint_of_env("OUTSPOKE_SERVER__SHARDS", "many"),
        "\
error: env OUTSPOKE_SERVER__SHARDS: server.shards: \"many\" is not a whole number
  hint: write a whole number such as 128 or 1_000_000, from 1 to 64 (0: one per core)
1 problem in the configuration"
    );
    assert_eq!(
        complaint_of_env("PORT", "http"),
        "\
error: env PORT: server.addr: \"http\" is not a port
  hint: write a number from 0 to 65535, such as 8080
1 problem in the configuration"
    );
    assert_eq!(
        complaint_of_set("log.format", "JSON"),
        "\
error: flag --set: log.format: \"JSON\" is not a log format
  hint: write auto, human or json
1 problem in the configuration"
    );
    assert_eq!(
        complaint_of_set("log.fromat", "json"),
        "\
error: flag --set: unknown key log.fromat
  hint: did you mean log.format?
1 problem in the configuration"
    );
    assert_eq!(
        complaint_of_set("cluster", "true"),
        "\
error: flag --set: cluster is a section, not a value
  hint: name a setting in it, as cluster.enabled does
1 problem in the configuration"
    );
}

#[cfg(unix)]
#[test]
fn variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let env = vec![("OUTSPOKE_LOG__LEVEL".into(), OsString::from_vec(vec![0xff]))];
    assert_eq!(
        error(&Sources { file: FileChoice::None, env, flags: Vec::new() }).to_string(),
        "\
error: env OUTSPOKE_LOG__LEVEL: log.level is not valid UTF-8
  hint: set the variable again; its bytes are damaged
1 problem in the configuration"
    );
}

#[test]
fn passwords_do_not_reach_the_complaint() {
    for endpoints in
        ["root:s3cret@etcd:2379", "http://a:1,ftp://root:s3cret@etcd:2379", "http://root:s3cret@ etcd"]
    {
        let text = complaint_of_env("OUTSPOKE_CLUSTER__ETCD__ENDPOINTS", endpoints);
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("which is not an http:// or https:// address"), "{text}");
    }
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| fs::write(path(name), bytes).unwrap();

    assert_eq!(
        complaint_of(&path("missing.yaml")),
        "\
error: missing.yaml: does not exist
  hint: correct --config, or create the file: outspoke config default > config.yaml
1 problem in the configuration"
    );
    fs::create_dir(path("folder")).unwrap();
    assert_eq!(
        complaint_of(&path("folder")),
        "\
error: folder: is a folder, not a file
  hint: name the file itself; a container mount of a file that does not exist makes a folder
1 problem in the configuration"
    );
    write("huge.yaml", &vec![b'#'; 1024 * 1024 + 1]);
    assert_eq!(
        complaint_of(&path("huge.yaml")),
        "\
error: huge.yaml: is larger than 1024 KiB
  hint: this does not look like a configuration; name the right file with --config
1 problem in the configuration"
    );
    write("binary.yaml", b"a: \xff");
    assert_eq!(
        complaint_of(&path("binary.yaml")),
        "\
error: binary.yaml: is not UTF-8 text (byte 3)
  hint: this does not look like a configuration; name the right file with --config
1 problem in the configuration"
    );
}

#[test]
fn endless_file_is_read_up_to_the_limit_only() {
    if Path::new("/dev/zero").exists() {
        assert!(complaint_of(Path::new("/dev/zero")).contains("is larger than 1024 KiB"));
    }
}

#[test]
fn text_that_is_no_mapping_names_line_and_column() {
    let cases = [
        ("server: [1\n", "1:9: not valid YAML: unclosed bracket '['"),
        (
            "server:\n\taddr: x\n",
            "2:2: not valid YAML: tabs disallowed within this context (block indentation)",
        ),
        (
            "server:\n  addr: x\n   page: true\n",
            "3:8: not valid YAML: mapping values are not allowed in this context",
        ),
        ("just text\n", "1:1: not a YAML mapping"),
        ("- a\n- b\n", "1:1: not a YAML mapping"),
        ("server:\n  addr: !secret x\n", "2:17: a YAML tag (!...)"),
        ("server: &s {}\nlog: *s\n", "2:6: an alias that repeats a whole block"),
        ("server: {}\n---\nlog: {}\n", "2:1: a second document starts here"),
        ("? [a]\n: b\n", "1:3: a key that is not a word"),
    ];
    for (text, wanted) in cases {
        let text = complaint(text);
        assert!(text.starts_with(&format!("error: chat.yaml:{wanted}\n  hint: ")), "{wanted}: {text}");
    }
}

/// Small files that grow without bound in careless readers: refused, quickly, in a few lines.
#[test]
fn hostile_yaml_is_refused_within_bounds() {
    let mut laughs = String::from("a0: &a0 [lol]\n");
    for i in 1..30 {
        writeln!(laughs, "a{i}: &a{i} [{}]", vec![format!("*a{}", i - 1); 10].join(",")).unwrap();
    }
    let deep_flow = "[".repeat(200_000);
    let deep_block = (0..500).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n");
    let many_keys = (0..40_000).fold(String::new(), |text, i| text + &format!("k{i}: 1\n"));
    let long_key = format!("{}: 1\n", "k".repeat(900));
    let many_mistakes = (0..9_000).fold(String::new(), |text, i| text + &format!("k{i}: 1\n"));
    assert!(complaint(&many_mistakes).ends_with("... and 8950 more\n9000 problems in the configuration"));
    let merge = "base: &b {addr: x}\nserver:\n  <<: *b\n".to_owned();
    for text in [laughs, deep_flow, deep_block, many_keys, long_key, merge] {
        let complaint = complaint(&text);
        assert!(complaint.len() < 1000, "{} bytes: {}", complaint.len(), &complaint[..300]);
    }
}

/// Names from a file end up on a terminal.
#[test]
fn control_characters_in_keys_and_values_are_escaped() {
    let text = complaint("\"a\\e[2Jb\": 1\nserver:\n  shards: \"\\e[31m\\n1\"\n");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.contains(r"unknown key a\u{1b}[2Jb"), "{text}");
    assert!(text.contains(r#"server.shards: "\u{1b}[31m\n1" is not a whole number"#), "{text}");
}

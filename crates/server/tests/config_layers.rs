//! The four layers: each wins over the one below, and every value says where it came from.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use outspoke::config::{
    Config, FileChoice, FlagValue, Loaded, Source, Sources, load, reference, show, variable_name,
};

/// The file of the gohub design, letter for letter.
const GOHUB: &str = r#"server:
  addr: ":8080"
  read_timeout: 3m
  write_timeout: 3m
cluster:
  enabled: false
  etcd:
    endpoints: ["http://etcd:2379"]
    dial_timeout: 5s
    key_prefix: "/gohub"
"#;

/// A file in a folder of its own, and the layers above it.
struct Setup {
    _folder: tempfile::TempDir,
    path: PathBuf,
    sources: Sources,
}

impl Setup {
    fn file(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.yaml");
        fs::write(&path, text).unwrap();
        let sources = Sources { file: FileChoice::Named(path.clone()), ..Sources::default() };
        Self { _folder: folder, path, sources }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((OsString::from(name), OsString::from(value)));
        self
    }

    fn flag(mut self, flag: &str, key: &str, value: &str) -> Self {
        self.sources.flags.push(FlagValue { flag: flag.into(), key: key.into(), value: value.into() });
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|error| panic!("{error}"))
    }

    fn place(&self, line: usize, column: usize) -> Source {
        Source::File { file: self.path.to_str().unwrap().into(), line, column }
    }
}

fn over(loaded: &Loaded, path: &str) -> Vec<String> {
    let setting = loaded.settings.iter().find(|setting| setting.key.path == path).unwrap();
    setting.over.iter().map(ToString::to_string).collect()
}

#[test]
fn gohub_file_loads_unchanged_and_means_the_defaults() {
    let setup = Setup::file(GOHUB);
    let loaded = setup.load();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.source("server.read_timeout"), setup.place(3, 17));
    assert_eq!(loaded.source("cluster.etcd.endpoints"), setup.place(8, 16));
    assert_eq!(loaded.source("server.shards"), Source::Default);
}

/// The defaults that the requirements name, as the program sees them.
#[test]
fn defaults_are_the_documented_values() {
    let config = Config::default();
    assert_eq!(config.server.addr.to_string(), ":8080");
    assert_eq!(config.server.read_timeout, Duration::from_secs(180));
    assert_eq!(config.server.write_timeout, Duration::from_secs(180));
    assert_eq!(config.server.header_timeout, Duration::from_secs(10));
    assert_eq!((config.server.header_bytes_max, config.server.headers_max), (16 * 1024, 100));
    assert_eq!(config.server.tcp_send_buffer, 64 * 1024);
    assert!(config.server.page && config.server.tcp_nodelay && !config.server.conformance_echo);
    assert_eq!(config.heartbeat.ping_interval, Duration::from_secs(54));
    assert_eq!(config.heartbeat.pong_timeout, Duration::from_secs(60));
    assert_eq!(config.limits.message_bytes_max, 8 * 1024);
    assert_eq!((config.limits.content_chars_max, config.limits.username_chars_max), (1000, 50));
    assert_eq!((config.limits.outbox_bytes_max, config.limits.inbox_bytes_max), (1 << 20, 64 << 20));
    assert_eq!(config.rooms.default, "lobby");
    assert!(!config.cluster.enabled);
    assert_eq!(config.cluster.etcd.endpoints, ["http://etcd:2379"]);
    assert_eq!(config.cluster.etcd.key_prefix, "/gohub");
}

#[test]
fn each_layer_wins_over_the_one_below_and_remembers_it() {
    let setup = Setup::file("limits:\n  rooms_max: 10\n");
    assert_eq!(setup.load().config.limits.rooms_max, 10);
    assert_eq!(setup.load().source("limits.rooms_max"), setup.place(2, 14));

    let setup = setup.env("OUTSPOKE_LIMITS__ROOMS_MAX", "20");
    assert_eq!(setup.load().config.limits.rooms_max, 20);
    assert_eq!(setup.load().source("limits.rooms_max").to_string(), "env OUTSPOKE_LIMITS__ROOMS_MAX");

    let setup = setup.flag("--set", "limits.rooms_max", "30").flag("--set", "limits.rooms_max", "40");
    let loaded = setup.load();
    assert_eq!(loaded.config.limits.rooms_max, 40, "the last of several flags wins");
    assert_eq!(loaded.source("limits.rooms_max").to_string(), "flag --set");
    let file = setup.place(2, 14).to_string();
    assert_eq!(over(&loaded, "limits.rooms_max"), ["flag --set", "env OUTSPOKE_LIMITS__ROOMS_MAX", &file]);
}

#[test]
fn port_replaces_the_port_and_keeps_the_host() {
    let addr = |setup: Setup| setup.load().config.server.addr.to_string();
    let local = || Setup::file("server:\n  addr: \"127.0.0.1:8080\"\n").env("PORT", "9000");
    assert_eq!(addr(local()), "127.0.0.1:9000");
    assert_eq!(local().load().source("server.addr"), Source::Env("PORT".into()));
    assert_eq!(addr(Setup::file("").env("PORT", "9000")), ":9000");
    assert_eq!(addr(Setup::file("").env("PORT", "")), ":8080", "an empty PORT counts as not set");
    assert_eq!(
        addr(local().env("OUTSPOKE_SERVER__ADDR", "[::1]:7000")),
        "[::1]:7000",
        "our own variable is explicit"
    );
    assert_eq!(addr(local().flag("--addr", "server.addr", ":1")), ":1");
}

#[test]
fn environment_sets_every_kind_of_value() {
    let config = Setup::file("")
        .env("OUTSPOKE_CLUSTER__ETCD__ENDPOINTS", "http://a:1, https://b:2")
        .env("OUTSPOKE_ROOMS__DEFAULT", "")
        .env("OUTSPOKE_ROOMS__SLOW_CLIENT", "conflate")
        .env("OUTSPOKE_SERVER__PAGE", "false")
        .env("OUTSPOKE_HEARTBEAT__PING_INTERVAL", "1500ms")
        .env("OUTSPOKE_LIMITS__OUTBOX_BYTES_MAX", "2MiB")
        .load()
        .config;
    assert_eq!(config.cluster.etcd.endpoints, ["http://a:1", "https://b:2"]);
    assert_eq!(config.rooms.default, "");
    assert_eq!(config.rooms.slow_client, outspoke::config::SlowClient::Conflate);
    assert!(!config.server.page);
    assert_eq!(config.heartbeat.ping_interval, Duration::from_millis(1500));
    assert_eq!(config.limits.outbox_bytes_max, 2 << 20);
}

/// A pod next to a Service named `outspoke` is full of `OUTSPOKE_` variables that nobody wrote.
#[test]
fn kubernetes_service_links_do_not_stop_the_start() {
    let setup = Setup::file("")
        .env("OUTSPOKE_SERVICE_HOST", "10.0.0.1")
        .env("OUTSPOKE_SERVICE_PORT_HTTP", "8080")
        .env("OUTSPOKE_PORT", "tcp://10.0.0.1:8080")
        .env("OUTSPOKE_PORT_8080_TCP_ADDR", "10.0.0.1");
    assert_eq!(setup.load().config, Config::default());
}

#[test]
fn file_variable_names_the_file_and_a_flag_wins_over_it() {
    let named = Setup::file("server:\n  shards: 3\n");
    let path = named.path.to_str().unwrap().to_owned();
    let mut setup = Setup::file("server:\n  shards: 5\n").env("OUTSPOKE_CONFIG", &path);
    assert_eq!(setup.load().config.server.shards, 5, "--config");
    setup.sources.file = FileChoice::Search;
    assert_eq!(setup.load().config.server.shards, 3, "OUTSPOKE_CONFIG");
    assert_eq!(setup.load().file.as_deref(), Some(path.as_str()));
    setup.sources.file = FileChoice::None;
    assert_eq!(setup.load().config.server.shards, 0, "--no-config");
}

#[test]
fn empty_file_and_empty_sections_mean_the_defaults() {
    for text in
        ["", "# nothing\n", "server:\nlimits: {}\ncluster:\n  etcd:\n", "---\nserver:\n  # addr: x\n...\n"]
    {
        assert_eq!(Setup::file(text).load().config, Config::default(), "{text:?}");
    }
}

#[test]
fn windows_line_endings_byte_order_mark_and_json_are_fine() {
    let crlf = format!("\u{feff}{}", GOHUB.replace('\n', "\r\n"));
    assert_eq!(Setup::file(&crlf).load().config, Config::default());
    let json = r#"{"server": {"addr": "127.0.0.1:1", "shards": 2, "page": false}}"#;
    let config = Setup::file(json).load().config;
    assert_eq!((config.server.addr.port(), config.server.shards, config.server.page), (1, 2, false));
}

/// What `config show` prints can be saved and used.
#[test]
fn shown_settings_are_a_file_that_gives_the_same_settings() {
    let changed = Setup::file(GOHUB)
        .env("OUTSPOKE_ROOMS__DEFAULT", "a \"quoted\": #room, é")
        .env("OUTSPOKE_CLUSTER__ETCD__ENDPOINTS", "http://a:1,http://b:2")
        .flag("--set", "server.read_timeout", "1h")
        .load();
    let again = Setup::file(&show::yaml(&changed)).load();
    assert_eq!(again.config, changed.config);
    let values =
        |loaded: &Loaded| loaded.settings.iter().map(|setting| setting.items.clone()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&changed));
}

#[test]
fn shown_json_has_typed_values_and_sources() {
    let loaded = Setup::file("server:\n  shards: 1_0\n").env("PORT", "1").load();
    let json: serde_json::Value = serde_json::from_str(&show::json(&loaded)).unwrap();
    let row = |key: &str| {
        json["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!(row("server.shards")["value"], 10);
    assert_eq!(row("server.shards")["source"]["line"], 2);
    assert_eq!(row("server.shards")["source"]["column"], 11);
    assert_eq!(row("server.addr")["source"], serde_json::json!({"layer": "env", "name": "PORT"}));
    assert_eq!(row("server.page")["value"], true);
    assert_eq!(row("cluster.etcd.endpoints")["value"], serde_json::json!(["http://etcd:2379"]));
    assert_eq!(row("limits.rooms_max")["default"], 1_000_000);
}

#[test]
fn shown_settings_never_contain_a_password() {
    let loaded =
        Setup::file("").env("OUTSPOKE_CLUSTER__ETCD__ENDPOINTS", "http://root:s3cret@etcd:2379").load();
    assert_eq!(loaded.config.cluster.etcd.endpoints, ["http://root:s3cret@etcd:2379"]);
    for text in [show::yaml(&loaded), show::json(&loaded), format!("{:?}", loaded.settings)] {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("http://***@etcd:2379"), "{text}");
    }
}

/// Every setting can be set by its variable: none is shadowed, misspelt or ambiguous.
#[test]
fn every_key_has_a_variable_of_its_own() {
    let defaults = Setup::file(&reference::config_yaml()).load();
    for setting in &defaults.settings {
        let text = setting.items.join(",");
        let loaded = Setup::file("").env(&variable_name(setting.key.path), &text).load();
        assert_eq!(loaded.config, Config::default(), "{}", setting.key.path);
        assert_eq!(loaded.source(setting.key.path), Source::Env(variable_name(setting.key.path)));
    }
}

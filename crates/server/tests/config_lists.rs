//! Lists of blocks: read, merged, shown and refused with the same care as single values.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use outspoke::config::{
    Backend, Config, Durability, FileChoice, FlagValue, Loaded, Publishers, SlowClient, Source, Sources,
    load, sections, show,
};

/// Layers under construction: a file, variables, flags.
#[derive(Default)]
struct Layers {
    folder: Option<tempfile::TempDir>,
    sources: Sources,
}

impl Layers {
    fn none() -> Self {
        Self { sources: Sources { file: FileChoice::None, ..Sources::default() }, folder: None }
    }

    fn file(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.yaml");
        fs::write(&path, text).unwrap();
        Self {
            sources: Sources { file: FileChoice::Named(path), ..Sources::default() },
            folder: Some(folder),
        }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((OsString::from(name), OsString::from(value)));
        self
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        self.sources.flags.push(FlagValue { flag: "--set".into(), key: key.into(), value: value.into() });
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Text about the configuration without the temporary folder in it.
    fn plain(&self, text: &str) -> String {
        let folder = self.folder.as_ref().map(|folder| format!("{}/", folder.path().display()));
        folder.map_or_else(|| text.to_owned(), |folder| text.replace(&folder, ""))
    }

    fn complaint(&self) -> String {
        self.plain(&load(&self.sources).expect_err("the configuration must be refused").to_string())
    }

    fn warnings(&self) -> Vec<String> {
        self.load().warnings.iter().map(|warning| self.plain(&warning.to_string())).collect()
    }

    fn yaml(&self) -> String {
        self.plain(&show::yaml(&self.load()))
    }
}

#[test]
fn shipped_classes_keep_the_lobby_for_a_week_and_other_rooms_for_minutes() {
    let rooms = Config::default().rooms;
    assert_eq!((rooms.durability, rooms.history_messages), (Durability::Memory, 100));
    assert_eq!((rooms.history_age, rooms.leave_grace), (Duration::from_secs(600), Duration::from_secs(5)));
    let [lobby] = &rooms.classes[..] else { panic!("{:?}", rooms.classes) };
    assert_eq!((lobby.pattern.as_str(), lobby.durability), ("lobby", Durability::Stored));
    assert_eq!((lobby.history_messages, lobby.history_age), (1000, Duration::from_secs(7 * 24 * 3600)));
    let direct = rooms.direct;
    assert_eq!((direct.durability, direct.history_messages), (Durability::Stored, 10_000));
    assert_eq!(direct.history_age, Duration::from_secs(365 * 24 * 3600));
}

#[test]
fn entry_takes_what_it_does_not_say_from_the_section() {
    let layers = Layers::file(
        "\
rooms:
  history_messages: 7
  slow_client: resync
  classes:
    - pattern: \"ticker:*\"
      durability: none
      slow_client: conflate
    - pattern: \"news:*\"
      publishers: server
      leave_grace: 0
",
    )
    .set("rooms.history_age", "1h");
    let rooms = layers.load().config.rooms;
    let [ticker, news] = &rooms.classes[..] else { panic!("{:?}", rooms.classes) };
    assert_eq!((ticker.durability, ticker.slow_client), (Durability::None, SlowClient::Conflate));
    assert_eq!((news.durability, news.slow_client), (Durability::Memory, SlowClient::Resync));
    assert_eq!((news.publishers, news.leave_grace), (Publishers::Server, Duration::ZERO));
    for class in [ticker, news] {
        assert_eq!((class.history_messages, class.history_age), (7, Duration::from_secs(3600)));
    }
    assert_eq!(rooms.unmatched().history_messages, 7);
}

#[test]
fn given_list_replaces_the_one_below_it() {
    let patterns = |layers: &Layers| {
        let classes = layers.load().config.rooms.classes;
        classes.into_iter().map(|class| class.pattern).collect::<Vec<_>>()
    };
    let layers = Layers::file("rooms:\n  classes:\n  - pattern: a\n  - pattern: b\n");
    assert_eq!(patterns(&layers), ["a", "b"]);
    let layers = layers.env("OUTSPOKE_ROOMS__CLASSES", r#"[{"pattern": "c", "history_messages": 5}]"#);
    assert_eq!(patterns(&layers), ["c"], "JSON");
    assert_eq!(layers.load().source("rooms.classes").to_string(), "env OUTSPOKE_ROOMS__CLASSES");
    let layers = layers.set("rooms.classes", "[{pattern: d}, {pattern: e:*}]");
    assert_eq!(patterns(&layers), ["d", "e:*"], "YAML in one line");
    let layers = layers.set("rooms.classes", "[]");
    assert!(patterns(&layers).is_empty(), "no classes at all");
    assert_eq!(patterns(&Layers::none()), ["lobby"]);
    assert_eq!(
        patterns(&Layers::none().env("OUTSPOKE_ROOMS__CLASSES", "- pattern: f\n- pattern: g")),
        ["f", "g"]
    );
}

#[test]
fn mistakes_in_entries_name_the_entry_the_place_and_the_cure() {
    let layers = Layers::file(
        "\
rooms:
  classes:
    - pattern: lobby
      durability: forever
      history_mesages: 5
      presence: true
      presence: false
    - durability: stored
    - pattern: \"\"
    - pattern: lobby
      history_age: 30
      receipts_members_max: 999999999
    - news
    -
    - [a]
    - pattern: x
      colour: red
      members_max:
",
    );
    assert_eq!(
        layers.complaint(),
        "\
error: chat.yaml:4:19: rooms.classes[0].durability: \"forever\" is not a level of durability
  hint: write none, memory or stored
error: chat.yaml:5:7: unknown key rooms.classes[0].history_mesages
  hint: did you mean history_messages?
error: chat.yaml:7:7: rooms.classes[0].presence is set twice, first on line 6
  hint: keep one of the two; YAML does not say which would count
error: chat.yaml:8:7: rooms.classes[1].pattern is missing
  hint: write the name of a room, in which each * stands for any text, such as lobby, chat:* or *
error: chat.yaml:9:16: rooms.classes[2].pattern: \"\" is empty
  hint: write \"*\" for every room
error: chat.yaml:10:16: rooms.classes[3].pattern: \"lobby\" is what rooms.classes[0] has already
  hint: delete one of the two, or give it a value of its own
error: chat.yaml:11:20: rooms.classes[3].history_age: \"30\" has no unit
  hint: write 30s for seconds or 30ms
error: chat.yaml:12:29: rooms.classes[3].receipts_members_max: \"999999999\" is above the maximum of 100_000_000
  hint: write a whole number such as 128 or 1_000_000, from 1 to 100_000_000 (0: always as numbers)
error: chat.yaml:13:7: rooms.classes[4] is one value, but takes a block
  hint: write its keys: - pattern: ...
error: chat.yaml:14:6: rooms.classes[5] is empty
  hint: write its keys: - pattern: ...
error: chat.yaml:15:7: rooms.classes[6] is a list, but takes a block
  hint: write its keys: - pattern: ...
error: chat.yaml:17:7: unknown key rooms.classes[7].colour
  hint: an entry takes pattern, durability, store, history_messages, history_bytes, history_age, presence, announce, announce_members_max, crowd_interval, leave_grace, publishers, amendments, receipts, receipts_members_max, slow_client, members_max, message_bytes_max
error: chat.yaml:18:18: rooms.classes[7].members_max has no value
  hint: write a value after the colon, or delete the line to get the default
13 problems in the configuration"
    );
}

#[test]
fn list_that_is_none_says_how_to_write_one() {
    let cases = [
        ("rooms:\n  classes:\n", "chat.yaml:2:10: rooms.classes has no value"),
        (
            "rooms:\n  classes: lobby\n",
            "chat.yaml:2:12: rooms.classes is one value, but takes a list of blocks",
        ),
        (
            "rooms:\n  classes:\n    pattern: a\n",
            "chat.yaml:3:5: rooms.classes is a block, but takes a list of blocks",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(
            Layers::file(text).complaint(),
            format!(
                "error: {wanted}\n  hint: write entries, each beginning with a dash: - pattern: ...; or [] for none\n\
                 1 problem in the configuration"
            )
        );
    }
}

#[test]
fn mistakes_in_variables_and_flags_name_them() {
    assert_eq!(
        Layers::none().env("OUTSPOKE_ROOMS__CLASSES", "[{pattern: a, durability: soon}]").complaint(),
        "\
error: env OUTSPOKE_ROOMS__CLASSES: rooms.classes[0].durability: \"soon\" is not a level of durability
  hint: write none, memory or stored
1 problem in the configuration"
    );
    assert_eq!(
        Layers::none().set("rooms.classes", "[{pattern: a").complaint(),
        "\
error: flag --set: rooms.classes is not valid YAML: unclosed bracket '{'
  hint: write the list in one line: [{pattern: ..., ...}, ...]
1 problem in the configuration"
    );
    assert_eq!(
        Layers::none().set("rooms.classes[0].pattern", "a").complaint(),
        "\
error: flag --set: unknown key rooms.classes[0].pattern
  hint: rooms.classes is set as a whole: one value with every entry
1 problem in the configuration"
    );
    assert_eq!(
        Layers::none().env("OUTSPOKE_ROOMS__CLASSES__0__PATTERN", "a").complaint(),
        "\
error: env OUTSPOKE_ROOMS__CLASSES__0__PATTERN: no setting has this variable
  hint: rooms.classes is set as a whole: one value with every entry
1 problem in the configuration"
    );
}

/// It would strike when the layer above goes.
#[test]
fn mistake_in_an_overridden_list_is_still_reported() {
    let layers = Layers::file("rooms:\n  classes:\n  - patern: a\n").set("rooms.classes", "[]");
    assert!(layers.complaint().starts_with("error: chat.yaml:3:5: unknown key rooms.classes[0].patern"));
}

#[test]
fn shown_list_names_the_line_of_every_key_and_can_be_used_again() {
    let layers = Layers::file(
        "rooms:\n  classes:\n  - {pattern: \"a # b\", history_age: 1d}\n  - pattern: c\n    receipts: false\n",
    );
    let yaml = layers.yaml();
    let lines = |from: &str, count: usize| {
        let start = yaml.lines().position(|line| line.trim_start().starts_with(from)).unwrap();
        let shown = yaml.lines().skip(start).take(count);
        shown.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(
        lines("classes:", 5),
        [
            "classes: # chat.yaml:3:5 (default 1 entry)",
            "- pattern: \"a # b\" # chat.yaml:3:15",
            "history_age: 1d # chat.yaml:3:37",
            "- pattern: \"c\" # chat.yaml:4:14",
            "receipts: false # chat.yaml:5:15",
        ]
    );
    let again = Layers::file(&yaml);
    assert_eq!(again.load().config, layers.load().config);

    let flagged = Layers::none().set("rooms.classes", "[{pattern: x}]").yaml();
    assert!(flagged.contains("  classes:"), "{flagged}");
    assert!(flagged.lines().any(|line| line == "    - pattern: \"x\""), "{flagged}");
}

#[test]
fn shown_json_has_entries_with_types_and_sources() {
    let layers =
        Layers::file("rooms:\n  classes:\n  - pattern: a\n    history_messages: 1_0\n    receipts: false\n");
    let json: serde_json::Value = serde_json::from_str(&show::json(&layers.load())).unwrap();
    let row = |key: &str| {
        json["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone()
    };
    let classes = row("rooms.classes");
    assert_eq!(
        classes["value"],
        serde_json::json!([{"pattern": "a", "history_messages": 10, "receipts": false}])
    );
    assert_eq!(classes["sources"][0]["history_messages"]["line"], 4);
    assert_eq!(classes["default"][0]["pattern"], "lobby");
    assert_eq!(row("stores")["value"], serde_json::json!([]));
    assert_eq!(row("api.keys")["default"], serde_json::json!([]));
    assert!(row("rooms.default").get("sources").is_none());
}

#[test]
fn secrets_in_entries_are_printed_nowhere() {
    let list = "[{name: a, backend: postgresql, url: \"postgresql://u:s3cret@db/x\"}]";
    let loaded = Layers::none().set("stores", list).set("api.keys", "s3cretkey-0123456789").load();
    assert_eq!(loaded.config.stores[0].url, "postgresql://u:s3cret@db/x");
    for text in [show::yaml(&loaded), show::json(&loaded), format!("{:?}", loaded.settings)] {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("***"), "{text}");
    }
    let bad = Layers::none().set("stores", "[{name: a, backend: redis, url: \"u:s3cret@db\"}]").complaint();
    assert_eq!(
        bad,
        "\
error: flag --set: stores[0].url: the value (hidden: it is a secret) is not a URL
  hint: write an address such as postgresql://user:password@host:5432/database or redis://host:6379/0
1 problem in the configuration"
    );
    let bad = Layers::none().set("api.keys", "good-key-0123456789,s3cret key").complaint();
    assert_eq!(
        bad,
        "\
error: flag --set: api.keys holds an entry (number 2) that no HTTP header can carry
  hint: write printable ASCII characters without blanks, for example the output of `openssl rand -hex 24`
1 problem in the configuration"
    );
}

#[test]
fn old_name_of_a_setting_works_and_is_mentioned() {
    let layers = Layers::file("limits:\n  room_members_max: 5\n");
    assert_eq!(layers.load().config.rooms.members_max, 5);
    assert_eq!(
        layers.warnings(),
        ["warning: chat.yaml:2:3: limits.room_members_max is now called rooms.members_max\n  \
          hint: rename it; the old name works for now"]
    );
    let layers = layers.env("OUTSPOKE_LIMITS__ROOM_MEMBERS_MAX", "6");
    assert_eq!(layers.load().config.rooms.members_max, 6);
    let layers = layers.set("limits.room_members_max", "7");
    assert_eq!(layers.load().config.rooms.members_max, 7);
    assert_eq!(layers.warnings().len(), 3);
    assert_eq!(
        Layers::file("limits:\n  room_members_max: 5\nrooms:\n  members_max: 6\n").complaint(),
        "\
error: chat.yaml:4:3: rooms.members_max is set twice, first on line 2
  hint: keep one of the two; limits.room_members_max is its old name
1 problem in the configuration"
    );
}

/// The file of an earlier version loads, and means what it meant.
#[test]
fn files_of_earlier_versions_still_load() {
    let text = "\
limits:
  room_members_max: 500
rooms:
  default: hall
  announce: false
  announce_members_max: 50
  slow_client: drop_oldest
";
    let rooms = Layers::file(text).load().config.rooms.unmatched();
    assert_eq!((rooms.members_max, rooms.announce, rooms.announce_members_max), (500, false, 50));
    assert_eq!(rooms.slow_client, SlowClient::DropOldest);
}

/// A recipe copied from the documentation replaces the list in which the lobby is stored.
#[test]
fn list_of_classes_without_the_lobby_is_warned_of_unless_that_is_said() {
    let recipe = "rooms:\n  classes:\n  - pattern: \"chat:*\"\n    durability: stored\n";
    assert_eq!(
        Layers::file(recipe).warnings(),
        [
            "warning: chat.yaml:3:5: rooms.classes replaces the built-in list, which stores lobby: now it is as other rooms\n  \
          hint: add {pattern: lobby, durability: stored} to the list, or write there what else it is to be"
        ]
    );
    for said in ["  - pattern: \"lob*\"\n", "  durability: memory\n", "  default: hall\n"] {
        assert_eq!(Layers::file(&format!("{recipe}{said}")).warnings(), [""; 0], "{said}");
    }
}

#[test]
fn class_behind_one_that_matches_everything_is_warned_of() {
    let layers = Layers::file("rooms:\n  classes:\n  - pattern: a\n  - pattern: \"**\"\n  - pattern: b\n");
    assert_eq!(
        layers.warnings(),
        [
            "warning: chat.yaml:5:14: rooms.classes[2].pattern is never asked: rooms.classes[1] matches every room already\n  \
          hint: the first match decides; move the class with * to the end"
        ]
    );
}

#[test]
fn unknown_stores_are_refused_with_the_nearest_name() {
    let text = "\
stores:
  - name: archive
    backend: memory
rooms:
  store: elsewhere
  direct:
    store: achive
  classes:
    - pattern: a
      durability: stored
      store: archiv
    - pattern: b
      store: archive
    - pattern: c
";
    assert_eq!(
        Layers::file(text).complaint(),
        "\
error: chat.yaml:5:10: rooms.store names the store \"elsewhere\", which stores does not have
  hint: add an entry with that name to stores, or write \"\" for the store that the section store describes
error: chat.yaml:7:12: rooms.direct.store names the store \"achive\", which stores does not have
  hint: did you mean archive?
error: chat.yaml:11:14: rooms.classes[0].store names the store \"archiv\", which stores does not have
  hint: did you mean archive?
3 problems in the configuration"
    );
}

#[test]
fn stores_need_an_address_that_fits_their_back_end() {
    assert_eq!(
        Layers::file("store:\n  backend: postgresql\n").complaint(),
        "\
error: chat.yaml:2:12: store.backend is postgresql, but store.postgresql.url is empty
  hint: write the address of the server: postgresql://user:password@host
1 problem in the configuration"
    );
    let text = "\
stores:
  - name: a
    backend: redis
  - name: b
    backend: postgresql
    url: redis://localhost
  - name: b
    backend: memory
";
    assert_eq!(
        Layers::file(text).complaint(),
        "\
error: chat.yaml:7:11: stores[2].name: \"b\" is what stores[1] has already
  hint: delete one of the two, or give it a value of its own
1 problem in the configuration"
    );
    assert_eq!(
        Layers::file(text.split_once("  - name: b\n    backend: memory").unwrap().0).complaint(),
        "\
error: chat.yaml:3:14: stores[0].backend is redis, but stores[0].url is empty
  hint: write the address of the server: redis://user:password@host
error: chat.yaml:6:10: stores[1].url is no address of a postgresql server
  hint: begin it with postgresql:// or postgres://
2 problems in the configuration"
    );
    let good = Layers::none()
        .set("store.backend", "postgresql")
        .set("store.postgresql.url", "postgres://chat:pw@db/chat")
        .load();
    assert_eq!(good.config.store.backend, Backend::Postgresql);
}

#[test]
fn redis_cluster_has_no_replicas_to_wait_for() {
    let redis = |key: &str, value: &str| Layers::none().set(key, value);
    let text = redis("store.redis.cluster", "true").set("store.redis.replicas_min", "1").complaint();
    assert_eq!(
        text,
        "\
error: flag --set: store.redis.replicas_min is set, but a cluster cannot be asked how many replicas have a message
  hint: set it to 0, or use a server that is no cluster
1 problem in the configuration"
    );
    assert_eq!(
        redis("store.redis.prefix", "chat prod").complaint(),
        "\
error: flag --set: store.redis.prefix: \"chat prod\" is not a prefix
  hint: write 1 to 64 letters, digits, and - _ . : /
1 problem in the configuration"
    );
}

#[test]
fn embedded_stores_have_folders_of_their_own() {
    let config = Layers::none()
        .set("data.dir", "/srv/chat")
        .set("stores", "[{name: a, backend: embedded}, {name: b, backend: embedded, path: /mnt/b}]")
        .load()
        .config;
    assert_eq!(config.store.folder(&config.data), PathBuf::from("/srv/chat/store"));
    let folders: Vec<_> = config.stores.iter().map(|store| store.folder(&config.data)).collect();
    assert_eq!(folders, [PathBuf::from("/srv/chat/stores/a"), PathBuf::from("/mnt/b")]);
    assert_eq!(
        Layers::none().set("stores", "[{name: a, backend: embedded, path: ./data/store}]").complaint(),
        "\
error: flag --set: stores[0].path is the folder of store.embedded.path too
  hint: give each embedded store a folder of its own
1 problem in the configuration"
    );
}

#[cfg(not(feature = "dynamodb"))]
#[test]
fn back_end_that_is_not_in_this_build_names_its_feature() {
    assert_eq!(
        Layers::none().set("store.backend", "dynamodb").complaint(),
        "\
error: flag --set: store.backend is dynamodb, which is not part of this build
  hint: build the server with the cargo feature dynamodb, or choose another back end
1 problem in the configuration"
    );
}

#[test]
fn stored_rooms_in_memory_are_warned_of() {
    let layers = Layers::none().set("store.backend", "memory");
    assert_eq!(
        layers.warnings(),
        ["warning: flag --set: store.backend is memory: what stored rooms keep ends with this process\n  \
          hint: choose another back end, or write durability: memory, which says so to clients"]
    );
    let honest = layers.set("rooms.classes", "[]").set("rooms.direct.durability", "memory");
    assert!(honest.warnings().is_empty());
    let named = Layers::none()
        .set("stores", "[{name: scratch, backend: memory}]")
        .set("rooms.classes", "[{pattern: lobby, durability: stored, store: scratch}]");
    assert_eq!(
        named.warnings(),
        [
            "warning: flag --set: stores[0].backend is memory: what the rooms in it keep ends with this process\n  \
          hint: choose another back end, or write durability: memory, which says so to clients"
        ]
    );
}

#[test]
fn memory_without_a_limit_is_refused() {
    assert_eq!(
        Layers::none()
            .set("rooms.classes", "[{pattern: a, history_messages: 0, history_bytes: 0}]")
            .complaint(),
        "\
error: flag --set: rooms.classes[0] keeps messages in memory without a limit
  hint: limit history_messages or history_bytes
1 problem in the configuration"
    );
}

#[test]
fn class_that_allows_more_than_the_server_is_warned_of() {
    let layers = Layers::file("rooms:\n  classes:\n  - pattern: lobby\n    message_bytes_max: 16KiB\n");
    assert_eq!(
        layers.warnings(),
        [
            "warning: chat.yaml:4:24: rooms.classes[0].message_bytes_max is more than limits.message_bytes_max (8KiB, default), which decides first\n  \
          hint: raise limits.message_bytes_max if the rooms need larger messages"
        ]
    );
}

#[test]
fn replay_must_fit_into_the_outbox() {
    assert!(Layers::none().set("limits.outbox_bytes_max", "64KiB").load().warnings.is_empty());
    let layers =
        Layers::none().set("limits.outbox_bytes_max", "64KiB").set("limits.replay_bytes_max", "64KiB");
    assert_eq!(
        layers.complaint(),
        "\
error: flag --set: limits.replay_bytes_max (64KiB, flag --set) must be less than limits.outbox_bytes_max (64KiB, flag --set)
  hint: otherwise a client that catches up is closed as too slow
1 problem in the configuration"
    );
}

#[test]
fn open_api_is_accepted_on_loopback_only() {
    let open = |addr: &str| Layers::none().set("api.open_on_loopback", "true").set("server.addr", addr);
    for addr in ["127.0.0.1:80", "[::1]:80", "localhost:80", "127.8.9.1:0"] {
        assert!(open(addr).load().config.api.open_on_loopback, "{addr}");
    }
    for addr in [":80", "0.0.0.0:80", "[::]:80", "10.0.0.7:80", "chat.example:80"] {
        assert_eq!(
            open(addr).complaint(),
            format!(
                "\
error: flag --set: api.open_on_loopback is true, but server.addr ({addr}, flag --set) is not a loopback address
  hint: listen on 127.0.0.1 or [::1], or set api.keys and leave api.open_on_loopback false
1 problem in the configuration"
            )
        );
    }
    assert!(open(":80").set("api.enabled", "false").load().config.api.open_on_loopback);
}

#[test]
fn operators_have_an_address_of_their_own_that_fits_the_rest() {
    let with = |addr: &str| Layers::none().set("admin.addr", addr);
    assert!(with("").load().config.admin.addr.is_none());
    assert_eq!(with("10.0.0.7:8081").load().config.admin.addr.unwrap().port(), 8081);
    assert!(with("127.0.0.1:0").set("server.addr", "127.0.0.1:0").load().config.admin.addr.is_some());
    let complaints = [
        (
            with(":81").set("api.open_on_loopback", "true").set("server.addr", "127.0.0.1:80"),
            "api.open_on_loopback is true, but admin.addr (:81, flag --set) is not a loopback address",
            "listen on 127.0.0.1 or [::1], or set api.keys and leave api.open_on_loopback false",
        ),
        (
            with("127.0.0.1:80").set("server.addr", "127.0.0.1:80"),
            "admin.addr (127.0.0.1:80, flag --set) is server.addr (127.0.0.1:80, flag --set), too",
            "give operators an address of their own, or \"\" to serve them at server.addr",
        ),
        (
            with(":81").set("api.enabled", "false"),
            "admin.addr (:81, flag --set) is set, but api.enabled is false",
            "set api.enabled to true: the operators' page shows what the API says",
        ),
    ];
    for (layers, what, hint) in complaints {
        let told = format!("error: flag --set: {what}\n  hint: {hint}\n1 problem in the configuration");
        assert_eq!(layers.complaint(), told);
    }
}

#[test]
fn api_keys_come_as_list_or_with_commas_and_short_ones_are_warned_of() {
    let keys = |layers: &Layers| layers.load().config.api.keys;
    let [a, b] = ["0123456789abcdef", "fedcba9876543210"];
    assert_eq!(keys(&Layers::none().env("OUTSPOKE_API__KEYS", &format!("{a}, {b}"))), [a, b]);
    assert_eq!(keys(&Layers::file(&format!("api:\n  keys: [{a}, {b}]\n"))), [a, b]);
    assert!(keys(&Layers::file("api:\n  keys: []\n")).is_empty());
    assert!(keys(&Layers::none()).is_empty());
    assert_eq!(
        Layers::file("api:\n  keys: [swordfish]\n").warnings(),
        ["warning: chat.yaml:2:9: api.keys holds a key of fewer than 16 characters\n  \
          hint: it could be guessed; make one with `openssl rand -hex 24`"]
    );
}

#[test]
fn tenants_have_quotas_of_their_own_or_the_common_ones() {
    let text = "\
tenants:
  enabled: true
  connections_max: 100
  stored_bytes_max: 1GiB
  hosts:
    - {host: Chat.ACME.example, tenant: acme}
  list:
    - name: acme
      connections_max: 5_000
    - name: globex
";
    let tenants = Layers::file(text).load().config.tenants;
    let quotas: Vec<_> =
        tenants.list.iter().map(|tenant| (tenant.connections_max, tenant.stored_bytes_max)).collect();
    assert_eq!(quotas, [(5000, 1 << 30), (100, 1 << 30)]);
    assert_eq!(tenants.hosts[0].host, "chat.acme.example", "host names know no capitals");

    let text = "\
tenants:
  hosts:
    - {host: \"chat.example:8080\", tenant: acme}
    - {host: \"https://x\", tenant: \"a c m e\"}
    - {host: same.example, tenant: a}
    - {host: same.example, tenant: b}
  list:
    - name: \"\"
";
    assert_eq!(
        Layers::file(text).complaint(),
        "\
error: chat.yaml:3:14: tenants.hosts[0].host: \"chat.example:8080\" is not a host name
  hint: write \"chat.example\"; the port plays no part
error: chat.yaml:4:14: tenants.hosts[1].host: \"https://x\" is not a host name
  hint: write a host name without a port, such as chat.example.org
error: chat.yaml:4:35: tenants.hosts[1].tenant: \"a c m e\" is not a name
  hint: write 1 to 64 letters, digits, - and _
error: chat.yaml:6:14: tenants.hosts[3].host: \"same.example\" is what tenants.hosts[2] has already
  hint: delete one of the two, or give it a value of its own
error: chat.yaml:8:13: tenants.list[0].name: \"\" is not a name
  hint: write 1 to 64 letters, digits, - and _
5 problems in the configuration"
    );
    assert_eq!(
        Layers::file("tenants:\n  list: [{name: acme}]\n").warnings(),
        ["warning: chat.yaml:2:9: tenants.list has entries, but tenants.enabled is false\n  \
          hint: set tenants.enabled to true to separate tenants"]
    );
}

/// What the reference page prints as an example must work.
#[test]
fn examples_of_lists_load() {
    let mut examples = 0;
    for key in sections().into_iter().flat_map(|section| section.keys) {
        let Some(example) = key.example else { continue };
        // What some of them are of no use without.
        let layers = Layers::none().set("tenants.enabled", "true");
        let layers = layers.set("tls.certificate", "a.pem").set("tls.key", "a.key");
        let loaded = layers.set(key.path, example).load();
        assert_eq!(loaded.source(key.path), Source::Flag("--set".into()));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        examples += 1;
    }
    assert_eq!(examples, 7);
}

#[test]
fn hostile_lists_are_refused_within_bounds() {
    let many = format!("rooms:\n  classes: [{}]\n", "{}, ".repeat(9_000));
    let nested = format!("rooms:\n  classes: {}\n", "[".repeat(50_000));
    let wide = format!(
        "rooms:\n  classes: [{{{}}}]\n",
        (0..8_000).map(|i| format!("k{i}: 1, ")).collect::<String>()
    );
    for text in [many, nested, wide] {
        let complaint = Layers::file(&text).complaint();
        assert!(complaint.len() < 30_000, "{} bytes", complaint.len());
    }
    let text = Layers::file("rooms:\n  classes:\n  - {\"\\e[2J\": 1, pattern: \"\\e[31m\"}\n").complaint();
    assert!(!text.contains('\x1b'), "{text:?}");
}

/// Whoever copies a recipe gets a configuration without complaints, but for the lobby, which the page says to add.
#[test]
fn recipes_of_the_rooms_page_load_without_warnings() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/rooms.md");
    let page = fs::read_to_string(page).unwrap();
    let recipes: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(recipes.len() >= 8, "{} recipes", recipes.len());
    for recipe in recipes {
        let mut warnings = Layers::file(recipe).warnings();
        warnings.retain(|warning| !warning.contains("which stores lobby"));
        assert_eq!(warnings, Vec::<String>::new(), "{recipe}");
    }
}

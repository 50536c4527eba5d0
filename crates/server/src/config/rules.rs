//! Rules between settings: values that are each acceptable, but not together.
//!
//! Runs after all values are read. A rule is skipped if one of its settings is itself wrong, so that one mistake is
//! reported once. The place blamed is that of the setting which the operator wrote. What works, but hardly as it is
//! meant, is a warning.

mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use super::DEFAULT_STORE;
use super::blocks::entry_path;
use super::error::{Fault, Problem, Warning};
use super::kind::{Backend, Bus, Durability};
use super::nearest::nearest;
use super::resolve::Resolver;
use super::settings::{Config, RoomClass, Rooms};
use super::source::Source;

/// A shorter key of the HTTP API is worth a warning: it could be guessed.
const API_KEY_CHARS_COMFORTABLE: usize = 16;

/// The room of the built-in list of classes.
const LOBBY: &str = "lobby";

/// What the rules found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

/// Everything that does not fit together.
pub(super) fn check(config: &Config, resolver: &Resolver) -> Verdict {
    let mut rules = Rules { resolver, found: Verdict::default() };
    rules.cluster(config);
    rules.heartbeat(config);
    rules.sizes(config);
    rules.default_room(config);
    rules.stores(config);
    rules.classes(config);
    rules.auth(config);
    rules.api(config);
    rules.tenants(config);
    rules.tls(config);
    rules.proxies(config);
    rules.drain(config);
    rules.found
}

struct Rules<'a> {
    resolver: &'a Resolver,
    found: Verdict,
}

impl Rules<'_> {
    /// Reports a broken rule, unless one of its settings is itself unusable.
    fn broken(&mut self, keys: &[&str], what: String, hint: &str) {
        if let Some(at) = self.blamed(keys) {
            self.found.problems.push(Problem { at, fault: Fault::Rule(what), hint: hint.to_owned() });
        }
    }

    /// As [`Rules::broken`], for what works.
    fn doubtful(&mut self, keys: &[&str], what: String, hint: &str) {
        if let Some(at) = self.blamed(keys) {
            self.found.warnings.push(Warning { at, what, hint: hint.to_owned() });
        }
    }

    /// The place to name: the highest layer that has a part in it. `None` if one of the settings means nothing.
    fn blamed(&self, keys: &[&str]) -> Option<Source> {
        if keys.iter().any(|key| self.resolver.is_bad(key)) {
            return None;
        }
        Some(keys.iter().map(|key| self.resolver.source(key)).max().unwrap_or(Source::Default))
    }

    /// Whether an operator wrote this setting, or this key of an entry.
    fn is_written(&self, key: &str) -> bool {
        match key.contains('[') {
            true => self.resolver.places.contains_key(key),
            false => self.resolver.source(key) != Source::Default,
        }
    }

    /// `key (value, source)`, for sentences that compare two settings.
    fn named(&self, key: &str) -> String {
        let setting = self.resolver.settings.iter().find(|setting| setting.key.path == key);
        let value = setting.map(|setting| setting.items.join(",")).unwrap_or_default();
        format!("{key} ({value}, {})", self.resolver.source(key))
    }

    fn cluster(&mut self, config: &Config) {
        if !config.cluster.enabled {
            return;
        }
        let bus = config.cluster.bus;
        if let Some(feature) = bus.missing_feature() {
            let what = format!("cluster.bus is {}, which is not part of this build", bus.name());
            let hint = format!("build the server with the cargo feature {feature}, or choose another bus");
            self.broken(&["cluster.bus", "cluster.enabled"], what, &hint);
        }
        let addresses = match bus {
            Bus::Etcd => None,
            Bus::Redis => {
                Some(("cluster.redis.url", &config.cluster.redis.url, "redis://user:password@host:6379"))
            }
            Bus::Nats => {
                Some(("cluster.nats.url", &config.cluster.nats.url, "nats://user:password@host:4222"))
            }
        };
        if let Some((key, _, example)) = addresses.filter(|(_, url, _)| url.is_empty()) {
            let what = format!("cluster.bus is {}, but {key} is empty", bus.name());
            self.broken(&["cluster.bus", key], what, &format!("write the address of the server: {example}"));
        }
        let named = config.stores.iter().enumerate();
        let named =
            named.map(|(index, store)| (format!("{}.backend", entry_path("stores", index)), store.backend));
        let stores = std::iter::once(("store.backend".to_owned(), config.store.backend)).chain(named);
        for (key, backend) in stores.filter(|(_, backend)| !backend.is_shared()) {
            let what = format!(
                "cluster.enabled is true, but {key} is {}, which one server has for itself",
                backend.name()
            );
            let hint = "set it to postgresql or redis, which all servers of a cluster share, or set cluster.enabled to false";
            self.broken(&[&key, "cluster.enabled"], what, hint);
        }
    }

    fn drain(&mut self, config: &Config) {
        let [target, after, grace] = ["drain.target", "drain.reconnect_after", "rooms.leave_grace"];
        let url = &config.drain.target;
        if !url.is_empty() && !url.starts_with("wss://") && !url.starts_with("ws://") {
            let what = format!("{} is no address for WebSocket clients", self.named(target));
            self.broken(&[target], what, "write it as wss://green.example.com/ws");
        }
        let (wait, held) = (config.drain.reconnect_after, config.rooms.leave_grace);
        if config.cluster.enabled && !held.is_zero() && wait >= held {
            let what = format!("{} is no shorter than {}", self.named(after), self.named(grace));
            let hint = "users who are sent to another server would be announced as gone before they are back";
            self.doubtful(&[after, grace], what, hint);
        }
    }

    fn heartbeat(&mut self, config: &Config) {
        let [ping, pong, read] = ["heartbeat.ping_interval", "heartbeat.pong_timeout", "server.read_timeout"];
        let interval = config.heartbeat.ping_interval;
        if interval.is_zero() {
            return;
        }
        let pong_timeout = config.heartbeat.pong_timeout;
        if !pong_timeout.is_zero() && pong_timeout <= interval {
            let what = format!("{} must be longer than {}", self.named(pong), self.named(ping));
            self.broken(&[ping, pong], what, "otherwise clients are closed before they can answer the ping");
        }
        let read_timeout = config.server.read_timeout;
        if !read_timeout.is_zero() && read_timeout <= interval {
            let what = format!("{} must be longer than {}", self.named(read), self.named(ping));
            self.broken(&[ping, read], what, "otherwise quiet clients are closed before they are pinged");
        }
    }

    fn sizes(&mut self, config: &Config) {
        let message = "limits.message_bytes_max";
        let queues = [
            ("limits.outbox_bytes_max", config.limits.outbox_bytes_max),
            ("limits.inbox_bytes_max", config.limits.inbox_bytes_max),
        ];
        for (queue, bytes) in queues {
            if bytes < config.limits.message_bytes_max {
                let what = format!("{} must be at least {}", self.named(queue), self.named(message));
                self.broken(
                    &[queue, message],
                    what,
                    "otherwise a message of the permitted size fits in no queue",
                );
            }
        }
        let [replay, outbox] = ["limits.replay_bytes_max", "limits.outbox_bytes_max"];
        if config.limits.replay_bytes_max >= config.limits.outbox_bytes_max {
            let what = format!("{} must be less than {}", self.named(replay), self.named(outbox));
            self.broken(&[replay, outbox], what, "otherwise a client that catches up is closed as too slow");
        }
    }

    fn default_room(&mut self, config: &Config) {
        let [room, limit] = ["rooms.default", "limits.room_name_bytes_max"];
        if config.rooms.default.len() > config.limits.room_name_bytes_max {
            let what = format!("{room} is longer than {}", self.named(limit));
            self.broken(&[room, limit], what, "choose a shorter name or raise the limit");
        }
    }

    fn stores(&mut self, config: &Config) {
        let url = match config.store.backend {
            Backend::Postgresql => ("store.postgresql.url", config.store.postgresql.url.as_str()),
            Backend::Redis => ("store.redis.url", config.store.redis.url.as_str()),
            Backend::Embedded | Backend::Memory | Backend::Dynamodb => ("", ""),
        };
        self.store("store.backend", config.store.backend, url);
        self.replicas("store.redis", config.store.redis.cluster, config.store.redis.replicas_min);
        for (index, store) in config.stores.iter().enumerate() {
            let path = entry_path("stores", index);
            if store.name == DEFAULT_STORE {
                let key = format!("{path}.name");
                let what = format!("{key} is {DEFAULT_STORE}, which the section store describes");
                self.broken(&[&key], what, "choose another name, or put its settings there");
            }
            let url = format!("{path}.url");
            self.store(&format!("{path}.backend"), store.backend, (&url, &store.url));
            self.replicas(&path, store.cluster, store.replicas_min);
        }
        self.store_folders(config);
    }

    /// One store: part of this build, and with an address if it needs one.
    fn store(&mut self, key: &str, backend: Backend, (url_key, url): (&str, &str)) {
        let name = backend.name();
        if let Some(feature) = backend.missing_feature() {
            let what = format!("{key} is {name}, which is not part of this build");
            let hint =
                format!("build the server with the cargo feature {feature}, or choose another back end");
            return self.broken(&[key], what, &hint);
        }
        let schemes = backend.schemes();
        let Some(first) = schemes.first() else { return };
        if url.is_empty() {
            let what = format!("{key} is {name}, but {url_key} is empty");
            let hint = format!("write the address of the server: {first}://user:password@host");
            return self.broken(&[key, url_key], what, &hint);
        }
        let scheme = url.split("://").next().unwrap_or_default();
        if !schemes.contains(&scheme) {
            let what = format!("{url_key} is no address of a {name} server");
            self.broken(&[key, url_key], what, &format!("begin it with {}://", schemes.join(":// or ")));
        }
    }

    fn replicas(&mut self, path: &str, cluster: bool, replicas_min: usize) {
        if cluster && replicas_min > 0 {
            let [cluster, replicas] = ["cluster", "replicas_min"].map(|key| format!("{path}.{key}"));
            let what =
                format!("{replicas} is set, but a cluster cannot be asked how many replicas have a message");
            self.broken(&[&cluster, &replicas], what, "set it to 0, or use a server that is no cluster");
        }
    }

    /// Two stores in one folder would each take it for their own.
    fn store_folders(&mut self, config: &Config) {
        let mut folders: Vec<(String, PathBuf)> = Vec::new();
        if config.store.backend == Backend::Embedded {
            folders.push(("store.embedded.path".to_owned(), config.store.folder(&config.data)));
        }
        for (index, store) in config.stores.iter().enumerate() {
            if store.backend != Backend::Embedded {
                continue;
            }
            let key = format!("{}.path", entry_path("stores", index));
            let folder = store.folder(&config.data);
            if let Some((other, _)) = folders.iter().find(|(_, taken)| *taken == folder) {
                let what = format!("{key} is the folder of {other} too");
                self.broken(&[&key, other], what, "give each embedded store a folder of its own");
            }
            folders.push((key, folder));
        }
    }

    fn classes(&mut self, config: &Config) {
        let rooms = &config.rooms;
        let mut used: Vec<&str> = Vec::new();
        self.class("rooms", &rooms.unmatched(), config);
        self.kept_somewhere("rooms.direct.store", &rooms.direct.store, config);
        self.bounded(
            "rooms.direct",
            rooms.direct.durability,
            rooms.direct.history_messages,
            rooms.direct.history_bytes,
        );
        if rooms.durability == Durability::Stored {
            used.push(&rooms.store);
        }
        if rooms.direct.durability == Durability::Stored {
            used.push(&rooms.direct.store);
        }
        for (index, class) in rooms.classes.iter().enumerate() {
            self.class(&entry_path("rooms.classes", index), class, config);
            if class.durability == Durability::Stored {
                used.push(&class.store);
            }
        }
        self.unreachable_classes(&rooms.classes);
        self.forgotten_lobby(rooms);
        self.forgetful_stores(config, &used);
    }

    fn class(&mut self, path: &str, class: &RoomClass, config: &Config) {
        let store = format!("{path}.store");
        if self.is_written(&store) {
            self.kept_somewhere(&store, &class.store, config);
        }
        self.bounded(path, class.durability, class.history_messages, class.history_bytes);
        let [own, general] = [&format!("{path}.message_bytes_max"), "limits.message_bytes_max"];
        if self.is_written(own) && class.message_bytes_max > config.limits.message_bytes_max {
            let what = format!("{own} is more than {}, which decides first", self.named(general));
            self.doubtful(
                &[own, general],
                what,
                "raise limits.message_bytes_max if the rooms need larger messages",
            );
        }
    }

    fn kept_somewhere(&mut self, key: &str, store: &str, config: &Config) {
        if store.is_empty() || store == DEFAULT_STORE || config.stores.iter().any(|known| known.name == store)
        {
            return;
        }
        let names = config.stores.iter().map(|known| known.name.as_str());
        let hint = match nearest(store, names) {
            Some(name) => format!("did you mean {name}?"),
            None => {
                "add an entry with that name to stores, or write \"\" for the store that the section store \
                     describes"
                    .to_owned()
            }
        };
        self.broken(
            &[key, "stores"],
            format!("{key} names the store {store:?}, which stores does not have"),
            &hint,
        );
    }

    /// What is kept in memory must have an end other than time: a flood would not wait for it.
    fn bounded(&mut self, path: &str, durability: Durability, messages: usize, bytes: usize) {
        if durability == Durability::Memory && messages == 0 && bytes == 0 {
            let keys = ["durability", "history_messages", "history_bytes"].map(|key| format!("{path}.{key}"));
            let what = format!("{path} keeps messages in memory without a limit");
            let hint = "limit history_messages or history_bytes";
            self.broken(&[&keys[0], &keys[1], &keys[2]], what, hint);
        }
    }

    fn unreachable_classes(&mut self, classes: &[RoomClass]) {
        let is_all = |class: &RoomClass| class.pattern.chars().all(|c| c == '*');
        let Some(all) = classes.iter().position(is_all) else { return };
        let first = entry_path("rooms.classes", all);
        for index in all + 1..classes.len() {
            let key = format!("{}.pattern", entry_path("rooms.classes", index));
            let what = format!("{key} is never asked: {first} matches every room already");
            self.doubtful(&[&key], what, "the first match decides; move the class with * to the end");
        }
    }

    /// A list of classes replaces the built-in one, which stores the lobby: whoever copies a recipe may not mean that.
    fn forgotten_lobby(&mut self, rooms: &Rooms) {
        let is_meant = self.is_written("rooms.durability") || rooms.default != LOBBY;
        if is_meant || rooms.classes.is_empty() || has_class(rooms, LOBBY) {
            return;
        }
        let what = format!(
            "rooms.classes replaces the built-in list, which stores {LOBBY}: now it is as other rooms"
        );
        let hint = format!(
            "add {{pattern: {LOBBY}, durability: stored}} to the list, or write there what else it is to be"
        );
        self.doubtful(&["rooms.classes"], what, &hint);
    }

    /// Back ends in memory, where rooms are to be stored.
    fn forgetful_stores(&mut self, config: &Config, used: &[&str]) {
        const HINT: &str = "choose another back end, or write durability: memory, which says so to clients";
        if config.store.backend == Backend::Memory
            && used.iter().any(|store| matches!(*store, "" | DEFAULT_STORE))
        {
            let what = "store.backend is memory: what stored rooms keep ends with this process".to_owned();
            self.doubtful(&["store.backend"], what, HINT);
        }
        for (index, store) in config.stores.iter().enumerate() {
            if store.backend == Backend::Memory && used.contains(&store.name.as_str()) {
                let key = format!("{}.backend", entry_path("stores", index));
                let what = format!("{key} is memory: what the rooms in it keep ends with this process");
                self.doubtful(&[&key], what, HINT);
            }
        }
    }

    fn auth(&mut self, config: &Config) {
        let auth = &config.auth;
        if !auth.cookie.is_empty() && auth.cookie_origins.is_empty() {
            let what = "auth.cookie is set, but auth.cookie_origins is empty: any page could connect in the name of who looks at it";
            let hint = "list the origins of your pages, each as https://chat.example.com";
            self.broken(&["auth.cookie", "auth.cookie_origins"], what.to_owned(), hint);
        }
        if auth.cookie.is_empty() && !auth.cookie_origins.is_empty() {
            let what = "auth.cookie_origins has entries, but auth.cookie names no cookie".to_owned();
            self.doubtful(&["auth.cookie_origins", "auth.cookie"], what, "name the cookie in auth.cookie");
        }
        for (index, key) in auth.jwt.keys.iter().enumerate() {
            let path = entry_path("auth.jwt.keys", index);
            if key.key.is_empty() == key.file.is_none() {
                let what = format!("{path} needs a key or a file, and not both");
                let keys = [format!("{path}.algorithm"), format!("{path}.key"), format!("{path}.file")];
                self.broken(
                    &[&keys[0], &keys[1], &keys[2]],
                    what,
                    "write the key itself in key, or where it is in file",
                );
            }
        }
        if !auth.jwt.secret.is_empty() && auth.jwt.keys.iter().any(|key| key.id.is_empty()) {
            let what = "auth.jwt.secret and an entry of auth.jwt.keys are both for tokens that name no key"
                .to_owned();
            self.broken(
                &["auth.jwt.secret", "auth.jwt.keys"],
                what,
                "give the entry an id, or move the secret to keys too",
            );
        }
        if !auth.jwks.url.is_empty() && auth.jwt.audiences.is_empty() && auth.jwt.issuers.is_empty() {
            let what = "auth.jwks.url is set, but neither auth.jwt.audiences nor auth.jwt.issuers: whoever the provider made a \
                        token for may connect";
            let hint = "name this service in auth.jwt.audiences, as the provider calls it";
            self.doubtful(&["auth.jwks.url", "auth.jwt.audiences"], what.to_owned(), hint);
        }
        let sources =
            [auth.header, auth.subprotocol, !auth.cookie.is_empty(), auth.query, auth.first_message];
        if auth.is_configured() && auth.hook.connect.is_empty() && !sources.contains(&true) {
            let what = "credentials are taken from nowhere, so that nobody can connect".to_owned();
            self.broken(&["auth.header", "auth.subprotocol"], what, "set auth.header to true");
        }
        if auth.first_message && !auth.is_configured() {
            let what = "auth.first_message is true, but there are no keys, no key set and no hook".to_owned();
            let hint = "configure one (docs/operating/authentication.md), or set auth.first_message to false";
            self.doubtful(&["auth.first_message"], what, hint);
        }
    }

    fn api(&mut self, config: &Config) {
        let [open, addr] = ["api.open_on_loopback", "server.addr"];
        if config.api.enabled && config.api.open_on_loopback && !config.server.addr.is_loopback() {
            let what = format!("{open} is true, but {} is not a loopback address", self.named(addr));
            let hint = "listen on 127.0.0.1 or [::1], or set api.keys and leave api.open_on_loopback false";
            self.broken(&[open, addr], what, hint);
        }
        let operators = "admin.addr";
        if let Some(listener) = &config.admin.addr {
            if config.api.enabled && config.api.open_on_loopback && !listener.is_loopback() {
                let what = format!("{open} is true, but {} is not a loopback address", self.named(operators));
                let hint =
                    "listen on 127.0.0.1 or [::1], or set api.keys and leave api.open_on_loopback false";
                self.broken(&[open, operators], what, hint);
            }
            if *listener == config.server.addr && listener.port() != 0 {
                let what = format!("{} is {}, too", self.named(operators), self.named(addr));
                let hint = "give operators an address of their own, or \"\" to serve them at server.addr";
                self.broken(&[operators, addr], what, hint);
            }
            if !config.api.enabled {
                let what = format!("{} is set, but api.enabled is false", self.named(operators));
                let hint = "set api.enabled to true: the operators' page shows what the API says";
                self.broken(&[operators, "api.enabled"], what, hint);
            }
        }
        let is_hash = |key: &str| {
            let digits = key.strip_prefix("sha256:").unwrap_or_default();
            digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        let scoped = config.api.scoped_keys.iter().map(|key| ("api.scoped_keys", &key.key));
        for (list, key) in config.api.keys.iter().map(|key| ("api.keys", key)).chain(scoped) {
            if key.starts_with("sha256:") && !is_hash(key) {
                let what = format!("{list} holds a hash that has not 64 hexadecimal digits after sha256:");
                self.broken(&[list], what, "write the output of `printf %s KEY | sha256sum` there");
            } else if key.len() < API_KEY_CHARS_COMFORTABLE {
                let what = format!("{list} holds a key of fewer than {API_KEY_CHARS_COMFORTABLE} characters");
                self.doubtful(&[list], what, "it could be guessed; make one with `openssl rand -hex 24`");
            }
        }
        for (index, key) in config.api.scoped_keys.iter().enumerate() {
            let place = format!("{}.tenant", entry_path("api.scoped_keys", index));
            if !key.tenant.is_empty() && !config.tenants.enabled {
                let what = format!("{place} names a tenant, but tenants.enabled is false");
                self.doubtful(
                    &[&place, "tenants.enabled"],
                    what,
                    "set tenants.enabled to true to separate tenants",
                );
            }
        }
    }

    fn tenants(&mut self, config: &Config) {
        let lists = [
            ("tenants.hosts", config.tenants.hosts.is_empty()),
            ("tenants.list", config.tenants.list.is_empty()),
        ];
        for (list, is_empty) in lists {
            if !config.tenants.enabled && !is_empty {
                let what = format!("{list} has entries, but tenants.enabled is false");
                self.doubtful(
                    &[list, "tenants.enabled"],
                    what,
                    "set tenants.enabled to true to separate tenants",
                );
            }
        }
    }
}

/// Whether an entry of the list is for the room.
fn has_class(rooms: &Rooms, name: &str) -> bool {
    let pattern = |class: &RoomClass| class.pattern.as_str().into();
    let class = |class| Arc::new(outspoke_hub::RoomClass { pattern: pattern(class), ..Default::default() });
    let default = Arc::default();
    let classes = outspoke_hub::RoomClasses {
        classes: rooms.classes.iter().map(class).collect(),
        default: Arc::clone(&default),
        ..Default::default()
    };
    !Arc::ptr_eq(classes.of(name), &default)
}

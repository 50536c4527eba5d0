//! Rules between settings: values that are each acceptable, but not together.
//!
//! Runs after all values are read. A rule is skipped if one of its settings is itself wrong, so that one mistake is
//! reported once. The place blamed is that of the setting which the operator wrote.

use super::error::{Fault, Problem};
use super::resolve::Resolver;
use super::settings::Config;
use super::source::Source;

/// Everything that does not fit together.
pub(super) fn check(config: &Config, resolver: &Resolver) -> Vec<Problem> {
    let mut rules = Rules { resolver, problems: Vec::new() };
    rules.cluster(config);
    rules.heartbeat(config);
    rules.sizes(config);
    rules.default_room(config);
    rules.problems
}

struct Rules<'a> {
    resolver: &'a Resolver,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    /// Reports a broken rule, unless one of its settings is itself unusable.
    fn broken(&mut self, keys: &[&str], what: String, hint: &str) {
        if keys.iter().any(|key| self.resolver.is_bad(key)) {
            return;
        }
        let at = keys.iter().map(|key| self.resolver.source(key)).max().unwrap_or(Source::Default);
        self.problems.push(Problem { at, fault: Fault::Rule(what), hint: hint.to_owned() });
    }

    /// `key (value, source)`, for sentences that compare two settings.
    fn named(&self, key: &str) -> String {
        let setting = self.resolver.settings.iter().find(|setting| setting.key.path == key);
        let value = setting.map(|setting| setting.items.join(",")).unwrap_or_default();
        format!("{key} ({value}, {})", self.resolver.source(key))
    }

    fn cluster(&mut self, config: &Config) {
        if config.cluster.enabled {
            let what = "cluster.enabled is true, but this build has no cluster back end yet".to_owned();
            self.broken(
                &["cluster.enabled"],
                what,
                "set cluster.enabled to false to run this server on its own",
            );
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
    }

    fn default_room(&mut self, config: &Config) {
        let [room, limit] = ["rooms.default", "limits.room_name_bytes_max"];
        if config.rooms.default.len() > config.limits.room_name_bytes_max {
            let what = format!("{room} is longer than {}", self.named(limit));
            self.broken(&[room, limit], what, "choose a shorter name or raise the limit");
        }
    }
}

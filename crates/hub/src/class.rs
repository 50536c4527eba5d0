//! Room classes: what a room keeps, tells and allows, by its name.
//!
//! Plain data, checked once at start. A room takes its class when it comes into being ([`RoomClasses::of`]) and keeps
//! it until it ends; the classes of private conversations and of everything without a class of its own are there from the
//! start.

use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::Durability;
use outspoke_store::Retention;

use crate::config::{InvalidConfig, SlowClient};
use crate::direct::is_reserved;

/// Who may publish to a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publishers {
    /// Every client in it.
    #[default]
    Members,
    /// Only the application: through the library or the HTTP API.
    Server,
}

/// What the rooms of one class keep, tell and allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomClass {
    /// Which rooms: a name in which each `*` stands for any text, also none (`lobby`, `chat:*`, `*`).
    pub pattern: EcoString,
    /// What an acknowledgement means. Default: none; nothing is kept, whatever `history` says.
    pub durability: Durability,
    /// The store that keeps the rooms, by the name the hub was given it under. Default: the first one.
    pub store: Option<EcoString>,
    /// How much is kept. Default: 1,000 messages, 1 MiB, 7 days. Zero: no limit of that kind; of the number and bytes of
    /// messages kept in memory one must be limited.
    pub history: Retention,
    /// Whether members can ask who is in the room. Default: yes.
    pub presence: bool,
    /// Whether members are told who comes and goes. Default: yes.
    pub announce: bool,
    /// In rooms with more members comings and goings are told together, once per `crowd_interval`. Default 1000.
    pub announce_members_max: usize,
    /// How often they are told together. Default 2 s.
    pub crowd_interval: Duration,
    /// A user who comes back within this time after a lost connection has neither left nor joined. Default zero:
    /// everybody is told at once.
    pub leave_grace: Duration,
    /// Who may publish. Default: members.
    pub publishers: Publishers,
    /// Whether authors may edit and delete what they said, and members may react to it. Default: yes, where the room keeps messages.
    pub amendments: bool,
    /// Whether the room keeps who has received and read how much. Default: yes, where the room keeps messages.
    pub receipts: bool,
    /// In rooms with more members only numbers are told, once per `crowd_interval`. Default 100.
    pub receipts_members_max: usize,
    /// What happens to the room's messages for a member that reads too slowly. Default: disconnect.
    pub slow_client: SlowClient,
    /// Members of one room. Default 0, unlimited; more is answered with `room_full`.
    pub members_max: usize,
    /// Largest body published to the room, in bytes. Default 0: what the hub takes from a client; more is answered
    /// with `content_too_long`.
    pub message_bytes_max: usize,
}

impl Default for RoomClass {
    fn default() -> Self {
        Self {
            pattern: EcoString::inline("*"),
            durability: Durability::None,
            store: None,
            history: Retention {
                records_max: 1000,
                bytes_max: 1024 * 1024,
                age_max: Duration::from_secs(7 * 24 * 3600),
            },
            presence: true,
            announce: true,
            announce_members_max: 1000,
            crowd_interval: Duration::from_secs(2),
            leave_grace: Duration::ZERO,
            publishers: Publishers::Members,
            amendments: true,
            receipts: true,
            receipts_members_max: 100,
            slow_client: SlowClient::Disconnect,
            members_max: 0,
            message_bytes_max: 0,
        }
    }
}

impl RoomClass {
    /// A class for the rooms whose names match, otherwise as the default.
    #[must_use]
    pub fn new(pattern: impl Into<EcoString>) -> Self {
        Self { pattern: pattern.into(), ..Self::default() }
    }

    /// Whether the class keeps messages.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.durability != Durability::None
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        let pattern = &self.pattern;
        if pattern.is_empty() {
            return Err(invalid(
                "a room class has an empty pattern: write the name of a room, or `*`".to_owned(),
            ));
        }
        let Retention { records_max, bytes_max, .. } = self.history;
        if self.durability == Durability::Memory && records_max == 0 && bytes_max == 0 {
            let text = "keeps messages in memory without a limit: limit their number or their bytes";
            return Err(invalid(format!("the room class `{pattern}` {text}")));
        }
        if self.crowd_interval.is_zero() {
            return Err(invalid(format!("the room class `{pattern}`: crowd_interval must not be zero")));
        }
        Ok(())
    }
}

/// Every class of a hub. The first whose pattern matches is a room's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomClasses {
    /// Tried in this order.
    pub classes: Vec<Arc<RoomClass>>,
    /// For rooms that no other class matches.
    pub default: Arc<RoomClass>,
    /// For private conversations, whose names (they begin with `@`) no pattern is asked about. A class that keeps no
    /// messages switches them off.
    pub direct: Arc<RoomClass>,
}

impl Default for RoomClasses {
    fn default() -> Self {
        let direct = RoomClass {
            pattern: EcoString::inline("direct"),
            durability: Durability::Memory,
            announce: false,
            ..RoomClass::default()
        };
        Self { classes: Vec::new(), default: Arc::default(), direct: Arc::new(direct) }
    }
}

impl RoomClasses {
    /// One class for every room.
    #[must_use]
    pub fn all(class: RoomClass) -> Self {
        Self { default: Arc::new(class), ..Self::default() }
    }

    /// The class of rooms that no other class matches, to change it.
    pub fn default_mut(&mut self) -> &mut RoomClass {
        Arc::make_mut(&mut self.default)
    }

    /// The class of a room with that name.
    #[must_use]
    pub fn of(&self, name: &str) -> &Arc<RoomClass> {
        if is_reserved(name) {
            return &self.direct;
        }
        self.classes.iter().find(|class| matches(&class.pattern, name)).unwrap_or(&self.default)
    }

    /// Every class.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RoomClass>> {
        self.classes.iter().chain([&self.default, &self.direct])
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        self.iter().try_for_each(|class| class.validate())
    }
}

fn invalid(problem: String) -> InvalidConfig {
    InvalidConfig { key: "rooms", problem }
}

/// Whether a name fits a pattern in which `*` stands for any text. Linear in practice, at worst the product of both
/// lengths, which are bounded.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(mut part) = parts.next() else { return rest.is_empty() };
    for next in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        part = next;
    }
    rest.ends_with(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, name, fits) in [
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("*", "anything", true),
            ("chat:*", "chat:", true),
            ("chat:*", "chat:rust", true),
            ("chat:*", "xchat:rust", false),
            ("*:log", "build:log", true),
            ("*:log", "build:logs", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abcb", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn first_matching_class_is_the_rooms() {
        let classes = RoomClasses {
            classes: vec![Arc::new(RoomClass::new("chat:vip")), Arc::new(RoomClass::new("chat:*"))],
            ..RoomClasses::default()
        };
        assert_eq!(classes.of("chat:vip").pattern, "chat:vip");
        assert_eq!(classes.of("chat:rust").pattern, "chat:*");
        assert_eq!(classes.of("lobby").pattern, "*");
    }
}

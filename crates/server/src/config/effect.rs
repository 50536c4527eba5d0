//! What a changed setting takes to count: nothing, another client, another room, or another start.
//!
//! One table, beside the settings: the reference prints it, a reload goes by it. A setting that nobody has
//! decided upon waits for a restart, and is said to.

use std::fmt;

/// When another value of a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once, for everybody.
    AtOnce,
    /// For clients, or requests, that come from now on.
    NewClients,
    /// Rooms that begin from now on take all of it, those that exist what can change in them.
    NewRooms,
    /// When the server is started again.
    Restart,
}

/// The settings that are not decided when the server starts. A path ends with a dot where it stands for a whole section; the
/// longest that fits counts.
const LIVE: &[(&str, Effect)] = &[
    ("server.read_timeout", Effect::AtOnce),
    ("server.write_timeout", Effect::AtOnce),
    ("server.header_timeout", Effect::NewClients),
    ("server.header_bytes_max", Effect::NewClients),
    ("server.headers_max", Effect::NewClients),
    ("server.shutdown_timeout", Effect::AtOnce),
    ("server.connections_max", Effect::NewClients),
    ("server.page", Effect::AtOnce),
    ("server.docs", Effect::AtOnce),
    ("server.conformance_echo", Effect::AtOnce),
    ("server.trusted_proxies", Effect::NewClients),
    ("tls.certificate", Effect::NewClients),
    ("tls.key", Effect::NewClients),
    ("tls.certificates", Effect::NewClients),
    ("tls.client_ca", Effect::NewClients),
    ("tls.client_auth", Effect::NewClients),
    ("tls.hsts", Effect::NewClients),
    ("origins.", Effect::NewClients),
    ("drain.", Effect::AtOnce),
    ("inspect.slow", Effect::AtOnce),
    ("heartbeat.", Effect::AtOnce),
    ("limits.", Effect::AtOnce),
    ("limits.username_chars_max", Effect::NewClients),
    ("limits.user_id_bytes_max", Effect::NewClients),
    ("limits.unauthenticated_max", Effect::NewClients),
    ("limits.inbox_bytes_max", Effect::Restart),
    ("rooms.", Effect::AtOnce),
    ("rooms.default", Effect::NewClients),
    ("rooms.durability", Effect::NewRooms),
    ("rooms.store", Effect::NewRooms),
    ("rooms.presence", Effect::NewRooms),
    ("rooms.announce", Effect::NewRooms),
    ("rooms.receipts", Effect::NewRooms),
    ("rooms.classes", Effect::NewRooms),
    ("rooms.direct.durability", Effect::NewRooms),
    ("rooms.direct.store", Effect::NewRooms),
    ("rooms.direct.receipts", Effect::NewRooms),
    ("store.timeout", Effect::AtOnce),
    ("tenants.", Effect::AtOnce),
    ("auth.", Effect::NewClients),
    ("api.", Effect::AtOnce),
    ("admin.", Effect::AtOnce),
    ("admin.addr", Effect::Restart),
    ("files.", Effect::AtOnce),
    ("files.enabled", Effect::Restart),
    ("files.dir", Effect::Restart),
    ("files.preview_threads", Effect::Restart),
    ("files.preview_queue_max", Effect::Restart),
    ("files.link_key", Effect::Restart),
    ("files.sweep_interval", Effect::Restart),
    ("compression.", Effect::AtOnce),
    ("compression.enabled", Effect::NewClients),
    ("log.", Effect::AtOnce),
    ("reload.", Effect::AtOnce),
];

/// When another value of the setting with this path counts.
pub fn effect(path: &str) -> Effect {
    let fits =
        |known: &&(&str, Effect)| known.0 == path || (known.0.ends_with('.') && path.starts_with(known.0));
    let known = LIVE.iter().filter(fits).max_by_key(|(known, _)| known.len());
    known.map_or(Effect::Restart, |(_, effect)| *effect)
}

impl Effect {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::NewClients => "new_clients",
            Self::NewRooms => "new_rooms",
            Self::Restart => "restart",
        }
    }
}

/// The rest of a sentence that begins with "counts".
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtOnce => "at once",
            Self::NewClients => "for clients that connect from now on",
            Self::NewRooms => "at once where a room can change, and in full for rooms that begin from now on",
            Self::Restart => "after a restart",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_the_table_is_a_setting_or_a_section() {
        let keys: Vec<&str> =
            super::super::sections().iter().flat_map(|section| &section.keys).map(|key| key.path).collect();
        for (path, _) in LIVE {
            let known = keys.iter().any(|key| key == path || (path.ends_with('.') && key.starts_with(path)));
            assert!(known, "{path}");
        }
    }

    #[test]
    fn longest_entry_counts_and_unknown_settings_wait_for_a_restart() {
        assert_eq!(effect("limits.rooms_max"), Effect::AtOnce);
        assert_eq!(effect("limits.inbox_bytes_max"), Effect::Restart);
        assert_eq!(effect("rooms.classes"), Effect::NewRooms);
        assert_eq!(effect("stores"), Effect::Restart);
        assert_eq!(effect("store.postgresql.url"), Effect::Restart);
        assert_eq!(effect("server.addr"), Effect::Restart);
        assert_eq!(effect("server.pages"), Effect::Restart);
    }
}

//! The names of keys.
//!
//! What belongs together in one script has the same part in braces, and so is on one node of a cluster. Names of tenants and
//! rooms are encoded: whatever they are, they are told apart, and none has a brace or a slash.

use std::fmt::Write as _;

use crate::LogKey;

/// Makes the names of keys.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    /// Who writes: each store has its own turns.
    writer: u64,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), writer: fastrand::u64(..) }
    }

    /// How the data is laid out.
    pub(super) fn format(&self) -> String {
        format!("{}:format", self.prefix)
    }

    /// Every tenant there may be.
    pub(super) fn tenants(&self) -> String {
        format!("{}:tenants", self.prefix)
    }

    /// A tenant's rooms.
    pub(super) fn rooms(&self, tenant: &str) -> String {
        format!("{}:{{{}}}:rooms", self.prefix, encoded(tenant))
    }

    /// A tenant's families of facts.
    pub(super) fn spaces(&self, tenant: &str) -> String {
        format!("{}:{{{}}}:spaces", self.prefix, encoded(tenant))
    }

    fn log_key(&self, log: &LogKey, what: &str) -> String {
        format!("{}:{{{}/{}}}:{what}", self.prefix, encoded(&log.tenant), encoded(&log.room))
    }

    pub(super) fn state(&self, log: &LogKey) -> String {
        self.log_key(log, "state")
    }

    pub(super) fn stream(&self, log: &LogKey) -> String {
        self.log_key(log, "log")
    }

    /// Ids and keys, and what they were answered with.
    pub(super) fn seen(&self, log: &LogKey) -> String {
        self.log_key(log, "seen")
    }

    /// What was seen, the oldest first.
    pub(super) fn order(&self, log: &LogKey) -> String {
        self.log_key(log, "order")
    }

    pub(super) fn replaced(&self, log: &LogKey) -> String {
        self.log_key(log, "replaced")
    }

    /// The last commit of this store that may not be followed by an earlier one.
    pub(super) fn turn(&self, log: &LogKey) -> String {
        self.log_key(log, &format!("turn:{:016x}", self.writer))
    }

    /// Of a family of facts: their names in order, their values, and this store's turn.
    pub(super) fn facts(&self, (tenant, space): (&str, &str)) -> [String; 3] {
        let base = format!("{}:{{{}/{}}}", self.prefix, encoded(tenant), encoded(space));
        [format!("{base}:names"), format!("{base}:values"), format!("{base}:facts-turn:{:016x}", self.writer)]
    }
}

fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for &byte in name.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_odd_names_have_one_tag_and_are_told_apart() {
        let keys = Keys::new("hub");
        let of = |tenant: &str, room: &str| keys.state(&LogKey { tenant: tenant.into(), room: room.into() });
        assert_eq!(of("a", "b c"), "hub:{a/b%20c}:state");
        assert_eq!(of("", "}{"), "hub:{/%7D%7B}:state");
        assert_ne!(of("a/b", "c"), of("a", "b/c"));
        assert_ne!(of("a%2Fb", "c"), of("a/b", "c"));
    }
}

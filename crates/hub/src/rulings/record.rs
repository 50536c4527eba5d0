//! Rulings as bytes: in the store, and on the bus.
//!
//! A record is the time it was decided at (milliseconds, eight bytes, the greatest first) and JSON, so that of two about the same
//! thing the greater by its bytes is the later one: stores keep the greater (`FactWrite::Max`), and so does every node. What is not
//! understood, or cannot be, is no ruling; fields that are not known are passed over.

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{RoomName, Timestamp, UserId};
use outspoke_store::FactKey;
use serde::{Deserialize, Serialize};

use super::{RULING_LASTS_MAX, Ruling, RulingError, Subject, Verdict, after};
use crate::facts::{self, RULINGS};
use crate::policy::Permissions;
use crate::tenant::check_name;

/// Longest id of a token, a user or a device that can be ruled about, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Longest list of permissions, as JSON.
const PERMISSIONS_BYTES_MAX: usize = 16 * 1024;
/// What stores take.
const NAME_BYTES_MAX: usize = 1024;
/// Longest record that is looked at.
const RECORD_BYTES_MAX: usize = 32 * 1024;
/// How far other nodes' clocks may be ahead.
const AHEAD_MAX: i64 = 24 * 3600 * 1000;
/// How long rulings are remembered after their end, at least and at most.
const REMEMBERED: (i64, i64) = (60_000, 24 * 3600 * 1000);
/// What names of rulings begin with; those of journals begin with [`JOURNAL`].
pub(super) const RULING: &str = "r";
pub(super) const JOURNAL: &str = "j";

/// A ruling, or the lifting of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is about, as one name: see [`name_of`].
    pub(super) name: Bytes,
    pub(super) tenant: EcoString,
    pub(super) ruling: Ruling,
    /// When it was decided, in milliseconds: of two with the same name the later counts.
    pub(super) made: i64,
    /// It does not hold any more.
    pub(super) lifted: bool,
}

#[derive(Serialize, Deserialize)]
struct Words {
    tenant: EcoString,
    subject: SubjectWord,
    verdict: VerdictWord,
    issued_before: i64,
    until: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lifted: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SubjectWord {
    Token(EcoString),
    User(EcoString),
    Device { user: EcoString, device: EcoString },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerdictWord {
    Revoked { reconnect: bool },
    Permissions(Permissions),
    Barred { room: EcoString },
}

impl Entry {
    /// A decision of this hub's.
    pub(super) fn new(
        tenant: &EcoString,
        ruling: Ruling,
        now: Timestamp,
        after: Option<i64>,
    ) -> Result<Self, RulingError> {
        check(&ruling, now)?;
        let name = name_of(tenant, &ruling);
        if name.len() > NAME_BYTES_MAX {
            return Err(RulingError::Invalid("the ids and the room's name are too long together"));
        }
        // Later than what it replaces, whichever clock that was decided by.
        let made = now.as_millis().max(after.map_or(0, |after| after.saturating_add(1)));
        Ok(Self { name, tenant: tenant.clone(), ruling, made, lifted: false })
    }

    /// The same thing, and that it does not hold any more.
    pub(super) fn lifted(&self, now: Timestamp) -> Self {
        Self { made: now.as_millis().max(self.made.saturating_add(1)), lifted: true, ..self.clone() }
    }

    pub(super) fn encode(&self) -> Bytes {
        let subject = match &self.ruling.subject {
            Subject::Token(id) => SubjectWord::Token(id.clone()),
            Subject::User(user) => SubjectWord::User(user.as_str().into()),
            Subject::Device { user, device } => {
                SubjectWord::Device { user: user.as_str().into(), device: device.clone() }
            }
        };
        let verdict = match &self.ruling.verdict {
            Verdict::Revoked { reconnect } => VerdictWord::Revoked { reconnect: *reconnect },
            Verdict::Permissions(permissions) => VerdictWord::Permissions(permissions.clone()),
            Verdict::Barred { room } => VerdictWord::Barred { room: room.as_str().into() },
        };
        let words = Words {
            tenant: self.tenant.clone(),
            subject,
            verdict,
            issued_before: self.ruling.issued_before.as_millis(),
            until: self.ruling.until.as_millis(),
            lifted: self.lifted,
        };
        let mut bytes = self.made.unsigned_abs().to_be_bytes().to_vec();
        serde_json::to_writer(&mut bytes, &words).expect("texts and numbers are JSON, and memory takes them");
        Bytes::from(bytes)
    }

    /// What somebody else has written; `None` for what is no ruling.
    pub(super) fn decode(bytes: &[u8], now: Timestamp) -> Option<Self> {
        if bytes.len() > RECORD_BYTES_MAX {
            return None;
        }
        let (made, json) = bytes.split_first_chunk::<8>()?;
        let made = i64::try_from(u64::from_be_bytes(*made)).ok()?;
        let words: Words = serde_json::from_slice(json).ok()?;
        if !words.tenant.is_empty() {
            check_name(&words.tenant).ok()?;
        }
        let subject = match words.subject {
            SubjectWord::Token(id) => Subject::Token(id),
            SubjectWord::User(user) => Subject::User(UserId::new(user)),
            SubjectWord::Device { user, device } => Subject::Device { user: UserId::new(user), device },
        };
        let verdict = match words.verdict {
            VerdictWord::Revoked { reconnect } => Verdict::Revoked { reconnect },
            VerdictWord::Permissions(permissions) => Verdict::Permissions(permissions),
            VerdictWord::Barred { room } => {
                Verdict::Barred { room: RoomName::new(&room, NAME_BYTES_MAX).ok()? }
            }
        };
        let ruling = Ruling {
            subject,
            verdict,
            issued_before: Timestamp::from_millis(words.issued_before),
            until: Timestamp::from_millis(words.until),
        };
        check_shape(&ruling).ok()?;
        // Who believed one from the far future could never lift it, nor forget it.
        let latest = now.as_millis().saturating_add(AHEAD_MAX);
        let longest = after(Timestamp::from_millis(latest), RULING_LASTS_MAX);
        let name = name_of(&words.tenant, &ruling);
        if made > latest || ruling.until > longest || name.len() > NAME_BYTES_MAX {
            return None;
        }
        Some(Self { name, tenant: words.tenant, ruling, made, lifted: words.lifted })
    }

    /// Where the store has it: under no tenant, for all are read at start.
    pub(super) fn key(&self) -> FactKey {
        key_of(self.name.clone())
    }

    /// Of two about the same thing, whether this is the later one. The same on every node, also for two of the same moment.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.made > other.made || (self.made == other.made && self.encode() > other.encode())
    }

    /// Until when it is remembered: after its end for as long again as it held, a minute at least and a day at most.
    /// Other nodes' clocks may be behind, and this one's ahead.
    pub(super) fn remembered_until(&self) -> Timestamp {
        let until = self.ruling.until.as_millis();
        let held = until.saturating_sub(self.made).clamp(REMEMBERED.0, REMEMBERED.1);
        Timestamp::from_millis(until.saturating_add(held))
    }

    /// Whether it holds at that time.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        !self.lifted && self.ruling.until > now
    }
}

pub(super) fn key_of(name: Bytes) -> FactKey {
    FactKey { tenant: EcoString::new(), space: RULINGS, name }
}

/// Rulings with the same name replace each other.
fn name_of(tenant: &str, ruling: &Ruling) -> Bytes {
    let mut parts = vec![RULING, tenant];
    match &ruling.subject {
        Subject::Token(id) => parts.extend(["token", id]),
        Subject::User(user) => parts.extend(["user", user.as_str()]),
        Subject::Device { user, device } => parts.extend(["device", user.as_str(), device]),
    }
    match &ruling.verdict {
        Verdict::Revoked { .. } => parts.push("revoked"),
        Verdict::Permissions(_) => parts.push("permissions"),
        Verdict::Barred { room } => parts.extend(["barred", room.as_str()]),
    }
    facts::name(&parts)
}

fn check(ruling: &Ruling, now: Timestamp) -> Result<(), RulingError> {
    check_shape(ruling)?;
    if ruling.until <= now {
        return Err(RulingError::Invalid("the ruling would end before it begins"));
    }
    if ruling.until > after(now, RULING_LASTS_MAX) {
        return Err(RulingError::Invalid(
            "a ruling lasts a year at most: give out credentials that end sooner",
        ));
    }
    Ok(())
}

fn check_shape(ruling: &Ruling) -> Result<(), RulingError> {
    let (id, device) = match &ruling.subject {
        Subject::Token(id) => (id.as_str(), ""),
        Subject::User(user) => (user.as_str(), ""),
        Subject::Device { user, device } => (user.as_str(), device.as_str()),
    };
    if !facts::is_nameable(id) || device.len() > ID_BYTES_MAX || device.contains('\0') {
        return Err(RulingError::Invalid("the id of a token, a user or a device has 1 to 256 bytes"));
    }
    if let Verdict::Permissions(permissions) = &ruling.verdict {
        let len = serde_json::to_string(permissions).map_or(usize::MAX, |json| json.len());
        if len > PERMISSIONS_BYTES_MAX {
            return Err(RulingError::Invalid("the permissions have more than 16 KiB as JSON"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::policy::Action;

    fn now() -> Timestamp {
        Timestamp::from_system_time(std::time::SystemTime::now())
    }

    fn entry(subject: Subject, verdict: Verdict) -> Entry {
        Entry::new(&"acme".into(), Ruling::new(subject, verdict), now(), None).unwrap()
    }

    #[test]
    fn rulings_are_remembered_for_a_while_after_their_end() {
        const DAY: i64 = 24 * 3600 * 1000;
        for (held, more) in [(10_000, 60_000), (600_000, 600_000), (DAY, DAY), (30 * DAY, DAY)] {
            let mut entry = entry(Subject::Token("t".into()), Verdict::Revoked { reconnect: false });
            entry.ruling.until = Timestamp::from_millis(entry.made + held);
            assert_eq!(entry.remembered_until().as_millis(), entry.made + held + more);
        }
    }

    fn all() -> Vec<Entry> {
        let room = RoomName::new("chat:rust", 64).unwrap();
        let user = || UserId::new("ana");
        vec![
            entry(Subject::Token("j-1".into()), Verdict::Revoked { reconnect: true }),
            entry(Subject::User(user()), Verdict::Barred { room }),
            entry(
                Subject::Device { user: user(), device: "".into() },
                Verdict::Permissions(Permissions::nothing().allow(Action::Join, "*")),
            ),
        ]
    }

    #[test]
    fn rulings_come_back_as_they_were() {
        for entry in all() {
            for entry in [entry.lifted(now()), entry] {
                assert_eq!(Entry::decode(&entry.encode(), now()), Some(entry));
            }
        }
    }

    /// Stores keep the greater.
    #[test]
    fn later_ruling_is_the_greater_by_its_bytes() {
        for entry in all() {
            let (lifted, again) = (entry.lifted(now()), entry.lifted(now()).lifted(now()));
            assert!(lifted.encode() > entry.encode() && again.encode() > lifted.encode());
            assert!(lifted.replaces(&entry) && !entry.replaces(&lifted) && !entry.replaces(&entry));
            assert_eq!(lifted.name, entry.name);
        }
    }

    #[test]
    fn rulings_of_the_far_future_and_of_unknown_kinds_are_none() {
        let good = all().remove(0).encode();
        let json = std::str::from_utf8(&good[8..]).unwrap().to_owned();
        let with = |made: u64, json: &str| {
            let mut bytes = made.to_be_bytes().to_vec();
            bytes.extend_from_slice(json.as_bytes());
            Entry::decode(&bytes, now())
        };
        let made = u64::from_be_bytes(good[..8].try_into().unwrap());
        assert!(with(made, &json).is_some());
        assert!(with(made, &json.replace("\"lifted\"", "\"other\"")).is_some());
        assert!(with(u64::MAX, &json).is_none() && with(made + (2 * AHEAD_MAX) as u64, &json).is_none());
        for (old, new) in [
            ("revoked", "hanged"),
            ("token", "planet"),
            ("j-1", ""),
            ("j-1", &"x".repeat(257)),
            ("j-1", "a\\u0000b"),
            ("acme", "../x"),
            ("\"until\":", "\"until\":9"),
        ] {
            assert!(with(made, &json.replace(old, new)).is_none(), "{old} -> {new}");
        }
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = Entry::decode(&bytes, now());
        }
    }

    #[test]
    fn rulings_that_cannot_be_say_why() {
        let refused = |ruling: Ruling| Entry::new(&EcoString::new(), ruling, now(), None).unwrap_err();
        let token = |id: &str| Ruling::new(Subject::Token(id.into()), Verdict::Revoked { reconnect: false });
        for ruling in [
            token(""),
            token(&"x".repeat(257)),
            token("a").lasting(Duration::ZERO),
            token("a").lasting(RULING_LASTS_MAX + Duration::from_secs(60)),
        ] {
            assert!(matches!(refused(ruling), RulingError::Invalid(_)));
        }
        let mut many = Permissions::nothing();
        for index in 0..2000 {
            many = many.allow(Action::Join, format!("room-{index}"));
        }
        let ruling = Ruling::new(Subject::User(UserId::new("a")), Verdict::Permissions(many));
        assert!(matches!(refused(ruling), RulingError::Invalid(_)));
    }
}

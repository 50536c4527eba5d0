//! What an identity may do, and the one function that decides it.
//!
//! Everything that asks on somebody's behalf asks [`check`]: requests over a connection, the HTTP API, files, and what another
//! node says. Who somebody *is* is [`crate::auth`]'s; what a room itself allows is its [class](crate::RoomClass)'s.

mod bans;
mod callers;
mod check;
mod grants;
mod removal;

use std::sync::Arc;

use ecow::EcoString;
use serde::{Deserialize, Serialize};

pub(crate) use self::check::{On, Who, check, check_reaction};
pub(crate) use self::grants::{Actions, Granted, Grants};
use crate::class::matches;

/// What is done to a room, or to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// Coming into a room and being sent what is said there; saying what one has received and read.
    Join,
    /// Saying something in a room; changing, deleting and reacting to what is said there, as far as it is one's own; typing.
    Publish,
    /// Reading what was said before: pages of history, and what is sent to who comes back.
    History,
    /// Asking who is in a room, and how far they have read.
    Presence,
    /// Deleting what others have said, removing users from a room, and setting its topic where that is not everybody's.
    Moderate,
    /// Writing to a user privately; the pattern is of user ids.
    Direct,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 6] =
        [Self::Join, Self::Publish, Self::History, Self::Presence, Self::Moderate, Self::Direct];

    /// The action's name, in claims and in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
            Self::Moderate => "moderate",
            Self::Direct => "direct",
        }
    }
}

/// Which actions an identity may do, and where: lists of patterns in which `*` stands for any text, also none.
///
/// Cheap to clone. As JSON it is an object of lists, all of which may be absent; an absent one allows nothing:
///
/// ```
/// use outspoke_hub::{Action, Permissions};
///
/// let claim = r#"{"join": ["lobby", "chat:*"], "publish": ["chat:*"]}"#;
/// let permissions: Permissions = serde_json::from_str(claim)?;
/// assert!(permissions.allows(Action::Publish, "chat:rust"));
/// assert!(!permissions.allows(Action::Publish, "lobby"));
/// assert!(!permissions.allows(Action::History, "chat:rust"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(Arc<Lists>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lists {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    join: Vec<EcoString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publish: Vec<EcoString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<EcoString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    presence: Vec<EcoString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    moderate: Vec<EcoString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    direct: Vec<EcoString>,
}

impl Lists {
    fn of(&self, action: Action) -> &[EcoString] {
        match action {
            Action::Join => &self.join,
            Action::Publish => &self.publish,
            Action::History => &self.history,
            Action::Presence => &self.presence,
            Action::Moderate => &self.moderate,
            Action::Direct => &self.direct,
        }
    }

    fn of_mut(&mut self, action: Action) -> &mut Vec<EcoString> {
        match action {
            Action::Join => &mut self.join,
            Action::Publish => &mut self.publish,
            Action::History => &mut self.history,
            Action::Presence => &mut self.presence,
            Action::Moderate => &mut self.moderate,
            Action::Direct => &mut self.direct,
        }
    }
}

/// What a member may: everything but moderate, everywhere.
impl Default for Permissions {
    fn default() -> Self {
        // Shared, so that a connection without permissions of its own costs none.
        member().clone()
    }
}

fn member() -> &'static Permissions {
    static MEMBER: std::sync::OnceLock<Permissions> = std::sync::OnceLock::new();
    MEMBER.get_or_init(|| {
        [Action::Join, Action::Publish, Action::History, Action::Presence, Action::Direct]
            .into_iter()
            .fold(Permissions::nothing(), |permissions, action| permissions.allow(action, "*"))
    })
}

impl Permissions {
    /// Nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self(Arc::default())
    }

    /// Everything, everywhere.
    #[must_use]
    pub fn everything() -> Self {
        Action::ALL.into_iter().fold(Self::nothing(), |permissions, action| permissions.allow(action, "*"))
    }

    /// The same, and `action` wherever the pattern fits.
    #[must_use]
    pub fn allow(mut self, action: Action, pattern: impl Into<EcoString>) -> Self {
        Arc::make_mut(&mut self.0).of_mut(action).push(pattern.into());
        self
    }

    /// The patterns for an action.
    #[must_use]
    pub fn patterns(&self, action: Action) -> &[EcoString] {
        self.0.of(action)
    }

    /// Whether these are the ones that nobody has said anything about. Others may allow the same; this is the quick look.
    pub(crate) fn are_default(&self) -> bool {
        Arc::ptr_eq(&self.0, &member().0)
    }

    /// Whether `action` is allowed on the room (or, for [`Action::Direct`], the user) of that name.
    #[must_use]
    pub fn allows(&self, action: Action, name: &str) -> bool {
        if self.are_default() {
            return action != Action::Moderate;
        }
        self.0.of(action).iter().any(|pattern| matches(pattern, name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn permissions_allow_what_their_patterns_say_and_nothing_else() {
        let permissions =
            Permissions::nothing().allow(Action::Join, "chat:*").allow(Action::Direct, "support");
        assert!(permissions.allows(Action::Join, "chat:a") && permissions.allows(Action::Direct, "support"));
        assert!(!permissions.allows(Action::Publish, "chat:a") && !permissions.allows(Action::Join, "lobby"));
        assert!(Action::ALL.iter().all(|action| !Permissions::nothing().allows(*action, "chat:a")));
        assert!(Action::ALL.iter().all(|action| Permissions::everything().allows(*action, "chat:a")));
    }

    #[test]
    fn members_may_everything_but_moderate() {
        let refused: Vec<_> =
            Action::ALL.into_iter().filter(|action| !Permissions::default().allows(*action, "x")).collect();
        assert_eq!(refused, [Action::Moderate]);
    }

    #[test]
    fn permissions_of_unknown_actions_or_other_shapes_are_no_permissions() {
        for wrong in [r#"{"jion":["*"]}"#, r#"{"join":"*"}"#, r#"["*"]"#, r#"{"join":[1]}"#, "null"] {
            assert!(serde_json::from_str::<Permissions>(wrong).is_err(), "{wrong}");
        }
        let permissions = Permissions::nothing().allow(Action::Join, "a").allow(Action::Join, "b*");
        let text = serde_json::to_string(&permissions).unwrap();
        assert_eq!(text, r#"{"join":["a","b*"]}"#);
        assert_eq!(serde_json::from_str::<Permissions>(&text).unwrap(), permissions);
    }
}

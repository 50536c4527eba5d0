//! Permissions that are the same for everybody but for the user's own rooms: `inbox:{user}`.

use outspoke_hub::{Action, Permissions};
use serde::Deserialize as _;

/// What stands for the user's id.
const USER: &str = "{user}";

/// The permissions with `{user}` replaced by the id.
///
/// The id is taken literally. A `*` in it would not be: `inbox:{user}` of a user named `*` were every inbox. Patterns know no
/// escape, so such a user is refused where a pattern names the user, and nowhere else.
///
/// # Errors
/// What is wrong with the user's id, to follow its name.
pub(crate) fn for_user(permissions: &Permissions, user: &str) -> Result<Permissions, &'static str> {
    let patterns = |action: &Action| permissions.patterns(*action).iter();
    if !Action::ALL.iter().flat_map(patterns).any(|pattern| pattern.contains(USER)) {
        return Ok(permissions.clone());
    }
    if user.contains('*') {
        return Err("has a *, which would stand for any text in the patterns with {user}");
    }
    Ok(Action::ALL.into_iter().fold(Permissions::nothing(), |all, action| {
        permissions
            .patterns(action)
            .iter()
            .fold(all, |all, pattern| all.allow(action, pattern.replace(USER, user)))
    }))
}

/// The permissions in a claim or an answer: an object of lists. (A list of lists would be read as one too.)
pub(crate) fn from_json(value: &serde_json::Value) -> Option<Permissions> {
    value.is_object().then(|| Permissions::deserialize(value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn user_in_a_pattern_is_the_users_id_and_nothing_else() {
        let permissions = Permissions::nothing()
            .allow(Action::Join, "inbox:{user}")
            .allow(Action::Publish, "{user}:*:{user}");
        let annas = for_user(&permissions, "anna").unwrap();
        assert!(annas.allows(Action::Join, "inbox:anna") && annas.allows(Action::Publish, "anna:x:anna"));
        assert!(!annas.allows(Action::Join, "inbox:bert") && !annas.allows(Action::Join, "inbox:{user}"));
        // A user id that looks like the place-holder is not replaced again.
        assert!(for_user(&permissions, "{user}").unwrap().allows(Action::Join, "inbox:{user}"));
    }

    #[test]
    fn star_in_a_users_id_opens_no_other_room() {
        let own = Permissions::nothing().allow(Action::Join, "inbox:{user}");
        for user in ["*", "a*", "*a", "a*b"] {
            assert!(for_user(&own, user).is_err(), "{user}");
            assert_eq!(for_user(&Permissions::default(), user), Ok(Permissions::default()));
        }
    }
}

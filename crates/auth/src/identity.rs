//! What user ids, devices, tenants and names may be, whoever says them.

/// How long they may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdentityLimits {
    pub(crate) user_id_bytes_max: usize,
    pub(crate) username_chars_max: usize,
}

const UNPRINTABLE: &str = "has control or invisible characters";

/// Whether this can be a user's, device's or tenant's id; what is wrong with it, to follow its name.
pub(crate) fn check_id(id: &str, limits: IdentityLimits) -> Result<(), String> {
    let max = limits.user_id_bytes_max;
    match () {
        () if id.len() > max => Err(format!("has more than {max} bytes")),
        () if id.chars().any(crate::is_unprintable) => Err(UNPRINTABLE.to_owned()),
        () => Ok(()),
    }
}

/// Whether this can be a name to show.
pub(crate) fn check_name(name: &str, limits: IdentityLimits) -> Result<(), String> {
    let max = limits.username_chars_max;
    match () {
        () if name.chars().count() > max => Err(format!("has more than {max} characters")),
        () if name.chars().any(crate::is_unprintable) => Err(UNPRINTABLE.to_owned()),
        () => Ok(()),
    }
}

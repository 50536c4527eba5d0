//! What the claims of a token say: when it is good, for whom, and who shows it.
//!
//! [`ClaimRules`] are the configuration's. Types are strict: a claim of another type than RFC 7519 gives it is refused, never
//! converted. Times are whole seconds; the issuer's and this machine's clock may differ by the leeway. Revoked credentials
//! and what the permissions mean are the hub's.

use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use outspoke_hub::{Action, Identity, Permissions, Timestamp};
use serde_json::{Map, Value};

use crate::error::TokenError;
use crate::identity::{IdentityLimits, check_id, check_name};
use crate::permissions::{for_user, from_json};

/// 9999-12-31T23:59:59Z. Later times are a mistake, and some of them overflow.
const SECONDS_MAX: i64 = 253_402_300_799;
/// Longest `jti`.
const CREDENTIAL_BYTES_MAX: usize = 256;

pub(crate) type Claims = Map<String, Value>;

/// What tokens must say, and where they say it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimRules {
    /// How far the clocks of issuer and server may differ. Default: 30 s.
    pub leeway: Duration,
    /// How long a token may be valid, from `iat` (or now, without one) to `exp`. Default: no limit.
    pub lifetime_max: Option<Duration>,
    /// Accepted issuers (`iss`). Default: none named, and any accepted.
    pub issuers: Vec<String>,
    /// Names of this service (`aud`); a token must be for one of them. Default: none, and a token that has an audience is
    /// refused, because it is for somebody else (RFC 7519, section 4.1.3).
    pub audiences: Vec<String>,
    /// The claim with the user's id. Default: `sub`.
    pub user_claim: String,
    /// The claim with the name to show. Default: `name`. Without it the user's id is shown.
    pub name_claim: String,
    /// The claim with the tenant. Default: `tenant`.
    pub tenant_claim: String,
    /// What may be done with a token that does not say (`rooms`). `{user}` in a pattern stands for the user's id.
    pub permissions: Permissions,
    /// Longest user id and device, in bytes. Default: 128.
    pub user_id_bytes_max: usize,
    /// Longest name, in characters. Default: 50.
    pub username_chars_max: usize,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self {
            leeway: Duration::from_secs(30),
            lifetime_max: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
            user_claim: "sub".to_owned(),
            name_claim: "name".to_owned(),
            tenant_claim: "tenant".to_owned(),
            permissions: Permissions::default(),
            user_id_bytes_max: 128,
            username_chars_max: 50,
        }
    }
}

/// When a token was issued and when it ends, both in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) issued: Option<i64>,
    pub(crate) expires: i64,
}

/// What a token for a room says.
#[derive(Debug)]
pub(crate) struct RoomGrant {
    pub(crate) user: String,
    pub(crate) tenant: EcoString,
    pub(crate) room: String,
    pub(crate) actions: Vec<Action>,
    pub(crate) expires: Timestamp,
}

impl ClaimRules {
    /// Whether the token is good now, and for us.
    pub(crate) fn check(&self, claims: &Claims, now: Timestamp) -> Result<Times, TokenError> {
        let now = now.as_millis().div_euclid(1000);
        let leeway = seconds(self.leeway);
        let expires = time(claims, "exp")?.ok_or_else(|| TokenError::missing("exp"))?;
        if expires.saturating_add(leeway) <= now {
            return Err(TokenError::Expired);
        }
        if time(claims, "nbf")?.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Err(TokenError::NotYet);
        }
        let issued = time(claims, "iat")?;
        if issued.is_some_and(|issued| issued > now.saturating_add(leeway)) {
            return Err(TokenError::FromTheFuture);
        }
        if let Some(max) = self.lifetime_max {
            // Who leaves out iat counts from now, so that leaving it out is no way around.
            if expires - issued.unwrap_or(now) > seconds(max) {
                return Err(TokenError::TooLasting { max_seconds: max.as_secs() });
            }
        }
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        // Whose clock is behind would otherwise be let in and closed in the same moment.
        let expires = if expires <= now { expires.saturating_add(leeway) } else { expires };
        Ok(Times { issued, expires })
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), TokenError> {
        let issuer = text(claims, "iss")?;
        if self.issuers.is_empty() {
            return Ok(());
        }
        let issuer = issuer.ok_or_else(|| TokenError::missing("iss"))?;
        if self.issuers.iter().any(|accepted| accepted == issuer) { Ok(()) } else { Err(TokenError::Issuer) }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), TokenError> {
        let audiences: Vec<&str> = match claims.get("aud") {
            None if self.audiences.is_empty() => return Ok(()),
            None => return Err(TokenError::missing("aud")),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| TokenError::wrong_type("aud", "a text or a list of texts"))?
            }
            Some(_) => return Err(TokenError::wrong_type("aud", "a text or a list of texts")),
        };
        let ours = |audience: &&str| self.audiences.iter().any(|accepted| accepted == audience);
        if audiences.iter().any(ours) { Ok(()) } else { Err(TokenError::Audience) }
    }

    /// Who shows the token.
    pub(crate) fn identity(&self, claims: Claims, times: Times) -> Result<Identity, TokenError> {
        if claims.contains_key("room") {
            return Err(TokenError::Purpose("this token is for a room; show it when joining that room"));
        }
        let user = self.user(&claims)?;
        let name = match text(&claims, &self.name_claim)? {
            Some(name) => self.name(name)?,
            None if user.chars().count() <= self.username_chars_max => EcoString::from(&user),
            None => EcoString::new(),
        };
        let mut identity = Identity::user(user.as_str()).named(name);
        identity.tenant = self.tenant(&claims)?;
        identity.device = self.id(&claims, "device")?.unwrap_or_default().into();
        identity.permissions = match claims.get("rooms") {
            None => for_user(&self.permissions, &user),
            Some(rooms) => {
                let wrong = || {
                    TokenError::wrong_type(
                        "rooms",
                        "an object with lists of patterns: {\"join\": [\"chat:*\"]}",
                    )
                };
                for_user(&from_json(rooms).ok_or_else(wrong)?, &user)
            }
        }
        .map_err(|problem| TokenError::identity(&self.user_claim, problem))?;
        identity.expires = Some(Timestamp::from_millis(times.expires.saturating_mul(1000)));
        identity.issued = times.issued.map(|issued| Timestamp::from_millis(issued.saturating_mul(1000)));
        identity.credential = match text(&claims, "jti")? {
            Some(id) if id.len() > CREDENTIAL_BYTES_MAX => {
                return Err(TokenError::identity(
                    "jti",
                    format!("has more than {CREDENTIAL_BYTES_MAX} bytes"),
                ));
            }
            id => id.unwrap_or_default().into(),
        };
        identity.claims = Some(Arc::new(Value::Object(claims)));
        Ok(identity)
    }

    /// What a token for a room allows to whom.
    pub(crate) fn room_grant(&self, claims: &Claims, times: Times) -> Result<RoomGrant, TokenError> {
        let Some(room) = text(claims, "room")? else {
            return Err(TokenError::Purpose(
                "this token is for no room; a token for one has the claim \"room\"",
            ));
        };
        if room.is_empty() || room.contains('*') {
            return Err(TokenError::identity("room", "must be the name of one room, without *"));
        }
        let actions = match claims.get("allow") {
            None => vec![Action::Join],
            Some(allow) => serde_json::from_value(allow.clone())
                .map_err(|_| TokenError::wrong_type("allow", "a list of actions: [\"join\", \"publish\"]"))?,
        };
        Ok(RoomGrant {
            user: self.user(claims)?,
            tenant: self.tenant(claims)?,
            room: room.to_owned(),
            actions,
            expires: Timestamp::from_millis(times.expires.saturating_mul(1000)),
        })
    }

    fn user(&self, claims: &Claims) -> Result<String, TokenError> {
        let claim = &self.user_claim;
        match self.id(claims, claim)? {
            Some("") => Err(TokenError::identity(claim, "is empty")),
            Some(user) => Ok(user.to_owned()),
            None => Err(TokenError::missing(claim)),
        }
    }

    /// Whether there is such a tenant, and whether its name is one, the hub decides.
    fn tenant(&self, claims: &Claims) -> Result<EcoString, TokenError> {
        Ok(self.id(claims, &self.tenant_claim)?.unwrap_or_default().into())
    }

    fn id<'a>(&self, claims: &'a Claims, claim: &str) -> Result<Option<&'a str>, TokenError> {
        let id = text(claims, claim)?;
        let checked = id.map_or(Ok(()), |id| check_id(id, self.limits()));
        checked.map_err(|problem| TokenError::identity(claim, problem))?;
        Ok(id)
    }

    fn name(&self, name: &str) -> Result<EcoString, TokenError> {
        check_name(name, self.limits()).map_err(|problem| TokenError::identity(&self.name_claim, problem))?;
        Ok(EcoString::from(name.trim()))
    }

    fn limits(&self) -> IdentityLimits {
        IdentityLimits {
            user_id_bytes_max: self.user_id_bytes_max,
            username_chars_max: self.username_chars_max,
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(SECONDS_MAX)
}

/// A `NumericDate` (RFC 7519, section 2). It may have a fraction there; none is needed, and readers differ in what they make
/// of one.
fn time(claims: &Claims, claim: &str) -> Result<Option<i64>, TokenError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    match value.as_i64() {
        Some(seconds @ 0..=SECONDS_MAX) => Ok(Some(seconds)),
        _ => Err(TokenError::wrong_type(claim, "a whole number of seconds since 1970")),
    }
}

fn text<'a>(claims: &'a Claims, claim: &str) -> Result<Option<&'a str>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::wrong_type(claim, "a text")),
    }
}

//! API keys: long random texts, of which only hashes are kept.
//!
//! A [`KeyRing`] finds what belongs to a key; [`ApiKeyVerifier`] makes it an [`Identity`]. A key has at least 128 random
//! bits, so that a plain SHA-256 is as good as a slow hash: nobody can try them all. Invariant: whatever a key is compared
//! with is looked at in full, and so is every other key of the ring, so that time says nothing about them.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecow::EcoString;
use outspoke_hub::{AuthError, Authentication, Authenticator, Identity};
use subtle::{Choice, ConstantTimeEq as _};

use crate::authenticator::{Credentials, Sources};
use crate::error::SetupError;
use crate::permissions::for_user;
use crate::verifier::{TokenVerifier, Verification, ready};

/// What keys made here begin with, so that scanners for leaked secrets find them.
pub const KEY_PREFIX: &str = "osk_";
/// A shorter key could be guessed.
const BITS_MIN: u32 = 128;
/// 128 bits at 6 bits a character. What is shorter is not even hashed.
const KEY_CHARS_MIN: usize = 22;
/// No key is longer; what is longer is not even hashed.
const KEY_CHARS_MAX: usize = 512;
const HASH_PREFIX: &str = "sha256:";

/// The SHA-256 of an API key.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key.
    ///
    /// # Errors
    /// [`SetupError::WeakKey`] if it could be guessed.
    pub fn of(key: &str) -> Result<Self, SetupError> {
        let bits = bits_at_most(key);
        if bits < BITS_MIN {
            return Err(SetupError::WeakKey { min: BITS_MIN, bits });
        }
        Ok(Self::of_any(key))
    }

    fn of_any(key: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads `sha256:` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SetupError::BadHash`] for anything else.
    pub fn parse(text: &str) -> Result<Self, SetupError> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(SetupError::BadHash)?.as_bytes();
        if digits.len() != 64 {
            return Err(SetupError::BadHash);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(SetupError::BadHash);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        Ok(Self(bytes))
    }

    /// Whether `text` has the form of a hash; whether it is one, [`parse`](Self::parse) says.
    #[must_use]
    pub fn is_hash(text: &str) -> bool {
        text.starts_with(HASH_PREFIX)
    }

    /// Whether this is the hash of `key`, in constant time.
    #[must_use]
    pub fn is_of(&self, key: &str) -> bool {
        is_plausible(key) && bool::from(self.same(&Self::of_any(key)))
    }

    fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The hash as the configuration has it. From it nobody gets the key back.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Enough to tell two apart in a log.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// A new key of 256 random bits: `osk_` and 43 characters.
///
/// # Panics
/// If the system gives no random bytes, which no supported system fails to do.
#[must_use]
pub fn new_key() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works, or nothing here is safe");
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// How many random bits the text can have at most, from the sort and the number of its characters.
fn bits_at_most(key: &str) -> u32 {
    let text = key.strip_prefix(KEY_PREFIX).unwrap_or(key);
    let has = |is: fn(&u8) -> bool| text.bytes().all(|b| is(&b));
    // Hundredths of a bit a character.
    let each: u32 = match () {
        () if !has(u8::is_ascii_graphic) => return 0,
        () if has(u8::is_ascii_digit) => 332,
        () if has(u8::is_ascii_hexdigit) => 400,
        () => 600,
    };
    let mut distinct: Vec<u8> = text.bytes().collect();
    distinct.sort_unstable();
    distinct.dedup();
    // Repetition is no randomness: 22 random characters have hardly ever fewer than 12 different ones, 32 digits fewer than 8.
    let length = if distinct.len() < 8 { distinct.len() } else { text.len() };
    u32::try_from(length).unwrap_or(u32::MAX).saturating_mul(each) / 100
}

fn is_plausible(key: &str) -> bool {
    (KEY_CHARS_MIN..=KEY_CHARS_MAX).contains(&key.len())
}

/// Hashes of keys, and what belongs to each.
#[derive(Clone, Debug)]
pub struct KeyRing<T> {
    entries: Vec<(KeyHash, T)>,
}

impl<T> Default for KeyRing<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> KeyRing<T> {
    /// Adds a key.
    pub fn add(&mut self, hash: KeyHash, value: T) {
        self.entries.push((hash, value));
    }

    /// What belongs to a key that somebody shows; `None` for a key that is not on the ring.
    ///
    /// *Cost*: one SHA-256, and 32 bytes to compare for every key on the ring, whichever it is.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&T> {
        if !is_plausible(key) {
            return None;
        }
        let shown = KeyHash::of_any(key);
        let mut found = None;
        for (hash, value) in &self.entries {
            if bool::from(hash.same(&shown)) {
                found = Some(value);
            }
        }
        found
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// API keys as credentials: each stands for a user.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyVerifier {
    keys: KeyRing<Identity>,
}

impl ApiKeyVerifier {
    /// Without keys, nobody is accepted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key by its hash. `name` is the key's own, for logs and for revoking it; whoever shows the key is `identity`.
    /// `{user}` in a pattern of its permissions stands for the user's id.
    ///
    /// # Errors
    /// [`SetupError::BadUser`] if the user's id cannot stand in a pattern.
    pub fn key(
        mut self,
        name: impl Into<EcoString>,
        hash: KeyHash,
        mut identity: Identity,
    ) -> Result<Self, SetupError> {
        let bad = |problem| SetupError::BadUser {
            user: identity.user.as_str().escape_debug().to_string(),
            problem,
        };
        identity.permissions = for_user(&identity.permissions, identity.user.as_str()).map_err(bad)?;
        identity.credential = name.into();
        self.keys.add(hash, identity);
        Ok(self)
    }

    /// Whose key this is.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Identity> {
        self.keys.find(key)
    }
}

impl TokenVerifier for ApiKeyVerifier {
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a> {
        let refused = || AuthError::unauthorized("the key is not known here");
        ready(self.find(token).cloned().ok_or_else(refused))
    }

    fn recognizes(&self, token: &str) -> bool {
        self.find(token).is_some()
    }
}

/// An [`Authenticator`] for API keys in `Authorization: Bearer KEY`, and in a client's first message.
///
/// ```
/// use outspoke_auth::{ApiKeyAuthenticator, new_key};
/// use outspoke_hub::{Hub, Identity};
///
/// let key = new_key(); // give it to the user's program
/// let authenticator = ApiKeyAuthenticator::new([(key, Identity::user("build-server"))])?;
/// let hub = Hub::builder().authenticator(authenticator);
/// # Ok::<(), outspoke_auth::SetupError>(())
/// ```
#[derive(Debug)]
pub struct ApiKeyAuthenticator {
    keys: ApiKeyVerifier,
    sources: Sources,
}

impl ApiKeyAuthenticator {
    /// Keys, and whose each is. The keys themselves are not kept.
    ///
    /// # Errors
    /// [`SetupError::WeakKey`] for one that could be guessed.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = (K, Identity)>) -> Result<Self, SetupError> {
        let mut verifier = ApiKeyVerifier::new();
        for (key, identity) in keys {
            let name = identity.user.as_str().to_owned();
            verifier = verifier.key(name, KeyHash::of(key.as_ref())?, identity)?;
        }
        Ok(Self { keys: verifier, sources: Sources::default() })
    }
}

impl Authenticator for ApiKeyAuthenticator {
    fn authenticate<'a>(&'a self, request: &'a http::request::Parts) -> Authentication<'a> {
        match self.sources.read(request) {
            Credentials::One(key) => ready(
                self.keys
                    .find(&key)
                    .cloned()
                    .ok_or_else(|| AuthError::unauthorized("the key is not known here")),
            ),
            Credentials::None => {
                ready(Err(AuthError::missing("a key is needed: send the header `Authorization: Bearer KEY`")))
            }
            Credentials::Refused(why) => ready(Err(AuthError::unauthorized(why))),
        }
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        self.keys.verify(token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn new_keys_are_long_random_and_strong_enough_for_their_own_rule() {
        let (one, two) = (new_key(), new_key());
        assert_ne!(one, two);
        assert_eq!(one.len(), KEY_PREFIX.len() + 43);
        assert!(KeyHash::of(&one).is_ok() && KeyHash::of(&two).is_ok());
    }

    #[test]
    fn hash_is_written_and_read_and_is_of_its_key_alone() {
        let key = new_key();
        let hash = KeyHash::of(&key).unwrap();
        let text = hash.to_string();
        assert_eq!(text.len(), 71);
        let read = KeyHash::parse(&text).unwrap();
        assert!(read.is_of(&key) && !read.is_of(&new_key()) && !read.is_of(&key[1..]) && !read.is_of(""));
        // The digest of FIPS 180-4's example, so that other tools make the same hashes.
        assert!(KeyHash::of_any("abc").to_string().starts_with("sha256:ba7816bf8f01cfea"));
        for wrong in
            ["", "sha256:", "sha256:12", "md5:ba7816bf", &text[1..], &text[..70], &format!("{text}0")]
        {
            assert_eq!(KeyHash::parse(wrong).unwrap_err(), SetupError::BadHash, "{wrong}");
        }
        assert!(KeyHash::parse(&text.replace("sha256:", "sha256:+").replacen("+", "g", 1)[..71]).is_err());
    }

    #[test]
    fn keys_that_could_be_guessed_are_refused() {
        for weak in [
            "",
            "secret",
            "correct horse battery staple correct horse",
            "0123456789012345678901234567890123456",
            "deadbeefdeadbeefdeadbeefdeadbee",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabcabcabcabcabcabcabc",
            "osk_short",
        ] {
            assert!(matches!(KeyHash::of(weak), Err(SetupError::WeakKey { .. })), "{weak}");
        }
        for strong in [
            "8f14e45fceea167a5a36dedd4bea2543",
            "Zk3vQ0a9XnT5bL7cYwE2uR",
            "018446744073709551615974102583649175038",
        ] {
            assert!(KeyHash::of(strong).is_ok(), "{strong}");
        }
    }

    #[test]
    fn ring_finds_what_belongs_to_a_key_wherever_it_is() {
        let keys: Vec<String> = (0..5).map(|_| new_key()).collect();
        let mut ring = KeyRing::default();
        for (index, key) in keys.iter().enumerate() {
            ring.add(KeyHash::of(key).unwrap(), index);
        }
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(ring.find(key), Some(&index));
            assert_eq!(ring.find(&format!("{key}x")), None);
        }
        assert_eq!((ring.find(""), ring.find(&"x".repeat(100_000))), (None, None));
    }

    #[test]
    fn user_of_a_key_stands_in_its_patterns_unless_it_would_mean_more() {
        use outspoke_hub::{Action, Permissions};

        let hash = KeyHash::of(&new_key()).unwrap();
        let own = |user: &str| {
            Identity::user(user).with_permissions(Permissions::nothing().allow(Action::Join, "inbox:{user}"))
        };
        let key = new_key();
        let keys = ApiKeyVerifier::new().key("k", KeyHash::of(&key).unwrap(), own("ci")).unwrap();
        assert!(keys.find(&key).unwrap().permissions.allows(Action::Join, "inbox:ci"));
        assert!(matches!(ApiKeyVerifier::new().key("k", hash, own("*")), Err(SetupError::BadUser { .. })));
    }

    #[test]
    fn keys_are_in_no_debug_text() {
        let key = new_key();
        let authenticator = ApiKeyAuthenticator::new([(key.as_str(), Identity::user("u"))]).unwrap();
        assert!(!format!("{authenticator:?}").contains(&key[4..]));
    }
}

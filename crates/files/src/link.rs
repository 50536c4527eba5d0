//! Links that are good for a while, for whoever has them.
//!
//! What a link says is signed with HMAC-SHA-256: which file, which part of it, until when. Nothing else of it counts, and nothing
//! is kept of links that were given; they end with their time, with their file, or with the key.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::FileId;

/// Which part of a file a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The file itself.
    Content,
    /// Its small picture.
    Preview,
}

impl Part {
    /// The last part of its address.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Preview => "preview",
        }
    }
}

/// Why a link leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLink {
    /// Its time is over.
    #[error("the link has expired; ask for a fresh one")]
    Expired,
    /// Nobody here has made it.
    #[error("the link is not one of this server's")]
    Signature,
}

/// Makes and checks links.
pub(crate) struct Signer(hmac::Key);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The signature of a link that is good until then, in seconds since 1970.
    pub(crate) fn sign(&self, id: FileId, part: Part, expires: i64) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &signed(id, part, expires)))
    }

    /// Whether a link is good at this time.
    pub(crate) fn check(
        &self,
        id: FileId,
        part: Part,
        expires: i64,
        signature: &str,
        now: i64,
    ) -> Result<(), InvalidLink> {
        let tag = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidLink::Signature)?;
        // In constant time.
        hmac::verify(&self.0, &signed(id, part, expires), &tag).map_err(|_| InvalidLink::Signature)?;
        if expires > now { Ok(()) } else { Err(InvalidLink::Expired) }
    }
}

/// The key may sign other things, too: none of them begins like this. Each part has one form, so no two links are signed alike.
fn signed(id: FileId, part: Part, expires: i64) -> Vec<u8> {
    format!("outspoke file link 1\n{}\n{id}\n{expires}", part.name()).into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn link_is_good_for_one_part_of_one_file_until_its_time() {
        let signer = Signer::new(&[7; 32]);
        let (id, other) = (FileId::new(), FileId::new());
        let signature = signer.sign(id, Part::Content, 1000);
        let check = |id, part, expires, signature: &str, now| signer.check(id, part, expires, signature, now);
        assert_eq!(check(id, Part::Content, 1000, &signature, 999), Ok(()));
        assert_eq!(check(id, Part::Content, 1000, &signature, 1000), Err(InvalidLink::Expired));
        let altered = Err(InvalidLink::Signature);
        assert_eq!(check(id, Part::Content, 1001, &signature, 999), altered);
        assert_eq!(check(id, Part::Preview, 1000, &signature, 999), altered);
        assert_eq!(check(other, Part::Content, 1000, &signature, 999), altered);
        assert_eq!(check(id, Part::Content, 1000, &signature[1..], 999), altered);
        assert_eq!(check(id, Part::Content, 1000, "", 999), altered);
        assert_eq!(Signer::new(&[8; 32]).check(id, Part::Content, 1000, &signature, 999), altered);
    }
}

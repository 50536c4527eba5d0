//! Proofs that an ACME authority looks for at `/.well-known/acme-challenge/` (RFC 8555 section 8.3), while it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The proofs that are shown now: token -> key authorization. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct Challenges(Arc<Mutex<HashMap<String, String>>>);

impl Challenges {
    /// The proof of that token.
    pub(in crate::serve) fn answer(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Shows a proof for as long as what this returns lives.
    #[cfg(feature = "acme")]
    pub(super) fn show(&self, token: &str, proof: &str) -> Shown {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(token.to_owned(), proof.to_owned());
        Shown { all: self.clone(), token: token.to_owned() }
    }
}

/// A proof that is shown.
#[cfg(feature = "acme")]
#[derive(Debug)]
pub(super) struct Shown {
    all: Challenges,
    token: String,
}

#[cfg(feature = "acme")]
impl Drop for Shown {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

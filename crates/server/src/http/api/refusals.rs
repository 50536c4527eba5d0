//! How many requests over HTTP were refused, and why: for the metrics.
//!
//! Filled by [`throttle`](super::throttle), the outermost layer, so that nothing that is answered can be forgotten: by the name that the
//! refusal has, whoever refused. What is HTTP's own (no such path, a wrong method) is none of the names, and not counted.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::Response;
use outspoke_hub::ErrorCode;

use super::error::{GUESSED_TOO_OFTEN, Refused};

/// Requests refused, in the order of [`ErrorCode::ALL`].
#[derive(Debug)]
pub(crate) struct Refusals(Box<[AtomicU64]>);

impl Default for Refusals {
    fn default() -> Self {
        Self(ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Refusals {
    /// Looks at an answer.
    pub(super) fn note(&self, response: &Response) {
        let Some(Refused(name)) = response.extensions().get::<Refused>() else { return };
        // Too many wrong keys are too much as other things are.
        let name = if *name == GUESSED_TOO_OFTEN { ErrorCode::RateLimited.name() } else { name };
        if let Some(place) = ErrorCode::ALL.iter().position(|code| code.name() == name) {
            self.0[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each code was given.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (ErrorCode, u64)> + '_ {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorCode::ALL.iter().copied().zip(counts)
    }
}

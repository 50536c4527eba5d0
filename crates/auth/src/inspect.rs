//! A token taken apart to be looked at by people, however wrong it is.
//!
//! Decides nothing: whoever made the token could have written anything into it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// What a token says of itself. Nothing of it is checked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The header, if it is JSON.
    pub header: Option<Value>,
    /// The claims, if they are JSON.
    pub claims: Option<Value>,
}

/// Takes a token apart without checking it.
#[must_use]
pub fn inspect(token: &str) -> Inspection {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&alphabet::URL_SAFE, lenient);
    let mut parts = token.split('.').map(|part| serde_json::from_slice(&engine.decode(part).ok()?).ok());
    Inspection { header: parts.next().flatten(), claims: parts.next().flatten() }
}

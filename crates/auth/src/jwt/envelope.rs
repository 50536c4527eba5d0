//! The compact form of a token (RFC 7515, section 3.1), read with nothing left over.
//!
//! Bytes in, parts out: what the header may say is decided here, whether the signature fits by [`super::key`], what the
//! claims mean by [`super::claims`]. Invariant: every token that is accepted has exactly one spelling, so that a list of
//! revoked tokens cannot be slipped past.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;
use crate::error::TokenError;

/// Longest token. It must fit into a request's header beside everything else.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest key id.
const KID_BYTES_MAX: usize = 256;

/// Parameters that name or bring a key, or that must be understood: keys come from the configuration alone, and nothing
/// beyond the plain form is understood.
const REFUSED_PARAMETERS: [(&str, &str); 9] = [
    ("jwk", "it brings its own key (jwk)"),
    ("jku", "it names an address for keys (jku)"),
    ("x5u", "it names an address for certificates (x5u)"),
    ("x5c", "it brings its own certificates (x5c)"),
    ("crit", "it has critical extensions (crit)"),
    ("b64", "its payload is not encoded (b64)"),
    ("enc", "it is encrypted (enc)"),
    ("zip", "it is compressed (zip)"),
    ("cty", "it has another token in it (cty)"),
];

/// A token taken apart, its signature not looked at yet.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    /// The algorithm that the header names. Never chooses anything: it must be the key's.
    pub(crate) algorithm: String,
    pub(crate) kid: Option<String>,
    /// What is signed: header and claims as they were sent.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Envelope<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { max: TOKEN_BYTES_MAX });
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it has not three parts with dots between"));
        };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(TokenError::Malformed("a part of it is empty; unsigned tokens are not accepted"));
        }
        let header = json::object(&decode(header)?)
            .ok_or(TokenError::Malformed("its header is no JSON object, or has a key twice"))?;
        let (algorithm, kid) = read_header(&header)?;
        let signed = &token[..token.len() - signature.len() - 1];
        Ok(Self { algorithm, kid, signed, signature: decode(signature)?, payload })
    }

    /// The claims. Only for tokens whose signature fits, or to show them to people.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, TokenError> {
        json::object(&decode(self.payload)?)
            .ok_or(TokenError::Malformed("its claims are no JSON object, or have a key twice"))
    }
}

/// Padding, the other alphabet, blanks and left-over bits are refused.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed("a part of it is not in base64url without padding"))
}

fn read_header(header: &Map<String, Value>) -> Result<(String, Option<String>), TokenError> {
    if let Some((_, why)) = REFUSED_PARAMETERS.iter().find(|(name, _)| header.contains_key(*name)) {
        return Err(TokenError::Header(why));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_access_token(typ) => {}
        // Signed for something else with the same key: a logout, an event, a proof (RFC 8725, section 3.11).
        Some(_) => return Err(TokenError::Header("its typ is neither JWT nor at+jwt")),
    }
    let Some(Value::String(algorithm)) = header.get("alg") else {
        return Err(TokenError::Header("its alg is missing or no text"));
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
        Some(_) => return Err(TokenError::Header("its kid is no text of at most 256 bytes")),
    };
    Ok((algorithm.clone(), kid))
}

fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

//! Any text as a token, and any header and claims under a good signature: no panic, and what is accepted says who and until
//! when, was made with the key's algorithm, and names no other key.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, VerificationKey, inspect};
use outspoke_hub::Timestamp;
use serde_json::Value;

const SECRET: &[u8] = b"a secret that has 32 bytes or more";
const NOW: i64 = 1_700_000_000;

static VERIFIER: LazyLock<JwtVerifier> = LazyLock::new(|| {
    let key = VerificationKey::secret(Algorithm::HS256, SECRET).expect("it is long enough");
    let verifier = JwtVerifier::new(vec![key], ClaimRules::default()).expect("one key");
    verifier.with_clock(|| Timestamp::from_millis(NOW * 1000))
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = inspect(&text);
    assert!(VERIFIER.identify(&text).now_or_never().expect("nothing to wait for").is_err(), "a forgery");

    // The first byte says how many of the others are the header.
    let Some((&len, rest)) = data.split_first() else { return };
    let (header, claims) = rest.split_at(usize::from(len).min(rest.len()));
    let token = signed(header, claims);
    if let Ok(identity) = VERIFIER.identify(&token).now_or_never().expect("nothing to wait for") {
        assert!(!identity.user.as_str().is_empty());
        assert!(identity.expires.is_some_and(|expires| expires.as_millis() > (NOW - 60) * 1000));
        let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
        assert_eq!(header["alg"], "HS256");
        for never in ["jwk", "jku", "x5u", "x5c", "crit"] {
            assert!(header.get(never).is_none(), "{never}");
        }
    }
});

fn signed(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

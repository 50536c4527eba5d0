//! Keys, and tokens with anything in them.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, TokenError, VerificationKey};
use outspoke_hub::Timestamp;
use serde_json::{Value, json};

/// When the tests happen, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: &[u8] = b"a secret that is as long as SHA-512, so that all three can use it";

type Sign = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A pair of keys in every form that anybody has it in.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) private: Vec<u8>,
    pub(crate) public: Vec<u8>,
    pub(crate) jwk: Value,
    sign: Sign,
}

impl Pair {
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        (self.sign)(message)
    }

    pub(crate) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.public)
    }

    pub(crate) fn jwk_named(&self, kid: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = kid.into();
        jwk
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn rsa_pair(size: rsa::KeySize, encoding: &'static dyn RsaEncoding) -> Pair {
    let key = rsa::KeyPair::generate(size).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let private = der.as_ref().to_vec();
    let key = RsaKeyPair::from_pkcs8(&private).unwrap();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let (n, e) = modulus_and_exponent(key.public_key().as_ref());
    let jwk = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
    let public = spki.as_ref().to_vec();
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(encoding, &rand::SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    Pair { private, public, jwk, sign: Arc::new(sign) }
}

/// The two integers of an `RSAPublicKey` with a modulus of 256 to 65,535 bytes.
fn modulus_and_exponent(der: &[u8]) -> (&[u8], &[u8]) {
    let integers = &der[4..];
    let length = usize::from(integers[2]) << 8 | usize::from(integers[3]);
    let (n, e) = (&integers[4..4 + length], &integers[4 + length + 2..]);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

pub(crate) fn ec_pair(algorithm: &'static EcdsaSigningAlgorithm, curve: &str) -> Pair {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    let private = key.to_pkcs8v1().unwrap().as_ref().to_vec();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let public = spki.as_ref().to_vec();
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    let jwk =
        json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
    let sign = move |message: &[u8]| key.sign(&rand::SystemRandom::new(), message).unwrap().as_ref().to_vec();
    Pair { private, public, jwk, sign: Arc::new(sign) }
}

pub(crate) fn ed_pair() -> Pair {
    let key = Ed25519KeyPair::generate().unwrap();
    let private = key.to_pkcs8v1().unwrap().as_ref().to_vec();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let public = spki.as_ref().to_vec();
    let jwk =
        json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public_key().as_ref()) });
    Pair { private, public, jwk, sign: Arc::new(move |message: &[u8]| key.sign(message).as_ref().to_vec()) }
}

/// Making RSA keys takes long; the tests share one.
pub(crate) static RSA: LazyLock<Pair> =
    LazyLock::new(|| rsa_pair(rsa::KeySize::Rsa2048, &signature::RSA_PKCS1_SHA256));
pub(crate) static EC: LazyLock<Pair> =
    LazyLock::new(|| ec_pair(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"));
pub(crate) static ED: LazyLock<Pair> = LazyLock::new(ed_pair);

pub(crate) fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this header and these claims, as they are written, signed by `sign`.
pub(crate) fn forge(header: &str, claims: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// Good claims, for an hour.
pub(crate) fn claims() -> Value {
    json!({ "sub": "anna", "exp": NOW + 3600, "iat": NOW })
}

/// The same with others in their place; a null takes one away.
pub(crate) fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (claim, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
            value => claims[claim] = value.clone(),
        }
    }
    claims
}

/// A token that is as it should be but for its claims.
pub(crate) fn signed(claims: &Value) -> String {
    signed_text(&claims.to_string())
}

pub(crate) fn signed_text(claims: &str) -> String {
    forge(r#"{"alg":"HS256","typ":"JWT","kid":"hs"}"#, claims.as_bytes(), |message| hs256(SECRET, message))
}

/// Accepts HS256 as `hs`, RS256 as `rs`, ES256 as `es` and EdDSA as `ed`, now.
pub(crate) fn verifier() -> JwtVerifier {
    verifier_with(ClaimRules::default())
}

pub(crate) fn verifier_with(rules: ClaimRules) -> JwtVerifier {
    let keys = vec![
        VerificationKey::secret(Algorithm::HS256, SECRET).unwrap().named("hs"),
        VerificationKey::public(Algorithm::RS256, &RSA.public).unwrap().named("rs"),
        VerificationKey::public(Algorithm::ES256, EC.pem().as_bytes()).unwrap().named("es"),
        VerificationKey::public(Algorithm::EdDSA, ED.pem().as_bytes()).unwrap().named("ed"),
    ];
    now(JwtVerifier::new(keys, rules).unwrap())
}

pub(crate) fn now(verifier: JwtVerifier) -> JwtVerifier {
    verifier.with_clock(|| Timestamp::from_millis(NOW * 1000))
}

/// Why a token is refused.
pub(crate) async fn refused(verifier: &JwtVerifier, token: &str) -> TokenError {
    match verifier.identify(token).await {
        Ok(identity) => panic!("accepted as {identity:?}: {token}"),
        Err(error) => error,
    }
}

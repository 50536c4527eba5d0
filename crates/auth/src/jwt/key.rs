//! Keys that tokens are checked with. Each is for one algorithm, and no token changes that.
//!
//! Made from the configuration (secrets, PEM, DER) or from a key set (JWK, RFC 7517). Cryptography is aws-lc-rs's; public
//! keys are parsed once. Invariants: a secret is at least as long as the hash (RFC 7518, section 3.2); a public key, however
//! it is written, is never a secret, for everybody may have it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value};

use super::envelope::Envelope;
use crate::error::{SetupError, TokenError};

/// How a token is signed (RFC 7518, section 3.1; RFC 8037, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the standard's, and say all there is to say.
#[non_exhaustive]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// What sort of key an algorithm takes.
pub(super) enum Family {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Ecdsa(&'static EcdsaVerificationAlgorithm),
    Ed25519,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 12] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The name in a token's header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that name, written exactly so.
    ///
    /// # Errors
    /// There is none; `none` is none.
    pub fn named(name: &str) -> Result<Self, SetupError> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        found.ok_or_else(|| SetupError::UnknownAlgorithm { name: name.to_owned() })
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether its key is a secret that the issuer and the server share.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::HS256 => Family::Hmac(hmac::HMAC_SHA256),
            Self::HS384 => Family::Hmac(hmac::HMAC_SHA384),
            Self::HS512 => Family::Hmac(hmac::HMAC_SHA512),
            Self::RS256 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::ES256 => Family::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED),
            Self::ES384 => Family::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED),
            Self::EdDSA => Family::Ed25519,
        }
    }

    fn bad(self, problem: &'static str) -> SetupError {
        SetupError::BadKey { algorithm: self.name(), problem }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key that tokens are checked with.
pub struct VerificationKey {
    algorithm: Algorithm,
    id: Option<String>,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl VerificationKey {
    /// A secret, for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// It is too short, or no secret at all.
    pub fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, SetupError> {
        Ok(Self { algorithm, id: None, material: Material::Secret(Box::new(hmac_key(algorithm, secret)?)) })
    }

    /// A public key as PEM (`-----BEGIN PUBLIC KEY-----`) or as DER, both of them a `SubjectPublicKeyInfo` (RFC 5280).
    ///
    /// # Errors
    /// It cannot be read, is of another kind than the algorithm needs, or is too weak.
    pub fn public(algorithm: Algorithm, key: &[u8]) -> Result<Self, SetupError> {
        let is_pem = key.windows(PEM_MARK.len()).any(|window| window == PEM_MARK);
        let der = if is_pem { from_pem(algorithm, key)? } else { key.to_vec() };
        let misfit = || algorithm.bad("it is no public key for this algorithm");
        // Nothing after its end; parsers differ in whether they look.
        if !is_der(&der) {
            return Err(misfit());
        }
        let parsed = match algorithm.family() {
            Family::Hmac(_) => return Err(algorithm.bad("it takes a secret, not a public key")),
            Family::Rsa(parameters) => {
                let public = rsa::PublicKey::from_der(&der).map_err(|_| misfit())?;
                check_rsa(algorithm, rsa_modulus_bits(public.as_ref()))?;
                ParsedPublicKey::new(parameters, &der)
            }
            Family::Ecdsa(curve) => ParsedPublicKey::new(curve, &der),
            Family::Ed25519 => ParsedPublicKey::new(&signature::ED25519, &der),
        };
        let material = Material::Public(parsed.map_err(|_| misfit())?);
        Ok(Self { algorithm, id: None, material })
    }

    /// A public key of a key set (RFC 7517). Its algorithm is what `alg` says, or else what its type has but one of: ES256
    /// for P-256, ES384 for P-384, EdDSA for Ed25519; RSA keys that do not say are for RS256.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let encoded = text(name).ok_or(JwkError::Unreadable)?;
            URL_SAFE_NO_PAD.decode(encoded).map_err(|_| JwkError::Unreadable)
        };
        if jwk.contains_key("use") && text("use") != Some("sig") {
            return Err(JwkError::OtherUse);
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies =
                operations.as_array().is_some_and(|list| list.iter().any(|operation| operation == "verify"));
            if !verifies {
                return Err(JwkError::OtherUse);
            }
        }
        let (usual, fits): (Algorithm, &[Algorithm]) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => (Algorithm::RS256, &RSA_ALGORITHMS),
            (Some("EC"), Some("P-256")) => (Algorithm::ES256, &[Algorithm::ES256]),
            (Some("EC"), Some("P-384")) => (Algorithm::ES384, &[Algorithm::ES384]),
            (Some("OKP"), Some("Ed25519")) => (Algorithm::EdDSA, &[Algorithm::EdDSA]),
            (Some("oct"), _) => return Err(JwkError::Secret),
            _ => return Err(JwkError::UnknownKind),
        };
        let algorithm = match jwk.get("alg") {
            None => usual,
            // RFC 9864's name for EdDSA with this curve.
            Some(Value::String(name)) if name == "Ed25519" => Algorithm::EdDSA,
            Some(Value::String(name)) => Algorithm::named(name).map_err(|_| JwkError::UnknownKind)?,
            Some(_) => return Err(JwkError::Unreadable),
        };
        if !fits.contains(&algorithm) {
            return Err(JwkError::UnknownKind);
        }
        let parsed = match algorithm.family() {
            Family::Hmac(_) => return Err(JwkError::Secret),
            Family::Rsa(parameters) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                check_rsa(algorithm, bits(&n)).map_err(|_| JwkError::Weak)?;
                rsa::PublicKeyComponents { n, e }.to_parsed_public_key(parameters)
            }
            Family::Ecdsa(curve) => {
                // An uncompressed point (SEC 1, section 2.3.3): both coordinates in full length.
                let (x, y) = (bytes("x")?, bytes("y")?);
                ParsedPublicKey::new(curve, [&[4], x.as_slice(), y.as_slice()].concat())
            }
            Family::Ed25519 => {
                let x = bytes("x")?;
                if x.len() != 32 {
                    return Err(JwkError::Unreadable);
                }
                ParsedPublicKey::new(&signature::ED25519, x)
            }
        };
        let material = Material::Public(parsed.map_err(|_| JwkError::Unreadable)?);
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(JwkError::Unreadable),
        };
        Ok(Self { algorithm, id, material })
    }

    /// The same key with the id by which tokens name it (`kid`). An empty one is none.
    #[must_use]
    pub fn named(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into()).filter(|id| !id.is_empty());
        self
    }

    /// What it is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The id by which tokens name it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the token is what was signed with this key. *Cost*: 1 us for HMAC, 30 to 150 us for the others.
    pub(crate) fn check(&self, token: &Envelope<'_>) -> Result<(), TokenError> {
        // Before any cryptography: the key decides, and a token that says otherwise is somebody's attempt.
        if token.algorithm != self.algorithm.name() {
            return Err(TokenError::Algorithm);
        }
        let signed = token.signed.as_bytes();
        let fits = match &self.material {
            // In constant time.
            Material::Secret(key) => hmac::verify(key, signed, &token.signature),
            Material::Public(key) => key.verify_sig(signed, &token.signature),
        };
        fits.map_err(|_| TokenError::Signature)
    }
}

const RSA_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwkError {
    #[error("it cannot be read")]
    Unreadable,
    #[error("it is not for signatures")]
    OtherUse,
    #[error("its kind or algorithm is not known here")]
    UnknownKind,
    #[error("it has fewer than 2048 bits")]
    Weak,
    #[error("it is a secret, which everybody can read there: make another one at once")]
    Secret,
}

pub(super) fn hmac_key(algorithm: Algorithm, secret: &[u8]) -> Result<hmac::Key, SetupError> {
    let Family::Hmac(hash) = algorithm.family() else {
        return Err(algorithm.bad("it takes a public key, not a secret"));
    };
    if let Some(found) = key_in(secret) {
        return Err(SetupError::SecretIsAKey { algorithm: algorithm.name(), found });
    }
    let min = hash.digest_algorithm().output_len();
    if secret.len() < min {
        return Err(SetupError::SecretTooShort { algorithm: algorithm.name(), min, len: secret.len() });
    }
    Ok(hmac::Key::new(hash, secret))
}

const PEM_MARK: &[u8] = b"-----BEGIN";

/// What key or certificate `secret` is, in whatever spelling; `None` for what may be a secret.
fn key_in(secret: &[u8]) -> Option<&'static str> {
    if secret.windows(PEM_MARK.len()).any(|window| window == PEM_MARK) {
        return Some("a key or certificate in PEM");
    }
    if is_der(secret) {
        return Some("a key or certificate in DER");
    }
    let text = std::str::from_utf8(secret).ok()?.trim();
    if let Ok(Value::Object(jwk)) = serde_json::from_str(text) {
        return jwk.contains_key("kty").then_some("a key in JWK");
    }
    if matches!(text.split_once(' '), Some((kind, _)) if kind.starts_with("ssh-") || kind.starts_with("ecdsa-sha2-"))
    {
        return Some("a public key of SSH");
    }
    // PEM without its first and last line.
    let body: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabets = [alphabet::STANDARD, alphabet::URL_SAFE];
    let decoded =
        alphabets.iter().find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(&body).ok());
    decoded.is_some_and(|der| is_der(&der)).then_some("a key or certificate in base64")
}

/// Whether these bytes are one ASN.1 sequence and nothing else, as keys and certificates are. Of random secrets one in
/// 65,536 is, and only if it is binary; another is easily made.
fn is_der(bytes: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = bytes else { return false };
    match length {
        0..=0x7f => rest.len() == usize::from(*length),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(length - 0x80)).unwrap_or_default();
            !length.is_empty()
                && length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)) == rest.len()
        }
        _ => false,
    }
}

fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Vec<u8>, SetupError> {
    match <(SectionKind, Vec<u8>)>::from_pem_slice(pem) {
        Ok((SectionKind::PublicKey, der)) => Ok(der),
        Ok((SectionKind::Certificate, _)) => Err(algorithm.bad(
            "it is a certificate; take the key out of it: openssl x509 -in cert.pem -noout -pubkey",
        )),
        Ok(_) => Err(algorithm.bad(
            "it is a private key, which has no place here; give the public one: openssl pkey -in key.pem -pubout",
        )),
        Err(_) => Err(algorithm.bad("it is no PEM with `-----BEGIN PUBLIC KEY-----`")),
    }
}

/// Bits of a number in big-endian bytes.
fn bits(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let rest = &number[first..];
    rest.first().map_or(0, |byte| rest.len() * 8 - byte.leading_zeros() as usize)
}

/// Bits of the modulus of an `RSAPublicKey` (RFC 8017, appendix A.1.1), which its first integer is.
fn rsa_modulus_bits(der: &[u8]) -> usize {
    let length_of = |bytes: &[u8]| -> Option<(usize, usize)> {
        let first = usize::from(*bytes.first()?);
        if first < 0x80 {
            return Some((first, 1));
        }
        let count = first - 0x80;
        let length = bytes.get(1..=count)?.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        Some((length, count + 1))
    };
    let modulus = || {
        let (_, header) = length_of(der.get(1..)?)?;
        let integer = der.get(1 + header..)?;
        let (length, header) = length_of(integer.get(1..)?)?;
        integer.get(1 + header..)?.get(..length)
    };
    modulus().map_or(0, bits)
}

fn check_rsa(algorithm: Algorithm, bits: usize) -> Result<(), SetupError> {
    match bits {
        2048..=8192 => Ok(()),
        ..2048 => Err(algorithm.bad("an RSA key needs at least 2048 bits")),
        _ => Err(algorithm.bad("an RSA key has at most 8192 bits")),
    }
}

/// Keys by their ids.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    named: HashMap<String, Arc<VerificationKey>>,
    nameless: Option<Arc<VerificationKey>>,
}

impl KeySet {
    pub(crate) fn new(keys: Vec<VerificationKey>) -> Result<Self, SetupError> {
        let mut set = Self::default();
        for key in keys {
            match &key.id {
                Some(id) if set.named.contains_key(id) => {
                    return Err(SetupError::DuplicateKeyId { id: id.clone() });
                }
                Some(id) => {
                    set.named.insert(id.clone(), Arc::new(key));
                }
                None if set.nameless.is_some() => return Err(SetupError::SeveralKeysWithoutId),
                None => set.nameless = Some(Arc::new(key)),
            }
        }
        Ok(set)
    }

    /// The key that a token is for: the one with its `kid`. A token without one is for the key without an id, or for the only
    /// key there is.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<&Arc<VerificationKey>> {
        match (kid, &self.nameless) {
            (Some(kid), _) => self.named.get(kid),
            (None, Some(key)) => Some(key),
            (None, None) if self.named.len() == 1 => self.named.values().next(),
            (None, None) => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.named.len() + usize::from(self.nameless.is_some())
    }
}

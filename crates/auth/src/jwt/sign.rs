//! Tokens made here: for `outspoke token create`, for tests and for small applications.
//!
//! An application of some size makes tokens in its own language; the claims are documented in
//! `docs/operating/authentication.md`.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value, json};

use super::key::{Algorithm, Family, hmac_key};
use crate::error::SetupError;

/// A key that tokens are made with.
pub struct SigningKey {
    algorithm: Algorithm,
    id: Option<String>,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A secret, for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// It is too short, or no secret at all.
    pub fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, SetupError> {
        Ok(Self { algorithm, id: None, material: Material::Secret(Box::new(hmac_key(algorithm, secret)?)) })
    }

    /// A private key as PEM (`-----BEGIN PRIVATE KEY-----`) or DER, both of them PKCS#8 (RFC 5958).
    ///
    /// # Errors
    /// It cannot be read, or is of another kind than the algorithm needs.
    pub fn private(algorithm: Algorithm, key: &[u8]) -> Result<Self, SetupError> {
        let bad = |problem| SetupError::BadKey { algorithm: algorithm.name(), problem };
        let der = match <(SectionKind, Vec<u8>)>::from_pem_slice(key) {
            Ok((SectionKind::PrivateKey, der)) => der,
            Ok((SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _)) => {
                return Err(bad(
                    "it is in an old form; convert it: openssl pkcs8 -topk8 -nocrypt -in key.pem",
                ));
            }
            Ok(_) => return Err(bad("it is no private key")),
            Err(_) => key.to_vec(),
        };
        let misfit = |_| bad("it is no private key for this algorithm, in PKCS#8");
        let material = match algorithm.family() {
            Family::Hmac(_) => return Err(bad("it takes a secret, not a private key")),
            Family::Rsa(_) => {
                Material::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).map_err(misfit)?), encoding(algorithm))
            }
            Family::Ecdsa(_) => {
                let signing = match algorithm {
                    Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                    _ => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                };
                Material::Ecdsa(Box::new(EcdsaKeyPair::from_pkcs8(signing, &der).map_err(misfit)?))
            }
            Family::Ed25519 => {
                // OpenSSL writes the older form, without the public key.
                Material::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(misfit)?))
            }
        };
        Ok(Self { algorithm, id: None, material })
    }

    /// The same key with an id, which goes into tokens as `kid`. An empty one is none.
    #[must_use]
    pub fn named(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into()).filter(|id| !id.is_empty());
        self
    }

    /// A token with these claims.
    ///
    /// # Panics
    /// If the system gives no random bytes, which no supported system fails to do.
    #[must_use]
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        let mut header = json!({ "alg": self.algorithm.name(), "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let claims = Value::Object(claims.clone()).to_string();
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        const WORKS: &str = "a key that was read can sign, if the system gives random bytes";
        let random = SystemRandom::new();
        match &self.material {
            Material::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            Material::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).expect(WORKS);
                signature
            }
            Material::Ecdsa(key) => key.sign(&random, message).expect(WORKS).as_ref().to_vec(),
            Material::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

fn encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

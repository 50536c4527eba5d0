//! Logging in with a key: NATS's `.creds` files, and files with nothing but a seed.
//!
//! The server asks for a signature of its nonce. Keys are Ed25519, written in base32 with a prefix and a checksum:
//! <https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth>.

use std::fmt;
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::remote::crc16;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The first byte of a seed, whatever it is a seed of.
const SEED: u8 = 18 << 3;
/// The first byte of a user's public key, and what a seed says it is of.
const USER: u8 = 20 << 3;

/// What a user logs in with.
pub(super) struct Credentials {
    /// Signed by an account; without it the server knows the key itself.
    pub(super) jwt: Option<String>,
    key: Ed25519KeyPair,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Reads a file.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let wrong = |what: &str| format!("`credentials_file` {} cannot be used: {what}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
        Self::parse(&text).ok_or_else(|| wrong("it has no user's seed (SU...)"))
    }

    fn parse(text: &str) -> Option<Self> {
        // Both stand alone on a line, between lines of dashes.
        let mut lines = text.lines().map(str::trim);
        let jwt = lines.clone().find(|line| line.starts_with("eyJ")).map(str::to_owned);
        let seed = lines.find(|line| line.starts_with("SU"))?;
        let bytes = decode(seed)?;
        let (body, checksum) = bytes.split_at_checked(34)?;
        let kind = [SEED | USER >> 5, (USER & 31) << 3];
        if !body.starts_with(&kind) || checksum != crc16(body).to_le_bytes() {
            return None;
        }
        let key = Ed25519KeyPair::from_seed_unchecked(&body[2..]).ok()?;
        Some(Self { jwt, key })
    }

    /// The public key as NATS writes it.
    pub(super) fn public(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend_from_slice(self.key.public_key().as_ref());
        bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
        encode(&bytes)
    }

    pub(super) fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.key.sign(nonce.as_bytes()))
    }
}

/// Base32 (RFC 4648) without padding.
fn encode(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digits = (0..(bytes.len() * 8).div_ceil(5)).map(|digit| {
        let five = (0..5).fold(0, |five, at| five << 1 | bit(digit * 5 + at));
        char::from(BASE32[usize::from(five)])
    });
    digits.collect()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes() {
        let five = BASE32.iter().position(|&known| known == digit)?;
        bits = (bits << 5 | u32::try_from(five).ok()?) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    // The pair of NATS's own documentation.
    const SEED_TEXT: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC_TEXT: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_seed_has_the_public_key_that_nats_gives_it() {
        let credentials = Credentials::parse(SEED_TEXT).unwrap();
        assert_eq!(credentials.public(), PUBLIC_TEXT);
        assert!(credentials.jwt.is_none());
    }

    #[test]
    fn a_creds_file_has_a_token_and_a_seed() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJ1.sig\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{SEED_TEXT}\n------END USER NKEY SEED------\n"
        );
        assert_eq!(Credentials::parse(&text).unwrap().jwt.as_deref(), Some("eyJ0.eyJ1.sig"));
    }

    #[test]
    fn a_seed_with_a_wrong_letter_is_refused() {
        let wrong = SEED_TEXT.replace("UDXK", "UDXL");
        for text in ["", "SU", "SUA1", wrong.as_str()] {
            assert!(Credentials::parse(text).is_none(), "{text}");
        }
    }
}

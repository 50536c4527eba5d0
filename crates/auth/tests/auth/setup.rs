//! What cannot be configured.

use aws_lc_rs::{rsa, signature};
use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, SetupError, SigningKey, VerificationKey};

use crate::forge::*;
use crate::refused_tokens::spellings;

/// Whoever has the public key, and everybody has, could make tokens with it.
#[test]
fn public_key_is_refused_as_a_secret_in_every_spelling() {
    for pair in [&*RSA, &*EC, &*ED] {
        for (spelling, secret) in spellings(pair) {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let refused = VerificationKey::secret(algorithm, &secret).unwrap_err();
                assert!(
                    matches!(refused, SetupError::SecretIsAKey { .. }),
                    "{algorithm} {spelling}: {refused}"
                );
                assert!(SigningKey::secret(algorithm, &secret).is_err());
            }
        }
        for label in ["PRIVATE KEY", "CERTIFICATE", "RSA PUBLIC KEY", "ENCRYPTED PRIVATE KEY"] {
            let pem = pem(label, &pair.private);
            assert!(VerificationKey::secret(Algorithm::HS256, pem.as_bytes()).is_err(), "{label}");
        }
    }
    let ssh = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@example";
    assert!(matches!(VerificationKey::secret(Algorithm::HS256, ssh), Err(SetupError::SecretIsAKey { .. })));
}

#[test]
fn secrets_are_as_long_as_the_hash_and_may_be_any_bytes() {
    for (algorithm, min) in [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
        for length in [0, 1, min - 1] {
            let refused = VerificationKey::secret(algorithm, &vec![b'k'; length]).unwrap_err();
            let too_short = SetupError::SecretTooShort { algorithm: algorithm.name(), min, len: length };
            assert_eq!(refused, too_short);
        }
        for secret in
            [vec![b'k'; min], vec![0xff; min + 1], vec![0x30; min], "schlüssel ".repeat(9).into_bytes()]
        {
            assert!(VerificationKey::secret(algorithm, &secret).is_ok(), "{secret:?}");
        }
    }
}

#[test]
fn keys_are_for_their_algorithm_alone() {
    let pairs = [(&*RSA, "RS256"), (&*EC, "ES256"), (&*ED, "EdDSA")];
    for algorithm in Algorithm::ALL {
        for (pair, kind) in pairs {
            let fits = algorithm.name() == kind
                || (kind == "RS256"
                    && algorithm.name()[1..].starts_with('S')
                    && matches!(algorithm.name().as_bytes()[0], b'R' | b'P'));
            assert_eq!(VerificationKey::public(algorithm, &pair.public).is_ok(), fits, "{algorithm} {kind}");
            assert_eq!(
                VerificationKey::public(algorithm, pair.pem().as_bytes()).is_ok(),
                fits,
                "{algorithm} {kind}"
            );
            let private = SigningKey::private(algorithm, pem("PRIVATE KEY", &pair.private).as_bytes());
            assert_eq!(private.is_ok(), fits, "{algorithm} {kind}");
        }
        assert_eq!(VerificationKey::secret(algorithm, SECRET).is_ok(), algorithm.is_symmetric());
    }
}

#[test]
fn keys_that_are_none_say_what_would_be_one() {
    let said = |key: &[u8]| VerificationKey::public(Algorithm::ES256, key).unwrap_err().to_string();
    assert!(said(pem("PRIVATE KEY", &EC.private).as_bytes()).contains("openssl pkey -in key.pem -pubout"));
    assert!(said(pem("CERTIFICATE", &EC.public).as_bytes()).contains("openssl x509"));
    for wrong in [
        &b""[..],
        b"-----BEGIN PUBLIC KEY-----",
        b"hello",
        &EC.public[..50],
        &[EC.public.as_slice(), b"x"].concat(),
    ] {
        assert!(VerificationKey::public(Algorithm::ES256, wrong).is_err(), "{wrong:?}");
    }
    let p384 = ec_pair(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384");
    assert!(VerificationKey::public(Algorithm::ES256, &p384.public).is_err());
    assert!(VerificationKey::public(Algorithm::ES384, &p384.public).is_ok());
    let old =
        SigningKey::private(Algorithm::RS256, pem("RSA PRIVATE KEY", &RSA.private).as_bytes()).unwrap_err();
    assert!(old.to_string().contains("openssl pkcs8 -topk8"), "{old}");
}

/// 1024 bits were broken by states long ago; the library makes none, so this one is written down.
#[test]
fn short_rsa_keys_are_refused() {
    let strong = rsa_pair(rsa::KeySize::Rsa3072, &signature::RSA_PKCS1_SHA256);
    assert!(VerificationKey::public(Algorithm::RS256, &strong.public).is_ok());
    let weak = b"-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDVyy9q+/w+ReJuoEgx3lG41kEm\n\
        IJtLRWbjTmMRV7IrJmJtNEzb1g6BdIgSf3jQQBN2MQrpvWGIRvp2wJnb6qIf4vsp\n\
        m2WQAsSdqUZ/ZmBjVPfhAPK+i6eTb60oyHzLSdvX06nIkMGDYeGUVlS6FODBePg8\n\
        ByfRvX8zeHZBYCKEjQIDAQAB\n-----END PUBLIC KEY-----\n";
    let refused = VerificationKey::public(Algorithm::RS256, weak).unwrap_err();
    assert!(matches!(refused, SetupError::BadKey { .. }), "{refused}");
}

#[test]
fn ids_of_keys_must_tell_them_apart() {
    let key = || VerificationKey::secret(Algorithm::HS256, SECRET).unwrap();
    let new = |keys| JwtVerifier::new(keys, ClaimRules::default()).map(drop);
    assert_eq!(
        new(vec![key().named("a"), key().named("a")]),
        Err(SetupError::DuplicateKeyId { id: "a".to_owned() })
    );
    assert_eq!(new(vec![key(), key()]), Err(SetupError::SeveralKeysWithoutId));
    assert_eq!(new(vec![key(), key().named("")]), Err(SetupError::SeveralKeysWithoutId));
    assert_eq!(new(vec![key(), key().named("a")]), Ok(()));
}

#[test]
fn algorithms_have_one_name_each_and_none_is_none() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::named(algorithm.name()), Ok(algorithm));
        assert!(Algorithm::named(&algorithm.name().to_lowercase()).is_err());
    }
    for name in ["", "none", "None", "HS1", "ES256K", "ES512", "Ed25519"] {
        assert!(Algorithm::named(name).is_err(), "{name}");
    }
}

#[test]
fn keys_are_in_no_debug_text() {
    let verification = VerificationKey::secret(Algorithm::HS256, SECRET).unwrap();
    let signing = SigningKey::secret(Algorithm::HS256, SECRET).unwrap();
    let verifier = verifier();
    let said = format!("{verification:?} {signing:?} {verifier:?}");
    assert!(!said.contains("secret that") && said.len() < 2000, "{said}");
}

//! Tokens that nobody may come in with, each with the reason why not.
//!
//! The reason is part of the fact: a token that is refused for another one would pass if that one went away.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use outspoke_auth::{Algorithm, ClaimRules, JwtVerifier, TokenError, VerificationKey};
use serde_json::{Value, json};

use crate::forge::*;

/// Refused tokens with a name for each, and what they are refused for.
#[derive(Default)]
struct Table {
    cases: Vec<(String, String, TokenError)>,
}

impl Table {
    fn add(&mut self, name: impl Into<String>, token: impl Into<String>, why: TokenError) {
        self.cases.push((name.into(), token.into(), why));
    }

    /// With these claims, everything else as it should be.
    fn claims(&mut self, changes: Value, why: TokenError) {
        self.add(format!("claims {changes}"), signed(&claims_with(changes)), why);
    }

    fn claims_text(&mut self, text: &str, why: TokenError) {
        self.add(format!("claims text {text:.60}"), signed_text(text), why);
    }

    /// With this header, and signed with the secret.
    fn header(&mut self, header: &str, why: TokenError) {
        let token = forge(header, claims().to_string().as_bytes(), |message| hs256(SECRET, message));
        self.add(format!("header {header:.80}"), token, why);
    }
}

// One of each kind; only the kind is compared.
fn malformed() -> TokenError {
    TokenError::Malformed("")
}

fn header() -> TokenError {
    TokenError::Header("")
}

fn wrong_type() -> TokenError {
    TokenError::ClaimType { claim: String::new(), expected: "" }
}

fn missing() -> TokenError {
    TokenError::Missing { claim: String::new() }
}

fn identity() -> TokenError {
    TokenError::Identity { claim: String::new(), problem: String::new() }
}

fn unsigned(table: &mut Table) {
    for alg in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "NoNe",
        "none ",
        " none",
        "",
        "null",
        "none\\u0000",
        "n\\u006fne",
        "undefined",
    ] {
        let header = format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"hs"}}"#);
        let claims = claims().to_string();
        let with = |sign: fn(&[u8]) -> Vec<u8>| forge(&header, claims.as_bytes(), sign);
        table.add(format!("{alg:?} without a signature"), with(|_| Vec::new()), malformed());
        table.add(format!("{alg:?} with any signature"), with(|_| vec![0; 32]), TokenError::Algorithm);
        table.add(
            format!("{alg:?} with the right signature"),
            with(|m| hs256(SECRET, m)),
            TokenError::Algorithm,
        );
        let two_parts = with(|_| Vec::new());
        table.add(format!("{alg:?} in two parts"), two_parts.trim_end_matches('.'), malformed());
    }
    let good = signed(&claims());
    table.add(
        "a good token without its signature",
        format!("{}.", good.rsplit_once('.').unwrap().0),
        malformed(),
    );
}

fn other_algorithms(table: &mut Table) {
    for alg in [
        "hs256",
        "Hs256",
        "HS256 ",
        "HS 256",
        "HS255",
        "HS256\\u0000",
        "HS384",
        "HS512",
        "RS256",
        "ES256",
        "EdDSA",
        "HMAC",
        "dir",
    ] {
        table.header(&format!(r#"{{"alg":"{alg}","kid":"hs"}}"#), TokenError::Algorithm);
    }
    for alg in [r#"["HS256"]"#, r#"{"HS256":1}"#, "null", "256", "true", r#"["none"]"#] {
        table.header(&format!(r#"{{"alg":{alg},"kid":"hs"}}"#), header());
    }
    table.header(r#"{"kid":"hs"}"#, header());
    table.header(r#"{"Alg":"HS256","kid":"hs"}"#, header());
    // A key's signature with another of its family's algorithms.
    for (pair, kid, alg) in [
        (&*RSA, "rs", "RS512"),
        (&*RSA, "rs", "PS256"),
        (&*EC, "es", "ES384"),
        (&*EC, "es", "ES256K"),
        (&*ED, "ed", "Ed25519"),
    ] {
        let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
        let token = forge(&header, claims().to_string().as_bytes(), |message| pair.sign(message));
        table.add(format!("{kid} as {alg}"), token, TokenError::Algorithm);
    }
}

/// Every spelling of a public key that somebody may take for a secret.
pub(crate) fn spellings(pair: &Pair) -> Vec<(&'static str, Vec<u8>)> {
    let pem = pem("PUBLIC KEY", &pair.public);
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n");
    let jwk = pair.jwk.to_string();
    vec![
        ("PEM", pem.clone().into_bytes()),
        ("PEM without its last newline", pem.trim_end().as_bytes().to_vec()),
        ("PEM after a blank line", format!("\n{pem}").into_bytes()),
        ("PEM after blanks", format!("  {pem}").into_bytes()),
        ("PEM with CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("PEM on one line", pem.replace('\n', "").into_bytes()),
        ("PEM with escaped newlines", pem.replace('\n', "\\n").into_bytes()),
        ("PEM after a byte order mark", format!("\u{feff}{pem}").into_bytes()),
        ("PEM with a NUL", format!("{pem}\0").into_bytes()),
        ("DER", pair.public.clone()),
        ("the body of PEM", body.clone().into_bytes()),
        ("the body of PEM on one line", body.replace('\n', "").into_bytes()),
        ("DER in base64url", URL_SAFE.encode(&pair.public).into_bytes()),
        (
            "DER in base64 without padding",
            STANDARD.encode(&pair.public).trim_end_matches('=').as_bytes().to_vec(),
        ),
        ("JWK", jwk.clone().into_bytes()),
        ("JWK with blanks", format!(" {} \n", serde_json::to_string_pretty(&pair.jwk).unwrap()).into_bytes()),
    ]
}

fn confusion(table: &mut Table) {
    for (kid, pair) in [("rs", &*RSA), ("es", &*EC), ("ed", &*ED)] {
        for (spelling, secret) in spellings(pair) {
            for header in [
                format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
                format!(r#"{{"typ":"JWT","alg":"HS512","kid":"{kid}"}}"#),
            ] {
                let token =
                    forge(&header, claims().to_string().as_bytes(), |message| hs256(&secret, message));
                table.add(format!("{kid} as a secret, {spelling}, {header}"), token, TokenError::Algorithm);
            }
        }
    }
}

fn kid_tricks(table: &mut Table) {
    let long = "k".repeat(257);
    for kid in [
        "",
        " hs",
        "hs ",
        "HS",
        "Hs",
        "hs\\u0000",
        "\\u0000",
        "h\\u0000s",
        "../../../../../../dev/null",
        "/dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "file:///etc/passwd",
        "' OR '1'='1",
        "x' UNION SELECT 'AAAA' -- ",
        "hs'; DROP TABLE keys; --",
        "$(id)",
        "`id`",
        "| cat /etc/passwd",
        "%00",
        "%2e%2e%2f",
        "https://evil.example/key",
        "hs/../rs",
        "*",
        ".*",
        "{user}",
        "\\ud83d\\ude00",
        "h\\u0455",
        "null",
        "0",
        "__proto__",
        "constructor",
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        for (secret, with) in [(SECRET, "the secret"), (&b""[..], "nothing"), (&b"\0"[..], "a NUL")] {
            let token = forge(&header, claims().to_string().as_bytes(), |message| hs256(secret, message));
            table.add(format!("kid {kid:?} and signed with {with}"), token, TokenError::UnknownKey);
        }
    }
    for kid in [r#"["hs"]"#, r#"{"hs":1}"#, "1", "true", "null", "1.5", &format!("{long:?}")] {
        table.header(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#), header());
    }
    // Without one, four keys could be meant.
    table.header(r#"{"alg":"HS256"}"#, TokenError::UnknownKey);
    // Another's key.
    let others = forge(r#"{"alg":"EdDSA","kid":"ed"}"#, claims().to_string().as_bytes(), |message| {
        ed_pair().sign(message)
    });
    table.add("another's key by our name", others, TokenError::Signature);
}

fn keys_in_the_header(table: &mut Table) {
    let own = ed_pair();
    let jwk = own.jwk_named("ed").to_string();
    for (parameter, value) in [
        ("jwk", jwk.as_str()),
        ("jwk", "null"),
        ("jku", r#""https://evil.example/jwks.json""#),
        ("jku", r#""http://127.0.0.1/jwks.json""#),
        ("jku", "null"),
        ("x5u", r#""https://evil.example/cert.pem""#),
        ("x5c", r#"["MIIB"]"#),
        ("x5c", "[]"),
        ("crit", r#"["exp"]"#),
        ("crit", "[]"),
        ("crit", r#"["b64"],"b64":false"#),
        ("crit", r#"["x"],"x":1"#),
        ("b64", "false"),
        ("b64", "true"),
        ("zip", r#""DEF""#),
        ("enc", r#""A128GCM""#),
        ("cty", r#""JWT""#),
    ] {
        for (alg, kid) in [("EdDSA", "ed"), ("EdDSA", "unknown"), ("HS256", "hs")] {
            let head = format!(r#"{{"alg":"{alg}","kid":"{kid}","{parameter}":{value}}}"#);
            let token = forge(&head, claims().to_string().as_bytes(), |message| match alg {
                "HS256" => hs256(SECRET, message),
                _ => own.sign(message),
            });
            table.add(format!("{head:.90}"), token, header());
        }
    }
    for typ in [
        r#""logout+jwt""#,
        r#""dpop+jwt""#,
        r#""secevent+jwt""#,
        r#""JWE""#,
        r#""JOSE+JSON""#,
        r#""""#,
        "1",
        "null",
        r#"["JWT"]"#,
    ] {
        table.header(&format!(r#"{{"alg":"HS256","kid":"hs","typ":{typ}}}"#), header());
    }
}

fn claim_types(table: &mut Table) {
    for claim in ["exp", "nbf", "iat"] {
        let later = (NOW + 3600).to_string();
        for value in [
            &format!("\"{later}\""),
            "null",
            "true",
            "[]",
            &format!("[{later}]"),
            "{}",
            "-1",
            "-1e9",
            "1800003600.5",
            "1.8e9",
            "18446744073709551615",
            "9223372036854775807",
            "9223372036854775808",
            "253402300800",
            "1e300",
            r#""never""#,
            r#""2030-01-01T00:00:00Z""#,
        ] {
            let rest = if claim == "exp" { String::new() } else { format!(r#","exp":{later}"#) };
            table.claims_text(&format!(r#"{{"sub":"anna","{claim}":{value}{rest}}}"#), wrong_type());
        }
        for value in [
            "1e999",
            "NaN",
            "Infinity",
            "-Infinity",
            "0x7fffffff",
            "+1",
            "01",
            "1_800_003_600",
            "1800003600.",
            "'1'",
            "undefined",
            "",
        ] {
            table.claims_text(&format!(r#"{{"sub":"anna","{claim}":{value}}}"#), malformed());
        }
    }
    for claim in ["sub", "name", "tenant", "device", "jti", "iss"] {
        for value in [json!(1), json!(1.5), json!(true), json!([]), json!(["anna"]), json!({ "id": "anna" })]
        {
            table.claims(json!({ claim: value }), wrong_type());
        }
        table.claims_text(
            &format!(r#"{{"{claim}":null,"exp":{}}}"#, NOW + 60),
            if claim == "sub" { wrong_type() } else { missing_or_type(claim) },
        );
    }
    for rooms in [
        json!([]),
        json!([["*"]]),
        json!("join"),
        json!(1),
        json!({ "jion": ["*"] }),
        json!({ "join": "*" }),
        json!({ "join": [1] }),
        json!({ "join": { "*": true } }),
        json!({ "join": ["*"], "admin": true }),
    ] {
        table.claims(json!({ "rooms": rooms }), wrong_type());
    }
    table.claims_text(&format!(r#"{{"sub":"anna","exp":{},"rooms":null}}"#, NOW + 60), wrong_type());
}

/// What is looked at first decides: a token without `sub` is refused for that, whatever else is null.
fn missing_or_type(claim: &str) -> TokenError {
    if claim == "iss" { wrong_type() } else { missing() }
}

fn claim_values(table: &mut Table) {
    for claim in ["sub", "exp"] {
        table.claims(json!({ claim: null }), missing());
    }
    table.claims(json!({ "sub": "" }), identity());
    for claim in ["sub", "tenant", "device"] {
        for value in ["a\u{0}b", "a\nb", "\u{202e}anna", "anna\u{200b}", "\u{feff}", &"i".repeat(129)] {
            table.claims(json!({ claim: value }), identity());
        }
    }
    table.claims(json!({ "name": "n".repeat(51) }), identity());
    table.claims(json!({ "name": "A\u{7}" }), identity());
    table.claims(json!({ "jti": "j".repeat(257) }), identity());
    table.claims(json!({ "sub": "*", "rooms": { "join": ["inbox:{user}"] } }), identity());
    table.claims(json!({ "room": "vip" }), TokenError::Purpose(""));
    table.claims(json!({ "room": 1 }), TokenError::Purpose(""));
    // Nobody here has said that this is the audience.
    for audience in [json!("somebody-else"), json!(["a", "b"]), json!([]), json!("")] {
        table.claims(json!({ "aud": audience }), TokenError::Audience);
    }
    for audience in [json!(1), json!([1]), json!(["a", null]), json!({ "a": 1 }), json!(true)] {
        table.claims(json!({ "aud": audience }), wrong_type());
    }
}

fn time_leaps(table: &mut Table) {
    for expired in [0, 1, NOW - 31, NOW - 30, NOW - 3600, NOW - 86_400 * 365] {
        table.claims(json!({ "exp": expired, "iat": 0 }), TokenError::Expired);
    }
    for early in [NOW + 31, NOW + 3600, NOW + 86_400 * 365, 253_402_300_799] {
        table.claims(json!({ "nbf": early }), TokenError::NotYet);
        table.claims(json!({ "iat": early }), TokenError::FromTheFuture);
    }
}

fn tampered(table: &mut Table) {
    let good = signed(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let admin = encode(claims_with(json!({ "sub": "admin" })).to_string());
    table.add(
        "other claims under the same signature",
        format!("{}.{admin}.{}", parts[0], parts[2]),
        TokenError::Signature,
    );
    let head = encode(r#"{"alg":"HS256","kid":"hs"}"#);
    table.add(
        "another header over the same signature",
        format!("{head}.{}.{}", parts[1], parts[2]),
        TokenError::Signature,
    );
    let other = signed(&claims_with(json!({ "sub": "bert" })));
    table.add(
        "another token's signature",
        format!("{}.{}.{}", parts[0], parts[1], other.rsplit_once('.').unwrap().1),
        TokenError::Signature,
    );
    for (name, signature) in [
        ("all zeros", vec![0; 32]),
        ("one byte", vec![0]),
        ("cut off", hs256(SECRET, good.rsplit_once('.').unwrap().0.as_bytes())[..31].to_vec()),
        ("with a byte more", [hs256(SECRET, good.rsplit_once('.').unwrap().0.as_bytes()), vec![0]].concat()),
        ("of nothing", hs256(SECRET, b"")),
        ("of the claims alone", hs256(SECRET, parts[1].as_bytes())),
        ("with an empty key", hs256(b"", good.rsplit_once('.').unwrap().0.as_bytes())),
    ] {
        table.add(
            format!("a signature {name}"),
            format!("{}.{}.{}", parts[0], parts[1], encode(signature)),
            TokenError::Signature,
        );
    }
    // The "psychic" signature of CVE-2022-21449, and others that weak readers take.
    for (alg, kid, lengths) in [
        ("ES256", "es", &[63_usize, 64, 65, 96][..]),
        ("EdDSA", "ed", &[32, 64, 128]),
        ("RS256", "rs", &[1, 255, 256, 257]),
    ] {
        for (length, fill) in lengths.iter().flat_map(|length| [(*length, 0_u8), (*length, 0xff)]) {
            let token = forge(
                &format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#),
                claims().to_string().as_bytes(),
                |_| vec![fill; length],
            );
            table.add(format!("{alg} with {length} bytes of {fill}"), token, TokenError::Signature);
        }
    }
    // ASN.1 instead of two numbers (RFC 7518, section 3.4).
    let token = forge(r#"{"alg":"ES256","kid":"es"}"#, claims().to_string().as_bytes(), |message| {
        let fixed = EC.sign(message);
        let integer = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
        let body = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
        [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
    });
    table.add("ES256 in ASN.1", token, TokenError::Signature);
}

fn spelled_otherwise(table: &mut Table) {
    let good = signed(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { unreachable!() };
    for (name, token) in [
        ("padding after the signature", format!("{good}=")),
        ("padding after the header", format!("{head}=.{body}.{signature}")),
        ("a newline at the end", format!("{good}\n")),
        ("a blank before", format!(" {good}")),
        ("a NUL at the end", format!("{good}\0")),
        ("percent-encoded dots", good.replace('.', "%2E")),
        ("other dots", good.replace('.', "\u{2024}")),
        ("its scheme before it", format!("Bearer {good}")),
        ("quotes around it", format!("\"{good}\"")),
        ("a dot more at the end", format!("{good}.")),
        ("a dot more before", format!(".{good}")),
        ("two dots inside", format!("{head}..{body}.{signature}")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{good}.{signature}.{signature}")),
        ("a hundred dots", ".".repeat(100)),
        ("no parts", String::new()),
        ("one part", head.to_owned()),
        ("two parts", format!("{head}.{body}")),
        ("dots only", "..".to_owned()),
        ("JSON form", json!({ "protected": head, "payload": body, "signature": signature }).to_string()),
        (
            "JSON in base64",
            encode(json!({ "protected": head, "payload": body, "signature": signature }).to_string()),
        ),
        ("a byte beyond ASCII", format!("{good}\u{e9}")),
        ("standard alphabet", forge_standard_alphabet()),
        ("left-over bits", with_left_over_bits(&good)),
    ] {
        table.add(name, token, malformed());
    }
    for (name, claims) in [
        ("a list", "[]"),
        ("a text", "\"anna\""),
        ("a number", "1"),
        ("null", "null"),
        ("nothing", " "),
        ("two objects", "{}{}"),
        ("something after", r#"{"sub":"anna"} x"#),
        ("a byte order mark", "\u{feff}{}"),
        ("not closed", r#"{"sub":"anna""#),
        ("comments", "{/**/}"),
        ("single quotes", "{'sub':'anna'}"),
        ("a NUL", "{}\0"),
    ] {
        table.add(format!("claims are {name}"), signed_text(claims), malformed());
    }
    let head = r#"{"alg":"HS256","kid":"hs"}"#;
    table.add(
        "claims in UTF-16",
        forge(
            head,
            &claims().to_string().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
            |m| hs256(SECRET, m),
        ),
        malformed(),
    );
    table.add("claims no UTF-8", forge(head, b"{\"sub\":\"\xff\"}", |m| hs256(SECRET, m)), malformed());
}

/// A token that is good but for `+` and `/`.
fn forge_standard_alphabet() -> String {
    let token = signed(&claims_with(json!({ "info": "???>>>~~~???>>>~~~???>>>~~~" })));
    assert!(token.contains(['-', '_']));
    token.replace('-', "+").replace('_', "/")
}

/// The last character of 32 bytes has two bits that mean nothing: four spellings of one signature.
fn with_left_over_bits(token: &str) -> String {
    let last = token.chars().next_back().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    assert_eq!(at % 4, 0);
    format!("{}{}", &token[..token.len() - 1], &alphabet[at + 1..at + 2])
}

fn two_readings(table: &mut Table) {
    let claims = claims().to_string();
    for head in [
        r#"{"alg":"none","alg":"HS256","kid":"hs"}"#,
        r#"{"alg":"HS256","alg":"none","kid":"hs"}"#,
        r#"{"alg":"HS256","kid":"rs","kid":"hs"}"#,
        r#"{"alg":"HS256","kid":"hs","al\u0067":"none"}"#,
        r#"{"alg":"HS256","kid":"hs","x":{"a":1,"a":2}}"#,
        "[]",
        "null",
        "\"HS256\"",
        "{",
        r#"{"alg":"HS256","kid":"hs"}}"#,
    ] {
        table.add(
            format!("header {head}"),
            forge(head, claims.as_bytes(), |m| hs256(SECRET, m)),
            malformed(),
        );
    }
    for twice in [
        r#""sub":"admin""#,
        r#""s\u0075b":"admin""#,
        r#""exp":9999999999"#,
        r#""rooms":{"moderate":["*"]},"rooms":{}"#,
        r#""x":[{"a":1,"a":2}]"#,
    ] {
        table.claims_text(&format!(r#"{{"sub":"anna","exp":{},{twice}}}"#, NOW + 60), malformed());
    }
    let deep =
        |open: &str, levels: usize, close: &str| format!("{}1{}", open.repeat(levels), close.repeat(levels));
    for (name, deep) in [
        ("objects", deep(r#"{"a":"#, 20, "}")),
        ("lists", deep("[", 1000, "]")),
        ("both", deep(r#"[{"a":"#, 130, "}]")),
    ] {
        table.add(
            format!("deep {name}"),
            signed_text(&format!(r#"{{"sub":"anna","exp":{},"x":{deep}}}"#, NOW + 60)),
            malformed(),
        );
    }
}

fn huge(table: &mut Table) {
    let too_long = || TokenError::TooLong { max: 0 };
    table.add(
        "signed, and too long",
        signed(&claims_with(json!({ "info": "x".repeat(8 * 1024) }))),
        too_long(),
    );
    for length in [8 * 1024 + 1, 1 << 20, 16 << 20] {
        table.add(format!("{length} letters"), "e".repeat(length), too_long());
        table.add(format!("{length} dots"), ".".repeat(length), too_long());
    }
}

fn table() -> Table {
    let mut table = Table::default();
    unsigned(&mut table);
    other_algorithms(&mut table);
    confusion(&mut table);
    kid_tricks(&mut table);
    keys_in_the_header(&mut table);
    claim_types(&mut table);
    claim_values(&mut table);
    time_leaps(&mut table);
    tampered(&mut table);
    spelled_otherwise(&mut table);
    two_readings(&mut table);
    huge(&mut table);
    table
}

#[tokio::test]
async fn tokens_that_must_not_pass_are_refused_each_for_its_own_reason() {
    let verifier = verifier();
    let table = table();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let kind = |error: &TokenError| -> Discriminant<TokenError> { discriminant(error) };
    for (name, token, why) in &table.cases {
        match verifier.identify(token).await {
            Ok(identity) => wrong.push(format!("{name}: ACCEPTED as {:?}", identity.user)),
            Err(error) if kind(&error) != kind(why) => wrong.push(format!("{name}: {error}, not: {why}")),
            Err(error) => {
                *reasons
                    .entry(format!("{error:?}").chars().take_while(char::is_ascii_alphabetic).collect())
                    .or_default() += 1
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.cases.len(), wrong.join("\n"));
    println!("{} tokens refused: {reasons:?}", table.cases.len());
    assert!(table.cases.len() >= 500, "{}", table.cases.len());
}

/// What the table has of the confusion of keys, where there is but one key and no `kid`: the usual way to be fooled.
#[tokio::test]
async fn public_key_is_no_secret_where_it_is_the_only_key() {
    for (algorithm, pair) in [(Algorithm::RS256, &*RSA), (Algorithm::ES256, &*EC), (Algorithm::EdDSA, &*ED)] {
        let key = VerificationKey::public(algorithm, &pair.public).unwrap();
        let verifier = now(JwtVerifier::new(vec![key], ClaimRules::default()).unwrap());
        for (spelling, secret) in spellings(pair) {
            let token = forge(r#"{"alg":"HS256"}"#, claims().to_string().as_bytes(), |message| {
                hs256(&secret, message)
            });
            assert_eq!(refused(&verifier, &token).await, TokenError::Algorithm, "{algorithm} {spelling}");
        }
        let good =
            forge(&format!(r#"{{"alg":"{algorithm}"}}"#), claims().to_string().as_bytes(), |message| {
                pair.sign(message)
            });
        assert_eq!(verifier.identify(&good).await.unwrap().user.as_str(), "anna");
        let named = forge(
            &format!(r#"{{"alg":"{algorithm}","kid":"other"}}"#),
            claims().to_string().as_bytes(),
            |message| pair.sign(message),
        );
        assert_eq!(refused(&verifier, &named).await, TokenError::UnknownKey);
    }
}

/// No text of ours may help whoever tries, or tell a log what was shown.
#[tokio::test]
async fn reasons_quote_nothing_of_the_token() {
    let verifier = verifier();
    for (name, token, _) in &table().cases {
        let Err(error) = verifier.identify(token).await else { continue };
        let said = format!("{error} {error:?}");
        let quoted = token.split('.').any(|part| part.len() > 8 && said.contains(part));
        assert!(!quoted && !said.contains("evil") && said.len() < 400, "{name}: {said}");
    }
}

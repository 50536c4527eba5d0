//! One certificate with its key: read from two PEM files, and what is known of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use outspoke_hub::ClientCertificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::error::TlsError;

/// A certificate's common name (RFC 5280 section A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate that the server can show.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// The host names that it is for, in lower case, `*.example.org` among them.
    pub(super) names: BTreeSet<String>,
    pub(super) expires: Timestamp,
}

impl Pair {
    /// Makes sense of what two files hold.
    ///
    /// # Errors
    /// What is wrong with them. That the certificate's time is over is no error here.
    pub(super) fn read(certificate: (&Path, &[u8]), key: (&Path, &[u8])) -> Result<Self, TlsError> {
        let chain = certificates(certificate.0, certificate.1)?;
        let leaf = parse(certificate.0, &chain[0])?;
        let private = private_key(key.0, key.1)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate: certificate.0.to_owned(), key: key.0.to_owned() }
            }
            error => TlsError::Unusable { path: key.0.to_owned(), why: error.to_string() },
        })?;
        let until = leaf.tbs_certificate.validity.not_after.to_unix_duration();
        let expires = i64::try_from(until.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok());
        let names = Names::of(&leaf);
        let addresses = names.addresses.iter().map(ToString::to_string);
        Ok(Self {
            key: Arc::new(key),
            names: names.dns.iter().map(|name| name.to_ascii_lowercase()).chain(addresses).collect(),
            expires: expires.unwrap_or(Timestamp::MAX),
        })
    }

    /// Whether it is for that host (RFC 9525 section 6.3: a wildcard stands for the first label alone).
    pub(super) fn is_for(&self, host: &str) -> bool {
        self.names.contains(host)
            || host.split_once('.').is_some_and(|(_, parent)| self.names.contains(&format!("*.{parent}")))
    }

    /// Its host names for people to read.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        names.join(", ")
    }
}

/// The certificates in a PEM file, at least one.
pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| TlsError::Unusable {
        path: path.to_owned(),
        why: format!("it is no PEM: {error}"),
    })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned(), what: "certificate" });
    }
    Ok(certificates)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let encrypted = |line: &[u8]| line.windows(9).any(|word| word == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| match pem.split(|b| *b == b'\n').any(encrypted) {
        true => TlsError::Encrypted { path: path.to_owned() },
        // What the PEM reader says may quote the file.
        false => TlsError::Empty { path: path.to_owned(), what: "private key" },
    })
}

fn parse(path: &Path, der: &CertificateDer<'_>) -> Result<Certificate, TlsError> {
    Certificate::from_der(der)
        .map_err(|error| TlsError::Unusable { path: path.to_owned(), why: error.to_string() })
}

/// What a certificate calls its subject besides.
#[derive(Default)]
struct Names {
    dns: Vec<String>,
    emails: Vec<String>,
    uris: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    fn of(certificate: &Certificate) -> Self {
        let mut names = Self::default();
        let Ok(Some((_, SubjectAltName(all)))) = certificate.tbs_certificate.get() else { return names };
        for name in all {
            match name {
                GeneralName::DnsName(name) => names.dns.push(name.to_string()),
                GeneralName::Rfc822Name(email) => names.emails.push(email.to_string()),
                GeneralName::UniformResourceIdentifier(uri) => names.uris.push(uri.to_string()),
                GeneralName::IpAddress(bytes) => names.addresses.extend(address(bytes.as_bytes())),
                _ => {}
            }
        }
        names
    }
}

/// The host names in a certificate.
#[cfg(feature = "acme")]
pub(super) fn dns_names(certificate: &Certificate) -> Vec<String> {
    Names::of(certificate).dns
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// What authenticators are told of a client's certificate; `None` for one that the TLS library took and this cannot read.
pub(super) fn of_client(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let certificate = Certificate::from_der(der).ok()?;
    let subject = &certificate.tbs_certificate.subject;
    let names = Names::of(&certificate);
    let mut attributes = subject.0.iter().flat_map(|attributes| attributes.0.iter());
    let common_name = attributes.rfind(|attribute| attribute.oid == COMMON_NAME);
    let mut known = ClientCertificate::of(subject.to_string());
    known.common_name =
        common_name.and_then(|name| std::str::from_utf8(name.value.value()).ok()).map(str::to_owned);
    known.serial =
        certificate.tbs_certificate.serial_number.as_bytes().iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
    known.dns_names = names.dns;
    known.emails = names.emails;
    known.uris = names.uris;
    Some(known)
}

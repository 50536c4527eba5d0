//! TLS to the database, when its address asks for it.
//!
//! As with PostgreSQL's own tools, `require` encrypts and checks nothing, `verify-full` checks the certificate and the
//! host's name. The half-measures `allow` and `prefer`, which fall back to plain text without a word, are refused.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// Whether and how a connection is encrypted.
#[derive(Clone)]
pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Tls {
    /// From the parameters `sslmode` and `sslrootcert` of an address.
    pub(super) fn new(mode: Option<&str>, roots: Option<&str>) -> Result<Self, StoreError> {
        let checked = match (mode, roots) {
            (None | Some("disable"), _) => return Ok(Self::Off),
            // With a certificate of its own authority at hand, PostgreSQL's tools check it too.
            (Some("require"), None) => false,
            (Some("require" | "verify-full"), _) => true,
            (Some(other), _) => {
                return Err(invalid(&format!(
                    "sslmode={other} is not known: use disable, require or verify-full"
                )));
            }
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| invalid(&error.to_string()))?;
        let config = if checked {
            builder.with_root_certificates(root_certificates(roots)?).with_no_client_auth()
        } else {
            let unchecked = Arc::new(Unchecked(provider));
            builder.dangerous().with_custom_certificate_verifier(unchecked).with_no_client_auth()
        };
        Ok(Self::On(MakeRustlsConnect::new(config)))
    }
}

fn root_certificates(file: Option<&str>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let wrong =
        |error: &dyn std::fmt::Display| invalid(&format!("sslrootcert={file} cannot be used: {error}"));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"it has no certificate"));
    }
    Ok(roots)
}

fn invalid(what: &str) -> StoreError {
    StoreError::Invalid(format!("in the PostgreSQL setting `url`, {what}"))
}

/// Believes any certificate: what `sslmode=require` means everywhere. It keeps listeners out, not impostors.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

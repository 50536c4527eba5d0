//! Which servers a driver believes over TLS: one whose certificate is in a file, or any on this machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::target::Target;

/// What is needed to connect by TLS.
#[derive(Clone)]
pub(crate) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// For `target`, as the arguments say. `None`: without TLS.
    ///
    /// # Errors
    /// If arguments and address do not go together, or the file holds no certificate.
    pub(crate) fn of(target: &Target, ca: Option<&Path>, insecure: bool) -> Result<Option<Self>> {
        if !target.secure {
            ensure!(ca.is_none() && !insecure, "--ca and --insecure are for wss:// addresses");
            return Ok(None);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?;
        let mut config = match (ca, insecure) {
            (Some(file), false) => builder.with_root_certificates(certificates(file)?).with_no_client_auth(),
            (None, true) => {
                ensure_loopback(target.addr)?;
                let any = Arc::new(Anybody(provider));
                builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
            }
            (None, false) => bail!("whom to trust? give the server's certificate with --ca FILE"),
            (Some(_), true) => bail!("give --ca or --insecure, not both"),
        };
        // Everybody is new: a session that is resumed costs the server less, and the driver would decide how many
        // are.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(target.host_name().to_owned())
            .with_context(|| format!("no certificate can be for {}", target.host_name()))?;
        Ok(Some(Self { config: Arc::new(config), name }))
    }

    /// A session that has not begun.
    pub(crate) fn session(&self) -> Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).context("cannot set up TLS")
    }
}

fn certificates(file: &Path) -> Result<RootCertStore> {
    let name = file.display();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(|| format!("cannot read {name}"))? {
        let certificate = certificate.with_context(|| format!("{name} is not PEM"))?;
        roots.add(certificate).with_context(|| format!("{name} holds what is no certificate"))?;
    }
    ensure!(!roots.is_empty(), "{name} holds no certificate");
    Ok(roots)
}

fn ensure_loopback(addr: SocketAddr) -> Result<()> {
    let local = addr.ip().to_canonical().is_loopback();
    ensure!(local, "--insecure is for servers on this machine; give the certificate with --ca FILE");
    Ok(())
}

/// Believes whoever answers, after looking that it has the key to the certificate it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(url: &str, ca: Option<&str>, insecure: bool) -> String {
        let target: Target = url.parse().unwrap();
        let trust = Trust::of(&target, ca.map(Path::new), insecure);
        format!("{:#}", trust.err().unwrap())
    }

    #[test]
    fn trust_that_is_missing_or_too_much_is_refused() {
        for (url, ca, insecure, cure) in [
            ("wss://127.0.0.1:1", None, false, "--ca FILE"),
            ("wss://192.0.2.1:1", None, true, "on this machine"),
            ("wss://127.0.0.1:1", Some("a.pem"), true, "not both"),
            ("wss://127.0.0.1:1", Some("/nowhere/a.pem"), false, "cannot read /nowhere/a.pem"),
            ("wss://127.0.0.1:1", Some("Cargo.toml"), false, "holds no certificate"),
            ("ws://127.0.0.1:1", Some("a.pem"), false, "wss://"),
            ("ws://127.0.0.1:1", None, true, "wss://"),
        ] {
            let said = refused(url, ca, insecure);
            assert!(said.contains(cure), "{url}: {said}");
        }
    }

    #[test]
    fn anybody_on_this_machine_may_be_trusted() {
        for url in ["wss://127.0.0.1:1", "wss://[::1]:1", "wss://127.9.9.9:1"] {
            assert!(Trust::of(&url.parse().unwrap(), None, true).unwrap().is_some(), "{url}");
        }
        assert!(Trust::of(&"ws://127.0.0.1:1".parse().unwrap(), None, false).unwrap().is_none());
    }
}

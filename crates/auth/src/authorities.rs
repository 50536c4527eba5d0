//! Certificate authorities of one's own, in the place of the public ones: for providers and applications inside a company.
//!
//! What [`crate::http`] checks certificates against. Whoever names an authority does not want another one to speak for the
//! provider of the keys that open everything, so the public ones do not count beside it.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::SetupError;

/// Who vouches for the servers that are asked. Cheap to clone. Default: the authorities that browsers know (Mozilla's).
#[derive(Clone, Default)]
pub struct Authorities(Option<Arc<[CertificateDer<'static>]>>);

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(own) => write!(f, "Authorities({} of one's own)", own.len()),
            None => f.write_str("Authorities(public)"),
        }
    }
}

impl Authorities {
    /// Those whose certificates are in a PEM text; what else is in it does not count.
    ///
    /// # Errors
    /// There is none in it, or one that cannot be used: [`SetupError::BadAuthority`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, SetupError> {
        let (mut all, mut store) = (Vec::new(), RootCertStore::empty());
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let bad = |why: String| SetupError::BadAuthority { number: all.len() + 1, why };
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            store.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
            all.push(certificate);
        }
        match all.is_empty() {
            true => Err(SetupError::NoAuthority),
            false => Ok(Self(Some(all.into()))),
        }
    }

    /// As TLS wants them.
    pub(crate) fn roots(&self) -> RootCertStore {
        let Some(own) = &self.0 else {
            return RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        };
        let mut store = RootCertStore::empty();
        // Every one was accepted when it was read.
        store.add_parsable_certificates(own.iter().cloned());
        store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_an_authority_is_refused_and_says_which() {
        assert!(matches!(Authorities::from_pem(b"nothing"), Err(SetupError::NoAuthority)));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Authorities::from_pem(broken), Err(SetupError::BadAuthority { number: 1, .. })));
        assert!(Authorities::default().roots().len() > 50, "browsers' ones are many");
    }
}

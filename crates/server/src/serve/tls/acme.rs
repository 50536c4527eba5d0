//! Certificates from an authority that gives them by itself (ACME, RFC 8555): asked for, proven over HTTP, renewed in time.
//!
//! The authority looks for its proof at port 80 of each name, where the redirect listener answers ([`Challenges`]). What it
//! gives is written to the files of `tls.certificate` and `tls.key`, and taken into use like any other new certificate. Until the
//! first one is there, the server shows one that it has made itself, so that it can start at all.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::challenges::Challenges;
use super::error::TlsError;
use super::{Certificates, certificate};
use crate::config::settings;

/// How often it is looked whether it is time.
const LOOK: Duration = Duration::from_secs(3600);
/// How long to wait after a failure: at first, and at most. Authorities count failures, some to five an hour.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3600));
/// How long an authority may take for one certificate.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error(transparent)]
    Protocol(#[from] instant_acme::Error),
    #[error("the authority offers no proof over HTTP for {0}")]
    NoHttpProof(String),
    #[error("the authority found no proof: the order is {0:?}")]
    NotProven(OrderStatus),
    #[error("the authority took longer than five minutes")]
    TooSlow,
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the authority's certificate cannot be used: {0}")]
    Unusable(#[from] TlsError),
}

/// Puts a certificate of our own making where the files are not there yet.
///
/// # Errors
/// They cannot be written.
pub(in crate::serve) fn begin(settings: &settings::tls::Tls) -> Result<(), TlsError> {
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else { return Ok(()) };
    if settings.acme_domains.is_empty() || (certificate.exists() && key.exists()) {
        return Ok(());
    }
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let made = rcgen::generate_simple_self_signed(settings.acme_domains.clone());
    let made = made.map_err(|error| setup(&error))?;
    let written = write(key, made.signing_key.serialize_pem().as_bytes())
        .and_then(|()| write(certificate, made.cert.pem().as_bytes()));
    written.map_err(|error| setup(&error))
}

/// Gets certificates and renews them, until the server stops.
pub(in crate::serve) async fn keep(
    settings: settings::tls::Tls,
    challenges: Challenges,
    certificates: Arc<Certificates>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut pause = RETRY.0;
    if !is_due(&settings, Timestamp::now()) {
        tracing::info!("the certificate is kept; the authority is asked again after two thirds of its time");
    }
    loop {
        let wait = if !is_due(&settings, Timestamp::now()) {
            LOOK
        } else {
            match renew(&settings, &challenges, &certificates).await {
                Ok(()) => {
                    pause = RETRY.0;
                    LOOK
                }
                Err(error) => {
                    let hint = "see that the names of tls.acme_domains lead here, and that port 80 of them is tls.redirect_addr";
                    tracing::error!(%error, hint, again_in = ?pause, "no new certificate");
                    let wait = pause;
                    pause = (pause * 2).min(RETRY.1);
                    wait
                }
            }
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(
    settings: &settings::tls::Tls,
    challenges: &Challenges,
    certificates: &Arc<Certificates>,
) -> Result<(), AcmeError> {
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else { return Ok(()) };
    let asked = tokio::time::timeout(PATIENCE, order(settings, certificate, challenges)).await;
    let (chain, private) = asked.map_err(|_| AcmeError::TooSlow)??;
    // What cannot be used must not take the place of what can.
    certificate::Pair::read((certificate, chain.as_bytes()), (key, private.as_bytes()))?;
    write(key, private.as_bytes())?;
    write(certificate, chain.as_bytes())?;
    let reloading = Arc::clone(certificates);
    if let Ok(reloaded) = tokio::task::spawn_blocking(move || reloading.reload()).await {
        reloaded?;
    }
    tracing::info!(names = settings.acme_domains.join(", "), "the authority has given a certificate");
    Ok(())
}

/// Asks for a certificate: its chain and its key, as PEM.
async fn order(
    settings: &settings::tls::Tls,
    certificate: &Path,
    challenges: &Challenges,
) -> Result<(String, String), AcmeError> {
    let account = account(settings, &certificate.with_file_name("acme-account.json")).await?;
    let names: Vec<_> = settings.acme_domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization.challenge(ChallengeType::Http01);
        let mut challenge = challenge.ok_or(AcmeError::NoHttpProof(name))?;
        shown.push(challenges.show(&challenge.token, challenge.key_authorization().as_str()));
        challenge.set_ready().await?;
    }
    let retries = RetryPolicy::default().timeout(PATIENCE);
    match order.poll_ready(&retries).await? {
        OrderStatus::Ready => {}
        status => return Err(AcmeError::NotProven(status)),
    }
    let key = order.finalize().await?;
    Ok((order.poll_certificate(&retries).await?, key))
}

/// The account at the authority: the one in the file, or a new one.
async fn account(settings: &settings::tls::Tls, file: &Path) -> Result<Account, AcmeError> {
    let builder = || match &settings.acme_ca {
        Some(root) => Account::builder_with_root(root),
        None => Account::builder(),
    };
    let known = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(credentials) = known {
        return Ok(builder()?.from_credentials(credentials).await?);
    }
    let contact = format!("mailto:{}", settings.acme_contact);
    let contact: &[&str] = if settings.acme_contact.is_empty() { &[] } else { &[&contact] };
    let new = NewAccount {
        contact,
        terms_of_service_agreed: settings.acme_terms_agreed,
        only_return_existing: false,
    };
    let (account, credentials) = builder()?.create(&new, settings.acme_directory.clone(), None).await?;
    write(file, &serde_json::to_vec(&credentials).map_err(instant_acme::Error::from)?)?;
    Ok(account)
}

/// Whether the certificate in the file is of our own making, for other names, or past two thirds of its time.
fn is_due(settings: &settings::tls::Tls, now: Timestamp) -> bool {
    let Some(path) = &settings.certificate else { return false };
    let Ok(pem) = fs::read(path) else { return true };
    let Ok(der) = CertificateDer::from_pem_slice(&pem) else { return true };
    let Ok(certificate) = Certificate::from_der(&der) else { return true };
    let fields = &certificate.tbs_certificate;
    let second = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
    let (from, until) = (second(&fields.validity.not_before), second(&fields.validity.not_after));
    let names = certificate::dns_names(&certificate);
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    fields.issuer == fields.subject
        || settings
            .acme_domains
            .iter()
            .any(|domain| !names.iter().any(|name| name.eq_ignore_ascii_case(domain)))
        || now >= from + until.saturating_sub(from) / 3 * 2
}

/// Writes a file as a whole, readable for the server alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
    let failed = |source| AcmeError::Write { path: path.to_owned(), source };
    let beside = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let _ = fs::remove_file(&beside);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

//! TLS in process: certificates from files, handshakes bounded in time and number, and new certificates without a restart.
//!
//! The accept loop asks `Tls::accept` for each connection; whoever reloads the server asks `Certificates::reload`, and so
//! does a task that looks at the files. A new certificate is for new handshakes: connections never notice. Everything that
//! TLS depends on is one `rustls` configuration, replaced as a whole, so that tickets of sessions that were begun under
//! other certificates or authorities are worth nothing afterwards. Who a client certificate stands for is the
//! authenticator's to say.

#[cfg(feature = "acme")]
pub(super) mod acme;
mod certificate;
pub(super) mod challenges;
mod error;
mod files;
mod stream;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use outspoke_hub::ClientCertificate;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use self::certificate::Pair;
pub use self::error::TlsError;
use self::files::Contents;
use self::stream::TlsStream;
use crate::config::settings;
use crate::config::settings::tls::ClientAuth;

/// How long before its end a certificate is worth a warning.
const WARNING: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How often the warning is repeated.
const REMINDER: SignedDuration = SignedDuration::from_hours(24);

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The files hold what is used already.
    Nothing,
    /// New handshakes get the new certificates.
    Certificates,
}

/// The certificates in use.
#[derive(Debug)]
pub struct Certificates {
    now: ArcSwap<InUse>,
    /// The settings by which they were found; one reload at a time.
    settings: Mutex<settings::tls::Tls>,
}

/// Certificates that were in use.
#[derive(Debug)]
pub(super) struct Former {
    in_use: Arc<InUse>,
    settings: settings::tls::Tls,
}

#[derive(Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    chosen: Arc<Chosen>,
    contents: Contents,
}

/// The certificates by host name.
#[derive(Debug)]
struct Chosen {
    /// The first one is for everybody who asks for no name, or for an unknown one.
    pairs: Vec<(PathBuf, Pair)>,
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(Arc::clone(&self.of(name.as_deref()).key))
    }
}

impl Chosen {
    fn of(&self, name: Option<&str>) -> &Pair {
        let named = name.and_then(|name| self.pairs.iter().find(|(_, pair)| pair.is_for(name)));
        &named.unwrap_or(&self.pairs[0]).1
    }
}

impl Certificates {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// What is wrong with them. A certificate whose time is over is only warned of: clients refuse it, and the next one
    /// comes without a restart.
    pub fn open(settings: &settings::tls::Tls) -> Result<Self, TlsError> {
        let contents = Contents::read(settings)?;
        let now = InUse::build(settings, contents)?;
        now.tell();
        Ok(Self { now: ArcSwap::from_pointee(now), settings: Mutex::new(settings.clone()) })
    }

    /// Reads the files again. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Why the files cannot be used; what was in use still is.
    pub fn reload(&self) -> Result<Changed, TlsError> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(&settings)
    }

    /// What is in use, to come back to.
    pub(super) fn former(&self) -> Former {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        Former { in_use: self.now.load_full(), settings: settings.clone() }
    }

    /// Puts back what was in use, whatever the files hold by now.
    pub(super) fn restore(&self, former: Former) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = former.settings;
        self.now.store(former.in_use);
    }

    /// As [`Self::reload`], with other settings from then on.
    ///
    /// # Errors
    /// Why they cannot be used; what was in use still is, settings included.
    pub fn reload_with(&self, settings: &settings::tls::Tls) -> Result<Changed, TlsError> {
        let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.replace(settings)?;
        *current = settings.clone();
        Ok(changed)
    }

    /// Whether the files that these settings name could be used: for a dry run.
    ///
    /// # Errors
    /// Why they could not.
    pub fn check(settings: &settings::tls::Tls) -> Result<(), TlsError> {
        InUse::build(settings, Contents::read(settings)?).map(drop)
    }

    fn replace(&self, settings: &settings::tls::Tls) -> Result<Changed, TlsError> {
        let contents = Contents::read(settings)?;
        if contents == self.now.load().contents {
            return Ok(Changed::Nothing);
        }
        let new = InUse::build(settings, contents)?;
        new.must_be_valid(Timestamp::now())?;
        new.tell();
        self.now.store(Arc::new(new));
        Ok(Changed::Certificates)
    }

    /// Whether one of the certificates is for that host, without a port.
    pub(super) fn are_for(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        self.now.load().chosen.pairs.iter().any(|(_, pair)| pair.is_for(&host))
    }
}

impl InUse {
    fn build(settings: &settings::tls::Tls, contents: Contents) -> Result<Self, TlsError> {
        let read = |files: &files::PairContents| {
            let pair = Pair::read(files.certificate.view(), files.key.view())?;
            Ok((files.certificate.path.clone(), pair))
        };
        let pairs: Result<Vec<_>, TlsError> = contents.pairs.iter().map(read).collect();
        let chosen = Arc::new(Chosen { pairs: pairs? });
        let config = Arc::new(config(settings, &contents, Arc::clone(&chosen))?);
        Ok(Self { config, chosen, contents })
    }

    fn must_be_valid(&self, now: Timestamp) -> Result<(), TlsError> {
        match self.chosen.pairs.iter().find(|(_, pair)| pair.expires <= now) {
            Some((path, pair)) => Err(TlsError::Expired { path: path.clone(), at: pair.expires }),
            None => Ok(()),
        }
    }

    /// Says for whom the certificates are, and until when.
    fn tell(&self) {
        for (path, pair) in &self.chosen.pairs {
            let (file, names, expires) = (path.display(), pair.names(), pair.expires);
            tracing::info!(%file, names, %expires, "using the certificate");
        }
        self.warn(Timestamp::now());
    }

    /// Warns of certificates whose end is near.
    fn warn(&self, now: Timestamp) {
        for (path, pair) in &self.chosen.pairs {
            let (file, expires) = (path.display(), pair.expires);
            match pair.expires.duration_since(now) {
                left if left <= SignedDuration::ZERO => tracing::error!(
                    %file, %expires, "the certificate has expired: clients refuse it; put a new one in its place"
                ),
                left if left <= WARNING => tracing::warn!(
                    %file, %expires, days = left.as_hours() / 24, "the certificate expires soon: renew it"
                ),
                _ => {}
            }
        }
    }
}

/// Everything that `rustls` is told; versions and cipher suites are its safe defaults.
fn config(
    settings: &settings::tls::Tls,
    contents: &Contents,
    chosen: Arc<Chosen>,
) -> Result<ServerConfig, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let builder = match &contents.client_ca {
        Some(file) if settings.client_auth != ClientAuth::Off => {
            let mut roots = RootCertStore::empty();
            for certificate in certificate::certificates(&file.path, &file.bytes)? {
                let added = roots.add(certificate);
                added.map_err(|error| TlsError::Unusable {
                    path: file.path.clone(),
                    why: error.to_string(),
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match settings.client_auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::Off | ClientAuth::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| setup(&error))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(chosen);
    // A crowd that comes back resumes its sessions; what is needed for it the clients keep, not the server.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| setup(&error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    // The server's order of cipher suites, whose first are the strongest.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// TLS for the accept loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    certificates: Arc<Certificates>,
    handshakes: Arc<Semaphore>,
    timeout: Duration,
}

impl Tls {
    pub(super) fn new(certificates: Arc<Certificates>, settings: &settings::tls::Tls) -> Self {
        let most = settings.handshakes_max.min(Semaphore::MAX_PERMITS);
        Self { certificates, handshakes: Arc::new(Semaphore::new(most)), timeout: settings.handshake_timeout }
    }

    /// Shakes hands. Who says nothing costs no more than a socket meanwhile.
    ///
    /// # Errors
    /// What the client did wrong, or that it took too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Secured> {
        let shaken = tokio::time::timeout(self.timeout, async {
            stream.readable().await?;
            let _permit = self.handshakes.acquire().await.map_err(io::Error::other)?;
            TlsStream::accept(stream, Arc::clone(&self.certificates.now.load().config)).await
        });
        let stream = shaken.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let shown = stream.peer_certificates().and_then(|chain| chain.first());
        let client = shown.and_then(certificate::of_client).map(Arc::new);
        Ok(Secured { stream, client })
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    /// The certificate that the client has shown.
    pub(super) client: Option<Arc<ClientCertificate>>,
}

/// Looks at the files again and again, until the server stops.
pub(super) async fn watch(
    certificates: Arc<Certificates>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    if interval.is_zero() {
        return;
    }
    // Files are written one after the other, and a certificate comes before its key: only what is still wrong at the second
    // look is worth a word, and only once.
    let mut wrong: Option<(String, u32)> = None;
    let mut reminded = Timestamp::now();
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(interval) => {}
        }
        let reloading = Arc::clone(&certificates);
        let reloaded = tokio::task::spawn_blocking(move || reloading.reload()).await;
        match reloaded {
            Ok(Ok(Changed::Certificates)) => {
                tracing::info!("new connections get the new certificates; those that exist stay");
                wrong = None;
            }
            Ok(Ok(Changed::Nothing)) => wrong = None,
            Ok(Err(error)) => wrong = Some(complain(&error, wrong)),
            Err(error) => tracing::error!(%error, "looking at the certificates failed"),
        }
        let now = Timestamp::now();
        if now.duration_since(reminded) >= REMINDER {
            certificates.now.load().warn(now);
            reminded = now;
        }
    }
}

/// Says what is wrong when it is seen for the second time.
fn complain(error: &TlsError, before: Option<(String, u32)>) -> (String, u32) {
    let what = error.to_string();
    let times = before.filter(|(known, _)| *known == what).map_or(1, |(_, times)| times.saturating_add(1));
    if times == 2 {
        tracing::warn!(
            error = what,
            hint = error.hint(),
            "the certificates in use stay: the new ones cannot be used"
        );
    }
    (what, times)
}

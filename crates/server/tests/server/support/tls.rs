//! A certificate authority for tests, and clients over TLS.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outspoke_testkit::{ByteStream, Connect, Refused, WsClient, exchange_over};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Settings;

/// A client over TLS.
pub(crate) type TlsClient = WsClient<TlsPipe>;

/// An authority that nobody but the tests trusts.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key, both PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Outspoke test authority");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server's certificate for these names, valid as long as those that one buys.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "outspoke");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points =
            vec![CrlDistributionPoint { uris: vec!["http://localhost/test.crl".to_owned()] }];
        valid(&mut params, -1, 89);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client's certificate.
    pub(crate) fn issue_client(&self, name: &str, uri: &str) -> Issued {
        self.issue_with(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        })
    }

    /// A client that trusts this authority and nobody else.
    pub(crate) fn client(&self) -> Dialer {
        self.client_showing(None)
    }

    pub(crate) fn client_showing(&self, shown: Option<&Issued>) -> Dialer {
        self.client_of(shown, rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_of(
        &self,
        shown: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Dialer {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        Dialer { config: Arc::new(config), name: "localhost".to_owned(), receive_buffer: None }
    }
}

/// Makes a certificate valid from and until so many days from now.
pub(crate) fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let day = |days: i64| {
        let then = now.checked_add_signed(days * 24 * 60 * 60).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(then)
    };
    (params.not_before, params.not_after) = (day(from), day(until));
}

impl Issued {
    /// Lets somebody else than an Outspoke speak TLS with it.
    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()).into()
    }

    /// Puts it into a folder, as `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }
}

impl Settings {
    /// With TLS, and this certificate.
    pub(crate) fn tls(self, issued: &Issued) -> Self {
        issued.write(self.folder(), "server");
        self.set("tls.certificate", "server.pem").set("tls.key", "server.key")
    }
}

/// Connects over TLS.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: String,
    receive_buffer: Option<u32>,
}

impl Dialer {
    /// Asking for another host name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// With a small receive buffer, so that a client that does not read is slow soon.
    pub(crate) fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    pub(crate) async fn dial(&self, addr: SocketAddr) -> io::Result<TlsPipe> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(addr).await?;
        stream.set_nodelay(true)?;
        self.secure(stream).await
    }

    /// Shakes hands over a connected socket.
    pub(crate) async fn secure(&self, stream: TcpStream) -> io::Result<TlsPipe> {
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await?;
        Ok(TlsPipe { stream })
    }

    pub(crate) async fn try_open(&self, addr: SocketAddr, target: &str) -> Result<TlsClient, Refused> {
        self.establish(Connect::to(addr, target), addr).await
    }

    pub(crate) async fn establish(&self, connect: Connect, addr: SocketAddr) -> Result<TlsClient, Refused> {
        let pipe = self.dial(addr).await.unwrap();
        connect.establish_over(pipe).await.map(|(client, _)| client)
    }

    pub(crate) async fn open(&self, addr: SocketAddr, target: &str) -> TlsClient {
        self.try_open(addr, target).await.unwrap()
    }

    pub(crate) async fn get(&self, addr: SocketAddr, path: &str) -> Refused {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        exchange_over(self.dial(addr).await.unwrap(), request.as_bytes()).await
    }
}

/// A TLS stream as a stream of bytes.
#[derive(Debug)]
pub(crate) struct TlsPipe {
    stream: TlsStream<TcpStream>,
}

impl TlsPipe {
    /// The certificate that the server has shown; `None` in a session that was resumed.
    pub(crate) fn shown(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.peer_certificates().map(|chain| chain[0].as_ref())
    }

    pub(crate) fn session(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().1
    }
}

impl ByteStream for TlsPipe {
    async fn read(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 64 * 1024];
        let count = self.stream.read(&mut buffer).await.unwrap_or(0);
        buffer.truncate(count);
        buffer
    }

    fn read_now(&mut self) -> Option<Vec<u8>> {
        use std::task::{Context, Poll, Waker};
        let mut buffer = vec![0; 64 * 1024];
        let mut read = tokio::io::ReadBuf::new(&mut buffer);
        let mut context = Context::from_waker(Waker::noop());
        let polled =
            tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut self.stream), &mut context, &mut read);
        let count = read.filled().len();
        match polled {
            Poll::Pending => None,
            Poll::Ready(_) => {
                buffer.truncate(count);
                Some(buffer)
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }
}

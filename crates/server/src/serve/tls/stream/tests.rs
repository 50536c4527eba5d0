//! The stream between a `rustls` client and in-memory sockets that give and take as little as they like.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Wake, Waker};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore};
use rustls::{SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// Both sides' configurations.
struct Setup {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn setup(version: &'static SupportedProtocolVersion) -> Setup {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    server.send_tls13_tickets = 1;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Setup { server: Arc::new(server), client: Arc::new(client) }
}

/// A socket whose every byte the test moves.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Line>>);

struct Line {
    to_server: VecDeque<u8>,
    /// So many bytes are read at once.
    piece: usize,
    reads: usize,
    ended: bool,
    from_server: Vec<u8>,
    /// So many bytes are still taken.
    room: usize,
    fails: Option<io::ErrorKind>,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            to_server: VecDeque::new(),
            piece: usize::MAX,
            reads: 0,
            ended: false,
            from_server: Vec::new(),
            room: usize::MAX,
            fails: None,
            shut: false,
            reader: None,
            writer: None,
        }
    }
}

impl Wire {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap()
    }

    fn feed(&self, bytes: &[u8]) {
        let mut line = self.line();
        line.to_server.extend(bytes);
        line.reader.take().into_iter().for_each(Waker::wake);
    }

    fn end(&self) {
        let mut line = self.line();
        line.ended = true;
        line.reader.take().into_iter().for_each(Waker::wake);
    }

    fn make_room(&self, bytes: usize) {
        let mut line = self.line();
        line.room = bytes;
        line.writer.take().into_iter().for_each(Waker::wake);
    }

    fn sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.line().from_server)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut line = self.line();
        line.reads += 1;
        if line.to_server.is_empty() && !line.ended {
            line.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = line.piece.min(buffer.remaining()).min(line.to_server.len());
        line.to_server.drain(..count).for_each(|byte| buffer.put_slice(&[byte]));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = self.line();
        if let Some(kind) = line.fails {
            return Poll::Ready(Err(kind.into()));
        }
        if line.room == 0 {
            line.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = line.room.min(bytes.len());
        line.room -= count;
        line.from_server.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection with its client, which is `rustls` and works only when it is told to.
struct Pair {
    wire: Wire,
    client: ClientConnection,
    server: TlsStream<Wire>,
    bell: Arc<Bell>,
}

fn client_of(setup: &Setup) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::clone(&setup.client), name).unwrap()
}

/// Shakes hands with what `client` sends through `wire`.
fn accept(setup: &Setup, wire: &Wire, client: &mut ClientConnection) -> io::Result<TlsStream<Wire>> {
    let mut accepting = Box::pin(TlsStream::accept(wire.clone(), Arc::clone(&setup.server)));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10 {
        wire.feed(&said_by(client));
        if let Poll::Ready(accepted) = accepting.as_mut().poll(&mut context) {
            return accepted;
        }
        tell(client, &wire.sent()).unwrap();
    }
    panic!("the handshake does not end");
}

fn connect(setup: &Setup, piece: usize) -> Pair {
    let wire = Wire::default();
    wire.line().piece = piece;
    let mut client = client_of(setup);
    let server = accept(setup, &wire, &mut client).unwrap();
    let mut pair = Pair { wire, client, server, bell: Arc::default() };
    pair.hear();
    assert!(!pair.client.is_handshaking());
    pair.owns_nothing();
    pair
}

/// Everything that the client has to send, encrypted.
fn said_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives the client what the server has sent.
fn tell(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

impl Pair {
    /// What the client sends for these plain bytes.
    fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = plain;
        while !rest.is_empty() {
            rest = &rest[self.client.writer().write(rest).unwrap()..];
            bytes.extend(said_by(&mut self.client));
        }
        bytes
    }

    fn send(&mut self, plain: &[u8]) {
        let sealed = self.sealed(plain);
        self.wire.feed(&sealed);
    }

    /// What the client hears.
    fn hear(&mut self) -> Vec<u8> {
        let (mut heard, sent) = (Vec::new(), self.wire.sent());
        for piece in sent.chunks(4096) {
            tell(&mut self.client, piece).unwrap();
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                heard.extend_from_slice(&buffer[..count]);
            }
        }
        heard
    }

    fn poll_read(&mut self, max: usize) -> Poll<io::Result<Vec<u8>>> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut buffer = vec![0; max];
        let mut read = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.server).poll_read(&mut Context::from_waker(&waker), &mut read))?;
        Poll::Ready(Ok(read.filled().to_vec()))
    }

    /// All that the server can read now.
    fn read(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Poll::Ready(read) = self.poll_read(1000) {
            let read = read.unwrap();
            assert!(!read.is_empty(), "the end of the stream");
            all.extend(read);
        }
        all
    }

    fn poll_write(&mut self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        Pin::new(&mut self.server).poll_write_vectored(&mut Context::from_waker(&waker), &slices)
    }

    fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        let waker = Waker::from(Arc::clone(&self.bell));
        Pin::new(&mut self.server).poll_flush(&mut Context::from_waker(&waker))
    }

    fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        let waker = Waker::from(Arc::clone(&self.bell));
        Pin::new(&mut self.server).poll_shutdown(&mut Context::from_waker(&waker))
    }

    fn write(&mut self, plain: &[u8]) {
        let mut rest = plain;
        while !rest.is_empty() {
            let Poll::Ready(count) = self.poll_write(&[rest]) else { panic!("the socket is full") };
            rest = &rest[count.unwrap()..];
        }
    }

    fn rung(&self) -> usize {
        self.bell.0.swap(0, Ordering::Relaxed)
    }

    fn owned(&self) -> [usize; 3] {
        let server = &self.server;
        [server.incoming.capacity(), server.plain.capacity(), server.outgoing.capacity()]
    }

    fn owns_nothing(&self) {
        assert_eq!(self.owned(), [0; 3]);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256) as u8).collect()
}

fn failed<T: fmt::Debug>(polled: Poll<io::Result<T>>) -> io::Error {
    match polled {
        Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Whether these bytes are an alert that is not encrypted, and which.
fn alert(bytes: &[u8]) -> Option<AlertDescription> {
    match bytes {
        [21, 3, _, 0, 2, 2, description] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}

#[test]
fn handshake_and_messages_arrive_in_pieces_of_any_length() {
    for version in VERSIONS {
        let setup = setup(version);
        for piece in [1, 2, 3, 4, 5, 6, 7, 21, 500, 4096, usize::MAX] {
            let mut pair = connect(&setup, piece);
            for len in [1, 100, 16_384, 16_385, 40_000] {
                let message = pattern(len);
                pair.send(&message);
                assert_eq!(pair.read(), message, "{len} in pieces of {piece}");
                pair.owns_nothing();
                pair.write(&message);
                assert_eq!(pair.hear(), message, "{len} in pieces of {piece}");
                pair.owns_nothing();
            }
        }
    }
}

#[test]
fn records_may_be_cut_anywhere() {
    for version in VERSIONS {
        let mut pair = connect(&setup(version), usize::MAX);
        let mut cut = 0;
        loop {
            let bytes = [pair.sealed(b"one"), pair.sealed(&pattern(70)), pair.sealed(b"three")].concat();
            let expected = [b"one".to_vec(), pattern(70), b"three".to_vec()].concat();
            pair.wire.feed(&bytes[..cut]);
            let mut read = pair.read();
            assert!(pair.owned()[0] <= (2 * cut).max(8), "{cut}: {:?}", pair.owned());
            pair.wire.feed(&bytes[cut..]);
            read.extend(pair.read());
            assert_eq!(read, expected, "{cut}");
            pair.owns_nothing();
            cut += 1;
            if cut > bytes.len() {
                break;
            }
        }
    }
}

/// What is encrypted depends on what was read and the other way round; both ends are real streams with little room.
#[tokio::test]
async fn both_directions_go_on_at_the_same_time() {
    for room in [50, 1000, 100_000] {
        for version in VERSIONS {
            let setup = setup(version);
            let (far, near) = tokio::io::duplex(room);
            let client = async {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(&setup.client));
                let name = ServerName::try_from("localhost").unwrap();
                let stream = connector.connect(name, far).await.unwrap();
                exchange(stream, pattern(300_000), pattern(500_000)).await;
            };
            let server = async {
                let stream = TlsStream::accept(near, Arc::clone(&setup.server)).await.unwrap();
                exchange(stream, pattern(500_000), pattern(300_000)).await;
            };
            let both = async { tokio::join!(client, server) };
            tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
        }
    }
}

/// Writes one and reads the other, in one task.
async fn exchange(stream: impl AsyncRead + AsyncWrite, written: Vec<u8>, expected: Vec<u8>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&written).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
    };
    tokio::join!(write, read);
}

#[test]
fn slices_are_gathered_to_one_record() {
    let mut buffer = [0; 8];
    for (parts, expected) in [
        (&[][..], ""),
        (&["", ""], ""),
        (&["", "abc", ""], "abc"),
        (&["abc", "", "de"], "abcde"),
        (&["abc", "de", "fghijk"], "abcdefgh"),
        (&["abcdefghij"], "abcdefgh"),
        (&["abcdefgh", "ij"], "abcdefgh"),
    ] {
        let slices: Vec<_> = parts.iter().map(|part: &&str| IoSlice::new(part.as_bytes())).collect();
        assert_eq!(gather(&slices, &mut buffer), expected.as_bytes());
    }
    let mut pair = connect(&setup(&version::TLS13), usize::MAX);
    assert!(matches!(pair.poll_write(&[b"frame ", b"", b"after ", b"frame"]), Poll::Ready(Ok(17))));
    // Header, type and tag.
    assert_eq!(pair.wire.line().from_server.len(), 17 + 22);
    assert_eq!(pair.hear(), b"frame after frame");
    assert!(matches!(pair.poll_write(&[b"", b""]), Poll::Ready(Ok(0))));
}

/// The rest must wait where it is counted.
#[test]
fn socket_that_takes_nothing_makes_wait_no_more_than_the_bound() {
    for version in VERSIONS {
        let mut pair = connect(&setup(version), usize::MAX);
        let message = pattern(200_000);
        pair.wire.make_room(0);
        let Poll::Ready(Ok(mut written)) = pair.poll_write(&[&message]) else { panic!() };
        assert_eq!(written, WRITE_BYTES_MAX);
        assert!(pair.poll_write(&[&message[written..]]).is_pending());
        assert!(pair.poll_flush().is_pending());
        assert!(pair.owned()[2] < WRITE_BYTES_MAX + 100, "{:?}", pair.owned());
        let mut heard = Vec::new();
        for room in [1, 5, 1000, 31_000, 16_000, 40_000, 1_000_000] {
            assert_eq!(pair.rung(), 0);
            pair.wire.make_room(room);
            assert_eq!(pair.rung(), 1, "who waits for room is woken");
            while let Poll::Ready(count) = pair.poll_write(&[&message[written..]]) {
                written += count.unwrap();
                if written == message.len() {
                    break;
                }
            }
            assert!(pair.owned()[2] < WRITE_BYTES_MAX + 100);
            heard.extend(pair.hear());
        }
        assert!(matches!(pair.poll_flush(), Poll::Ready(Ok(()))));
        assert!(heard == message);
        pair.owns_nothing();
    }
}

/// Nobody flushes what a connection owes that only reads; its reader does.
#[test]
fn what_waits_for_the_socket_goes_on_while_only_reading() {
    let mut pair = connect(&setup(&version::TLS13), usize::MAX);
    pair.wire.make_room(10);
    pair.write(b"taken in part");
    assert!(pair.poll_read(100).is_pending());
    assert_eq!(pair.rung(), 0);
    pair.wire.make_room(usize::MAX);
    assert_eq!(pair.rung(), 1);
    assert!(pair.poll_read(100).is_pending());
    assert_eq!(pair.hear(), b"taken in part");
    pair.owns_nothing();
}

#[test]
fn client_renews_its_keys_as_often_as_it_likes() {
    let mut pair = connect(&setup(&version::TLS13), 1);
    for round in 0..100 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.send(b"with new keys");
        assert_eq!(pair.read(), b"with new keys");
        // The answer goes before the next record, with the old keys.
        if round % 3 == 0 {
            pair.write(b"with newer keys");
            assert_eq!(pair.hear(), b"with newer keys");
        }
        pair.owns_nothing();
    }
}

#[test]
fn new_keys_of_the_client_wait_for_no_full_socket() {
    let mut pair = connect(&setup(&version::TLS13), usize::MAX);
    pair.wire.make_room(0);
    let before = pattern(WRITE_BYTES_MAX);
    assert!(matches!(pair.poll_write(&[&before]), Poll::Ready(Ok(WRITE_BYTES_MAX))));
    for _ in 0..20 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.send(b"with new keys");
        assert_eq!(pair.read(), b"with new keys");
    }
    assert!(pair.poll_write(&[b"behind"]).is_pending());
    assert!(pair.owned()[2] < WRITE_BYTES_MAX + 100);
    pair.wire.make_room(usize::MAX);
    assert!(pair.rung() > 0);
    assert!(matches!(pair.poll_write(&[b"behind"]), Poll::Ready(Ok(6))));
    assert_eq!(pair.hear(), [&before[..], b"behind"].concat());
    pair.owns_nothing();
}

#[test]
fn goodbye_of_the_client_ends_reading_and_not_writing() {
    for version in VERSIONS {
        let mut pair = connect(&setup(version), usize::MAX);
        let last = pair.sealed(b"last");
        pair.client.send_close_notify();
        let goodbye = said_by(&mut pair.client);
        pair.wire.feed(&[&last[..], &goodbye, b"what follows is nothing"].concat());
        assert_eq!(pair.poll_read(100).map(Result::unwrap), Poll::Ready(b"last".to_vec()));
        for _ in 0..3 {
            assert_eq!(pair.poll_read(100).map(Result::unwrap), Poll::Ready(Vec::new()));
        }
        pair.owns_nothing();
        pair.write(b"still there");
        assert_eq!(pair.hear(), b"still there");
        assert!(matches!(pair.poll_shutdown(), Poll::Ready(Ok(()))));
        let bytes = pair.wire.sent();
        pair.client.read_tls(&mut &bytes[..]).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn shutdown_says_goodbye_once_behind_what_waits() {
    for version in VERSIONS {
        let mut pair = connect(&setup(version), usize::MAX);
        pair.wire.make_room(4);
        pair.write(b"waits");
        for _ in 0..3 {
            assert!(pair.poll_shutdown().is_pending());
        }
        assert!(!pair.wire.line().shut);
        pair.wire.make_room(usize::MAX);
        assert_eq!(pair.rung(), 1);
        assert!(matches!(pair.poll_shutdown(), Poll::Ready(Ok(()))));
        assert!(pair.wire.line().shut);
        pair.owns_nothing();
        let bytes = pair.wire.sent();
        tell(&mut pair.client, &bytes).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        let mut heard = Vec::new();
        pair.client.reader().read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"waits");
        assert!(matches!(pair.poll_shutdown(), Poll::Ready(Ok(()))));
        assert_eq!(pair.wire.sent(), b"");
        assert_eq!(failed(pair.poll_write(&[b"too late"])).kind(), io::ErrorKind::BrokenPipe);
        // Reading goes on.
        pair.send(b"answer");
        assert_eq!(pair.read(), b"answer");
    }
}

#[test]
fn end_without_goodbye_is_an_error_wherever_it_comes() {
    let setup = setup(&version::TLS13);
    for (cut, read) in [(0, &b""[..]), (3, b""), (20, b""), (25, b"one"), (30, b"one")] {
        let mut pair = connect(&setup, usize::MAX);
        let bytes = [pair.sealed(b"one"), pair.sealed(b"two")].concat();
        assert_eq!(bytes.len(), 50);
        pair.wire.feed(&bytes[..cut]);
        assert_eq!(pair.read(), read, "{cut}");
        pair.wire.end();
        for _ in 0..2 {
            assert_eq!(failed(pair.poll_read(100)).kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        // Who only has ended its side may still listen.
        pair.write(b"still there");
        assert_eq!(pair.hear(), b"still there");
    }
    let hello = said_by(&mut client_of(&setup));
    for cut in [0, 1, 5, hello.len() / 2, hello.len()] {
        let wire = Wire::default();
        wire.feed(&hello[..cut]);
        wire.end();
        let mut accepting = Box::pin(TlsStream::accept(wire, Arc::clone(&setup.server)));
        let polled = accepting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(failed(polled).kind(), io::ErrorKind::UnexpectedEof, "{cut}");
    }
}

/// What a stranger sends, and what it is told.
fn refused(setup: &Setup, bytes: &[u8], piece: usize) -> (io::Error, Vec<u8>) {
    let wire = Wire::default();
    wire.line().piece = piece;
    wire.feed(bytes);
    let mut accepting = Box::pin(TlsStream::accept(wire.clone(), Arc::clone(&setup.server)));
    let polled = accepting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    (failed(polled), wire.sent())
}

#[test]
fn what_is_no_hello_is_answered_with_an_alert() {
    let setup = setup(&version::TLS13);
    for piece in [1, usize::MAX] {
        for garbage in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0; 100], &[255; 100]] {
            let (error, told) = refused(&setup, garbage, piece);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(alert(&told), Some(AlertDescription::DecodeError), "{told:?}");
        }
        // A record of type handshake that is longer than any may be, known by its first bytes.
        let (error, told) = refused(&setup, &[22, 3, 1, 0x48, 0x01], piece);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(alert(&told), Some(AlertDescription::DecodeError), "{told:?}");
    }
}

/// A client of another version, or none that both speak, is told so.
#[test]
fn handshake_that_fails_ends_with_an_alert() {
    let old = setup(&version::TLS12);
    let mut server = ServerConfig::clone(&old.server);
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = ClientConfig::clone(&old.client);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let setup = Setup { server: Arc::new(server), client: Arc::new(client) };
    let (wire, mut client) = (Wire::default(), client_of(&setup));
    let error = accept(&setup, &wire, &mut client).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        tell(&mut client, &wire.sent()),
        Err(Error::AlertReceived(AlertDescription::NoApplicationProtocol))
    );
}

/// A message may go over many records, whose headers are kept with it: there is an end to that.
#[test]
fn handshake_message_that_never_ends_is_held_within_the_bound() {
    let setup = setup(&version::TLS13);
    // A hello of 65,520 bytes, in records of a byte each.
    let records: Vec<u8> =
        [1, 0, 0xFF, 0xF0].into_iter().chain([0; 20_000]).flat_map(|byte| [22, 3, 1, 0, 1, byte]).collect();
    for piece in [7, usize::MAX] {
        let wire = Wire::default();
        wire.line().piece = piece;
        wire.feed(&records);
        let mut accepting = Box::pin(TlsStream::accept(wire.clone(), Arc::clone(&setup.server)));
        let polled = accepting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(failed(polled).kind(), io::ErrorKind::InvalidData);
        assert!(records.len() - wire.line().to_server.len() <= HANDSHAKE_BYTES_MAX);
    }
    // The same afterwards has less room: there is no long message any more.
    let mut pair = connect(&setup, usize::MAX);
    pair.wire.feed(&[22, 3, 3, 0x40, 0x00]);
    pair.wire.feed(&pattern(10_000));
    assert!(pair.poll_read(100).is_pending());
    assert!(pair.owned()[0] <= RECORD_BYTES_MAX);
}

#[test]
fn garbage_in_the_middle_ends_the_session_behind_what_came_before() {
    for version in VERSIONS {
        for piece in [1, usize::MAX] {
            let mut pair = connect(&setup(version), piece);
            let good = pair.sealed(b"good");
            let mut bad = pair.sealed(b"bad");
            *bad.last_mut().unwrap() ^= 1;
            pair.wire.feed(&[good, bad].concat());
            let mut read = Vec::new();
            let error = loop {
                match pair.poll_read(100) {
                    Poll::Ready(Ok(bytes)) => read.extend(bytes),
                    other => break failed(other),
                }
            };
            assert_eq!(read, b"good");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let told = tell(&mut pair.client, &pair.wire.sent());
            assert_eq!(told, Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
            assert_eq!(failed(pair.poll_read(100)).kind(), io::ErrorKind::InvalidData);
            assert_eq!(failed(pair.poll_write(&[b"more"])).kind(), io::ErrorKind::InvalidData);
            assert!(matches!(pair.poll_shutdown(), Poll::Ready(Ok(()))));
            assert_eq!(pair.wire.sent(), b"", "nothing follows an alert");
            pair.owns_nothing();
        }
    }
}

#[test]
fn record_that_is_too_long_is_refused_by_its_header() {
    let mut pair = connect(&setup(&version::TLS13), usize::MAX);
    pair.wire.feed(&[23, 3, 3, 0x48, 0x01]);
    assert_eq!(failed(pair.poll_read(100)).kind(), io::ErrorKind::InvalidData);
    assert!(matches!(tell(&mut pair.client, &pair.wire.sent()), Err(Error::AlertReceived(_))));
    pair.owns_nothing();
}

/// A client cannot make the server hold more than it has sent, and a reader that comes for little at a time not more
/// than the connection's share.
#[test]
fn incomplete_records_and_slow_readers_own_what_has_come_and_no_more() {
    let mut pair = connect(&setup(&version::TLS13), 10);
    let record = pair.sealed(&pattern(16_384));
    pair.wire.feed(&record[..10]);
    assert!(pair.poll_read(10).is_pending());
    assert!(pair.owned()[0] <= 20, "{:?}", pair.owned());
    pair.wire.feed(&record[10..]);
    let more: Vec<u8> = (0..20).flat_map(|_| pair.sealed(&pattern(10_000))).collect();
    pair.wire.feed(&more);
    pair.wire.line().piece = usize::MAX;
    let mut read = Vec::new();
    while let Poll::Ready(bytes) = pair.poll_read(10) {
        read.extend(bytes.unwrap());
        assert!(pair.owned().iter().sum::<usize>() <= 3 * RECORD_BYTES_MAX, "{:?}", pair.owned());
    }
    assert_eq!(read.len(), 16_384 + 20 * 10_000);
    assert!(read == [pattern(16_384), pattern(10_000).repeat(20)].concat());
    pair.owns_nothing();
}

#[test]
fn nothing_is_read_from_the_socket_while_something_waits_for_the_reader() {
    let mut pair = connect(&setup(&version::TLS13), usize::MAX);
    let bytes = [pair.sealed(b"one"), pair.sealed(b"two")].concat();
    pair.wire.feed(&bytes);
    pair.wire.line().reads = 0;
    for expected in [b"on", b"et", b"wo"] {
        assert_eq!(pair.poll_read(2).map(Result::unwrap), Poll::Ready(expected.to_vec()));
    }
    assert_eq!(pair.wire.line().reads, 1);
    pair.owns_nothing();
}

/// Bytes that were encrypted and not written leave a hole that the client would take for an attack.
#[test]
fn socket_that_fails_is_not_written_to_again() {
    for waiting in [false, true] {
        let mut pair = connect(&setup(&version::TLS13), usize::MAX);
        if waiting {
            pair.wire.make_room(3);
            pair.write(b"taken in part");
        }
        pair.wire.line().fails = Some(io::ErrorKind::ConnectionReset);
        assert_eq!(failed(pair.poll_write(&[b"lost"])).kind(), io::ErrorKind::ConnectionReset);
        pair.wire.line().fails = None;
        pair.wire.make_room(usize::MAX);
        assert_eq!(failed(pair.poll_write(&[b"more"])).kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(failed(pair.poll_flush()).kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(failed(pair.poll_shutdown()).kind(), io::ErrorKind::ConnectionReset);
        // What the client has said before may still be read.
        pair.send(b"last words");
        assert_eq!(pair.read(), b"last words");
        pair.owns_nothing();
    }
}

#[test]
fn sessions_are_resumed_and_data_may_come_with_the_handshake() {
    for version in VERSIONS {
        let setup = setup(version);
        let mut first = connect(&setup, usize::MAX);
        assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
        first.send(b"x");
        first.read();
        let mut second = connect(&setup, usize::MAX);
        assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed));
        second.send(b"y");
        assert_eq!(second.read(), b"y");
        // Together with the client's last message of the handshake, when nobody reads yet.
        let (wire, mut client) = (Wire::default(), client_of(&setup));
        client.writer().write_all(b"at once").unwrap();
        let server = accept(&setup, &wire, &mut client).unwrap();
        let mut third = Pair { wire, client, server, bell: Arc::default() };
        third.hear();
        let rest = said_by(&mut third.client);
        third.wire.feed(&rest);
        assert_eq!(third.read(), b"at once");
        third.owns_nothing();
    }
}

/// It is written into the block of its allocator's class that the library's own stream was.
#[test]
fn stream_fits_the_block_of_1280_bytes() {
    assert!(size_of::<TlsStream<tokio::net::TcpStream>>() <= 1280);
}

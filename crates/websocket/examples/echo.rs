//! An echo server and an echo client on plain threads and sockets, with this crate alone.
//!
//! `echo server 127.0.0.1:9001` answers every message with itself; it prints the bound address first.
//! `echo client ws://127.0.0.1:9002` is the client of Autobahn's fuzzing server: it asks for the number of cases,
//! echoes through each of them and lets the server write its report.
//! Both are what the conformance runs of the codec talk to; see `e2e/autobahn`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A program for people and scripts to watch.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use outspoke_websocket::handshake::head::{HeadReader, encode_response, parse_request};
use outspoke_websocket::{
    ClientHandshake, CloseHandshake, CloseReaction, Decoder, Deflater, HandshakeError, Inflater, Item,
    Limits, Opcode, ProtocolError, Random, Role, Upgrade, Window, encode_close, encode_frame,
    encode_masked_close, encode_masked_frame, encode_message,
};

/// Autobahn's largest message has 16 MiB.
const LIMITS: Limits = Limits::new(64 * 1024 * 1024);
const SCRATCH_BYTES: usize = 64 * 1024;
const AGENT: &str = "outspoke";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", address] => serve(&TcpListener::bind(address)?),
        ["client", url] => run_cases(url),
        _ => {
            eprintln!("usage: echo server ADDRESS:PORT | echo client ws://HOST:PORT");
            std::process::exit(2);
        }
    }
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    println!("ws://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = accept(stream) {
                eprintln!("connection ended: {error}");
            }
        });
    }
    Ok(())
}

/// Answers the upgrade, then echoes.
fn accept(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (head, rest) = read_head(&mut stream)?;
    let upgraded = parse_request(&head).and_then(|request| Ok(Upgrade::of(&request)?.accept(None, true)));
    let mut answer = Vec::new();
    match upgraded {
        Ok(accept) => {
            encode_response(&accept.response(), None, &mut answer);
            stream.write_all(&answer)?;
            let window = accept.deflate().map(|deflate| deflate.server_window());
            Echo::new(stream, Role::Server, window).run(rest, |_| {})
        }
        Err(error) => {
            let response = error.response();
            encode_response(&response, Some(response.body().len()), &mut answer);
            answer.extend_from_slice(response.body().as_bytes());
            stream.write_all(&answer)
        }
    }
}

/// Runs every case of a fuzzing server.
fn run_cases(base: &str) -> io::Result<()> {
    let mut count = 0;
    connect(&format!("{base}/getCaseCount"), |text| count = text.parse().unwrap_or(0))?;
    for case in 1..=count {
        if let Err(error) = connect(&format!("{base}/runCase?case={case}&agent={AGENT}"), |_| {}) {
            eprintln!("case {case} ended: {error}");
        }
    }
    println!("{count} cases");
    connect(&format!("{base}/updateReports?agent={AGENT}"), |_| {})
}

/// Opens a connection as a client and echoes until it ends; `on_text` sees each text message.
fn connect(url: &str, on_text: impl FnMut(&str)) -> io::Result<()> {
    let uri: http::Uri = url.parse().map_err(io::Error::other)?;
    let authority = uri.authority().ok_or_else(|| io::Error::other("the url has no host"))?.to_string();
    let handshake =
        ClientHandshake::new(uri, &mut Random::new()).map_err(io::Error::other)?.compression(true);
    let mut stream = TcpStream::connect(authority)?;
    stream.set_nodelay(true)?;
    stream.write_all(&handshake.request())?;
    let (head, rest) = read_head(&mut stream)?;
    let established = handshake.check(&head).map_err(io::Error::other)?;
    let window = established.deflate.map(|deflate| deflate.client_window());
    Echo::new(stream, Role::Client, window).run(rest, on_text)
}

/// The head up to its empty line, and what was read behind it.
fn read_head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = HeadReader::new();
    let mut received = Vec::new();
    let mut scratch = [0; 4096];
    loop {
        let count = stream.read(&mut scratch)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&scratch[..count]);
        if let Some(end) = reader.end(&received).map_err(|error: HandshakeError| io::Error::other(error))? {
            let rest = received.split_off(end);
            return Ok((received, rest));
        }
    }
}

/// One open connection.
struct Echo {
    stream: TcpStream,
    decoder: Decoder,
    inflater: Inflater,
    replies: Replies,
}

/// What goes back, with all that its encoding needs.
struct Replies {
    /// A client's source of mask keys.
    random: Option<Random>,
    window: Option<Window>,
    deflater: Deflater,
    close: CloseHandshake,
    output: Vec<u8>,
}

impl Echo {
    fn new(stream: TcpStream, role: Role, window: Option<Window>) -> Self {
        let random = (role == Role::Client).then(Random::new);
        // Everything is compressed where it was agreed: conformance is the purpose here.
        let deflater = Deflater::with_level(1, 1);
        let replies = Replies { random, window, deflater, close: CloseHandshake::new(), output: Vec::new() };
        Self { stream, decoder: Decoder::new(role, window.is_some()), inflater: Inflater::new(), replies }
    }

    fn run(mut self, mut first: Vec<u8>, mut on_text: impl FnMut(&str)) -> io::Result<()> {
        self.turn(&mut first, &mut on_text)?;
        let mut scratch = vec![0; SCRATCH_BYTES];
        while !self.replies.close.sent() {
            let count = self.stream.read(&mut scratch)?;
            if count == 0 {
                return Ok(());
            }
            self.turn(&mut scratch[..count], &mut on_text)?;
        }
        // Goodbye was said: no more data is written. Wait for the peer to end the connection, in whatever way.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        while self.stream.read(&mut scratch).is_ok_and(|count| count > 0) {}
        Ok(())
    }

    /// Decodes one input and writes all replies at once.
    fn turn(&mut self, input: &mut [u8], on_text: &mut impl FnMut(&str)) -> io::Result<()> {
        let mut frames = self.decoder.feed(input, &LIMITS, &mut self.inflater);
        while let Some(item) = frames.next() {
            match item {
                Ok(Item::Text(text)) => on_text(text),
                Err(error) => eprintln!("peer broke the protocol: {error}"),
                Ok(_) => {}
            }
            self.replies.answer(item);
        }
        self.stream.write_all(&self.replies.output)?;
        self.replies.output.clear();
        Ok(())
    }
}

impl Replies {
    fn answer(&mut self, item: Result<Item<'_>, ProtocolError>) {
        match item {
            Ok(Item::Text(text)) => self.message(Opcode::Text, text.as_bytes()),
            Ok(Item::Binary(bytes)) => self.message(Opcode::Binary, bytes),
            Ok(Item::Ping(payload)) => self.frame(Opcode::Pong, payload),
            Ok(Item::Pong(_)) => {}
            Ok(Item::Close(frame)) => {
                if let CloseReaction::Reply(code) = self.close.receive(frame) {
                    self.goodbye(code, "");
                }
            }
            Err(error) => {
                if self.close.start() {
                    self.goodbye(Some(error.close_code()), &error.to_string());
                }
            }
        }
    }

    fn message(&mut self, opcode: Opcode, payload: &[u8]) {
        let key = self.random.as_mut().map(Random::mask_key);
        match (self.window, key) {
            (Some(window), key) => {
                encode_message(opcode, payload, &mut self.deflater, window, key, &mut self.output);
            }
            (None, Some(key)) => encode_masked_frame(opcode, payload, key, &mut self.output),
            (None, None) => encode_frame(opcode, payload, &mut self.output),
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        match &mut self.random {
            Some(random) => encode_masked_frame(opcode, payload, random.mask_key(), &mut self.output),
            None => encode_frame(opcode, payload, &mut self.output),
        }
    }

    fn goodbye(&mut self, code: Option<outspoke_websocket::CloseCode>, reason: &str) {
        match &mut self.random {
            Some(random) => encode_masked_close(code, reason, random.mask_key(), &mut self.output),
            None => encode_close(code, reason, &mut self.output),
        }
    }
}

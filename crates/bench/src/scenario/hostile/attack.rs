//! What hostile clients do, each until the server ends it, over blocking sockets.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::frame;

/// How often a waiting client looks whether it is over.
const LOOK: Duration = Duration::from_millis(200);
/// An attack that the server has not ended by then is given up, and told as such.
const GIVEN_UP: u32 = 300;
/// Frames of a flood: far more than any limit lets through.
const FLOOD: usize = 20_000;

/// One kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    CompressionBomb,
    HugeLength,
    TopBit,
    EmptyFragments,
    ManyHeaders,
    SlowHeaders,
    HalfFrame,
    PingFlood,
    MessageFlood,
    NeverUpgrading,
}

impl Attack {
    pub(super) const ALL: [Self; 10] = [
        Self::CompressionBomb,
        Self::HugeLength,
        Self::TopBit,
        Self::EmptyFragments,
        Self::ManyHeaders,
        Self::SlowHeaders,
        Self::HalfFrame,
        Self::PingFlood,
        Self::MessageFlood,
        Self::NeverUpgrading,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CompressionBomb => "compression bomb",
            Self::HugeLength => "a terabyte declared",
            Self::TopBit => "length with the top bit",
            Self::EmptyFragments => "200,000 empty fragments",
            Self::ManyHeaders => "2,000 headers",
            Self::SlowHeaders => "slow headers",
            Self::HalfFrame => "half a frame",
            Self::PingFlood => "ping flood",
            Self::MessageFlood => "message flood",
            Self::NeverUpgrading => "saying nothing",
        }
    }

    /// Does it once; says how it ended.
    pub(super) fn run(self, addr: SocketAddr, number: u32, over: &AtomicBool) -> String {
        let attacked = match self {
            Self::CompressionBomb => self.frames(addr, number, over, &bomb(6 << 20)),
            Self::HugeLength => self.frames(addr, number, over, &declaring(1 << 40)),
            Self::TopBit => self.frames(addr, number, over, &declaring(u64::MAX)),
            Self::EmptyFragments => self.frames(addr, number, over, &fragments()),
            Self::HalfFrame => self.frames(addr, number, over, &[0x81, 0x85, 0, 0, 0, 0, b'h']),
            Self::PingFlood => self.frames(addr, number, over, &flood(frame::PING, b"ping")),
            Self::MessageFlood => {
                let message = br#"{"type":"chat","room":"flood","content":"spam"}"#;
                self.frames(addr, number, over, &flood(frame::TEXT, message))
            }
            Self::ManyHeaders => {
                let fields: String = (0..2000).map(|field| format!("x-{field}: x\r\n")).collect();
                let request = format!("GET /ws HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
                connect(addr).and_then(|stream| said(&stream, request.as_bytes(), over))
            }
            Self::SlowHeaders => slow_headers(addr, over),
            Self::NeverUpgrading => connect(addr).and_then(|stream| end_of(&stream, over)),
        };
        attacked.unwrap_or_else(|error| error.kind().to_string())
    }

    /// Sends bytes over an upgraded connection.
    fn frames(self, addr: SocketAddr, number: u32, over: &AtomicBool, bytes: &[u8]) -> io::Result<String> {
        let stream = connect(addr)?;
        let extension = match self {
            Self::CompressionBomb => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            _ => "",
        };
        let request = format!(
            "GET /ws?userId=villain-{number}&username=villain&join=none HTTP/1.1\r\nHost: {addr}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extension}\r\n"
        );
        (&stream).write_all(request.as_bytes())?;
        // The answer's end may be followed by the first frames, which nobody here wants to know.
        let mut answer = [0; 4096];
        let length = (&stream).read(&mut answer)?;
        if !answer[..length].starts_with(b"HTTP/1.1 101") {
            return Ok(status(&answer[..length]));
        }
        said(&stream, bytes, over)
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(LOOK))?;
    Ok(stream)
}

/// Writes as much as the server takes, and reads what it says last.
fn said(stream: &TcpStream, bytes: &[u8], over: &AtomicBool) -> io::Result<String> {
    let mut stream_out = stream;
    let mut rest = bytes;
    while !rest.is_empty() && !over.load(Ordering::Relaxed) {
        // In pieces, so that its end is noticed in the middle.
        match stream_out.write(&rest[..rest.len().min(16 << 10)]) {
            Ok(count) => rest = &rest[count..],
            Err(error) if is_patience(&error) => {}
            Err(_) => break,
        }
    }
    end_of(stream, over)
}

/// Reads to the end; the last close frame, or the status, in words.
fn end_of(mut stream: &TcpStream, over: &AtomicBool) -> io::Result<String> {
    let mut last = Vec::new();
    let mut buffer = [0; 4096];
    for _ in 0..GIVEN_UP {
        if over.load(Ordering::Relaxed) {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(in_words(&last)),
            Ok(count) => {
                last.extend_from_slice(&buffer[..count]);
                let surplus = last.len().saturating_sub(256);
                last.drain(..surplus);
                if close_code(&last).is_some() {
                    let _ = stream.shutdown(Shutdown::Both);
                    return Ok(in_words(&last));
                }
            }
            Err(error) if is_patience(&error) => {}
            // The server closed while there was more on the way to it; what it said may be lost.
            Err(error) => {
                return Ok(if last.is_empty() { error.kind().to_string() } else { in_words(&last) });
            }
        }
    }
    Ok("given up".to_owned())
}

fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn in_words(bytes: &[u8]) -> String {
    match close_code(bytes) {
        Some(code) => format!("close code {code}"),
        None if bytes.starts_with(b"HTTP/") => status(bytes),
        None => "end of stream".to_owned(),
    }
}

fn status(answer: &[u8]) -> String {
    let status = answer.get(9..12).map(String::from_utf8_lossy);
    format!("status {}", status.unwrap_or_default())
}

/// The code of the close frame that ends the bytes, if one does.
fn close_code(bytes: &[u8]) -> Option<u16> {
    (0..bytes.len()).find_map(|at| match &bytes[at..] {
        [0x88, length @ 2..126, high, low, reason @ ..] if reason.len() + 2 == usize::from(*length) => {
            Some(u16::from_be_bytes([*high, *low])).filter(|code| (1000..5000).contains(code))
        }
        _ => None,
    })
}

fn slow_headers(addr: SocketAddr, over: &AtomicBool) -> io::Result<String> {
    let stream = connect(addr)?;
    (&stream).write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n")?;
    let mut buffer = [0; 256];
    for _ in 0..GIVEN_UP {
        if over.load(Ordering::Relaxed) {
            break;
        }
        match (&stream).read(&mut buffer) {
            Ok(0) => return Ok("end of stream".to_owned()),
            Ok(count) => return Ok(status(&buffer[..count])),
            Err(error) if is_patience(&error) => (&stream).write_all(b"x: x\r\n")?,
            Err(error) => return Err(error),
        }
    }
    Ok("given up".to_owned())
}

/// A frame that declares so much, and has a kilobyte of it.
fn declaring(length: u64) -> Vec<u8> {
    let mut bytes = vec![0x82, 0xff];
    bytes.extend(length.to_be_bytes());
    bytes.resize(14 + 1000, 0);
    bytes
}

fn fragments() -> Vec<u8> {
    let mut bytes = vec![0x01, 0x80, 0, 0, 0, 0];
    bytes.extend([0x00, 0x80, 0, 0, 0, 0].repeat(200_000));
    bytes.extend([0x80, 0x80, 0, 0, 0, 0]);
    bytes.extend([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    bytes
}

fn flood(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut one = Vec::new();
    frame::push_masked(&mut one, opcode, payload, 0x1234_5678);
    one.repeat(FLOOD)
}

/// A compressed message (RFC 7692) that inflates to so many bytes: one letter, and then over and over "258 more of it".
fn bomb(inflated: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // A last block with the fixed codes (RFC 1951 section 3.2.6).
    bits.push(0b011, 3);
    bits.push_code(0x30 + u32::from(b'a'), 8);
    for _ in 0..inflated / 258 {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    let mut bytes = Vec::new();
    frame::push_masked(&mut bytes, frame::TEXT, &bits.bytes, 0x1234_5678);
    // The bit that says that it is compressed.
    bytes[0] |= 0x40;
    bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// Huffman codes go the other way round.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_code_is_found_behind_other_frames() {
        assert_eq!(close_code(&[0x81, 2, b'h', b'i', 0x88, 2, 0x0f, 0xa5]), Some(4005));
        assert_eq!(close_code(&[0x88, 4, 0x03, 0xe9, b'o', b'k']), Some(1001));
        assert_eq!(close_code(&[0x88, 4, 0x03, 0xe9, b'o']), None);
        assert_eq!(close_code(b"HTTP/1.1 431"), None);
    }

    #[test]
    fn bomb_is_five_hundred_times_smaller_than_what_comes_of_it() {
        let bytes = bomb(1 << 20);
        assert!(bytes.len() < (1 << 20) / 100, "{}", bytes.len());
        assert_eq!(bytes[0], 0xc1);
    }
}

//! Malformed frames and handshakes with the answer that each must get.
//!
//! Plain data without dependencies, so that other suites can replay the same cases over a real socket
//! (`#[path = ".../corpus/mod.rs"] mod corpus;`). Every frame case is what a client sends after the handshake, masked
//! and ready to write; every handshake case is a request as bytes.

#![allow(dead_code, missing_docs, unreachable_pub)] // Each suite uses its part, from wherever it is included.

/// The message limit under which the cases hold.
pub const MESSAGE_BYTES_MAX: usize = 65_536;

/// Bytes on an open connection that must end it.
#[derive(Debug, Clone)]
pub struct FrameCase {
    pub name: String,
    /// permessage-deflate must have been negotiated.
    pub deflate: bool,
    /// What the client sends.
    pub bytes: Vec<u8>,
    /// The code of the close frame that must answer.
    pub close_code: u16,
}

/// A request that must not be upgraded.
#[derive(Debug, Clone)]
pub struct HandshakeCase {
    pub name: &'static str,
    pub request: Vec<u8>,
    /// The status that must answer.
    pub status: u16,
    /// The request is not even HTTP/1.1: a server may also close without an answer.
    pub broken_http: bool,
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client frame: first byte as given, length in its shortest form, payload masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = declared(first, payload.len() as u64);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ KEY[index % 4]));
    frame
}

/// The header of a client frame that declares this length.
pub fn declared(first: u8, length: u64) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(0x80 | length as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame
}

/// A header with a 16-bit length, even where that is not the shortest form.
fn declared_16(first: u8, length: u16) -> Vec<u8> {
    [&[first, 0x80 | 126], &length.to_be_bytes()[..], &KEY].concat()
}

/// A header with a 64-bit length, even where that is not the shortest form.
fn declared_64(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127], &length.to_be_bytes()[..], &KEY].concat()
}

/// Every frame case.
pub fn frame_cases() -> Vec<FrameCase> {
    let mut cases = Vec::new();
    reserved_bits(&mut cases);
    reserved_opcodes(&mut cases);
    masks(&mut cases);
    control_frames(&mut cases);
    lengths(&mut cases);
    fragmentation(&mut cases);
    text(&mut cases);
    close_frames(&mut cases);
    compression(&mut cases);
    cases
}

struct Group<'a> {
    cases: &'a mut Vec<FrameCase>,
    deflate: bool,
    close_code: u16,
}

impl Group<'_> {
    fn add(&mut self, name: impl Into<String>, frames: &[Vec<u8>]) {
        let (deflate, close_code) = (self.deflate, self.close_code);
        self.cases.push(FrameCase { name: name.into(), deflate, bytes: frames.concat(), close_code });
    }
}

fn plain(cases: &mut Vec<FrameCase>, close_code: u16) -> Group<'_> {
    Group { cases, deflate: false, close_code }
}

fn deflated(cases: &mut Vec<FrameCase>, close_code: u16) -> Group<'_> {
    Group { cases, deflate: true, close_code }
}

fn reserved_bits(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    for bits in 1..8_u8 {
        for (name, opcode) in [("text", TEXT), ("binary", BINARY), ("ping", PING), ("close", CLOSE)] {
            group.add(format!("rsv {bits:03b} on {name}"), &[masked(FIN | bits << 4 | opcode, b"x")]);
        }
    }
    group.add("rsv1 on pong", &[masked(FIN | RSV1 | PONG, b"")]);
    group.add("rsv2 after a valid message", &[masked(FIN | TEXT, b"ok"), masked(FIN | 0x20 | TEXT, b"x")]);
    group.add("rsv1 on continuation", &[masked(TEXT, b"a"), masked(FIN | RSV1, b"b")]);
    group.add("rsv3 on ping inside a message", &[masked(TEXT, b"a"), masked(FIN | 0x10 | PING, b"")]);
    let mut group = deflated(cases, 1002);
    for bits in [1, 2, 3, 5, 6, 7_u8] {
        group.add(format!("rsv {bits:03b} with deflate"), &[masked(FIN | bits << 4 | TEXT, b"x")]);
    }
    for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
        group.add(format!("compressed {name}"), &[masked(FIN | RSV1 | opcode, b"")]);
    }
    group.add(
        "compressed continuation of a compressed message",
        &[masked(RSV1 | TEXT, &[0xf2, 0x48, 0xcd]), masked(FIN | RSV1, &[0xc9, 0xc9, 0x07, 0x00])],
    );
    group.add("compressed continuation of a plain message", &[masked(TEXT, b"a"), masked(FIN | RSV1, b"b")]);
}

fn reserved_opcodes(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15_u8] {
        group.add(format!("reserved opcode {opcode}, empty"), &[masked(FIN | opcode, b"")]);
        group.add(format!("reserved opcode {opcode}, not final"), &[masked(opcode, b"payload")]);
    }
    group.add("reserved opcode inside a message", &[masked(TEXT, b"a"), masked(FIN | 3, b"b")]);
    group.add("reserved control opcode inside a message", &[masked(TEXT, b"a"), masked(FIN | 11, b"")]);
    group.add("reserved opcode after a ping", &[masked(FIN | PING, b""), masked(FIN | 5, b"")]);
}

fn masks(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    group.add("unmasked text", &[b"\x81\x05Hello".to_vec()]);
    group.add("unmasked empty text", &[vec![0x81, 0x00]]);
    group.add("unmasked binary", &[vec![0x82, 0x01, 0xff]]);
    group.add("unmasked ping", &[vec![0x89, 0x00]]);
    group.add("unmasked pong", &[vec![0x8a, 0x00]]);
    group.add("unmasked close", &[vec![0x88, 0x02, 0x03, 0xe8]]);
    group.add("unmasked text with a 16-bit length", &[vec![0x81, 0x7e, 0x01, 0x00]]);
    group.add("unmasked continuation", &[masked(TEXT, b"a"), vec![0x80, 0x01, b'b']]);
    group.add("unmasked ping inside a message", &[masked(TEXT, b"a"), vec![0x89, 0x00]]);
    group.add("unmasked text after a masked one", &[masked(FIN | TEXT, b"a"), vec![0x81, 0x01, b'b']]);
}

fn control_frames(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    for (name, opcode) in [("close", CLOSE), ("ping", PING), ("pong", PONG)] {
        group.add(format!("{name} not final"), &[masked(opcode, b"")]);
        group.add(format!("{name} of 126 bytes"), &[masked(FIN | opcode, &[0; 126])]);
        group.add(format!("{name} of 65536 bytes, header only"), &[declared(FIN | opcode, 65_536)]);
        group.add(format!("{name} with a 16-bit length of 5"), &[declared_16(FIN | opcode, 5)]);
        group.add(format!("{name} with a 64-bit length of 5"), &[declared_64(FIN | opcode, 5)]);
    }
    group.add("ping in two fragments", &[masked(PING, b"a"), masked(FIN, b"b")]);
    group.add("ping not final inside a message", &[masked(TEXT, b"a"), masked(PING, b"")]);
}

fn lengths(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    for (name, opcode) in [("text", TEXT), ("binary", BINARY)] {
        for length in [0, 1, 125] {
            group.add(format!("{name}: {length} in 16 bits"), &[declared_16(FIN | opcode, length)]);
        }
        for length in [0, 125, 126, 65_535] {
            group.add(format!("{name}: {length} in 64 bits"), &[declared_64(FIN | opcode, length)]);
        }
        for length in [1 << 63, u64::MAX, (1 << 63) | 5] {
            group.add(
                format!("{name}: length {length:#x} has its top bit set"),
                &[declared_64(FIN | opcode, length)],
            );
        }
    }
    group.add("continuation: length with its top bit set", &[masked(TEXT, b"a"), declared_64(FIN, 1 << 63)]);
    let mut group = plain(cases, 1009);
    for length in [65_537, 1 << 20, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 62, (1 << 63) - 1] {
        group.add(format!("text that declares {length:#x} bytes"), &[declared(FIN | TEXT, length)]);
        group.add(format!("first fragment that declares {length:#x} bytes"), &[declared(BINARY, length)]);
    }
    group.add(
        "fragments that add up to one byte too many",
        &[masked(BINARY, &[0; 40_000]), declared(FIN, 65_536 - 40_000 + 1)],
    );
    group.add(
        "continuation that declares 2^63-1 bytes",
        &[masked(BINARY, b"x"), declared(FIN, (1 << 63) - 1)],
    );
    group.add(
        "message of the limit, then another fragment",
        &[masked(BINARY, &vec![0; 65_536]), masked(0, b""), declared(0, 1)],
    );
}

fn fragmentation(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    group.add("continuation first", &[masked(FIN, b"x")]);
    group.add("continuation first, not final", &[masked(0, b"x")]);
    group.add("empty continuation first", &[masked(FIN, b"")]);
    group.add("continuation after a whole message", &[masked(FIN | TEXT, b"a"), masked(FIN, b"b")]);
    group.add(
        "continuation after a finished fragmented message",
        &[masked(TEXT, b"a"), masked(FIN, b"b"), masked(FIN, b"c")],
    );
    group.add("continuation after a ping", &[masked(FIN | PING, b"a"), masked(FIN, b"b")]);
    for (name, first) in [
        ("text", FIN | TEXT),
        ("binary", FIN | BINARY),
        ("first fragment of text", TEXT),
        ("first fragment of binary", BINARY),
    ] {
        group.add(format!("{name} inside a fragmented message"), &[masked(TEXT, b"a"), masked(first, b"b")]);
    }
    group.add(
        "text after a message of empty fragments",
        &[masked(TEXT, b""), masked(0, b""), masked(FIN | TEXT, b"")],
    );
    group.add(
        "text after a ping inside a message",
        &[masked(BINARY, b"a"), masked(FIN | PING, b"p"), masked(FIN | TEXT, b"b")],
    );
}

/// Byte sequences that no UTF-8 text contains.
pub const NOT_UTF8: &[(&str, &[u8])] = &[
    ("lone continuation 80", b"\x80"),
    ("lone continuation bf", b"\xbf"),
    ("six lone continuations", b"\x80\xbf\x80\xbf\x80\xbf"),
    ("overlong slash in two bytes", b"\xc0\xaf"),
    ("overlong nul in two bytes", b"\xc0\x80"),
    ("overlong 7f in two bytes", b"\xc1\xbf"),
    ("overlong slash in three bytes", b"\xe0\x80\xaf"),
    ("overlong 7ff in three bytes", b"\xe0\x9f\xbf"),
    ("overlong slash in four bytes", b"\xf0\x80\x80\xaf"),
    ("overlong ffff in four bytes", b"\xf0\x8f\xbf\xbf"),
    ("five bytes f8", b"\xf8\x88\x80\x80\x80"),
    ("six bytes fc", b"\xfc\x84\x80\x80\x80\x80"),
    ("byte fe", b"\xfe"),
    ("byte ff", b"\xff"),
    ("surrogate d800", b"\xed\xa0\x80"),
    ("surrogate dfff", b"\xed\xbf\xbf"),
    ("surrogate pair", b"\xed\xa0\x80\xed\xb0\x80"),
    ("above 10ffff", b"\xf4\x90\x80\x80"),
    ("lead f5", b"\xf5\x80\x80\x80"),
    ("two-byte lead and ascii", b"\xc3("),
    ("three-byte lead cut by ascii", b"\xe2\x82("),
    ("four-byte lead cut by ascii", b"\xf0\x9f\x98("),
    ("cut two-byte character", b"\xc3"),
    ("cut three-byte character", b"\xe2\x82"),
    ("cut four-byte character", b"\xf0\x9f\x98"),
    ("valid text, then a bad byte", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xff"),
    (
        "bad byte behind 64 valid ones",
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\xff",
    ),
];

fn text(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1007);
    for (name, bytes) in NOT_UTF8 {
        group.add(format!("text: {name}"), &[masked(FIN | TEXT, bytes)]);
        group.add(format!("text in fragments of a byte: {name}"), &byte_fragments(bytes));
        let reason = [&[0x03, 0xe8], *bytes].concat();
        group.add(format!("close reason: {name}"), &[masked(FIN | CLOSE, &reason)]);
    }
    // What must not wait for the end: the message never ends in these.
    group.add("bad byte in the first of more fragments", &[masked(TEXT, b"\xce\xba\xff")]);
    group.add(
        "bad byte in the first of many declared bytes",
        &[declared(FIN | TEXT, 1000), masked_tail(b"a\xff")],
    );
    group.add("impossible second byte, message not ended", &[masked(TEXT, b"\xf4"), masked(0, b"\x90")]);
    group.add("surrogate begun, message not ended", &[masked(TEXT, b"\xed"), masked(0, b"\xa0")]);
    group.add("overlong begun, message not ended", &[masked(TEXT, b"\xe0\x80")]);
    group.add(
        "bad byte behind a ping inside the message",
        &[masked(TEXT, b"\xc3"), masked(FIN | PING, b"p"), masked(FIN, b"(")],
    );
}

/// A payload's first bytes, masked, without a header.
fn masked_tail(payload: &[u8]) -> Vec<u8> {
    payload.iter().enumerate().map(|(index, byte)| byte ^ KEY[index % 4]).collect()
}

fn byte_fragments(payload: &[u8]) -> Vec<Vec<u8>> {
    let last = payload.len() - 1;
    let first_byte = |index| match (index == 0, index == last) {
        (true, true) => FIN | TEXT,
        (true, false) => TEXT,
        (false, true) => FIN,
        (false, false) => 0,
    };
    payload.iter().enumerate().map(|(index, byte)| masked(first_byte(index), &[*byte])).collect()
}

fn close_frames(cases: &mut Vec<FrameCase>) {
    let mut group = plain(cases, 1002);
    group.add("close payload of one byte", &[masked(FIN | CLOSE, &[3])]);
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        group.add(format!("close code {code}"), &[masked(FIN | CLOSE, &code.to_be_bytes())]);
    }
    let reason = [&1005_u16.to_be_bytes()[..], b"with a reason"].concat();
    group.add("close code 1005 with a reason", &[masked(FIN | CLOSE, &reason)]);
    group.add(
        "close code 1006 inside a message",
        &[masked(TEXT, b"a"), masked(FIN | CLOSE, &1006_u16.to_be_bytes())],
    );
}

fn compression(cases: &mut Vec<FrameCase>) {
    let mut group = deflated(cases, 1007);
    group.add("reserved block type", &[masked(FIN | RSV1 | TEXT, &[0x07, 0x00])]);
    group.add(
        "stored block with a wrong length check",
        &[masked(FIN | RSV1 | BINARY, &[0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5])],
    );
    group.add(
        "distance before the message's start",
        &[masked(FIN | RSV1 | BINARY, &[0x4a, 0x04, 0x62, 0x00])],
    );
    group.add("only ff bytes", &[masked(FIN | RSV1 | BINARY, &[0xff; 32])]);
    group.add("hello without its last bytes", &[masked(FIN | RSV1 | TEXT, &[0xf2, 0x48, 0xcd])]);
    group.add(
        "stored block that declares more than it has",
        &[masked(FIN | RSV1 | BINARY, &[0x00, 0x0a, 0x00, 0xf5, 0xff, 1, 2])],
    );
    // It swallows what the receiver adds, and would look complete.
    let cut = [0x00, 100, 0x00, 155, 0xff, 1, 2];
    group.add("stored block that is cut far before its end", &[masked(FIN | RSV1 | BINARY, &cut)]);
    group.add(
        "garbage behind a final block",
        &[masked(FIN | RSV1 | TEXT, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xff, 0xff, 0xff])],
    );
    group.add(
        "dynamic block with broken code lengths",
        &[masked(FIN | RSV1 | TEXT, &[0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00])],
    );
    group.add(
        "corrupt in the second fragment",
        &[masked(RSV1 | TEXT, &[0xf2, 0x48]), masked(FIN, &[0xff, 0xff, 0xff, 0xff])],
    );
    group.add("plain bytes marked as compressed", &[masked(FIN | RSV1 | TEXT, b"Hello, world")]);
    // A stored block that holds the byte ff.
    let not_utf8 = masked(FIN | RSV1 | TEXT, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00]);
    group.add("inflated text is not utf-8", &[not_utf8]);
    let mut group = deflated(cases, 1009);
    group.add("bomb of 1 MiB in one frame", &[masked(FIN | RSV1 | BINARY, &bomb(1 << 20))]);
    group.add("bomb of 32 MiB in one frame", &[masked(FIN | RSV1 | BINARY, &bomb(32 << 20))]);
    group.add("bomb of one byte too many", &[masked(FIN | RSV1 | BINARY, &bomb(65_537))]);
    let bytes = bomb(8 << 20);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    group.add("bomb in two fragments", &[masked(RSV1 | TEXT, first), masked(FIN, second)]);
    group.add("compressed frame that declares 1 MiB", &[declared(FIN | RSV1 | TEXT, 1 << 20)]);
}

/// A deflate stream that inflates to at least `length` zero bytes, made by hand: fixed Huffman codes, the literal 0,
/// then copies of 258 bytes from distance 1.
pub fn bomb(length: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0b010, 3); // not final, fixed codes
    bits.push_reversed(0b0011_0000, 8); // literal 0
    for _ in 0..length.div_ceil(258) {
        bits.push_reversed(0b1100_0101, 8); // length 258
        bits.push_reversed(0, 5); // distance 1
    }
    bits.push(0, 7); // end of block
    bits.push(0, 3); // the stored block whose remaining bytes the receiver adds
    bits.finish()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for index in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> index & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 1 << (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// Huffman codes are packed from their most significant bit.
    fn push_reversed(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Every handshake case. The path is `/ws`; everything that a case does not break is valid.
pub fn handshake_cases() -> Vec<HandshakeCase> {
    [upgrade_cases(), broken_http_cases()].concat()
}

const VALID: &[(&str, &str)] = &[
    ("Host", "127.0.0.1"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// A valid request.
pub fn valid_request() -> Vec<u8> {
    request("GET /ws HTTP/1.1", &[], &[])
}

/// A request with the valid fields less those named in `without`, then those of `with`.
pub fn request(line: &str, without: &[&str], with: &[(&str, &str)]) -> Vec<u8> {
    let kept = VALID.iter().filter(|(name, _)| !without.contains(name));
    let fields = kept.chain(with).map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("{line}\r\n{}\r\n", fields.collect::<String>()).into_bytes()
}

type Fields = &'static [(&'static str, &'static str)];

fn upgrade_cases() -> Vec<HandshakeCase> {
    const GET: &str = "GET /ws HTTP/1.1";
    const H: &str = "Host";
    const U: &str = "Upgrade";
    const C: &str = "Connection";
    const K: &str = "Sec-WebSocket-Key";
    const V: &str = "Sec-WebSocket-Version";
    const P: &str = "Sec-WebSocket-Protocol";
    const E: &str = "Sec-WebSocket-Extensions";
    #[rustfmt::skip]
    let table: &[(&'static str, &str, &[&str], Fields, u16)] = &[
        ("method POST", "POST /ws HTTP/1.1", &[], &[], 405),
        ("method HEAD", "HEAD /ws HTTP/1.1", &[], &[], 405),
        ("method PUT", "PUT /ws HTTP/1.1", &[], &[], 405),
        ("method OPTIONS", "OPTIONS /ws HTTP/1.1", &[], &[], 405),
        ("http/1.0", "GET /ws HTTP/1.0", &[], &[], 400),
        ("no host", GET, &[H], &[], 400),
        ("two hosts", GET, &[], &[(H, "localhost")], 400),
        ("two equal hosts", GET, &[], &[(H, "127.0.0.1")], 400),
        ("empty host", GET, &[H], &[(H, "")], 400),
        ("host with a blank", GET, &[H], &[(H, "a b")], 400),
        ("host with a path", GET, &[H], &[(H, "localhost/ws")], 400),
        ("host with a user", GET, &[H], &[(H, "me@localhost")], 400),
        ("content-length 0", GET, &[], &[("Content-Length", "0")], 400),
        ("content-length 5", GET, &[], &[("Content-Length", "5")], 400),
        ("two content-lengths", GET, &[], &[("Content-Length", "0"), ("Content-Length", "5")], 400),
        ("chunked body", GET, &[], &[("Transfer-Encoding", "chunked")], 400),
        ("content-length and transfer-encoding", GET, &[], &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")], 400),
        ("transfer-encoding identity", GET, &[], &[("Transfer-Encoding", "identity")], 400),
        ("no upgrade", GET, &[U], &[], 426),
        ("no upgrade and no connection", GET, &[U, C], &[], 426),
        ("empty upgrade", GET, &[U], &[(U, "")], 426),
        ("upgrade h2c", GET, &[U], &[(U, "h2c")], 426),
        ("upgrade websocket with a version", GET, &[U], &[(U, "websocket/13")], 426),
        ("upgrade websockets", GET, &[U], &[(U, "websockets")], 426),
        ("upgrade with a blank inside", GET, &[U], &[(U, "web socket")], 426),
        ("no connection", GET, &[C], &[], 400),
        ("empty connection", GET, &[C], &[(C, "")], 400),
        ("connection keep-alive only", GET, &[C], &[(C, "keep-alive")], 400),
        ("connection close", GET, &[C], &[(C, "close")], 400),
        ("connection upgraded", GET, &[C], &[(C, "upgraded")], 400),
        ("connection with semicolons", GET, &[C], &[(C, "keep-alive; Upgrade")], 400),
        ("no version", GET, &[V], &[], 400),
        ("two versions", GET, &[], &[(V, "13")], 400),
        ("version 8", GET, &[V], &[(V, "8")], 426),
        ("version 0", GET, &[V], &[(V, "0")], 426),
        ("version 14", GET, &[V], &[(V, "14")], 426),
        ("version 013", GET, &[V], &[(V, "013")], 426),
        ("version +13", GET, &[V], &[(V, "+13")], 426),
        ("version 13.0", GET, &[V], &[(V, "13.0")], 426),
        ("version list", GET, &[V], &[(V, "13, 8")], 426),
        ("version word", GET, &[V], &[(V, "thirteen")], 426),
        ("empty version", GET, &[V], &[(V, "")], 426),
        ("no key", GET, &[K], &[], 400),
        ("two keys", GET, &[], &[(K, "AQIDBAUGBwgJCgsMDQ4PEA==")], 400),
        ("two equal keys", GET, &[], &[(K, "dGhlIHNhbXBsZSBub25jZQ==")], 400),
        ("empty key", GET, &[K], &[(K, "")], 400),
        ("key of 15 bytes", GET, &[K], &[(K, "AQIDBAUGBwgJCgsMDQ4P")], 400),
        ("key of 17 bytes", GET, &[K], &[(K, "AQIDBAUGBwgJCgsMDQ4PEBE=")], 400),
        ("key of 18 bytes", GET, &[K], &[(K, "AQIDBAUGBwgJCgsMDQ4PEBES")], 400),
        ("key of 32 bytes", GET, &[K], &[(K, "AQIDBAUGBwgJCgsMDQ4PEAECAwQFBgcICQoLDA0ODxA=")], 400),
        ("key without padding", GET, &[K], &[(K, "dGhlIHNhbXBsZSBub25jZQ")], 400),
        ("key with one padding sign", GET, &[K], &[(K, "dGhlIHNhbXBsZSBub25jZQ=")], 400),
        ("key with three padding signs", GET, &[K], &[(K, "dGhlIHNhbXBsZSBub25jZQ===")], 400),
        ("key in url-safe base64", GET, &[K], &[(K, "_-hlIHNhbXBsZSBub25jZQ==")], 400),
        ("key with a blank inside", GET, &[K], &[(K, "dGhlIHNhbXBs ZSBub25jZQ==")], 400),
        ("key that is not base64", GET, &[K], &[(K, "!!!!!!!!!!!!!!!!!!!!!!==")], 400),
        ("key list", GET, &[K], &[(K, "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==")], 400),
        ("empty protocol", GET, &[], &[(P, "")], 400),
        ("protocol of commas", GET, &[], &[(P, ",, ,")], 400),
        ("protocol with a blank inside", GET, &[], &[(P, "chat v1")], 400),
        ("protocol with a slash", GET, &[], &[(P, "chat/v1")], 400),
        ("protocol in quotes", GET, &[], &[(P, "\"chat\"")], 400),
        ("protocol named twice", GET, &[], &[(P, "chat, chat")], 400),
        ("protocol named twice on two lines", GET, &[], &[(P, "chat"), (P, "v2, chat")], 400),
        ("empty extensions", GET, &[], &[(E, "")], 400),
        ("extension without a name", GET, &[], &[(E, "; server_no_context_takeover")], 400),
        ("extension with a lone semicolon", GET, &[], &[(E, "permessage-deflate;")], 400),
        ("extension with an unended quote", GET, &[], &[(E, "permessage-deflate; x=\"1")], 400),
        ("extension with an empty value", GET, &[], &[(E, "permessage-deflate; client_max_window_bits=")], 400),
        ("extension with an empty quoted value", GET, &[], &[(E, "x; y=\"\"")], 400),
        ("extension with a blank inside", GET, &[], &[(E, "permessage deflate")], 400),
        ("extension with a slash", GET, &[], &[(E, "permessage/deflate")], 400),
    ];
    let case = |&(name, line, without, with, status): &(&'static str, &str, &[&str], Fields, u16)| {
        HandshakeCase { name, request: request(line, without, with), status, broken_http: false }
    };
    table.iter().map(case).collect()
}

fn broken_http_cases() -> Vec<HandshakeCase> {
    let valid = String::from_utf8_lossy(&valid_request()).into_owned();
    let with = |field: &str| valid.replacen("\r\n", &format!("\r\n{field}\r\n"), 1).into_bytes();
    let many: String = (0..101).map(|index| format!("X-{index}: y\r\n")).collect();
    let long = format!("X-Long: {}", "y".repeat(17_000));
    let cases = [
        ("no request line", valid.replacen("GET /ws HTTP/1.1\r\n", "", 1).into_bytes(), 400),
        ("frames instead of http", [masked(FIN | TEXT, b"hi"), b"\r\n\r\n".to_vec()].concat(), 400),
        ("tls hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("http/3.0", valid.replacen("HTTP/1.1", "HTTP/3.0", 1).into_bytes(), 400),
        ("http/1.1 in lower case", valid.replacen("HTTP/1.1", "http/1.1", 1).into_bytes(), 400),
        ("request line without a version", valid.replacen(" HTTP/1.1", "", 1).into_bytes(), 400),
        ("request line with a fourth word", valid.replacen("HTTP/1.1", "HTTP/1.1 x", 1).into_bytes(), 400),
        ("field without a colon", with("Nonsense"), 400),
        ("field name with a blank", with("X y: z"), 400),
        ("blank before the colon", with("Origin : http://a"), 400),
        ("folded field", with("X-Folded: a\r\n b"), 400),
        ("nul in a value", with("X-Nul: a\0b"), 400),
        ("header of more than 100 fields", with(many.trim_end()), 431),
        ("header above 16 KiB", with(&long), 431),
    ];
    let case = |(name, request, status)| HandshakeCase { name, request, status, broken_http: true };
    cases.into_iter().map(case).collect()
}

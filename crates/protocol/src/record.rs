//! A message as bytes to keep, which a later version of the program must still read.
//!
//! Written and read by the hub, carried by stores, which do not look inside. Room and position are not in it: they
//! are the record's place in its log. Invariants: what is written reads back equal; reading never panics and
//! allocates no more than a small multiple of the bytes there are, whatever lengths they declare. Checksums are the
//! store's affair; this module only finds what cannot be a record.
//!
//! ```text
//! record  = version kind [name] id ts body *field
//! version = 1
//! kind    = one byte; 255 is an application's own sort, and its name follows as a text
//! id      = 16 bytes, as in the UUID
//! ts      = zigzag varint, milliseconds since 1970
//! body    = 0 (nothing), or 1 (text), 2 (JSON), 3 (bytes) and a length and so many bytes
//! field   = tag length bytes, tags ascending
//! text    = length and so many bytes of UTF-8; lengths and tags are LEB128 varints in their shortest form
//! ```
//!
//! What may be absent is a field. A reader skips the tags it does not know, so a later version adds what older
//! programs can do without as a new tag, and everything else under a new version.

use bytes::Bytes;
use ecow::EcoString;

use crate::{
    Body, ClientId, Details, Kind, Message, MessageId, Position, Publisher, Reactions, RoomName, Timestamp,
    UserId,
};

/// The version written, and the newest one read.
const VERSION: u8 = 1;

/// The kind byte of [`Kind::Custom`].
const CUSTOM: u8 = 255;

/// Tags of the fields that may be absent, in the order in which they are written.
mod tag {
    /// Client id (16 bytes), user (text), name (the rest).
    pub(super) const PUBLISHER: u64 = 1;
    /// User (all of it).
    pub(super) const TO: u64 = 2;
    /// Varint.
    pub(super) const TARGET: u64 = 3;
    /// Empty.
    pub(super) const WITHDRAWN: u64 = 4;
    /// Zigzag varint.
    pub(super) const EDITED: u64 = 5;
    /// Zigzag varint.
    pub(super) const DELETED: u64 = 6;
    /// For each reaction its text, the number of its users, and the user (text) so many times.
    pub(super) const REACTIONS: u64 = 7;
}

/// Why bytes are no record of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamagedRecord {
    /// A later version of the program wrote it.
    #[error(
        "the record has format {version} and this program reads formats up to {VERSION}: run a newer version"
    )]
    Newer {
        /// The record's version.
        version: u8,
    },
    /// It ends in the middle.
    #[error("the record ends in the middle of its {part}: it is cut off or damaged")]
    Short {
        /// What was being read.
        part: &'static str,
    },
    /// It says something that no version of the program wrote.
    #[error("the record's {part} cannot be: it is damaged")]
    Wrong {
        /// What was being read.
        part: &'static str,
    },
}

/// Appends the record of `message` to `out`. A [`Details`] with nothing in it reads back as none.
pub fn encode_record(message: &Message, out: &mut Vec<u8>) {
    out.reserve(64 + message.body.len());
    out.push(VERSION);
    write_kind(out, &message.kind);
    out.extend_from_slice(&message.id.as_u128().to_be_bytes());
    write_varint(out, zigzag(message.ts.as_millis()));
    write_body(out, &message.body);
    if let Some(from) = &message.from {
        write_publisher(out, from);
    }
    if let Some(details) = &message.details {
        write_details(out, details);
    }
}

/// Reads the record that is at this position of this room's log.
///
/// # Errors
/// Says what of it cannot be read. Nothing of such a record may be served.
pub fn decode_record(record: &[u8], room: RoomName, position: Position) -> Result<Message, DamagedRecord> {
    let mut reader = Reader { rest: record };
    match reader.byte("version")? {
        VERSION => {}
        0 => return Err(DamagedRecord::Wrong { part: "version" }),
        version => return Err(DamagedRecord::Newer { version }),
    }
    let mut message = Message {
        kind: reader.kind()?,
        id: MessageId::from_u128(reader.u128("id")?),
        ts: reader.timestamp("time")?,
        body: reader.body()?,
        room: Some(room),
        position: Some(position),
        from: None,
        details: None,
    };
    let mut details = Details::default();
    reader.fields(&mut message.from, &mut details)?;
    message.details = (details != Details::default()).then(|| Box::new(details));
    Ok(message)
}

/// The numbers that [`Reader::kind`] reads, for ever.
fn write_kind(out: &mut Vec<u8>, kind: &Kind) {
    let number = match kind {
        Kind::Chat => 1,
        Kind::System => 2,
        Kind::Join => 3,
        Kind::Leave => 4,
        Kind::Data => 5,
        Kind::Action => 6,
        Kind::Topic => 7,
        Kind::Rename => 8,
        Kind::Edit => 9,
        Kind::Delete => 10,
        Kind::Reaction => 11,
        Kind::Custom(name) => {
            out.push(CUSTOM);
            return write_bytes(out, name.as_bytes());
        }
    };
    out.push(number);
}

fn write_body(out: &mut Vec<u8>, body: &Body) {
    let (sort, bytes) = match body {
        Body::Empty => return out.push(0),
        Body::Text(text) => (1, text.as_bytes()),
        Body::Json(json) => (2, json.as_ref()),
        Body::Binary(bytes) => (3, bytes.as_ref()),
    };
    out.push(sort);
    write_bytes(out, bytes);
}

fn write_publisher(out: &mut Vec<u8>, from: &Publisher) {
    let (user, name) = (from.user.as_str(), from.name.as_str());
    write_field(out, tag::PUBLISHER, 16 + bytes_len(user.len()) + name.len());
    out.extend_from_slice(&from.client.as_u128().to_be_bytes());
    write_bytes(out, user.as_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn write_details(out: &mut Vec<u8>, details: &Details) {
    if let Some(to) = &details.to {
        write_field(out, tag::TO, to.as_str().len());
        out.extend_from_slice(to.as_str().as_bytes());
    }
    if let Some(target) = details.target {
        write_number(out, tag::TARGET, target);
    }
    if details.withdrawn {
        write_field(out, tag::WITHDRAWN, 0);
    }
    for (tag, time) in [(tag::EDITED, details.edited), (tag::DELETED, details.deleted)] {
        if let Some(time) = time {
            write_number(out, tag, zigzag(time.as_millis()));
        }
    }
    if !details.reactions.is_empty() {
        write_field(out, tag::REACTIONS, details.reactions.iter().map(reaction_len).sum());
        details.reactions.iter().for_each(|reactions| write_reaction(out, reactions));
    }
}

fn write_reaction(out: &mut Vec<u8>, reactions: &Reactions) {
    write_bytes(out, reactions.reaction.as_bytes());
    write_varint(out, reactions.users.len() as u64);
    for user in &reactions.users {
        write_bytes(out, user.as_str().as_bytes());
    }
}

/// What [`write_reaction`] appends, in bytes.
fn reaction_len(reactions: &Reactions) -> usize {
    let users: usize = reactions.users.iter().map(|user| bytes_len(user.as_str().len())).sum();
    bytes_len(reactions.reaction.len()) + varint_len(reactions.users.len() as u64) + users
}

/// A field's tag and length; its bytes are for the caller to append.
fn write_field(out: &mut Vec<u8>, tag: u64, len: usize) {
    write_varint(out, tag);
    write_varint(out, len as u64);
}

fn write_number(out: &mut Vec<u8>, tag: u64, number: u64) {
    write_field(out, tag, varint_len(number));
    write_varint(out, number);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn bytes_len(len: usize) -> usize {
    varint_len(len as u64) + len
}

fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The low seven bits, and the mark that more follow.
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Seven bits to a byte, at least one byte.
fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Numbers near zero become small ones, whatever their sign.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64, part: &'static str) -> Result<&'a [u8], DamagedRecord> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (taken, rest) = split.ok_or(DamagedRecord::Short { part })?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self, part: &'static str) -> Result<u8, DamagedRecord> {
        let (&byte, rest) = self.rest.split_first().ok_or(DamagedRecord::Short { part })?;
        self.rest = rest;
        Ok(byte)
    }

    fn u128(&mut self, part: &'static str) -> Result<u128, DamagedRecord> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DamagedRecord::Short { part })?;
        self.rest = rest;
        Ok(u128::from_be_bytes(*bytes))
    }

    fn varint(&mut self, part: &'static str) -> Result<u64, DamagedRecord> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(part)?;
            let bits = u64::from(byte & 0x7f);
            let lost = bits << shift >> shift != bits;
            let padded = byte == 0 && shift > 0;
            if lost || padded {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DamagedRecord::Wrong { part })
    }

    fn bytes(&mut self, part: &'static str) -> Result<&'a [u8], DamagedRecord> {
        let len = self.varint(part)?;
        self.take(len, part)
    }

    fn text(&mut self, part: &'static str) -> Result<&'a str, DamagedRecord> {
        utf8(self.bytes(part)?, part)
    }

    /// All that is left, as a text.
    fn rest_text(&mut self, part: &'static str) -> Result<&'a str, DamagedRecord> {
        utf8(std::mem::take(&mut self.rest), part)
    }

    fn timestamp(&mut self, part: &'static str) -> Result<Timestamp, DamagedRecord> {
        self.varint(part).map(|number| Timestamp::from_millis(unzigzag(number)))
    }

    fn kind(&mut self) -> Result<Kind, DamagedRecord> {
        Ok(match self.byte("kind")? {
            1 => Kind::Chat,
            2 => Kind::System,
            3 => Kind::Join,
            4 => Kind::Leave,
            5 => Kind::Data,
            6 => Kind::Action,
            7 => Kind::Topic,
            8 => Kind::Rename,
            9 => Kind::Edit,
            10 => Kind::Delete,
            11 => Kind::Reaction,
            CUSTOM => Kind::Custom(self.text("kind")?.into()),
            _ => return Err(DamagedRecord::Wrong { part: "kind" }),
        })
    }

    fn body(&mut self) -> Result<Body, DamagedRecord> {
        const PART: &str = "body";
        match self.byte(PART)? {
            0 => Ok(Body::Empty),
            1 => self.text(PART).map(|text| Body::Text(text.into())),
            2 => self.json().map(Body::Json),
            3 => self.bytes(PART).map(|bytes| Body::Binary(Bytes::copy_from_slice(bytes))),
            _ => Err(DamagedRecord::Wrong { part: PART }),
        }
    }

    /// Checked again: dialects paste it into what they send, so one that is none would break more than itself.
    fn json(&mut self) -> Result<Bytes, DamagedRecord> {
        let text = self.text("body")?;
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Err(_) => Err(DamagedRecord::Wrong { part: "body" }),
        }
    }

    fn fields(&mut self, from: &mut Option<Publisher>, details: &mut Details) -> Result<(), DamagedRecord> {
        let mut last = 0;
        while !self.rest.is_empty() {
            let tag = self.varint("fields")?;
            if tag <= last {
                return Err(DamagedRecord::Wrong { part: "fields" });
            }
            last = tag;
            let mut field = Reader { rest: self.bytes("fields")? };
            match tag {
                tag::PUBLISHER => *from = Some(field.publisher()?),
                tag::TO => details.to = Some(UserId::new(field.rest_text("addressee")?)),
                tag::TARGET => details.target = Some(field.varint("target")?),
                tag::WITHDRAWN => details.withdrawn = true,
                tag::EDITED => details.edited = Some(field.timestamp("time of editing")?),
                tag::DELETED => details.deleted = Some(field.timestamp("time of deletion")?),
                tag::REACTIONS => details.reactions = field.reactions()?,
                _ => continue,
            }
            if !field.rest.is_empty() {
                return Err(DamagedRecord::Wrong { part: "fields" });
            }
        }
        Ok(())
    }

    fn publisher(&mut self) -> Result<Publisher, DamagedRecord> {
        const PART: &str = "publisher";
        let client = ClientId::from_u128(self.u128(PART)?);
        let user = UserId::new(self.text(PART)?);
        let name = EcoString::from(self.rest_text(PART)?);
        Ok(Publisher { user, name, client })
    }

    fn reactions(&mut self) -> Result<Vec<Reactions>, DamagedRecord> {
        const PART: &str = "reactions";
        let mut all = Vec::new();
        while !self.rest.is_empty() {
            let reaction = self.text(PART)?.into();
            let count = self.varint(PART)?;
            // Grows with what is read: the number is only a claim.
            let mut users = Vec::new();
            for _ in 0..count {
                users.push(UserId::new(self.text(PART)?));
            }
            all.push(Reactions { reaction, users });
        }
        Ok(all)
    }
}

fn utf8<'a>(bytes: &'a [u8], part: &'static str) -> Result<&'a str, DamagedRecord> {
    std::str::from_utf8(bytes).map_err(|_| DamagedRecord::Wrong { part })
}

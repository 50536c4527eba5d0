//! The requests that have the same fields in every dialect.
//!
//! A dialect reads its frame as an [`Object`] whose first names are its own words for the fields in [`common`], in that
//! order; from there on this module reads. Nothing is looked at that the request does not use.

use std::borrow::Cow;

use super::{custom_kind, portable_data, required_room};
use crate::json::{Field, Object, bad_request};
use crate::{
    Amendment, BodyRef, Command, Epoch, ErrorCode, Kind, PageFrom, Position, Receipt, Refusal, StartFrom,
    Token,
};

/// Longest idempotency key, in bytes.
const KEY_LEN_MAX: usize = 64;

/// Longest reaction, in bytes: the longest emoji, two people of chosen skin who kiss, has 35.
const REACTION_LEN_MAX: usize = 40;

/// Where the fields that all dialects have are in their tables of names.
pub(crate) mod common {
    pub(crate) const ROOM: usize = 0;
    pub(crate) const CONTENT: usize = 1;
    pub(crate) const DATA: usize = 2;
    pub(crate) const KEY: usize = 3;
    pub(crate) const OFFSET: usize = 4;
    pub(crate) const EPOCH: usize = 5;
    pub(crate) const LAST: usize = 6;
    pub(crate) const TO: usize = 7;
    pub(crate) const REACTION: usize = 8;
    pub(crate) const REMOVE: usize = 9;
    pub(crate) const BEFORE: usize = 10;
    pub(crate) const AFTER: usize = 11;
    pub(crate) const LIMIT: usize = 12;
    pub(crate) const ACTIVE: usize = 13;
    pub(crate) const TOKEN: usize = 14;
    pub(crate) const USER: usize = 15;
    pub(crate) const SECONDS: usize = 16;
    pub(crate) const EVENT: usize = 17;
}
use common::{
    ACTIVE, AFTER, BEFORE, CONTENT, DATA, EPOCH, EVENT, KEY, LAST, LIMIT, OFFSET, REACTION, REMOVE, SECONDS,
    TO, TOKEN, USER,
};

/// A request that has the same name and the same fields in every dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Auth,
    Kick,
    Direct,
    Edit,
    Delete,
    React,
    History,
    Presence,
    Typing,
    Receipt(Receipt),
    Receipts,
    Conversations,
    Commands,
}

impl Ask {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "auth" => Self::Auth,
            "kick" => Self::Kick,
            "direct" => Self::Direct,
            "edit" => Self::Edit,
            "delete" => Self::Delete,
            "react" => Self::React,
            "history" => Self::History,
            "presence" => Self::Presence,
            "typing" => Self::Typing,
            "delivered" => Self::Receipt(Receipt::Delivered),
            "seen" => Self::Receipt(Receipt::Seen),
            "receipts" => Self::Receipts,
            "conversations" => Self::Conversations,
            "commands" => Self::Commands,
            _ => return None,
        })
    }

    /// Whether a room's name can be all that the request says.
    pub(crate) fn is_of_a_room(self) -> bool {
        matches!(self, Self::History | Self::Presence | Self::Typing | Self::Receipts)
    }

    /// Reads the request; `name` is what the client called it, and `room` reads the room it names.
    pub(crate) fn read<'a, const N: usize>(
        self,
        name: &str,
        fields: &Object<'a, N>,
        room: impl FnOnce() -> Result<Option<Cow<'a, str>>, Refusal>,
    ) -> Result<Command<'a>, Refusal> {
        match self {
            Self::Auth => match token(fields.field(TOKEN))? {
                Some(token) => Ok(Command::Authenticate { token }),
                None => Err(bad_request("auth needs `token`, a string")),
            },
            Self::Kick => Ok(Command::Kick {
                room: room()?,
                user: fields
                    .field(USER)
                    .text()?
                    .ok_or_else(|| bad_request("kick needs `user`, the id of the user who is to go"))?,
                seconds: count(fields.field(SECONDS))?,
            }),
            Self::Direct => {
                let (mut kind, body) = said(name, fields)?;
                if kind == Kind::Data {
                    kind = published_kind(fields)?;
                }
                let key = idempotency_key(fields.field(KEY))?;
                Ok(Command::Direct { to: addressee(fields.field(TO))?, kind, body, key })
            }
            Self::Edit | Self::Delete | Self::React => Ok(Command::Amend {
                room: room()?,
                target: target(name, fields.field(OFFSET))?,
                amendment: self.amendment(name, fields)?,
                key: idempotency_key(fields.field(KEY))?,
            }),
            Self::History => Ok(Command::History {
                room: required_room(room()?, name)?,
                page: page(fields.field(BEFORE), fields.field(AFTER))?,
                limit: count(fields.field(LIMIT))?,
            }),
            Self::Presence => {
                let room = required_room(room()?, name)?;
                let (after, limit) = users_page(fields)?;
                Ok(Command::Presence { room, after, limit })
            }
            Self::Receipts => {
                let room = required_room(room()?, name)?;
                let (after, limit) = users_page(fields)?;
                Ok(Command::Receipts { room, after, limit })
            }
            Self::Conversations => {
                let (after, limit) = users_page(fields)?;
                Ok(Command::Conversations { after, limit })
            }
            Self::Typing => {
                Ok(Command::Typing { room: room()?, active: fields.field(ACTIVE).boolean()?.unwrap_or(true) })
            }
            Self::Receipt(receipt) => Ok(Command::Receipt {
                room: room()?,
                receipt,
                offset: required_offset(name, fields.field(OFFSET))?,
            }),
            Self::Commands => Ok(Command::Commands),
        }
    }

    fn amendment<'a, const N: usize>(
        self,
        name: &str,
        fields: &Object<'a, N>,
    ) -> Result<Amendment<'a>, Refusal> {
        match self {
            Self::Edit => said(name, fields).map(|(_, body)| Amendment::Edit(body)),
            Self::React => Ok(Amendment::React {
                reaction: reaction(fields.field(REACTION))?,
                withdraw: fields.field(REMOVE).boolean()?.unwrap_or(false),
            }),
            _ => Ok(Amendment::Delete),
        }
    }
}

/// The client's own name for what it says.
#[inline]
pub(crate) fn idempotency_key(field: Field<'_>) -> Result<Option<Cow<'_, str>>, Refusal> {
    match field.value() {
        None => Ok(None),
        Some(_) => present_key(field),
    }
}

fn present_key(field: Field<'_>) -> Result<Option<Cow<'_, str>>, Refusal> {
    match field.text()? {
        Some(key) if key.is_empty() || key.len() > KEY_LEN_MAX => Err(bad_request(format_args!(
            "`{}` has 1 to {KEY_LEN_MAX} bytes of UTF-8, this one has {}",
            field.name(),
            key.len()
        ))),
        key => Ok(key),
    }
}

/// What lets a client into the room that it names.
pub(crate) fn room_token<'a, const N: usize>(fields: &Object<'a, N>) -> Result<Option<Token<'a>>, Refusal> {
    token(fields.field(TOKEN))
}

/// A credential, of which nothing is said but its length.
fn token(field: Field<'_>) -> Result<Option<Token<'_>>, Refusal> {
    match field.text()? {
        Some(text) if text.is_empty() || text.len() > Token::LEN_MAX => Err(bad_request(format_args!(
            "`token` has 1 to {} bytes, this one has {}",
            Token::LEN_MAX,
            text.len()
        ))),
        text => Ok(text.map(Token::new)),
    }
}

/// Where a subscription is to begin.
pub(crate) fn start_from<const N: usize>(fields: &Object<'_, N>) -> Result<StartFrom, Refusal> {
    let since = since(fields.field(EPOCH), fields.field(OFFSET))?;
    match (since, count(fields.field(LAST))?) {
        (None, None) => Ok(StartFrom::Now),
        (Some(position), None) => Ok(StartFrom::After(position)),
        (None, Some(last)) => Ok(StartFrom::Last(last)),
        (Some(_), Some(_)) => Err(bad_request(
            "`last` and `offset` both say where to begin; send `epoch` and `offset` if you were here before, else `last`",
        )),
    }
}

/// The place a client says it was in a room's log.
fn since(epoch: Field<'_>, offset: Field<'_>) -> Result<Option<Position>, Refusal> {
    match (epoch.text()?, offset.unsigned()?) {
        (None, None) => Ok(None),
        (Some(epoch), Some(offset)) => {
            let epoch = epoch_from_text(&epoch).ok_or_else(|| {
                bad_request("`epoch` must be sixteen hexadecimal digits, as the server sent it")
            })?;
            Ok(Some(Position { epoch, offset }))
        }
        _ => Err(bad_request("`epoch` and `offset` only mean something together; send both or neither")),
    }
}

/// Stricter than `Epoch::from_str`, which accepts fewer digits and a sign.
fn epoch_from_text(text: &str) -> Option<Epoch> {
    let exact = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if exact { text.parse().ok() } else { None }
}

/// Text for people or data for programs, and not both.
fn said<'a, const N: usize>(name: &str, fields: &Object<'a, N>) -> Result<(Kind, BodyRef<'a>), Refusal> {
    let content = fields.field(CONTENT).text()?;
    match (content, fields.field(DATA).value(), fields.raw(DATA)) {
        (Some(_), Some(_), _) => Err(bad_request(format_args!(
            "{name} takes `content` (a string) or `data` (any JSON value), this one has both"
        ))),
        (Some(content), None, _) => Ok((Kind::Chat, BodyRef::Text(content))),
        (None, _, Some(data)) => Ok((Kind::Data, BodyRef::Json(portable_data(data)?))),
        (None, _, None) => Err(Refusal::new(
            ErrorCode::ContentRequired,
            ecow::eco_format!("{name} needs `content` (a non-empty string) or `data` (any JSON value)"),
        )),
    }
}

/// The sort of what is published: the application's own where the request names one.
pub(crate) fn published_kind<const N: usize>(fields: &Object<'_, N>) -> Result<Kind, Refusal> {
    match fields.field(EVENT).text()? {
        Some(name) => custom_kind(&name),
        None => Ok(Kind::Data),
    }
}

/// To whom a private message goes.
pub(crate) fn addressee(field: Field<'_>) -> Result<Cow<'_, str>, Refusal> {
    field.text()?.ok_or_else(|| bad_request("direct needs `to`, the id of the user it is for"))
}

fn reaction(field: Field<'_>) -> Result<Cow<'_, str>, Refusal> {
    let Some(text) = field.text()? else {
        return Err(bad_request("react needs `reaction`, an emoji or another short text"));
    };
    if text.is_empty() || text.len() > REACTION_LEN_MAX {
        return Err(bad_request(format_args!(
            "`reaction` has 1 to {REACTION_LEN_MAX} bytes of UTF-8, this one has {}",
            text.len()
        )));
    }
    if text.trim() != text || text.chars().any(is_unprintable) {
        return Err(bad_request(
            "`reaction` has no control or invisible characters, and no blank at its start or end",
        ));
    }
    Ok(text)
}

/// As in a room's name, but emoji are joined by U+200D.
fn is_unprintable(c: char) -> bool {
    c != '\u{200d}' && crate::room::is_unprintable(c)
}

/// The offset of a message that there may be.
fn target(name: &str, field: Field<'_>) -> Result<u64, Refusal> {
    match required_offset(name, field)? {
        0 => Err(bad_request("no message has the offset 0; the first one's is 1")),
        offset => Ok(offset),
    }
}

fn required_offset(name: &str, field: Field<'_>) -> Result<u64, Refusal> {
    field.unsigned()?.ok_or_else(|| {
        bad_request(format_args!("{name} needs `offset`, the message's place in its room, an integer"))
    })
}

fn page(before: Field<'_>, after: Field<'_>) -> Result<PageFrom, Refusal> {
    match (before.unsigned()?, after.unsigned()?) {
        (None, None) => Ok(PageFrom::Newest),
        (Some(offset), None) => Ok(PageFrom::Before(offset)),
        (None, Some(offset)) => Ok(PageFrom::After(offset)),
        (Some(_), Some(_)) => Err(bad_request(
            "a page of history ends `before` an offset or begins `after` one; send one of them, or none for the newest",
        )),
    }
}

/// Where a list of users goes on, and how long its page may be.
fn users_page<'a, const N: usize>(
    fields: &Object<'a, N>,
) -> Result<(Option<Cow<'a, str>>, Option<u32>), Refusal> {
    Ok((fields.field(AFTER).text()?, count(fields.field(LIMIT))?))
}

/// A number of things. More than the hub ever gives is as good as its maximum.
fn count(field: Field<'_>) -> Result<Option<u32>, Refusal> {
    Ok(field.unsigned()?.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
}

//! What a client asks for, decoded but not yet judged.
//!
//! Borrowed from the frame it came in. Dialects check syntax; limits, rights and meaning are the hub's.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::{Kind, Position, RequestId};

/// One decoded frame from a client.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The client's name for the request. With one, the request is answered (acknowledged) even where
    /// success would otherwise be silent.
    pub id: Option<RequestId>,
    /// What is asked.
    pub command: Command<'a>,
}

/// What a client may ask.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Are you there?
    Ping,
    /// This is who I am, as of now.
    Authenticate {
        /// The credential.
        token: Token<'a>,
    },
    /// Take a user out of a room.
    Kick {
        /// The room's name, unchecked; `None` for the room the client was put in at connect.
        room: Option<Cow<'a, str>>,
        /// The user, unchecked.
        user: Cow<'a, str>,
        /// How long the user is to stay out; `None`: may come back at once.
        seconds: Option<u32>,
    },
    /// Put me into a room.
    Subscribe {
        /// The room's name, unchecked.
        room: Cow<'a, str>,
        /// What to begin with.
        from: StartFrom,
        /// What lets the client in there, where its own credential does not.
        token: Option<Token<'a>>,
    },
    /// Take me out of a room.
    Unsubscribe {
        /// The room's name, unchecked.
        room: Cow<'a, str>,
    },
    /// Say something to a room.
    Publish {
        /// The room's name, unchecked; `None` for the room the client was put in at connect.
        room: Option<Cow<'a, str>>,
        /// `Chat`, `Data` or `Custom`.
        kind: Kind,
        /// What to say.
        body: BodyRef<'a>,
        /// The client's own name for the message: the same one again publishes nothing.
        key: Option<Cow<'a, str>>,
    },
    /// Say something to one user, on all of their devices, now or when they come.
    Direct {
        /// The user, unchecked.
        to: Cow<'a, str>,
        /// `Chat`, `Data` or `Custom`.
        kind: Kind,
        /// What to say.
        body: BodyRef<'a>,
        /// The client's own name for the message: the same one again publishes nothing.
        key: Option<Cow<'a, str>>,
    },
    /// Change, delete or react to a message of a room's log.
    Amend {
        /// The room's name, unchecked; `None` for the room the client was put in at connect.
        room: Option<Cow<'a, str>>,
        /// The message's offset.
        target: u64,
        /// What to do with it.
        amendment: Amendment<'a>,
        /// The client's own name for the change: the same one again changes nothing.
        key: Option<Cow<'a, str>>,
    },
    /// Show me a page of a room's log.
    History {
        /// The room's name, unchecked.
        room: Cow<'a, str>,
        /// Which end of the page is fixed.
        page: PageFrom,
        /// Messages on the page; `None` for the hub's default.
        limit: Option<u32>,
    },
    /// Who is in a room?
    Presence {
        /// The room's name, unchecked.
        room: Cow<'a, str>,
        /// Users after this one, in the order of their ids; `None` for the first page.
        after: Option<Cow<'a, str>>,
        /// Users on the page; `None` for the hub's default. Zero: only the counts.
        limit: Option<u32>,
    },
    /// I am typing, or no longer.
    Typing {
        /// The room's name, unchecked; `None` for the room the client was put in at connect.
        room: Option<Cow<'a, str>>,
        /// Whether the client is typing.
        active: bool,
    },
    /// I have received, or read, everything up to a place in a room's log.
    Receipt {
        /// The room's name, unchecked; `None` for the room the client was put in at connect.
        room: Option<Cow<'a, str>>,
        /// Received or read.
        receipt: Receipt,
        /// The last message so far.
        offset: u64,
    },
    /// Who has received and read how much of a room?
    Receipts {
        /// The room's name, unchecked.
        room: Cow<'a, str>,
        /// Users after this one, in the order of their ids; `None` for the first page.
        after: Option<Cow<'a, str>>,
        /// Users on the page; `None` for the hub's default.
        limit: Option<u32>,
    },
    /// Which private conversations do I have?
    Conversations {
        /// Conversations with users after this one, in the order of their ids; `None` for the first page.
        after: Option<Cow<'a, str>>,
        /// Conversations on the page; `None` for the hub's default.
        limit: Option<u32>,
    },
    /// Which slash commands are there?
    Commands,
    /// A type that the dialect leaves to the application's handlers.
    Custom {
        /// The type's name on the wire.
        name: Cow<'a, str>,
        /// Its data, unparsed.
        data: Option<&'a RawValue>,
    },
}

/// A credential still inside the frame it came in. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a>(Cow<'a, str>);

impl<'a> Token<'a> {
    /// Longest token, in bytes.
    pub const LEN_MAX: usize = 8192;

    /// A token of that text.
    #[must_use]
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever judges it: not for logs or answers.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

/// With which message of a room's log a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// The next one.
    #[default]
    Now,
    /// The one after this place: where the client was.
    After(Position),
    /// So many before the next one.
    Last(u32),
}

/// Which end of a page of history is fixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageFrom {
    /// The newest messages.
    #[default]
    Newest,
    /// The newest messages with a smaller offset: scrolling back.
    Before(u64),
    /// The oldest messages with a greater offset: catching up.
    After(u64),
}

/// What is done to an earlier message.
#[derive(Clone, Debug)]
pub enum Amendment<'a> {
    /// It gets another body.
    Edit(BodyRef<'a>),
    /// It loses its body.
    Delete,
    /// The client's user reacts to it, or takes that back.
    React {
        /// The emoji, unchecked.
        reaction: Cow<'a, str>,
        /// Take it back.
        withdraw: bool,
    },
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Receipt {
    /// A device of the user has it.
    Delivered,
    /// The user has read it.
    Seen,
}

/// A body still inside the frame it came in.
#[derive(Clone, Debug)]
pub enum BodyRef<'a> {
    /// Text for people.
    Text(Cow<'a, str>),
    /// JSON, unparsed.
    Json(&'a RawValue),
    /// Bytes that are no text.
    Binary(&'a [u8]),
}

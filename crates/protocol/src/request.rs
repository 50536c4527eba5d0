//! What a client asks for, decoded but not yet judged.
//!
//! Borrowed from the frame it came in. Dialects check syntax; limits, rights and meaning are the hub's.

use std::borrow::Cow;

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
    /// Put me into a room.
    Subscribe {
        /// The room's name, unchecked.
        room: Cow<'a, str>,
        /// Where the client was; `None` for "from now on".
        since: Option<Position>,
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
        /// `Chat` or `Data`.
        kind: Kind,
        /// What to say.
        body: BodyRef<'a>,
    },
    /// A type that the dialect leaves to the application's handlers.
    Custom {
        /// The type's name on the wire.
        name: Cow<'a, str>,
        /// Its data, unparsed.
        data: Option<&'a RawValue>,
    },
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

//! The one table of error codes and the one table of disconnect codes.
//!
//! An error answers a request and leaves the connection; a disconnect ends it. Both are part of the wire
//! contract: numbers and names never change their meaning, new ones are added.

/// Whether a disconnected client should come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reconnect {
    /// Come back, with full-jitter back-off.
    Backoff,
    /// Stay away: coming back the same way would end the same way.
    Never,
}

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, temporary: $temporary:literal;)*) => {
        /// Why a request was refused: what a program acts on. A person reads [`crate::Refusal::detail`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant = $number,)*
        }

        impl ErrorCode {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code's number.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The code's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the code means, in a sentence or two: the variant's own documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)* }
            }

            /// Whether the same request may succeed later, unchanged.
            #[must_use]
            pub const fn is_temporary(self) -> bool {
                match self { $(Self::$variant => $temporary,)* }
            }
        }
    };
}

errors! {
    /// The frame is not what the dialect expects: no JSON, no object, or a required field is missing or of the wrong type.
    BadRequest = 100, "bad_request", temporary: false;
    /// The message's type is known neither to the hub nor to the application.
    UnknownType = 101, "unknown_type", temporary: false;
    /// The dialect has no binary (or no text) frames.
    UnsupportedFrame = 102, "unsupported_frame", temporary: false;
    /// A chat message, a private message or an edit that says nothing.
    ContentRequired = 110, "content_required", temporary: false;
    /// More content than the room, or the server, takes in one message.
    ContentTooLong = 111, "content_too_long", temporary: false;
    /// The request needs a user name and the connection has none.
    UsernameRequired = 112, "username_required", temporary: false;
    /// The user name is too long.
    UsernameTooLong = 113, "username_too_long", temporary: false;
    /// The user name or id has characters that cannot be shown.
    InvalidIdentity = 114, "invalid_identity", temporary: false;
    /// The room's name is empty, too long or unprintable.
    InvalidRoom = 120, "invalid_room", temporary: false;
    /// The request names no room, and the connection has no default room.
    RoomRequired = 121, "room_required", temporary: false;
    /// The client is not in that room.
    NotSubscribed = 122, "not_subscribed", temporary: false;
    /// The client is in as many rooms as it may be.
    TooManyRooms = 123, "too_many_rooms", temporary: false;
    /// The room has as many members as it may have.
    RoomFull = 124, "room_full", temporary: true;
    /// The hub has as many rooms as it may have.
    RoomLimit = 125, "room_limit", temporary: true;
    /// Nobody said who they are, or what they said is not accepted.
    Unauthorized = 130, "unauthorized", temporary: false;
    /// Known, but not allowed.
    Forbidden = 131, "forbidden", temporary: false;
    /// The token shown is no longer valid; show a fresh one.
    TokenExpired = 133, "token_expired", temporary: false;
    /// Too many connections; come later.
    TooManyConnections = 132, "too_many_connections", temporary: true;
    /// The client meant is not connected.
    ClientNotFound = 140, "client_not_found", temporary: false;
    /// The client meant reads too slowly.
    SendBufferFull = 141, "send_buffer_full", temporary: true;
    /// There is no user of that id, or none that the client may talk to.
    UserNotFound = 142, "user_not_found", temporary: false;
    /// There is no such message in the room's log, or it is one that cannot be changed.
    MessageNotFound = 143, "message_not_found", temporary: false;
    /// There is no such slash command.
    UnknownCommand = 144, "unknown_command", temporary: false;
    /// The server is stopping, or something it needs is away.
    Unavailable = 150, "unavailable", temporary: true;
    /// The application's handler took too long.
    TimedOut = 151, "timed_out", temporary: true;
    /// Our fault. The connection may be closed as well.
    Internal = 152, "internal", temporary: true;
    /// The disk that keeps messages is full; nothing was published. Other rooms go on.
    StorageFull = 153, "storage_full", temporary: true;
    /// The tenant has used what it may use of connections, rooms, messages or storage.
    QuotaExceeded = 160, "quota_exceeded", temporary: true;
    /// There is no such tenant, or nobody is let into it.
    TenantNotFound = 161, "tenant_not_found", temporary: false;
    /// More of it, and in less time, than a connection, a user, an address or a room may; nothing was done. Who goes on is disconnected.
    RateLimited = 162, "rate_limited", temporary: true;
}

macro_rules! disconnects {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $reconnect:ident, $reason:literal;)*) => {
        /// Why the server ends a connection.
        ///
        /// Below 4000 the numbers are RFC 6455's (section 7.4.1). From 4000 to 4499 a client reconnects, from
        /// 4500 on it does not: a client that does not know a number can still act on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Disconnect {
            $($(#[doc = $doc])+ $variant = $code,)*
        }

        impl Disconnect {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number in the close frame.
            #[must_use]
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The code of that number, if it is one.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.code() == code)
            }

            /// The name in logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The text in the close frame: at most 123 bytes.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason,)* }
            }

            /// What the code means, in a sentence or two: the variant's own documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)* }
            }

            /// Whether the client should come back.
            #[must_use]
            pub const fn reconnect(self) -> Reconnect {
                match self { $(Self::$variant => Reconnect::$reconnect,)* }
            }
        }
    };
}

disconnects! {
    /// The client said goodbye, or the application closed the connection in good order.
    Normal = 1000, "normal", Never, "";
    /// The server is stopping.
    GoingAway = 1001, "going_away", Backoff, "server is shutting down, reconnect";
    /// The client broke RFC 6455.
    ProtocolError = 1002, "protocol_error", Never, "protocol error";
    /// Text that is no UTF-8, or compressed data that does not inflate.
    InvalidData = 1007, "invalid_data", Never, "invalid data";
    /// A message larger than the configured maximum.
    MessageTooBig = 1009, "message_too_big", Never, "message too big";
    /// Our fault: a handler panicked.
    InternalError = 1011, "internal_error", Backoff, "internal error";
    /// Every connection the hub may hold is taken.
    TryAgainLater = 1013, "try_again_later", Backoff, "too many connections";
    /// The client read so slowly that its queue overflowed.
    SlowConsumer = 4000, "slow_consumer", Backoff, "slow consumer: send queue full";
    /// Bytes for the client waited longer than the write time-out.
    WriteTimeout = 4001, "write_timeout", Backoff, "slow consumer: write timed out";
    /// Nothing came from the client, not even a pong, for the heartbeat's time-out.
    HeartbeatTimeout = 4002, "heartbeat_timeout", Backoff, "heartbeat timed out";
    /// The application ended it, and the client should come back: to another server, say, or as somebody else.
    ReconnectRequested = 4003, "reconnect_requested", Backoff, "disconnected by the server, reconnect";
    /// The credential has ended and no fresh one was shown: come back with one.
    CredentialExpired = 4004, "credential_expired", Backoff, "credential expired, reconnect with a fresh one";
    /// The client went on sending although it was told that it sends too much.
    RateLimited = 4005, "rate_limited", Backoff, "rate limit exceeded";
    /// No credential was shown in time.
    AuthenticationTimeout = 4006, "authentication_timeout", Backoff, "no credential was sent in time";
    /// A message was begun and not completed in time.
    MessageTimeout = 4007, "message_timeout", Backoff, "a message was not completed in time";
    /// A newer connection with the same identity took this one's place.
    Replaced = 4500, "replaced", Never, "replaced by a newer connection with the same identity";
    /// An operator or the application ended it.
    Kicked = 4501, "kicked", Never, "disconnected by the server";
    /// The tenant that the client belongs to was removed.
    TenantRemoved = 4502, "tenant_removed", Never, "the tenant was removed";
    /// The credential, the user or the device is not accepted any more.
    Revoked = 4503, "revoked", Never, "the credential was revoked";
    /// The credential shown over the connection is not accepted.
    Unauthorized = 4504, "unauthorized", Never, "the credential is not accepted";
}

#[cfg(test)]
mod tests {
    use super::{Disconnect, ErrorCode, Reconnect};

    #[test]
    fn error_codes_are_unique_and_named_in_snake_case() {
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.number()), "{code:?}");
            assert!(code.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code:?}");
        }
    }

    /// Clients decide by the range alone; a code in the wrong range would make them hammer or vanish.
    #[test]
    fn private_disconnect_codes_say_by_their_range_whether_to_reconnect() {
        for disconnect in Disconnect::ALL {
            assert!(disconnect.reason().len() <= 123, "{disconnect:?} does not fit a close frame");
            if disconnect.code() >= 4000 {
                let expected = if disconnect.code() < 4500 { Reconnect::Backoff } else { Reconnect::Never };
                assert_eq!(disconnect.reconnect(), expected, "{disconnect:?}");
            }
        }
    }
}

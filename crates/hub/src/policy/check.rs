//! The one function that decides.

use ecow::eco_format;
use outspoke_protocol::{ClientId, ErrorCode, Refusal, UserId};

use super::grants::{Actions, Grants};
use super::{Action, Permissions, bans};
use crate::auth::Identity;
use crate::class::Publishers;
use crate::client::{Client, Standing};
use crate::direct::{self, Pair, is_reserved};
use crate::hub::{Hub, Inner};
use crate::room::Room;
use crate::shard::command::Command;
use crate::sync::Arc;

/// Who wants something.
pub(crate) struct Who<'a> {
    identity: Is<'a>,
    grants: Option<&'a Grants>,
    /// Granted with what is being asked, in the room it is asked for.
    extra: Actions,
}

enum Is<'a> {
    /// Somebody over a connection of their own.
    Client(Standing<'a>),
    /// Somebody without a connection, with the credential for one.
    User(&'a Identity),
    /// A program that speaks for the application, with a credential of its own.
    Service(&'a Identity),
}

impl<'a> Who<'a> {
    /// A client, with what it was granted in single rooms.
    pub(crate) fn client(client: &'a Client, grants: Option<&'a Grants>) -> Self {
        Self { identity: Is::Client(client.holds()), grants, extra: Actions::default() }
    }

    /// Somebody without a connection, who may do what a connection of theirs may.
    pub(crate) fn user(identity: &'a Identity) -> Self {
        Self { identity: Is::User(identity), grants: None, extra: Actions::default() }
    }

    /// A program that speaks for the application: rooms to which only the server publishes are open to it, and private
    /// conversations are rooms as others are.
    pub(crate) fn service(identity: &'a Identity) -> Self {
        Self { identity: Is::Service(identity), grants: None, extra: Actions::default() }
    }

    /// The same, granted this besides.
    pub(crate) fn granted(self, extra: Actions) -> Self {
        Self { extra, ..self }
    }

    pub(crate) fn identity(&self) -> &Identity {
        match &self.identity {
            Is::Client(standing) => standing,
            Is::User(identity) | Is::Service(identity) => identity,
        }
    }

    fn is_service(&self) -> bool {
        matches!(self.identity, Is::Service(_))
    }

    fn may(&self, hub: &Inner, action: Action, room: &str) -> bool {
        if self.extra.has(action) {
            return true;
        }
        match self.ruled(hub) {
            // What was granted before that counts as little as what the credential says.
            Some(permissions) => permissions.allows(action, room),
            None => {
                self.identity().permissions.allows(action, room)
                    || self.grants.is_some_and(|grants| grants.allow(action, room))
            }
        }
    }

    /// What may be done instead of what the credential says, if that was decided.
    fn ruled(&self, hub: &Inner) -> Option<Permissions> {
        hub.rulings.permissions(self.identity(), || hub.now())
    }
}

/// To what it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On<'a> {
    Room(&'a Room),
    Named(&'a str),
    User(&'a UserId),
}

impl<'a> From<&'a Room> for On<'a> {
    fn from(room: &'a Room) -> Self {
        Self::Room(room)
    }
}

impl<'a> From<&'a Arc<Room>> for On<'a> {
    fn from(room: &'a Arc<Room>) -> Self {
        Self::Room(room)
    }
}

impl<'a> From<&'a str> for On<'a> {
    fn from(name: &'a str) -> Self {
        Self::Named(name)
    }
}

impl<'a> From<&'a UserId> for On<'a> {
    fn from(user: &'a UserId) -> Self {
        Self::User(user)
    }
}

/// Whether somebody may do something to a room, or to a user.
///
/// In this order: a private conversation is its two users'; who was removed from a room stays away as long as was said; a room
/// to which only the server publishes is closed to everybody else; then what the credential permits, and what was granted in the room.
///
/// *Cost*: for who has the default permissions, a comparison of pointers and two of bytes.
///
/// # Errors
/// `forbidden`, naming the permission that is missing.
pub(crate) fn check<'a>(
    hub: &Inner,
    who: &Who<'_>,
    action: Action,
    on: impl Into<On<'a>>,
) -> Result<(), Refusal> {
    let (room, name) = match on.into() {
        On::User(user) => return check_direct(hub, who, user),
        On::Room(room) => (Some(room), room.name.as_ref().map_or("", |name| name.as_str())),
        On::Named(name) => (None, name),
    };
    if is_reserved(name) && !who.is_service() {
        return check_conversation(hub, who, action, room, name);
    }
    if action == Action::Publish && !who.is_service() {
        let publishers = room.map_or_else(|| hub.class_of(name).publishers, |room| room.class().publishers);
        if publishers == Publishers::Server {
            return Err(forbidden("only the server publishes to this room"));
        }
    }
    check_permitted(hub, who, action, name)
}

/// Like [`check`], for what members may do also where only the server publishes: reacting to what it says.
///
/// # Errors
/// As those of [`check`].
pub(crate) fn check_reaction(hub: &Inner, who: &Who<'_>, room: &Room) -> Result<(), Refusal> {
    let name = room.name.as_ref().map_or("", |name| name.as_str());
    match is_reserved(name) {
        true => check_conversation(hub, who, Action::Publish, Some(room), name),
        false => check_permitted(hub, who, Action::Publish, name),
    }
}

fn check_permitted(hub: &Inner, who: &Who<'_>, action: Action, name: &str) -> Result<(), Refusal> {
    bans::check(hub, who.identity(), name)?;
    if who.may(hub, action, name) {
        return Ok(());
    }
    let action = action.name();
    Err(forbidden(eco_format!("this needs the permission `{action}` for the room \"{name}\"")))
}

fn check_direct(hub: &Inner, who: &Who<'_>, user: &UserId) -> Result<(), Refusal> {
    let ruled = who.ruled(hub);
    if ruled.as_ref().unwrap_or(&who.identity().permissions).allows(Action::Direct, user.as_str()) {
        return Ok(());
    }
    Err(forbidden(eco_format!("this needs the permission `direct` for the user \"{}\"", user.as_str())))
}

/// What the two say to each other is theirs to read; writing is writing to the other one.
fn check_conversation(
    hub: &Inner,
    who: &Who<'_>,
    action: Action,
    room: Option<&Room>,
    name: &str,
) -> Result<(), Refusal> {
    let identity = who.identity();
    let parsed;
    let pair = match room.and_then(|room| room.pair.as_deref()) {
        Some(pair) => Some(pair),
        None => {
            parsed = Pair::parse(name);
            parsed.as_ref()
        }
    };
    let Some(pair) = pair.filter(|pair| direct::may_enter(&hub.config(), identity, pair)) else {
        return Err(forbidden(eco_format!(
            "\"{name}\" is not the client's: rooms that begin with @ are private conversations of two users"
        )));
    };
    match action {
        Action::Publish | Action::Direct => check_direct(hub, who, pair.other(&identity.user)),
        Action::Moderate => Err(forbidden("nobody moderates a private conversation")),
        Action::Join | Action::History | Action::Presence => Ok(()),
    }
}

fn forbidden(detail: impl Into<ecow::EcoString>) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, detail)
}

impl Hub {
    /// Gives a client of this node other permissions, until its credential is refreshed: it is taken out of the rooms in which
    /// it may not be any more. Returns whether there is such a client.
    pub fn permit(&self, id: ClientId, permissions: Permissions) -> bool {
        let Some(client) = self.client(id) else { return false };
        self.set_standing(&client, Identity { permissions, ..Identity::clone(&client.standing()) });
        true
    }

    /// Says what holds for a client of this node from now on, and has its shard act on it.
    pub(crate) fn set_standing(&self, client: &Client, identity: Identity) {
        client.set_standing(identity);
        if let Some(&key) = client.key.get() {
            // A shard that has ended has nobody to look at.
            let reconsider = Command::Reconsider(key);
            let _ = self.inner.shards[usize::from(client.shard)].inbox.push(reconsider, Command::WEIGHT);
        }
    }

    /// Whether a program with a credential of its own, which speaks for the application, may do something to a room of this
    /// tenant (or, for [`Action::Direct`], to a user).
    ///
    /// # Errors
    /// `forbidden`, naming the permission that is missing.
    pub fn check(&self, identity: &Identity, action: Action, name: &str) -> Result<(), Refusal> {
        let who = Who::service(identity);
        match action {
            Action::Direct => check(&self.inner, &who, action, &UserId::new(name)),
            _ => check(&self.inner, &who, action, name),
        }
    }
}

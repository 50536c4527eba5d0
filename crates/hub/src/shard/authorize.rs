//! Who is asked before something is done: the authenticator about a fresh credential, the authorizer about a join or a message.
//!
//! The connection waits for the answer as it does for a handler: it reads nothing meanwhile, so its requests keep their order, and
//! `handler_timeout` bounds the wait. What may have changed meanwhile is looked at again afterwards.

use std::sync::Arc;

use ecow::EcoString;
use outspoke_protocol::{Body, ErrorCode, Event, Refusal, RequestId, RoomName, Token, UserId};

use super::connection::{Asking, Pending, Waiting};
use super::joins::refusal_of;
use super::receive::Flow;
use super::wheel::Tick;
use super::{Key, Shard};
use crate::auth::{Ask, AuthError, Grant, Identity};
use crate::direct::is_reserved;
use crate::error::JoinError;
use crate::hub::Hub;
use crate::policy::{self, Action, Actions, Granted};
use crate::room::amend::Amending;
use crate::room::{Draft, Room};
use crate::rulings::BAR_LASTS_MIN;

impl Shard {
    /// A client shows a fresh credential.
    pub(super) fn authenticate(&mut self, key: Key, id: Option<&RequestId>, token: &Token<'_>) -> Flow {
        let authenticator = Arc::clone(&self.hub.authenticator);
        let token = EcoString::from(token.reveal());
        let (hub, client) = (Arc::clone(&self.hub), Arc::clone(&self.connections[key.slot as usize].client));
        let refreshing = Box::pin(async move {
            let identity = authenticator.authenticate_token(&token).await?;
            // As it would be on this connection.
            let Identity { tenant, device, .. } = client.identity().clone();
            hub.admit_credential(&Identity { tenant, device, ..identity.clone() }).await?;
            Ok(identity)
        });
        self.wait_for(key, Waiting::Refresh(refreshing), id.cloned());
        self.poll_soon(key);
        Flow::Stalled
    }

    /// The authenticator has answered: the fresh credential holds from now on, or the former one goes on to.
    pub(super) fn refreshed(
        &mut self,
        key: Key,
        request: Option<RequestId>,
        outcome: Result<Identity, AuthError>,
    ) {
        match self.judge_refresh(key, outcome) {
            Ok((identity, ends)) => {
                let expires = identity.expires;
                let connection = &mut self.connections[key.slot as usize];
                connection.client.set_standing(identity);
                connection.expires = ends;
                self.reply(key.slot, &Event::Authenticated { request, expires });
                // Something may have been decided while it was looked at.
                self.reconsider(key);
            }
            Err(refusal) => {
                let address = self.connections[key.slot as usize].client.address();
                self.hub.tell_auth_failure(address, &AuthError::new(refusal.code, refusal.detail.clone()));
                self.refuse(key.slot, refusal.answering(request));
            }
        }
    }

    fn judge_refresh(
        &self,
        key: Key,
        outcome: Result<Identity, AuthError>,
    ) -> Result<(Identity, Tick), Refusal> {
        let identity = outcome.map_err(|error| Refusal::new(error.code, error.detail))?;
        let was = self.connections[key.slot as usize].client.identity();
        // A credential that names no tenant is the endpoint's, which the client came by.
        let elsewhere = !identity.tenant.is_empty() && identity.tenant != was.tenant;
        if elsewhere || identity.user != was.user || identity.anonymous != was.anonymous {
            let detail = "the token is another user's than this connection's; connect anew with it";
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        let ends = self.tick_of(identity.expires);
        self.check_not_ended(ends)?;
        Ok((identity, ends))
    }

    fn check_not_ended(&self, ends: Tick) -> Result<(), Refusal> {
        if ends > self.now() {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::TokenExpired, "the token has expired; show a fresh one"))
    }

    /// Puts a client into a room, once whoever must be asked allows it.
    pub(super) fn enter(
        &mut self,
        key: Key,
        asking: Asking,
        token: Option<EcoString>,
    ) -> Result<Flow, Refusal> {
        let name = asking.room.as_str();
        let by_token = token.is_some();
        // Who is there already begins nothing, and a conversation is its two users' own.
        let asked = self.hub.asks.join && !is_reserved(name) && self.membership(key, name).is_none();
        if !by_token && !asked {
            return self.ask(key, asking);
        }
        let Some(authorizer) = self.hub.authorizer.clone() else {
            let detail = "tokens for rooms are not accepted here; subscribe without one";
            return Err(Refusal::new(ErrorCode::Unauthorized, detail));
        };
        // A token stands for the permission, and for nothing else.
        let instead = Actions::of(if by_token { &[Action::Join] } else { &[] });
        let connection = &self.connections[key.slot as usize];
        policy::check(&self.hub, &connection.who().granted(instead), Action::Join, name)?;
        let identity = connection.client.standing();
        let ask = Ask { identity, action: Action::Join, room: asking.room.clone(), token, body: None };
        let request = asking.request.clone();
        let pending = Box::new(Pending::Join { asking, by_token });
        let authorizing = Box::pin(async move { authorizer.authorize(ask).await });
        self.wait_for(key, Waiting::Authorize(authorizing, Some(pending)), request);
        self.poll_soon(key);
        Ok(Flow::Stalled)
    }

    /// Asks whether a client may say something, which it says then.
    pub(super) fn ask_to_say(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        draft: Draft,
    ) -> Result<Flow, Refusal> {
        let body = Some(draft.body.clone());
        let pending = Pending::Say { room: Arc::clone(room), draft };
        self.ask_to_publish(key, id, room, body, pending)
    }

    /// Asks whether a client may give an earlier message other words.
    pub(super) fn ask_to_amend(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        amending: Amending,
    ) -> Result<Flow, Refusal> {
        let body = Some(amending.draft().body);
        let pending = Pending::Amend { room: Arc::clone(room), amending };
        self.ask_to_publish(key, id, room, body, pending)
    }

    fn ask_to_publish(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Room,
        body: Option<Body>,
        pending: Pending,
    ) -> Result<Flow, Refusal> {
        let (Some(authorizer), Some(name)) = (self.hub.authorizer.clone(), room.name.clone()) else {
            return Err(Refusal::new(ErrorCode::Internal, "nobody can be asked whether this may be said"));
        };
        let identity = self.connections[key.slot as usize].client.standing();
        let ask = Ask { identity, action: Action::Publish, room: name, token: None, body };
        let authorizing = Box::pin(async move { authorizer.authorize(ask).await });
        self.wait_for(key, Waiting::Authorize(authorizing, Some(Box::new(pending))), id.cloned());
        self.poll_soon(key);
        Ok(Flow::Stalled)
    }

    /// The authorizer has answered.
    pub(super) fn authorized(
        &mut self,
        key: Key,
        request: Option<RequestId>,
        outcome: Result<Grant, Refusal>,
        pending: Pending,
    ) {
        let room = match &pending {
            Pending::Join { asking, .. } => Some(asking.room.clone()),
            _ => None,
        };
        let done = outcome.and_then(|grant| match pending {
            Pending::Join { asking, by_token } => self.enter_granted(key, asking, &grant, by_token),
            Pending::Say { room, draft } => {
                let room = self.room_after_all(key, &room, &grant)?;
                let said = self.place_reviewed(key, request.as_ref(), &room, draft);
                if room.members() == 0 {
                    self.hub.idle.put(&room, room.lingers());
                }
                said
            }
            Pending::Amend { room, amending } => {
                let room = self.room_after_all(key, &room, &grant)?;
                self.amend_now(key, request.as_ref(), &room, amending)
            }
        });
        if let Err(refusal) = done {
            if let Some(room) = room {
                self.note_refused(key, &room, &refusal);
            }
            self.refuse(key.slot, refusal.answering(request));
        }
    }

    /// The reviewer has answered.
    pub(super) fn reviewed(
        &mut self,
        key: Key,
        request: Option<RequestId>,
        outcome: Result<Body, Refusal>,
        (room, draft): (Arc<Room>, Draft),
    ) {
        let done = outcome.and_then(|body| {
            let room = self.room_after_all(key, &room, &Grant::default())?;
            let said = self.place_now(key, request.as_ref(), &room, Draft { body, ..draft });
            if room.members() == 0 {
                self.hub.idle.put(&room, room.lingers());
            }
            said
        });
        if let Err(refusal) = done {
            self.refuse(key.slot, refusal.answering(request));
        }
    }

    fn enter_granted(
        &mut self,
        key: Key,
        mut asking: Asking,
        grant: &Grant,
        by_token: bool,
    ) -> Result<Flow, Refusal> {
        let ends = self.tick_of(grant.expires);
        self.check_not_ended(ends)?;
        let actions = Actions::of(&grant.actions);
        if by_token {
            asking.granted = Some(Granted { actions: actions.and(Action::Join), ends });
        } else if !grant.actions.is_empty() {
            asking.granted = Some(Granted { actions, ends });
        }
        self.ask(key, asking)
    }

    /// The room in which something may be said at last. The client may have been taken out of it meanwhile, and a conversation that
    /// nobody is in may have been put away.
    fn room_after_all(&mut self, key: Key, room: &Arc<Room>, grant: &Grant) -> Result<Arc<Room>, Refusal> {
        self.check_serving()?;
        let Some(name) = &room.name else { return Ok(Arc::clone(room)) };
        let room = self.room_again(key, name)?;
        self.may(key, Action::Publish, &room)?;
        if !grant.actions.is_empty() && self.membership(key, name.as_str()).is_some() {
            let granted = Granted { actions: Actions::of(&grant.actions), ends: self.tick_of(grant.expires) };
            self.connections[key.slot as usize].grant(name, granted);
            self.look_at_end(key);
        }
        Ok(room)
    }

    fn room_again(&self, key: Key, name: &RoomName) -> Result<Arc<Room>, Refusal> {
        let connection = &self.connections[key.slot as usize];
        match self.membership(key, name.as_str()) {
            Some(index) => Ok(Arc::clone(&connection.memberships[index].room)),
            None if is_reserved(name.as_str()) => {
                let room = connection.client.tenant.directory.open(&self.hub, name);
                room.map_err(|error| refusal_of(error.into()))
            }
            None => Err(refusal_of(JoinError::NotSubscribed { room: name.clone() })),
        }
    }

    /// A moderator takes a user out of a room.
    pub(super) fn kick(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: Option<&str>,
        user: &str,
        seconds: Option<u32>,
    ) -> Result<Flow, Refusal> {
        let connection = &self.connections[key.slot as usize];
        let room = match (room, &connection.home) {
            (Some(room), _) => self.room_name(room)?,
            (None, Some(home)) => home.clone(),
            (None, None) => {
                let detail = "say which room: this connection was not put into one";
                return Err(Refusal::new(ErrorCode::RoomRequired, detail));
            }
        };
        self.may(key, Action::Moderate, room.as_str())?;
        let (inner, tenant) = (Arc::clone(&self.hub), Arc::clone(&connection.client.tenant));
        let hub = Hub { inner, tenant };
        let (user, request) = (UserId::new(user), id.cloned());
        let time = seconds.filter(|seconds| *seconds > 0);
        let time = time.map(|seconds| std::time::Duration::from_secs(seconds.into()).max(BAR_LASTS_MIN));
        Ok(self.look(key, id, async move {
            match time {
                Some(time) => {
                    hub.remove_from_room(room.as_str(), &user, time).await?;
                }
                None => {
                    hub.put_out_of_room(room.as_str(), &user).await?;
                }
            }
            Ok(Event::Kicked { request, room, user })
        }))
    }
}

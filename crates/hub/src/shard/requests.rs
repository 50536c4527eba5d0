//! What a client asks: decoded by its dialect, judged, done, answered.
//!
//! One function owns the branching ([`Shard::request`]); each of the others does one thing. All run in the
//! connection's shard, at the edge: nothing of a client's text is parsed anywhere further in.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use ecow::eco_format;
use outspoke_protocol::{
    BodyRef, Command as Wanted, ErrorCode, Event, Kind, Payload, Refusal, Request, RequestId, RoomName,
};
use outspoke_websocket::encode_frame;
use serde_json::value::RawValue;

use super::command::Command;
use super::connection::{Outcome, Stall, Waiting};
use super::receive::Flow;
use super::slash::Line;
use super::{Key, Shard};
use crate::dispatcher::{Context, Handling};
use crate::hub::Hub;
use crate::publication::opcode;
use crate::stats::count;

impl Shard {
    /// Does what one message asks. `merge` is set when more for this client follows within the turn.
    pub(super) fn request(&mut self, key: Key, payload: Payload<'_>, merge: &mut bool) -> Flow {
        let hub = Arc::clone(&self.hub);
        let dialect = &hub.dialects[usize::from(self.connections[key.slot as usize].dialect)];
        let Request { id, command } = match dialect.decode(payload) {
            Ok(request) => request,
            Err(refusal) => {
                self.refuse(key.slot, refusal);
                return Flow::Continue;
            }
        };
        if self.hub.config().rate.actions.is_on()
            && let Some(flow) = self.check_deed(key, &command, id.as_ref())
        {
            return flow;
        }
        let done = match command {
            Wanted::Ping => {
                self.reply(key.slot, &Event::Pong { request: id.clone() });
                Ok(Flow::Continue)
            }
            Wanted::Authenticate { token } => Ok(self.authenticate(key, id.as_ref(), &token)),
            Wanted::Kick { room, user, seconds } => {
                self.kick(key, id.as_ref(), room.as_deref(), &user, seconds)
            }
            Wanted::Subscribe { room, from, token } => {
                self.subscribe(key, id.as_ref(), &room, from, token.as_ref())
            }
            Wanted::Unsubscribe { room } => self.unsubscribe(key, id.as_ref(), &room),
            Wanted::Publish { room, kind: Kind::Chat, body: BodyRef::Text(text), key: name }
                if text.starts_with('/') && !hub.commands.is_empty() =>
            {
                let line = Line { key, id: id.as_ref(), room: room.as_deref(), name: name.as_deref() };
                self.slash(line, &text, merge)
            }
            Wanted::Publish { room, kind, body, key: name } => {
                *merge = true;
                self.publish(key, id.as_ref(), room, kind, body, name.as_deref())
            }
            Wanted::Presence { room, after, limit } => {
                self.presence(key, id.as_ref(), &room, after.as_deref(), limit)
            }
            Wanted::Typing { room, active } => self.typing(key, room.as_deref(), active),
            Wanted::Amend { room, target, amendment, key: name } => {
                *merge = true;
                self.amend(key, id.as_ref(), room, target, amendment, name.as_deref())
            }
            Wanted::History { room, page, limit } => self.history(key, id.as_ref(), &room, page, limit),
            Wanted::Direct { to, kind, body, key: name } => {
                *merge = true;
                self.direct(key, id.as_ref(), &to, kind, body, name.as_deref())
            }
            Wanted::Receipt { room, receipt, offset } => {
                self.receipt(key, id.as_ref(), room.as_deref(), receipt, offset)
            }
            Wanted::Receipts { room, after, limit } => {
                self.receipts(key, id.as_ref(), &room, after.as_deref(), limit)
            }
            Wanted::Conversations { after, limit } => {
                self.conversations(key, id.as_ref(), after.as_deref(), limit)
            }
            Wanted::Commands => {
                let data = Some(hub.commands.manifest().clone());
                self.reply(key.slot, &Event::Reply { request: id.clone(), name: "commands".into(), data });
                Ok(Flow::Continue)
            }
            Wanted::Custom { name, data } => self.call_handler(key, id.as_ref(), &name, data),
            _ => Err(Refusal::new(ErrorCode::UnknownType, "this hub does not know the request")),
        };
        match done {
            Ok(flow) => flow,
            Err(refusal) => {
                self.refuse(key.slot, refusal.answering(id));
                Flow::Continue
            }
        }
    }

    fn call_handler(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        name: &str,
        data: Option<&RawValue>,
    ) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        let Some(handler) = hub.dispatcher.get(name) else {
            let known: String = name.chars().take(64).collect();
            return Err(Refusal::new(ErrorCode::UnknownType, eco_format!("no handler for type \"{known}\"")));
        };
        Ok(self.call(key, id, |context| handler.handle(context, data.map(ToOwned::to_owned))))
    }

    /// Runs something of the application's for a request, whose answer goes to the client.
    pub(super) fn call(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        begin: impl FnOnce(Context) -> Handling,
    ) -> Flow {
        let hub = Arc::clone(&self.hub);
        let index = self.index;
        let connection = &mut self.connections[key.slot as usize];
        let client = Arc::clone(&connection.client);
        let hub_of_tenant = Hub { inner: Arc::clone(&hub), tenant: Arc::clone(&client.tenant) };
        let mut handling = begin(Context { client, hub: hub_of_tenant, request: id.cloned() });
        let waker = connection.waker(&hub, index, key.slot as usize);
        match handling.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(outcome) => {
                self.respond(key.slot, id.cloned(), outcome);
                Flow::Continue
            }
            Poll::Pending => {
                self.wait_for(key, Waiting::Handler(handling), id.cloned());
                Flow::Stalled
            }
        }
    }

    /// Stops reading a connection until something is done for it.
    pub(super) fn wait_for(&mut self, key: Key, waiting: Waiting, request: Option<RequestId>) {
        let now = self.now();
        let connection = &mut self.connections[key.slot as usize];
        let stall =
            connection.stall.get_or_insert_with(|| Box::new(Stall { readable: true, ..Stall::default() }));
        stall.waiting = Some(waiting);
        stall.request = request;
        stall.since = now;
        self.look_at_handler(key.slot);
    }

    /// Stops reading a connection until a look at a store is over, whose answer it gets.
    pub(super) fn look(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        look: impl Future<Output = Result<Event, Refusal>> + Send + 'static,
    ) -> Flow {
        self.wait_for(key, Waiting::Look(Box::pin(look)), id.cloned());
        // Nothing has polled it yet, so nothing would wake it.
        self.poll_soon(key);
        Flow::Stalled
    }

    /// Polls what a connection waits for within this turn.
    pub(super) fn poll_soon(&mut self, key: Key) {
        let _ = self.mailbox().inbox.push(Command::Wake(key), 0);
    }

    /// Passes a handler's answer on.
    pub(super) fn respond(&mut self, slot: u32, request: Option<RequestId>, outcome: Outcome) {
        match outcome {
            Ok(Some(reply)) => {
                self.reply(slot, &Event::Reply { request, name: reply.name, data: reply.data })
            }
            Ok(None) => {}
            Err(refusal) => self.refuse(slot, refusal.answering(request)),
        }
    }

    pub(super) fn refuse(&mut self, slot: u32, refusal: Refusal) {
        count(&self.counters().requests_refused, 1);
        self.measures().refused(refusal.code);
        self.show_refusal(slot, &refusal);
        self.reply(slot, &Event::Refused(refusal));
    }

    /// Adds an event for one client to the replies, in its dialect.
    pub(super) fn reply(&mut self, slot: u32, event: &Event) {
        let dialect = usize::from(self.connections[slot as usize].dialect);
        self.payload.clear();
        if let Some(kind) = self.hub.dialects[dialect].encode(event, &mut self.payload) {
            encode_frame(opcode(kind), &self.payload, &mut self.replies);
        }
    }

    pub(super) fn room_name(&self, text: &str) -> Result<RoomName, Refusal> {
        self.hub
            .room_name(text)
            .map_err(|invalid| Refusal::new(ErrorCode::InvalidRoom, eco_format!("{invalid}")))
    }
}

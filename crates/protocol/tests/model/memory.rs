//! What the model remembers: history, receipts, who is there, conversations, changes of earlier messages.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{
    Amendment, Body, Command, Conversation, Conversations, Cursor, Details, Device, ErrorCode, Event,
    History, Kind, Message, PageFrom, Position, Presence, Present, Reactions, Receipt, ReceiptOf, Receipts,
    Refusal, RequestId, RoomName, StartFrom, Typing, Unread, UserId,
};

use super::{Draft, EPOCH, ModelHub, ModelRoom, NOW, owned, room_name};

/// How far a user has come.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursors {
    delivered: u64,
    seen: u64,
}

impl ModelRoom {
    pub(super) fn unread(&self, user: &UserId) -> Unread {
        let Cursors { delivered, seen } = self.cursors.get(user).copied().unwrap_or_default();
        let others = |message: &&Message| message.from.as_ref().is_some_and(|from| from.user != *user);
        let said = self.log[seen as usize..].iter().filter(|message| message.kind.is_said());
        Unread { count: said.filter(others).count() as u64, seen, delivered }
    }
}

impl ModelHub {
    pub(super) fn remember(
        &mut self,
        name: &str,
        request: Option<RequestId>,
        command: Command<'_>,
    ) -> Result<(), Refusal> {
        match command {
            Command::History { room, page, limit } => {
                let history = self.history(request, room_name(&room)?, page, limit);
                self.tell(name, &Event::History(Box::new(history)));
            }
            Command::Presence { room, after, limit } => {
                let presence = self.presence(request, room_name(&room)?, after.as_deref(), limit);
                self.tell(name, &Event::Presence(Box::new(presence)));
            }
            Command::Typing { room, active } => {
                let room = self.room_of(name, room.as_deref())?;
                self.typing(name, room, active);
            }
            Command::Receipt { room, receipt, offset } => {
                let room = self.room_of(name, room.as_deref())?;
                self.confirm(name, room, receipt, offset);
            }
            Command::Receipts { room, limit, .. } => {
                let receipts = self.receipts(request, room_name(&room)?, limit);
                self.tell(name, &Event::Receipts(Box::new(receipts)));
            }
            Command::Direct { to, kind, body, key } => {
                let mut draft = Draft::new(kind, owned(&body), key.as_deref());
                draft.details.to = Some(UserId::new(to.as_ref()));
                let mut ends = [self.clients[name].publisher.user.to_string(), to.into_owned()];
                ends.sort();
                let room = room_name(&format!("@{}", ends.join("~")))?;
                self.publish(name, request, &room, draft);
                self.bring_in(&ends, &room);
            }
            Command::Conversations { .. } => {
                let page = self.conversations(name);
                let conversations = Conversations { request, page, next: None };
                self.tell(name, &Event::Conversations(Box::new(conversations)));
            }
            Command::Amend { room, target, amendment, key } => {
                let room = self.room_of(name, room.as_deref())?;
                let draft = self.amend(name, &room, target, &amendment, key.as_deref())?;
                self.publish(name, request, &room, draft);
            }
            Command::Commands => {
                let manifest = br#"[{"name":"me","usage":"/me TEXT","help":"says what you do"}]"#;
                let (reply, data) = ("commands".into(), Some(Bytes::from_static(manifest)));
                self.tell(name, &Event::Reply { request, name: reply, data });
            }
            other => panic!("the model does not know {other:?}"),
        }
        Ok(())
    }

    /// Every device of both ends that is not in the conversation is put there, before its newest message.
    fn bring_in(&mut self, ends: &[String; 2], room: &RoomName) {
        let offset = self.rooms[room].log.len() as u64 - 1;
        let missing: Vec<String> = self
            .clients
            .iter()
            .filter(|(name, client)| {
                let user = client.publisher.user.as_str();
                ends.iter().any(|end| end == user) && !self.rooms[room].members.contains(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in missing {
            self.subscribe(&name, None, room.clone(), StartFrom::After(Position { epoch: EPOCH, offset }));
        }
    }

    fn history(
        &self,
        request: Option<RequestId>,
        room: RoomName,
        page: PageFrom,
        limit: Option<u32>,
    ) -> History {
        let log = &self.rooms[&room].log;
        let limit = limit.unwrap_or(50) as usize;
        let (from, to) = match page {
            PageFrom::Newest => (log.len().saturating_sub(limit), log.len()),
            PageFrom::Before(offset) => ((offset as usize - 1).saturating_sub(limit), offset as usize - 1),
            PageFrom::After(offset) => (offset as usize, log.len().min(offset as usize + limit)),
        };
        let more = if matches!(page, PageFrom::After(_)) { to < log.len() } else { from > 0 };
        let (head, messages) = (log.len() as u64, log[from..to].to_vec());
        History { request, room, epoch: EPOCH, first: 1, head, messages, more }
    }

    fn presence(
        &self,
        request: Option<RequestId>,
        room: RoomName,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Presence {
        let mut users: BTreeMap<&UserId, Present> = BTreeMap::new();
        let members = &self.rooms[&room].members;
        for client in members.iter().map(|member| &self.clients[member]) {
            let from = &client.publisher;
            let present = users.entry(&from.user).or_insert_with(|| Present {
                user: from.user.clone(),
                name: from.name.clone(),
                since: NOW,
                devices: Vec::new(),
                info: None,
                online: true,
            });
            let device = client.device.as_str().into();
            present.devices.push(Device { client: from.client, device, node: "".into(), since: NOW });
        }
        let (count, members, limit) = (users.len(), members.len(), limit.unwrap_or(100) as usize);
        let rest = users.into_values().filter(|user| after.is_none_or(|after| user.user.as_str() > after));
        let rest: Vec<Present> = rest.collect();
        let page: Vec<Present> = rest.iter().take(limit).cloned().collect();
        let next = page.last().filter(|_| page.len() < rest.len()).map(|last| last.user.clone());
        Presence { request, room, users: count, members, page, next }
    }

    fn typing(&mut self, name: &str, room: RoomName, active: bool) {
        let members = self.rooms[&room].members.clone();
        let from = self.clients[name].publisher.clone();
        let typing = Event::Typing(Typing { room, from, active, expires: Duration::from_secs(6) });
        for member in &members {
            self.tell(member, &typing);
        }
    }

    fn confirm(&mut self, name: &str, room: RoomName, receipt: Receipt, offset: u64) {
        let user = self.clients[name].publisher.user.clone();
        let entry = self.rooms.get_mut(&room).unwrap();
        let cursors = entry.cursors.entry(user.clone()).or_default();
        let cursor = match receipt {
            Receipt::Delivered => &mut cursors.delivered,
            Receipt::Seen => &mut cursors.seen,
        };
        if offset <= *cursor {
            return;
        }
        *cursor = offset;
        cursors.delivered = cursors.delivered.max(offset);
        let members = entry.members.clone();
        let position = Position { epoch: EPOCH, offset };
        let told = Event::Receipt(ReceiptOf { room, user, receipt, position });
        members.iter().for_each(|member| self.tell(member, &told));
    }

    fn receipts(&self, request: Option<RequestId>, room: RoomName, limit: Option<u32>) -> Receipts {
        let cursor = |(user, cursors): (&UserId, &Cursors)| Cursor {
            user: user.clone(),
            delivered: cursors.delivered,
            seen: cursors.seen,
        };
        let page = self.rooms[&room].cursors.iter().map(cursor);
        let page = page.take(limit.unwrap_or(100) as usize).collect();
        Receipts { request, room, epoch: EPOCH, page, next: None }
    }

    fn conversations(&self, name: &str) -> Vec<Conversation> {
        let user = &self.clients[name].publisher.user;
        let mine = self.rooms.iter().filter_map(|(room, entry)| {
            let ends = room.as_str().strip_prefix('@')?.split_once('~')?;
            let with = match ends {
                (with, me) | (me, with) if me == user.as_str() => UserId::new(with),
                _ => return None,
            };
            let head = entry.log.last()?.position?;
            Some(Conversation { room: room.clone(), with, head, ts: NOW, unread: entry.unread(user) })
        });
        mine.collect()
    }

    /// What came while the user was away.
    pub(super) fn tell_of_unread(&mut self, name: &str) {
        let mut page = self.conversations(name);
        page.retain(|conversation| conversation.unread.count > 0);
        if !page.is_empty() {
            let conversations = Conversations { request: None, page, next: None };
            self.tell(name, &Event::Conversations(Box::new(conversations)));
        }
    }

    /// Changes a message; the change itself is a message, too.
    fn amend<'k>(
        &mut self,
        name: &str,
        room: &RoomName,
        target: u64,
        amendment: &Amendment<'_>,
        key: Option<&'k str>,
    ) -> Result<Draft<'k>, Refusal> {
        let user = self.clients[name].publisher.user.clone();
        let log = &mut self.rooms.get_mut(room).unwrap().log;
        let message = log
            .get_mut(target as usize - 1)
            .ok_or_else(|| Refusal::new(ErrorCode::MessageNotFound, "there is no such message"))?;
        let is_own = message.from.as_ref().is_some_and(|from| from.user == user);
        if !is_own && !matches!(amendment, Amendment::React { .. }) {
            return Err(Refusal::new(ErrorCode::Forbidden, "it is not yours"));
        }
        let details = message.details.get_or_insert_default();
        let mut draft = match amendment {
            Amendment::Edit(body) => {
                message.body = owned(body);
                details.edited = Some(NOW);
                Draft::new(Kind::Edit, owned(body), key)
            }
            Amendment::Delete => {
                message.body = Body::Empty;
                details.deleted = Some(NOW);
                Draft::new(Kind::Delete, Body::Empty, key)
            }
            Amendment::React { reaction, withdraw } => {
                react(&mut details.reactions, reaction, user, *withdraw);
                Draft::new(Kind::Reaction, Body::Text(reaction.as_ref().into()), key)
            }
        };
        let withdrawn = matches!(amendment, Amendment::React { withdraw: true, .. });
        draft.details = Details { target: Some(target), withdrawn, ..Details::default() };
        Ok(draft)
    }
}

fn react(all: &mut Vec<Reactions>, reaction: &str, user: UserId, withdraw: bool) {
    let known = all.iter().position(|known| known.reaction == reaction);
    let index = known.unwrap_or_else(|| {
        all.push(Reactions { reaction: reaction.into(), users: Vec::new() });
        all.len() - 1
    });
    all[index].users.retain(|other| *other != user);
    if !withdraw {
        all[index].users.push(user);
    }
    all.retain(|known| !known.users.is_empty());
}

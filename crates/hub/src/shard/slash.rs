//! Slash commands, done where they are typed.
//!
//! A chat text that begins with `/` never reaches a room as it is. Each command is one small function here; most of them
//! are another way to ask for what requests ask for, and are answered with the same events. What only the sender is to
//! know comes as a `command_result`. The table of commands is in [`crate::commands`].

use std::borrow::Cow;
use std::sync::Arc;

use ecow::{EcoString, eco_format};
use outspoke_protocol::{
    Body, BodyRef, ErrorCode, Event, Kind, Presence, Present, Refusal, RequestId, RoomName, StartFrom,
};
use serde_json::json;

use super::publishes::check_size;
use super::receive::Flow;
use super::{Key, Shard};
use crate::auth::printable_name;
use crate::commands::parse::{Typed, WrongArguments, arguments, nearest, typed};
use crate::commands::{Builtin, CommandSpec, Commands, Doer, Invocation};
use crate::config::Rename;
use crate::dispatcher::Reply;
use crate::policy::Action;
use crate::room::{Draft, Room};

/// How many users `/who` names.
const WHO_MAX: usize = 50;
/// What `/shrug` says.
const SHRUG: &str = r"¯\_(ツ)_/¯";

/// Who typed something, where, and how it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) key: Key,
    pub(super) id: Option<&'a RequestId>,
    /// The room it was typed into, if the client said one.
    pub(super) room: Option<&'a str>,
    /// The client's own name for the message.
    pub(super) name: Option<&'a str>,
}

impl Shard {
    /// Does what a chat text says that begins with a slash. `merge` is set when more for this client follows within
    /// the turn.
    pub(super) fn slash(&mut self, line: Line<'_>, text: &str, merge: &mut bool) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        let (command, rest) = match typed(text) {
            Typed::Command { name, rest } => (name, rest),
            Typed::Text(text) => {
                *merge = true;
                return self.say(line, Kind::Chat, text);
            }
        };
        let entry = hub.commands.get(command).ok_or_else(|| unknown(&hub.commands, command))?;
        let values = arguments(&entry.spec, rest).map_err(|wrong| misused(&entry.spec, &wrong))?;
        match &entry.doer {
            Doer::Hub(builtin) => {
                let mut values = values.into_iter();
                let (first, second) = (values.next().flatten(), values.next().flatten());
                *merge = matches!(
                    builtin,
                    Builtin::Me | Builtin::Msg | Builtin::Shrug | Builtin::Topic | Builtin::Nick
                );
                self.do_builtin(line, *builtin, first, second)
            }
            Doer::Application(handler) => {
                let room = self.room_to_publish(line.key, line.room).ok();
                let room = room.and_then(|room| room.name.clone());
                let invocation = Invocation::new(room, &entry.spec, values);
                Ok(self.call(line.key, line.id, |context| handler.handle(context, invocation)))
            }
        }
    }

    /// An argument that is not optional is there.
    fn do_builtin(
        &mut self,
        line: Line<'_>,
        builtin: Builtin,
        first: Option<Cow<'_, str>>,
        second: Option<Cow<'_, str>>,
    ) -> Result<Flow, Refusal> {
        let given = first.as_deref().unwrap_or_default();
        match builtin {
            Builtin::Help => self.help(line, first.as_deref()),
            Builtin::Join => self.subscribe(line.key, line.id, given, StartFrom::Now, None),
            Builtin::Kick => self.kick_by_hand(line, given, second.as_deref()),
            Builtin::Leave => self.leave_by_hand(line, first.as_deref()),
            Builtin::Me => self.say(line, Kind::Action, given),
            Builtin::Msg => {
                let body = BodyRef::Text(second.unwrap_or_default());
                self.direct(line.key, line.id, given, Kind::Chat, body, line.name)
            }
            Builtin::Nick => self.nick(line, given),
            Builtin::Shrug if given.is_empty() => self.say(line, Kind::Chat, SHRUG),
            Builtin::Shrug => self.say(line, Kind::Chat, &format!("{given} {SHRUG}")),
            Builtin::Topic => self.topic(line, first.as_deref()),
            Builtin::Who => self.who(line, first.as_deref()),
        }
    }

    fn say(&mut self, line: Line<'_>, kind: Kind, text: &str) -> Result<Flow, Refusal> {
        let body = BodyRef::Text(Cow::Borrowed(text));
        self.publish(line.key, line.id, line.room.map(Cow::Borrowed), kind, body, line.name)
    }

    /// Tells the sender alone.
    fn result(&mut self, line: Line<'_>, reply: Reply) -> Flow {
        self.reply(
            line.key.slot,
            &Event::Reply { request: line.id.cloned(), name: reply.name, data: reply.data },
        );
        Flow::Continue
    }

    fn help(&mut self, line: Line<'_>, command: Option<&str>) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        let reply = match command {
            Some(command) => {
                let name = command.strip_prefix('/').unwrap_or(command);
                let entry = hub.commands.get(name).ok_or_else(|| unknown(&hub.commands, name))?;
                Reply::text_with(eco_format!("{}", described(&entry.spec)), &json!([entry.spec]))
            }
            None => {
                let lines: Vec<String> = hub.commands.specs().map(described).collect();
                let specs: Vec<&CommandSpec> = hub.commands.specs().collect();
                Reply::text_with(lines.join("\n"), &json!(specs))
            }
        };
        Ok(self.result(line, reply))
    }

    fn leave_by_hand(&mut self, line: Line<'_>, room: Option<&str>) -> Result<Flow, Refusal> {
        let room = self.member_of(line, room)?;
        let name = room.name.clone();
        self.unsubscribe(line.key, line.id, name.as_ref().map_or("", RoomName::as_str))
    }

    fn kick_by_hand(&mut self, line: Line<'_>, user: &str, seconds: Option<&str>) -> Result<Flow, Refusal> {
        let seconds = seconds.map(str::parse).transpose().map_err(|_| {
            Refusal::new(ErrorCode::BadRequest, "usage: /kick USER [SECONDS], a whole number of seconds")
        })?;
        self.kick(line.key, line.id, line.room, user, seconds)
    }

    /// The room of that name, or the one the line was typed into: one the client is in.
    fn member_of(&self, line: Line<'_>, room: Option<&str>) -> Result<Arc<Room>, Refusal> {
        self.room_to_publish(line.key, room.or(line.room))
    }

    fn who(&mut self, line: Line<'_>, room: Option<&str>) -> Result<Flow, Refusal> {
        let room = self.member_of(line, room)?;
        self.may(line.key, Action::Presence, &room)?;
        let Some(name) = room.name.clone().filter(|_| room.class().presence) else {
            let (name, members) = (room.name.as_ref().map_or("", RoomName::as_str), room.members());
            let text = match members {
                1 => eco_format!("nobody but you is in {name}"),
                members => eco_format!("{members} are in {name}"),
            };
            let reply = Reply::text_with(text, &json!({ "room": name, "members": members }));
            return Ok(self.result(line, reply));
        };
        let Presence { users, members, page, .. } =
            room.presence(&self.hub, name.clone(), None, WHO_MAX, self.hub.config().replay_bytes() / 2);
        let shown: Vec<_> =
            page.iter().map(|present| json!({ "userId": present.user, "username": present.name })).collect();
        let result = json!({ "room": name, "members": members, "userCount": users, "users": shown });
        Ok(self.result(line, Reply::text_with(who_is_there(&name, users, &page), &result)))
    }

    fn topic(&mut self, line: Line<'_>, text: Option<&str>) -> Result<Flow, Refusal> {
        let room = self.member_of(line, None)?;
        let Some(text) = text else {
            let (name, topic) = (room.name.as_ref().map_or("", RoomName::as_str), room.topic());
            let text = match topic.as_str() {
                "" => eco_format!("{name} has no topic; /topic TEXT sets one"),
                topic => eco_format!("the topic of {name}: {topic}"),
            };
            let reply = Reply::text_with(text, &json!({ "room": name, "topic": topic.as_str() }));
            return Ok(self.result(line, reply));
        };
        self.check_serving()?;
        // The only way to type nothing.
        let text = if text == "\"\"" { "" } else { text };
        if text.chars().any(char::is_control) {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "a topic is one line without control characters",
            ));
        }
        let body = BodyRef::Text(Cow::Borrowed(text));
        self.may(line.key, Action::Publish, &room)?;
        check_size(&room, &body)?;
        let client = Arc::clone(&self.connections[line.key.slot as usize].client);
        if text.is_empty() {
            self.check_named(&client.name())?;
        } else {
            self.check_chat(&client.name(), &body)?;
        }
        // Without the client's own name for it: a topic that was set before may well be set again.
        let draft = Draft {
            kind: Kind::Topic,
            from: Some(client.publisher()),
            body: Body::Text(EcoString::from(text)),
            details: None,
            key: None,
        };
        self.place(line.key, line.id, &room, draft)
    }

    fn nick(&mut self, line: Line<'_>, name: &str) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        let allowed = match hub.config().rename {
            Rename::Never => false,
            Rename::Always => true,
            Rename::InOpenMode => hub.authenticator.is_open(),
        };
        if !allowed {
            let detail = "names come with the credential here and cannot be changed";
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        let name = printable_name(name, hub.config().username_chars_max)
            .map_err(|error| Refusal::new(error.code, error.detail))?;
        self.rename(line.key, &name);
        let reply =
            Reply::text_with(eco_format!("you are {name} now"), &json!({ "username": name.as_str() }));
        Ok(self.result(line, reply))
    }

    /// Gives a client another name, and tells its rooms.
    fn rename(&mut self, key: Key, name: &EcoString) {
        let connection = &self.connections[key.slot as usize];
        let client = Arc::clone(&connection.client);
        let former = client.name();
        if former == *name {
            return;
        }
        client.rename(name.clone());
        for membership in &connection.memberships {
            if former.is_empty() {
                membership.room.named(&self.hub, &client);
            }
            membership.room.renamed(&self.hub, client.publisher(), &former);
            if let Some(cluster) = &self.hub.cluster {
                cluster.tell_renamed(&membership.room, client.id().as_u128(), name, &former);
            }
        }
    }
}

/// The answer to `/who` for people.
fn who_is_there(room: &RoomName, users: usize, page: &[Present]) -> EcoString {
    let mut text = eco_format!("in {room}: ");
    for (index, present) in page.iter().enumerate() {
        let name = if present.name.is_empty() { present.user.as_str() } else { present.name.as_str() };
        text.push_str(if index > 0 { ", " } else { "" });
        text.push_str(name);
    }
    match (page.len(), users.saturating_sub(page.len())) {
        (0, 0) => text.push_str("nobody with a name"),
        (0, more) => text.push_str(&eco_format!("{more}")),
        (_, 0) => {}
        (_, more) => text.push_str(&eco_format!(" and {more} more")),
    }
    text
}

/// A line of `/help`.
fn described(spec: &CommandSpec) -> String {
    format!("{spec} {}", spec.summary)
}

fn unknown(commands: &Commands, name: &str) -> Refusal {
    let mut detail = match name {
        "" => EcoString::from("a slash alone is no command"),
        name => {
            let shown: String = name.chars().take(crate::commands::NAME_LEN_MAX).collect();
            eco_format!("there is no command /{shown}")
        }
    };
    if let Some(near) = nearest(name, commands.specs().map(|spec| spec.name.as_str())) {
        detail.push_str(&eco_format!("; did you mean /{near}?"));
    }
    if commands.get("help").is_some() {
        detail.push_str("; /help lists those there are");
    }
    detail.push_str("; // says a text that begins with a slash");
    Refusal::new(ErrorCode::UnknownCommand, detail)
}

fn misused(spec: &CommandSpec, wrong: &WrongArguments) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, eco_format!("usage: {spec} ({wrong})"))
}

//! Messages of the native dialect as lines for people.
//!
//! Shared by `history` and `tail`. Invariant: what others wrote cannot drive the terminal, nor pass for a line of ours.

use std::fmt::Write as _;

use serde_json::Value;

use super::ansi::{Colors, sanitize};
use super::output::{Screen, clean, clean_lines, count};

/// How messages are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) screen: Screen,
    /// Every line begins with its room.
    pub(super) rooms: bool,
    /// What to do with the colours of programs.
    pub(super) colors: Colors,
}

impl Form {
    /// One message, with its line's end.
    pub(super) fn line(self, message: &Value) -> String {
        let mut line = self.label(message);
        match output_of(message) {
            // The log of a program is its lines, and nothing else.
            Some(output) => line.push_str(&sanitize(output, self.colors)),
            None => {
                let time = self.screen.time(message["timestamp"].as_str().unwrap_or_default());
                let _ = write!(line, "{} {}", self.screen.dim(&time), self.said(message));
            }
        }
        line.push('\n');
        line
    }

    /// What a line begins with, where there are several rooms.
    pub(super) fn label(self, message: &Value) -> String {
        match message["room"].as_str().filter(|_| self.rooms) {
            Some(room) => format!("{} ", self.screen.dim(&format!("[{}]", clean(room)))),
            None => String::new(),
        }
    }

    fn said(self, message: &Value) -> String {
        let text = |field: &str| clean_lines(message[field].as_str().unwrap_or_default());
        let who = self.screen.bold(&name(message)).into_owned();
        let target = message["target"].as_u64().unwrap_or_default();
        let sort = message["type"].as_str().unwrap_or_default();
        if message["deleted"].is_string() {
            return format!("{who}: {}", self.screen.dim("(deleted)"));
        }
        let mut said = match sort {
            "chat" => format!("{who}: {}", text("content")),
            "action" => format!("* {who} {}", text("content")),
            "system" => format!("-- {}", text("content")),
            "join" => format!("-> {who} came"),
            "leave" => format!("<- {who} went"),
            "topic" => format!("-- {who} set the topic: {}", text("topic")),
            "rename" => format!("-- {} is now {who}", text("previousUsername")),
            "edit" => format!("{who} changed #{target}: {}", body(message)),
            "delete" => format!("{who} deleted #{target}"),
            "reaction" if message["removed"] == true => {
                format!("{who} took back {} on #{target}", text("reaction"))
            }
            "reaction" => format!("{who} reacted to #{target} with {}", text("reaction")),
            "process_status" => format!("-- {}", status(&message["data"])),
            "file" => format!("{who} shared {}", files(&message["data"])),
            "message" => format!("{who}: {}", body(message)),
            own => format!("{who} {}: {}", self.screen.dim(&clean(own)), body(message)),
        };
        if message["edited"].is_string() {
            let _ = write!(said, " {}", self.screen.dim("(edited)"));
        }
        for reaction in message["reactions"].as_array().into_iter().flatten() {
            let users = reaction["users"].as_array().map_or(0, Vec::len);
            let _ = write!(said, " {} {users}", clean(reaction["reaction"].as_str().unwrap_or_default()));
        }
        said
    }
}

/// What a message says, alone: for programs that read lines.
pub(super) fn raw(message: &Value) -> String {
    if let Some(output) = output_of(message) {
        return format!("{output}\n");
    }
    let fields = ["content", "base64", "topic", "reaction"];
    let text = fields.iter().find_map(|field| message[*field].as_str());
    match (text, &message["data"]) {
        (Some(text), _) => format!("{text}\n"),
        (None, Value::Null) if message.get("data").is_none() => String::new(),
        (None, Value::String(text)) => format!("{text}\n"),
        (None, data) => format!("{data}\n"),
    }
}

/// The line of a program's output, if the message has one.
fn output_of(message: &Value) -> Option<&str> {
    if message["type"] == "process_output" { message["data"]["line"].as_str() } else { None }
}

/// Who said it: a user by name and, where that is not the same, by id; or the server.
fn name(message: &Value) -> String {
    let text = |field: &str| message[field].as_str().filter(|text| !text.is_empty());
    match (text("username"), text("userId")) {
        (Some(name), Some(id)) if name != id => format!("{} ({})", clean(name), clean(id)),
        (Some(name), _) | (None, Some(name)) => clean(name).into_owned(),
        (None, None) => "server".to_owned(),
    }
}

fn body(message: &Value) -> String {
    if let Some(content) = message["content"].as_str() {
        return clean_lines(content);
    }
    if let Some(base64) = message["base64"].as_str() {
        let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
        return format!("({})", count((base64.len() / 4 * 3).saturating_sub(padding) as u64, "byte"));
    }
    clean(&message["data"].to_string()).into_owned()
}

/// How a process is.
pub(super) fn status(data: &Value) -> String {
    let word = |field: &str| clean(data[field].as_str().unwrap_or("?")).into_owned();
    let process = word("processId");
    match data["status"].as_str() {
        Some("exited") => {
            let code = data["exitCode"].as_i64().map_or("?".to_owned(), |code| code.to_string());
            format!("process {process} exited with {code}")
        }
        Some("signaled") => format!("process {process} was ended by {}", word("signal")),
        Some("running") => format!("process {process} runs"),
        _ => format!("process {process}: {}", word("status")),
    }
}

fn files(data: &Value) -> String {
    let one = |file: &Value| {
        let text = |field: &str| clean(file[field].as_str().unwrap_or("?")).into_owned();
        let size = file["size"].as_u64().unwrap_or(0);
        format!("{} ({}, {})", text("name"), text("type"), count(size, "byte"))
    };
    let names: Vec<String> = data["files"].as_array().into_iter().flatten().map(one).collect();
    match data["content"].as_str().filter(|text| !text.is_empty()) {
        Some(caption) => format!("{}: {}", names.join(", "), clean_lines(caption)),
        None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FORM: Form = Form { screen: Screen::PLAIN, rooms: false, colors: Colors::Strip };

    fn line(mut message: Value) -> String {
        message["timestamp"] = "T".into();
        FORM.line(&message)
    }

    #[test]
    fn messages_of_every_sort_have_a_line() {
        let said = |sort: &str, more: Value| {
            let mut message = json!({ "type": sort, "userId": "ann", "username": "Ann", "target": 3 });
            for (field, value) in more.as_object().into_iter().flatten() {
                message[field] = value.clone();
            }
            line(message)
        };
        assert_eq!(said("chat", json!({ "content": "hi" })), "T Ann (ann): hi\n");
        assert_eq!(said("action", json!({ "content": "waves" })), "T * Ann (ann) waves\n");
        assert_eq!(said("message", json!({ "data": { "a": 1 } })), "T Ann (ann): {\"a\":1}\n");
        assert_eq!(said("vote", json!({ "data": "yes" })), "T Ann (ann) vote: \"yes\"\n");
        assert_eq!(said("message", json!({ "base64": "aGk=" })), "T Ann (ann): (2 bytes)\n");
        assert_eq!(said("reaction", json!({ "reaction": "+1" })), "T Ann (ann) reacted to #3 with +1\n");
        assert_eq!(said("chat", json!({ "content": "", "deleted": "T" })), "T Ann (ann): (deleted)\n");
        let file = json!({ "data": { "content": "see", "files": [{ "name": "a.png", "type": "image/png", "size": 1 }] } });
        assert_eq!(said("file", file), "T Ann (ann) shared a.png (image/png, 1 byte): see\n");
        assert_eq!(line(json!({ "type": "system", "content": "up" })), "T -- up\n");
        assert_eq!(
            line(json!({ "type": "chat", "content": "a\n12:00 root: b\x1b[2J" })),
            "T server: a\n    12:00 root: b\\u{1b}[2J\n"
        );
    }

    #[test]
    fn processes_are_plain_logs_with_their_end() {
        let output = json!({ "type": "process_output", "room": "b", "data": { "processId": "p", "stream": "stdout", "line": "\x1b[1mok\x1b[0m" } });
        assert_eq!(line(output.clone()), "ok\n");
        assert_eq!(Form { rooms: true, ..FORM }.line(&output), "[b] ok\n");
        assert_eq!(raw(&output), "\x1b[1mok\x1b[0m\n");
        let ended = |data: Value| line(json!({ "type": "process_status", "data": data }));
        assert_eq!(
            ended(json!({ "processId": "p", "status": "exited", "exitCode": 3 })),
            "T -- process p exited with 3\n"
        );
        assert_eq!(
            ended(json!({ "processId": "p", "status": "signaled", "signal": "SIGTERM" })),
            "T -- process p was ended by SIGTERM\n"
        );
    }

    #[test]
    fn raw_is_what_was_said_alone() {
        assert_eq!(raw(&json!({ "type": "chat", "content": "hi" })), "hi\n");
        assert_eq!(raw(&json!({ "type": "message", "data": { "a": 1 } })), "{\"a\":1}\n");
        assert_eq!(raw(&json!({ "type": "message", "data": null })), "null\n");
        assert_eq!(raw(&json!({ "type": "message", "data": "text" })), "text\n");
        assert_eq!(raw(&json!({ "type": "join" })), "");
    }
}

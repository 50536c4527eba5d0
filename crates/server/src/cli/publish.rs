//! `outspoke pub`: say something in a room.
//!
//! One message from the arguments, one from standard input, or one for each of its lines, as they come. Lines go in batches
//! of what has come meanwhile; every message has an idempotency key, so that sending it again is harmless. Messages are
//! published in the order of their lines, unless the server refuses one of a batch for a moment and takes later ones.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, Read as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiError, read};
use super::output::{clean, count, print, print_json};
use super::reach::ReachArgs;

/// Messages in one request: as many as a user may send in one.
const BATCH_MAX: usize = 100;
/// Bytes of messages in one request, below the default of `api.body_bytes_max`.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Lines that wait to be sent; then reading waits.
const LINES_MAX: usize = 10 * BATCH_MAX;
/// Most that is read of standard input for one message; a server takes far less.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often a request that may succeed later is made, and the pause before the second time; doubled for each further one.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);

/// What to say, and where.
#[derive(Debug, Args)]
pub struct PubArgs {
    /// The room
    room: String,

    /// What to say; "-" reads it from standard input, which is also what happens without it
    #[arg(conflicts_with = "data")]
    text: Option<String>,

    /// A message for each line of standard input, as the lines come
    #[arg(long, conflicts_with_all = ["text", "data", "count"])]
    lines: bool,

    /// Say it so many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,

    /// The message's type: system, action, or a name of your own [default: chat, or message with --data]
    #[arg(long, value_name = "NAME")]
    event: Option<String>,

    /// Any JSON, for programs, instead of a text
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    data: Option<Value>,

    /// Lines are JSON, too: each is one message's data
    #[arg(long, requires = "lines")]
    json_lines: bool,

    /// Name the message, so that saying it again within minutes publishes nothing
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,

    /// Speak in this user's name, which a key may
    #[arg(long, value_name = "ID")]
    user: Option<String>,

    /// The name shown to people
    #[arg(long, value_name = "NAME", requires = "user")]
    username: Option<String>,

    /// Print the server's answers as JSON lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// Why not everything was said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PubError {
    /// Standard input is no text, or too long.
    #[error("standard input is {0}")]
    Input(&'static str),
    /// A line is no JSON.
    #[error("line {line} is no JSON: {why} ({before} published before it)", before = count(*said, "message"))]
    Line {
        /// Which, from 1.
        line: u64,
        /// How many before it were published.
        said: u64,
        /// What is wrong.
        why: serde_json::Error,
    },
    /// A message of several is refused.
    #[error("{which} is refused: {message} ({before} published before it)", before = count(*said, "message"))]
    Refused {
        /// The message, or the line of the input.
        which: String,
        /// How many before it were published.
        said: u64,
        /// The refusal's name.
        name: String,
        /// The server's words.
        message: String,
    },
}

impl PubError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Input(_) => "send text in UTF-8, line by line with --lines if it is long",
            Self::Line { .. } => "leave --json-lines out to publish lines as text",
            Self::Refused { name, .. } => {
                super::explain::cure(name).unwrap_or("`outspoke explain` lists the errors")
            }
        }
    }
}

/// Publishes in order, and counts.
struct Publisher<'a> {
    api: Api,
    args: &'a PubArgs,
    /// What the keys of this run begin with.
    run: String,
    said: u64,
    duplicates: u64,
    /// The lines of the input that the messages are which are not published yet, from 1.
    lines: VecDeque<u64>,
}

pub(super) fn run(args: &PubArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let run = outspoke_auth::new_key().chars().skip(outspoke_auth::KEY_PREFIX.len()).take(22).collect();
    let mut publisher = Publisher { api, args, run, said: 0, duplicates: 0, lines: VecDeque::new() };
    match (&args.data, args.lines) {
        (_, true) => publisher.lines()?,
        (Some(data), false) => publisher.repeat(&Said::Data(data.clone()))?,
        (None, false) => {
            let text = match args.text.as_deref() {
                None | Some("-") => standard_input()?,
                Some(text) => text.to_owned(),
            };
            publisher.repeat(&Said::Text(text))?;
        }
    }
    if args.json {
        return Ok(());
    }
    let Publisher { said, duplicates, .. } = publisher;
    let known = match duplicates {
        0 => String::new(),
        1 => ", 1 was there before under this key".to_owned(),
        many => format!(", {many} were there before under these keys"),
    };
    print(&format!("ok: {} published in {:?}{known}\n", count(said - duplicates, "message"), args.room))
}

/// All of standard input but the end of its last line.
fn standard_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(PubError::Input("too long").into());
    }
    let mut text = String::from_utf8(bytes).map_err(|_| PubError::Input("no text in UTF-8"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[derive(Clone, Debug)]
enum Said {
    Text(String),
    Data(Value),
}

impl Publisher<'_> {
    fn repeat(&mut self, said: &Said) -> anyhow::Result<()> {
        let mut left = self.args.count;
        while left > 0 {
            let now = left.min(BATCH_MAX as u64);
            let messages = (0..now).map(|nth| self.message(said.clone(), self.said + nth)).collect();
            self.send(messages)?;
            left -= now;
        }
        Ok(())
    }

    fn lines(&mut self) -> anyhow::Result<()> {
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        // Ends with standard input, or with the process.
        thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let failed = line.is_err();
                if sender.send(line).is_err() || failed {
                    return;
                }
            }
        });
        let mut number = 0;
        while let Ok(first) = lines.recv() {
            let (mut messages, mut bytes, mut wrong) = (Vec::new(), 0, None);
            let mut next = Some(first);
            while let Some(line) = next.take() {
                number += 1;
                bytes += line.as_ref().map_or(0, String::len) + 256;
                let before = self.said + messages.len() as u64;
                match self.line(line, number, before) {
                    Ok(None) => {}
                    Ok(Some(said)) => {
                        messages.push(self.message(said, before));
                        self.lines.push_back(number);
                    }
                    Err(error) => {
                        wrong = Some(error);
                        break;
                    }
                }
                if messages.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
                    next = lines.try_recv().ok();
                }
            }
            // What stands before a line that is wrong is said all the same.
            self.send(messages)?;
            if let Some(error) = wrong {
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a line says, if it says anything. `number` counts lines from 1; `before` is how many messages come before it.
    fn line(&self, line: io::Result<String>, number: u64, before: u64) -> anyhow::Result<Option<Said>> {
        let line = line.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => anyhow::Error::from(PubError::Input("no text in UTF-8")),
            _ => error.into(),
        })?;
        if line.trim().is_empty() {
            return Ok(None);
        }
        if !self.args.json_lines {
            return Ok(Some(Said::Text(line)));
        }
        let data = serde_json::from_str(&line);
        Ok(Some(Said::Data(data.map_err(|why| PubError::Line { line: number, said: before, why })?)))
    }

    /// A message as the API takes it; `number` counts from 0.
    fn message(&self, said: Said, number: u64) -> Value {
        let args = self.args;
        let key = match &args.idempotency_key {
            Some(key) if number == 0 => key.clone(),
            Some(key) => format!("{key}-{number}"),
            None => format!("{}-{number}", self.run),
        };
        let mut message = Map::new();
        let mut put = |field: &str, value: Value| drop(message.insert(field.to_owned(), value));
        put("room", args.room.as_str().into());
        put("idempotencyKey", key.into());
        if let Some(event) = &args.event {
            put("type", event.as_str().into());
        }
        match said {
            Said::Text(text) => put("content", text.into()),
            Said::Data(data) => put("data", data),
        }
        if let Some(id) = &args.user {
            put("user", json!({ "id": id, "name": args.username.as_ref().unwrap_or(id) }));
        }
        Value::Object(message)
    }

    /// Publishes them in their order; at the first that is refused for good it ends.
    fn send(&mut self, mut messages: Vec<Value>) -> anyhow::Result<()> {
        let (mut pause, mut attempts) = (PAUSE, ATTEMPTS);
        // A request in which one message is wrong is refused as a whole: then fewer go together, until that one is alone.
        let mut together = messages.len();
        while !messages.is_empty() {
            together = together.min(messages.len());
            let error = match self.attempt(&mut messages, together) {
                Ok(None) => continue,
                Err(ApiError::Refused { temporary: false, .. }) if together > 1 => {
                    together /= 2;
                    continue;
                }
                Ok(Some(refusal)) if refusal["temporary"] == true && attempts > 1 => None,
                Ok(Some(refusal)) => {
                    let text = |field: &str| clean(refusal[field].as_str().unwrap_or_default()).into_owned();
                    Some(self.refused(text("error"), text("message")))
                }
                Err(error) if error.is_temporary() && attempts > 1 && self.said > 0 => None,
                Err(ApiError::Refused { name, message, .. }) if self.args.lines || self.said > 0 => {
                    Some(self.refused(name, message))
                }
                Err(error) => Some(error.into()),
            };
            if let Some(error) = error {
                return Err(error);
            }
            attempts -= 1;
            thread::sleep(pause);
            pause *= 2;
        }
        Ok(())
    }

    /// One request, with so many of `messages`. Takes what was published away from them; the refusal is that of the first one
    /// left.
    fn attempt(&mut self, messages: &mut Vec<Value>, together: usize) -> Result<Option<Value>, ApiError> {
        if together == 1 {
            let place: Value = self.api.post("/publish", &messages[0])?;
            messages.remove(0);
            self.count(&place);
            return Ok(None);
        }
        let batch = json!({ "messages": &messages[..together] });
        let mut answer: Value = read(&self.api.post_json("/publish/batch", &batch.to_string())?)?;
        let Value::Array(results) = answer["results"].take() else { return Ok(Some(answer)) };
        let published = results.iter().position(|result| result["type"] == "error").unwrap_or(results.len());
        results[..published].iter().for_each(|place| self.count(place));
        messages.drain(..published);
        Ok(results.into_iter().nth(published))
    }

    fn count(&mut self, place: &Value) {
        self.said += 1;
        self.lines.pop_front();
        self.duplicates += u64::from(place["duplicate"] == true);
        if self.args.json {
            // The next print says it if nobody reads any more.
            let _ = print_json([place]);
        }
    }

    fn refused(&self, name: String, message: String) -> anyhow::Error {
        let which = match self.lines.front() {
            Some(line) => format!("line {line}"),
            None => format!("message {}", self.said + 1),
        };
        PubError::Refused { which, said: self.said, name, message }.into()
    }
}

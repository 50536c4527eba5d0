//! `outspoke tail`: prints what is said in rooms, as it is said.
//!
//! Messages come from a connection of its own ([`follow`]) or, where the credential is an API key, which opens none, from
//! the room's history, asked for again and again ([`poll`]). Either way a reconnect loses and doubles nothing that the room
//! keeps, and what cannot be had is said. Here is what is the same for both: which messages are wanted, how they are
//! printed, and when it is enough. A program that `outspoke exec` runs is shown as its plain log.

mod follow;
mod poll;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::ansi::Colors;
use super::healthcheck::timeout;
use super::output::{Screen, say};
use super::reach::{Credential, ReachArgs};
use super::render::{Form, raw};
use crate::exit::Exit;

/// What waits to be printed; then the sources wait.
const HEARD_MAX: usize = 1000;

/// Messages to begin with where it is not said how many.
const LAST: u64 = 10;

/// What to listen to.
#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// The rooms
    #[arg(value_name = "ROOM", required = true)]
    rooms: Vec<String>,

    /// Begin with so many of the newest messages of each room [default: 10]
    #[arg(long, value_name = "N", conflicts_with = "since")]
    last: Option<u64>,

    /// Begin with the messages of this last while: 30s, 10m, 2h, 1d
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    since: Option<Duration>,

    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this time: with 1 if --count was not reached, else with 0
    #[arg(long = "for", value_name = "DURATION", value_parser = timeout)]
    span: Option<Duration>,

    /// Only messages of this type, for example chat or process_output; may be repeated
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,

    /// Only what this process says
    #[arg(long, value_name = "ID")]
    process: Option<String>,

    /// End when a process has ended, with its exit code, or with 1 instead of 0 if messages were missed meanwhile
    #[arg(long)]
    exit_code: bool,

    /// Whether to show the colours of programs
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    /// Print JSON lines
    #[arg(long)]
    json: bool,

    /// Print what was said and nothing else
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    /// Who to be on a server without authentication [default: that of the context, else tail]
    #[arg(long, value_name = "ID")]
    user: Option<String>,

    #[command(flatten)]
    reach: ReachArgs,
}

impl TailArgs {
    /// The rooms, each once: a room has one place in what is printed, however often it is named.
    fn distinct_rooms(&self) -> Vec<String> {
        let mut rooms: Vec<String> = Vec::with_capacity(self.rooms.len());
        for room in &self.rooms {
            if !rooms.contains(room) {
                rooms.push(room.clone());
            }
        }
        rooms
    }
}

/// When to show colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColorChoice {
    /// At a terminal.
    Auto,
    /// Also in a pipe.
    Always,
    /// Not even at a terminal.
    Never,
}

/// What comes from a room.
#[derive(Debug)]
enum Heard {
    /// A message, as the native dialect has it.
    Message {
        message: Value,
        /// It was said before.
        replayed: bool,
    },
    /// All that was said before has come.
    Begun,
    /// Messages that cannot be had.
    Gap { room: String, what: String },
    /// Words about the connection.
    Remark(String),
    /// The end.
    Failed(anyhow::Error),
}

/// How far back to begin.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// So many of the newest, if there are as many.
    Newest(u64),
    /// So many of the newest, as they were asked for.
    Last(u64),
    Since(Timestamp),
}

impl Start {
    /// Whether a message is older than what is wanted.
    fn is_past(self, message: &Value) -> bool {
        let Self::Since(since) = self else { return false };
        let at = message["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        at.is_some_and(|at| at < since)
    }

    fn count(self) -> u64 {
        match self {
            Self::Newest(count) | Self::Last(count) => count,
            Self::Since(_) => u64::MAX,
        }
    }

    /// How many of what was asked for are gone, where so many were `found` down to the oldest that is kept, `first`.
    fn missed(self, found: usize, first: u64) -> u64 {
        match self {
            Self::Last(count) => count.saturating_sub(found as u64).min(first.saturating_sub(1)),
            // Nobody knows from when those are that are gone.
            Self::Newest(_) | Self::Since(_) => 0,
        }
    }
}

pub(super) fn run(args: &TailArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(listen(args));
    // A request that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

async fn listen(args: &TailArgs) -> anyhow::Result<ExitCode> {
    let reach = args.reach.resolve()?;
    let from = match args.since {
        Some(since) => Start::Since(Timestamp::now().saturating_sub(jiff::SignedDuration::try_from(since)?)?),
        None => args.last.map_or(Start::Newest(LAST), Start::Last),
    };
    let (heard, mut news) = mpsc::channel(HEARD_MAX);
    let rooms = args.distinct_rooms();
    let mut printer = Printer::new(args, rooms.len());
    if matches!(reach.credential, Some(Credential::Key(_))) {
        poll::begin(reach, rooms, from, heard).await?;
    } else {
        let user = args.user.clone().or_else(|| reach.user.clone()).unwrap_or_else(|| "tail".to_owned());
        follow::begin(reach, &user, rooms, from, heard).await?;
    }
    let over = async {
        match args.span {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        let first = tokio::select! {
            biased;
            first = news.recv() => first,
            () = &mut over => return Ok(printer.timed_out()),
        };
        // The sources never end without a word.
        let mut next = first;
        while let Some(heard) = next.take() {
            if let ControlFlow::Break(code) = printer.take(heard)? {
                printer.flush()?;
                return Ok(code);
            }
            next = news.try_recv().ok();
        }
        printer.flush()?;
    }
}

/// Prints what is wanted.
#[derive(Debug)]
struct Printer<'a> {
    args: &'a TailArgs,
    form: Form,
    left: Option<u64>,
    out: Vec<u8>,
    /// The room and stream of a line that has not ended.
    open: Option<(String, String)>,
    /// Rooms whose past is not complete yet.
    beginning: usize,
    /// How the newest process of the past has ended, if it has.
    ended_before: Option<u8>,
    /// Messages were said and could not be had.
    missed: bool,
}

impl<'a> Printer<'a> {
    fn new(args: &'a TailArgs, rooms: usize) -> Self {
        let screen = Screen::detect();
        let colors = match args.color {
            ColorChoice::Always => Colors::Keep,
            ColorChoice::Auto if screen.color => Colors::Keep,
            ColorChoice::Auto | ColorChoice::Never => Colors::Strip,
        };
        let (form, left) = (Form { screen, rooms: rooms > 1, colors }, args.count);
        Self {
            args,
            form,
            left,
            out: Vec::new(),
            open: None,
            beginning: rooms,
            ended_before: None,
            missed: false,
        }
    }

    fn take(&mut self, heard: Heard) -> anyhow::Result<ControlFlow<ExitCode>> {
        match heard {
            Heard::Message { message, replayed } => return self.message(&message, replayed),
            Heard::Begun => {
                self.beginning = self.beginning.saturating_sub(1);
                if let (0, true, Some(code)) = (self.beginning, self.args.exit_code, self.ended_before) {
                    return self.end(code);
                }
            }
            Heard::Gap { room, what } => {
                self.missed = true;
                match self.args.json {
                    true => {
                        let gap = json!({ "type": "gap", "room": room, "message": what });
                        self.write(&format!("{gap}\n"));
                    }
                    false => self.remark(&format!("{room:?}: {what}"))?,
                }
            }
            Heard::Remark(text) => self.remark(&text)?,
            Heard::Failed(error) => {
                self.flush()?;
                return Err(error);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A program has ended with this code. Its log is no success if it was not seen whole.
    fn end(&mut self, code: u8) -> anyhow::Result<ControlFlow<ExitCode>> {
        if code != 0 || !self.missed {
            return Ok(ControlFlow::Break(code.into()));
        }
        self.remark("the program ended with 0, but what it said was not seen whole: this ends with 1")?;
        Ok(ControlFlow::Break(Exit::Failure.into()))
    }

    fn message(&mut self, message: &Value, replayed: bool) -> anyhow::Result<ControlFlow<ExitCode>> {
        if self.wants(message) {
            self.print(message);
            self.left = self.left.map(|left| left - 1);
            if self.left == Some(0) {
                return Ok(ControlFlow::Break(ExitCode::SUCCESS));
            }
        }
        if self.args.exit_code && message["type"] == "process_status" && self.is_of_process(message) {
            let code = exit_code(&message["data"]);
            match (replayed, code) {
                (true, code) => self.ended_before = code,
                (false, Some(code)) => return self.end(code),
                (false, None) => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn is_of_process(&self, message: &Value) -> bool {
        let id = message["data"]["processId"].as_str();
        self.args.process.as_deref().is_none_or(|process| id == Some(process))
    }

    fn wants(&self, message: &Value) -> bool {
        let sort = message["type"].as_str().unwrap_or_default();
        (self.args.event.is_empty() || self.args.event.iter().any(|event| event == sort))
            && (self.args.process.is_none() || self.is_of_process(message))
    }

    fn print(&mut self, message: &Value) {
        if self.args.json {
            return self.write(&format!("{message}\n"));
        }
        let line = if self.args.raw { raw(message) } else { self.form.line(message) };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let stream = (text(&message["room"]), text(&message["data"]["stream"]));
        let goes_on = self.open.as_ref() == Some(&stream);
        if !goes_on && self.open.take().is_some() {
            self.write("\n");
        }
        // The room stands at the begin of a line only.
        let label = if goes_on && !self.args.raw { self.form.label(message) } else { String::new() };
        let line = line.strip_prefix(&label).unwrap_or(&line);
        if message["type"] == "process_output" && message["data"]["partial"] == true {
            self.write(line.trim_end_matches('\n'));
            self.open = Some(stream);
        } else {
            self.write(line);
            self.open = None;
        }
    }

    fn write(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Says something about the connection, in its place among the messages.
    fn remark(&mut self, text: &str) -> anyhow::Result<()> {
        self.flush()?;
        say(&format!("outspoke: {text}"));
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&self.out)?;
        self.out.clear();
        Ok(stdout.flush()?)
    }

    fn timed_out(&self) -> ExitCode {
        if self.left.is_some_and(|left| left > 0) { Exit::Failure.into() } else { ExitCode::SUCCESS }
    }
}

/// The exit code for the end of a process; `None` if it has not ended.
fn exit_code(data: &Value) -> Option<u8> {
    match data["status"].as_str()? {
        "exited" => Some(data["exitCode"].as_i64().unwrap_or(1).to_le_bytes()[0]),
        "signaled" => {
            let signal = data["signal"].as_str().and_then(super::exec::signal_number);
            Some(128_u8.saturating_add(signal.unwrap_or(0).to_le_bytes()[0]))
        }
        "failed" => Some(127),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tail: TailArgs,
    }

    fn printed(args: &[&str], messages: &[Value]) -> (String, Option<ExitCode>) {
        let line = Line::try_parse_from(["tail"].iter().chain(args)).unwrap();
        let mut printer = Printer::new(&line.tail, line.tail.distinct_rooms().len());
        printer.form.screen = Screen::PLAIN;
        let mut code = None;
        for message in messages {
            let heard = Heard::Message { message: message.clone(), replayed: message["replayed"] == true };
            if let ControlFlow::Break(end) = printer.take(heard).unwrap() {
                code = Some(end);
                break;
            }
        }
        if code.is_none()
            && let ControlFlow::Break(end) = printer.take(Heard::Begun).unwrap()
        {
            code = Some(end);
        }
        (String::from_utf8(printer.out).unwrap(), code)
    }

    fn output(room: &str, line: &str, partial: bool) -> Value {
        json!({ "type": "process_output", "room": room, "data": { "processId": "p", "stream": "stdout", "line": line, "partial": partial } })
    }

    fn status(status: &str, code: Value, signal: Value) -> Value {
        json!({ "type": "process_status", "timestamp": "T", "data": { "processId": "p", "status": status, "exitCode": code, "signal": signal } })
    }

    #[test]
    fn pieces_of_a_line_are_put_together_again() {
        let messages = [
            output("a", "one ", true),
            output("a", "line", false),
            output("a", "prompt? ", true),
            output("b", "x", false),
        ];
        assert_eq!(printed(&["a"], &messages).0, "one line\nprompt? \nx\n");
        assert_eq!(printed(&["a", "--raw"], &messages).0, "one line\nprompt? \nx\n");
        assert_eq!(printed(&["a", "b"], &messages).0, "[a] one line\n[a] prompt? \n[b] x\n");
    }

    #[test]
    fn exit_code_is_that_of_the_process_that_ended_last() {
        let code = |messages: &[Value]| format!("{:?}", printed(&["a", "--exit-code"], messages).1);
        let is = |code: u8| format!("{:?}", Some(ExitCode::from(code)));
        let before = |mut message: Value| {
            message["replayed"] = true.into();
            message
        };
        let exited = status("exited", json!(101), Value::Null);
        assert_eq!(code(&[exited.clone(), output("a", "never read", false)]), is(101));
        assert_eq!(code(&[status("signaled", Value::Null, json!("SIGTERM"))]), is(143));
        assert_eq!(code(&[status("failed", Value::Null, Value::Null)]), is(127));
        assert_eq!(code(&[status("running", Value::Null, Value::Null)]), "None");
        assert_eq!(code(&[before(exited.clone())]), is(101));
        assert_eq!(
            code(&[before(exited.clone()), before(status("running", Value::Null, Value::Null))]),
            "None"
        );
        assert!(printed(&["a", "--exit-code", "--process", "q"], &[exited]).1.is_none());
    }

    #[test]
    fn only_what_is_wanted_is_printed_and_counted() {
        let chat = json!({ "type": "chat", "timestamp": "T", "userId": "u", "content": "hi" });
        let messages = [chat.clone(), output("a", "x", false), chat.clone(), chat];
        let (text, code) = printed(&["a", "--event", "chat", "--count", "2"], &messages);
        assert_eq!((text.as_str(), code.is_some()), ("T u: hi\nT u: hi\n", true));
        assert_eq!(printed(&["a", "--process", "p"], &messages).0, "x\n");
    }
}

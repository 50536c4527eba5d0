//! `outspoke exec`: runs a program and publishes what it says, line by line, and how it ends.
//!
//! The program's output goes here as well, unless `--quiet`, and its exit code is this one's. The road of a line: the pipe,
//! [`lines`], a bounded queue, [`deliver`], the server. When the server is slow or away the queue fills, the pipe is not
//! read, and the program waits: nothing is lost and no memory grows. What was sent and not answered is sent again under its
//! idempotency key, so a restart of the server neither loses nor doubles a line.

mod child;
mod courier;
mod deliver;
mod lines;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub(super) use self::child::signal_number;
use self::child::{Ended, Program};
use self::courier::{Courier, nonce};
use self::deliver::{Delivery, Report};
use self::lines::Line;
use super::ansi::Colors;
use super::healthcheck::timeout;
use super::reach::ReachArgs;
use crate::exit::causes;

/// Lines that wait to be sent.
const LINES_MAX: usize = 1000;
/// Longest id of a process.
const ID_BYTES_MAX: usize = 64;

/// What to run, and where its output goes.
#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// The room
    #[arg(value_name = "ROOM")]
    pub(super) room: String,

    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    /// The process's id in messages [default: a random one]
    #[arg(long, value_name = "ID", value_parser = process_id)]
    id: Option<String>,

    /// Words that say what runs, for those who follow [default: the program's name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// Do not show the output here
    #[arg(short, long)]
    quiet: bool,

    /// Whether to ask the program for colours, and to publish them
    #[arg(long, value_name = "WHEN", default_value = "never")]
    color: ColorChoice,

    /// What to do when the server takes less than the program says: let it wait, or drop lines and say how many
    #[arg(long, value_name = "WHAT", default_value = "block")]
    overflow: Overflow,

    /// Longest line, in bytes of JSON; what is longer is published in pieces
    #[arg(long, value_name = "N", default_value = "4000", value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    line_bytes_max: u32,

    /// Lines per second at most, where there is no API key; 0: no limit [default: 80, below what servers allow a user]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,

    /// How long to go on delivering when the program has ended
    #[arg(long, value_name = "DURATION", default_value = "4m", value_parser = timeout)]
    patience: Duration,

    /// Run the program also if the server is not there, and exit with its code whatever becomes of its output
    #[arg(long)]
    best_effort: bool,

    /// Who to be on a server without authentication [default: that of the context, else exec]
    #[arg(long, value_name = "ID")]
    pub(super) user: Option<String>,

    #[command(flatten)]
    pub(super) reach: ReachArgs,
}

/// When to have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColorChoice {
    /// Ask for them, and publish them.
    Always,
    /// Take them away.
    Never,
}

/// What to do with too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Overflow {
    /// The program waits.
    Block,
    /// Lines are dropped.
    Drop,
}

fn process_id(id: &str) -> Result<String, String> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    match (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(sound) {
        true => Ok(id.to_owned()),
        false => Err(format!("write 1 to {ID_BYTES_MAX} letters, digits, _, -, . and :")),
    }
}

/// Where a program writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Something to publish.
#[derive(Clone, Debug)]
enum News {
    Line(Stream, Line),
    /// So many lines were dropped here.
    Dropped(u64),
    Running {
        title: Option<String>,
    },
    Ended(Ended),
}

impl News {
    /// The sort of message, and its data.
    fn message(&self, process: &str, seq: u64) -> (&'static str, Value) {
        let output = |stream: Stream, line: &str| {
            let stream = match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            };
            json!({ "processId": process, "stream": stream, "line": line, "seq": seq })
        };
        match self {
            Self::Line(stream, line) => {
                let mut data = output(*stream, &line.text);
                if line.partial {
                    data["partial"] = true.into();
                }
                ("process_output", data)
            }
            Self::Dropped(dropped) => {
                let mut data =
                    output(Stream::Stderr, &format!("(outspoke: {dropped} lines were dropped here)"));
                data["dropped"] = (*dropped).into();
                ("process_output", data)
            }
            Self::Running { title } => {
                let mut data = status(process, "running", None, None);
                if let Some(title) = title {
                    data["title"] = title.as_str().into();
                }
                ("process_status", data)
            }
            Self::Ended(ended) => {
                let (name, code, signal) = match ended {
                    Ended::Exited(code) => ("exited", Some(*code), None),
                    Ended::Signaled(signal) => ("signaled", None, Some(child::signal_name(*signal))),
                    Ended::Failed(_) => ("failed", None, None),
                };
                let mut data = status(process, name, code, signal);
                data["seq"] = seq.into();
                ("process_status", data)
            }
        }
    }
}

fn status(process: &str, status: &str, code: Option<i32>, signal: Option<String>) -> Value {
    json!({ "processId": process, "status": status, "exitCode": code, "signal": signal })
}

pub(super) fn run(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(exec(args));
    // A request that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

/// The last part of a program's path.
fn program_name(command: &[OsString]) -> Option<String> {
    let name = Path::new(command.first()?).file_name()?;
    Some(name.to_string_lossy().into_owned())
}

async fn exec(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let process = args.id.clone().unwrap_or_else(|| nonce(12));
    let mut courier = Courier::new(args.reach.resolve()?, args);
    // Not its arguments: they may be secrets.
    let title = args.title.clone().or_else(|| program_name(&args.command));
    let running = courier.send_first(News::Running { title }.message(&process, 0)).await;
    match running {
        Err(error) if args.best_effort => {
            super::output::say(&format!("outspoke: {}; the program runs all the same", causes(&error)))
        }
        result => result?,
    }
    let (news, queue) = mpsc::channel(LINES_MAX);
    // Set when the program has ended: until then the delivery has all the time there is.
    let (end, ended) = watch::channel(None);
    let delivery = tokio::spawn(Delivery::new(courier, process, args.quiet).run(queue, ended));
    let colors = if args.color == ColorChoice::Always { Colors::Keep } else { Colors::Strip };
    let outcome = match Program::start(&args.command, colors) {
        Ok(mut program) => {
            let mouth = child::Mouth {
                news: news.clone(),
                drops: args.overflow == Overflow::Drop,
                echo: !args.quiet,
                line_bytes_max: args.line_bytes_max as usize,
                colors,
            };
            program.follow(mouth).await
        }
        Err(failure) => {
            super::output::say(&format!("error: cannot run {}: {failure}", args.command[0].display()));
            Ended::Failed(failure.kind())
        }
    };
    end.send_replace(Some(tokio::time::Instant::now() + args.patience));
    let delivered = async {
        // There is room for it as soon as lines before it have left.
        let _ = news.send(News::Ended(outcome)).await;
        drop(news);
        delivery.await
    };
    let report = tokio::select! {
        report = delivered => report?,
        () = child::given_up() => Report::given_up(),
    };
    Ok(finish(outcome, &report, args.best_effort))
}

/// The program's code; 1 instead of success if its output did not arrive.
fn finish(outcome: Ended, report: &Report, best_effort: bool) -> ExitCode {
    if let Some(trouble) = report.trouble() {
        super::output::say(&format!("outspoke: {trouble}"));
    }
    match outcome.exit_code() {
        0 if report.trouble().is_some() && !best_effort => crate::exit::Exit::Failure.into(),
        code => ExitCode::from(code),
    }
}

//! The program that runs: started, listened to, given the signals that come here, and waited for.
//!
//! At a terminal it stays in this process's group, so that it can read what is typed; the terminal then tells it of Ctrl-C
//! itself. Otherwise it gets a group of its own, and signals go to all of that: a shell's children as well.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::lines::{Line, Lines};
use super::{Colors, News, Stream};

/// How long a line may stay without its end until what there is of it is published.
const PAUSE: Duration = Duration::from_millis(200);
/// How long its output is still read when the program has ended and others hold its pipes.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Read at once.
const CHUNK: usize = 16 * 1024;

/// Signals that are passed on, and whether a terminal tells the program of them by itself.
const SIGNALS: [(Signal, bool); 6] = [
    (Signal::INT, true),
    (Signal::QUIT, true),
    (Signal::TERM, false),
    (Signal::HUP, false),
    (Signal::USR1, false),
    (Signal::USR2, false),
];

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    /// By a signal.
    Signaled(i32),
    /// It was not started.
    Failed(io::ErrorKind),
}

impl Ended {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signaled(signal.unwrap_or(0)),
        }
    }

    /// As shells tell it.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => code.to_le_bytes()[0],
            Self::Signaled(signal) => 128_u8.saturating_add(signal.to_le_bytes()[0]),
            Self::Failed(io::ErrorKind::NotFound) => 127,
            Self::Failed(_) => 126,
        }
    }
}

/// Names of signals, where their numbers are the same on every Unix, or known to the system's own table.
const NAMES: [(Signal, &str); 15] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
];

/// A signal's name; `SIG` and its number for those that have none here.
pub(super) fn signal_name(number: i32) -> String {
    let known = NAMES.iter().find(|(signal, _)| signal.as_raw() == number);
    known.map_or_else(|| format!("SIG{number}"), |(_, name)| (*name).to_owned())
}

/// The number of a signal of that name.
pub(in crate::cli) fn signal_number(name: &str) -> Option<i32> {
    let known = NAMES.iter().find(|(_, known)| *known == name);
    known.map(|(signal, _)| signal.as_raw()).or_else(|| name.strip_prefix("SIG")?.parse().ok())
}

/// A running program.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    pid: Pid,
    /// It has a group of its own.
    apart: bool,
    /// What comes here, heard from before it began: no signal falls between.
    signals: Vec<(Signal, bool, Signals)>,
}

/// Where what it says goes.
#[derive(Clone, Debug)]
pub(super) struct Mouth {
    pub(super) news: mpsc::Sender<News>,
    /// Lines are dropped where the program would have to wait.
    pub(super) drops: bool,
    /// It is shown here, too.
    pub(super) echo: bool,
    pub(super) line_bytes_max: usize,
    pub(super) colors: Colors,
}

impl Program {
    pub(super) fn start(command: &[OsString], colors: Colors) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let apart = !io::stdin().is_terminal();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if apart {
            command.process_group(0);
        }
        if colors == Colors::Keep {
            // What programs go by that find no terminal. What is set already is meant.
            for (name, value) in
                [("CLICOLOR_FORCE", "1"), ("FORCE_COLOR", "1"), ("CARGO_TERM_COLOR", "always")]
            {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
        }
        let heard = SIGNALS.iter().filter_map(|(which, by_terminal)| {
            Some((*which, *by_terminal, signal(SignalKind::from_raw(which.as_raw())).ok()?))
        });
        let signals = heard.collect();
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the program has no id"))?;
        Ok(Self { child, pid, apart, signals })
    }

    /// Until it has ended and everything it said is in the queue.
    pub(super) async fn follow(&mut self, mouth: Mouth) -> Ended {
        let (end, ended) = watch::channel(false);
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let one = stdout.map(|pipe| {
            let ear = Ear { stream: Stream::Stdout, mouth: mouth.clone(), ended: ended.clone(), dropped: 0 };
            tokio::spawn(ear.listen(pipe, tokio::io::stdout()))
        });
        let two = stderr.map(|pipe| {
            let ear = Ear { stream: Stream::Stderr, mouth, ended, dropped: 0 };
            tokio::spawn(ear.listen(pipe, tokio::io::stderr()))
        });
        let status = self.wait().await;
        end.send_replace(true);
        for ear in [one, two].into_iter().flatten() {
            // An ear does not panic; and if it did, the program's end would still be told.
            let _ = ear.await;
        }
        status
    }

    /// Waits for its end, and passes signals on meanwhile.
    async fn wait(&mut self) -> Ended {
        let (pid, apart) = (self.pid, self.apart);
        let pass_on = |(which, by_terminal, mut signals): (Signal, bool, Signals)| {
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    // It may have ended this moment. As long as it was not waited for, its id is its own.
                    let _ = match apart {
                        true => kill_process_group(pid, which),
                        false if by_terminal => Ok(()),
                        false => kill_process(pid, which),
                    };
                }
            })
        };
        let _passing = Passing(std::mem::take(&mut self.signals).into_iter().map(pass_on).collect());
        match self.child.wait().await {
            Ok(status) => Ended::of(status),
            Err(error) => Ended::Failed(error.kind()),
        }
    }
}

/// Tasks that pass signals on; they end with it.
struct Passing(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Passing {
    fn drop(&mut self) {
        for way in &self.0 {
            way.abort();
        }
    }
}

/// Ready when somebody does not want to wait for the delivery any more: SIGINT, SIGTERM or SIGHUP after the program's end.
pub(super) async fn given_up() {
    let (int, term, hup) = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
    let (Ok(mut int), Ok(mut term), Ok(mut hup)) = (signal(int), signal(term), signal(hup)) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
}

/// Who listens to one of its streams.
struct Ear {
    stream: Stream,
    mouth: Mouth,
    ended: watch::Receiver<bool>,
    dropped: u64,
}

impl Ear {
    async fn listen(mut self, mut pipe: impl AsyncRead + Unpin, mut here: impl AsyncWrite + Unpin) {
        let mut lines = Lines::new(self.mouth.line_bytes_max, self.mouth.colors);
        let mut chunk = vec![0; CHUNK];
        loop {
            let heard = tokio::select! {
                biased;
                read = pipe.read(&mut chunk) => Some(read),
                () = self.silence(lines.is_open()) => None,
            };
            match heard {
                Some(Ok(0) | Err(_)) => break,
                Some(Ok(read)) => {
                    self.echo(&mut here, &chunk[..read]).await;
                    for line in lines.push(&chunk[..read]) {
                        self.tell(line).await;
                    }
                }
                None if *self.ended.borrow() => break,
                None => {
                    for line in lines.pause() {
                        self.tell(line).await;
                    }
                }
            }
        }
        for line in lines.end() {
            self.tell(line).await;
        }
        self.tell_dropped().await;
    }

    /// Ready when there was nothing for so long that something must be done about it.
    async fn silence(&mut self, line_is_open: bool) {
        if *self.ended.borrow() {
            return tokio::time::sleep(AFTERMATH).await;
        }
        let paused = async {
            match line_is_open {
                true => tokio::time::sleep(PAUSE).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = paused => {}
            // The sender lives for as long as the program is waited for.
            _ = self.ended.changed() => tokio::time::sleep(AFTERMATH).await,
        }
    }

    async fn echo(&mut self, here: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        if self.mouth.echo && (here.write_all(bytes).await.is_err() || here.flush().await.is_err()) {
            // Nobody looks here any more; others may.
            self.mouth.echo = false;
        }
    }

    async fn tell(&mut self, line: Line) {
        let news = News::Line(self.stream, line);
        if !self.mouth.drops {
            // Waiting here is what makes the program wait. The delivery ends only after this.
            let _ = self.mouth.news.send(news).await;
            return;
        }
        if self.dropped > 0 {
            match self.mouth.news.try_send(News::Dropped(self.dropped)) {
                Ok(()) => self.dropped = 0,
                Err(_) => {
                    self.dropped += 1;
                    return;
                }
            }
        }
        if self.mouth.news.try_send(news).is_err() {
            self.dropped += 1;
        }
    }

    async fn tell_dropped(&mut self) {
        if self.dropped > 0 {
            let _ = self.mouth.news.send(News::Dropped(self.dropped)).await;
        }
    }
}

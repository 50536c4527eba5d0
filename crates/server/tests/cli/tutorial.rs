//! The tutorial as its readers go through it: every command of every chapter, in order, in a fresh folder, and what it prints.
//!
//! The pages are the script. Each block of `sh` is given to a shell, as it is; the block of `text` or `json` behind it is what must
//! be printed, where `...` stands for anything within a line, and on a line of its own for any lines. Marks say the rest:
//!
//! - `in: NAME`: in the terminal of this name, each a shell of its own; without the mark in the one called `first`.
//! - `stays: NAME`: the same, and the program stays; the test goes on as soon as what is shown has been printed.
//! - `soon: NAME`: in that terminal, again and again until it prints what is shown, for half a minute at most.
//! - `then: NAME`: an output that appears there later, at what was done elsewhere.
//! - `Ctrl-C: NAME`: the program that stays is interrupted there.
//! - `save: FILE`: the block is written into this file.
//! - `not run: REASON`: only looked over, as those of all pages are by `pages.rs`.
//!
//! Ports are replaced by free ones in commands, files and outputs alike.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::markdown::{Block, blocks};

/// The chapters, as `docs/tutorial/README.md` lists them.
const CHAPTERS: &str = "docs/tutorial/README.md";
/// Ports that the chapters name.
const PORTS: [&str; 5] = ["8080", "8081", "3000", "6379", "9464"];
/// For one step on a busy machine, whose disk may be catching up with what a build has written.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a block that shows something soon is run again.
const SOON: Duration = Duration::from_secs(30);
/// Printed by the shell behind each block, with the last command's status.
const END: &str = "--end-of-the-block--";

/// One shell, and what it has printed that was not looked at yet.
struct Terminal {
    shell: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    /// Printed since the last block began.
    seen: Vec<String>,
    /// A program of it that stays has no prompt to wait for.
    busy: bool,
}

impl Terminal {
    fn open(folder: &Path) -> Self {
        let programs = Path::new(env!("CARGO_BIN_EXE_outspoke")).parent().unwrap();
        let path = std::env::var("PATH").unwrap();
        // Who starts the tests in the background of a script may have all that they start ignore Ctrl-C, and a shell cannot take that back.
        let mut shell = if cfg!(target_os = "linux") {
            let mut env = Command::new("env");
            env.args(["--default-signal=INT", "bash"]);
            env
        } else {
            Command::new("bash")
        };
        shell.current_dir(folder).env_clear().env("HOME", folder).env("LC_ALL", "C.UTF-8");
        shell.env("PATH", format!("{}:{path}", programs.display()));
        shell.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        // Both outputs in one, as a terminal shows them.
        shell.args(["-c", "exec 2>&1; exec bash --norc"]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut shell = shell.spawn().unwrap();
        let input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap()).lines();
        let (said, lines) = mpsc::channel(1_000);
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let _ = said.send(line).await;
            }
        });
        Self { shell, input, lines, seen: Vec::new(), busy: false }
    }

    /// Types a block.
    async fn type_in(&mut self, block: &str) {
        self.seen.clear();
        self.input.write_all(format!("{block}\necho \"{END}$?\"\n").as_bytes()).await.unwrap();
    }

    /// The next line that was printed, or why there is none.
    async fn line(&mut self) -> Result<String, &'static str> {
        match tokio::time::timeout(PATIENCE, self.lines.recv()).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err("the shell has ended"),
            Err(_) => Err("nothing more is printed"),
        }
    }

    /// Until the block has ended, and its last command succeeded.
    async fn ended(&mut self) -> Result<(), String> {
        loop {
            let line = self.line().await?;
            // A program may print no newline at its end.
            if let Some((before, status)) = line.split_once(END) {
                self.busy = false;
                self.seen.extend(Some(before.to_owned()).filter(|before| !before.is_empty()));
                return if status == "0" { Ok(()) } else { Err(format!("status {status}")) };
            }
            self.seen.push(line);
        }
    }

    /// Until everything that is shown was printed.
    async fn until(&mut self, shown: &[&str]) -> Result<(), String> {
        while !matches(shown, &self.seen) {
            let line = self.line().await?;
            if line.contains(END) {
                return Err("the program has ended".to_owned());
            }
            self.seen.push(line);
        }
        Ok(())
    }

    fn interrupt(&self) {
        for child in children(self.shell.id().unwrap()) {
            // It may have ended by itself.
            let _ = kill_process(child, Signal::INT);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(group) = self.shell.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The processes that a shell has started and not left.
fn children(shell: u32) -> Vec<Pid> {
    let listed = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}

/// Whether `printed` is what is shown.
fn matches(shown: &[&str], printed: &[String]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        (["...", rest @ ..], _) => (0..=printed.len()).any(|skip| matches(rest, &printed[skip..])),
        ([first, rest @ ..], [line, others @ ..]) => line_matches(first, line) && matches(rest, others),
        _ => false,
    }
}

fn line_matches(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = printed.trim_end().strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Goes through the chapters.
struct Walk {
    folder: tempfile::TempDir,
    ports: Vec<(&'static str, String)>,
    terminals: BTreeMap<String, Terminal>,
    steps: usize,
}

impl Walk {
    fn new() -> Self {
        // All at once, so that they differ; free again when the programs come to take them.
        let listeners: Vec<_> = PORTS.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let free = listeners.iter().map(|listener| listener.local_addr().unwrap().port().to_string());
        Self {
            folder: tempfile::tempdir().unwrap(),
            ports: PORTS.into_iter().zip(free).collect(),
            terminals: BTreeMap::new(),
            steps: 0,
        }
    }

    fn with_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (port, free)| text.replace(port, free))
    }

    fn terminal(&mut self, name: &str) -> &mut Terminal {
        let folder = self.here();
        self.terminals.entry(name.to_owned()).or_insert_with(|| Terminal::open(&folder))
    }

    /// Where readers are: in the folder that the introduction has them make.
    fn here(&self) -> PathBuf {
        let made = self.folder.path().join("cafe");
        if made.is_dir() { made } else { self.folder.path().to_owned() }
    }

    async fn chapter(&mut self, page: &str) {
        let blocks = blocks(page);
        let mut at = 0;
        while let Some(block) = blocks.get(at) {
            at += 1;
            let shown = blocks.get(at).filter(|next| is_output(next) && next.mark.is_none());
            let step = self.step(block, shown).await;
            step.unwrap_or_else(|what| self.give_up(block, shown, &what));
            at += usize::from(shown.is_some() && block.language.as_deref() == Some("sh"));
            self.steps += 1;
        }
    }

    async fn step(&mut self, block: &Block, shown: Option<&Block>) -> Result<(), String> {
        let text = self.with_ports(&block.text);
        if let Some(terminal) = block.marked("Ctrl-C") {
            let terminal = self.terminal(terminal);
            terminal.interrupt();
            return terminal.ended().await.or_else(of_interrupted);
        }
        if let Some(file) = block.marked("save") {
            return std::fs::write(self.here().join(file), text).map_err(|error| error.to_string());
        }
        if block.marked("not run").is_some() {
            return Ok(());
        }
        if let Some(terminal) = block.marked("then") {
            let lines: Vec<_> = text.lines().collect();
            let terminal = self.terminal(terminal);
            terminal.until(&lines).await?;
            terminal.seen.clear();
            return Ok(());
        }
        if block.language.as_deref() != Some("sh") {
            return Err(
                "what is this block to be? it is neither run, nor saved, nor shown by a command".to_owned()
            );
        }
        let shown = shown.map(|shown| self.with_ports(&shown.text));
        let shown: Vec<_> = shown.iter().flat_map(|shown| shown.lines()).collect();
        let stays = block.marked("stays").is_some();
        let soon = block.marked("soon");
        let name = block.marked("stays").or(block.marked("in")).or(soon).unwrap_or("first").to_owned();
        let terminal = self.terminal(&name);
        if terminal.busy {
            // It was killed from elsewhere, with whatever status.
            terminal.ended().await.or_else(of_interrupted)?;
        }
        terminal.type_in(&text).await;
        if stays {
            terminal.busy = true;
            terminal.until(&shown).await?;
            terminal.seen.clear();
            return Ok(());
        }
        terminal.ended().await?;
        let give_up_at = Instant::now() + SOON;
        while soon.is_some() && !matches(&shown, &terminal.seen) && Instant::now() < give_up_at {
            tokio::time::sleep(Duration::from_millis(300)).await;
            terminal.seen.clear();
            terminal.type_in(&text).await;
            terminal.ended().await?;
        }
        if shown.is_empty() || matches(&shown, &terminal.seen) {
            Ok(())
        } else {
            Err("prints something else".to_owned())
        }
    }

    fn give_up(&mut self, block: &Block, shown: Option<&Block>, what: &str) -> ! {
        let known = self.known();
        let printed: String = self.terminals.iter_mut().fold(String::new(), |all, (name, terminal)| {
            // What nobody has waited for, too.
            terminal.seen.extend(std::iter::from_fn(|| terminal.lines.try_recv().ok()));
            format!("{all}\n--- terminal {name}\n{}", terminal.seen.join("\n"))
        });
        let shown = shown.map(|shown| self.with_ports(&shown.text)).unwrap_or_default();
        panic!(
            "{}: {} {what}\n{}\n--- shown\n{shown}{printed}\n--- the hub knows\n{known}",
            block.place,
            block.mark.as_ref().map(|(word, rest)| format!("({word}: {rest})")).unwrap_or_default(),
            block.text
        );
    }

    /// What the first chapters' hub says of the room in which people talk, and of its newest message.
    fn known(&self) -> String {
        let ask = |words: &[&str]| {
            let mut outspoke = std::process::Command::new(env!("CARGO_BIN_EXE_outspoke"));
            outspoke.args(words).current_dir(self.here()).env("HOME", self.folder.path());
            let said = outspoke.stdin(Stdio::null()).output().unwrap();
            format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
        };
        let messages = ask(&["history", "lobby", "--json"]);
        let newest = messages.lines().rev().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["id"].as_str().map(str::to_owned)
        });
        let explained = newest.map(|id| ask(&["explain", &id, "tail"])).unwrap_or_default();
        format!("{messages}{}{explained}", ask(&["presence", "lobby"]))
    }
}

/// What was interrupted may say so with its status.
fn of_interrupted(ended: String) -> Result<(), String> {
    if ended.starts_with("status") { Ok(()) } else { Err(ended) }
}

fn is_output(block: &Block) -> bool {
    matches!(block.language.as_deref(), Some("text" | "json"))
}

/// The pages that the list of chapters links to, in its order.
fn chapters() -> Vec<String> {
    let list = std::fs::read_to_string(crate::support::repository(CHAPTERS)).unwrap();
    let items = list.lines().filter_map(|line| line.split_once(". [")?.1.split_once("](")?.1.split_once(')'));
    items.map(|(page, _)| format!("docs/tutorial/{page}")).collect()
}

/// What a reader copies works, and prints what is shown.
#[tokio::test]
async fn tutorial_does_what_it_says_from_its_first_command_to_its_last() {
    let mut walk = Walk::new();
    let chapters = chapters();
    assert!(chapters.len() > 4, "{chapters:?}");
    walk.chapter(CHAPTERS).await;
    for chapter in &chapters {
        walk.chapter(chapter).await;
    }
    assert!(walk.steps > 40, "{}", walk.steps);
}

#[test]
fn chapters_are_all_in_their_list() {
    let listed = chapters();
    let pages = crate::markdown::pages().into_iter().filter(|page| page.starts_with("docs/tutorial/"));
    let missing: Vec<_> = pages.filter(|page| page != CHAPTERS && !listed.contains(page)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn shown_dots_stand_for_any_text_and_any_lines() {
    let printed = ["one 17 end".to_owned(), "two".to_owned(), "three".to_owned()];
    assert!(matches(&["one ... end", "...", "three"], &printed));
    assert!(matches(&["...", "two", "three"], &printed));
    assert!(!matches(&["one ... end", "three"], &printed));
    assert!(!matches(&["one ...x", "..."], &printed));
}

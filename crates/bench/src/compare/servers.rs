//! The servers of a comparison: how each is started, found ready, and ended.
//!
//! A started server is a [`Running`]; dropping it ends the process, by its id, and waits for it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::case::{self, Case, Scale};
use crate::args::{self, ServerArgs};
use crate::frame;
use crate::net::{Event, Handler, Net, Trust};
use crate::peer::PeerKind;
use crate::process::Cores;
use crate::report::Report;
use crate::session::{Session, TURN};
use crate::stamp::{Finder, Stamp, Template};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(15);

/// How long a measurement waits for a server that does nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration of a server, in its folder, if it has one.
const CONFIG: &str = "bench.yaml";

/// The rooms of a run, kept as the lobby is by default.
const STORED_ROOMS: &str = r#"
rooms:
  classes:
    - pattern: "bench-*"
      durability: stored
      history_messages: 1_000
      history_bytes: 0
      history_age: 7d
"#;

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contender {
    Bare,
    Outspoke,
    Bun,
    /// One file on the disk that the servers use, and no server.
    Disk,
    /// Outspoke with the store in a folder.
    Embedded,
    /// Outspoke with a store that keeps nothing beyond its process.
    Memory,
    /// Outspoke with its store in a PostgreSQL database.
    Postgresql,
    /// Outspoke with its store in Redis.
    Redis,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Outspoke => "outspoke",
            Self::Bun => "bun",
            Self::Disk => "disk",
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Postgresql => "postgresql",
            Self::Redis => "redis",
        }
    }

    /// Whom the others are measured by.
    pub(super) fn reference(case: Case) -> Self {
        if case == Case::Stored { Self::Disk } else { Self::Bare }
    }
}

/// Starts servers on their core.
pub(crate) struct Launcher {
    outspoke: Option<PathBuf>,
    bun: Option<(PathBuf, PathBuf)>,
    postgresql: Option<String>,
    redis: Option<String>,
    /// This program and the words before `compare`: how to reach its `bare-server`.
    own: (PathBuf, Vec<String>),
    server_core: Cores,
    driver_core: Cores,
    /// Size on the wire of Outspoke's deliveries.
    pub(super) frame_bytes: usize,
}

impl Launcher {
    pub(super) fn new(args: &args::Compare, server_core: Cores, driver_core: Cores) -> Result<Self> {
        let absolute = |path: &Path| {
            fs::canonicalize(path).with_context(|| format!("there is no file {}", path.display()))
        };
        let outspoke = args.outspoke_bin.as_deref().map(absolute).transpose()?;
        let bun = match &args.bun {
            Some(bun) => Some((absolute(bun)?, absolute(&args.bun_script)?)),
            None => None,
        };
        let words = env::args().skip(1).take_while(|word| word != "compare").collect();
        let own = (env::current_exe().context("cannot find this program's own file")?, words);
        let (postgresql, redis) = (args.postgresql.clone(), args.redis.clone());
        Ok(Self { outspoke, bun, postgresql, redis, own, server_core, driver_core, frame_bytes: 0 })
    }

    /// Starts nothing but this program, on any core.
    pub(crate) fn of_outspoke(program: &Path) -> Result<Self> {
        let outspoke =
            fs::canonicalize(program).with_context(|| format!("there is no file {}", program.display()))?;
        let own = (env::current_exe().context("cannot find this program's own file")?, Vec::new());
        Ok(Self {
            outspoke: Some(outspoke),
            bun: None,
            postgresql: None,
            redis: None,
            own,
            server_core: Cores::current()?,
            driver_core: Cores::current()?,
            frame_bytes: 0,
        })
    }

    /// Who takes part in `case`.
    pub(super) fn contenders(&self, case: Case) -> Vec<Contender> {
        let outspoke = self.outspoke.is_some().then_some(Contender::Outspoke);
        if matches!(case, Case::Slow | Case::IdleTls) {
            // The bare loop drops who does not read at once and has no TLS, and Bun's bound is not ours: nothing to
            // compare.
            return outspoke.into_iter().collect();
        }
        if case == Case::Stored {
            let stores = [
                Some(Contender::Disk),
                Some(Contender::Embedded),
                Some(Contender::Memory),
                self.postgresql.is_some().then_some(Contender::Postgresql),
                self.redis.is_some().then_some(Contender::Redis),
            ];
            return stores.into_iter().flatten().filter(|_| outspoke.is_some()).collect();
        }
        let bun = self.bun.is_some().then_some(Contender::Bun);
        [Some(Contender::Bare), outspoke, bun].into_iter().flatten().collect()
    }

    /// Measures `case` on a fresh server, or on none.
    pub(super) fn measure(&self, server: Contender, case: Case, scale: Scale) -> Result<Report> {
        if server == Contender::Disk {
            self.server_core.apply()?;
            let found = case::disk(&env::temp_dir(), scale);
            self.driver_core.apply()?;
            return found;
        }
        case.run(&self.start(server, case)?, scale)
    }

    /// Starts a fresh server for `case` and waits until it answers.
    fn start(&self, server: Contender, case: Case) -> Result<Running> {
        match server {
            Contender::Bare => {
                let (program, words) = &self.own;
                let mut command = Command::new(program);
                command.args(words).args(["bare-server", "--frame-bytes", &self.frame_bytes.to_string()]);
                if case == Case::Fanout16 {
                    command.arg("--batch");
                }
                self.start_announced(command, PeerKind::Raw)
            }
            Contender::Bun => {
                let (bun, script) = self.bun.as_ref().context("no Bun was given")?;
                let mut command = Command::new(bun);
                command.arg(script).env("PORT", "0").env("FRAME_BYTES", self.frame_bytes.to_string());
                self.start_announced(command, PeerKind::Raw)
            }
            Contender::Outspoke if case == Case::IdleTls => self.start_secure(),
            Contender::Outspoke => self.start_outspoke(&[]),
            Contender::Embedded => self.start_outspoke(&["store.backend=embedded"]),
            Contender::Memory => self.start_outspoke(&["store.backend=memory"]),
            Contender::Postgresql => {
                let url = self.postgresql.as_deref().context("no PostgreSQL was given")?;
                self.start_outspoke(&["store.backend=postgresql", &format!("store.postgresql.url={url}")])
            }
            Contender::Redis => {
                let url = self.redis.as_deref().context("no Redis was given")?;
                self.start_outspoke(&["store.backend=redis", &format!("store.redis.url={url}")])
            }
            Contender::Disk => bail!("a disk is no server"),
        }
    }

    /// Finds out how long Outspoke's deliveries are, so that the others can send as much.
    pub(super) fn learn_frame_size(&mut self) -> Result<()> {
        if self.outspoke.is_some() {
            let running = self.start_outspoke(&[])?;
            self.frame_bytes = delivery_size(&running)?;
        }
        Ok(())
    }

    /// With `settings`, as for `--set`; given a store, the rooms of the scenarios are kept there.
    pub(crate) fn start_outspoke(&self, settings: &[&str]) -> Result<Running> {
        let folder = Folder::create()?;
        if !settings.is_empty() {
            fs::write(folder.0.join(CONFIG), STORED_ROOMS).context("cannot write a configuration")?;
        }
        self.start_in(folder, settings, false)
    }

    /// With TLS, and a certificate that nobody but a driver with `--insecure` believes.
    fn start_secure(&self) -> Result<Running> {
        let folder = Folder::create()?;
        certify(&folder.0)?;
        self.start_in(folder, &["tls.certificate=server.pem", "tls.key=server.key"], true)
    }

    fn start_in(&self, folder: Folder, settings: &[&str], secure: bool) -> Result<Running> {
        let program = self.outspoke.as_ref().context("no Outspoke was given")?;
        let log = fs::File::create(folder.0.join("log")).context("cannot write a log")?;
        // Free a moment ago; a server that cannot have it any more says so and the run fails.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).context("no free port")?.port();
        let mut command = Command::new(program);
        command
            .arg("serve")
            // The others have no limits on rates, and what is asked here is how fast it is without.
            .args(["--set", "rate.enabled=false"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .env("PORT", port.to_string())
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write a log")?)
            .stderr(log);
        let config = folder.0.join(CONFIG);
        if config.exists() {
            command.arg("--config").arg(config);
        }
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let child = self.spawn(command)?;
        let mut running = Running { child, addr, peer: PeerKind::Outspoke, secure, folder: Some(folder) };
        running.wait_until_healthy()?;
        Ok(running)
    }

    /// Starts a server that says on its first line where it listens.
    fn start_announced(&self, mut command: Command, peer: PeerKind) -> Result<Running> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.spawn(command)?;
        let line = first_line(&mut child);
        let addr =
            line.as_ref().ok().and_then(|line| line.strip_prefix("listening on ")?.trim().parse().ok());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Running { child, addr: nowhere, peer, secure: false, folder: None };
        match addr {
            Some(addr) => running.addr = addr,
            None => bail!("the server did not say where it listens, but {:?}", line?),
        }
        Ok(running)
    }

    /// Starts `command` on the servers' core: a process inherits the cores of the thread that starts it.
    fn spawn(&self, mut command: Command) -> Result<Child> {
        self.server_core.apply()?;
        let child = command.spawn();
        self.driver_core.apply()?;
        child.with_context(|| format!("cannot start {}", command.get_program().display()))
    }
}

fn first_line(child: &mut Child) -> Result<String> {
    let stdout = child.stdout.take().context("the server's output is not piped")?;
    let mut polled = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: START.as_secs() as _, tv_nsec: 0 };
    let ready = rustix::event::poll(&mut polled, Some(&limit)).context("cannot wait for the server")?;
    ensure!(ready > 0, "the server said nothing for {START:?}");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot read what the server says")?;
    Ok(line)
}

/// A server process that is ready.
pub(crate) struct Running {
    child: Child,
    addr: SocketAddr,
    peer: PeerKind,
    /// By TLS.
    secure: bool,
    folder: Option<Folder>,
}

impl Running {
    /// How a scenario reaches and observes it.
    pub(crate) fn args(&self) -> ServerArgs {
        ServerArgs {
            url: format!("{}://{}", if self.secure { "wss" } else { "ws" }, self.addr),
            ca: None,
            insecure: self.secure,
            peer: self.peer,
            server_pid: Some(self.child.id()),
            pin: None,
            timeout: PATIENCE,
            json: false,
        }
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            if is_healthy(&self.args(), self.addr) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("cannot ask for the server's state")? {
                bail!("the server ended ({status}) before it was ready: {}", self.last_words());
            }
            if begin.elapsed() > START {
                bail!("GET /health was not answered for {START:?}: {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn last_words(&self) -> String {
        let log = self.folder.as_ref().map(|folder| folder.0.join("log"));
        let text = log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_healthy(server: &ServerArgs, addr: SocketAddr) -> bool {
    let answer = || -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        match Trust::of(&server.url.parse()?, None, server.insecure)? {
            None => ask(&mut stream, addr),
            Some(trust) => ask(&mut rustls::Stream::new(&mut trust.session()?, &mut stream), addr),
        }
    };
    answer().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

fn ask(stream: &mut (impl Read + Write), addr: SocketAddr) -> Result<Vec<u8>> {
    write!(stream, "GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Makes a certificate for this machine, good for a day.
fn certify(folder: &Path) -> Result<()> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "server.key", "-out", "server.pem"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot run openssl, which makes the certificate of idle-tls")?;
    ensure!(made.status.success(), "openssl made no certificate: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// A folder of its own for a server's data, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("outspoke-bench-{}-{}", std::process::id(), since_epoch.as_nanos());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Publishes one message to a room of one and measures its delivery.
fn delivery_size(running: &Running) -> Result<usize> {
    let mut session = Session::start(&running.args(), 1)?;
    session.gather(1, 1)?;
    let mut template = Template::new(128, session.peer.quotes_data());
    let data = template.stamped(Stamp { group: 0, sequence: 0, time: 0 });
    let text = session.peer.publish(0, data, None).to_vec();
    session.net.send(0, &text)?;
    let mut size = DeliverySize(Finder::new(), None);
    let begin = Instant::now();
    while size.1.is_none() {
        session.net.turn(TURN, &mut size)?;
        ensure!(begin.elapsed() < PATIENCE, "a message that was published did not come back");
    }
    size.1.context("unreachable: the loop ends when there is a size")
}

struct DeliverySize(Finder, Option<usize>);

impl Handler for DeliverySize {
    fn on_event(&mut self, _: &mut Net, _: usize, event: Event<'_>, _: u64) -> Result<()> {
        match event {
            Event::Message(payload) if self.0.find(payload).is_some() => {
                let mut frame = Vec::new();
                frame::push(&mut frame, frame::TEXT, payload);
                self.1 = Some(frame.len());
            }
            Event::Closed(cause) => bail!("the server closed the connection: {cause}"),
            _ => {}
        }
        Ok(())
    }
}

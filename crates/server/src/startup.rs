//! Why the server did not start, each with its cure.
//!
//! Made by the listener and by [`crate::storage`], printed once by [`crate::exit`]. Looking up who holds a port or a
//! folder reads `/proc` and is best effort: it finds only processes that this user may look into.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use outspoke_auth::SetupError;
use outspoke_bus::BusError;
use outspoke_store::StoreError;

use crate::config::{Backend, Bus, ListenAddr, Source};
use crate::limits::{CURE, DescriptorLimit};
use crate::serve::tls::TlsError;
use crate::storage::Plan;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process listens there.
    #[error("address {addr} is already in use{}{}", by(holder.as_ref()), from(setting))]
    AddressInUse {
        /// Where the server wanted to listen.
        addr: ListenAddr,
        /// Where that address was configured.
        setting: Source,
        /// Who listens there, if it can be seen.
        holder: Option<Holder>,
    },
    /// The port is privileged.
    #[error("no permission to listen on {addr}{}", from(setting))]
    PermissionDenied {
        /// Where the server wanted to listen.
        addr: ListenAddr,
        /// Where that address was configured.
        setting: Source,
    },
    /// No interface of this machine has the address.
    #[error("no network interface has the address {addr}{}", from(setting))]
    AddressNotAvailable {
        /// Where the server wanted to listen.
        addr: ListenAddr,
        /// Where that address was configured.
        setting: Source,
    },
    /// The host name means nothing here.
    #[error("the host of {addr}{} does not resolve to an address: {source}", from(setting))]
    HostUnknown {
        /// Where the server wanted to listen.
        addr: ListenAddr,
        /// Where that address was configured.
        setting: Source,
        /// What the resolver said.
        source: io::Error,
    },
    /// Anything else that went wrong while listening.
    #[error("cannot listen on {addr}{}: {source}", from(setting))]
    Listen {
        /// Where the server wanted to listen.
        addr: ListenAddr,
        /// Where that address was configured.
        setting: Source,
        /// What the system said.
        source: io::Error,
    },
    /// A store cannot be opened.
    #[error("cannot open the store {} ({} in {}{}): {error}", plan.name, plan.backend.name(), plan.place(),
            chosen_by(plan))]
    Storage {
        /// Which.
        plan: Box<Plan>,
        /// What it said, most often with a cure of its own.
        error: StoreError,
        /// Who has its folder, if it is embedded and that can be seen.
        holder: Option<Holder>,
    },
    /// The settings of the bus between servers cannot be used.
    #[error("the bus {}: {error}", bus.name())]
    Bus {
        /// Which.
        bus: Bus,
        /// What is wrong with them.
        error: BusError,
    },
    /// A key, or what else is needed to know who may connect, cannot be used.
    #[error("{setting}: {error}")]
    Auth {
        /// The setting.
        setting: String,
        /// What is wrong with it, with the cure.
        error: SetupError,
    },
    /// A key's file cannot be read.
    #[error("{setting}: cannot read the key file {}: {error}", file.display())]
    KeyFile {
        /// The setting.
        setting: String,
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Nothing was ever kept where it was looked for.
    #[error("there is no store {} in {}", plan.name, plan.place())]
    NoStore {
        /// Which.
        plan: Box<Plan>,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The limit on open files leaves no room for connections.
    #[error("the limit of {} file descriptors leaves no room for connections", .0.soft)]
    TooFewDescriptors(DescriptorLimit),
}

/// A process that has what was wanted: a port, a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// The program's name.
    pub name: String,
}

impl Holder {
    fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, name: name.trim_end().escape_debug().to_string() }
    }
}

fn by(holder: Option<&Holder>) -> String {
    holder.map(|Holder { pid, name }| format!(" by process {pid} ({name})")).unwrap_or_default()
}

fn from(setting: &Source) -> String {
    match setting {
        Source::Default => String::new(),
        source => format!(" (server.addr from {source})"),
    }
}

/// The setting that asked for the store, where somebody wrote it.
fn chosen_by(plan: &Plan) -> String {
    match plan.setting() {
        (_, Source::Default) => String::new(),
        (key, source) => format!(", {key} from {source}"),
    }
}

impl StartError {
    /// The error for an address that could not be resolved.
    pub fn resolve(addr: &ListenAddr, setting: Source, source: io::Error) -> Self {
        Self::HostUnknown { addr: addr.clone(), setting, source }
    }

    /// The error for a listener that could not be bound. Looks up who holds the port.
    pub fn bind(addr: &ListenAddr, setting: Source, source: io::Error) -> Self {
        let addr = addr.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                let holder = port_holder(addr.port());
                Self::AddressInUse { addr, setting, holder }
            }
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { addr, setting },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { addr, setting },
            _ => Self::Listen { addr, setting, source },
        }
    }

    /// The error for a bus whose settings cannot be used.
    pub fn bus(bus: Bus, error: BusError) -> Self {
        Self::Bus { bus, error }
    }

    /// The error for a setting under `auth` that cannot be used.
    pub fn auth(setting: impl Into<String>, error: SetupError) -> Self {
        Self::Auth { setting: setting.into(), error }
    }

    /// The error for a store that could not be opened. Looks up who has its folder.
    pub fn storage(plan: &Plan, error: StoreError) -> Self {
        let locked = plan.backend == Backend::Embedded && matches!(error, StoreError::Unavailable(_));
        let holder = locked.then(|| lock_holder(&plan.lock_file())).flatten();
        Self::Storage { plan: Box::new(plan.clone()), error, holder }
    }

    /// Whether another machine did not answer, so that the same may work later.
    pub fn is_unreachable(&self) -> bool {
        let Self::Storage { plan, error: StoreError::Unavailable(_), .. } = self else { return false };
        !matches!(plan.backend, Backend::Embedded | Backend::Memory)
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::AddressInUse { addr, holder, .. } => {
                let other = addr.with_port(addr.port().checked_add(1).unwrap_or(8080));
                let stop = match holder {
                    Some(holder) => format!("stop it (kill {})", holder.pid),
                    None => format!("see who listens there (ss -ltnp 'sport = :{}')", addr.port()),
                };
                format!("{stop}, or choose another port: outspoke serve --addr {other}")
            }
            Self::PermissionDenied { addr, .. } if addr.port() < 1024 => format!(
                "ports below 1024 need a privilege: choose a higher one (--addr {}), or allow it with \
                 `setcap cap_net_bind_service=+ep $(command -v outspoke)` or systemd's \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE",
                addr.with_port(8080)
            ),
            Self::PermissionDenied { addr, .. } => format!(
                "a security policy forbids this port; choose another one (--addr {})",
                addr.with_port(if addr.port() == 8080 { 8081 } else { 8080 })
            ),
            Self::AddressNotAvailable { addr, .. } => format!(
                "use an address that `ip addr` lists, or all of them: outspoke serve --addr :{}",
                addr.port()
            ),
            Self::HostUnknown { addr, .. } => {
                format!(
                    "correct the name, or listen on all interfaces: outspoke serve --addr :{}",
                    addr.port()
                )
            }
            Self::Listen { .. } => "choose another address with --addr".to_owned(),
            Self::Storage { plan, error, holder } => storage_hint(plan, error, holder.as_ref()),
            Self::NoStore { plan } if plan.backend == Backend::Memory => {
                "what is in memory ends with the server that has it; choose a store that keeps".to_owned()
            }
            Self::NoStore { .. } => {
                "run the command where the server runs, with the same settings, or name the folder \
                                     of its data with --data"
                    .to_owned()
            }
            Self::Bus { bus, .. } => {
                format!("correct it in the section cluster.{} of the configuration", bus.name())
            }
            Self::Auth { .. } => "docs/operating/authentication.md has recipes".to_owned(),
            Self::KeyFile { .. } => {
                "see that it is there, and let the user that runs the server read it, and nobody else"
                    .to_owned()
            }
            Self::Tls(error) => error.hint(),
            Self::TooFewDescriptors(_) => CURE.to_owned(),
        }
    }
}

fn storage_hint(plan: &Plan, error: &StoreError, holder: Option<&Holder>) -> String {
    let embedded = plan.backend == Backend::Embedded;
    match error {
        StoreError::Full(_) => "make space there, then start again; nothing that was kept is lost".to_owned(),
        StoreError::Unavailable(_) | StoreError::InDoubt(_) if embedded => match holder {
            Some(Holder { pid, name }) => format!(
                "process {pid} ({name}) has the folder: stop it (kill {pid}), or use another folder: --set \
                 data.dir=..."
            ),
            None => format!("let this user write there, or choose another folder in {}", plan.folder_key()),
        },
        StoreError::Unavailable(_) | StoreError::InDoubt(_) => {
            format!(
                "see that the server is up and lets this machine in, or correct {}",
                plan.key(plan.address_key())
            )
        }
        StoreError::Damaged(_) if embedded => format!(
            "keep a copy of {}, then look it over with `outspoke store verify`, restore a backup, or move the folder \
             away to begin anew",
            plan.place()
        ),
        StoreError::Damaged(_) => "restore a backup, or choose an empty schema, prefix or table".to_owned(),
        _ => format!("correct the settings under {}", plan.section()),
    }
}

/// The process that listens on a TCP port, if this user may see it. Linux only; `None` elsewhere.
pub fn port_holder(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let sockets: HashSet<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds_any(*pid, &sockets)).map(Holder::of)
}

/// The process that has a file locked, if this user may see it. Linux only; `None` elsewhere.
pub fn lock_holder(file: &Path) -> Option<Holder> {
    let inode = fs::metadata(file).ok()?.ino();
    let pid = locking_pid(&fs::read_to_string("/proc/locks").ok()?, inode)?;
    // A lock from another pid namespace, a container's, is shown with a number that means nothing here.
    Path::new("/proc").join(pid.to_string()).exists().then(|| Holder::of(pid))
}

/// Who holds a whole-file lock; columns as proc_locks(5) gives them: number, kind, mode, access, pid, device and inode.
fn locking_pid(table: &str, inode: u64) -> Option<u32> {
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let same = columns.get(5)?.rsplit(':').next()?.parse::<u64>().ok()? == inode;
        (same && *columns.get(1)? == "FLOCK").then(|| columns.get(4)?.parse().ok())?
    })
}

/// Inodes of the listening sockets on `port`; columns as proc(5) gives them: local address, state, inode.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let local_port = u16::from_str_radix(columns.get(1)?.rsplit(':').next()?, 16).ok()?;
        (local_port == port && *columns.get(3)? == LISTEN).then(|| columns.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds_any(pid: u32, sockets: &HashSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    fn addr(text: &str) -> ListenAddr {
        ListenAddr::parse(text).unwrap()
    }

    fn said(error: &StartError) -> String {
        format!("{error}\n{}", error.hint())
    }

    #[test]
    fn port_in_use_names_the_process_that_holds_it() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let refused = TcpListener::bind(("127.0.0.1", port)).unwrap_err();
        let wanted = addr(&format!("127.0.0.1:{port}"));
        let error = StartError::bind(&wanted, Source::Env("PORT".into()), refused);
        let StartError::AddressInUse { holder, .. } = &error else { unreachable!("{error}") };
        if cfg!(target_os = "linux") {
            assert_eq!(holder.as_ref().map(|holder| holder.pid), Some(std::process::id()));
            let by = format!("address 127.0.0.1:{port} is already in use by process {}", std::process::id());
            assert!(said(&error).starts_with(&by), "{error}");
        }
        assert!(said(&error).contains("(server.addr from env PORT)"));
        assert!(said(&error).contains("choose another port: outspoke serve --addr 127.0.0.1:"));
        drop(held);
    }

    #[test]
    fn privileged_port_says_three_cures() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = StartError::bind(&addr(":80"), Source::Default, refused);
        assert_eq!(
            said(&error),
            "no permission to listen on :80\n\
             ports below 1024 need a privilege: choose a higher one (--addr :8080), or allow it with \
             `setcap cap_net_bind_service=+ep $(command -v outspoke)` or systemd's \
             AmbientCapabilities=CAP_NET_BIND_SERVICE"
        );
    }

    #[test]
    fn foreign_address_and_unknown_host_say_what_to_do() {
        let refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let error = StartError::bind(&addr("203.0.113.9:8080"), Source::Default, refused);
        assert_eq!(
            said(&error),
            "no network interface has the address 203.0.113.9:8080\n\
             use an address that `ip addr` lists, or all of them: outspoke serve --addr :8080"
        );
        let unknown = io::Error::other("name not known");
        let error = StartError::resolve(&addr("nowhere.invalid:80"), Source::Flag("--addr".into()), unknown);
        assert!(said(&error).starts_with(
            "the host of nowhere.invalid:80 (server.addr from flag --addr) does not resolve to an address: name not known"
        ));
    }

    #[test]
    fn locked_file_names_the_process_that_has_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(lock_holder(file.path()), None);
        file.as_file().lock().unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(lock_holder(file.path()).map(|holder| holder.pid), Some(std::process::id()));
        }
        let table = "1: FLOCK  ADVISORY  WRITE 24137 fe:00:10059810 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 896 fe:00:10059810 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n";
        assert_eq!(locking_pid(table, 10_059_810), Some(24137), "not the one that waits");
        assert_eq!(locking_pid(table, 42), None);
        assert_eq!(locking_pid("garbage\n", 42), None);
    }

    #[test]
    fn too_few_descriptors_say_how_to_get_more() {
        let error = StartError::TooFewDescriptors(DescriptorLimit { soft: 20, hard: 20 });
        assert!(said(&error).contains("ulimit -n") && said(&error).contains("LimitNOFILE="));
    }

    #[test]
    fn proc_table_yields_only_listening_sockets_of_the_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 x 100 0\n\
             1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 x 100 0\n\
             2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 x 100 0\n";
        assert_eq!(listening_inodes(table, 8080), [4711]);
        assert_eq!(listening_inodes("garbage\nmore garbage", 8080), Vec::<u64>::new());
    }
}

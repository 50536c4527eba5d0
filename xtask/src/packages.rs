//! What the suites need from the system, and how it gets there.
//!
//! On a Debian machine where we are root, what is missing is installed by apt-get. Anywhere else the error says what to
//! install: a suite never passes because its tool was not there.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::context::Context;
use crate::step::{Log, minutes};
use crate::tools;

/// A program that a suite runs.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    /// Any of these names or absolute paths will do.
    pub(crate) programs: Vec<String>,
    /// The Debian packages that bring it.
    pub(crate) packages: Vec<String>,
    /// The suites that need it.
    pub(crate) for_suites: &'static str,
}

impl Need {
    fn new(programs: &[&str], packages: &[&str], for_suites: &'static str) -> Self {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { programs: own(programs), packages: own(packages), for_suites }
    }

    /// The program's path, if it is there.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        self.programs.iter().find_map(|program| find_program(program))
    }

    /// The program's path; installs it first where that is possible.
    pub(crate) fn ensure(&self, ctx: &Context) -> Result<PathBuf> {
        if let Some(path) = self.find() {
            return Ok(path);
        }
        self.install(ctx)?;
        match self.find() {
            Some(path) => Ok(path),
            None => {
                bail!("{} is still missing after installing {}", self.programs[0], self.packages.join(" "))
            }
        }
    }

    fn install(&self, ctx: &Context) -> Result<()> {
        let packages = self.packages.join(" ");
        let cure = format!(
            "{} is missing ({} needs it): install it, on Debian with `sudo apt-get install {packages}`",
            self.programs[0], self.for_suites
        );
        if !rustix::process::geteuid().is_root() || find_program("apt-get").is_none() {
            bail!(cure);
        }
        let log = Log::new(ctx, &format!("apt-{}", self.packages[0]))?;
        // The lists may be absent (a container image) or too old to name files that are still there.
        log.run(&mut apt_get(ctx, &["update"]), minutes(5))?;
        let mut install = apt_get(ctx, &["install", "--yes", "--no-install-recommends"]);
        log.run(install.args(&self.packages), minutes(10))?;
        Ok(())
    }
}

/// Headless Chromium, with a font to measure and photograph text in.
pub(crate) fn chromium() -> Need {
    Need::new(
        &["chromium", "chromium-browser", "google-chrome"],
        &["chromium", "fonts-liberation"],
        "browser and sdk",
    )
}

/// Node's package manager; it comes with Node.
pub(crate) fn npm() -> Need {
    Need::new(&["npm"], &["nodejs", "npm"], "browser and sdk")
}

/// PostgreSQL's programs, of which Debian has none in the path; the tests look for them in the same places.
pub(crate) fn postgres() -> Need {
    let versions = (12..=30).rev().map(|version| format!("/usr/lib/postgresql/{version}/bin/postgres"));
    let programs = versions.chain(["postgres".to_owned()]).collect();
    Need { programs, packages: vec!["postgresql".to_owned()], for_suites: "rust" }
}

/// A Redis server.
pub(crate) fn redis() -> Need {
    Need::new(&["redis-server", "/usr/sbin/redis-server"], &["redis-server"], "rust, browser and prometheus")
}

/// A NATS server.
pub(crate) fn nats() -> Need {
    Need::new(&["nats-server", "/usr/sbin/nats-server"], &["nats-server"], "rust")
}

/// A load balancer.
pub(crate) fn nginx() -> Need {
    Need::new(&["nginx", "/usr/sbin/nginx"], &["nginx"], "rust")
}

/// Another load balancer.
pub(crate) fn haproxy() -> Need {
    Need::new(&["haproxy", "/usr/sbin/haproxy"], &["haproxy"], "rust")
}

/// An authority for certificates.
pub(crate) fn pebble() -> Need {
    Need::new(&["pebble"], &["pebble"], "acme")
}

/// The examiner of TLS servers.
pub(crate) fn testssl() -> Need {
    Need::new(&["testssl", "testssl.sh"], &["testssl.sh"], "testssl")
}

/// What scrapes metrics, and `promtool` beside it.
pub(crate) fn prometheus() -> Need {
    Need::new(&["prometheus"], &["prometheus"], "prometheus")
}

/// An etcd server.
pub(crate) fn etcd() -> Need {
    Need::new(&["etcd"], &["etcd-server"], "rust")
}

/// Makes networks that tests take apart.
pub(crate) fn iproute() -> Need {
    Need::new(&["ip", "/usr/sbin/ip"], &["iproute2"], "rust")
}

/// What the quick starts are written in, besides Rust and Node.
pub(crate) fn languages() -> [Need; 3] {
    [
        Need::new(&["curl"], &["curl"], "rust"),
        Need::new(&["python3"], &["python3"], "rust"),
        Need::new(&["go"], &["golang-go"], "rust"),
    ]
}

/// What the checks of packaging are written in. A Go that is too old for Helm's engine gets a newer one from PyPI.
pub(crate) fn deploy() -> [Need; 2] {
    [
        Need::new(&["python3"], &["python3", "python3-venv"], "deploy"),
        Need::new(&["systemd-analyze"], &["systemd"], "deploy"),
    ]
}

/// A C++ compiler, for libFuzzer.
pub(crate) fn cxx() -> Need {
    Need::new(&["c++", "g++", "clang++"], &["g++"], "fuzz")
}

/// LLVM's `tool` of the version that wrote the profiles: an older one cannot read them.
pub(crate) fn llvm(ctx: &Context, tool: &str) -> Result<Need> {
    let major = ctx.llvm_major()?;
    let mut programs = vec![format!("{tool}-{major}")];
    // The rustup component `llvm-tools` is as good.
    let sysroot = crate::context::stdout_of(ctx.command("rustc").args(["--print", "sysroot"]))?;
    programs.push(format!("{}/lib/rustlib/{}/bin/{tool}", sysroot.trim(), ctx.host()?));
    Ok(Need { programs, packages: vec![format!("llvm-{major}")], for_suites: "coverage" })
}

/// Prints every need, and where it is met.
pub(crate) fn list(ctx: &Context) -> Result<()> {
    println!("from Debian, installed by the suites when they run as root:");
    let services = [postgres(), redis(), etcd(), nats(), nginx(), haproxy(), iproute(), prometheus()];
    let tools = [chromium(), npm(), cxx(), llvm(ctx, "llvm-cov")?];
    for need in services.into_iter().chain(languages()).chain(deploy()).chain(tools) {
        let found = need.find().map_or_else(|| "missing".to_owned(), |path| path.display().to_string());
        println!("  {:<24} for {:<10} {found}", need.packages.join(" "), need.for_suites);
    }
    println!("from crates.io, installed once below the target directory:");
    for tool in tools::ALL {
        let found = if tool.path(ctx).exists() { "present" } else { "missing" };
        println!("  {:<24} for {:<10} {found}", format!("{} {}", tool.name, tool.version), tool.for_check);
    }
    Ok(())
}

/// Looks a name up in `PATH`; an absolute path is taken as it is.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if Path::new(name).is_absolute() {
        return Path::new(name).is_file().then(|| PathBuf::from(name));
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn apt_get(ctx: &Context, args: &[&str]) -> std::process::Command {
    let mut command = ctx.command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // Another apt-get may be at work on a freshly started machine.
    command.args(["--quiet", "-o", "DPkg::Lock::Timeout=300"]).args(args);
    command
}

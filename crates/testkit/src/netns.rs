//! Networks and machines that exist only on this one: bridges, and namespaces plugged into them.
//!
//! For tests that take a link away: a [`Port`] that is [unplugged](Port::unplug) loses every packet in both directions and
//! tells nobody, neither by a reset nor by a carrier that is gone, as a broken switch does. Programs of a test run inside a
//! [`Machine`]; the test itself stays outside and reaches them over a [`Network`] that it leaves alone.
//!
//! Linux only, with iproute2, as root. Addresses are of 198.18.0.0/15, which is set aside for such tests and routed nowhere.
//! Names carry the id of this process. Everything is removed with its guard, and what a killed test process has left
//! behind by the next one that needs a network.

use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Output;
use std::sync::Once;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use tokio::process::Command;

use crate::services::{in_path, program};

/// What the names of everything here begin with; the longest that the system takes has 15 characters.
const PREFIX: &str = "os";
/// Bits of an address that say which network: 14 addresses in each.
const BITS: u8 = 28;

/// A bridge. This machine has its first address.
#[derive(Debug)]
pub struct Network {
    name: String,
    base: u32,
    /// How many machines have been plugged in.
    ports: AtomicU8,
}

/// A network namespace. Nothing but its loopback interface is there at first.
#[derive(Debug)]
pub struct Machine {
    name: String,
}

/// Where a machine is plugged into a network.
#[derive(Debug)]
pub struct Port {
    /// The end of the cable at the bridge.
    name: String,
    network: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes one that nobody is plugged into.
    ///
    /// # Panics
    /// The system does not allow it.
    #[must_use]
    pub fn new() -> Self {
        let network = Self { name: new_name(), base: free_base(), ports: AtomicU8::new(0) };
        let (name, address) = (&network.name[..], format!("{}/{BITS}", network.address()));
        ip(&["link", "add", name, "address", &hardware(1), "type", "bridge", "forward_delay", "0"]);
        ip(&["address", "add", &address, "dev", name]);
        ip(&["link", "set", name, "up"]);
        network
    }

    /// This machine's address in it.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// Makes one that is plugged in nowhere.
    ///
    /// # Panics
    /// The system does not allow it.
    #[must_use]
    pub fn new() -> Self {
        let machine = Self { name: new_name() };
        ip(&["netns", "add", &machine.name]);
        ip(&["-n", &machine.name, "link", "set", "lo", "up"]);
        machine
    }

    /// A program that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(ip_program());
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Plugs it into a network.
    ///
    /// Both sides know each other's hardware address for good: otherwise the system would find out, by asking for it in
    /// vain, that a port is unplugged, and tell programs that there is no route.
    ///
    /// # Panics
    /// The system does not allow it, or the network has no address left.
    #[must_use]
    pub fn plug_into(&self, network: &Network) -> Port {
        let number = 2 + network.ports.fetch_add(1, Ordering::Relaxed);
        assert!(number < 15, "a network has {} addresses for machines", 13);
        let address = Ipv4Addr::from(network.base + u32::from(number));
        let port = Port { name: new_name(), network: network.name.clone(), address };
        let (inside, outside, hardware) = (&port.name[..], &port.name[..], &hardware(number)[..]);
        let (own, with_bits) = (&address.to_string()[..], &format!("{address}/{BITS}")[..]);
        let machine = &self.name[..];
        ip(&[
            "link", "add", outside, "type", "veth", "peer", "name", inside, "address", hardware, "netns",
            machine,
        ]);
        // This end has no address, and must not answer for those that this machine has elsewhere.
        ip(&["link", "set", outside, "arp", "off", "master", &network.name, "up"]);
        ip(&["-n", machine, "address", "add", with_bits, "dev", inside]);
        ip(&["-n", machine, "link", "set", inside, "up"]);
        let (there, theirs) = (&network.address().to_string()[..], &self::hardware(1)[..]);
        ip(&["-n", machine, "neighbour", "add", there, "lladdr", theirs, "dev", inside, "nud", "permanent"]);
        ip(&["neighbour", "add", own, "lladdr", hardware, "dev", &network.name, "nud", "permanent"]);
        port
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Port {
    /// The machine's address in this network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Loses every packet from now on, in both directions.
    ///
    /// # Panics
    /// The system does not do it.
    pub fn unplug(&self) {
        ip(&["link", "set", &self.name, "nomaster"]);
    }

    /// Ends what [`unplug`](Self::unplug) began.
    ///
    /// # Panics
    /// The system does not do it.
    pub fn plug_in(&self) {
        ip(&["link", "set", &self.name, "master", &self.network]);
    }

    /// Loses every packet from and to other machines whose ports are isolated; this machine is still reached.
    ///
    /// # Panics
    /// The system does not do it.
    pub fn isolate(&self) {
        ip(&["link", "set", &self.name, "type", "bridge_slave", "isolated", "on"]);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Both ends; the machine would keep it as long as a program runs there.
        remove(&["link", "delete", &self.name]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        remove(&["netns", "delete", &self.name]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&["link", "delete", &self.name]);
    }
}

/// A name that nothing has.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static TIDY: Once = Once::new();
    TIDY.call_once(tidy);
    format!("{PREFIX}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what processes have left behind that were killed.
fn tidy() {
    let words = |args: &[&str]| {
        let output = ip(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split([' ', '@', ':', '\n'])
            .filter(|word| is_orphan(word))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for name in words(&["-oneline", "link", "show"]) {
        remove(&["link", "delete", &name]);
    }
    for name in words(&["netns", "list"]) {
        remove(&["netns", "delete", &name]);
    }
}

/// Whether it is a name given by a process that has ended.
fn is_orphan(name: &str) -> bool {
    let numbers = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('x'));
    let numbers = numbers.and_then(|(pid, number)| Some((pid.parse().ok()?, number.parse().ok()?)));
    numbers.is_some_and(|(pid, _): (u32, u32)| !Path::new(&format!("/proc/{pid}")).exists())
}

/// The first address of a network that this machine is not part of.
fn free_base() -> u32 {
    let all = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let random = || all + ((RandomState::new().hash_one(0) % (1 << (BITS - 15))) << (32 - BITS)) as u32;
    let mut bases = std::iter::repeat_with(random).take(1000);
    let is_free = |base: &u32| {
        let network = format!("{}/{BITS}", Ipv4Addr::from(*base));
        ip(&["-oneline", "address", "show", "to", &network]).stdout.is_empty()
    };
    bases.find(is_free).expect("one of many networks is free")
}

/// The hardware address of a network's machine; bridges are strangers to each other.
fn hardware(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn ip_program() -> std::path::PathBuf {
    program(in_path("ip"), "iproute2")
}

fn ip(args: &[&str]) -> Output {
    let output = std::process::Command::new(ip_program()).args(args).output().expect("ip starts");
    assert!(
        output.status.success(),
        "`ip {}`: {}: networks of a test need root and the capabilities NET_ADMIN and SYS_ADMIN; run it as root, in a container \
         with `--privileged`",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim(),
    );
    output
}

/// As far as it is there: a guard also ends what began only half.
fn remove(args: &[&str]) {
    let _ = std::process::Command::new(ip_program()).args(args).output();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_processes_that_have_ended_are_orphans() {
        assert!(is_orphan("os4294967295x0"));
        assert!(!is_orphan(&format!("os{}x3", std::process::id())));
        assert!(["lo", "os", "osx", "eth0", "os12", "osax1"].iter().all(|name| !is_orphan(name)));
    }
}

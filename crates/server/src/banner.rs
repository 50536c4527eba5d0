//! What the server says when it is ready.
//!
//! On a terminal a block of lines with an address to click; otherwise one log event with the same facts. Called once
//! by the listener, after it is bound.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::{DEFAULT_STORE, Host, Loaded};
use crate::limits::DescriptorLimit;
use crate::logging::Style;
use crate::storage::OpenStore;

/// What everybody should know who runs a server without authentication.
const OPEN_MODE: &str =
    "no authentication is configured; everyone who reaches this address can join under any name";

/// What there is to say.
#[derive(Debug, Clone, Copy)]
pub struct Banner<'a> {
    /// The configuration that is in force.
    pub loaded: &'a Loaded,
    /// Where the listener really is; differs from the configuration if port 0 was asked for.
    pub bound: SocketAddr,
    /// Number of shards.
    pub shards: usize,
    /// The limit on file descriptors after raising it.
    pub descriptors: DescriptorLimit,
    /// Whether no authentication is configured.
    pub open_mode: bool,
    /// The stores, the default one first.
    pub stores: &'a [OpenStore],
}

impl Banner<'_> {
    /// Says it on standard error, as `style` asks.
    pub fn announce(&self, style: Style) {
        match style {
            // A closed standard error must not keep the server from serving.
            Style::Human { terminal: true, colour } => {
                let _ = std::io::stderr().write_all(self.render(colour).as_bytes());
            }
            Style::Human { .. } | Style::Json => self.log(),
        }
    }

    /// The block of lines for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let config = &self.loaded.config;
        let mut out = format!("\n  Outspoke {} is ready.\n\n", env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(out, "  {name:<11}{value}");
        };
        let url = self.url();
        if config.server.page {
            line("Chat", &url);
        }
        line("WebSocket", &format!("{}/ws", url.replacen("http", "ws", 1)));
        line("Health", &format!("{url}/health"));
        line("Listening", &format!("{}, {}", self.bound, self.reach()));
        line("Data", &absolute(&config.data.dir).display().to_string());
        for store in self.stores {
            line("Store", &stored(store));
        }
        line(
            "Settings",
            self.loaded.file.as_deref().unwrap_or("defaults, no file (see: outspoke config show)"),
        );
        line("Capacity", &format!("{} on {}", connections(self.connections()), shards(self.shards)));
        if self.open_mode {
            let (bold, plain) = if colour { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
            let _ = write!(out, "\n  {bold}OPEN MODE: {OPEN_MODE}.{plain}\n");
        }
        out.push_str("\n  Stop with Ctrl-C.\n\n");
        out
    }

    fn log(&self) {
        let config = &self.loaded.config;
        let (address, url, version) = (self.bound.to_string(), self.url(), env!("CARGO_PKG_VERSION"));
        let data_dir = absolute(&config.data.dir).display().to_string();
        let config_file = self.loaded.file.as_deref().unwrap_or("none");
        let (shards, connections_max) = (self.shards, self.connections());
        macro_rules! ready {
            ($level:ident, $($message:tt)+) => {
                tracing::$level!(
                    version, address, url, data_dir, config_file, shards, connections_max,
                    open_mode = self.open_mode, $($message)+
                )
            };
        }
        match self.open_mode {
            true => ready!(warn, "ready in OPEN MODE: {OPEN_MODE}"),
            false => ready!(info, "ready"),
        }
    }

    fn connections(&self) -> usize {
        self.descriptors.connections(self.loaded.config.server.connections_max)
    }

    /// An address that works in a browser on this machine.
    pub fn url(&self) -> String {
        let port = self.bound.port();
        let ip = self.bound.ip();
        let scheme = if self.loaded.config.tls.is_on() { "https" } else { "http" };
        match self.loaded.config.server.addr.host() {
            Host::Name(name) => format!("{scheme}://{name}:{port}"),
            _ if ip.is_unspecified() || ip.is_loopback() => format!("{scheme}://localhost:{port}"),
            _ => format!("{scheme}://{}", self.bound),
        }
    }

    fn reach(&self) -> &'static str {
        match self.bound.ip() {
            ip if ip.is_loopback() => "this machine only",
            ip if ip.is_unspecified() => "all interfaces",
            _ => "one interface",
        }
    }
}

/// Where messages are kept, and what that survives.
fn stored(OpenStore { plan, durability, .. }: &OpenStore) -> String {
    let name = if plan.name == DEFAULT_STORE { String::new() } else { format!("{}: ", plan.name) };
    format!("{name}{} in {}, {durability}", plan.backend.name(), plan.place())
}

/// The path as it is found from anywhere.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // `./data` in `/srv` is `/srv/./data` to the standard library and `/srv/data` to a reader.
    absolute.components().collect()
}

fn connections(number: usize) -> String {
    match number {
        usize::MAX => "any number of connections".to_owned(),
        _ => format!("up to {number} connections"),
    }
}

fn shards(number: usize) -> String {
    if number == 1 { "1 shard".to_owned() } else { format!("{number} shards") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{FileChoice, FlagValue, Sources, load};

    fn loaded(settings: &[(&str, &str)]) -> Loaded {
        let flag = |(key, value): &(&str, &str)| FlagValue {
            flag: "--set".into(),
            key: (*key).into(),
            value: (*value).into(),
        };
        let flags = settings.iter().map(flag).collect();
        load(&Sources { file: FileChoice::None, env: Vec::new(), flags }).unwrap()
    }

    fn banner<'a>(loaded: &'a Loaded, bound: &str) -> Banner<'a> {
        let descriptors = DescriptorLimit { soft: 1064, hard: 1064 };
        Banner { loaded, bound: bound.parse().unwrap(), shards: 2, descriptors, open_mode: true, stores: &[] }
    }

    #[test]
    fn banner_says_address_open_mode_data_and_file() {
        let loaded = loaded(&[("data.dir", "/srv/./chat")]);
        assert_eq!(
            banner(&loaded, "[::]:8080").render(false),
            format!(
                "
  Outspoke {} is ready.

  Chat       http://localhost:8080
  WebSocket  ws://localhost:8080/ws
  Health     http://localhost:8080/health
  Listening  [::]:8080, all interfaces
  Data       /srv/chat
  Settings   defaults, no file (see: outspoke config show)
  Capacity   up to 1000 connections on 2 shards

  OPEN MODE: no authentication is configured; everyone who reaches this address can join under any name.

  Stop with Ctrl-C.

",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn banner_url_suits_a_browser_on_this_machine() {
        let plain = loaded(&[]);
        assert_eq!(banner(&plain, "127.0.0.1:9").url(), "http://localhost:9");
        assert_eq!(banner(&plain, "0.0.0.0:9").url(), "http://localhost:9");
        assert_eq!(banner(&plain, "[2001:db8::1]:9").url(), "http://[2001:db8::1]:9");
        let named = loaded(&[("server.addr", "chat.test:0")]);
        assert_eq!(banner(&named, "10.0.0.7:9").url(), "http://chat.test:9");
    }

    #[test]
    fn banner_colours_only_when_asked_and_hides_the_page_that_is_off() {
        let loaded = loaded(&[("server.page", "false")]);
        let mut banner = banner(&loaded, "127.0.0.1:9");
        assert!(banner.render(true).contains("\x1b[1;33mOPEN MODE"));
        assert!(!banner.render(false).contains('\x1b'));
        assert!(!banner.render(false).contains("Chat"));
        banner.open_mode = false;
        assert!(!banner.render(true).contains("OPEN MODE"));
    }
}

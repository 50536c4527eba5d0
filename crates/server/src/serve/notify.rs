//! What the service manager is told: that the server is ready, reads its configuration again, stops, and is alive.
//!
//! The protocol of sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names; without one nothing is said. Invariant:
//! "alive" is said only after every shard has taken a turn, so that a server of which one shard hangs is restarted. How often
//! is asked by `WATCHDOG_USEC`; twice in that time, as sd_watchdog_enabled(3) advises.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::Hub;

/// Who started the server and wants to hear from it, if anybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Manager {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub(super) fn of_this_process() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let Some(address) = socket else { return Self::default() };
        match connect(&address) {
            Ok(socket) => Self {
                socket: Some(Arc::new(socket)),
                watchdog: watchdog(
                    std::env::var("WATCHDOG_USEC").ok().as_deref(),
                    std::env::var("WATCHDOG_PID").ok().as_deref(),
                ),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot reach the service manager at NOTIFY_SOCKET; it will not hear that the server is ready");
                Self::default()
            }
        }
    }

    /// Connections are accepted; also said after a reload.
    pub(super) fn ready(&self, clients: usize) {
        self.say(&format!("READY=1\nSTATUS=serving {clients} clients"));
    }

    /// The configuration is being read again.
    pub(super) fn reloading(&self) {
        self.say("RELOADING=1\nSTATUS=reading the configuration again");
    }

    /// The end has begun, and may take this long.
    pub(super) fn stopping(&self, clients: usize) {
        self.say(&format!("STOPPING=1\nSTATUS=telling {clients} clients to come back"));
    }

    /// Says again and again that the server is alive, each time after every shard has taken a turn. Never ends; is not asked
    /// for without a watchdog.
    pub(super) async fn vouch_for(self, hub: Hub) {
        let hub = &hub;
        self.reassure(|| async move {
            hub.every_shard_answers().await;
            hub.client_count()
        })
        .await;
    }

    async fn reassure<Turn: Future<Output = usize>>(self, turn: impl Fn() -> Turn) {
        let Some(every) = self.watchdog else { return };
        loop {
            let clients = turn().await;
            self.say(&format!("WATCHDOG=1\nSTATUS=serving {clients} clients"));
            tokio::time::sleep(every).await;
        }
    }

    /// A manager that does not listen is no reason to serve worse.
    fn say(&self, lines: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(lines.as_bytes())) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // Whoever does not read does not stop the server.
    socket.set_nonblocking(true)?;
    match address.as_encoded_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(address)?,
    }
    Ok(socket)
}

/// How often to say "alive": half of what the variables ask for, if they are meant for this process.
fn watchdog(microseconds: Option<&str>, process: Option<&str>) -> Option<Duration> {
    let ours = process.is_none_or(|id| id.parse() == Ok(std::process::id()));
    let wanted = microseconds?.parse().ok().filter(|&wanted| ours && wanted > 0)?;
    Some(Duration::from_micros(wanted) / 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Mutex, mpsc};

    use outspoke_hub::HubConfig;
    use outspoke_testkit::attach;
    use serde_json::json;

    use super::*;

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 256];
        let next =
            || socket.recv(&mut bytes).ok().map(|length| String::from_utf8_lossy(&bytes[..length]).into());
        std::iter::from_fn(next).collect()
    }

    fn manager(folder: &tempfile::TempDir, every: Duration) -> (UnixDatagram, Manager) {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let connected = Arc::new(connect(path.as_os_str()).unwrap());
        (socket, Manager { socket: Some(connected), watchdog: Some(every) })
    }

    // A server of which a shard hangs would look alive for ever.
    #[tokio::test(start_paused = true)]
    async fn manager_hears_that_the_server_is_alive_until_a_shard_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let every = Duration::from_secs(10);
        let (socket, manager) = manager(&folder, every);
        let turns = Arc::new(tokio::sync::Semaphore::new(3));
        let shard = Arc::clone(&turns);
        let reassuring = tokio::spawn(manager.reassure(move || {
            let shard = Arc::clone(&shard);
            async move {
                shard.acquire_owned().await.unwrap().forget();
                7
            }
        }));
        tokio::time::sleep(every * 20).await;
        assert_eq!(heard(&socket), ["WATCHDOG=1\nSTATUS=serving 7 clients"; 3]);
        turns.add_permits(1);
        tokio::time::sleep(every).await;
        assert_eq!(heard(&socket).len(), 1, "a shard that goes on is alive again");
        reassuring.abort();
    }

    /// The next thing that the manager is told.
    async fn told(socket: &UnixDatagram) -> String {
        let listening = async {
            loop {
                if let Some(lines) = heard(socket).pop() {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), listening).await.expect("the manager is told")
    }

    /// A handler that blocks its shard's thread, which none may: one shard of two, and the manager hears nothing.
    #[tokio::test]
    async fn manager_hears_nothing_while_a_handler_blocks_its_shards_thread() {
        let (entered, hanging) = mpsc::sync_channel(1);
        let (release, released) = mpsc::sync_channel::<()>(1);
        let released = Mutex::new(released);
        let builder = Hub::builder().on("hang", move |_context, _data| {
            entered.send(()).unwrap();
            // Ends with the test, however that ends.
            let _ = released.lock().unwrap().recv();
            async { Ok(None) }
        });
        let hub = builder.config(HubConfig { shards: 2, ..HubConfig::default() }).start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let every = Duration::from_millis(1);
        let (socket, manager) = manager(&folder, every);
        let vouching = tokio::spawn(manager.vouch_for(hub.clone()));
        for _ in 0..3 {
            assert_eq!(told(&socket).await, "WATCHDOG=1\nSTATUS=serving 0 clients");
        }
        let mut client = attach(&hub, "a");
        client.expect("welcome").await;
        client.send(json!({ "type": "hang" })).await;
        tokio::task::spawn_blocking(move || hanging.recv()).await.unwrap().unwrap();
        tokio::time::pause();
        // What the shard answered before may still be said, once.
        tokio::time::sleep(every * 1000).await;
        drop(heard(&socket));
        tokio::time::sleep(every * 1000).await;
        assert_eq!(heard(&socket), Vec::<String>::new(), "a shard hangs");
        tokio::time::resume();
        release.send(()).unwrap();
        assert_eq!(told(&socket).await, "WATCHDOG=1\nSTATUS=serving 1 clients", "the shard goes on");
        vouching.abort();
    }

    #[test]
    fn watchdog_of_another_process_is_not_fed() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("20000000"), None), Some(Duration::from_secs(10)));
        assert_eq!(watchdog(Some("20000000"), Some(&own)), Some(Duration::from_secs(10)));
        assert_eq!(watchdog(Some("20000000"), Some("1")), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(None, None), None);
    }
}

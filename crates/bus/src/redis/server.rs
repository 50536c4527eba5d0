//! Connecting to a server, and logging in: to the one of the address, the one that the sentinels name, or a node of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::codec::{Channels, RedisCodec};
use super::errors;
use super::options::{Sentinel, Target};
use super::resp::{Value, command, parse};
use crate::remote::{Pace, Place, Service, Session, Stale};

/// How often the sentinels are asked whether the master is still the same.
const WATCH: Duration = Duration::from_secs(2);

/// Makes connections to one server, wherever it is.
#[derive(Clone, Debug)]
pub(super) struct Server {
    target: Arc<Target>,
    channels: Channels,
    pace: Pace,
    which: Which,
    /// The sentinel that has answered last.
    sentinel: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
enum Which {
    /// The one of the address, or whom the sentinels name.
    Master,
    /// A node of a cluster; who watches over that is told when it fails.
    Node(Place, Arc<Notify>),
}

impl Server {
    pub(super) fn new(target: &Arc<Target>, channels: &Channels, pace: Pace) -> Self {
        let (target, channels) = (Arc::clone(target), channels.clone());
        Self { target, channels, pace, which: Which::Master, sentinel: Arc::default() }
    }

    /// The same, at a node of a cluster.
    pub(super) fn at(&self, node: &Place, trouble: &Arc<Notify>) -> Self {
        Self { which: Which::Node(node.clone(), Arc::clone(trouble)), ..self.clone() }
    }

    /// Any connection, without a look at what the server is.
    pub(super) async fn log_in(&self, place: &Place) -> Result<Session<RedisCodec>, String> {
        let mut session = self.open(place).await?;
        authenticate(&mut session, self.target.user.as_deref(), self.target.password.as_deref()).await?;
        Ok(session)
    }

    async fn open(&self, place: &Place) -> Result<Session<RedisCodec>, String> {
        let stream = place.connect().await?;
        let codec = RedisCodec::new(self.channels.clone());
        Ok(match &self.target.tls {
            Some(tls) => Session::new(Box::new(tls.secure(stream, place).await?), codec),
            None => Session::new(Box::new(stream), codec),
        })
    }

    /// Logs in to the master, if it is one.
    async fn master(&self) -> Result<Session<RedisCodec>, String> {
        let place = match &self.target.sentinel {
            Some(sentinel) => self.named(sentinel).await?,
            None => self.target.places[0].clone(),
        };
        let session = self.log_in_to_master(&place).await;
        let mut session = session.map_err(|error| format!("Redis at {place}: {error}"))?;
        if self.target.sentinel.is_some() {
            session.stale = self.clone().replaced(place);
        }
        Ok(session)
    }

    async fn log_in_to_master(&self, place: &Place) -> Result<Session<RedisCodec>, String> {
        let mut session = self.log_in(place).await?;
        let role = ask(&mut session, &[b"ROLE"], |value| {
            let role = value.array().and_then(|values| values.first()).and_then(Value::text);
            role.map(<[u8]>::to_vec)
        });
        match role.await {
            Ok(Some(role)) if role == b"slave" => return Err(errors::REPLICA.to_owned()),
            // A user who may not ask is let in all the same.
            role => session.codec.tells_role(matches!(role, Ok(Some(_)))),
        }
        Ok(session)
    }

    /// The master's place: of the first sentinel that answers.
    async fn named(&self, sentinel: &Sentinel) -> Result<Place, String> {
        let places = &self.target.places;
        // All of them within the time of one attempt, and some left for the master.
        let patience = self.pace.limit / u32::try_from(places.len() + 1).unwrap_or(u32::MAX);
        let (first, mut errors) = (self.sentinel.load(Ordering::Relaxed), Vec::new());
        for at in (0..places.len()).map(|at| (first + at) % places.len()) {
            let named = timeout(patience, self.ask_sentinel(&places[at], sentinel)).await;
            match named.unwrap_or_else(|_| Err("no answer".to_owned())) {
                Ok(place) => {
                    self.sentinel.store(at, Ordering::Relaxed);
                    return Ok(place);
                }
                Err(error) => errors.push(format!("the sentinel at {}: {error}", places[at])),
            }
        }
        Err(errors.join("; "))
    }

    async fn ask_sentinel(&self, place: &Place, sentinel: &Sentinel) -> Result<Place, String> {
        let mut session = self.open(place).await?;
        let mut login = authenticate(&mut session, None, sentinel.password.as_deref()).await;
        if sentinel.password.is_none() && login.as_ref().is_err_and(|error| error.contains("NOAUTH")) {
            login = authenticate(&mut session, None, self.target.password.as_deref()).await;
        }
        login.map_err(|error| error.replace("`url`", "`sentinel_password`"))?;
        let question: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", sentinel.master.as_bytes()];
        let named = ask(&mut session, &question, |value| {
            let [host, port] = value.array()? else { return None };
            let host = String::from_utf8(host.text()?.to_vec()).ok()?;
            let port = std::str::from_utf8(port.text()?).ok()?.parse().ok()?;
            Some(Place { host, port })
        });
        named
            .await?
            .ok_or_else(|| format!("it knows no master `{}`: correct `sentinel_master`", sentinel.master))
    }

    /// Becomes ready when the sentinels name another master than this.
    fn replaced(self, place: Place) -> Stale {
        Box::pin(async move {
            let Some(sentinel) = &self.target.sentinel else { return std::future::pending().await };
            loop {
                sleep(WATCH).await;
                match self.named(sentinel).await {
                    Ok(named) if named != place => {
                        return format!("the sentinels name {named} as master now");
                    }
                    // While no sentinel answers there is no failover either.
                    _ => {}
                }
            }
        })
    }
}

impl Service for Server {
    type Codec = RedisCodec;

    fn place(&self) -> String {
        match &self.which {
            Which::Node(place, _) => format!("Redis at {place}"),
            Which::Master => match &self.target.sentinel {
                Some(sentinel) => format!("the Redis master `{}`", sentinel.master),
                None => format!("Redis at {}", self.target.shown()),
            },
        }
    }

    async fn connect(&self) -> Result<Session<RedisCodec>, String> {
        match &self.which {
            Which::Master => self.master().await,
            Which::Node(place, _) => {
                let session = self.log_in(place).await;
                session.map_err(|error| format!("Redis at {place}: {error}"))
            }
        }
    }

    fn failed(&self) {
        if let Which::Node(_, trouble) = &self.which {
            trouble.notify_one();
        }
    }
}

async fn authenticate(
    session: &mut Session<RedisCodec>,
    user: Option<&str>,
    password: Option<&str>,
) -> Result<(), String> {
    if let Some(password) = password {
        let words = [Some("AUTH"), user, Some(password)].into_iter().flatten();
        let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
        ask(session, &words, |_| ()).await?;
    }
    // So that people find us in `CLIENT LIST`; who may not do that lives without.
    let _ = ask(session, &[b"CLIENT", b"SETNAME", b"outspoke"], |_| ()).await;
    // Whoever is not logged in is told here.
    ask(session, &[b"PING"], |_| ()).await
}

/// Asks one question, on a connection where nothing else is under way.
pub(super) async fn ask<T>(
    session: &mut Session<RedisCodec>,
    words: &[&[u8]],
    read: impl FnOnce(&Value<'_>) -> T,
) -> Result<T, String> {
    let mut out = BytesMut::new();
    command(words, &mut out);
    session.write(&out).await?;
    loop {
        if let Some((value, len)) = parse(session.input())? {
            let answer = match &value {
                Value::Error(text) => Err(errors::said(text)),
                value => Ok(read(value)),
            };
            session.input().advance(len);
            return answer;
        }
        session.fill().await?;
    }
}

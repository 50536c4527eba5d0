//! Who brings messages to the server: the HTTP API with a key, in batches; or a connection as a client, with a token or in
//! open mode.
//!
//! One attempt for a batch, and each message's fate; what is to be done about it is [`super::deliver`]'s. A connection is
//! paced below the rates that a server allows a client by default: what it refuses for a moment would come behind what it
//! takes, and lines would change places.

use std::sync::Arc;
use std::time::Duration;

use outspoke_client::{Client, Error, Room};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ExecArgs;
use crate::cli::api::{Api, ApiError, read};
use crate::cli::output::clean;
use crate::cli::reach::{Credential, Reach};
use crate::cli::socket::{SocketError, connect};

/// Messages in one batch over the API.
const API_BATCH_MAX: usize = 500;
/// Messages that a connection sends per second, at once after a pause, and without an acknowledgement, all of which are sent
/// again after a reconnect: together below the defaults of `rate.actions.publish`, 100/s burst 200.
const RATE: u32 = 80;
const BURST: f64 = 100.0;
const SOCKET_BATCH_MAX: usize = 40;

/// Letters and digits that nobody else has.
pub(super) fn nonce(chars: usize) -> String {
    let key = outspoke_auth::new_key();
    let random = key.chars().skip(outspoke_auth::KEY_PREFIX.len());
    random.filter(char::is_ascii_alphanumeric).take(chars).collect()
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) event: &'static str,
    pub(super) data: Value,
    pub(super) key: String,
}

impl Parcel {
    /// About as long as it is when it is written.
    pub(super) fn bytes(&self) -> usize {
        let line = self.data["line"].as_str().map_or(0, str::len);
        line + line / 2 + 300
    }
}

/// Why a parcel was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// It may be taken later.
    Now,
    /// For good, and why.
    Ever(String),
}

/// Why a whole batch was not taken.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) temporary: bool,
    pub(super) why: String,
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self { temporary: error.is_temporary(), why: error.to_string() }
    }
}

/// Who brings messages to the server.
#[derive(Debug)]
pub(super) struct Courier {
    way: Way,
    /// What the keys of this run begin with.
    run: String,
}

#[derive(Debug)]
enum Way {
    Api {
        api: Arc<Api>,
        room: String,
    },
    /// Before the first message there is no connection.
    Socket {
        reach: Box<Reach>,
        user: String,
        room: String,
        line: Option<(Client, Room<Value>)>,
        pace: Pace,
    },
}

impl Courier {
    pub(super) fn new(reach: Reach, args: &ExecArgs) -> Self {
        let room = args.room.clone();
        let way = match &reach.credential {
            Some(Credential::Key(_)) => Way::Api { api: Arc::new(Api::at(reach)), room },
            _ => {
                let rate = args.rate.unwrap_or(RATE);
                let user =
                    args.user.clone().or_else(|| reach.user.clone()).unwrap_or_else(|| "exec".to_owned());
                Way::Socket { reach: Box::new(reach), user, room, line: None, pace: Pace::new(rate) }
            }
        };
        Self { way, run: nonce(20) }
    }

    /// Messages in one batch at most.
    pub(super) fn batch_max(&self) -> usize {
        match self.way {
            Way::Api { .. } => API_BATCH_MAX,
            Way::Socket { .. } => SOCKET_BATCH_MAX,
        }
    }

    pub(super) fn parcel(&self, (event, data): (&'static str, Value), seq: u64) -> Parcel {
        Parcel { event, data, key: format!("{}-{seq}", self.run) }
    }

    /// The first message, which must be taken at once: before it nothing has begun.
    pub(super) async fn send_first(&mut self, message: (&'static str, Value)) -> anyhow::Result<()> {
        let parcel = self.parcel(message, 0);
        match &mut self.way {
            Way::Api { api, room } => {
                let (api, body) = (Arc::clone(api), written(room, &parcel));
                tokio::task::spawn_blocking(move || api.post::<Value>("/publish", &body)).await??;
            }
            Way::Socket { reach, user, room, line, .. } => {
                let (_, room) = dialed(reach, user, room, line).await?;
                let publish =
                    room.publish_as(parcel.event, &parcel.data).id(&parcel.key).timeout(reach.timeout);
                publish.await.map_err(SocketError::from)?;
            }
        }
        Ok(())
    }

    /// One attempt for all of them, each with its own fate.
    pub(super) async fn send(&mut self, parcels: &[Parcel]) -> Result<Vec<Result<(), Refused>>, Trouble> {
        match &mut self.way {
            Way::Api { api, room } => send_over_api(api, room, parcels).await,
            Way::Socket { reach, user, room, line, pace } => {
                let dialed = dialed(reach, user, room, line).await;
                let (_, room) = dialed.map_err(|error| Trouble {
                    temporary: error.exit() == crate::exit::Exit::Unreachable,
                    why: error.to_string(),
                })?;
                send_over_socket(room, parcels, pace).await
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn close(&mut self) {
        if let Way::Socket { line: Some((client, _)), .. } = &self.way {
            // Everything is acknowledged already.
            let _ = client.close().await;
        }
    }
}

fn written(room: &str, Parcel { event, data, key }: &Parcel) -> Value {
    json!({ "room": room, "type": event, "data": data, "idempotencyKey": key })
}

async fn send_over_api(
    api: &Arc<Api>,
    room: &str,
    parcels: &[Parcel],
) -> Result<Vec<Result<(), Refused>>, Trouble> {
    let messages: Vec<Value> = parcels.iter().map(|parcel| written(room, parcel)).collect();
    let (api, body) = (Arc::clone(api), json!({ "messages": messages }).to_string());
    let answer = tokio::task::spawn_blocking(move || api.post_json("/publish/batch", &body)).await;
    let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let mut answer: Value = read(&answer)?;
    let results = match answer["results"].take() {
        Value::Array(results) => results,
        _ => Vec::new(),
    };
    let fate = |result: &Value| match (result["type"] == "error", result["temporary"] == true) {
        (false, _) => Ok(()),
        (true, true) => Err(Refused::Now),
        (true, false) => {
            Err(Refused::Ever(clean(result["message"].as_str().unwrap_or_default()).into_owned()))
        }
    };
    let mut fates: Vec<_> = results.iter().map(fate).collect();
    fates.resize_with(parcels.len(), || Err(Refused::Now));
    Ok(fates)
}

/// The connection, made now if there is none.
async fn dialed<'a>(
    reach: &Reach,
    user: &str,
    room: &str,
    line: &'a mut Option<(Client, Room<Value>)>,
) -> Result<&'a (Client, Room<Value>), SocketError> {
    if line.is_none() {
        let client = connect(reach, user).await?;
        let room = client.room(room);
        *line = Some((client, room));
    }
    Ok(line.as_ref().expect("it was made above"))
}

async fn send_over_socket(
    room: &Room<Value>,
    parcels: &[Parcel],
    pace: &mut Pace,
) -> Result<Vec<Result<(), Refused>>, Trouble> {
    let mut underway = Vec::with_capacity(parcels.len());
    for Parcel { event, data, key } in parcels {
        pace.wait().await;
        // The outbox holds more than a batch: it is never full here.
        underway.push(room.publish_as(event, data).id(key).submit());
    }
    let mut fates = Vec::with_capacity(parcels.len());
    for publication in underway {
        let outcome = match publication {
            Ok(publication) => publication.await.map(drop),
            Err(error) => Err(error),
        };
        fates.push(match outcome {
            Ok(()) => Ok(()),
            Err(
                error @ (Error::Closed
                | Error::Unsent { .. }
                | Error::Disconnected { .. }
                | Error::Rejected { .. }),
            ) => {
                return Err(Trouble { temporary: false, why: error.to_string() });
            }
            Err(error) if error.is_retryable() => Err(Refused::Now),
            Err(error) => Err(Refused::Ever(error.to_string())),
        });
    }
    Ok(fates)
}

/// A leaky bucket: so many messages per second.
#[derive(Debug)]
struct Pace {
    /// Between two messages; zero for no limit.
    interval: Duration,
    /// When the bucket will be empty.
    empty: Instant,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        let interval = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self { interval, empty: Instant::now() }
    }

    async fn wait(&mut self) {
        if self.interval.is_zero() {
            return;
        }
        let now = Instant::now();
        self.empty = self.empty.max(now) + self.interval;
        let full = self.interval.mul_f64(BURST);
        if let Some(until) = self.empty.checked_sub(full)
            && until > now
        {
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_fit_for_keys_and_ids() {
        assert_eq!(nonce(20).len(), 20);
        assert_ne!(nonce(12), nonce(12));
        assert!(super::super::process_id(&nonce(12)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn pace_lets_a_burst_through_and_then_so_many_a_second() {
        let (begun, mut pace) = (Instant::now(), Pace::new(80));
        for _ in 0..100 {
            pace.wait().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..160 {
            pace.wait().await;
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(1990)..Duration::from_millis(2200)).contains(&took), "{took:?}");
        let mut free = Pace::new(0);
        for _ in 0..1000 {
            free.wait().await;
        }
        assert_eq!(begun.elapsed(), took);
    }
}

//! What a connection must pass before it is listened to: the limits on rates.
//!
//! Every frame is asked about when its last byte is there and before anything in it is looked at, narrowest limit first:
//! connection, user, address, tenant. So what one connection has too much of eats nothing from others. Requests are asked
//! about once more when it is known what they want, and messages by their room. A refusal costs the connection one of its
//! refusals: as long as it has some it is answered, at most once a second where nobody waits for an answer; then it is closed
//! with 4005. What is remembered of users and addresses is in [`crate::rate::gate`].

use std::time::Duration;

use outspoke_protocol::{Command as Wanted, Disconnect, ErrorCode, Refusal, RequestId};

use super::connection::{Connection, Phase};
use super::receive::Flow;
use super::{Key, Shard};
use crate::rate::RateConfig;
use crate::rate::bucket::{Bucket, Moment};
use crate::rate::gate::Deed;
use crate::stats::count;

/// Between two answers to frames that nobody has looked into.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection's own buckets.
#[derive(Debug, Default)]
pub(super) struct Toll {
    frames: Bucket,
    refusals: Bucket,
    /// Until then refusals are not answered.
    silent_until: Moment,
}

/// What a batch of frames is asked by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) rate: &'a RateConfig,
    /// One look at the clock for all of them.
    pub(super) now: Moment,
}

impl Connection {
    /// Asks whether the next frame may be looked into.
    #[inline]
    pub(super) fn admit(&self, rules: Rules<'_>) -> Result<(), Duration> {
        let Rules { rate, now } = rules;
        self.toll.frames.take(rate.connection, now)?;
        self.place.standing.frame(rate, now)?;
        self.place.tenant().meter.frame(rate.tenant, now)
    }
}

impl Shard {
    /// By what the frames of a connection are limited, if by anything.
    pub(super) fn rules<'a>(&mut self, key: Key, config: &'a crate::HubConfig) -> Option<Rules<'a>> {
        let hub = std::sync::Arc::clone(&self.hub);
        let connection = self.connection(key)?;
        // Conformance suites send as fast as they can.
        if !config.rate.is_on() || connection.echo {
            return None;
        }
        if connection.place.standing.is_behind(config) {
            let client = &connection.client;
            hub.gate.catch_up(&mut connection.place.standing, client.identity(), client.address(), config);
        }
        Some(Rules { rate: &config.rate, now: hub.gate.now() })
    }

    /// A frame that nobody has looked into, because there were too many.
    pub(super) fn too_many_frames(&mut self, key: Key, retry_after: Duration, rules: Rules<'_>) -> Flow {
        count(&self.counters().frames_refused, 1);
        let detail = "too many frames: what came too fast was ignored, unread; send slower";
        let refusal =
            Refusal { retry_after: Some(retry_after), ..Refusal::new(ErrorCode::RateLimited, detail) };
        self.refuse_or_close(key, refusal, rules)
    }

    /// Asks whether the client may do another such thing. Where it may not, it has been answered, or closed.
    pub(super) fn check_deed(
        &mut self,
        key: Key,
        wanted: &Wanted<'_>,
        id: Option<&RequestId>,
    ) -> Option<Flow> {
        let deed = deed_of(wanted)?;
        let config = self.hub.config();
        let now = self.hub.gate.now();
        let rules = Rules { rate: &config.rate, now };
        let connection = &self.connections[key.slot as usize];
        let private = matches!(wanted, Wanted::Direct { .. }).then_some(Deed::Direct);
        for deed in private.into_iter().chain([deed]) {
            if let Err(wait) = connection.place.standing.deed(deed, rules.rate, now) {
                return Some(self.refuse_or_close(key, deed.refused(wait).answering(id.cloned()), rules));
            }
        }
        None
    }

    fn refuse_or_close(&mut self, key: Key, refusal: Refusal, rules: Rules<'_>) -> Flow {
        let Rules { rate, now } = rules;
        let toll = &mut self.connections[key.slot as usize].toll;
        if toll.refusals.take(rate.refusals, now).is_err() {
            return self.throw_out(key);
        }
        // Who waits for an answer gets it; the refusals that it may cause are its limit. Without such a limit there is no
        // bound but the clock's.
        let waited_for = refusal.request.is_some() && !rate.refusals.is_off();
        if waited_for || now >= toll.silent_until {
            let pause = refusal.retry_after.unwrap_or_default().max(SILENCE);
            if !waited_for {
                toll.silent_until = now.plus(pause);
            }
            self.refuse(key.slot, refusal);
        }
        Flow::Continue
    }

    fn throw_out(&mut self, key: Key) -> Flow {
        count(&self.counters().clients_rate_limited, 1);
        self.begin_close(key, Disconnect::RateLimited);
        if let Some(connection) = self.connection(key)
            && let Phase::Closing { answered, .. } = &mut connection.phase
        {
            // What still comes is not even decoded.
            *answered = true;
            if connection.outbox.is_none() {
                self.go_on_closing(key.slot);
            }
        }
        Flow::Ended
    }
}

/// What a request is limited as; a ping is a frame like any other.
fn deed_of(wanted: &Wanted<'_>) -> Option<Deed> {
    match wanted {
        Wanted::Publish { .. } | Wanted::Direct { .. } | Wanted::Amend { .. } | Wanted::Custom { .. } => {
            Some(Deed::Publish)
        }
        Wanted::Subscribe { .. } | Wanted::Unsubscribe { .. } => Some(Deed::Membership),
        Wanted::Presence { .. }
        | Wanted::History { .. }
        | Wanted::Receipts { .. }
        | Wanted::Conversations { .. }
        | Wanted::Commands => Some(Deed::Read),
        Wanted::Authenticate { .. } => Some(Deed::Authenticate),
        Wanted::Kick { .. } => Some(Deed::Publish),
        Wanted::Typing { .. } | Wanted::Receipt { .. } => Some(Deed::Signal),
        _ => None,
    }
}

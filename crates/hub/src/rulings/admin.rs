//! What operators and applications decide about credentials that are out: by the hub's handle.
//!
//! A handle decides for its tenant. When a call returns `Ok`, nothing more is delivered on this node to whom it concerns; on the
//! others within the bus's latency, and without the bus within five seconds.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{Timestamp, UserId};
use tokio::sync::oneshot;

use super::record::Entry;
use super::{BAR_LASTS_MIN, Ruling, RulingError, Subject, Verdict};
use crate::admin::Listing;
use crate::hub::{Hub, Inner};
use crate::policy::Permissions;

/// What came of a ruling.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ruled {
    /// What the ruling is called, for lifting it.
    pub id: EcoString,
    /// Whether it is remembered through a restart; not by a hub without a store.
    pub durable: bool,
    /// Connections on this node that it was about.
    pub clients: usize,
    /// When it is forgotten.
    pub until: Timestamp,
}

/// A ruling that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RulingInfo {
    /// What it is called.
    pub id: EcoString,
    /// What was decided.
    pub ruling: Ruling,
    /// When.
    pub made: Timestamp,
}

impl Hub {
    /// Decides something about credentials that are out, in the place of what was decided about the same before.
    ///
    /// # Errors
    /// See [`RulingError`]: nothing is decided. If the store takes too long, perhaps: then it counts on every node,
    /// this one too, as soon as the store has it. Ask again.
    ///
    /// # Cancel safety
    /// Deciding begins when this is first polled, and goes on if the future is dropped.
    pub async fn rule(&self, ruling: Ruling) -> Result<Ruled, RulingError> {
        self.rulings_read().await?;
        let tenant = &self.tenant.name;
        let now = self.inner.now();
        let draft = Entry::new(tenant, ruling, now, None)?;
        let known = self.inner.rulings.find(&draft);
        let max = self.inner.config().rulings_max;
        if known.is_none() && self.inner.rulings.count() >= max {
            return Err(RulingError::TooMany { max });
        }
        let entry = Entry::new(tenant, draft.ruling, now, known.map(|known| known.made))?;
        self.decide(entry).await
    }

    /// A token, by its id, is not accepted any more. For `until`, the time when the token ends is best.
    ///
    /// # Errors
    /// As [`rule`](Self::rule).
    pub async fn revoke_token(&self, id: &str, until: Option<Timestamp>) -> Result<Ruled, RulingError> {
        let mut ruling = Ruling::new(Subject::Token(id.into()), Verdict::Revoked { reconnect: false });
        if let Some(until) = until {
            (ruling.until, ruling.issued_before) = (until, until);
        }
        self.rule(ruling).await
    }

    /// Every credential that a user has now is not accepted any more; ones that are issued from now on are. `reconnect`: whether the
    /// user's clients should come back with those.
    ///
    /// # Errors
    /// As [`rule`](Self::rule).
    pub async fn revoke_user(&self, user: &UserId, reconnect: bool) -> Result<Ruled, RulingError> {
        self.rule(Ruling::new(Subject::User(user.clone()), Verdict::Revoked { reconnect })).await
    }

    /// The same for one of the user's devices.
    ///
    /// # Errors
    /// As [`rule`](Self::rule).
    pub async fn revoke_device(
        &self,
        user: &UserId,
        device: &str,
        reconnect: bool,
    ) -> Result<Ruled, RulingError> {
        let subject = Subject::Device { user: user.clone(), device: device.into() };
        self.rule(Ruling::new(subject, Verdict::Revoked { reconnect })).await
    }

    /// A user may do this from now on, whatever the credentials say that are out; connections leave the rooms that they may not
    /// be in any more. Credentials that are issued from now on say themselves what they allow.
    ///
    /// # Errors
    /// As [`rule`](Self::rule).
    pub async fn set_permissions(
        &self,
        user: &UserId,
        permissions: Permissions,
    ) -> Result<Ruled, RulingError> {
        self.rule(Ruling::new(Subject::User(user.clone()), Verdict::Permissions(permissions))).await
    }

    /// A user's credentials mean again what they say.
    ///
    /// # Errors
    /// As [`rule`](Self::rule).
    pub async fn restore_permissions(&self, user: &UserId) -> Result<bool, RulingError> {
        self.lift_like(Subject::User(user.clone()), Verdict::Permissions(Permissions::nothing())).await
    }

    /// Takes a user out of a room, and keeps the user out for so long: [five seconds](BAR_LASTS_MIN) to a year.
    ///
    /// # Errors
    /// As [`rule`](Self::rule); the name is no room name, or the time too short.
    pub async fn remove_from_room(
        &self,
        room: &str,
        user: &UserId,
        lasting: Duration,
    ) -> Result<Ruled, RulingError> {
        if lasting < BAR_LASTS_MIN {
            return Err(RulingError::Invalid(
                "nobody is kept out of a room for less than five seconds: the other nodes must hear of it",
            ));
        }
        let verdict = self.barred_from(room)?;
        self.rule(Ruling::new(Subject::User(user.clone()), verdict).lasting(lasting)).await
    }

    /// Lets a user into a room again that was [removed](Self::remove_from_room) from it. Returns whether the user was kept out.
    ///
    /// # Errors
    /// As [`rule`](Self::rule); the name is no room name.
    pub async fn readmit(&self, room: &str, user: &UserId) -> Result<bool, RulingError> {
        let verdict = self.barred_from(room)?;
        self.lift_like(Subject::User(user.clone()), verdict).await
    }

    /// The rulings of the tenant that hold, after the one called `after`, in an order of their own.
    #[must_use]
    pub fn rulings(&self, after: Option<&str>, max: usize) -> Listing<RulingInfo> {
        // What is no id is before all of them.
        let after = after.and_then(|after| BASE64_URL_SAFE_NO_PAD.decode(after).ok());
        let now = self.inner.now();
        let Listing { items, more } = self.inner.rulings.list(&self.tenant.name, after.as_deref(), max, now);
        let info = |entry: &Arc<Entry>| RulingInfo {
            id: id_of(&entry.name),
            ruling: entry.ruling.clone(),
            made: Timestamp::from_millis(entry.made),
        };
        Listing { items: items.iter().map(info).collect(), more }
    }

    /// Takes a ruling back: from now on it is as if it had ended. Who was disconnected comes back by itself or not at all. Returns
    /// whether there was one called that.
    ///
    /// # Errors
    /// As [`rule`](Self::rule).
    pub async fn lift(&self, id: &str) -> Result<bool, RulingError> {
        self.rulings_read().await?;
        let Ok(name) = BASE64_URL_SAFE_NO_PAD.decode(id) else { return Ok(false) };
        let now = self.inner.now();
        let before = name.len().checked_sub(1).map(|last| &name[..last]);
        // The first that comes after what is just before it: by the order of names, itself, or it is not there.
        let mut after = before.map(<[u8]>::to_vec);
        loop {
            let page = self.inner.rulings.list(&self.tenant.name, after.as_deref(), 64, now);
            if let Some(entry) = page.items.iter().find(|entry| entry.name == name) {
                return self.lift_entry(entry).await;
            }
            match page.items.last() {
                Some(last) if page.more && *last.name < *name => after = Some(last.name.to_vec()),
                _ => return Ok(false),
            }
        }
    }

    /// Lifts what holds about the same as this.
    async fn lift_like(&self, subject: Subject, verdict: Verdict) -> Result<bool, RulingError> {
        self.rulings_read().await?;
        let now = self.inner.now();
        let like = Entry::new(&self.tenant.name, Ruling::new(subject, verdict), now, None)?;
        match self.inner.rulings.find(&like).filter(|entry| entry.holds(now)) {
            Some(entry) => self.lift_entry(&entry).await,
            None => Ok(false),
        }
    }

    async fn lift_entry(&self, entry: &Entry) -> Result<bool, RulingError> {
        self.decide(entry.lifted(self.inner.now())).await?;
        Ok(true)
    }

    fn barred_from(&self, room: &str) -> Result<Verdict, RulingError> {
        let room = self.inner.room_name(room).map_err(|_| RulingError::Invalid("this is no room's name"))?;
        if crate::direct::is_reserved(room.as_str()) {
            return Err(RulingError::Invalid("private conversations belong to their two users"));
        }
        Ok(Verdict::Barred { room })
    }

    /// Decides in a task of its own: what is begun is brought to its end, whether or not anybody waits for it, and also
    /// when it is too late for an answer.
    async fn decide(&self, entry: Entry) -> Result<Ruled, RulingError> {
        let Some(keeper) = self.inner.keepers.first() else { return self.inner.decide(entry).await };
        let (hub, (decided, outcome)) = (Arc::clone(&self.inner), oneshot::channel());
        keeper.spawn(async move {
            let mut keeping = hub.keeping.subscribe();
            tokio::select! {
                outcome = hub.decide(entry) => {
                    // Whoever asked may have stopped waiting.
                    let _ = decided.send(outcome);
                }
                // Nothing is written any more.
                _ = keeping.wait_for(|count| *count == 0) => {}
            }
        });
        let patience = self.inner.config().store_timeout;
        match tokio::time::timeout(patience, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(RulingError::Unavailable("the hub has stopped".to_owned())),
            Err(_) => {
                let late = "it takes too long; the decision may count all the same, once it is stored";
                Err(RulingError::Unavailable(late.to_owned()))
            }
        }
    }

    /// What is read at start must not come behind what is decided now.
    async fn rulings_read(&self) -> Result<(), RulingError> {
        if self.inner.rulings.wait_until_read(self.inner.config().store_timeout).await {
            return Ok(());
        }
        Err(RulingError::Unavailable("the rulings are not read yet".to_owned()))
    }
}

impl Inner {
    /// Writes a decision, tells it, and does it.
    async fn decide(&self, entry: Entry) -> Result<Ruled, RulingError> {
        let entry = Arc::new(entry);
        let durable = self.write_ruling(&entry).await?;
        // Others may have filled the book meanwhile; what is written is remembered all the same.
        let news = self.rulings.merge(Arc::clone(&entry), usize::MAX) == Ok(true);
        if let Some(cluster) = &self.cluster {
            cluster.tell_rulings(None, &[entry.encode()]);
        }
        let mut clients = 0;
        if news {
            let concerned = self.enforce(std::slice::from_ref(&entry));
            self.done(&concerned).await;
            clients = concerned.clients;
        }
        Ok(Ruled { id: id_of(&entry.name), durable, clients, until: entry.ruling.until })
    }
}

fn id_of(name: &Bytes) -> EcoString {
    BASE64_URL_SAFE_NO_PAD.encode(name).into()
}

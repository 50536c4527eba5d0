//! What is remembered of addresses and users, and of how many connections each has.
//!
//! One [`Gate`] per hub. A connection holds the entries of its address and its user in its [`Standing`], so that asking them
//! is a compare-and-swap and no look into a map; where nothing limits addresses, or users, there are no entries at all. They
//! outlive their connections until they say nothing more, so that reconnecting gives nobody a new burst.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ecow::{EcoString, eco_format};
use outspoke_protocol::{ErrorCode, Refusal, UserId};

use super::bucket::{Bucket, Clock, Moment, Rate};
use super::config::RateConfig;
use super::keyed::{Entry, Kept, Keyed};
use crate::auth::Identity;
use crate::config::HubConfig;
use crate::peer::ClientAddress;
use crate::quota::Meter;

/// Addresses and users remembered that have no connection: some twenty megabytes at most.
const REMEMBERED_MAX: usize = 64 * 1024;

/// The kinds of [`ActionRates`](super::ActionRates), which are asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// Saying something in a room, or changing what was said there.
    Publish,
    /// A private message, which is a message as well.
    Direct,
    /// Entering or leaving a room.
    Membership,
    /// Looking at something.
    Read,
    /// Typing, or saying what was read.
    Signal,
    /// Showing a token.
    Authenticate,
}

impl Deed {
    const COUNT: usize = 6;

    fn rate(self, config: &RateConfig) -> Rate {
        let actions = &config.actions;
        match self {
            Self::Publish => actions.publish,
            Self::Direct => actions.direct,
            Self::Membership => actions.membership,
            Self::Read => actions.read,
            Self::Signal => actions.signal,
            Self::Authenticate => actions.authenticate,
        }
    }

    /// As it ends the sentence "too many ...".
    fn plural(self) -> &'static str {
        match self {
            Self::Publish => "messages",
            Self::Direct => "private messages",
            Self::Membership => "joins and leaves",
            Self::Read => "look-ups",
            Self::Signal => "typing and receipt signals",
            Self::Authenticate => "tokens",
        }
    }

    /// The refusal of one too many.
    pub(crate) fn refused(self, retry_after: Duration) -> Refusal {
        let detail = eco_format!("too many {}: this was not done; try again later", self.plural());
        Refusal { retry_after: Some(retry_after), ..Refusal::new(ErrorCode::RateLimited, detail) }
    }
}

type Address = Kept<IpAddr, AddressEntry>;
type User = Kept<UserKey, UserEntry>;

/// What is remembered of an address.
#[derive(Debug, Default)]
pub(crate) struct AddressEntry {
    frames: Bucket,
    upgrades: Bucket,
    auth_failures: Bucket,
    connections: AtomicUsize,
    unknown: AtomicUsize,
}

impl Entry for AddressEntry {
    fn is_blank(&self, now: Moment) -> bool {
        self.frames.is_empty(now) && self.upgrades.is_empty(now) && self.auth_failures.is_empty(now)
    }
}

/// What is remembered of a user.
#[derive(Debug, Default)]
pub(crate) struct UserEntry {
    frames: Bucket,
    deeds: [Bucket; Deed::COUNT],
    connections: AtomicUsize,
}

impl Entry for UserEntry {
    fn is_blank(&self, now: Moment) -> bool {
        self.frames.is_empty(now) && self.deeds.iter().all(|bucket| bucket.is_empty(now))
    }
}

/// Something that counts its connections.
trait Counting {
    fn connections(&self) -> &AtomicUsize;
}

impl Counting for Address {
    fn connections(&self) -> &AtomicUsize {
        &self.connections
    }
}

impl Counting for User {
    fn connections(&self) -> &AtomicUsize {
        &self.connections
    }
}

/// One more among the connections of an entry, for as long as it lives.
#[derive(Debug)]
struct Counted<V: Counting>(Arc<V>);

impl<V: Counting> Counted<V> {
    /// `None` if there are `max` already; 0 is no limit.
    fn enter(entry: Arc<V>, max: usize) -> Option<Self> {
        enter(entry.connections(), max).then(|| Self(entry))
    }
}

impl<V: Counting> Drop for Counted<V> {
    fn drop(&mut self) {
        self.0.connections().fetch_sub(1, Ordering::AcqRel);
    }
}

fn enter(count: &AtomicUsize, max: usize) -> bool {
    let one_more = |count| (max == 0 || count < max).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
}

/// Whose user it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UserKey {
    tenant: EcoString,
    user: UserId,
}

/// Too many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    Address { max: usize },
    User { max: usize },
}

/// What a connection holds of its address and its user; counts as one of the connections of both.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    address: Option<Counted<Address>>,
    user: Option<Counted<User>>,
    /// Where it comes from is not known, or not limited.
    exempt: bool,
}

impl Standing {
    /// Whether something is limited by now that was not when the connection came.
    #[inline]
    pub(crate) fn is_behind(&self, config: &HubConfig) -> bool {
        let address = self.address.is_none() && !self.exempt && !config.rate.address.is_off();
        address || (self.user.is_none() && limits_users(config))
    }

    /// Asks user and address whether another frame may come, in this order: what a user has too much of eats nothing from
    /// the others at the same address.
    #[inline]
    pub(crate) fn frame(&self, config: &RateConfig, now: Moment) -> Result<(), Duration> {
        if let Some(Counted(user)) = &self.user {
            user.frames.take(config.user, now)?;
        }
        match &self.address {
            Some(Counted(address)) => address.frames.take(config.address, now),
            None => Ok(()),
        }
    }

    /// Asks whether the user may do another such thing.
    pub(crate) fn deed(&self, deed: Deed, config: &RateConfig, now: Moment) -> Result<(), Duration> {
        match &self.user {
            Some(Counted(user)) => user.deeds[deed as usize].take(deed.rate(config), now),
            None => Ok(()),
        }
    }
}

/// Somebody who has not said yet who it is, counted for its address until dropped.
#[derive(Debug)]
pub(crate) struct Unknown(Arc<Address>);

impl Drop for Unknown {
    fn drop(&mut self) {
        self.0.unknown.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Everything remembered.
#[derive(Debug)]
pub(crate) struct Gate {
    clock: Clock,
    addresses: Keyed<IpAddr, AddressEntry>,
    users: Keyed<UserKey, UserEntry>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { clock: Clock::new(), addresses: Keyed::new(REMEMBERED_MAX), users: Keyed::new(REMEMBERED_MAX) }
    }
}

impl Gate {
    /// Now, for every bucket of the hub.
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Takes one attempt to connect from the address; refused too while it has too many failures to show.
    pub(crate) fn attempt(&self, address: ClientAddress, config: &RateConfig) -> Result<(), Duration> {
        let limited = !config.upgrades.is_off() || !config.auth_failures.is_off();
        let Some(origin) = limited.then(|| limited_origin(address, config)).flatten() else { return Ok(()) };
        let now = self.now();
        let entry = self.addresses.of(&origin, now);
        entry.upgrades.take(config.upgrades, now)?;
        entry.auth_failures.look(config.auth_failures, now)
    }

    /// Asks whether somebody from the address may show a credential without connecting: not while it has too many failures
    /// to show.
    pub(crate) fn may_show(&self, address: ClientAddress, config: &RateConfig) -> Result<(), Duration> {
        if config.auth_failures.is_off() {
            return Ok(());
        }
        let Some(origin) = limited_origin(address, config) else { return Ok(()) };
        let now = self.now();
        self.addresses.of(&origin, now).auth_failures.look(config.auth_failures, now)
    }

    /// Counts an attempt that was refused for what it showed.
    pub(crate) fn auth_failed(&self, address: ClientAddress, config: &RateConfig) {
        if config.auth_failures.is_off() {
            return;
        }
        if let Some(origin) = limited_origin(address, config) {
            let now = self.now();
            // Full: then the next attempt is refused anyway.
            let _ = self.addresses.of(&origin, now).auth_failures.take(config.auth_failures, now);
        }
    }

    /// Takes one request of somebody without a connection: for the user, the address and the tenant as a frame would be, then
    /// as what it wants.
    pub(crate) fn request(
        &self,
        (identity, address, tenant): (&Identity, Option<ClientAddress>, &Meter),
        deeds: &[Deed],
        config: &HubConfig,
    ) -> Result<(), Refusal> {
        let (rate, now) = (&config.rate, self.now());
        let user = limits_users(config).then(|| self.user_entry(identity));
        let address = if rate.address.is_off() { None } else { self.address_entry(address, config) };
        let frame = user.as_ref().map_or(Ok(()), |user| user.frames.take(rate.user, now));
        let frame = frame.and_then(|()| address.map_or(Ok(()), |from| from.frames.take(rate.address, now)));
        frame.and_then(|()| tenant.frame(rate.tenant, now)).map_err(|wait| {
            let detail = "too many requests: this was not done; try again later";
            Refusal { retry_after: Some(wait), ..Refusal::new(ErrorCode::RateLimited, detail) }
        })?;
        for deed in deeds {
            let taken =
                user.as_ref().map_or(Ok(()), |user| user.deeds[*deed as usize].take(deed.rate(rate), now));
            taken.map_err(|wait| deed.refused(wait))?;
        }
        Ok(())
    }

    /// Counts a connection for its address and its user.
    pub(crate) fn admit(
        &self,
        identity: &Identity,
        address: Option<ClientAddress>,
        config: &HubConfig,
    ) -> Result<Standing, Crowded> {
        let address = self.of_address(address, config)?;
        let user = self.of_user(identity, config)?;
        Ok(Standing { address, user, exempt: false })
    }

    /// Counts a connection that has not said yet who it is, for its address.
    ///
    /// # Errors
    /// How many the address may have: it has as many.
    pub(crate) fn admit_unknown(
        &self,
        address: ClientAddress,
        config: &HubConfig,
    ) -> Result<Option<Unknown>, usize> {
        let max = config.unauthenticated_per_address_max;
        let Some(origin) = (max > 0).then(|| limited_origin(address, &config.rate)).flatten() else {
            return Ok(None);
        };
        let entry = self.addresses.of(&origin, self.now());
        if enter(&entry.unknown, max) { Ok(Some(Unknown(entry))) } else { Err(max) }
    }

    /// The standing of a connection whose limits were off when it came. It stays, however many there are.
    pub(crate) fn catch_up(
        &self,
        standing: &mut Standing,
        identity: &Identity,
        address: Option<ClientAddress>,
        config: &HubConfig,
    ) {
        if standing.address.is_none() && !config.rate.address.is_off() {
            standing.address = self.address_entry(address, config).and_then(|entry| Counted::enter(entry, 0));
            standing.exempt = standing.address.is_none();
        }
        if standing.user.is_none() && limits_users(config) {
            standing.user = Counted::enter(self.user_entry(identity), 0);
        }
    }

    fn of_address(
        &self,
        address: Option<ClientAddress>,
        config: &HubConfig,
    ) -> Result<Option<Counted<Address>>, Crowded> {
        let max = config.connections_per_address_max;
        if max == 0 && config.rate.address.is_off() {
            return Ok(None);
        }
        let Some(entry) = self.address_entry(address, config) else { return Ok(None) };
        Counted::enter(entry, max).map(Some).ok_or(Crowded::Address { max })
    }

    fn of_user(&self, identity: &Identity, config: &HubConfig) -> Result<Option<Counted<User>>, Crowded> {
        let max = config.connections_per_user_max;
        if max == 0 && !limits_users(config) {
            return Ok(None);
        }
        Counted::enter(self.user_entry(identity), max).map(Some).ok_or(Crowded::User { max })
    }

    fn address_entry(&self, address: Option<ClientAddress>, config: &HubConfig) -> Option<Arc<Address>> {
        let origin = limited_origin(address?, &config.rate)?;
        Some(self.addresses.of(&origin, self.now()))
    }

    fn user_entry(&self, identity: &Identity) -> Arc<User> {
        let key = UserKey { tenant: identity.tenant.clone(), user: identity.user.clone() };
        // A made-up id does not come back.
        if identity.anonymous { Arc::new(Kept::new(key)) } else { self.users.of(&key, self.now()) }
    }

    /// Forgets a part of what says nothing any more. For a timer to call.
    pub(crate) fn sweep(&self) {
        let now = self.now();
        self.addresses.sweep(now);
        self.users.sweep(now);
    }
}

fn limits_users(config: &HubConfig) -> bool {
    !config.rate.user.is_off() || config.rate.actions.is_on()
}

/// Whom an address stands for, if it is limited at all.
fn limited_origin(address: ClientAddress, config: &RateConfig) -> Option<IpAddr> {
    let exempt = config.exempt.iter().any(|range| range.contains(address.ip()));
    (!exempt).then(|| origin_of(address.ip()))
}

/// Whom an address stands for where addresses are limited: an IPv4 address for itself, an IPv6 address for the 2^64 that its
/// network has, since whoever has one of them has all.
#[must_use]
pub fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::new(text.parse().unwrap())
    }

    fn limited() -> HubConfig {
        let mut config =
            HubConfig { connections_per_address_max: 2, connections_per_user_max: 3, ..HubConfig::default() };
        config.rate.upgrades = Rate::per_second(1, 3);
        config.rate.auth_failures = Rate::per(1, Duration::from_secs(60), 2);
        config.rate.exempt = vec!["127.0.0.0/8".parse().unwrap()];
        config
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_and_users_have_so_many_connections_and_get_their_places_back() {
        let (gate, config) = (Gate::default(), limited());
        let admit = |user: &str, from: &str| gate.admit(&Identity::user(user), Some(address(from)), &config);
        let first = admit("a", "192.0.2.1").unwrap();
        let _second = admit("b", "192.0.2.1").unwrap();
        assert_eq!(admit("c", "::ffff:192.0.2.1").unwrap_err(), Crowded::Address { max: 2 });
        let _others = [admit("a", "192.0.2.2").unwrap(), admit("a", "127.0.0.1").unwrap()];
        assert_eq!(admit("a", "192.0.2.3").unwrap_err(), Crowded::User { max: 3 });
        drop(first);
        let _third = admit("a", "192.0.2.1").unwrap();
        // What was refused for its user has not taken a place of its address.
        assert!(admit("x", "192.0.2.3").is_ok_and(|_| admit("y", "192.0.2.3").is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_users_of_one_name_are_two_and_anonymous_ones_as_many_as_they_are() {
        let (gate, config) =
            (Gate::default(), HubConfig { connections_per_user_max: 1, ..HubConfig::default() });
        let admit = |identity: &Identity| gate.admit(identity, None, &config);
        let _one = admit(&Identity::user("a")).unwrap();
        let _other = admit(&Identity::user("a").of_tenant("acme")).unwrap();
        assert!(admit(&Identity::user("a")).is_err());
        let nobody = Identity::anonymous();
        let _nobodies = [admit(&nobody).unwrap(), admit(&nobody).unwrap()];
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_limited_by_their_number_and_by_their_failures() {
        let (gate, rate) = (Gate::default(), limited().rate);
        let network = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::", "2001:db8::ff"].map(address);
        let passed = network.iter().filter(|from| gate.attempt(**from, &rate).is_ok()).count();
        assert_eq!(passed, 3, "one network is one address");
        assert!(gate.attempt(address("2001:db8:0:1::1"), &rate).is_ok());
        let guesser = address("192.0.2.9");
        for _ in 0..2 {
            gate.attempt(guesser, &rate).unwrap();
            gate.auth_failed(guesser, &rate);
        }
        let wait = gate.attempt(guesser, &rate).unwrap_err();
        assert!(wait > Duration::from_secs(50), "{wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(gate.attempt(guesser, &rate), Ok(()));
        let exempt = address("127.0.0.1");
        assert!((0..100).all(|_| gate.attempt(exempt, &rate).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn million_addresses_are_remembered_in_bounded_memory() {
        let (gate, config) = (Gate::default(), limited());
        for number in 0..1_000_000_u32 {
            let from = ClientAddress::new(IpAddr::from((number.wrapping_mul(2_654_435_761)).to_be_bytes()));
            if config.rate.exempt[0].contains(from.ip()) {
                continue;
            }
            gate.attempt(from, &config.rate).unwrap();
            gate.auth_failed(from, &config.rate);
        }
        assert!(gate.addresses.len() <= REMEMBERED_MAX, "{}", gate.addresses.len());
        tokio::time::advance(Duration::from_secs(61)).await;
        for _ in 0..64 {
            gate.sweep();
        }
        assert_eq!(gate.addresses.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_count_for_address_and_user_over_all_their_connections() {
        let (gate, mut config) = (Gate::default(), HubConfig::default());
        config.rate.user = Rate::per_second(1, 5);
        config.rate.address = Rate::per_second(1, 8);
        let admit =
            |user: &str| gate.admit(&Identity::user(user), Some(address("192.0.2.1")), &config).unwrap();
        let standings = [admit("a"), admit("a"), admit("b")];
        let passed: Vec<_> = standings
            .iter()
            .map(|standing| (0..4).filter(|_| standing.frame(&config.rate, gate.now()).is_ok()).count())
            .collect();
        // "a" got five, and what it asked for in vain was not taken from the eight for the address.
        assert_eq!(passed, [4, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_that_are_off_cost_no_memory_until_they_are_on() {
        let (gate, mut config) = (Gate::default(), HubConfig::default());
        let (identity, from) = (Identity::user("a"), Some(address("192.0.2.1")));
        let mut standing = gate.admit(&identity, from, &config).unwrap();
        assert!(standing.address.is_none() && standing.user.is_none());
        config.rate.actions.publish = Rate::per_second(1, 1);
        gate.catch_up(&mut standing, &identity, from, &config);
        assert!(standing.deed(Deed::Publish, &config.rate, gate.now()).is_ok());
        assert!(standing.deed(Deed::Publish, &config.rate, gate.now()).is_err());
        assert!(standing.deed(Deed::Read, &config.rate, gate.now()).is_ok());
        assert!(standing.address.is_none());
    }
}

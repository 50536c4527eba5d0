//! Connections that are no WebSocket (yet), counted by address.
//!
//! They cost a task and a buffer before anybody knows who they are, so an address has but so many. The map has an entry for
//! each address that has a connection at the moment, and those are few: it needs no bound of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use outspoke_hub::{AddressRange, origin_of};

use crate::config::Config;

/// The counts, and what they may be.
#[derive(Debug)]
pub(super) struct Doors {
    counts: Mutex<HashMap<IpAddr, usize>>,
    /// What holds for the next connection.
    pub(super) rules: Arc<ArcSwap<Rules>>,
}

/// What the counts may be.
#[derive(Debug)]
pub(super) struct Rules {
    per_address_max: usize,
    exempt: Vec<AddressRange>,
    /// Of all addresses together.
    max: usize,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            per_address_max: config.limits.http_connections_per_address_max,
            exempt: config.rate.exempt.clone(),
            max: config.limits.http_connections_max,
        }
    }
}

/// One connection of an address, until dropped.
#[derive(Debug)]
pub(super) struct Entered {
    doors: Arc<Doors>,
    /// `None` if its address has no limit.
    origin: Option<IpAddr>,
}

impl Doors {
    pub(super) fn of(config: &Config) -> Self {
        Self { counts: Mutex::default(), rules: Arc::new(ArcSwap::from_pointee(Rules::of(config))) }
    }

    /// So many of all addresses together.
    pub(super) fn max(&self) -> usize {
        self.rules.load().max
    }

    /// Counts a connection; `None` if its address has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Entered> {
        let rules = self.rules.load();
        let limited = rules.per_address_max > 0 && !rules.exempt.iter().any(|range| range.contains(peer));
        let origin = limited.then(|| origin_of(peer));
        if let Some(origin) = origin {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(origin).or_default();
            if *count >= rules.per_address_max {
                return None;
            }
            *count += 1;
        }
        Some(Entered { doors: Arc::clone(self), origin })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(origin) = self.origin else { return };
        let mut counts = self.doors.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&origin);
                // A crowd that has left gives its memory back.
                if counts.capacity() > 1024 && counts.len() * 8 < counts.capacity() {
                    counts.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn doors(per_address_max: usize) -> Arc<Doors> {
        let mut config = Config::default();
        config.limits.http_connections_per_address_max = per_address_max;
        Arc::new(Doors::of(&config))
    }

    #[test]
    fn address_has_so_many_connections_and_gets_their_places_back() {
        let doors = doors(2);
        let enter = |text: &str| doors.enter(text.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::3").is_some());
        drop(first);
        assert!(enter("2001:db8::3").is_some());
        let own: Vec<_> = (0..100).map(|_| enter("127.0.0.1")).collect();
        assert!(own.iter().all(Option::is_some), "this machine is exempt");
    }

    #[test]
    fn million_addresses_leave_nothing_behind() {
        let doors = doors(1);
        let entered: Vec<_> =
            (0..1_000_000_u32).filter_map(|number| doors.enter(number.to_be_bytes().into())).collect();
        assert!(entered.len() == 1_000_000);
        drop(entered);
        let counts = doors.counts.lock().unwrap();
        assert!(counts.is_empty() && counts.capacity() <= 1024);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let doors = doors(0);
        let entered: Vec<_> = (0..1000).map(|_| doors.enter([192, 0, 2, 1].into())).collect();
        assert!(entered.iter().all(Option::is_some) && doors.counts.lock().unwrap().is_empty());
    }
}

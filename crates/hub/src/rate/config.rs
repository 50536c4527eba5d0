//! How much, how fast: the numbers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::bucket::Rate;

/// Limits on what comes in, in time. Everything is off by default.
///
/// Frames are counted before anything in them is looked at: messages and control frames, pings and pongs too. What is refused
/// is answered with `rate_limited` and a `retry_after`, at most once a second; who goes on is disconnected with 4005.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateConfig {
    /// Frames of one connection.
    pub connection: Rate,
    /// Frames of one user, over all of the user's connections to this node.
    pub user: Rate,
    /// Frames from one address, over all of its connections to this node; see [`exempt`](Self::exempt).
    pub address: Rate,
    /// Frames of one tenant, over all of its connections to this node.
    pub tenant: Rate,
    /// Messages into one room, from clients of this node.
    pub room: Rate,
    /// What one user does, by its kind.
    pub actions: ActionRates,
    /// Refused frames and requests of one connection; more of them end it with 4005 `rate_limited`. Off: nobody is
    /// disconnected for it, and refusals are answered once a second.
    pub refusals: Rate,
    /// Attempts to connect from one address. More are answered with 429, before anybody is asked who it is.
    pub upgrades: Rate,
    /// Attempts to connect from one address that were refused with 401 or 403. With more, the address gets 429 before anybody
    /// is asked who it is.
    pub auth_failures: Rate,
    /// Addresses that have no limits of their own, on rates nor on connections: proxies that do not tell whose requests they
    /// pass on, monitors, tests.
    pub exempt: Vec<AddressRange>,
}

/// Limits on what one user does, over all of the user's connections to this node. What is refused is answered with
/// `rate_limited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActionRates {
    /// Messages, their changes and reactions, slash commands, and requests to the application.
    pub publish: Rate,
    /// Private messages, besides [`publish`](Self::publish).
    pub direct: Rate,
    /// Entering and leaving rooms.
    pub membership: Rate,
    /// Looks at history, presence, receipts and conversations.
    pub read: Rate,
    /// Typing, and saying what was read.
    pub signal: Rate,
    /// Tokens shown over the connection.
    pub authenticate: Rate,
}

impl RateConfig {
    /// Whether frames are limited by anything.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        let Self { connection, user, address, tenant, .. } = self;
        [connection, user, address, tenant].into_iter().any(|rate| !rate.is_off()) || self.actions.is_on()
    }
}

impl ActionRates {
    /// Whether anything is limited.
    pub(crate) fn is_on(&self) -> bool {
        let Self { publish, direct, membership, read, signal, authenticate } = self;
        [publish, direct, membership, read, signal, authenticate].into_iter().any(|rate| !rate.is_off())
    }
}

/// Addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// A text that names no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address and no range of addresses: write 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32")]
pub struct InvalidAddressRange;

impl AddressRange {
    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let bits = u32::from(self.bits);
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let bits = u32::from(self.bits);
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, InvalidAddressRange> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| InvalidAddressRange)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            // "+8" and "08" are somebody's mistake.
            Some(bits)
                if bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0')) =>
            {
                bits.parse().map_err(|_| InvalidAddressRange)?
            }
            Some(_) => return Err(InvalidAddressRange),
            None => most,
        };
        if bits > most { Err(InvalidAddressRange) } else { Ok(Self { first, bits }) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.first.is_ipv4() { 32 } else { 128 };
        match self.bits == most {
            true => self.first.fmt(f),
            false => write!(f, "{}/{}", self.first, self.bits),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn range_contains_the_addresses_that_begin_like_it() {
        for (range, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.1"),
            ("::1", "::1", "::2"),
            ("10.1.2.3", "::ffff:10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "1.2.3.4"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ] {
            let range: AddressRange = range.parse().unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{range} {outside}");
            assert_eq!(range.to_string().parse(), Ok(range));
        }
    }

    #[test]
    fn text_that_is_no_range_is_refused() {
        for text in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0", "a/8"]
        {
            assert_eq!(text.parse::<AddressRange>(), Err(InvalidAddressRange), "{text}");
        }
    }
}

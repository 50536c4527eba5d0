//! The settings about how much may come in, in time, and the kinds of value that only they have.

use std::time::Duration;

use outspoke_hub::{AddressRange, Rate};

use crate::config::kind::{Flag, Form, Input, Kind, Refusal};
use crate::config::table::section;

section! {
    /// How much may come in, in time. A rate is written 200/s, 10/m or 100/h, and "200/s burst 400" lets so many through at
    /// once after a pause. Frames are counted before anything in them is looked at; what is too much is ignored and answered
    /// with rate_limited, which says when to go on. See docs/operating/limits.md.
    Rates at "rate" {
        /// Limit rates at all. Off, nothing in this section counts; a load test needs it off.
        enabled: bool as Flag = "true" {}

        /// Messages, pings and pongs of one connection.
        connection: Rate as PerTime = "200/s burst 400" {
            zero: Some("no limit"),
            at_limit: Some("they are ignored unread; rate_limited once a second, and rate.refusals counts them"),
        }

        /// Messages, pings and pongs of one user, over all connections to this server.
        user: Rate as PerTime = "500/s burst 1000" {
            zero: Some("no limit"),
            at_limit: Some("as rate.connection"),
        }

        /// Messages, pings and pongs from one address (of IPv6, from one /64), over all connections.
        address: Rate as PerTime = "5000/s burst 10000" {
            zero: Some("no limit"),
            at_limit: Some("as rate.connection"),
        }

        /// Messages, pings and pongs of one tenant, over all connections to this server.
        tenant: Rate as PerTime = "0" {
            zero: Some("no limit but tenants.messages_per_second"),
            at_limit: Some("as rate.connection"),
        }

        /// Messages into one room, from the clients of this server.
        room: Rate as PerTime = "0" {
            zero: Some("no limit"),
            at_limit: Some("the message is refused with rate_limited"),
        }

        /// What of one connection is ignored or refused for the rates of this section.
        refusals: Rate as PerTime = "50/s burst 1000" {
            zero: Some("nobody is closed for it"),
            at_limit: Some("the client is closed with code 4005 and may reconnect"),
        }

        /// Attempts to connect a WebSocket from one address.
        upgrades: Rate as PerTime = "50/s burst 500" {
            zero: Some("no limit"),
            at_limit: Some("status 429 with Retry-After, before anybody is asked who it is"),
        }

        /// Attempts to connect from one address that were refused with 401 or 403.
        auth_failures: Rate as PerTime = "20/m burst 20" {
            zero: Some("no limit"),
            at_limit: Some("status 429 with Retry-After for every attempt, before anybody is asked who it is"),
        }

        /// Requests to the HTTP API from one address.
        api_address: Rate as PerTime = "2000/s burst 5000" {
            zero: Some("no limit"),
            at_limit: Some("status 429 with Retry-After"),
        }

        /// Requests to the HTTP API with one key.
        api_key: Rate as PerTime = "5000/s burst 10000" {
            zero: Some("no limit"),
            at_limit: Some("status 429 with Retry-After"),
        }

        /// Addresses and networks that have no limits of their own, neither in this section nor on connections: monitors,
        /// load tests, and proxies that do not say for whom they are.
        exempt: Vec<AddressRange> as Ranges = "127.0.0.0/8,::1" {}
    }
    with {
        /// What one user does, by its kind.
        actions: Actions,
    }
}

section! {
    /// What one user does, by its kind, over all connections to this server.
    Actions at "rate.actions" {
        /// Messages, changes, reactions, slash commands, and requests to the application.
        publish: Rate as PerTime = "100/s burst 200" {
            zero: Some("no limit"),
            at_limit: Some("the request is refused with rate_limited"),
        }

        /// Private messages. They count as messages, too.
        direct: Rate as PerTime = "20/s burst 100" {
            zero: Some("no limit"),
            at_limit: Some("the request is refused with rate_limited"),
        }

        /// Entering and leaving rooms. At once at least as many as a client may be in (limits.rooms_per_client_max): it
        /// enters all of them when it comes back.
        membership: Rate as PerTime = "50/s burst 1000" {
            zero: Some("no limit"),
            at_limit: Some("the request is refused with rate_limited"),
        }

        /// Looks at history, presence, receipts and conversations.
        read: Rate as PerTime = "50/s burst 500" {
            zero: Some("no limit"),
            at_limit: Some("the request is refused with rate_limited"),
        }

        /// Typing, and saying what was read.
        signal: Rate as PerTime = "50/s burst 500" {
            zero: Some("no limit"),
            at_limit: Some("the request is refused with rate_limited"),
        }

        /// Tokens shown over the connection.
        authenticate: Rate as PerTime = "1/s burst 10" {
            zero: Some("no limit"),
            at_limit: Some("the request is refused with rate_limited"),
        }
    }
}

/// So many in a time: `200/s`, `200/s burst 400`, `10/m`; `0` is no limit.
#[derive(Debug)]
pub enum PerTime {}

/// The kind's name, by which limits are known as such.
pub(crate) const RATE: &str = "rate";

impl Kind for PerTime {
    type Value = Rate;
    const NAME: &'static str = RATE;
    const ACCEPTS: &'static str = "a rate such as 200/s, 200/s burst 400, 10/m or 100/h; 0 for no limit";
    const FORM: Form = Form::Word;

    fn read(text: &str) -> Result<Rate, Refusal> {
        let wrong = |why: &'static str| Refusal { why: why.into(), hint: None };
        let mut words = text.split_ascii_whitespace();
        let rate = words.next().unwrap_or_default();
        let burst = match (words.next(), words.next(), words.next()) {
            (None, None, None) => None,
            (Some("burst"), Some(burst), None) => Some(number(burst)?),
            _ => return Err(wrong("is not a rate: after it only \"burst\" and a number can follow")),
        };
        if rate == "0" && burst.is_none() {
            return Ok(Rate::OFF);
        }
        let (count, unit) = rate.split_once('/').ok_or_else(|| wrong("is not a rate"))?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong("is not a rate: it is per s, m or h")),
        };
        let count = number(count)?;
        let burst = burst.unwrap_or(count);
        if count == 0 || burst == 0 {
            return Err(wrong("is no rate; write 0 alone for no limit"));
        }
        Ok(Rate::per(count, Duration::from_secs(seconds), burst))
    }
}

fn number(text: &str) -> Result<u32, Refusal> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let whole = !text.starts_with('_') && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = whole.then(|| digits.parse().ok()).flatten().filter(|number| *number <= 1_000_000_000);
    number.ok_or_else(|| Refusal {
        why: format!("holds {text:?}, which is no whole number up to 1_000_000_000").into(),
        hint: None,
    })
}

/// Addresses, and ranges of them.
#[derive(Debug)]
pub enum Ranges {}

impl Kind for Ranges {
    type Value = Vec<AddressRange>;
    const NAME: &'static str = "list of address ranges";
    const ACCEPTS: &'static str = "addresses or ranges such as 10.0.0.7 or 10.0.0.0/8: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<AddressRange>, Refusal> {
        ranges(text.split(','))
    }

    fn read_input(input: &Input) -> Result<Vec<AddressRange>, Refusal> {
        match input {
            Input::Scalar(text) => Self::read(text),
            Input::List(items) => ranges(items.iter().map(String::as_str)),
            Input::Null => {
                Err(Refusal { why: "has no value".into(), hint: Some("write [] for none".to_owned()) })
            }
            Input::Nested => Err(Refusal { why: "is a block, but takes a list".into(), hint: None }),
        }
    }
}

fn ranges<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<AddressRange>, Refusal> {
    let items: Vec<&str> = items.map(str::trim).collect();
    if items == [""] {
        return Ok(Vec::new());
    }
    let read = |text: &&str| {
        let refusal = |why| Refusal { why: format!("holds {text:?}: {why}").into(), hint: None };
        text.parse().map_err(refusal)
    };
    items.iter().map(read).collect()
}

impl Rates {
    /// As the hub wants them.
    pub(crate) fn of_hub(&self) -> outspoke_hub::RateConfig {
        let mut rates = outspoke_hub::RateConfig::default();
        // Limits on connections have the same exemptions.
        rates.exempt.clone_from(&self.exempt);
        if !self.enabled {
            return rates;
        }
        rates.connection = self.connection;
        rates.user = self.user;
        rates.address = self.address;
        rates.tenant = self.tenant;
        rates.room = self.room;
        rates.refusals = self.refusals;
        rates.upgrades = self.upgrades;
        rates.auth_failures = self.auth_failures;
        rates.actions.publish = self.actions.publish;
        rates.actions.direct = self.actions.direct;
        rates.actions.membership = self.actions.membership;
        rates.actions.read = self.actions.read;
        rates.actions.signal = self.actions.signal;
        rates.actions.authenticate = self.actions.authenticate;
        rates
    }

    /// The limit, if limits are on.
    pub(crate) fn if_enabled(&self, rate: Rate) -> Rate {
        if self.enabled { rate } else { Rate::OFF }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;

    #[test]
    fn rates_are_read_with_and_without_a_burst() {
        let minute = Duration::from_secs(60);
        for (text, rate) in [
            ("200/s", Rate::per_second(200, 200)),
            ("200/s burst 400", Rate::per_second(200, 400)),
            ("1_000/s  burst 1", Rate::per_second(1000, 1)),
            ("10/m", Rate::per(10, minute, 10)),
            ("1/h burst 5", Rate::per(1, 60 * minute, 5)),
            ("0", Rate::OFF),
        ] {
            assert_eq!(PerTime::read(text).unwrap(), rate, "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_a_reason() {
        for text in [
            "",
            "200",
            "200/",
            "/s",
            "200/d",
            "0/s",
            "1/s burst 0",
            "-1/s",
            "1.5/s",
            "1/s 2",
            "1/s burst",
            "_1/s",
            "1/s burst 2 3",
            "9999999999/s",
            "0 burst 3",
            "1/s Burst 2",
        ] {
            let refusal = PerTime::read(text).unwrap_err();
            assert!(!refusal.why.is_empty(), "{text}");
        }
    }

    #[test]
    fn shipped_limits_are_on_and_can_be_switched_off_all_at_once() {
        let mut rates = Config::default().rate;
        let hub = rates.of_hub();
        assert_eq!(hub.connection, Rate::per_second(200, 400));
        assert!(hub.exempt.iter().any(|range| range.contains([127, 0, 0, 1].into())));
        rates.enabled = false;
        let off = rates.of_hub();
        assert_eq!(off.exempt, hub.exempt);
        assert_eq!(off, {
            let mut none = outspoke_hub::RateConfig::default();
            none.exempt = hub.exempt;
            none
        });
        assert!(rates.if_enabled(Rate::per_second(1, 1)).is_off());
    }

    /// A client in as many rooms as it may be in enters all of them when it comes back.
    #[test]
    fn shipped_limits_let_a_client_come_back_to_all_of_its_rooms() {
        let config = Config::default();
        let rooms = config.limits.rooms_per_client_max as u32;
        assert!(config.rate.connection.burst() > 2 * rooms);
        assert!(config.rate.actions.membership.burst() >= 4 * rooms);
        assert!(config.rate.actions.read.burst() >= 2 * rooms);
    }
}

//! `drain.*`: at what pace a server's clients are sent to others before it stops.

use std::time::Duration;

use super::super::kind::{Count, Time, Url};
use super::super::table::section;

section! {
    /// How clients are sent to other servers when this one stops (SIGTERM) or is told to drain (outspoke cluster drain); see
    /// docs/operating/drain.md.
    Drain at "drain" {
        /// Clients told at once.
        batch: usize as Count = "100" {
            range: Some(("1", "1_000_000")),
            unit: Some("clients"),
            at_limit: Some("the next ones are told after the interval; batches are larger where drain.spread would not suffice"),
        }

        /// Time between two batches.
        interval: Duration as Time = "100ms" {
            range: Some(("10ms", "1m")),
        }

        /// How long it may take until every client is told. A stop takes half of server.shutdown_timeout for it at most.
        spread: Duration as Time = "10s" {
            range: Some(("100ms", "1h")),
            zero: Some("a stop tells nobody before: all connections end at once, with what was acknowledged delivered to all"),
        }

        /// Clients are asked to come back at a moment of their own within this: each is told a time between half of it and all
        /// of it. Less than rooms.leave_grace, or users who move seem to leave.
        reconnect_after: Duration as Time = "2s" {
            range: Some(("100ms", "5m")),
        }

        /// How long clients have for going once the last was told. A stop takes a quarter of server.shutdown_timeout for it at
        /// most.
        grace: Duration as Time = "5s" {
            range: Some(("100ms", "1h")),
            at_limit: Some("connections that remain are cut"),
        }

        /// Where clients are sent, as wss://green.example.com/ws. Empty: to the server that each user prefers among those that
        /// have set cluster.advertise; where there is none, to where they came from.
        target: String as Url = "" {}
    }
}

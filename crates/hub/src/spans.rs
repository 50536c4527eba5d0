//! The spans of a trace: what a request meets on its way through the hub.
//!
//! `upgrade` and `authenticate`, `publish`, `store append` (from the queue until the acknowledgement is made), `bus publish` and
//! `bus hear`. All have one target of their own, so that whoever collects traces asks for these and the log for everything else;
//! where nobody asks, a span costs one look at a static. None is made per member of a room: the fan-out has none.

/// The target of the hub's spans, all at the level debug: collect these, and leave them out of the log.
pub const TRACE_TARGET: &str = "outspoke_trace";

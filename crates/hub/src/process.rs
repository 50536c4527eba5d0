//! What a process says, and how it ends, as messages in a room of its own.
//!
//! For applications that run programs and show them: each process has the room [`process_room`], where every line of its
//! output is a message of the sort `process_output`, and every change of its state one of the sort `process_status`.
//! `outspoke exec` publishes the same messages from outside, and `outspoke tail` and the web chat show them as a log.
//! These are publications like others: order, history and recovery are the room's.

use outspoke_protocol::{Body, Kind};
use serde::Serialize;

use crate::error::PublishError;
use crate::hub::Hub;
use crate::publish::Publishing;

/// The sort of message that is a line of a process's output.
pub const PROCESS_OUTPUT: &str = "process_output";
/// The sort of message that says how a process is.
pub const PROCESS_STATUS: &str = "process_status";

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessStatus {
    /// It has started.
    Running,
    /// It has ended by itself, with an exit code.
    Exited,
    /// A signal has ended it; its name, such as `SIGTERM`, if it is known.
    Signaled(Option<&'static str>),
    /// It could not be started, or nobody knows how it ended.
    Failed,
}

impl ProcessStatus {
    /// The status on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Signaled(_) => "signaled",
            Self::Failed => "failed",
        }
    }
}

/// Where a process writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessStream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// The room of a process: `process:` and its id.
#[must_use]
pub fn process_room(process_id: &str) -> String {
    format!("process:{process_id}")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    process_id: &'a str,
    stream: ProcessStream,
    line: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    process_id: &'a str,
    status: &'static str,
    exit_code: Option<i32>,
    signal: Option<&'static str>,
}

impl Hub {
    /// Sends a message to everybody in a channel, as rooms are called as well: [`publish`](Self::publish) by another name.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn send_to_channel(&self, channel: &str, kind: Kind, body: Body) -> Result<Publishing, PublishError> {
        self.publish(channel, kind, body)
    }

    /// Sends a line of a process's standard output to everybody in the process's room.
    ///
    /// # Ordering
    /// As [`publish`](Self::publish): calls from one thread keep their order.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); the id must be fit to be a part of a room's name.
    pub fn send_process_output(&self, process_id: &str, line: &str) -> Result<Publishing, PublishError> {
        self.send_process_stream(process_id, ProcessStream::Stdout, line)
    }

    /// As [`send_process_output`](Self::send_process_output), for either stream.
    ///
    /// # Errors
    /// As [`send_process_output`](Self::send_process_output).
    pub fn send_process_stream(
        &self,
        process_id: &str,
        stream: ProcessStream,
        line: &str,
    ) -> Result<Publishing, PublishError> {
        self.send_of_process(process_id, PROCESS_OUTPUT, &Output { process_id, stream, line })
    }

    /// Tells everybody in a process's room how the process is; `exit_code` is for one that has exited.
    ///
    /// # Errors
    /// As [`send_process_output`](Self::send_process_output).
    pub fn send_process_status(
        &self,
        process_id: &str,
        status: ProcessStatus,
        exit_code: Option<i32>,
    ) -> Result<Publishing, PublishError> {
        let signal = match status {
            ProcessStatus::Signaled(signal) => signal,
            _ => None,
        };
        let status = Status { process_id, status: status.name(), exit_code, signal };
        self.send_of_process(process_id, PROCESS_STATUS, &status)
    }

    fn send_of_process(
        &self,
        process_id: &str,
        sort: &str,
        data: &impl Serialize,
    ) -> Result<Publishing, PublishError> {
        let body = Body::json(data).expect("strings and numbers are JSON");
        self.publish(&process_room(process_id), Kind::Custom(sort.into()), body)
    }
}

//! One connection after its login, and who makes such.

use std::fmt;
use std::pin::Pin;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::socket::Stream;
use super::{Codec, Event};

/// Room for what is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Becomes ready, with a reason, when a connection must be given up although it works.
pub(crate) type Stale = Pin<Box<dyn Future<Output = String> + Send>>;

/// For connections that are good as long as they work.
pub(crate) fn never() -> Stale {
    Box::pin(std::future::pending())
}

/// Connects to a service, and logs in.
pub(crate) trait Service: Send + Sync + 'static {
    /// What it speaks.
    type Codec: Codec;

    /// What people know it as.
    fn place(&self) -> String;

    /// One attempt, at one server if there are several. The caller limits its time.
    fn connect(&self) -> impl Future<Output = Result<Session<Self::Codec>, String>> + Send;

    /// A connection has failed, or could not be made.
    fn failed(&self) {}
}

/// A connection that is logged in.
pub(crate) struct Session<C> {
    stream: Box<dyn Stream>,
    input: BytesMut,
    pub(crate) codec: C,
    pub(crate) stale: Stale,
}

impl<C> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("input_bytes", &self.input.len()).finish_non_exhaustive()
    }
}

impl<C> Session<C> {
    pub(crate) fn new(stream: Box<dyn Stream>, codec: C) -> Self {
        Self { stream, input: BytesMut::new(), codec, stale: never() }
    }

    /// Reads more, whatever there is.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<(), String> {
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err("the server has closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the connection is lost: {error}")),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let lost = |error| format!("the connection is lost: {error}");
        self.stream.write_all(bytes).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    /// What was read and is not understood yet.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }
}

impl<C: Codec> Session<C> {
    /// What was read, as far as it is whole; pings are answered on the way.
    pub(crate) async fn heard(&mut self) -> Result<Option<Event>, String> {
        loop {
            match self.codec.decode(&mut self.input)? {
                Some(Event::Ping) => {
                    let mut pong = BytesMut::new();
                    self.codec.pong(&mut pong);
                    self.write(&pong).await?;
                }
                Some(Event::Other) => {}
                event => return Ok(event),
            }
        }
    }

    /// What the server says next.
    ///
    /// # Cancel safety
    /// Nothing that was read is lost; an answer to a ping may be half written, so a session is not used any more after
    /// one that was cancelled for being late.
    pub(crate) async fn next(&mut self) -> Result<Event, String> {
        loop {
            if let Some(event) = self.heard().await? {
                return Ok(event);
            }
            self.fill().await?;
        }
    }
}

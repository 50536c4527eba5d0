//! Message type -> the application's handler.
//!
//! What the hub itself understands (subscribe, publish, ping) never comes here. A handler runs in the shard of
//! the connection that asked: it is polled at once, and a handler that has to wait holds up only its own
//! connection, whose next requests stay in order behind it.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{ErrorCode, Refusal, RequestId};
use serde_json::value::RawValue;

use crate::client::Client;
use crate::hub::Hub;

/// A handler's answer: sent to the client that asked, in its dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(crate) name: EcoString,
    pub(crate) data: Option<Bytes>,
}

impl Reply {
    /// An answer of type `name` with no data.
    #[must_use]
    pub fn new(name: impl Into<EcoString>) -> Self {
        Self { name: name.into(), data: None }
    }

    /// An answer of type `name` with `data` as its JSON.
    ///
    /// # Errors
    /// When the value cannot be JSON.
    pub fn json(name: impl Into<EcoString>, data: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self { name: name.into(), data: Some(Bytes::from(serde_json::to_vec(data)?)) })
    }
}

impl Reply {
    /// A command's answer for its sender to read.
    #[must_use]
    pub fn text(text: impl Into<EcoString>) -> Self {
        Self::result(&serde_json::json!({ "text": text.into().as_str() }))
    }

    /// A command's answer for its sender to read, and the same for a program.
    #[must_use]
    pub fn text_with(text: impl Into<EcoString>, result: &serde_json::Value) -> Self {
        Self::result(&serde_json::json!({ "text": text.into().as_str(), "result": result }))
    }

    fn result(data: &serde_json::Value) -> Self {
        let data = Some(Bytes::from(data.to_string()));
        Self { name: EcoString::inline(crate::commands::RESULT), data }
    }
}

/// Who asked, over what, and the hub to answer with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The client that sent the message.
    pub client: Arc<Client>,
    /// The hub the client is connected to.
    pub hub: Hub,
    /// The client's id for the request; already echoed in the answer.
    pub request: Option<RequestId>,
}

impl Context {
    /// What holds now for who asked: the identity of the last credential that was accepted, which may be a fresher one than
    /// the connection began with.
    #[must_use]
    pub fn identity(&self) -> Arc<crate::Identity> {
        self.client.standing()
    }

    /// The message's data as the type that the handler expects. Without data this reads `null`.
    ///
    /// # Errors
    /// `bad_request` with words for the client; return it with `?`.
    pub fn parse<T: serde::de::DeserializeOwned>(&self, data: &Data) -> Result<T, Refusal> {
        let text = data.as_ref().map_or("null", |data| data.get());
        serde_json::from_str(text)
            .map_err(|error| Refusal::new(ErrorCode::BadRequest, ecow::eco_format!("`data`: {error}")))
    }

    /// What a handler returns to answer with `data`, in a message of type `name`.
    ///
    /// # Errors
    /// `internal`, when the value cannot be JSON.
    pub fn answer(
        &self,
        name: impl Into<EcoString>,
        data: &impl serde::Serialize,
    ) -> Result<Option<Reply>, Refusal> {
        Reply::json(name, data).map(Some).map_err(|error| {
            tracing::error!(%error, "a handler's answer cannot be JSON");
            Refusal::new(ErrorCode::Internal, "the answer could not be written")
        })
    }
}

/// A message's data, unparsed.
pub type Data = Option<Box<RawValue>>;

/// A handler at work.
pub type Handling = Pin<Box<dyn Future<Output = Result<Option<Reply>, Refusal>> + Send>>;

/// Answers one message type.
///
/// Called in a shard: it must not block the thread. It may wait; after `handler_timeout` the client is told
/// `timed_out` and the future is dropped. A panic closes the client's connection with 1011 and nothing else.
/// Any `Fn(Context, Data) -> impl Future<Output = Result<Option<Reply>, Refusal>>` is a handler.
pub trait Handler: Send + Sync + 'static {
    /// Begins the work for one message.
    fn handle(&self, context: Context, data: Data) -> Handling;
}

impl<F, Fut> Handler for F
where
    F: Fn(Context, Data) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Reply>, Refusal>> + Send + 'static,
{
    fn handle(&self, context: Context, data: Data) -> Handling {
        Box::pin(self(context, data))
    }
}

/// The application's handlers by message type.
#[derive(Default)]
pub(crate) struct Dispatcher {
    handlers: HashMap<EcoString, Box<dyn Handler>>,
}

impl Dispatcher {
    pub(crate) fn insert(&mut self, name: EcoString, handler: Box<dyn Handler>) {
        self.handlers.insert(name, handler);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&dyn Handler> {
        self.handlers.get(name).map(|handler| &**handler)
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

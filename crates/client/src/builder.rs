//! How a client is made.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use outspoke_websocket::Random;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::core::Core;
use crate::core::outbox::{Limits, Overflow};
use crate::dialer::{Dialer, Tcp};
use crate::driver;
use crate::error::Error;
use crate::shared::{Config, Handle, Shared};
use crate::token::{TokenError, TokenReason, TokenSource};

/// What a value in a query may not contain as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Options of a [`Client`]; every one has a default.
#[must_use = "a builder makes a client with `connect` or `build`"]
pub struct Builder {
    url: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    token: TokenSource,
    backoff: Backoff,
    watchdog: Duration,
    outbox: Limits,
    message_ttl: Duration,
    request_timeout: Duration,
    connect_timeout: Duration,
    close_timeout: Duration,
    message_bytes_max: usize,
    buffer: usize,
    compression: bool,
    dialer: Arc<dyn Dialer>,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address may have a secret in its query, and headers often are one.
        f.debug_struct("Builder").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        let mut random = Random::new();
        Self {
            url: url.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            token: TokenSource::None,
            backoff: Backoff::default(),
            watchdog: Duration::from_secs(10),
            outbox: Limits { publishes: 1024, overflow: Overflow::Reject },
            message_ttl: Duration::from_mins(5),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
            message_bytes_max: 16 * 1024 * 1024,
            buffer: 1024,
            compression: true,
            dialer: Arc::new(Tcp::new()),
            random: Box::new(move || random.next_u64()),
        }
    }

    /// Who you are, to a server in open mode. With an authenticator, the credential alone says it.
    pub fn user(mut self, id: &str, name: &str) -> Self {
        self.query.push(("userId", id.to_owned()));
        self.query.push(("username", name.to_owned()));
        self
    }

    /// Which of the user's installs or devices this is. A newer connection of the same user and device takes the older
    /// one's place, so it must be chosen once and kept. Without it, it is random for each client.
    pub fn device(mut self, device: &str) -> Self {
        self.query.push(("device", device.to_owned()));
        self
    }

    /// A header of the handshake.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A token that does not change, shown as `Authorization: Bearer`.
    pub fn token(mut self, token: &str) -> Self {
        self.token = TokenSource::Fixed(token.into());
        self
    }

    /// Who makes tokens: asked before every connection, before a credential ends, and when one was refused.
    ///
    /// A second refusal in a row closes the client. The provider has no time limit but its own.
    pub fn token_provider<F, A, E>(mut self, provider: F) -> Self
    where
        F: Fn(TokenReason) -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        self.token = TokenSource::provider(provider);
        self
    }

    /// How to come back. By default with full jitter from 1 s to 30 s, for ever.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long the server may take to give a sign of life once it was asked for one: 10 s by default, and zero for no
    /// watchdog. It is asked when it was silent for as long as it said in its welcome that it never is.
    pub fn watchdog(mut self, grace: Duration) -> Self {
        self.watchdog = grace;
        self
    }

    /// How many messages may wait to be sent and acknowledged, and what becomes of one more: 1024 by default, and it is
    /// refused.
    pub fn outbox(mut self, messages_max: usize, overflow: Overflow) -> Self {
        self.outbox = Limits { publishes: messages_max.max(1), overflow };
        self
    }

    /// How long a message may wait to be acknowledged, the times without a connection included: 5 minutes by default,
    /// and never longer than that after it was first sent, since the server may forget that it had it.
    pub fn message_ttl(mut self, ttl: Duration) -> Self {
        self.message_ttl = ttl;
        self
    }

    /// How long a request that is no message may take: 30 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long an attempt to connect may take, up to the server's welcome: 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long [`Client::close`] waits for the outbox: 10 s by default.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// The longest message taken from the server, inflated: 16 MiB by default. A longer one ends the connection.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// How many events a stream holds for its consumer before it falls back on history: 1024 by default.
    pub fn buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// Whether compression is offered: yes by default. Messages below 512 bytes are never compressed.
    pub fn compression(mut self, offered: bool) -> Self {
        self.compression = offered;
        self
    }

    /// How streams to the server come about, instead of [`Tcp`].
    pub fn dialer(mut self, dialer: impl Dialer) -> Self {
        self.dialer = Arc::new(dialer);
        self
    }

    /// Where the random number of each wait comes from, instead of the system: for tests.
    pub fn random(mut self, random: impl FnMut() -> u64 + Send + 'static) -> Self {
        self.random = Box::new(random);
        self
    }

    /// A client that connects when it is first used.
    ///
    /// # Errors
    /// The address or a header cannot be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn build(self) -> Result<Client, Error> {
        let mut core = Core::new(self.outbox, self.watchdog, self.token.can_renew(), self.random);
        let device = core.key();
        let config = Config {
            url: address(&self.url, &self.query, &device)?,
            headers: header_map(&self.headers)?,
            token: self.token,
            backoff: self.backoff,
            dialer: self.dialer,
            compression: self.compression,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            message_ttl: self.message_ttl,
            close_timeout: self.close_timeout,
            message_bytes_max: self.message_bytes_max,
            buffer: self.buffer,
            overflow: self.outbox.overflow,
        };
        let shared = Arc::new(Shared::new(config, core));
        tokio::spawn(driver::run(Arc::clone(&shared)));
        Ok(Client::new(Arc::new(Handle { shared })))
    }

    /// A client that is online.
    ///
    /// # Errors
    /// The options cannot be used, or the first attempt has failed: a program that starts with a wrong address should
    /// hear of it. To keep trying instead, [`build`](Self::build) and then [`Client::ready`].
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    ///
    /// *Cancel safety*: the attempt is given up.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.build()?;
        client.first_attempt().await?;
        Ok(client)
    }
}

/// The address with the query that a client needs. What the address says itself stands.
fn address(url: &str, query: &[(&str, String)], device: &str) -> Result<Uri, Error> {
    let invalid =
        || Error::invalid(format!("{} is no ws:// or wss:// address with a host", without_query(url)));
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let secure = matches!(uri.scheme_str(), Some("ws" | "wss"));
    if !secure || uri.host().is_none_or(str::is_empty) {
        return Err(invalid());
    }
    let own = uri.query().unwrap_or_default();
    let has = |name: &str| own.split('&').any(|pair| pair.split('=').next() == Some(name));
    let mut all = own.to_owned();
    let defaults = [("device", device.to_owned()), ("join", "none".to_owned())];
    let given = |name: &str| query.iter().any(|(given, _)| *given == name);
    let defaults = defaults.iter().filter(|(name, _)| !given(name));
    for (name, value) in
        query.iter().map(|(name, value)| (*name, value)).chain(defaults.map(|(n, v)| (*n, v)))
    {
        if !has(name) {
            let separator = if all.is_empty() { "" } else { "&" };
            all.push_str(&format!("{separator}{name}={}", utf8_percent_encode(value, QUERY)));
        }
    }
    let authority = uri.authority().ok_or_else(invalid)?;
    let scheme = uri.scheme_str().unwrap_or("ws");
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    format!("{scheme}://{authority}{path}?{all}").parse().map_err(|_| invalid())
}

/// The address to which a server sends the client that came by `own`, with all that `own` asks for; `None` for what is no such
/// address, or is less safe: the token goes there too.
pub(crate) fn elsewhere_from(own: &Uri, url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| *scheme == "wss" || (*scheme == "ws" && own.scheme_str() == Some("ws")))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty())?;
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let named = uri.query().unwrap_or_default();
    let name_of = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let has = |pair: &&str| named.split('&').any(|other| name_of(other) == name_of(pair));
    let wanted = own.query().unwrap_or_default().split('&').filter(|pair| !has(pair));
    let query: Vec<&str> = named.split('&').chain(wanted).filter(|pair| !pair.is_empty()).collect();
    format!("{scheme}://{authority}{path}?{}", query.join("&")).parse().ok()
}

/// What of an address may be shown.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

pub(crate) fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let invalid = || Error::invalid(format!("{name:?} is no header, or its value cannot be one"));
        let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        map.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_gets_what_a_client_needs_and_keeps_what_it_says() {
        let given = [("userId", "ann lee&".to_owned()), ("username", "Ann".to_owned())];
        let url = address("ws://h:1/ws?device=phone", &given, "d1").unwrap();
        assert_eq!(url.to_string(), "ws://h:1/ws?device=phone&userId=ann%20lee%26&username=Ann&join=none");
        let url = address("wss://h", &[], "d1").unwrap();
        assert_eq!(url.to_string(), "wss://h/?device=d1&join=none");
        assert!(address("http://h/ws", &[], "d1").is_err());
        assert!(address("h:1", &[], "d1").is_err());
    }

    #[test]
    fn address_that_a_server_names_keeps_what_the_application_asks_for() {
        let to = |own: &str, url: &str| elsewhere_from(&own.parse().unwrap(), url).map(|url| url.to_string());
        let own = "wss://h/ws?userId=ann%20lee&join=none";
        assert_eq!(to(own, "wss://b:1/x").unwrap(), "wss://b:1/x?userId=ann%20lee&join=none");
        assert_eq!(to(own, "wss://b?join=y").unwrap(), "wss://b/?join=y&userId=ann%20lee");
        assert_eq!(to("ws://h/ws?join=none", "ws://b/ws").unwrap(), "ws://b/ws?join=none");
        for none in ["ws://b/ws", "https://b/ws", "/ws", "b:1", "wss://", "", "wss://b/a b"] {
            assert_eq!(to(own, none), None, "{none}");
        }
    }

    #[test]
    fn address_that_cannot_be_used_is_told_without_its_query() {
        let error = address("http://h/ws?token=secret", &[], "d").unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("http://h/ws"), "{error}");
    }
}

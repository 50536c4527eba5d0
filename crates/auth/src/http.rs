//! The requests that this crate makes: short ones, to addresses of the configuration.
//!
//! Used by [`crate::jwks`] and [`crate::hook`]. Every answer has a time limit for all of it and a size limit; redirects are
//! not followed, so that no answer sends a credential elsewhere; certificates are checked against Mozilla's roots, or the
//! [authorities](crate::Authorities) that are named in their place.
//! Requests run on the runtime in which the client was made, because the hub asks from threads that have better things to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::authorities::Authorities;
use crate::error::SetupError;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum HttpError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the connection failed: {0}")]
    Connection(String),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// A client with limits.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    home: Handle,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// A client that lives in the runtime it is made in.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn new(authorities: &Authorities) -> Result<Self, SetupError> {
        const NO_RUNTIME: SetupError =
            SetupError::Incomplete("requests need a tokio runtime: make this inside of one");
        let home = Handle::try_current().map_err(|_| NO_RUNTIME)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has what TLS 1.2 and 1.3 need")
            .with_root_certificates(authorities.roots())
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .build(connector);
        Ok(Self { client, home })
    }

    /// Sends the request, and waits for all of the answer.
    ///
    /// *Cancel safety*: dropped, the request is given up.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let answer =
                client.request(request).await.map_err(|error| HttpError::Connection(chain(&error)))?;
            let status = answer.status();
            let body =
                Limited::new(answer.into_body(), limits.bytes_max).collect().await.map_err(|error| {
                    match error.downcast_ref::<http_body_util::LengthLimitError>() {
                        Some(_) => HttpError::TooLarge(limits.bytes_max),
                        None => HttpError::Connection(chain(error.as_ref())),
                    }
                })?;
            Ok((status, body.to_bytes()))
        };
        let exchange = async move {
            let answer = tokio::time::timeout(limits.timeout, exchange).await;
            answer.unwrap_or(Err(HttpError::TimedOut(limits.timeout)))
        };
        let mut task = Aborting(self.home.spawn(exchange));
        (&mut task.0)
            .await
            .unwrap_or_else(|_| Err(HttpError::Connection("the server is stopping".to_owned())))
    }

    /// Runs something in the client's runtime, whoever asks for it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.home.spawn(work));
    }
}

/// How long an answer may take, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    pub(crate) bytes_max: usize,
}

/// Whoever stops waiting wants no answer any more.
struct Aborting<T>(JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// An address that requests may be sent to: https, or plain http to this machine, or to any if `plain` says so.
///
/// # Errors
/// Which rule it breaks.
pub(crate) fn check_url(url: &str, plain: bool) -> Result<Uri, SetupError> {
    let shown = || {
        url.split(['?', '#']).next().unwrap_or_default().rsplit_once('@').map_or_else(
            || url.split(['?', '#']).next().unwrap_or_default().escape_debug().to_string(),
            |(_, rest)| format!("***@{}", rest.escape_debug()),
        )
    };
    let bad = |problem| SetupError::BadUrl { url: shown(), problem };
    let uri: Uri = url.parse().map_err(|_| bad("it is no address; write https://host/path"))?;
    let Some(authority) = uri.authority() else {
        return Err(bad("it names no host; write https://host/path"));
    };
    if authority.as_str().contains('@') {
        return Err(bad(
            "it has a user and password; requests are signed instead, see docs/operating/authentication.md",
        ));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if plain || is_loopback(authority.host()) => Ok(uri),
        Some("http") => {
            Err(bad("plain http is only for this machine (127.0.0.1, localhost); write https://"))
        }
        _ => Err(bad("it is neither https:// nor http://")),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for url in
            ["https://id.example/keys?x=1", "http://localhost:1/k", "http://127.0.0.1/k", "http://[::1]:80/k"]
        {
            assert!(check_url(url, false).is_ok(), "{url}");
        }
        for url in [
            "http://id.example/k",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "ftp://localhost/",
            "/keys",
            "",
            "file:///etc/passwd",
            "https://",
            "http://10.0.0.1/",
            "https://user:pass@id.example/",
        ] {
            assert!(check_url(url, false).is_err(), "{url}");
        }
        assert!(check_url("http://app:3000/hook", true).is_ok());
        let said = check_url("https://user:s3cret@id.example/?key=s3cret", false).unwrap_err().to_string();
        assert!(!said.contains("s3cret"), "{said}");
    }
}

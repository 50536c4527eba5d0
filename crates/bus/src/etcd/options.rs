//! Where etcd is, and how to get in.

use std::fmt;
use std::time::Duration;

use http::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::BusError;

/// How to reach an etcd cluster.
#[derive(Clone)]
pub struct EtcdOptions {
    /// Addresses of its members (`http://` or `https://`, host and port). One is used at a time; when it fails, the next.
    pub endpoints: Vec<String>,
    /// What the names of all keys begin with. Hubs with different prefixes do not hear each other. Default: `/gohub`.
    pub prefix: String,
    /// How long a connection may take. Default: 5 s.
    pub dial_timeout: Duration,
    /// How long an answer may take. Default: 5 s.
    pub timeout: Duration,
    /// Who we are, if etcd wants to know. Default: nobody.
    pub login: Option<EtcdLogin>,
    /// What `https://` addresses need beyond the public authorities. Default: nothing.
    pub tls: EtcdTls,
}

/// A user of etcd. Needs reading and writing of all keys that begin with the prefix and a slash.
#[derive(Clone)]
pub struct EtcdLogin {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// Certificates, in PEM.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// The authorities that etcd's certificate may come from. `None`: the public ones.
    pub authorities: Option<String>,
    /// Our own certificate and its key, if etcd wants to see one.
    pub identity: Option<(String, String)>,
}

impl EtcdOptions {
    /// The defaults, with these members.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "/gohub".to_owned(),
            dial_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            login: None,
            tls: EtcdTls::default(),
        }
    }

    /// The members, ready to connect to.
    pub(super) fn endpoints(&self) -> Result<Vec<Endpoint>, BusError> {
        if self.endpoints.is_empty() {
            return Err(invalid(
                "`endpoints` names no member of etcd: name at least one, as http://host:2379",
            ));
        }
        self.endpoints.iter().map(|address| self.endpoint(address)).collect()
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, BusError> {
        // What is refused is not shown: it may have a password in it.
        let wrong = || {
            invalid(
                "`endpoints` has an address that is not of the kind http://host:2379 or https://host:2379",
            )
        };
        let uri: Uri = address.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let has_nothing_else = uri.path_and_query().is_none_or(|path| path == "/")
            && uri.authority().is_some_and(|authority| {
                let (all, host) = (authority.as_str(), authority.host());
                !host.is_empty() && (all == host || (authority.port_u16().is_some() && !all.contains('@')))
            });
        let secure = match uri.scheme_str() {
            Some("http") if has_nothing_else => false,
            Some("https") if has_nothing_else => true,
            _ => return Err(wrong()),
        };
        let endpoint = Endpoint::from(uri).connect_timeout(self.dial_timeout).user_agent("outspoke");
        let endpoint = endpoint.map_err(|_| wrong())?;
        if !secure {
            return Ok(endpoint);
        }
        let mut tls = match &self.tls.authorities {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_webpki_roots(),
        };
        if let Some((certificate, key)) = &self.tls.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint.tls_config(tls).map_err(|error| invalid(&format!("the certificates for etcd: {error}")))
    }
}

fn invalid(what: &str) -> BusError {
    BusError::Invalid(what.to_owned())
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints.len())
            .field("prefix", &self.prefix)
            .field("dial_timeout", &self.dial_timeout)
            .field("timeout", &self.timeout)
            .field("login", &self.login)
            .field("tls", &self.tls)
            .finish()
    }
}

impl fmt::Debug for EtcdLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_that_no_etcd_has_are_refused_without_their_secrets() {
        for address in [
            "",
            "etcd:2379",
            "redis://h:1",
            "http://",
            "http://u:secret@h:1",
            "http://h:1/secret",
            "http://h:x",
        ] {
            let refused = EtcdOptions::new([address]).endpoints().unwrap_err().to_string();
            assert!(refused.contains("`endpoints`") && !refused.contains("secret"), "{refused}");
        }
        assert!(EtcdOptions::new([""; 0]).endpoints().is_err());
        assert!(EtcdOptions::new(["http://h:2379", "http://h:2379/", "https://h"]).endpoints().is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = EtcdOptions::new(["http://u:secret@h:1"]);
        options.login = Some(EtcdLogin { username: "u".to_owned(), password: "secret".to_owned() });
        options.tls.identity = Some(("secret".to_owned(), "secret".to_owned()));
        assert!(!format!("{options:?}").contains("secret"));
    }
}

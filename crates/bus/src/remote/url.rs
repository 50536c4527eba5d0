//! Addresses of servers: as they are configured, and as people may see them.

use ::url::{Host, Url};
use percent_encoding::percent_decode_str;

/// One server's address, understood.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) scheme: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Address {
    /// `scheme://user:password@host:port`; what follows is not looked at.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url.trim()).ok()?;
        let host = match url.host()? {
            Host::Domain("") => return None,
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let plain = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
        Some(Self {
            scheme: url.scheme().to_owned(),
            user: plain(url.username()).filter(|user| !user.is_empty()),
            password: url.password().and_then(plain),
            host,
            port: url.port(),
        })
    }

    /// All of several with commas between; `None` when one is not understood.
    pub(crate) fn parse_all(urls: &str) -> Option<Vec<Self>> {
        urls.split(',').map(Self::parse).collect()
    }
}

/// Addresses without what is secret, for logs and errors. What cannot be understood is not shown at all.
pub(crate) fn masked(urls: &str) -> String {
    let masked = urls.split(',').map(|url| {
        let Some(Address { scheme, user, password, host, port }) = Address::parse(url) else {
            return "(not a url)".to_owned();
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let who = match (user, password) {
            (None, None) => String::new(),
            // A user alone is a token to NATS.
            (_, None) => "***@".to_owned(),
            (user, Some(_)) => format!("{}:***@", user.unwrap_or_default()),
        };
        format!("{scheme}://{who}{host}{port}")
    });
    masked.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_its_password_decoded() {
        let address = Address::parse("rediss://me:a%40b%2Fc@[::1]:6380/0?x=y").unwrap();
        assert_eq!(
            (address.scheme.as_str(), address.host.as_str(), address.port),
            ("rediss", "::1", Some(6380))
        );
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("me"), Some("a@b/c")));
        assert!(Address::parse("host:port").is_none() && Address::parse("redis://").is_none());
    }

    #[test]
    fn masked_addresses_show_everything_but_secrets() {
        assert_eq!(masked("redis://:secret@[::1]:6379/0"), "redis://:***@[::1]:6379");
        assert_eq!(masked("nats://me:secret@a:1,nats://b"), "nats://me:***@a:1,nats://b");
        assert_eq!(masked("nats://token@a?x=secret"), "nats://***@a");
        assert_eq!(masked("host=db password=secret"), "(not a url)");
    }
}

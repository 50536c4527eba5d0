//! What is configured about the servers.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::BusError;
use crate::remote::{Address, Place, Tls, masked};

/// Which servers, and how to use them.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://user:password@host:port`, or `rediss://` for TLS. Of a cluster any node, or several with commas between;
    /// with [`sentinel_master`](Self::sentinel_master) the sentinels, with user and password of the servers behind them. A database number
    /// means nothing to publish and subscribe, and is not looked at.
    pub url: String,
    /// Whether it is a cluster, of Redis 7 or later. Default: no.
    pub cluster: bool,
    /// The name by which the sentinels in [`url`](Self::url) know the master. Default: there are none.
    pub sentinel_master: Option<String>,
    /// The password of the sentinels themselves. Default: that of the servers, if the sentinels want one.
    pub sentinel_password: Option<String>,
    /// What the names of channels begin with: clusters with the same servers need different ones. Default: `outspoke`.
    pub prefix: String,
    /// Authorities, in PEM, that certificates are checked against. Default: the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long a server may be silent before it is given up. Default: 3 s.
    pub timeout: Duration,
}

impl RedisOptions {
    /// A server with everything else as it is by default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cluster: false,
            sentinel_master: None,
            sentinel_password: None,
            prefix: "outspoke".to_owned(),
            ca_file: None,
            timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("url", &masked(&self.url))
            .field("cluster", &self.cluster)
            .field("sentinel_master", &self.sentinel_master)
            .field("sentinel_password", &self.sentinel_password.as_ref().map(|_| "***"))
            .field("prefix", &self.prefix)
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Options that were understood.
pub(super) struct Target {
    pub(super) places: Vec<Place>,
    pub(super) tls: Option<Tls>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) sentinel: Option<Sentinel>,
}

pub(super) struct Sentinel {
    pub(super) master: String,
    pub(super) password: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, BusError> {
        let wrong = |what: &str| BusError::Invalid(format!("the Redis setting {what}"));
        let addresses = Address::parse_all(&options.url).unwrap_or_default();
        let known = |address: &Address| matches!(address.scheme.as_str(), "redis" | "rediss");
        let Some(first) = addresses.first().filter(|_| addresses.iter().all(known)) else {
            return Err(wrong("`url` must look like redis://:password@host:6379"));
        };
        let same = |address: &Address| {
            (&address.scheme, &address.user, &address.password)
                == (&first.scheme, &first.user, &first.password)
        };
        if !addresses.iter().all(same) {
            return Err(wrong("`url` must name the same scheme, user and password for every server"));
        }
        if options.cluster && options.sentinel_master.is_some() {
            return Err(wrong("`sentinel_master` cannot be used with `cluster`"));
        }
        if addresses.len() > 1 && !options.cluster && options.sentinel_master.is_none() {
            return Err(wrong("`url` names several servers: set `cluster` or `sentinel_master`"));
        }
        if options.prefix.is_empty() || options.prefix.len() > 256 || options.prefix.contains(['{', '}', '|'])
        {
            // Braces decide where channels are in a cluster; behind the bar begins the topic.
            return Err(wrong("`prefix` must have 1 to 256 bytes, and neither braces nor bars"));
        }
        let tls = (first.scheme == "rediss").then(|| Tls::new(options.ca_file.as_deref())).transpose();
        let sentinel = options.sentinel_master.clone();
        let sentinel =
            sentinel.map(|master| Sentinel { master, password: options.sentinel_password.clone() });
        let port = if sentinel.is_some() { 26379 } else { 6379 };
        let place =
            |address: &Address| Place { host: address.host.clone(), port: address.port.unwrap_or(port) };
        Ok(Self {
            places: addresses.iter().map(place).collect(),
            tls: tls.map_err(|error| wrong(&error))?,
            user: first.user.clone(),
            password: first.password.clone(),
            sentinel,
        })
    }

    /// The servers, as people know them.
    pub(super) fn shown(&self) -> String {
        self.places.iter().map(Place::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn options_are_shown_without_passwords() {
        let options = RedisOptions {
            sentinel_master: Some("main".to_owned()),
            sentinel_password: Some("hunter3".to_owned()),
            ..RedisOptions::new("redis://me:hunter2@cache:7000/3,redis://me:hunter2@other:7001")
        };
        let target = Target::new(&options).unwrap();
        for shown in [format!("{options:?}"), format!("{target:?}")] {
            assert!(
                shown.contains("cache") && shown.contains("7001") && !shown.contains("hunter"),
                "{shown}"
            );
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_the_settings_name() {
        let options = |url: &str| RedisOptions::new(url);
        let sentinel_master = Some("main".to_owned());
        for (options, setting) in [
            (options("http://host"), "`url`"),
            (options("redis://:hunter2@host:port"), "`url`"),
            (options("redis://a,redis://b"), "`cluster`"),
            (RedisOptions { cluster: true, ..options("redis://:hunter2@a,redis://:hunter3@b") }, "`url`"),
            (RedisOptions { cluster: true, sentinel_master, ..options("redis://a") }, "`sentinel_master`"),
            (RedisOptions { prefix: "a{b".to_owned(), ..options("redis://a") }, "`prefix`"),
            (RedisOptions { prefix: "a|b".to_owned(), ..options("redis://a") }, "`prefix`"),
            (RedisOptions { prefix: String::new(), ..options("redis://a") }, "`prefix`"),
            (RedisOptions { ca_file: Some("/nowhere".into()), ..options("rediss://a") }, "`ca_file`"),
        ] {
            let error = Target::new(&options).unwrap_err().to_string();
            assert!(error.contains(setting) && !error.contains("hunter"), "{error}");
        }
    }
}

//! What is configured about the server.

use std::fmt;
use std::time::Duration;

use ::redis::{Client, ConnectionInfo, IntoConnectionInfo as _};

use crate::StoreError;
use crate::remote::masked;

/// Which server, and how to use it.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://user:password@host:port/database`, or `rediss://` for TLS with the server's certificate checked against
    /// the public authorities. Of a cluster any node, or several with commas between.
    pub url: String,
    /// Whether it is a cluster. Default: no.
    pub cluster: bool,
    /// What the names of all keys begin with, so that others can use the same server. Default: `outspoke`.
    pub prefix: String,
    /// How long anything may take before it is given up. Default: 5 s.
    pub timeout: Duration,
    /// How many replicas must have a batch before it is answered, asked with `WAIT`; not in a cluster. Default: 0.
    pub replicas_min: usize,
}

impl RedisOptions {
    /// A server with everything else as it is by default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cluster: false,
            prefix: "outspoke".to_owned(),
            timeout: Duration::from_secs(5),
            replicas_min: 0,
        }
    }

    fn shown_url(&self) -> String {
        self.url.split(',').map(masked).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("url", &self.shown_url())
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("replicas_min", &self.replicas_min)
            .finish()
    }
}

/// An address that was understood.
pub(super) struct Target {
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) cluster: bool,
    pub(super) timeout: Duration,
    pub(super) replicas_min: usize,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Invalid(format!("the Redis setting {what}"));
        let nodes = options.url.split(',').map(|url| {
            // What the library says of it may show the password.
            url.trim()
                .into_connection_info()
                .map_err(|_| wrong("`url` must look like redis://:password@host:6379/0"))
        });
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        if !options.cluster && nodes.len() > 1 {
            return Err(wrong("`url` names several servers: only a cluster has those, set `cluster`"));
        }
        if options.cluster && options.replicas_min > 0 {
            return Err(wrong("`replicas_min` cannot be used with `cluster`"));
        }
        if options.prefix.contains(['{', '}']) {
            return Err(wrong("`prefix` must have no braces: they decide where keys are in a cluster"));
        }
        Client::open(nodes[0].clone()).map_err(|error| wrong(&format!("`url` cannot be used: {error}")))?;
        Ok(Self {
            nodes,
            cluster: options.cluster,
            timeout: options.timeout.max(Duration::from_millis(100)),
            replicas_min: options.replicas_min,
        })
    }

    /// The server, as people know it.
    pub(super) fn place(&self) -> String {
        self.nodes.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn options_are_shown_without_the_password() {
        let options = RedisOptions::new("redis://me:hunter2@cache:7000/3");
        let target = Target::new(&options).unwrap();
        for shown in [format!("{options:?}"), format!("{target:?}")] {
            assert!(shown.contains("cache:7000") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_the_settings_name() {
        let options = |url: &str| RedisOptions::new(url);
        for (options, setting) in [
            (options("http://host"), "`url`"),
            (options("redis://:hunter2@host:port"), "`url`"),
            (options("redis://a,redis://b"), "`cluster`"),
            (RedisOptions { prefix: "a{b".to_owned(), ..options("redis://a") }, "`prefix`"),
            (RedisOptions { cluster: true, replicas_min: 1, ..options("redis://a") }, "`replicas_min`"),
        ] {
            let error = Target::new(&options).unwrap_err().to_string();
            assert!(error.contains(setting) && !error.contains("hunter2"), "{error}");
        }
    }
}

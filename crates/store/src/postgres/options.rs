//! What is configured about the database.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::Tls;
use crate::StoreError;
use crate::remote::masked;

/// Which database, and how to use it.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, with `?sslmode=disable` (the default: no TLS), `require` (TLS,
    /// the certificate unchecked) or `verify-full` (TLS with the server's certificate checked against the public
    /// authorities, or those in the PEM file `sslrootcert`).
    pub url: String,
    /// The schema in which the tables are; made if it is not there. Default: `outspoke`.
    pub schema: String,
    /// How long anything may take before it is given up. Default: 5 s. Reading everything (`verify`, `compact`,
    /// `authored`) may take an hour.
    pub timeout: Duration,
    /// Connections for reading, beside the one for writing. Default: 4; at least 1.
    pub readers_max: usize,
}

impl PostgresOptions {
    /// A database with everything else as it is by default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "outspoke".to_owned(),
            timeout: Duration::from_secs(5),
            readers_max: 4,
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("url", &masked(&self.url))
            .field("schema", &self.schema)
            .field("timeout", &self.timeout)
            .field("readers_max", &self.readers_max)
            .finish()
    }
}

/// An address that was understood.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// The schema, quoted for use in SQL.
    pub(super) schema: String,
    pub(super) schema_name: String,
    pub(super) timeout: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, StoreError> {
        let (url, tls) = split(&options.url)?;
        let wrong = |what: &str| StoreError::Invalid(format!("the PostgreSQL setting `url` {what}"));
        let mut config: Config =
            url.parse().map_err(|error| wrong(&format!("is not understood: {error}")))?;
        if config.get_hosts().is_empty() {
            return Err(wrong("names no host"));
        }
        if config.get_user().is_none() {
            return Err(wrong("names no user"));
        }
        config.ssl_mode(if matches!(tls, Tls::Off) { SslMode::Disable } else { SslMode::Require });
        if config.get_application_name().is_none() {
            config.application_name("outspoke");
        }
        let timeout = options.timeout.max(Duration::from_millis(100));
        // A server that is gone without a word must not hold a connection for the minutes TCP would.
        config.connect_timeout(timeout).tcp_user_timeout(timeout * 2);
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        Ok(Self {
            config,
            tls,
            schema: quoted(&options.schema)?,
            schema_name: options.schema.clone(),
            timeout,
        })
    }

    /// The server, as people know it.
    pub(super) fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| {
            let ports = self.config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => path.display().to_string(),
            }
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }
}

/// Takes what is about TLS out of the address: the client library knows only half of it.
fn split(url: &str) -> Result<(String, Tls), StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        let text = "the PostgreSQL setting `url` must look like postgres://user:password@host:5432/database";
        return Err(StoreError::Invalid(text.into()));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
        match name.as_ref() {
            "sslmode" => mode = Some(value.into_owned()),
            "sslrootcert" => roots = Some(value.into_owned()),
            _ => rest.push(pair),
        }
    }
    let tls = Tls::new(mode.as_deref(), roots.as_deref())?;
    Ok((format!("{base}?{}", rest.join("&")), tls))
}

fn quoted(schema: &str) -> Result<String, StoreError> {
    // PostgreSQL cuts longer names silently, and two schemas would become one.
    if schema.is_empty() || schema.len() > 63 || schema.contains('\0') {
        let text = format!("the PostgreSQL setting `schema` must have 1 to 63 bytes: {schema:?}");
        return Err(StoreError::Invalid(text));
    }
    Ok(format!("\"{}\"", schema.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn options_are_shown_without_the_password() {
        let options = PostgresOptions::new("postgres://me:hunter2@db/chat?sslmode=require");
        let target = Target::new(&options).unwrap();
        for shown in [format!("{options:?}"), format!("{target:?}")] {
            assert!(shown.contains("db") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn url_that_makes_no_sense_is_refused_with_the_settings_name() {
        for url in ["mysql://x", "postgres://", "postgres://host", "postgres://me@host/db?sslmode=maybe"] {
            let error = Target::new(&PostgresOptions::new(url)).unwrap_err();
            assert!(matches!(&error, StoreError::Invalid(text) if text.contains("`url`")), "{url}: {error}");
        }
    }

    #[test]
    fn schema_is_quoted_and_never_cut() {
        assert_eq!(quoted("chat\"; DROP").unwrap(), "\"chat\"\"; DROP\"");
        assert!(quoted("").is_err());
        assert!(quoted(&"x".repeat(64)).is_err());
    }
}

//! The settings of TLS, and the kinds of value that only they have.

use std::path::PathBuf;
use std::time::Duration;

use super::auth::Words;
use crate::config::address::ListenAddr;
use crate::config::kind::{AddressOrNone, Count, Flag, Form, Kind, Refusal, Text, Time};
use crate::config::table::{block, section};

section! {
    /// TLS in the server itself: https and wss at server.addr, instead of http and ws. See docs/operating/tls.md.
    Tls at "tls" {
        /// PEM file with the server's certificate, followed by those between it and the root. "" for no TLS; to switch it on
        /// or off takes a restart.
        certificate: Option<PathBuf> as FileOrNone = "" {}

        /// PEM file with the private key of the certificate.
        key: Option<PathBuf> as FileOrNone = "" {}

        /// How often the files are looked at; new ones are used for new connections from then on, and those that exist stay.
        /// Files that cannot be used change nothing but the log.
        reload_interval: Duration as Time = "10s" {
            range: Some(("1s", "1d")),
            zero: Some("never; only when the server is told to reload"),
        }

        /// How long a client may take for the TLS handshake.
        handshake_timeout: Duration as Time = "10s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the connection is closed"),
        }

        /// TLS handshakes at the same time.
        handshakes_max: usize as Count = "1000" {
            range: Some(("1", "1_000_000")),
            unit: Some("handshakes"),
            at_limit: Some("further clients wait, no longer than tls.handshake_timeout"),
        }

        /// Host names for which the server gets tls.certificate and tls.key by itself, from an authority that speaks ACME, such as
        /// Let's Encrypt; it writes those files and renews them. The names must lead here, and their port 80 to
        /// tls.redirect_addr. Only in builds with the feature acme. [] for none.
        acme_domains: Vec<String> as Words = "" {}

        /// Address for mail from that authority. "" for none.
        acme_contact: String as Text = "" {}

        /// The authority's directory.
        acme_directory: String as Text = "https://acme-v02.api.letsencrypt.org/directory" {}

        /// PEM file with the root by which the directory's own certificate is checked. "" for the system's roots.
        acme_ca: Option<PathBuf> as FileOrNone = "" {}

        /// Whether you agree to the authority's terms of service; without it you get no certificate.
        acme_terms_agreed: bool as Flag = "false" {}

        /// PEM file with the certificates of the authorities whose client certificates are accepted.
        client_ca: Option<PathBuf> as FileOrNone = "" {}

        /// Whether clients show a certificate: off, optional (who shows one shows a valid one) or required.
        client_auth: ClientAuth as ClientAuth = "off" {}

        /// Address of a second listener, such as ":80", that sends browsers from http to https and answers health checks.
        /// "" for none.
        redirect_addr: Option<ListenAddr> as AddressOrNone = "" {}

        /// Where it sends them: the host, with :port unless that is 443. "" takes the request's own host, if a certificate
        /// is for it, and the port of server.addr.
        redirect_host: String as Text = "" {}

        /// How long browsers are to use nothing but https for this host (Strict-Transport-Security). It cannot be taken back
        /// before; begin with a short time.
        hsts: Duration as Time = "0" {
            range: Some(("1s", "730d")),
            zero: Some("do not say so"),
        }
    }
    lists {
        /// Further certificates, for clients that ask for a host name in one of them (SNI). Others get tls.certificate.
        certificates: CertificateFiles = "[]" {
            example: Some("[{certificate: /etc/outspoke/acme.pem, key: /etc/outspoke/acme.key}]"),
        }
    }
}

block! {
    /// A certificate and its key.
    CertificateFiles {
        /// PEM file with the certificate, followed by those between it and the root.
        certificate: PathBuf as File = required { unique: true }

        /// PEM file with its private key.
        key: PathBuf as File = required {}
    }
}

impl Tls {
    /// Whether the server speaks TLS.
    pub fn is_on(&self) -> bool {
        self.certificate.is_some()
    }
}

/// A path of a file, or nothing.
#[derive(Debug)]
pub enum FileOrNone {}

impl Kind for FileOrNone {
    type Value = Option<PathBuf>;
    const NAME: &'static str = "file";
    const ACCEPTS: &'static str = "a path such as /etc/outspoke/server.pem, or \"\" for none";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Option<PathBuf>, Refusal> {
        if text.is_empty() { Ok(None) } else { File::read(text).map(Some) }
    }
}

/// A path of a file.
#[derive(Debug)]
pub enum File {}

impl Kind for File {
    type Value = PathBuf;
    const NAME: &'static str = "file";
    const ACCEPTS: &'static str = "a path such as /etc/outspoke/server.pem";
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<PathBuf, Refusal> {
        let why = match text {
            "" => "is empty",
            text if text.contains("-----BEGIN") => "is the content of a file, not its path",
            text if text.chars().any(char::is_control) => "contains a control character",
            text => return Ok(PathBuf::from(text)),
        };
        Err(Refusal { why: why.into(), hint: None })
    }
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may.
    Optional,
    /// They must.
    Required,
}

impl Kind for ClientAuth {
    type Value = Self;
    const NAME: &'static str = "choice";
    const ACCEPTS: &'static str = "off, optional or required";
    const FORM: Form = Form::Word;

    fn read(text: &str) -> Result<Self, Refusal> {
        match text {
            "off" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err(Refusal { why: "is none of these".into(), hint: None }),
        }
    }
}

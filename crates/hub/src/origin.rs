//! Which web pages may connect: the check of `Origin`, before anybody is asked who it is.
//!
//! A browser lets any page open a WebSocket to any server and sends the server's cookies along; `Origin` is the only thing
//! that tells one page from another (RFC 6455 section 10.2). Programs that are no browsers send none, and could send any:
//! for them this is no protection and needs to be none. Used by the [upgrade](crate::upgrade), and by the HTTP server for
//! CORS, so that one list holds for both.

use std::fmt;
use std::str::FromStr;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use crate::peer::Reached;

/// A scheme, a host and a port: where a page comes from (RFC 6454).
///
/// Kept in the form in which browsers send it: in lower case, without the scheme's own port. There are no wildcards; a
/// page on a name that somebody else may register must not be let in by mistake.
///
/// ```
/// use outspoke_hub::Origin;
///
/// let origin: Origin = "https://Chat.example:443".parse()?;
/// assert_eq!(origin.to_string(), "https://chat.example");
/// assert!("https://chat.example/page".parse::<Origin>().is_err());
/// # Ok::<(), outspoke_hub::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(String);

/// Why a text is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// There is no `://`.
    #[error("has no scheme; write https://HOST or http://HOST, with :PORT if it is not the usual one")]
    NoScheme,
    /// There is a path, a query, a user, or a blank.
    #[error("is more than an origin; write scheme, host and port only, without a slash at the end")]
    NotOnlyAnOrigin,
    /// A `*` somewhere.
    #[error("has a wildcard; write each origin in full")]
    Wildcard,
    /// The host is empty or the port no number.
    #[error("has no valid host and port")]
    BadAuthority,
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin::NoScheme)?;
        if text.contains('*') {
            return Err(InvalidOrigin::Wildcard);
        }
        if authority.contains(['/', '?', '#', '@', '\\']) || text.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(InvalidOrigin::NotOnlyAnOrigin);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(plain) {
            return Err(InvalidOrigin::NoScheme);
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority =
            normal_authority(authority, default_port(&scheme)).ok_or(InvalidOrigin::BadAuthority)?;
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    /// As browsers send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once("://").unwrap_or_default()
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Host and port in lower case, without the port if that is `usual` anyway; `None` if they are none.
fn normal_authority(authority: &str, usual: Option<u16>) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            inside.parse::<std::net::Ipv6Addr>().ok()?;
            (&authority[..inside.len() + 2], after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if host.is_empty() || host.contains(':') != host.starts_with('[') {
        return None;
    }
    // "host:" is "host" (RFC 3986 section 6.2.3).
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse::<u16>().ok()?),
        _ => return None,
    };
    let host = host.to_ascii_lowercase();
    Some(match port.filter(|port| Some(*port) != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

/// Which pages may connect. The default: those of the host that they connect to, and programs that are no browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OriginPolicy {
    /// Pages that may connect, besides those of the server's own address. Default: none.
    pub allowed: Vec<Origin>,
    /// Whether pages of an opaque origin may: files, sandboxed frames (`Origin: null`). Default: no, since any site can
    /// make itself one.
    pub null: bool,
    /// Whether requests without `Origin` may: programs, and no browser. Default: yes.
    pub absent: bool,
}

impl Default for OriginPolicy {
    fn default() -> Self {
        Self { allowed: Vec::new(), null: false, absent: true }
    }
}

/// Why a page may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignOrigin {
    /// Another site's page.
    #[error(
        "pages of this origin may not connect: open the page under the server's own address, or have the server's operator \
         add the origin to the allowed ones"
    )]
    NotAllowed,
    /// `Origin: null`.
    #[error(
        "pages without an origin of their own (files, sandboxed frames) may not connect; serve the page over HTTP"
    )]
    Null,
    /// No `Origin` where one is required.
    #[error("an Origin header is required here")]
    Absent,
    /// Two of them, or bytes that are none.
    #[error("the request must have at most one Origin header, with one origin in it")]
    Malformed,
}

impl OriginPolicy {
    /// Own pages, and those of `allowed`.
    #[must_use]
    pub fn allowing(allowed: impl IntoIterator<Item = Origin>) -> Self {
        Self { allowed: allowed.into_iter().collect(), ..Self::default() }
    }

    /// Whether somebody has said which pages may connect. What a browser sends by itself, such as a cookie, may count as a
    /// credential only then.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Whether pages of another origin are allowed by name: what CORS lets in.
    #[must_use]
    pub fn allows_by_name(&self, origin: &HeaderValue) -> bool {
        match origin.to_str() {
            Ok("null") => self.null,
            Ok(origin) => origin.parse().is_ok_and(|origin| self.allowed.contains(&origin)),
            Err(_) => false,
        }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// Why it is to be refused.
    pub fn check(&self, request: &Parts) -> Result<(), ForeignOrigin> {
        let mut origins = request.headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return if self.absent { Ok(()) } else { Err(ForeignOrigin::Absent) };
        };
        if origins.next().is_some() {
            return Err(ForeignOrigin::Malformed);
        }
        let origin = origin.to_str().map_err(|_| ForeignOrigin::Malformed)?;
        if origin == "null" {
            return if self.null { Ok(()) } else { Err(ForeignOrigin::Null) };
        }
        let origin: Origin = origin.parse().map_err(|_| ForeignOrigin::Malformed)?;
        if self.allowed.contains(&origin) || is_own(&origin, request) {
            return Ok(());
        }
        Err(ForeignOrigin::NotAllowed)
    }
}

/// Whether the page comes from where it connects to.
fn is_own(origin: &Origin, request: &Parts) -> bool {
    let reached = request.extensions.get::<Reached>();
    let (scheme, authority) = origin.parts();
    let secure = match scheme {
        "https" => true,
        "http" => false,
        _ => return false,
    };
    // A page that came over plain HTTP may be anybody's on the way: it has no business where the server is sure of TLS. The
    // other way round there may be a proxy that took the TLS off without saying so.
    if !secure && reached.is_some_and(|reached| reached.secure == Some(true)) {
        return false;
    }
    let told = reached.and_then(|reached| reached.host.as_deref());
    let host = told.or_else(|| asked_host(&request.headers, request));
    host.and_then(|host| normal_authority(host, default_port(scheme))).is_some_and(|host| host == authority)
}

/// The host that was asked for: HTTP/2 has it in the target.
fn asked_host<'a>(headers: &'a HeaderMap, request: &'a Parts) -> Option<&'a str> {
    let header = || headers.get(header::HOST)?.to_str().ok();
    request.uri.authority().map(http::uri::Authority::as_str).or_else(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    fn request(host: &str, origins: &[&str]) -> Parts {
        let mut request = Request::builder().uri("/ws").header("host", host);
        for origin in origins {
            request = request.header("origin", *origin);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn judged(policy: &OriginPolicy, host: &str, origin: &str) -> bool {
        policy.check(&request(host, &[origin])).is_ok()
    }

    #[test]
    fn origin_is_compared_without_case_and_the_usual_port() {
        for (text, normal) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example:443", "https://chat.example"),
            ("http://chat.example:80", "http://chat.example"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), normal, "{text}");
        }
        for bad in [
            "",
            "null",
            "*",
            "chat.example",
            "https://",
            "https://*.example",
            "https://chat.example/",
            "https://chat.example/path",
            "https://user@chat.example",
            "https://chat.example:x",
            "https://chat.example:99999",
            "https://chat.example:+80",
            "https://a b",
            "https://::1",
            "https://[::1",
            "https://[::1]x",
            "https://chät.example", // typos: ignore
            "https://a https://b",
            "https://a,https://b",
            "://chat.example",
        ] {
            let parsed = bad.parse::<Origin>();
            // A comma may be in a host name as far as URLs go; such an origin is equal to none that a browser sends.
            assert!(parsed.is_err() || bad.contains(','), "{bad}: {parsed:?}");
        }
    }

    #[test]
    fn own_pages_may_connect_and_others_may_not() {
        let policy = OriginPolicy::default();
        for (host, origin, own) in [
            ("chat.example", "https://chat.example", true),
            ("chat.example", "http://chat.example", true),
            ("chat.example:8080", "http://chat.example:8080", true),
            ("Chat.Example", "https://chat.example", true),
            ("chat.example:443", "https://chat.example", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("chat.example", "https://chat.example:8443", false),
            ("chat.example:8080", "http://chat.example", false),
            ("chat.example:8080", "http://chat.example:8081", false),
            ("chat.example", "https://evil.example", false),
            ("chat.example", "https://chat.example.evil.example", false),
            ("chat.example", "https://evilchat.example", false),
            ("chat.example", "https://sub.chat.example", false),
            ("chat.example", "capacitor://chat.example", false),
            ("", "https://", false),
            ("", "null", false),
        ] {
            assert_eq!(judged(&policy, host, origin), own, "{origin} at {host}");
        }
    }

    #[test]
    fn page_without_tls_may_not_connect_where_the_server_is_sure_of_tls() {
        let policy = OriginPolicy::default();
        let mut request = request("chat.example", &["http://chat.example"]);
        assert_eq!(policy.check(&request), Ok(()));
        request.extensions.insert(Reached { secure: Some(true), host: None });
        assert_eq!(policy.check(&request), Err(ForeignOrigin::NotAllowed));
        request.headers.insert("origin", "https://chat.example".parse().unwrap());
        assert_eq!(policy.check(&request), Ok(()));
    }

    #[test]
    fn host_that_a_trusted_proxy_names_counts_instead_of_the_requests_own() {
        let policy = OriginPolicy::default();
        let mut request = request("10.0.0.7:8080", &["https://chat.example"]);
        assert_eq!(policy.check(&request), Err(ForeignOrigin::NotAllowed));
        request.extensions.insert(Reached { secure: Some(true), host: Some("chat.example".to_owned()) });
        assert_eq!(policy.check(&request), Ok(()));
        request.headers.insert("origin", "https://10.0.0.7:8080".parse().unwrap());
        assert_eq!(policy.check(&request), Err(ForeignOrigin::NotAllowed));
    }

    #[test]
    fn list_is_exact_and_holds_besides_the_own_address() {
        let policy = OriginPolicy::allowing(["https://app.example:443".parse().unwrap()]);
        assert!(policy.is_explicit() && !OriginPolicy::default().is_explicit());
        assert!(judged(&policy, "chat.example", "https://app.example"));
        assert!(judged(&policy, "chat.example", "https://chat.example"));
        for other in ["http://app.example", "https://app.example:444", "https://x.app.example"] {
            assert!(!judged(&policy, "chat.example", other), "{other}");
            assert!(!policy.allows_by_name(&other.parse().unwrap()), "{other}");
        }
        assert!(policy.allows_by_name(&"https://app.example".parse().unwrap()));
        // CORS is about other sites' pages; the own ones need no permission.
        assert!(!policy.allows_by_name(&"https://chat.example".parse().unwrap()));
    }

    #[test]
    fn null_absent_and_doubled_origins_are_as_configured() {
        let open = OriginPolicy { null: true, absent: true, ..OriginPolicy::default() };
        let strict = OriginPolicy { null: false, absent: false, ..OriginPolicy::default() };
        assert_eq!(open.check(&request("a", &[])), Ok(()));
        assert_eq!(strict.check(&request("a", &[])), Err(ForeignOrigin::Absent));
        assert_eq!(open.check(&request("a", &["null"])), Ok(()));
        assert_eq!(strict.check(&request("a", &["null"])), Err(ForeignOrigin::Null));
        for twice in [["http://a", "http://a"], ["http://a", "null"], ["", ""]] {
            assert_eq!(open.check(&request("a", &twice)), Err(ForeignOrigin::Malformed), "{twice:?}");
        }
        assert_eq!(open.check(&request("a", &[""])), Err(ForeignOrigin::Malformed));
    }
}

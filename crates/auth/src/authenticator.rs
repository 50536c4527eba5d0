//! The hub's [`Authenticator`] for credentials that are texts: tokens and keys.
//!
//! [`Sources`] says where a request may carry one; a [`TokenVerifier`] says whose it is. Invariants: a request with two
//! different credentials is refused, because whoever checks the one must not be fooled with the other; a credential is never
//! echoed, logged or quoted; a cookie, which browsers send whoever asks, counts only from pages of listed origins.

use std::borrow::Cow;
use std::sync::Arc;

use ecow::EcoString;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use outspoke_hub::{AuthError, Authentication, Authenticator, ErrorCode, Identity};

use crate::error::SetupError;
use crate::verifier::TokenVerifier;

/// What the subprotocol that carries a credential begins with. Browsers can set no header but this one.
pub const BEARER_SUBPROTOCOL: &str = "outspoke.bearer.";
/// A device's name is as long as a user id, at most.
const DEVICE_BYTES_MAX: usize = 128;

/// Where a request may carry its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    header: bool,
    subprotocol: bool,
    cookie: Option<Cookie>,
    query: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cookie {
    name: String,
    origins: Vec<String>,
}

/// `Authorization: Bearer`, and the subprotocol `outspoke.bearer.TOKEN`.
impl Default for Sources {
    fn default() -> Self {
        Self { header: true, subprotocol: true, cookie: None, query: None }
    }
}

/// What was found in a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    One(String),
    Refused(&'static str),
}

impl Sources {
    /// Nowhere: only a client's first message can show a credential.
    #[must_use]
    pub fn none() -> Self {
        Self { header: false, subprotocol: false, cookie: None, query: None }
    }

    /// Whether the `Authorization` header counts.
    #[must_use]
    pub fn header(mut self, counts: bool) -> Self {
        self.header = counts;
        self
    }

    /// Whether the subprotocol `outspoke.bearer.TOKEN` counts. A browser offers it beside the dialect's own, which is the one
    /// that is agreed on.
    #[must_use]
    pub fn subprotocol(mut self, counts: bool) -> Self {
        self.subprotocol = counts;
        self
    }

    /// A cookie counts too, in requests of pages from these origins (`https://chat.example.com`, exactly).
    ///
    /// # Errors
    /// Without origins any page could connect in the name of whoever looks at it; and an origin that is none.
    pub fn cookie<S: Into<String>>(
        mut self,
        name: impl Into<String>,
        origins: impl IntoIterator<Item = S>,
    ) -> Result<Self, SetupError> {
        let origins: Vec<String> =
            origins.into_iter().map(|origin| origin.into().to_ascii_lowercase()).collect();
        if origins.is_empty() {
            return Err(SetupError::CookieWithoutOrigins);
        }
        if let Some(wrong) = origins.iter().find(|origin| !is_origin(origin)) {
            let problem = "an origin is a scheme, a host and, unless it is the scheme's own, a port: https://chat.example.com";
            return Err(SetupError::BadUrl { url: wrong.escape_debug().to_string(), problem });
        }
        self.cookie = Some(Cookie { name: name.into(), origins });
        Ok(self)
    }

    /// A query parameter counts too. Addresses end up in logs and histories: only for clients that can do nothing else, and
    /// with tokens that expire within minutes.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>) -> Self {
        self.query = Some(name.into());
        self
    }

    /// The one credential of a request.
    pub(crate) fn read(&self, request: &Parts) -> Credentials {
        let mut found = Found::default();
        if self.header {
            found.header(request);
        }
        if self.subprotocol {
            found.subprotocols(request);
        }
        if let Some(cookie) = &self.cookie {
            found.cookies(request, cookie);
        }
        if let Some(name) = &self.query {
            in_query(request, name).for_each(|value| found.add(&value));
        }
        found.credentials()
    }

    /// What is said of a request in which there is no credential.
    fn why_none(&self, request: &Parts) -> &'static str {
        // Where other servers take it.
        let in_vain = ["token", "access_token"].iter().any(|name| in_query(request, name).next().is_some());
        if in_vain && self.query.is_none() && self.header {
            return "a credential is needed to connect; one in the address is not looked at, since addresses end up in logs: \
                    send it as Authorization: Bearer TOKEN, or from a browser as the subprotocol outspoke.bearer.TOKEN";
        }
        "a credential is needed to connect"
    }
}

/// The values of a parameter in the address.
fn in_query<'a>(request: &'a Parts, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let query = request.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).filter(move |(key, _)| key == name).map(|(_, value)| value)
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    matches!(scheme, "http" | "https")
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

#[derive(Default)]
struct Found {
    credential: Option<String>,
    refused: Option<&'static str>,
}

impl Found {
    fn add(&mut self, credential: &str) {
        match &self.credential {
            _ if credential.is_empty() => {}
            None => self.credential = Some(credential.to_owned()),
            Some(first) if first == credential => {}
            Some(_) => self.refused = Some("the request carries two different credentials; send one"),
        }
    }

    fn header(&mut self, request: &Parts) {
        for value in request.headers.get_all(AUTHORIZATION) {
            let bytes = value.as_bytes();
            let Some((scheme, token)) = bytes.split_at_checked(7) else { continue };
            if !scheme.eq_ignore_ascii_case(b"bearer ") {
                continue;
            }
            match std::str::from_utf8(token.trim_ascii()) {
                Ok(token) => self.add(token),
                Err(_) => self.refused = Some("the Authorization header is no text"),
            }
        }
    }

    fn subprotocols(&mut self, request: &Parts) {
        for value in texts(request, SEC_WEBSOCKET_PROTOCOL) {
            let offered = value.split(',').map(str::trim);
            offered
                .filter_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL))
                .for_each(|token| self.add(token));
        }
    }

    fn cookies(&mut self, request: &Parts, cookie: &Cookie) {
        let pairs = texts(request, COOKIE).flat_map(|value| value.split(';'));
        let values = pairs.filter_map(|pair| pair.trim().split_once('='));
        let mut values = values.filter(|(name, _)| *name == cookie.name).peekable();
        if values.peek().is_none() {
            return;
        }
        if !cookie.is_from_listed_origin(request) {
            self.refused = Some("a cookie is not accepted from a page of this origin");
            return;
        }
        values.for_each(|(_, value)| self.add(value.trim().trim_matches('"')));
    }

    fn credentials(self) -> Credentials {
        match (self.refused, self.credential) {
            (Some(why), _) => Credentials::Refused(why),
            (None, Some(credential)) => Credentials::One(credential),
            (None, None) => Credentials::None,
        }
    }
}

impl Cookie {
    /// Whoever sends no Origin is no browser, and has better ways to send a credential.
    fn is_from_listed_origin(&self, request: &Parts) -> bool {
        let mut origins = request.headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
        self.origins.iter().any(|listed| origin.as_bytes().eq_ignore_ascii_case(listed.as_bytes()))
    }
}

fn texts(request: &Parts, name: HeaderName) -> impl Iterator<Item = &str> {
    request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// An [`Authenticator`] that finds a token or key in a request and has a [`TokenVerifier`] judge it.
#[derive(Clone, Debug)]
pub struct TokenAuthenticator {
    verifier: Arc<dyn TokenVerifier>,
    sources: Sources,
    fallback: Option<Arc<dyn Authenticator>>,
}

impl TokenAuthenticator {
    /// Takes credentials from the usual places.
    #[must_use]
    pub fn new(verifier: impl TokenVerifier) -> Self {
        Self::shared(Arc::new(verifier))
    }

    /// As [`new`](Self::new), with a verifier that others use too.
    #[must_use]
    pub fn shared(verifier: Arc<dyn TokenVerifier>) -> Self {
        Self { verifier, sources: Sources::default(), fallback: None }
    }

    /// Takes credentials from these places.
    #[must_use]
    pub fn from_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Asks another one about requests without a credential, and with one that the verifier does not
    /// [recognize](TokenVerifier::recognizes).
    #[must_use]
    pub fn or_else(mut self, fallback: Arc<dyn Authenticator>) -> Self {
        self.fallback = Some(fallback);
        self
    }

    async fn identify(&self, request: &Parts) -> Result<Identity, AuthError> {
        let credential = match self.sources.read(request) {
            Credentials::Refused(why) => return Err(AuthError::unauthorized(why)),
            Credentials::One(credential) => Some(credential),
            Credentials::None => None,
        };
        let foreign = credential.as_deref().is_none_or(|credential| !self.verifier.recognizes(credential));
        let identity = match (&self.fallback, credential) {
            (Some(fallback), _) if foreign => fallback.authenticate(request).await?,
            (_, Some(credential)) => self.verifier.verify(&credential).await?,
            (_, None) => return Err(AuthError::missing(self.sources.why_none(request))),
        };
        with_device(identity, request)
    }

    async fn identify_by(&self, token: &str) -> Result<Identity, AuthError> {
        match &self.fallback {
            Some(fallback) if !self.verifier.recognizes(token) => fallback.authenticate_token(token).await,
            _ => self.verifier.verify(token).await,
        }
    }
}

/// Which of the user's devices it is, a client may say for itself where the credential does not.
fn with_device(mut identity: Identity, request: &Parts) -> Result<Identity, AuthError> {
    let query = request.uri.query().unwrap_or_default();
    let device = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "device");
    let Some((_, device)) = device.filter(|_| identity.device.is_empty()) else { return Ok(identity) };
    if device.len() > DEVICE_BYTES_MAX || device.chars().any(crate::is_unprintable) {
        let detail = "device has more than 128 bytes, or characters that nobody can see";
        return Err(AuthError::new(ErrorCode::InvalidIdentity, detail));
    }
    identity.device = EcoString::from(device);
    Ok(identity)
}

impl Authenticator for TokenAuthenticator {
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        Box::pin(self.identify(request))
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        Box::pin(self.identify_by(token))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::token_verifier_fn;

    type Headers = &'static [(&'static str, &'static str)];

    fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(http::Request::get(target), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn one(text: &str) -> Credentials {
        Credentials::One(text.to_owned())
    }

    #[test]
    fn credentials_are_found_where_they_may_be_and_nowhere_else() {
        let everywhere = Sources::default().cookie("sid", ["https://a.example"]).unwrap().query("token");
        const ORIGIN: (&str, &str) = ("origin", "https://A.example");
        let cases: [(&str, Headers, Credentials); 12] = [
            ("/ws", &[], Credentials::None),
            ("/ws", &[("authorization", "Bearer t")], one("t")),
            ("/ws", &[("authorization", "bEARER   t ")], one("t")),
            ("/ws", &[("authorization", "Basic dTpw")], Credentials::None),
            ("/ws", &[("authorization", "Bearer")], Credentials::None),
            ("/ws", &[("sec-websocket-protocol", "outspoke.v1, outspoke.bearer.t.u.v")], one("t.u.v")),
            (
                "/ws",
                &[("sec-websocket-protocol", "outspoke.v1"), ("sec-websocket-protocol", "outspoke.bearer.t")],
                one("t"),
            ),
            ("/ws", &[("cookie", "a=b; sid=t; c=d"), ORIGIN], one("t")),
            ("/ws?token=t", &[], one("t")),
            ("/ws?token=t%2Fu&x=y", &[], one("t/u")),
            ("/ws?token=", &[], Credentials::None),
            ("/ws?Token=t&tokens=t", &[("cookie", "SID=t; sids=t"), ORIGIN], Credentials::None),
        ];
        for (target, headers, found) in cases {
            let request = request(target, headers);
            assert_eq!(everywhere.read(&request), found, "{target} {headers:?}");
            assert_eq!(Sources::none().read(&request), Credentials::None, "{target} {headers:?}");
        }
    }

    #[test]
    fn token_in_the_address_is_named_where_none_is_looked_for() {
        let said =
            |sources: &Sources, target| sources.why_none(&request(target, &[])).contains("in the address");
        assert!(said(&Sources::default(), "/ws?room=a&token=t"));
        assert!(!said(&Sources::default(), "/ws?room=a"));
        assert!(!said(&Sources::default().query("token"), "/ws?token="));
    }

    #[test]
    fn two_different_credentials_are_refused_and_the_same_one_twice_is_not() {
        let everywhere = Sources::default().cookie("sid", ["https://a.example"]).unwrap().query("token");
        let origin = ("origin", "https://a.example");
        let same = request("/ws?token=t", &[("authorization", "Bearer t"), ("cookie", "sid=t"), origin]);
        assert_eq!(everywhere.read(&same), one("t"));
        let different: [(&str, &[(&str, &str)]); 6] = [
            ("/ws?token=t", &[("authorization", "Bearer u")]),
            ("/ws?token=t&token=u", &[]),
            ("/ws", &[("authorization", "Bearer t"), ("authorization", "Bearer u")]),
            ("/ws", &[("authorization", "Bearer t"), ("sec-websocket-protocol", "outspoke.bearer.u")]),
            ("/ws", &[("cookie", "sid=t; sid=u"), origin]),
            ("/ws", &[("authorization", "Bearer t"), ("cookie", "sid=u"), origin]),
        ];
        for (target, headers) in different {
            assert!(
                matches!(everywhere.read(&request(target, headers)), Credentials::Refused(_)),
                "{target} {headers:?}"
            );
        }
    }

    /// Any page can have a browser send the cookie; only the browser says whose page it was.
    #[test]
    fn cookie_counts_from_listed_origins_only() {
        let sources =
            Sources::default().cookie("sid", ["https://a.example", "http://localhost:8080"]).unwrap();
        let from = |headers: &[(&str, &str)]| {
            let headers: Vec<_> = [("cookie", "sid=t")].into_iter().chain(headers.iter().copied()).collect();
            sources.read(&request("/ws", &headers))
        };
        assert_eq!(from(&[("origin", "http://localhost:8080")]), one("t"));
        for origin in [
            "https://a.example.evil",
            "http://a.example",
            "https://a.example:444",
            "null",
            "",
            "https://b.a.example",
        ] {
            assert!(matches!(from(&[("origin", origin)]), Credentials::Refused(_)), "{origin}");
        }
        assert!(matches!(from(&[]), Credentials::Refused(_)));
        let twice = from(&[("origin", "https://a.example"), ("origin", "https://evil.example")]);
        assert!(matches!(twice, Credentials::Refused(_)));
        assert_eq!(Sources::default().cookie("sid", [""; 0]), Err(SetupError::CookieWithoutOrigins));
        for wrong in
            ["*", "a.example", "https://", "https://a.example/", "ftp://a.example", "https://*.example"]
        {
            assert!(
                matches!(Sources::default().cookie("sid", [wrong]), Err(SetupError::BadUrl { .. })),
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn no_credential_may_follow_later_and_a_wrong_one_may_not() {
        let verifier = token_verifier_fn(|token| match token {
            "good" => Ok(Identity::user("anna")),
            _ => Err(AuthError::unauthorized("no")),
        });
        let authenticator = TokenAuthenticator::new(verifier);
        let good = request("/ws?device=tab-1", &[("authorization", "Bearer good")]);
        let identity = authenticator.authenticate(&good).await.unwrap();
        assert_eq!((identity.user.as_str(), identity.device.as_str()), ("anna", "tab-1"));
        let two: Headers = &[("authorization", "Bearer good"), ("authorization", "Bearer better")];
        for (headers, missing) in
            [(&[][..], true), (&[("authorization", "Bearer s3cret")], false), (two, false)]
        {
            let refused = authenticator.authenticate(&request("/ws", headers)).await.unwrap_err();
            assert_eq!((refused.code, refused.missing), (ErrorCode::Unauthorized, missing), "{headers:?}");
            assert!(!format!("{refused:?}").contains("s3cret"));
        }
        assert!(authenticator.authenticate_token("good").await.is_ok());
        assert!(authenticator.authenticate_token("s3cret").await.is_err());
    }
}

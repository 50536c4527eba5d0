//! Reading requests: bodies, queries, names in paths. Strictly, so that a slip is told and not swallowed.
//!
//! A field or parameter that is not known is refused with the known one that looks most like it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Api;
use super::audit::Spoken;
use super::error::ApiError;
use crate::config::nearest;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A request's body, as JSON that is not parsed yet.
#[derive(Debug)]
pub(super) struct Body(Bytes);

impl FromRequest<Api> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let max = api.body_bytes_max;
        let spoken = request.extensions().get::<Spoken>().cloned();
        let too_large = || {
            let message =
                format!("the body has more than {max} bytes, the configured maximum (api.body_bytes_max)");
            ApiError::http(StatusCode::PAYLOAD_TOO_LARGE, "content_too_large", message)
        };
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|len| len > max) {
            return Err(too_large());
        }
        match tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), max)).await {
            Ok(Ok(bytes)) => {
                if let Some(spoken) = spoken {
                    spoken.keep(&bytes);
                }
                Ok(Self(bytes))
            }
            Ok(Err(error)) if is_length_error(&error) => Err(too_large()),
            Ok(Err(_)) => Err(ApiError::bad_request("the body was not read to its end")),
            Err(_) => {
                let message = format!("the body did not come within {} seconds", BODY_TIMEOUT.as_secs());
                Err(ApiError::http(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
            }
        }
    }
}

fn is_length_error(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "send JSON, and say so with the header `Content-Type: application/json`";
    Err(ApiError::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

impl Body {
    /// The fields of the object that the body must be.
    pub(super) fn fields<'a>(&'a self, known: &'static [&'static str]) -> Result<Fields<'a>, ApiError> {
        let text = std::str::from_utf8(&self.0).map_err(|_| ApiError::bad_request("the body is no UTF-8"))?;
        Fields::read(text, known)
    }
}

/// The fields of a JSON object.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    fields: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(json: &'a str, known: &'static [&'static str]) -> Result<Self, ApiError> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let not_read = |error| ApiError::bad_request(format!("this is no JSON object: {error}"));
        let fields = reader.deserialize_map(ObjectVisitor).map_err(not_read)?;
        reader.end().map_err(not_read)?;
        for (index, (name, _)) in fields.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(unknown("field", name, known));
            }
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::bad_request(format!("the field `{name}` comes twice")));
            }
        }
        Ok(Self { fields })
    }

    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// A field that may be absent, but not null.
    pub(super) fn optional<T: DeserializeOwned + What>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|error| {
            let why = if error.is_data() { String::new() } else { format!(" ({error})") };
            ApiError::bad_request(format!("the field `{name}` must be {}{why}", T::WHAT))
        })
    }

    pub(super) fn required<T: DeserializeOwned + What>(&self, name: &str) -> Result<T, ApiError> {
        let missing =
            || ApiError::bad_request(format!("the field `{name}` is missing: it must be {}", T::WHAT));
        self.optional(name)?.ok_or_else(missing)
    }
}

/// What a field's value is called.
pub(super) trait What {
    const WHAT: &'static str;
}

impl What for String {
    const WHAT: &'static str = "a string";
}

impl What for bool {
    const WHAT: &'static str = "true or false";
}

/// A whole number that every JSON parser reads exactly; `5.0` is one, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole(pub(super) u64);

const WHOLE_MAX: u64 = (1 << 53) - 1;

impl<'de> serde::Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let float = || {
            number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=WHOLE_MAX as f64).contains(float))
        };
        let whole = number.as_u64().or_else(|| float().map(|float| float as u64));
        let in_range = whole.filter(|whole| *whole <= WHOLE_MAX);
        in_range.map(Self).ok_or_else(|| serde::de::Error::custom("no whole number"))
    }
}

impl What for Whole {
    const WHAT: &'static str = "a whole number from 0 to 9007199254740991";
}

impl What for Vec<Box<RawValue>> {
    const WHAT: &'static str = "a list";
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> ApiError {
    let name: String = name.chars().take(64).collect();
    let hint = match nearest::nearest(&name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there are none here".to_owned(),
        None => format!("known are {}", known.join(", ")),
    };
    ApiError::bad_request(format!("there is no {what} `{}`: {hint}", name.escape_debug()))
}

/// More parameters than any request knows.
const PARAMETERS_MAX: usize = 16;

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        // Each is compared with those before it, so there must not be many.
        if pairs.clone().nth(PARAMETERS_MAX).is_some() {
            let message = format!("the query has more than {PARAMETERS_MAX} parameters; send fewer");
            return Err(ApiError::bad_request(message));
        }
        let pairs: Vec<_> = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        for (index, (name, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::bad_request(format!(
                    "the parameter `{}` comes twice",
                    name.escape_debug()
                )));
            }
            if value.contains(char::REPLACEMENT_CHARACTER) {
                return Err(ApiError::bad_request(format!(
                    "the parameter `{}` is no UTF-8",
                    name.escape_debug()
                )));
            }
        }
        Ok(Self(pairs))
    }
}

/// Databases count in 63 bits.
const OFFSET_MAX: u64 = i64::MAX as u64 - 1;

/// Items on a page, where the request does not say how many, and at most.
const PAGE: (usize, usize) = (100, 1000);

impl Query {
    /// Refuses parameters that are not these.
    pub(super) fn only(&self, known: &'static [&'static str]) -> Result<(), ApiError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(unknown("parameter", name, known)),
            None => Ok(()),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(parameter, _)| parameter == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            let wrong = |_| ApiError::bad_request(format!("the parameter `{name}` must be {what}"));
            // Rust reads a sign that nobody means.
            if text.starts_with('+') { Err(wrong(())) } else { text.parse().map_err(|_| wrong(())) }
        };
        self.text(name).map(parse).transpose()
    }

    /// A place in a log. What is beyond every log is as good as the greatest that stores count to.
    pub(super) fn offset(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parse = |text: &str| match Some(text).filter(digits) {
            Some(digits) => Ok(digits.parse().unwrap_or(u64::MAX).min(OFFSET_MAX)),
            None => Err(ApiError::bad_request(format!(
                "the parameter `{name}` must be an offset, a whole number"
            ))),
        };
        self.text(name).map(parse).transpose()
    }

    /// How many items a page has.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.parsed("limit", "a number from 1 to 1000")?.unwrap_or(PAGE.0);
        if (1..=PAGE.1).contains(&limit) {
            return Ok(limit);
        }
        Err(ApiError::bad_request(format!("the parameter `limit` must be a number from 1 to {}", PAGE.1)))
    }
}

/// A name in the path.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        match read {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(ApiError::bad_request("the name in the path is no percent-encoded UTF-8")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Each is compared with those before it, so thousands would cost tens of milliseconds.
    #[tokio::test]
    async fn more_parameters_than_any_request_knows_are_refused() {
        let read = async |count: usize| {
            let names: Vec<_> = (0..count).map(|number| format!("{number:x}")).collect();
            let request = Request::builder().uri(format!("/?{}", names.join("&"))).body(()).unwrap();
            let read = Query::from_request_parts(&mut request.into_parts().0, &()).await;
            read.map(|query| query.0.len()).map_err(|error| format!("{error:?}"))
        };
        assert_eq!(read(PARAMETERS_MAX).await, Ok(16));
        for count in [PARAMETERS_MAX + 1, 5000] {
            let refused = read(count).await.unwrap_err();
            assert!(refused.contains("more than 16 parameters"), "{count}: {refused}");
        }
    }
}

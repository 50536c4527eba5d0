//! Downloads: the bytes of files and of previews, for who has a link.
//!
//! Files are handed out for saving, never for showing: as an attachment, with the type that was found in them if nothing could run
//! it, sandboxed and not to be sniffed, so that nothing of this server's origin is within reach of what somebody uploaded. Previews
//! were made here, of pixels, and may be shown.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use outspoke_files::{Content, FileId, FilesError, Part, Record};
use serde::Deserialize;

use super::{Api, Named, blocking};
use crate::http::Progress;
use crate::http::api::error::ApiError;
use crate::http::progress::Counting;

/// Bytes read at a time.
const STEP: usize = 64 * 1024;
/// Nothing in it runs, and it is of no origin.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// The signed part of an address.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    expires: i64,
    signature: String,
}

type Shown = Result<Query<Signed>, QueryRejection>;

/// What a request asks for and wants to know.
#[derive(Debug)]
pub(super) struct Wanted {
    headers: HeaderMap,
    extensions: Extensions,
}

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { headers: parts.headers.clone(), extensions: parts.extensions.clone() })
    }
}

/// `GET /files/{id}/content`.
pub(super) async fn content(
    State(api): State<Api>,
    path: Path<Named>,
    signed: Shown,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let id = checked(&api, path, Part::Content, signed)?;
    let (record, content) = api
        .door
        .run(move |files| {
            let record = files.record(id)?;
            let content = files.content(&record)?;
            Ok((record, content))
        })
        .await?;
    let facts = record.facts().ok_or(FilesError::Unfinished)?;
    let mut response = part_of(content, &format!("\"{}\"", facts.sha256), &wanted);
    let headers = response.headers_mut();
    put(headers, CONTENT_TYPE, &described(&facts.media_type));
    put(headers, CONTENT_DISPOSITION, &attachment(&record));
    Ok(response)
}

/// `GET /files/{id}/preview`.
pub(super) async fn preview(
    State(api): State<Api>,
    path: Path<Named>,
    signed: Shown,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let id = checked(&api, path, Part::Preview, signed)?;
    let (record, content) = api
        .door
        .run(move |files| {
            let record = files.record(id)?;
            let content = files.preview(&record)?;
            Ok((record, content))
        })
        .await?;
    let media_type =
        record.facts().and_then(|facts| facts.preview.media_type()).ok_or(FilesError::NotFound)?;
    let mut response = part_of(content, &format!("\"{id}-preview\""), &wanted);
    let headers = response.headers_mut();
    put(headers, CONTENT_TYPE, media_type);
    put(headers, CONTENT_DISPOSITION, "inline");
    Ok(response)
}

/// The file that the link leads to.
fn checked(api: &Api, path: Path<Named>, part: Part, signed: Shown) -> Result<FileId, ApiError> {
    let id = Named::id(path)?;
    let Ok(Query(Signed { expires, signature })) = signed else {
        return Err(outspoke_files::InvalidLink::Signature.into());
    };
    api.door.files.check_link(id, part, expires, &signature)?;
    Ok(id)
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Text has an encoding, or browsers guess one.
fn described(media_type: &str) -> String {
    match media_type {
        "text/plain" => "text/plain; charset=utf-8".to_owned(),
        other => other.to_owned(),
    }
}

/// RFC 6266, with the name as RFC 8187 writes it, and without what needs that for who does not know it.
fn attachment(record: &Record) -> String {
    let plain: String = record.name.chars().map(|char| if is_plain(char) { char } else { '_' }).collect();
    let mut encoded = String::new();
    for byte in record.name.bytes() {
        match byte {
            b'0'..=b'9'
            | b'A'..=b'Z'
            | b'a'..=b'z'
            | b'!'
            | b'#'
            | b'$'
            | b'&'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// A percent sign is decoded by some where it should not be.
fn is_plain(char: char) -> bool {
    (char.is_ascii_graphic() || char == ' ') && !matches!(char, '"' | '\\' | '%')
}

/// Bytes of a file, from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: u64,
    /// Behind the last one.
    to: u64,
}

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// All: there is none, or one that is not understood, or several (RFC 9110, section 14.2).
    All,
    Part(Span),
    /// It is behind the end.
    Nothing,
}

impl Asked {
    fn read(range: Option<&str>, length: u64) -> Self {
        let Some(set) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else { return Self::All };
        let Some((first, last)) = set.trim().split_once('-') else { return Self::All };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // What is larger than any file is behind its end.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let span = match (first, last) {
            ("", last) => match number(last) {
                Some(0) => return Self::Nothing,
                Some(count) => Span { from: length.saturating_sub(count), to: length },
                None => return Self::All,
            },
            (first, "") => match number(first) {
                Some(from) => Span { from, to: length },
                None => return Self::All,
            },
            (first, last) => match (number(first), number(last)) {
                (Some(from), Some(last)) if from <= last => {
                    Span { from, to: last.saturating_add(1).min(length) }
                }
                _ => return Self::All,
            },
        };
        if span.from >= length { Self::Nothing } else { Self::Part(span) }
    }
}

/// All of the bytes or those that are asked for, with everything that is said of both.
fn part_of(content: Content, tag: &str, wanted: &Wanted) -> Response {
    let length = content.length();
    let text = |name: &HeaderName| wanted.headers.get(name).and_then(|value| value.to_str().ok());
    let known = text(&IF_NONE_MATCH)
        .is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag || known.trim() == "*"));
    // A part of something else is of no use (RFC 9110, section 13.1.5).
    let same = text(&IF_RANGE).is_none_or(|known| known.trim() == tag);
    let asked = Asked::read(text(&RANGE).filter(|_| same), length);
    let (status, span) = match asked {
        _ if known => (StatusCode::NOT_MODIFIED, None),
        Asked::All => (StatusCode::OK, Some(Span { from: 0, to: length })),
        Asked::Part(span) => (StatusCode::PARTIAL_CONTENT, Some(span)),
        Asked::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let counting = Progress::counting(wanted.extensions.get::<Progress>());
    let mut response = match span {
        Some(span) => Response::new(body(content, span, counting)),
        None => Response::new(Body::empty()),
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(span) = span {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(span.to - span.from));
        if status == StatusCode::PARTIAL_CONTENT {
            put(headers, CONTENT_RANGE, &format!("bytes {}-{}/{length}", span.from, span.to - 1));
        }
    } else if status == StatusCode::RANGE_NOT_SATISFIABLE {
        put(headers, CONTENT_RANGE, &format!("bytes */{length}"));
    }
    put(headers, ETAG, tag);
    put(headers, ACCEPT_RANGES, "bytes");
    // For who has the link, and no shared cache.
    put(headers, CACHE_CONTROL, "private, max-age=3600, immutable");
    put(headers, CONTENT_SECURITY_POLICY, POLICY);
    put(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    // The link alone opens it: that another site's page shows it tells that page nothing.
    put(headers, HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
    response
}

/// Reads only as fast as the client does.
fn body(content: Content, span: Span, counting: Counting) -> Body {
    if span.from == span.to {
        return Body::empty();
    }
    Body::from_stream(stream::try_unfold(Some((content, span, counting)), |state| async move {
        let Some((content, span, mut counting)) = state else { return Ok(None) };
        let step = STEP.min(usize::try_from(span.to - span.from).unwrap_or(STEP));
        let read = blocking(move || {
            let mut bytes = vec![0; step];
            let count = content.read_at(span.from, &mut bytes)?;
            bytes.truncate(count);
            Ok((content, Bytes::from(bytes)))
        });
        let (content, bytes) = read.await.map_err(|_| std::io::Error::other("the file cannot be read"))?;
        if bytes.is_empty() {
            return Err(std::io::Error::other("the file is shorter than it was"));
        }
        counting.add(bytes.len());
        let span = Span { from: span.from + bytes.len() as u64, ..span };
        let rest = (span.from < span.to).then_some((content, span, counting));
        Ok::<_, std::io::Error>(Some((bytes, rest)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_one_part_or_everything() {
        let part = |from, to| Asked::Part(Span { from, to });
        for (range, asked) in [
            ("bytes=0-99", part(0, 100)),
            ("bytes=10-10", part(10, 11)),
            ("bytes=990-", part(990, 1000)),
            ("bytes=-10", part(990, 1000)),
            ("bytes=-5000", part(0, 1000)),
            ("bytes=500-99999999999999999999999", part(500, 1000)),
            ("bytes=1000-", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", Asked::All),
            ("bytes=0-1,5-9", Asked::All),
            ("bytes=a-b", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("lines=1-2", Asked::All),
        ] {
            assert_eq!(Asked::read(Some(range), 1000), asked, "{range}");
        }
        assert_eq!(Asked::read(None, 1000), Asked::All);
        assert_eq!(Asked::read(Some("bytes=0-"), 0), Asked::Nothing);
    }
}

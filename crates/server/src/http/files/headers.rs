//! What uploads say in headers: the tus protocol, version 1.0.0.
//!
//! The core, and of its extensions creation, creation-with-upload, expiration, checksum and termination.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use outspoke_files::Checksum;

use super::error::Refused;
use crate::http::api::error::ApiError;

/// The one version that is spoken.
const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,expiration,checksum,termination";
/// Of parts of a file.
pub(super) const PART_TYPE: &str = "application/offset+octet-stream";
/// Longest metadata, which is told again as it came.
const METADATA_BYTES_MAX: usize = 4096;

pub(super) const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
pub(super) const LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(super) const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
pub(super) const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");

/// What the server understands, for who asks with OPTIONS.
pub(super) fn describe(headers: &mut HeaderMap, bytes_max: u64) {
    if bytes_max > 0 {
        headers.insert(HeaderName::from_static("tus-max-size"), HeaderValue::from(bytes_max));
    }
    headers.insert(RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    headers.insert(HeaderName::from_static("tus-extension"), HeaderValue::from_static(EXTENSIONS));
    let algorithms = HeaderValue::from_static(Checksum::ALGORITHMS);
    headers.insert(HeaderName::from_static("tus-checksum-algorithm"), algorithms);
}

/// Every answer says which version is spoken.
pub(super) async fn say_version(mut response: Response) -> Response {
    response.headers_mut().insert(RESUMABLE, HeaderValue::from_static(VERSION));
    response
}

/// Whether the request speaks it, too.
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.get(RESUMABLE).is_some_and(|version| version == VERSION) {
        return Ok(());
    }
    let message = "say Tus-Resumable: 1.0.0; no other version is understood";
    let error = ApiError::http(StatusCode::PRECONDITION_FAILED, "unsupported_version", message);
    let mut response = error.into_response();
    response.headers_mut().insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    Err(Refused::with(response))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        // As far as files go on any system.
        (Some(number), None) if number <= i64::MAX as u64 => Ok(Some(number)),
        _ => Err(ApiError::bad_request(format!("the header {name} must be one whole number"))),
    }
}

/// The length of a new upload.
pub(super) fn length(headers: &HeaderMap) -> Result<u64, ApiError> {
    if headers.contains_key(DEFER_LENGTH) {
        return Err(ApiError::bad_request("the length cannot be told later; send Upload-Length"));
    }
    number(headers, &LENGTH)?
        .ok_or_else(|| ApiError::bad_request("send Upload-Length, the size of the file in bytes"))
}

/// Where a part belongs.
pub(super) fn offset(headers: &HeaderMap) -> Result<u64, ApiError> {
    number(headers, &OFFSET)?
        .ok_or_else(|| ApiError::bad_request("send Upload-Offset, where the part belongs"))
}

/// What a part is to be compared with.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, ApiError> {
    let Some(value) = headers.get(CHECKSUM) else { return Ok(None) };
    let checksum = value.to_str().ok().and_then(Checksum::parse);
    let message = "Upload-Checksum must be sha1 or sha256, a blank, and the checksum in Base64";
    checksum.map(Some).ok_or_else(|| ApiError::bad_request(message))
}

/// What is told of a new upload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// As it came.
    pub(super) text: String,
    /// The file's name.
    pub(super) name: String,
    /// The room that it is for.
    pub(super) room: Option<String>,
}

impl Metadata {
    /// Pairs of a key and a value in Base64, with commas between. What is not understood is kept and means nothing.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get(METADATA) else { return Ok(Self::default()) };
        let malformed = || {
            let message =
                "Upload-Metadata must be keys, each with a blank and a value in Base64, and commas between";
            ApiError::bad_request(message)
        };
        let text = value.to_str().map_err(|_| malformed())?.trim();
        if text.len() > METADATA_BYTES_MAX {
            let message = format!("Upload-Metadata may have at most {METADATA_BYTES_MAX} bytes");
            return Err(ApiError::bad_request(message));
        }
        let mut metadata = Self { text: text.to_owned(), ..Self::default() };
        let mut known = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            if known.contains(&key) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(malformed());
            }
            known.push(key);
            let value = STANDARD.decode(value.trim()).map_err(|_| malformed())?;
            let value = String::from_utf8_lossy(&value).into_owned();
            match key {
                "filename" => metadata.name = value,
                // What some clients call it.
                "name" if metadata.name.is_empty() => metadata.name = value,
                "room" if !value.is_empty() => metadata.room = Some(value),
                _ => {}
            }
        }
        Ok(metadata)
    }
}

/// When an upload ends that is not finished (RFC 9110, section 5.6.7).
pub(super) fn expires(millis: i64) -> Option<HeaderValue> {
    let time = Timestamp::from_millisecond(millis).ok()?;
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()?;
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(metadata: &str) -> Result<Metadata, ApiError> {
        Metadata::read(&HeaderMap::from_iter([(METADATA, metadata.parse().unwrap())]))
    }

    #[test]
    fn metadata_is_keys_with_values_in_base64() {
        let metadata =
            read("filename aMOkw5/Dny50eHQ=, room bG9iYnk=,filetype dGV4dC9wbGFpbg==,private").unwrap();
        assert_eq!((metadata.name.as_str(), metadata.room.as_deref()), ("häßß.txt", Some("lobby")));
        assert_eq!(read("name YS50eHQ=").unwrap().name, "a.txt");
        assert_eq!(read("").unwrap(), Metadata::default());
        for wrong in ["filename %%%", "filename YQ==,filename Yg==", &format!("x {}", "A".repeat(5000))] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_digits_and_one() {
        let read = |values: &[&str]| {
            length(&values.iter().map(|value| (LENGTH, value.parse().unwrap())).collect::<HeaderMap>()).ok()
        };
        assert_eq!(read(&["17"]), Some(17));
        for wrong in [&["-1"][..], &["+1"], &["1", "1"], &[""], &["1.0"], &["18446744073709551615"], &[]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn expiry_is_written_as_http_wants_it() {
        assert_eq!(expires(784_111_777_000).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}

//! What is said about files that are refused.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outspoke_files::{FilesError, InvalidLink};

use crate::http::api::error::ApiError;

/// The answer of a request that is not done, whoever refused it.
#[derive(Debug)]
pub(super) struct Refused(Box<Response>);

impl Refused {
    pub(super) fn with(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl<E: Into<ApiError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::with(error.into().into_response())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The tus protocol, section "Checksum".
const CHECKSUM_MISMATCH: u16 = 460;

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        let (status, name) = match &error {
            FilesError::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            FilesError::Unfinished => (StatusCode::CONFLICT, "unfinished"),
            FilesError::Finished => (StatusCode::CONFLICT, "finished"),
            FilesError::Offset { .. } => (StatusCode::CONFLICT, "wrong_offset"),
            FilesError::Busy => (StatusCode::LOCKED, "busy"),
            FilesError::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_long"),
            FilesError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
            FilesError::Quota { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "file_quota_exceeded"),
            FilesError::TooManyUploads { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_uploads"),
            FilesError::Checksum => (
                StatusCode::from_u16(CHECKSUM_MISMATCH).unwrap_or(StatusCode::BAD_REQUEST),
                "checksum_mismatch",
            ),
            FilesError::Type { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "file_type_refused"),
            FilesError::Image { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "image_too_large"),
            FilesError::Invalid(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            FilesError::Full => (StatusCode::INSUFFICIENT_STORAGE, "storage_full"),
            error => {
                tracing::error!(%error, "a file could not be read or written");
                let message = "the server cannot read or write files now; its log says why";
                return Self::http(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
            }
        };
        Self::http(status, name, error.to_string())
    }
}

impl From<InvalidLink> for ApiError {
    fn from(error: InvalidLink) -> Self {
        let name = match error {
            InvalidLink::Expired => "link_expired",
            InvalidLink::Signature => "link_invalid",
        };
        Self::http(StatusCode::FORBIDDEN, name, error.to_string())
    }
}

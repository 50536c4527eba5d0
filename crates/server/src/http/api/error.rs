//! Refusals, in the shape that frames and refused upgrades have.
//!
//! `{"type":"error","code":...,"error":"...","message":"...","temporary":...}`. Where the reason is HTTP's own (no such
//! path, too large a body), `code` is the status; all others are the codes of `docs/protocol/codes.md`.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use outspoke_hub::protocol::InvalidRoomName;
use outspoke_hub::store::StoreError;
use outspoke_hub::{AnalyticsError, AttachError, ErrorCode, PublishError, PushError, Refusal, TenantError};
use serde::Serialize;

/// Seconds after which a temporary refusal is worth another try, where nothing else is known.
const RETRY_AFTER: u32 = 1;

/// The refusal of an address that has shown too many wrong keys.
pub(super) const GUESSED_TOO_OFTEN: &str = "too_many_requests";

/// Why a request is not done.
#[derive(Clone, Debug)]
pub(in crate::http) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    retry_after: Option<u32>,
}

/// The refusal as JSON; batches hold some of them.
#[derive(Clone, Debug, Serialize)]
pub(in crate::http) struct ErrorBody {
    r#type: &'static str,
    code: u16,
    error: Cow<'static, str>,
    message: String,
    temporary: bool,
}

/// The name of a refusal, for whoever sees only the response.
#[derive(Clone, Debug)]
pub(super) struct Refused(pub(super) Cow<'static, str>);

impl ApiError {
    /// One of the table's, with the status that it has over HTTP.
    pub(in crate::http) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = status_of(code);
        let temporary = code.is_temporary();
        Self {
            status,
            body: ErrorBody {
                r#type: "error",
                code: code.number(),
                error: Cow::Borrowed(code.name()),
                message: message.into(),
                temporary,
            },
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE
                || status == StatusCode::TOO_MANY_REQUESTS)
                .then_some(RETRY_AFTER),
        }
    }

    /// One of HTTP's own.
    pub(in crate::http) fn http(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        let temporary = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
        Self {
            status,
            body: ErrorBody {
                r#type: "error",
                code: status.as_u16(),
                error: Cow::Borrowed(error),
                message: message.into(),
                temporary,
            },
            retry_after: (status == StatusCode::TOO_MANY_REQUESTS).then_some(RETRY_AFTER),
        }
    }

    /// The request cannot be read.
    pub(in crate::http) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// There is nothing of that name.
    pub(in crate::http) fn not_found(message: impl Into<String>) -> Self {
        Self::http(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// It may be done or not. The same request again could do it twice, so it is not called temporary.
    fn outcome_unknown(message: String) -> Self {
        Self::http(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", message)
    }

    /// The same, said of a part of the request.
    pub(in crate::http) fn within(mut self, part: &str) -> Self {
        self.body.message = format!("{part}: {}", self.body.message);
        self
    }

    /// Whether the server is at fault.
    pub(in crate::http) fn is_fault(&self) -> bool {
        self.status.is_server_error()
    }

    /// What is said.
    pub(in crate::http) fn message(&self) -> &str {
        &self.body.message
    }

    /// Whether who asks is not known.
    pub(in crate::http) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether it was too much, for now.
    pub(in crate::http) fn is_too_much(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// The refusal without its status.
    pub(in crate::http) fn into_body(self) -> ErrorBody {
        self.body
    }
}

fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Unauthorized | ErrorCode::TokenExpired => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::ClientNotFound
        | ErrorCode::UserNotFound
        | ErrorCode::MessageNotFound
        | ErrorCode::TenantNotFound => StatusCode::NOT_FOUND,
        ErrorCode::QuotaExceeded | ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        code if code.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let refused = Refused(self.body.error.clone());
        let mut response = (self.status, Json(self.body)).into_response();
        response.extensions_mut().insert(refused);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outspoke\""));
        }
        response
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::InvalidRoom(_) => ErrorCode::InvalidRoom,
            PublishError::RoomLimit { .. } => ErrorCode::RoomLimit,
            PublishError::StorageFull => ErrorCode::StorageFull,
            PublishError::Refused(refusal) => return Self::from(refusal.clone()),
            PublishError::Unknown => return Self::outcome_unknown(error.to_string()),
            _ => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.code, refusal.detail);
        if let Some(wait) = refusal.retry_after {
            error.retry_after = u32::try_from(wait.as_millis().div_ceil(1000).max(1)).ok();
        }
        error
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        let code = match &error {
            PushError::ClientNotFound => ErrorCode::ClientNotFound,
            PushError::SendBufferFull { .. } => ErrorCode::SendBufferFull,
            PushError::Unspeakable => ErrorCode::UnsupportedFrame,
            _ => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full(_) => Self::new(ErrorCode::StorageFull, error.to_string()),
            StoreError::Invalid(_) => Self::bad_request(error.to_string()),
            _ => Self::new(ErrorCode::Unavailable, error.to_string()),
        }
    }
}

impl From<InvalidRoomName> for ApiError {
    fn from(error: InvalidRoomName) -> Self {
        Self::new(ErrorCode::InvalidRoom, error.to_string())
    }
}

impl From<AnalyticsError> for ApiError {
    fn from(error: AnalyticsError) -> Self {
        match error {
            AnalyticsError::InvalidRoom(error) => error.into(),
            AnalyticsError::Store(error) => error.into(),
            error => Self::http(
                StatusCode::NOT_FOUND,
                "not_found",
                format!("{error}: set analytics.enabled to true"),
            ),
        }
    }
}

impl From<TenantError> for ApiError {
    fn from(error: TenantError) -> Self {
        let code = match &error {
            TenantError::Unknown(_) => ErrorCode::TenantNotFound,
            TenantError::Unavailable(_) => ErrorCode::Unavailable,
            _ => ErrorCode::BadRequest,
        };
        Self::new(code, error.to_string())
    }
}

/// Of a tenant that the request names.
impl From<AttachError> for ApiError {
    fn from(error: AttachError) -> Self {
        let code = match &error {
            AttachError::UnknownTenant { .. } => ErrorCode::TenantNotFound,
            _ => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// Whoever takes it for a refusal publishes twice: neither the answer nor a batch's entry asks for another try.
    #[test]
    fn outcome_that_nobody_knows_is_no_refusal() {
        let error = ApiError::from(PublishError::Unknown);
        let entry = serde_json::to_value(error.clone().into_body()).unwrap();
        assert_eq!(
            (&entry["code"], &entry["error"], &entry["temporary"]),
            (&json!(504), &json!("outcome_unknown"), &json!(false))
        );
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(ApiError::from(PublishError::Stopping).status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

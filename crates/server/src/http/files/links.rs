//! What is known of a file, and links to it, for those who may have it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use outspoke_files::{FileId, FilesError, Part, Record};
use serde::Serialize;

use super::visitor::Visitor;
use super::{Api, Named};
use crate::http::api::error::ApiError;

/// How long who asks waits for a preview that is being made.
const PREVIEW_PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    id: String,
    name: String,
    r#type: String,
    size: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    preview: bool,
    user_id: String,
    created_at: String,
}

/// Addresses that are good for a while without a credential, relative to where `/ws` is.
#[derive(Debug, Serialize)]
pub(super) struct Link {
    url: String,
    preview: Option<String>,
    expires: String,
}

/// `GET /files/{id}`.
pub(super) async fn facts(
    State(api): State<Api>,
    visitor: Visitor,
    path: Path<Named>,
) -> Result<Json<Known>, ApiError> {
    let record = readable(&api, visitor, Named::id(path)?).await?;
    let facts = record.facts().cloned().ok_or(FilesError::Unfinished)?;
    Ok(Json(Known {
        id: record.id.to_string(),
        name: record.name,
        r#type: facts.media_type,
        size: facts.size,
        sha256: facts.sha256,
        width: facts.width,
        height: facts.height,
        preview: facts.preview.is_made(),
        user_id: record.owner.user,
        created_at: time(record.created / 1000),
    }))
}

/// `POST /files/{id}/link`.
pub(super) async fn link(
    State(api): State<Api>,
    visitor: Visitor,
    path: Path<Named>,
) -> Result<Json<Link>, ApiError> {
    let record = readable(&api, visitor, Named::id(path)?).await?;
    let address = |part: Part| {
        let (expires, signature) = api.door.files.link(record.id, part);
        let url = format!("files/{}/{}?expires={expires}&signature={signature}", record.id, part.name());
        (url, expires)
    };
    let (url, expires) = address(Part::Content);
    let made = record.facts().is_some_and(|facts| facts.preview.is_made());
    let preview = made.then(|| address(Part::Preview).0);
    Ok(Json(Link { url, preview, expires: time(expires) }))
}

/// The file, with its preview if it is to have one.
async fn readable(api: &Api, visitor: Visitor, id: FileId) -> Result<Record, ApiError> {
    let record = api.door.run(move |files| files.record(id)).await?;
    visitor.readable(record).await?;
    let records = api.door.with_previews(vec![id], PREVIEW_PATIENCE).await?;
    records.into_iter().next().ok_or_else(|| FilesError::NotFound.into())
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

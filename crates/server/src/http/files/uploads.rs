//! Uploads, by the tus protocol: begun, added to, asked about, taken away.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use outspoke_files::{Append, Draft, FileId, FilesError, Record};
use outspoke_hub::Action;

use super::error::Refused;
use super::headers::{self, Metadata};
use super::turns::Turn;
use super::visitor::Visitor;
use super::{Api, Door, Named, blocking};
use crate::http::Progress;
use crate::http::api::error::ApiError;

/// Bytes that are gathered before they are written.
const BATCH: usize = 256 * 1024;

type Answered = Result<Response, Refused>;

/// `POST /files`: begins an upload, perhaps with its first bytes.
pub(super) async fn create(State(api): State<Api>, visitor: Visitor, request: Request) -> Answered {
    let (parts, body) = request.into_parts();
    headers::check_version(&parts.headers)?;
    let length = headers::length(&parts.headers)?;
    let metadata = Metadata::read(&parts.headers)?;
    let with_bytes = is_part(&parts.headers);
    let checksum = if with_bytes { headers::checksum(&parts.headers)? } else { None };
    if let Some(room) = &metadata.room {
        // Told before anything is sent for nothing.
        visitor.count_look()?;
        visitor.hub.check_as_user(&visitor.identity, Action::Publish, room).await?;
    }
    let draft =
        Draft { name: metadata.name, metadata: metadata.text, length, ..Draft::of(visitor.owner.clone()) };
    let record = api.door.run(move |files| files.create(draft)).await?;
    let id = record.id;
    let location = location(&visitor, id);
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)]).into_response();
    let mut expires = Some(record.expires);
    if with_bytes || length == 0 {
        let turn = turn(&api.door, id).await?;
        let progress = parts.extensions.get::<Progress>();
        let append = api.door.run(move |files| files.append(id, 0, checksum)).await?;
        let body = if with_bytes { body } else { Body::empty() };
        let (at, whole) = receive(&api.door, &turn, append, body, progress).await?;
        expires = expires.filter(|_| !whole);
        response.headers_mut().insert(headers::OFFSET, HeaderValue::from(at));
    }
    say_expiry(&mut response, expires);
    Ok(response)
}

/// `HEAD /files/{id}`: how far an upload is.
pub(super) async fn status(
    State(api): State<Api>,
    visitor: Visitor,
    path: Path<Named>,
    headers: HeaderMap,
) -> Answered {
    headers::check_version(&headers)?;
    let id = Named::id(path)?;
    let record = own(&api.door, visitor, id).await?;
    // Who asks wants to go on: whatever an earlier request still has to write is written first.
    let turn = turn(&api.door, id).await?;
    let read = api.door.run(move |files| {
        let at = files.offset(&record)?;
        // All had come, and the server ended before it could say so.
        let record = if at == record.length { files.complete(id)? } else { files.record(id)? };
        Ok((at, record))
    });
    let (at, record) = read.await?;
    drop(turn);
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(headers::OFFSET, HeaderValue::from(at));
    headers.insert(headers::LENGTH, HeaderValue::from(record.length));
    if let Ok(metadata) = HeaderValue::try_from(&record.metadata)
        && !record.metadata.is_empty()
    {
        headers.insert(headers::METADATA, metadata);
    }
    say_expiry(&mut response, record.facts().is_none().then_some(record.expires));
    Ok(response)
}

/// `PATCH /files/{id}`: adds bytes to an upload.
pub(super) async fn append(
    State(api): State<Api>,
    visitor: Visitor,
    path: Path<Named>,
    request: Request,
) -> Answered {
    let (parts, body) = request.into_parts();
    headers::check_version(&parts.headers)?;
    let id = Named::id(path)?;
    if !is_part(&parts.headers) {
        let message = format!("parts have the content type {}", headers::PART_TYPE);
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::http(status, "unsupported_media_type", message).into());
    }
    let offset = headers::offset(&parts.headers)?;
    let checksum = headers::checksum(&parts.headers)?;
    let record = own(&api.door, visitor, id).await?;
    let behind = record.clone();
    let at = api.door.run(move |files| files.offset(&behind)).await?;
    if at != offset && record.facts().is_none() {
        // One that was on its way for too long: who is here by now goes on.
        return Err(FilesError::Offset { at }.into());
    }
    let turn = turn(&api.door, id).await?;
    let append = api.door.run(move |files| files.append(id, offset, checksum)).await?;
    let progress = parts.extensions.get::<Progress>();
    let (at, whole) = receive(&api.door, &turn, append, body, progress).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(headers::OFFSET, HeaderValue::from(at));
    say_expiry(&mut response, (!whole).then_some(record.expires));
    Ok(response)
}

/// `DELETE /files/{id}`: takes an upload or a file away.
pub(super) async fn remove(
    State(api): State<Api>,
    visitor: Visitor,
    path: Path<Named>,
    headers: HeaderMap,
) -> Answered {
    // Whole files are taken away by others than clients of the protocol, too.
    if headers.contains_key(headers::RESUMABLE) {
        headers::check_version(&headers)?;
    }
    let id = Named::id(path)?;
    let record = api.door.run(move |files| files.record(id)).await?;
    // Before its turn: somebody may have to be asked, and nobody is to wait for that.
    visitor.check_removable(&record).await?;
    let turn = turn(&api.door, id).await?;
    let removed = api.door.run(move |files| {
        // Sent to another room while it was judged: then it was judged by too little.
        let same = record.owner == visitor.owner || files.record(id)?.attachments == record.attachments;
        if same { files.remove(id) } else { Err(FilesError::Busy) }
    });
    removed.await?;
    drop(turn);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /files/{id}`, for clients that can send nothing else: the method that is meant is in a header.
pub(super) async fn overridden(
    state: State<Api>,
    visitor: Visitor,
    path: Path<Named>,
    request: Request,
) -> Answered {
    let meant = request.headers().get("x-http-method-override").map(HeaderValue::as_bytes);
    match meant {
        Some(b"PATCH") => append(state, visitor, path, request).await,
        Some(b"DELETE") => remove(state, visitor, path, request.headers().clone()).await,
        Some(b"HEAD") => status(state, visitor, path, request.headers().clone()).await,
        _ => {
            let message = "POST is for /files; here it needs X-HTTP-Method-Override: PATCH, DELETE or HEAD";
            let error = ApiError::http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
            let allow = [(header::ALLOW, "GET, HEAD, PATCH, DELETE")];
            Ok((allow, error.into_response()).into_response())
        }
    }
}

fn is_part(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(headers::PART_TYPE)
}

/// Relative to where uploads are begun, so that it is right behind any proxy. Where nobody shows a credential, it says who it is
/// that comes, as the request did.
fn location(visitor: &Visitor, id: FileId) -> String {
    match visitor.hub.authenticator().is_open() {
        false => format!("files/{id}"),
        true => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("userId", visitor.identity.user.as_str());
            format!("files/{id}?{}", query.finish())
        }
    }
}

fn say_expiry(response: &mut Response, expires: Option<i64>) {
    if let Some(value) = expires.and_then(headers::expires) {
        response.headers_mut().insert(headers::EXPIRES, value);
    }
}

async fn own(door: &Door, visitor: Visitor, id: FileId) -> Result<Record, ApiError> {
    door.run(move |files| visitor.own(files.record(id)?)).await
}

async fn turn(door: &Door, id: FileId) -> Result<Turn, ApiError> {
    door.turns.take(id).await.ok_or_else(|| FilesError::Busy.into())
}

/// Writes what comes. Returns where the upload is then, and whether it is whole.
///
/// # Cancel safety
/// Dropping the future keeps what was written, as the end of the connection does.
async fn receive(
    door: &Door,
    turn: &Turn,
    mut append: Append,
    mut body: Body,
    progress: Option<&Progress>,
) -> Result<(u64, bool), ApiError> {
    let mut counting = Progress::counting(progress);
    let mut batch = BytesMut::new();
    let mut broken = None;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = turn.asked() => {
                broken = Some("another request goes on with this upload");
                None
            }
        };
        match frame {
            None => break,
            Some(Err(_)) => {
                broken = Some("the request ended before its end");
                break;
            }
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                counting.add(data.len());
                batch.extend_from_slice(&data);
                if batch.len() >= BATCH {
                    append = write(append, batch.split().freeze()).await?;
                }
            }
        }
    }
    append = write(append, batch.freeze()).await?;
    if let Some(reason) = broken {
        // What came counts, if it needs no comparison.
        blocking(move || {
            drop(append);
            Ok(())
        })
        .await?;
        return Err(ApiError::http(StatusCode::CONFLICT, "interrupted", reason));
    }
    let files = door.files.clone();
    let id = append.id();
    let length = append.length();
    blocking(move || {
        let at = append.finish()?;
        if at < length {
            return Ok((at, false));
        }
        files.complete(id)?;
        Ok((at, true))
    })
    .await
}

async fn write(mut append: Append, bytes: bytes::Bytes) -> Result<Append, ApiError> {
    blocking(move || {
        append.write(&bytes)?;
        Ok(append)
    })
    .await
}

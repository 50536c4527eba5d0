//! Files in messages: what they say of files is true, and files go when no message has them any more.
//!
//! A user sends files to a room as a message of the sort `file`, which names them; the hub shows it here before it is placed
//! ([`Reviewer`]). What is said of each is put in its place, and the file's record gets the room's name. Whether a message still has a file
//! is not counted, since messages go in many ways (deleted, trimmed, cleared, with their user, on another node): it is looked up in the
//! rooms' histories, at once when a message was deleted, and by every sweep.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ecow::{EcoString, eco_format};
use outspoke_files::{FileId, FilesError, Owner, Record};
use outspoke_hub::protocol::PageFrom;
use outspoke_hub::{Body, Epoch, ErrorCode, Hub, Kind, Message, Proposal, Refusal, Review, Reviewer};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::Door;
use crate::http::api::error::ApiError;

/// The sort of these messages.
const KIND: &str = "file";
/// Files in one message.
const FILES_MAX: usize = 20;
/// Characters of a description.
const ALT_CHARS_MAX: usize = 1000;
/// How long a message waits for a preview that is being made.
const PREVIEW_PATIENCE: Duration = Duration::from_secs(3);
/// Messages read at a time.
const PAGE: usize = 200;

/// What a user sends.
#[derive(Debug, Deserialize)]
struct Sent {
    #[serde(default)]
    content: Option<String>,
    files: Vec<Named>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    id: FileId,
    #[serde(default)]
    alt: Option<String>,
}

/// What members get.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    id: FileId,
    name: String,
    r#type: String,
    size: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alt: Option<String>,
    preview: bool,
}

/// What a message that is in a history has of files.
#[derive(Debug, Deserialize)]
struct Kept {
    files: Vec<KeptFile>,
}

#[derive(Debug, Deserialize)]
struct KeptFile {
    id: FileId,
}

/// Looks at messages with files. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FileMessages(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    door: Door,
    /// Where files are worked on; the hub's own threads have other things to do.
    runtime: Handle,
    hub: OnceLock<Hub>,
    /// Rooms that were looked through, by tenant and name.
    seen: Mutex<HashMap<(String, String), Seen>>,
}

/// What a room had when it was looked through: as long as it is the same, no message of its has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    epoch: Option<Epoch>,
    first: u64,
    head: u64,
    /// Files that were looked for.
    candidates: usize,
}

impl FileMessages {
    /// For a hub that is to be started.
    pub(crate) fn new(door: Door, runtime: Handle) -> Self {
        Self(Arc::new(Shared { door, runtime, hub: OnceLock::new(), seen: Mutex::default() }))
    }

    /// The hub that was started.
    pub(crate) fn of(&self, hub: &Hub) {
        let _ = self.0.hub.set(hub.clone());
    }

    /// Takes away what has expired and what nobody needs.
    pub(crate) async fn sweep(&self) {
        if let Err(error) = self.0.release().await {
            tracing::warn!(?error, "files were not compared with the messages that have them");
        }
        match self.0.door.run(outspoke_files::Files::sweep).await {
            Ok(swept) => tracing::debug!(?swept, "files were swept"),
            Err(error) => tracing::warn!(?error, "files were not swept"),
        }
    }
}

impl Reviewer for FileMessages {
    fn kinds(&self) -> Vec<EcoString> {
        vec![KIND.into()]
    }

    fn review(&self, proposal: Proposal) -> Review<'_> {
        Box::pin(async move {
            let Proposal { tenant, user, room, body, .. } = proposal;
            let sent = read(&body)?;
            self.0.check_caption(sent.content.as_deref())?;
            let owner = Owner::new(tenant.as_str(), user.as_str());
            let ids: Vec<FileId> = sent.files.iter().map(|named| named.id).collect();
            let door = self.0.door.clone();
            let attached = self.0.runtime.spawn(async move {
                // Whose they are, is looked at with everything else.
                door.with_previews(ids.clone(), PREVIEW_PATIENCE).await?;
                door.run(move |files| files.attach(&owner, &ids, room.as_str())).await
            });
            let unavailable = |_| Refusal::new(ErrorCode::Unavailable, "the server is stopping");
            let records = attached.await.map_err(unavailable)?.map_err(|error| refusal_of(&error))?;
            self.0.told(sent, records)
        })
    }

    fn deleted(&self, tenant: &str, message: &Message) {
        let Some(room) = &message.room else { return };
        let (shared, ids) = (Arc::clone(&self.0), files_of(message));
        let (tenant, room, until) = (tenant.to_owned(), room.to_string(), message.ts.as_millis());
        if ids.is_empty() {
            return;
        }
        self.0.runtime.spawn(async move {
            // Who sends one of them again meanwhile has attached it later than this message was placed.
            let candidates = ids.into_iter().map(|id| (id, until)).collect();
            if let Err(error) = shared.release_from(&tenant, &room, candidates).await {
                tracing::warn!(?error, "the files of a deleted message wait for the next sweep");
            }
        });
    }
}

fn bad(detail: impl Into<EcoString>) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, detail)
}

fn refusal_of(error: &ApiError) -> Refusal {
    match error.is_fault() {
        true => Refusal::new(ErrorCode::Unavailable, "the server cannot read its files now; try again later"),
        false => bad(eco_format!("a file of this message cannot be sent: {}", error.message())),
    }
}

fn read(body: &Body) -> Result<Sent, Refusal> {
    let Body::Json(json) = body else {
        return Err(bad("a message of type \"file\" has `data`: {\"files\":[{\"id\":\"...\"}]}"));
    };
    let sent: Sent = serde_json::from_slice(json).map_err(|error| {
        bad(eco_format!("the data of a message of type \"file\" cannot be read: {error}"))
    })?;
    let mut seen = HashSet::new();
    if sent.files.is_empty()
        || sent.files.len() > FILES_MAX
        || !sent.files.iter().all(|file| seen.insert(file.id))
    {
        return Err(bad(eco_format!("a message of type \"file\" has 1 to {FILES_MAX} files, each once")));
    }
    let long = |alt: &String| alt.chars().count() > ALT_CHARS_MAX;
    if sent.files.iter().filter_map(|file| file.alt.as_ref()).any(long) {
        return Err(bad(eco_format!("`alt` may have at most {ALT_CHARS_MAX} characters")));
    }
    Ok(sent)
}

/// The files that a message has.
fn files_of(message: &Message) -> Vec<FileId> {
    let (Kind::Custom(name), Body::Json(json)) = (&message.kind, &message.body) else { return Vec::new() };
    if name != KIND {
        return Vec::new();
    }
    let kept: Option<Kept> = serde_json::from_slice(json).ok();
    kept.map(|kept| kept.files.into_iter().map(|file| file.id).collect()).unwrap_or_default()
}

impl Shared {
    fn check_caption(&self, caption: Option<&str>) -> Result<(), Refusal> {
        let Some((hub, caption)) = self.hub.get().zip(caption) else { return Ok(()) };
        let (len, max) = (caption.chars().count(), hub.config().content_chars_max);
        if len > max {
            let detail = eco_format!("`content` has {len} characters; at most {max} are allowed");
            return Err(Refusal::new(ErrorCode::ContentTooLong, detail));
        }
        Ok(())
    }

    fn told(&self, sent: Sent, records: Vec<Record>) -> Result<Body, Refusal> {
        let files = sent.files.into_iter().zip(records).filter_map(|(named, record)| {
            let facts = record.whole?;
            Some(File {
                id: named.id,
                name: record.name,
                r#type: facts.media_type,
                size: facts.size,
                sha256: facts.sha256,
                width: facts.width,
                height: facts.height,
                alt: named.alt,
                preview: facts.preview.is_made(),
            })
        });
        let told = Told { content: sent.content, files: files.collect() };
        let json = serde_json::to_vec(&told).map_err(|error| bad(eco_format!("{error}")))?;
        let max = self.hub.get().map_or(usize::MAX, |hub| hub.config().message_bytes_max);
        if json.len() > max {
            let detail = eco_format!(
                "with what is told of its files the message has {} bytes; at most {max} are allowed",
                json.len()
            );
            return Err(Refusal::new(ErrorCode::ContentTooLong, detail));
        }
        Ok(Body::Json(Bytes::from(json)))
    }

    /// Lets files go that are in no message any more, though they were sent long enough ago.
    async fn release(&self) -> Result<(), ApiError> {
        let attached = self.door.run(outspoke_files::Files::attached).await?;
        let lifetime =
            i64::try_from(self.door.files.limits().orphan_lifetime.as_millis()).unwrap_or(i64::MAX);
        let long_ago = now().saturating_sub(lifetime);
        self.seen().retain(|room, _| attached.contains_key(room));
        for ((tenant, room), files) in attached {
            let old = files.into_iter().filter(|(_, since)| *since <= long_ago);
            let candidates: Vec<_> = old.map(|(id, _)| (id, long_ago)).collect();
            if candidates.is_empty() {
                continue;
            }
            if let Err(error) = self.release_if_moved(tenant, room, candidates).await {
                // Another room may have another store.
                tracing::warn!(?error, "a room's files were not compared with its messages");
            }
        }
        Ok(())
    }

    /// Looks through a room that is not as it was: deleting is a message, and trimming moves the beginning.
    async fn release_if_moved(
        &self,
        tenant: String,
        room: String,
        candidates: Vec<(FileId, i64)>,
    ) -> Result<(), ApiError> {
        let Some(hub) = self.hub_of(&tenant) else { return Ok(()) };
        let info = hub.room(&room).await?;
        let (epoch, first, head) = info.map_or((None, 0, 0), |info| (info.epoch, info.first, info.head));
        let now = Seen { epoch, first, head, candidates: candidates.len() };
        let key = (tenant, room);
        if self.seen().get(&key) == Some(&now) {
            return Ok(());
        }
        self.release_from(&key.0, &key.1, candidates).await?;
        self.seen().insert(key, now);
        Ok(())
    }

    /// Lets files go that no message of the room has, unless they were sent there later than that.
    async fn release_from(
        &self,
        tenant: &str,
        room: &str,
        candidates: Vec<(FileId, i64)>,
    ) -> Result<(), ApiError> {
        let Some(hub) = self.hub_of(tenant) else { return Ok(()) };
        let mut wanted: HashMap<FileId, i64> = candidates.into_iter().collect();
        let mut from = PageFrom::Newest;
        loop {
            let page = hub.history(room, from, PAGE).await?;
            for message in &page.messages {
                for id in files_of(message) {
                    wanted.remove(&id);
                }
            }
            let oldest = page.messages.first().and_then(|message| message.position);
            match oldest.filter(|_| page.more && !wanted.is_empty()) {
                Some(position) => from = PageFrom::Before(position.offset),
                None => break,
            }
        }
        for (id, until) in wanted {
            let room = room.to_owned();
            self.door
                .run(move |files| {
                    let record = match files.record(id) {
                        Err(FilesError::NotFound) => return Ok(()),
                        record => record?,
                    };
                    let sent = record.attachments.iter().find(|attachment| attachment.room == room);
                    if sent.is_some_and(|attachment| attachment.since <= until) {
                        files.detach(id, &room)?;
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    /// `None`: not now. A tenant that is no longer known may be again; what is erased with it takes its files.
    fn hub_of(&self, tenant: &str) -> Option<Hub> {
        let hub = self.hub.get()?;
        match tenant {
            "" => Some(hub.clone()),
            tenant => hub.known_tenant(tenant).ok(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<(String, String), Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! All files of a server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;

use crate::clock::{millis, now};
use crate::depot::{Content, Depot};
use crate::inspect::{FileType, inspect};
use crate::ledger::Ledger;
use crate::link::Signer;
use crate::locks::Locks;
use crate::preview::{self, Queue};
use crate::{
    Append, Attachment, Checksum, Facts, FileId, FilesConfig, FilesError, InvalidLink, Limits, Owner, Part,
    Preview, Record, Usage, file_name,
};

/// Rooms that one file can be in.
const ATTACHMENTS_MAX: usize = 1000;
/// Bytes hashed at a time.
const HASHED: usize = 128 * 1024;

/// A file that is to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Whose it will be.
    pub owner: Owner,
    /// What its uploader calls it; made [showable](file_name).
    pub name: String,
    /// What its uploader says of it, to be told again as it came.
    pub metadata: String,
    /// Its bytes.
    pub length: u64,
}

impl Draft {
    /// An empty, nameless file of somebody's.
    #[must_use]
    pub fn of(owner: Owner) -> Self {
        Self { owner, name: String::new(), metadata: String::new(), length: 0 }
    }
}

/// Files in rooms: by tenant and room, which, and since when in milliseconds since 1970.
pub type Attached = BTreeMap<(String, String), Vec<(FileId, i64)>>;

/// What a [sweep](Files::sweep) has taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Uploads that took too long.
    pub expired: usize,
    /// Whole files that were in no message for too long.
    pub orphans: usize,
}

/// All files of a server: see the crate. Cheap to clone; every method may block.
#[derive(Clone, Debug)]
pub struct Files {
    shared: Arc<Shared>,
    /// Dropped with the last clone.
    _stops: Arc<Stops>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    depot: Depot,
    locks: Arc<Locks>,
    ledger: Mutex<Ledger>,
    limits: RwLock<Arc<Limits>>,
    signer: Signer,
    queue_max: usize,
    pub(crate) queue: Arc<Queue>,
}

/// Sends the threads home.
#[derive(Debug)]
struct Stops(Arc<Queue>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Files {
    /// Opens the folder of files, counts what is there, and clears away what an abrupt end has left over.
    ///
    /// # Errors
    /// The folder cannot be used, or the link's key is too short.
    pub fn open(config: FilesConfig) -> Result<Self, FilesError> {
        let depot = Depot::open(&config.folder)?;
        let key = match config.link_key {
            Some(key) if key.len() < 32 => {
                return Err(FilesError::Invalid("the key for links must have at least 32 bytes".to_owned()));
            }
            Some(key) => key,
            None => depot.link_key(&fresh_key()?)?,
        };
        let left_over = depot.clear_left_over()?;
        if left_over > 0 {
            tracing::info!(left_over, "cleared away what an abrupt end had left over of files");
        }
        let queue = Arc::new(Queue::default());
        let shared = Arc::new(Shared {
            depot,
            locks: Arc::default(),
            ledger: Mutex::default(),
            limits: RwLock::new(Arc::new(config.limits)),
            signer: Signer::new(&key),
            queue_max: if config.preview_threads == 0 { 0 } else { config.preview_queue_max.max(1) },
            queue: Arc::clone(&queue),
        });
        shared.count_anew(&shared.records()?);
        for _ in 0..config.preview_threads {
            preview::work(&shared)?;
        }
        Ok(Self { shared, _stops: Arc::new(Stops(queue)) })
    }

    /// What files may use from now on.
    pub fn set_limits(&self, limits: Limits) {
        *self.shared.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// What files may use.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.shared.limits()
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// It would be more than may be used, or the disk does not take it.
    pub fn create(&self, draft: Draft) -> Result<Record, FilesError> {
        let limits = self.limits();
        let created = now();
        let record = Record {
            id: FileId::new(),
            owner: draft.owner,
            name: file_name(&draft.name),
            metadata: draft.metadata,
            length: draft.length,
            created,
            expires: created.saturating_add(millis(limits.unfinished_lifetime)),
            trusted: None,
            whole: None,
            attachments: Vec::new(),
        };
        {
            let mut ledger = self.shared.ledger();
            ledger.check(&record.owner, record.length, &limits)?;
            ledger.add(&record);
        }
        if let Err(error) = self.shared.depot.write(&record) {
            self.shared.ledger().take_off(&record);
            return Err(error);
        }
        Ok(record)
    }

    /// A file or an unfinished upload.
    ///
    /// # Errors
    /// There is none, or the disk cannot be read.
    pub fn record(&self, id: FileId) -> Result<Record, FilesError> {
        self.shared.record(id)
    }

    /// Bytes that have come of an upload; all of them if it is finished.
    ///
    /// # Errors
    /// There is no such upload, or the disk cannot be read.
    pub fn offset(&self, record: &Record) -> Result<u64, FilesError> {
        if record.whole.is_some() {
            return Ok(record.length);
        }
        let length = self.shared.depot.part_length(record.id)?;
        Ok(length.min(record.trusted.unwrap_or(record.length)))
    }

    /// Adds bytes to an upload, from that place on.
    ///
    /// # Errors
    /// The upload is elsewhere, is being worked on, is finished or gone.
    pub fn append(&self, id: FileId, offset: u64, checksum: Option<Checksum>) -> Result<Append, FilesError> {
        let shared = &self.shared;
        let taken = shared.locks.take(id).ok_or(FilesError::Busy)?;
        let record = shared.record(id)?;
        if record.whole.is_some() {
            return Err(FilesError::Finished);
        }
        let at = self.offset(&record)?;
        if at != offset {
            return Err(FilesError::Offset { at });
        }
        let file = shared.depot.part(id)?;
        if record.trusted.is_some() {
            // What follows was never compared.
            file.set_len(at)?;
        }
        let trusted = checksum.as_ref().map(|_| at);
        if record.trusted != trusted {
            file.sync_all()?;
            shared.trust(id, trusted)?;
        }
        let mut append = Append {
            shared: Arc::clone(shared),
            id,
            file,
            start: at,
            at,
            length: record.length,
            checking: None,
            settled: false,
            _taken: taken,
        };
        if let Some(checksum) = checksum {
            append.check_with(checksum);
        }
        Ok(append)
    }

    /// Makes a file of an upload all of whose bytes have come: hashed, looked at, and given its place. Of a file that is whole
    /// already, nothing.
    ///
    /// # Errors
    /// Bytes are missing; or it is not accepted as what it is, and the upload is gone then; or the disk cannot be used.
    pub fn complete(&self, id: FileId) -> Result<Record, FilesError> {
        let shared = &self.shared;
        let _taken = shared.locks.take(id).ok_or(FilesError::Busy)?;
        let record = shared.record(id)?;
        if record.whole.is_some() {
            return Ok(record);
        }
        if self.offset(&record)? != record.length {
            return Err(FilesError::Unfinished);
        }
        let file = shared.depot.part(id)?;
        file.sync_all()?;
        let inspected = match inspect(&file, &self.limits()) {
            Ok(inspected) => inspected,
            Err(error) => {
                if matches!(error, FilesError::Type { .. } | FilesError::Image { .. }) {
                    shared.remove(&record)?;
                }
                return Err(error);
            }
        };
        let sha256 = hash(&file, record.length)?;
        shared.depot.place(id, &sha256)?;
        let (width, height) = inspected.size.unzip();
        let previewed = inspected.file_type.image.is_some() && shared.queue_max > 0;
        let facts = Facts {
            size: record.length,
            sha256,
            media_type: inspected.file_type.served.to_owned(),
            width,
            height,
            preview: if previewed { Preview::Pending } else { Preview::None },
            finished: now(),
        };
        let record = shared.change(id, |record| record.whole = Some(facts))?;
        shared.ledger().finished(&record.owner);
        if let Err(error) = shared.depot.remove_part(id) {
            // The next start clears it away.
            tracing::warn!(%id, %error, "a part was left over");
        }
        if previewed {
            shared.queue.put(id, shared.queue_max);
        }
        Ok(record)
    }

    /// The record of an image once its preview is made or has failed, or what it is after that time. Puts it into the queue
    /// again if it was not in it.
    ///
    /// # Errors
    /// There is no such file, or the disk cannot be read.
    pub fn with_preview(&self, id: FileId, timeout: Duration) -> Result<Record, FilesError> {
        let record = self.record(id)?;
        let pending = record.facts().is_some_and(|facts| facts.preview == Preview::Pending);
        if !pending || !self.shared.queue.put(id, self.shared.queue_max) {
            return Ok(record);
        }
        self.shared.queue.wait(id, timeout);
        self.record(id)
    }

    /// The bytes of a whole file.
    ///
    /// # Errors
    /// There is no such file, or it is not whole.
    pub fn content(&self, record: &Record) -> Result<Content, FilesError> {
        let facts = record.facts().ok_or(FilesError::Unfinished)?;
        self.shared.depot.content(record.id, &facts.sha256)
    }

    /// The bytes of a file's preview.
    ///
    /// # Errors
    /// There is none.
    pub fn preview(&self, record: &Record) -> Result<Content, FilesError> {
        match record.facts() {
            Some(facts) if facts.preview.is_made() => self.shared.depot.preview(record.id),
            _ => Err(FilesError::NotFound),
        }
    }

    /// Notes that whole files of an owner's are sent to a room, all of them or none.
    ///
    /// # Errors
    /// One of them is not there, not whole, or somebody else's, which looks the same as if it were not there.
    pub fn attach(&self, owner: &Owner, ids: &[FileId], room: &str) -> Result<Vec<Record>, FilesError> {
        for id in ids {
            let record = self.record(*id)?;
            if record.owner != *owner {
                return Err(FilesError::NotFound);
            }
            if record.whole.is_none() {
                return Err(FilesError::Unfinished);
            }
            if !record.is_in(room) && record.attachments.len() >= ATTACHMENTS_MAX {
                let text = format!("a file can be in {ATTACHMENTS_MAX} rooms; upload it again for more");
                return Err(FilesError::Invalid(text));
            }
        }
        let attached = |id: &FileId| {
            self.shared.change(*id, |record| {
                record.attachments.retain(|attachment| attachment.room != room);
                record.attachments.push(Attachment { room: room.to_owned(), since: now() });
            })
        };
        ids.iter().map(attached).collect()
    }

    /// A file is in no message of a room any more. It goes when it was in no other room. Returns whether it went.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn detach(&self, id: FileId, room: &str) -> Result<bool, FilesError> {
        let record = match self.shared.change(id, |record| {
            record.attachments.retain(|attachment| attachment.room != room);
        }) {
            Err(FilesError::NotFound) => return Ok(false),
            changed => changed?,
        };
        if record.attachments.is_empty() {
            self.shared.remove(&record)?;
        }
        Ok(record.attachments.is_empty())
    }

    /// Takes a file or an upload away.
    ///
    /// # Errors
    /// There is none, or somebody works on it, or the disk cannot be written.
    pub fn remove(&self, id: FileId) -> Result<Record, FilesError> {
        let _taken = self.shared.locks.take(id).ok_or(FilesError::Busy)?;
        let record = self.shared.record(id)?;
        self.shared.remove(&record)?;
        Ok(record)
    }

    /// Everything of a user's, finished or not.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn of_user(&self, owner: &Owner) -> Result<Vec<Record>, FilesError> {
        let mut records = self.shared.records()?;
        records.retain(|record| record.owner == *owner);
        Ok(records)
    }

    /// Takes away everything of a user's, or of a whole tenant's. Returns how much that was.
    ///
    /// # Errors
    /// The disk cannot be used; what was taken away until then stays away.
    pub fn erase(&self, tenant: &str, user: Option<&str>) -> Result<usize, FilesError> {
        let mut records = self.shared.records()?;
        records.retain(|record| {
            record.owner.tenant == tenant && user.is_none_or(|user| record.owner.user == user)
        });
        for record in &records {
            self.shared.remove(record)?;
        }
        Ok(records.len())
    }

    /// The whole files that are in rooms, by tenant and room, and since when.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn attached(&self) -> Result<Attached, FilesError> {
        let mut rooms = Attached::new();
        for record in self.shared.records()? {
            for Attachment { room, since } in record.attachments {
                rooms.entry((record.owner.tenant.clone(), room)).or_default().push((record.id, since));
            }
        }
        Ok(rooms)
    }

    /// Takes away what has expired and what nobody needs, and counts anew who uses how much.
    ///
    /// # Errors
    /// The disk cannot be used; what was taken away until then stays away.
    pub fn sweep(&self) -> Result<Swept, FilesError> {
        self.sweep_at(now())
    }

    fn sweep_at(&self, now: i64) -> Result<Swept, FilesError> {
        let orphan = millis(self.limits().orphan_lifetime);
        let mut swept = Swept::default();
        let mut records = self.shared.records()?;
        let mut kept = Vec::with_capacity(records.len());
        for record in records.drain(..) {
            let counter = match record.facts() {
                None if record.expires <= now => &mut swept.expired,
                Some(facts)
                    if record.attachments.is_empty() && facts.finished.saturating_add(orphan) <= now =>
                {
                    &mut swept.orphans
                }
                _ => {
                    kept.push(record);
                    continue;
                }
            };
            // Somebody may be about to finish or to send it; the next sweep comes.
            if self.shared.remove_if_unchanged(&record)? {
                *counter += 1;
            }
        }
        self.shared.count_anew(&kept);
        Ok(swept)
    }

    /// What a user uses.
    #[must_use]
    pub fn usage(&self, owner: &Owner) -> Usage {
        self.shared.ledger().of_user(owner)
    }

    /// What a tenant uses.
    #[must_use]
    pub fn tenant_usage(&self, tenant: &str) -> Usage {
        self.shared.ledger().of_tenant(tenant)
    }

    /// The signature of a link to a part of a file, and until when it is good, in seconds since 1970.
    #[must_use]
    pub fn link(&self, id: FileId, part: Part) -> (i64, String) {
        let lifetime = i64::try_from(self.limits().link_lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires = (now() / 1000).saturating_add(lifetime);
        (expires, self.shared.signer.sign(id, part, expires))
    }

    /// Whether a link to a part of a file is good.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check_link(
        &self,
        id: FileId,
        part: Part,
        expires: i64,
        signature: &str,
    ) -> Result<(), InvalidLink> {
        self.shared.signer.check(id, part, expires, signature, now() / 1000)
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, id: FileId) -> Result<Record, FilesError> {
        let record = self.depot.record(id)?.ok_or(FilesError::NotFound)?;
        // What has expired is gone, though the next sweep may not have come.
        if record.whole.is_none() && record.expires <= now() {
            return Err(FilesError::NotFound);
        }
        Ok(record)
    }

    /// All that can be read. What cannot stays where it is, for whoever looks into the log.
    fn records(&self) -> Result<Vec<Record>, FilesError> {
        let mut records = Vec::new();
        for id in self.depot.ids()? {
            match self.depot.record(id) {
                Ok(record) => records.extend(record),
                Err(FilesError::Damaged(error)) => tracing::error!(%id, %error, "a file cannot be used"),
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    fn count_anew(&self, records: &[Record]) {
        let mut counted = Ledger::default();
        records.iter().for_each(|record| counted.add(record));
        *self.ledger() = counted;
    }

    fn change(&self, id: FileId, change: impl FnOnce(&mut Record)) -> Result<Record, FilesError> {
        let _locked = self.locks.record(id);
        let mut record = self.record(id)?;
        let before = record.clone();
        change(&mut record);
        if record != before {
            self.depot.write(&record)?;
        }
        Ok(record)
    }

    pub(crate) fn trust(&self, id: FileId, trusted: Option<u64>) -> Result<(), FilesError> {
        self.change(id, |record| record.trusted = trusted).map(drop)
    }

    fn remove(&self, record: &Record) -> Result<(), FilesError> {
        let _locked = self.locks.record(record.id);
        self.remove_locked(record.id)
    }

    fn remove_locked(&self, id: FileId) -> Result<(), FilesError> {
        // As it is now: it may have become whole.
        let Some(record) = self.depot.record(id)? else { return Ok(()) };
        self.depot.remove(&record)?;
        self.ledger().take_off(&record);
        Ok(())
    }

    fn remove_if_unchanged(&self, seen: &Record) -> Result<bool, FilesError> {
        let Some(_taken) = self.locks.take(seen.id) else { return Ok(false) };
        let _locked = self.locks.record(seen.id);
        if self.depot.record(seen.id)?.as_ref() != Some(seen) {
            return Ok(false);
        }
        self.remove_locked(seen.id)?;
        Ok(true)
    }

    /// Makes the preview of an image that wants one.
    pub(crate) fn make_preview(&self, id: FileId) -> Result<(), FilesError> {
        let Ok(record) = self.record(id) else { return Ok(()) };
        let Some(facts) = record.facts().filter(|facts| facts.preview == Preview::Pending) else {
            return Ok(());
        };
        let file = self.depot.content(id, &facts.sha256)?.into_file();
        let mut head = Vec::new();
        (&file).take(16).read_to_end(&mut head)?;
        rewind(&file)?;
        let kind = FileType::of(&head).image;
        let picture = kind.and_then(|kind| preview::picture(file, kind, &self.limits()));
        if let Some(picture) = &picture {
            self.depot.write_preview(id, &picture.bytes)?;
        }
        let changed = self.change(id, |record| {
            let Some(facts) = &mut record.whole else { return };
            facts.preview = picture.as_ref().map_or(Preview::None, |picture| picture.kind);
            if let Some(picture) = &picture {
                (facts.width, facts.height) = (Some(picture.size.0), Some(picture.size.1));
            }
        });
        match changed {
            // It was taken away meanwhile; the next start clears the picture away.
            Err(FilesError::NotFound) => Ok(()),
            changed => changed.map(drop),
        }
    }
}

fn rewind(mut file: &File) -> Result<(), FilesError> {
    use std::io::Seek as _;
    Ok(file.rewind()?)
}

fn fresh_key() -> Result<[u8; 32], FilesError> {
    let mut key = [0; 32];
    rand::fill(&mut key).map_err(|_| FilesError::Invalid("the system has no random numbers".to_owned()))?;
    Ok(key)
}

/// Of what is on the disk, which is what others will get.
fn hash(file: &File, length: u64) -> Result<String, FilesError> {
    rewind(file)?;
    let (mut reader, mut buffer, mut context) = (file, vec![0; HASHED], Context::new(&SHA256));
    let mut hashed = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.update(&buffer[..count]);
        hashed += count as u64;
    }
    if hashed != length {
        return Err(FilesError::Damaged("the upload has another length than it had".to_owned()));
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

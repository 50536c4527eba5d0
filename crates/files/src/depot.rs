//! The folder: records, parts of uploads, content by its hash, previews.
//!
//! ```text
//! records/7f/<id>.json        what is known of a file; written whole or not at all
//! parts/<id>                  what has come of an unfinished upload
//! blobs/2c/<sha256>/<id>      content: files with the same content are links to one
//! previews/7f/<id>            the small picture
//! link.key                    what signs links, if it was made here
//! ```
//!
//! A record is there before anything else of its file and goes first, so what has none is left over and is cleared away. The
//! file system counts the links: content is gone with the last file that has it. Everything that others rely on is on the disk,
//! with the folder that names it, before it is told of.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{FileId, FilesError, Record};

const RECORDS: &str = "records";
const PARTS: &str = "parts";
const BLOBS: &str = "blobs";
const PREVIEWS: &str = "previews";
/// What is being written.
const UNWRITTEN: &str = "tmp";
/// Nothing is written for longer.
const WRITING_MAX: Duration = Duration::from_secs(60);
/// A record is no longer: what is, is none.
const RECORD_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Depot {
    root: PathBuf,
}

impl Depot {
    /// Opens the folder, which nobody else may read, and makes it if need be.
    pub(crate) fn open(root: &Path) -> Result<Self, FilesError> {
        for folder in [RECORDS, PARTS, BLOBS, PREVIEWS] {
            make_folder(&root.join(folder))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The key in the folder; one of these bytes if there is none yet.
    pub(crate) fn link_key(&self, fresh: &[u8]) -> Result<Vec<u8>, FilesError> {
        let path = self.root.join("link.key");
        match fs::read(&path) {
            Ok(key) if key.len() >= fresh.len() => Ok(key),
            Ok(_) => Err(FilesError::Damaged(format!("{} is no key; delete it", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.replace(&path, fresh)?;
                Ok(fresh.to_vec())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The record of a file, if there is one.
    pub(crate) fn record(&self, id: FileId) -> Result<Option<Record>, FilesError> {
        let file = match File::open(self.record_path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() > RECORD_BYTES_MAX {
            return Err(FilesError::Damaged(format!("the record of {id} is too long to be one")));
        }
        serde_json::from_reader(io::BufReader::new(file))
            .map(Some)
            .map_err(|error| FilesError::Damaged(format!("the record of {id} cannot be read: {error}")))
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), FilesError> {
        let bytes = serde_json::to_vec(record).map_err(|error| FilesError::Damaged(error.to_string()))?;
        self.replace(&self.record_path(record.id), &bytes)
    }

    /// Takes away everything of a file, the record first.
    pub(crate) fn remove(&self, record: &Record) -> Result<(), FilesError> {
        let path = self.record_path(record.id);
        remove_file(&path)?;
        sync_folder_of(&path)?;
        remove_file(&self.part_path(record.id))?;
        remove_file(&self.preview_path(record.id))?;
        if let Some(facts) = &record.whole {
            self.remove_blob(&self.blob_path(&facts.sha256, record.id))?;
        }
        Ok(())
    }

    fn remove_blob(&self, path: &Path) -> Result<(), FilesError> {
        remove_file(path)?;
        if let Some(folder) = path.parent() {
            // Others may have the same content.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    /// Every file that has a record.
    pub(crate) fn ids(&self) -> Result<Vec<FileId>, FilesError> {
        let mut ids = Vec::new();
        each_file(&self.root.join(RECORDS), 1, &mut |path| {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
            ids.extend(name.and_then(|id| id.parse::<FileId>().ok()));
            Ok(())
        })?;
        Ok(ids)
    }

    /// Clears away what has no record, which a server leaves behind that was killed.
    pub(crate) fn clear_left_over(&self) -> Result<usize, FilesError> {
        let mut left_over = Vec::new();
        each_file(&self.root.join(RECORDS), 1, &mut |path| {
            if path.extension().is_some_and(|ending| ending == UNWRITTEN) && is_old(&path) {
                left_over.push(path);
            }
            Ok(())
        })?;
        for (folder, depth) in [(PARTS, 0), (PREVIEWS, 1), (BLOBS, 2)] {
            each_file(&self.root.join(folder), depth, &mut |path| {
                let id = path.file_name().and_then(|name| name.to_str()?.parse::<FileId>().ok());
                if !id.is_some_and(|id| self.record_path(id).exists()) && is_old(&path) {
                    left_over.push(path);
                }
                Ok(())
            })?;
        }
        let blobs = self.root.join(BLOBS);
        for path in &left_over {
            if path.starts_with(&blobs) { self.remove_blob(path)? } else { remove_file(path)? }
        }
        Ok(left_over.len())
    }

    /// Bytes that have come of an unfinished upload.
    pub(crate) fn part_length(&self, id: FileId) -> Result<u64, FilesError> {
        match fs::metadata(self.part_path(id)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// What has come of an unfinished upload, to read and to add to.
    pub(crate) fn part(&self, id: FileId) -> Result<File, FilesError> {
        let path = self.part_path(id);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options.create(true).truncate(false).open(&path)?;
                sync_folder_of(&path)?;
                Ok(file)
            }
            opened => Ok(opened?),
        }
    }

    pub(crate) fn remove_part(&self, id: FileId) -> Result<(), FilesError> {
        remove_file(&self.part_path(id))
    }

    /// Gives a whole part its place among the content. The part stays until it is removed, so that an end between the two
    /// leaves an upload that can be completed again.
    pub(crate) fn place(&self, id: FileId, sha256: &str) -> Result<(), FilesError> {
        let blob = self.blob_path(sha256, id);
        let folder = blob.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let part = self.part_path(id);
        if !self.link_to_same(folder, &blob) && fs::hard_link(&part, &blob).is_err() && !blob.exists() {
            // Not every file system has links. If the server ends before the record says so, the upload begins anew.
            fs::rename(&part, &blob)?;
        }
        sync_folder_of(&blob)?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
        Ok(())
    }

    /// Whether the same content was there, and is this file's now, too.
    fn link_to_same(&self, folder: &Path, blob: &Path) -> bool {
        let Ok(mut entries) = fs::read_dir(folder) else { return false };
        entries.any(|entry| {
            let path = entry.map(|entry| entry.path()).ok();
            // Whoever had it may have gone meanwhile, and a file has only so many links.
            path.is_some_and(|path| path == *blob || fs::hard_link(path, blob).is_ok())
        })
    }

    pub(crate) fn content(&self, id: FileId, sha256: &str) -> Result<Content, FilesError> {
        Content::open(&self.blob_path(sha256, id))
    }

    pub(crate) fn preview(&self, id: FileId) -> Result<Content, FilesError> {
        Content::open(&self.preview_path(id))
    }

    pub(crate) fn write_preview(&self, id: FileId, bytes: &[u8]) -> Result<(), FilesError> {
        self.replace(&self.preview_path(id), bytes)
    }

    /// Writes a file whole or not at all.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let unwritten = path.with_extension(UNWRITTEN);
        let written = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unwritten)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unwritten, path)
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&unwritten);
            return Err(error.into());
        }
        sync_folder_of(path)
    }

    fn record_path(&self, id: FileId) -> PathBuf {
        self.root.join(RECORDS).join(id.shard()).join(format!("{id}.json"))
    }

    fn part_path(&self, id: FileId) -> PathBuf {
        self.root.join(PARTS).join(id.to_string())
    }

    fn preview_path(&self, id: FileId) -> PathBuf {
        self.root.join(PREVIEWS).join(id.shard()).join(id.to_string())
    }

    /// The hash is ours: hexadecimal digits.
    fn blob_path(&self, sha256: &str, id: FileId) -> PathBuf {
        self.root.join(BLOBS).join(&sha256[..2]).join(sha256).join(id.to_string())
    }
}

/// The bytes of a file, or of its preview. They stay readable when the file is taken away meanwhile.
#[derive(Debug)]
pub struct Content {
    file: File,
    length: u64,
}

impl Content {
    fn open(path: &Path) -> Result<Self, FilesError> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FilesError::NotFound,
            _ => error.into(),
        })?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// How many they are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads from a place on; returns how many bytes. 0: there are no more.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

/// Whether nobody can be writing it: another server may use the folder, too.
fn is_old(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > WRITING_MAX))
}

fn make_folder(path: &Path) -> Result<(), FilesError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_folder_of(path)
}

fn remove_file(path: &Path) -> Result<(), FilesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn sync_folder_of(path: &Path) -> Result<(), FilesError> {
    path.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> Result<(), FilesError> {
    Ok(File::open(folder)?.sync_all()?)
}

/// Calls for every file so many folders deep.
fn each_file(
    folder: &Path,
    depth: usize,
    found: &mut dyn FnMut(PathBuf) -> Result<(), FilesError>,
) -> Result<(), FilesError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let entry = entry?;
        match (depth, entry.file_type()?.is_dir()) {
            (0, false) => found(entry.path())?,
            (1.., true) => each_file(&entry.path(), depth - 1, found)?,
            _ => {}
        }
    }
    Ok(())
}

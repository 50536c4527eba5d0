//! The store's folder: whose it is, which format it has, and whether there is space.
//!
//! `outspoke.lock` is held as long as the store is open; `outspoke.format` is written last, when everything that a
//! commit needs is there durably, and says which format it is; `engine/` is fjall's. A folder without the format file
//! holds nothing that was ever acknowledged. `outspoke.suspect` is there while the system may take pages of a journal for
//! clean that are not on the disk; it need not be durable, since a power loss leaves nothing in memory to be wrong about.

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The format that this version writes and the newest that it reads.
const FORMAT: u64 = 1;
const LOCK_FILE: &str = "outspoke.lock";
const FORMAT_FILE: &str = "outspoke.format";
const SUSPECT_FILE: &str = "outspoke.suspect";
const ENGINE_FOLDER: &str = "engine";

/// A folder that nobody else has.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// A write or a sync failed, and the journals were not written again since.
    suspect: Cell<bool>,
    _lock: File,
}

/// Why a folder cannot be used, with its name.
pub(super) fn trouble(path: &Path, error: &std::io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(text),
        _ => StoreError::Unavailable(text),
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| trouble(path, &error))
}

/// Makes a folder and those it is in, each durable in the one above.
fn create(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(trouble(path, &error)),
        _ => {}
    }
    sync_folder(parent)
}

impl Folder {
    /// Makes the folder if it is not there, and takes it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        create(path)?;
        let lock = path.join(LOCK_FILE);
        let file =
            File::options().create(true).append(true).open(&lock).map_err(|error| trouble(&lock, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unavailable(format!(
                    "the folder {} is in use by another process; give each hub a folder of its own, or stop the other",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(trouble(&lock, &error)),
        }
        let suspect = Cell::new(path.join(SUSPECT_FILE).exists());
        Ok(Self { path: path.to_owned(), suspect, _lock: file })
    }

    /// A write or a sync failed: the journals are written again before they are believed, also by the next process.
    pub(super) fn suspect(&self) {
        self.suspect.set(true);
        // Where no file can be made, this process knows it all the same.
        if let Err(error) = File::create(self.path.join(SUSPECT_FILE)) {
            tracing::debug!(%error, "a restart would not know of the failed write");
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.get()
    }

    /// The journals were written again.
    pub(super) fn trust(&self) {
        self.suspect.set(false);
        if let Err(error) = fs::remove_file(self.path.join(SUSPECT_FILE))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::debug!(%error, "the journals will be written again at the next start");
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE_FOLDER)
    }

    /// Whether the folder was ever finished.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its format is not one that we read.
    pub(super) fn is_marked(&self) -> Result<bool, StoreError> {
        let path = self.path.join(FORMAT_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(trouble(&path, &error)),
        };
        let format =
            text.strip_prefix("outspoke store, format ").and_then(|text| text.trim().parse::<u64>().ok());
        match format {
            Some(1..=FORMAT) => Ok(true),
            Some(newer) => Err(StoreError::Damaged(format!(
                "{} has format {newer}, and this version of Outspoke reads formats up to {FORMAT}: \
                 use the version that wrote it, or `outspoke store export` there and `import` here",
                self.path.display()
            ))),
            None => Err(StoreError::Damaged(format!("{} is not what Outspoke writes there", path.display()))),
        }
    }

    /// Writes the format down, durably.
    pub(super) fn mark(&self) -> Result<(), StoreError> {
        let (path, new) = (self.path.join(FORMAT_FILE), self.path.join("outspoke.format.new"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(format!("outspoke store, format {FORMAT}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| trouble(&path, &error))?;
        sync_folder(&self.path)
    }

    /// Takes away what an unfinished creation left: without the format file nothing there was ever acknowledged.
    pub(super) fn clear_unfinished(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(self.engine()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(trouble(&self.engine(), &error)),
            _ => Ok(()),
        }
    }

    /// Refuses to let the engine begin where something is missing: it would take that for a new beginning.
    pub(super) fn check_whole(&self) -> Result<(), StoreError> {
        let engine = self.engine();
        let families = engine.join("keyspaces");
        let mut missing = Vec::new();
        if !engine.join("version").is_file() {
            missing.push(engine.join("version"));
        }
        let entries = fs::read_dir(&families).map_err(|error| {
            StoreError::Damaged(format!("{} cannot be read ({error}); {}", families.display(), CURE))
        })?;
        let mut count = 0;
        for entry in entries {
            let path = entry.map_err(|error| trouble(&families, &error))?.path();
            if path.is_dir() {
                count += 1;
                if !path.join("current").is_file() {
                    missing.push(path.join("current"));
                }
            }
        }
        if count <= super::engine::FAMILIES {
            missing.push(families.join("*"));
        }
        match missing.first() {
            None => Ok(()),
            Some(path) => Err(StoreError::Damaged(format!("{} is missing; {CURE}", path.display()))),
        }
    }
}

fn space(path: &Path) -> Result<Space, StoreError> {
    let stat = rustix::fs::statvfs(path).map_err(|error| trouble(path, &error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(Space { free, read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) })
}

/// Why a commit would be refused for want of space, before anything is written.
pub(super) fn refusal(path: &Path, bytes: u64, reserve: u64) -> Result<(), StoreError> {
    let Space { free, read_only } = space(path)?;
    let path = path.display();
    if read_only {
        return Err(StoreError::Unavailable(format!("the file system of {path} is read-only")));
    }
    if reserve > 0 && free < reserve.saturating_add(bytes.saturating_mul(2)) {
        return Err(StoreError::Full(format!(
            "{path} has {free} bytes left, and {reserve} are kept free; delete something there, or give it more space"
        )));
    }
    Ok(())
}

/// What to do about damage.
pub(super) const CURE: &str = "run `outspoke store verify` to see how much is wrong, then restore a backup, or move the \
                               folder away to begin anew";

/// What is left of a file system.
#[derive(Clone, Copy, Debug)]
struct Space {
    free: u64,
    read_only: bool,
}

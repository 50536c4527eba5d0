//! What files may use, and where they are.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where files are, and what they may use. [`FilesConfig::at`] and the fields that differ.
#[derive(Clone)]
#[non_exhaustive]
pub struct FilesConfig {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// What signs links, at least 32 bytes: the same on every server that shares the folder. `None`: one that is made and kept
    /// in the folder.
    pub link_key: Option<Vec<u8>>,
    /// Threads that make previews. 0: none are made.
    pub preview_threads: usize,
    /// Images that may wait for one; further ones get theirs when somebody asks for it.
    pub preview_queue_max: usize,
    /// What may be used from the beginning on; see [`Files::set_limits`](crate::Files::set_limits).
    pub limits: Limits,
}

/// The link's key does not show itself.
impl fmt::Debug for FilesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesConfig")
            .field("folder", &self.folder)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl FilesConfig {
    /// Files in a folder, with the usual limits.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            link_key: None,
            preview_threads: 1,
            preview_queue_max: 64,
            limits: Limits::default(),
        }
    }
}

/// What files may use. 0 in a number of bytes or files: no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// A file's bytes.
    pub file_bytes_max: u64,
    /// Bytes of a user's files, with those announced for unfinished uploads.
    pub user_bytes_max: u64,
    /// Bytes of a tenant's files, with those announced for unfinished uploads.
    pub tenant_bytes_max: u64,
    /// A user's unfinished uploads at a time.
    pub unfinished_per_user_max: usize,
    /// How long an upload may take from its beginning to its end.
    pub unfinished_lifetime: Duration,
    /// How long a whole file may be in no message before it goes.
    pub orphan_lifetime: Duration,
    /// Types that are accepted, by their content: `image/png`, `image/*`. Empty: all.
    pub types: Vec<String>,
    /// Pixels of an image, over all of its width and height.
    pub image_pixels_max: u64,
    /// Frames of an animation.
    pub image_frames_max: u64,
    /// Bytes that decoding an image may take.
    pub preview_memory_max: u64,
    /// How long decoding an image may take.
    pub preview_timeout: Duration,
    /// Longer side of a preview, in pixels.
    pub preview_pixels: u32,
    /// How long a link is good.
    pub link_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes_max: 100 << 20,
            user_bytes_max: 1 << 30,
            tenant_bytes_max: 0,
            unfinished_per_user_max: 10,
            unfinished_lifetime: Duration::from_secs(24 * 3600),
            orphan_lifetime: Duration::from_secs(24 * 3600),
            types: Vec::new(),
            image_pixels_max: 50_000_000,
            image_frames_max: 1000,
            preview_memory_max: 256 << 20,
            preview_timeout: Duration::from_secs(10),
            preview_pixels: 1280,
            link_lifetime: Duration::from_secs(3600),
        }
    }
}

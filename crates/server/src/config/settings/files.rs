//! `files.*`: what users may upload, and what becomes of it.

use std::path::PathBuf;
use std::time::Duration;

use super::auth::Words;
use crate::config::kind::{Count, Flag, FolderOrUsual, Size, Text, Time};
use crate::config::settings::Data;
use crate::config::table::section;

section! {
    /// Files that users upload over HTTP and send to rooms. See docs/operating/files.md.
    Files at "files" {
        /// Take files.
        enabled: bool as Flag = "true" {}

        /// Their folder. "" is the folder files in data.dir. Servers of one cluster share one, on a file system that all of them
        /// reach.
        dir: Option<PathBuf> as FolderOrUsual = "" {}

        /// Bytes of one file.
        file_bytes_max: usize as Size = "100MiB" {
            range: Some(("1", "1024GiB")),
            zero: Some("no limit"),
            at_limit: Some("the upload is refused with status 413 before it begins"),
        }

        /// Bytes of one user's files. An unfinished upload counts with the length that it announced, and each file with at least
        /// 4 KiB.
        user_bytes_max: usize as Size = "1GiB" {
            range: Some(("4KiB", "1048576GiB")),
            zero: Some("no limit"),
            at_limit: Some("the upload is refused with status 413 before it begins"),
        }

        /// Bytes of one tenant's files; without tenants, of all.
        tenant_bytes_max: usize as Size = "10GiB" {
            range: Some(("4KiB", "1048576GiB")),
            zero: Some("no limit"),
            at_limit: Some("the upload is refused with status 413 before it begins"),
        }

        /// One user's uploads that are not finished.
        unfinished_per_user_max: usize as Count = "10" {
            range: Some(("1", "10_000")),
            unit: Some("uploads"),
            at_limit: Some("the upload is refused with status 429 before it begins"),
        }

        /// How long an upload may take from its beginning to its end.
        unfinished_lifetime: Duration as Time = "1d" {
            range: Some(("1s", "365d")),
            at_limit: Some("the upload is gone, and what came of it"),
        }

        /// How long a file may be in no message.
        orphan_lifetime: Duration as Time = "1d" {
            range: Some(("1s", "365d")),
            at_limit: Some("the file is taken away"),
        }

        /// How often the server looks for uploads that took too long, and for files that are in no message.
        sweep_interval: Duration as Time = "10m" {
            range: Some(("1s", "1d")),
        }

        /// Types of files that are accepted, such as image/png or image/*, by what is in them and not by what they are said to
        /// be. [] for all.
        types: Vec<String> as Words = "" {}

        /// Pixels of an image, width times height.
        image_pixels_max: usize as Count = "50_000_000" {
            range: Some(("1", "1_000_000_000")),
            unit: Some("pixels"),
            at_limit: Some("the file is refused with status 415, without having been decoded"),
        }

        /// Frames of an animation.
        image_frames_max: usize as Count = "1000" {
            range: Some(("1", "1_000_000")),
            unit: Some("frames"),
            at_limit: Some("the file is refused with status 415, without having been decoded"),
        }

        /// Threads that make previews of images.
        preview_threads: usize as Count = "1" {
            range: Some(("1", "64")),
            zero: Some("no previews are made"),
        }

        /// Images that wait for their preview.
        preview_queue_max: usize as Count = "64" {
            range: Some(("1", "100_000")),
            unit: Some("images"),
            at_limit: Some("an image gets its preview when somebody asks for it"),
        }

        /// Memory that making one preview may take, in each thread.
        preview_memory_max: usize as Size = "256MiB" {
            range: Some(("1MiB", "64GiB")),
            at_limit: Some("the image has no preview"),
        }

        /// How long making one preview may take.
        preview_timeout: Duration as Time = "10s" {
            range: Some(("10ms", "10m")),
            at_limit: Some("the image has no preview"),
        }

        /// The longer side of a preview.
        preview_pixels: usize as Count = "1280" {
            range: Some(("16", "8192")),
            unit: Some("pixels"),
        }

        /// How long a link to a file is good for whoever has it.
        link_lifetime: Duration as Time = "1h" {
            range: Some(("1s", "7d")),
            at_limit: Some("status 403; clients ask for a fresh link"),
        }

        /// What signs links: at least 32 bytes, for example the output of `openssl rand -hex 32`. "" for a key that the server
        /// makes and keeps in the folder.
        link_key: String as Text = "" { secret: true }
    }
}

impl Files {
    /// Where they are.
    pub fn folder(&self, data: &Data) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| data.dir.join("files"))
    }
}

//! Files that are looked at, so that a change of theirs is a reload.
//!
//! By their content: a mounted file can be replaced without a newer time, and touched without a change. A file is read
//! whole once it has been the same for two looks, so that one which is being written is not read in the middle.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Asker, Reloader};

/// How often it is asked whether files are to be looked at, while they are not.
const ASK: Duration = Duration::from_secs(5);
/// Bytes of a file that are looked at: configurations and certificates are shorter.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the files said, each as a number; `None`: it cannot be read.
type Look = HashMap<PathBuf, Option<u64>>;

/// The files of one server, as they were last seen.
#[derive(Debug)]
pub(crate) struct Watch {
    reloader: Arc<Reloader>,
    hasher: RandomState,
    /// What is in force; nothing while they are not looked at.
    known: Option<Look>,
    seen: Look,
}

impl Watch {
    /// Looks for the first time. What changes from here on is a change.
    pub(crate) fn new(reloader: Arc<Reloader>) -> Self {
        let hasher = RandomState::new();
        let seen = look(&reloader, &hasher);
        Self { reloader, hasher, known: Some(seen.clone()), seen }
    }

    /// Looks at the files for as long as the server runs.
    pub(crate) async fn run(mut self) {
        loop {
            let interval = self.reloader.loaded().config.reload.watch;
            if interval.is_zero() {
                self.known = None;
                tokio::time::sleep(ASK).await;
                continue;
            }
            tokio::time::sleep(interval).await;
            // Files are read by a thread that may wait for them.
            self = match tokio::task::spawn_blocking(move || self.look()).await {
                Ok(watch) => watch,
                Err(_) => return,
            };
        }
    }

    fn look(mut self) -> Self {
        let look = look(&self.reloader, &self.hasher);
        let settled = self.seen == look;
        self.seen = look;
        match &self.known {
            None => self.known = Some(self.seen.clone()),
            Some(known) if settled && *known != self.seen => {
                // Also if it is refused: it is told once, not with every look.
                self.known = Some(self.seen.clone());
                // Logged there.
                let _ = self.reloader.reload(&Asker::Watch, false);
            }
            Some(_) => {}
        }
        self
    }
}

fn look(reloader: &Reloader, hasher: &RandomState) -> Look {
    let files = reloader.files(&reloader.loaded());
    files.into_iter().map(|path| (path.clone(), content(&path, hasher))).collect()
}

fn content(path: &PathBuf, hasher: &RandomState) -> Option<u64> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(hasher.hash_one(bytes))
}

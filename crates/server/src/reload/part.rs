//! A part of the server that follows the configuration while it runs.
//!
//! A part plugs in with two closures: one that *prepares* (reads files, builds, checks; changes nothing) and gives a [`Step`],
//! and the step, which puts what was prepared in force and gives back how to undo it. Parts are prepared all before the first
//! is put in force, in the order in which they were added, and undone in the other one.
//!
//! ```ignore
//! reloader.part("certificates", move |next| {
//!     let certificates = Certificates::load(&next.config.tls)?;
//!     Ok(Step::swap(&in_force, certificates))
//! });
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Loaded;

/// Takes back what a step has done. It cannot fail: what was in force before is at hand.
pub(crate) type Undo = Box<dyn FnOnce() + Send>;

type Commit = Box<dyn FnOnce() -> anyhow::Result<Undo> + Send>;
type Prepare = Box<dyn Fn(&Loaded) -> anyhow::Result<Step> + Send + Sync>;
type Files = Box<dyn Fn(&Loaded) -> Vec<PathBuf> + Send + Sync>;

/// What a part does when everything else is prepared as well.
#[must_use = "what was prepared is not in force yet"]
pub(crate) struct Step {
    commit: Commit,
    /// What else changes, besides settings: that a file says something else now, say. Never a secret.
    pub(super) notes: Vec<String>,
}

impl Step {
    /// Puts something in force, and gives back how to undo it.
    pub(crate) fn new(commit: impl FnOnce() -> anyhow::Result<Undo> + Send + 'static) -> Self {
        Self { commit: Box::new(commit), notes: Vec::new() }
    }

    /// Puts `next` in the place of what is in force.
    pub(crate) fn swap<T: Send + Sync + 'static>(in_force: &Arc<ArcSwap<T>>, next: T) -> Self {
        let in_force = Arc::clone(in_force);
        Self::new(move || {
            let former = in_force.swap(Arc::new(next));
            Ok(Box::new(move || in_force.store(former)))
        })
    }

    /// The same, with something to report that no setting shows.
    #[allow(dead_code, reason = "for parts that read files")]
    pub(crate) fn noting(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(super) fn commit(self) -> anyhow::Result<Undo> {
        (self.commit)()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// A part, as the reloader knows it.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) prepare: Prepare,
    pub(super) files: Files,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.name).finish()
    }
}

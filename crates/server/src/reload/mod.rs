//! Another configuration for a server that runs: on SIGHUP, on `POST /api/v1/reload`, or because a file has changed.
//!
//! The same sources as at the start, in the same order, are read and judged as then; what is wrong with them is told in the
//! same words, and nothing changes. Then every [part](part) prepares, then every part puts in force what it has prepared; if
//! one cannot, those before it are undone. So all of it holds or nothing does, except settings that are decided when the
//! server starts: these are named, and wait. One reload at a time; clients notice nothing.
//!
//! What a part is, is the part's own business: the hub's fields, routes and certificates are wired in [`crate::serve`].

mod difference;
pub(crate) mod part;
pub(crate) mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use serde::Serialize;

pub(crate) use self::difference::Difference;
use self::difference::InForce;
use self::part::{Part, Step, Undo};
use crate::config::{ConfigError, FileChoice, Loaded, Sources, load};

/// Who asked for a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// SIGHUP.
    Signal,
    /// The HTTP API, from this address.
    Api(String),
    /// A file has changed.
    Watch,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("SIGHUP"),
            Self::Api(peer) => write!(f, "the HTTP API, from {peer}"),
            Self::Watch => f.write_str("a changed file"),
        }
    }
}

/// What a reload did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Nothing was changed: it was only asked what would.
    pub dry_run: bool,
    /// Settings that changed.
    pub changed: Vec<Difference>,
    /// Settings that differ from those in force, and are decided when the server starts.
    pub waiting: Vec<Difference>,
    /// What else changed: files that settings name.
    pub notes: Vec<String>,
    /// What works, but hardly as it is meant.
    pub warnings: Vec<String>,
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReloadError {
    /// The configuration came from where it cannot be read again.
    #[error(
        "the configuration came from standard input, which cannot be read again: name a file with --config"
    )]
    StandardInput,
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part of the server could not live by it.
    #[error("{part}: {error:#}; nothing was changed")]
    Refused {
        /// Which part.
        part: &'static str,
        /// Why.
        error: anyhow::Error,
    },
    /// A part of the server failed to take over what it had prepared.
    #[error("{part}: {error:#}; {}", rolled_back(undone))]
    RolledBack {
        /// Which part.
        part: &'static str,
        /// Why.
        error: anyhow::Error,
        /// The parts that had changed already, and live by the former configuration again.
        undone: Vec<&'static str>,
    },
}

fn rolled_back(undone: &[&str]) -> String {
    match undone {
        [] => "nothing was changed".to_owned(),
        undone => format!("what had changed before ({}) was rolled back", undone.join(", ")),
    }
}

/// Reads the configuration again and lets the parts of the server follow.
#[derive(Debug)]
pub(crate) struct Reloader {
    sources: Sources,
    parts: Vec<Part>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_force: InForce,
    /// What was read last and is in force, except what waits for a restart.
    loaded: Arc<Loaded>,
}

impl Reloader {
    /// For a server that was started with these settings, from these sources.
    pub(crate) fn new(sources: Sources, loaded: Loaded) -> Self {
        let in_force = InForce::of(&loaded.settings);
        Self { sources, parts: Vec::new(), state: Mutex::new(State { in_force, loaded: Arc::new(loaded) }) }
    }

    /// Adds a part, which follows those that were added before.
    pub(crate) fn part(
        &mut self,
        name: &'static str,
        prepare: impl Fn(&Loaded) -> anyhow::Result<Step> + Send + Sync + 'static,
    ) -> &mut Self {
        self.part_with_files(name, |_| Vec::new(), prepare)
    }

    /// As [`part`](Self::part), for one that reads files which settings name. They are watched with the configuration.
    pub(crate) fn part_with_files(
        &mut self,
        name: &'static str,
        files: impl Fn(&Loaded) -> Vec<PathBuf> + Send + Sync + 'static,
        prepare: impl Fn(&Loaded) -> anyhow::Result<Step> + Send + Sync + 'static,
    ) -> &mut Self {
        self.parts.push(Part { name, prepare: Box::new(prepare), files: Box::new(files) });
        self
    }

    /// The settings that were read last.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.lock().loaded)
    }

    /// The settings that were read last, and which of them wait for a restart. It blocks while a reload is under way.
    pub(crate) fn read_last(&self) -> (Arc<Loaded>, Vec<Difference>) {
        let state = self.lock();
        let (_, waiting) = state.in_force.compare(&state.loaded.settings);
        (Arc::clone(&state.loaded), waiting)
    }

    /// The configuration file, if there is one, and the files that its settings name.
    fn files(&self, loaded: &Loaded) -> Vec<PathBuf> {
        let file = self.sources.path();
        file.into_iter().chain(self.parts.iter().flat_map(|part| (part.files)(loaded))).collect()
    }

    /// Reads the configuration again and puts it in force, or says what that would change. Logged. It blocks: on files, and on
    /// another reload.
    ///
    /// # Errors
    /// See [`ReloadError`]: everything is as it was.
    pub(crate) fn reload(&self, asker: &Asker, dry_run: bool) -> Result<Report, ReloadError> {
        let mut state = self.lock();
        let outcome = self.try_reload(&mut state, dry_run);
        drop(state);
        if !dry_run {
            log(asker, &outcome);
        }
        outcome
    }

    fn try_reload(&self, state: &mut State, dry_run: bool) -> Result<Report, ReloadError> {
        if self.sources.path().is_some_and(|path| path.as_os_str() == "-") {
            return Err(ReloadError::StandardInput);
        }
        let loaded = load(&self.sources)?;
        let (changed, waiting) = state.in_force.compare(&loaded.settings);
        let mut report = Report { dry_run, changed, waiting, ..Report::default() };
        report.warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        let mut steps = Vec::with_capacity(self.parts.len());
        for Part { name, prepare, .. } in &self.parts {
            let step = prepare(&loaded).map_err(|error| ReloadError::Refused { part: name, error })?;
            report.notes.extend(step.notes.iter().cloned());
            steps.push((*name, step));
        }
        if !dry_run {
            commit(steps)?;
            state.in_force.follow(&loaded.settings);
            state.loaded = Arc::new(loaded);
        }
        Ok(report)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts in force what was prepared, all of it or nothing.
fn commit(steps: Vec<(&'static str, Step)>) -> Result<(), ReloadError> {
    let mut done: Vec<(&'static str, Undo)> = Vec::with_capacity(steps.len());
    for (part, step) in steps {
        match step.commit() {
            Ok(undo) => done.push((part, undo)),
            Err(error) => {
                let undone = done.iter().map(|(part, _)| *part).collect();
                done.into_iter().rev().for_each(|(_, undo)| undo());
                return Err(ReloadError::RolledBack { part, error, undone });
            }
        }
    }
    Ok(())
}

fn log(asker: &Asker, outcome: &Result<Report, ReloadError>) {
    match outcome {
        Ok(report) => {
            for Difference { key, old, new, source, counts } in &report.changed {
                tracing::info!(key, old, new, source, counts, "a setting has changed");
            }
            for note in &report.notes {
                tracing::info!("{note}");
            }
            for Difference { key, old, new, source, .. } in &report.waiting {
                tracing::warn!(key, old, new, source, "a setting has changed that counts after a restart");
            }
            for warning in &report.warnings {
                tracing::warn!("{warning}");
            }
            let (changed, waiting) = (report.changed.len(), report.waiting.len());
            tracing::info!(%asker, changed, waiting, "the configuration was read again");
        }
        Err(error) => {
            tracing::error!(%asker, %error, "the configuration was not taken over: everything stays as it was");
        }
    }
}

impl Sources {
    /// The file that is read, if there is one.
    fn path(&self) -> Option<PathBuf> {
        match &self.file {
            FileChoice::None => None,
            FileChoice::Named(path) => Some(path.clone()),
            FileChoice::Search => Some(self.searched()),
        }
    }
}

/// The reloader, for those who exist before it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handle(Arc<OnceLock<Weak<Reloader>>>);

impl Handle {
    pub(crate) fn set(&self, reloader: &Arc<Reloader>) {
        // Set once: a server is started once.
        let _ = self.0.set(Arc::downgrade(reloader));
    }

    pub(crate) fn get(&self) -> Option<Arc<Reloader>> {
        self.0.get()?.upgrade()
    }
}

#[cfg(test)]
mod tests;

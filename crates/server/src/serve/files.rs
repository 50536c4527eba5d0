//! The files that users upload, as the settings want them: opened, kept up to date, swept.

use std::time::Duration;

use anyhow::Context as _;
use outspoke_files::Files;
use tokio::sync::watch;

use crate::config::Config;
use crate::http::files::{self, Door, FileMessages};
use crate::reload::Reloader;
use crate::reload::part::Step;

/// Opens the folder, if files are taken at all.
///
/// # Errors
/// It cannot be used.
pub(super) fn open(config: &Config) -> anyhow::Result<Option<Door>> {
    if !config.files.enabled {
        return Ok(None);
    }
    let folder = config.files.folder(&config.data);
    let opened = Files::open(files::config(config));
    let files = opened.with_context(|| {
        format!("files cannot be kept in {}: let files.dir be a folder that can be written", folder.display())
    })?;
    tracing::info!(folder = %folder.display(), "taking files");
    Ok(Some(Door::new(files)))
}

/// Lets what files may use follow another configuration.
pub(super) fn part(reloader: &mut Reloader, door: &Door) {
    let files = door.files.clone();
    reloader.part("the files", move |next| {
        let (files, next) = (files.clone(), files::limits(&next.config.files));
        Ok(Step::new(move || {
            let former = (*files.limits()).clone();
            files.set_limits(next);
            Ok(Box::new(move || files.set_limits(former)))
        }))
    });
}

/// Takes away from time to time what has expired and what nobody needs, until the server stops.
pub(super) async fn sweep(messages: FileMessages, interval: Duration, mut stopping: watch::Receiver<bool>) {
    let sweeping = async {
        loop {
            tokio::time::sleep(interval).await;
            messages.sweep().await;
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = async { drop(stopping.wait_for(|stop| *stop).await) } => {}
    }
}

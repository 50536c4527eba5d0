//! Placeholder for the listener: takes the loaded configuration and refuses to serve.

use crate::config::Loaded;

/// Serves until told to stop.
///
/// # Errors
/// Always, until the listener replaces this module.
pub fn run(_loaded: Loaded) -> anyhow::Result<()> {
    anyhow::bail!("this build has no listener")
}

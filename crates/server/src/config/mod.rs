//! The server's settings: defaults, then the YAML file, then the environment, then flags.
//!
//! [`load`] merges the layers into a typed [`Config`], and remembers where each value came from. The road of a value:
//! `layers` gathers what was written where (`blocks`: in lists of blocks), `resolve` turns it into types by the table
//! in [`settings`] (`entry`: the entries of such lists), `rules` compares settings with each other. All problems are
//! reported together ([`error`]).
//!
//! Only the binary reads configuration; the libraries below it get typed values.

pub mod address;
mod blocks;
pub mod effect;
mod entry;
pub mod error;
pub mod kind;
mod layers;
pub(crate) mod nearest;
pub mod reference;
mod resolve;
mod rules;
pub mod settings;
pub mod show;
mod source;
pub mod table;
mod yaml;

use std::sync::Arc;

pub use address::{Host, ListenAddr};
pub use entry::EntrySetting;
pub use error::{ConfigError, Fault, Problem, Warning};
pub use kind::{Backend, Bus, Durability, LogFormat, Publishers, SlowClient};
pub use layers::{FILE_VARIABLE, FileChoice, FlagValue, IMPLICIT_FILE, Sources, variable_name};
pub use resolve::Setting;
pub use settings::Config;
pub use source::Source;

pub(crate) use error::mask_userinfo;
use table::{Section as _, SectionInfo};

/// What the store is called that the section `store` describes.
pub const DEFAULT_STORE: &str = "default";

/// A valid configuration and its provenance.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The typed settings.
    pub config: Config,
    /// The file that was used, as the operator named it.
    pub file: Option<Arc<str>>,
    /// Every setting in the order of the reference, with its source.
    pub settings: Vec<Setting>,
    /// What works, but hardly as it is meant.
    pub warnings: Vec<Warning>,
}

impl Loaded {
    /// Where the value of a key came from.
    pub fn source(&self, path: &str) -> Source {
        let setting = self.settings.iter().find(|setting| setting.key.path == path);
        setting.map_or(Source::Default, |setting| setting.source.clone())
    }
}

/// Merges the layers and checks the result.
///
/// # Errors
/// All problems of all layers together: unknown and duplicate keys, values, rules between settings. Only a file that
/// is not YAML at all hides what else is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let layers = layers::gather(sources, &sections());
    let mut resolver = resolve::Resolver::new(layers.assignments, layers.lists);
    let config = Config::read(&mut resolver);
    let verdict = rules::check(&config, &resolver);

    let mut problems = layers.problems;
    problems.extend(resolver.problems);
    problems.extend(verdict.problems);
    if problems.is_empty() {
        let mut warnings = layers.warnings;
        warnings.extend(verdict.warnings);
        warnings.sort_by(|a, b| a.at.cmp(&b.at));
        return Ok(Loaded { config, file: layers.file, settings: resolver.settings, warnings });
    }
    problems.sort_by(|a, b| a.at.cmp(&b.at));
    let in_file = problems.iter().any(|problem| matches!(problem.at, Source::File { .. }));
    let note = (layers.implicit && in_file).then(|| {
        format!("{IMPLICIT_FILE} was read because it is in the working directory; --no-config ignores it")
    });
    Err(ConfigError { problems, note })
}

/// The table of settings, section by section.
pub fn sections() -> Vec<SectionInfo> {
    let mut out = Vec::new();
    Config::describe(&mut out);
    out
}

impl Default for Config {
    fn default() -> Self {
        Self::read(&mut resolve::Resolver::new(Default::default(), Default::default()))
    }
}

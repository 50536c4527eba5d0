//! Where a value came from.
//!
//! Every value keeps its [`Source`], so that `config show`, errors and start-up failures can name the line, variable
//! or flag to change.

use std::fmt;
use std::sync::Arc;

/// The place that set a value, in rising precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nothing set it.
    Default,
    /// The configuration file.
    File {
        /// The file as the operator named it.
        file: Arc<str>,
        /// Line, from 1; 0 stands for the file as a whole.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable, by name.
    Env(String),
    /// A command-line flag, as written: `--addr`, `--set server.addr`.
    Flag(String),
}

impl Source {
    /// The configuration file as a whole.
    pub fn whole_file(file: &Arc<str>) -> Self {
        Self::File { file: Arc::clone(file), line: 0, column: 0 }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: 0, .. } => f.write_str(file),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

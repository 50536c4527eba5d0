//! What differs between the settings in force and those that were read, setting by setting.
//!
//! Texts are those of `config show`, with secrets masked. That a secret differs is known by its fingerprint, which no other
//! process could make.

use std::collections::HashMap;

use serde::Serialize;

use crate::config::effect::{Effect, effect};
use crate::config::{Setting, show};

/// A setting that has another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Its path.
    pub key: &'static str,
    /// What it was, masked.
    pub old: String,
    /// What it is to be, masked.
    pub new: String,
    /// Where the new value stands.
    pub source: String,
    /// When it counts: `at_once`, `new_clients`, `new_rooms`, `restart`.
    pub counts: &'static str,
}

/// The values in force, by path.
#[derive(Debug, Default)]
pub(super) struct InForce(HashMap<&'static str, (u64, String)>);

impl InForce {
    pub(super) fn of(settings: &[Setting]) -> Self {
        Self(settings.iter().map(|setting| (setting.key.path, value(setting))).collect())
    }

    /// What differs: first what can change, then what waits for a restart.
    pub(super) fn compare(&self, settings: &[Setting]) -> (Vec<Difference>, Vec<Difference>) {
        let differs = settings.iter().filter_map(|setting| {
            let (fingerprint, new) = value(setting);
            let (known, old) = self.0.get(setting.key.path).cloned().unwrap_or_default();
            if known == fingerprint {
                return None;
            }
            let (key, source) = (setting.key.path, setting.source.to_string());
            // Two secrets look the same, and are not.
            let new = if new == old { format!("{new} (another one)") } else { new };
            Some(Difference { key, old, new, source, counts: effect(key).name() })
        });
        differs.partition(|difference| effect(difference.key) != Effect::Restart)
    }

    /// What can change is in force from here on; what cannot goes on waiting.
    pub(super) fn follow(&mut self, settings: &[Setting]) {
        for setting in settings.iter().filter(|setting| effect(setting.key.path) != Effect::Restart) {
            self.0.insert(setting.key.path, value(setting));
        }
    }
}

fn value(setting: &Setting) -> (u64, String) {
    (setting.fingerprint, show::value_of(setting))
}

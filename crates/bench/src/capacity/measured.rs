//! The committed figures: what one thing costs, and the command that measured it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Figures of one machine.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Measured {
    /// What it was measured on.
    pub(crate) machine: String,
    /// Year and month.
    pub(crate) date: String,
    figures: BTreeMap<String, Figure>,
}

#[derive(Debug, Clone, Deserialize)]
struct Figure {
    value: f64,
}

impl Measured {
    /// Those that came with this program.
    pub(crate) fn committed() -> Result<Self> {
        serde_json::from_str(include_str!("../../measured.json"))
            .context("measured.json is not what it should be")
    }

    /// The figure of that name.
    pub(crate) fn get(&self, name: &str) -> Result<f64> {
        let figure = self.figures.get(name).with_context(|| format!("measured.json has no {name}"))?;
        Ok(figure.value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_committed_figure_is_a_positive_number() {
        let measured = Measured::committed().unwrap();
        assert!(measured.figures.len() > 8);
        for (name, figure) in measured.figures {
            assert!(figure.value.is_finite() && figure.value > 0.0, "{name}");
        }
    }
}

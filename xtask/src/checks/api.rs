//! The libraries' public API, as recorded under `docs/api/`: a change to it must be meant.
//!
//! rustdoc's JSON is listed one item a line, in a fixed order, so that a difference reads like a diff. Blanket, automatic
//! and derived trait implementations are left out: they say nothing that the item does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use public_api::Builder;

use crate::context::Context;
use crate::report::Notes;
use crate::step::{Log, minutes};
use crate::wrapper;

/// The crates that other people build on.
const LIBRARIES: [&str; 7] = [
    "outspoke-auth",
    "outspoke-bus",
    "outspoke-client",
    "outspoke-hub",
    "outspoke-protocol",
    "outspoke-store",
    "outspoke-websocket",
];

/// Compares each library with its record.
pub(super) fn run(ctx: &Context) -> Result<Notes> {
    document(ctx)?;
    let mut differences = Vec::new();
    for library in LIBRARIES {
        let recorded = fs::read_to_string(record(ctx, library)).unwrap_or_default();
        differences.extend(difference(library, &recorded, &listing(ctx, library)?));
    }
    if differences.is_empty() {
        return Ok(Notes::new());
    }
    bail!(
        "{}\nthe public API differs from docs/api: if that is meant, run `cargo xtask api --bless`, \
         commit the files and say it in CHANGELOG.md",
        differences.join("\n")
    )
}

/// Records each library as it is.
pub(crate) fn bless(ctx: &Context) -> Result<()> {
    document(ctx)?;
    for library in LIBRARIES {
        let path = record(ctx, library);
        fs::create_dir_all(path.parent().context("a record lies in a folder")?)?;
        fs::write(&path, listing(ctx, library)?)?;
        println!("wrote {}", ctx.shorten(&path).display());
    }
    Ok(())
}

fn record(ctx: &Context, library: &str) -> PathBuf {
    ctx.root.join("docs/api").join(format!("{library}.txt"))
}

/// Makes rustdoc write what it knows as JSON. The whole workspace at once, as for the docs: the dependencies are compiled
/// for both together.
fn document(ctx: &Context) -> Result<()> {
    let mut doc = ctx.cargo("doc");
    doc.args(["--workspace", "--no-deps", "--lib"]);
    wrapper::document_as_json(&mut doc)?;
    Log::new(ctx, "api")?.run(&mut doc, minutes(15)).map(drop)
}

/// One public item a line.
fn listing(ctx: &Context, library: &str) -> Result<String> {
    let json = ctx.target.join("doc").join(format!("{}.json", library.replace('-', "_")));
    let api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .include_function_parameter_names(true)
        .build()
        .with_context(|| {
            format!("cannot read what rustdoc says of {library}; the check is made for Rust 1.95")
        })?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// The lines that only one of the two has, as a diff shows them.
fn difference(library: &str, recorded: &str, found: &str) -> Vec<String> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (recorded.lines().collect(), found.lines().collect());
    let gone = old.difference(&new).map(|line| format!("{library}: - {line}"));
    gone.chain(new.difference(&old).map(|line| format!("{library}: + {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_difference_names_what_went_and_what_came() {
        let found = difference("hub", "pub fn a()\npub fn b()\n", "pub fn a()\npub fn c()\n");
        assert_eq!(found, ["hub: - pub fn b()", "hub: + pub fn c()"]);
    }

    #[test]
    fn api_without_difference_is_silent() {
        assert_eq!(difference("hub", "pub fn a()\n", "pub fn a()\n"), [""; 0]);
    }
}

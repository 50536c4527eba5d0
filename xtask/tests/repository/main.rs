//! The house rules, as tests: what holds in this repository and no compiler checks.
//!
//! `docs/architecture.md` states the same facts in prose. Everything here reads files and `cargo metadata`; nothing is
//! built. A rule that has become wrong is changed here and there together.

#![allow(clippy::unwrap_used)]

mod arrows;
mod book;
mod chart;
mod monitoring;
mod never;
mod quickstart;
mod text;
mod tree;

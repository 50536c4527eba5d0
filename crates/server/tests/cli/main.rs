//! The command line as people and scripts meet it: the real binary, against a real server.
//!
//! Every run has an environment of its own, with its home in a folder of the test: nobody's contexts, keys or settings.

#![allow(clippy::unwrap_used)]

mod docs;
mod exec;
mod markdown;
mod pages;
mod reference;
mod slow;
mod support;
mod tail;
mod tutorial;
mod verbs;

//! The Outspoke server: configuration, command line, and the `outspoke` binary.
//!
//! The binary is wiring: [`cli`] reads the command line, [`config`] merges the settings, [`logging`] and [`limits`]
//! prepare the process, [`storage`] opens the stores, [`serve`] listens until it is told to stop;
//! `reload` reads the settings again meanwhile. What goes wrong on
//! the way ends in [`exit`] as one message with a cure and a documented exit code. Only this crate reads files, flags
//! and the environment; the hub below it is handed typed values.

pub mod banner;
pub mod cli;
pub mod config;
pub mod exit;
mod http;
pub mod limits;
mod log_level;
pub mod logging;
mod metrics;
mod otel;
pub(crate) mod reload;
pub mod serve;
pub mod startup;
pub mod storage;

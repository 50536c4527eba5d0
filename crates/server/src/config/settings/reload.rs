//! `reload.*`: whether the server looks for another configuration by itself.

use std::time::Duration;

use super::super::kind::Time;
use super::super::table::section;

section! {
    /// Reading the configuration again while the server runs. SIGHUP and `outspoke config reload` do it at any time; see
    /// docs/operating/reload.md.
    Reload at "reload" {
        /// How often the server looks whether the configuration file, or a file that it names, has changed. It reads the
        /// configuration again once the files have been the same for two looks.
        watch: Duration as Time = "0" {
            range: Some(("100ms", "1h")),
            zero: Some("it does not look"),
        }
    }
}

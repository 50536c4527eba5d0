//! `admin.*`: the page for operators, and where it is.

use super::super::kind::{AddressOrNone, Flag};
use super::super::table::section;
use super::ListenAddr;

section! {
    /// The page for operators at /admin; see docs/operating/admin.md. It can do what the key can do with which somebody signs in:
    /// without api.keys nobody can.
    Admin at "admin" {
        /// Serve it, where server.page and api.enabled are on.
        enabled: bool as Flag = "true" {}

        /// Address of a listener of its own for operators, such as "127.0.0.1:8081" or one of a private network: their pages, and the
        /// whole HTTP API. server.addr then answers neither the pages nor what is about servers (nodes, configuration, log, metrics,
        /// audit). It speaks TLS if server.addr does. "" for none: everything is at server.addr.
        addr: Option<ListenAddr> as AddressOrNone = "" {}
    }
}

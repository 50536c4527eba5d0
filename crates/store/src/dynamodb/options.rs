//! What is configured about the table.

use std::fmt;
use std::time::Duration;

/// Which table, and how to reach it.
#[derive(Clone)]
pub struct DynamoOptions {
    /// The table's name. Default: `outspoke`.
    pub table: String,
    /// The region; `None`: as Amazon's own tools find it.
    pub region: Option<String>,
    /// Another address than Amazon's: a stand-in, or a private endpoint.
    pub endpoint: Option<String>,
    /// The access key's id and secret; `None`: as Amazon's own tools find them (environment, profile, role of the
    /// machine).
    pub access_key: Option<(String, String)>,
    /// Whether to make the table if it is not there, billed by request. Default: yes.
    pub create_table: bool,
    /// How long anything may take before it is given up. Default: 5 s.
    pub timeout: Duration,
}

impl Default for DynamoOptions {
    fn default() -> Self {
        Self {
            table: "outspoke".to_owned(),
            region: None,
            endpoint: None,
            access_key: None,
            create_table: true,
            timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for DynamoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoOptions")
            .field("table", &self.table)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("access_key", &self.access_key.as_ref().map(|(id, _)| (id, "***")))
            .field("create_table", &self.create_table)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_shown_without_the_secret() {
        let access_key = Some(("AKIA".to_owned(), "hunter2".to_owned()));
        let shown = format!("{:?}", DynamoOptions { access_key, ..DynamoOptions::default() });
        assert!(shown.contains("AKIA") && !shown.contains("hunter2"), "{shown}");
    }
}

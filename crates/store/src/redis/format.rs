//! The mark that says how the data is laid out: looked at with each new connection, so before anything is written over it.
//!
//! Data without a mark is of the first format, whose builds wrote none; it gets one. A newer build that lays data out otherwise
//! raises the number when it begins to; from then on builds that do not know it refuse with words and change nothing.

use super::errors;
use super::link::Link;
use super::options::Target;
use super::scripts::Call;
use crate::StoreError;

/// The format that this version writes and the newest that it reads.
const FORMAT: u64 = 1;

/// Refuses a store of a newer format, and marks one that has no mark.
pub(super) async fn check(link: &Link, key: &str, target: &Target) -> Result<(), StoreError> {
    let failed = |error: redis::RedisError| errors::cannot_connect(&error, target);
    // A second look only where another hub was faster.
    for _ in 0..2 {
        let found = link.call::<Option<Vec<u8>>>(&Call::command("GET").arg(key)).await.map_err(failed)?;
        if let Some(found) = found {
            return judge(&found, key, target);
        }
        match link.call::<Option<String>>(&Call::command("SET").arg(key).arg(FORMAT).arg("NX")).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            // A replica, a full memory: what is written to it next says so, and what is there can be read.
            Err(error) if errors::is_answer(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn judge(found: &[u8], key: &str, target: &Target) -> Result<(), StoreError> {
    let (place, text) = (target.place(), String::from_utf8_lossy(found));
    match text.parse::<u64>() {
        Ok(1..=FORMAT) => Ok(()),
        Ok(newer @ FORMAT..) => Err(StoreError::Unavailable(format!(
            "the data in Redis at {place} is of format {newer}, made by a newer Outspoke; this one knows up to {FORMAT}: use the \
             newer one, or another `prefix`"
        ))),
        _ => Err(StoreError::Damaged(format!(
            "the key {key} in Redis at {place} is not what Outspoke writes there: use another `prefix`, or restore a backup"
        ))),
    }
}

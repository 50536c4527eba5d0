//! The mark that says how the data is laid out: an item looked at before the table's first use, so before anything is written.
//!
//! A table without a mark is of the first format, whose builds wrote none; it gets one. A newer build that lays data out otherwise
//! raises the number when it begins to; from then on builds that do not know it refuse with words and change nothing.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;

use super::client::{Table, code};
use super::items::{self, Item};
use crate::StoreError;

/// The format that this version writes and the newest that it reads.
const FORMAT: u64 = 1;
/// The attribute with the number.
const NUMBER: &str = "format";

/// Refuses a table of a newer format, and marks one that has no mark.
pub(super) async fn check(table: &Table, client: &Client) -> Result<(), StoreError> {
    let key = items::format().item();
    let get = client.get_item().table_name(table.name()).set_key(Some(key.clone())).consistent_read(true);
    if let Some(found) = get.send().await.map_err(|error| table.explained(&error))?.item {
        return judge(&found, table.name());
    }
    // Another hub may be faster, and newer: what is there by then stays, and is what comes back.
    let mark = client
        .update_item()
        .table_name(table.name())
        .set_key(Some(key))
        .update_expression("SET #number = if_not_exists(#number, :number)")
        .expression_attribute_names("#number", NUMBER)
        .expression_attribute_values(":number", items::number(FORMAT))
        .return_values(ReturnValue::AllNew);
    match mark.send().await {
        Ok(marked) => judge(&marked.attributes.unwrap_or_default(), table.name()),
        // Who may only read can read; what it writes next says what it may not.
        Err(error) if code(&error) == Some("AccessDeniedException") => Ok(()),
        Err(error) => Err(table.explained(&error)),
    }
}

fn judge(mark: &Item, table: &str) -> Result<(), StoreError> {
    match items::read_number::<u64>(mark, NUMBER) {
        Some(1..=FORMAT) => Ok(()),
        Some(newer @ FORMAT..) => Err(StoreError::Unavailable(format!(
            "the data in DynamoDB's table {table} is of format {newer}, made by a newer Outspoke; this one knows up to \
             {FORMAT}: use the newer one, or another `table`"
        ))),
        _ => Err(StoreError::Damaged(format!(
            "the format of DynamoDB's table {table} is not what Outspoke writes there: use another `table`, or restore a backup"
        ))),
    }
}

//! The contract's limits, checked before anything is sent.

use crate::{Batch, FactWrite, StoreError};

const KEY_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Refuses a batch that breaks a limit of the contract.
pub(crate) fn check(batch: &Batch) -> Result<(), StoreError> {
    for append in &batch.appends {
        if append.epoch == 0 {
            return Err(StoreError::Invalid("epoch 0 means a log that does not exist".into()));
        }
        for key in append.records.iter().filter_map(|record| record.key.as_ref()) {
            within("the key of a record", key.len(), KEY_BYTES_MAX)?;
        }
    }
    for fact in &batch.facts {
        let (FactWrite::Set(key, value) | FactWrite::Max(key, value)) = fact else { continue };
        within("the name of a fact", key.name.len(), NAME_BYTES_MAX)?;
        within("the value of a fact", value.len(), VALUE_BYTES_MAX)?;
    }
    Ok(())
}

fn within(what: &str, bytes: usize, bytes_max: usize) -> Result<(), StoreError> {
    if bytes > bytes_max {
        return Err(StoreError::Invalid(format!("{what} has {bytes} bytes, more than {bytes_max}")));
    }
    Ok(())
}

//! Looking at what was read before it is believed.

use crate::{Direction, LogKey, Page, Range, StoreError};

/// Records that somebody removed behind our back must not go unnoticed.
pub(crate) fn without_holes(log: &LogKey, page: Page, range: Range) -> Result<Page, StoreError> {
    let (state, records) = (&page.state, &page.records);
    let (begin, whole) = match range.direction {
        Direction::After(offset) => {
            let whole = records.windows(2).all(|pair| pair[1].offset == pair[0].offset + 1);
            (offset.saturating_add(1).max(state.first), whole)
        }
        Direction::Before(offset) => {
            let whole = records.windows(2).all(|pair| pair[1].offset + 1 == pair[0].offset);
            (offset.saturating_sub(1).min(state.head), whole)
        }
    };
    let expected = range.records_max > 0 && begin > 0 && (state.first..=state.head).contains(&begin);
    if records.first().map(|record| record.offset) == expected.then_some(begin) && whole {
        return Ok(page);
    }
    Err(StoreError::Damaged(format!("records are missing around offset {begin} in {log}")))
}

//! Walking through everything by the contract's own methods, for back ends that cannot search or check by themselves.

use ecow::EcoString;

use crate::{AuthoredPage, Direction, Log, LogKey, LogState, Place, Range, Store, StoreError, VerifyReport};

/// How much is read at once.
const PAGE: Range = Range { direction: Direction::After(0), records_max: 1_000, bytes_max: 4 * 1024 * 1024 };
/// How many logs are listed at once.
const LOGS: usize = 256;

/// An author's records in a tenant's logs.
pub(crate) async fn authored(
    store: &dyn Store,
    tenant: &str,
    author: &str,
    from: Option<Place>,
    records_max: usize,
) -> Result<AuthoredPage, StoreError> {
    let mut page = AuthoredPage::default();
    // The first log is that of the place, if it still exists.
    let mut rooms: Vec<EcoString> = from.iter().map(|place| place.room.clone()).collect();
    let mut after: Option<EcoString> = None;
    loop {
        for room in rooms.drain(..) {
            let first = from.as_ref().filter(|place| place.room == room).map_or(0, |place| place.offset);
            let log = LogKey { tenant: tenant.into(), room };
            if authored_in(store, &log, author, first, records_max, &mut page).await? {
                return Ok(page);
            }
            after = Some(log.room);
        }
        let next = store.logs(tenant, after.as_deref(), LOGS).await?;
        if next.logs.is_empty() {
            return Ok(page);
        }
        rooms.extend(next.logs.into_iter().map(|log| log.key.room));
    }
}

/// Adds an author's records in one log to a page, and says whether it is full.
async fn authored_in(
    store: &dyn Store,
    log: &LogKey,
    author: &str,
    first: u64,
    records_max: usize,
    page: &mut AuthoredPage,
) -> Result<bool, StoreError> {
    let mut after = first.saturating_sub(1);
    loop {
        let read = store.range(log, Range { direction: Direction::After(after), ..PAGE }).await?;
        let Some(last) = read.records.last() else { return Ok(false) };
        after = last.offset;
        for record in read.records.into_iter().filter(|record| record.author == author) {
            if page.records.len() == records_max {
                page.next = Some(Place { room: log.room.clone(), offset: record.offset });
                return Ok(true);
            }
            page.records.push((log.room.clone(), record));
        }
    }
}

/// Reads and checks every log.
pub(crate) async fn verify_logs(store: &dyn Store) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    for tenant in store.tenants().await? {
        let mut after: Option<EcoString> = None;
        loop {
            let page = store.logs(&tenant, after.as_deref(), LOGS).await?;
            for log in &page.logs {
                report.logs += 1;
                verify_log(store, log, &mut report).await?;
            }
            after = page.logs.last().map(|log| log.key.room.clone());
            if !page.more {
                break;
            }
        }
    }
    Ok(report)
}

/// What the records of a log say together.
#[derive(Default)]
struct Seen {
    ordinal: Option<u64>,
    bytes: u64,
}

async fn verify_log(store: &dyn Store, log: &Log, report: &mut VerifyReport) -> Result<(), StoreError> {
    let (mut after, mut seen) = (log.state.first.saturating_sub(1), Seen::default());
    loop {
        let range = Range { direction: Direction::After(after), ..PAGE };
        let page = match store.range(&log.key, range).await {
            Ok(page) => page,
            Err(StoreError::Damaged(text)) => {
                report.problems.push(text);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for record in &page.records {
            if seen.ordinal.is_some_and(|before| !(before..=before + 1).contains(&record.ordinal)) {
                let problem = format!("{}: the ordinals are out of order at {}", log.key, record.offset);
                report.problems.push(problem);
            }
            seen.ordinal = Some(record.ordinal);
            seen.bytes += record.payload.len() as u64;
            report.records += 1;
        }
        match page.records.last() {
            Some(last) => after = last.offset,
            None => {
                // Only if nothing was written meanwhile must the sums be equal.
                if page.state == log.state {
                    report.problems.extend(seen.differs(&log.key, &log.state));
                }
                return Ok(());
            }
        }
    }
}

impl Seen {
    fn differs(&self, log: &LogKey, state: &LogState) -> Option<String> {
        if self.bytes != state.bytes {
            return Some(format!("{log}: it says {} bytes, its records have {}", state.bytes, self.bytes));
        }
        let ordinal = self.ordinal.filter(|&last| last != state.ordinal)?;
        Some(format!("{log}: it says ordinal {}, its last record {ordinal}", state.ordinal))
    }
}

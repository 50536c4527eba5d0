//! What every back end must do, as tests: one function per fact, run over a [`Stage`] that makes stores.
//!
//! A back end's test file has one line, [`store_suite!`](crate::store_suite), which makes a test of each fact. The facts panic when
//! they do not hold; they rely on nothing but the contract, and use the times of the records, never a clock. What a
//! back end promises beyond the contract (crashes, damage, a full disk) is in its own tests.

#![allow(clippy::unwrap_used, reason = "a fact fails by panicking")]

mod facts;
mod logs;
mod model;
mod names;
#[cfg(target_os = "linux")]
pub mod powerloss;
mod repeats;
mod walks;
mod writers;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ecow::EcoString;

use crate::{
    Append, Appended, Batch, Direction, FactKey, FactWrite, LogKey, LogState, Outcome, Page, Range, Record,
    Space, Store, Stored,
};

pub use facts::*;
pub use logs::*;
pub use model::*;
pub use names::*;
pub use repeats::*;
pub use walks::*;
pub use writers::*;

/// A store, in time.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send + 'a>>;

/// Where the facts get their stores from.
pub trait Stage: Send + Sync {
    /// A store with nothing in it that shares nothing with any other.
    fn fresh(&self) -> Opening<'_>;

    /// Another store of the same place, as another hub has it. Only for stores that [are shared](Store::is_shared); without one
    /// the facts about several writers hold by default.
    fn second<'a>(&'a self, store: &Arc<dyn Store>) -> Second<'a> {
        let _ = store;
        Box::pin(std::future::ready(None))
    }

    /// Closes a store of this stage and opens the same one again. What keeps nothing gives the store back as it is.
    fn reopen(&self, store: Arc<dyn Store>) -> Opening<'_> {
        Box::pin(std::future::ready(store))
    }
}

/// A store, if there is one, in time.
pub type Second<'a> = Pin<Box<dyn Future<Output = Option<Arc<dyn Store>>> + Send + 'a>>;

/// Makes a test of each fact of the contract: `store_suite!(MyStage::new());`. The expression is evaluated per test.
///
/// The tests are `#[tokio::test]`s on two threads. After a semicolon attributes for all of them may follow:
/// `store_suite!(MyStage::new(); #[ignore = "needs a server"]);`.
#[macro_export]
macro_rules! store_suite {
    ($stage:expr $(; $(#[$attribute:meta])*)?) => {
        $crate::store_suite! { @facts ($stage) ($($(#[$attribute])*)?)
            offsets_begin_at_one_and_have_no_holes
            several_appends_to_one_log_in_one_batch_follow_each_other
            logs_of_one_batch_are_independent
            records_come_back_as_they_were
            ordinals_count_only_what_counts
            epoch_is_given_by_the_first_append_and_kept
            append_without_records_makes_no_log
            an_invalid_part_refuses_the_whole_batch
            ranges_go_forwards
            ranges_go_backwards
            ranges_keep_their_record_bound
            ranges_keep_their_byte_bound_but_give_the_first_record
            range_of_an_unknown_log_is_empty
            states_come_in_the_order_asked
            replaces_change_payload_and_author_only
            replaces_of_a_repeated_append_are_not_done_again
            replaces_of_what_is_trimmed_or_not_yet_there_are_passed_over
            trim_by_count_keeps_the_newest
            trim_by_bytes_keeps_the_newest
            trim_by_age_keeps_what_is_exactly_that_old
            trim_without_limits_keeps_everything
            trim_to_nothing_then_append_goes_on
            trim_of_an_unknown_log_makes_none
            drop_log_begins_a_new_epoch
            large_payloads_come_back_whole
            everything_is_there_after_reopening
            health_is_writable_and_says_what_it_survives
            verify_finds_nothing_wrong
            compact_loses_nothing
            restore_puts_records_back_where_they_were
            restore_of_an_empty_log_keeps_its_place
            restore_refuses_what_does_not_follow
            a_repeated_key_appends_nothing
            a_repeated_id_appends_nothing
            repeats_within_one_batch_append_nothing
            repeats_are_known_across_logs_only_by_their_own_log
            repeats_are_known_after_reopening
            repeats_are_known_after_trimming
            repeats_are_known_ten_thousand_records_later
            repeats_are_known_five_minutes_later
            repeats_are_known_when_ids_come_in_any_order
            a_repeated_batch_is_answered_as_the_first_time
            a_partly_repeated_batch_appends_the_rest
            repeats_of_a_dropped_log_are_new
            facts_are_set_and_read
            facts_max_moves_only_forward
            facts_are_deleted
            facts_of_one_batch_are_done_in_their_order
            facts_have_their_largest_sizes
            facts_are_scanned_in_the_order_of_their_bytes
            facts_are_scanned_by_prefix
            facts_are_scanned_page_by_page
            facts_stay_when_their_log_is_dropped
            odd_names_are_told_apart
            tenants_are_separated
            long_names_are_kept
            logs_are_listed_page_by_page
            tenants_are_listed
            authored_finds_an_authors_records_page_by_page
            authored_finds_nothing_after_erasure
            readers_never_see_a_part_of_a_batch
            any_operations_agree_with_a_naive_model
            batch_after_its_time_writes_nothing
            batch_in_its_time_is_written
            repeats_are_answered_after_their_time
            replace_of_what_says_otherwise_is_a_conflict
            replace_of_what_says_as_expected_is_done
            replace_of_a_repeated_append_is_no_conflict
            append_to_a_log_of_another_epoch_is_fenced
            two_writers_at_once_leave_no_hole
            two_writers_that_change_one_record_lose_no_change
        }
    };
    (@facts $stage:tt $attributes:tt $($fact:ident)*) => {
        $( $crate::store_suite! { @fact $stage $attributes $fact } )*
    };
    (@fact ($stage:expr) ($(#[$attribute:meta])*) $fact:ident) => {
        $(#[$attribute])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fact() {
            let stage = $stage;
            $crate::suite::$fact(&stage).await;
        }
    };
}

/// When the first record of every fact was accepted.
const START: i64 = 1_800_000_000_000;

/// The epoch that the facts give their logs.
const EPOCH: u64 = 7;

const SPACE: Space = Space("suite");
const OTHER_SPACE: Space = Space("suite2");

fn log(room: &str) -> LogKey {
    log_of("", room)
}

fn log_of(tenant: &str, room: &str) -> LogKey {
    LogKey { tenant: tenant.into(), room: room.into() }
}

/// A record of an author, without a key, accepted `n` milliseconds after the start.
fn record(n: u64) -> Record {
    Record {
        id: (u128::from(n) << 64) | 0x5eed,
        key: None,
        author: "ada".into(),
        ts: START + n as i64,
        counted: true,
        payload: Bytes::from(format!("payload {n}")),
    }
}

fn keyed(n: u64, key: &str) -> Record {
    Record { key: Some(Bytes::copy_from_slice(key.as_bytes())), ..record(n) }
}

fn records(numbers: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    numbers.map(record).collect()
}

fn append(log: &LogKey, records: Vec<Record>) -> Append {
    Append { log: log.clone(), epoch: EPOCH, records, replaces: Vec::new(), fence: None }
}

fn appends(appends: Vec<Append>) -> Batch {
    Batch { appends, ..Batch::default() }
}

fn facts_batch(facts: Vec<FactWrite>) -> Batch {
    Batch { facts, ..Batch::default() }
}

/// Commits one append and gives its answer.
async fn put(store: &dyn Store, log: &LogKey, records: Vec<Record>) -> Appended {
    let answer = store.commit(&appends(vec![append(log, records)])).await.unwrap();
    assert_eq!(answer.len(), 1, "one answer for one append");
    answer.into_iter().next().unwrap()
}

/// Appends `numbers` in batches of a thousand.
async fn fill(store: &dyn Store, log: &LogKey, numbers: std::ops::RangeInclusive<u64>) {
    let mut next = *numbers.start();
    while next <= *numbers.end() {
        let last = (next + 999).min(*numbers.end());
        put(store, log, records(next..=last)).await;
        next = last + 1;
    }
}

async fn set(store: &dyn Store, writes: Vec<FactWrite>) {
    store.commit(&facts_batch(writes)).await.unwrap();
}

fn fact(tenant: &str, space: Space, name: &str) -> FactKey {
    FactKey { tenant: tenant.into(), space, name: Bytes::copy_from_slice(name.as_bytes()) }
}

fn whole(direction: Direction) -> Range {
    Range { direction, records_max: usize::MAX, bytes_max: usize::MAX }
}

async fn read(store: &dyn Store, log: &LogKey, range: Range) -> Page {
    store.range(log, range).await.unwrap()
}

/// Everything that a log has.
async fn all(store: &dyn Store, log: &LogKey) -> Vec<Stored> {
    read(store, log, whole(Direction::After(0))).await.records
}

async fn state(store: &dyn Store, log: &LogKey) -> Option<LogState> {
    store.states(std::slice::from_ref(log)).await.unwrap()[0]
}

fn offsets(records: &[Stored]) -> Vec<u64> {
    records.iter().map(|record| record.offset).collect()
}

/// What a record is answered with when it is new.
fn first_outcome(offset: u64, record: &Record) -> Outcome {
    Outcome { offset, ordinal: offset, id: record.id, ts: record.ts, duplicate: false }
}

fn repeated(first: &[Outcome]) -> Vec<Outcome> {
    first.iter().map(|outcome| Outcome { duplicate: true, ..*outcome }).collect()
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn texts(names: &[&str]) -> Vec<EcoString> {
    names.iter().map(|name| EcoString::from(*name)).collect()
}

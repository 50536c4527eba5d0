//! Time as the machine lets programs have it.
//!
//! What is promised within seconds is promised by the program, not by a machine whose host does something else for five of them,
//! or whose disk writes down what a build has left before it syncs anything else. A thread takes ten small steps a second, each of
//! which sleeps and syncs a file; a step that takes much longer is a standstill of the machine, and is counted as a short one.

use std::fs::File;
use std::future::Future;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a step sleeps.
const STEP: Duration = Duration::from_millis(100);
/// What a step may take and still be counted in full.
const STEP_MAX: Duration = Duration::from_millis(200);

/// Microseconds, counted since the first question.
static COUNTED: AtomicU64 = AtomicU64::new(0);
static CLOCK: OnceLock<()> = OnceLock::new();

/// The time for which this machine has run so far, in steps of a tenth of a second: less than went by if it stood still, or its
/// disk did. Only differences mean something.
///
/// # Panics
/// There is no folder for temporary files.
#[must_use]
pub fn pace() -> Duration {
    CLOCK.get_or_init(|| {
        let mut file = tempfile::tempfile().expect("a folder for temporary files");
        let mut take = move || {
            thread::sleep(STEP);
            sync(&mut file);
        };
        thread::spawn(move || {
            let mut begun = std::time::Instant::now();
            loop {
                begun = step(&COUNTED, begun, &mut take);
            }
        });
    });
    Duration::from_micros(COUNTED.load(Ordering::Relaxed))
}

/// Takes a step that began at `begun`, counts it, as a short one if it was none, and returns when it ended.
fn step(counted: &AtomicU64, begun: std::time::Instant, take: impl FnOnce()) -> std::time::Instant {
    take();
    let taken = begun.elapsed();
    counted.fetch_add(taken.min(STEP_MAX).as_micros() as u64, Ordering::Relaxed);
    begun + taken
}

/// As a store does after each batch. A disk that is full stands still for nobody.
fn sync(file: &mut File) {
    let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(b"x"));
    let _ = written.and_then(|()| file.sync_data());
}

/// Waits as `tokio::time::timeout` does, but for a time in which the machine ran: see [`pace`].
///
/// Returns `None` if it has not come in time.
pub async fn within<T>(limit: Duration, wanted: impl Future<Output = T>) -> Option<T> {
    let (begin, begun) = (pace(), Instant::now());
    let passed = async {
        while begun.elapsed() < limit || pace().saturating_sub(begin) < limit {
            sleep(STEP / 4).await;
        }
    };
    tokio::select! {
        biased;
        outcome = wanted => Some(outcome),
        () = passed => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn what_comes_in_time_is_returned_and_what_does_not_is_not() {
        assert_eq!(within(LIMIT, ready(7)).await, Some(7));
        let begun = Instant::now();
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
        assert!(begun.elapsed() >= LIMIT);
    }

    #[test]
    fn standstill_counts_as_one_short_step_and_a_step_as_what_it_took() {
        let counted = AtomicU64::new(0);
        let begun = std::time::Instant::now();
        let ended = step(&counted, begun, || thread::sleep(STEP_MAX * 3));
        assert!(ended - begun >= STEP_MAX * 3);
        assert_eq!(u128::from(counted.swap(0, Ordering::Relaxed)), STEP_MAX.as_micros());
        let taken = step(&counted, ended, || ()) - ended;
        assert_eq!(u128::from(counted.into_inner()), taken.min(STEP_MAX).as_micros());
    }

    #[tokio::test]
    async fn pace_goes_on_and_is_never_ahead_of_the_clock() {
        let (begin, begun) = (pace(), Instant::now());
        while pace() == begin {
            sleep(STEP / 4).await;
        }
        let (passed, went_by) = (pace() - begin, begun.elapsed());
        assert!(passed <= went_by + STEP_MAX, "{passed:?} of {went_by:?}");
    }
}

//! Waiting that does not count the time in which the machine stood still.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often it is looked at the clock, and how much later than that a look may come before it is a standstill.
const LOOK: Duration = Duration::from_millis(10);

/// Waits as `tokio::time::timeout` does, but counts at most 20 ms of every look at the clock, which comes every 10 ms: a
/// machine that does not run anything for five seconds, because its host does something else, has used none of them for
/// what is waited for.
///
/// Returns `None` if it has not come in time.
pub async fn within<T>(limit: Duration, wanted: impl Future<Output = T>) -> Option<T> {
    let passed = async {
        let (mut counted, mut looked) = (Duration::ZERO, Instant::now());
        while counted < limit {
            sleep(LOOK).await;
            counted += looked.elapsed().min(2 * LOOK);
            looked = Instant::now();
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

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn what_comes_in_time_is_returned_and_what_does_not_is_not() {
        assert_eq!(within(LIMIT, ready(7)).await, Some(7));
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn standstill_does_not_count() {
        let late = async {
            sleep(Duration::from_millis(50)).await;
            // The whole thread: nothing else is polled meanwhile.
            std::thread::sleep(4 * LIMIT);
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(within(LIMIT, late).await, Some(()));
    }
}

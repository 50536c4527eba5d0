//! The time by which things are forgotten for good: a clock that a leap of the machine's does not carry away.
//!
//! What is forgotten too early is gone for every node, what is forgotten too late costs a little memory. So this one
//! follows the wall clock back at once, but forth at twice the speed of time at most, from one look at it to the next. A
//! machine that was suspended is caught up with.
//!
//! Rulings go by it: together with how long one is remembered after its end, none that holds for up to a day is forgotten
//! before its end, however far and for however long the wall clock has leapt ahead since it was made; nor is one that
//! holds for longer, if the wall clock is put right within a day. So do stored messages that have an age: a leap takes at
//! most those that are as near to it as the keeper's last look is long ago, which is an hour or so.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use outspoke_protocol::Timestamp;
use tokio::time::Instant;

/// When it was last asked, and what it said.
#[derive(Debug)]
pub(crate) struct CarefulClock(Mutex<(Instant, Timestamp)>);

impl Default for CarefulClock {
    fn default() -> Self {
        Self::new(Instant::now(), Timestamp::from_system_time(SystemTime::now()))
    }
}

impl CarefulClock {
    fn new(now: Instant, wall: Timestamp) -> Self {
        Self(Mutex::new((now, wall)))
    }

    /// What time it is, if the wall clock says `wall`.
    pub(crate) fn follow(&self, now: Instant, wall: Timestamp) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(last.0).as_millis();
        let farthest = last.1.as_millis().saturating_add(i64::try_from(2 * passed).unwrap_or(i64::MAX));
        *last = (now, Timestamp::from_millis(farthest.min(wall.as_millis())));
        last.1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[tokio::test]
    async fn leaps_back_are_followed_at_once_and_leaps_forth_at_twice_the_speed() {
        let began = Instant::now();
        let clock = CarefulClock::new(began, at(1000));
        let follow = |after: u64, wall| clock.follow(began + Duration::from_secs(after), at(wall));
        assert_eq!(follow(30, 1030), at(1030));
        assert_eq!(follow(60, 9000), at(1090), "it has leapt");
        assert_eq!(follow(90, 1090), at(1090), "it is right again");
        assert_eq!(follow(120, 500), at(500));
        assert_eq!(follow(150, 1150), at(560));
        assert_eq!(follow(1150, 2150), at(2150), "in time it is believed");
    }
}

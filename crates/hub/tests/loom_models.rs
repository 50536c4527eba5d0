//! What threads share in the hub, in every order in which they can meet.
//!
//! Run by `cargo xtask test loom`, which compiles the hub with `--cfg loom`.

#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use outspoke_hub::models::{Bucket, Budget, Congestion, Inbox, Moment, Rate, Rejected};

/// Counts its wakes, and lets a thread wait for one as a runtime does.
#[derive(Debug, Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Alarm {
    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn inbox(bytes_max: usize) -> (Arc<Inbox<u32>>, Arc<Congestion>) {
    let congestion = Arc::new(Congestion::default());
    (Arc::new(Inbox::new(bytes_max, Arc::clone(&congestion))), congestion)
}

/// Takes like a shard: sleeps only when told that it may, and wakes only when its alarm has rung since.
fn take_like_a_shard(inbox: &Inbox<u32>, count: usize) -> Vec<u32> {
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    let mut taken = Vec::new();
    let mut batch = Vec::new();
    while taken.len() < count {
        let rings = alarm.rings();
        match inbox.poll_ready(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                inbox.stay_awake();
                inbox.take(&mut batch);
                taken.append(&mut batch);
            }
            Poll::Pending => {
                // A wake that is lost would keep this loop for ever, which loom reports.
                while alarm.rings() == rings {
                    thread::yield_now();
                }
            }
        }
    }
    taken
}

/// A lost wake-up would leave commands in a sleeping shard's inbox: its clients would hang until the next one.
#[test]
fn inbox_wakes_its_shard_for_every_command() {
    loom::model(|| {
        let (inbox, _) = inbox(1000);
        let pushers: Vec<_> = (0..2)
            .map(|number| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || inbox.push(number, 1).unwrap())
            })
            .collect();
        let mut taken = take_like_a_shard(&inbox, 2);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
        for pusher in pushers {
            pusher.join().unwrap();
        }
    });
}

/// Of several who queue without waking, one owes the wake, whatever the shard does and others push in between.
#[test]
fn somebody_wakes_the_shard_for_what_was_queued_quietly() {
    loom::model(|| {
        let (inbox, _) = inbox(1000);
        let quiet = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                let owed = [2, 3].map(|number| inbox.push_quietly(number, 1).unwrap());
                if owed.contains(&true) {
                    inbox.wake();
                }
            })
        };
        let loud = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(1, 1).unwrap())
        };
        let mut taken = take_like_a_shard(&inbox, 3);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
        quiet.join().unwrap();
        loud.join().unwrap();
    });
}

/// A nudge says that something beside the queue has changed; missing it would hold publishers back for ever.
#[test]
fn nudge_is_seen_however_it_meets_the_shard_going_to_sleep() {
    loom::model(|| {
        let (inbox, _) = inbox(1000);
        let nudger = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.nudge())
        };
        let alarm = Arc::new(Alarm::default());
        let waker = Waker::from(Arc::clone(&alarm));
        while inbox.poll_ready(&mut Context::from_waker(&waker)).is_pending() {
            let rings = 0;
            while alarm.rings() == rings {
                thread::yield_now();
            }
        }
        nudger.join().unwrap();
    });
}

/// After a shard has ended nothing may be accepted that nobody will ever take.
#[test]
fn closed_inbox_accepts_or_returns_every_command() {
    loom::model(|| {
        let (inbox, _) = inbox(1000);
        let pusher = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(7, 1))
        };
        let left = inbox.close();
        match pusher.join().unwrap() {
            Ok(()) => assert_eq!(left, [7]),
            Err(rejected) => assert_eq!((rejected, left.len()), (Rejected::Closed, 0)),
        }
    });
}

/// A congestion that is not taken back would stop every publisher of the hub.
#[test]
fn congestion_is_over_when_every_inbox_is_taken() {
    loom::model(|| {
        let (inbox, congestion) = inbox(10);
        let pusher = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                inbox.push(1, 8).unwrap();
                inbox.push(2, 8).unwrap();
            })
        };
        let mut batch = Vec::new();
        inbox.take(&mut batch);
        pusher.join().unwrap();
        batch.clear();
        inbox.take(&mut batch);
        assert!(!congestion.is_congested());
    });
}

/// One order for a room on every shard: two publishers append to two inboxes under the room's lock.
#[test]
fn two_shards_see_a_rooms_messages_in_one_order() {
    loom::model(|| {
        let (first, _) = inbox(1000);
        let (second, _) = inbox(1000);
        let room = Arc::new(Mutex::new(0));
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let (first, second, room) = (Arc::clone(&first), Arc::clone(&second), Arc::clone(&room));
                thread::spawn(move || {
                    let mut head = room.lock().unwrap();
                    *head += 1;
                    first.push(*head, 1).unwrap();
                    second.push(*head, 1).unwrap();
                })
            })
            .collect();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        for inbox in [first, second] {
            let mut batch = Vec::new();
            inbox.take(&mut batch);
            assert_eq!(batch, [1, 2]);
        }
    });
}

/// The limit on what waits for a client holds against pushes from several threads and the shard's own releases.
#[test]
fn budget_is_never_reserved_above_its_limit() {
    loom::model(|| {
        let budget = Arc::new(Budget::default());
        budget.charge(4);
        let pushers: Vec<_> = (0..2)
            .map(|_| {
                let budget = Arc::clone(&budget);
                thread::spawn(move || budget.reserve(5, 10).is_ok())
            })
            .collect();
        budget.release(4);
        assert!(budget.used() <= 10);
        let reserved = pushers.into_iter().map(|pusher| pusher.join().unwrap());
        let reserved = reserved.filter(|reserved| *reserved).count();
        assert!(reserved >= 1, "one of two always fits");
        assert_eq!(budget.used(), reserved * 5);
    });
}

/// A limit that threads can overtake together is none: whatever the order, no more than the burst, and what time has freed.
#[test]
fn bucket_lets_no_more_through_than_burst_and_rate_allow() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::default());
        let rate = Rate::per_second(10, 2);
        let passed = move |moments: &[u64], bucket: &Bucket| {
            let asked =
                moments.iter().map(|now| bucket.take(rate, Moment::after(Duration::from_millis(*now))));
            asked.filter(Result::is_ok).count()
        };
        let threads: Vec<_> = [[0, 100], [0, 50]]
            .into_iter()
            .map(|moments| {
                let bucket = Arc::clone(&bucket);
                thread::spawn(move || passed(&moments, &bucket))
            })
            .collect();
        let here = passed(&[0], &bucket);
        let all = here + threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
        // Two at once, and one more in a tenth of a second.
        assert!((2..=3).contains(&all), "{all}");
    });
}

/// Nor may a refusal of one thread take what another was given.
#[test]
fn bucket_gives_everything_that_is_free_to_somebody() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::default());
        let rate = Rate::per_second(1, 2);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let bucket = Arc::clone(&bucket);
                thread::spawn(move || bucket.take(rate, Moment::after(Duration::ZERO)).is_ok())
            })
            .collect();
        let here = bucket.take(rate, Moment::after(Duration::ZERO)).is_ok();
        let passed =
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|passed| *passed).count();
        assert_eq!(passed + usize::from(here), 2, "three have asked for two places");
        assert!(bucket.take(rate, Moment::after(Duration::ZERO)).is_err());
    });
}

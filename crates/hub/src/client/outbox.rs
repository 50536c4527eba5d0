//! What could not be written to a client at once.
//!
//! Filled by its shard, emptied when the connection takes bytes again; exists only while something waits.
//! Holds encoded frames, never messages. Invariant: the client's `queued` counter is charged with `bytes`.
//! Whether a slow client is dropped is decided in `shard/slow.rs`; here it is only carried out.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::room::RoomId;
use crate::shard::wheel::Tick;

/// Frames waiting for one client.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Entry>,
    /// Bytes of the first entry that are written already.
    written: usize,
    bytes: usize,
    /// The connection took no more bytes: what waits, waits for the client. Until then it waits for its first try.
    pub(crate) stuck: bool,
    /// When that was first so.
    pub(crate) stuck_since: Option<Instant>,
    /// When the client last took bytes, or the outbox was begun.
    pub(crate) progress: Tick,
    /// Messages that were skipped, by room: to be told when the outbox is empty.
    pub(crate) skipped: Vec<Skipped>,
}

/// Some frames that are written or dropped together.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: Bytes,
    pub(crate) origin: Origin,
}

/// What an entry is, for those who drop entries.
#[derive(Debug)]
pub(crate) enum Origin {
    /// An answer, a pong, a close: never dropped.
    Control,
    /// A pushed frame; its sender may be waiting for the outcome. Never dropped.
    Push { written: Option<oneshot::Sender<()>> },
    /// A room's messages.
    Room {
        room: RoomId,
        /// How many messages of the room's log are in it, which follow each other,
        messages: u32,
        /// and the offset of the last of them; 0: there is none.
        last: u64,
        /// What a conflating room compares; zero: nothing.
        key: u64,
    },
}

/// Messages of a room that this client did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) room: RoomId,
    pub(crate) missed: u64,
    /// Nothing of the room is queued until the outbox is empty.
    pub(crate) muted: bool,
    /// Which they were.
    pub(crate) ranges: Ranges,
}

/// Offsets, as ranges of which neighbours are joined. Of very many the last one covers more than it should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: Vec<(u64, u64)>,
    inexact: bool,
}

/// Ranges that are told apart.
const RANGES_MAX: usize = 16;

impl Ranges {
    /// Adds what follows, or what lies within the last.
    pub(crate) fn add(&mut self, first: u64, last: u64) {
        if first == 0 {
            return;
        }
        let full = self.ranges.len() >= RANGES_MAX;
        match self.ranges.last_mut() {
            Some(held) if full || (held.0..=held.1 + 1).contains(&first) => {
                self.inexact |= first > held.1 + 1 || first < held.0;
                *held = (held.0.min(first), held.1.max(last));
            }
            _ => self.ranges.push((first, last)),
        }
    }

    /// Whether an offset is among them; `None`: it may be.
    pub(crate) fn has(&self, offset: u64) -> Option<bool> {
        let within = |(first, last): &(u64, u64)| (*first..=*last).contains(&offset);
        match self.ranges.iter().rposition(within) {
            None => Some(false),
            Some(index) if self.inexact && index + 1 == self.ranges.len() => None,
            Some(_) => Some(true),
        }
    }
}

/// How many slices one write carries.
const SLICES: usize = 16;

impl Outbox {
    pub(crate) fn new(now: Tick) -> Self {
        Self { progress: now, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The connection takes no more bytes for now. Returns whether that is news.
    pub(crate) fn get_stuck(&mut self) -> bool {
        self.stuck_since.get_or_insert_with(Instant::now);
        !std::mem::replace(&mut self.stuck, true)
    }

    /// Whether a message of a room waits here.
    pub(crate) fn holds(&self, of: RoomId, offset: u64) -> bool {
        self.queue.iter().any(|entry| match entry.origin {
            Origin::Room { room, messages, last, .. } => {
                room == of && offset <= last && offset + u64::from(messages) > last
            }
            _ => false,
        })
    }

    /// The first message of a room that waits here.
    pub(crate) fn first_of(&self, of: RoomId) -> Option<u64> {
        self.queue.iter().find_map(|entry| match entry.origin {
            Origin::Room { room, messages, last, .. } if room == of && messages > 0 => {
                Some(last + 1 - u64::from(messages))
            }
            _ => None,
        })
    }

    /// Messages of a room that wait here.
    pub(crate) fn messages_of(&self, of: RoomId) -> u64 {
        let messages = |entry: &Entry| match entry.origin {
            Origin::Room { room, messages, .. } if room == of => u64::from(messages),
            _ => 0,
        };
        self.queue.iter().map(messages).sum()
    }

    /// Unwritten bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an entry of which `written` bytes are written already; only the first entry can be begun.
    pub(crate) fn push(&mut self, entry: Entry, written: usize) {
        debug_assert!(written == 0 || self.queue.is_empty(), "only the first entry can be begun");
        self.bytes += entry.bytes.len() - written;
        if written > 0 {
            self.written = written;
        }
        self.queue.push_back(entry);
    }

    /// The unwritten bytes as slices, as many as one write carries.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        for (slot, entry) in slices.iter_mut().zip(&self.queue) {
            *slot = IoSlice::new(&entry.bytes[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Space for [`slices`](Self::slices).
    pub(crate) fn no_slices<'a>() -> [IoSlice<'a>; SLICES] {
        std::array::from_fn(|_| IoSlice::new(&[]))
    }

    /// Takes note that `count` bytes were written.
    pub(crate) fn advance(&mut self, mut count: usize, now: Tick) {
        self.bytes -= count;
        self.progress = now;
        while let Some(first) = self.queue.front() {
            let left = first.bytes.len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            if let Some(Entry { origin: Origin::Push { written: Some(sender) }, .. }) = self.queue.pop_front()
            {
                // Whoever asked may have stopped waiting.
                let _ = sender.send(());
            }
        }
    }

    /// Drops entries, oldest first, for which `drop` says so; never one that is begun. Returns the bytes and
    /// the messages dropped.
    pub(crate) fn drop_where(&mut self, mut drop: impl FnMut(&Origin, usize) -> bool) -> (usize, u64) {
        let begun = usize::from(self.written > 0);
        let (mut bytes, mut missed, mut index) = (0, 0, 0);
        self.queue.retain(|entry| {
            index += 1;
            let dropped = index > begun && drop(&entry.origin, entry.bytes.len());
            if dropped {
                bytes += entry.bytes.len();
                if let Origin::Room { messages, .. } = entry.origin {
                    missed += u64::from(messages);
                }
            }
            !dropped
        });
        self.bytes -= bytes;
        (bytes, missed)
    }

    /// Drops what waits of a room. Returns its bytes.
    pub(crate) fn drop_room(&mut self, room: RoomId) -> usize {
        self.drop_where(|origin, _| matches!(origin, Origin::Room { room: held, .. } if *held == room)).0
    }

    /// Notes messages of `room`, from the first to the last of a range, as not delivered.
    pub(crate) fn skip(&mut self, room: RoomId, missed: u64, muted: bool, range: (u64, u64)) {
        let skipped = match self.skipped.iter().position(|skipped| skipped.room == room) {
            Some(index) => &mut self.skipped[index],
            None => {
                let ranges = Ranges::default();
                self.skipped.push(Skipped { room, missed: 0, muted: false, ranges });
                self.skipped.last_mut().expect("it was just put there")
            }
        };
        skipped.missed += missed;
        skipped.muted |= muted;
        skipped.ranges.add(range.0, range.1);
    }

    /// The client has left `room`: nothing more of it is told as missed, nor dropped in favour of what it gets there
    /// when it comes again.
    pub(crate) fn forget(&mut self, room: RoomId) {
        self.skipped.retain(|skipped| skipped.room != room);
        for entry in &mut self.queue {
            if matches!(entry.origin, Origin::Room { room: held, .. } if held == room) {
                entry.origin = Origin::Control;
            }
        }
    }

    /// Whether nothing of `room` is queued until the outbox is empty.
    pub(crate) fn is_muted(&self, room: RoomId) -> bool {
        self.skipped.iter().any(|skipped| skipped.room == room && skipped.muted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &'static str, room: RoomId) -> Entry {
        Entry {
            bytes: Bytes::from_static(text.as_bytes()),
            origin: Origin::Room { room, messages: 1, last: 1, key: 0 },
        }
    }

    fn unwritten(outbox: &Outbox) -> String {
        let mut slices = Outbox::no_slices();
        let count = outbox.slices(&mut slices);
        slices[..count].iter().map(|slice| String::from_utf8_lossy(slice).into_owned()).collect()
    }

    #[test]
    fn outbox_partial_writes_resume_where_they_stopped() {
        let mut outbox = Outbox::new(0);
        outbox.push(entry("abcdef", 1), 2);
        outbox.push(entry("ghi", 1), 0);
        assert_eq!((unwritten(&outbox).as_str(), outbox.bytes()), ("cdefghi", 7));
        outbox.advance(5, 9);
        assert_eq!((unwritten(&outbox).as_str(), outbox.bytes(), outbox.progress), ("hi", 2, 9));
        outbox.advance(2, 9);
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes(), 0);
    }

    /// Dropping a frame whose head is on the wire would garble everything after it.
    #[test]
    fn outbox_never_drops_an_entry_that_is_begun() {
        let mut outbox = Outbox::new(0);
        outbox.push(entry("abc", 1), 1);
        outbox.push(entry("def", 1), 0);
        outbox.push(entry("ghi", 2), 0);
        let dropped = outbox.drop_where(|origin, _| matches!(origin, Origin::Room { room: 1, .. }));
        assert_eq!(dropped, (3, 1));
        assert_eq!((unwritten(&outbox).as_str(), outbox.bytes()), ("bcghi", 5));
    }

    /// A gap is counted from the join: what was queued before belongs to an earlier stay.
    #[test]
    fn outbox_counts_nothing_of_a_former_stay_as_missed() {
        let mut outbox = Outbox::new(0);
        outbox.push(entry("abc", 1), 0);
        outbox.skip(1, 7, true, (3, 9));
        outbox.forget(1);
        outbox.push(entry("def", 1), 0);
        assert!(!outbox.is_muted(1));
        let dropped = outbox.drop_where(|origin, _| matches!(origin, Origin::Room { room: 1, .. }));
        assert_eq!((dropped, unwritten(&outbox).as_str()), ((3, 1), "abc"));
    }

    #[test]
    fn ranges_say_which_offsets_are_among_them_and_when_they_cannot() {
        let mut ranges = Ranges::default();
        [(3, 4), (5, 5), (9, 9)].into_iter().for_each(|(first, last)| ranges.add(first, last));
        assert_eq!(
            [2, 4, 5, 7, 9, 10].map(|offset| ranges.has(offset)),
            [false, true, true, false, true, false].map(Some)
        );
        (6..40).for_each(|n| ranges.add(2 * n, 2 * n));
        assert_eq!(ranges.ranges.len(), RANGES_MAX);
        assert_eq!((ranges.has(5), ranges.has(12), ranges.has(77)), (Some(true), Some(true), None));
    }

    #[tokio::test]
    async fn outbox_push_is_reported_when_its_last_byte_is_written() {
        let mut outbox = Outbox::new(0);
        let (written, mut outcome) = oneshot::channel();
        let origin = Origin::Push { written: Some(written) };
        outbox.push(Entry { bytes: Bytes::from_static(b"abcd"), origin }, 0);
        outbox.advance(3, 1);
        assert!(outcome.try_recv().is_err());
        outbox.advance(1, 2);
        assert_eq!(outcome.await, Ok(()));
    }
}

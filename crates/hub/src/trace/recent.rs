//! The last few of something. Takes no memory before the first, and never more than for its maximum.

use std::collections::VecDeque;

/// The newest items, oldest first.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    items: VecDeque<T>,
    max: usize,
}

impl<T> Ring<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { items: VecDeque::new(), max }
    }

    /// Adds one; returns the oldest, if it had to go.
    pub(crate) fn push(&mut self, item: T) -> Option<T> {
        if self.max == 0 {
            return Some(item);
        }
        let gone = if self.items.len() >= self.max { self.items.pop_front() } else { None };
        self.items.push_back(item);
        gone
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_keeps_the_newest_and_says_what_went() {
        let mut ring = Ring::new(2);
        assert_eq!([ring.push(1), ring.push(2), ring.push(3)], [None, None, Some(1)]);
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(Ring::new(0).push(7), Some(7));
    }
}

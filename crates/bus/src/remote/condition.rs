//! How a bus is, from how its connections are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::BusState;

/// How all parts of a bus are. It is connected when every part is.
#[derive(Clone, Debug)]
pub(crate) struct Condition(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: Mutex<Parts>,
    state: watch::Sender<BusState>,
}

#[derive(Debug, Default)]
struct Parts {
    next: u64,
    /// What is wrong with each.
    wrong: BTreeMap<u64, Option<String>>,
    closed: bool,
}

/// How one part is, until it is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    condition: Condition,
    number: u64,
}

impl Condition {
    pub(crate) fn new() -> Self {
        let state = BusState { connected: false, detail: "not connected yet".to_owned() };
        Self(Arc::new(Shared { parts: Mutex::default(), state: watch::Sender::new(state) }))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BusState> {
        self.0.state.subscribe()
    }

    /// A part that is not connected yet.
    pub(crate) fn part(&self) -> Part {
        let number = self.change(|parts| {
            parts.next += 1;
            parts.wrong.insert(parts.next, Some("not connected yet".to_owned()));
            parts.next
        });
        Part { condition: self.clone(), number }
    }

    pub(crate) fn close(&self) {
        self.change(|parts| parts.closed = true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    fn change<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut parts);
        // Published while the parts are locked: states come in the order in which they came about.
        let state = parts.state();
        self.0.state.send_if_modified(|known| {
            let modified = *known != state;
            *known = state;
            modified
        });
        outcome
    }
}

impl Parts {
    fn state(&self) -> BusState {
        if self.closed {
            return BusState { connected: false, detail: "it is closed".to_owned() };
        }
        let detail = self.wrong.values().flatten().next().cloned().unwrap_or_default();
        BusState { connected: !self.wrong.is_empty() && detail.is_empty(), detail }
    }
}

impl Part {
    pub(crate) fn well(&self) {
        self.set(None);
    }

    pub(crate) fn wrong(&self, detail: &str) {
        self.set(Some(detail.to_owned()));
    }

    fn set(&self, wrong: Option<String>) {
        self.condition.change(|parts| parts.wrong.insert(self.number, wrong));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.condition.change(|parts| parts.wrong.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_connected_when_every_part_is_and_says_what_the_first_lacks() {
        let condition = Condition::new();
        let state = condition.watch();
        let (one, two) = (condition.part(), condition.part());
        one.well();
        assert_eq!(state.borrow().detail, "not connected yet");
        two.wrong("no way");
        assert_eq!(state.borrow().detail, "no way");
        drop(two);
        assert_eq!(*state.borrow(), BusState { connected: true, detail: String::new() });
        condition.close();
        one.well();
        assert_eq!(state.borrow().detail, "it is closed");
    }
}

//! Unpredictable mask keys and handshake nonces for the client role.
//!
//! RFC 6455 section 10.3 wants mask keys that nobody can predict from earlier ones. SipHash over a counter,
//! keyed by the operating system's randomness, gives that without a dependency and without a system call per key.

use std::hash::{BuildHasher, RandomState};

/// A stream of mask keys and nonces. One per client or thread.
#[derive(Debug, Clone)]
pub struct Random {
    source: Source,
    counter: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Keyed(RandomState),
    Seeded,
}

impl Random {
    /// Keyed by the operating system's randomness.
    pub fn new() -> Self {
        Self { source: Source::Keyed(RandomState::new()), counter: 0 }
    }

    /// A fixed sequence, for tests that must be repeatable. Never use it on a real connection.
    pub fn seeded(seed: u64) -> Self {
        Self { source: Source::Seeded, counter: seed }
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        match &self.source {
            Source::Keyed(state) => state.hash_one(self.counter),
            Source::Seeded => split_mix(self.counter),
        }
    }

    /// A fresh mask key, one per frame.
    #[inline]
    pub fn mask_key(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.next_u64().to_ne_bytes();
        [a, b, c, d]
    }

    /// A fresh handshake nonce, one per connection (RFC 6455 section 4.1).
    pub fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.next_u64().to_ne_bytes());
        nonce[8..].copy_from_slice(&self.next_u64().to_ne_bytes());
        nonce
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

/// The finaliser of SplitMix64: a bijection, so a seeded sequence has a full period.
const fn split_mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_keyed_twice_gives_different_sequences() {
        assert_ne!(Random::new().nonce(), Random::new().nonce());
    }

    #[test]
    fn random_keys_of_one_source_are_distinct() {
        let mut random = Random::new();
        let keys: std::collections::HashSet<u64> = (0..10_000).map(|_| random.next_u64()).collect();
        assert_eq!(keys.len(), 10_000);
    }

    #[test]
    fn random_seeded_is_repeatable() {
        assert_eq!(Random::seeded(7).nonce(), Random::seeded(7).nonce());
        assert_ne!(Random::seeded(7).mask_key(), Random::seeded(8).mask_key());
    }
}

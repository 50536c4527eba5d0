//! The names of an object's fields, found in one comparison.
//!
//! Read by `read.rs` once per key of every frame. The table is made when the program is compiled: each name has a slot
//! of its own, by a hash of its length and its ends, and a set of names for which there is none does not compile.

/// Slots; a power of two, a few times as many as a dialect has names.
const SLOTS: usize = 64;

/// A set of names.
#[derive(Debug)]
pub(crate) struct Names<const N: usize> {
    names: [&'static str; N],
    /// Each slot's name, by its index; `N` where there is none.
    slots: [u8; SLOTS],
    multiplier: u32,
}

impl<const N: usize> Names<N> {
    /// Names, none of them empty or twice.
    ///
    /// # Panics
    /// When no table can be made, which is when two names have their length, first and last letter in common.
    pub(crate) const fn new(names: [&'static str; N]) -> Self {
        assert!(N < SLOTS);
        let mut multiplier = 0x9e37_79b1_u32;
        let mut attempts = 0;
        while attempts < 4096 {
            if let Some(slots) = Self::assign(&names, multiplier) {
                return Self { names, slots, multiplier };
            }
            multiplier = multiplier.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            attempts += 1;
        }
        panic!("these names need another hash");
    }

    const fn assign(names: &[&'static str; N], multiplier: u32) -> Option<[u8; SLOTS]> {
        let mut slots = [N as u8; SLOTS];
        let mut index = 0;
        while index < N {
            let slot = slot(names[index].as_bytes(), multiplier);
            if slots[slot] != N as u8 {
                return None;
            }
            slots[slot] = index as u8;
            index += 1;
        }
        Some(slots)
    }

    /// The name at `index`.
    pub(crate) fn name(&self, index: usize) -> &'static str {
        self.names[index]
    }

    /// The index of the name that `key` is.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        let index = usize::from(self.slots[slot(key.as_bytes(), self.multiplier)]);
        self.names.get(index).filter(|name| **name == key).map(|_| index)
    }
}

const fn slot(name: &[u8], multiplier: u32) -> usize {
    let ([first, ..], [.., last]) = (name, name) else { return 0 };
    let mixed = (name.len() as u32) ^ ((*first as u32) << 8) ^ ((*last as u32) << 16);
    (mixed.wrapping_mul(multiplier) >> (32 - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::Names;

    static NAMES: Names<5> = Names::new(["type", "id", "content", "to", "idempotencyKey"]);

    #[test]
    fn names_are_found_and_nothing_else_is() {
        for index in 0..5 {
            assert_eq!(NAMES.find(NAMES.name(index)), Some(index));
        }
        for other in ["", "x", "Type", "tyse", "types", "idempotencykey", "\u{0}", "contént"] {
            assert_eq!(NAMES.find(other), None, "{other}");
        }
    }
}

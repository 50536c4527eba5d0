//! How many different users: exact while they are few, estimated when they are many.
//!
//! Up to [`EXACT_MAX`] users are held by the hash of their id and counted exactly (but for a collision of 64-bit
//! hashes, one in 10^14). More are counted by a HyperLogLog sketch (Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the
//! analysis of a near-optimal cardinality estimation algorithm", 2007) of 4,096 registers, with the estimator of Ertl
//! ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, section 4), which needs neither a table
//! against bias nor a switch between ranges. Its standard error is 1.04 / sqrt(4096) = 1.6 %: two figures of three
//! are closer than that, 997 of 1,000 closer than three times that.
//!
//! Invariants: the union of two sets counts as if all had been put into one; hash and form are on disk and never change.

/// Users counted exactly.
pub(crate) const EXACT_MAX: usize = 256;

/// Bits of a hash that choose the register.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// The greatest number in a register: one more than the bits that are left.
const RANK_MAX: u8 = (64 - PRECISION + 1) as u8;

/// A set of users that only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Distinct {
    /// Hashes in their order, each once.
    Exact(Vec<u64>),
    /// For each register the greatest rank of its hashes.
    Sketch(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Distinct {
    /// Puts a user in, by the [`hash`] of the id.
    pub(crate) fn insert(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else { return };
                if hashes.len() < EXACT_MAX {
                    hashes.insert(at, hash);
                } else {
                    *self = Self::sketch_of(hashes);
                    self.insert(hash);
                }
            }
            Self::Sketch(registers) => note(registers, hash),
        }
    }

    /// Puts everybody of `other` in.
    pub(crate) fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => hashes.iter().for_each(|hash| self.insert(*hash)),
            Self::Sketch(theirs) => {
                if let Self::Exact(hashes) = self {
                    *self = Self::sketch_of(hashes);
                }
                if let Self::Sketch(ours) = self {
                    ours.iter_mut().zip(theirs.iter()).for_each(|(our, their)| *our = (*our).max(*their));
                }
            }
        }
    }

    /// How many there are, or about how many.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Sketch(registers) => estimate(registers).round() as u64,
        }
    }

    /// Whether [`count`](Self::count) is no estimate.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    fn sketch_of(hashes: &[u64]) -> Self {
        let mut registers = Box::new([0; REGISTERS]);
        hashes.iter().for_each(|hash| note(&mut registers, *hash));
        Self::Sketch(registers)
    }

    /// Appends it to `out`: the number of hashes in two bytes and the hashes, or 65535 and the registers.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(hashes) => {
                out.extend_from_slice(&(hashes.len() as u16).to_be_bytes());
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_be_bytes()));
            }
            Self::Sketch(registers) => {
                out.extend_from_slice(&u16::MAX.to_be_bytes());
                out.extend_from_slice(registers.as_slice());
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for what it never writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        match u16::from_be_bytes(*len) {
            u16::MAX => {
                let registers: [u8; REGISTERS] = rest.try_into().ok()?;
                registers.iter().all(|rank| *rank <= RANK_MAX).then(|| Self::Sketch(Box::new(registers)))
            }
            len => {
                let (hashes, rest) = rest.as_chunks();
                let hashes: Vec<u64> = hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect();
                let sound = hashes.len() == usize::from(len) && rest.is_empty() && hashes.len() <= EXACT_MAX;
                (sound && hashes.is_sorted()).then_some(Self::Exact(hashes))
            }
        }
    }
}

fn note(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = (hash >> (64 - PRECISION)) as usize;
    // The bit behind the last one bounds the count where all others are zero.
    let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1;
    registers[register] = registers[register].max(rank);
}

/// Ertl's improved raw estimator, algorithm 6 of his paper.
fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut of_rank = [0_u32; RANK_MAX as usize + 1];
    registers.iter().for_each(|rank| of_rank[usize::from(*rank)] += 1);
    let m = REGISTERS as f64;
    let full = f64::from(of_rank[usize::from(RANK_MAX)]);
    let mut z = m * tau(1.0 - full / m);
    for count in of_rank[1..usize::from(RANK_MAX)].iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += m * sigma(f64::from(of_rank[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

/// For registers that nobody came to.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// For registers that are as great as can be.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The hash of a user's id: for each eight bytes, the last ones filled up with zeros, the finaliser of MurmurHash3
/// over what was before and they. Whoever may choose many ids can make collisions; the figures are for operators, not for invoices.
pub(crate) fn hash(id: &str) -> u64 {
    let mut hash = mix(id.len() as u64 ^ 0x9e37_79b9_7f4a_7c15);
    for word in id.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        hash = mix(hash ^ u64::from_le_bytes(bytes));
    }
    hash
}

const fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn users(range: std::ops::Range<u32>) -> Distinct {
        let mut distinct = Distinct::default();
        range.for_each(|user| distinct.insert(hash(&format!("user-{user}"))));
        distinct
    }

    #[test]
    fn users_up_to_the_bound_are_counted_exactly() {
        for count in [0, 1, 2, 17, 255, 256] {
            let mut distinct = users(0..count);
            distinct.merge(&users(0..count));
            assert_eq!((distinct.count(), distinct.is_exact()), (u64::from(count), true));
        }
        assert!(!users(0..257).is_exact());
    }

    /// A hundred sets of each size: their root mean square error is what the module's text says, and none is far off.
    #[test]
    fn users_above_the_bound_are_estimated_within_the_stated_error() {
        for size in [300, 1_000, 10_000, 20_000, 50_000_u32] {
            let mut squares = 0.0;
            for set in 0..100 {
                let begin = set * 1_000_000;
                let estimate = users(begin..begin + size).count() as f64;
                let error = estimate / f64::from(size) - 1.0;
                assert!(error.abs() < 0.08, "{size} users were estimated as {estimate}");
                squares += error * error;
            }
            let rms = (squares / 100.0_f64).sqrt();
            assert!(rms < 0.020, "{size} users: root mean square error {rms}");
        }
    }

    #[test]
    fn union_counts_as_if_all_had_been_put_into_one() {
        for (left, right, all) in [
            (0..100, 50..150, 0..150),
            (0..200, 100..400, 0..400),
            (0..1000, 900..1000, 0..1000),
            (0..3, 0..5000, 0..5000),
            (0..5000, 4000..9000, 0..9000),
        ] {
            let mut union = users(left);
            union.merge(&users(right));
            assert_eq!(union, users(all));
        }
    }

    #[test]
    fn set_reads_back_as_it_was_written_and_other_bytes_do_not() {
        for set in [users(0..0), users(0..1), users(0..256), users(0..10_000)] {
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            assert_eq!(Distinct::decode(&bytes).unwrap(), set);
            assert_eq!(Distinct::decode(&bytes[..bytes.len() - 1]), None);
            bytes.push(0);
            assert_eq!(Distinct::decode(&bytes), None);
        }
        assert_eq!(Distinct::decode(&[]), None);
        assert_eq!(Distinct::decode(&[0xff; 2 + REGISTERS]), None);
    }

    /// They are on disk: another hash would count everybody twice on the day of the upgrade.
    #[test]
    fn hash_of_an_id_never_changes() {
        assert_eq!((hash("alice"), hash("bob")), (14_807_370_741_450_773_887, 1_591_905_094_579_639_313));
    }
}

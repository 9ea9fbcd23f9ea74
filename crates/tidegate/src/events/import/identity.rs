//! What makes an imported event the same one when it is imported again.
//!
//! An event's id is a hash of what it says and of how many of the same went before it in the file.
//! Two equal rows are therefore two events, and importing a file again, in another order, with rows
//! added or broken rows mended, adds only what is new.
//!
//! Counting equal rows needs a memory of all rows. A first pass puts a hash of each into a Bloom
//! filter of fixed size; only those that may have come before are counted exactly, in a map that a
//! file with few repetitions hardly fills. Formula: with `m` bits and 4 probes per row, after `n`
//! rows a new row is taken for a repetition with probability `(1 - exp(-4 n / m))^4`; such a
//! mistake costs one entry of the map and changes nothing else.

use anyhow::{Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_metrics::EventId;
use xxhash_rust::xxh3::xxh3_128;

const PROBES: u128 = 4;
const MAX_FILTER_BITS: u64 = 1 << 29;
/// Repeated rows that are told apart; 24 bytes each.
const MAX_SUSPECTS: usize = 8_000_000;

/// The first pass.
pub(super) struct FirstPass {
    bits: Vec<u64>,
    mask: u128,
    suspects: FxHashSet<u128>,
}

impl FirstPass {
    /// For a file of so many bytes, compressed or not.
    pub(super) fn new(file_bytes: u64) -> Self {
        let bits = file_bytes
            .saturating_mul(2)
            .clamp(1 << 16, MAX_FILTER_BITS)
            .next_power_of_two();
        let words = usize::try_from(bits / 64).unwrap_or(1 << 10);
        Self {
            bits: vec![0; words],
            mask: u128::from(bits - 1),
            suspects: FxHashSet::default(),
        }
    }

    /// Takes a row's text into account.
    pub(super) fn see(&mut self, text: &str) -> Result<()> {
        let hash = xxh3_128(text.as_bytes());
        let mut was_known = true;
        for probe in 0..PROBES {
            let bit = (hash >> (probe * 32)) & self.mask;
            let (word, place) = (usize::try_from(bit / 64).unwrap_or(0), bit % 64);
            if let Some(word) = self.bits.get_mut(word) {
                was_known &= *word >> place & 1 == 1;
                *word |= 1 << place;
            }
        }
        if was_known {
            self.suspects.insert(hash);
        }
        if self.suspects.len() > MAX_SUSPECTS {
            bail!(
                "more than {MAX_SUSPECTS} different rows come more than once; name a column with an \
                 `id` in the mapping, or split the file"
            );
        }
        Ok(())
    }

    /// What later passes need.
    pub(super) fn finish(self) -> Repeated {
        Repeated {
            seen: self.suspects.into_iter().map(|hash| (hash, 0)).collect(),
        }
    }
}

/// How often each row that may come more than once has come.
#[derive(Clone, Default)]
pub(super) struct Repeated {
    seen: FxHashMap<u128, u32>,
}

impl Repeated {
    /// How many of the same went before.
    pub(super) fn before(&mut self, text: &str) -> u32 {
        match self.seen.get_mut(&xxh3_128(text.as_bytes())) {
            Some(seen) => {
                *seen += 1;
                *seen - 1
            }
            None => 0,
        }
    }
}

/// The id of an event that says `text` and is the `before + 1`st of its file to say so.
pub(super) fn id_of(text: &str, before: u32) -> EventId {
    EventId::hashed(&[b"import", text.as_bytes(), &before.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_counted_and_others_are_first() {
        let rows: Vec<String> = (0..20_000).map(|n| format!("row {}", n % 19_000)).collect();
        let mut first = FirstPass::new(20_000);
        for row in &rows {
            first.see(row).unwrap();
        }
        let mut repeated = first.finish();
        let before: Vec<u32> = rows.iter().map(|row| repeated.before(row)).collect();
        assert!(before.iter().take(19_000).all(|count| *count == 0));
        assert!(before.iter().skip(19_000).all(|count| *count == 1));
    }

    #[test]
    fn a_repetition_has_an_id_of_its_own_and_always_the_same() {
        assert_ne!(id_of("a", 0), id_of("a", 1));
        assert_eq!(id_of("a", 1), id_of("a", 1));
        assert!(id_of("a", 0).is_derived());
    }
}

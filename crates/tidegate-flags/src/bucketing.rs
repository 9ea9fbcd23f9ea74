//! From a hash to a bucket: the three dialects of flagd's `fractional`.
//!
//! All dialects hash with MurmurHash3 x86 32-bit, seed 0, and give the unit the first
//! entry, in list order, whose cumulated weight lies above its point. They differ in
//! what is hashed and in how a hash becomes a point:
//!
//! * **v1** (flagd up to 0.14): text; `|h as i32| / (2^31 - 1) * 100` against the
//!   cumulated percentage.
//! * **v2** (flagd core 0.15): text; `(h * total) >> 32` against the cumulated weight.
//! * **v3** (ADR of December 2025): deterministic CBOR (see [`cbor`]); point as v2.
//!
//! [`Boundaries::locate`] is the one boundary function: splits and rollouts both compile
//! to weights, so the same share gives the same people whatever the rule is called.
//! This module must not know flags, rules or contexts.

pub(crate) mod cbor;
pub(crate) mod murmur3;

use serde::{Deserialize, Serialize};

/// How units are hashed and allotted, pinned per flag: a silent change of dialect
/// re-draws up to all units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucketing {
    /// flagd up to 0.14: float percentages.
    V1,
    /// flagd core 0.15 and later: integer buckets over text.
    #[default]
    V2,
    /// ADR of December 2025: integer buckets over deterministic CBOR.
    V3,
}

impl Bucketing {
    /// The name used in flag definitions: `v1`, `v2`, `v3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Bucketing::V1 => "v1",
            Bucketing::V2 => "v2",
            Bucketing::V3 => "v3",
        }
    }

    /// The dialect called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Bucketing> {
        match name {
            "v1" => Some(Bucketing::V1),
            "v2" => Some(Bucketing::V2),
            "v3" => Some(Bucketing::V3),
            _ => None,
        }
    }
}

/// The largest weight and the largest sum of weights that `fractional` accepts.
pub(crate) const MAX_WEIGHT: u32 = i32::MAX.unsigned_abs();

/// Cumulated weights of a split, in list order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boundaries {
    upper: Box<[u32]>,
    total: u32,
}

/// Where a hash fell among [`Boundaries`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    /// Index of the entry that holds the point.
    pub(crate) entry: usize,
    /// The point: a bucket below the total weight, for v1 a percentage.
    pub(crate) point: f64,
}

impl Boundaries {
    /// Cumulates `weights`; `None` if a sum passes [`MAX_WEIGHT`] or nothing has weight.
    pub(crate) fn cumulate(weights: impl IntoIterator<Item = u32>) -> Option<Boundaries> {
        let mut total = 0u32;
        let mut upper = Vec::new();
        for weight in weights {
            total = total.checked_add(weight).filter(|sum| *sum <= MAX_WEIGHT)?;
            upper.push(total);
        }
        (total > 0).then(|| Boundaries {
            upper: upper.into_boxed_slice(),
            total,
        })
    }

    /// The sum of all weights.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Half-open range `[from, to)` of entry `index`, in weight.
    pub(crate) fn range(&self, index: usize) -> (u32, u32) {
        let from = index
            .checked_sub(1)
            .and_then(|i| self.upper.get(i))
            .copied()
            .unwrap_or(0);
        (from, self.upper.get(index).copied().unwrap_or(self.total))
    }

    /// The entry that `hash` falls into.
    #[inline]
    pub(crate) fn locate(&self, hash: u32, dialect: Bucketing) -> Option<usize> {
        match dialect {
            Bucketing::V1 => self.locate_by_percentage(hash),
            Bucketing::V2 | Bucketing::V3 => Some(self.entry_of(bucket_of(hash, self.total))),
        }
    }

    /// The entry that holds `bucket`. Which one is a coin toss, so short lists are counted
    /// through without a branch to mispredict.
    #[inline]
    fn entry_of(&self, bucket: u32) -> usize {
        match &*self.upper {
            [first, _] => usize::from(bucket >= *first),
            few if few.len() <= 8 => few.iter().map(|upper| usize::from(bucket >= *upper)).sum(),
            many => many.partition_point(|upper| *upper <= bucket),
        }
    }

    /// As [`Boundaries::locate`], with the point for explanations.
    pub(crate) fn place(&self, hash: u32, dialect: Bucketing) -> Option<Place> {
        let point = match dialect {
            Bucketing::V1 => percentage_of(hash),
            Bucketing::V2 | Bucketing::V3 => f64::from(bucket_of(hash, self.total)),
        };
        self.locate(hash, dialect)
            .map(|entry| Place { entry, point })
    }

    fn locate_by_percentage(&self, hash: u32) -> Option<usize> {
        let point = percentage_of(hash);
        let total = f64::from(self.total);
        self.upper
            .iter()
            .position(|upper| point < 100.0 * f64::from(*upper) / total)
    }
}

/// `(hash * total) >> 32`: a bucket in `0..total`.
#[inline]
pub(crate) fn bucket_of(hash: u32, total: u32) -> u32 {
    let scaled = (u64::from(hash) * u64::from(total)) >> 32;
    // Below `total`, because `hash` is below 2^32.
    u32::try_from(scaled).unwrap_or(total)
}

fn percentage_of(hash: u32) -> f64 {
    f64::from(hash.cast_signed().unsigned_abs()) / f64::from(i32::MAX) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_basis_point_holds_its_share_of_the_hash_space() {
        // The first hash of each bucket, found by bisection over the monotone function.
        let first_hash = |bucket: u32| -> u64 {
            let (mut low, mut high) = (0u64, 1u64 << 32);
            while low < high {
                let middle = low.midpoint(high);
                let hash = u32::try_from(middle).unwrap();
                if bucket_of(hash, 10_000) < bucket {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        let mut previous = first_hash(0);
        for bucket in 1..10_000 {
            let next = first_hash(bucket);
            assert!(
                matches!(next - previous, 429_496 | 429_497),
                "bucket {bucket}"
            );
            previous = next;
        }
    }

    #[test]
    fn hashes_at_the_extreme_of_v1_match_no_range() {
        let all = Boundaries::cumulate([1]).unwrap();
        assert_eq!(all.locate(0x8000_0000, Bucketing::V1), None);
        assert_eq!(all.locate(0x7fff_ffff, Bucketing::V1), None);
        assert_eq!(all.locate(0x7fff_fffe, Bucketing::V1), Some(0));
        assert_eq!(all.locate(u32::MAX, Bucketing::V2), Some(0));
    }

    #[test]
    fn sums_beyond_the_largest_weight_and_empty_sums_are_refused() {
        assert_eq!(Boundaries::cumulate([MAX_WEIGHT, 1]), None);
        assert_eq!(Boundaries::cumulate([0, 0]), None);
        assert_eq!(Boundaries::cumulate([]), None);
        assert_eq!(
            Boundaries::cumulate([MAX_WEIGHT]).unwrap().total(),
            MAX_WEIGHT
        );
    }
}

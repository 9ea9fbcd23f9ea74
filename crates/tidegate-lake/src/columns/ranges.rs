//! How the buckets of an event file are taken together.
//!
//! Buckets that follow each other form a *range*, a range is a row group, and the rows of a range
//! are in the order of time. The wider the ranges, the closer rows that arrived one after the other
//! lie together, and the fewer bits their ingest sequences take: about two and a half bits are
//! saved by each halving of their number, of which the bucket takes one back. The narrower, the
//! less is held in memory at a time by whoever merges or decodes one. So a file has four ranges,
//! more if a range would hold too many rows, and one if all its rows are few.

use std::ops::RangeInclusive;

/// Ranges of a file that is not small: merging files reads each of their rows once.
const FEWEST: u64 = 4;
/// A file is small below this share of the rows that a range may hold.
const SMALL_SHARE: u64 = 16;

/// What of its day a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartOfDay {
    /// Some of it: it will be merged with others.
    Some,
    /// All of it, so far.
    All,
}

/// The ranges of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ranges {
    buckets: u16,
    /// Buckets in a range, a power of two.
    width: u16,
}

impl Ranges {
    /// The ranges of a file of so many rows, over a power of two of buckets.
    pub(super) fn of(rows: u64, buckets: u16, range_rows: u64) -> Self {
        let range_rows = range_rows.max(1);
        let count = match rows.saturating_mul(SMALL_SHARE) <= range_rows {
            true => 1,
            false => {
                let fit = (rows / range_rows).max(1);
                FEWEST.max(1 << fit.ilog2())
            }
        };
        let count = u16::try_from(count).unwrap_or(u16::MAX).min(buckets);
        let width = (buckets / count.max(1)).max(1);
        Self { buckets, width }
    }

    /// The number of a bucket's range.
    pub(super) fn of_bucket(self, bucket: u16) -> u16 {
        bucket / self.width
    }

    /// The buckets of a range.
    pub(super) fn numbered(self, number: u16) -> RangeInclusive<u16> {
        let first = number.saturating_mul(self.width);
        first..=first.saturating_add(self.width - 1)
    }

    /// The buckets of each range, ascending.
    pub(super) fn all(self) -> impl Iterator<Item = RangeInclusive<u16>> {
        (0..self.buckets / self.width).map(move |number| self.numbered(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_range_or_four_or_as_many_as_its_rows_need() {
        for (rows, buckets, count) in [
            (10, 128, 1),
            (100, 128, 4),
            (7_000, 128, 4),
            (8_000, 128, 8),
            (31_000, 128, 16),
            (1_000_000, 128, 128),
            (1_000_000, 4, 4),
            (100, 4, 4),
            (1_000_000, 1, 1),
        ] {
            let ranges = Ranges::of(rows, buckets, 1000);
            let all: Vec<_> = ranges.all().collect();
            assert_eq!(all.len(), count, "{rows} rows over {buckets} buckets");
            let buckets_of_all: Vec<u16> = all.iter().cloned().flatten().collect();
            assert_eq!(buckets_of_all, (0..buckets).collect::<Vec<_>>());
            for bucket in 0..buckets {
                let number = usize::from(ranges.of_bucket(bucket));
                assert!(all[number].contains(&bucket));
            }
        }
    }
}

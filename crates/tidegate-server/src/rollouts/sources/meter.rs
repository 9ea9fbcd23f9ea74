//! Counters that somebody else keeps, folded to the blocks that evidence is made of.
//!
//! # How it decides
//! A reading is four counters: requests and failures of both arms at one moment. The difference of
//! two readings is what happened between them. A reading is **dropped**, counted and never judged
//! when
//! - a counter is smaller than before: it was reset, or an instance went away;
//! - a counter that fell climbs to where it had been, or beyond, in one reading: an instance came
//!   back with its old count, and what it counted before did not happen now;
//! - there are more new failures than new requests: the two were not read at one moment.
//!
//! After the first two the count goes on from the new reading; after the third from the old one.
//!
//! # Blocks
//! Evidence needs blocks that are closed by a rule known beforehand, never by what is in them.
//! Block `k` closes after `2^(k / 64)` readings: so a block is never longer than about a sixty-fourth
//! of the time since the start, and the number of blocks grows with the logarithm of that time.
//! Neighbouring blocks without any failure say nothing and are kept as one.

use serde::{Deserialize, Serialize};
use tidegate_rollout::{ArmCounts, Block};

/// Blocks of one length before the length doubles.
const PER_LENGTH: u64 = 64;
/// Doublings after which blocks grow no longer.
const MOST_DOUBLINGS: u64 = 20;

/// One arm's counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Requests so far.
    pub requests: u64,
    /// Failures among them.
    pub failures: u64,
}

/// Both arms' counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The variant that is being introduced.
    pub treatment: Counters,
    /// The variant that everyone else keeps.
    pub control: Counters,
}

impl Reading {
    const fn each(&self) -> [u64; 4] {
        [
            self.treatment.requests,
            self.treatment.failures,
            self.control.requests,
            self.control.failures,
        ]
    }

    const fn of([a, b, c, d]: [u64; 4]) -> Self {
        Self {
            treatment: Counters {
                requests: a,
                failures: b,
            },
            control: Counters {
                requests: c,
                failures: d,
            },
        }
    }

    fn zip(&self, other: &Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let (own, other) = (self.each(), other.each());
        Self::of(std::array::from_fn(|index| each(own[index], other[index])))
    }

    const fn as_block(&self) -> Block {
        Block {
            requests: ArmCounts {
                treatment: self.treatment.requests,
                control: self.control.requests,
            },
            failures: ArmCounts {
                treatment: self.treatment.failures,
                control: self.control.failures,
            },
        }
    }
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The first one, from which is counted.
    Baseline,
    /// Counted; a block that it closed, if it closed one.
    Counted(Option<Block>),
    /// Dropped, and why.
    Dropped(&'static str),
}

/// What a reading is, worse ones later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judged {
    Sound,
    Baseline,
    Torn,
    CameBack,
    WentBackwards,
}

/// The counts of one guard's source, or of one threshold of its histogram.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    last: Option<Reading>,
    /// The most each counter has ever been.
    highest: Reading,
    open: Reading,
    open_readings: u64,
    closings: u64,
    closed: Vec<Block>,
    requests: ArmCounts,
}

impl Meter {
    /// Takes one reading.
    pub fn take(&mut self, reading: Reading) -> Taken {
        self.apply(reading, self.judge(reading))
    }

    /// What a reading would come to, before it is taken.
    pub(super) fn judge(&self, reading: Reading) -> Judged {
        let Some(last) = self.last else {
            return Judged::Baseline;
        };
        let pairs = || reading.each().into_iter().zip(last.each());
        if pairs().any(|(now, before)| now < before) {
            return Judged::WentBackwards;
        }
        let came_back = pairs()
            .zip(self.highest.each())
            .any(|((now, before), highest)| before < highest && now >= highest);
        if came_back {
            return Judged::CameBack;
        }
        let step = reading.zip(&last, u64::saturating_sub);
        let is_torn = |arm: Counters| arm.failures > arm.requests;
        if is_torn(step.treatment) || is_torn(step.control) {
            return Judged::Torn;
        }
        Judged::Sound
    }

    /// Takes a reading for what it was judged to be, or for something worse.
    pub(super) fn apply(&mut self, reading: Reading, judged: Judged) -> Taken {
        match judged {
            Judged::Sound => {}
            Judged::Baseline => {
                self.rest_on(reading);
                return Taken::Baseline;
            }
            Judged::Torn => return Taken::Dropped("more failures than requests"),
            Judged::CameBack => {
                self.rest_on(reading);
                return Taken::Dropped("a counter that had fallen came back");
            }
            Judged::WentBackwards => {
                self.rest_on(reading);
                return Taken::Dropped("a counter went backwards");
            }
        }
        let before = self.last.unwrap_or(reading);
        let step = reading.zip(&before, u64::saturating_sub);
        self.rest_on(reading);
        self.open = self.open.zip(&step, u64::saturating_add);
        self.requests = ArmCounts::sum([&self.requests, &step.as_block().requests]);
        self.open_readings += 1;
        Taken::Counted(self.close_if_due())
    }

    /// Counts from the next reading on, as after a change of what is read.
    pub fn rest(&mut self) {
        self.last = None;
        self.highest = Reading::default();
    }

    /// Takes up a block that was closed before a restart, with the reading that closed it.
    pub fn restore(&mut self, block: Block, at: Reading) {
        self.requests = ArmCounts::sum([&self.requests, &block.requests]);
        self.keep(block);
        self.rest_on(at);
    }

    /// Closed blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.closed
    }

    /// Requests counted since the start, per arm.
    #[must_use]
    pub const fn requests(&self) -> ArmCounts {
        self.requests
    }

    /// Whether a failure was ever counted by the source itself.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.highest.treatment.failures > 0 || self.highest.control.failures > 0
    }

    /// The newest reading.
    #[must_use]
    pub const fn last(&self) -> Option<Reading> {
        self.last
    }

    fn rest_on(&mut self, reading: Reading) {
        self.highest = self.highest.zip(&reading, u64::max);
        self.last = Some(reading);
    }

    fn close_if_due(&mut self) -> Option<Block> {
        let doublings = (self.closings / PER_LENGTH).min(MOST_DOUBLINGS);
        if self.open_readings < 1 << doublings {
            return None;
        }
        let block = std::mem::take(&mut self.open).as_block();
        self.open_readings = 0;
        self.keep(block);
        Some(block)
    }

    fn keep(&mut self, block: Block) {
        self.closings += 1;
        match self.closed.last_mut() {
            Some(last) if last.failures.total() == 0 && block.failures.total() == 0 => {
                add(last, &block);
            }
            _ => self.closed.push(block),
        }
    }
}

fn add(sum: &mut Block, block: &Block) {
    sum.requests = ArmCounts::sum([&sum.requests, &block.requests]);
    sum.failures = ArmCounts::sum([&sum.failures, &block.failures]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(counters: [u64; 4]) -> Reading {
        Reading::of(counters)
    }

    /// Requests and failures of treatment and control in each block.
    fn counted(meter: &Meter) -> Vec<[u64; 4]> {
        let each = |block: &Block| {
            let (requests, failures) = (block.requests, block.failures);
            [
                requests.treatment,
                failures.treatment,
                requests.control,
                failures.control,
            ]
        };
        meter.blocks().iter().map(each).collect()
    }

    #[test]
    fn what_happened_between_two_readings_is_a_block() {
        let mut meter = Meter::default();
        assert_eq!(meter.take(reading([100, 1, 900, 9])), Taken::Baseline);
        assert!(matches!(
            meter.take(reading([110, 2, 990, 9])),
            Taken::Counted(Some(_))
        ));
        assert!(matches!(
            meter.take(reading([130, 2, 999, 9])),
            Taken::Counted(Some(_))
        ));
        assert!(matches!(
            meter.take(reading([131, 2, 1000, 9])),
            Taken::Counted(Some(_))
        ));
        assert_eq!(
            counted(&meter),
            [[10, 1, 90, 0], [21, 0, 10, 0]],
            "silence is one block"
        );
        assert_eq!(
            meter.requests(),
            ArmCounts {
                treatment: 31,
                control: 100
            }
        );
    }

    #[test]
    fn a_reset_an_instance_that_returns_and_torn_readings_are_never_counted() {
        let mut meter = Meter::default();
        for (counters, expected) in [
            ([1000, 50, 9000, 90], Taken::Baseline),
            ([0, 0, 9010, 90], Taken::Dropped("a counter went backwards")),
            ([5, 0, 9020, 91], Taken::Counted(None)),
            (
                [1001, 50, 9030, 91],
                Taken::Dropped("a counter that had fallen came back"),
            ),
            (
                [1002, 53, 9040, 91],
                Taken::Dropped("more failures than requests"),
            ),
            ([1006, 53, 9050, 91], Taken::Counted(None)),
        ] {
            let taken = meter.take(reading(counters));
            let agrees = match (taken, expected) {
                (Taken::Counted(_), Taken::Counted(_)) => true,
                (taken, expected) => taken == expected,
            };
            assert!(agrees, "{counters:?}: {taken:?}");
        }
        assert_eq!(counted(&meter), [[5, 0, 10, 1], [5, 3, 20, 0]]);
    }

    #[test]
    fn blocks_grow_with_the_time_since_the_start_and_are_few() {
        let mut meter = Meter::default();
        let polls = 5_760_u64;
        for poll in 0..=polls {
            let _ = meter.take(reading([10 * poll, poll, 90 * poll, 9 * poll]));
        }
        let blocks = meter.blocks();
        assert!(
            blocks.len() < 64 * 8,
            "{} blocks in a day of 15 s readings",
            blocks.len()
        );
        let longest = blocks
            .iter()
            .map(|block| block.requests.treatment / 10)
            .max();
        assert!(
            longest.unwrap() <= polls / 64 + 1,
            "{longest:?} readings in one block"
        );
        let failures: u64 = blocks.iter().map(|block| block.failures.total()).sum();
        assert!(
            failures <= 10 * polls && failures > 9 * polls,
            "only the open block is missing"
        );
    }

    #[test]
    fn a_restart_goes_on_from_the_reading_that_closed_the_last_block() {
        let mut before = Meter::default();
        let _ = before.take(reading([0, 0, 0, 0]));
        let closing = reading([10, 1, 90, 2]);
        let Taken::Counted(Some(block)) = before.take(closing) else {
            panic!("the first block closes at once");
        };
        let mut after = Meter::default();
        after.restore(block, closing);
        assert!(matches!(
            after.take(reading([15, 1, 95, 5])),
            Taken::Counted(_)
        ));
        assert_eq!(counted(&after), [[10, 1, 90, 2], [5, 0, 5, 3]]);
    }

    proptest! {
        /// Whatever a source says, no block has more failures than requests, and nothing is counted
        /// that did not happen after the first reading.
        #[test]
        fn no_reading_makes_an_impossible_block(
            readings in proptest::collection::vec(proptest::array::uniform4(0_u64..1000), 0..200)
        ) {
            let mut meter = Meter::default();
            for counters in &readings {
                let _ = meter.take(reading(*counters));
            }
            for block in meter.blocks() {
                prop_assert!(block.failures.treatment <= block.requests.treatment);
                prop_assert!(block.failures.control <= block.requests.control);
            }
            let most = readings.len() as u64 * 1000;
            prop_assert!(meter.requests().total() <= 2 * most);
        }
    }
}

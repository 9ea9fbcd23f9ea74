//! What a source has counted for one guard: one pair of counters, or a ladder over a histogram.
//!
//! # How a ladder is made
//! At the first reading in which control has [`BASELINE`] requests behind it, thresholds are frozen:
//! the smallest bounds that p50, p90, p95, p99 and p99.9 of control's requests did not exceed. From
//! then on each threshold is a pair of counters, requests and those of them beyond it, and evidence is
//! that of any counter. Values and latencies are told apart by nothing but the guard's direction: more
//! beyond the thresholds is harm where an increase is.
//!
//! A reading is taken by every rung or by none, so that all close their blocks together.

use serde::{Deserialize, Serialize};
use tidegate_rollout::evidence::self_test::{self, SelfTest};
use tidegate_rollout::{AggregatedRung, ArmCounts, Block, Measured};

use super::answer::Buckets;
use super::meter::{Counters, Meter, Reading, Taken};
use super::poll::Counted;

/// Control's requests before thresholds are frozen.
pub const BASELINE: u64 = 2_000;
/// Quantiles of control's requests at which thresholds are frozen.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// A frozen threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Share of control's requests that did not exceed it then.
    pub quantile: f64,
    /// A bound of the histogram.
    pub bound: f64,
}

/// A closed block of one rung, as it is kept, with the reading that closed it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The rung's threshold; none for plain counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// What happened in it.
    pub block: Block,
    /// The counters at its end.
    pub at: Reading,
}

/// What became of a reading.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The first one, from which is counted.
    Baseline,
    /// Counted; the blocks it closed, one for each rung, or none.
    Counted(Vec<Closed>),
    /// Dropped, and why.
    Dropped(&'static str),
    /// Too little is known of what is usual, or the histogram is another: why.
    NotYet(String),
}

/// The counts of one guard's source.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    rungs: Vec<Rung>,
    dropped: u64,
    dropped_in_a_row: u32,
}

#[derive(Debug, Clone, Default)]
struct Rung {
    threshold: Option<Threshold>,
    meter: Meter,
}

/// Readings dropped in a row after which the source is not believed.
const DOUBTFUL: u32 = 3;

impl Tally {
    /// Takes what a source answered.
    pub fn take(&mut self, counted: &Counted) -> Outcome {
        let readings = match self.readings(counted) {
            Ok(readings) => readings,
            Err(reason) => return Outcome::NotYet(reason),
        };
        let rungs = || self.rungs.iter().zip(&readings);
        let judged = rungs().map(|(rung, reading)| rung.meter.judge(*reading));
        let Some(worst) = judged.max() else {
            return Outcome::NotYet("the histogram cannot be divided".to_owned());
        };
        let mut closed = Vec::new();
        let mut outcome = Outcome::Baseline;
        for (rung, reading) in self.rungs.iter_mut().zip(readings) {
            match rung.meter.apply(reading, worst) {
                Taken::Baseline => {}
                Taken::Dropped(why) => outcome = Outcome::Dropped(why),
                Taken::Counted(block) => {
                    closed.extend(block.map(|block| Closed {
                        threshold: rung.threshold,
                        block,
                        at: reading,
                    }));
                    outcome = Outcome::Counted(Vec::new());
                }
            }
        }
        match &mut outcome {
            Outcome::Dropped(_) => self.drop_reading(),
            Outcome::Counted(blocks) => {
                self.dropped_in_a_row = 0;
                *blocks = closed;
            }
            Outcome::Baseline | Outcome::NotYet(_) => self.dropped_in_a_row = 0,
        }
        outcome
    }

    /// The reading of each rung; makes the rungs at the first answer that allows it.
    fn readings(&mut self, counted: &Counted) -> Result<Vec<Reading>, String> {
        match counted {
            Counted::Counts(reading) => {
                if self
                    .rungs
                    .first()
                    .is_none_or(|rung| rung.threshold.is_some())
                {
                    self.rungs = vec![Rung::default()];
                }
                Ok(vec![*reading])
            }
            Counted::Buckets(treatment, control) => {
                if self
                    .rungs
                    .first()
                    .is_none_or(|rung| rung.threshold.is_none())
                {
                    self.freeze(control)?;
                }
                let each = self.rungs.iter().filter_map(|rung| rung.threshold);
                let reading = |threshold: Threshold| {
                    Ok(Reading {
                        treatment: beyond(treatment, threshold)?,
                        control: beyond(control, threshold)?,
                    })
                };
                each.map(reading).collect()
            }
        }
    }

    fn freeze(&mut self, control: &Buckets) -> Result<(), String> {
        let seen = control.total();
        if seen < BASELINE {
            return Err(format!(
                "what is usual is not known yet: {seen} of {BASELINE} requests of control"
            ));
        }
        let mut thresholds: Vec<Threshold> = QUANTILES
            .into_iter()
            .filter_map(|quantile| control.bound_at(quantile))
            .map(|(bound, quantile)| Threshold { quantile, bound })
            .collect();
        thresholds.dedup_by(|one, other| one.bound.to_bits() == other.bound.to_bits());
        if thresholds.is_empty() {
            return Err(
                "no finite bound divides control's requests: finer buckets are needed".to_owned(),
            );
        }
        self.rungs = thresholds
            .into_iter()
            .map(|threshold| Rung {
                threshold: Some(threshold),
                meter: Meter::default(),
            })
            .collect();
        Ok(())
    }

    /// Counts a reading that held no counter at all.
    pub fn drop_reading(&mut self) {
        self.dropped += 1;
        self.dropped_in_a_row = self.dropped_in_a_row.saturating_add(1);
    }

    /// Counts from the next reading on, as after a change of what is read.
    pub fn rest(&mut self) {
        self.rungs.iter_mut().for_each(|rung| rung.meter.rest());
    }

    /// Takes up a block that was closed before a restart.
    pub fn restore(&mut self, closed: &Closed) {
        let is_same = |rung: &&mut Rung| rung.threshold == closed.threshold;
        if let Some(rung) = self.rungs.iter_mut().find(is_same) {
            rung.meter.restore(closed.block, closed.at);
            return;
        }
        let mut rung = Rung {
            threshold: closed.threshold,
            meter: Meter::default(),
        };
        rung.meter.restore(closed.block, closed.at);
        self.rungs.push(rung);
    }

    /// Requests counted since the start, per arm.
    #[must_use]
    pub fn requests(&self) -> ArmCounts {
        self.rungs
            .first()
            .map_or_else(ArmCounts::default, |rung| rung.meter.requests())
    }

    /// Readings dropped so far.
    #[must_use]
    pub const fn dropped_readings(&self) -> u64 {
        self.dropped
    }

    /// Whether the last readings were dropped one after another.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.dropped_in_a_row >= DOUBTFUL
    }

    /// Whether anything that counts was ever counted by the source itself.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.rungs.iter().any(|rung| rung.meter.has_failures())
    }

    /// What was counted, as the planner wants it.
    #[must_use]
    pub fn measured(&self, self_test_passed: bool) -> Measured {
        let ladder = self.rungs.iter().filter_map(|rung| {
            let threshold = rung.threshold?;
            Some(AggregatedRung {
                quantile: threshold.quantile,
                threshold: threshold.bound,
                blocks: rung.meter.blocks().to_vec(),
            })
        });
        let rungs: Vec<AggregatedRung> = ladder.collect();
        if !rungs.is_empty() {
            return Measured::AggregatedLadder {
                rungs,
                self_test_passed,
            };
        }
        let blocks = self.rungs.first().map(|rung| rung.meter.blocks().to_vec());
        Measured::Aggregated {
            blocks: blocks.unwrap_or_default(),
            self_test_passed,
        }
    }

    /// How far a self-test is: its rung with least to go by, or the first that failed.
    #[must_use]
    pub fn self_test(&self, enough: impl Fn(&SelfTest) -> bool) -> Option<SelfTest> {
        let tests = self
            .rungs
            .iter()
            .map(|rung| self_test::judge(rung.meter.blocks()));
        let tests: Vec<SelfTest> = tests.collect();
        let unfinished = tests.iter().find(|test| !enough(test));
        let failed = || tests.iter().find(|test| !test.passed);
        unfinished.or_else(failed).or(tests.first()).cloned()
    }
}

/// Requests of an arm and those beyond a threshold.
fn beyond(buckets: &Buckets, threshold: Threshold) -> Result<Counters, String> {
    let within = buckets.at_most(threshold.bound).ok_or_else(|| {
        format!(
            "the histogram has no bound {} any more, at which it is watched",
            threshold.bound
        )
    })?;
    Ok(Counters {
        requests: buckets.total(),
        failures: buckets.total().saturating_sub(within),
    })
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Place, buckets_from_json};
    use super::*;
    use serde_json::json;

    fn usual() -> Buckets {
        let document = json!({"h": {"0.1": 5_000, "0.5": 9_500, "2": 9_990, "+Inf": 10_000}});
        buckets_from_json(&document, "/h").unwrap()
    }

    fn read(tally: &mut Tally, treatment: &Buckets, control: &Buckets) -> Outcome {
        tally.take(&Counted::Buckets(treatment.clone(), control.clone()))
    }

    #[test]
    fn thresholds_freeze_at_controls_bounds_and_exceedances_are_counted_beyond_them() {
        let mut tally = Tally::default();
        let few = buckets_from_json(&json!({"h": {"1": 5, "+Inf": 9}}), "/h").unwrap();
        let outcome = read(&mut tally, &few, &few);
        assert!(matches!(outcome, Outcome::NotYet(why) if why.contains("9 of 2000")));
        let (mut treatment, mut control) = (usual(), usual());
        assert_eq!(read(&mut tally, &treatment, &control), Outcome::Baseline);
        treatment = treatment.with_more(100, Place::BeyondAll);
        control = control.with_more(1_000, Place::AsUsual);
        let Outcome::Counted(closed) = read(&mut tally, &treatment, &control) else {
            panic!("a block closes at once");
        };
        let bounds: Vec<f64> = closed.iter().map(|c| c.threshold.unwrap().bound).collect();
        assert_eq!(bounds, [0.1, 0.5, 2.0], "p90 and p95 share a bound");
        let beyond: Vec<(u64, u64)> = closed
            .iter()
            .map(|c| (c.block.failures.treatment, c.block.failures.control))
            .collect();
        assert_eq!(beyond, [(100, 500), (100, 50), (100, 1)]);
        assert_eq!(tally.requests().total(), 1_100);
        let mut again = Tally::default();
        closed.iter().for_each(|closed| again.restore(closed));
        assert_eq!(again.measured(true), tally.measured(true));
        assert_eq!(
            read(&mut again, &treatment, &control),
            read(&mut tally, &treatment, &control),
            "a restart goes on where it was"
        );
    }

    #[test]
    fn a_reading_that_one_rung_must_drop_is_dropped_by_all() {
        let mut tally = Tally::default();
        let before = usual();
        let _ = read(&mut tally, &before, &before);
        let document = json!({"h": {"0.1": 4_000, "0.5": 9_600, "2": 10_100, "+Inf": 10_200}});
        let odd = buckets_from_json(&document, "/h").unwrap();
        // Fewer within 0.1 s than before means more new requests beyond it than new requests.
        let outcome = read(&mut tally, &odd, &before);
        assert_eq!(outcome, Outcome::Dropped("more failures than requests"));
        assert_eq!((tally.dropped_readings(), tally.requests().total()), (1, 0));
        assert!(!tally.is_doubtful());
        tally.drop_reading();
        tally.drop_reading();
        assert!(tally.is_doubtful(), "three in a row");
        let good = before.with_more(10, Place::AsUsual);
        assert!(matches!(
            read(&mut tally, &good, &before),
            Outcome::Counted(_)
        ));
        assert!(
            !tally.is_doubtful(),
            "one good reading is enough to believe again"
        );
        let gone = buckets_from_json(&json!({"h": {"7": 5, "+Inf": 10_300}}), "/h").unwrap();
        let outcome = read(&mut tally, &gone, &before);
        assert!(matches!(outcome, Outcome::NotYet(why) if why.contains("no bound 0.1 any more")));
    }
}

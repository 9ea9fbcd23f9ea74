//! What a journey fold answers; reports of buckets merge by adding.

use super::fold::Sample;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;

/// A journey's outcome by variant and segment. Variants and segments are the numbers given to the
/// fold.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JourneyReport {
    steps: usize,
    /// Groups by (variant, segment).
    #[serde(serialize_with = "as_rows")]
    pub groups: BTreeMap<(u32, u32), JourneyGroup>,
    /// Units excluded because they were exposed to two variants.
    pub mixed_units: u64,
}

fn as_rows<S: serde::Serializer>(
    groups: &BTreeMap<(u32, u32), JourneyGroup>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(groups.iter())
}

/// One group of units.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JourneyGroup {
    /// Units exposed to the variant, whether they began or not; 0 where no flag groups them.
    pub exposed: u64,
    /// Units with any step's event in the entry range, or with a chain.
    pub units: u64,
    /// Units that reached at least step 1, 2, and so on.
    pub reached: Vec<u64>,
    /// Completions; with re-entry a unit may have several.
    pub completions: u64,
    /// Units that have not completed and whose latest chain may still do so.
    pub immature: u64,
    /// For each step the times since the step before at the first arrival, microseconds; empty
    /// for the first step and in any order.
    #[serde(skip)]
    pub step_us: Vec<Vec<i64>>,
    /// Times from first step to last at the first completion, microseconds.
    #[serde(skip)]
    pub total_us: Vec<i64>,
}

/// Groups while a bucket is counted: a few, and a unit's is mostly that of the unit before.
pub(super) struct Groups {
    steps: usize,
    groups: Vec<((u32, u32), JourneyGroup)>,
    places: FxHashMap<(u32, u32), usize>,
    last: usize,
}

impl Groups {
    pub(super) fn new(steps: usize) -> Self {
        Self {
            steps,
            groups: Vec::new(),
            places: FxHashMap::default(),
            last: 0,
        }
    }

    pub(super) fn of(&mut self, variant: u32, segment: u32) -> Option<&mut JourneyGroup> {
        let key = (variant, segment);
        let is_last = self.groups.get(self.last).is_some_and(|(k, _)| *k == key);
        if !is_last {
            let next = self.groups.len();
            self.last = *self.places.entry(key).or_insert(next);
            if self.last == next {
                self.groups.push((key, JourneyGroup::empty(self.steps)));
            }
        }
        self.groups.get_mut(self.last).map(|(_, group)| group)
    }

    pub(super) fn into_report(self, mixed_units: u64) -> JourneyReport {
        JourneyReport {
            steps: self.steps,
            groups: self.groups.into_iter().collect(),
            mixed_units,
        }
    }
}

impl JourneyReport {
    /// Adds another bucket's report of the same journey.
    pub fn merge(&mut self, other: Self) {
        self.steps = self.steps.max(other.steps);
        self.mixed_units += other.mixed_units;
        for ((variant, segment), from) in other.groups {
            let steps = self.steps;
            let to = self.groups.entry((variant, segment));
            let to = to.or_insert_with(|| JourneyGroup::empty(steps));
            to.exposed += from.exposed;
            to.units += from.units;
            to.completions += from.completions;
            to.immature += from.immature;
            for (to, from) in to.reached.iter_mut().zip(from.reached) {
                *to += from;
            }
            for (to, from) in to.step_us.iter_mut().zip(from.step_us) {
                to.extend(from);
            }
            to.total_us.extend(from.total_us);
        }
    }
}

impl JourneyGroup {
    fn empty(steps: usize) -> Self {
        Self {
            reached: vec![0; steps],
            step_us: vec![Vec::new(); steps],
            ..Self::default()
        }
    }

    pub(super) fn add_times(&mut self, sample: &Sample) {
        self.total_us.extend(sample.total_us);
        let step = usize::from(sample.level).wrapping_sub(1);
        if let Some(times) = self.step_us.get_mut(step) {
            times.extend(sample.since_step_us);
        }
    }

    /// The exact quantile of the completion times by the rule "linear between order statistics at
    /// position q (n - 1)", microseconds; `None` without completions.
    #[must_use]
    pub fn total_quantile_us(&self, q: f64) -> Option<f64> {
        Self::quantiles(&self.total_us, [q]).map(|[found]| found)
    }

    /// Several of them, which costs less than one by one.
    #[must_use]
    pub fn total_quantiles_us<const N: usize>(&self, qs: [f64; N]) -> Option<[f64; N]> {
        Self::quantiles(&self.total_us, qs)
    }

    /// The same for the time from the step before to `step`, counted from 1.
    #[must_use]
    pub fn step_quantiles_us<const N: usize>(&self, step: usize, qs: [f64; N]) -> Option<[f64; N]> {
        Self::quantiles(self.step_us.get(step.checked_sub(1)?)?, qs)
    }

    fn quantiles<const N: usize>(values: &[i64], qs: [f64; N]) -> Option<[f64; N]> {
        let mut values = values.to_vec();
        let mut found = [0.0; N];
        for (found, q) in found.iter_mut().zip(qs) {
            *found = linear_quantile(&mut values, q)?;
        }
        Some(found)
    }
}

/// The quantile of some values at position `q (n - 1)`, linear between neighbours. Selecting
/// leaves the values in another order, which the next selection profits from.
fn linear_quantile(values: &mut [i64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    if !(0.0..=1.0).contains(&q) {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position below the number of values, which is far below 2^53"
    )]
    let (position, below) = {
        let position = q * last as f64;
        (position, position.floor() as usize)
    };
    let (_, low, above) = values.select_nth_unstable(below.min(last));
    let low = *low;
    let high = above.iter().min().copied().unwrap_or(low);
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations in microseconds are exact in a double up to 285 years"
    )]
    let (low, high) = (low as f64, high as f64);
    Some(low + (high - low) * (position - position.floor()))
}

//! From unit measurements to the sufficient statistics of each group.

use super::{Measure, MetricDefinition, UnitMeasurement, UnitMeasurements, Winsorise};
use serde::Serialize;
use std::collections::BTreeMap;
use tidegate_stats::winsorise::{Cap, Population};
use tidegate_stats::{JointMoments, StatsError, quantile::RankedSample};

/// One group's sufficient statistics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupStatistics {
    /// Number of the variant.
    pub variant: u32,
    /// Number of the segment.
    pub segment: u32,
    /// Moments over the group's units, one column per name in [`MetricSummary::columns`].
    pub moments: JointMoments,
    /// Observations with their units, of quantile metrics only.
    pub sample: Option<RankedSample>,
}

/// A metric measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricSummary {
    /// What the columns of the moments are.
    pub columns: Vec<&'static str>,
    /// The groups, by variant, then segment.
    pub groups: Vec<GroupStatistics>,
    /// The cap that was applied to each unit's total.
    pub cap: Option<f64>,
    /// Units excluded because they were exposed to two variants.
    pub mixed_units: u64,
    /// Units left out because they did not do both, for the time between two events.
    pub incomplete_units: u64,
    /// Measured units whose window is still open.
    pub immature_units: u64,
}

/// Joins the measurements of all buckets. The outcome does not depend on their order.
///
/// # Errors
/// [`StatsError`] if a percentile cap would be zero, or a total left the range of a double.
pub fn summarise(
    metric: &MetricDefinition,
    buckets: &[UnitMeasurements],
) -> Result<MetricSummary, StatsError> {
    let cap = cap_of(metric, buckets)?;
    let columns = metric.columns();
    let mut groups: BTreeMap<(u32, u32), JointMoments> = BTreeMap::new();
    for unit in buckets.iter().flat_map(|bucket| &bucket.units) {
        let all = row_of(unit, &columns, &cap);
        let key = (unit.variant, unit.segment);
        let moments = match groups.get_mut(&key) {
            Some(moments) => moments,
            None => groups
                .entry(key)
                .or_insert(JointMoments::new(columns.len())?),
        };
        moments.push(all.get(..columns.len()).unwrap_or(&[]))?;
    }
    let mut samples = samples_of(metric, buckets);
    let mut finished = Vec::with_capacity(groups.len());
    for ((variant, segment), moments) in groups {
        let sample = match &metric.measure {
            Measure::Quantile { .. } => {
                let observations = samples.remove(&(variant, segment));
                Some(RankedSample::new(observations.unwrap_or_default())?)
            }
            _ => None,
        };
        finished.push(GroupStatistics {
            variant,
            segment,
            moments,
            sample,
        });
    }
    let total = |count: fn(&UnitMeasurements) -> u64| buckets.iter().map(count).sum();
    Ok(MetricSummary {
        columns,
        groups: finished,
        cap: cap.upper,
        mixed_units: total(|bucket| bucket.mixed_units),
        incomplete_units: total(|bucket| bucket.incomplete_units),
        immature_units: total(|bucket| bucket.immature_units),
    })
}

impl MetricSummary {
    /// Adds a summary of other units of the same metric, where nothing is taken over all units
    /// together: see [`MetricDefinition::adds_up`]. Sums are exact, so the outcome is that of
    /// [`summarise`] over all of them.
    ///
    /// # Errors
    /// [`StatsError`] if the summaries are of different metrics.
    pub fn merge(&mut self, other: Self) -> Result<(), StatsError> {
        for group in other.groups {
            let key = |of: &GroupStatistics| (of.variant, of.segment);
            match self.groups.binary_search_by_key(&key(&group), key) {
                Ok(at) => {
                    if let Some(known) = self.groups.get_mut(at) {
                        known.moments.merge(&group.moments)?;
                    }
                }
                Err(at) => self.groups.insert(at, group),
            }
        }
        self.mixed_units += other.mixed_units;
        self.incomplete_units += other.incomplete_units;
        self.immature_units += other.immature_units;
        Ok(())
    }
}

impl MetricDefinition {
    /// Whether summaries of some units each add up to the summary of all: no cap depends on all
    /// of them, and no sample is ranked.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        fixed_cap(self).is_some() && !matches!(self.measure, Measure::Quantile { .. })
    }
}

/// A unit's values in the order of the columns; what is beyond them is zero.
pub(super) fn row_of(unit: &UnitMeasurement, columns: &[&str], cap: &Cap) -> [f64; 4] {
    let [value, second] = unit.values;
    let [covariate, second_covariate] = unit.covariates;
    let (value, covariate) = (cap.apply(value), cap.apply(covariate));
    match columns {
        ["value", "covariate"] => [value, covariate, 0.0, 0.0],
        _ => [value, second, covariate, second_covariate],
    }
}

/// The cap that does not depend on the units, if there is one.
pub(super) fn fixed_cap(metric: &MetricDefinition) -> Option<Cap> {
    match metric.winsorise {
        None => Some(Cap::default()),
        Some(Winsorise::Above(upper)) => Some(Cap {
            lower: None,
            upper: Some(upper),
        }),
        Some(Winsorise::Percentile(_)) => None,
    }
}

fn cap_of(metric: &MetricDefinition, buckets: &[UnitMeasurements]) -> Result<Cap, StatsError> {
    match (fixed_cap(metric), metric.winsorise) {
        (None, Some(Winsorise::Percentile(share))) => {
            let units = buckets.iter().flat_map(|bucket| &bucket.units);
            let totals = units.map(|unit| unit.values[0]);
            Cap::at_percentile(totals, share, Population::NonZero)
        }
        (cap, _) => Ok(cap.unwrap_or_default()),
    }
}

type Samples = BTreeMap<(u32, u32), Vec<(f64, u64)>>;

fn samples_of(metric: &MetricDefinition, buckets: &[UnitMeasurements]) -> Samples {
    let mut samples = Samples::new();
    if matches!(metric.measure, Measure::Quantile { .. }) {
        for seen in buckets.iter().flat_map(|bucket| &bucket.observations) {
            samples
                .entry((seen.variant, seen.segment))
                .or_default()
                .push((seen.value, seen.unit));
        }
    }
    samples
}

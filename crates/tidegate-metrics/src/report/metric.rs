//! A metric by variant: each arm's value, each treatment against the control, and whether the
//! split can be trusted.
//!
//! The figures are those of `tidegate stats compare` on the same columns of one row per unit:
//! means and shares by their arm summaries, ratios and quantiles clustered by unit, covariates by
//! the joint moments.

use super::comparing::{Comparing, ComparisonError, Interval, SharesAre};
use super::{Ground, ReportError, Subject, segment_text};
use crate::measure::{GroupStatistics, Measure, MetricDefinition, MetricSummary};
use crate::query::{Answer, Findings, Query};
use serde::Serialize;
use std::collections::BTreeMap;
use tidegate_stats::figures::Figures;
use tidegate_stats::proportions::Count;
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::srm::{self, Phase, SrmOptions, SrmReport};
use tidegate_stats::{ArmSummary, Contrast, Estimate, Side, StatsError, cuped};

/// A metric by variant.
#[derive(Debug, Clone, Serialize)]
pub struct MetricReport {
    /// The flag whose variants are compared.
    pub flag: String,
    /// The arm compared against.
    pub control: Option<String>,
    /// The property that divides the arms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// How.
    pub method: Comparing,
    /// By segment, the control first.
    pub rows: Vec<MetricRow>,
    /// Who is in, and who is not.
    pub units: UnitCounts,
    /// Whether units arrived in the shares they were served in.
    pub split: SplitCheck,
    /// The cap applied to each unit's total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What it rests on.
    #[serde(flatten)]
    pub ground: Ground,
}

/// One arm, of one segment.
#[derive(Debug, Clone, Serialize)]
pub struct MetricRow {
    /// The segment; `null` for units without the property, or where none was asked for.
    pub segment: Option<String>,
    /// The variant.
    pub variant: String,
    /// Whether the others are compared against it.
    pub is_control: bool,
    /// Units.
    pub n: u64,
    /// The metric over them.
    pub value: Option<f64>,
    /// Its interval; `null` while there are too few events to claim one.
    pub interval: Option<Interval>,
    /// Against the control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Figures>,
    /// Why there is no value or no comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
}

/// Who is in, and who is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnitCounts {
    /// Units in the rows.
    pub counted: u64,
    /// Units exposed to two variants: in no row.
    pub mixed: u64,
    /// Units that did not do both, of a time between two events: in no row.
    pub incomplete: u64,
    /// Units in the rows whose window is still open.
    pub immature: u64,
}

/// Whether units arrived in the shares they were served in.
#[derive(Debug, Clone, Serialize)]
pub struct SplitCheck {
    /// Where the shares come from.
    pub shares: SharesAre,
    /// The variants, in the order of the check's arms.
    pub variants: Vec<String>,
    /// The check; `null` with fewer than two variants, or where completing decides who is counted.
    pub check: Option<SrmReport>,
}

/// Makes the report of a metric.
///
/// # Errors
/// [`ReportError`] for a control or shares of variants not seen, and options out of range.
pub fn metric_report(
    subject: Subject,
    query: &Query,
    answer: &Answer,
    comparing: &Comparing,
) -> Result<MetricReport, ReportError> {
    comparing.check()?;
    let (Query::UnitMetric { metric, by, .. }, Findings::UnitMetric(summary)) =
        (query, &answer.findings)
    else {
        return Err(ReportError::Mismatch);
    };
    let variants = variants_of(answer, summary.groups.iter().map(|group| group.variant));
    let control = control_of(comparing, &variants)?;
    let mut rows = Vec::new();
    let mut segments: BTreeMap<u32, Vec<&GroupStatistics>> = BTreeMap::new();
    for group in &summary.groups {
        segments.entry(group.segment).or_default().push(group);
    }
    for (segment, mut groups) in segments {
        let is_control =
            |group: &GroupStatistics| control.as_deref() == Some(answer.name(group.variant));
        groups.sort_by_key(|group| (!is_control(group), group.variant));
        let baseline = groups.iter().copied().find(|group| is_control(group));
        for group in groups {
            let mut row = own_row(metric, group, comparing);
            row.variant = answer.name(group.variant).to_owned();
            row.segment = segment_text(answer, segment);
            row.is_control = is_control(group);
            if let (Some(baseline), false) = (baseline, row.is_control) {
                match compare(metric, comparing, baseline, group) {
                    Ok(figures) => row.comparison = Some(figures),
                    Err(error) => row.unanswered = Some(error.to_string()),
                }
            }
            rows.push(row);
        }
    }
    let units = UnitCounts {
        counted: rows.iter().map(|row| row.n).sum(),
        mixed: summary.mixed_units,
        incomplete: summary.incomplete_units,
        immature: summary.immature_units,
    };
    let split = split_check(metric, comparing, &rows, variants)?;
    let notes = notes(metric, summary, &rows, &split, &by.flag);
    Ok(MetricReport {
        flag: by.flag.clone(),
        control,
        segment: by.segment.clone(),
        method: comparing.clone(),
        rows,
        units,
        split,
        cap: summary.cap,
        notes,
        ground: Ground::of(subject, query, answer, comparing),
    })
}

pub(super) fn variants_of(answer: &Answer, numbers: impl Iterator<Item = u32>) -> Vec<String> {
    let mut variants: Vec<String> = numbers
        .map(|number| answer.name(number).to_owned())
        .collect();
    variants.sort();
    variants.dedup();
    variants
}

/// The arm compared against: the one asked for, or one of the names that mean "as before".
pub(super) fn control_of(
    comparing: &Comparing,
    variants: &[String],
) -> Result<Option<String>, ReportError> {
    let is_seen = |name: &str| variants.iter().any(|variant| variant == name);
    let unseen = |control: &str| ReportError::NoControl {
        control: control.to_owned(),
        variants: variants.to_vec(),
    };
    match comparing.control.as_deref() {
        Some(control) if is_seen(control) => Ok(Some(control.to_owned())),
        Some(control) if variants.is_empty() => Ok(Some(control.to_owned())),
        Some(control) => Err(unseen(control)),
        None => {
            let usual = ["control", "off", "false"]
                .into_iter()
                .find(|name| is_seen(name));
            match usual {
                None if variants.len() > 1 => Err(unseen("")),
                usual => Ok(usual.map(str::to_owned)),
            }
        }
    }
}

fn is_share(metric: &MetricDefinition) -> bool {
    matches!(
        metric.measure,
        Measure::Conversion { .. } | Measure::Retention { .. }
    )
}

fn is_ratio(metric: &MetricDefinition) -> bool {
    matches!(metric.measure, Measure::Mean { .. } | Measure::Ratio { .. })
}

const RATIO: RatioColumns = RatioColumns {
    numerator: 0,
    denominator: 1,
};
/// The same before exposure.
const HISTORY: RatioColumns = RatioColumns {
    numerator: 2,
    denominator: 3,
};

fn own_row(metric: &MetricDefinition, group: &GroupStatistics, comparing: &Comparing) -> MetricRow {
    let estimate = own_estimate(metric, group);
    let interval = match &estimate {
        Ok(estimate) if is_share(metric) => {
            comparing.share_interval(estimate.events, estimate.units)
        }
        Ok(estimate) => comparing.own_interval(estimate),
        Err(_) => None,
    };
    MetricRow {
        segment: None,
        variant: String::new(),
        is_control: false,
        n: group.moments.units(),
        value: estimate.as_ref().ok().map(|estimate| estimate.value),
        interval,
        comparison: None,
        unanswered: estimate.err().map(|error| error.to_string()),
    }
}

/// An arm's own value with the variance of it.
fn own_estimate(
    metric: &MetricDefinition,
    group: &GroupStatistics,
) -> Result<Estimate, StatsError> {
    if is_ratio(metric) {
        return ratio::estimate(&group.moments, RATIO, Side::Control);
    }
    if let (Measure::Quantile { q, .. }, Some(sample)) = (&metric.measure, &group.sample) {
        return sample.estimate(*q, Side::Control);
    }
    let units = group.moments.units();
    let value = group.moments.mean(0).ok_or(StatsError::TooFewUnits {
        side: Side::Control,
        units,
        needed: 1,
    })?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of units are far below 2^53"
    )]
    let variance = group.moments.covariance(0, 0).unwrap_or(0.0).max(0.0) / units as f64;
    Ok(Estimate {
        value,
        variance,
        units,
        events: group.moments.events(0).unwrap_or(0),
    })
}

fn compare(
    metric: &MetricDefinition,
    comparing: &Comparing,
    control: &GroupStatistics,
    treatment: &GroupStatistics,
) -> Result<Figures, ComparisonError> {
    let (left, right) = (&control.moments, &treatment.moments);
    if let Measure::Quantile { q, .. } = &metric.measure {
        let (Some(left), Some(right)) = (&control.sample, &treatment.sample) else {
            let mismatch = StatsError::Mismatch {
                what: "observations of a quantile",
                left: 0,
                right: 0,
            };
            return Err(mismatch.into());
        };
        return comparing.compare_quantiles(left, right, *q);
    }
    if is_share(metric) && left.columns() == 1 {
        return comparing.compare_shares(count_of(control), count_of(treatment));
    }
    let adjusted = match (is_ratio(metric), left.columns()) {
        (false, 1) => {
            let control = summary_of(control, Side::Control)?;
            let treatment = summary_of(treatment, Side::Treatment)?;
            return comparing.compare(&Contrast::of_means(&control, &treatment)?);
        }
        (true, 2) => return comparing.compare(&ratio::contrast(left, right, RATIO)?),
        (false, _) => {
            let covariates: Vec<usize> = (1..left.columns()).collect();
            cuped::means(left, right, 0, &covariates)?
        }
        (true, _) => cuped::ratio(left, right, RATIO, &[HISTORY])?,
    };
    let mut figures = comparing.compare(&adjusted.contrast)?;
    figures.variance_reduction = Some(adjusted.variance_reduction);
    Ok(figures)
}

fn count_of(group: &GroupStatistics) -> Count {
    Count {
        successes: group.moments.events(0).unwrap_or(0),
        units: group.moments.units(),
    }
}

/// The arm as `tidegate stats compare` summarises a column of one row per unit.
fn summary_of(group: &GroupStatistics, side: Side) -> Result<ArmSummary, StatsError> {
    let units = group.moments.units();
    let events = group.moments.events(0).unwrap_or(0);
    let (Some(mean), Some(variance)) = (group.moments.mean(0), group.moments.covariance(0, 0))
    else {
        return Err(StatsError::TooFewUnits {
            side,
            units,
            needed: 2,
        });
    };
    ArmSummary::new(units, mean, variance.max(0.0)).map(|arm| arm.with_events(events))
}

/// Units per variant against the shares they were served in. A variant that was served and never
/// seen counts with no units; shares that changed say nothing.
fn split_check(
    metric: &MetricDefinition,
    comparing: &Comparing,
    rows: &[MetricRow],
    mut variants: Vec<String>,
) -> Result<SplitCheck, ReportError> {
    let shares = comparing.shares_are;
    let count = |variant: &String| {
        let of_variant = rows.iter().filter(|row| row.variant == *variant);
        of_variant.map(|row| row.n).sum()
    };
    let share_of = |variant: &String| {
        let mut known = comparing.shares.iter();
        known
            .find(|(name, _)| name == variant)
            .map(|(_, share)| *share)
    };
    let is_known = variants.iter().all(|variant| share_of(variant).is_some());
    if shares == SharesAre::Given && !is_known {
        let given = comparing.shares.iter().map(|(name, _)| name.clone());
        return Err(ReportError::Shares {
            given: given.collect(),
            variants,
        });
    }
    if shares == SharesAre::Served && !variants.is_empty() {
        let served = comparing.shares.iter().filter(|(_, share)| *share > 0.0);
        variants.extend(served.map(|(name, _)| name.clone()));
        variants.sort();
        variants.dedup();
    }
    let decides_itself = matches!(metric.measure, Measure::TimeBetween { .. });
    let is_told = match shares {
        SharesAre::Equal | SharesAre::Given => true,
        SharesAre::Served => is_known,
        SharesAre::Changed => false,
    };
    let weight = |variant| match shares {
        SharesAre::Equal => 1.0,
        _ => share_of(variant).unwrap_or(0.0),
    };
    let phase = Phase {
        weights: variants.iter().map(weight).collect(),
        counts: variants.iter().map(count).collect(),
    };
    let check = (variants.len() > 1 && is_told && !decides_itself)
        .then(|| srm::check(&[phase], &SrmOptions::default()).ok())
        .flatten();
    Ok(SplitCheck {
        shares,
        variants,
        check,
    })
}

fn notes(
    metric: &MetricDefinition,
    summary: &MetricSummary,
    rows: &[MetricRow],
    split: &SplitCheck,
    flag: &str,
) -> Vec<String> {
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push(format!(
            "no unit was exposed to {flag:?} on these days; exposures are events of kind exposure"
        ));
    }
    // Of everybody who was exposed, those who are left out of a time between two events included.
    let counted: u64 = rows.iter().map(|row| row.n).sum();
    let exposed = counted + summary.incomplete_units + summary.mixed_units;
    if summary.mixed_units > 0 {
        notes.push(format!(
            "{} of {exposed} units were exposed to two variants and are in no row",
            summary.mixed_units
        ));
    }
    match split.shares {
        SharesAre::Equal if split.check.is_some() => notes.push(
            "the split check takes equal shares, for the flag does not say which it served; give \
             --shares if others were"
                .to_owned(),
        ),
        SharesAre::Served if split.check.is_none() && split.variants.len() > 1 => notes.push(
            "the split is not checked: variants were seen that the flag does not share out; give \
             --shares"
                .to_owned(),
        ),
        SharesAre::Changed => notes.push(
            "the split is not checked: the flag's shares changed within these days; begin --from \
             the day after the last change, or give --shares"
                .to_owned(),
        ),
        _ => {}
    }
    if matches!(metric.measure, Measure::TimeBetween { .. }) {
        notes.push(format!(
            "only units that did both are in; {} did not, which may itself depend on the variant",
            summary.incomplete_units
        ));
    }
    if matches!(metric.measure, Measure::Quantile { .. }) && metric.covariate_seconds.is_some() {
        notes.push("a quantile is not adjusted by its covariate".to_owned());
    }
    if summary.immature_units > 0 {
        notes.push(format!(
            "{} units have open windows",
            summary.immature_units
        ));
    }
    notes
}

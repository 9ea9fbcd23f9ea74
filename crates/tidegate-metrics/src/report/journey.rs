//! A journey by variant and segment: how many reach each step, where they leave, how long it takes.
//!
//! By a flag, shares are of the units exposed to the variant, whether they began the journey or
//! not: who begins may itself depend on the variant. Without one, they are of the units that did
//! any of the steps.

use super::comparing::{Comparing, ComparisonError, Interval};
use super::metric::{control_of, variants_of};
use super::{Ground, ReportError, Subject, segment_text};
use crate::journey::{Counted, JourneyDefinition, JourneyGroup};
use crate::query::{Answer, Findings, Query};
use serde::Serialize;
use std::collections::BTreeMap;
use tidegate_stats::figures::Figures;
use tidegate_stats::proportions::Count;

/// A journey by variant and segment.
#[derive(Debug, Clone, Serialize)]
pub struct JourneyTable {
    /// The flag whose variants are compared.
    pub flag: Option<String>,
    /// The arm compared against.
    pub control: Option<String>,
    /// The property that divides the units.
    pub segment: Option<String>,
    /// How.
    pub method: Comparing,
    /// What the shares are of, in words.
    pub shares_of: String,
    /// By segment, the control first.
    pub rows: Vec<JourneyRow>,
    /// Units exposed to two variants: in no row.
    pub mixed_units: u64,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What it rests on.
    #[serde(flatten)]
    pub ground: Ground,
}

/// One group of units.
#[derive(Debug, Clone, Serialize)]
pub struct JourneyRow {
    /// The segment; `null` for units without the property, or where none was asked for.
    pub segment: Option<String>,
    /// The variant; `null` without a flag.
    pub variant: Option<String>,
    /// Whether the others are compared against it.
    pub is_control: bool,
    /// Units the shares are of.
    pub n: u64,
    /// The share of them that completed.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<Interval>,
    /// Units that did any of the steps.
    pub began: u64,
    /// Completions; with re-entry a unit may have several.
    pub completions: u64,
    /// Units that have not completed and still may.
    pub immature: u64,
    /// The steps.
    pub steps: Vec<StepRow>,
    /// From the first step to the last.
    pub completion_time: Option<Times>,
    /// The share that completed, against the control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Figures>,
    /// Why there is no comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct StepRow {
    /// Counted from 1.
    pub step: usize,
    /// Its event.
    pub name: String,
    /// Units that reached it.
    pub reached: u64,
    /// Units the share is of.
    pub n: u64,
    /// The share that reached it.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<Interval>,
    /// The share of those at the step before; `null` for the first.
    pub of_previous: Option<f64>,
    /// Units that reached the step before and not this one.
    pub drop_off: u64,
    /// Time since the step before; `null` for the first step and in any order.
    pub since_previous: Option<Times>,
}

/// Quantiles of durations over the units that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// Units measured.
    pub n: usize,
    /// Half of them took at most so many seconds.
    pub p50_seconds: f64,
    /// Three quarters.
    pub p75_seconds: f64,
    /// Nine tenths.
    pub p90_seconds: f64,
    /// Ninety-nine of a hundred.
    pub p99_seconds: f64,
}

/// Makes the report of a journey.
///
/// # Errors
/// As [`super::metric_report`].
pub fn journey_report(
    subject: Subject,
    query: &Query,
    answer: &Answer,
    comparing: &Comparing,
) -> Result<JourneyTable, ReportError> {
    comparing.check()?;
    let (Query::Journey { journey, by, .. }, Findings::Journey(found)) = (query, &answer.findings)
    else {
        return Err(ReportError::Mismatch);
    };
    let has_flag = by.is_some();
    let counted = journey.key.as_ref().map(|key| (&key.property, key.counts));
    // Values of one unit stand and fall together: they are no sample of their own.
    let counts_randomised = !matches!(counted, Some((_, Counted::UnitAndValue)));
    let variants = variants_of(answer, found.groups.keys().map(|(variant, _)| *variant));
    let control = match has_flag {
        true => control_of(comparing, &variants)?,
        false => None,
    };
    let mut segments: BTreeMap<u32, Vec<(&str, &JourneyGroup)>> = BTreeMap::new();
    for ((variant, segment), group) in &found.groups {
        let groups = segments.entry(*segment).or_default();
        groups.push((answer.name(*variant), group));
    }
    let mut rows = Vec::new();
    for (segment, mut groups) in segments {
        let is_control = |variant: &str| control.as_deref() == Some(variant);
        groups.sort_by_key(|(variant, _)| (!is_control(variant), *variant));
        let baseline = groups
            .iter()
            .find(|(variant, _)| is_control(variant))
            .copied();
        for (variant, group) in groups {
            let mut row = row_of(journey, group, has_flag && counts_randomised, comparing);
            row.segment = segment_text(answer, segment);
            row.variant = has_flag.then(|| variant.to_owned());
            row.is_control = is_control(variant);
            if !counts_randomised {
                row.interval = None;
                row.steps.iter_mut().for_each(|step| step.interval = None);
            } else if let (Some((_, baseline)), false) = (baseline, row.is_control) {
                match compare(comparing, baseline, group) {
                    Ok(figures) => row.comparison = Some(figures),
                    Err(error) => row.unanswered = Some(error.to_string()),
                }
            }
            rows.push(row);
        }
    }
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push("no unit did any of the steps on these days".to_owned());
    }
    if found.mixed_units > 0 {
        notes.push(format!(
            "{} units were exposed to two variants and are in no row",
            found.mixed_units
        ));
    }
    if !counts_randomised {
        notes.push(
            "several values may be one unit's, so shares have no intervals and are not compared; \
             count units for that"
                .to_owned(),
        );
    }
    let immature: u64 = rows.iter().map(|row| row.immature).sum();
    if immature > 0 {
        notes.push(format!(
            "{immature} units have open windows and may still complete"
        ));
    }
    Ok(JourneyTable {
        flag: by.as_ref().map(|by| by.flag.clone()),
        control,
        segment: by.as_ref().and_then(|by| by.segment.clone()),
        method: comparing.clone(),
        shares_of: match (counted, has_flag) {
            (None | Some((_, Counted::Unit)), true) => "units exposed to the variant".to_owned(),
            (None | Some((_, Counted::Unit)), false) => {
                "units that did any of the steps".to_owned()
            }
            (Some((property, Counted::UnitAndValue)), _) => {
                format!("{property} of a unit that did any of the steps")
            }
            (Some((property, Counted::Value)), true) => {
                format!("{property} exposed to the variant")
            }
            (Some((property, Counted::Value)), false) => {
                format!("{property} that did any of the steps")
            }
        },
        rows,
        mixed_units: found.mixed_units,
        notes,
        ground: Ground::of(subject, query, answer, comparing),
    })
}

fn completed(group: &JourneyGroup) -> u64 {
    group.reached.last().copied().unwrap_or(0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of units are far below 2^53"
)]
fn share(count: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

fn row_of(
    journey: &JourneyDefinition,
    group: &JourneyGroup,
    has_flag: bool,
    comparing: &Comparing,
) -> JourneyRow {
    let n = if has_flag { group.exposed } else { group.units };
    let mut steps = Vec::new();
    let mut before = None;
    let names = journey.steps.iter().map(|step| &step.event.name);
    for ((step, name), reached) in (1..).zip(names).zip(&group.reached) {
        steps.push(StepRow {
            step,
            name: name.clone(),
            reached: *reached,
            n,
            value: share(*reached, n),
            interval: comparing.share_interval(*reached, n),
            of_previous: before.and_then(|before| share(*reached, before)),
            drop_off: before.unwrap_or(n).saturating_sub(*reached),
            since_previous: times(group.step_quantiles_us(step, QUANTILES), || {
                group.step_us.get(step - 1).map_or(0, Vec::len)
            }),
        });
        before = Some(*reached);
    }
    JourneyRow {
        segment: None,
        variant: None,
        is_control: false,
        n,
        value: share(completed(group), n),
        interval: comparing.share_interval(completed(group), n),
        began: group.units,
        completions: group.completions,
        immature: group.immature,
        steps,
        completion_time: times(group.total_quantiles_us(QUANTILES), || group.total_us.len()),
        comparison: None,
        unanswered: None,
    }
}

const QUANTILES: [f64; 4] = [0.5, 0.75, 0.9, 0.99];

fn times(quantiles_us: Option<[f64; 4]>, n: impl Fn() -> usize) -> Option<Times> {
    let [p50, p75, p90, p99] = quantiles_us?.map(|us| us / 1e6);
    Some(Times {
        n: n(),
        p50_seconds: p50,
        p75_seconds: p75,
        p90_seconds: p90,
        p99_seconds: p99,
    })
}

fn compare(
    comparing: &Comparing,
    control: &JourneyGroup,
    treatment: &JourneyGroup,
) -> Result<Figures, ComparisonError> {
    let count = |group: &JourneyGroup| Count {
        successes: completed(group),
        units: group.exposed,
    };
    comparing.compare_shares(count(control), count(treatment))
}

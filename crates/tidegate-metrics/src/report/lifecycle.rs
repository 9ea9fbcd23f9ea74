//! Lifecycle and stickiness: counts per period, and one share of each with its interval.

use super::comparing::{Comparing, Interval};
use super::{Ground, ReportError, Subject, day_text, is_over_before, segment_text};
use crate::lifecycle::LifecycleCell;
use crate::query::{Answer, Findings, Query};
use serde::Serialize;
use std::collections::BTreeMap;
use tidegate_stats::Estimate;

/// Which units are new, stay, come back and leave, by period.
#[derive(Debug, Clone, Serialize)]
pub struct LifecycleReport {
    /// `lifecycle` or `stickiness`.
    pub shows: &'static str,
    /// The flag whose variants divide the units.
    pub flag: Option<String>,
    /// The property that divides them.
    pub segment: Option<String>,
    /// Days in a period.
    pub period_days: u32,
    /// The error of intervals, each for one look.
    pub alpha: f64,
    /// By period, of those that have begun.
    pub rows: Vec<LifecycleRow>,
    /// Units exposed to two variants: in no row.
    pub mixed_units: u64,
    /// What it rests on.
    #[serde(flatten)]
    pub ground: Ground,
}

/// One period.
#[derive(Debug, Clone, Serialize)]
pub struct LifecycleRow {
    /// The period's first UTC day.
    pub from: String,
    /// The period's last UTC day.
    pub to: String,
    /// Whether the period was over when the newest event was received; in others units are yet to
    /// come.
    pub is_complete: bool,
    /// The variant; `null` without a flag.
    pub variant: Option<String>,
    /// The segment.
    pub segment: Option<String>,
    /// Of a lifecycle the units active in the period before, of stickiness those in this one.
    pub n: u64,
    /// Of a lifecycle the share of them active in this one too; of stickiness the mean share of
    /// the period's days on which they were.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<Interval>,
    /// Units active in the period.
    pub active: u64,
    /// The kinds of units.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Kinds>,
    /// Active units by the number of days they were active on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_days: Option<BTreeMap<u32, u64>>,
}

/// Units by what they are in a period.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Kinds {
    /// Active for the first time.
    pub new: u64,
    /// Active in the period before too.
    pub returning: u64,
    /// Active earlier, and not in the period before.
    pub resurrecting: u64,
    /// Active in the period before, and not in this one.
    pub dormant: u64,
}

/// Makes the report of a lifecycle question: who is new, stays, comes back and leaves.
///
/// # Errors
/// [`ReportError::Mismatch`] for the answer to another question.
pub fn lifecycle_report(
    subject: Subject,
    query: &Query,
    answer: &Answer,
    alpha: f64,
) -> Result<LifecycleReport, ReportError> {
    report(
        "lifecycle",
        subject,
        query,
        answer,
        alpha,
        &|cell, comparing, row| {
            let before = cell.returning + cell.dormant;
            row.n = before;
            row.value = share(cell.returning, before);
            row.interval = comparing.share_interval(cell.returning, before);
            row.kinds = Some(Kinds {
                new: cell.new,
                returning: cell.returning,
                resurrecting: cell.resurrecting,
                dormant: cell.dormant,
            });
        },
    )
}

/// Makes the report of the same question: on how many days of a period its units are active.
///
/// # Errors
/// As [`lifecycle_report`].
pub fn stickiness_report(
    subject: Subject,
    query: &Query,
    answer: &Answer,
    alpha: f64,
) -> Result<LifecycleReport, ReportError> {
    let Query::Lifecycle { period_days, .. } = query else {
        return Err(ReportError::Mismatch);
    };
    let length = f64::from((*period_days).max(1));
    report(
        "stickiness",
        subject,
        query,
        answer,
        alpha,
        &|cell, comparing, row| {
            let estimate = mean_share(cell, length);
            row.n = cell.active();
            row.value = estimate.map(|estimate| estimate.value);
            row.interval = estimate.and_then(|estimate| comparing.own_interval(&estimate));
            row.by_days = Some(cell.by_days.clone());
        },
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of units are far below 2^53"
)]
fn share(count: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

/// The mean over units of the share of days they were active on, with the variance of that mean.
fn mean_share(cell: &LifecycleCell, length: f64) -> Option<Estimate> {
    let units = cell.active();
    let shares = || {
        let by_days = cell.by_days.iter();
        by_days.filter_map(|(days, count)| Some((f64::from(*days) / length, share(*count, units)?)))
    };
    let value = (units > 0).then(|| shares().map(|(share, weight)| share * weight).sum::<f64>())?;
    let spread: f64 = shares()
        .map(|(share, weight)| weight * (share - value) * (share - value))
        .sum();
    let variance = share(1, units.saturating_sub(1)).unwrap_or(0.0) * spread;
    Some(Estimate {
        value,
        variance,
        units,
        events: units,
    })
}

fn report(
    shows: &'static str,
    subject: Subject,
    query: &Query,
    answer: &Answer,
    alpha: f64,
    fill: &dyn Fn(&LifecycleCell, &Comparing, &mut LifecycleRow),
) -> Result<LifecycleReport, ReportError> {
    let comparing = Comparing::one_look(alpha)?;
    let (
        Query::Lifecycle {
            days,
            period_days,
            by,
            ..
        },
        Findings::Lifecycle(found),
    ) = (query, &answer.findings)
    else {
        return Err(ReportError::Mismatch);
    };
    let length = i64::from((*period_days).max(1));
    let first_of = |period: i64| days.first.saturating_add(period.saturating_mul(length));
    // Nobody has left a period that is still to come.
    let has_begun = |period: i64| {
        answer.received_until_us.is_none() || is_over_before(first_of(period), answer)
    };
    let cells = found.cells.iter();
    let cells = cells.filter(|(key, cell)| cell.active() > 0 || has_begun(key.period));
    let rows = cells.map(|(key, cell)| {
        let first = first_of(key.period);
        let next = first.saturating_add(length);
        let mut row = LifecycleRow {
            from: day_text(first),
            to: day_text(next.saturating_sub(1)),
            is_complete: is_over_before(next, answer),
            variant: by.as_ref().map(|_| answer.name(key.variant).to_owned()),
            segment: segment_text(answer, key.segment),
            n: 0,
            value: None,
            interval: None,
            active: cell.active(),
            kinds: None,
            by_days: None,
        };
        fill(cell, &comparing, &mut row);
        row
    });
    Ok(LifecycleReport {
        shows,
        flag: by.as_ref().map(|by| by.flag.clone()),
        segment: by.as_ref().and_then(|by| by.segment.clone()),
        period_days: *period_days,
        alpha,
        rows: rows.collect(),
        mixed_units: found.mixed_units,
        ground: Ground::of(subject, query, answer, &(shows, alpha)),
    })
}

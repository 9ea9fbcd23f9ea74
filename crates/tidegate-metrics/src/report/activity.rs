//! Usage and retention: counts, not estimates; retention's shares have intervals.

use super::comparing::{Comparing, Interval};
use super::{DAY_US, Ground, ReportError, Subject, day_text, is_over_before, segment_text};
use crate::query::{Answer, Findings, Query};
use serde::Serialize;

/// Events and distinct units per period.
#[derive(Debug, Clone, Serialize)]
pub struct AdoptionReport {
    /// The flag whose variants divide the units.
    pub flag: Option<String>,
    /// The property that divides them.
    pub segment: Option<String>,
    /// Days in a period.
    pub period_days: u32,
    /// The cells with events, by period.
    pub rows: Vec<AdoptionRow>,
    /// Units exposed to two variants: in no row.
    pub mixed_units: u64,
    /// What it rests on.
    #[serde(flatten)]
    pub ground: Ground,
}

/// One event of one arm in one period.
#[derive(Debug, Clone, Serialize)]
pub struct AdoptionRow {
    /// The period's first UTC day.
    pub from: String,
    /// The period's last UTC day.
    pub to: String,
    /// Whether the period was over when the newest event was received.
    pub is_complete: bool,
    /// The event.
    pub event: String,
    /// The variant; `null` without a flag.
    pub variant: Option<String>,
    /// The segment.
    pub segment: Option<String>,
    /// Events.
    pub n: u64,
    /// Distinct units, exactly.
    pub value: u64,
    /// None: a count of what happened is not an estimate.
    pub interval: Option<Interval>,
    /// Units exposed to the variant over all periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed: Option<u64>,
}

/// Makes the report of an adoption question.
///
/// # Errors
/// [`ReportError::Mismatch`] for the answer to another question.
pub fn adoption_report(
    subject: Subject,
    query: &Query,
    answer: &Answer,
) -> Result<AdoptionReport, ReportError> {
    let (
        Query::Adoption {
            events,
            by,
            days,
            period_days,
        },
        Findings::Adoption(found),
    ) = (query, &answer.findings)
    else {
        return Err(ReportError::Mismatch);
    };
    let length = i64::from((*period_days).max(1));
    let row = |(key, cell): (&crate::AdoptionKey, &crate::UsageCell)| {
        let first = days.first.saturating_add(key.period.saturating_mul(length));
        let next = first.saturating_add(length);
        let arm = (key.variant, key.segment);
        AdoptionRow {
            from: day_text(first),
            to: day_text(next.saturating_sub(1)),
            is_complete: is_over_before(next, answer),
            event: events
                .get(key.filter)
                .map_or_else(String::new, |event| event.name.clone()),
            variant: by.as_ref().map(|_| answer.name(key.variant).to_owned()),
            segment: segment_text(answer, key.segment),
            n: cell.events,
            value: cell.units,
            interval: None,
            exposed: found.exposed.get(&arm).copied(),
        }
    };
    Ok(AdoptionReport {
        flag: by.as_ref().map(|by| by.flag.clone()),
        segment: by.as_ref().and_then(|by| by.segment.clone()),
        period_days: *period_days,
        rows: found.cells.iter().map(row).collect(),
        mixed_units: found.mixed_units,
        ground: Ground::of(subject, query, answer, &()),
    })
}

/// Units by first active period and periods since.
#[derive(Debug, Clone, Serialize)]
pub struct RetentionReport {
    /// Days in a period.
    pub period_days: u32,
    /// The error of intervals, each for one look.
    pub alpha: f64,
    /// By cohort, then periods later.
    pub rows: Vec<RetentionRow>,
    /// What it rests on.
    #[serde(flatten)]
    pub ground: Ground,
}

/// One cohort, some periods later.
#[derive(Debug, Clone, Serialize)]
pub struct RetentionRow {
    /// The first UTC day of the cohort's first period.
    pub cohort: String,
    /// Periods since.
    pub later: i64,
    /// Units in the cohort.
    pub n: u64,
    /// Those active in this period.
    pub active: u64,
    /// Their share.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<Interval>,
    /// Whether the period was over when the newest event was received; others may still grow.
    pub is_complete: bool,
}

/// Makes the report of a retention question. Cells without an active unit are there as zero, from
/// each cohort's first period to the last of the days asked about that had begun when the newest
/// event was received.
///
/// # Errors
/// [`ReportError::Mismatch`] for the answer to another question.
pub fn retention_report(
    subject: Subject,
    query: &Query,
    answer: &Answer,
    alpha: f64,
) -> Result<RetentionReport, ReportError> {
    let comparing = Comparing::one_look(alpha)?;
    let (
        Query::Retention {
            days, period_days, ..
        },
        Findings::Retention(found),
    ) = (query, &answer.findings)
    else {
        return Err(ReportError::Mismatch);
    };
    let length = i64::from((*period_days).max(1));
    let seen = found.cells.keys().map(|(first, later)| first + later).max();
    let today = answer.received_until_us.map(|time| time.div_euclid(DAY_US));
    let begun = today.map(|today| (today.min(days.last) - days.first).div_euclid(length));
    let last = seen.max(begun);
    let mut rows = Vec::new();
    for ((cohort, later), size) in &found.cells {
        if *later != 0 {
            continue;
        }
        for later in 0..=last.unwrap_or(*cohort) - cohort {
            let active = found.cells.get(&(*cohort, later)).copied().unwrap_or(0);
            let next = (cohort + later + 1).saturating_mul(length);
            #[expect(
                clippy::cast_precision_loss,
                reason = "numbers of units are far below 2^53"
            )]
            let value = (*size > 0).then(|| active as f64 / *size as f64);
            rows.push(RetentionRow {
                cohort: day_text(days.first.saturating_add(cohort.saturating_mul(length))),
                later,
                n: *size,
                active,
                value,
                interval: comparing
                    .share_interval(active, *size)
                    .filter(|_| later > 0),
                is_complete: is_over_before(days.first.saturating_add(next), answer),
            });
        }
    }
    Ok(RetentionReport {
        period_days: *period_days,
        alpha,
        rows,
        ground: Ground::of(subject, query, answer, &alpha),
    })
}

//! Little's law, with its assumptions looked at.
//!
//! Mean items in progress = throughput x mean cycle time (Little 1961), exactly only if over the window
//! arrivals equal departures, everything that enters also leaves, items in progress neither grow nor shrink, their
//! mean age is stable, and all three are in the same unit (days here, always).
//! Each assumption is reported as passed or not with the figures behind it; the law is a check, not a forecast.

use serde::Serialize;

use super::{Span, days_between};
use crate::moment::{Moment, Window};
use crate::statistic::mean;

/// Relative difference up to which two figures are called equal.
const TOLERANCE: f64 = 0.15;

/// Both sides of the law and its assumptions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LittlesLaw {
    /// Left side: mean items in progress over the window.
    pub mean_wip: f64,
    /// Finished per day.
    pub throughput_per_day: f64,
    /// Mean cycle time of finished items, days.
    pub mean_cycle_days: Option<f64>,
    /// Right side.
    pub predicted_wip: Option<f64>,
    /// What must hold for both sides to agree.
    pub assumptions: Vec<Assumption>,
}

/// One assumption.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumption {
    /// In words.
    pub name: &'static str,
    /// Whether it holds here.
    pub holds: bool,
    /// The figures behind that.
    pub figures: String,
}

pub(super) fn check(spans: &[Span<'_>], window: Window, cycle_days: &[f64]) -> LittlesLaw {
    let (from, to, length) = (window.from(), window.to(), window.days());
    let in_progress_days: f64 = spans
        .iter()
        .map(|span| {
            let end = span.finished.unwrap_or(to).min(to);
            days_between(span.started.max(from), end).max(0.0)
        })
        .sum();
    let arrivals = spans
        .iter()
        .filter(|span| window.contains(span.started))
        .count();
    let departures = spans
        .iter()
        .filter(|s| s.finished.is_some_and(|at| window.contains(at)))
        .count();
    let mean_wip = in_progress_days / length;
    let throughput_per_day = departures as f64 / length;
    let mean_cycle_days = mean(cycle_days);
    let (start, end) = (ages(spans, from), ages(spans, to));
    let longest = cycle_days.last().copied().unwrap_or(f64::INFINITY);
    let stuck = end.iter().filter(|&&age| age > longest).count();
    let (young, old) = (mean(&start).unwrap_or(0.0), mean(&end).unwrap_or(0.0));
    let assumption = |name, holds, figures| Assumption {
        name,
        holds,
        figures,
    };
    LittlesLaw {
        mean_wip,
        throughput_per_day,
        mean_cycle_days,
        predicted_wip: mean_cycle_days.map(|days| days * throughput_per_day),
        assumptions: vec![
            assumption(
                "arrivals equal departures",
                are_close(arrivals as f64, departures as f64),
                format!("{arrivals} started, {departures} finished"),
            ),
            assumption(
                "everything that enters leaves",
                stuck == 0,
                format!("{stuck} unfinished items are older than any finished one was"),
            ),
            assumption(
                "items in progress neither grow nor shrink",
                are_close(start.len() as f64, end.len() as f64),
                format!("{} at the start, {} at the end", start.len(), end.len()),
            ),
            assumption(
                "the mean age of items in progress is stable",
                are_close(young, old),
                format!("{young:.1} days at the start, {old:.1} at the end"),
            ),
            assumption(
                "one set of units",
                true,
                "items and days throughout".to_owned(),
            ),
        ],
    }
}

fn ages(spans: &[Span<'_>], at: Moment) -> Vec<f64> {
    spans
        .iter()
        .filter(|span| span.is_in_progress(at))
        .map(|span| days_between(span.started, at))
        .collect()
}

fn are_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.max(b).max(1.0)
}

//! How versions pass from one environment to the next, over all services: the fleet's pipeline.
//!
//! For each deployment to the first environment in the window: did its version ever reach the second, and how long
//! after its first appearance in the first did it first appear there.
//! Versions that never arrive are batched into later ones or abandoned; negative times are versions that reached
//! the second environment first.
//!
//! Version steps are differences between consecutive versions of one service in the second environment, where both
//! are a text around one number ([`crate::version_order::step`]): how many versions a deployment carries at once.

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::moment::{Window, is_weekday, span_millis};
use crate::statistic::quantile;
use crate::timeline::{Series, Timeline};
use crate::version_order::step;

const MILLIS_PER_MINUTE: f64 = 60_000.0;
/// Steps at least this large are counted together.
const LARGE_STEP: i64 = 10;

/// The pipeline between two environments over a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PromotionReport {
    /// Deployments per environment in the window: first, then second.
    pub deployments: [usize; 2],
    /// Services deployed to the second environment in the window.
    pub services: usize,
    /// Deployments to the second environment on Mondays to Fridays with at least one.
    pub per_working_day: Option<f64>,
    /// Deployments to the second environment on Saturdays and Sundays.
    pub on_weekends: usize,
    /// Deployments to the first environment whose version reached the second.
    pub arrived: usize,
    /// Deployments to the first environment whose version never did.
    pub never_arrived: usize,
    /// Of those that arrived, how many reached the second environment first.
    pub negative: usize,
    /// Median minutes from the first environment to the second.
    pub minutes_p50: Option<f64>,
    /// 90th percentile of the same.
    pub minutes_p90: Option<f64>,
    /// Deployments to the second environment by version step.
    pub steps: VersionSteps,
}

/// How many versions one deployment carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VersionSteps {
    /// The next version.
    pub one: usize,
    /// Two versions at once.
    pub two: usize,
    /// Three.
    pub three: usize,
    /// Four to nine.
    pub four_to_nine: usize,
    /// Ten or more.
    pub ten_or_more: usize,
    /// The same version again.
    pub none: usize,
    /// An older version.
    pub back: usize,
    /// Versions that do not compare.
    pub not_comparable: usize,
}

impl VersionSteps {
    fn count(&mut self, step: Option<i64>) {
        let slot = match step {
            None => &mut self.not_comparable,
            Some(1) => &mut self.one,
            Some(2) => &mut self.two,
            Some(3) => &mut self.three,
            Some(0) => &mut self.none,
            Some(step) if step < 0 => &mut self.back,
            Some(step) if step >= LARGE_STEP => &mut self.ten_or_more,
            Some(_) => &mut self.four_to_nine,
        };
        *slot += 1;
    }
}

/// Follows versions from the first environment to the second.
#[must_use]
pub fn promotions(
    timeline: &Timeline,
    first: &str,
    second: &str,
    window: Window,
) -> PromotionReport {
    let mut report = PromotionReport::default();
    let mut minutes = Vec::new();
    let mut days = Vec::new();
    for series in timeline.series() {
        if series.environment() == first {
            let arrivals = timeline.series_of(series.service(), second);
            follow(series, arrivals, window, &mut report, &mut minutes);
        } else if series.environment() == second {
            count_second(series, window, &mut report, &mut days);
        }
    }
    minutes.sort_by(f64::total_cmp);
    report.minutes_p50 = quantile(&minutes, 0.5);
    report.minutes_p90 = quantile(&minutes, 0.9);
    report.on_weekends = days.iter().filter(|&&day| !is_weekday(day)).count();
    days.sort_unstable();
    days.dedup();
    let working = days.iter().filter(|&&day| is_weekday(day)).count();
    report.per_working_day = (working > 0).then(|| report.deployments[1] as f64 / working as f64);
    report
}

fn follow(
    series: &Series,
    arrivals: Option<&Series>,
    window: Window,
    report: &mut PromotionReport,
    minutes: &mut Vec<f64>,
) {
    let here = first_seen(series);
    let there = arrivals.map(first_seen).unwrap_or_default();
    for deployment in series
        .succeeded()
        .filter(|d| window.contains(d.finished_at))
    {
        report.deployments[0] += 1;
        let version = deployment.version.as_deref().unwrap_or("");
        match (here.get(version), there.get(version)) {
            (Some(&started), Some(&arrived)) => {
                let span = span_millis(started, arrived);
                report.arrived += 1;
                report.negative += usize::from(span < 0);
                minutes.push(span as f64 / MILLIS_PER_MINUTE);
            }
            _ => report.never_arrived += 1,
        }
    }
}

fn first_seen(series: &Series) -> FxHashMap<&str, crate::Moment> {
    let mut seen = FxHashMap::default();
    for deployment in series.succeeded() {
        if let Some(version) = &deployment.version {
            seen.entry(version.as_str())
                .or_insert(deployment.finished_at);
        }
    }
    seen
}

fn count_second(
    series: &Series,
    window: Window,
    report: &mut PromotionReport,
    days: &mut Vec<i64>,
) {
    let mut before: Option<&str> = None;
    let mut deployed = false;
    for deployment in series.succeeded() {
        let version = deployment.version.as_deref();
        if window.contains(deployment.finished_at) {
            deployed = true;
            report.deployments[1] += 1;
            days.push(deployment.finished_at.day());
            report
                .steps
                .count(before.zip(version).and_then(|(from, to)| step(from, to)));
        }
        before = version.or(before);
    }
    report.services += usize::from(deployed);
}

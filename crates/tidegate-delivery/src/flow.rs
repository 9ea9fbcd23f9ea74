//! Work in progress: how much is under way, how old it is, how much gets finished, and when the rest will be.
//!
//! * An item is *in progress* from its start until its finish. *Cycle time* is finish minus start, *age* is `as_of`
//!   minus start of what is unfinished. Cycle time alone hides stuck work, so both are always reported.
//! * *Flow efficiency* is active time over active plus waiting time; only items with recorded waiting states count,
//!   and the share without them is reported as unknown.
//! * An unfinished item older than the 50th, 70th, 85th or 95th percentile of finished ones says which it has passed.
//! * Items without a start or a finish are left out of cycle times and counted.
//!
//! Must not know: who works on what.

pub mod forecast;
mod littles_law;

use serde::Serialize;

use crate::moment::{Moment, Window, span_millis};
use crate::rollback::as_text;
use crate::statistic::quantile;
use crate::timeline::{Item, Timeline};

pub use littles_law::{Assumption, LittlesLaw};

const MILLIS_PER_DAY: f64 = 86_400_000.0;
/// Percentiles at which ageing is flagged.
pub const AGE_PERCENTILES: [u8; 4] = [50, 70, 85, 95];

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct FlowQuery<'q> {
    /// One service or board; `None` means all.
    pub service: Option<&'q str>,
    /// Over which time.
    pub window: Window,
    /// Age is measured here; at most the window's end.
    pub as_of: Moment,
    /// More items than this in progress raise an alert.
    pub wip_limit: Option<usize>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowReport {
    /// Items in progress at `as_of`.
    pub wip: usize,
    /// Mean number in progress over the window.
    pub mean_wip: f64,
    /// Items finished in the window.
    pub finished: usize,
    /// Finished per week.
    pub throughput_per_week: f64,
    /// Cycle time of items finished in the window, days.
    pub cycle_time: Percentiles,
    /// Each of those items, in order of finish: the points of a scatter plot.
    pub scatter: Vec<FinishedItem>,
    /// Items in progress, oldest first.
    pub ageing: Vec<AgeingItem>,
    /// Active over active plus waiting time; absent without waiting states.
    pub flow_efficiency: Option<f64>,
    /// Finished items with and without recorded waiting states.
    pub efficiency_known: [usize; 2],
    /// Items left out: finished without a start.
    pub without_start: usize,
    /// Items with a finish before their start, left out.
    pub negative: usize,
    /// Whether mean WIP is throughput times mean cycle time, and whether it should be.
    pub littles_law: LittlesLaw,
    /// Sentences about limits passed.
    pub alerts: Vec<String>,
}

/// Cycle times in days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Items.
    pub n: usize,
    /// Half are done within this.
    pub p50: Option<f64>,
    /// 70 %.
    pub p70: Option<f64>,
    /// 85 %: the usual service-level expectation.
    pub p85: Option<f64>,
    /// 95 %.
    pub p95: Option<f64>,
}

impl Percentiles {
    fn of(sorted: &[f64]) -> Self {
        Self {
            n: sorted.len(),
            p50: quantile(sorted, 0.50),
            p70: quantile(sorted, 0.70),
            p85: quantile(sorted, 0.85),
            p95: quantile(sorted, 0.95),
        }
    }

    fn passed_by(self, days: f64) -> Option<u8> {
        let limits = [self.p50, self.p70, self.p85, self.p95];
        AGE_PERCENTILES
            .into_iter()
            .zip(limits)
            .filter(|&(_, limit)| limit.is_some_and(|limit| days > limit))
            .map(|(percentile, _)| percentile)
            .next_back()
    }
}

/// One finished item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinishedItem {
    /// `source:name`.
    pub id: String,
    /// When.
    #[serde(serialize_with = "as_text")]
    pub finished_at: Moment,
    /// How long it took.
    pub cycle_days: f64,
}

/// One unfinished item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgeingItem {
    /// `source:name`.
    pub id: String,
    /// Days since it was started.
    pub age_days: f64,
    /// Highest percentile of finished items that it is older than.
    pub older_than_percentile: Option<u8>,
}

/// An item with a start, in the terms of this module.
#[derive(Debug, Clone, Copy)]
struct Span<'t> {
    item: &'t Item,
    started: Moment,
    finished: Option<Moment>,
}

impl Span<'_> {
    fn is_in_progress(&self, at: Moment) -> bool {
        self.started <= at && self.finished.is_none_or(|finished| finished > at)
    }
}

/// Measures flow over a window.
#[must_use]
pub fn measure_flow(timeline: &Timeline, query: FlowQuery<'_>) -> FlowReport {
    let as_of = query.as_of.min(query.window.to());
    let asked: Vec<&Item> = timeline
        .items()
        .iter()
        .filter(|item| {
            query
                .service
                .is_none_or(|name| item.facts.service.as_deref() == Some(name))
        })
        .collect();
    let inside = |finished: Option<Moment>| finished.filter(|&at| query.window.contains(at));
    let without_start = asked
        .iter()
        .filter(|item| item.facts.started_at.is_none() && inside(item.facts.finished_at).is_some())
        .count();
    let all: Vec<Span<'_>> = asked
        .iter()
        .filter_map(|item| {
            let (started, finished) = (item.facts.started_at?, item.facts.finished_at);
            Some(Span {
                item,
                started,
                finished,
            })
        })
        .collect();
    let (spans, broken): (Vec<Span<'_>>, Vec<Span<'_>>) = all
        .into_iter()
        .partition(|span| span.finished.is_none_or(|end| end >= span.started));
    let finished: Vec<Span<'_>> = spans
        .iter()
        .copied()
        .filter(|span| inside(span.finished).is_some())
        .collect();
    let scatter = scatter(&finished);
    let mut days: Vec<f64> = scatter.iter().map(|item| item.cycle_days).collect();
    days.sort_by(f64::total_cmp);
    let cycle_time = Percentiles::of(&days);
    let ageing = ageing(&spans, as_of, cycle_time);
    let (flow_efficiency, known) = efficiency(&finished);
    let littles_law = littles_law::check(
        &spans,
        Window::new(query.window.from(), as_of).unwrap_or(query.window),
        &days,
    );
    FlowReport {
        wip: ageing.len(),
        mean_wip: littles_law.mean_wip,
        finished: finished.len(),
        throughput_per_week: littles_law.throughput_per_day * 7.0,
        cycle_time,
        scatter,
        alerts: alerts(&ageing, query.wip_limit),
        ageing,
        flow_efficiency,
        efficiency_known: [known, finished.len() - known],
        without_start,
        negative: broken.len(),
        littles_law,
    }
}

fn days_between(start: Moment, end: Moment) -> f64 {
    span_millis(start, end) as f64 / MILLIS_PER_DAY
}

fn scatter(finished: &[Span<'_>]) -> Vec<FinishedItem> {
    let mut items: Vec<FinishedItem> = finished
        .iter()
        .filter_map(|span| {
            let finished_at = span.finished?;
            Some(FinishedItem {
                id: span.item.id.clone(),
                finished_at,
                cycle_days: days_between(span.started, finished_at),
            })
        })
        .collect();
    items.sort_by(|a, b| (a.finished_at, &a.id).cmp(&(b.finished_at, &b.id)));
    items
}

fn ageing(spans: &[Span<'_>], as_of: Moment, finished: Percentiles) -> Vec<AgeingItem> {
    let mut ageing: Vec<AgeingItem> = spans
        .iter()
        .filter(|span| span.is_in_progress(as_of))
        .map(|span| {
            let age_days = days_between(span.started, as_of);
            AgeingItem {
                id: span.item.id.clone(),
                age_days,
                older_than_percentile: finished.passed_by(age_days),
            }
        })
        .collect();
    ageing.sort_by(|a, b| {
        b.age_days
            .total_cmp(&a.age_days)
            .then_with(|| a.id.cmp(&b.id))
    });
    ageing
}

fn alerts(ageing: &[AgeingItem], wip_limit: Option<usize>) -> Vec<String> {
    let mut alerts = Vec::new();
    if let Some(limit) = wip_limit.filter(|&limit| ageing.len() > limit) {
        alerts.push(format!(
            "{} items are in progress, the limit is {limit}",
            ageing.len()
        ));
    }
    for item in ageing
        .iter()
        .filter(|item| item.older_than_percentile >= Some(85))
    {
        let percentile = item.older_than_percentile.unwrap_or(85);
        alerts.push(format!(
            "{} is {:.1} days old, older than {percentile} % of finished items were when done",
            item.id, item.age_days
        ));
    }
    alerts
}

/// Active share of all time in items with waiting states, and how many have them.
fn efficiency(finished: &[Span<'_>]) -> (Option<f64>, usize) {
    let (mut waiting, mut total, mut known) = (0, 0, 0);
    for span in finished.iter().filter(|span| !span.item.waits.is_empty()) {
        let Some(end) = span.finished else { continue };
        known += 1;
        total += span_millis(span.started, end);
        let mut since: Option<Moment> = None;
        for &(at, is_waiting) in span.item.waits.iter().chain([&(end, false)]) {
            let at = at.clamp(span.started, end);
            if let Some(start) = since {
                waiting += span_millis(start, at);
            }
            since = is_waiting.then_some(at);
        }
    }
    let share = (total > 0).then(|| (total - waiting) as f64 / total as f64);
    (share, known)
}

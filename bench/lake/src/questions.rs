//! The fixed questions, and their answers as rows of numbers that other engines can be held to.

use crate::FIRST_DAY;
use std::collections::BTreeMap;
use tidegate_metrics::{
    Answer, Days, EventFilter, Findings, Grouping, JourneyDefinition, Measure, MetricDefinition,
    Query, Reentry, Step, StepOrder, TimedFrom,
};

pub fn name_of(number: u16) -> String {
    match number {
        0 => "step_view".to_owned(),
        1 => "step_start".to_owned(),
        2 => "step_done".to_owned(),
        3 => "purchase".to_owned(),
        other => format!("event_{other}"),
    }
}

fn days() -> Days {
    Days {
        first: FIRST_DAY,
        last: FIRST_DAY + 29,
    }
}

fn named(numbers: std::ops::Range<u16>) -> Vec<EventFilter> {
    numbers
        .map(|number| EventFilter::named(&name_of(number)))
        .collect()
}

fn journey(steps: &[u16], within_seconds: Option<u64>) -> Query {
    let step = |number: &u16| Step {
        event: EventFilter::named(&name_of(*number)),
        within_seconds: None,
    };
    Query::Journey {
        journey: JourneyDefinition {
            steps: steps.iter().map(step).collect(),
            order: StepOrder::Ordered,
            within_seconds,
            exclusions: Vec::new(),
            reentry: Reentry::Once,
            // Of the first step_view, as Q3 asks; Q2 asks for no times.
            timed_from: TimedFrom::FirstEntry,
            key: None,
        },
        by: None,
        days: days(),
    }
}

pub fn questions() -> Vec<(&'static str, Query)> {
    let recent = Days {
        first: FIRST_DAY + 28,
        last: FIRST_DAY + 28,
    };
    vec![
        (
            "q1",
            Query::UnitMetric {
                metric: MetricDefinition::of(Measure::Sum {
                    event: EventFilter::named("purchase"),
                }),
                by: Grouping {
                    flag: "flag".to_owned(),
                    segment: None,
                },
                days: days(),
            },
        ),
        ("q2", journey(&[0, 1, 2, 3], Some(7 * 86_400))),
        ("q3", journey(&[0, 3], None)),
        (
            "q4",
            Query::Usage {
                events: named(0..200),
                days: days(),
            },
        ),
        (
            "q5",
            Query::Retention {
                events: Vec::new(),
                days: days(),
                period_days: 7,
            },
        ),
        (
            "q7",
            Query::Usage {
                events: named(0..1),
                days: recent,
            },
        ),
    ]
}

/// The answer as rows of numbers. Percentiles are taken here, so whoever times an answer times this
/// with it.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn rows(name: &str, answer: &Answer) -> Vec<Vec<f64>> {
    match &answer.findings {
        Findings::UnitMetric(summary) => summary
            .groups
            .iter()
            .enumerate()
            .map(|(index, group)| {
                let n = group.moments.units() as f64;
                let mean = group.moments.mean(0).unwrap_or(0.0);
                let variance = group.moments.covariance(0, 0).unwrap_or(0.0);
                vec![
                    index as f64,
                    n,
                    mean * n,
                    variance * (n - 1.0) + mean * mean * n,
                ]
            })
            .collect(),
        Findings::Journey(report) if name == "q3" => {
            let group = report.groups.get(&(0, 0)).cloned().unwrap_or_default();
            let quantiles = group
                .total_quantiles_us([0.5, 0.9, 0.99])
                .unwrap_or_default();
            let completed = group.completions as f64;
            vec![[vec![completed], quantiles.map(|us| us / 1e6).to_vec()].concat()]
        }
        Findings::Journey(report) => {
            let mut levels = Vec::new();
            for group in report.groups.values() {
                let mut above = group.units;
                for (level, reached) in group.reached.iter().chain([&0]).enumerate() {
                    levels.push(vec![level as f64, (above - reached) as f64]);
                    above = *reached;
                }
            }
            levels
        }
        Findings::Usage(usage) if name == "q7" => usage
            .cells
            .values()
            .map(|cell| vec![cell.events as f64, cell.units as f64])
            .collect(),
        Findings::Usage(usage) => {
            let units: u64 = usage.cells.values().map(|cell| cell.units).sum();
            vec![vec![usage.cells.len() as f64, units as f64]]
        }
        Findings::Retention(retention) => {
            let cells: BTreeMap<_, _> = retention.cells.iter().collect();
            cells
                .into_iter()
                .map(|((first, later), units)| vec![*first as f64, *later as f64, *units as f64])
                .collect()
        }
        #[allow(
            unreachable_patterns,
            reason = "questions that this workload does not ask"
        )]
        _ => Vec::new(),
    }
}

//! Work in progress, ageing, and when the rest will be done.

use serde::{Deserialize, Serialize};

use super::{Form, Question, QuestionError, production, window_of, written};
use crate::flow::forecast::{BackTest, Forecast, Simulation, back_test, how_many, when_done};
use crate::flow::{FlowQuery, FlowReport, measure_flow};
use crate::moment::{Moment, Window};
use crate::timeline::Timeline;

/// Work in progress, age, throughput and cycle time over `[from, to)`, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuestion {
    /// Service or board; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// First moment inside.
    pub from: String,
    /// First moment after.
    pub to: String,
    /// More items than this in progress raise an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wip_limit: Option<usize>,
}

impl Question for FlowQuestion {
    fn answer(
        &self,
        timeline: &Timeline,
        now: Moment,
        form: Form,
    ) -> Result<String, QuestionError> {
        let query = FlowQuery {
            service: self.service.as_deref(),
            window: window_of(&self.from, &self.to)?,
            as_of: now,
            wip_limit: self.wip_limit,
        };
        written(form, &measure_flow(timeline, query), flow_lines)
    }
}

fn flow_lines(report: &FlowReport) -> Vec<String> {
    let days =
        |value: Option<f64>| value.map_or("no data".to_owned(), |days| format!("{days:.1} days"));
    let cycle = report.cycle_time;
    let mut lines = vec![
        format!(
            "{} in progress (mean {:.1}), {} finished, {:.1} a week",
            report.wip, report.mean_wip, report.finished, report.throughput_per_week
        ),
        format!(
            "cycle time: 50 % within {}, 85 % within {}, 95 % within {} (n = {})",
            days(cycle.p50),
            days(cycle.p85),
            days(cycle.p95),
            cycle.n
        ),
    ];
    for assumption in &report.littles_law.assumptions {
        let verdict = if assumption.holds {
            "holds"
        } else {
            "does not hold"
        };
        lines.push(format!(
            "Little's law: {} {verdict}: {}",
            assumption.name, assumption.figures
        ));
    }
    lines.extend(report.alerts.iter().map(|alert| format!("alert: {alert}")));
    lines
}

/// What a forecast counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Finished pieces of work.
    #[default]
    Items,
    /// Deployments to production.
    Deployments,
}

/// When will so many be done, or how many by then; from the daily throughput of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastQuestion {
    /// Service or board; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// History: first moment inside.
    pub from: String,
    /// History: first moment after.
    pub to: String,
    /// When will these many be done?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u32>,
    /// How many within these days?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// What is counted.
    #[serde(default)]
    pub of: Counted,
    /// Simulations.
    #[serde(default = "ten_thousand")]
    pub simulations: u32,
    /// Seed.
    #[serde(default)]
    pub seed: u64,
}

fn ten_thousand() -> u32 {
    10_000
}

/// Days of history that each forecast of the back-test sees.
const TRAINING_DAYS: usize = 60;

#[derive(Serialize)]
struct Answer {
    question: String,
    unit: &'static str,
    forecast: Forecast,
    history_days: usize,
    back_test: Option<BackTest>,
}

impl Question for ForecastQuestion {
    fn answer(&self, timeline: &Timeline, _: Moment, form: Form) -> Result<String, QuestionError> {
        let window = window_of(&self.from, &self.to)?;
        let history = self.daily(timeline, window);
        let simulation = Simulation {
            simulations: self.simulations,
            seed: self.seed,
        };
        let (question, unit, forecast, horizon) = match (self.items, self.days) {
            (Some(items), None) => {
                let forecast = when_done(&history, items, simulation)?;
                let question = format!("when will {items} be done");
                (question, "days", forecast, forecast.p50)
            }
            (None, Some(days)) => {
                let forecast = how_many(&history, days, simulation)?;
                let question = format!("how many within {days} days");
                (question, "items", forecast, days)
            }
            _ => {
                return Err(QuestionError::EitherOr {
                    one: "items",
                    other: "days",
                });
            }
        };
        let tested = back_test(&history, TRAINING_DAYS, horizon, simulation);
        let answer = Answer {
            question,
            unit,
            forecast,
            history_days: history.len(),
            back_test: tested.ok().filter(|test| test.n > 0),
        };
        written(form, &answer, forecast_lines)
    }
}

fn forecast_lines(answer: &Answer) -> Vec<String> {
    let Forecast { p50, p70, p85, p95 } = answer.forecast;
    let unit = answer.unit;
    let tested = match &answer.back_test {
        Some(test) => format!(
            "back-test: the 85 % forecast held in {:.0} % of {} past cases",
            test.coverage_85 * 100.0,
            test.n
        ),
        None => "back-test: the history is too short for one".to_owned(),
    };
    vec![
        format!(
            "{}: {p50} {unit} at 50 %, {p70} at 70 %, {p85} at 85 %, {p95} at 95 % (from {} days)",
            answer.question, answer.history_days
        ),
        tested,
    ]
}

impl ForecastQuestion {
    /// How many were finished on each day of the history.
    fn daily(&self, timeline: &Timeline, window: Window) -> Vec<u32> {
        let (first, last) = window.day_range();
        let mut days = vec![0_u32; usize::try_from(last - first + 1).unwrap_or(0)];
        let mut count = |at: Moment| {
            if window.contains(at)
                && let Some(day) = usize::try_from(at.day() - first)
                    .ok()
                    .and_then(|day| days.get_mut(day))
            {
                *day = day.saturating_add(1);
            }
        };
        let is_asked =
            |name: Option<&str>| self.service.is_none() || self.service.as_deref() == name;
        match self.of {
            Counted::Items => timeline
                .items()
                .iter()
                .filter(|item| is_asked(item.facts.service.as_deref()))
                .filter_map(|item| item.facts.finished_at)
                .for_each(&mut count),
            Counted::Deployments => timeline
                .series()
                .filter(|s| s.environment() == production() && is_asked(Some(s.service())))
                .flat_map(|s| s.succeeded())
                .for_each(|d| count(d.finished_at)),
        }
        days
    }
}

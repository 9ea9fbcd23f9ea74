//! A period in sentences, how services stand to their targets, and what to speak up about.

use serde::{Deserialize, Serialize};

use super::{
    Form, Question, QuestionError, all, dora, names, production, staging, window_of, written,
};
use crate::definition::{self, Definition};
use crate::flow::{FlowQuery, measure_flow};
use crate::learning::board_summary;
use crate::metrics::{MetricReport, Query, measure};
use crate::moment::{Moment, Window};
use crate::target::{ServiceTargets, TargetRow, compare};
use crate::timeline::Timeline;

/// Which numbers a report rests on.
struct Basis<'q> {
    services: Vec<String>,
    environment: &'q str,
    stage_before: &'q str,
    definition: Definition,
    now: Moment,
}

impl Basis<'_> {
    fn measure(&self, timeline: &Timeline, window: Window) -> MetricReport {
        let query = Query {
            services: &self.services,
            team: None,
            environment: self.environment,
            stage_before: self.stage_before,
            window,
            as_of: self.now,
            definition: &self.definition,
            explain: false,
            seed: 0,
        };
        measure(timeline, &query)
    }
}

/// A period in plain sentences, beside the one before of the same length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryQuestion {
    /// First moment inside.
    pub from: String,
    /// First moment after.
    pub to: String,
    /// Services, separated by commas; `all` for every one.
    #[serde(default = "all")]
    pub service: String,
    /// How to compute.
    #[serde(default = "dora")]
    pub definition: String,
    /// Environment whose deployments count.
    #[serde(default = "production")]
    pub environment: String,
    /// Environment that versions pass before.
    #[serde(default = "staging")]
    pub stage_before: String,
}

impl Question for SummaryQuestion {
    fn answer(
        &self,
        timeline: &Timeline,
        now: Moment,
        form: Form,
    ) -> Result<String, QuestionError> {
        let basis = Basis {
            services: names(&self.service),
            environment: &self.environment,
            stage_before: &self.stage_before,
            definition: definition::named(&self.definition)?,
            now,
        };
        let window = window_of(&self.from, &self.to)?;
        let length = window.to().millis() - window.from().millis();
        let start = Moment::from_millis(window.from().millis() - length);
        let report = basis.measure(timeline, window);
        let before = basis.measure(timeline, Window::new(start, window.from())?);
        let period = format!("{} to {}", self.from, self.to);
        let sentences = board_summary(&report, Some(&before), &period);
        written(form, &sentences, Vec::clone)
    }
}

/// How services stand to their targets in `[from, to)`; alerts for certain misses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetsQuestion {
    /// First moment inside.
    pub from: String,
    /// First moment after.
    pub to: String,
    /// Services, separated by commas; `all` for every one.
    #[serde(default = "all")]
    pub service: String,
    /// How to compute.
    #[serde(default = "dora")]
    pub definition: String,
    /// Environment whose deployments count.
    #[serde(default = "production")]
    pub environment: String,
    /// Environment that versions pass before.
    #[serde(default = "staging")]
    pub stage_before: String,
    /// Aims as a JSON object of [`ServiceTargets`], where they are not the ones that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

#[derive(Serialize)]
struct TargetAnswer {
    rows: Vec<TargetRow>,
}

impl Question for TargetsQuestion {
    fn answer(
        &self,
        timeline: &Timeline,
        now: Moment,
        form: Form,
    ) -> Result<String, QuestionError> {
        let targets = targets_of(self.targets.as_deref())?;
        let basis = Basis {
            services: names(&self.service),
            environment: &self.environment,
            stage_before: &self.stage_before,
            definition: definition::named(&self.definition)?,
            now,
        };
        let report = basis.measure(timeline, window_of(&self.from, &self.to)?);
        let rows = rows_of(&report, &targets);
        written(form, &TargetAnswer { rows }, |answer| {
            answer.rows.iter().map(target_line).collect()
        })
    }
}

fn targets_of(given: Option<&str>) -> Result<ServiceTargets, QuestionError> {
    let Some(text) = given else {
        return Ok(ServiceTargets::default());
    };
    ServiceTargets::from_json(text).map_err(|error| QuestionError::Shape {
        field: "targets",
        cause: error.to_string(),
    })
}

fn rows_of(report: &MetricReport, targets: &ServiceTargets) -> Vec<TargetRow> {
    let mut services: Vec<&str> = report.rows.iter().map(|row| row.service.as_str()).collect();
    services.dedup();
    services
        .iter()
        .flat_map(|service| compare(report, service, targets.of(service)))
        .collect()
}

fn target_line(row: &TargetRow) -> String {
    let value = row
        .value
        .map_or("no data".to_owned(), |value| format!("{value:.2}"));
    format!(
        "{:<32} {:<32} {value} (target {}) {:?}",
        row.service, row.metric, row.target, row.standing
    )
}

/// What to speak up about now: targets certainly missed over the last days, and limits on work in progress passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsQuestion {
    /// Days looked back.
    #[serde(default = "thirty")]
    pub days: u16,
    /// Aims as a JSON object of [`ServiceTargets`], where they are not the ones that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

fn thirty() -> u16 {
    30
}

/// One thing to speak up about.
#[derive(Serialize)]
struct Alert {
    service: String,
    metric: &'static str,
    alert: String,
}

#[derive(Serialize)]
struct AlertAnswer {
    rows: Vec<Alert>,
}

impl Question for AlertsQuestion {
    fn answer(
        &self,
        timeline: &Timeline,
        now: Moment,
        form: Form,
    ) -> Result<String, QuestionError> {
        let targets = targets_of(self.targets.as_deref())?;
        let window = Window::new(now.plus_hours(-24 * i64::from(self.days.max(1))), now)?;
        let basis = Basis {
            services: Vec::new(),
            environment: "production",
            stage_before: "staging",
            definition: definition::named(&dora())?,
            now,
        };
        let missed = rows_of(&basis.measure(timeline, window), &targets);
        let mut rows: Vec<Alert> = missed
            .into_iter()
            .filter_map(|row| {
                Some(Alert {
                    service: row.service,
                    metric: row.metric,
                    alert: row.alert?,
                })
            })
            .collect();
        for (service, limit) in targets.wip_limits() {
            let query = FlowQuery {
                service: Some(service),
                window,
                as_of: now,
                wip_limit: Some(limit),
            };
            let flow = measure_flow(timeline, query);
            rows.extend(flow.alerts.into_iter().map(|alert| Alert {
                service: service.to_owned(),
                metric: "work_in_progress",
                alert,
            }));
        }
        written(form, &AlertAnswer { rows }, |answer| {
            answer.rows.iter().map(|row| row.alert.clone()).collect()
        })
    }
}

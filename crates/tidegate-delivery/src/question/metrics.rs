//! The numbers of a window, by a named definition.

use serde::{Deserialize, Serialize};

use super::{
    Form, Question, QuestionError, all, dora, names, production, staging, window_of, written,
};
use crate::definition;
use crate::metrics::{MetricReport, MetricRow, Query, measure};
use crate::moment::Moment;
use crate::timeline::Timeline;

/// The metrics of services in `[from, to)`, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsQuestion {
    /// Services, separated by commas; `all` for every one.
    #[serde(default = "all")]
    pub service: String,
    /// Only services of this team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// First moment inside.
    pub from: String,
    /// First moment after.
    pub to: String,
    /// How to compute.
    #[serde(default = "dora")]
    pub definition: String,
    /// Environment whose deployments count.
    #[serde(default = "production")]
    pub environment: String,
    /// Environment that versions pass before.
    #[serde(default = "staging")]
    pub stage_before: String,
    /// Whether to list what each number was computed from.
    #[serde(default)]
    pub explain: bool,
    /// Seed of the bootstrap intervals.
    #[serde(default)]
    pub seed: u64,
}

#[derive(Serialize)]
struct Answer<'a> {
    rows: &'a [MetricRow],
    notes: &'a [String],
    environment: &'a str,
    from: String,
    to: String,
}

impl Question for MetricsQuestion {
    fn answer(
        &self,
        timeline: &Timeline,
        now: Moment,
        form: Form,
    ) -> Result<String, QuestionError> {
        let definition = definition::named(&self.definition)?;
        let window = window_of(&self.from, &self.to)?;
        let services = names(&self.service);
        let query = Query {
            services: &services,
            team: self.team.as_deref(),
            environment: &self.environment,
            stage_before: &self.stage_before,
            window,
            as_of: now,
            definition: &definition,
            explain: self.explain,
            seed: self.seed,
        };
        let report = measure(timeline, &query);
        let answer = Answer {
            rows: &report.rows,
            notes: &report.notes,
            environment: &self.environment,
            from: window.from().to_string(),
            to: window.to().to_string(),
        };
        written(form, &answer, |_| self.lines(&report, &definition.choices))
    }
}

impl MetricsQuestion {
    fn lines(&self, report: &MetricReport, choices: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &report.rows {
            lines.push(sentence(row));
            if self.explain {
                explain(row, &mut lines);
            }
        }
        lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
        if self.explain {
            lines.extend(
                choices
                    .iter()
                    .map(|choice| format!("{}: {choice}", self.definition)),
            );
        }
        lines
    }
}

fn explain(row: &MetricRow, lines: &mut Vec<String>) {
    lines.push(format!("    = {}", row.formula));
    lines.extend(row.notes.iter().map(|note| format!("    note: {note}")));
    for event in row.contributing.iter().flatten() {
        let value = event.value.map_or(String::new(), |v| format!(" {v:.2}"));
        let deployment = event
            .deployment
            .as_deref()
            .map_or(String::new(), |d| format!(" in {d}"));
        let reasons = event.reasons.join("; ");
        lines.push(format!(
            "    {} {}{value}{deployment} {reasons}",
            event.at, event.id
        ));
    }
}

fn sentence(row: &MetricRow) -> String {
    let (scale, unit) = if row.unit == "share" {
        (100.0, "%")
    } else {
        (1.0, row.unit)
    };
    let value = row.value.map_or("no data".to_owned(), |value| {
        format!("{:.2} {unit}", value * scale)
    });
    let interval = row.interval.map_or(String::new(), |i| {
        format!(
            " [{:.2}, {:.2}] at {:.0} %, {}",
            i.low * scale,
            i.high * scale,
            i.level * 100.0,
            i.method
        )
    });
    format!(
        "{:<32} {:<36} {value}{interval} (n = {})",
        row.service, row.metric, row.n
    )
}

//! Incidents: which there were, searchable, and what is written about one of them.

use serde::{Deserialize, Serialize};

use super::{Form, Question, QuestionError, moment_of, production, written};
use crate::learning::{TimelineEntry, incident_timeline, postmortem, search_incidents};
use crate::moment::Moment;
use crate::rollback::as_text;
use crate::timeline::{Incident, Timeline};

/// Incidents of a project, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentsQuestion {
    /// Words that an incident must hold somewhere, in any case: id, title, service, flag, evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Only of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only those noticed from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only those noticed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether to give each its timeline.
    #[serde(default)]
    pub explain: bool,
}

#[derive(Serialize)]
struct Row {
    id: String,
    service: Option<String>,
    title: Option<String>,
    severity: Option<String>,
    #[serde(serialize_with = "as_text")]
    detected_at: Moment,
    resolved_at: Option<String>,
    hours: Option<f64>,
    flag: Option<String>,
    evidence: Option<String>,
    runbook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<TimelineEntry>>,
}

#[derive(Serialize)]
struct Answer {
    rows: Vec<Row>,
}

impl Question for IncidentsQuestion {
    fn answer(&self, timeline: &Timeline, _: Moment, form: Form) -> Result<String, QuestionError> {
        let bound = |field, text: &Option<String>| {
            text.as_deref()
                .map(|text| moment_of(field, text))
                .transpose()
        };
        let (from, to) = (bound("from", &self.from)?, bound("to", &self.to)?);
        let found = search_incidents(timeline, self.search.as_deref().unwrap_or_default());
        let rows = found
            .into_iter()
            .filter(|incident| {
                let at = incident.detected_at();
                from.is_none_or(|from| from <= at)
                    && to.is_none_or(|to| at < to)
                    && (self.service.is_none() || self.service == incident.facts.service)
            })
            .map(|incident| self.row(timeline, incident))
            .collect();
        written(form, &Answer { rows }, |answer| {
            answer.rows.iter().flat_map(lines).collect()
        })
    }
}

impl IncidentsQuestion {
    fn row(&self, timeline: &Timeline, incident: &Incident) -> Row {
        let facts = &incident.facts;
        let environment = facts.environment.clone().unwrap_or_else(production);
        let lasted = incident
            .resolved_at()
            .map(|end| end.hours_since(incident.detected_at()));
        Row {
            id: incident.id.clone(),
            service: facts.service.clone(),
            title: facts.title.clone(),
            severity: facts.severity.clone(),
            detected_at: incident.detected_at(),
            resolved_at: incident.resolved_at().map(|at| at.to_string()),
            hours: lasted,
            flag: facts.flag.clone(),
            evidence: facts.evidence.clone(),
            runbook: facts.runbook.clone(),
            timeline: self
                .explain
                .then(|| incident_timeline(timeline, incident, &environment)),
        }
    }
}

fn lines(row: &Row) -> Vec<String> {
    let title = row.title.as_deref().unwrap_or("without a title");
    let end = row.hours.map_or("open".to_owned(), |hours| {
        format!("over after {hours:.2} h")
    });
    let service = row.service.as_deref().unwrap_or("-");
    let mut lines = vec![format!(
        "{} {} {service} {title}: {end}",
        row.detected_at, row.id
    )];
    let entries = row.timeline.iter().flatten();
    lines.extend(entries.map(|entry| format!("    {} {}", entry.at, entry.what)));
    lines
}

/// A blameless postmortem of an incident as Markdown, its timeline filled in from the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostmortemQuestion {
    /// Incident as the log names it, such as `pagerduty:PGR0VU2`.
    pub incident: String,
    /// Environment.
    #[serde(default = "production")]
    pub environment: String,
}

#[derive(Serialize)]
struct Document {
    incident: String,
    markdown: String,
}

impl Question for PostmortemQuestion {
    fn answer(&self, timeline: &Timeline, _: Moment, form: Form) -> Result<String, QuestionError> {
        let incident = timeline
            .incidents()
            .iter()
            .find(|incident| incident.id == self.incident)
            .ok_or_else(|| QuestionError::NoSuchIncident {
                id: self.incident.clone(),
            })?;
        let document = Document {
            incident: self.incident.clone(),
            markdown: postmortem(timeline, incident, &self.environment),
        };
        written(form, &document, |document| vec![document.markdown.clone()])
    }
}

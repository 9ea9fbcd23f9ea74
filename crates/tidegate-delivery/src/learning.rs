//! After an incident: what happened in which order, and a blameless postmortem to fill in.
//!
//! The timeline comes from the log: deployments of the service, exposures and rollbacks of the flag, the incident's
//! own times. Nobody is named, because nobody is asked who did it.
//!
//! Must not know: which incident deserves a postmortem.

use std::fmt::Write;

use serde::Serialize;

use crate::metrics::MetricReport;
use crate::moment::Moment;
use crate::rollback::as_text;
use crate::timeline::{Deployment, Incident, Timeline};

/// Hours before detection from which on deployments and exposures are listed.
const LOOK_BACK_HOURS: i64 = 24;

/// One line of an incident's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// When.
    #[serde(serialize_with = "as_text")]
    pub at: Moment,
    /// What, in words.
    pub what: String,
}

/// What happened around an incident, in time order.
#[must_use]
pub fn incident_timeline(
    timeline: &Timeline,
    incident: &Incident,
    environment: &str,
) -> Vec<TimelineEntry> {
    let from = incident.detected_at().plus_hours(-LOOK_BACK_HOURS);
    let to = incident.resolved_at().unwrap_or(Moment::LATEST);
    let mut entries = Vec::new();
    let mut add = |at: Moment, what: String| {
        if from <= at && at <= to {
            entries.push(TimelineEntry { at, what });
        }
    };
    add(
        incident.detected_at(),
        format!("incident {} detected", incident.id),
    );
    if let Some(at) = incident.resolved_at() {
        add(at, "incident resolved".to_owned());
    }
    for (service, deployment) in deployments_around(timeline, incident, environment) {
        let version = deployment
            .version
            .as_deref()
            .unwrap_or("an unnamed version");
        let of = match &incident.facts.service {
            Some(_) => String::new(),
            None => format!(" of {service}"),
        };
        add(
            deployment.finished_at,
            format!("deployment{of} of {version}: {:?}", deployment.outcome),
        );
    }
    for (flag, history) in timeline.flags() {
        let is_concerned = incident.facts.flag.as_deref() == Some(flag)
            || history
                .rollbacks
                .iter()
                .any(|r| r.facts.service.is_some() && r.facts.service == incident.facts.service);
        if !is_concerned {
            continue;
        }
        for &(at, share_bp) in &history.shares {
            add(
                at,
                format!(
                    "flag {flag} exposed to {:.2} % of units",
                    f64::from(share_bp) / 100.0
                ),
            );
        }
        for rollback in &history.rollbacks {
            let guard = rollback
                .facts
                .guard
                .as_deref()
                .map_or(String::new(), |g| format!(" on guard {g}"));
            let how = if rollback.facts.automatic {
                "automatically"
            } else {
                "by hand"
            };
            add(
                rollback.at,
                format!(
                    "rollout {} rolled back {how}{guard}{}",
                    rollback.facts.rollout,
                    rollback
                        .facts
                        .evidence
                        .as_deref()
                        .map_or(String::new(), |evidence| format!(": {evidence}"))
                ),
            );
        }
        for (at, decision) in &history.decisions {
            add(*at, format!("decision about {flag}: {decision}"));
        }
    }
    entries.sort_by(|a, b| (a.at, &a.what).cmp(&(b.at, &b.what)));
    entries
}

/// Deployments that an incident's timeline lists: those of its service or, where only its flag is known, of the
/// services whose commits name that flag.
fn deployments_around<'t>(
    timeline: &'t Timeline,
    incident: &'t Incident,
    environment: &str,
) -> Vec<(&'t str, &'t Deployment)> {
    let services = match (&incident.facts.service, &incident.facts.flag) {
        (Some(service), _) => vec![service.as_str()],
        (None, Some(flag)) => timeline.services_behind(flag),
        (None, None) => Vec::new(),
    };
    services
        .into_iter()
        .filter_map(|service| timeline.series_of(service, environment))
        .flat_map(|series| series.attempts().iter().map(|d| (series.service(), d)))
        .collect()
}

/// Incidents that hold every word somewhere in what is known of them, in any case, newest first.
#[must_use]
pub fn search_incidents<'t>(timeline: &'t Timeline, words: &str) -> Vec<&'t Incident> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let holds = |incident: &Incident| {
        let facts = &incident.facts;
        let texts = [
            Some(&incident.id),
            facts.title.as_ref(),
            facts.service.as_ref(),
            facts.severity.as_ref(),
            facts.caused_by.as_ref(),
            facts.flag.as_ref(),
            facts.evidence.as_ref(),
            facts.runbook.as_ref(),
        ];
        let text = texts.map(|text| text.map_or(String::new(), |text| text.to_lowercase()));
        words
            .iter()
            .all(|word| text.iter().any(|text| text.contains(word.as_str())))
    };
    let mut found: Vec<&Incident> = timeline.incidents().iter().filter(|i| holds(i)).collect();
    found.reverse();
    found
}

/// A postmortem in Markdown: facts filled in, questions left open.
#[must_use]
pub fn postmortem(timeline: &Timeline, incident: &Incident, environment: &str) -> String {
    let facts = &incident.facts;
    let mut text = String::new();
    let title = facts.title.as_deref().unwrap_or(&facts.incident);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# Postmortem: {}\n", one_line(title));
    let _ = writeln!(
        text,
        "This review looks for causes in the system, not in people: everyone acted sensibly on what they knew.\n"
    );
    let _ = writeln!(text, "| | |\n|---|---|");
    let _ = writeln!(text, "| incident | {} |", one_line(&incident.id));
    let _ = writeln!(
        text,
        "| service | {} |",
        facts
            .service
            .as_deref()
            .map_or("not recorded".to_owned(), one_line)
    );
    let _ = writeln!(
        text,
        "| severity | {} |",
        facts
            .severity
            .as_deref()
            .map_or("not recorded".to_owned(), one_line)
    );
    let _ = writeln!(text, "| detected | {} |", incident.detected_at());
    match incident.resolved_at() {
        Some(at) => {
            let _ = writeln!(
                text,
                "| resolved | {at}, after {:.1} hours |",
                at.hours_since(incident.detected_at())
            );
        }
        None => {
            let _ = writeln!(text, "| resolved | not yet |");
        }
    }
    if let Some(evidence) = &facts.evidence {
        let _ = writeln!(text, "| evidence | {} |", one_line(evidence));
    }
    if let Some(runbook) = &facts.runbook {
        let _ = writeln!(text, "| runbook | {} |", one_line(runbook));
    }
    let _ = writeln!(text, "\n## Timeline (UTC)\n");
    for entry in incident_timeline(timeline, incident, environment) {
        let _ = writeln!(text, "- {} {}", entry.at, one_line(&entry.what));
    }
    for (heading, question) in [
        (
            "Impact",
            "Who was affected, how, and for how long? Name figures and where they come from.",
        ),
        (
            "What made it possible",
            "Which conditions had to come together? Ask of each why it made sense at the time.",
        ),
        (
            "What helped",
            "What noticed it, what limited it, what made recovery fast?",
        ),
        (
            "What hindered",
            "Where was time lost between first effect and recovery?",
        ),
    ] {
        let _ = writeln!(text, "\n## {heading}\n\n_{question}_");
    }
    let _ = writeln!(
        text,
        "\n## Actions\n\n| action | kind (prevent, notice, limit, recover) | due | done when |\n|---|---|---|---|\n| | | | |"
    );
    let _ = writeln!(
        text,
        "\nAn action that becomes a guard is proven by replay on the stored measurements of this incident."
    );
    text
}

/// Text from outside as one line of Markdown: no line breaks, no table borders.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}

/// Delivery in a quarter in plain sentences, from a metrics report per service.
#[must_use]
pub fn board_summary(
    report: &MetricReport,
    before: Option<&MetricReport>,
    period: &str,
) -> Vec<String> {
    let mut sentences = Vec::new();
    let find = |report: &MetricReport, metric: &str, service: &str| {
        let row = report
            .rows
            .iter()
            .find(|row| row.metric == metric && row.service == service)?;
        row.value.map(|value| (value, row.n))
    };
    if let Some((count, _)) = find(report, "deployments", "*") {
        let compared = before
            .and_then(|earlier| find(earlier, "deployments", "*"))
            .map_or(String::new(), |(earlier, _)| {
                format!(", after {earlier:.0} in the period before")
            });
        sentences.push(format!(
            "In {period} there were {count:.0} deployments{compared}."
        ));
    }
    let mut services: Vec<&str> = report
        .rows
        .iter()
        .map(|row| row.service.as_str())
        .filter(|s| *s != "*")
        .collect();
    services.dedup();
    for service in services {
        let mut parts = Vec::new();
        if let Some((count, _)) = find(report, "deployments", service) {
            parts.push(match count {
                1.0 => "was deployed once".to_owned(),
                count => format!("was deployed {count:.0} times"),
            });
        }
        if let Some((hours, n)) = find(report, "change_lead_time", service) {
            parts.push(format!(
                "a change took {} to production (n = {n})",
                span_in_words(hours)
            ));
        }
        match (
            find(report, "change_fail_rate", service),
            find(report, "failed_deployment_recovery_time", service),
        ) {
            (Some((rate, n)), Some((hours, _))) if rate > 0.0 => {
                let recovery = span_in_words(hours);
                parts.push(format!("{:.1} % of {n} deployments needed intervention and were put right in {recovery}", rate * 100.0));
            }
            (Some((rate, n)), _) => parts.push(format!(
                "{:.1} % of {n} deployments are known to have needed intervention",
                rate * 100.0
            )),
            (None, _) => {}
        }
        if !parts.is_empty() {
            sentences.push(format!("{service} {}.", parts.join("; ")));
        }
    }
    sentences
}

fn span_in_words(hours: f64) -> String {
    if hours < 1.0 {
        format!("{:.0} minutes", hours * 60.0)
    } else if hours < 48.0 {
        format!("{hours:.1} hours")
    } else {
        format!("{:.1} days", hours / 24.0)
    }
}

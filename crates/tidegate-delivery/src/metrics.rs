//! The five DORA metrics of a window, by a named definition, each number with its terms.
//!
//! A row says what it is: metric, definition, edition, service, value, unit, n, interval, numerator and
//! denominator, the formula in words, and notes about everything that was left out or could not be known.
//! With `explain` it lists the deployments, commits and incidents behind the number.
//!
//! * A number over nothing is absent, not zero.
//! * A deployment belongs to the window by its finish; a change by its deployment; attribution itself never
//!   depends on the window.
//! * The observed window starts no earlier than the day of the service's first known deployment and ends no
//!   later than `as_of`: days nobody looked at are not days without deployments.
//! * Services are measured one by one. Only counts are summed over services (`*`).
//!
//! Must not know: people. Nothing here can be grouped by who did it.

mod batch_size;
mod exposure;
mod frequency;
mod lead_time;
mod stability;

use serde::Serialize;

use crate::definition::Definition;
use crate::failure::Failures;
use crate::history::History;
use crate::moment::{Moment, Window};
use crate::rollback::{as_text, rollback_candidates};
use crate::statistic::{Interval, Statistic, bootstrap_interval, seed_of, share_interval};
use crate::timeline::Timeline;

/// Service name under which counts over all services are reported.
pub const ALL_SERVICES: &str = "*";

/// What is asked.
#[derive(Debug, Clone)]
pub struct Query<'q> {
    /// Services by name; empty means all.
    pub services: &'q [String],
    /// Only services of this team.
    pub team: Option<&'q str>,
    /// Which deployments.
    pub environment: &'q str,
    /// Environment that versions pass before, which tells rollbacks from late arrivals.
    pub stage_before: &'q str,
    /// When.
    pub window: Window,
    /// Nothing after this moment can have been observed.
    pub as_of: Moment,
    /// How.
    pub definition: &'q Definition,
    /// Whether to list what each number was computed from.
    pub explain: bool,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricReport {
    /// One row per service and metric.
    pub rows: Vec<MetricRow>,
    /// What holds for the whole answer.
    pub notes: Vec<String>,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricRow {
    /// Metric name.
    pub metric: &'static str,
    /// Definition it follows.
    pub definition: String,
    /// Service, or `*` for a count over all of them.
    pub service: String,
    /// The number; absent where there is nothing to compute it from.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// Observations behind it.
    pub n: usize,
    /// How sure it is; absent for counts, and for fewer than two samples.
    pub interval: Option<Interval>,
    /// Year of the rules.
    pub edition: String,
    /// Upper term of a ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numerator: Option<f64>,
    /// Lower term of a ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denominator: Option<f64>,
    /// How it was computed, in words.
    pub formula: String,
    /// What was left out, and what could not be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What it was computed from, with `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contributing: Option<Vec<Contribution>>,
}

/// One event behind a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contribution {
    /// Commit, pull request, deployment or incident.
    pub id: String,
    /// When it counted.
    #[serde(serialize_with = "as_text")]
    pub at: Moment,
    /// Its own value, in the row's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The deployment it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Why it counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Computes all metrics of a definition.
#[must_use]
pub fn measure(timeline: &Timeline, query: &Query<'_>) -> MetricReport {
    let histories: Vec<History<'_>> = timeline
        .series()
        .filter(|series| series.environment() == query.environment)
        .filter(|series| is_asked(timeline, query, series.service()))
        .map(|series| History::new(timeline, series))
        .collect();
    let candidates = rollback_candidates(timeline, &histories, query.stage_before);
    let mut report = MetricReport {
        rows: Vec::new(),
        notes: notes(timeline, query, &histories),
    };
    let mut total = 0;
    for history in &histories {
        let failures = Failures::of(timeline, history, &candidates);
        let subject = Subject {
            timeline,
            history,
            failures: &failures,
            query,
        };
        let deployments = subject.in_window().count();
        let attempts = history.series.attempts().iter();
        if query.services.is_empty()
            && !attempts
                .clone()
                .any(|d| query.window.contains(d.finished_at))
        {
            continue;
        }
        total += deployments;
        report
            .rows
            .push(subject.row("deployments", "count", count_of(&subject, deployments)));
        subject.push_rows(&mut report.rows);
    }
    if query.services.is_empty() {
        report.rows.push(total_row(query, total));
    }
    report
}

fn is_asked(timeline: &Timeline, query: &Query<'_>, service: &str) -> bool {
    (query.services.is_empty() || query.services.iter().any(|name| name == service))
        && query
            .team
            .is_none_or(|team| timeline.team_of(service) == Some(team))
}

fn notes(timeline: &Timeline, query: &Query<'_>, histories: &[History<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    for name in query.services {
        if !histories
            .iter()
            .any(|history| history.series.service() == name)
        {
            notes.push(format!(
                "no deployment of {name} to {} is known",
                query.environment
            ));
        }
    }
    if timeline.conflicts() > 0 {
        notes.push(format!(
            "{} deliveries came with more than one content; the first by time counts",
            timeline.conflicts()
        ));
    }
    notes
}

fn count_of(subject: &Subject<'_, '_>, deployments: usize) -> Measured {
    Measured {
        value: Some(deployments as f64),
        n: deployments,
        formula: format!(
            "successful deployments to {} finished in the window",
            subject.query.environment
        ),
        contributing: subject.explained(|| {
            subject
                .in_window()
                .map(|place| subject.deployment(place))
                .collect()
        }),
        ..Measured::default()
    }
}

fn total_row(query: &Query<'_>, total: usize) -> MetricRow {
    MetricRow {
        metric: "deployments",
        definition: query.definition.id.clone(),
        service: ALL_SERVICES.to_owned(),
        value: Some(total as f64),
        unit: "count",
        n: total,
        interval: None,
        edition: query.definition.edition.clone(),
        numerator: None,
        denominator: None,
        formula: format!(
            "successful deployments of all services to {}",
            query.environment
        ),
        notes: Vec::new(),
        contributing: None,
    }
}

/// What one service is measured with.
struct Subject<'s, 't> {
    timeline: &'t Timeline,
    history: &'s History<'t>,
    failures: &'s Failures,
    query: &'s Query<'s>,
}

impl Subject<'_, '_> {
    fn push_rows(&self, rows: &mut Vec<MetricRow>) {
        let definition = self.query.definition;
        let (frequency, unit) = self.frequency(definition.deployment_frequency);
        rows.push(self.row("deployment_frequency", unit, frequency));
        let lead_time = self.lead_time(definition.change_lead_time);
        rows.push(self.row("change_lead_time", "hours", lead_time));
        let fail_rate = self.fail_rate(definition.change_fail_rate);
        rows.push(self.row("change_fail_rate", "share", fail_rate));
        let recovery = self.recovery(definition.failed_deployment_recovery_time);
        rows.push(self.row("failed_deployment_recovery_time", "hours", recovery));
        if definition.deployment_rework_rate.is_some() {
            rows.push(self.row("deployment_rework_rate", "share", self.rework_rate()));
        }
        self.push_batch_size(rows);
        self.push_exposure_rows(rows);
    }

    fn row(&self, metric: &'static str, unit: &'static str, measured: Measured) -> MetricRow {
        MetricRow {
            metric,
            definition: self.query.definition.id.clone(),
            service: self.history.series.service().to_owned(),
            value: measured.value,
            unit,
            n: measured.n,
            interval: measured.interval,
            edition: self.query.definition.edition.clone(),
            numerator: measured.numerator,
            denominator: measured.denominator,
            formula: measured.formula,
            notes: measured.notes,
            contributing: measured.contributing,
        }
    }

    /// Places of the deployments that finished in the window.
    fn in_window(&self) -> impl Iterator<Item = usize> + '_ {
        let deployments = &self.history.deployments;
        let window = self.query.window;
        let first = deployments.partition_point(|d| d.finished_at < window.from());
        let end = deployments.partition_point(|d| d.finished_at < window.to());
        first..end
    }

    fn deployment(&self, place: usize) -> Contribution {
        let deployment = self.history.deployments[place];
        Contribution {
            id: deployment.id.clone(),
            at: deployment.finished_at,
            value: None,
            deployment: None,
            reasons: Vec::new(),
        }
    }

    fn explained(&self, list: impl FnOnce() -> Vec<Contribution>) -> Option<Vec<Contribution>> {
        self.query.explain.then(list)
    }

    /// A statistic over samples, with its interval.
    fn statistic(&self, metric: &str, statistic: Statistic, samples: &[f64]) -> Measured {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let seed = seed_of(
            self.query.seed,
            &[
                metric,
                &self.query.definition.id,
                self.history.series.service(),
            ],
        );
        Measured {
            value: statistic.over_sorted(&sorted),
            n: sorted.len(),
            interval: bootstrap_interval(&sorted, statistic, seed),
            ..Measured::default()
        }
    }
}

/// A number before it is a row.
#[derive(Default)]
struct Measured {
    value: Option<f64>,
    n: usize,
    interval: Option<Interval>,
    numerator: Option<f64>,
    denominator: Option<f64>,
    formula: String,
    notes: Vec<String>,
    contributing: Option<Vec<Contribution>>,
}

impl Measured {
    /// A share with its terms. More hits than trials (a definition may allow that) have no interval.
    fn share(hits: usize, trials: usize) -> Self {
        Self {
            value: (trials > 0).then(|| hits as f64 / trials as f64),
            n: trials,
            interval: share_interval(hits, trials),
            numerator: Some(hits as f64),
            denominator: Some(trials as f64),
            ..Self::default()
        }
    }

    /// Adds "`count` `what`" unless the count is zero.
    fn note_count(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.notes.push(format!("{count} {what}"));
        }
    }
}

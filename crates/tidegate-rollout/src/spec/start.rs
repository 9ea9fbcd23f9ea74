//! May this rollout start? The policy held against facts about the living system.
//!
//! The edges gather the facts (which metrics exist, when each last moved, how many units the audience
//! had yesterday, whether the guard fired on an injected fault); this module only judges them.
//! A guard that cannot fire is worse than none, since it is trusted: it is refused, not warned about.

use serde::Serialize;

use super::RolloutSpec;

/// A metric must have moved within this time to count as alive.
const ALIVE_WITHIN_US: i64 = 86_400 * 1_000_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The rollout must not start.
    Refuse,
    /// The rollout may start; the author should know.
    Warn,
}

/// One remark about a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it stops the start.
    pub severity: Severity,
    /// Where in the spec, as a JSON pointer.
    pub pointer: String,
    /// What, why, and the cure.
    pub reason: String,
}

/// What the edges know of one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricFacts {
    /// Key of the metric.
    pub metric: String,
    /// When it last changed, microseconds since the epoch; `None` if never.
    pub last_moved_us: Option<i64>,
    /// Whether it moved under synthetic load instead.
    pub moved_under_synthetic_load: bool,
    /// Whether the guard fired under an injected fault in shadow; `None` if that was not tried.
    pub fired_on_injected_fault: Option<bool>,
}

/// What the edges know of the system before a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartFacts {
    /// Every metric that exists.
    pub metrics: Vec<MetricFacts>,
    /// Variants of the flag; empty when unknown.
    pub variants: Vec<String>,
    /// Units of the audience seen in the last day; `None` when unknown.
    pub audience_units_last_day: Option<u64>,
}

/// Holds a policy against the facts: findings in document order, lint warnings included.
#[must_use]
pub fn check_start(spec: &RolloutSpec, facts: &StartFacts, now_us: i64) -> Vec<Finding> {
    let mut findings = spec.lint();
    let mut add = |severity, pointer: String, reason: String| {
        findings.push(Finding {
            severity,
            pointer,
            reason,
        });
    };
    for (name, variant) in [("treatment", &spec.treatment), ("control", &spec.control)] {
        if !facts.variants.is_empty() && !facts.variants.contains(variant) {
            let hint = suggestion(variant, facts.variants.iter().map(String::as_str));
            let reason = format!("the flag has no variant {variant:?}{hint}");
            add(Severity::Refuse, format!("/{name}"), reason);
        }
    }
    for (i, guard) in spec.guards.iter().enumerate() {
        if let Some(reason) = guard_unproven(&guard.metric, facts, now_us) {
            add(Severity::Refuse, format!("/guards/{i}/metric"), reason);
        }
    }
    if facts.audience_units_last_day == Some(0) {
        add(
            Severity::Warn,
            "/audience".to_owned(),
            "matched nobody in the last day: the rollout would wait for data for ever".to_owned(),
        );
    }
    if let Some(freeze) = spec.freeze_at(now_us) {
        let reason = format!("a freeze is in force: {}", freeze.reason);
        add(Severity::Refuse, "/freezes".to_owned(), reason);
    }
    findings
}

fn guard_unproven(metric: &str, facts: &StartFacts, now_us: i64) -> Option<String> {
    let Some(known) = facts.metrics.iter().find(|m| m.metric == metric) else {
        let hint = suggestion(metric, facts.metrics.iter().map(|m| m.metric.as_str()));
        return Some(format!(
            "nobody has reported anything that {metric:?} counts{hint}; send it an event, or say why \
             the rollout shall start unproven"
        ));
    };
    let alive = known
        .last_moved_us
        .is_some_and(|at| now_us.saturating_sub(at) <= ALIVE_WITHIN_US)
        || known.moved_under_synthetic_load;
    if !alive {
        let since = if known.last_moved_us.is_some() {
            "in the last day"
        } else {
            "ever"
        };
        return Some(format!(
            "{metric:?} has not moved {since}: a guard that never moves never fires; send it an \
             event, or prove it under synthetic load"
        ));
    }
    (known.fired_on_injected_fault == Some(false)).then(|| {
        format!("{metric:?} did not fire under an injected fault: check how failures are recorded")
    })
}

fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default()
}

/// The known name at the smallest edit distance, if it is near enough to be a slip of the finger.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    known
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance over characters, one row at a time.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let substitution = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = substitution.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

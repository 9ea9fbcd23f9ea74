//! Sentences a product manager understands, none of which says more than its interval.
//!
//! Ends are rounded outward to a hundredth of a percent, so the words always leave room for the
//! whole interval. An unbounded end is said to be unbounded.

use super::{Evidence, Finding, MetricReading, Role, Verdict};
use crate::quality::Trust;

/// A relative change as percent text, rounded down.
fn percent_down(value: f64) -> String {
    percent((value * 1e4).floor())
}

/// Rounded up.
fn percent_up(value: f64) -> String {
    percent((value * 1e4).ceil())
}

fn percent(hundredths: f64) -> String {
    // Adding zero turns -0 into 0.
    format!("{:+.2} %", hundredths / 100.0 + 0.0)
}

/// The interval in words.
pub(super) fn range(evidence: &Evidence) -> String {
    match (evidence.lower, evidence.upper) {
        (Some(lower), Some(upper)) => {
            format!("between {} and {}", percent_down(lower), percent_up(upper))
        }
        (Some(lower), None) => format!("{} or more", percent_down(lower)),
        (None, Some(upper)) => format!("{} or less", percent_up(upper)),
        (None, None) => "of any size".to_owned(),
    }
}

/// What one metric's interval establishes.
pub(super) fn metric_sentence(evidence: &Evidence, findings: &[Finding]) -> String {
    let level = 100.0 * (1.0 - evidence.alpha);
    let what = if findings.contains(&Finding::BeyondMargin) {
        "is worse by more than its margin"
    } else if findings.contains(&Finding::Worse) {
        "is worse"
    } else if findings.contains(&Finding::Better) {
        "is better"
    } else if findings.contains(&Finding::NonInferior) {
        "is within its margin"
    } else if findings.contains(&Finding::WithinZone) {
        "is within its zone of no effect"
    } else {
        "is undecided"
    };
    format!(
        "{} {what}: the change is {} ({level} % confidence, {}).",
        evidence.metric,
        range(evidence),
        evidence.method
    )
}

/// The verdict in one sentence.
pub(super) fn verdict_sentence(
    verdict: Verdict,
    trust: Trust,
    readings: &[MetricReading],
) -> String {
    let named = |finding: Finding| -> String {
        let names: Vec<String> = readings
            .iter()
            .filter(|reading| reading.findings.contains(&finding))
            .map(|reading| format!("{} ({})", reading.evidence.metric, range(&reading.evidence)))
            .collect();
        names.join(", ")
    };
    let guarded = readings
        .iter()
        .any(|r| matches!(r.evidence.role, Role::Guardrail { .. }));
    match verdict {
        Verdict::Ship if guarded => format!(
            "Ship: {} is better and every guardrail is within its margin.",
            named(Finding::Better)
        ),
        Verdict::Ship => format!("Ship: {} is better.", named(Finding::Better)),
        Verdict::DoNotShip => {
            let mut worse = named(Finding::Worse);
            if worse.is_empty() {
                worse = named(Finding::BeyondMargin);
            }
            if worse.is_empty() {
                "Do not ship: the data has come to its end and the rule for shipping was not met."
                    .to_owned()
            } else {
                format!("Do not ship: {worse} is worse.")
            }
        }
        Verdict::NoEffectWithinZone => format!(
            "No effect within the zone: {} lies inside the zone stated beforehand.",
            named(Finding::WithinZone)
        ),
        Verdict::KeepGoing if trust == Trust::TooEarly => {
            "Keep going: it is too early for a verdict.".to_owned()
        }
        Verdict::KeepGoing => {
            "Keep going: the rules for shipping and for stopping are both still open.".to_owned()
        }
        Verdict::Withheld => {
            "No verdict: the data failed a quality check, so its numbers are not to be trusted."
                .to_owned()
        }
    }
}
